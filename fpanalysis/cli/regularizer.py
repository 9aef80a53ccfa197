"""fpanalysis regularizer: what training noise adds to the loss as a regulariser, P + Q, and which neurons carry it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._options import WIDE, Positive
from fpanalysis.cli._report import FIGURE_TYPES, check_outputs, check_suffix, number, save_figure, table, write_json
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.cli._batch import Batch
    from fpanalysis.moments import LossCurve
    from fpanalysis.network import Array, Network
    from fpanalysis.regularizer import Regularizer
    from fpanalysis.results import Status

MOST = 0.9  #: share of P or Q that the neurons counted carry together
GROWN = {  #: what these statuses say of a trial
    "diverged": "without noise the state grows without bound along the trials, so there is nothing to expand about.",
    "unstable": "small noise grows without bound along the noise-free trials (chaos, or an unstable point): no second "
    "order describes what it does.",
}
NEAR = 0.2  #: of the loss, by which a prediction of it may be off and still explain it


class Expansion(NamedTuple):
    """P and Q of the network as it is, or with f `smoothed` by noise of that size, which is `absorbed` where the noise
    enters f."""

    smoothed: float
    absorbed: float
    found: Regularizer

    def predicted(self, sigma: float) -> float:
        return float(self.found.predict(sigma, self.absorbed))


class Loss(NamedTuple):
    """The expected loss at the noise: which loss, its value, its error (95 %; NaN: by the closure), statuses."""

    name: str
    value: float
    error: float
    status: tuple[Status, ...]

    @property
    def ok(self) -> bool:
        return all(status.ok for status in self.status)


class Judged(NamedTuple):
    """A network, where its trials come from, the noise, the loss under it and against noise, and the expansions of
    it."""

    name: str
    net: Network
    source: str
    sigma: float
    loss: Loss
    curve: LossCurve | tuple[Array, Array]
    expansions: list[Expansion]

    def share(self, expansion: Expansion) -> float:
        """Of the loss at the noise, what the expansion predicts."""
        known = 0 < self.loss.value < float("inf")
        return expansion.predicted(self.sigma) / self.loss.value if known else float("nan")

    @property
    def best(self) -> Expansion:
        return min(self.expansions, key=lambda expansion: abs(self.share(expansion) - 1))


@click.command(short_help="What noise adds to the loss: the explicit regulariser P + Q.", context_settings=WIDE)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--noise", type=Positive(), help="Noise.  [default: training noise]")
@click.option("--smoothed", type=Positive(), help="Smooth the activation by this noise.")
@click.option("--steps", type=click.IntRange(min=1), help="Steps of a trial.  [default: as the task has it, else 200]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of inputs.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw prediction and loss, and the neurons (.png, ...).")
def command(
    models: tuple[str, ...],
    noise: float | None,
    smoothed: float | None,
    steps: int | None,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """What noise adds to the loss of each MODEL: E l(σ) = l + σ²/2 (P + Q) + O(σ⁴), without sampling.

    The loss is that of its task, the squared error if it has none. P says what the shift of the mean costs (negative:
    noise brings the output closer to its target), Q what the variance costs; 'share' is what they predict of the loss
    at the training noise, or at --noise. That one is the closure's, or sampled where inputs change in time. With noise
    inside the activation there is a second line: the expansion about the activation smoothed by that noise (f~), whose
    l holds the noise's own shift to all orders; 'share' does not count that part of P again. Networks with kinks have
    only that line.

    \b
    Example:
      $ fpanalysis regularizer tanh.pt relu.pt --figure regularizer.png
      1  tanh
      2  relu
      model   f         l        P       Q      P+Q     loss   share  status
          1   f    0.0109   -0.337  0.0212   -0.315  0.00222  -1282%  ok
             f~  0.000722   0.0256  0.0168   0.0424  0.00222    100%  ok
          2  f~   0.00181  -0.0165  0.0318   0.0152  0.00689     84%  ok
      tanh: 11 condition(s), 120 steps, the last 80 count; loss at noise 0.5. A little noise
      lowers the loss: the shift of the mean goes towards the target (P = -0.337), the
      variance costs Q = 0.0212. At noise 0.5 the second order about no noise fails (-0.0285
      against 0.00222); about the smoothed activation it gives 100 % of the loss. ...
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=models)
    if figure_path is not None and len(models) > ROWS:
        raise InputError(f"--figure has room for {ROWS} models; found {len(models)}")
    judged = [_judged(model, noise, smoothed, steps, seed, figure_path is not None) for model in models]
    if json_path is not None:
        write_json(json_path, _document(judged))
    if figure_path is not None:
        from fpanalysis.figures import regularizer_figure

        save_figure(figure_path, regularizer_figure([(j.name, j.sigma, j.curve, j.expansions) for j in judged]))
    if json_path != "-":
        _print(judged)
        if figure_path is not None:
            click.echo(f"Figure: {figure_path}")
    if any(not e.found.status.ok for j in judged for e in j.expansions) or not all(j.loss.ok for j in judged):
        raise click.exceptions.Exit(3)


ROWS = 6  #: models in one figure


def _judged(
    model: str, noise: float | None, smoothed: float | None, steps: int | None, seed: int, drawn: bool
) -> Judged:
    import numpy as np

    from fpanalysis.checkpoint import load
    from fpanalysis.cli._batch import batch_of, in_its_loop
    from fpanalysis.moments import loss_curve
    from fpanalysis.network import Network
    from fpanalysis.results import Status
    from fpanalysis.tasks import remembered

    net = in_its_loop(load(model))
    own = max(float(np.max(net.sigma)), net.multiplicative)
    sigma = own if noise is None else noise
    if not sigma:
        raise InputError(f"--noise must be given: {model} was trained without noise, as de-noised networks are")
    task, chosen = remembered(net.info), batch_of(net, steps, seed)
    kind = task.loss if task else "squared error"
    levels = np.linspace(0, 1.5 * sigma, 7) if drawn else np.array([sigma])
    at = abs(levels - sigma).argmin()
    curve: LossCurve | tuple[Array, Array]
    if kind == "squared error" and (task is None or task.held) and isinstance(net, Network):
        curve = loss_curve(net, chosen.batch, levels, h0=chosen.h0)
        loss = Loss(kind, float(curve.loss[at]), float("nan"), curve.status)
    else:  # the closure knows no other loss and no Lipschitz RNN, and takes minutes where inputs change
        values, errors = np.transpose([_sampled(net, chosen, kind, float(level), seed) for level in levels])
        status = Status.OK if np.isfinite(values[at]) else Status.DIVERGED
        loss = Loss(kind, float(values[at]), float(errors[at]), (status,))
        curve = levels, values
    expansions = [_expansion(net, chosen, kind, sigma, size) for size in _sizes(net, sigma, smoothed)]
    return Judged(Path(model).stem, net, chosen.source, sigma, loss, curve, expansions)


def _noise_of(net: Network, sigma: float) -> dict[str, Any]:
    """The network's noise, additive and on the increment, at such a size of the larger one."""
    import numpy as np

    own = max(float(np.max(net.sigma)), net.multiplicative)
    if not own:
        return {"sigma": sigma}
    return {"sigma": sigma / own * net.sigma, "multiplicative": sigma / own * net.multiplicative}


def _sampled(net: Network, chosen: Batch, loss: str, sigma: float, seed: int) -> tuple[float, float]:
    from fpanalysis.regularizer import expected_loss

    noise = _noise_of(net, sigma) if sigma else {"sigma": 0.0}
    return expected_loss(net, chosen.batch, loss, **noise, h0=chosen.h0, rng=seed)


def _sizes(net: Network, sigma: float, asked: float | None) -> list[float]:
    """The sizes of noise that f is smoothed by, 0 for f itself: what is asked for; else f, if it has no kinks, and by
    noise that enters it. Of kinks without such noise the status says what is missing."""
    if asked is not None:
        return [asked]
    inside = _inside(net)
    return [0.0] * (net.smooth or not inside) + [sigma] * inside


def _inside(net: Network) -> bool:
    """Whether noise enters f, which smoothing by it then absorbs."""
    return getattr(net, "placement", "") == "in" and net.form == "rate"


def _expansion(net: Network, chosen: Batch, loss: str, sigma: float, size: float) -> Expansion:
    """About f smoothed by noise of the profile of the network's and that size."""
    from fpanalysis.regularizer import regularizer

    smoothed = size * net.noise_profile if size else None
    noise = _noise_of(net, sigma)
    found = regularizer(net, chosen.batch, loss, **noise, h0=chosen.h0, smoothed=smoothed, pairs=0)
    return Expansion(size, size if _inside(net) else 0.0, found)


def _print(judged: list[Judged]) -> None:
    columns, several = ["f", "l", "P", "Q", "P+Q", "loss", "share", "status"], len(judged) > 1
    rows = []
    for model, j in enumerate(judged, 1):
        for k, e in enumerate(j.expansions):
            r = e.found
            values = [number(value) for value in (r.l, r.P, r.Q, r.P + r.Q, j.loss.value)]
            share = f"{100 * j.share(e):.0f}%" if j.share(e) == j.share(e) else "-"
            row = ["f~" if e.smoothed else "f", *values, share, r.status.value]
            rows.append([*(["" if k else str(model)] * several), *row])
    if several:
        click.echo("\n".join(f"{model}  {j.name}" for model, j in enumerate(judged, 1)))
    table(["model"] * several + columns, rows)
    for j in judged:
        click.echo(click.wrap_text(f"{j.name}: {' '.join(_findings(j))}", width=88) + "\n")


def _findings(j: Judged) -> list[str]:
    """Sentences: what was analysed and why, and what follows."""
    loss = "loss" if j.loss.name == "squared error" else j.loss.name
    error = "" if j.loss.error != j.loss.error else f" sampled, ± {number(j.loss.error, 2)} (95 %)"
    texts = [f"{j.source}; {loss} at noise {j.sigma:.3g}{error}."]
    bad = [e.found.status for e in j.expansions if not e.found.status.ok]
    if bad:
        return [
            *texts,
            f"Status {bad[0].value}: {GROWN[bad[0].value]}" if bad[0].value in GROWN else f"Status {bad[0]}.",
        ]
    if not j.net.smooth:
        texts.append("The activation has kinks, where P and Q do not exist; they are those of the smoothed one.")
    first, best = j.expansions[0], j.best
    r = first.found
    effect = "lowers" if r.P + r.Q < 0 else "raises"
    where = "In the smoothed network a" if first.smoothed else "A"
    texts.append(f"{where} little noise {effect} the loss: {_terms(r)}.")
    if abs(j.share(first) - 1) > NEAR and best is not first:
        texts.append(
            f"At noise {j.sigma:.3g} the second order about no noise fails ({number(first.predicted(j.sigma))} against "
            f"{number(j.loss.value)}); about the smoothed activation it gives {100 * j.share(best):.0f} % of the loss."
        )
    elif abs(j.share(best) - 1) > NEAR:
        texts.append(f"That is {100 * j.share(best):.0f} % of the loss at noise {j.sigma:.3g}: higher orders matter.")
    carriers = (_carriers(name, getattr(best.found, f"{name}_by_neuron")) for name in ("P", "Q"))
    return [*texts, *filter(None, carriers)]


def _terms(r: Regularizer) -> str:
    toward = "towards the target" if r.P < 0 else "away from the target" if r.P > 0 else "neither way"
    return f"the shift of the mean goes {toward} (P = {number(r.P)}), the variance costs Q = {number(r.Q)}"


def _carriers(name: str, shares: Array) -> str:
    """How many neurons carry most of the sum of |shares|, and the first three; nothing of a lone neuron."""
    sizes = abs(shares)
    order, total = sizes.argsort()[::-1], sizes.sum()
    if len(order) == 1:
        return ""
    if not total:
        return f"No neuron adds to {name}."
    count = min(int((sizes[order].cumsum() < MOST * total).sum()) + 1, len(order))
    first, *rest = order[: min(count, 3)].tolist()
    if not rest:
        return f"Neuron {first} (from 0) alone carries {100 * MOST:.0f} % of {name}."
    return (
        f"{count} of {len(order)} neurons carry {100 * MOST:.0f} % of {name}, the most neuron {first} (from 0), then "
        f"{' and '.join(map(str, rest))}."
    )


def _document(judged: list[Judged]) -> dict[str, Any]:
    return {
        "schema": "fpanalysis.regularizer/1",
        "version": judged[0].expansions[0].found.provenance.version,
        "models": [
            {
                "name": j.name,
                "model": j.net.hash,
                "trials": j.source,
                "sigma": j.sigma,
                "loss_name": j.loss.name,
                "loss": j.loss.value,
                "loss_error": j.loss.error,
                "loss_status": sorted({status.value for status in j.loss.status}),
                "expansions": [_described(j, e) for e in j.expansions],
            }
            for j in judged
        ],
    }


def _described(j: Judged, e: Expansion) -> dict[str, Any]:
    names = ("l", "P", "P_direct", "Q")
    return {
        "smoothed": e.smoothed or None,
        "status": e.found.status.value,
        **{name: getattr(e.found, name) for name in names},
        "predicted": e.predicted(j.sigma),
        "share": j.share(e),
        "P_by_neuron": e.found.P_by_neuron.tolist(),
        "Q_by_neuron": e.found.Q_by_neuron.tolist(),
    }
