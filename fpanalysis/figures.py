"""Pictures of results: each plot draws what a result holds, on the axes given or new ones, and computes nothing."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fpanalysis.fixed_points.branches import Branch, Branches
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


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(4.8, 3.6), layout="constrained")[1]


def _rms(values: np.ndarray) -> np.ndarray:
    """Over everything but the first axis, NaN left out; NaN where nothing is left."""
    flat = values.reshape(len(values), -1)
    count = np.isfinite(flat).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.nansum(flat**2, axis=1) / np.where(count, count, np.nan))
