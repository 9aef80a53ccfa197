"""Tasks to train on, found by name among the files of this folder: a new task is one new file.

from fpanalysis.tasks import get_task

task = get_task("function-approximation", T=100)
inputs, targets, mask = task.batch(32, rng=0)
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any

from fpanalysis.results import InputError

from ._layered import layered
from ._task import REGISTRY, Defaults, Feedback, Task

__all__ = ["Defaults", "Feedback", "Task", "available", "get_task", "layered", "remembered"]


def available() -> list[str]:
    """Names of the known tasks: those of this folder, and any `Task` subclass that was imported."""
    _discover()
    return sorted(REGISTRY)


def get_task(name: str, **settings: Any) -> Task:
    """The task of that name; `settings` replace its default settings, and `layers` of these sizes make it one for a
    feedforward network.

    Raises
    ------
    InputError
        For an unknown name, a setting that the task does not have or cannot use, or layers that cannot do the task.
    """
    known = available()
    if name not in known:
        raise InputError(f"unknown task {name!r}; known: {', '.join(known)}")
    kind, layers = REGISTRY[name], settings.pop("layers", None)
    unknown = sorted(set(settings) - set(kind.setting_names()))
    if unknown:
        raise InputError(f"task {name!r} has no setting {unknown[0]!r}; it has {', '.join(kind.setting_names())}")
    task = kind(**settings)
    return task if layers is None else layered(task, layers)


def remembered(info: Mapping[str, Any]) -> Task | None:
    """The task that a network was trained on, by its `info`; None where that tells of no known one.

    Raises
    ------
    InputError
        For settings that the task does not have or cannot use.
    """
    name, settings = info.get("task"), info.get("task_settings", {})
    if not isinstance(name, str) or name not in available():
        return None
    if not isinstance(settings, Mapping):
        raise InputError(f"task_settings must be a mapping of the settings of {name}; found {settings!r}")
    return get_task(name, **{str(key): value for key, value in settings.items()})


@cache
def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}")
