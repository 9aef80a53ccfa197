"""fpanalysis fixed-points: the deterministic fixed points of a network and their stability."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._options import WIDE, Numbers
from fpanalysis.cli._report import check_outputs, number, table, write_json

if TYPE_CHECKING:
    from fpanalysis.fixed_points import FixedPoints


@click.command(short_help="The fixed points without noise, and their stability.", context_settings=WIDE)
@click.argument("model")
@click.option("--input", "inputs", type=Numbers(), multiple=True, help="Constant input to analyse at; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the search.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
def command(model: str, inputs: tuple[tuple[float, ...], ...], seed: int, json_path: str | None) -> None:
    """Find the fixed points of MODEL without noise, at its conditions or at --input.

    \b
    Example:
      $ fpanalysis fixed-points model.pt --input 0.5
      input  point  max |h|    output  stable   tau  residual  completeness  index
        0.5      0     1.85  -0.07611     yes  7.64     3e-16  unknown           1
    """
    check_outputs(json_path)
    from fpanalysis.checkpoint import load
    from fpanalysis.fixed_points import find_fixed_points
    from fpanalysis.shift import conditions

    net = load(model)
    chosen, _ = conditions(net, [list(u) for u in inputs] if inputs else None)
    found = [find_fixed_points(net, u, rng=seed) for u in chosen]
    if json_path is not None:
        write_json(json_path, _document(net.hash, found))
    if json_path != "-":
        click.echo(repr(net))
        _print(found)
    bad = [points for points in found if not points.status.ok]
    for points in bad[:1]:
        click.echo(f"\nstatus at {len(bad)} condition(s): {points.status}", err=True)
    if bad:
        raise click.exceptions.Exit(3)


def _print(found: list[FixedPoints]) -> None:
    rows = []
    for points in found:
        for i in range(len(points)):
            first = i == 0
            rows.append(
                [
                    _input(points.u) if first else "",
                    str(i),
                    number(float(abs(points.h[i]).max())),
                    " ".join(number(float(z), 4) for z in points.net.output(points.h[i])[:3]),
                    _stability(points, i),
                    number(float(points.relaxation_time[i])),
                    f"{points.residual[i]:.0e}",
                    points.completeness if first else "",
                    str(points.index_sum) if first else "",
                ]
            )
        if not len(points):
            rows.append([_input(points.u), "none", *["-"] * 5, points.completeness, "0"])
    columns = ["input", "point", "max |h|", "output", "stable", "tau", "residual", "completeness", "index"]
    table(columns, rows)
    click.echo("stable: of the step map; no, a/b: unstable dimensions of the map / of the flow; no, kink: one")
    click.echo("side of a kink repels. tau: steps.")
    click.echo("completeness: consistent = the index sum is 1 and the search ran dry (which is no proof);")
    click.echo("incomplete = the index sum shows that points are missing; unknown = it cannot tell here.")


def _stability(points: FixedPoints, i: int) -> str:
    if points.stable[i]:
        return "yes"
    unstable = points.n_unstable[i], points.n_unstable_flow[i]
    return f"no, {unstable[0]}/{unstable[1]}" if any(unstable) else "no, kink"


def _input(u: Any) -> str:
    return ",".join(f"{value:.4g}" for value in u) if len(u) else "(none)"


def _document(model: str, found: list[FixedPoints]) -> dict[str, Any]:
    import numpy as np

    def finite(values: Any) -> list[Any]:
        return [float(v) if np.isfinite(v) else None for v in values]

    return {
        "schema": "fpanalysis.fixed-points/1",
        "model": model,
        "conditions": [
            {
                "input": points.u.tolist(),
                "status": points.status.value,
                "completeness": points.completeness,
                "index_sum": points.index_sum,
                "h": points.h.tolist(),
                "output": points.net.output(points.h).tolist(),
                "residual": points.residual.tolist(),
                "stable": points.stable.tolist(),
                "n_unstable": points.n_unstable.tolist(),
                "n_unstable_flow": points.n_unstable_flow.tolist(),
                "relaxation_time": finite(points.relaxation_time),
                "eigenvalues": [[[z.real, z.imag] for z in row] for row in points.eigenvalues.tolist()],
            }
            for points in found
        ],
    }
