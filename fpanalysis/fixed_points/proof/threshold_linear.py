"""All fixed points of a threshold-linear (ReLU) network, by exact enumeration of its activation patterns.

h = relu(W h + c) is the linear complementarity problem

    h >= 0,   y = M h - c >= 0,   h_i y_i = 0,        M = I - W

(y_i is how far below its threshold neuron i is). The tree of patterns branches on "neuron i is active" (y_i = 0) or
"silent" (h_i = 0 <= y_i). A node is closed when

  - no h satisfies its linear constraints: the dual simplex finds multipliers lambda, and interval bounds on
    lambda^T (y - M h + c) over the node's box show that it cannot be zero, rounding errors included (Farkas);
  - the problem left on its undecided neurons provably has exactly one solution, whose signs on the decided
    neurons are provably right or wrong (`_complementarity`); a complete pattern is the case with none undecided.

Whatever neither test settles is branched on, and, once no neuron is left, reported as singular: a neuron on its kink
or a singular I - W_aa, as on a line attractor.

A neuron's being active needs a margin, or else no rounding error could be excluded where silent neurons pin an active
one to zero (as in a clique, whose members are active together): active means h_i > rho t, silent h_i <= t. Of the
N + 1 intervals (t, rho t] with t = HAIR rho^m, m = 0..N, a state of N rates leaves one empty, and for that t it
lies in a pattern. The tree is the same for all these t, and everything is verified for all of them at once.

Cuts h_i / max h_i + y_i / max y_i <= 1 need bounds, and without any decided neuron the programs of most networks are
unbounded. HiGHS with warm starts took 210, 320 and 630 us a node at N = 32, 40 and 64; dense dictionaries in numpy,
with all verification, 60, 65 and 160.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import ArrayLike, NDArray
from scipy.linalg.lapack import dpotrf

from fpanalysis.checks import check_vector
from fpanalysis.fixed_points.proof._complementarity import (
    ACTIVE,
    OPEN,
    POINT,
    SILENT,
    UNDECIDED,
    decide,
    inverse,
    rounding,
    schur,
)
from fpanalysis.fixed_points.proof._result import Proof
from fpanalysis.fixed_points.proof._simplex import STUCK, ZERO, Dictionaries, add_outer, reoptimise
from fpanalysis.results import InputError

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Indices = NDArray[np.intp]
States = NDArray[np.int8]

HAIR = 1e-9  #: the smallest t, in units of max|c|
HAIRS = np.e  #: rho^N: the largest t is HAIR * HAIRS
LIFT = 1e-7  #: an active neuron's least rate in the linear programs, which only propose
INFEASIBLE = 1e-10  #: their tolerance
FAR = 1e6  #: the box of a network without a proven bound, in units of max|c|
MEMORY = 10_000_000  #: half the numbers that open nodes may hold
SAME = 1e-6  #: undecided points closer than this, in units of max|c|, are reported once


def enumerate_patterns(W: ArrayLike, c: ArrayLike, nodes: int = 200_000) -> Proof:
    """All h with h = relu(W h + c), by depth-first enumeration of activation patterns.

    Parameters
    ----------
    W, c : (N, N) and (N,)
        Recurrent weights and constant drive W_in u + b.
    nodes : int
        How many linear programs to solve at most; the same number gives the same answer everywhere.

    Returns
    -------
    Proof
        Complete within `box`: everywhere, where the spectral radius of W+ = max(W, 0) is below one, so that nothing
        can lie beyond (I - W+)^-1 c+; else up to 1e6 max|c|. Not complete when `nodes` ran out or points remain
        that are `singular`. `covered` is the share of all 2^N patterns that was decided.

    Raises
    ------
    InputError
        If W is not square and finite, or c does not fit it.
    """
    W = np.asarray(W, float)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size or not np.isfinite(W).all():
        raise InputError(f"W must be square, (N, N), and finite; found shape {W.shape}")
    c = check_vector("c", c, len(W))
    scale = 2.0 ** np.frexp(np.abs(c).max())[1] if c.any() else 1.0  # a power of two: dividing by it is exact
    top, proven = _top(W, c / scale)
    search = _Search(np.eye(len(W)) - W, c / scale, top)
    search.run(nodes)
    box = np.stack([np.full(len(W), -np.inf), np.full(len(W), np.inf) if proven else scale * top])
    h, singular = (scale * np.array(points).reshape(-1, len(W)) for points in (search.points, search.singular))
    order = np.argsort(np.linalg.norm(h, axis=1), kind="stable")
    why = search.why()
    return Proof("activation patterns", h[order], not why, box, search.covered(), search.visited, why, singular)


def _top(W: Array, c: Array) -> tuple[Array, bool]:
    """(N,), an upper bound on every fixed point: u > W+ u + c+ implies h < u, if some u > 0 does; else `FAR`, unproven.

    With t = max h_i / u_i >= 1 attained at i, h_i <= W+ h + c+ <= t (W+ u + c+) < t u_i: a contradiction.
    """
    size = np.abs(c).max() or 1.0
    Wp, cp = np.maximum(W, 0), np.maximum(c, 0)
    try:
        u = np.asarray(np.linalg.solve(np.eye(len(W)) - Wp, cp + 1e-6 * size), float)
    except LinAlgError:
        u = np.full(len(W), -1.0)
    slack = u - Wp @ u - cp - rounding(len(W)) * (np.abs(u) + Wp @ np.abs(u) + cp)
    return (u, True) if (u > 0).all() and (slack > 0).all() else (np.full(len(W), FAR * size), False)


@dataclass
class _Nodes:
    """B nodes of the tree: dictionaries, states (B, N) of the neurons, and Schur complements (B, N, N) of M on
    the undecided neurons (entries of decided ones mean nothing)."""

    D: Dictionaries
    state: States
    C: Array

    def __len__(self) -> int:
        return len(self.state)

    def __getitem__(self, index: Indices | Bools | slice) -> _Nodes:
        return _Nodes(self.D[index], self.state[index], self.C[index])

    def fixed(self) -> Bools:
        """(B, 2N), which variables are zero: h of the silent, y of the active."""
        return np.concatenate([self.state == SILENT, self.state == ACTIVE], axis=1)

    def set(self, M: Array, node: Indices, neuron: Indices, side: int) -> None:
        """Decide `neuron` (n,) of the nodes `node` (n,)."""
        self.state[node, neuron] = side
        if side == SILENT:
            return
        self.D.lift(node, neuron, LIFT)
        for b, i in zip(node.tolist(), neuron.tolist(), strict=True):
            if abs(self.C[b, i, i]) > 1e-6:
                add_outer(self.C[b], self.C[b, :, i] / -self.C[b, i, i], self.C[b, i].copy())
            else:
                self.C[b] = _schur(M, self.state[b])


def _schur(M: Array, state: States) -> Array:
    """The Schur complement from scratch, (N, N); NaN where M_AA is singular."""
    C = np.full(M.shape, np.nan)
    A, U = np.flatnonzero(state == ACTIVE), np.flatnonzero(state == UNDECIDED)
    R, kappa = inverse(M[A][:, A])
    if np.isfinite(kappa):
        C[np.ix_(U, U)] = schur(M, A, U, R, kappa)[0]
    return C


def _join(parts: list[_Nodes]) -> _Nodes:
    D = Dictionaries(*(np.concatenate([getattr(p.D, name) for p in parts]) for name in ("T", "basic", "nonbasic")))
    return _Nodes(D, np.concatenate([p.state for p in parts]), np.concatenate([p.C for p in parts]))


class _Search:
    """The depth-first search, in batches of nodes so that numpy's overhead is shared."""

    def __init__(self, M: Array, c: Array, top: Array) -> None:
        self.M, self.c, self.top = M, c, top
        self.N = len(c)
        self.points: list[Array] = []
        self.singular: list[Array] = []
        self.undecided = 0
        self.visited = 0
        self.stack: list[tuple[_Nodes, Indices | None, int]] = []  # parents, the neuron to decide, its side

    def run(self, nodes: int) -> None:
        N = self.N
        root = _Nodes(Dictionaries.slack(self.M, self.c), np.zeros((1, N), np.int8), self.M[None].copy())
        self.stack.append((root, None, UNDECIDED))
        batch = int(np.clip(MEMORY // N**3, 1, 256))  # a node holds 2 N^2 numbers, the stack up to N batches
        while self.stack and self.visited < nodes:
            batch_nodes = self._take(min(batch, nodes - self.visited))
            self.visited += len(batch_nodes)
            rest = self._settle(self._imply(self._bound(batch_nodes)))
            if len(rest):
                neuron = self._choose(rest)
                self.stack += [(rest, neuron, ACTIVE), (rest, neuron, SILENT)]

    def _take(self, count: int) -> _Nodes:
        """Up to `count` nodes from the top of the stack."""
        parts: list[_Nodes] = []
        while self.stack and count > 0:
            parents, neuron, side = self.stack.pop()
            if len(parents) > count and neuron is not None:
                self.stack.append((parents[:-count], neuron[:-count], side))
                parents, neuron = parents[-count:], neuron[-count:]
            part = parents[np.arange(len(parents))]  # a copy
            if neuron is not None:
                part.set(self.M, np.arange(len(part)), neuron, side)
            parts.append(part)
            count -= len(part)
        return _join(parts)

    def _bound(self, nodes: _Nodes) -> _Nodes:
        """The nodes whose linear program is not refuted."""
        verdict = reoptimise(nodes.D, nodes.fixed(), INFEASIBLE, 4 * self.N)
        at = np.flatnonzero(verdict > STUCK + 1)
        dead = at[self._refuted(_multipliers(nodes.D, at, verdict[at]), nodes.state[at])]
        return nodes[np.delete(np.arange(len(nodes)), dead)]

    def _imply(self, nodes: _Nodes) -> _Nodes:
        """Decide every neuron whose other side a row of the dictionary already refutes."""
        N, D = self.N, nodes.D
        closed = np.take_along_axis(nodes.fixed(), D.nonbasic, 1)
        positive = ((D.T[:, :N, :N] >= -ZERO) | closed[:, None, :]).all(2) & (D.T[:, :N, N] > INFEASIBLE)
        positive &= np.take_along_axis(nodes.state, D.basic % N, 1) == UNDECIDED
        at, row = np.nonzero(positive)
        variable = D.basic[at, row]
        neuron, side = variable % N, np.where(variable < N, ACTIVE, SILENT)
        other = nodes.state[at]
        other[np.arange(len(at)), neuron] = -side
        sure = self._refuted(_multipliers(D, at, row), other)
        at, neuron, side = at[sure], neuron[sure], side[sure]
        dead = np.zeros(len(nodes), bool)
        for s in (SILENT, ACTIVE):
            clash = (side == s) & (nodes.state[at, neuron] == -s)
            dead[at[clash]] = True  # neither side is left
            new = (side == s) & ~clash
            nodes.set(self.M, at[new], neuron[new], s)
        return nodes[~dead]

    def _settle(self, nodes: _Nodes) -> _Nodes:
        """Decide the nodes that have one solution at most; those that remain have undecided neurons."""
        remain = np.ones(len(nodes), bool)
        h, y = np.split(nodes.D.values(), 2, axis=1)
        for b in np.flatnonzero(_unique(nodes)):
            verdict, point = decide(
                self.M, self.c, nodes.state[b], (HAIR, HAIR * HAIRS), np.where(h[b] > y[b], h[b], 0)
            )
            remain[b] = verdict == OPEN
            if verdict == POINT:
                self.points.append(point)
        nodes = nodes[remain]
        full = (nodes.state != UNDECIDED).all(1)
        if full.any():
            self._report(self._bound(nodes[full]))  # `_imply` may have decided neurons since the last such test
        return nodes[~full]

    def _report(self, nodes: _Nodes) -> None:
        """Note complete patterns that could not be decided, each with its solution nearest to the last vertex."""
        self.undecided += len(nodes)
        for state, h in zip(nodes.state, nodes.D.values()[:, : self.N], strict=True):
            active, point = np.flatnonzero(state == ACTIVE), np.zeros(self.N)
            K, point[active] = self.M[active][:, active], np.maximum(h[active], 0)
            point[active] += np.linalg.lstsq(K, self.c[active] - K @ point[active], rcond=1e-9)[0]
            if all(np.abs(point - other).max() > SAME * (1 + np.abs(point).max()) for other in self.singular):
                self.singular.append(np.maximum(point, 0))

    def _choose(self, nodes: _Nodes) -> Indices:
        """(B,), the undecided neuron that violates h_i y_i = 0 the most; among equals, the one furthest from zero."""
        x = np.clip(nodes.D.values(), 0, FAR)
        h, y = x[:, : self.N], x[:, self.N :]
        return np.where(nodes.state == UNDECIDED, h * y + 1e-6 * np.minimum(h + y, 1.0), -1.0).argmax(1)

    def _refuted(self, multipliers: Array, state: States) -> Bools:
        """Whether lambda^T (y - M h + c) < 0 throughout the boxes of `state` (n, N), rigorously; lambda (n, N).

        y_i >= 0, or = 0 where active; h_i in [0, t] silent, [rho t, top] active, [0, top] undecided; all t.
        """
        lam = np.where(state == ACTIVE, multipliers, np.minimum(multipliers, 0.0))
        g = rounding(self.N)
        slope = -lam @ self.M + g * (np.abs(lam) @ np.abs(self.M))  # an upper bound on the coefficient of h
        up, active, silent = np.maximum(slope, 0.0), state == ACTIVE, state == SILENT
        thin = np.where(active, HAIRS ** (1 / self.N) * np.minimum(slope, 0.0), np.where(silent, up, 0.0))
        t = np.where(thin.sum(1) > 0, HAIR * HAIRS, HAIR)  # linear in t: the worse end
        parts = np.concatenate([t[:, None] * thin, np.where(silent, 0.0, up * self.top), lam * self.c], axis=1)
        return parts.sum(1) + 4 * g * np.abs(parts).sum(1) < 0

    def covered(self) -> float:
        """1 - the sum of 2^-depth of what was left open."""
        left = [(np.count_nonzero(p.state, axis=1) + (k is not None)).astype(float) for p, k, _ in self.stack]
        return 1.0 - sum(float(np.exp2(-depth).sum()) for depth in left) - self.undecided * 2.0**-self.N

    def why(self) -> str:
        if self.stack:
            return f"stopped after {self.visited} nodes"
        if self.undecided:
            return f"{self.undecided} pattern(s) with a neuron on its kink or a singular I - W could not be decided"
        return ""


def _multipliers(D: Dictionaries, node: Indices, row: Indices) -> Array:
    """lambda (n, N) of y - M h + c = 0 that make the dictionaries' row, with the sign that refutes it."""
    N = D.basic.shape[1]
    a, k = D.T[node, row], np.arange(len(node))
    lam = np.zeros((len(node), 2 * N))
    np.put_along_axis(lam, D.nonbasic[node], a[:, :N], 1)
    lam[k, D.basic[node, row]] = -1.0
    return -np.sign(a[:, N:]) * lam[:, N:]


def _unique(nodes: _Nodes) -> Bools:
    """(B,), whether the problem left looks as if it had one solution (cheap and not rigorous: `decide` is)."""
    N = nodes.state.shape[1]
    U = nodes.state == UNDECIDED
    C = np.where(U[:, :, None] & U[:, None, :], nodes.C, np.eye(N))
    diagonal = np.einsum("bii->bi", C)
    looks = np.zeros(len(nodes), bool)
    positive = np.flatnonzero((diagonal > 0).all(1))
    for b in positive:
        looks[b] = dpotrf(C[b] + C[b].T, overwrite_a=1)[1] == 0
    rest = positive[~looks[positive]]
    off = np.abs(C[rest]) / diagonal[rest][:, :, None] - np.eye(N)  # its spectral radius is < 1 for an H-matrix
    v = np.ones((len(rest), N, 1))
    for _ in range(8):
        v = v + off @ v
    looks[rest] = (off @ v < v).all((1, 2))
    return looks | ~U.any(1)
