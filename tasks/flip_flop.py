"""The n-bit flip-flop: each output channel holds the sign of the last pulse on its input channel.

Sussillo & Barak, "Opening the black box: low-dimensional dynamics in high-dimensional recurrent neural networks"
(Neural Computation 25, 2013). At zero input a trained network holds 2^n memories: for three bits, 8 stable fixed
points at the corners of a cube, with 12 + 6 saddles between them and one point in the middle, 27 in all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._task import Array, Batch, Defaults, Task


@dataclass(frozen=True)
class FlipFlop(Task):
    """z_k(t) = sign of the last pulse on channel k that began at or before step t.

    Every trial opens with a pulse on every channel, so that there is always something to remember: an output of 0
    before the first pulse would ask for stable points with undecided channels, 3^n instead of 2^n.

    Parameters
    ----------
    n : int
        Channels, the bits to hold.
    rate : float
        Probability per step and channel that a pulse begins; it replaces one that is still on.
    duration : int
        Steps of a pulse, of height +1 or -1 with equal chances.
    """

    T: int = 60
    counted: int = 60
    n: int = 3
    rate: float = 0.04
    duration: int = 2

    name: ClassVar[str] = "flip-flop"
    defaults: ClassVar[Defaults] = Defaults(
        size=64, gamma=0.5, steps=1000, lr=5e-3, batch=64, activation="tanh", sigma=0.1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.n, self.duration) < 1:
            raise InputError(f"n and duration must be whole numbers >= 1; found n={self.n}, duration={self.duration}")
        if not 0 <= self.rate <= 1:
            raise InputError(f"rate is a probability per step, in [0, 1]; found {self.rate}")

    @property
    def n_in(self) -> int:  # type: ignore[override]  # a setting decides it
        return self.n

    @property
    def n_out(self) -> int:  # type: ignore[override]
        return self.n

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Pulses, held signs, and a mask that is 1 on the last `counted` steps; shapes as for every task."""
        mask = self._mask(batch_size)
        rng = np.random.default_rng(rng)
        shape = (self.T, batch_size, self.n)
        onset = rng.random(shape) < self.rate
        sign = rng.choice(np.array([-1, 1], np.float32), shape)
        t = np.arange(self.T)[:, None, None]
        last = np.maximum.accumulate(np.where(onset, t, 0))  # step of the last pulse; at 0 there is always one
        targets = np.take_along_axis(sign, last, 0)
        return np.where(t - last < self.duration, targets, np.float32(0)), targets, mask

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_ij ~ N(0, 1/N), W_in ~ N(0, 1), W_out ~ N(0, 1/N), biases zero."""
        rng = np.random.default_rng(rng)
        return {
            "W": rng.standard_normal((size, size)) / sqrt(size),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, self.n)),
            "W_out": rng.standard_normal((self.n, size)) / sqrt(size),
            "b_out": np.zeros(self.n),
        }

    def conditions(self) -> tuple[Array, None]:
        """Zero input alone, between the pulses; what is wanted there depends on what came before."""
        return np.zeros((1, self.n)), None
