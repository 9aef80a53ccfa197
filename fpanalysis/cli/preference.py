"""fpanalysis preference: the loss against test noise, and which noise the network prefers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._options import WIDE, NoiseRange
from fpanalysis.cli._preference_folder import PARTS, inputs_of, judge_folder, loss_of, success_error, verdict_document
from fpanalysis.cli._preference_folder import RUNS as FOLDER_RUNS
from fpanalysis.cli._report import FIGURE_TYPES, check_outputs, check_suffix, number, save_figure, table, write_json
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.cli._batch import Batch
    from fpanalysis.moments import LossCurve
    from fpanalysis.network import Network
    from fpanalysis.preference import Preference

SINGLE = (
    *("preferred", "preferred_bias2", "preferred_error", "slope_zero", "slope_training"),
    *("loss_removed", "loss_trained", "ratio", "training_sigma"),
)  #: numbers of a curve that go into the JSON document
RUNS = 128  #: Monte Carlo runs of each input
WORK = 5e8  #: steps x trials x levels x neurons^2 of the longest prediction, about a minute
LEVELS = 16  #: without --noise
PANEL = 8  #: levels up to which the transmission is sampled at all of them, not at every other
HOPPING = 224  #: neurons whose matrices cost as much as a step of a mixture
AVERAGED = {True: "outputs, ", False: ""}
APART = 2.5  #: 95 % half-widths of Monte Carlo (five standard errors) by which a prediction may be off by chance


class Judged(NamedTuple):
    """Where the trials come from, the curve, why it is so, the samples that check it if it is predicted, and, if the
    task scores trials, the share that succeed at each level and what covers it at 95 %."""

    source: str
    curve: LossCurve
    found: Preference
    sampled: LossCurve | None = None
    success: list[tuple[float, float]] | None = None


@click.command(short_help="Loss against test noise, and the noise a network prefers.", context_settings=WIDE)
@click.argument("model")
@click.option("--noise", type=NoiseRange(), help="Test noise: start:stop, start:stop:count or a,b,c.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of a trial.  [default: as the task has it, else 200]")
@click.option("--trials", type=int,
              help="Monte Carlo runs of each input; 0 for none.  [default: 128; folders, classes: 32]")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of inputs and noise.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw the curve (.png, .pdf, .svg).")
def command(
    model: str,
    noise: tuple[float, ...] | None,
    steps: int | None,
    trials: int | None,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Predict the loss of MODEL against test noise, split into bias^2 and variance, the noise of least loss, and why.

    The trials are those of the task MODEL was trained on: all its conditions, or inputs drawn from the task. Without
    --noise there are 16 levels from 0 to 1.5 times the training noise. The prediction needs no sampling; Monte Carlo
    runs check it, and stand alone where it would take minutes. A network that steers a point in a closed loop is
    judged in that loop. Where outputs are classes, the loss is the cross-entropy, by Monte Carlo; the loss of the mean
    output and Jensen's gap take the places of bias^2 and variance.

    A verdict says whether noise helps because training absorbed it (smoothed activations then do the same without
    noise), by stochastic resonance (they do not, and a signal passes better with noise), or not at all.

    MODEL may be a folder of networks, as 'fpanalysis train' over lists of settings leaves it: they are grouped by
    task, activation, placement and training noise and judged by Monte Carlo, on inputs drawn from their task. Files
    that are no network of a task are named and left out (exit status 3). A Lipschitz RNN is judged in that way too.

    \b
    Example:
      $ fpanalysis preference model.pt --noise 0:0.75:4 --figure loss.png
      noise     loss  ± (95 %)    bias²  variance  Monte Carlo  ± (95 %)  status
          0    0.483         0    0.483         0        0.483     9e-16  ok
       0.25    0.234    0.0001    0.233   0.00105        0.235    0.0007  ok
        0.5  0.00689     6e-05  0.00214   0.00475      0.00682    0.0001  ok
       0.75    0.272    0.0002    0.264   0.00838        0.276     0.005  ok
      Preferred noise 0.493 ± 0.08 (bias² alone: 0.494); the network was trained at 0.5.
      R = loss without noise / loss at the training noise = 70.1 (0.483 / 0.00689).
      Verdict: training noise absorbed. The network depends on its training noise, ...

    \b
      $ fpanalysis train regulator --placement in,out --noise 0.3,0.5 --seeds 4 -o study
      $ fpanalysis preference study --figure study.png
      regulator: 128 trials of the task, 32 runs of each at every noise level; median over ...
       network  at σ  nets               R    preferred     by bias²
       relu in   0.3     4         1.6±0.4   0.259±0.01  0.316±0.001
      relu out   0.3     4  4.46e-05±4e-05            0            -
       relu in   0.5     4        8.68±0.9  0.477±0.005  0.531±0.001
      relu out   0.5     4  1.21e-05±3e-05            0            -
      ...
      Verdicts, relu in: 8 training noise absorbed. ... slope 1.09 ± 0.07 (it follows).
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=[model])
    swept = Path(model).is_dir() or _holds_lipschitz(model)
    if trials is not None and (0 < trials < 4 or trials < 0):
        raise click.UsageError("--trials must be 0, or at least 4 to tell bias from variance")
    if swept:
        if steps is not None:
            raise InputError(
                "--steps is for a single CTRNN: the networks of a folder, and Lipschitz RNNs, are judged on the trials "
                "of their tasks"
            )
        return judge_folder(Path(model), noise, FOLDER_RUNS if trials is None else trials, seed, json_path, figure_path)
    import numpy as np

    from fpanalysis.checkpoint import load_ctrnn
    from fpanalysis.cli._batch import in_its_loop
    from fpanalysis.moments.loss import SQUARED

    net = load_ctrnn(model, "the preference of one network")
    joint = in_its_loop(net)
    if noise is None and not np.any(net.sigma):
        raise InputError("--noise must be given: the network was trained without noise, as de-noised ones are")
    kind = loss_of(net)
    if trials is None:
        trials = RUNS if kind == SQUARED else FOLDER_RUNS
    if not trials and kind != SQUARED:
        raise InputError(f"--trials must be at least 4: the loss of the network, {kind}, is known by sampling only")
    judged = _judged(joint, noise, steps, trials, seed, kind)
    judged = judged._replace(success=_success(net, judged.curve, inputs_of(kind), trials, seed))
    curve = judged.curve
    if json_path is not None:
        write_json(json_path, _document(net, judged))
    if figure_path is not None:
        from fpanalysis.figures import loss_figure

        save_figure(figure_path, loss_figure(curve, judged.sampled, judged.found))
    if json_path != "-":
        _print(joint, judged)
        if figure_path is not None:
            click.echo(f"\nFigure: {figure_path}")
    if not curve.ok:
        _explain(curve)
        raise click.exceptions.Exit(3)


def _holds_lipschitz(model: str) -> bool:
    """Whether that file holds a network whose loss can be sampled but not predicted."""
    from fpanalysis.checkpoint import load
    from fpanalysis.lipschitz import LipschitzRNN

    return isinstance(load(model), LipschitzRNN)


def _judged(
    net: Network, noise: tuple[float, ...] | None, steps: int | None, trials: int, seed: int, kind: str
) -> Judged:
    """Predicted, and checked by sampling unless `trials` is 0; by sampling alone where a prediction takes minutes, or
    there is none."""
    from fpanalysis.cli._batch import batch_of
    from fpanalysis.moments import loss_curve
    from fpanalysis.moments.loss import SQUARED
    from fpanalysis.preference import preference

    chosen = batch_of(net, steps, seed, inputs_of(kind))
    source, predicted, sampled = chosen.source, kind == SQUARED, None
    if predicted and trials and _takes_minutes(net, chosen, noise):
        source, predicted = f"{source}, by Monte Carlo (to predict takes minutes: --trials 0)", False
    if predicted:
        curve = loss_curve(net, chosen.batch, noise, h0=chosen.h0)
    if trials:
        levels = curve.sigma if predicted else noise
        sampled = loss_curve(net, chosen.batch, levels, "monte-carlo", h0=chosen.h0, loss=kind, trials=trials, rng=seed)
        curve = _refereed(curve, sampled) if predicted else sampled
    best = _best(curve, sampled)
    some = best.sigma[:: 1 if len(best.sigma) <= PANEL else 2]
    found = preference(net, chosen.batch, some, curve=best, h0=chosen.h0, loss=kind, trials=trials, rng=seed)
    return Judged(source, curve, found, sampled if predicted else None)


def _takes_minutes(net: Network, chosen: Batch, noise: tuple[float, ...] | None) -> bool:
    """Whether to predict the curve is more than WORK; where the law of the first trial splits into a mixture at the
    middle or the last level, as of units that hop, each step costs as much as HOPPING^2 neurons besides."""
    import numpy as np

    from fpanalysis.moments import propagate

    T, B = chosen.batch[0].shape[:2]
    levels = np.linspace(0, 1.5 * float(np.max(net.sigma)), LEVELS) if noise is None else np.sort(noise)
    steps = T * B * len(levels)
    if steps * net.N**2 > WORK or steps * (net.N**2 + HOPPING**2) <= WORK:
        return steps * net.N**2 > WORK
    h0 = None if chosen.h0 is None else chosen.h0[:1]
    first, profile = chosen.batch[0][:, :1], np.asarray(net.noise_profile)
    return any(propagate(net, first, levels[k] * profile, h0).components[0] > 1 for k in (len(levels) // 2, -1))


def _success(net: Network, curve: LossCurve, inputs: int, trials: int, seed: int) -> list[tuple[float, float]] | None:
    """The share of trials of its task that `net` succeeds in, with its error, at each level; None if they are not
    scored."""
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    if task is None or not task.scored or net.moved or not trials:
        return None
    from fpanalysis.models import evaluate

    found = evaluate(net, task, curve.sigma, inputs=inputs, trials=trials, rng=seed)
    if found.success is None or found.success_error is None:
        return None
    shares = zip(found.success[0].tolist(), found.success_error[0].tolist(), strict=True)
    return [(share, success_error(share, error, found.inputs)) for share, error in shares]


def _print(net: Network, judged: Judged) -> None:
    source, curve, found, sampled, success = judged
    plain = curve.of == "squared error"
    click.echo(f"{net!r}\n{source}; {curve.of}, averaged over {AVERAGED[plain]}trials and counted steps")
    columns = ["noise", "loss", "± (95 %)", *PARTS[plain], "Monte Carlo", "± (95 %)", "success", "status"]
    rows = []
    for k, level in enumerate(curve.sigma):
        row = [number(float(level), 4), number(float(curve.loss[k])), number(float(curve.error[k]), 1)]
        row += [number(float(curve.bias2[k])), number(float(curve.variance[k]))]
        if sampled is not None:
            row += [number(float(sampled.loss[k])), number(float(sampled.error[k]), 1)]
        if success is not None:
            row.append(f"{number(success[k][0])}±{number(success[k][1], 1)}")
        rows.append([*row, curve.status[k].value])
    absent = {5, 6} if sampled is None else set()
    absent |= {7} if success is None else set()
    table([name for k, name in enumerate(columns) if k not in absent], rows)
    best = _best(curve, sampled)
    if best is not curve:
        click.echo("Not every prediction can be relied on: what follows is Monte Carlo's.\n")
    for sentence in findings(found):
        click.echo(click.wrap_text(sentence, width=80) + "\n")


def _refereed(curve: LossCurve, sampled: LossCurve) -> LossCurve:
    """`curve` with its status where Monte Carlo differs by more than both errors allow."""
    import dataclasses

    from fpanalysis.results import Status

    status = list(curve.status)
    for part, name in (("loss", "error"), ("bias2", "bias2_error"), ("variance", "variance_error")):
        gap = abs(getattr(curve, part) - getattr(sampled, part))
        allowed = getattr(curve, name) + APART * getattr(sampled, name) + 1e-9 * sampled.loss
        for k in (gap > allowed).nonzero()[0].tolist():
            status[k] = Status.DISAGREE if status[k].ok else status[k]
    return dataclasses.replace(curve, status=tuple(status))


def _best(curve: LossCurve, sampled: LossCurve | None) -> LossCurve:
    """What the findings rest on: the prediction where it holds, else the samples if there are any."""
    return curve if curve.ok or sampled is None else sampled


def findings(found: Preference) -> Iterator[str]:
    """Where the loss is least, what the removal of the noise does, and the verdict."""
    curve = found.curve
    trained, top = curve.training_sigma, float(curve.sigma[-1])
    ends = {top, float(curve.sigma[0])} - {0.0}
    edge = ", the end of the range: widen it" if curve.preferred in ends else ""
    edge = ", the only level" if len(curve.sigma) == 1 else edge
    told = f"; the network was trained at {trained:g}" if trained else "; the network was trained without noise"
    least, error = number(curve.preferred), number(curve.preferred_error, 1)
    alone = f"{found.evidence.mean_part} alone: {number(curve.preferred_bias2)}"
    yield f"Preferred noise {least} ± {error} ({alone}){edge}{told}."
    if curve.slope_zero == curve.slope_zero:
        yield _slopes(curve)
    if trained:
        removed, kept = number(curve.loss_removed), number(curve.loss_trained)
        yield f"R = loss without noise / loss at the training noise = {number(curve.ratio)} ({removed} / {kept})."
    yield found.summary


def _slopes(curve: LossCurve) -> str:
    helps = "a little noise helps" if curve.slope_zero < 0 else "noise hurts from the start"
    helps = "a little noise makes no difference" if curve.slope_zero == 0 else helps
    slopes = f"Slope of the loss at zero noise: d loss / d σ² = {number(curve.slope_zero)} ({helps})"
    if curve.slope_training == curve.slope_training and curve.training_sigma:
        slopes += f"; at the training noise: d loss / d σ = {number(curve.slope_training)}"
    return f"{slopes}."


def _document(net: Network, judged: Judged) -> dict[str, Any]:
    """NaN and infinities become null when it is written."""
    source, curve, found, sampled, success = judged
    best = found.curve
    return {
        "schema": "fpanalysis.preference/1",
        "version": curve.provenance.version,
        "model": net.hash,
        "trials": source,
        "loss": curve.of,
        "findings_from": best.method,
        **{name: getattr(best, name) for name in SINGLE},
        **verdict_document(found),
        "curve": _levels(curve) | _shares(success),
        "transmission": None if found.transmission is None else _transmission(found),
        "monte_carlo": None if sampled is None else _levels(sampled) | {"seed": sampled.provenance.seed},
    }


def _transmission(found: Preference) -> dict[str, Any]:
    names = ("sigma", "gain", "gain_error", "correlation", "correlation_error")
    return {name: getattr(found.transmission, name).tolist() for name in names}


def _shares(success: list[tuple[float, float]] | None) -> dict[str, Any]:
    if success is None:
        return {}
    return {"success": [share for share, _ in success], "success_error": [error for _, error in success]}


def _levels(curve: LossCurve) -> dict[str, Any]:
    names = ("sigma", "loss", "error", "bias2", "bias2_error", "variance", "variance_error")
    return {name: getattr(curve, name).tolist() for name in names} | {"status": [s.value for s in curve.status]}


def _explain(curve: LossCurve) -> None:
    """Each status that occurred, with its advice and the inputs it is about, on stderr."""
    from fpanalysis.results import Status

    for status in dict.fromkeys(status for status in curve.status if not status.ok):
        at = [k for k, other in enumerate(curve.status) if other is status]
        trials = sorted({int(b) for k in at for b in curve.untrusted[k].nonzero()[0]})
        levels = ", ".join(f"{curve.sigma[k]:.4g}" for k in at)
        click.echo(f"\nstatus at noise {levels}: {status}", err=True)
        if trials and status is Status.NOT_GAUSSIAN:
            shown = ", ".join(map(str, trials[:8])) + (", ..." if len(trials) > 8 else "")
            click.echo(f"  where the law is far from a Gaussian: input number {shown} (from 0)", err=True)
