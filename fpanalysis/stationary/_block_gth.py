"""Stationary vectors of chains with a banded block structure, without a subtraction.

The states stand in n slices of m; P leads at most r slices away. Slices are eliminated from the last to the first: with
B the slice and A what is left,

    P_AA <- P_AA + P_AB (I - P_BB)^-1 P_BA,        pi_B = pi_A P_AB (I - P_BB)^-1

I - P_BB is factored with its diagonal taken from the sums of what leaves each state, so that every number is a sum of
products of non-negative numbers: the result holds entrywise to about n m machine epsilons, however rarely the chain
passes from one part to another.
Sources: Grassmann, Taksar & Heyman, "Regenerative analysis and steady state distributions for Markov chains",
Operations Research 1985; Alfa, Xue & Ye, "Accurate computation of the smallest eigenvalue of a diagonally dominant
M-matrix", Math. Comp. 2002.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def stationary_vector(band: Array) -> Array:
    """pi (n, m) with pi P = pi and sum 1, of the chain given by its band (n, m, 2 r + 1, m):
    band[i, a, r + d, b] is the probability of the step from state a of slice i to state b of slice i + d.

    What lies outside the n slices must be zero. Probabilities to stay are not used: rows may sum to less than one.
    """
    n, m, width, _ = band.shape
    r = width // 2
    P = band.copy()
    factors = []
    for i in range(n - 1, 0, -1):
        low = max(0, i - r)
        exits = P[i, :, r - (i - low) : r].reshape(m, -1)
        L, U = _factor(P[i, :, r], exits.sum(axis=1))
        entries = np.concatenate([P[j, :, r + i - j] for j in range(low, i)])  # P_AB, (m (i - low), m)
        entries = _right(entries, L, U)
        factors.append(entries)
        added = (entries @ exits).reshape(i - low, m, i - low, m)
        for j in range(low, i):
            P[j, :, r + low - j : r + i - j] += added[j - low]
    pi = np.zeros((n, m))
    pi[0] = _dense(P[0, :, r])
    for i, entries in zip(range(1, n), reversed(factors), strict=True):
        low = max(0, i - r)
        pi[i] = pi[low:i].ravel() @ entries
        if pi[i].max() > 1e200:
            pi[: i + 1] /= pi[i].max()
    return pi / pi.sum()


def _factor(P: Array, exits: Array) -> tuple[Array, Array]:
    """I - P = L U with L unit lower, U upper triangular; `exits` (m,) is what leaves P (m, m)."""
    m = len(P)
    P, e = P.copy(), exits.copy()
    d = np.empty(m)
    for k in range(m):
        d[k] = P[k, k + 1 :].sum() + e[k]
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


def _dense(P: Array) -> Array:
    """The stationary vector of one slice (m, m), up to its scale."""
    P = P.copy()
    m = len(P)
    for k in range(m - 1, 0, -1):
        P[:k, k] /= P[k, :k].sum()
        P[:k, :k] += P[:k, k, None] * P[k, :k]
    pi = np.ones(m)
    for k in range(1, m):
        pi[k] = pi[:k] @ P[:k, k]
    return pi / pi.sum()
