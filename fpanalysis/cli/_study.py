"""``fpanalysis train`` with several networks: a study trained into a folder, with one bar and a table at the end."""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._report import number, save_figure, table

if TYPE_CHECKING:
    from fpanalysis.models import Study, StudyGroup, StudyNetwork, StudyProgress
    from fpanalysis.tasks import Task

LISTED = 8  #: failed networks that are named
SILENT = 60.0  #: seconds without a word where there is no terminal for a bar


def run_study(task: Task, folder: Path, figure: str | None, again: str, **settings: Any) -> None:
    """Train, report, and exit with 3 if a network failed; `again` is the command that goes on after Ctrl-C."""
    from fpanalysis.models import TrainingStatus

    try:
        study = _train(task, folder, settings)
    except KeyboardInterrupt:
        kept = f"what was done is in {folder}. Go on with: {again}"
        started = (folder / "manifest.json").exists()
        raise click.ClickException(f"interrupted; {kept if started else 'nothing was done yet'}") from None
    for note in study.notes:
        click.echo(f"note: {note}", err=True)
    if figure is not None:
        from fpanalysis.figures import learning_curves_figure

        save_figure(figure, learning_curves_figure(study))
    there = study.count(TrainingStatus.TRAINED)
    click.echo(f"{folder}: {study.task}, {there} of {len(study.networks)} networks trained")
    report(study)
    if study.constant_loss > 0:
        click.echo(f"loss of a constant output   {study.constant_loss:.4g}")
    if figure is not None:
        click.echo(f"Figure: {figure}")
    click.echo(f"next: fpanalysis preference {shlex.quote(str(folder))}")
    if study.failed:
        _explain(study)
        raise click.exceptions.Exit(3)


def _train(task: Task, folder: Path, settings: dict[str, Any]) -> Study:
    """Train with a progress bar on stderr, or now and then a line where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    from fpanalysis.models import train_study

    console = Console(stderr=True)
    columns = (TextColumn("training {task.fields[count]} networks"), BarColumn(), TaskProgressColumn(),
               TextColumn("{task.fields[losses]}"), TextColumn("time left"), TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        rows: list[Any] = []
        told = time.monotonic()

        def progress(now: StudyProgress) -> None:
            nonlocal told
            losses = live_losses(now)
            if not console.is_terminal:
                if time.monotonic() - told > SILENT:
                    told = time.monotonic()
                    click.echo(
                        f"{now.done / now.total:.0%} of {len(now.networks)} networks, {live_losses(now)}", err=True
                    )
                return
            shown = {"losses": losses, "completed": now.done}
            if not rows:  # what an earlier run did must not count as speed
                rows.append(bar.add_task("", total=now.total, count=len(now.networks), **shown))
            bar.update(rows[0], **shown)

        return train_study(task, folder, progress=progress, **settings)


def live_losses(now: StudyProgress) -> str:
    """The median of the latest losses, for each placement if there are two: ``loss in 0.012, out 0.0034``."""
    import numpy as np

    parts = []
    placements = dict.fromkeys(network.placement for network in now.networks)
    for placement in placements:
        rows = [m for m, network in enumerate(now.networks) if network.placement == placement]
        known = now.losses[rows][np.isfinite(now.losses[rows])]
        median = number(float(np.median(known)) if len(known) else None, 2)
        parts.append(f"{placement} {median}" if len(placements) > 1 else median)
    return f"loss {', '.join(parts)}"


def report(study: Study) -> None:
    """One row per combination of everything but the seed."""
    sizes = len({network.size for network in study.networks}) > 1
    gammas = len({network.gamma for network in study.networks}) > 1
    placed = study.settings["form"] != "lipschitz"
    strengths = len({network.multiplicative for network in study.networks}) > 1
    columns = ["activation", *["N"] * sizes, *["gamma"] * gammas, *["placement"] * placed, "noise"]
    columns += ["multiplicative"] * strengths
    rows = [_row(group, sizes, gammas, placed, strengths) for group in study.groups]
    table([*columns, "trained", "final loss", "range"], rows)


def _row(group: StudyGroup, sizes: bool, gammas: bool, placed: bool, strengths: bool) -> list[str]:
    from fpanalysis.models import TrainingStatus

    first = group.first
    low, median, high = group.final_loss.tolist()
    row = [first.activation_name, *[str(first.size)] * sizes, *[f"{first.gamma:g}"] * gammas]
    row += [first.placement] * placed
    row += [f"{first.sigma:g}", *([f"{first.multiplicative:g}"] if strengths else [])]
    row += [f"{group.count(TrainingStatus.TRAINED)} of {len(group.networks)}", number(median)]
    return [*row, f"{number(low)} - {number(high)}" if low < high else "-"]


def _explain(study: Study) -> None:
    """Each kind of failure with its advice and the networks it befell, on stderr."""
    for status in dict.fromkeys(network.status for network in study.failed):
        networks = [network for network in study.failed if network.status is status]
        click.echo(f"\n{len(networks)} {status.value}: {status.advice}", err=True)
        click.echo(f"  {_named(networks)}", err=True)


def _named(networks: Sequence[StudyNetwork]) -> str:
    shown = [f"{n.name} ({f'step {n.step}' if n.step else f'loss {number(n.final_loss)}'})" for n in networks[:LISTED]]
    return ", ".join(shown) + (f" and {len(networks) - LISTED} more" if len(networks) > LISTED else "")
