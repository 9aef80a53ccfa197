"""fpanalysis regulator: one noisy neuron, by closed form, finite-gamma formula and three numerical methods."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._options import WIDE, NoiseRange
from fpanalysis.cli._report import (
    FIGURE_TYPES,
    check_outputs,
    check_suffix,
    number,
    save_figure,
    table,
    write_json,
)

if TYPE_CHECKING:
    from fpanalysis.regulator import Comparison, PhaseDiagram, Regulator

LEVELS = tuple(0.05 * k for k in range(11))  #: noise without --noise
DIFFUSION = "diffusion approximation"  #: the status of a Fokker-Planck law that is far from the exact one
NUMERICAL = ("w", "b", "target", "gamma", "noise", "seed")  #: mean nothing to --symbolic, --latex and --phases
ROWS, COLUMNS = slice(None, None, 4), (4, 12, 19)  #: of a phase diagram, printed


@click.command(short_help="One noisy neuron: closed form against the exact law.", context_settings=WIDE)
@click.option("--w", type=float, help="Recurrent weight.")
@click.option("--b", type=float, help="Bias.")
@click.option("--target", type=float, metavar="H", help="In place of --b: the mean wanted at the largest noise.")
@click.option("--gamma", type=float, default=0.1, show_default=True, help="dt / tau, in (0, 1].")
@click.option("--noise", type=NoiseRange(), help="Noise levels: start:stop, start:stop:count or a,b,c.  [0:0.5]")
@click.option("--activation", default="relu", show_default=True, help="Activation; an unknown one lists them all.")
@click.option("--placement", type=click.Choice(["in", "out"]), default="in", show_default=True, help="Noise placement.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the Monte Carlo noise.")
@click.option("--symbolic", is_flag=True, help="Print the derivation instead, step by step.")
@click.option("--latex", is_flag=True, help="Print the derivation as LaTeX instead.")
@click.option("--phases", is_flag=True, help="Tell instead where trained ReLU neurons prefer noise, in beside out.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option(
    "--figure",
    "figure_path",
    metavar="FILE",
    help="Draw the methods against the noise, or the phases (.png, .pdf, .svg).",
)
@click.pass_context
def command(
    ctx: click.Context,
    w: float | None,
    b: float | None,
    target: float | None,
    gamma: float,
    noise: tuple[float, ...] | None,
    activation: str,
    placement: str,
    seed: int,
    symbolic: bool,
    latex: bool,
    phases: bool,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """How noise moves one neuron, h' = (1 - gamma) h + gamma f(w h + b + sigma xi), by five methods.

    With --target the bias is the one that holds the mean there at the largest noise, and what removing that noise
    does to the loss is told. Errors cover 95 %.

    \b
    Example:
      $ fpanalysis regulator --w -1.5 --b 1 --noise 0,0.25,0.5
      One relu neuron, noise in: w = -1.5, b = 1, gamma = 0.1
      Without noise it rests at h0 = 0.4.
      Shift of the mean, E h - h0:
      noise  slow limit   formula  ± (95 %)  Fokker-Planck  exact chain  Monte Carlo   ± MC
          0           0         0         0              0            0            0      0
       0.25    0.002404  0.002693     4e-07       0.002653     0.002692     0.002692  1e-06
        0.5     0.02778   0.02915     2e-06        0.02897      0.02915      0.02914  1e-05
      Standard deviation of h:
      ...
      At noise 0.25 to 0.5, above the kink: The operating point lies above the kink:
      noise is passed on but for its rare large downward part, and the mean lies above
      the noise-free one by what that clipping adds.
    """
    if symbolic or latex or phases:
        _check_alone(ctx)
        if phases:
            _phases(json_path, figure_path)
        else:
            derivation = import_module("fpanalysis.regulator.derivation").derive(activation, placement)
            click.echo(derivation.latex() if latex else derivation.text())
        return
    if w is None or (b is None) == (target is None):
        missing = "--w" if w is None else "exactly one of --b and --target"
        raise click.UsageError(f"give {missing}, such as --w -1.5 --b 1; or --symbolic for the derivation")
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path)
    from fpanalysis.regulator import Regulator, compare

    levels = noise or LEVELS
    settings: dict[str, Any] = {"gamma": gamma, "activation": activation, "placement": placement}
    if target is None:
        regulator = Regulator(w=w, b=b or 0.0, **settings)
    else:
        regulator = Regulator.at_target(target, w=w, sigma=max(levels), **settings)
    result = compare(regulator, levels, seed)
    if json_path is not None:
        write_json(json_path, _document(result, target))
    if figure_path is not None:
        from fpanalysis.figures import regulator_figure

        save_figure(figure_path, regulator_figure(result))
    if json_path != "-":
        _print(result, target, figure_path)
    if _explain(result):
        raise click.exceptions.Exit(3)


def _check_alone(ctx: click.Context) -> None:
    """--symbolic, --latex and --phases take few other options, and not each other."""
    chosen, *more = (name for name in ("symbolic", "latex", "phases") if ctx.params[name])
    taken = ("json_path", "figure_path") if chosen == "phases" else ("activation", "placement")
    others = {*NUMERICAL, "activation", "placement", "json_path", "figure_path"} - set(taken)
    given = [name for name in ctx.params if name in others and _is_given(ctx, name)]
    if more or given:
        found, accepts = (
            f"{sep}".join(f"--{name.removesuffix('_path')}" for name in names)
            for sep, names in ((", ", [*given, *more]), (" and ", taken))
        )
        raise click.UsageError(f"--{chosen} takes only {accepts}; leave out {found}")


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _phases(json_path: str | None, figure_path: str | None) -> None:
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path)
    from fpanalysis.regulator import phase_diagram

    inside, outside = (phase_diagram(placement=placement) for placement in ("in", "out"))
    if json_path is not None:
        neuron = {"activation": "relu", "target": 0.2, "after": "training"}
        both = {"in": _diagram(inside), "out": _diagram(outside)}
        write_json(json_path, {"schema": "fpanalysis.regulator-phases/1", "neuron": neuron, **both})
    if figure_path is not None:
        from fpanalysis.figures import phase_figure

        save_figure(figure_path, phase_figure([inside, outside]))
    if json_path != "-":
        _print_phases(inside, outside)
        if figure_path is not None:
            click.echo(f"\nFigure: {figure_path}")


def _diagram(diagram: PhaseDiagram) -> dict[str, Any]:
    names = ("ratios", "gammas", "ratio", "preferred", "w", "boundary", "error")
    return {**{name: getattr(diagram, name).tolist() for name in names}, "status": diagram.status.value}


def _print_phases(inside: PhaseDiagram, outside: PhaseDiagram) -> None:
    click.echo(
        "One relu neuron, trained for 400 steps to hold 0.2, from w = 0, and tested\n"
        "without noise: R = loss without noise / loss at the training noise.\n"
        "Noise is preferred where R > 1. Noise in, at target / sigma:"
    )
    ratios = [f"R at {inside.ratios[k]:.2g}" for k in COLUMNS]
    rows = [
        [f"{gamma:.2g}", *(number(float(R[k]), 2) for k in COLUMNS), number(float(end), 2), number(float(out.max()), 2)]
        for gamma, R, end, out in list(zip(inside.gammas, inside.ratio, inside.boundary, outside.ratio, strict=True))[
            ROWS
        ]
    ]
    table(["gamma", *ratios, "R > 1 up to", "out: R at most"], rows)
    low, high = inside.ratios[[0, -1]]
    click.echo(f"Last column: noise out, the largest R at any target / sigma from {low:.2g} to {high:.2g}.")


def _print(result: Comparison, target: float | None, figure_path: str | None) -> None:
    one = result.regulators[-1]
    click.echo(
        f"One {one.activation.name} neuron, noise {one.placement}: w = {one.w:.6g}, b = {one.b:.6g}, "
        f"gamma = {one.gamma:.6g}"
    )
    if target is not None:
        click.echo(f"b holds the mean at {target:.6g} at noise {one.sigma:.4g}.")
    rest = number(result.h0, 6)
    click.echo(f"Without noise it rests at h0 = {rest}." if rest != "-" else "Without noise it does not come to rest.")
    columns = ["noise", "slow limit", "formula", "± (95 %)", "Fokker-Planck", "exact chain", "Monte Carlo", "± MC"]
    rests = result.h0 == result.h0
    click.echo("\nShift of the mean, E h - h0:" if rests else "\nMean, E h:")
    moved = result.shift if rests else result.mean
    errors = [result.error[result.methods.index(name)] for name in ("finite gamma", "monte-carlo")]
    _table(columns, result, [*moved[:2], errors[0], *moved[2:], errors[1]])
    click.echo("Standard deviation of h:")
    _table([name for name in columns if "±" not in name], result, list(result.deviation))
    for sentence in _findings(result, target):
        click.echo(f"{click.wrap_text(sentence, width=80)}\n")
    if figure_path is not None:
        click.echo(f"Figure: {figure_path}")


def _table(columns: list[str], result: Comparison, values: list[Any]) -> None:
    rows = []
    for k, sigma in enumerate(result.sigma):
        cells = [
            number(float(value[k]), 1 if "±" in name else 4) for name, value in zip(columns[1:], values, strict=True)
        ]
        rows.append([f"{sigma:.4g}", *cells])
    table(columns, rows)


def _findings(result: Comparison, target: float | None) -> Iterator[str]:
    """Which branch the neuron is on, at which noise, and what it means; whether it prefers its noise; then how fast it
    escapes."""
    noisy = [one for one in result.regulators if one.sigma > 0] or list(result.regulators)
    for kind in dict.fromkeys(one.branch for one in noisy):
        at = [one.sigma for one in noisy if one.branch is kind]
        span = f"{at[0]:.4g}" if len(at) == 1 else f"{at[0]:.4g} to {at[-1]:.4g}"
        yield f"At noise {span}, {kind.value}: {kind.meaning}"
    found = _preference(result, target)
    if found:
        better = "noise is preferred" if found["ratio"] > 1 else "it does better without"
        yield (
            f"Held at {target:.6g} with noise {result.sigma[-1]:.4g}, its expected loss is {found['loss']:.3g}; with "
            f"the noise removed it is {found['loss_removed']:.3g}: R = loss without / with noise = "
            f"{found['ratio']:.3g}, {better}."
        )
    for one in noisy:
        gone = one.escape() if one.sigma > 0 else None
        if gone is not None:
            yield _said(one, gone.rate, gone.steps, gone.mean, gone.threshold, gone.status.ok)


def _preference(result: Comparison, target: float | None) -> dict[str, float] | None:
    """Expected losses about the target with the largest noise and without, and their ratio R; None without a target,
    noise or rest."""
    one = result.regulators[-1]
    if target is None or one.sigma == 0 or not isfinite(one.h0):
        return None
    loss, removed = one.loss(target).total, (one.h0 - target) ** 2
    return {"loss": loss, "loss_removed": removed, "ratio": removed / loss}


def _said(one: Regulator, rate: float, steps: float, mean: float, threshold: float, ok: bool) -> str:
    if not ok:
        return f"At noise {one.sigma:.4g} the rate of escape was not resolved."
    how = f"escapes at a rate of {rate:.3g} per step, after {steps:.3g} steps in the mean"
    if steps == inf:
        how = "escapes at less than 1e-13 per step"
    return (
        f"At noise {one.sigma:.4g} it {how}, over the unstable fixed point h = {threshold:.4g}; until then its mean is "
        f"{mean:.4g}."
    )


def _explain(result: Comparison) -> bool:
    """Each status that occurred, with its advice and the methods' reasons, on stderr; whether a result is missing."""
    found: dict[str, list[str]] = {}
    for method, statuses, reasons in zip(result.methods, result.status, result.reason, strict=True):
        for status in dict.fromkeys(status for status in statuses if not status.ok):
            at = [k for k, each in enumerate(statuses) if each is status]
            levels = ", ".join(f"{result.sigma[k]:.4g}" for k in at)
            why = reasons[at[-1]]
            found.setdefault(str(status), []).append(f"  {method} at noise {levels}{': ' if why else ''}{why}")
    for status_text, lines in found.items():
        click.echo("\n".join([f"\n{status_text}", *lines]), err=True)
    # the diffusion approximation has numbers, with an error that covers
    return any(not status.ok and status.value != DIFFUSION for row in result.status for status in row)


def _document(result: Comparison, target: float | None) -> dict[str, Any]:
    one = result.regulators[-1]
    neuron = {"w": one.w, "b": one.b, "gamma": one.gamma, "placement": one.placement}
    return {
        "schema": "fpanalysis.regulator/1",
        "neuron": {**neuron, "activation": one.activation.config()},
        "target": target,
        "h0": result.h0,
        "preference": _preference(result, target),
        "levels": [_level(result, k) for k in range(len(result.regulators))],
    }


def _level(result: Comparison, k: int) -> dict[str, Any]:
    one = result.regulators[k]
    gone = one.escape()
    methods = {}
    for m, name in enumerate(result.methods):
        methods[name] = {
            "mean": float(result.mean[m, k]),
            "shift": float(result.shift[m, k]),
            "error": float(result.error[m, k]),
            "deviation": float(result.deviation[m, k]),
            "status": result.status[m][k].value,
            "reason": result.reason[m][k],
        }
    return {
        "noise": one.sigma,
        "branch": one.branch.value,
        "meaning": one.branch.meaning,
        "operating_point": one.a,
        "slope_in_gamma": one.slow_limit().slope,
        "deviation_error": _deviation_error(one),
        "methods": methods,
        "escape": None
        if gone is None
        else {"rate": gone.rate, "mean": gone.mean, "threshold": gone.threshold, "status": gone.status.value},
    }


def _deviation_error(one: Regulator) -> float:
    """Of the formula's standard deviation."""
    deviation = one.variance() ** 0.5
    return one.variance_error() / (2 * deviation) if deviation > 0 else one.variance_error()
