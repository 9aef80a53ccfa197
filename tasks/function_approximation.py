"""Function approximation: a constant input u must settle to the output z = sin(pi u), u ~ U(-1, 1), from h = 0.

The task of Eckstein & Srinivasan, "Paradoxical noise preference in RNNs" (TMLR 2026). T = 80 steps with a
loss on the last 40 make the network settle: shorter trials (T = 40, last 10) leave it drifting.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from ._task import Array, Defaults, Task


@dataclass(frozen=True)
class FunctionApproximation(Task):
    """z = sin(pi u)."""

    name: ClassVar[str] = "function-approximation"
    n_in: ClassVar[int] = 1
    n_out: ClassVar[int] = 1
    defaults: ClassVar[Defaults] = Defaults(size=64, gamma=0.2, steps=2000, lr=2e-3, batch=32)

    def trials(self, batch_size: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u = rng.uniform(-1, 1, (batch_size, 1))
        return u, np.sin(np.pi * u)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_ij ~ 0.8 N(0, 1/N), W_in ~ N(0, 1), W_out ~ N(0, 1/N), biases zero."""
        rng = np.random.default_rng(rng)
        return {
            "W": 0.8 / sqrt(size) * rng.standard_normal((size, size)),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, 1)),
            "W_out": rng.standard_normal((1, size)) / sqrt(size),
            "b_out": np.zeros(1),
        }

    def conditions(self) -> tuple[Array, Array]:
        """Eleven inputs, -1 to 1."""
        u = np.linspace(-1, 1, 11)[:, None]
        return u, np.sin(np.pi * u)
