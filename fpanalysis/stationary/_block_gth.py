"""Elimination without a subtraction (`_gth`) of chains with a banded block structure.

The states stand in n slices of m; P leads at most r slices away. Slices are eliminated from both ends towards the one
that is kept: with B the slice and A what is left of the others,

    P_AA <- P_AA + P_AB (I - P_BB)^-1 P_BA,        pi_B = pi_A P_AB (I - P_BB)^-1

I - P_BB is factored with its diagonal taken from the sums of what leaves each state, so that every number is a sum of
products of non-negative numbers: the result holds entrywise to about n m machine epsilons, however rarely the chain
passes from one part to another. The slice kept is eliminated by `_gth`. Matrices of `_gth` would have (n m)^2 entries.
Sources: Grassmann, Taksar & Heyman, "Regenerative analysis and steady state distributions for Markov chains",
Operations Research 1985; Alfa, Xue & Ye, "Accurate computation of the smallest eigenvalue of a diagonally dominant
M-matrix", Math. Comp. 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.stationary._gth import Elimination, Reducible, eliminate, inverse_iteration

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """A slice B taken out when the slices `rest` were left: I - P_BB = L U, P_AB (I - P_BB)^-1 and P_BA."""

    index: int
    rest: slice
    L: Array
    U: Array
    entries: Array
    exits: Array


class BandElimination:
    """The chain of `band` (n, m, 2 r + 1, m) down to one state of the slice `keep`:
    band[i, a, r + d, b] is the probability of the step from state a of slice i to state b of slice i + d.

    What lies outside the n slices must be zero. Probabilities to stay are not used: rows may sum to less than one.
    Raises `Reducible` where some states never reach those that are left.
    """

    def __init__(self, band: Array, keep: int = 0) -> None:
        n, m, width, _ = band.shape
        r = width // 2
        self.shape, self.keep = (n, m), keep
        P = band.copy()
        above = [_take_out(P, i, slice(max(0, i - r), i)) for i in range(n - 1, keep, -1)]
        self.slices = above + [_take_out(P, i, slice(i + 1, min(keep, i + r) + 1)) for i in range(keep)]
        last = P[keep, :, r]
        self.first = int(eliminate(last).stationary().argmax())  # a likely state, as `slowest_rate` wants it
        self.order = np.concatenate([[self.first], np.delete(np.arange(m), self.first)])
        self.last: Elimination = eliminate(last[np.ix_(self.order, self.order)])

    def stationary(self) -> Array:
        """pi (n, m), pi P = pi, sum 1."""
        pi = np.zeros(self.shape)
        pi[self.keep, self.order] = self.last.stationary()
        for B in reversed(self.slices):
            pi[B.index] = pi[B.rest].ravel() @ B.entries
            if pi[B.index].max() > 1e200:
                pi /= pi[B.index].max()
        if not np.isfinite(pi).all():
            raise Reducible("some states are reached too rarely for float64")
        return pi / pi.sum()

    def until_first(self, g: Array) -> Array:
        """E sum of g (n m, c) over the states visited before the state kept is reached: psi (n m, c), zero there, with
        (1 - P) psi = g in the others. Without cancellation for g >= 0."""
        n, m = self.shape
        psi = g.reshape(n, m, -1).copy()
        for B in self.slices:
            before = psi[B.rest]
            before += (B.entries @ psi[B.index]).reshape(before.shape)
        last = self.last.until_first(psi[self.keep, self.order])
        psi[self.keep, self.order] = last
        for B in reversed(self.slices):
            onward = B.exits @ psi[B.rest].reshape(-1, psi.shape[2])
            psi[B.index] = _left(B.L, B.U, psi[B.index] + onward)
        return psi.reshape(n * m, -1)

    def slowest_rate(self, p: Array) -> float:
        """1 - lambda_2, right relative to itself; NaN where it is complex or not apart from the next, 0 where 1e150
        steps do not lead to the slice kept, which should be one of the likely ones."""
        with np.errstate(over="ignore", invalid="ignore"):
            longest = np.max(self.until_first(np.ones((len(p), 1))))
        return inverse_iteration(self.until_first, p) if longest < 1e150 else 0.0


def stationary_vector(band: Array) -> Array:
    """pi (n, m) of the chain given by its `band` (see `BandElimination`)."""
    return BandElimination(band).stationary()


def _take_out(P: Array, i: int, rest: slice) -> Slice:
    """Eliminate slice i of the band P, in place, with the slices `rest` left within its reach."""
    m, r = P.shape[1], P.shape[2] // 2
    low, high = rest.start, rest.stop
    exits = P[i, :, r + low - i : r + high - i].reshape(m, -1)
    L, U = _factor(P[i, :, r], exits.sum(axis=1))
    entries = np.concatenate([P[j, :, r + i - j] for j in range(low, high)])  # P_AB, (m (high - low), m)
    entries = _right(entries, L, U)
    added = (entries @ exits).reshape(high - low, m, high - low, m)
    for j in range(low, high):
        P[j, :, r + low - j : r + high - j] += added[j - low]
    return Slice(i, rest, L, U, entries, exits.copy())


def _factor(P: Array, exits: Array) -> tuple[Array, Array]:
    """I - P = L U with L unit lower, U upper triangular; `exits` (m,) is what leaves P (m, m)."""
    m = len(P)
    P, e = P.copy(), exits.copy()
    d = np.empty(m)
    for k in range(m):
        d[k] = P[k, k + 1 :].sum() + e[k]
        if not d[k] > 0:
            raise Reducible("states of a slice never leave it")
        P[k + 1 :, k] /= d[k]
        column = P[k + 1 :, k]
        P[k + 1 :, k + 1 :] += column[:, None] * P[k, k + 1 :]
        e[k + 1 :] += column * e[k]
    return np.eye(m) - np.tril(P, -1), np.diag(d) - np.triu(P, 1)


def _right(entries: Array, L: Array, U: Array) -> Array:
    """entries (L U)^-1: triangular solves in which all terms have one sign."""
    if len(L) == 1:
        return entries / U
    from scipy.linalg import solve_triangular

    half = solve_triangular(U, entries.T, trans="T", check_finite=False)
    return solve_triangular(L, half, trans="T", lower=True, unit_diagonal=True, check_finite=False).T


def _left(L: Array, U: Array, g: Array) -> Array:
    """(L U)^-1 g."""
    if len(L) == 1:
        return g / U
    from scipy.linalg import solve_triangular

    half = solve_triangular(L, g, lower=True, unit_diagonal=True, check_finite=False)
    return solve_triangular(U, half, check_finite=False)
