"""What a study is made of: every combination of its axes, each a network with a name, grouped into stacks.

Networks of one stack share activation, size and gamma. Whole seeds stay together, since networks of one seed share
their batches and noise. A stack's members are decided once and remembered: the rounding of a batched product, and
nothing else, depends on the company a network trains in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from math import ceil
from typing import Any

import numpy as np

from fpanalysis.activations import Activation, get_activation
from fpanalysis.results import InputError
from fpanalysis.tasks import Task

from ._outcome import TrainingStatus, constant_loss
from ._run import Run
from .trainer import settings_of

AXES = ("activation", "size", "gamma", "placement", "sigma", "multiplicative", "seed")
TOGETHER = 16  #: networks in a stack at most: more gain little time, and fewer leave work for every process
GRAPH = 8  #: tensors of the size of a state that a step leaves for automatic differentiation, about
NUMBERS = 1 << 26  #: that a stack holds at once, about: weights, optimiser and batches (float32: 256 MB)


@dataclass(frozen=True)
class StudyNetwork:
    """One network of a study.

    stack : number of the stack that it trains in
    final_loss : training loss over the last 50 steps; None without a network
    step : the step at which it diverged, or None
    hash : `Network.hash` of the trained network, or None
    multiplicative : of Lipschitz RNNs; None of others
    """

    name: str
    activation: str | dict[str, Any]
    size: int
    gamma: float
    placement: str
    sigma: float
    seed: int
    stack: int
    status: TrainingStatus = TrainingStatus.PENDING
    final_loss: float | None = None
    step: int | None = None
    hash: str | None = None
    multiplicative: float | None = None

    @property
    def file(self) -> str | None:
        """Name of its checkpoint in the study's folder; None while there is none."""
        return f"{self.name}.pt" if self.hash is not None else None

    @property
    def activation_name(self) -> str:
        return get_activation(self.activation).name

    @property
    def key(self) -> tuple[Any, ...]:
        """Its place among the combinations."""
        return (self.shape, self.placement, self.sigma, self.multiplicative, self.seed)

    @property
    def shape(self) -> tuple[str, int, float]:
        """What the networks of one stack share."""
        return (get_activation(self.activation).key, self.size, self.gamma)


@dataclass(frozen=True)
class Plan:
    """A study before it has a folder: its networks, not yet in stacks (-1), the settings of `train` that they share,
    and the loss of the best constant output."""

    task: Task
    settings: dict[str, Any]
    networks: tuple[StudyNetwork, ...]
    constant_loss: float


def planned(task: Task, axes: Mapping[str, Any], settings: Mapping[str, Any]) -> Plan:
    """Every combination of `axes` (each one value or several; None is the task's default).

    Raises
    ------
    InputError
        If one of them makes no network: every size, activation and gamma is tried here with one noise level, and
        every noise (level, multiplicative, placement) at the least size, one network at a time.
    """
    own_defaults = {"activation": "tanh", "multiplicative": 0.0} if settings.get("form") == "lipschitz" else {}
    lists = {
        name: _listed(name, axes[name], own_defaults.get(name, getattr(task.defaults, name, None))) for name in AXES
    }
    lists["activation"] = [get_activation(value).config() for value in lists["activation"]]
    shapes = sorted(product(*(lists[name] for name in AXES[:3])), key=lambda shape: shape[1])
    noises = list(product(*(lists[name] for name in AXES[3:6])))
    shared: dict[str, Any] = {}
    for shape, noise in [*product(shapes[:1], noises), *product(shapes[1:], noises[:1])]:
        own = dict(zip(AXES[:6], (*shape, *noise), strict=True))
        found = settings_of(task, seed=min(lists["seed"]), **own, **settings)
        Run(task, found)
        shared = {name: value for name, value in asdict(found).items() if name not in (*AXES, "task", "task_settings")}
    if shared["noise"] is None:  # no setting of a CTRNN
        del shared["noise"]
    return Plan(task, shared, tuple(combinations(task, lists, shared["form"])), constant_loss(task))


def _listed(name: str, value: Any, default: Any) -> list[Any]:
    """`value` as a list of plain values."""
    several = [value] if isinstance(value, str | dict | Activation) or not np.iterable(value) else list(value)
    if not several:
        raise InputError(f"{name} must be one value or several; found none")
    kind = {"size": int, "gamma": float, "sigma": float, "multiplicative": float, "seed": int}.get(name)
    several = [default if item is None else item for item in several]
    return [item if kind is None or item is None else _plain(name, item, kind) for item in several]


def _plain(name: str, value: Any, kind: type) -> Any:
    try:
        if kind(value) == value and not isinstance(value, str | bool):
            return kind(value)
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{name} must be {'a whole number' if kind is int else 'a number'}; found {value!r}")


def combinations(task: Task, axes: Mapping[str, Sequence[Any]], form: str = "rate") -> list[StudyNetwork]:
    """Every combination of the axes once, named, in the order of `AXES`; not yet in a stack (-1)."""
    members = []
    for values in product(*(axes[name] for name in AXES)):
        own = dict(zip(AXES, values, strict=True))
        members.append(StudyNetwork(name=_name(task, form, **own), **own, stack=-1))
    unique = {member.key: member for member in members}
    names: dict[str, StudyNetwork] = {}
    for member in unique.values():
        if member.name in names:
            raise InputError(
                f"two networks of the study would be called {member.name}: train activations of one name and different "
                "parameters in studies of their own"
            )
        names[member.name] = member
    return list(unique.values())


def stacked(members: Iterable[StudyNetwork], most: Mapping[int, int], first: int) -> list[StudyNetwork]:
    """`members` with their stacks, numbered from `first`; `most` is the largest stack at each size."""
    groups: dict[tuple[Any, ...], dict[int, list[StudyNetwork]]] = {}
    for member in members:
        groups.setdefault(member.shape, {}).setdefault(member.seed, []).append(member)
    placed: list[StudyNetwork] = []
    for shape, seeds in groups.items():
        for stack in _cut(list(seeds.values()), most[shape[1]]):
            placed += [replace(member, stack=first) for member in stack]
            first += 1
    return placed


def _cut(blocks: list[list[StudyNetwork]], most: int) -> list[list[StudyNetwork]]:
    """Stacks of about equal length <= most, each of whole blocks where a block is not longer than that."""
    total = sum(map(len, blocks))
    target = ceil(total / ceil(total / most))
    stacks: list[list[StudyNetwork]] = [[]]
    for block in blocks:
        for start in range(0, len(block), most):
            piece = block[start : start + most]
            if stacks[-1] and len(stacks[-1]) + len(piece) > target:
                stacks.append([])
            stacks[-1] += piece
    return stacks


def largest_stack(task: Task, size: int, batch: int, form: str = "rate") -> int:
    """How many networks of this size train at once within `NUMBERS`."""
    inputs, targets, _ = task.batch(1, 0)
    weights = size * (size + task.n_in + task.n_out + 1)
    states = GRAPH if form == "lipschitz" else 1
    each = 5 * weights + batch * (len(inputs) * states * size + 3 * (inputs[:, 0].size + 2 * targets[:, 0].size))
    return max(1, min(TOGETHER, NUMBERS // each))


def _name(
    task: Task, form: str, activation: str | dict[str, Any], size: int, gamma: float, placement: str, sigma: float,
    multiplicative: float | None, seed: int,
) -> str:  # fmt: skip
    """Such as relu-in-0.5-seed0, or lipschitz-tanh-0.5-mult0.05-seed0; size and gamma where they are not the task's
    default, multiplicative where there is any."""
    parts = [get_activation(activation).name]
    parts += [f"N{size}"] if size != task.defaults.size else []
    parts += [f"gamma{_short(gamma)}"] if gamma != task.defaults.gamma else []
    parts = ["lipschitz", *parts] if form == "lipschitz" else [*parts, placement]
    parts += [_short(sigma), *([f"mult{_short(multiplicative)}"] if multiplicative else [])]
    return "-".join([*parts, f"seed{seed}"])


def _short(value: float) -> str:
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)
