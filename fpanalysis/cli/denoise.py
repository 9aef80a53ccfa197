"""fpanalysis denoise: a network that needs no noise, and what its loss is against the noisy one's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._options import WIDE
from fpanalysis.cli._report import check_outputs, number, table, write_json
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.network import Network

VARIANTS = ("smoothed", "sigma", "recalibrated")
MEAN = {"squared error": "Mean squared error", "cross-entropy": "Mean cross-entropy"}
CLEAR = 1.05  #: factor between two losses below which neither is called better


class Row(NamedTuple):
    """One network at one noise level: its loss, its parts, and the status of the computation."""

    name: str
    noise: float
    loss: float
    bias2: float
    variance: float
    status: str


@click.command(short_help="Make a network that needs no noise.", context_settings=WIDE)
@click.argument("model")
@click.option("-o", "--output", required=True, metavar="FILE", help="The checkpoint to write.")
@click.option(
    "--noise", type=click.FloatRange(min=0, min_open=True), help="Noise to stand for.  [default: training noise]"
)
@click.option("--variant", type=click.Choice(VARIANTS), default="smoothed", show_default=True, help="How; see above.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
def command(model: str, output: str, noise: float | None, variant: str, json_path: str | None) -> None:
    """Write a network that does without noise what MODEL does with it, and compare their losses.

    \b
    smoothed      each neuron's activation averaged over the noise that reaches it (Gaussian closure)
    sigma         the same, over the neuron's own noise alone
    recalibrated  the activation stays, the biases move: right at the network's conditions only

    \b
    Example:
      $ fpanalysis denoise model.pt -o clean.pt
            network  noise     loss   bias^2  variance
      noise removed      0    0.483    0.483         0
         with noise    0.5  0.00689  0.00214   0.00475
          de-noised      0  0.00234  0.00234         0
      Mean squared error over 11 condition(s), 120 steps, the last 80 count; closure.
      De-noised, without noise: loss 0.00234, 207 times below that of the network with its
      noise removed, 2.95 times below that with noise 0.5.
      wrote clean.pt
    """
    check_outputs(json_path, output, models=[model])
    import warnings

    from fpanalysis.checkpoint import load_ctrnn, save
    from fpanalysis.denoise import NOTE, denoise

    net = load_ctrnn(model, "de-noising")
    if noise is None and not (net.sigma if isinstance(net.sigma, float) else net.sigma.any()):
        raise InputError(
            "--noise must be given: the network was trained without noise, as de-noised ones are, so there is no noise "
            "to absorb"
        )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clean = denoise(net, None if noise is None else noise * net.noise_profile, variant)
    doubts = [str(warning.message) for warning in caught]
    rows, source = _losses(net, clean, noise, doubts)
    save(clean, output)
    said = verdict(rows)
    note: dict[str, Any] = dict(clean.info[NOTE])
    if json_path is not None:
        write_json(json_path, _document(net, clean, note, rows, source, doubts, said) | {"output": output})
    if json_path != "-":
        click.echo(f"{net!r}")
        if rows:
            _print(rows, source)
            click.echo(click.wrap_text(said, width=88))
        click.echo(f"wrote {output}")
    for text in doubts:
        click.echo(f"\n{click.wrap_text(f'note: {text}.', width=88)}", err=True)
    if note["unsettled"] or any(row.status != "ok" for row in rows):
        raise click.exceptions.Exit(3)


def _losses(net: Network, clean: Network, noise: float | None, doubts: list[str]) -> tuple[list[Row], str]:
    """The network without noise, with its training noise and with the noise asked for, and the clean one."""
    import numpy as np

    from fpanalysis.cli._batch import batch_of, in_its_loop
    from fpanalysis.cli._preference_folder import inputs_of, loss_of
    from fpanalysis.moments import loss_curve
    from fpanalysis.moments.loss import SQUARED

    kind, net, clean = loss_of(net), in_its_loop(net), in_its_loop(clean)
    try:
        batch, h0, source = batch_of(net, trials=inputs_of(kind))
    except InputError as error:
        doubts.append(f"no losses to compare: {error}")
        return [], ""
    levels = sorted({0.0, float(np.max(net.sigma)), noise or 0.0})
    predicted = loss_curve(net, batch, levels, h0=h0) if kind == SQUARED else None
    sampled = {"h0": h0, "loss": kind, "trials": 256 if kind == SQUARED else 32}
    curve = predicted if predicted and predicted.ok else loss_curve(net, batch, levels, "monte-carlo", **sampled)
    still = loss_curve(
        clean, batch, [0.0], "monte-carlo", h0=h0, loss=kind, trials=4
    )  # without noise one run is all of them
    values = [*zip(curve.sigma, curve.loss, curve.bias2, curve.variance, curve.status, strict=True)]
    rows = [
        Row(
            "with noise" if sigma else "noise removed",
            float(sigma),
            float(loss),
            float(bias2),
            float(var),
            status.value,
        )
        for sigma, loss, bias2, var, status in values
    ]
    loss = float(still.loss[0])
    source = f"{MEAN[kind]} over {source}; {curve.method}"
    return [*rows, Row("de-noised", 0.0, loss, loss, 0.0, still.status[0].value)], source


def _print(rows: list[Row], source: str) -> None:
    from fpanalysis.cli._preference_folder import PARTS

    parts = ["bias^2", "variance"] if source.startswith(MEAN["squared error"]) else list(PARTS[False])
    columns = ["network", "noise", "loss", *parts]
    bad = any(row.status != "ok" for row in rows)
    cells = [[row.name, f"{row.noise:.4g}", *map(number, row[2:5]), *([row.status] if bad else [])] for row in rows]
    table([*columns, "status"] if bad else columns, cells)
    click.echo(f"{source}.\n")


def verdict(rows: list[Row]) -> str:
    """One sentence: what de-noising gains against taking the noise away, and against keeping it."""
    if not rows:
        return ""
    removed, *noisy, clean = rows
    text = f"De-noised, without noise: loss {number(clean.loss)}, {_against(clean, removed)} that of the network "
    text += "with its noise removed"
    for row in noisy:
        text += f", {_against(clean, row)} that with noise {row.noise:g}"
    useless = removed.loss <= CLEAR * clean.loss
    return text + (": it does not help, remove the noise instead." if useless else ".")


def _against(clean: Row, other: Row) -> str:
    if not (clean.loss > 0 and other.loss > 0):
        return "not comparable with"
    ratio = other.loss / clean.loss
    if 1 / CLEAR < ratio < CLEAR:
        return "about"
    return f"{number(ratio)} times below" if ratio > 1 else f"{number(1 / ratio)} times above"


def _document(
    net: Network, clean: Network, note: dict[str, Any], rows: list[Row], source: str, doubts: list[str], said: str
) -> dict[str, Any]:
    from fpanalysis._grouped import deviations

    s = deviations(clean.activation)
    return {
        "schema": "fpanalysis.denoise/1",
        "model": net.hash,
        "clean": clean.hash,
        **{key: value for key, value in note.items() if key != "model"},
        "smoothing": None if s is None else s.tolist(),
        "trials": source,
        "losses": [row._asdict() for row in rows],
        "verdict": said,
        "notes": doubts,
    }
