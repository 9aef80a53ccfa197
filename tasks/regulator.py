"""The regulator: one neuron, read out as it is (z = h), must stay at a target c; only w and b are trained.

The smallest network that shows a preference for noise: a target small against the noise, c <= sigma / 2 about,
is held with least variance by operating near or under the kink of the ReLU, where the noise itself provides
the mean; with the noise removed the neuron falls below its target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._task import Array, Defaults, Task


@dataclass(frozen=True)
class Regulator(Task):
    """Hold h = c from h = c, without inputs.

    Parameters
    ----------
    c : float
        The target.
    """

    c: float = 0.2

    name: ClassVar[str] = "regulator"
    n_in: ClassVar[int] = 0
    n_out: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults(size=1, gamma=0.1, steps=400, lr=1e-2, batch=256)
    trainable: ClassVar[tuple[str, ...]] = ("W", "b")

    def trials(self, batch_size: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return np.zeros((batch_size, 0)), np.full((batch_size, 1), self.c)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """w ~ U(-0.5, 0.5), and b such that the noise-free fixed point is the target; z = h fixed."""
        if size != 1:
            raise InputError(f"size must be 1: the regulator is a single neuron; found {size}")
        w = np.random.default_rng(rng).uniform(-0.5, 0.5)
        return {
            "W": np.array([[w]]),
            "b": np.array([(1 - w) * self.c]),
            "W_in": np.zeros((1, 0)),
            "W_out": np.ones((1, 1)),
            "b_out": np.zeros(1),
        }

    def initial_state(self, targets: Array, size: int) -> Array:
        """h = c: the state is the output."""
        return targets[0]

    def conditions(self) -> tuple[Array, Array]:
        """One condition without inputs."""
        return np.zeros((1, 0)), np.full((1, 1), self.c)
