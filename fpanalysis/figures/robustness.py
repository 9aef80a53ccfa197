"""Robustness to perturbed inputs: accuracy or loss against the level, and the accuracy that margins leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.robustness import Margins, Perturbed, Robustness

COLOURS = (NOISY, SILENT, SECOND, THIRD, "#E69F00", "#56B4E9")
TITLES = {
    "white": "white noise: u + s ξ",
    "multiplicative": "multiplicative noise: u (1 + s ξ)",
    "salt-and-pepper": "salt-and-pepper: a share s of the inputs",
}


def plot_perturbed(
    found: Perturbed, ax: Axes | None = None, label: str | None = None, color: str = NOISY, share: bool = True
) -> Axes:
    """Accuracy, or with `share` False the loss, against the level, with its 95 % band; hollow where it diverged."""
    ax = new_axes(ax)
    share = share and found.accuracy is not None
    values, ends = (found.accuracy, found.accuracy_interval) if share else (found.loss, found.loss_interval)
    values, ends = np.asarray(values), np.asarray(ends)
    bounded = np.where(np.isfinite(ends), ends, np.nan)
    ax.fill_between(found.levels, bounded[:, 0], bounded[:, 1], color=color, alpha=0.2, lw=0)
    ax.plot(found.levels, values, "o-", color=color, lw=1.5, ms=4, label=label)
    ax.set_xlabel("level s")
    return ax


def plot_margins(found: Margins, ax: Axes | None = None, label: str | None = None, color: str = NOISY) -> Axes:
    """The share of trials that are right whatever the perturbation of that norm: at most (found, a line), and at least
    (proven, dashed)."""
    ax = new_axes(ax)
    top = float(np.max(found.found[np.isfinite(found.found)], initial=0.0)) or 1.0
    size = np.linspace(0, 1.02 * top, 400)
    low, high = found.accuracy(size)
    ax.plot(size, high, color=color, lw=1.8, label=label)
    if np.isfinite(found.proven).any():
        ax.plot(size, low, "--", color=color, lw=1.4)
    ax.set_xlabel("l2 norm of the perturbation, over all steps")
    return ax


def plot_jacobian_norms(found: Margins, ax: Axes | None = None, label: str | None = None, color: str = NOISY) -> Axes:
    """Share of trials whose input Jacobian has at most that spectral norm."""
    ax = new_axes(ax)
    known = np.sort(found.spectral[np.isfinite(found.spectral)])
    ax.step([0, *known], np.arange(len(known) + 1) / max(len(known), 1), where="post", color=color, lw=1.8, label=label)
    ax.set_xlabel("spectral norm of the input Jacobian")
    ax.set_ylabel("share of trials")
    return ax


def robustness_figure(models: Mapping[str, Robustness]) -> Any:
    """A panel for each kind of perturbation, and one of margins (of classifiers) or input Jacobians, for networks by
    name, which share colours and legend."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    kinds = list(dict.fromkeys(kind for found in models.values() for kind in found.perturbed))
    columns = 2 if len(kinds) > 1 else len(kinds) + 1
    rows = -(-(len(kinds) + 1) // columns)
    figure = Figure(figsize=(4.9 * columns, 3.5 * rows + 0.35), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes[len(kinds) + 1 :]:
        ax.set_axis_off()
    share = all(one.accuracy is not None for found in models.values() for one in found.perturbed.values())
    classes = all(found.margins.label is not None for found in models.values())
    for ax, kind in zip(axes, kinds, strict=False):
        _kind(models, kind, ax, share, classes)
    _last(models, axes[len(kinds)], classes)
    lines = [Line2D([], [], color=colour, marker="o", ms=4) for _, colour in zip(models, COLOURS, strict=False)]
    figure.legend(lines, list(models), loc="outside lower center", ncol=3, frameon=False)
    return figure


def _kind(models: Mapping[str, Robustness], kind: str, ax: Axes, share: bool, classes: bool) -> None:
    for (name, found), colour in zip(models.items(), COLOURS, strict=False):
        if kind in found.perturbed:
            plot_perturbed(found.perturbed[kind], ax, name, colour, share)
    ax.set_title(TITLES[kind], fontsize="medium", loc="left")
    ax.set_ylabel((("accuracy" if classes else "success") if share else "loss") + ", 95 % band")
    if share:
        ax.set_ylim(-0.02, 1.02)
    elif _decades(models, kind):
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.margins(x=0.03)
    ax.locator_params(axis="x", nbins=6)


def _decades(models: Mapping[str, Robustness], kind: str) -> bool:
    """Whether the losses are positive and range over more than a decade."""
    found: Sequence[Perturbed] = [one.perturbed[kind] for one in models.values() if kind in one.perturbed]
    known = np.concatenate([one.loss[np.isfinite(one.loss)] for one in found])
    return bool(len(known) and known.min() > 0 and known.max() > 10 * known.min())


def _last(models: Mapping[str, Robustness], ax: Axes, classes: bool) -> None:
    for (name, found), colour in zip(models.items(), COLOURS, strict=False):
        if classes:
            plot_margins(found.margins, ax, name, colour)
        else:
            plot_jacobian_norms(found.margins, ax, name, colour)
    if classes:
        ax.set_title("worst perturbation of that norm", fontsize="medium", loc="left")
        ax.plot([], [], color="0.4", lw=1.8, label="at most (found)")
        ax.plot([], [], "--", color="0.4", lw=1.4, label="at least (proven)")
        ax.legend(*(part[-2:] for part in ax.get_legend_handles_labels()), frameon=False, fontsize="small")
        ax.set_ylabel("accuracy")
        ax.set_ylim(-0.02, 1.02)
    else:
        ax.set_title("how inputs change the outputs", fontsize="medium", loc="left")
        ax.set_ylim(-0.02, 1.02)
    ax.set_xlim(left=0)
