"""Dual simplex on a batch of dense dictionaries: the linear programs at the nodes of the pattern tree.

A dictionary writes N basic variables and the objective through N nonbasic ones that stand at zero,

    x_B = T[:N, N] + T[:N, :N] x_N,      z = T[N, N] + T[N, :N] x_N,      all x >= 0,

over the 2N variables (h_1 .. h_N, y_1 .. y_N) of y = M h - c. A node of the tree differs from its parent by
variables that become fixed at zero; the parent's last dictionary remains dual feasible (z's coefficients >= 0)
and a few pivots repair it. Nothing here is rigorous: a row that looks infeasible is a proposal, to be verified.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dger

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]

ZERO = 1e-10  #: a smaller coefficient is no pivot
FEASIBLE, STUCK = -1, -2  #: verdicts of `reoptimise` that are no row: solved; out of pivots


def add_outer(T: Array, x: Array, y: Array) -> None:
    """T += x y^T in place, T (n, m) contiguous, in blocks of rows so small that BLAS does not start threads on them
    (at n = 128 and two busy cores, threads made it 50 times slower)."""
    step = max(1, 8000 // T.shape[1])
    for k in range(0, len(T), step):
        dger(1.0, y, x[k : k + step], a=T[k : k + step].T, overwrite_a=1)


@dataclass
class Dictionaries:
    """B dictionaries: coefficients (B, N + 1, N + 1), and which variables (0 .. 2N - 1) are basic and nonbasic."""

    T: Array
    basic: Indices  # (B, N)
    nonbasic: Indices  # (B, N)

    @classmethod
    def slack(cls, M: Array, c: Array) -> Dictionaries:
        """The dictionary y = -c + M h of min sum(h), which is dual feasible; B = 1."""
        N = len(c)
        T = np.ones((1, N + 1, N + 1))
        T[0, :N, :N], T[0, :N, N], T[0, N, N] = M, -c, 0.0
        return cls(T, np.arange(N, 2 * N)[None], np.arange(N)[None])

    def __len__(self) -> int:
        return len(self.T)

    def __getitem__(self, index: Indices | Bools | slice) -> Dictionaries:
        return Dictionaries(*(getattr(self, f.name)[index] for f in fields(self)))

    def values(self) -> Array:
        """(B, 2N), the variables at the current vertex."""
        N = self.basic.shape[1]
        x = np.zeros((len(self), 2 * N))
        np.put_along_axis(x, self.basic, self.T[:, :N, N], 1)
        return x

    def lift(self, node: Indices, i: Indices, delta: float) -> None:
        """Replace variable i by i - delta in the dictionaries `node`: from now on it is >= delta."""
        for b, var in zip(node.tolist(), i.tolist(), strict=True):
            if (row := np.flatnonzero(self.basic[b] == var)).size:
                self.T[b, row[0], -1] -= delta
            else:
                self.T[b, :, -1] += delta * self.T[b, :, np.flatnonzero(self.nonbasic[b] == var)[0]]

    def pivot(self, node: Indices, row: Indices, column: Indices) -> None:
        """Exchange the basic variable of `row` and the nonbasic one of `column`, each (n,), in dictionaries `node`."""
        T, k = self.T, np.arange(len(node))
        new, col = T[node, row], T[node, :, column]
        new /= -new[k, column][:, None]
        new[k, column] = 1 / col[k, row]
        T[node, :, column] = 0.0
        for i, b in enumerate(node.tolist()):
            add_outer(T[b], col[i], new[i])
        T[node, row] = new
        self.basic[node, row], self.nonbasic[node, column] = self.nonbasic[node, column], self.basic[node, row]


def reoptimise(D: Dictionaries, fixed: Bools, tolerance: float, pivots: int) -> Indices:
    """Pivot every dictionary of `D`, in place, to a vertex where the variables `fixed` (B, 2N) are zero.

    Returns for each (B,): FEASIBLE, STUCK after `pivots` pivots, or the row that shows it infeasible.
    """
    N = D.basic.shape[1]
    verdict = np.full(len(D), STUCK)
    todo = np.arange(len(D))
    for _ in range(pivots):
        constant = D.T[todo, :N, N]
        violation = np.where(np.take_along_axis(fixed[todo], D.basic[todo], 1), np.abs(constant), -constant)
        row = violation.argmax(1)
        wrong = violation.max(1) > tolerance
        verdict[todo[~wrong]] = FEASIBLE
        todo, row = todo[wrong], row[wrong]
        a = D.T[todo, row]
        a = a[:, :N] * -np.sign(a[:, N:])  # how x_row nears zero as a nonbasic variable grows
        free = (a > ZERO) & ~np.take_along_axis(fixed[todo], D.nonbasic[todo], 1)
        some = free.any(1)
        verdict[todo[~some]] = row[~some]
        todo, row, a, free = todo[some], row[some], a[some], free[some]
        if not len(todo):
            break
        ratio = np.full(a.shape, np.inf)
        np.divide(np.maximum(D.T[todo, N, :N], 0.0), a, out=ratio, where=free)
        near = ratio <= ratio.min(1, keepdims=True) + ZERO
        D.pivot(todo, row, np.where(near, a, 0.0).argmax(1))
    return verdict
