"""Why one neuron's training leads to a preference for noise, and where: plots of `fpanalysis.regulator`'s results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, TARGET, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

    from fpanalysis.regulator import Landscape, Optimum, PhaseDiagram

KINKED = ("relu", "leaky_relu")
DECADES = 2.0  #: of R on either side of 1 that the colours tell apart
NAMED = {"facecolor": "white", "alpha": 0.7, "edgecolor": "none", "pad": 1.5}  #: behind what names a region
ENDS = {"training": "after training", "given weight": "best bias, weight given", "best weight": "best weight and bias"}


def plot_incentive(landscape: Landscape, ax: Axes | None = None) -> Axes:
    """Expected loss against the operating point a / sigma: with noise (and its two parts), and once it is removed."""
    ax = new_axes(ax, 5.6)
    sigma = landscape.sigma
    x = landscape.a / sigma
    ax.plot(x, landscape.loss, color=NOISY, lw=2.5, label="loss with noise")
    ax.plot(x, landscape.bias2, color=NOISY, lw=1, ls="--", label="   its bias²")
    ax.plot(x, landscape.variance, color=SECOND, lw=1.5, ls="-.", label="   its variance")
    ax.plot(x, landscape.loss_removed, color=SILENT, lw=2.5, label="loss once the noise is removed")
    ax.set_yscale("log")
    top = float(np.nanmax(landscape.loss))
    bottom = float(np.nanmin(landscape.variance)) / 30
    ax.set_ylim(max(bottom, top * 1e-6), 3 * top)
    ax.set_xlim(x[0], x[-1])
    _mark_training(landscape, ax)
    if landscape.activation.name in KINKED:
        ax.axvline(0, color="0.6", lw=1, ls=":")
        ax.annotate("kink", (0, 0.98), xycoords=("data", "axes fraction"), xytext=(3, 0), textcoords="offset points",
                    fontsize="x-small", color="0.4", va="top")  # fmt: skip
    ax.set_xlabel("operating point a / σ (mean input over noise)")
    ax.set_ylabel("expected loss")
    return ax


def _mark_training(landscape: Landscape, ax: Axes) -> None:
    """From where the noise-free neuron holds the target to the least loss with noise."""
    start, end = landscape.held / landscape.sigma, landscape.best / landscape.sigma
    x = landscape.a / landscape.sigma
    low = float(np.interp(end, x, landscape.loss))
    off = float(np.interp(end, x, landscape.loss_removed))
    before = float(np.interp(start, x, landscape.loss))
    floor = ax.get_ylim()[0]
    ax.plot(
        start, before, "o", color="white", mec="black", ms=7, zorder=5, label="before training: on target without noise"
    )
    ax.plot(end, low, "o", color=NOISY, mec="black", ms=8, zorder=5, label="after training")
    ax.plot(end, max(off, 1.3 * floor), "s", color=SILENT, mec="black", ms=7, zorder=5, clip_on=False,
            label="after training, noise removed")  # fmt: skip
    if abs(start - end) > 0.05:
        arrow = {"arrowstyle": "->", "lw": 1.3, "shrinkA": 5, "shrinkB": 5}
        ax.annotate("", (end, low), (start, before), arrowprops=arrow)
        ax.annotate("", (end, off), (end, low), arrowprops={**arrow, "color": SILENT})
    text = f"R = {landscape.ratio:.2g}" if landscape.ratio > 1e-6 else "R = 0"
    at = (end, low**0.3 * max(off, floor) ** 0.7)
    ax.annotate(text, at, xytext=(-9, 0), textcoords="offset points", color=SILENT, ha="right", va="center",
                weight="bold", bbox={"fc": "white", "ec": "none", "pad": 1.0})  # fmt: skip


def incentive_figure(inside: Landscape, outside: Landscape) -> Figure:
    """Noise in beside noise out, at one target."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.4, 5.0), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    titles = (
        "noise in: training moves towards the kink,\nwhere the target is held by the noise and varies less",
        "noise out: training has nothing to gain by moving,\nthe target is held with and without noise",
    )
    for ax, landscape, title in zip(axes, (inside, outside), titles, strict=True):
        plot_incentive(landscape, ax)
        ax.set_title(title, fontsize="medium")
    limits = [f(ax.get_ylim()[k] for ax in axes) for k, f in ((0, min), (1, max))]
    axes[0].set_ylim(*limits)
    axes[1].set_ylabel("")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize="small")
    c = inside
    figure.suptitle(
        f"one {c.activation.name} neuron, target {c.target / c.sigma:.2g} σ, γ = {c.gamma:g}, w = {c.w:g}",
        fontsize="small",
    )
    return figure


def plot_phase_diagram(diagram: PhaseDiagram, ax: Axes | None = None, points: ArrayLike | None = None) -> Axes:
    """log10 R over target / sigma and gamma, its contours and the border R = 1; `points` (n, 3), rows (target / sigma,
    gamma, measured R), are drawn in the same colours."""
    ax = new_axes(ax, 5.6)
    mesh = _draw_phases(diagram, ax, points)
    bar = ax.figure.colorbar(mesh, ax=ax, extend="both", label="R = loss without noise / loss with noise")
    _name_decades(bar.ax)
    return ax


def phase_figure(diagrams: Sequence[PhaseDiagram], points: Sequence[ArrayLike | None] | None = None) -> Figure:
    """Several phase diagrams side by side, one scale of colours."""
    from matplotlib.figure import Figure

    n = len(diagrams)
    figure = Figure(figsize=(1.2 + 4.6 * n, 4.4), layout="constrained")
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    for k, (ax, diagram) in enumerate(zip(axes, diagrams, strict=True)):
        mesh = _draw_phases(diagram, ax, points[k] if points else None)
        if k:
            ax.set_ylabel("")
    bar = figure.colorbar(mesh, ax=list(axes), extend="both", label="R = loss without noise / loss with noise")
    _name_decades(bar.ax)
    return figure


def _draw_phases(diagram: PhaseDiagram, ax: Axes, points: ArrayLike | None) -> QuadMesh:
    with np.errstate(divide="ignore"):
        R = np.log10(np.maximum(diagram.ratio, 1e-12))
    look: dict[str, Any] = {"cmap": "PuOr_r", "vmin": -DECADES, "vmax": DECADES}
    mesh = ax.pcolormesh(diagram.ratios, diagram.gammas, R, shading="gouraud", **look)
    low, high = np.nanmin(R), np.nanmax(R)
    levels = np.arange(-DECADES, 7)
    levels = levels[(levels != 0) & (levels > low) & (levels < high)]
    if len(levels):
        lines = ax.contour(diagram.ratios, diagram.gammas, R, levels, colors="0.3", linewidths=0.6, linestyles="solid")
        ax.clabel(lines, fmt=lambda v: f"R = {10**v:g}", fontsize="x-small")
    if low < 0 < high:
        ax.contour(diagram.ratios, diagram.gammas, R, [0.0], colors="black", linewidths=2.5)
        _name_sides(diagram, R, ax)
    else:
        verdict = "noise preferred" if low >= 0 else "better without"
        text = f"{verdict} everywhere:\nR from {np.nanmin(diagram.ratio):.1g} to {np.nanmax(diagram.ratio):.1g}"
        ax.text(0.5, 0.5, text, transform=ax.transAxes, ha="center", va="center", fontsize="small", weight="bold",
                bbox=NAMED)  # fmt: skip
    if points is not None:
        _draw_points(np.asarray(points, float), ax, look)
    ax.set(xscale="log", yscale="log", xlabel="target / σ", ylabel="γ = dt / τ")
    _plain_ticks(ax.xaxis, ax.yaxis)
    kind = diagram.neurons.kind
    ax.set_title(f"{ENDS[kind]}, noise {diagram.neurons.placement}", fontsize="medium")
    return mesh


def _draw_points(points: np.ndarray, ax: Axes, look: dict[str, Any]) -> None:
    from matplotlib.patheffects import withStroke

    x, y, measured = points.T
    ax.scatter(x, y, c=np.log10(measured), s=70, edgecolors="black", linewidths=1.3, zorder=5, clip_on=False,
               label="trained neurons, measured R", **look)  # fmt: skip
    halo = [withStroke(linewidth=2.5, foreground="white")]
    for place, R in zip(points[:, :2], measured, strict=True):
        ax.annotate(f"{R:.2g}", place, xytext=(0, 7), textcoords="offset points", ha="center", fontsize="x-small",
                    path_effects=halo, zorder=6)  # fmt: skip
    ax.legend(loc="upper right", fontsize="x-small", framealpha=0.85, edgecolor="none")


def _name_sides(diagram: PhaseDiagram, R: np.ndarray, ax: Axes) -> None:
    """What is better, written where it is clearest along the lowest row."""
    x = diagram.ratios[int(np.argmax(R[0]))]
    place = float(np.interp(np.log(x), np.log(diagram.ratios[[0, -1]]), [0, 1]))
    for text, at in (("noise\npreferred", min(max(place, 0.14), 0.6)), ("better\nwithout", 0.89)):
        ax.text(at, 0.03, text, transform=ax.transAxes, ha="center", fontsize="small", weight="bold", bbox=NAMED)


def _plain_ticks(*axes: Axis) -> None:
    """0.05, 0.1, 0.2, 0.5, 1, ... instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in axes:
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
        axis.set_minor_formatter(NullFormatter())


def _name_decades(ax: Axes) -> None:
    ticks = np.arange(-DECADES, DECADES + 1)
    ax.set_yticks(ticks, [f"{10**v:g}" for v in ticks])


def plot_valley(
    path: Optimum, ax: Axes | None = None, trained: Optimum | None = None, best: Optimum | None = None
) -> Axes:
    """Loss with and without noise against the weight, the bias being the best for each: `path` is an `Optimum` at
    given weights (n,); where a training ends and where the best weight lies are marked."""
    ax = new_axes(ax, 5.6)
    order = np.argsort(-path.w)
    x = 1 - path.w[order]
    ax.plot(x, path.loss[order], color=NOISY, lw=2.5, label="loss with noise")
    ax.plot(x, path.loss_removed[order], color=SILENT, lw=2.5, label="loss once the noise is removed")
    for found, marker, label in ((trained, "o", "where training ends"), (best, "*", "least loss with noise")):
        if found is None:
            continue
        at = 1 - float(found.w)
        ax.axvline(at, color=TARGET, lw=0.8, ls=":")
        ax.plot(
            at, found.loss, marker, color=NOISY, mec="black", ms=9, ls="none", label=f"{label}, R = {found.ratio:.2g}"
        )
        ax.plot(at, found.loss_removed, marker, color=SILENT, mec="black", ms=9)
    ax.set(xscale="log", yscale="log", xlabel="1 − w (strength of self-inhibition)", ylabel="expected loss")
    _plain_ticks(ax.xaxis)
    ax.legend(frameon=False, fontsize="small")
    return ax
