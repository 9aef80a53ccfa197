"""Basins of attraction of the noise-free dynamics, and what a law puts into each.

A law on a multistable network is reported basin by basin: with B_k the states from which the noise-free dynamics
comes to rest at the stable fixed point h*_k,

    weight_k = P(h in B_k),    mean_k = E[h | h in B_k],    cov_k = Cov[h | h in B_k].
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points import find_fixed_points, settle
from fpanalysis.stationary._result import Array, Basin
from fpanalysis.system import System

NEAR = 1e-5  #: distance to a fixed point, relative to its size, at which a settled state is that point


def attractors(net: System, u: Array) -> Array:
    """The stable fixed points (K, N) of the noise-free dynamics at the input `u` (n_in,)."""
    points = find_fixed_points(net, u, rng=0, prove=False)
    return points.h[points.stable]


def basin_of(net: System, u: Array, states: Array, points: Array) -> NDArray[np.intp]:
    """Which of `points` (K, N) the noise-free dynamics reaches from each of `states` (S, N): (S,), -1 for none."""
    if not len(points):
        return np.full(len(states), -1)
    ends, rests = settle(net, states, u)
    distance = np.abs(ends[:, None] - points).max(axis=2)
    nearest = distance.argmin(axis=1)
    home = rests & (distance.min(axis=1) <= NEAR * (1 + np.abs(points[nearest]).max(axis=1)))
    return np.where(home, nearest, -1)


def split(labels: NDArray[np.intp], states: Array, weights: Array, points: Array) -> tuple[Basin, ...]:
    """Basins of a law given as `states` (S, N) with probabilities `weights` (S,), by `labels` (S,) of `basin_of`.

    The weights of the basins sum to the probability of the states that come to rest at one of `points` (K, N).
    """
    basins = []
    for k, point in enumerate(points):
        here = labels == k
        p, h = weights[here], states[here]
        weight = float(p.sum())
        mean = p @ h / weight if weight > 0 else np.full(len(point), np.nan)
        d = h - mean
        cov = (p[:, None] * d).T @ d / weight if weight > 0 else np.full((len(point), len(point)), np.nan)
        basins.append(Basin(weight, mean, cov, point))
    return tuple(basins)
