"""The explicit regulariser: what it predicts of the loss, and which neurons carry it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.moments import LossCurve
    from fpanalysis.regularizer import Regularizer

Array = NDArray[np.float64]
Expansion = tuple[float, float, "Regularizer"]  #: noise that f is smoothed by, noise absorbed by that, the result

FINE = 121  #: points of a curve that is sampled at few
DECADES = 3.0  #: shown below the largest loss


def plot_regularizer(
    curve: LossCurve | tuple[Array, Array], sigma: float, expansions: Sequence[Expansion], ax: Axes | None = None
) -> Axes:
    """The loss `curve` against noise, or sampled (levels, losses), and l + sigma^2 / 2 (P + Q) of each of the
    `expansions` on top: the noise that f is smoothed by (0: none), the noise absorbed by that, the result."""
    ax = new_axes(ax, width=6.0)
    sampled = isinstance(curve, tuple)
    levels, loss = curve if isinstance(curve, tuple) else (curve.fine.sigma, curve.fine.loss)
    loss = np.where(np.isfinite(loss), loss, np.nan)
    ax.plot(levels, loss, color="black", lw=2, label=f"expected loss ({'sampled' if sampled else 'closure'})")
    if sampled:
        levels = np.linspace(levels[0], levels[-1], FINE)
    top, low = float(np.nanmax(loss)), float(np.nanmin(loss))
    for smoothed, absorbed, found in expansions:
        values = found.predict(levels, absorbed)
        about = f"about f smoothed by {smoothed:.3g}" if smoothed else "about no noise"
        shown, color = np.where(values > 0, values, np.nan), THIRD if smoothed else SECOND
        what = "second order" if absorbed else "l + σ²/2 (P + Q)"  # f holds a part of P already
        ax.plot(levels, shown, "--", color=color, lw=1.8, label=f"{what}, {about}")
        if absorbed:  # where this expansion is meant to hold
            ax.plot(sigma, float(found.predict(sigma, absorbed)), "o", color=color, mec="white", ms=8, zorder=5)
    ax.axvline(sigma, color="0.6", lw=1, ls=":", zorder=0)
    ax.set_yscale("log")
    ax.set_ylim(max(top * 10**-DECADES, low / 3), 2 * top)
    ax.set_xlabel("noise σ (per step); dotted: the noise that is analysed")
    ax.set_ylabel("expected loss")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16))
    return ax


def plot_regularizer_neurons(found: Regularizer, ax: Axes | None = None) -> Axes:
    """Each neuron's share of P and of Q, in the order of P + Q, stacked from zero: up costs loss, down saves it."""
    ax = new_axes(ax, width=5.0)
    order = np.argsort(found.P_by_neuron + found.Q_by_neuron)
    P, Q, rank = found.P_by_neuron[order], found.Q_by_neuron[order], np.arange(1, len(order) + 1)
    bottom = np.where(P > 0, P, 0.0)
    ax.bar(rank, P, width=0.9, color=NOISY, label=f"P = {found.P:.3g}: shift of the mean")
    ax.bar(rank, Q, bottom=bottom, width=0.9, color=SILENT, label=f"Q = {found.Q:.3g}: variance")
    ax.axhline(0, color="black", lw=0.8)
    ax.set_xlabel("neurons, in the order of P + Q")
    ax.set_ylabel("share of P and Q")
    ax.legend(frameon=False, fontsize="small")
    return ax


def regularizer_figure(
    models: Sequence[tuple[str, float, LossCurve | tuple[Array, Array], Sequence[Expansion]]],
) -> Any:
    """A figure of its own, a row for each (name, noise, curve, expansions): prediction and neurons."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 4.2 * len(models)), layout="constrained")
    axes = figure.subplots(len(models), 2, squeeze=False)
    for (name, sigma, curve, expansions), (left, right) in zip(models, axes, strict=True):
        plot_regularizer(curve, sigma, expansions, left)
        left.set_title(name, fontsize="medium", loc="left")
        smoothed, _, found = expansions[-1]
        plot_regularizer_neurons(found, right)
        about = f"f smoothed by {smoothed:.3g}" if smoothed else "no noise"
        right.set_title(f"which neurons carry it (about {about})", fontsize="medium", loc="left")
    return figure
