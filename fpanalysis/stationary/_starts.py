"""Chains of a Monte Carlo run started apart, in groups, and whether the groups came to agree.

With several attractors each has its group; with one, or none, the groups start `FAR` standard deviations to both sides
of `start` along the widest directions of the linear chain. Chains that still know where they started disagree by group:
groups g of B_g pairs with averages y, means m_g and standard errors e_g,

    |m_g - m_k| > t sqrt(e_g^2 + e_k^2)  for some neuron and two groups,
    rhat_groups^2 = 1 + (variance of m_g over groups) / (variance of the state), largest over neurons.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import InputError
from fpanalysis.stationary._basins import attractors
from fpanalysis.stationary._linear_chain import LinearChain
from fpanalysis.stationary._mixing import quantile, standard_error
from fpanalysis.stationary._result import Array, Problem

FAR = 5.0
FEWEST = 8  #: pairs of a group
LEVEL = 1e-4  #: probability of finding groups of one law in disagreement


@dataclass(frozen=True, eq=False)
class Starts:
    """States (K, N), one per group; `attractors` says whether these are the stable fixed points."""

    states: Array
    attractors: bool

    def of(self, pairs: int) -> NDArray[np.intp]:
        """The groups of the pairs of one block, (pairs,)."""
        return np.arange(pairs) % len(self.states)


def apart(problem: Problem, linear: LinearChain | None, pairs: int | None) -> Starts:
    """Where chains start; raises `InputError` if the `pairs` asked for are too few."""
    points = attractors(problem.net, problem.u)
    starts = Starts(points, True) if len(points) > 1 else Starts(_overdispersed(problem, linear), False)
    least = FEWEST * len(starts.states)
    if pairs is not None and pairs < least:
        raise InputError(
            f"chains must be at least {2 * least} to start apart from {len(starts.states)} states; found {2 * pairs}"
        )
    return starts


def _overdispersed(problem: Problem, linear: LinearChain | None) -> Array:
    N = problem.net.N
    gamma, sigma = (np.broadcast_to(value, (N,)) for value in (problem.net.gamma, problem.sigma))
    C = np.diag(gamma / (2 - gamma) * sigma**2) if linear is None else linear.C
    values, vectors = np.linalg.eigh(C)
    away = (FAR * np.sqrt(np.maximum(values, 0)) * vectors).T[-2:]
    return problem.start + np.concatenate([away, -away])


def disagreement(y: Array, groups: NDArray[np.intp], cov: Array, rounding: float, starts: Starts) -> tuple[float, str]:
    """R-hat between groups, and in words which of them disagree; "" if none do. `y` (B, N), `groups` (B,)."""
    parts = [y[groups == k] for k in range(len(starts.states))]
    means, errors = np.array([part.mean(axis=0) for part in parts]), np.array([standard_error(part) for part in parts])
    moving = np.diag(cov) > rounding**2
    between = means.var(axis=0, ddof=1)[moving] / np.diag(cov)[moving]
    rhat = float(np.sqrt(1 + np.max(between, initial=0.0)))
    tests = y.shape[1] * len(parts) * (len(parts) - 1) / 2
    t = quantile(min(map(len, parts)), 1 - LEVEL / (2 * tests))
    worst, words = 1.0, ""
    for g, k in combinations(range(len(parts)), 2):
        excess = np.abs(means[g] - means[k]) / (t * np.hypot(errors[g], errors[k]) + 2 * rounding)
        i = int(excess.argmax())
        if excess[i] > worst:
            worst = float(excess[i])
            words = (
                f"the chains started at {_short(starts.states[g])} and at {_short(starts.states[k])} disagree: "
                f"mean of neuron {i} {means[g, i]:.4g} and {means[k, i]:.4g}"
            )
    return rhat, words


def _short(state: Array) -> str:
    return np.array2string(state[:3], precision=3, separator=", ")[:-1] + (", ...]" if len(state) > 3 else "]")
