"""Subtraction-free elimination of a jump process on a grid, slice by slice: its stationary law and slowest rate.

The states stand in n slices of m. From state a of slice i there are rates `within[i, a, b]` to state b of its slice,
`up[i, a]` to state a of slice i + 1 and `down[i, a]` to state a of slice i - 1. Slices are eliminated from both ends
towards a `core` c; above it, with what is left of slice i named S_i,

    G_i = (exits - S_i)^-1 >= 0,      S_{i-1} += diag(up_{i-1}) G_i diag(down_i),    pi_i = pi_{i-1} diag(up_{i-1}) G_i

where `exits` is what leaves each state of S_i, added up and never subtracted: every number is a sum of products of
non-negative ones, right relative to itself however rarely the process passes from one part to another (`_gth`, which
also does the slice at the core).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.stationary._gth import Elimination, eliminate
from fpanalysis.stationary._result import Array

ITERATIONS = 200  #: of the inverse iteration for the slowest rate
HUGE = 1e145  #: a time, in steps, that is not told from infinity
TOLERANCE = 1e-6  #: relative change of the slowest rate at which it stands


@dataclass(frozen=True, eq=False)
class Slices:
    """A process eliminated down to the slice `core`, of which state `order[0]` comes last."""

    up: Array  #: (n, m)
    down: Array
    green: Array  #: G_i (n, m, m); that of the core is not used
    core: int
    order: Array
    last: Elimination

    def stationary(self) -> Array:
        """The stationary law pi (n, m), of sum 1."""
        pi = np.zeros(self.up.shape)
        pi[self.core, self.order] = self.last.stationary()
        for i, inner, rates in self._outward():
            pi[i] = (pi[inner] * rates[inner]) @ self.green[i]
            if pi[i].max() > 1e150:
                pi /= pi[i].max()
        return pi / pi.sum()

    def until_last(self, r: Array) -> Array:
        """E integral of r (n, m) over time until the last state of the core is reached; no cancellation for r >= 0."""
        r = r.copy()
        for i, inner, rates in reversed(self._outward()):
            r[inner] += rates[inner] * (self.green[i] @ r[i])
        if not np.isfinite(r[self.core]).all():
            return np.full(r.shape, np.inf)
        psi = np.zeros(r.shape)
        psi[self.core, self.order] = self.last.until_first(r[self.core, self.order])
        for i, inner, _ in self._outward():
            back = self.down[i] if i > inner else self.up[i]
            # r[i] holds what the slices beyond i add already
            psi[i] = self.green[i] @ (r[i] + back * psi[inner])
        return psi

    def slowest_rate(self, pi: Array) -> float:
        """The least rate other than zero at which the process relaxes, by inverse iteration; NaN where it does not
        come apart from the next, 0 where it underflows. The last state of the core must be one of the likely ones."""
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            return self._slowest_rate(pi)

    def _slowest_rate(self, pi: Array) -> float:
        psi, rate = self.until_last(np.ones(pi.shape)), float("inf")
        for _ in range(ITERATIONS):
            if not psi.max() < HUGE:
                return 0.0
            phi = psi - np.sum(pi * psi)
            phi /= np.sqrt(np.sum(pi * phi**2))
            psi = self.until_last(np.maximum(phi, 0)) - self.until_last(np.maximum(-phi, 0))
            before, rate = rate, float(1 / np.sum(pi * phi * (psi - np.sum(pi * psi))))
            if abs(rate - before) <= TOLERANCE * abs(rate):
                return rate
        return float("nan")

    def _outward(self) -> list[tuple[int, int, Array]]:
        """Slices from the core outward, with the next slice inward and the rates from that one."""
        above = [(i, i - 1, self.up) for i in range(self.core + 1, len(self.up))]
        return above + [(i, i + 1, self.down) for i in range(self.core - 1, -1, -1)]


def eliminated(within: Array, up: Array, down: Array, core: tuple[int, int]) -> Slices:
    """The process of rates `within` (n, m, m), `up` and `down` (n, m), down to slice core[0] and in it to state
    core[1]. Raises `Reducible`."""
    n, m = up.shape
    S = within.copy()
    green = np.zeros(within.shape)
    ends = [(range(n - 1, core[0], -1), -1, up, down), (range(core[0]), 1, down, up)]
    for slices, step, outward, inward in ends:
        for i in slices:
            green[i] = _green(S[i], inward[i])
            S[i + step] += outward[i + step][:, None] * green[i] * inward[i]
    order = np.concatenate([[core[1]], np.delete(np.arange(m), core[1])])
    return Slices(up, down, green, core[0], order, eliminate(S[core[0]][np.ix_(order, order)]))


def _green(S: Array, exits: Array) -> Array:
    """(diag - S)^-1 where diag is what leaves each state: to the others, S (m, m), and `exits` (m,)."""
    from scipy.linalg.lapack import dtrtri

    m = len(S)
    S, e = S.copy(), exits.copy()
    np.fill_diagonal(S, 0.0)
    d = np.empty(m)
    for k in range(m):
        d[k] = S[k, k + 1 :].sum() + e[k]
        column = S[k + 1 :, k]
        column /= d[k]
        S[k + 1 :, k + 1 :] += column[:, None] * S[k, k + 1 :]
        e[k + 1 :] += column * e[k]
    lower = dtrtri(np.eye(m) - np.tril(S, -1), lower=1, unitdiag=1)[0]
    upper = dtrtri(np.diag(d) - np.triu(S, 1))[0]
    return np.asarray(np.maximum(upper, 0.0) @ np.maximum(np.tril(lower), 0.0))
