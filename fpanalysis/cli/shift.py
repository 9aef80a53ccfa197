"""fpanalysis shift: how far noise moves the fixed points, and what that does to the output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._inputs import HELP, Input, chosen
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
    from fpanalysis.network import Network
    from fpanalysis.shift import Level, Shift

MOST_REASONS = 3  #: printed for one status


@click.command(short_help="How far noise moves the fixed points and the output.", context_settings=WIDE)
@click.argument("model")
@click.option("--noise", type=NoiseRange(), help="Noise levels: start:stop, start:stop:count or a,b,c.")
@click.option("--input", "inputs", type=Input(), multiple=True, help=HELP)
@click.option("--method", "methods", multiple=True, help="Stationary method; repeatable. [auto, monte-carlo]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the Monte Carlo noise.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--csv", "csv_path", metavar="FILE", help="Write every number in a row of its own.")
@click.option("--netcdf", "netcdf_path", metavar="FILE", help="Write the labelled dataset (read by xarray).")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw the figure (.png, .pdf, .svg).")
def command(
    model: str,
    noise: tuple[float, ...] | None,
    inputs: tuple[Any, ...],
    methods: tuple[str, ...],
    seed: int,
    json_path: str | None,
    csv_path: str | None,
    netcdf_path: str | None,
    figure_path: str | None,
) -> None:
    """How far noise moves the fixed points of MODEL, and the bias its removal leaves on the output.

    Without --noise the levels run from 0 to the training noise; without --input the network is analysed at
    the conditions it remembers, or at zero input. The first method is summarised, the others check it.

    \b
    Example:
      $ fpanalysis shift model.pt --noise 0:0.5:3 --figure shift.png
      noise  mean shift  output shift  ± (95 %)  output - target  methods differ  status
          0           0             0         0              0.7               0  ok
       0.25       0.288         0.319     7e-05            0.492             3.1  ok
        0.5       0.648         0.704    0.0002           0.0361             3.3  ok
      At the training noise sigma = 0.5 the stationary mean lies 0.648 from the fixed points ...
      Remove that noise and the output is biased by 0.704 (rms): its distance to the target
      goes from 0.0361 to 0.7.
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_suffix("--netcdf", netcdf_path, (".nc",))
    check_suffix("--csv", csv_path, (".csv",))
    check_outputs(json_path, csv_path, netcdf_path, figure_path, models=[model])
    from fpanalysis.checkpoint import load_ctrnn
    from fpanalysis.shift import shift

    net = load_ctrnn(model, "the shift")
    result = shift(
        net,
        u=chosen(net, inputs),
        sigma=noise,
        methods=methods or ("auto", "monte-carlo"),
        rng=seed,
    )
    for path in (csv_path, netcdf_path):
        if path is not None:
            result.save(path)
    if json_path is not None:
        write_json(json_path, result.document())
    if figure_path is not None:
        from fpanalysis.figures import shift_figure

        save_figure(figure_path, shift_figure(result))
    if json_path != "-":
        _print(net, result, figure_path)
    if not result.ok:
        _explain(result)
        raise click.exceptions.Exit(3)


def _print(net: Network, result: Shift, figure_path: str | None) -> None:
    sizes = result.dataset.sizes
    click.echo(
        f"{net!r}\n{sizes['condition']} condition(s), up to {sizes['fixed_point']} stable fixed point(s) each; "
        f"{' against '.join(result.method_names)}"
    )
    rows = [_row(level) for level in result.levels]
    columns = ["noise", "mean shift", "output shift", "± (95 %)", "output - target", "methods differ", "status"]
    keep = [k for k in range(len(columns)) if k in (0, 6) or any(row[k] != "-" for row in rows)]
    table([columns[k] for k in keep], [[row[k] for k in keep] for row in rows])
    click.echo("Root mean squares over conditions, fixed points and neurons (mean shift) or outputs.")
    limits = [level.disagreement_limit for level in result.levels if level.disagreement_limit is not None]
    if limits:
        click.echo(f"methods differ: largest difference in standard errors; chance alone stays below {limits[-1]:.1f}.")
    for sentence in findings(result):
        click.echo(f"\n{click.wrap_text(sentence, width=80)}")
    if figure_path is not None:
        click.echo(f"\nFigure: {figure_path}")


def _row(level: Level) -> list[str]:
    status = ", ".join(status.value for status in level.statuses) or "ok"
    return [
        f"{level.sigma:.4g}",
        number(level.shift),
        number(level.output_shift),
        number(level.output_shift_error, 1),
        number(level.output_error),
        number(level.disagreement, 2),
        status,
    ]


def findings(result: Shift) -> list[str]:
    """Two sentences: how far noise moves the fixed points, and what its removal does to the output; a third one
    where they cannot be relied on."""
    trained = result.training_sigma
    noisy = [level for level in result.levels if level.sigma > 0]
    if not noisy:
        return ["No level above zero was asked for: without noise the state rests at the fixed points."]
    level = min(noisy, key=lambda level: (abs(level.sigma - trained), -level.sigma)) if trained else noisy[-1]
    at = f"noise sigma = {level.sigma:g}"
    if trained:
        near = abs(level.sigma - trained) < 1e-9
        at = f"the training {at}" if near else f"{at} (the level nearest to the training noise, {trained:g})"
    if level.shift is None or level.output_shift is None:
        return [f"At {at} no shift could be computed: see the status."]
    size = float((result.dataset.h_star**2).mean() ** 0.5)
    share = 100 * level.shift / size if size > 0 else 0.0
    own = f", {share:.0f} % of the fixed points' own size" if 0.5 <= share <= 1000 else ""
    first = f"At {at} the stationary mean lies {number(level.shift)} from the fixed points (rms per neuron{own})."
    second = f"Remove that noise and the output is biased by {number(level.output_shift)} (rms)"
    rest = next((other for other in result.levels if other.sigma == 0), None)
    if level.output_error is not None and rest is not None and rest.output_error is not None:
        second += f": its distance to the target goes from {number(level.output_error)} to {number(rest.output_error)}"
    sentences = [first, second + "."]
    if not level.ok:
        reasons = ", ".join(status.value for status in level.statuses)
        sentences.append(f"Do not rely on these two numbers: the status at this level is {reasons}.")
    return sentences


def _explain(result: Shift) -> None:
    """Each status that occurred, with its advice, on stderr."""
    for status in dict.fromkeys(status for level in result.levels for status in level.statuses):
        levels = [f"{level.sigma:.4g}" for level in result.levels if status in level.statuses]
        click.echo(f"\nstatus at noise {', '.join(levels)}: {status}", err=True)
        own = [line for line in result.reasons if line.startswith(f"{status.value}: ")]
        for line in own[:MOST_REASONS]:
            click.echo(f"  {line.removeprefix(f'{status.value}: ')}", err=True)
        if len(own) > MOST_REASONS:
            click.echo(f"  ... and {len(own) - MOST_REASONS} more reasons", err=True)
