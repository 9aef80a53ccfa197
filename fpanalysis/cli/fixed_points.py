"""fpanalysis fixed-points: the deterministic fixed points of a network, their stability, and whether these are all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import floor, isfinite
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._inputs import HELP, Input, called, chosen, one_by_one
from fpanalysis.cli._options import WIDE
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

if TYPE_CHECKING:
    from fpanalysis.fixed_points import FixedPoints

ROWS = 30  #: of the table, without --all
FEWEST = 3  #: rows of each input, however many inputs there are


@click.command(short_help="The fixed points without noise, and their stability.", context_settings=WIDE)
@click.argument("model")
@click.option("--input", "inputs", type=Input(), multiple=True, help=HELP)
@click.option(
    "--prove/--no-prove",
    default=None,
    help="Prove that these are all fixed points: --prove tries for up to minutes per input, --no-prove not at all."
    "  [default: for about a second]",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the search.")
@click.option("--all", "everything", is_flag=True, help=f"List every point, not only {ROWS} or so.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option(
    "--figure", "figure_path", metavar="FILE", help="Draw the points and trajectories (.png, .pdf, .svg), <= 12 inputs."
)
def command(
    model: str,
    inputs: tuple[Any, ...],
    prove: bool | None,
    seed: int,
    everything: bool,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Find the fixed points of MODEL without noise, at its conditions or at --input.

    A proof of completeness goes through all activation patterns of a ReLU network, or all boxes of one of rank
    <= 5 or of at most 10 neurons; other networks have none, and are refused with --prove.

    \b
    Example:
      $ fpanalysis fixed-points model.pt --figure points.png
       input  point  output   stable   tau  error  completeness
      (none)      0       0  no, 1/1   inf  3e-15  proven
                  1      -1      yes  9.49  3e-15
                  2       1      yes  9.49  3e-15
      3 fixed points: 2 stable, 1 not stable; 3 certified to exist.
      Completeness proven: every fixed point is listed, by an exhaustive search ...
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=[model])
    from fpanalysis.checkpoint import load
    from fpanalysis.fixed_points import find_fixed_points
    from fpanalysis.shift import inputs_of

    net = load(model)
    at, _ = inputs_of(net, chosen(net, inputs))
    if figure_path is not None:
        check_panels(len(at))
    found = [find_fixed_points(net, u, rng=seed, prove=prove) for u in one_by_one(at)]
    if json_path is not None:
        write_json(json_path, _document(net.hash, found))
    if figure_path is not None:
        from fpanalysis.figures import fixed_points_figure

        paths = [points.trajectories(rng=seed) for points in found]
        titles = [f"input {called(net, u)}" if len(u) else "" for u in at]
        save_figure(figure_path, fixed_points_figure(found, paths, titles))
    if json_path != "-":
        click.echo(repr(net))
        _print(found, everything)
        if figure_path is not None:
            click.echo(f"\nFigure: {figure_path}")
    bad = [points for points in found if not points.status.ok]
    for points in bad[:1]:
        click.echo(f"\nstatus at {len(bad)} condition(s): {points.status}", err=True)
    if bad:
        raise click.exceptions.Exit(3)


def _print(found: list[FixedPoints], everything: bool) -> None:
    most = max(FEWEST, ROWS // len(found))
    rows, hidden, lost = [], 0, 0
    for points in found:
        shown = _shown(points, len(points) if everything else most)
        hidden += len(points) - len(shown)
        lost += int(_verdicts(points)["stable"] - sum(_stability(points, i) == "yes" for i in shown))
        first = [called(points.net, points.u), points.completeness]
        for i in shown:
            rows.append([first[0], *_row(points, i), first[1]])
            first = ["", ""]
        if not len(points):
            rows.append([first[0], "none", *["-"] * 4, first[1]])
    table(["input", "point", "output", "stable", "tau", "error", "completeness"], rows)
    if hidden:
        click.echo(f"{hidden} more points, {lost or 'none'} of them stable, are not shown; --all lists them.")
    click.echo("stable: of the step map; no, a/b: unstable dimensions of the map / of the flow; no, kink:")
    click.echo("not on every side of a kink; singular: a continuum, a bifurcation, or very slow.")
    click.echo("tau: steps. error: within which the one true fixed point there is proven to lie.")
    for sentence in findings(found):
        click.echo(f"\n{click.wrap_text(sentence, width=80)}")


def _shown(points: FixedPoints, most: int) -> list[int]:
    """Numbers of the points to list, the stable ones first of all."""
    order = sorted(range(len(points)), key=lambda i: _stability(points, i) != "yes")
    return sorted(order[:most])


def _row(points: FixedPoints, i: int) -> list[str]:
    output = points.net.output(points.h[i])
    rounding = 1e-12 * (1 + float(abs(points.h[i]).max()))
    error = float(points.error[i])
    return [
        str(i),
        " ".join("0" if abs(z) <= rounding else number(float(z)) for z in output[:3]) + " ..." * (len(output) > 3),
        _stability(points, i),
        "-" if points.singular[i] else number(float(points.relaxation_time[i])),
        "-" if error != error else "0" if error < 1e-30 else f"{error:.0e}",
    ]


def _stability(points: FixedPoints, i: int) -> str:
    if points.kinked[i]:
        return "no, kink"
    if points.singular[i]:
        return "singular"
    return "yes" if points.stable[i] else f"no, {points.n_unstable[i]}/{points.n_unstable_flow[i]}"


def _verdicts(points: FixedPoints) -> Counter[str]:
    names = {"yes": "stable", "singular": "singular"}
    return Counter(names.get(_stability(points, i), "not stable") for i in range(len(points)))


def findings(found: list[FixedPoints]) -> Iterator[str]:
    """How many points there are, and what is known of the completeness of their lists: for every verdict that occurs
    the reason."""
    count = sum(len(points) for points in found)
    verdicts = sum((_verdicts(points) for points in found), Counter[str]())
    kinds = ", ".join(f"{verdicts[name]} {name}" for name in ("stable", "not stable", "singular") if verdicts[name])
    at = f" at {len(found)} inputs" if len(found) > 1 else ""
    certified = sum(int(points.certified.sum()) for points in found)
    yield f"{count} fixed point{'s' * (count != 1)}{at}: {kinds or 'none'}; {certified} certified to exist."
    for verdict in dict.fromkeys(points.completeness for points in found):
        group = [points for points in found if points.completeness == verdict]
        at = "" if len(found) == 1 else f" at {len(group)} of {len(found)} inputs"
        reasons = list(dict.fromkeys(_reason(points) for points in group))
        if len(reasons) > 1:
            reasons[0] += f" (At input {called(group[0].net, group[0].u)}; the other inputs: see --json.)"
        yield f"Completeness {verdict}{at}: {reasons[0]}"
    restless = [points for points in found if len(points.cycles) or points.cycles.escaped or points.cycles.undecided]
    for points in restless[:1]:
        at = f"at input {called(points.net, points.u)} " if len(found) > 1 else ""
        more = f" ({len(restless) - 1} more inputs: see --json.)" if len(restless) > 1 else ""
        yield f"Not all trajectories come to rest: {at}{_motion(points)}{more}"


def _motion(points: FixedPoints) -> str:
    """How the noise-free trajectories end."""
    cycles = points.cycles
    ends = [f"{cycles.resting} rest at fixed points"] if cycles.resting else []
    for cycle, count in zip(cycles, cycles.ended, strict=True):
        steps = f"{cycle.period:.4g} steps, up to {number(float(cycle.amplitude.max()))} wide"
        ends.append(f"{count} end on a cycle of {steps}" if cycle.regular else f"{count} move irregularly")
    ends += [f"{cycles.escaped} grow without bound"] if cycles.escaped else []
    ends += [f"{cycles.undecided} are undecided"] if cycles.undecided else []
    total = cycles.resting + int(sum(cycles.ended)) + cycles.escaped + cycles.undecided
    return f"of {total} trajectories {', '.join(ends)}."


def _reason(points: FixedPoints) -> str:
    if points.box is not None and points.proof is not None:
        if points.proof.method == "no loops":
            return "no neuron acts back on itself, so there is exactly one fixed point."
        return f"every fixed point{_region(points.box)} is listed, by an exhaustive search ({points.proof.method})."
    return f"{_audit(points)} {_unproven(points)}"


def _audit(points: FixedPoints) -> str:
    if not points.net.dissipative:
        return "this network is not bounded, so the index sum cannot tell whether points are missing."
    if points.singular.any():
        many = " Where points form a continuum, a sample of it is listed." if points.singular.sum() > 10 else ""
        return f"some points are singular, so the index sum cannot tell whether points are missing.{many}"
    if points.index_sum != 1:
        return f"the index sum is {points.index_sum} where that of all fixed points is 1: points are missing."
    ran = "ran dry, which is no proof" if points.dry else "stopped before it ran dry"
    return f"the index sum is 1, as it must be, and the search {ran}."


def _unproven(points: FixedPoints) -> str:
    proof = points.proof
    if proof is None:
        tried = points.provenance.settings["prove"]
        return "No proof was tried." if tried is False else "There is no method of proof for such a network."
    share = f"{floor(1000 * proof.covered) / 10:g} % decided"
    more = points.provenance.settings["prove"] is None and not len(proof.singular)
    advice = " --prove tries a hundred times as long." if more else ""
    return f"The proof ({proof.method}) is not finished, {share}: {proof.why}.{advice}"


def _region(box: Any) -> str:
    """Where, in words."""
    low, high = float(box[0].min()), float(box[1].max())
    bounds = [f"{0.0 if abs(low) < 1e-99 else low:.4g} <= "] if isfinite(low) else [""]
    bounds += [f" <= {high:.4g}"] if isfinite(high) else [""]
    if bounds == ["", ""]:
        return ""
    return f" {'with' if (box == box[:, :1]).all() else 'in a box (see --json) within'} {bounds[0]}h{bounds[1]}"


def _document(model: str, found: list[FixedPoints]) -> dict[str, Any]:
    """NaN and infinities become null when it is written."""
    return {
        "schema": "fpanalysis.fixed-points/1",
        "model": model,
        "conditions": [
            {
                "input": points.u.tolist(),
                "status": points.status.value,
                "completeness": points.completeness,
                "box": None if points.box is None else points.box.tolist(),
                "proof": _proof(points),
                "index_sum": points.index_sum,
                "h": points.h.tolist(),
                "output": points.net.output(points.h).tolist(),
                "residual": points.residual.tolist(),
                "certified": points.certified.tolist(),
                "error": points.error.tolist(),
                "radius": points.radius.tolist(),
                "index": points.index.tolist(),
                "singular": points.singular.tolist(),
                "stable": points.stable.tolist(),
                "n_unstable": points.n_unstable.tolist(),
                "n_unstable_flow": points.n_unstable_flow.tolist(),
                "relaxation_time": points.relaxation_time.tolist(),
                "cycles": _cycles(points),
                "eigenvalues": [[[z.real, z.imag] for z in row] for row in points.eigenvalues.tolist()],
            }
            for points in found
        ],
    }


def _cycles(points: FixedPoints) -> dict[str, Any]:
    cycles = points.cycles
    names = ("period", "period_error", "regular")
    found = [
        {name: getattr(cycle, name) for name in names} | {"trajectories": int(count), "mean": cycle.mean.tolist()}
        for cycle, count in zip(cycles, cycles.ended, strict=True)
    ]
    return {"found": found, **{name: getattr(cycles, name) for name in ("resting", "escaped", "undecided")}}


def _proof(points: FixedPoints) -> dict[str, Any] | None:
    if points.proof is None:
        return None
    return {name: getattr(points.proof, name) for name in ("method", "complete", "covered", "nodes", "why")}
