"""Maze navigation: from a start at the bottom through an S-shaped corridor to a goal, in a closed loop.

    +---------------------------+
    |   +------------- goal     |
    |   |   #####################
    |   +-------------------+   |
    #####################   |   |
    |   start --------------+   |
    +---------------------------+

The task of Eckstein & Srinivasan, "Paradoxical noise preference in RNNs" (TMLR 2026). The network sees where it is,
u = 4 (p - 0.5), and moves by p' = p + 0.05 z; wanted is a walk of constant speed along the middle of the corridor,
then rest at the goal. An output that is a little wrong everywhere leads further astray with every step.

Where the reference rests for the last `hold` steps the goal is a place to stay. Without it (hold = 0) a network
passes the goal at full speed: where a trial ends is then a matter of timing, and success says less of the output
(measured: 99 % of the noisy trials end within 0.09 of the goal, with it within 0.04).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._task import Array, Batch, Defaults, Feedback, Task

LANES = (0.18, 0.52, 0.85)  #: heights at which the reference walks, from the start's to the goal's
WALLS = (0.35, 0.685)  #: heights of the walls between them
END = 0.85  #: where on the last lane the goal lies
CONDITIONS = 12


@dataclass(frozen=True)
class Maze(Task):
    """Walk along the corners (1 - a, .18) (1 - a, .52) (a, .52) (a, .85) (.85, .85) with a = opening / 2.

    The walls are the border of the unit square and two bars, which leave `opening` free at the right and at the left.

    Parameters
    ----------
    hold : int
        Steps at the end of the trial at which the reference rests at the goal; it reaches it at step T - hold.
    opening : float
        Width of the passage beside each bar.
    thickness : float
        Of the bars.
    goal : float
        Radius of the goal region.
    left, right, bottom, top : float
        The rectangle that starts are drawn from, uniformly.
    """

    T: int = 80
    counted: int = 80
    hold: int = 15
    opening: float = 0.32
    thickness: float = 0.03
    goal: float = 0.06
    left: float = 0.05
    right: float = 0.55
    bottom: float = 0.05
    top: float = 0.25

    name: ClassVar[str] = "maze"
    n_in: ClassVar[int] = 2
    n_out: ClassVar[int] = 2
    defaults: ClassVar[Defaults] = Defaults(size=64, gamma=0.2, steps=1000, lr=1e-2, batch=32)
    feedback: ClassVar[Feedback] = Feedback(rate=0.05, gain=4, centre=0.5)
    scored: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.hold < self.T:
            raise InputError(f"hold must be a whole number of steps in 0..T-1; found hold={self.hold}, T={self.T}")
        if not 0 < self.opening < 1:
            raise InputError(f"opening must lie between 0 and 1, the width of the square; found {self.opening}")
        room = 2 * (WALLS[0] - LANES[0])
        if not 0 <= self.thickness < room:
            raise InputError(f"thickness must be >= 0 and leave the lanes free, < {room:.2f}; found {self.thickness}")
        free = min(1 - END, 1 - LANES[-1], LANES[-1] - WALLS[-1] - self.thickness / 2)
        if not 0 < self.goal <= free:
            raise InputError(f"goal is a radius > 0 that fits between the walls, <= {free:.3g}; found {self.goal}")
        self._check_starts()
        self._check_speed()

    def _check_starts(self) -> None:
        below = WALLS[0] - self.thickness / 2
        if not (0 < self.left <= self.right < 1 and 0 < self.bottom <= self.top < below):
            raise InputError(
                f"starts must lie inside the square and below the first bar: 0 < left <= right < 1 and "
                f"0 < bottom <= top < {below:.3g}; found left={self.left}, right={self.right}, "
                f"bottom={self.bottom}, top={self.top}"
            )

    def _check_speed(self) -> None:
        """A step that is shorter than the way from a turn to the end of its bar cannot touch the bar."""
        start = np.array([(x, y) for x in (self.left, self.right) for y in (self.bottom, self.top)])
        step = self._legs(start)[1].sum(1).max() / (self.T - self.hold)
        if step >= self.opening / 2:
            raise InputError(
                f"the reference would cut corners: its longest step, {step:.3g}, must be < opening / 2; found "
                f"T={self.T}, hold={self.hold}, opening={self.opening}"
            )

    @property
    def corners(self) -> Array:
        """Where the reference turns and ends, (5, 2)."""
        a, (first, second, third) = self.opening / 2, LANES
        return np.array([(1 - a, first), (1 - a, second), (a, second), (a, third), (END, third)])

    @property
    def walls(self) -> Array:
        """Lower left and upper right corner of each bar, (2, 2, 2)."""
        half, (low, high) = self.thickness / 2, WALLS
        return np.array(
            [
                [(0, low - half), (1 - self.opening, low + half)],
                [(self.opening, high - half), (1, high + half)],
            ]
        )

    def layout(self) -> dict[str, Any]:
        """What `fpanalysis.figures.maze_figure` draws the maze from: walls, start (left, bottom, right, top) and goal
        (x, y, radius)."""
        start = (self.left, self.bottom, self.right, self.top)
        return {"walls": self.walls, "start": start, "goal": (*self.corners[-1], self.goal)}

    def reference(self, start: Array) -> Array:
        """Positions p_0 ... p_T (T + 1, B, 2) of the walk from `start` (B, 2).

        With c_k the corners, c_0 the start, d_k = |c_{k+1} - c_k| and s_k the distance from the start to c_k,

            p = c_0 + sum_k clip((s - s_k) / d_k, 0, 1) (c_{k+1} - c_k)

        after the distance s, which grows by the same amount in every step until the goal.
        """
        legs, d = self._legs(start)
        s = np.minimum(np.arange(self.T + 1) / (self.T - self.hold), 1)[:, None] * d.sum(1)
        walked = (s[..., None] - (d.cumsum(1) - d)) / np.maximum(d, np.finfo(float).tiny)
        return start + np.einsum("tbk,bkd->tbd", walked.clip(0, 1), legs)

    def _legs(self, start: Array) -> tuple[Array, Array]:
        """c_{k+1} - c_k (B, 5, 2) and d_k (B, 5) of the walks from `start`."""
        corners = np.concatenate([start[:, None], np.broadcast_to(self.corners, (len(start), 5, 2))], 1)
        legs = np.diff(corners, axis=1)
        return legs, np.linalg.norm(legs, axis=-1)

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """What a network on the reference sees (T, B, 2), the positions to reach (T, B, 2), and the mask (T, B)."""
        mask = self._mask(batch_size)
        low, high = (self.left, self.bottom), (self.right, self.top)
        p = self.reference(np.random.default_rng(rng).uniform(low, high, (batch_size, 2)))
        inputs = self.feedback.gain * (p[:-1] - self.feedback.centre)
        return inputs.astype(np.float32), p[1:].astype(np.float32), mask

    def collides(self, path: Array) -> Array:
        """Whether each path (..., steps, B, 2) touches a wall at its points or between them, (..., B).

        A segment with middle m (seen from the middle of the bar) and half extent d meets a bar of half extent e unless
        a line separates them: one along an axis, or one along the segment.
        """
        path = np.asarray(path, float)
        hit = np.asarray(~((path > 0) & (path < 1)).all((-3, -1)))  # and where a path is not a number
        middle, d = (path[..., 1:, :, :] + path[..., :-1, :, :]) / 2, np.diff(path, axis=-3) / 2
        for low, high in self.walls:
            e, m = (high - low) / 2, middle - (low + high) / 2
            axes = (np.abs(m) <= e + np.abs(d)).all(-1)
            across = np.abs(d[..., 0] * m[..., 1] - d[..., 1] * m[..., 0])
            hit |= (axes & (across <= e[0] * np.abs(d[..., 1]) + e[1] * np.abs(d[..., 0]))).any(-2)
        return hit

    def score(self, outputs: Array, batch: Batch) -> Array:
        """1 for the trials that end inside the goal region and touched no wall: (..., B) by the positions
        (..., T, B, 2)."""
        start = self.feedback.start(np.asarray(batch[0], float))
        start = np.broadcast_to(start, (*outputs.shape[:-3], 1, *start.shape))
        with np.errstate(over="ignore", invalid="ignore"):  # a network may run away to inf: no success
            safe = ~self.collides(np.concatenate([start, outputs], -3))
            there = np.linalg.norm(outputs[..., -1, :, :] - self.corners[-1], axis=-1) <= self.goal
        return (safe & there).astype(float)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_ij ~ 0.8 N(0, 1/N), W_in ~ N(0, 1), W_out ~ 0.1 N(0, 1/N), biases zero.

        An untrained network barely moves: with outputs of size 1 some run away at once, and their first gradients
        with them.
        """
        rng = np.random.default_rng(rng)
        return {
            "W": 0.8 / sqrt(size) * rng.standard_normal((size, size)),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, 2)),
            "W_out": 0.1 / sqrt(size) * rng.standard_normal((2, size)),
            "b_out": np.zeros(2),
        }

    def conditions(self) -> tuple[Array, None]:
        """Twelve places, evenly spaced in time along the reference from the middle of the starts to the goal.

        What is wanted there is not known from the place alone: trained networks steer by where they come from, too.
        Held where it is, the output leaves the velocity that the reference has there (0.79) by 0.4 within 5 steps and
        by 0.9 within 20, with noise inside and outside alike.
        """
        p = self.reference(np.array([[(self.left + self.right) / 2, (self.bottom + self.top) / 2]]))[:, 0]
        t = np.linspace(0, self.T - self.hold, CONDITIONS).round().astype(int)
        return self.feedback.gain * (p[np.unique(t)] - self.feedback.centre), None
