"""Chains of a Monte Carlo run that leave the basin they started in: noticed, counted, and weighed where they are many.

At the end of every batch a chain is in the basin that the noise-free dynamics would take it to; a hop is a change of
basin between two ends. Looking costs a relaxation per state, so a few are looked at first: the furthest from the mean
in standard deviations, those at both ends of the direction in which the states vary most (along which basins would lie
apart), and some at the end of the run. Only where one of them has left are the chains followed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points import settle
from fpanalysis.stationary._basins import NEAR, attractors, basin_of, split
from fpanalysis.stationary._mixing import quantile, standard_error
from fpanalysis.stationary._result import Array, Basin, Problem

FIRST = 4  #: states looked at first, of each of the four kinds
TINY = 1e-300  #: the variance of a run without noise
POWER = 8  #: of the covariance, to find the direction of its largest eigenvalue
STATES = 1280  #: states labelled at most, of whole pairs
APART = 8 * STATES  #: where weights are the purpose
RETURNS = 10  #: hops back into the first basin without which the basins are not weighed
DRIFT = 4.0  #: standard errors by which a weight may change from the first to the second half of the run


@dataclass(frozen=True)
class Hops:
    """What was seen of the chains that were followed.

    `hops` between basins, `chains` followed, `left`: the fraction of them that were ever seen outside the basin they
    started in, `away`: that were outside at the end, `time`: batches in which the weights relax (of two basins in
    balance, 2 p (1 - p) / hops per chain and batch), `basins` with their weights; `weighed`: whether the exchange
    between the basins was seen often enough for these.
    """

    chains: int
    hops: int
    left: float
    away: float
    time: float
    weighed: bool
    basins: tuple[Basin, ...]

    @property
    def unweighed(self) -> tuple[Basin, ...]:
        """The basins where their weights are only those of the starts."""
        return tuple(replace(basin, weight=float("nan"), weight_error=float("nan")) for basin in self.basins)


def hops_between(problem: Problem, ends: Array, groups: NDArray[np.intp], points: Array) -> Hops:
    """From the states at the ends of batches, (2, B, batches, N); the pairs started at `points` (K, N), by `groups`
    (B,)."""
    pairs = max(4, APART // (2 * ends.shape[2]))
    return _follow(problem, ends[:, :pairs], groups[:pairs], points)


def hops(problem: Problem, ends: Array, mean: Array, cov: Array) -> Hops | None:
    """The same of chains that all started at `start`; None where no chain was seen to leave its basin."""
    if not problem.stable:
        return None
    net, u = problem.net, problem.u
    home = settle(net, problem.start[None], u)[0]
    if (basin_of(net, u, _suspects(ends, mean, cov), home) == 0).all():
        return None
    others = attractors(net, u)
    apart = np.abs(others - home).max(axis=1, initial=0.0) > 2 * NEAR * (1 + np.abs(home).max())
    points = np.vstack([home, others[apart]])
    pairs = max(4, STATES // (2 * ends.shape[2]))
    return _follow(problem, ends[:, :pairs], np.zeros(min(pairs, ends.shape[1]), np.intp), points)


def _follow(problem: Problem, followed: Array, groups: NDArray[np.intp], points: Array) -> Hops:
    flat = followed.reshape(-1, problem.net.N)
    labels = basin_of(problem.net, problem.u, flat, points)
    basins = split(labels, flat, np.full(len(flat), 1 / len(flat)), points)
    labels = labels.reshape(followed.shape[:3])
    errors = [_error(followed - basin.mean, labels == k) for k, basin in enumerate(basins)]
    basins = tuple(replace(basin, error=error) for basin, error in zip(basins, errors, strict=True))
    return _count(labels, groups, basins)


def _error(d: Array, inside: NDArray[np.bool_]) -> Array:
    """The error (N,) at 95 % of a mean over the states `inside` (2, B, batches), d (2, B, batches, N) from it: that of
    a ratio of sums over independent pairs."""
    count, pairs = int(inside.sum()), inside.shape[1]
    if not count:
        return np.full(d.shape[-1], np.nan)
    sums = np.where(inside[..., None], d, 0.0).sum(axis=(0, 2))
    return quantile(pairs, 0.975) * np.sqrt((sums**2).sum(axis=0) * pairs / (pairs - 1)) / count


def _suspects(ends: Array, mean: Array, cov: Array) -> Array:
    """The states that would show that a chain has left, if one has."""
    last, states = ends[0, :, -1], ends.reshape(-1, len(mean))
    spread = np.sqrt(np.maximum(np.diag(cov), 0.0))
    size = np.abs((states - mean) / np.where(spread > 0, spread, np.inf)).max(axis=1)
    widest = np.linalg.matrix_power(
        cov / max(np.abs(cov).max(), TINY), POWER
    )  # its columns point along the leading eigenvector
    along = (states - mean) @ widest[:, np.argmax(np.diag(widest))]
    order = np.argsort(along)
    chosen = np.concatenate([np.argsort(size)[-FIRST:], order[:FIRST], order[-FIRST:]])
    return np.concatenate([states[chosen], last[:: max(1, len(last) // FIRST)]])


def _count(labels: NDArray[np.intp], groups: NDArray[np.intp], basins: tuple[Basin, ...]) -> Hops:
    """From labels (2, B, batches), where the pairs started in the basins `groups` (B,)."""
    began = np.broadcast_to(groups[:, None], (*labels.shape[:2], 1))
    path = np.concatenate([began, labels], axis=2)
    changed = path[..., 1:] != path[..., :-1]
    returns = int(np.sum(changed & (labels == 0)))
    here = np.array([(labels == k).mean(axis=0) for k in range(len(basins))])  # (K, B, batches)
    error = quantile(here.shape[1], 0.975) * standard_error(here.mean(axis=2).T)
    half = here.shape[2] // 2
    change = (here[..., half:].mean(axis=2) - here[..., :half].mean(axis=2)).T
    steady = np.all(np.abs(change.mean(axis=0)) <= DRIFT * standard_error(change))
    outside = labels != began
    share = here.mean(axis=(1, 2))
    return Hops(
        chains=labels.shape[0] * labels.shape[1],
        hops=int(changed.sum()),
        left=float(outside.any(axis=2).mean()),
        away=float(outside[..., -1].mean()),
        weighed=bool(returns >= RETURNS and steady and error[0] <= 0.5 * min(basins[0].weight, 1 - basins[0].weight)),
        time=float(share @ (1 - share)) * labels.size / changed.sum() if changed.any() else float("inf"),
        basins=tuple(replace(basin, weight_error=float(e)) for basin, e in zip(basins, error, strict=True)),
    )
