"""Trajectories in a maze: the walk with the training noise beside the one with the noise removed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, TARGET, new_axes

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
    noisy: ArrayLike,
    silent: ArrayLike,
    walls: ArrayLike,
    start: Region,
    goal: Region,
    reference: ArrayLike | None = None,
    success: tuple[ArrayLike, ArrayLike] | None = None,
    sigma: float | None = None,
) -> Any:
    """Two panels: the paths `noisy` (steps, B, 2) at the training noise `sigma`, and `silent` with it removed.

    `success`, for both: which trials reached the goal without touching a wall.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    figure = Figure(figsize=(7.6, 4.4), layout="constrained")
    level = "" if sigma is None else f", σ = {sigma:g}"
    names = (f"training noise{level}", "noise removed")
    marks = (None, None) if success is None else success
    for ax, name, paths, color, reached in zip(
        figure.subplots(1, 2), names, (noisy, silent), (NOISY, SILENT), marks, strict=True
    ):
        plot_maze(walls, start, goal, paths, reference, reached, color, ax)
        count = np.asarray(reached)
        ax.set_title(name if reached is None else f"{name}: {int(count.sum())} of {count.size} succeed", fontsize=11)
    handles, _ = figure.axes[0].get_legend_handles_labels()
    style: dict[str, Any] = {"ls": "", "mec": "white"}
    handles += [
        Line2D([], [], color="0.4", lw=0.9, marker="o", mfc="white", ms=3.5, label="path from its start"),
        Line2D([], [], marker="X", color="black", ms=6, label="end of a failed trial", **style),
    ]
    figure.legend(handles=handles, ncol=len(handles), frameon=False, fontsize="small", loc="outside lower center")
    return figure
