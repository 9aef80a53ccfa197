"""Loss against test noise of many networks: a panel per training noise, a colour per kind of network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes, once

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.models.sweep import Group, Sweep

COLOURS = (NOISY, SILENT, SECOND, THIRD, "#E69F00", "#56B4E9")
PARTS = {"loss": "loss", "bias2": "bias²", "variance": "variance"}
DASHES = ("-", "--", ":")
ENTRY, LETTER, LINE = 0.5, 0.065, 0.2  #: inches: width of an entry of the legend and of a letter in it, height
DECADES = 3.5  #: shown below the largest value of a panel's medians


def plot_sweep(
    groups: Sequence[Group], part: str = "loss", ax: Axes | None = None, styles: dict[str, Any] | None = None
) -> Axes:
    """ "loss", "bias2" or "variance" of `groups` against the noise: a thin line per network, their median thick, a
    triangle where that is least (of bias^2, if the errors of at least half of the networks tell), the training noise
    dotted. `styles` as `styles_of` gives them."""
    ax, styles = new_axes(ax), styles or styles_of(groups)
    for k, group in enumerate(groups):
        name = _name(group)
        style = styles[name]
        for network in group.networks:
            values = getattr(network.curve.fine, part)
            ax.plot(network.curve.fine.sigma, _shown(values), lw=0.7, alpha=0.5, **style)
        sigma, median = group.fine(part)
        ax.plot(sigma, _shown(median), lw=2.2, label=once(ax, f"{name}: median"), **style)
        if np.isfinite(median).all() and _told(group, part):
            size, foot = max(12 - 3 * k, 5), ax.get_xaxis_transform()
            at: dict[str, Any] = {"mec": "white", "zorder": 5, "clip_on": False, "transform": foot}
            ax.plot(sigma[median.argmin()], 0.0, "^", color=style["color"], ms=size, **at)
    for sigma in sorted({group.sigma for group in groups} - {0.0}):
        ax.axvline(sigma, color="0.6", lw=1, ls=":", zorder=0)
    ax.set_yscale("log")
    ax.set_xlim(0, max(float(group.levels[-1]) for group in groups))
    return ax


def _told(group: Group, part: str) -> bool:
    """Whether there is a minimum worth a mark."""
    return part == "loss" or (part == "bias2" and 2 * group.spread("preferred_bias2").known >= len(group.networks))


def styles_of(groups: Sequence[Group]) -> dict[str, dict[str, Any]]:
    """A colour, and where those are used up a dash, for each kind of network: the same in all panels."""
    return {
        name: {"color": COLOURS[k % len(COLOURS)], "ls": DASHES[k // len(COLOURS) % len(DASHES)]}
        for k, name in enumerate(dict.fromkeys(map(_name, groups)))
    }


def _name(group: Group) -> str:
    where = "Lipschitz RNN" if group.placement == "lipschitz" else f"noise {group.placement}"
    return f"{group.activation}, {where}{group.apart}"


def sweep_figure(sweep: Sweep) -> Any:
    """A row of panels for the loss, bias^2 and variance of each task, a column for each training noise."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tasks = sweep.tasks
    columns = max(len({group.sigma for group in groups}) for groups in tasks)
    size = (1.6 + 2.7 * columns, 0.6 + 2.2 * len(PARTS) * len(tasks))
    figure = Figure(figsize=(max(size[0], 6.0), size[1]), layout="constrained")
    panels = figure.subplots(len(PARTS) * len(tasks), columns, squeeze=False)
    styles = styles_of(sweep.groups)
    for k, groups in enumerate(tasks):
        rows = panels[len(PARTS) * k : len(PARTS) * (k + 1)]
        _task(groups, rows, styles, sweep.titles[k] if len(tasks) > 1 else "")
    labels: dict[str, Any] = {}
    for ax in panels.flat:
        labels |= {label: line for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    labels |= {
        "one network": Line2D([], [], color="0.5", lw=0.7),
        "where the median is least": Line2D([], [], color="0.3", marker="^", ls=""),
        "training noise": Line2D([], [], color="0.6", lw=1, ls=":"),
    }
    columns = min(3, int(figure.get_figwidth() / (ENTRY + LETTER * max(map(len, labels))))) or 1
    lines = -(-len(labels) // columns)
    figure.set_figheight(size[1] + LINE * max(lines - 2, 0))
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=columns, frameon=False, fontsize="small")
    return figure


def _task(groups: Sequence[Group], rows: Any, styles: dict[str, Any], name: str) -> None:
    levels = sorted({group.sigma for group in groups})
    for row, (part, label) in zip(rows, PARTS.items(), strict=True):
        for ax in row[len(levels) :]:
            ax.set_axis_off()
        for ax, sigma in zip(row, levels, strict=False):
            own = [group for group in groups if group.sigma == sigma]
            plot_sweep(own, part, ax, styles)
            top = max(float(np.nanmax(group.median(part), initial=1e-300)) for group in own)
            low, high = ax.get_ylim()
            ax.set_ylim(max(low, top * 10**-DECADES), min(high, 3 * top))
        row[0].set_ylabel(f"{name}\n{label}".strip())
    for ax, sigma in zip(rows[0], levels, strict=False):
        ax.set_title(f"trained at σ = {sigma:g}" if sigma else "trained without noise", fontsize="medium")
    for ax in rows[-1][: len(levels)]:
        ax.set_xlabel("test noise σ (per step)")


def _shown(values: Any) -> Any:
    """What a logarithmic axis can show."""
    return np.where(np.asarray(values) > 0, values, np.nan)
