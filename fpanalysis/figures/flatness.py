"""Flatness: what the loss becomes when weights are changed at random, and the largest eigenvalues of its Hessian."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.models import Flatness, NoiseStability

COLOURS = (NOISY, SILENT, SECOND, THIRD, "#E69F00", "#56B4E9")
TOP = 100.0  #: times the loss of the unchanged network, shown at most
AXIS = {
    "weight": "random change of every weight, as a share s of itself",
    "group": "random change of weights, as a share s of their group's size",
    "absolute": "random change s of every weight",
}


def plot_noise_stability(
    curve: NoiseStability, ax: Axes | None = None, label: str | None = None, color: str = NOISY
) -> Axes:
    """Expected loss against s, with its 95 % band; dashed what the Hessian predicts, dotted the loss at s = 0."""
    ax = new_axes(ax, width=5.4)
    s, loss = curve.levels, np.where(np.isfinite(curve.loss), curve.loss, np.nan)
    low = np.maximum(loss - curve.error, 1e-3 * loss)
    ax.fill_between(s, low, loss + curve.error, color=color, alpha=0.25, lw=0)
    ax.plot(s, loss, "o-", color=color, ms=4, lw=1.6, label=label)
    predicted = np.where(curve.predicted > 0, curve.predicted, np.nan)
    ax.plot(s, predicted, "--", color=color, lw=1.1)
    ax.axhline(curve.flat.loss, color=color, lw=0.9, ls=":")
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.set_xlabel(AXIS[curve.flat.scale])
    ax.set_ylabel("expected loss")
    return ax


def plot_hessian_spectrum(flat: Flatness, ax: Axes | None = None, label: str | None = None, color: str = NOISY) -> Axes:
    """The largest eigenvalues by rank, with what is uncertain in them (residual, and noise at 95 %)."""
    ax = new_axes(ax)
    values = np.where(flat.eigenvalues > 0, flat.eigenvalues, np.nan)
    error = np.minimum(np.maximum(flat.residual, flat.eigenvalue_error), 0.9 * values)
    rank = np.arange(1, len(values) + 1)
    ax.errorbar(rank, values, error, fmt="o-", ms=4, lw=1, color=color, label=label)
    ax.set_yscale("log")
    ax.set_xticks(rank)
    ax.set_xlabel("rank")
    ax.set_ylabel("eigenvalue of the Hessian: curvature")
    return ax


def flatness_figure(curves: Sequence[tuple[str, NoiseStability]]) -> Any:
    """A figure of its own: curves (left) and spectra (right) of networks by name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 4.3 + 0.22 * len(curves)), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, curve), colour in zip(curves, COLOURS, strict=False):
        text = f"{name}: trace {curve.flat.trace:.3g} ± {curve.flat.trace_error:.1g}"
        plot_noise_stability(curve, left, text, colour)
        plot_hessian_spectrum(curve.flat, right, color=colour)
    handles, labels = left.get_legend_handles_labels()
    handles += left.plot([], [], "--", color="0.3", lw=1.1) + left.plot([], [], ":", color="0.3", lw=0.9)
    labels += ["loss + s²/2 trace: what the Hessian predicts", "loss of the network unchanged"]
    figure.legend(handles, labels, loc="outside lower center", ncol=2, frameon=False, fontsize="small")
    losses = [curve.flat.loss for _, curve in curves]
    ends = [float(np.nanmax(np.where(np.isfinite(c.loss), c.loss, np.nan))) for _, c in curves]
    left.set_ylim(min(losses) / 1.5, min(1.5 * max(ends), TOP * max(losses)))
    left.set_title("flat: the loss stays low when weights change", fontsize="medium", loc="left")
    right.set_title("steepest directions", fontsize="medium", loc="left")
    return figure
