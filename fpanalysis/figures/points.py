"""Fixed points, the unstable directions of saddles, and trajectories between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import BESIDE, NOISY, PANELS, SECOND, SILENT, THIRD, new_axes, once
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fpanalysis.fixed_points import FixedPoints

#: by what the Jacobian says of a fixed point
POINT_STYLES: dict[str, dict[str, Any]] = {
    "stable": {"marker": "o", "color": NOISY, "ms": 7},
    "unstable in 1 dimension": {"marker": "^", "color": "#E69F00", "ms": 6.5},
    "unstable in 2 dimensions": {"marker": "s", "color": SILENT, "ms": 5.5},
    "unstable in 3 dimensions": {"marker": "D", "color": "#8B1A1A", "ms": 5.5},
    "unstable in 4 or more": {"marker": "v", "color": "black", "ms": 6.5},
    "not stable: on a kink": {"marker": "P", "color": SECOND, "ms": 6.5},
    "singular": {"marker": "X", "color": THIRD, "ms": 6.5},
}
EDGE: dict[str, Any] = {"mec": "white", "mew": 0.6, "zorder": 3}
PATH: dict[str, Any] = {"color": "0.55", "lw": 0.6, "alpha": 0.7, "zorder": 1}
PATH_START: dict[str, Any] = {"color": "0.55", "marker": ".", "ms": 3.5, "ls": "none", "zorder": 1}
DIRECTIONS = 3  #: unstable directions drawn of one point, the fastest
SHOWN = 4  #: numbers of an input in a title
WIDE = 20  #: letters of a title that fill a line
SEGMENT = 0.09  #: length of their line segments, of the figure's width in state space


def plot_fixed_points(points: FixedPoints, ax: Axes | None = None, trajectories: np.ndarray | None = None) -> Axes:
    """Fixed points by stability, the unstable directions of saddles (the three fastest of each, as line segments) and
    `trajectories` (T, M, N), such as ``points.trajectories()``, in their two leading principal components.

    Three where `ax` is a 3-D axes. They are the components of the points or, of fewer than three points, of points
    and trajectories; two neurons are drawn themselves, and a single one against time. The legend stands beside the
    axes: a figure with layout="constrained" makes room for it.
    """
    ax = new_axes(ax, 6.6)
    _draw_fixed_points(points, ax, trajectories)
    names, counts = np.unique(_kinds(points), return_counts=True)
    labels = {name: f"{count} {name}" for name, count in zip(names.tolist(), counts, strict=True)}
    handles = _fixed_point_handles(labels, trajectories is not None)
    ax.legend(handles=handles, **BESIDE | ({"bbox_to_anchor": (-0.1, 1.1)} if ax.name == "3d" else {}))
    return ax


def fixed_points_figure(
    found: Sequence[FixedPoints], trajectories: Sequence[np.ndarray | None], titles: Sequence[str] | None = None
) -> Figure:
    """A panel with the fixed points at each input and the trajectories there; at most 12. `titles` tell the inputs
    apart, by their numbers where there are none."""
    from matplotlib.figure import Figure

    if not 1 <= len(found) <= PANELS:
        raise InputError(f"a figure has 1 to {PANELS} panels, one for each input; found {len(found)} inputs")
    columns = min(len(found), 3 if len(found) <= 6 else 4)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.2 + (4.4 if len(found) == 1 else 3.0 * columns), 4.2 if rows == 1 else 2.8 * rows))
    figure.set_layout_engine("constrained")
    for i, (points, paths) in enumerate(zip(found, trajectories, strict=True)):
        ax = figure.add_subplot(rows, columns, i + 1)
        if len(found) == 1:
            plot_fixed_points(points, ax, paths)
        else:
            _draw_fixed_points(points, ax, paths)
        at = _input(points) if titles is None else titles[i]
        after = (":\n" if len(at) > WIDE else ": ") if at else ""
        ax.set_title(f"{at}{after}{len(points)} fixed point{'s' * (len(points) != 1)}", fontsize="medium")
    if len(found) > 1:
        labels = {name: name for points in found for name in _kinds(points)}
        handles = _fixed_point_handles(labels, any(paths is not None for paths in trajectories))
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize="small")
    return figure


def _input(points: FixedPoints) -> str:
    """Its numbers, as many as there is room for."""
    values = ", ".join(f"{value:.3g}" for value in points.u[:SHOWN])
    return f"input {values}{', ...' * (len(points.u) > SHOWN)}" if values else ""


def _draw_fixed_points(points: FixedPoints, ax: Axes, trajectories: np.ndarray | None) -> None:
    if trajectories is not None:
        trajectories = np.asarray(trajectories, float)
        if trajectories.ndim != 3 or trajectories.shape[2] != points.net.N:
            raise InputError(f"trajectories must be (T, M, {points.net.N}); found shape {trajectories.shape}")
    if points.net.N == 1 and ax.name != "3d":
        _against_time(points, ax, trajectories)
    else:
        _projected(points, ax, trajectories)


def _projected(points: FixedPoints, ax: Axes, trajectories: np.ndarray | None) -> None:
    dimensions = 3 if ax.name == "3d" else 2
    center, axes, labels = _components(points, trajectories, dimensions)

    def project(h: np.ndarray) -> np.ndarray:
        return np.moveaxis((h - center) @ axes.T, -1, 0)

    drawn = project(points.h)
    if trajectories is not None:
        paths = project(trajectories)
        for m in range(paths.shape[2]):
            ax.plot(*paths[:, :, m], **PATH)
        ax.plot(*paths[:, 0], **PATH_START)
        drawn = np.hstack([drawn, paths[:, np.isfinite(paths).all(axis=0)]])
    span = float(np.ptp(drawn, axis=1).max()) if drawn.size else 1.0
    kinds = _kinds(points)
    for k, kind in enumerate(kinds):
        for direction in points.unstable_directions(k)[:DIRECTIONS] if _has_directions(kind) else ():
            ends = points.h[k] + 0.5 * SEGMENT * span * np.outer([-1, 1], direction)
            ax.plot(*project(ends), color=POINT_STYLES[kind]["color"], lw=1.6, zorder=2, solid_capstyle="butt")
    for kind, style in POINT_STYLES.items():
        chosen = points.h[[name == kind for name in kinds]]
        if len(chosen):
            ax.plot(*project(chosen), ls="none", label=kind, **style, **EDGE)
    for name, label in zip("xyz", labels, strict=False):
        getattr(ax, f"set_{name}label")(label)
    if dimensions == 2:
        ax.set_aspect("equal", adjustable="datalim")


def _against_time(points: FixedPoints, ax: Axes, trajectories: np.ndarray | None) -> None:
    """A single neuron's state by the step; its fixed points are lines, marked where they begin."""
    if trajectories is not None:
        for path in trajectories[:, :, 0].T:
            ax.plot(path, **PATH)
        ax.plot(np.zeros(trajectories.shape[1]), trajectories[0, :, 0], **PATH_START)
    for h, kind in zip(points.h[:, 0], _kinds(points), strict=True):
        style = POINT_STYLES[kind]
        ax.axhline(h, color=style["color"], lw=0.8, ls="-" if kind == "stable" else "--", zorder=0)
        ax.plot([0], [h], ls="none", label=once(ax, kind), **style, **EDGE)
    ax.set_xlabel("step")
    ax.set_ylabel("state h")


def _components(
    points: FixedPoints, trajectories: np.ndarray | None, count: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Center (N,) and directions (count, N) of the axes, and their labels."""
    N = points.net.N
    if count >= N:
        return np.zeros(N), np.eye(count, N), [f"state h[{i}]" for i in range(N)]
    data = points.h
    if len(points) < 3 and trajectories is not None:
        data = np.vstack([data, trajectories.reshape(-1, N)])
        data = data[np.isfinite(data).all(axis=1)]
    center = data.mean(axis=0) if len(data) else np.zeros(N)
    _, values, axes = np.linalg.svd(np.vstack([data - center, np.zeros((count, N))]), full_matrices=False)
    share = values**2 / max(float(np.sum(values**2)), 1e-300)
    of = " of the variance" if count == 2 else ""  # 3-D axes have no room for it
    return center, axes[:count], [f"PC {i + 1} ({100 * share[i]:.0f} %{of})" for i in range(count)]


def _kinds(points: FixedPoints) -> list[str]:
    """The key in `POINT_STYLES` of each point."""
    names = list(POINT_STYLES)
    kind = np.where(points.singular, 6, np.minimum(points.n_unstable, 4))
    return [names[k] for k in np.where(points.kinked, 5, kind)]


def _has_directions(kind: str) -> bool:
    return kind.startswith("unstable")


def _fixed_point_handles(labels: dict[str, str], paths: bool) -> list[Any]:
    """Legend: the kinds of points in `labels`, with what is written for each, saddles with their line segment."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], ls="-" if _has_directions(kind) else "none", lw=1.6, label=labels[kind], **style, **EDGE)
        for kind, style in POINT_STYLES.items()
        if kind in labels
    ]
    if any(_has_directions(kind) for kind in labels):
        handles.append(Line2D([], [], color="0.35", lw=1.6, label="unstable direction"))
    if paths:
        style = PATH | PATH_START | {"ls": "-", "label": "trajectory, from the dot", "markevery": [0]}
        handles.append(Line2D([0, 1], [0, 0], **style))
    return handles
