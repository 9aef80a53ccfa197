"""2-D path integration: from its velocity alone, a walker in a square box keeps track of where it is.

With w_t the velocity of a free walk, a smooth stationary Gaussian process, and walls at distance `box` from the origin,

    q_{t+1} = q_t + w_t,  q_0 = 0          E w_t . w_s = speed^2 exp(-(t - s)^2 / (2 smoothness^2))
    p_t = box sin(q_t / box)               v_t = p_{t+1} - p_t          z*_t = p_{t+1} = v_0 + ... + v_t

elementwise: the sine folds the free walk into the box, so that the walker slows down at a wall and turns back without
a kink. Every trial starts at the origin from h = 0, so that the velocity is all that there is to know.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt
from typing import ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._task import Array, Batch, Defaults, Task

GAIN = 10  #: of the speed in the inputs: a step is small against the box, but an input should be about 1
NEAR = 0.2  #: of `box`: a trial that ends within this distance of the walker succeeded
SMOOTHEST = 1000  #: steps: what is drawn to be smoothed is longer than the trial by eight times that
INPUTS = {"velocity": 2, "speed-heading": 3}


@dataclass(frozen=True)
class PathIntegration(Task):
    """z = the position p (module's docstring), from u_t = 10 v_t or from 10 |v_t| and the heading of v_t.

    Parameters
    ----------
    box : float
        Distance of the walls from the origin.
    speed : float
        Root mean square of |w|, the velocity away from the walls, per step.
    smoothness : float
        Steps over which the velocity keeps its direction (its correlation falls to exp(-1/2)); 1 to 1000.
    inputs : "velocity" | "speed-heading"
        u = 10 (v_x, v_y), or u = (10 |v|, cos, sin) of the heading: the first times the others is the velocity again.
    """

    T: int = 50
    counted: int = 50
    box: float = 1.0
    speed: float = 0.1
    smoothness: float = 5.0
    inputs: str = "velocity"

    name: ClassVar[str] = "path-integration"
    n_out: ClassVar[int] = 2
    scored: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults(size=128, gamma=0.1, steps=2000, lr=5e-3, batch=32, sigma=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.speed <= self.box:
            raise InputError(f"box and speed must have 0 < speed <= box; found speed={self.speed}, box={self.box}")
        if not 1 <= self.smoothness <= SMOOTHEST:
            raise InputError(f"smoothness must be a number of steps in [1, {SMOOTHEST}]; found {self.smoothness}")
        if self.inputs not in INPUTS:
            raise InputError(f"inputs must be {' or '.join(map(repr, INPUTS))}; found {self.inputs!r}")

    @property
    def n_in(self) -> int:  # type: ignore[override]  # a setting decides it
        return INPUTS[self.inputs]

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Velocities, positions, and a mask that is 1 on the last `counted` steps; shapes as for every task."""
        mask = self._mask(batch_size)
        q = np.cumsum(self._free_velocity(batch_size, np.random.default_rng(rng)), axis=0)
        p = self.box * np.sin(q / self.box)
        v = np.diff(p, axis=0, prepend=0)
        return self._encoded(v).astype(np.float32), p.astype(np.float32), mask

    def _free_velocity(self, batch_size: int, rng: np.random.Generator) -> Array:
        """w (T, B, 2): white noise smoothed by the kernel exp(-(t / smoothness)^2), the root of its covariance."""
        reach = ceil(4 * self.smoothness)  # the kernel is 1e-7 of its peak there
        kernel = np.exp(-((np.arange(-reach, reach + 1) / self.smoothness) ** 2))
        kernel *= self.speed / sqrt(2) / np.linalg.norm(kernel)
        white = rng.standard_normal((self.T + 2 * reach, batch_size * 2))
        windows = np.lib.stride_tricks.sliding_window_view(white, len(kernel), axis=0)
        return (windows @ kernel).reshape(self.T, batch_size, 2)

    def _encoded(self, v: Array) -> Array:
        """The inputs (..., n_in) that tell the velocity v (..., 2)."""
        if self.inputs == "velocity":
            return GAIN * v
        heading = np.arctan2(v[..., 1], v[..., 0])
        return np.stack([GAIN * np.hypot(v[..., 0], v[..., 1]), np.cos(heading), np.sin(heading)], -1)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_ij ~ 0.8 N(0, 1/N) + 0.5 on the diagonal, W_in ~ N(0, 1), W_out ~ N(0, 1/N), biases zero.

        The diagonal halves the leak, a first step towards an integrator.
        """
        rng = np.random.default_rng(rng)
        return {
            "W": 0.8 / sqrt(size) * rng.standard_normal((size, size)) + 0.5 * np.eye(size),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, self.n_in)),
            "W_out": rng.standard_normal((2, size)) / sqrt(size),
            "b_out": np.zeros(2),
        }

    def score(self, outputs: Array, batch: Batch) -> Array:
        """1 where the output ends within 0.2 box of the walker; shapes as for every task."""
        away = outputs[..., -1, :, :] - batch[1][-1]
        return np.asarray(np.hypot(away[..., 0], away[..., 1]) <= NEAR * self.box)

    def conditions(self) -> tuple[Array, None]:
        """Velocity zero (with four headings): an integrator holds where it is, and the input does not tell where."""
        if self.inputs == "velocity":
            return np.zeros((1, 2)), None
        return np.array([[0, 1, 0], [0, 0, 1], [0, -1, 0], [0, 0, -1]], float), None
