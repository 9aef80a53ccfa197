"""Subtraction-free elimination of a Markov chain: stationary vector and slowest rate, however small the gap.

Let a_ij >= 0 (i != j) be the transition probabilities, or rates, of n states; the diagonal is never looked at, it
is what makes the rows sum to one (or to zero). State k = n - 1, ..., 1 is taken out in turn, the chain then being
watched only while it is in the states before k (Grassmann, Taksar & Heyman, Oper. Res. 33, 1107, 1985):

    s_k = sum_{j<k} a_kj,      u_ik = a_ik / s_k,      a_ij <- a_ij + u_ik a_kj      (i, j < k)
    p_0 = 1,                   p_k = sum_{i<k} p_i u_ik

No two numbers are ever subtracted, so every p_k is right *relative to itself*, also where an eigenvalue solver sees
two eigenvalues 1. A relative change of at most e in every a_ij changes no p_k by more than 2 (n - 1) e of itself (each
is a ratio of sums of products of n - 1 of them, the Markov chain tree theorem); one step of the elimination rounds by
at most (k + 3) u, u the unit roundoff; all steps together, to first order,

    |error of p_k| <= sum_k 2 (k - 1) (k + 3) u p_k = (2/3 n^3 + O(n^2)) u p_k

(compare O'Cinneide, Numer. Math. 65, 109, 1993); what is seen is a few u. Matrix products do the bulk of the work, in
blocks: their terms are all positive too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

BLOCK = 64  #: states taken out between two matrix products
HUGE = 1e150  #: size of an entry of p at which it is scaled down
ITERATIONS = 60  #: of the inverse iteration for the slowest rate
TOLERANCE = 1e-8  #: relative change of the slowest rate at which it stands


class Reducible(ArithmeticError):
    """Some states never reach the first one, as far as float64 can tell: there is no unique stationary vector."""


@dataclass(frozen=True, eq=False)
class Elimination:
    """A chain eliminated down to its state 0.

    Attributes
    ----------
    factors : (n, n), above the diagonal u_ik, below it a_kj when k was taken out, on it s_k (s_0 = 1).
    """

    factors: Array

    def __len__(self) -> int:
        return len(self.factors)

    def stationary(self) -> Array:
        """The stationary vector p (n,), p >= 0, sum p = 1."""
        u = np.ascontiguousarray(self.factors.T)
        p = np.zeros(len(self))
        p[0] = 1.0
        for k in range(1, len(p)):
            p[k] = u[k, :k] @ p[:k]
            if p[k] > HUGE:
                p[: k + 1] /= p[k]
        return p / p.sum()

    def until_first(self, r: Array) -> Array:
        """E sum of r (n,) or (n, m) over the states visited before state 0 is reached, from each state: psi with
        psi_0 = 0 and s psi = r + a psi in the others. Without cancellation for r >= 0."""
        from scipy.linalg import solve_triangular

        upper, lower = self._triangles
        down = solve_triangular(upper, r[1:], unit_diagonal=True, check_finite=False)
        inner = solve_triangular(lower, down, lower=True, check_finite=False)
        return np.concatenate([np.zeros_like(r[:1]), inner])

    @cached_property
    def _triangles(self) -> tuple[Array, Array]:
        """I - u and s - a without state 0."""
        upper = -np.triu(self.factors[1:, 1:], 1)
        lower = -np.tril(self.factors[1:, 1:], -1)
        np.fill_diagonal(upper, 1.0)
        np.fill_diagonal(lower, np.diag(self.factors)[1:])
        return upper, lower

    def slowest_rate(self, p: Array) -> float:
        """`slowest_rate` of a chain whose state 0 is one of the likely ones."""
        return inverse_iteration(self.until_first, p)


@np.errstate(over="ignore", invalid="ignore")
def inverse_iteration(until_first: Callable[[Array], Array], p: Array) -> float:
    """`slowest_rate` of the chain with stationary vector p (n,) from what solves for times `until_first`."""
    phi, rate = until_first(np.ones((len(p), 1)))[:, 0], float("inf")
    for _ in range(ITERATIONS):
        if not np.isfinite(phi).all():  # times beyond the range of float64
            return float("nan")
        phi = phi - p @ phi
        phi /= np.sqrt(p @ phi**2)
        psi = until_first(np.stack([np.maximum(phi, 0), np.maximum(-phi, 0)], axis=1)) @ [1.0, -1.0]
        time = float(p @ (phi * (psi - p @ psi)))
        if not time > 0:
            return float("nan")
        before, rate = rate, 1 / time
        if abs(rate - before) <= TOLERANCE * abs(rate):
            return rate
        phi = psi
    return float("nan")


def eliminate(A: ArrayLike) -> Elimination:
    """Take out all states of A (n, n) but the first, from the last on.

    Raises
    ------
    Reducible
        If some states never reach state 0.
    """
    F = np.array(A, dtype=float, order="C")
    np.fill_diagonal(F, 0.0)
    s = np.ones(len(F))
    for b in range(len(F), 1, -BLOCK):
        a = max(1, b - BLOCK)
        for k in range(b - 1, a - 1, -1):
            row, column, done = F[k, :k], F[:k, k], slice(k + 1, b)
            row += F[k, done] @ F[done, :k]
            s[k] = row.sum()
            if not s[k] > 0:
                raise Reducible(f"state {k} never reaches the states before it")
            column += F[:k, done] @ F[done, k]
            column /= s[k]
        F[:a, :a] += F[:a, a:b] @ F[a:b, :a]
    np.fill_diagonal(F, s)
    return Elimination(F)


def stationary_vector(A: ArrayLike) -> Array:
    """p (n,) with p A = p for transition probabilities, p A = 0 for rates A (n, n); only off-diagonal entries count.

    p >= 0 and sum p = 1; see the module's docstring for its error. Raises `Reducible`.
    """
    return eliminate(A).stationary()


def slowest_rate(A: ArrayLike, p: Array) -> float:
    """The eigenvalue of s - A (s the row sums of A) nearest to zero but zero itself: 1 - lambda_2 for transition
    probabilities, right relative to itself; NaN where it is complex or not apart from the next.

    Inverse iteration, phi <- psi - <p, psi> with (s - A) psi = phi. A state with the largest stationary probability
    comes first, and psi is a difference of two positive solutions whose cancellation is harmless there: one is the
    time spent in the lighter basins before that state is reached, the other the time spent around it.
    """
    A = np.asarray(A, float)
    order = np.concatenate([[np.argmax(p)], np.delete(np.arange(len(p)), np.argmax(p))])
    return eliminate(A[np.ix_(order, order)]).slowest_rate(p[order])
