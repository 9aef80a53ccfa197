"""Inputs to analyse at, given as numbers or by the name that a task has for a condition; and what tables call them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.cli._options import Numbers
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fpanalysis.checkpoint import Trained
    from fpanalysis.system import System
    from fpanalysis.tasks import Task

LONG = 8  #: numbers above which an input goes by the number of its condition
LOOP = (
    "note: the network steers a point by what it sees. Here its input is held, as it never is in the task: it may "
    "grow without bound. 'fpanalysis preference' judges it in its loop."
)
FEW = 4  #: inputs that need no bar
HELP = "Constant input to analyse at, or a condition's name where 'fpanalysis inspect' tells names; repeatable."


class Input(Numbers):
    """Comma-separated numbers, or words: the name of a condition."""

    name = "V,V,...|NAME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        words = isinstance(value, str) and re.fullmatch(r"[a-z][\w-]* .+", value.strip())
        return value.strip() if words else super().convert(value, param, ctx)


def names(net: System) -> list[str]:
    """What the conditions of `net` are called; nothing where a few numbers say it."""
    import numpy as np

    from fpanalysis.lipschitz import LipschitzRNN
    from fpanalysis.network import Network

    if not isinstance(net, Network | LipschitzRNN) or net.conditions is None:
        return []
    task = _task(net)
    if task and task.condition_names and np.array_equal(task.conditions()[0], net.conditions):
        return task.condition_names
    return [f"condition {k}" for k in range(len(net.conditions))] if net.n_in > LONG else []


def _task(net: Trained) -> Task | None:
    """What it was trained on; None if that is not known, or no longer takes the settings that the file has."""
    from fpanalysis.tasks import remembered

    try:
        return remembered(net.info)
    except InputError:
        return None


def chosen(net: Trained, inputs: tuple[Any, ...]) -> list[list[float]] | None:
    """The values of --input as numbers; None where it is not given. A network that steers a point gets a note.

    Raises
    ------
    InputError
        For a name that no condition has.
    """
    task = _task(net)
    if task and task.feedback and not getattr(net, "moved", 0):
        click.echo(LOOP, err=True)
    known = names(net) if any(isinstance(u, str) for u in inputs) else []
    for u in inputs:
        if isinstance(u, str) and u not in known:
            listed = f"no condition is called so; known: {', '.join(known)}"
            raise InputError(f"--input {u!r}: {listed if known else 'the conditions of this network have no names'}")
    if not inputs or net.conditions is None:
        return [list(u) for u in inputs] or None
    return [net.conditions[known.index(u)].tolist() if isinstance(u, str) else list(u) for u in inputs]


def called(net: System, u: Any) -> str:
    """A constant input (n_in,), for a table: its condition's name, or its numbers."""
    import numpy as np

    known = names(net)
    for name, condition in zip(known, getattr(net, "conditions", ()) if known else (), strict=True):
        if np.array_equal(condition, u):
            return name
    return ",".join(f"{value:.4g}" for value in u[:LONG]) + ",..." * (len(u) > LONG) if len(u) else "(none)"


def one_by_one(inputs: Any) -> Iterator[Any]:
    """The inputs, with a bar on a terminal."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = len(inputs) < FEW or not console.is_terminal
    yield from track(inputs, "inputs", console=console, transient=True, disable=quiet)
