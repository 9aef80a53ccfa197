"""Trace, extreme eigenvalues and Frobenius norm of a symmetric matrix H = mean_r H_r that is known by products only.

Lanczos with full reorthogonalisation builds an orthonormal basis Q (P, m) from m products. Its Ritz pairs give the ends
of the spectrum, and S = Q Q^T takes what dominates out of the noise of the stochastic trace, for any diagonal D:

    tr(D H) = sum_ij D_ii Q_ij (H Q)_ij  +  E v^T D (I - S) H v,         v = +-1 at random
    |H|_F^2 = |H Q|_F^2                  +  E |(I - S) H v|^2

The first terms are known exactly; unbiased whatever Q is. Where P is small, Q is the identity and nothing is left to
chance. Sources: Hutchinson, Commun. Stat. Simul. Comput. 19 (1990); Meyer, Musco, Musco & Woodruff, "Hutch++", SOSA
2021; Chen & Hallman, "Krylov-aware stochastic trace estimation", SIAM J. Matrix Anal. Appl. 44 (2023).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

Array = NDArray[np.float64]
Product = Callable[[Array], Array]  #: v (P,) -> H_r v of every run, (R, P)

EXACT = 512  #: weights up to which every column of H is computed
BROKEN = 1e-10  #: of |H|: a new direction shorter than this is rounding, and the basis spans an invariant space


@dataclass(frozen=True, eq=False)
class Basis:
    """Q (P, m), the mean product H Q (P, m), and of every run the known part of its diagonal, (R, P): diag(S H_r)."""

    Q: Array
    HQ: Array
    known: Array
    square: float  #: |H Q|_F^2, without what the spread of the runs adds to it

    def ritz(self) -> tuple[Array, Array, Array]:
        """Ritz values, ascending (m,), their vectors (P, m), and |H y - theta y| (m,): within that distance of each
        Ritz value lies an eigenvalue of H."""
        T = self.Q.T @ self.HQ
        values, s = np.linalg.eigh((T + T.T) / 2)
        vectors = self.Q @ s
        return values, vectors, np.linalg.norm(self.HQ @ s - vectors * values, axis=0)


def basis(product: Product, P: int, R: int, steps: int, rng: np.random.Generator) -> Basis:
    """By Lanczos from a random start, or the identity where `P` is at most EXACT or `steps`."""
    exact = max(EXACT, steps) >= P
    m = P if exact else steps
    Q, HQ, known, square = np.zeros((P, m)), np.zeros((P, m)), np.zeros((R, P)), 0.0
    r, size = rng.standard_normal(P), 0.0
    for j in range(m):
        if exact:
            Q[j, j] = 1
        else:
            Q[:, j] = r / np.linalg.norm(r)
        each = product(Q[:, j])
        HQ[:, j] = each.mean(axis=0)
        known += Q[:, j] * each
        square += inner(each)
        size = max(size, float(np.linalg.norm(HQ[:, j])))
        if not exact and j + 1 < m:
            r = _outside(Q[:, : j + 1], HQ[:, j])
            if not np.linalg.norm(r) > BROKEN * size:
                r = _outside(Q[:, : j + 1], rng.standard_normal(P))
    return Basis(Q, HQ, known, square)


def remaining(product: Product, found: Basis, D: Array, probes: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """Samples of the second terms: (probes, R, K) for the rows of D (K, P), and (probes,). None where Q is complete."""
    P, m = found.Q.shape
    R, count = len(found.known), 0 if m == P else probes
    traces, squares = np.zeros((count, R, len(D))), np.zeros(count)
    for k in range(count):
        v = rng.choice([-1.0, 1.0], size=P)
        rest = np.stack([_outside(found.Q, w) for w in product(v)])
        traces[k] = (rest * v) @ D.T
        squares[k] = inner(rest)
    return traces, squares


def inner(each: Array) -> float:
    """|mean_r w_r|^2 for products w_r (R, P) of independent runs, free of what their spread adds: of distinct runs."""
    R = len(each)
    total = float((each.sum(axis=0) ** 2).sum())
    return total if R == 1 else (total - float((each**2).sum())) / (R * (R - 1))


def two_way(samples: Array) -> tuple[Array, Array]:
    """Mean and its half-width (95 %) of samples (K, R, ...) that share what is drawn along each axis.

    The variances of the means along both axes add up; what both axes share is counted twice, on the safe side.
    """
    mean = samples.mean(axis=(0, 1))
    return mean, np.sqrt(sum(half_width(samples.mean(axis=axis)) ** 2 for axis in (0, 1)))


def half_width(samples: Array) -> Array:
    """Of the mean over independent samples (n, ...), 95 %; zero for one, which is no sample but the thing itself."""
    n = len(samples)
    if n == 1:
        return np.zeros(samples.shape[1:])
    return np.asarray(student.ppf(0.975, n - 1) * samples.std(axis=0, ddof=1) / np.sqrt(n))


def _outside(Q: Array, v: Array) -> Array:
    """(I - Q Q^T) v; twice, for the sake of rounding."""
    v = v - Q @ (Q.T @ v)
    return v - Q @ (Q.T @ v)
