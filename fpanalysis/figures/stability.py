"""Lyapunov spectra with and without noise, and the top exponent against the noise, held or along trials: plots of
`Lyapunov` and `TrialExponents` results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes, once

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.stability import Lyapunov, TrialExponents

COLOURS = (NOISY, SILENT, SECOND, THIRD, "#E69F00", "#56B4E9")


def plot_spectrum(found: Lyapunov, ax: Axes | None = None, label: str | None = None, **style: Any) -> Axes:
    """The exponents of one run, largest first, with error bars; those that are -inf are left out."""
    ax = new_axes(ax)
    shown = np.isfinite(found.exponents)
    index = np.arange(1, len(found.exponents) + 1)[shown]
    drawn: dict[str, Any] = {"fmt": "o", "ms": 4, "lw": 1, "color": NOISY} | style
    ax.errorbar(index, found.exponents[shown], found.error[shown], label=label, **drawn)
    return ax


def plot_top_exponent(
    levels: Sequence[Lyapunov], ax: Axes | None = None, label: str | None = None, color: str = NOISY
) -> Axes:
    """The top exponent against the noise level, with its 95 % band; hollow where a run is not ok."""
    ax = new_axes(ax)
    sigma = np.array([level.noise for level in levels])
    top, error = np.array([[level.top, level.top_error] for level in levels]).T
    top = np.where(np.isfinite(top), top, np.nan)
    ax.fill_between(sigma, top - error, top + error, color=color, alpha=0.25, lw=0)
    ax.plot(sigma, top, "-", color=color, lw=1.5, label=label)
    for level, x, y in zip(levels, sigma, top, strict=True):
        ax.plot(x, y, "o", ms=4.5, color=color, mfc=color if level.ok else "white")
    return ax


def plot_trial_exponents(
    levels: Sequence[TrialExponents], ax: Axes | None = None, label: str | None = None, color: str = SECOND
) -> Axes:
    """The mean exponent along trials against the noise level, squares with a 95 % band."""
    ax = new_axes(ax)
    sigma = np.array([level.noise for level in levels])
    top, error = np.array([[level.top, level.error] for level in levels]).T
    top = np.where(np.isfinite(top), top, np.nan)
    ax.fill_between(sigma, top - error, top + error, color=color, alpha=0.25, lw=0)
    ax.plot(sigma, top, "s:", color=color, ms=4.5, lw=1.5, label=label)
    return ax


def _distribution(found: TrialExponents, ax: Axes | None = None, label: str | None = None, **style: Any) -> Axes:
    """The share of trials with at most that exponent."""
    ax = new_axes(ax)
    known = np.sort(found.exponents[np.isfinite(found.exponents)])
    share = 1 - np.arange(len(known))[::-1] / len(found.exponents)
    drawn: dict[str, Any] = {"color": SECOND, "lw": 1.6} | style
    ax.step(known, share, where="post", label=label, **drawn)
    return ax


def stability_figure(
    runs: Mapping[str, Sequence[Lyapunov]],
    bounds: Mapping[str, float] | None = None,
    trials: Mapping[str, Sequence[TrialExponents]] | None = None,
) -> Any:
    """Spectra (left) and top exponents against the noise (right) of networks by name, each with its noise levels in
    ascending order; `bounds` are proven upper bounds on the top exponent, drawn where they are negative. `trials` are
    exponents along trials, of networks that have them: their means are drawn beside the top exponents, and each
    trial's in place of spectra if there are none. Networks whose exponents are all -inf have nothing to draw, and the
    legend says so."""
    from matplotlib.figure import Figure

    several, trials = len(runs) > 1, trials or {}
    figure = Figure(figsize=(9.6, 4.0 + 0.25 * several), layout="constrained")
    left, right = figure.subplots(1, 2)
    for (name, levels), colour in zip(runs.items(), COLOURS, strict=False):
        _spectra(levels, left, colour if several else None)
        label = name if several else "top exponent, 95 % band"
        if name in trials:
            drawn = colour if several else SECOND
            plot_trial_exponents(trials[name], right, None if several else "along the trials of its task", drawn)
        if all(np.isnan(level.top) for level in levels):
            label = name if several else "diverges at zero input"
        elif all(np.isneginf(level.top) for level in levels):
            label = f"{name}: −∞, forgets in a few steps"
        plot_top_exponent(levels, right, label, colour)
        bound = (bounds or {}).get(name, np.inf)
        if bound < 0 and any(np.isfinite(level.top) for level in levels):
            drawn = "0.4" if several else colour  # in the legend, where it stands for all
            right.plot([], [], color=drawn, lw=1, ls="--", label=once(right, "proven: no exponent is above"))
            right.axhline(bound, color=colour, lw=1, ls="--")
    if several and trials:
        right.plot([], [], "s:", color="0.4", ms=4.5, label="along the trials of its task")
    if any(not level.ok and level.top == level.top for levels in runs.values() for level in levels):
        right.plot([], [], "o", ms=4.5, color="0.4", mfc="white", label="its run has a warning")
    if several:
        figure.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncol=3, frameon=False)
    else:
        right.legend(frameon=False, fontsize="small", loc="best")
    _dress(left, right)
    if trials and not left.containers:
        _each_trial(trials, left, several)
    return figure


def _each_trial(trials: Mapping[str, Sequence[TrialExponents]], ax: Axes, several: bool) -> None:
    """At the least noise thin, at the most thick; the place of spectra that do not exist."""
    ax.clear()
    for (_, levels), colour in zip(trials.items(), COLOURS, strict=False):
        ends = (levels[0], levels[-1])[: len(levels)]
        for end, lw in zip(ends, (1.0, 2.2), strict=False):
            text = f"noise σ = {end.noise:.3g}" if end.noise else "no noise"
            if several:
                text = "thick: with the most noise" if end is not levels[0] else "thin: without, or the least"
            _distribution(end, ax, once(ax, text), color=colour if several else SECOND, lw=lw)
    ax.axvline(0, color="0.5", lw=0.8, zorder=0)
    ax.set_xlabel("exponent along a trial (per step)")
    ax.set_ylabel("share of trials at or below")
    ax.set_title("Trials: below 0 every difference shrinks", fontsize="medium")
    ax.legend(frameon=False, fontsize="small", loc="best")


def _spectra(levels: Sequence[Lyapunov], ax: Axes, colour: str | None) -> None:
    """At the least noise with a spectrum as circles, and at the most as full points; in one `colour` of several
    networks, which share the legend."""
    whole = max(len(level.exponents) for level in levels)
    full = [level for level in levels if len(level.exponents) == whole]
    for level in (full[0], full[-1])[: len(full)]:
        if not np.isfinite(level.exponents).any():
            continue
        sigma = level.noise
        last = level is full[-1] and len(full) > 1
        text = f"noise σ = {sigma:.3g}" if sigma else "no noise"
        if colour is not None:
            text = "with noise" if last else "without, or the least"
        drawn = colour or (NOISY if last else SILENT)
        plot_spectrum(level, ax, once(ax, text), color=drawn, mfc=drawn if last else "white")


def _dress(left: Axes, right: Axes) -> None:
    for ax in (left, right):
        ax.axhline(0, color="0.5", lw=0.8, zorder=0)
        ax.margins(x=0.04)
    if left.containers:
        left.legend(frameon=False, fontsize="small", loc="best")
    else:
        left.text(0.5, 0.5, "no finite exponents", transform=left.transAxes, ha="center", color="0.4")
    left.set_xlabel("exponent number, largest first")
    left.set_ylabel("Lyapunov exponent (per step)")
    left.locator_params(axis="x", integer=True)
    left.set_title("Spectrum", fontsize="medium")
    right.set_xlabel("noise σ (per step)")
    right.set_ylabel("top exponent (per step)")
    right.set_title("below 0: trajectories under the same noise meet", fontsize="medium")
