"""Noise-free trajectories that show how a system moves between its fixed points: away from saddles along their
unstable directions, which ends where a basin on either side has its attractor, and from random states."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fpanalysis.fixed_points.search.seeds import finite, random_states

if TYPE_CHECKING:
    from fpanalysis.fixed_points.result import FixedPoints

Array = NDArray[np.float64]

OFFSET = 0.05  #: of the distance to the nearest other fixed point: how far from a saddle its trajectories start
RANDOM = 5  #: one trajectory in so many starts from a random state
FAR = 1.3  #: random states are pulled in to so many times the size of the fixed points
ESCAPED = 10.0  #: times that size: a trajectory so far out is left
REST = 1e-3  #: of that size, per slowest time constant: a trajectory that moves less has come to rest
LONGEST = 10.0  #: slowest time constants of leaving and of approaching a point, or
SHORTEST = 20.0  #: times 1 / gamma, whichever is more: the steps after which trajectories that never rest are ended
MOST = 1000  #: steps


def sample(points: FixedPoints, count: int, steps: int | None, rng: Generator) -> Array:
    """(T, M, N), M <= `count` trajectories; NaN once they have escaped. `steps` None: until all have come to rest."""
    net, u = points.net, points.u
    scattered = finite(random_states(net, u, rng, -(-count // RANDOM)))
    largest = np.abs(scattered).max(axis=1)
    size = float(np.abs(points.h).max(initial=0.0))
    if len(points) < 2 and len(scattered):  # it may be all but 0
        size = max(size, float(np.median(largest)))
    scattered *= np.minimum(1, FAR * size / np.maximum(largest, 1e-300))[:, None]
    start = np.vstack([beside_saddles(points, count - len(scattered), size), scattered])
    leave, approach = slowest(points)
    slow = -1.0
    if steps is None:
        own = 1 / float(np.mean(net.gamma))
        steps = int(min(MOST, np.ceil(max(LONGEST * (leave + approach), SHORTEST * own))))
        slow = REST * size / max(leave, approach, own)
    path = [start]
    for _ in range(steps):
        h = np.full_like(start, np.nan)
        inside = np.abs(path[-1]).max(axis=1) <= ESCAPED * size
        h[inside] = net.step(path[-1][inside], u)
        path.append(h)
        if not (np.abs(h - path[-2]) > slow).any():
            break
    return np.stack(path)


def beside_saddles(points: FixedPoints, count: int, size: float) -> Array:
    """At most `count` states on both sides of the saddles along each of their unstable directions, beginning with the
    saddles that have the fewest."""
    saddles = np.flatnonzero((points.n_unstable > 0) & ~points.singular)
    states = [np.empty((0, points.net.N))]
    for k in saddles[np.argsort(points.n_unstable[saddles], kind="stable")]:
        others = np.linalg.norm(np.delete(points.h, k, axis=0) - points.h[k], axis=1)
        step = OFFSET * others.min(initial=size) * points.unstable_directions(k)
        states += [points.h[k] + step, points.h[k] - step]
    return np.vstack(states)[: max(0, count)]


def slowest(points: FixedPoints) -> tuple[float, float]:
    """Longest time constants, in steps, with which a saddle is left and a stable point is approached; 0 if none."""
    growth = np.where(points.singular[:, None], 0, points.time_constants)  # negative where a mode grows
    approach = points.relaxation_time[points.stable & ~points.singular]
    return -float(np.min(growth, initial=0.0)), float(np.max(approach, initial=0.0))
