"""How far noise moves the output and the state: plots of a `Shift`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.figures._axes import NOISY, SECOND, SILENT, TARGET, THIRD, new_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fpanalysis.shift import Shift

METHOD_STYLES: tuple[dict[str, Any], ...] = (
    {"color": NOISY, "linestyle": "-"},
    {"color": "black", "linestyle": "none", "marker": "o", "markersize": 4, "markerfacecolor": "none"},
    {"color": SECOND, "linestyle": "--"},
    {"color": THIRD, "linestyle": ":"},
)


def plot_outputs(shift: Shift, ax: Axes | None = None, output: int = 0) -> Axes:
    """The output against the input (the condition's number, with several inputs): target, fixed points without
    noise, and stationary mean at the level nearest the training noise. With a single condition: the output
    against the noise."""
    ax = new_axes(ax)
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
    ax = new_axes(ax)
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


def _rms(values: np.ndarray) -> np.ndarray:
    """Over everything but the first axis, NaN left out; NaN where nothing is left."""
    flat = values.reshape(len(values), -1)
    count = np.isfinite(flat).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.sqrt(np.nansum(flat**2, axis=1) / np.where(count, count, np.nan))
