"""Many networks judged at once: loss against test noise, grouped by task, activation, placement and training noise,
and by whatever else tells them apart but their seed.

    found = sweep({"a": fpa.load("a.pt"), "b": fpa.load("b.pt")})
    for group in found.groups:
        print(group.placement, group.sigma, group.spread("ratio"))

Each network must remember its task (`info`). All networks of a task see the same trials, in the closed loop of the task
where it has one, and the same noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student

from fpanalysis.checkpoint import Trained
from fpanalysis.moments import LossCurve
from fpanalysis.moments._curve import levels_asked, with_levels
from fpanalysis.results import InputError
from fpanalysis.tasks import Task, remembered

from ._kinds import apart, kind_of, settings_of, stack_of, where
from .evaluation import Evaluation, evaluate

Array = NDArray[np.float64]

LEVELS = 13  #: from 0 to 1.5 times the training noise, one of them that


class Spread(NamedTuple):
    """Over the networks of a group that have the number, `known` of them; NaN where none has."""

    median: float
    low: float
    high: float
    known: int


@dataclass(frozen=True, eq=False)
class Judged:
    """One network: its curve, at levels that include zero and the training noise, and its success if it is scored.

    success, success_error : (S,), share of trials, and its standard error over noise and inputs; None without a score.
    """

    name: str
    curve: LossCurve
    success: Array | None
    success_error: Array | None

    @property
    def numbers(self) -> dict[str, float]:
        """What is told of a network. NaN: R of one trained without noise, and the noise of least bias^2 where the
        errors of bias^2 leave open more than half of the levels."""
        curve, noisy = self.curve, self.curve.training_sigma > 0
        at = int(np.abs(curve.sigma - curve.training_sigma).argmin())
        found = {
            "ratio": curve.ratio if noisy else np.nan,
            "preferred": curve.preferred,
            "preferred_bias2": curve.preferred_bias2 if _resolved(curve) else np.nan,
            "loss_trained": curve.loss_trained,
            "bias2_trained": float(curve.bias2[at]),
            "variance_trained": float(curve.variance[at]),
            "loss_removed": curve.loss_removed,
            "bias2_removed": float(curve.bias2[0]),
            "variance_removed": float(curve.variance[0]),
        }
        if self.success is not None:
            found |= {"success_trained": float(self.success[at]), "success_removed": float(self.success[0])}
        return found

    @property
    def ratio_error(self) -> float:
        """95 %, of R, over noise and drawn trials; of a single trial, over the noise.

        With L_b(sigma) what trial b of B adds to the loss, and d_b = L_b(0) - R L_b(sigma), whose sum is zero, the
        variance of R is B / (B - 1) sum d_b^2 / L(sigma)^2.
        """
        curve = self.curve
        at = int(np.abs(curve.sigma - curve.training_sigma).argmin())
        removed, trained = (curve.bias2_by_trial + curve.variance_by_trial)[[0, at]]
        B = len(removed)
        if B == 1:
            parts = curve.error[[0, at]] / np.maximum([curve.loss_removed, curve.loss_trained], 1e-300)
            return curve.ratio * float(np.hypot(*parts))
        d = removed - curve.ratio * trained
        return float(student.ppf(0.975, B - 1) * np.sqrt(B / (B - 1) * (d**2).sum()) / max(curve.loss_trained, 1e-300))


@dataclass(frozen=True, eq=False)
class Group:
    """Networks that share all this; `placement` is "current" or "lipschitz" in those forms, `settings` what else is
    known of how they were made, `apart` as much of it as tells them from the other groups of their task."""

    task: str
    task_settings: Mapping[str, Any]
    activation: str
    placement: str
    size: int
    gamma: float
    sigma: float
    settings: Mapping[str, Any]
    networks: tuple[Judged, ...]
    apart: str = ""

    @property
    def inputs(self) -> int:
        """Trials that its networks ran on: of a task on data, no more than it has."""
        return int(self.networks[0].curve.provenance.settings["inputs"])

    @property
    def levels(self) -> Array:
        return self.networks[0].curve.sigma

    def spread(self, name: str) -> Spread:
        """Of one of the numbers of `Judged`."""
        values = np.array([network.numbers[name] for network in self.networks])
        values = values[np.isfinite(values)]
        if not len(values):
            return Spread(np.nan, np.nan, np.nan, 0)
        return Spread(float(np.median(values)), float(values.min()), float(values.max()), len(values))

    def median(self, part: str) -> Array:
        """The median of "loss", "bias2" or "variance" over the networks, at each level."""
        return np.asarray(np.median([getattr(network.curve, part) for network in self.networks], axis=0))

    def fine(self, part: str) -> tuple[Array, Array]:
        """Noise between the levels, and the median of the interpolated curves there."""
        curves = [network.curve.fine for network in self.networks]
        return curves[0].sigma, np.asarray(np.median([getattr(curve, part) for curve in curves], axis=0))


@dataclass(frozen=True, eq=False)
class Sweep:
    """Groups, those of one task together; how many inputs (at most: see `Group`) and runs of each they are from."""

    groups: tuple[Group, ...]
    inputs: int
    trials: int
    seed: int

    @property
    def tasks(self) -> list[tuple[Group, ...]]:
        return _tasks(self.groups)

    @property
    def titles(self) -> list[str]:
        """A name for each of `tasks`: with the settings in which it differs from others of that name."""
        found = []
        for groups in self.tasks:
            task, own = groups[0].task, groups[0].task_settings
            others = [other[0].task_settings for other in self.tasks if other[0].task == task]
            apart = [name for name in own if any(other.get(name) != own[name] for other in others)]
            found.append(task + "".join(f", {name} = {own[name]}" for name in apart))
        return found

    @property
    def ok(self) -> bool:
        return all(network.curve.ok for group in self.groups for network in group.networks)


def sweep(
    networks: Mapping[str, Trained],
    sigma: ArrayLike | None = None,
    *,
    inputs: int = 128,
    trials: int = 32,
    seed: int = 0,
    threads: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Sweep:
    """Loss against test noise of `networks`, by name, each on the task that it remembers.

    Parameters
    ----------
    sigma : levels, optional
        None: 13 from 0 to 1.5 times the training noise of each group (of networks trained without noise: the largest
        training noise that there is for their task). Zero and the training noise are added.
    inputs, trials, seed : see `evaluate`.
    progress : callable, optional
        Called with the number of networks done.

    Raises
    ------
    InputError
        If there is no network, one does not remember a task or does not fit it, or there is no training noise to
        choose levels by.
    """
    if not networks:
        raise InputError("networks must hold at least one network; found none")
    kinds: dict[tuple[Any, ...], list[str]] = {}
    tasks = {name: task_of(net) for name, net in networks.items()}
    for name in sorted(networks, key=lambda name: kind_of(tasks[name], networks[name])):
        kinds.setdefault(kind_of(tasks[name], networks[name])[:-1], []).append(name)
    groups: list[Group] = []
    done = 0
    for names in kinds.values():
        task = tasks[names[0]]
        levels = _levels(task, float(np.max(networks[names[0]].sigma)), networks, tasks, sigma)
        judged: dict[str, Judged] = {}
        for stack in _stacks(names, networks):
            nets = [networks[name] for name in stack]
            found = evaluate(nets, task, levels, inputs=inputs, trials=trials, rng=seed, threads=threads)
            judged |= _judged(stack, found)
            done += len(stack)
            if progress is not None:
                progress(done)
        groups += _groups(task, {name: networks[name] for name in names}, judged)
    return Sweep(tuple(group for of_one in _tasks(groups) for group in _named(of_one)), inputs, trials, seed)


def task_of(net: Trained) -> Task:
    """The task that `net` was trained on.

    Raises
    ------
    InputError
        If it remembers none of this package, or does not fit it.
    """
    task = remembered(net.info)
    if task is None:
        raise InputError(f"the network remembers no task of this package (its info has task {net.info.get('task')!r})")
    if (task.n_in, task.n_out) != (net.n_in, net.n_out):
        raise InputError(
            f"the network has {net.n_in} input(s) and {net.n_out} output(s), its task {task.name} "
            f"{task.n_in} and {task.n_out}"
        )
    return task


def _resolved(curve: LossCurve) -> bool:
    """Whether the levels at which bias^2 may be least, by its errors, span no more than half of all."""
    possible = curve.sigma[curve.bias2 - curve.bias2_error <= (curve.bias2 + curve.bias2_error).min()]
    return len(possible) > 0 and bool(np.ptp(possible) <= curve.sigma[-1] / 2)


def _stacks(names: list[str], networks: Mapping[str, Trained]) -> list[list[str]]:
    found: dict[tuple[Any, ...], list[str]] = {}
    for name in names:
        found.setdefault(stack_of(networks[name]), []).append(name)
    return list(found.values())


def _tasks(groups: Iterable[Group]) -> list[tuple[Group, ...]]:
    return [tuple(own) for _, own in groupby(groups, lambda group: (group.task, group.task_settings))]


def _named(groups: Sequence[Group]) -> list[Group]:
    return [dataclasses.replace(group, apart=name) for group, name in zip(groups, apart(groups), strict=True)]


def _levels(
    task: Task, trained: float, networks: Mapping[str, Trained], tasks: Mapping[str, Task], sigma: ArrayLike | None
) -> Array:
    among = (float(np.max(net.sigma)) for name, net in networks.items() if tasks[name] == task)
    top = trained or max(among)
    if sigma is None and not top:
        raise InputError(f"test noise must be given (sigma=, --noise): no network of {task.name} was trained with any")
    return with_levels(levels_asked(sigma, top, LEVELS), 0.0, trained)


def _judged(names: Sequence[str], found: Evaluation) -> dict[str, Judged]:
    rates = (None, None) if found.success is None else (found.success, found.success_error)
    own = [tuple(None if rate is None else rate[m] for rate in rates) for m in range(len(names))]
    return {name: Judged(name, found.curves[m], *own[m]) for m, name in enumerate(names)}


def _groups(task: Task, nets: Mapping[str, Trained], judged: Mapping[str, Judged]) -> list[Group]:
    """Networks of one kind by placement."""
    members: dict[str, list[Judged]] = {}
    for name, net in nets.items():
        members.setdefault(where(net), []).append(judged[name])
    first = next(iter(nets.values()))
    shared = (first.N, float(np.max(first.gamma)), float(np.max(first.sigma)), settings_of(first))
    return [
        Group(task.name, task.settings(), first.activation.name, place, *shared, tuple(members[place]))
        for place in members
    ]
