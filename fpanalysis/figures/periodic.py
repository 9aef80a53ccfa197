"""The answer to a periodic input against noise: plots of a `PeriodicResponse`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.preference import PeriodicResponse

PARTS = {
    "gain": ("gain of the signal\n|z₁| / A", NOISY),
    "snr": ("signal-to-noise ratio\nπ |z₁|² / S(ω), per step", SECOND),
}


def plot_periodic_response(
    found: PeriodicResponse, part: str = "gain", output: int = 0, ax: Axes | None = None
) -> Axes:
    """`part`, "gain" or "snr", of one output against the noise, with 95 % error bars, its largest value marked."""
    ax = new_axes(ax)
    label, color = PARTS[part]
    values, errors = getattr(found, part)[:, output], getattr(found, f"{part}_error")[:, output]
    ax.errorbar(found.sigma, values, errors, fmt="o-", ms=3.5, mfc="white", lw=1.4, color=color)
    if np.isfinite(values).any():
        k = int(np.nanargmax(values))
        ax.plot(found.sigma[k], values[k], "v", color=color, ms=9, mec="white", zorder=5)
        ax.annotate(
            f"largest at {found.sigma[k]:.3g}", (found.sigma[k], values[k]), xytext=(0, 9),
            textcoords="offset points", ha="center", fontsize="small",
        )  # fmt: skip
        ax.set_ylim(0, 1.2 * float(np.nanmax(values + np.nan_to_num(errors))))
    ax.set_xlabel("noise σ (per step)")
    ax.set_ylabel(label)
    return ax


def periodic_figure(found: PeriodicResponse, output: int = 0) -> Any:
    """Gain and signal-to-noise ratio in a figure of its own."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.4, 3.4), layout="constrained")
    for part, ax in zip(PARTS, figure.subplots(1, 2), strict=True):
        plot_periodic_response(found, part, output, ax)
    settings = found.provenance.settings
    figure.suptitle(
        f"sine of amplitude {settings['amplitude']:g}, period {settings['period']} steps", fontsize="medium"
    )
    return figure
