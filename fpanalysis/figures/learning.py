"""Learning curves: the training loss of a study's networks against the step."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import BESIDE, PANELS, new_axes, once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

    from fpanalysis.models import Study, StudyGroup

DASHES = ("-", "--", ":", "-.")  #: of activations and placements that share axes


def plot_learning_curves(study: Study, ax: Axes | None = None, groups: Sequence[StudyGroup] | None = None) -> Axes:
    """Median training loss of each group of `study` (all, or those given) against the step, with the range over its
    seeds; a cross where a network diverged, a dotted line at the loss of a constant output.

    Colours tell the noise levels of the study, dark without noise; dashes activation and placement.
    """
    ax = new_axes(ax, width=6.4)
    panels = _panels(study.groups if groups is None else groups)
    for k, members in enumerate(panels):
        for group in members:
            label = f"{group.first.sigma:g}" + (f" ({_title(group, study)})" if len(panels) > 1 else "")
            _curve(group, study, ax, label, DASHES[k % len(DASHES)])
    if study.constant_loss > 0:
        ax.axhline(study.constant_loss, color="0.4", lw=1, ls=":", zorder=0, label="constant output")
    if not np.isfinite(study.loss).any():
        ax.text(0.5, 0.5, "no learning curves known", transform=ax.transAxes, ha="center", color="0.4")
    ax.set_yscale("log")
    ax.set_xlim(0, study.settings["steps"])
    ax.set_xlabel("training step")
    ax.set_ylabel("training loss")
    ax.legend(title="training noise σ", title_fontsize="small", **BESIDE)
    return ax


def _curve(group: StudyGroup, study: Study, ax: Axes, label: str, dashes: str) -> None:
    low, median, high = group.curve
    levels = sorted({network.sigma for network in study.networks})
    colour = _colour(levels.index(group.first.sigma) / max(1, len(levels) - 1))
    ax.plot(study.step, median, color=colour, lw=1.4, ls=dashes, label=label)
    if len(group.networks) > 1:
        ax.fill_between(study.step, low, high, color=colour, alpha=0.18, lw=0)
    steps = [network.step for network in group.networks if network.step is not None]
    if steps:  # at the height of the other seeds, or else of the constant output
        heights = np.interp(steps, study.step, median)
        heights = np.where(np.isfinite(heights), heights, study.constant_loss or 1.0)
        ax.plot(steps, heights, "x", color=colour, ms=8, mew=2, clip_on=False, zorder=5, label=once(ax, "diverged"))


def _colour(place: float) -> Any:
    """From dark (0, the least noise) to light (1)."""
    import matplotlib

    return matplotlib.colormaps["viridis"](0.9 * place)


def _panels(groups: Sequence[StudyGroup]) -> list[list[StudyGroup]]:
    """The groups by everything but the noise level."""
    panels: dict[tuple[Any, ...], list[StudyGroup]] = {}
    for group in groups:
        panels.setdefault((*group.first.shape, group.first.placement, group.first.multiplicative), []).append(group)
    return list(panels.values())


def _title(group: StudyGroup, study: Study) -> str:
    first = group.first
    lipschitz = study.settings.get("form") == "lipschitz"
    parts = [first.activation_name, "Lipschitz RNN" if lipschitz else f"noise {first.placement}"]
    parts += [f"N = {first.size}"] if len({network.size for network in study.networks}) > 1 else []
    parts += [f"γ = {first.gamma:g}"] if len({network.gamma for network in study.networks}) > 1 else []
    several = len({network.multiplicative for network in study.networks}) > 1
    parts += [f"multiplicative {first.multiplicative:g}"] if several else []
    return ", ".join(parts)


def learning_curves_figure(study: Study) -> Any:
    """A panel per activation, placement, multiplicative noise, size and gamma, with the same scales."""
    from matplotlib.figure import Figure

    found = _panels(study.groups)
    panels = found[:PANELS]
    columns = min(len(panels), 4 if len(panels) > 6 else 2 if len(panels) > 1 else 1)
    rows = ceil(len(panels) / columns)
    figure = Figure(figsize=(2 + 3.1 * columns, 0.5 + 2.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    for ax, groups in zip(axes.flat, panels, strict=False):
        plot_learning_curves(study, ax, groups)
        ax.set_title(_title(groups[0], study), fontsize="medium")
        ax.get_legend().remove()
        ax.label_outer()
    for ax in axes.flat[len(panels) :]:
        ax.set_visible(False)
    if len(found) > PANELS:
        figure.suptitle(f"the first {PANELS} of {len(found)} panels")
    _legend(figure, axes, study)
    return figure


def _legend(figure: Any, axes: Any, study: Study) -> None:
    """One for all panels, beside them."""
    entries: dict[str, Any] = {}
    for ax in axes.flat:
        handles, labels = ax.get_legend_handles_labels()
        entries = dict(zip(labels, handles, strict=True)) | entries
    seeds = max(len(group.networks) for group in study.groups)
    title = "training noise σ" if seeds == 1 else f"training noise σ\n(median of {seeds} seeds,\nshaded: their range)"
    figure.legend(
        entries.values(), entries.keys(), title=title, loc="outside right upper", frameon=False, fontsize="small",
        title_fontsize="small",
    )  # fmt: skip
