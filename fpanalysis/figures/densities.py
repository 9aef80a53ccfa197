"""Stationary laws: the density of one axis by several methods, the joint density of two, and the fixed points there.

An axis is named as in `Density.names`: "neuron 0", "output 1", "coordinate 0". The L (N, d) of coordinates y = L^T h is
taken from ``law.details["L"]``.
"""

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
    from fpanalysis.stationary import Basin, Density, Stationary

CURVES: dict[str, dict[str, Any]] = {
    "chain": {"color": NOISY, "ls": "-", "lw": 2.0},
    "fokker-planck": {"color": SILENT, "ls": "--", "lw": 1.6},
    "reduced": {"color": SECOND, "ls": "-.", "lw": 1.8},
    "monte-carlo": {"color": "0.25", "ls": "-", "lw": 1.0},
}
BASIN = "#E69F00"
MORE_COLOURS = (THIRD, BASIN, "#56B4E9", "#F0E442")  #: of other methods, and of a method that occurs again
POINTS: dict[str, dict[str, Any]] = {
    "stable fixed point": {"marker": "o", "mfc": "black", "mec": "white", "mew": 0.8, "ms": 7},
    "fixed point, not stable": {"marker": "o", "mfc": "white", "mec": "black", "mew": 1.2, "ms": 6},
}
ATOM: dict[str, Any] = {"marker": "s", "ms": 5, "mec": "white", "mew": 0.5, "zorder": 4}
CONTENTS = (0.999, 0.99, 0.9, 0.5)  #: probability within each contour
ABOVE = 1.03  #: where means are marked, as a fraction of the height of the axes
ROW = 0.05  #: between the rows of two laws
CLIPPED = 0.05  #: probability that may lie where a spike leaves the axes
SYMBOLS = {"neuron": "state h", "output": "output z", "coordinate": "coordinate y"}


def plot_density(
    laws: Stationary | Sequence[Stationary],
    ax: Axes | None = None,
    axis: str | None = None,
    points: FixedPoints | None = None,
    labels: Sequence[str] | None = None,
) -> Axes:
    """The densities of one axis by several methods, and what they are shifted from.

    Curves, dashed for the diffusion approximation; estimates as histograms with one standard error; point masses as
    stems whose height is their probability, 1 at the top. Triangles above are the means, open ones the means of basins
    with their weights; on the axis the fixed points of `points`. A law without a density here shows its mean only.

    Parameters
    ----------
    axis : its name; None: the first that the first law has.
    labels : in place of the methods' names.

    Raises
    ------
    InputError
        If no law has a density on the axis, naming those there are.
    """
    given = _laws(laws)
    axis = _default_axis(given) if axis is None else axis
    densities = [_density(law, (axis,)) for law in given]
    if all(density is None for density in densities):
        raise InputError(f"axis must be one that a law has a density on: {_known(given)}; found {axis!r}")
    ax = new_axes(ax, 5.4)
    names = _labels(given, labels)
    styles = _styles(given)
    for density, label, style in zip(densities, names, styles, strict=True):
        if density is not None:
            _draw(density, ax, label, style)
        else:
            ax.plot([], [], ls="none", marker="v", color=style["color"], label=f"{label}: its mean only")
    for k, (law, style) in enumerate(zip(given, styles, strict=True)):
        _mark_means(law, axis, ax, style["color"], ABOVE + k * ROW)
    _mark_points(points, axis, given, ax)
    ax.set_xlabel(_symbol(axis))
    ax.set_ylabel(f"probability density (per unit of {_symbol(axis).split()[-1]})")
    ax.set_ylim(0, 1.12 * max(_height(density) for density in densities if density is not None))
    ax.legend(framealpha=0.85, edgecolor="none", fontsize="small")
    return ax


def plot_density_2d(
    law: Stationary,
    ax: Axes | None = None,
    axes: tuple[str, str] | None = None,
    points: FixedPoints | None = None,
) -> Axes:
    """The joint density of two axes, by default the first two of ``law.density``.

    Regions of highest density that hold 50, 90, 99 and 99.9 % of it, point masses with their probability, the fixed
    points of `points`, and the means: of the law, and of each basin, joined to its fixed point.

    Raises
    ------
    InputError
        If the law has no joint density of the two axes.
    """
    (law,) = _laws(law)
    axes = axes or (law.density.names[:2] if law.density is not None else ("", ""))  # type: ignore[assignment]
    density = _density(law, tuple(axes)) if axes is not None and len(axes) == 2 else None
    if density is None:
        raise InputError(f"axes must be two that the law has a joint density of: {_known([law])}; found {axes!r}")
    ax = new_axes(ax, 5.4)
    _shade(density, ax)
    _mark_basins_2d(law, density.names, ax)
    _mark_points_2d(points, density.names, law, ax)
    mean = [_mean(law, name) for name in density.names]
    if all(value is not None and np.isfinite(value) for value in mean):
        ax.plot(*mean, ls="none", marker="D", color=SILENT, mec="white", ms=9, label="mean", zorder=3.5)  # type: ignore[arg-type]
    ax.set_xlabel(_symbol(density.names[0]))
    ax.set_ylabel(_symbol(density.names[1]))
    ax.legend(handles=[*_content_handles(), *ax.get_legend_handles_labels()[0]], **BESIDE)
    return ax


def density_figure(laws: Stationary | Sequence[Stationary], points: FixedPoints | None = None) -> Figure:
    """Everything there is of laws at one input: a panel for each axis that has a density, 12 at most, and one for the
    joint density of the first law."""
    from matplotlib.figure import Figure

    given = _laws(laws)
    names = list(dict.fromkeys(name for law in given for name in _axis_names(law)))[:PANELS]
    if not names:
        _default_axis(given)
    joint = given[0].density is not None and len(given[0].density.names) >= 2
    count = len(names) + joint
    columns = min(count, 3)
    rows = -(-count // columns)
    width = 5.4 if count == 1 else 4.2 * columns + 1.8 * joint
    figure = Figure(figsize=(width, 3.8 * rows), layout="constrained")
    panels = [figure.add_subplot(rows, columns, k + 1) for k in range(count)]
    if joint:
        plot_density_2d(given[0], panels[0], points=points)
    for name, ax in zip(names, panels[joint:], strict=True):
        plot_density(given, ax, name, points)
    return figure


def densities_figure(laws: Sequence[Stationary], points: Sequence[FixedPoints | None], titles: Sequence[str]) -> Figure:
    """Laws at several inputs, 12 at most, each in a panel with its title: the joint density where there is one, else
    that of the first axis."""
    from matplotlib.figure import Figure

    given = _laws(laws)
    if len(given) > PANELS or not len(given) == len(points) == len(titles):
        raise InputError(f"a figure has one panel per law, {PANELS} at most, each with points and a title")
    columns = min(len(given), 3)
    rows = -(-len(given) // columns)
    figure = Figure(figsize=(2.4 + 3.6 * columns, 3.2 * rows), layout="constrained")
    for k, (law, found, title) in enumerate(zip(given, points, titles, strict=True)):
        ax = figure.add_subplot(rows, columns, k + 1)
        ax.set_title(title, fontsize="medium")
        if law.density is not None and len(law.density.names) > 1:
            plot_density_2d(law, ax, points=found)
        elif _axis_names(law):
            plot_density(law, ax, points=found)
        else:
            ax.set_axis_off()
            ax.text(0.5, 0.5, f"{law.method}: no density ({law.status.value})", ha="center", transform=ax.transAxes)
    _one_legend(figure)
    return figure


def _one_legend(figure: Figure) -> None:
    """The legends of all panels in one, beside them."""
    entries: dict[str, Any] = {}
    for ax in figure.axes:
        legend = ax.get_legend()
        if legend is not None:
            texts = [text.get_text() for text in legend.get_texts()]
            entries |= {text: entries.get(text, mark) for text, mark in zip(texts, legend.legend_handles, strict=True)}
            legend.remove()
    figure.legend(list(entries.values()), list(entries), loc="outside right upper", frameon=False, fontsize="small")


def _laws(laws: Any) -> list[Stationary]:
    given = list(laws) if isinstance(laws, list | tuple) else [laws]
    for law in given:
        if not all(hasattr(law, name) for name in ("density", "marginals", "basins", "mean")):
            raise InputError(f"laws must be results of stationary(); found {type(law).__name__}")
    if not given:
        raise InputError("laws must be results of stationary(); found none")
    return given


def _axis_names(law: Stationary) -> list[str]:
    return [*(law.density.names if law.density is not None else ()), *law.marginals]


def _known(laws: list[Stationary]) -> str:
    names = dict.fromkeys(name for law in laws for name in _axis_names(law))
    methods = ", ".join(dict.fromkeys(law.method for law in laws))
    return ", ".join(names) or f"none ({methods}: no density; chain, fokker-planck, reduced and monte-carlo have them)"


def _default_axis(laws: list[Stationary]) -> str:
    for law in laws:
        for name in _axis_names(law):
            return name
    raise InputError(f"laws must hold a density; found {_known(laws)}")


def _density(law: Stationary, names: tuple[str, ...]) -> Density | None:
    if len(names) == 1 and names[0] in law.marginals:
        return law.marginals[names[0]]
    if law.density is None or not set(names) <= set(law.density.names):
        return None
    return law.density if names == law.density.names else law.density.marginal(*names)


def _labels(laws: list[Stationary], labels: Sequence[str] | None) -> list[str]:
    if labels is not None and len(labels) != len(laws):
        raise InputError(f"labels must name the {len(laws)} laws; found {len(labels)}")
    named = [law.method for law in laws] if labels is None else list(labels)
    return [name if law.status.ok else f"{name} ({law.status.value})" for name, law in zip(named, laws, strict=True)]


def _styles(laws: list[Stationary]) -> list[dict[str, Any]]:
    """The method's own style; another colour for unknown methods, and where a method occurs again."""
    styles: list[dict[str, Any]] = []
    spare = 0
    for k, law in enumerate(laws):
        style = dict(CURVES.get(law.method, {"ls": ":", "lw": 1.6}))
        if "color" not in style or any(other.method == law.method for other in laws[:k]):
            style["color"] = MORE_COLOURS[spare % len(MORE_COLOURS)]
            spare += 1
        styles.append(style)
    return styles


def _draw(density: Density, ax: Axes, label: str, style: dict[str, Any]) -> None:
    x, y = density.grids[0], density.values
    if density.error is None:
        ax.plot(x, y, label=label, **style)
    else:
        width = density.weights[0]
        edges = np.append(x - width / 2, x[-1] + width[-1] / 2)
        ax.stairs(y, edges, fill=True, color=style["color"], alpha=0.18, label=label)
        ax.errorbar(x, y, density.error, ls="none", color=style["color"], lw=1, capsize=0, zorder=2.5)
    across = ax.get_xaxis_transform()  # heights of stems and marks are fractions of the axes
    for (location,), probability in density.atoms:
        ax.plot([location, location], [0, probability], transform=across, color=style["color"], lw=2)
        text = once(ax, "point mass (its height: its probability)")
        ax.plot([location], [probability], transform=across, ls="none", color=style["color"], label=text, **ATOM)
        ax.annotate(f"{probability:.3g}", (location, probability), xycoords=across, xytext=(6, 0),
                    textcoords="offset points", va="center", fontsize="small", color=style["color"])  # fmt: skip


def _mark_means(law: Stationary, axis: str, ax: Axes, color: str, height: float) -> None:
    """Above the axes, a row for each law in its colour; grey in the legend."""
    across = ax.get_xaxis_transform()
    mark: dict[str, Any] = {"ls": "none", "marker": "v", "ms": 7}
    mean = _mean(law, axis)
    if mean is not None and np.isfinite(mean):
        ax.plot([], [], color="0.35", label=once(ax, "mean"), **mark)
        ax.plot([mean], [height], color=color, transform=across, clip_on=False, **mark)
    for basin in law.basins or ():
        at = _value(law, basin.mean[None], axis)
        if at is not None and np.isfinite(at).all():
            ax.plot([], [], color="0.35", mfc="none", label=once(ax, "basin mean, with its weight"), **mark)
            ax.plot(at, [height], color=color, mfc="none", transform=across, clip_on=False, **mark)
            ax.annotate(_weight(basin), (at[0], height), xycoords=across, xytext=(7, 0), color=color, va="center",
                        textcoords="offset points", fontsize="small", annotation_clip=False)  # fmt: skip


def _weight(basin: Basin) -> str:
    return f"{basin.weight:.3g}" if np.isfinite(basin.weight) else "weight unknown"


def _mark_points(points: FixedPoints | None, axis: str, laws: list[Stationary], ax: Axes) -> None:
    at = _of_points(points, axis, laws)
    for label, chosen in _kinds(points) if at is not None else ():
        if chosen.any():
            ax.plot(at[chosen], np.zeros(chosen.sum()), transform=ax.get_xaxis_transform(), ls="none", label=label,  # type: ignore[index]
                    clip_on=False, zorder=5, **POINTS[label])  # fmt: skip


def _mark_basins_2d(law: Stationary, names: tuple[str, ...], ax: Axes) -> None:
    """From each fixed point to the mean of its basin."""
    for basin in law.basins or ():
        x, y = (_value(law, np.array([basin.fixed_point, basin.mean]), name) for name in names)
        if x is None or y is None or not np.isfinite([x, y]).all():
            continue
        ax.plot(x, y, color=BASIN, lw=1.6, zorder=4.5)
        mark: dict[str, Any] = {"marker": "v", "color": BASIN, "mec": "black", "mew": 0.6, "ms": 8, "zorder": 5}
        ax.plot(x[1:], y[1:], ls="none", label=once(ax, "basin mean, with its weight"), **mark)
        ax.annotate(_weight(basin), (x[1], y[1]), xytext=(7, 7), textcoords="offset points", fontsize="small",
                    bbox={"fc": "white", "ec": "none", "alpha": 0.7, "pad": 1})  # fmt: skip


def _mark_points_2d(points: FixedPoints | None, names: tuple[str, ...], law: Stationary, ax: Axes) -> None:
    at = [_of_points(points, name, [law]) for name in names]
    for label, chosen in _kinds(points) if at[0] is not None and at[1] is not None else ():
        if chosen.any():
            ax.plot(*(value[chosen] for value in at), ls="none", label=label, zorder=4, **POINTS[label])  # type: ignore[index]


def _of_points(points: FixedPoints | None, axis: str, laws: list[Stationary]) -> np.ndarray | None:
    """Where the fixed points are on the axis."""
    if points is None:
        return None
    if not all(hasattr(points, name) for name in ("h", "stable", "net")):
        raise InputError(f"points must be what find_fixed_points() returns; found {type(points).__name__}")
    kind, k = _parsed(axis)
    if kind == "output":
        return np.asarray(points.net.output(points.h)[:, k])
    found = (_value(law, points.h, axis) for law in laws)
    return next((value for value in found if value is not None), None)


def _kinds(points: Any) -> list[tuple[str, np.ndarray]]:
    return list(zip(POINTS, (points.stable, ~points.stable), strict=True))


def _value(law: Stationary, h: np.ndarray, axis: str) -> np.ndarray | None:
    """The axis at states h (K, N): (K,); None where the law does not say."""
    kind, k = _parsed(axis)
    if kind == "neuron" and k < h.shape[1]:
        return h[:, k]
    L = law.details.get("L") if kind == "coordinate" else None
    return None if L is None else h @ np.asarray(L)[:, k]


def _mean(law: Stationary, axis: str) -> float | None:
    kind, k = _parsed(axis)
    if kind == "output":
        return float(law.output[k])
    value = _value(law, law.mean[None], axis)
    return None if value is None else float(value[0])


def _parsed(axis: str) -> tuple[str, int]:
    kind, _, number = axis.partition(" ")
    return kind, int(number) if number.isdecimal() else 0


def _symbol(axis: str) -> str:
    kind, k = _parsed(axis)
    return f"{SYMBOLS[kind]}[{k}]" if kind in SYMBOLS else axis


def _height(density: Density) -> float:
    """Of the highest value; where that is a spike, of what all but `CLIPPED` of the probability lies below."""
    order = np.argsort(density.values)[::-1]
    above = np.cumsum((density.values * density.weights[0])[order])
    most = density.values[order]
    below = float(most[np.searchsorted(above, CLIPPED * above[-1])]) if above[-1] > 0 else 1.0
    return float(most[0]) if most[0] <= 2 * below else below


def _shade(density: Density, ax: Axes) -> None:
    """Filled regions of highest density, darker for what is likelier."""
    mass = density.values * np.multiply.outer(*density.weights)
    order = np.argsort(density.values, axis=None)[::-1]
    within = np.cumsum(mass.ravel()[order])
    place = np.minimum(np.searchsorted(within, np.multiply(CONTENTS, within[-1])), order.size - 1)
    levels = density.values.ravel()[order[place]]
    top = float(density.values.max())
    levels = np.append(np.minimum(levels, top), np.nextafter(top, np.inf)) + np.arange(5) * np.spacing(top)
    ax.contourf(*density.grids, density.values.T, levels=levels, colors=_shades())
    ax.contour(*density.grids, density.values.T, levels=levels[:-1], colors=NOISY, linewidths=0.6)
    for location, probability in density.atoms:
        at = (float(location[0]), float(location[1]))
        ax.plot(*at, ls="none", color=THIRD, label=once(ax, "point mass"), **ATOM)
        ax.annotate(f"{probability:.3g}", at, xytext=(5, 5), textcoords="offset points", fontsize="small")


def _shades() -> list[Any]:
    import matplotlib as mpl

    return [mpl.colormaps["Blues"](level) for level in (0.12, 0.3, 0.5, 0.75)]


def _content_handles() -> list[Any]:
    from matplotlib.patches import Patch

    labels = [f"{100 * content:g} % within" for content in CONTENTS]
    return [Patch(fc=shade, ec=NOISY, lw=0.6, label=label) for shade, label in zip(_shades(), labels, strict=True)][
        ::-1
    ]
