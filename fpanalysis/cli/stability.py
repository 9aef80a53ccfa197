"""fpanalysis stability: Lyapunov exponents with and without noise, and proofs that the network contracts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fpanalysis.cli._inputs import Input, chosen
from fpanalysis.cli._options import WIDE, NoiseRange, Numbers
from fpanalysis.cli._report import FIGURE_TYPES, check_outputs, check_suffix, number, save_figure, table, write_json
from fpanalysis.cli._stability_trials import finding
from fpanalysis.cli._stability_trials import rows as trial_rows
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.cli._stability_trials import Along
    from fpanalysis.network import Network
    from fpanalysis.results import Status
    from fpanalysis.stability import Certificate, Contraction, ExponentBounds, Lyapunov

MODELS = 6  #: that a figure has room for
GENTLER = 1e-3  #: least relative gain of the certificates within the box that makes them worth a row


class Run(NamedTuple):
    """How exponents are computed: how many, steps and start of each trajectory, seed."""

    k: int
    steps: int | None
    start: tuple[float, ...] | None
    seed: int

    def exponents(self, net: Network, u: Any, level: float, k: int) -> Lyapunov:
        import numpy as np

        from fpanalysis.cli._batch import noise_at
        from fpanalysis.stability import lyapunov

        start = None if self.start is None else np.array(self.start)
        if start is not None and len(start) == 1:
            start = np.full(net.N, start[0])
        noise = noise_at(net, level)
        return lyapunov(net, u, k=min(k, net.N), steps=self.steps, **noise, start=start, rng=self.seed)


class Judged(NamedTuple):
    """A network, its training noise, its exponents at each noise level, what is proven of it, its bounds, and its
    exponents along trials whose inputs change."""

    name: str
    net: Network
    trained: float
    levels: list[Lyapunov]
    proofs: list[Contraction]
    bounds: ExponentBounds | None
    along: Along | None

    @property
    def statuses(self) -> list[tuple[str, float, Status]]:
        """Those that are not ok, of which runs and at which noise. Held inputs at which trajectories diverge are no
        failure where no trial holds them."""
        from fpanalysis.results import Status

        held, where = ([], "") if self.along is None else ([Status.DIVERGED], "at zero input ")
        found = [(where, level.noise, level.status) for level in self.levels if level.status not in held]
        found += [
            ("along its trials ", level.noise, level.status) for level in (self.along.levels if self.along else ())
        ]
        return [one for one in found if not one[2].ok]

    @property
    def best(self) -> Certificate | None:
        """The best certificate that holds with the network's noise too."""
        return self.proofs[0].best

    @property
    def ends(self) -> list[Lyapunov]:
        """At the least noise, and at the training noise if it is among the levels, else at the most."""
        trained = [level for level in self.levels[1:] if level.noise == self.trained]
        return [self.levels[0], *(trained or self.levels[1:])[-1:]]


@click.command(short_help="Lyapunov exponents, with and without noise; proofs of contraction.", context_settings=WIDE)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option("--noise", type=NoiseRange(), help="Noise levels: start:stop or a,b,c.  [default: 0, trained]")
@click.option("--input", "u", type=Input(), help="The input that is held, or a condition's name.  [default: zero]")
@click.option(
    "--exponents", "k", default=16, show_default=True, type=click.IntRange(min=1), help="How many, from the top."
)
@click.option(
    "--steps", type=click.IntRange(min=8), help="Steps of each of the 8 trajectories.  [default: 200 time constants]"
)
@click.option("--start", type=Numbers(), help="Where they all start: one value, or one per neuron.  [default: random]")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of starts and noise.")
@click.option("--json", "json_path", metavar="FILE|-", help="Write everything as JSON; - for stdout and nothing else.")
@click.option("--figure", "figure_path", metavar="FILE", help="Draw spectrum and top exponent (.png, .pdf, .svg).")
def command(
    models: tuple[str, ...],
    noise: tuple[float, ...] | None,
    u: Any,
    k: int,
    steps: int | None,
    start: tuple[float, ...] | None,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """Tell whether MODEL forgets its past: do two trajectories under the same noise and input meet?

    They do if the top Lyapunov exponent is negative. Exponents are per step, with errors at 95 %; noise inside the
    activation changes the Jacobian and with it the exponents. A certificate is a weighted norm in which every step
    shrinks the distance of any two states, whatever the noise: rate < 1, proven in floating point. The norm condition
    for almost-sure stability follows Lim et al. (NeurIPS 2021). A network that steers a point in a closed loop is
    judged in that loop. Where the inputs of the task change in time and no --input is held, exponents along its test
    trials come first: 1/T log of the largest growth of any small difference over the T steps of a trial; there, that
    trajectories at zero input diverge is no failure. Several models are compared, one row each.

    \b
    Example:
      $ fpanalysis stability model.pt --noise 0,0.5
      noise  top exponent  ± (95 %)  per time constant  dimension  status
          0      -0.07011     0.002             -0.351          0  ok
        0.5      -0.07576    0.0008             -0.379          0  ok
      Without noise nearby trajectories meet, in 1 / 0.0701 = 14.3 steps.
      With noise 0.5 nearby trajectories meet, in 1 / 0.0758 = 13.2 steps.
      Contraction is not proven: the best norm found misses it by 0.203 per step.
      Norm condition for almost-sure stability (after Lim et al. 2021): steepest slope
      times |W| = 3.122 must be below 1: it fails by 2.12.
      ...
    """
    check_suffix("--figure", figure_path, FIGURE_TYPES)
    check_outputs(json_path, figure_path, models=models)
    if figure_path is not None and len(models) > MODELS:
        raise InputError(f"--figure has room for {MODELS} models; found {len(models)}")
    run = Run(k, steps, start, seed)
    judged = [_judged(model, noise, u, run, fine=figure_path is not None) for model in models]
    if json_path is not None:
        document = {"schema": "fpanalysis.stability/1", "models": [_document(one) for one in judged]}
        write_json(json_path, document)
    if figure_path is not None:
        from fpanalysis.figures import stability_figure

        names = [one.name for one in judged]
        names = [f"{k} {name}" if names.count(name) > 1 else name for k, name in enumerate(names, 1)]
        bounds = {name: one.best.exponent for name, one in zip(names, judged, strict=True) if one.best is not None}
        runs = {name: one.levels for name, one in zip(names, judged, strict=True)}
        trials = {name: one.along.levels for name, one in zip(names, judged, strict=True) if one.along is not None}
        save_figure(figure_path, stability_figure(runs, bounds, trials))
    if json_path != "-":
        if len(judged) == 1:
            _print(judged[0])
        else:
            _compare(judged)
        if figure_path is not None:
            click.echo(f"Figure: {figure_path}")
    if any(one.statuses for one in judged):
        _explain(judged)
        raise click.exceptions.Exit(3)


def _judged(model: str, noise: tuple[float, ...] | None, u: Any, run: Run, fine: bool) -> Judged:
    from fpanalysis.checkpoint import load
    from fpanalysis.cli._batch import in_its_loop, own_noise
    from fpanalysis.cli._stability_trials import along_trials
    from fpanalysis.stability import contraction_certificates, exponent_bounds

    net, held = load(model), u is not None
    if u is not None:
        (u,) = chosen(net, (u,)) or (u,)
    net = in_its_loop(net)
    trained = own_noise(net)
    if noise is None:
        noise = tuple(trained * share for share in ((0, 0.25, 0.5, 0.75, 1, 1.25, 1.5) if fine else (0, 1)))
    whole = {min(noise), trained if trained in noise else max(noise)}
    levels = [run.exponents(net, u, sigma, run.k if sigma in whole else 1) for sigma in sorted(set(noise))]
    proofs = [contraction_certificates(net), contraction_certificates(net, u, region="box")]
    bounds = None if net.activation.slope_peak is None else exponent_bounds(net)
    along = None if held else along_trials(net, noise, run.seed)
    return Judged(Path(model).stem, net, trained, levels, proofs, bounds, along)


def _print(one: Judged) -> None:
    click.echo(repr(one.net))
    if one.along is not None:
        click.echo(f"Along {one.along.source}, {one.along.steps} steps each")
        table(["noise", "mean exponent", "± (95 %)", "least", "largest", "status"], trial_rows(one.along))
        click.echo("With the input held at zero, as in no trial")
    rows = []
    for level in one.levels:
        row = [number(level.noise, 4), number(level.top, 4), number(level.top_error, 1)]
        rows.append([*row, number(float(level.per_time[0])), number(level.kaplan_yorke), level.status.value])
    table(["noise", "top exponent", "± (95 %)", "per time constant", "dimension", "status"], rows)
    for sentence in findings(one):
        click.echo(click.wrap_text(sentence, width=80) + "\n")
    rows = []
    rates = [proof.best.rate if proof.best else float("inf") for proof in one.proofs]
    anywhere = "any state, additive noise" if one.net.multiplicative else "any state, any noise"
    for proof, where in zip(one.proofs, (anywhere, "within its box, no noise"), strict=True):
        if proof is one.proofs[1] and not rates[1] < rates[0] * (1 - GENTLER):
            break
        rows += [[f"{c.norm}-norm", where, number(c.rate, 5), number(c.margin, 3)] for c in proof.certificates]
    if rows:
        click.echo("Contraction: the distance of two states changes by at most this factor per step")
        table(["weighted norm", "holds for", "rate", "1 - rate"], rows)


def findings(one: Judged) -> list[str]:
    """What the exponents, the certificates and the norm condition say."""
    along = [] if one.along is None else [one.along.at(level.noise) for level in one.ends]
    told = [finding(one.along, level) for level in along if one.along and level]
    for level in one.ends:
        sigma = level.noise
        where = f"With noise {sigma:.4g}" if sigma else "Without noise"
        where = f"At zero input, {where.lower()}," if one.along else where
        told.append(f"{where} {meaning(level)}.{_apart(level)}")
    best, kind = one.best, "additive noise" if one.net.multiplicative else "noise"
    if best is None:
        told.append("Nothing can be proven: the slopes of the activation are not known to be bounded.")
    elif best.holds:
        told.append(
            f"Proven: any two trajectories under the same input and {kind} meet, by a factor of at most "
            f"{best.rate:.5g} per step in a weighted {best.norm}-norm."
        )
    else:
        told.append(f"Contraction is not proven: the best norm found misses it by {-best.margin:.3g} per step.")
    if one.bounds is not None:
        told.append(_norm_condition(one.net, one.bounds))
    return told


def _norm_condition(net: Network, bounds: ExponentBounds) -> str:
    from fpanalysis.network import Network

    wanted = f"steepest slope times |W| = {bounds.weight_norm:.4g} must be below 1"
    if not isinstance(net, Network):
        added = ", the noise's share" * bool(net.multiplicative)
        wanted = (
            f"the top eigenvalue of A's symmetric part{added} and steepest slope times |W| add up to "
            f"{bounds.upper:.4g}, which must be below 0"
        )
    outcome = f"it {'holds' if bounds.holds else 'fails'} by {abs(bounds.margin):.3g}"
    return f"Norm condition for almost-sure stability (after Lim et al. 2021): {wanted}: {outcome}."


def meaning(level: Lyapunov) -> str:
    """What the sign of the top exponent says."""
    top, error = level.top, level.top_error
    if top != top:
        return "trajectories diverge"
    if top == -float("inf"):
        return "the past is forgotten within a few steps"
    if top + error < 0:
        return f"nearby trajectories meet, in 1 / {-top:.3g} = {-1 / top:.3g} steps"
    if top - error > 0:
        return "nearby trajectories part: chaos"
    return "the top exponent cannot be told from zero: neutral, as along a line of fixed points or a cycle"


def _apart(level: Lyapunov) -> str:
    """How far trajectories are apart that do not agree, and what to do."""
    from fpanalysis.results import Status

    if level.status is not Status.POORLY_MIXED:
        return ""
    tops = level.chains[:, 0]
    return (
        f" That is a mean of trajectories that do not agree: theirs are {number(tops.min())} to {number(tops.max())}. "
        "Let them run longer (--steps), or choose where they start (--start 0, say)."
    )


def _compare(judged: list[Judged]) -> None:
    """One row per model."""
    rows, any_trials = [], any(one.along for one in judged)
    for k, one in enumerate(judged, 1):
        first, last = one.ends[0], one.ends[-1]
        row = [str(k), number(last.noise)]
        for end in (first, last) if any_trials else ():
            level = one.along.at(end.noise) if one.along else None
            row.append(_with_error(level.top, level.error) if level else "-")
        row += [_with_error(end.top, end.top_error) for end in (first, last)]
        row += [number(one.best.rate if one.best else None, 4), number(one.bounds.margin if one.bounds else None)]
        rows.append([*row, one.statuses[0][2].value if one.statuses else "ok"])
    click.echo("\n".join(f"{k}  {one.name}" for k, one in enumerate(judged, 1)))
    trials = ["trials: least", "noisy"] if any_trials else []
    held = [f"{'held: ' * any_trials}least", "noisy"]
    table(["model", "noise", *trials, *held, "rate", "margin", "status"], rows)
    if any_trials:
        click.echo(
            "trials: mean exponent along the test trials of a task whose inputs change. held: at zero input, or the\n"
            "one that is held; '-' where trajectories diverge."
        )
    click.echo(
        "least, noisy: top exponent per step at the least noise asked for (none, unless --noise says so) and at\n"
        "that in the column noise, ± at 95 %. rate: below 1 it is a proof of contraction. margin: 1 - steepest\n"
        "slope times |W|; where it is positive the condition of Lim et al. (2021) for almost-sure stability holds."
    )


def _with_error(value: float, error: float) -> str:
    finite = abs(value) < float("inf")
    return f"{number(value)}±{number(error, 1)}" if finite else number(value)


def _document(one: Judged) -> dict[str, Any]:
    """NaN and infinities become null when it is written."""
    names = ("exponents", "error", "per_time")
    levels = [
        {
            "sigma": level.noise,
            **{name: getattr(level, name).tolist() for name in names},
            "sum": level.total,
            "sum_error": level.total_error,
            "top_by_trajectory": level.chains[:, 0].tolist(),
            "steps": level.provenance.settings["steps"],
            "dimension": level.kaplan_yorke,
            "status": level.status.value,
        }
        for level in one.levels
    ]
    certificates = [
        {"region": proof.region, "norm": c.norm, "rate": c.rate, "rounding": c.rounding, "holds": c.holds}
        for proof in one.proofs
        for c in proof.certificates
    ]
    b = one.bounds
    norm = {"weight_norm": b.weight_norm, "margin": b.margin, "upper_per_step": b.step_upper} if b else None
    return {
        "name": one.name,
        "model": one.net.hash,
        "version": one.levels[0].provenance.version,
        "trials": one.along.document if one.along else None,
        "levels": levels,
        "certificates": certificates,
        "norm_condition": norm,
    }


def _explain(judged: list[Judged]) -> None:
    """Each status that occurred, and where, on stderr."""
    for one in judged:
        for key in dict.fromkeys((where, status) for where, _, status in one.statuses):
            at = ", ".join(f"{noise:.4g}" for where, noise, status in one.statuses if (where, status) == key)
            click.echo(f"\n{one.name} {key[0]}at noise {at}: {key[1]}", err=True)
