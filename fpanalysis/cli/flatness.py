"""fpanalysis flatness: how much a network's loss minds a change of its weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._options import WIDE
from fpanalysis.cli._report import FIGURE_TYPES, check_outputs, check_suffix, number, save_figure, table, write_json
from fpanalysis.results import InputError, Status

if TYPE_CHECKING:
    from fpanalysis.models import Flatness, NoiseStability

MODELS = 6  #: that a figure has room for
PRODUCTS = {"steps": 96, "probes": 32}  #: with the Hessian
WITH_NOISE = {"steps": 40, "probes": 12}  #: where the noise leaves more error than they do
PAIRS = 24  #: of changed networks
EIGENVALUES = 8
TRIALS = 16
CLASSIFIED, STEPS = 256, 2048  #: trials of a classifier, which differ more, and their steps in all: what is affordable
SMALL = 0.05  #: change of the weights at which the curvature is told beside the Hessian's
FALLING = 0.25  #: share of the loss that one step saves, from which on a network is not at a minimum
CERTAIN = 1e-4  #: of the largest eigenvalue: an error below is not printed
UNITS = {
    "weight": "each weight in units of its own size",
    "group": "weights in units of their group's root mean square",
    "absolute": "weights as they are",
}


class Judged(NamedTuple):
    """A network, where its trials come from, its flatness and, if computed, its curve."""

    name: str
    source: str
    flat: Flatness
    curve: NoiseStability | None

    @property
    def ok(self) -> bool:
        return self.flat.status.ok and (self.curve is None or self.curve.status.ok)


@click.command(short_help="How much the loss minds a change of the weights: Hessian.", context_settings=WIDE)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--noise", type=click.FloatRange(min=0), help="Noise of the expected loss.  [default: training noise]")
@click.option("--smoothed", type=click.FloatRange(min=0), help="Smooth kinks by this.  [default: see above]")
@click.option("--scale", type=click.Choice(list(UNITS)), default="weight", show_default=True, help="Units of weights.")
@click.option(
    "--trials", type=click.IntRange(min=1), help="Of the training task.  [default: 16, of classifiers up to 256]"
)
@click.option(
    "--runs", type=click.IntRange(min=2), default=8, show_default=True, help="Of the trials, each with noise."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of trials and probes.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw loss against change, and spectra (.png, ...).")
def command(
    models: tuple[str, ...],
    noise: float | None,
    smoothed: float | None,
    scale: str,
    trials: int | None,
    runs: int,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """How much the loss of each MODEL minds a change of its weights: the Hessian of the loss in them.

    The loss is that expected at the training noise, on trials drawn as in training (of digits: the training images),
    and changes are measured relative to each weight, so that networks compare (--scale). A change of every weight by a
    random share s of itself costs s²/2 times the trace. 'step saves': the share of the loss that one best step down the
    gradient would save, next to nothing at a minimum. 'rank': how many directions carry the trace. Errors at 95 %, over
    noise and probes, for these trials: other trials can differ by more.

    With kinks (ReLU) a quarter of the noise, where it enters the activation, smooths them. Else second derivatives miss
    what kinks add, which can be most of it: the trace is put in brackets, and the column 'changed' has the curvature
    seen when weights are changed by 5 %, which holds both and compares between networks.

    \b
    Example:
      $ fpanalysis flatness model.pt
      model  noise     loss  trace      ±  top eigenvalue    lowest  rank  step saves  status
      model    0.1  0.00337   2.35  0.007    0.641±0.0009  -0.00031   5.7       0.47%  ok
      16 training trials of flip-flop, 4547 weights. Trace by W_out 1.98, W 0.277, W_in
      0.0852, b 1.57e-05, b_out 5.38e-06.
      Curvature with each weight in units of its own size.
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=models)
    if figure_path is not None and len(models) > MODELS:
        raise InputError(f"--figure has room for {MODELS} models; found {len(models)}")
    options = {"scale": scale, "smoothed": smoothed, "runs": runs}
    judged = _judged(models, noise, trials, seed, options, figure_path is not None)
    if json_path is not None:
        document = {"schema": "fpanalysis.flatness/1", "models": [_document(one) for one in judged]}
        write_json(json_path, document)
    if figure_path is not None:
        from fpanalysis.figures import flatness_figure

        save_figure(figure_path, flatness_figure([(one.name, one.curve) for one in judged if one.curve is not None]))
    if json_path != "-":
        _print(judged, scale)
        if figure_path is not None:
            click.echo(f"Figure: {figure_path}")
    if not all(one.ok for one in judged):
        for one in judged:
            if not one.ok:
                click.echo(f"\n{one.name}: {one.flat.status if one.curve is None else _worst(one)}", err=True)
        raise click.exceptions.Exit(3)


def _judged(
    models: tuple[str, ...], noise: float | None, trials: int | None, seed: int, options: dict[str, Any], drawn: bool
) -> list[Judged]:
    """With curves for a figure, and for all where the Hessian of one does not tell its curvature."""

    from fpanalysis.checkpoint import load
    from fpanalysis.cli._batch import own_noise
    from fpanalysis.models import flatness, noise_stability

    judged, asked = [], []
    for model in models:
        net = load(model)
        batch, h0, source = _trials(net, trials, seed)
        given = options | {"sigma": own_noise(net) if noise is None else noise, "h0": h0, "rng": seed}
        products = WITH_NOISE if given["sigma"] else PRODUCTS
        flat = flatness(net, batch, eigenvalues=EIGENVALUES, **products, **given)
        judged.append(Judged(Path(model).stem, source, flat, None))
        asked.append((net, batch, given))
    if not drawn and all(one.flat.status is not Status.PIECEWISE for one in judged):
        return judged
    for k, (one, (net, batch, given)) in enumerate(zip(judged, asked, strict=True)):
        if one.flat.status is not Status.DIVERGED:
            rms = max(one.flat.rms.values()) if options["scale"] == "absolute" else 1.0
            levels = None if drawn else [SMALL * rms]
            curve = noise_stability(net, batch, levels, flat=one.flat, pairs=PAIRS, **given)
            judged[k] = one._replace(curve=curve)
    return judged


def _trials(net: Any, trials: int | None, seed: int) -> tuple[Any, Any, str]:
    """Batch, first states and words for them: of the task, else the conditions."""
    import numpy as np

    from fpanalysis.cli._batch import batch_of
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    if task is None:
        chosen = batch_of(net, seed=seed)
        return chosen.batch, chosen.h0, chosen.source
    if (net.n_in, net.n_out) != (task.n_in, task.n_out):
        raise InputError(
            f"the network has {net.n_in} input(s) and {net.n_out} output(s), but its task {task.name} has {task.n_in} "
            f"and {task.n_out}"
        )
    if trials is None:
        trials = TRIALS if task.loss != "cross-entropy" else min(CLASSIFIED, max(TRIALS, STEPS // task.T))
    inputs, targets, mask = (np.asarray(part, float) for part in task.batch(trials, seed))
    h0 = np.asarray(task.initial_state(targets, net.N), float)
    return (inputs, targets, mask), h0, f"{trials} training trials of {task.name}"


def _worst(one: Judged) -> Status:
    return one.flat.status if not one.flat.status.ok or one.curve is None else one.curve.status


def _print(judged: list[Judged], scale: str) -> None:
    columns = ["model", "noise", "loss", "trace", "±", "top eigenvalue", "lowest", "rank", "step saves", "status"]
    kinks = any(one.flat.status is Status.PIECEWISE for one in judged)
    columns[5:5] = ["changed"] * kinks
    rows = []
    for k, one in enumerate(judged, 1):
        f = one.flat
        name = str(k) if len(judged) > 1 else one.name[:16]
        top, error = float(f.eigenvalues[0]), float(max(f.eigenvalue_error[0], f.residual[0]))
        steepest = number(top) + (f"±{number(error, 1)}" if error > CERTAIN * abs(top) else "")
        trace = f"({number(f.trace)})" if f.status is Status.PIECEWISE else number(f.trace)
        numbers = [number(f.provenance.settings["sigma"]), number(f.loss), trace, number(f.trace_error, 1)]
        numbers += ["-" if one.curve is None else "±".join(_changed(one.curve)[1:])] * kinks
        numbers += [steepest, number(f.lowest, 2), number(f.effective_rank, 2)]
        saved = f"{100 * f.gain:.2g}%" if f.gain == f.gain else "-"
        rows.append([name, *numbers, saved, _worst(one).value])
    if len(judged) > 1:
        click.echo("\n".join(f"{k}  {one.name}" for k, one in enumerate(judged, 1)))
    table(columns, rows)
    for k, one in enumerate(judged, 1):
        head = f"{k}: " if len(judged) > 1 else ""
        click.echo(click.wrap_text(head + " ".join(_findings(one)), width=88))
    click.echo(click.wrap_text(f"Curvature with {UNITS[scale]}.", width=88))


def _findings(one: Judged) -> list[str]:
    """Sentences: what was analysed, where the curvature lies, and whether this is a minimum."""
    f = one.flat
    told = [f"{one.source}, {f.P} weights."]
    if f.status is Status.DIVERGED:
        return told
    shares = sorted(f.by_group.items(), key=lambda item: -abs(item[1]))
    told.append("Trace by " + ", ".join(f"{name} {number(value)}" for name, value in shares) + ".")
    if f.gain != f.gain or f.gain > FALLING:
        told.append("Not at a minimum of the loss of these trials: the gradient is large.")
    tau = f.provenance.settings["smoothed"]
    if tau:
        told.append(f"Kinks are smoothed by {number(tau)}.")
    if f.status is Status.PIECEWISE and one.curve is not None:
        s, bend, error = _changed(one.curve)
        told.append(
            f"When weights are changed by {s} the loss bends by {bend} ± {error}, with kinks; the trace holds the "
            "smooth pieces alone."
        )
    return told


def _changed(c: NoiseStability) -> tuple[str, str, str]:
    """A small change of the weights, the curvature seen then, and its error."""
    k = int(abs(c.levels - SMALL).argmin())
    return number(float(c.levels[k]), 2), number(float(c.curvature[k]), 3), number(float(c.curvature_error[k]), 1)


def _document(one: Judged) -> dict[str, Any]:
    """NaN and infinities become null when it is written."""
    f, c = one.flat, one.curve
    names = ("loss", "loss_error", "gradient_norm", "gain", "trace", "trace_error", "relative_trace")
    more = ("relative_trace_error", "lowest", "lowest_residual", "frobenius", "frobenius_error", "effective_rank")
    lists = ("levels", "loss", "excess", "error", "predicted", "curvature", "curvature_error", "remainder")
    return {
        "name": one.name,
        "model": f.provenance.model,
        "version": f.provenance.version,
        "trials": one.source,
        "settings": dict(f.provenance.settings),
        "status": f.status.value,
        **{name: getattr(f, name) for name in (*names, *more)},
        **{name: dict(getattr(f, name)) for name in ("by_group", "by_group_error", "sizes", "rms")},
        **{name: getattr(f, name).tolist() for name in ("eigenvalues", "residual", "eigenvalue_error")},
        "curve": None
        if c is None
        else {name: getattr(c, name).tolist() for name in lists} | {"status": c.status.value, "order": c.order},
    }
