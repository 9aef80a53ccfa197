"""fpanalysis stationary: the stationary law of a network at one noise level, with its error and how it was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._inputs import HELP, Input, called, chosen
from fpanalysis.cli._options import WIDE, Numbers
from fpanalysis.cli._report import (
    FIGURE_TYPES,
    check_outputs,
    check_panels,
    check_suffix,
    number,
    save_figure,
    table,
    write_json,
)
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.checkpoint import Trained
    from fpanalysis.stationary import Basin, Density, Stationary

MOST = 8  #: neurons and basins listed
SHOWN = 3  #: outputs shown of each state
#: what sampling says of itself: key in `details`, words, and the worst of several
SAMPLING: tuple[tuple[str, str, Callable[..., float]], ...] = (
    ("variance_reduction", "variance reduction {}", min),
    ("effective_sample_size", "effective sample size {}", min),
    ("rhat", "R-hat {}", max),
    ("hops", "{} hops between basins", max),
)


@click.command(short_help="The stationary law at one noise level, with its error.", context_settings=WIDE)
@click.argument("model")
@click.option("--input", "inputs", type=Input(), multiple=True, help=HELP)
@click.option("--noise", type=click.FloatRange(min=0), help="Noise sigma, per step.  [default: training noise]")
@click.option("--method", default="auto", show_default=True, help="Stationary method; an unknown one lists them all.")
@click.option("--start", type=Numbers(), help="A state (N numbers): the law about where it comes to rest.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the Monte Carlo noise.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw the densities there are (.png, .pdf, .svg).")
def command(
    model: str,
    inputs: tuple[Any, ...],
    noise: float | None,
    method: str,
    start: tuple[float, ...] | None,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Say where noise puts the state and the output of MODEL, at its conditions or at --input.

    \b
    Example:
      $ fpanalysis stationary model.pt --input 0.4 --method closure
      input  output  ± (95 %)  fixed point  shift  tau  status
        0.4   0.961     2e-05      -0.0223  0.983    -  ok
      output: its mean; shift: from the output at the stable fixed point, without noise ...
      closure (local).
      Most shifted neurons:
      neuron  fixed point  mean  ± (95 %)  shift  deviation
          21            0  3.86     6e-05   3.86      0.323
          60         1.26  4.88     7e-05   3.63      0.302
      ...
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=[model])
    from fpanalysis.checkpoint import load
    from fpanalysis.shift import inputs_of

    net = load(model)
    at, _ = inputs_of(net, chosen(net, inputs))
    if figure_path is not None:
        check_panels(len(at))
    laws = _solve(net, at, noise, method, start, seed)
    if json_path is not None:
        write_json(json_path, _document(net, at, laws, noise))
    if json_path != "-":
        click.echo(f"{net!r}\nat noise sigma = {number(_level(net, noise), 6)}")
        _print(net, at, laws)
    if figure_path is not None:
        _draw(figure_path, net, at, laws)
        if json_path != "-":
            click.echo(f"\nFigure: {figure_path}")
    bad = list(dict.fromkeys(law.status for law in laws if not law.status.ok))
    for status in bad:
        count = sum(law.status is status for law in laws)
        click.echo(f"\nstatus at {count} input(s): {status}", err=True)
    if bad:
        raise click.exceptions.Exit(3)


def _level(net: Trained, noise: float | None) -> float:
    import numpy as np

    return float(np.max(net.sigma)) if noise is None else noise


def _solve(
    net: Trained, inputs: Any, noise: float | None, method: str, start: tuple[float, ...] | None, seed: int
) -> list[Stationary]:
    """The laws at all inputs together, which share work; with a start each by itself. A profile of sigma is kept."""
    import numpy as np

    from fpanalysis.stationary import locate, solve, stationary

    sigma = net.check_noise(net.sigma if noise is None else noise * net.noise_profile)
    if start is not None:
        return [stationary(net, u, sigma, method, start, seed) for u in inputs]
    return solve([locate(net, u, sigma, np.zeros(net.N)) for u in inputs], method, seed)


def _print(net: Trained, inputs: Any, laws: list[Stationary]) -> None:
    several = len(laws) > 1
    columns = ["input", "method", "unit", "output", "± (95 %)", "fixed point", "shift", "tau", "status"]
    rows = [row for u, law in zip(inputs, laws, strict=True) for row in _rows(net, u, law)]
    dropped = {"method"} if len({law.method for law in laws}) == 1 else set()
    dropped |= {"unit"} if net.n_out == 1 else set()
    keep = [k for k, name in enumerate(columns) if name not in dropped]
    table([columns[k] for k in keep], [[row[k] for k in keep] for row in rows])
    click.echo("output: its mean; shift: from the output at the stable fixed point, without noise;")
    click.echo("tau: relaxation time of the law, in steps; local: about one fixed point; global: of")
    click.echo("all basins.")
    for sentence in findings(laws):
        click.echo(f"\n{click.wrap_text(sentence, width=80)}")
    rows = [row for u, law in zip(inputs, laws, strict=True) for row in _basin_rows(net, u, law)]
    if rows:
        click.echo("\nBasins (output and distance: of the mean in the basin, from its fixed point):")
        _table(["input", "fixed point", "weight", "± (95 %)", "output", "distance"], rows, several)
    rows = _neuron_rows(net, inputs, laws)
    if rows:
        click.echo("\nMost shifted neurons:")
        _table(["input", "neuron", "fixed point", "mean", "± (95 %)", "shift", "deviation"], rows, several)


def _table(columns: list[str], rows: list[list[str]], several: bool) -> None:
    """The table, without its first column where there is one input only."""
    first = 0 if several else 1
    table(columns[first:], [row[first:] for row in rows])


def _rows(net: Trained, u: Any, law: Stationary) -> list[list[str]]:
    """A row per output, the first few."""
    rest = _fixed_point(net, u, law)
    z = None if rest is None else net.output(rest)
    if not (abs(law.output) < float("inf")).any():
        return [[called(net, u), law.method, *6 * ["-"], law.status.value]]
    rows = []
    for k in range(min(net.n_out, SHOWN)):
        mean, error = float(law.output[k]), float(law.output_error[k])
        shift = ["-", "-"] if z is None else [number(float(z[k])), number(mean - float(z[k]))]
        rows.append(["", "", f"z[{k}]", number(mean), number(error, 1), *shift, "", ""])
    rows[0][:2], rows[0][-2:] = [called(net, u), law.method], [number(law.relaxation_time), law.status.value]
    if net.n_out > SHOWN:
        rows.append(["", "", "...", *6 * [""]])
    return rows


def _fixed_point(net: Trained, u: Any, law: Stationary) -> Any:
    """The stable fixed point from which the shift is measured; None where the noise-free dynamics leads to none."""
    from fpanalysis.fixed_points.result import is_stable

    gap = abs(net.target(law.start, u) - law.start).max()
    return law.start if gap <= 1e-8 * (1 + abs(law.start).max()) and is_stable(net, law.start, u) else None


def _cell(values: Any, digits: int = 3) -> str:
    """The first few outputs."""
    return " ".join(number(float(value), digits) for value in values[:SHOWN]) + " ..." * (len(values) > SHOWN)


def findings(laws: list[Stationary]) -> Iterator[str]:
    """What the methods give, why they were chosen or failed, and what sampling says of itself."""
    answers = [(law.method, law.scope, law.reason) for law in laws]
    for method, scope, reason in dict.fromkeys(answers):
        at = f" at {answers.count((method, scope, reason))} of {len(laws)} inputs" if len(laws) > 1 else ""
        yield f"{method}{at} ({scope}){': ' if reason else ''}{reason}."
    worst = [(text, _worst(laws, key, pick)) for key, text, pick in SAMPLING]
    said = [text.format(number(value)) for text, value in worst if value is not None]
    if said:
        yield f"Sampling{', at worst' if len(laws) > 1 else ''}: {', '.join(said)}."


def _worst(laws: list[Stationary], key: str, pick: Callable[..., float]) -> float | None:
    import numpy as np

    values = [np.asarray(law.details[key], float) for law in laws if law.details.get(key) is not None]
    found = [float(pick(value.ravel())) for value in values if value.size]
    return pick(found) if found else None


def _basin_rows(net: Trained, u: Any, law: Stationary) -> list[list[str]]:
    basins: Sequence[Basin] = sorted(law.basins or (), key=lambda basin: -basin.weight)
    rows = []
    for basin in basins[:MOST]:
        distance = float(((basin.mean - basin.fixed_point) ** 2).mean() ** 0.5)
        rows.append(
            [
                called(net, u),
                _cell(net.output(basin.fixed_point)),
                number(basin.weight),
                number(basin.weight_error, 1),
                # in the current form the mean of f(h) is not f of the mean
                _cell(net.output(basin.mean)) if net.form != "current" else "-",
                number(distance),
            ]
        )
    if len(basins) > MOST:
        rows.append([called(net, u), f"{len(basins) - MOST} more", *["..."] * 4])
    return rows


def _neuron_rows(net: Trained, inputs: Any, laws: list[Stationary]) -> list[list[str]]:
    """The neurons whose mean is furthest from the fixed point, over all inputs that have one."""
    import numpy as np

    rests = [_fixed_point(net, u, law) for u, law in zip(inputs, laws, strict=True)]
    shift = np.abs([law.mean - (np.nan if rest is None else rest) for law, rest in zip(laws, rests, strict=True)])
    order = np.argsort(np.where(np.isfinite(shift), -shift, np.inf), axis=None, kind="stable")[:MOST]
    rows = []
    for c, i in zip(*np.unravel_index(order, shift.shape), strict=True):
        law = laws[c]
        if shift[c, i] > 0:
            deviation = float(np.sqrt(max(law.cov[i, i], 0.0)))
            values = (law.start[i], law.mean[i], None, law.mean[i] - law.start[i], deviation)
            cells = [number(law.error[i], 1) if value is None else number(float(value)) for value in values]
            rows.append([called(net, inputs[c]), str(i), *cells])
    return rows


def _draw(path: str, net: Trained, inputs: Any, laws: list[Stationary]) -> None:
    from fpanalysis.figures import densities_figure, density_figure
    from fpanalysis.fixed_points import find_fixed_points

    if all(law.density is None and not law.marginals for law in laws):
        methods = ", ".join(dict.fromkeys(law.method for law in laws))
        found = "; ".join(dict.fromkeys(law.status.value for law in laws))
        raise InputError(
            f"--figure: {methods} gave no density ({found}); chain and fokker-planck give that of one to three "
            "neurons, reduced and monte-carlo those of coordinates and outputs: choose with --method"
        )
    points = [find_fixed_points(net, u, prove=False) for u in inputs]
    if len(laws) == 1:
        figure = density_figure(laws, points[0])
    else:
        figure = densities_figure(laws, points, [f"input {called(net, u)}" for u in inputs])
    save_figure(path, figure)


def _document(net: Trained, inputs: Any, laws: list[Stationary], noise: float | None) -> dict[str, Any]:
    """NaN and infinities become null when it is written."""
    return {
        "schema": "fpanalysis.stationary/1",
        "model": net.hash,
        "noise": _level(net, noise),
        "conditions": [_condition(net, u, law) for u, law in zip(inputs, laws, strict=True)],
    }


def _condition(net: Trained, u: Any, law: Stationary) -> dict[str, Any]:
    rest = _fixed_point(net, u, law)
    z = None if rest is None else net.output(rest)
    fields = ("mean", "cov", "error", "output", "output_error", "gap", "relaxation_time", "method", "scope", "reason")
    return {
        "input": u.tolist(),
        "status": law.status.value,
        **{name: _plain(getattr(law, name)) for name in fields},
        "fixed_point": _plain(rest),
        "fixed_point_output": _plain(z),
        "shift": None if rest is None else (law.mean - rest).tolist(),
        "output_shift": None if z is None else (law.output - z).tolist(),
        "basins": None if law.basins is None else [_basin(basin) for basin in law.basins],
        "density": None if law.density is None else _grid(law.density),
        "marginals": {name: _grid(density) for name, density in law.marginals.items()},
        "details": _plain(law.details),
    }


def _basin(basin: Basin) -> dict[str, Any]:
    fields = ("weight", "weight_error", "mean", "error", "cov", "fixed_point")
    return {name: _plain(getattr(basin, name)) for name in fields}


def _grid(density: Density) -> dict[str, Any]:
    fields = ("names", "grids", "values", "weights", "error")
    atoms = [{"at": _plain(at), "probability": float(probability)} for at, probability in density.atoms]
    return {**{name: _plain(getattr(density, name)) for name in fields}, "atoms": atoms}


def _plain(value: Any) -> Any:
    """`value` in the types that JSON knows, anything else as what it is called."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "items"):
        return {str(key): _plain(item) for key, item in value.items()}
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
