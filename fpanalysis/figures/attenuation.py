"""Asymmetric attenuation at a glance: bias and transmitted variance against the operating point, with the neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

    from fpanalysis.bias import NetworkBias, OperatingPoints

Array = NDArray[np.float64]

EDGE = 4.0  #: where there is no curve: operating points beyond its range stand at its end, as triangles
AREAS = (4.0, 150.0)  #: of the markers of the least and the largest |W_out|
CURVE, FAINT = "0.25", "0.6"  #: the curve of a placement, and that of the other one
PEAK = 0.25  #: the halves are drawn where the bias reaches this part of them, so that it can be seen beside them
TOP: dict[str, Any] = {"xycoords": "axes fraction", "va": "top", "fontsize": "small", "color": "0.25"}
LEGEND: dict[str, Any] = {"loc": "upper left", "fontsize": "small", "frameon": False, "ncols": 3, "columnspacing": 1.2}
HEAD = 0.2  #: room for the legend above the data, of their range
PHENOMENON = (
    "Inside the nonlinearity one half of the noise passes and the other is clipped: less noise, and a bias. "
    "Outside, neither."
)
BIAS, VARIANCE = r"bias $\beta\,/\,s$", r"transmitted variance $V\,/\,s^2$"


def plot_attenuation(
    bias: NetworkBias, ax: Axes | None = None, norm: Normalize | None = None, edge: float = 0.0
) -> Axes:
    """Local bias beta / s against the operating point a / s: the curve, its two halves, and the network's neurons at
    every condition, sized by |W_out|, coloured by what they put on the output. With noise out s is sigma."""
    ax, points = new_axes(ax), bias.points
    if points.outside:
        _bias_outside(points, ax)
        ax.annotate("circles off 0:\nrecurrent noise", (0.98, 0.75), ha="right", **TOP)
    else:
        _bias_inside(points, ax)
    _neurons(bias, points.beta / _unit(points), ax, norm, edge or _edge(points))
    return _label(ax, points.outside, BIAS, edge or _edge(points))


def plot_transmission(
    bias: NetworkBias, ax: Axes | None = None, norm: Normalize | None = None, edge: float = 0.0
) -> Axes:
    """Transmitted variance V / s^2 against the operating point a / s: the curve, the network's neurons, and their mean
    noise gain, weighted by |W_out|."""
    ax, points = new_axes(ax), bias.points
    if points.outside:
        _variance_outside(points, ax)
        V = np.where(np.isnan(points.a), np.nan, 1.0)
    else:
        _variance_inside(points, ax)
        V = points.V / _unit(points) ** 2
    _neurons(bias, V, ax, norm, edge or _edge(points))
    _mean(points, ax)
    return _label(ax, points.outside, VARIANCE, edge or _edge(points))


def attenuation_figure(bias: NetworkBias, other: NetworkBias | None = None) -> Figure:
    """Bias above transmitted variance, noise in beside noise out.

    `other` is a network with the other placement; without it that column shows where the neurons of `bias` would be.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    norm = _norm([part for part in (bias, other) if part is not None])
    own = int(bias.points.outside)
    edge = max(_edge(part.points) for part in (bias, other) if part is not None)
    for column, part in ((own, bias), (1 - own, other)):
        top, bottom = axes[:, column]
        if part is not None:
            plot_attenuation(part, top, norm, edge)
            plot_transmission(part, bottom, norm, edge)
            top.set_title(_title(part), fontsize="medium")
        else:
            _counterfactual(bias.points, top, bottom, edge)
    for ax in axes[0]:
        ax.set_xlabel("")
    for ax in axes[:, 1]:
        ax.set_ylabel("")
    figure.suptitle(PHENOMENON, fontsize="medium", fontweight="bold")
    _key(figure, axes, norm)
    return figure


def _unit(points: OperatingPoints) -> Array:
    """The noise in whose units a neuron is drawn, (n_cond, N); NaN where there is none, and for the coordinates of a
    point that the network moves."""
    s = np.broadcast_to(points.sigma, points.a.shape) if points.outside else points.s
    neuron = np.arange(points.net.N) < points.net.N - points.net.moved
    return np.where((s > 0) & neuron, s, np.nan)


def _edge(points: OperatingPoints) -> float:
    curve = points.curve
    return EDGE if curve is None else float(curve.a[-1] / curve.s[-1])


def _bias_inside(points: OperatingPoints, ax: Axes) -> None:
    curve = points.curve
    if curve is not None:
        r, up, down, beta = (x / curve.s for x in (curve.a, curve.up, -curve.down, curve.beta))
        halves = np.abs(beta).max() > PEAK * np.abs(up).max()
        if halves:
            ax.plot(r, up, color=SECOND, lw=1.2, ls="--", label="upward half")
            ax.plot(r, down, color=SECOND, lw=1.2, ls=":", label="downward half")
            ax.fill_between(r, down, up, color=SECOND, alpha=0.12, lw=0)
        ax.plot(r, beta, color=CURVE, lw=1.8, label="difference: the bias" if halves else "bias")
        ax.legend(**LEGEND)


def _bias_outside(points: OperatingPoints, ax: Axes) -> None:
    curve = points.curve
    if curve is not None:
        ax.plot(curve.a / curve.s, curve.beta / curve.s, color=FAINT, lw=1, ls="--", label="were it inside")
    ax.axhline(0.0, color=CURVE, lw=1.8, label="noise outside: no bias")
    ax.legend(**LEGEND)


def _variance_inside(points: OperatingPoints, ax: Axes) -> None:
    curve = points.curve
    if curve is not None:
        ax.plot(curve.a / curve.s, curve.gain, color=CURVE, lw=1.8, label="noise that passes the nonlinearity")
        ax.legend(**LEGEND)


def _variance_outside(points: OperatingPoints, ax: Axes) -> None:
    curve = points.curve
    ax.axhline(1.0, color=CURVE, lw=1.8, label="noise outside: all of it passes")
    if curve is not None:
        ax.plot(curve.a / curve.s, curve.gain, color=FAINT, lw=1, ls="--", label="were it inside")
    ax.legend(**LEGEND)


def _mean(points: OperatingPoints, ax: Axes) -> None:
    """The noise gain of the network: what tells the placements apart."""
    if not np.isfinite(points.mean_gain):
        return
    ax.axhline(points.mean_gain, color=THIRD, lw=1.5)
    words = f"mean noise gain{', were it inside' * points.outside}: {points.mean_gain:.2f}"
    at = (0.985, points.mean_gain)
    ax.annotate(
        words, at, (0, 3), ("axes fraction", "data"), "offset points", ha="right", color=THIRD, fontsize="small"
    ).set_bbox({"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1})


def _counterfactual(points: OperatingPoints, top: Axes, bottom: Axes, edge: float) -> None:
    """The other placement: its curves, and the neurons where they would be on them."""
    x = np.clip(points.a / _unit(points), -edge, edge)
    if points.outside:
        _bias_inside(points, top)
        _variance_inside(points, bottom)
        where, beta, V = "inside", points.inside.beta / _unit(points), points.gain
    else:
        _bias_outside(points, top)
        _variance_outside(points, bottom)
        where, beta, V = "outside", 0 * x, 0 * x + 1
    for ax, y, name in ((top, beta, BIAS), (bottom, V, VARIANCE)):
        ax.scatter(x, y, _areas(points), facecolors="none", edgecolors=FAINT, linewidths=0.5, zorder=3)
        _label(ax, not points.outside, name, edge)
    top.set_title(f"the same operating points,\nwere the noise {where}", fontsize="medium")


def _neurons(bias: NetworkBias, y: Array, ax: Axes, norm: Normalize | None, edge: float) -> None:
    points = bias.points
    x, push = points.a / _unit(points), bias.along
    area = _areas(points)
    norm = norm or _norm([bias])
    for marker, here in (("<", x < -edge), (">", x > edge), ("o", np.abs(x) <= edge)):
        at = np.flatnonzero(here)
        at = at[np.argsort(np.abs(push.flat[at]))]  # what matters most on top
        ax.scatter(
            np.clip(x.flat[at], -edge, edge),
            y.flat[at],
            area.flat[at],
            c=push.flat[at],
            norm=norm,
            cmap=_colours(),
            marker=marker,
            edgecolors="0.35",
            linewidths=0.3,
            alpha=0.8,
            zorder=3,
        )


def _areas(points: OperatingPoints) -> Array:
    part = points.weights / max(float(points.weights.max()), 1e-300)
    return np.broadcast_to(AREAS[0] + (AREAS[1] - AREAS[0]) * part, points.a.shape)


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("push", [NOISY, "0.93", SILENT])


def _norm(parts: list[NetworkBias]) -> Normalize:
    """One scale for all, symmetric; a few of the largest contributions may exceed it."""
    from matplotlib.colors import Normalize

    sizes = [np.abs(part.along[np.isfinite(part.along)]) for part in parts]
    top = max((float(np.quantile(size, 0.98)) for size in sizes if size.size), default=0.0) or 1.0
    return Normalize(-top, top)


def _title(bias: NetworkBias) -> str:
    points, carriers = bias.points, len(bias.carriers())
    where = "on the current" if points.net.form == "current" else points.net.placement
    own = max(100 * float(bias.direct.sum()), 0.0)
    if not bias.shares.any():
        return f"noise {where}: it does not move the output"
    return (
        f"noise {where}: without it the output is biased by {bias.rms:.2g} (rms),\n"
        f"90 % of it by {carriers} of {len(bias.shares)} neurons; {own:.0f} % by their own noise"
    )


def _label(ax: Axes, outside: bool, quantity: str, edge: float) -> Axes:
    s = r"\sigma" if outside else "s"
    ax.set_xlim(-1.08 * edge, 1.08 * edge)
    ax.set_xlabel(rf"operating point $a\,/\,{s}$, in deviations of the noise")
    ax.set_ylabel(quantity)
    ax.axvline(0.0, color="0.85", lw=0.8, zorder=0)
    low, high = ax.dataLim.intervaly
    bottom, top = ax.get_ylim()
    ax.set_ylim(min(bottom, low - 0.05 * (high - low)), max(top, high + HEAD * (high - low)))
    return ax


def _key(figure: Figure, axes: Any, norm: Normalize) -> None:
    from matplotlib.cm import ScalarMappable

    bar = figure.colorbar(ScalarMappable(norm, _colours()), ax=axes, shrink=0.6, aspect=30, pad=0.02, extend="both")
    bar.set_label("contribution of the neuron to the output's shift\n(units of the output; blue: against the shift)")
    figure.supxlabel(
        "circle: a neuron at one input, its area |W_out|; triangle: one further out",
        fontsize="small",
        color="0.35",
    )
