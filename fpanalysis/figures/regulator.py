"""How far noise moves a single neuron, by every method: plots of a regulator's `Comparison`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fpanalysis.regulator import Comparison

STYLES: dict[str, dict[str, Any]] = {
    "slow limit": {"color": SILENT, "ls": "--", "lw": 1.5, "label": "closed form, γ → 0"},
    "finite gamma": {"color": NOISY, "ls": "-", "lw": 2, "label": "formula at this γ"},
    "fokker-planck": {"color": SECOND, "ls": ":", "lw": 2, "label": "Fokker-Planck"},
    "chain": {"color": "black", "ls": "none", "marker": "x", "ms": 6, "label": "exact chain"},
    "monte-carlo": {"color": THIRD, "ls": "none", "marker": "o", "ms": 5, "mfc": "none", "label": "Monte Carlo"},
}
LABELS = {
    "shift": "shift of the mean by noise, E h − h₀",
    "mean": "mean, E h",
    "deviation": "standard deviation of h",
}


def plot_regulator(comparison: Comparison, ax: Axes | None = None, what: str = "shift") -> Axes:
    """The "shift" of the mean, the "mean" itself or the "deviation" of the state against the noise, one style per
    method; bars and band are errors at 95 %."""
    ax = new_axes(ax)
    sigma = comparison.sigma
    for m, method in enumerate(comparison.methods):
        values, style = getattr(comparison, what)[m], STYLES[method]
        error = comparison.error[m] if what != "deviation" else np.full(sigma.shape, np.nan)
        known = np.isfinite(values)
        if not known.any():
            continue
        if method == "finite gamma":
            drawn = known & np.isfinite(error)
            ax.fill_between(sigma, values - error, values + error, where=drawn, color=style["color"], alpha=0.2, lw=0)
        if method == "monte-carlo":
            ax.errorbar(sigma, values, np.where(np.isfinite(error), error, 0.0), **style)
        else:
            ax.plot(sigma, values, **style)
    ax.set_xlabel("noise σ (per step)")
    ax.set_ylabel(LABELS[what])
    ax.axhline(0, color="0.8", lw=0.8, zorder=0)
    return ax


def regulator_figure(comparison: Comparison) -> Figure:
    """Shift beside deviation, with what the neuron is in the title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    rests = bool(np.isfinite(comparison.h0))
    plot_regulator(comparison, left, "shift" if rests else "mean")
    plot_regulator(comparison, right, "deviation")
    left.set_title("how far noise moves the mean" if rests else "the mean", fontsize="medium")
    right.set_title("how much the state fluctuates", fontsize="medium")
    if left.get_legend_handles_labels()[0]:
        left.legend(frameon=False, fontsize="small")
    one = comparison.regulators[-1]
    figure.suptitle(
        f"one {one.activation.name} neuron, noise {one.placement}: w = {one.w:.4g}, b = {one.b:.4g}, "
        f"γ = {one.gamma:.4g}" + (f", at rest h₀ = {comparison.h0:.4g}" if rests else ""),
        fontsize="medium",
    )
    return figure
