"""fpanalysis robustness: accuracy or loss under perturbed inputs, and how far inputs are from another class."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._options import WIDE, NoiseRange, Several
from fpanalysis.cli._report import FIGURE_TYPES, check_outputs, check_suffix, number, save_figure, table, write_json
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.cli._robustness_trials import Asked
    from fpanalysis.network import Array
    from fpanalysis.results import Status
    from fpanalysis.robustness import Perturbed, Robustness
    from fpanalysis.system import System

KINDS = ("white", "multiplicative", "salt-and-pepper")
MODELS = 6  #: that a figure has room for
SHORT = {"white": "white", "multiplicative": "mult.", "salt-and-pepper": "s. & p."}


class Judged(NamedTuple):
    """A network, what it was asked, and what was found."""

    name: str
    net: System
    asked: Asked
    found: Robustness

    @property
    def statuses(self) -> list[Status]:
        """Those that are not ok, each once; to have no classes is no failure."""
        every = [*self.found.margins.statuses, *(s for one in self.found.perturbed.values() for s in one.statuses)]
        return [status for status in dict.fromkeys(every) if not status.ok and status.value != "no margin"]


@click.command(short_help="Accuracy under perturbed inputs, and margins.", context_settings=WIDE)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--kind", "kinds", type=Several(click.Choice(KINDS), "KIND,..."), help="Perturbations.  [default: all]")
@click.option("--noise", type=NoiseRange(), help="Their levels: start:stop:count or a,b,c.  [default: five from 0]")
@click.option(
    "--trials", type=click.IntRange(min=2), default=128, show_default=True, help="Trials drawn from the task."
)
@click.option("--draws", type=click.IntRange(min=2), default=8, show_default=True, help="Perturbations of each trial.")
@click.option("--own-noise", is_flag=True, help="Leave the network's own noise on.  [default: off]")
@click.option(
    "--starts", type=click.IntRange(min=1), default=4, show_default=True, help="Of the search for found margins."
)
@click.option("--proven/--not-proven", default=True, help="Look for proven margins; long trials take a while.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of all that is drawn.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw accuracy and margins (.png, .pdf, .svg).")
def command(
    models: tuple[str, ...],
    kinds: tuple[str, ...] | None,
    noise: tuple[float, ...] | None,
    trials: int,
    draws: int,
    own_noise: bool,
    starts: int,
    proven: bool,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Perturb the inputs of each MODEL: what is left of its accuracy, or success, or loss?

    The trials are those its task keeps for tests. With ξ ~ N(0, 1): white noise of level s makes u + s ξ of every
    input u, multiplicative noise u (1 + s ξ), and salt-and-pepper turns a share s of the inputs into the least or the
    largest there is. The margin of a trial of a classifier is the least norm of a perturbation of its whole sequence
    of inputs that changes its class: to first order (local), at most (found: such a perturbation was run), and at least
    (proven: none is smaller). Intervals are at 95 %. Several models see the same trials and perturbations.

    \b
    Example:
      $ fpanalysis robustness clean.pt noisy.pt --figure robustness.png
      1  clean: 128 test trials of digits
      2  noisy: 128 test trials of digits
                                                              s. & p.
      model   measure       clean   white 0.3   mult. 0.4         0.1  local  found  proven  Jacobian
          1  accuracy  0.961±0.04   0.77±0.04  0.904±0.03  0.872±0.04  0.434  0.414   0.055      27.7
          2  accuracy  0.961±0.04  0.824±0.04  0.906±0.03  0.901±0.03  0.482  0.454  0.0614      22.4
      ...
      Differences from model 1, trial by trial:
      model   clean    white 0.3     mult. 0.4  s. & p. 0.1        found
          2  0±0.02  0.0547±0.03  0.00195±0.02  0.0293±0.02  0.0395±0.01
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=models)
    if figure_path is not None and len(models) > MODELS:
        raise InputError(f"--figure has room for {MODELS} models; found {len(models)}")
    levels = dict.fromkeys(kinds or KINDS, noise)
    settings = {"draws": draws, "sigma": None if own_noise else 0.0, "starts": starts, "proven": proven}
    judged = [_judged(model, levels, trials, seed, settings) for model in models]
    if json_path is not None:
        write_json(json_path, _document(judged))
    if figure_path is not None:
        from fpanalysis.figures import robustness_figure

        names = [one.name for one in judged]
        names = [f"{k} {name}" if names.count(name) > 1 else name for k, name in enumerate(names, 1)]
        found = dict(zip(names, (one.found for one in judged), strict=True))
        save_figure(figure_path, robustness_figure(found))
    if json_path != "-":
        for one in judged[:1] if len(judged) == 1 else []:
            _print(one)
        if len(judged) > 1:
            _compare(judged)
        if figure_path is not None:
            click.echo(f"Figure: {figure_path}")
    failed = False
    for one in judged:
        for status in one.statuses:
            failed = True
            click.echo(f"\n{one.name}: {status}", err=True)
    if failed:
        raise click.exceptions.Exit(3)


def _judged(model: str, levels: dict[str, Any], trials: int, seed: int, settings: dict[str, Any]) -> Judged:
    from fpanalysis.checkpoint import load
    from fpanalysis.cli._robustness_trials import asked_of
    from fpanalysis.robustness import robustness

    net = load(model)
    asked = asked_of(net, trials, seed)
    if asked.additive_only:
        levels = {kind: at for kind, at in levels.items() if kind == "white"}
        if not levels:
            raise InputError(f"{model} sees a point that it moves: --kind can only be white, added to what it sees")
    found = robustness(
        asked.net,
        asked.batch,
        levels,
        h0=asked.h0,
        score=asked.score,
        loss=asked.loss,
        sampled=asked.sampled,
        rng=seed,
        **settings,
    )
    return Judged(Path(model).stem, asked.net, asked, found)


def _measured(one: Perturbed) -> tuple[Array, Array, bool]:
    """Accuracy or success with its interval where there is one, else the loss; and whether it is a share."""
    if one.accuracy is None or one.accuracy_interval is None:
        return one.loss, one.loss_interval, False
    return one.accuracy, one.accuracy_interval, True


def _called(one: Judged) -> str:
    """What the measure of its outputs is."""
    if one.found.margins.label is not None:
        return "accuracy"
    return "success" if one.asked.score is not None else "loss"


def _print(one: Judged) -> None:
    click.echo(f"{one.net!r}\n{one.asked.source}")
    share = _called(one) != "loss"
    rows: list[list[str]] = []
    for kind, found in one.found.perturbed.items():
        values, ends, _ = _measured(found)
        named = False
        for k, level in enumerate(found.levels):
            if not level and rows:  # inputs as they are: as in the first row
                continue
            name = "none" if not level else "" if named else kind
            named = named or bool(level)
            row = [name, number(float(level)), number(float(values[k])), _span(ends[k])]
            row += [number(float(found.loss[k]))] if share else []
            rows.append([*row, found.statuses[k].value])
    table(["perturbation", "level", _called(one), "95 %", *(["loss"] if share else []), "status"], rows)
    m = one.found.margins
    if m.label is not None:
        rows = []
        for name, values in _shown(one).items():
            rows.append([name, *(number(value) for value in _summary(values))])
        click.echo("Margins in the inputs (l2 norm over all steps), misclassified trials as 0")
        table(["margin", "mean", "25 %", "50 %", "75 %"], rows)
    for sentence in _findings(one):
        click.echo(click.wrap_text(sentence, width=80) + "\n")


def _shown(one: Judged) -> dict[str, Array]:
    """The margins that there are, misclassified trials as 0."""
    import numpy as np

    m = one.found.margins
    kinds = {"local": np.maximum(m.local, 0), "found": m.found, "proven": m.proven}
    return {name: values for name, values in kinds.items() if not np.isnan(values).all()}


def _summary(values: Array) -> list[float]:
    """Mean and quartiles of those that exist."""
    import numpy as np

    known = values[np.isfinite(values)]
    return [float("nan")] * 4 if not len(known) else [float(known.mean()), *np.quantile(known, [0.25, 0.5, 0.75])]


def _span(ends: Array) -> str:
    return f"{number(float(ends[0]))}..{number(float(ends[1]))}"


def _findings(one: Judged) -> list[str]:
    """What the numbers mean."""
    import numpy as np

    m = one.found.margins
    told = []
    if m.label is not None:
        wrong = int((~m.correct).sum())
        size = float(np.sqrt((np.asarray(one.asked.batch[0], float) ** 2).sum(axis=(0, 2))).mean())
        told.append(f"{wrong} of {len(m.found)} trials are misclassified without perturbation.")
        right = m.correct & np.isfinite(m.found) & (m.found > 0)
        if right.any():
            middle = float(np.median(m.found[right]))
            told.append(
                f"Half of the others change class under a perturbation of norm {number(middle)}, "
                f"{100 * middle / size:.2g} % of the norm of the inputs."
            )
        if right.any() and not np.isnan(m.proven).all():
            ratio = float(np.median(m.proven[right] / m.found[right]))
            told[-1] += f" Proven is {100 * ratio:.2g} % of what was found (median)."
    for kind, found in one.found.perturbed.items():
        gain = _gain(found)
        if gain is not None:
            level = number(float(found.levels[gain]))
            text = f"Perturbed ({kind}, level {level}) the {_called(one)} is better than clean"
            own = (np.any(one.net.sigma) or one.net.multiplicative) and found.provenance.settings["sigma"] is not None
            told.append(f"{text}{': the network lacks its training noise (see --own-noise).' if own else '.'}")
            break
    told.append(
        "Jacobian of the outputs after the last counted step in all inputs: spectral norm "
        f"{number(_summary(m.spectral)[0])}, Frobenius norm {number(_summary(m.frobenius)[0])} (means over trials)."
    )
    return told


def _gain(found: Perturbed) -> int | None:
    """The level at which it is better than without perturbation by more than both intervals, and best; None."""
    values, ends, share = _measured(found)
    sign = 1 if share else -1
    best = int((sign * values).argmax())
    better = ends[best, 0] > ends[0, 1] if share else ends[best, 1] < ends[0, 0]
    return best if found.levels[0] == 0 and better else None


def _compare(judged: list[Judged]) -> None:
    """One row per model, at the next to last level of each kind; then by how much each differs from the first."""
    kinds = list(dict.fromkeys(kind for one in judged for kind in one.found.perturbed))
    rows = []
    for k, one in enumerate(judged, 1):
        first = next(iter(one.found.perturbed.values()))
        row = [str(k), _called(one), _with_error(*_at(first, 0)) if first.levels[0] == 0 else "-"]
        for kind in kinds:
            own = one.found.perturbed.get(kind)
            row.append("-" if own is None else _with_error(*_at(own, _level(own))))
        shown = _shown(one) if one.found.margins.label is not None else {}
        row += [number(_summary(shown[name])[0] if name in shown else None) for name in ("local", "found", "proven")]
        status = one.statuses[0].value if one.statuses else "ok"
        rows.append([*row, number(_summary(one.found.margins.spectral)[0]), status])
    click.echo("\n".join(f"{k}  {one.name}: {one.asked.source}" for k, one in enumerate(judged, 1)))
    every = [found for one in judged for found in one.found.perturbed.values()]
    level = {found.kind: number(float(found.levels[_level(found)])) for found in every}
    heads = [f"{SHORT[kind]} {level[kind]}" for kind in kinds]
    table(["model", "measure", "clean", *heads, "local", "found", "proven", "Jacobian", "status"], rows)
    click.echo(
        "clean and perturbed: accuracy, success or loss, ± at 95 %. local, found, proven: mean margins in the\n"
        "inputs (l2), misclassified trials as 0. Jacobian: mean spectral norm of that of the outputs in the inputs."
    )
    found = [_differences(k, one, judged[0], kinds) for k, one in enumerate(judged[1:], 2)]
    rows = [row for row in found if row is not None]
    if rows:
        click.echo("Differences from model 1, trial by trial:")
        table(["model", "clean", *heads, "found"], rows)


def _differences(k: int, one: Judged, first: Judged, kinds: list[str]) -> list[str] | None:
    """None where the two do not see the same trials, or are not measured alike."""
    import numpy as np

    from fpanalysis.robustness import mean_interval

    same = all(np.array_equal(a, b) for a, b in zip(one.asked.batch[:2], first.asked.batch[:2], strict=True))
    if not same or _called(one) != _called(first) or list(one.found.perturbed) != kinds:
        return None
    pairs = [one.found.perturbed[kind].difference(first.found.perturbed[kind]) for kind in kinds]
    row = [str(k), "-" if one.found.perturbed[kinds[0]].levels[0] else _with_error(pairs[0][0][0], pairs[0][1][0])]
    for kind, (change, ends) in zip(kinds, pairs, strict=True):
        at = _level(one.found.perturbed[kind])
        row.append(_with_error(change[at], ends[at]))
    margins = one.found.margins.found - first.found.margins.found
    mean, ends = mean_interval(margins[:, None])
    return [*row, _with_error(float(mean), ends) if np.isfinite(margins).all() else "-"]


def _at(found: Perturbed, k: int) -> tuple[float, Array]:
    values, ends, _ = _measured(found)
    return float(values[k]), ends[k]


def _level(one: Perturbed) -> int:
    return max(len(one.levels) - 2, 0)


def _with_error(value: float, ends: Array) -> str:
    return f"{number(float(value))}±{number(float(ends[1] - ends[0]) / 2, 1)}"


def _document(judged: list[Judged]) -> dict[str, Any]:
    from fpanalysis import __version__

    return {
        "schema": "fpanalysis.robustness/1",
        "version": __version__,
        "models": [_described(one) for one in judged],
    }


def _described(one: Judged) -> dict[str, Any]:
    m = one.found.margins
    classes = m.label is not None
    margins = {name: getattr(m, name).tolist() for name in ("local", "found", "proven")} if classes else None
    return {
        "name": one.name,
        "model": one.net.hash,
        "trials": one.asked.source,
        "measure": _called(one),
        "perturbed": [_level_by_level(found) for found in one.found.perturbed.values()],
        "margins": margins,
        "correct": m.correct.tolist() if classes else None,
        "starts": m.provenance.settings["starts"],
        "margin_statuses": sorted({status.value for status in m.statuses}),
        "jacobian_spectral": m.spectral.tolist(),
        "jacobian_frobenius": m.frobenius.tolist(),
        "lipschitz": m.lipschitz,
    }


def _level_by_level(found: Perturbed) -> dict[str, Any]:
    share = found.accuracy is not None and found.accuracy_interval is not None
    return {
        "kind": found.kind,
        "levels": found.levels.tolist(),
        "share": found.accuracy.tolist() if share else None,  # type: ignore[union-attr]
        "share_interval": found.accuracy_interval.tolist() if share else None,  # type: ignore[union-attr]
        "loss": found.loss.tolist(),
        "loss_interval": found.loss_interval.tolist(),
        "status": [status.value for status in found.statuses],
        "draws": found.provenance.settings["draws"],
        "seed": found.provenance.seed,
    }
