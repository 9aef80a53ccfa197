"""The smallest ||T K T^-1||_p over diagonal T > 0 that holds for all K = C + D X, D = diag d, lo <= d <= hi.

Infinity norm, T = diag(1/v): the rows do not share a d, so that the worst D is found row by row,

    rate(v) = max_i max_{d in {lo_i, hi_i}} (|K(d)| v)_i / v_i

and the best v is the Perron vector of the worst choice of rows (the map v -> max_d |K(d)| v is monotone and
homogeneous: policy iteration). 1-norm, T = diag(w): the columns see every d, rate(w) = max_j (w B)_j / w_j with B_ij =
max_d |K_ij|, and the best w is B's left Perron vector. 2-norm, T = diag(t): with the midpoint M = C + D_mid X and
half-width r, (K e)_i = (M e)_i + delta_i r_i (X e)_i, |delta_i| <= 1, and Young's inequality for each neuron,

    (K e)_i^2 <= (M e)_i^2 / (1 - beta_i) + r_i^2 (X e)_i^2 / beta_i,    0 < beta_i < 1

    rate^2 = lambda_max(H),    H = T^-1 [M' diag(t^2 / (1 - beta)) M + X' diag(t^2 r^2 / beta) X] T^-1

minimised over log t and logit beta by L-BFGS, with a smooth maximum that grows sharper. Every rate is computed once
more for the T found, and raised by a bound on its rounding error; for the 2-norm a Cholesky factor proves lambda_max
(S. M. Rump, BIT Numer. Math. 46 (2006) 433).
"""

from __future__ import annotations

from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)
LINKS = (1e-3, 1e-6, 1e-10)  #: weak links, relative, that make a comparison matrix irreducible
SHARPER = (30.0, 200.0, 1500.0)  #: sharpness of the smooth maximum, one after the other
ROUNDS = 60  #: of L-BFGS with each
POLICIES = 30


class Family(NamedTuple):
    """All K = C + D X with lo <= d <= hi; `size` holds what the entries of C are sums of, in size."""

    C: Array  #: (N, N)
    size: Array  #: (N, N), >= |C|
    X: Array  #: (N, N)
    lo: Array  #: (N,)
    hi: Array  #: (N,)

    @property
    def steepest(self) -> Array:
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def sizes(self, d: Array) -> Array:
        """|C + diag(d) X|."""
        return np.abs(self.C + d[:, None] * self.X)

    def terms(self, d: Array) -> Array:
        """What the entries are the sums of, in size: their rounding errors are a few EPS of it."""
        return self.size + d[:, None] * np.abs(self.X)


class Bound(NamedTuple):
    """||T K T^-1|| <= rate for all K; `rounding` is included."""

    rate: float
    T: Array
    rounding: float


def infinity_norm(family: Family) -> Bound:
    rows = family.sizes(family.lo), family.sizes(family.hi)
    every = np.arange(len(family.X))
    best = None
    for link in LINKS:
        policy = np.ones(len(every), int)
        for _ in range(POLICIES):
            v = _perron(np.where(policy[:, None], rows[1], rows[0]), link)
            worst = np.stack([rows[0] @ v, rows[1] @ v])
            better = np.where(np.diff(worst, axis=0)[0] * (2 * policy - 1) < 0, 1 - policy, policy)
            if (better == policy).all():
                break
            policy = better
        best = _smaller(best, _raised(worst.max(axis=0) / v, family.terms(family.steepest) @ v / v, len(every), 1 / v))
    assert best is not None
    return best


def one_norm(family: Family) -> Bound:
    B = np.maximum(family.sizes(family.lo), family.sizes(family.hi))
    best = None
    for link in LINKS:
        w = _perron(B.T, link)
        best = _smaller(best, _raised(w @ B / w, w @ family.terms(family.steepest) / w, len(w), w))
    assert best is not None
    return best


def two_norm(family: Family) -> Bound:
    square = _Square(family)
    N = len(family.X)
    best = None
    for start in (np.zeros(N), _symmetric(family)):
        best = _smaller(best, square.minimised(start))
    assert best is not None
    return best


class _Square:
    """H(t, beta) and its smooth maximum."""

    def __init__(self, family: Family) -> None:
        middle = (family.lo + family.hi) / 2
        self.r = np.maximum(family.hi - middle, middle - family.lo) * (1 + 2 * EPS)
        self.X = family.X
        self.M = family.C + middle[:, None] * family.X
        self.terms = family.terms(np.abs(middle))

    def minimised(self, log_t: Array) -> Bound:
        from scipy.optimize import minimize

        N = len(log_t)
        if not np.isfinite(self._H(np.zeros(2 * N))).all():  # their squares overflow
            return Bound(np.inf, np.ones(N), np.inf)
        ratio = float(np.linalg.norm(self.r[:, None] * self.X, 2)) / max(float(np.linalg.norm(self.M, 2)), 1e-300)
        z = np.concatenate([log_t, np.full(N, np.log(max(ratio, 1e-8)))])
        box = [(None, None)] * N + [(-30.0, 30.0)] * N
        for sharp in SHARPER:
            scale = max(float(np.linalg.eigvalsh(self._H(z))[-1]), 1e-300)
            options = {"maxiter": ROUNDS}
            z = minimize(self._soft, z, (sharp, scale), "L-BFGS-B", jac=True, bounds=box, options=options).x
            z[:N] -= z[:N].mean()
        return self._proven(z)

    def _parts(self, z: Array) -> tuple[Array, Array, Array]:
        """t, and the weights of M and of X: t^2 / (1 - beta), t^2 r^2 / beta."""
        N = len(self.r)
        t, beta = np.exp(z[:N]), 1 / (1 + np.exp(-z[N:]))
        return t, t**2 * (1 + np.exp(z[N:])), (t * self.r) ** 2 / beta

    def _H(self, z: Array) -> Array:
        t, m, x = self._parts(z)
        A, Y = self.M / t, self.X / t
        return A.T @ (m[:, None] * A) + Y.T @ (x[:, None] * Y)

    def _soft(self, z: Array, sharp: float, scale: float) -> tuple[float, Array]:
        """log sum exp(sharp lambda / scale) / sharp over the eigenvalues, and its gradient."""
        N = len(self.r)
        t, m, x = self._parts(z)
        values, vectors = np.linalg.eigh(self._H(z))
        weights = np.exp(sharp * (values - values[-1]) / scale)
        soft = values[-1] / scale + np.log(weights.sum()) / sharp
        E = vectors * np.sqrt(weights / weights.sum())
        Y = E / t[:, None]
        from_M = m * ((self.M @ Y) ** 2).sum(axis=1)
        from_X = x * ((self.X @ Y) ** 2).sum(axis=1)
        along_t = 2 * (from_M + from_X - E**2 @ values)
        beta = 1 / (1 + np.exp(-z[N:]))
        return float(soft), np.concatenate([along_t, from_M * beta - from_X * (1 - beta)]) / scale

    def _proven(self, z: Array) -> Bound:
        """sqrt lambda_max(H), raised until a Cholesky factor of theta I - H proves it."""
        N = len(self.r)
        t, m, x = self._parts(z)
        H = self._H(z)
        if not H.any():
            return Bound(0.0, t, 0.0)
        found = float(np.linalg.eigvalsh(H)[-1])
        A, Y = self.terms / t, np.abs(self.X) / t
        sizes = A.T @ (m[:, None] * A) + Y.T @ (x[:, None] * Y)
        blur = (2 * N + 40) * EPS * float(sizes.sum(axis=1).max())  # of H itself, in the infinity norm
        raised = (N + 2) * EPS * N * (found + blur)  # how far beyond a Cholesky factor's proof the truth can be
        theta = found + blur + 4 * raised
        try:
            np.linalg.cholesky((theta - blur - 2 * raised) * np.eye(N) - (H + H.T) / 2)
        except np.linalg.LinAlgError:
            return Bound(np.inf, t, np.inf)
        rate = sqrt(theta) * (1 + 4 * EPS)
        return Bound(rate, t, rate - sqrt(max(found, 0.0)))


def _perron(B: Array, link: float) -> Array:
    """Right Perron vector of B >= 0 with weak links between all, positive."""
    B = B + link * max(float(B.max()), 1e-300) / len(B)
    values, vectors = np.linalg.eig(B)
    v = np.abs(vectors[:, np.argmax(values.real)].real)
    return np.maximum(v / v.max(), 1e-14)


def _symmetric(family: Family) -> Array:
    """log of the T that makes T |K| T^-1 most symmetric in its Perron vectors: the best one for matrices >= 0."""
    B = np.maximum(family.sizes(family.lo), family.sizes(family.hi))
    log_t = (np.log(_perron(B.T, LINKS[0])) - np.log(_perron(B, LINKS[0]))) / 2
    return np.asarray(log_t - log_t.mean())


def _raised(rates: Array, terms: Array, N: int, T: Array) -> Bound:
    """The largest of the `rates`, sums of N products each, whose terms in size sum up to `terms`."""
    rounding = (N + 12) * EPS * float(terms.max())
    return Bound(float(rates.max()) + rounding, T, rounding)


def _smaller(best: Bound | None, other: Bound) -> Bound:
    return other if best is None or other.rate < best.rate else best
