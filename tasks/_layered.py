"""A task for a feedforward network: the same trials, each one pass through L layers.

The network is the recurrent one of `fpanalysis.feedforward`, with gamma = 1 and a step for each layer: the input is
held for L steps and the output counts at the last, so that step l lets the input's wave through layer l.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from fpanalysis.feedforward import feedforward
from fpanalysis.network import Network
from fpanalysis.results import InputError

from ._task import Array, Batch, Task

SAME = ("name", "n_in", "n_out", "trainable", "feedback", "scored", "loss")  #: as of the task without layers
PROBE = 8  #: trials that show whether inputs change within a trial


@dataclass(frozen=True)
class Layered(Task):
    """`of`, done by layers of these sizes; `layered` makes it."""

    of: Task = field(kw_only=True)
    layers: tuple[int, ...] = field(kw_only=True)

    held: ClassVar[bool] = True  # `layered` takes no other tasks

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in SAME:
            object.__setattr__(self, name, getattr(self.of, name))
        size = sum(self.layers)
        suited = dataclasses.replace(self.of.defaults, size=size, gamma=1, steps=4000, lr=5e-3, batch=128)
        object.__setattr__(self, "defaults", suited)

    def settings(self) -> dict[str, Any]:
        return self.of.settings() | {"layers": list(self.layers)}

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """As of the task, over as many steps as layers."""
        return self.of.batch(batch_size, rng)

    def test_batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        return self.of.test_batch(batch_size, rng)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_l ~ N(0, 2 / n_{l-1}), which carries the mean square of the input through ReLU layers (He et al., ICCV
        2015), W_out ~ N(0, 1 / n_L), biases zero."""
        if size != sum(self.layers):
            raise InputError(f"size must be {sum(self.layers)}, the sum of the layers, or left out; found {size}")
        rng = np.random.default_rng(rng)
        *weights, W_out = (rng.standard_normal(shape) / sqrt(shape[1]) for shape in self._shapes())
        net = feedforward([sqrt(2) * W for W in weights], W_out=W_out, b_out=np.zeros(self.n_out))
        return _parts(net)

    def connections(self) -> dict[str, Array]:
        """1 from each layer to the next, 0 elsewhere."""
        *weights, W_out = (np.ones(shape) for shape in self._shapes())
        parts = _parts(feedforward(weights, W_out=W_out))
        return {name: parts[name] for name in ("W", "W_in", "W_out")}

    def initial_state(self, targets: Array, size: int) -> Array:
        """Zero; what a state holds is gone after L steps."""
        return np.zeros((targets.shape[1], size), np.float32)

    def score(self, outputs: Array, batch: Batch) -> Array:
        return self.of.score(outputs, batch)

    @property
    def condition_names(self) -> list[str]:
        return self.of.condition_names

    def conditions(self) -> tuple[Array, Array | None]:
        return self.of.conditions()

    def _shapes(self) -> list[tuple[int, int]]:
        """Of W_1, ..., W_L and W_out."""
        n = (self.n_in, *self.layers, self.n_out)
        return list(zip(n[1:], n[:-1], strict=True))


def layered(task: Task, layers: Sequence[float]) -> Layered:
    """`task` for a feedforward network with layers of these sizes.

    Raises
    ------
    InputError
        For sizes that are no whole numbers >= 1, or a task whose trials are more than a constant input and the output
        that it calls for.
    """
    if not np.iterable(layers) or isinstance(layers, str | Mapping):
        raise InputError(f"layers must be a list of sizes, such as (64, 64, 64); found {layers!r}")
    sizes = list(layers)
    if not sizes or not all(isinstance(n, int | float | np.number) and n >= 1 and n == n // 1 for n in sizes):
        raise InputError(f"layers must be whole numbers >= 1, such as (64, 64, 64); found {sizes}")
    if isinstance(task, Layered):
        task = task.of
    trouble = _trouble(task)
    if trouble:
        raise InputError(
            f"task {task.name!r} {trouble}, but layers turn one constant input into one output: train it without layers"
        )
    shape = {"T": len(sizes), "counted": 1}
    return Layered(**shape, of=dataclasses.replace(task, **shape), layers=tuple(int(n) for n in sizes))


def _trouble(task: Task) -> str | None:
    """Why layers cannot do the task."""
    if not task.n_in:
        return "has no inputs"
    if task.feedback is not None:
        return "moves its own inputs"
    inputs, targets, _ = task.batch(PROBE, 0)
    if np.ptp(inputs, axis=0).any():
        return "has inputs that change within a trial"
    if np.ptp(targets, axis=0).any():
        return "has targets that change within a trial"
    return None


def _parts(net: Network) -> dict[str, Array]:
    return {name: getattr(net, name) for name in ("W", "b", "W_in", "W_out", "b_out")}
