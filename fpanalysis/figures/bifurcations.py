"""Branches of fixed points against a parameter."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes, once
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from fpanalysis.fixed_points.continuation.branches import Branch, Branches

STABILITY_STYLES: dict[str, dict[str, Any]] = {
    "stable": {"color": NOISY, "lw": 1.6},
    "unstable": {"color": SILENT, "lw": 1.0, "ls": "--"},
}
SPECIAL_POINTS: dict[str, dict[str, Any]] = {
    "fold": {"marker": "o", "color": "black"},
    "pitchfork": {"marker": "^", "color": SECOND},
    "transcritical": {"marker": "X", "color": SECOND},
    "branch point": {"marker": "*", "color": SECOND},
    "flip": {"marker": "s", "color": THIRD},
    "Neimark-Sacker": {"marker": "D", "color": "#E69F00"},
    "border collision": {"marker": "P", "color": "black"},
}
PARAMETER_NAMES = {"gamma": "γ", "scale": "weight scale p  (W → p W)", "input": "input p"}


def plot_bifurcations(
    branches: Branches, ax: Axes | None = None, coordinate: str | Callable[[np.ndarray], np.ndarray] = "z[0]"
) -> Axes:
    """Branches of fixed points against the parameter: stable solid, unstable dashed, special points marked.

    `coordinate` is what is drawn of a state: "z[k]", output unit k; "h[i]", neuron i; or a function of the states
    (n, N) that gives n numbers. A label that is already in the legend of `ax` is not repeated.
    """
    ax = new_axes(ax)
    value = _coordinate(branches, coordinate)
    for branch in branches:
        y = value(branch.h)
        for stable, part in _stretches(branch):
            label = "stable" if stable else "unstable"
            ax.plot(branch.p[part], y[part], **STABILITY_STYLES[label], label=once(ax, label))
    for point in branches.points:
        style = SPECIAL_POINTS[point.kind] | {"ls": "none", "ms": 5, "mec": "white", "mew": 0.5, "zorder": 3}
        ax.plot([point.p], value(point.h[None]), label=once(ax, point.kind), **style)
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
