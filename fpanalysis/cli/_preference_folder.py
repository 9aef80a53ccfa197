"""`fpanalysis preference` over a folder of networks: what the networks of each kind prefer, and how far they agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._report import number, save_figure, table, write_json
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.checkpoint import Trained
    from fpanalysis.models.sweep import Group, Spread, Sweep
    from fpanalysis.preference import Preference

    Verdicts = dict[str, Preference]  #: by the name of the network

MANIFEST = "manifest.json"
FAILED = ("not trained", "diverged", "pending")  #: what a manifest says of networks that are not to be judged
NEEDED, NEAR = 1.05, 0.5  #: least R that counts as needing noise, and preferred noise / training noise as near
PARTS = {True: ("bias²", "variance"), False: ("loss of the mean", "Jensen's gap")}  #: of a squared error or not
INPUTS = 128  #: trials drawn from the task: what they leave of R outweighs what the runs do
RUNS = 32  #: of each, at every noise level
Z = 1.96  #: standard errors that cover the truth at 95 %


def judge_folder(
    folder: Path,
    noise: tuple[float, ...] | None,
    trials: int,
    seed: int,
    json_path: str | None,
    figure_path: str | None,
) -> None:
    """The command for a folder; exit status 3 if a file was left out or a network diverges."""
    if trials < 4:
        raise InputError(f"--trials must be at least 4 for a folder, which is judged by Monte Carlo; found {trials}")
    networks, left_out = read_folder(folder)
    for name, reason in left_out.items():
        click.echo(f"left out {name}: {reason}", err=True)
    if not networks:
        raise InputError(f"{folder} holds no network to judge: found {len(left_out) or 'no'} file(s) *.pt")
    found = _swept(networks, noise, trials, seed)
    verdicts = _verdicts(networks, found)
    if json_path is not None:
        write_json(json_path, document(found, left_out, verdicts))
    if figure_path is not None:
        from fpanalysis.figures import sweep_figure

        save_figure(figure_path, sweep_figure(found))
    if json_path != "-":
        report(found, verdicts)
        if figure_path is not None:
            click.echo(f"Figure: {figure_path}")
    grown = [network.name for group in found.groups for network in group.networks if not network.curve.ok]
    if grown:
        click.echo(f"diverged at some noise level, so without preferred noise: {', '.join(grown)}", err=True)
    if grown or left_out:
        raise click.exceptions.Exit(3)


def read_folder(folder: Path) -> tuple[dict[str, Trained], dict[str, str]]:
    """The networks in `folder`, or in that one file, by file name, and why the other files *.pt, and networks that were
    to be, are none."""
    from fpanalysis.checkpoint import load
    from fpanalysis.models.evaluation import check_levels_mean_all
    from fpanalysis.models.sweep import task_of

    networks: dict[str, Trained] = {}
    alone = folder.is_file()
    left_out = {} if alone else _failed(folder)
    seen: dict[tuple[Any, ...], str] = {}
    for path in [folder] if alone else sorted(folder.glob("*.pt")):
        if path.stem in left_out:
            continue
        try:
            net = load(path)
            task = task_of(net)
            check_levels_mean_all([net])
        except InputError as error:
            left_out[path.stem] = str(error).removeprefix(f"{path}: ")
            continue
        first = seen.setdefault((net.hash, task.name, str(task.settings())), path.stem)
        if first != path.stem:
            left_out[path.stem] = f"it is the same network as {first}: a copy is no other seed"
        else:
            networks[path.stem] = net
    return networks, left_out


def _failed(folder: Path) -> dict[str, str]:
    """What the manifest of a study says of networks that did not train; a folder needs none."""
    import json

    try:
        entries = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["networks"]
        said = {str(entry["name"]): str(entry["status"]) for entry in entries}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {MANIFEST: f"it cannot be read as that of a study ({type(error).__name__})"}
    failed = {name: f"{MANIFEST} says {status!r}" for name, status in said.items() if status in FAILED}
    lost = {name: f"{MANIFEST} says {status!r}, but there is no file" for name, status in said.items()}
    return {name: why for name, why in lost.items() if not (folder / f"{name}.pt").exists()} | failed


def _swept(networks: dict[str, Trained], noise: tuple[float, ...] | None, trials: int, seed: int) -> Sweep:
    """With a progress bar on stderr, where that is a terminal."""
    from rich.console import Console
    from rich.progress import track

    from fpanalysis.models import sweep

    console = Console(stderr=True)
    bar = iter(
        track(range(len(networks)), "networks", console=console, transient=True, disable=not console.is_terminal)
    )
    seen = 0

    def progress(done: int) -> None:
        nonlocal seen
        for _ in range(done - seen):
            next(bar, None)
        seen = done

    return sweep(networks, noise, inputs=INPUTS, trials=trials, seed=seed, progress=progress)


def _verdicts(networks: dict[str, Trained], found: Sweep) -> Verdicts:
    """Why each network prefers what it prefers: at its conditions where they stand for the trials, else on the trials
    of its curve. Of a Lipschitz RNN in a closed loop nothing is known."""
    from fpanalysis.cli._batch import batch_of, in_its_loop
    from fpanalysis.preference import preference

    verdicts = {}
    for judged in (network for group in found.groups for network in group.networks):
        net, best = networks[judged.name], judged.curve.preferred
        try:
            joint = in_its_loop(net)
        except InputError:
            continue
        batch, h0, _ = batch_of(joint, seed=found.seed, trials=found.inputs)
        levels = [0.0, best if best == best else 0.0]
        verdicts[judged.name] = preference(
            *(joint, batch, levels), curve=judged.curve, h0=h0, loss=loss_of(net), trials=found.trials, rng=found.seed
        )
    return verdicts


def loss_of(net: Trained) -> str:
    """The name of the loss of its task; the squared error without one."""
    from fpanalysis.moments.loss import SQUARED
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    return SQUARED if task is None else task.loss


def inputs_of(loss: str) -> int:
    """How many trials to draw: where outputs are classes, one tells little."""
    from fpanalysis.cli._batch import TRIALS
    from fpanalysis.moments.loss import SQUARED

    return TRIALS if loss == SQUARED else INPUTS


def report(found: Sweep, verdicts: Verdicts) -> None:
    """Tables and sentences, task by task."""
    for title, groups in zip(found.titles, found.tasks, strict=True):
        runs = f"{groups[0].inputs} trials of the task, {found.trials} runs of each at every noise level"
        click.echo(f"{title}: {runs}; median over networks ± half their range")
        mean, spread = parts(groups)
        _table(groups, {"ratio": "R", "preferred": "preferred", "preferred_bias2": f"by {mean}"}, 3, count=True)
        judged = [(network.numbers["ratio"], network.ratio_error) for group in groups for network in group.networks]
        known = [error / ratio for ratio, error in judged if ratio > 0]  # neither NaN nor a loss that vanishes
        if known:
            click.echo(f"R of a single network is known to {100 * max(known):.2g} % or better (95 %, by sampling).\n")
        click.echo("At the training noise, and with the noise removed (the second part is zero then):")
        names = {"loss_trained": "loss", "bias2_trained": mean, "variance_trained": spread, "loss_removed": "removed"}
        _table(groups, names, 2)
        if groups[0].networks[0].success is not None:
            click.echo("Share of trials that succeed:")
            _table(groups, {"success_trained": "with noise", "success_removed": "removed"}, 3)
            click.echo(f"{_success_known(groups)}\n")
        for sentence in [*findings(groups, mean), *judgements(groups, verdicts)]:
            click.echo(click.wrap_text(sentence, width=80))
        click.echo()


def parts(groups: Sequence[Group]) -> tuple[str, str]:
    """What the parts of the loss are called."""
    return PARTS[groups[0].networks[0].curve.of == "squared error"]


def success_error(share: float, error: float, inputs: int) -> float:
    """95 %, of a share of trials with this standard error; where all or none succeed, what `inputs` of them leave open
    (Wilson)."""
    return Z * error if 0 < share < 1 else Z**2 / (inputs + Z**2)


def _success_known(groups: Sequence[Group]) -> str:
    rates, inputs = [(n.success, n.success_error) for group in groups for n in group.networks], groups[0].inputs
    errors = [
        success_error(float(p), float(e), inputs) for shares, known in rates for p, e in zip(shares, known, strict=True)
    ]
    return f"The share of a single network is known to ±{max(errors):.2g} or better (95 %), over the task's trials."


def _table(groups: Sequence[Group], names: dict[str, str], digits: int, count: bool = False) -> None:
    rows = [
        [
            f"{group.activation} {group.placement}{group.apart}",
            f"{group.sigma:g}",
            *([str(len(group.networks))] if count else []),
        ]
        + [text(group.spread(name), digits, len(group.networks)) for name in names]
        for group in groups
    ]
    table(["network", "at σ", *(["nets"] if count else []), *names.values()], rows)


def text(spread: Spread, digits: int, networks: int) -> str:
    """Median ± half the range; no ± for a single network; of how many, if not all `networks` have the number."""
    half = (spread.high - spread.low) / 2
    told = number(spread.median, digits) + (f"±{half:.{1 if half < 0.95 else 2}g}" if half > 0 else "")
    return told + f" ({spread.known} of {networks})" * (0 < spread.known < networks)


def findings(groups: Sequence[Group], mean: str = "bias²") -> list[str]:
    """For each placement, how many networks need their noise, and how many have their least loss and bias^2 near it."""
    sentences = []
    for placement in dict.fromkeys(group.placement for group in groups):
        rows = [
            (network.numbers, group.sigma)
            for group in groups
            if group.placement == placement and group.sigma
            for network in group.networks
        ]
        if not rows:
            continue
        needed = sum(numbers["ratio"] > NEEDED for numbers, _ in rows)
        unknown = sum(numbers["ratio"] != numbers["ratio"] for numbers, _ in rows)
        who = "Lipschitz RNNs" if placement == "lipschitz" else f"Noise {placement}"
        sentences.append(
            f"{who}: {needed} of {len(rows)} networks lose by the removal of their noise (R > {NEEDED})"
            f"{_unknown(unknown)}; the least loss lies at half the training noise or beyond in "
            f"{_near(rows, 'preferred')}, the least {mean} in {_near(rows, 'preferred_bias2')}."
        )
    return sentences


def judgements(groups: Sequence[Group], verdicts: Verdicts) -> list[str]:
    """For each activation and placement, how many networks got which verdict, and whether the preferred noise follows
    that of training."""
    from collections import Counter

    sentences: list[str] = []
    for kind in dict.fromkeys((group.activation, group.placement) for group in groups):
        own = [group for group in groups if (group.activation, group.placement) == kind]
        judged = [network.name for group in own for network in group.networks if network.name in verdicts]
        if not judged:
            continue
        counts = Counter(verdicts[name].verdict.value for name in judged)
        told = ", ".join(f"{count} {value}" for value, count in counts.most_common())
        slope, error, levels = following(own)
        sentence = f"Verdicts, {' '.join(kind)}: {told}."
        if len(judged) == 1:
            sentence = f"{' '.join(kind)}: {verdicts[judged[0]].summary}"
        elif levels < 2:
            sentence += " With one training noise it cannot be seen whether the preferred noise follows it."
        elif slope == slope:
            follows = "it follows" if slope - error > NEAR else "it does not follow" if slope + error < NEAR else "open"
            moved = f"{number(slope)} ± {number(error, 1)}"
            sentence += f" Preferred noise per training noise, at {levels} levels of it: slope {moved} ({follows})."
        sentences.append(sentence)
    return sentences


def following(groups: Sequence[Group]) -> tuple[float, float, int]:
    """Slope of the preferred noise on the training noise over the networks of `groups`, its 95 % half-width (NaN with
    fewer than three networks), and at how many training noises."""
    import numpy as np
    from scipy.stats import t as student

    pairs = [
        (group.sigma, network.curve.preferred)
        for group in groups
        for network in group.networks
        if network.curve.preferred == network.curve.preferred
    ]
    levels = len({sigma for sigma, _ in pairs})
    if levels < 2:
        return np.nan, np.nan, levels
    x, y = np.array(pairs).T
    d = x - x.mean()
    slope = float(d @ y / (d @ d))
    if len(x) < 3:
        return slope, np.nan, levels
    left = y - y.mean() - slope * d
    error = float(student.ppf(0.975, len(x) - 2) * np.sqrt(left @ left / (len(x) - 2) / (d @ d)))
    return slope, error, levels


def verdict_document(found: Preference) -> dict[str, Any]:
    """The verdict in words, its code, and the numbers that it rests on."""
    import dataclasses

    e = found.evidence
    derived = {name: getattr(e, name) for name in ("follows", "restored", "restored_error")}
    return {
        "verdict": found.summary,
        "verdict_kind": found.verdict.name.lower(),
        "evidence": dataclasses.asdict(e) | derived,
        "notes": list(found.notes),
    }


def _near(rows: Sequence[tuple[dict[str, float], float]], name: str) -> str:
    """How many of the noise levels `name` are at least half the training noise, and how many are not known."""
    known = [(numbers[name], sigma) for numbers, sigma in rows if numbers[name] == numbers[name]]
    return f"{sum(level >= NEAR * sigma for level, sigma in known)}{_unknown(len(rows) - len(known))}"


def _unknown(count: int) -> str:
    return f" ({count} not known)" * (count > 0)


def document(found: Sweep, left_out: dict[str, str], verdicts: Verdicts | None = None) -> dict[str, Any]:
    """NaN becomes null when it is written; without `verdicts` only the sweep."""
    import fpanalysis

    verdicts = verdicts or {}

    return {
        "schema": "fpanalysis.preference-folder/1",
        "version": fpanalysis.__version__,
        "inputs": found.inputs,
        "trials": found.trials,
        "seed": found.seed,
        "left_out": left_out,
        "groups": [_group(group, verdicts) for group in found.groups],
        "findings": [
            sentence
            for groups in found.tasks
            for sentence in [*findings(groups, parts(groups)[0]), *judgements(groups, verdicts)]
        ],
    }


def _group(group: Group, verdicts: Verdicts) -> dict[str, Any]:
    names = ("task", "task_settings", "activation", "placement", "size", "gamma", "sigma", "settings", "apart")
    curves = {part: group.median(part).tolist() for part in ("loss", "bias2", "variance")}
    return {
        **{name: getattr(group, name) for name in (*names, "inputs")},
        **{name: group.spread(name)._asdict() for name in group.networks[0].numbers},
        "median": {"sigma": group.levels.tolist()} | curves,
        "networks": [
            _network(network) | (verdict_document(verdicts[network.name]) if network.name in verdicts else {})
            for network in group.networks
        ],
    }


def _network(network: Any) -> dict[str, Any]:
    curve = network.curve
    names = ("sigma", "loss", "error", "bias2", "bias2_error", "variance", "variance_error")
    found = {"name": network.name, "model": curve.provenance.model, **network.numbers}
    found |= {"ratio_error": network.ratio_error, "preferred_error": curve.preferred_error}
    found["curve"] = {name: getattr(curve, name).tolist() for name in names}
    if network.success is not None:
        found["curve"] |= {"success": network.success.tolist(), "success_error": network.success_error.tolist()}
    return found | {"status": [status.value for status in curve.status]}
