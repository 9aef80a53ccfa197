"""Trajectories in a maze, with the noise and with it removed side by side."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, TARGET, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Region = tuple[float, ...]


def plot_maze(
    walls: ArrayLike,
    start: Region,
    goal: Region,
    paths: ArrayLike | None = None,
    reference: ArrayLike | None = None,
    success: ArrayLike | None = None,
    color: str = NOISY,
    ax: Axes | None = None,
) -> Axes:
    """The unit square with its inner walls and what moves in it.

    Parameters
    ----------
    walls : (S, 2, 2)
        Lower left and upper right corner of each.
    start : left, bottom, right, top
    goal : x, y, radius
    paths : (steps, B, 2), optional
        Trajectories; an open circle where each starts.
    reference : (steps, 2), optional
        The wanted one.
    success : (B,), optional
        Ends of the paths that failed (0) become crosses, the others dots.
    """
    from matplotlib.patches import Circle, Rectangle

    ax = new_axes(ax, width=3.8)
    (left, bottom, right, top), (x, y, radius) = start, goal
    ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, fc="0.92", ec="0.6", ls=":", label="starts"))
    ax.add_patch(Circle((x, y), radius, fc=SECOND, ec=SECOND, alpha=0.3, label="goal"))
    for low, high in np.asarray(walls, float):
        ax.add_patch(Rectangle(low, *(high - low), color="0.25", zorder=2.5))
    if reference is not None:
        ax.plot(*np.asarray(reference).T, "--", color=TARGET, lw=1.2, zorder=3, label="reference")
    if paths is not None:
        _draw_paths(ax, np.asarray(paths), success, color)
    ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", xticks=(), yticks=())
    for side in ax.spines.values():
        side.set(linewidth=3, color="0.25")
    return ax


def _draw_paths(ax: Axes, paths: Any, success: ArrayLike | None, color: str) -> None:
    for path in np.moveaxis(paths, 1, 0):
        ax.plot(*path.T, color=color, lw=0.9, alpha=0.7)
    ax.plot(*paths[0].T, "o", color=color, mfc="white", ms=3.5, mew=0.8, zorder=4)
    reached = np.ones(paths.shape[1], bool) if success is None else np.asarray(success) > 0
    ax.plot(*paths[-1, reached].T, "o", color=color, ms=4, mec="white", mew=0.5, zorder=5)
    ax.plot(*paths[-1, ~reached].T, "X", color="black", ms=6, mec="white", mew=0.7, zorder=5)


def maze_figure(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike | None]],
    walls: ArrayLike,
    start: Region,
    goal: Region,
    reference: ArrayLike | None = None,
) -> Any:
    """Side by side, under its title, each of `panels`: paths (steps, B, 2) and which of them succeeded (B,) or None.

    The order says what the colours of all figures mean: with noise, with it removed, and others.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(0.2 + 3.7 * len(panels), 4.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for ax, color, (title, (paths, success)) in zip(axes, cycle((NOISY, SILENT, THIRD)), panels.items(), strict=False):
        plot_maze(walls, start, goal, paths, reference, success, color, ax)
        reached = None if success is None else np.asarray(success) > 0
        ax.set_title(title if reached is None else f"{title}: {reached.sum()} of {reached.size} succeed", fontsize=11)
    handles, _ = axes[0].get_legend_handles_labels()
    style: dict[str, Any] = {"ls": "", "mec": "white"}
    handles += [
        Line2D([], [], color="0.4", lw=0.9, marker="o", mfc="white", ms=3.5, label="path from its start"),
        Line2D([], [], marker="X", color="black", ms=7, label="end of a failed trial", **style),
    ]
    figure.legend(handles=handles, ncol=len(handles), frameon=False, fontsize="small", loc="outside lower center")
    return figure
