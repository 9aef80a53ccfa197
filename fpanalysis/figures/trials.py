"""Trials of a network that sees directions on rings and answers on one, such as those of the cognitive suite."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import SILENT, new_axes
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: strips from top to bottom: name, colours, height, and the gap below
STRIPS = (
    ("fixation", "Greys", 1.2, 0.4),
    ("ring 1", "Greys", 4.0, 0.4),
    ("ring 2", "Greys", 4.0, 1.5),
    ("", "Greens", 1.2, 0.2),
    ("wanted", "Greens", 4.0, 1.0),
    ("", "Blues", 1.2, 0.2),
    ("output", "Blues", 4.0, 0.0),
)
KEY = (
    "Dark: active. Each band is a ring of units, each for a direction: 0° at its bottom, 360° at its top; "
    "the thin row above it is the fixation unit."
)
COLUMNS = 4
TICKS = 0.5  #: s between the marks of the time axis


def plot_trial(
    inputs: np.ndarray,
    targets: np.ndarray,
    outputs: np.ndarray,
    go: int,
    dt: float = 0.02,
    title: str = "",
    ax: Axes | None = None,
) -> Axes:
    """One trial as strips against time, dark where a unit is active: what the network sees (grey), what is wanted
    (green) and what it does (blue). Thin rows are fixation units, bands are rings with direction 0 at the bottom.

    Parameters
    ----------
    inputs : (T, 1 + 2 n + ...)
        Fixation, two rings of n units; further inputs are not drawn.
    targets, outputs : (T, 1 + n)
        Fixation and a ring.
    go : int
        Step at which the response begins, a dashed line.
    dt : float
        Seconds per step.
    """
    ax = new_axes(ax)
    n = targets.shape[-1] - 1
    if outputs.shape != targets.shape or inputs.shape[0] != len(targets) or inputs.shape[1] < 1 + 2 * n:
        raise InputError(
            "a trial has inputs (T, 1 + 2 n + ...), targets and outputs (T, 1 + n); found shapes "
            f"{inputs.shape}, {targets.shape} and {outputs.shape}"
        )
    base = float(targets.min())
    rows = [(inputs[:, :1], 0.0), (inputs[:, 1 : 1 + n], 0.0), (inputs[:, 1 + n : 1 + 2 * n], 0.0)]
    rows += [(part, base) for z in (targets, outputs) for part in (z[:, :1], z[:, 1:])]
    top, names = 0.0, {}
    for (values, white), (name, colours, height, gap) in zip(rows, STRIPS, strict=True):
        _strip(ax, values, top - height, top, dt, cmap=colours, vmin=white, vmax=1)
        names[top - height / 2] = name
        top -= height + gap
    ax.axvline(go * dt, color=SILENT, lw=1, ls="--", label="the response begins")
    ax.set(xlim=(0, len(targets) * dt), ylim=(top - 0.3, 0.1))
    ax.set_title(title, fontsize="medium", loc="left")
    ax.set_yticks(list(names), list(names.values()), fontsize="small")
    ax.tick_params("y", length=0)
    ax.spines[["left", "right", "top"]].set_visible(False)
    return ax


def _strip(ax: Axes, values: np.ndarray, low: float, high: float, dt: float, **colours: Any) -> None:
    """Values (T, units) as an image between two heights, framed."""
    end = len(values) * dt
    ax.imshow(values.T, extent=(0, end, low, high), origin="lower", aspect="auto", interpolation="nearest", **colours)
    ax.plot([0, end, end, 0, 0], [low, low, high, high, low], color="0.75", lw=0.5)


def trials_figure(
    titles: Sequence[str],
    inputs: Sequence[np.ndarray],
    targets: Sequence[np.ndarray],
    outputs: Sequence[np.ndarray],
    go: Sequence[int],
    dt: float = 0.02,
) -> Figure:
    """A panel for each trial, on one scale of time; arguments as for `plot_trial`, one of each per panel."""
    from matplotlib.figure import Figure

    count = len(titles)
    if not count or any(len(part) != count for part in (inputs, targets, outputs, go)):
        lengths = ", ".join(str(len(part)) for part in (titles, inputs, targets, outputs, go))
        raise InputError(f"titles, inputs, targets, outputs and go must be as many, at least one; found {lengths}")
    columns = min(count, COLUMNS)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.5 * rows + 0.7), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True).ravel()
    for k in range(count):
        plot_trial(inputs[k], targets[k], outputs[k], go[k], dt, titles[k], axes[k])
    longest = max(map(len, targets)) * dt
    for k, ax in enumerate(axes):
        ax.set(xlim=(0, longest), xticks=np.arange(0, longest, TICKS), visible=k < count)
        ax.set_xlabel("time (s)" if k + columns >= count else "")
    figure.legend(handles=axes[0].get_lines()[-1:], loc="outside upper right", frameon=False)
    figure.suptitle(KEY, x=0.01, ha="left", fontsize="medium", wrap=True)
    return figure
