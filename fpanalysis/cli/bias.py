"""fpanalysis bias: which neurons put the bias on the output that noise leaves, and where they operate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._inputs import HELP, Input, called, chosen
from fpanalysis.cli._options import WIDE, Numbers
from fpanalysis.cli._report import (
    FIGURE_TYPES,
    check_outputs,
    check_suffix,
    number,
    save_figure,
    table,
    write_json,
)
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.bias import NetworkBias, OperatingPoints
    from fpanalysis.network import Network

SHOWN = 3  #: outputs shown of each condition and neuron
CANCELS = 0.1  #: of the bias, by which shares of both signs must exceed it to be worth a word
WEIGHT = ("W_out", "|W_out|")  #: of one output, and of several
MOST = 90  #: per cent of the bias that its carriers carry


@click.command(short_help="Which neurons bias the output, and why.", context_settings=WIDE)
@click.argument("model")
@click.option("--noise", type=click.FloatRange(min=0), help="Noise sigma, per step.  [default: training noise]")
@click.option("--input", "inputs", type=Input(), multiple=True, help=HELP)
@click.option("--method", default="closure", show_default=True, help="Stationary method; chain: exact, N <= 3.")
@click.option("--start", type=Numbers(), help="A state (N numbers): the fixed point where it comes to rest.")
@click.option("--top", type=click.IntRange(min=1), default=10, show_default=True, help="Neurons listed.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw bias against operating point (.png, .pdf, .svg).")
@click.option("--compare", metavar="MODEL", help="In the figure beside it: a network with the other noise placement.")
def command(
    model: str,
    noise: float | None,
    inputs: tuple[Any, ...],
    method: str,
    start: tuple[float, ...] | None,
    top: int,
    json_path: str | None,
    figure_path: str | None,
    compare: str | None,
) -> None:
    """Attribute the bias on the output of MODEL to its neurons, exactly.

    A neuron near its nonlinearity passes one half of its noise and clips the other: asymmetric attenuation.
    Training absorbs the bias this makes; when the noise is removed it appears with the opposite sign.

    \b
    Example:
      $ fpanalysis bias model.pt --input 0.4 --top 2 --figure bias.png
      input  output  without    bias  ± (95 %)  direct  recurrent  status
        0.4   0.961  -0.0223  -0.983     9e-06  -0.962    -0.0216  ok
      Remove the noise and the output is biased by 0.983 (rms). 17 of 64 neuron(s) carry 90 % ...
      A neuron passes of its own noise 0.212 of its variance (at most 1 is possible) ...
      neuron   share  direct  recurrent     a/s  beta  leverage     W_out
          23  23.8 %  23.3 %      0.5 %  0.0057   0.2       1.2    0.0473
          55  13.5 %  13.2 %      0.3 %   -0.15  0.17       0.8  -0.00155
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=[model, *([] if compare is None else [compare])])
    if compare is not None and figure_path is None:
        raise InputError("--compare adds a network to the figure: give --figure FILE as well")
    from fpanalysis.checkpoint import load_ctrnn

    net = load_ctrnn(model, "the bias")
    bias = _bias(net, noise, inputs, method, start)
    other = None if compare is None else _other(load_ctrnn(compare, "the bias"), net)
    if json_path is not None:
        write_json(json_path, _document(bias))
    if json_path != "-":
        _print(bias, top, "0" if start is None else "--start")
        if other is not None:
            click.echo(f"\n{compare}: {number(other.rms)} (rms) bias without its noise.")
            click.echo(click.wrap_text(gain_text(other.points), width=80))
    if figure_path is not None:
        _draw(figure_path, bias, other)
        if json_path != "-":
            click.echo(f"\nFigure: {figure_path}")
    _explain([bias] if other is None else [bias, other])


def _bias(net: Network, noise: float | None, inputs: Any, method: str, start: Any) -> NetworkBias:

    from fpanalysis.bias import network_bias

    sigma = None if noise is None else noise * net.noise_profile
    return network_bias(net, chosen(net, inputs), sigma, method, start)


def _other(other: Network, net: Network) -> NetworkBias:
    from fpanalysis.bias import network_bias

    if other.placement == net.placement:
        raise InputError(
            f"--compare takes a network with the other noise placement than the model's, {net.placement!r}; found "
            f"{other.placement!r}"
        )
    return network_bias(other)


def _print(bias: NetworkBias, top: int, start: str) -> None:
    points = bias.points
    click.echo(
        f"{points.net!r}\nat noise sigma = {number(float(points.sigma.max()), 6)}, {bias.provenance.method}, about the "
        f"fixed point reached from {start}"
    )
    unit = points.net.n_out > 1
    columns = ["input", "unit", "output", "without", "bias", "± (95 %)", "direct", "recurrent", "status"]
    rows = [row for c in range(len(points.inputs)) for row in _condition_rows(bias, c)]
    dropped = "without" if unit else "unit"  # so that the table fits
    keep = [k for k, name in enumerate(columns) if name != dropped]
    table([columns[k] for k in keep], [[row[k] for k in keep] for row in rows])
    click.echo("output: its mean; bias: what it is off by without the noise; direct: from the neurons'")
    click.echo("own noise; recurrent: from the noise that reaches them through W.")
    for sentence in findings(bias):
        click.echo(f"\n{click.wrap_text(sentence, width=80)}")
    if bias.shares.any():
        click.echo("\nNeurons by the size of their share of the bias:")
        rows = [_neuron_row(bias, int(i)) for i in bias.order[:top]]
        table(["neuron", "share", "direct", "recurrent", "a/s", "beta", "leverage", WEIGHT[points.net.n_out > 1]], rows)
        click.echo("a/s: operating point in standard deviations of the noise, least and most over the inputs;")
        click.echo("beta: the neuron's own bias there (mean); leverage: what a unit of it puts on the output,")
        click.echo("through W_out and recurrence (root mean square).")


def _condition_rows(bias: NetworkBias, c: int) -> list[list[str]]:
    """A row per output, the first few."""
    part, net = bias.attributions[c], bias.points.net
    if not abs(part.total[0]) < float("inf"):
        return [[called(net, bias.points.inputs[c]), *7 * ["-"], part.status.value]]
    rows = []
    for k in range(min(net.n_out, SHOWN)):
        z, shift = float(part.stationary.output[k]), float(part.total[k])
        parts = [0.0 - float(piece[k].sum()) for piece in (part.direct, part.recurrent)]
        values = [number(value) for value in (z, z - shift, 0.0 - shift)]
        rows.append(["", f"z[{k}]", *values, number(float(part.error[k]), 1), *map(number, parts), ""])
    rows[0][0], rows[0][-1] = called(net, bias.points.inputs[c]), part.status.value
    if net.n_out > SHOWN:
        rows.append(["", "...", *7 * [""]])
    return rows


def _neuron_row(bias: NetworkBias, i: int) -> list[str]:
    import numpy as np

    points, W_out = bias.points, bias.points.net.readout_weights[:, i]
    known = points.s[:, i] > 0
    parts = (bias.shares, bias.direct, bias.recurrent)
    beta = np.nanmean([part.beta[i] for part in bias.attributions])
    leverage = np.sqrt(np.nanmean([(part.leverage[:, i] ** 2).sum() for part in bias.attributions]))
    return [
        str(i),
        *(f"{round(100 * float(part[i]), 1) + 0.0:.1f} %" for part in parts),
        _span(points.a[known, i] / points.s[known, i]),
        number(float(beta), 2),
        number(float(leverage), 2),
        number(
            float(points.weights[i] if points.net.moved else W_out[0] if len(W_out) == 1 else np.linalg.norm(W_out))
        ),
    ]


def _span(values: Any) -> str:
    """Least and most."""
    if not len(values):
        return "-"
    low, high = number(float(min(values)), 2), number(float(max(values)), 2)
    return low if low == high else f"{low} .. {high}"


def findings(bias: NetworkBias) -> Iterator[str]:
    """How large the bias is, who carries it and how, and what the noise gain says of the network."""
    points = bias.points
    known = sum(status.ok for status in bias.statuses)
    if not known:
        yield "At no input is there a bias to attribute: see the status."
        return
    if bias.shares.any():
        yield _carried(bias, f" over {known} inputs" if known > 1 else "")
    else:
        yield "Noise does not move the output: there is nothing to attribute."
    yield gain_text(points)


def _carried(bias: NetworkBias, where: str) -> str:
    carriers, direct = len(bias.carriers(MOST / 100)), 100 * float(bias.direct.sum())
    against = ""
    if bias.cancellation > 1 + CANCELS:
        against = f" Neurons work against each other: without their signs the shares sum to {bias.cancellation:.3g}."
    if bias.rms <= max(float(part.error.max()) for part in bias.attributions if part.status.ok):
        against += " The bias is within its own error: do not rely on the shares."
    return (
        f"Remove the noise and the output is biased by {number(bias.rms)} (rms{where}). {carriers} of "
        f"{bias.points.net.N} neuron(s) carry {MOST} % of it; {direct:.1f} % is direct, made by the neurons' own noise "
        f"in their own nonlinearity, {100 - direct:.1f} % comes through recurrence.{against}"
    )


def gain_text(points: OperatingPoints) -> str:
    """What the noise gain says of the network."""
    if not points.outside and not points.own.any():
        return "Without noise nothing is attenuated."
    most = f" (at most {number(points.most_gain)} is possible)" if points.most_gain >= 0 else ""
    gain = f"{number(points.mean_gain)} of its variance{most}"
    if points.outside:
        return (
            "Noise outside the nonlinearity passes wherever a neuron works, so nothing draws it there: were the noise "
            f"inside, a neuron would pass {gain}, weighted by |W_out|."
        )
    return (
        f"A neuron passes of its own noise {gain}, weighted by |W_out|. Training with noise inside drives this noise "
        "gain down, towards and under the nonlinearity; the bias is the price."
    )


def _explain(found: list[NetworkBias]) -> None:
    """Each status that occurred, with its advice, on stderr; exit status 3 if there was one."""
    bad = [(part.status, part.reason) for bias in found for part in bias.attributions if not part.status.ok]
    for status, reason in dict.fromkeys(bad):
        own = f"\n  {reason}" if reason else ""
        click.echo(f"\nstatus at {bad.count((status, reason))} input(s): {status}{own}", err=True)
    if bad:
        raise click.exceptions.Exit(3)


def _draw(path: str, bias: NetworkBias, other: NetworkBias | None) -> None:
    from fpanalysis.figures import attenuation_figure

    if bias.points.curve is None:
        found = "there is no noise, or no law under it" if not bias.points.typical_s > 0 else "the neurons differ in f"
        raise InputError(f"--figure: {found}, so there is no curve to draw: choose --noise, or another network")
    save_figure(path, attenuation_figure(bias, other))


def _document(bias: NetworkBias) -> dict[str, Any]:
    """NaN becomes null when it is written."""
    points = bias.points
    names = ("shares", "direct", "recurrent", "mean_contributions")
    return {
        "schema": "fpanalysis.bias/1",
        "version": bias.provenance.version,
        "model": bias.provenance.model,
        "method": bias.provenance.method,
        "noise": points.sigma.tolist(),
        "status": bias.status.value,
        "rms_bias": bias.rms,
        **{name: getattr(bias, name).tolist() for name in names},
        "carriers_90": bias.carriers(MOST / 100).tolist(),
        "cancellation": bias.cancellation,
        "mean_noise_gain": points.mean_gain,
        "most_noise_gain": points.most_gain,
        "conditions": [_condition(bias, c) for c in range(len(points.inputs))],
    }


def _condition(bias: NetworkBias, c: int) -> dict[str, Any]:
    points, part = bias.points, bias.attributions[c]
    neurons = ("a", "s", "up", "down", "V", "gain")
    pieces = ("contributions", "direct", "recurrent", "leverage", "beta")
    return {
        "input": points.inputs[c].tolist(),
        "status": part.status.value,
        "reason": part.reason,
        "output": part.stationary.output.tolist(),
        "total": part.total.tolist(),
        "bias": (-part.total).tolist(),
        "error": part.error.tolist(),
        "residual": part.residual,
        **{name: getattr(part, name).tolist() for name in pieces},
        "curve_beta": points.beta[c].tolist(),
        **{name: getattr(points, name)[c].tolist() for name in neurons},
        "weighted_gain": float(points.weighted_gain[c]),
    }
