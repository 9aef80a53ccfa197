"""Pictures of results: each plot draws what a result holds, on the axes given or new ones, and computes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fpanalysis.fixed_points import FixedPoints
    from fpanalysis.fixed_points.continuation.branches import Branch, Branches
    from fpanalysis.shift import Shift

#: colours that keep apart in print and for the colour-blind (Okabe & Ito)
TARGET, NOISY, SILENT, SECOND = "0.35", "#0072B2", "#D55E00", "#009E73"
METHOD_STYLES: tuple[dict[str, Any], ...] = (
    {"color": NOISY, "linestyle": "-"},
    {"color": "black", "linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"},
    {"color": SECOND, "linestyle": "--"},
    {"color": "#CC79A7", "linestyle": ":"},
)
STABILITY_STYLES: dict[str, dict[str, Any]] = {
    "stable": {"color": NOISY, "lw": 1.6},
    "unstable": {"color": SILENT, "lw": 1.0, "ls": "--"},
}
SPECIAL_POINTS: dict[str, dict[str, Any]] = {
    "fold": {"marker": "o", "color": "black"},
    "pitchfork": {"marker": "^", "color": SECOND},
    "transcritical": {"marker": "X", "color": SECOND},
    "branch point": {"marker": "*", "color": SECOND},
    "flip": {"marker": "s", "color": "#CC79A7"},
    "Neimark-Sacker": {"marker": "D", "color": "#E69F00"},
    "border collision": {"marker": "P", "color": "black"},
}
#: by what the Jacobian says of a fixed point
POINT_STYLES: dict[str, dict[str, Any]] = {
    "stable": {"marker": "o", "color": NOISY, "ms": 7},
    "unstable in 1 dimension": {"marker": "^", "color": "#E69F00", "ms": 6.5},
    "unstable in 2 dimensions": {"marker": "s", "color": SILENT, "ms": 5.5},
    "unstable in 3 dimensions": {"marker": "D", "color": "#8B1A1A", "ms": 5.5},
    "unstable in 4 or more": {"marker": "v", "color": "black", "ms": 6.5},
    "not stable: on a kink": {"marker": "P", "color": SECOND, "ms": 6.5},
    "singular": {"marker": "X", "color": "#CC79A7", "ms": 6.5},
}
EDGE: dict[str, Any] = {"mec": "white", "mew": 0.6, "zorder": 3}
PATH: dict[str, Any] = {"color": "0.55", "lw": 0.6, "alpha": 0.7, "zorder": 1}
PATH_START: dict[str, Any] = {"color": "0.55", "marker": ".", "ms": 3.5, "ls": "none", "zorder": 1}
BESIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False, "fontsize": "small"}
DIRECTIONS = 3  #: unstable directions drawn of one point, the fastest
SEGMENT = 0.09  #: length of their line segments, of the figure's width in state space
PANELS = 12  #: at most, in one figure
PARAMETER_NAMES = {"gamma": "γ", "scale": "weight scale p  (W → p W)", "input": "input p"}


def plot_outputs(shift: Shift, ax: Axes | None = None, output: int = 0) -> Axes:
    """The output against the input (the condition's number, with several inputs): target, fixed points without
    noise, and stationary mean at the level nearest the training noise. With a single condition: the output
    against the noise."""
    ax = _axes(ax)
    if shift.dataset.sizes["condition"] == 1:
        _output_against_noise(shift, ax, output)
    else:
        _output_against_input(shift, ax, output)
    ax.set_ylabel("output z" if shift.dataset.sizes["output_unit"] == 1 else f"output z[{output}]")
    ax.legend(framealpha=0.85, edgecolor="none", fontsize="small")
    return ax


def _output_against_input(shift: Shift, ax: Axes, output: int) -> None:
    data = shift.dataset
    k = int(np.argmin(np.abs(data.sigma.values - shift.training_sigma)))
    one = data.sizes["input_unit"] == 1
    x = data.input.values[:, 0] if one else np.arange(data.sizes["condition"])
    order = np.argsort(x, kind="stable")
    if "target" in data:
        ax.plot(x[order], data.target.values[order, output], color=TARGET, lw=4, alpha=0.4, label="target")
    level = data.isel(sigma=k, method=0, output_unit=output)
    for j in range(data.sizes["fixed_point"]):
        label = None if j else "noise removed: fixed point"
        z_star = data.z_star.values[order, j, output]
        ax.plot(x[order], z_star, color=SILENT, marker="s", ms=4, lw=1, ls="--", label=label)
        label = None if j else f"noise {float(data.sigma[k]):g}: stationary mean"
        mean, error = level.output.values[order, j], level.output_error.values[order, j]
        ax.errorbar(x[order], mean, np.where(np.isfinite(error), error, 0), color=NOISY, marker="o", ms=4, label=label)
    ax.set_xlabel("input u" if one else "condition")
    if not one:
        ax.locator_params(axis="x", integer=True)


def _output_against_noise(shift: Shift, ax: Axes, output: int) -> None:
    data = shift.dataset.isel(condition=0, output_unit=output)
    if "target" in data:
        ax.axhline(float(data.target), color=TARGET, lw=4, alpha=0.4, label="target")
    for j in range(data.sizes["fixed_point"]):
        ax.axhline(
            float(data.z_star[j]), color=SILENT, lw=1, ls="--", label=None if j else "noise removed: fixed point"
        )
        level = data.isel(fixed_point=j, method=0)
        error = np.where(np.isfinite(level.output_error), level.output_error, 0)
        label = None if j else "stationary mean"
        ax.errorbar(data.sigma.values, level.output.values, error, color=NOISY, marker="o", ms=4, label=label)
    ax.set_xlabel("noise σ (per step)")


def plot_shift(shift: Shift, ax: Axes | None = None) -> Axes:
    """Root mean square shift of the state and of the output against the noise, one style per method."""
    ax = _axes(ax)
    data = shift.dataset
    sigma = data.sigma.values
    for m, name in enumerate(shift.method_names):
        style = METHOD_STYLES[m % len(METHOD_STYLES)]
        chosen = data.isel(method=m)
        ax.plot(sigma, _rms(chosen["shift"].values), label=f"neurons, {name}", **style)
        output = {**style, "color": SILENT if m == 0 else style["color"], "alpha": 0.9}
        if output.get("marker"):
            output["marker"] = "s"
        ax.plot(sigma, _rms(chosen.output_shift.values), label=f"outputs, {name}", **output)
    if shift.training_sigma:
        ax.axvline(shift.training_sigma, color="0.7", lw=1, ls=":", zorder=0)
        ax.annotate(
            "training noise",
            (shift.training_sigma, 0.03),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 0),
            textcoords="offset points",
            ha="right",
            va="bottom",
            rotation=90,
            fontsize="x-small",
            color="0.4",
        )
    ax.set_xlabel("noise σ (per step)")
    ax.set_ylabel("rms shift by noise")
    ax.set_xlim(left=min(0.0, float(sigma.min())))
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False, fontsize="small", loc="upper left")
    return ax


def shift_figure(shift: Shift) -> Figure:
    """Outputs against targets beside the shift against the noise."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    plot_outputs(shift, left)
    plot_shift(shift, right)
    left.set_title("what the noise held in place", fontsize="medium")
    right.set_title("how far noise moves it", fontsize="medium")
    return figure


def plot_bifurcations(
    branches: Branches, ax: Axes | None = None, coordinate: str | Callable[[np.ndarray], np.ndarray] = "z[0]"
) -> Axes:
    """Branches of fixed points against the parameter: stable solid, unstable dashed, special points marked.

    `coordinate` is what is drawn of a state: "z[k]", output unit k; "h[i]", neuron i; or a function of the states
    (n, N) that gives n numbers. A label that is already in the legend of `ax` is not repeated.
    """
    ax = _axes(ax)
    value = _coordinate(branches, coordinate)
    for branch in branches:
        y = value(branch.h)
        for stable, part in _stretches(branch):
            label = "stable" if stable else "unstable"
            ax.plot(branch.p[part], y[part], **STABILITY_STYLES[label], label=_once(ax, label))
    for point in branches.points:
        style = SPECIAL_POINTS[point.kind] | {"ls": "none", "ms": 5, "mec": "white", "mew": 0.5, "zorder": 3}
        ax.plot([point.p], value(point.h[None]), label=_once(ax, point.kind), **style)
    ax.set_xlim(branches.start, branches.stop)
    ax.set_xlabel(PARAMETER_NAMES.get(branches.parameter, "p"))
    ax.set_ylabel(
        "coordinate" if callable(coordinate) else f"{'output' if coordinate[0] == 'z' else 'state'} {coordinate}"
    )
    if len(branches):
        ax.legend(framealpha=0.85, edgecolor="none", fontsize="small")
    return ax


def _coordinate(
    branches: Branches, coordinate: str | Callable[[np.ndarray], np.ndarray]
) -> Callable[[np.ndarray], np.ndarray]:
    if callable(coordinate):
        return coordinate
    system = branches.system
    name, digits = coordinate[:2], coordinate[2:-1]
    count = {"z[": system.n_out, "h[": system.N}.get(name, 0)
    if not (digits.isdecimal() and coordinate.endswith("]") and int(digits) < count):
        raise InputError(
            f"coordinate must be 'z[k]' with k < {system.n_out}, 'h[i]' with i < {system.N}, or a function of the "
            f"states; found {coordinate!r}"
        )
    k = int(digits)
    return (lambda h: system.output(h)[:, k]) if name == "z[" else (lambda h: h[:, k])


def _stretches(branch: Branch) -> list[tuple[bool, slice]]:
    """The branch cut where its stability changes; a special point belongs to both sides."""
    stable = branch.stable[:-1] | branch.stable[1:]
    cuts = [0, *(np.flatnonzero(stable[1:] != stable[:-1]) + 1), len(stable)]
    return [(bool(stable[i]), slice(i, j + 1)) for i, j in pairwise(cuts) if j > i]


def _once(ax: Axes, label: str) -> str | None:
    return None if label in ax.get_legend_handles_labels()[1] else label


def plot_fixed_points(points: FixedPoints, ax: Axes | None = None, trajectories: np.ndarray | None = None) -> Axes:
    """Fixed points by stability, the unstable directions of saddles (the three fastest of each, as line segments) and
    `trajectories` (T, M, N), such as ``points.trajectories()``, in their two leading principal components.

    Three where `ax` is a 3-D axes. They are the components of the points or, of fewer than three points, of points
    and trajectories; two neurons are drawn themselves, and a single one against time. The legend stands beside the
    axes: a figure with layout="constrained" makes room for it.
    """
    ax = _axes(ax, 6.6)
    _draw_fixed_points(points, ax, trajectories)
    names, counts = np.unique(_kinds(points), return_counts=True)
    labels = {name: f"{count} {name}" for name, count in zip(names.tolist(), counts, strict=True)}
    handles = _fixed_point_handles(labels, trajectories is not None)
    ax.legend(handles=handles, **BESIDE | ({"bbox_to_anchor": (-0.1, 1.1)} if ax.name == "3d" else {}))
    return ax


def fixed_points_figure(found: Sequence[FixedPoints], trajectories: Sequence[np.ndarray | None]) -> Figure:
    """A panel with the fixed points at each input and the trajectories there; at most 12."""
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
        values = ", ".join(f"{value:.3g}" for value in points.u)
        at = f"input {values}: " if values else ""
        ax.set_title(f"{at}{len(points)} fixed point{'s' * (len(points) != 1)}", fontsize="medium")
    if len(found) > 1:
        labels = {name: name for points in found for name in _kinds(points)}
        handles = _fixed_point_handles(labels, any(paths is not None for paths in trajectories))
        figure.legend(handles=handles, loc="outside right upper", frameon=False, fontsize="small")
    return figure


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
        ax.plot([0], [h], ls="none", label=_once(ax, kind), **style, **EDGE)
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


def _axes(ax: Axes | None, width: float = 4.8) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, 3.6), layout="constrained")[1]


def _rms(values: np.ndarray) -> np.ndarray:
    """Over everything but the first axis, NaN left out; NaN where nothing is left."""
    flat = values.reshape(len(values), -1)
    count = np.isfinite(flat).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.nansum(flat**2, axis=1) / np.where(count, count, np.nan))
