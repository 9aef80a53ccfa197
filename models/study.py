"""A whole study trained into a folder: placements x activations x noise levels x seeds (and sizes, gammas, ...).

    study = train_study("function-approximation", "DIR", sigma=(0, 0.5, 1), placement=("in", "out"), seed=range(8))

The folder holds a checkpoint per network (relu-in-0.5-seed0.pt, or lipschitz-tanh-0.5-seed0.pt), what became of each in
manifest.json, and their learning curves in losses.npz. An interrupted study goes on with ``resume=True`` to the same
networks, bit for bit.
"""

from __future__ import annotations

import dataclasses
import os
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.results import InputError
from fpanalysis.tasks import Task, get_task, layered

from . import _study_folder as files
from ._outcome import TrainingStatus
from ._study_plan import StudyNetwork, planned
from ._study_run import StudyProgress, StudyRun
from ._study_workers import bins

Array = NDArray[np.float64]


@dataclass(frozen=True)
class StudyGroup:
    """The seeds of one combination of the other axes.

    final_loss : (3,), least, median and largest final loss of the networks that there are; NaN without any
    curve : (3, P), the same of the learning curves, without those that diverged
    """

    networks: tuple[StudyNetwork, ...]
    final_loss: Array
    curve: Array

    @property
    def first(self) -> StudyNetwork:
        return self.networks[0]

    def count(self, status: TrainingStatus) -> int:
        return sum(network.status is status for network in self.networks)


@dataclass(frozen=True)
class Study:
    """A study as its folder has it.

    settings : what all networks share of the settings of `train`
    constant_loss : loss of the best constant output (of zero, if the target is constant); a network no better than that
        has learned nothing
    networks : each with its axes, status, final loss and file
    step, loss : (P,), (M, P); learning curves, averaged over stretches of training around `step`; NaN where unknown
    notes : what was repaired when it was resumed
    """

    folder: Path
    task: str
    task_settings: dict[str, Any]
    settings: dict[str, Any]
    constant_loss: float
    networks: tuple[StudyNetwork, ...]
    step: Array
    loss: NDArray[np.float32]
    runs: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    @property
    def failed(self) -> tuple[StudyNetwork, ...]:
        return tuple(network for network in self.networks if network.status.failed)

    def count(self, status: TrainingStatus) -> int:
        return sum(network.status is status for network in self.networks)

    @property
    def groups(self) -> tuple[StudyGroup, ...]:
        """The networks by all axes but the seed, in the order of the networks."""
        members: dict[tuple[Any, ...], list[int]] = {}
        for m, network in enumerate(self.networks):
            members.setdefault(network.key[:-1], []).append(m)
        return tuple(self._group(rows) for rows in members.values())

    def _group(self, rows: list[int]) -> StudyGroup:
        networks = tuple(self.networks[m] for m in rows)
        final = np.array([n.final_loss for n in networks if n.final_loss is not None], float)
        kept = [m for m in rows if self.networks[m].status is not TrainingStatus.DIVERGED]
        return StudyGroup(networks, _spread(final), _spread(self.loss[kept].astype(float)))


def _spread(values: Array) -> Array:
    """Least, median and largest along the first axis, without NaN: (3, ...)."""
    if not len(values):
        return np.full((3, *values.shape[1:]), np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # where there is nothing but NaN
        return np.array([np.nanmin(values, 0), np.nanmedian(values, 0), np.nanmax(values, 0)])


def train_study(
    task: Task | str,
    folder: str | os.PathLike[str],
    *,
    placement: str | Sequence[str] = "in",
    activation: str | Activation | Sequence[str | Activation] | None = None,
    sigma: float | Sequence[float] | None = None,
    multiplicative: float | Sequence[float] | None = None,
    seed: int | Sequence[int] = 0,
    size: int | Sequence[int] | None = None,
    gamma: float | Sequence[float] | None = None,
    layers: Sequence[int] | None = None,
    processes: int = 1,
    threads: int = 1,
    resume: bool = False,
    progress: Callable[[StudyProgress], None] | None = None,
    **settings: Any,
) -> Study:
    """Train every combination of the given values, in stacks, into `folder`.

    Parameters
    ----------
    placement, activation, sigma, multiplicative, seed, size, gamma : one value or several
        What is None is the default of the task, or of the form.
    layers : sequence of int, optional
        Sizes of the layers of feedforward networks, all alike.
    processes : int
        Stacks trained at once, each in a process with `threads` threads of its own. The networks do not depend on it.
    resume : bool
        Go on with the study in `folder`; a finished one is left as it is. Values that it does not have yet extend it
        (and those left out now stay in it); all other settings must be the same.
    progress : callable, optional
        Called with a `StudyProgress` as training goes on.
    settings : the others of `train`, the same for all networks: form, noise, steps, lr, ...

    Raises
    ------
    InputError
        On settings that make no network; a folder that cannot be written, holds other files, or a study that differs;
        a manifest or checkpoint that is damaged. Everything is checked before anything is trained.
        A training that fails is no exception: its network has the status "diverged" (and no file) or "not trained".
    KeyboardInterrupt
        After Ctrl-C, when the state of all unfinished networks is saved.
    """
    task = get_task(task) if isinstance(task, str) else task
    task = task if layers is None else layered(task, layers)
    folder = Path(folder)
    if processes != int(processes) or processes < 1:
        raise InputError(f"processes must be a whole number >= 1; found {processes}")
    axes = {
        "activation": activation,
        "size": size,
        "gamma": gamma,
        "placement": placement,
        "sigma": sigma,
        "multiplicative": multiplicative,
        "seed": seed,
    }
    run = StudyRun(planned(task, axes, settings), folder, resume)
    if not resume:
        files.make(folder)
    with files.held(folder):
        run.open()
        run.train(processes, threads, progress)
    return dataclasses.replace(read_study(folder), notes=tuple(run.notes))


def read_study(folder: str | os.PathLike[str]) -> Study:
    """The study in `folder`, finished or not.

    Raises
    ------
    InputError
        If there is none, or its manifest is damaged or of another version.
    """
    folder = Path(folder)
    manifest = files.read_manifest(folder)
    networks = tuple(manifest["networks"])
    edges = bins(manifest["settings"]["steps"])
    loss = files.read_losses(folder, [network.name for network in networks], len(edges) - 1)
    return Study(
        folder,
        manifest["task"],
        manifest["task_settings"],
        manifest["settings"],
        manifest["constant_loss"],
        networks,
        (edges[:-1] + 1 + edges[1:]) / 2,
        loss,
        tuple(manifest["runs"]),
    )
