"""How far the second order carries: the expected loss under noise of full size, from pairs of runs with opposite noise.

In a pair all odd orders cancel, so that few pairs show what the orders beyond the second add.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.regularizer._recursion import Driven
from fpanalysis.regularizer.losses import Loss

Array = NDArray[np.float64]

CHUNK = 1 << 20  #: states held at once


def paired(problem: Driven, loss: Loss, eps: float, pairs: int, rng: np.random.Generator) -> Array:
    """The loss of each trial in each pair, (pairs, B), with noise of the size `eps`."""
    B, N = problem.start.shape
    at_once = max(1, CHUNK // (2 * B * N))
    blocks = [min(at_once, pairs - done) for done in range(0, pairs, at_once)]
    return np.concatenate([_block(problem, loss, eps, R, rng) for R in blocks])


def mean_and_half(runs: Array) -> tuple[float, float]:
    """Mean over the pairs (pairs, B) of the sum over trials, and its half-width, 95 %."""
    totals = runs.sum(axis=1)
    if not np.isfinite(totals).all():
        return float("inf"), float("inf")
    return float(totals.mean()), float(2 * totals.std(ddof=1) / np.sqrt(len(totals)))


def _block(problem: Driven, loss: Loss, eps: float, pairs: int, rng: np.random.Generator) -> Array:
    net, (B, N) = problem.net, problem.start.shape
    h = np.broadcast_to(problem.start, (2, pairs, B, N))
    total = np.zeros((pairs, B))
    for t, u in enumerate(problem.inputs):
        xi = rng.standard_normal((pairs, B, N))
        g, noise = problem.gamma[t], np.stack([xi, -xi])
        F = net.disturbed(h, u, eps * problem.sigma[t], eps * problem.multiplicative, noise)
        h = (1 - g) * h + g * F
        if problem.weight[t].any():
            z = net.output(h)
            target, weight = (np.broadcast_to(part[t], z.shape) for part in (problem.targets, problem.weight))
            total += loss.value(z, target, weight).mean(axis=0)
    return total
