"""Loss against test noise and its parts, and what passes through: plots of a `LossCurve` and a `Preference`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fpanalysis.moments import LossCurve
    from fpanalysis.preference import Preference

PARTS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("loss", "error", "loss", {"color": "black", "lw": 2}),
    ("bias2", "bias2_error", "bias²: the mean output misses the target", {"color": NOISY, "lw": 1.4}),
    ("variance", "variance_error", "variance of the output", {"color": SILENT, "lw": 1.4}),
)
OTHERWISE = {"bias2": "loss of the mean output", "variance": "Jensen's gap: what its spread adds"}  #: of another loss
DECADES = 3.0  #: shown below the largest loss
FLAT = 3.0  #: largest loss over the least up to which an axis from zero shows more than a logarithmic one


def plot_loss_curve(curve: LossCurve, sampled: LossCurve | None = None, ax: Axes | None = None) -> Axes:
    """Loss, bias^2 and variance of `curve` against the noise, the points of `sampled` with error bars on top; the
    training noise as a dotted line, the preferred noise as a triangle."""
    ax = new_axes(ax, width=6.4)
    for name, _, text, style in PARTS:
        values = getattr(curve.fine, name)
        label = text if curve.of == "squared error" else OTHERWISE.get(name, text)
        if np.isfinite(values).any():
            ax.plot(curve.fine.sigma, np.where(values > 0, values, np.nan), label=label, **style)
    if sampled is not None:
        _points(sampled, ax)
    _mark_levels(curve, ax)
    top = float(np.nanmax(curve.loss, initial=1e-300))
    if float(np.nanmin(curve.loss, initial=np.inf)) * FLAT > top:
        ax.set_ylim(0, 1.15 * top)
    else:
        ax.set_yscale("log")
        ax.set_ylim(max(ax.get_ylim()[0], top * 10**-DECADES), 2 * top)
    ax.margins(x=0.02)
    ax.set_xlabel("test noise σ (per step)")
    ax.set_ylabel("expected loss" if curve.of == "squared error" else f"expected {curve.of}")
    ax.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    return ax


def _points(sampled: LossCurve, ax: Axes) -> None:
    for name, error, _, style in PARTS:
        values, bars = getattr(sampled, name), getattr(sampled, error)
        if not np.isfinite(values).any():
            continue
        ends = np.array([np.minimum(bars, 0.9 * np.abs(values)), bars])
        text = "Monte Carlo (95 %)" if name == "loss" else None
        shown = np.where(values > 0, values, np.nan)
        ax.errorbar(sampled.sigma, shown, ends, fmt="o", ms=3.5, mfc="white", color=style["color"], lw=1, label=text)


def _mark_levels(curve: LossCurve, ax: Axes) -> None:
    if curve.training_sigma > 0:
        ax.axvline(curve.training_sigma, color="0.6", lw=1, ls=":", zorder=0)
        where: dict[str, Any] = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
        left = curve.training_sigma >= curve.fine.sigma[-1]  # at the edge there is no room to the right
        ax.annotate(
            "training noise", (curve.training_sigma, 0.97), xytext=(-4 if left else 4, 0), va="top", rotation=90,
            ha="right" if left else "left", color="0.4", fontsize="x-small", **where,
        )  # fmt: skip
    if np.isfinite(curve.preferred):
        loss = float(np.interp(curve.preferred, curve.fine.sigma, curve.fine.loss))
        label = f"preferred noise {curve.preferred:.3g}"
        ax.plot(curve.preferred, loss, "v", color=SECOND, ms=9, mec="white", clip_on=False, zorder=5, label=label)


def plot_signal_gain(found: Preference, ax: Axes | None = None) -> Axes:
    """By how much of it the mean output follows the wanted one, against the noise; as a dashed line what the network
    with smoothed activations and no noise does."""
    ax = new_axes(ax, width=6.4)
    passed, e = found.transmission, found.evidence
    if passed is None:
        return ax
    ax.errorbar(
        passed.sigma, passed.gain, passed.gain_error, fmt="o-", ms=3.5, mfc="white", lw=1.4, color=NOISY,
        label="with noise (95 %)",
    )  # fmt: skip
    if np.isfinite(e.gain_denoised):
        ax.axhline(e.gain_denoised, color=THIRD, ls="--", lw=1.4, label="smoothed, without noise")
    if found.curve.training_sigma > 0:
        ax.axvline(found.curve.training_sigma, color="0.6", lw=1, ls=":", zorder=0)
    top = float(np.nanmax([*(passed.gain + passed.gain_error), e.gain_denoised]))
    ax.set_ylim(1.1 * min(0.0, float(np.nanmin(passed.gain))), 1.1 * top if top > 0 else None)
    ax.margins(x=0.02)
    ax.set_xlabel("test noise σ (per step)")
    classes = "gain of the mean output's\nprobabilities on the classes"
    ax.set_ylabel(classes if e.loss == "cross-entropy" else "gain of the mean output\non the wanted output")
    ax.legend(frameon=False, fontsize="small")
    return ax


def loss_figure(curve: LossCurve, sampled: LossCurve | None = None, found: Preference | None = None) -> Any:
    """A figure of its own; with the loss of the smoothed network and the transmission, where they are `found`."""
    from matplotlib.figure import Figure

    passes = found is not None and found.transmission is not None and np.isfinite(found.transmission.gain).any()
    figure = Figure(figsize=(6.4, 7.0 if passes else 4.8), layout="constrained")
    axes = figure.subplots(2 if passes else 1, squeeze=False, sharex=True, height_ratios=[3, 2][: 2 if passes else 1])
    top = axes[0, 0]
    plot_loss_curve(curve, sampled, top)
    if found is None:
        return figure
    smooth = found.evidence.loss_denoised
    if np.isfinite(smooth) and smooth > 0:
        top.axhline(smooth, color=THIRD, ls="--", lw=1.4, label="loss smoothed, without noise")
        top.set_ylim(bottom=min(top.get_ylim()[0], smooth / 1.5))
        top.legend(frameon=False, fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.16), ncol=2)
    top.set_title(f"verdict: {found.verdict.value}", fontsize="medium", loc="left")
    if passes:
        plot_signal_gain(found, axes[1, 0])
        top.tick_params(labelbottom=True)
    return figure
