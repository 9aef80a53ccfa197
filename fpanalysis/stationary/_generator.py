"""Moments of the Fokker-Planck law by collocation of the backward generator at Chebyshev nodes.

    (L g)(h) = sum_i A_i dg/dh_i + 1/2 B_i d^2g/dh_i^2,      E[L g] = 0 for every g

On the tensor grid of n Chebyshev nodes per axis the left null vector pi of L, normalised to sum 1, gives E[g] = pi g
for polynomials g. A box from which the drift does not lead out needs no boundary condition. Convergence is geometric
where M and V are smooth; pi is no density (it has entries of either sign).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._finite_volume import lattice
from fpanalysis.stationary._result import Array


class Singular(ArithmeticError):
    """The null vector is not unique in double precision."""


@dataclass(frozen=True)
class Collocation:
    """States h (S, N) with the weights pi (S,) that give expectations of smooth functions; and the gap of the step."""

    h: Array
    pi: Array
    gap: float

    @property
    def mean(self) -> Array:
        return self.pi @ self.h

    @property
    def cov(self) -> Array:
        d = self.h - self.mean
        return (d * self.pi[:, None]).T @ d


def collocate(diffusion: Diffusion, box: Array, n: int, spectrum: bool = False) -> Collocation:
    """The law in `box` (N, 2) with n nodes per axis; the gap, if `spectrum` is wanted, else NaN.

    Raises `Singular`."""
    from scipy.linalg import lu_factor, lu_solve

    axes, derivatives = zip(*(_chebyshev(n, low, high) for low, high in box), strict=True)
    h = lattice(axes)
    L = _generator(diffusion, h, derivatives, n)
    k = len(h) // 2 + (n // 2 if n % 2 == 0 else 0)
    L[:, k] = 1.0
    factors = lu_factor(L, overwrite_a=True, check_finite=False)
    one = np.zeros(len(h))
    one[k] = 1.0
    pi = lu_solve(factors, one, trans=1)
    if not np.isfinite(pi).all():
        raise Singular
    return Collocation(h, pi, _gap(factors, pi, k) if spectrum else float("nan"))


def _generator(diffusion: Diffusion, h: Array, derivatives: tuple[Array, ...], n: int) -> Array:
    """L, (S, S)."""
    A, B, _ = diffusion.terms(h)
    S, N = h.shape
    L = np.zeros((S, S))
    for i, D in enumerate(derivatives):
        before, after = n**i, n ** (N - 1 - i)
        view = L.reshape(before, n, after, before, n, after)
        a, b = A[:, i].reshape(before, n, after), B[:, i].reshape(before, n, after)
        D2 = D @ D
        for j in range(before):
            for m in range(after):
                view[j, :, m, j, :, m] += a[j, :, m, None] * D + b[j, :, m, None] / 2 * D2
    return L


def _gap(factors: tuple[Array, Array], pi: Array, k: int) -> float:
    """1 - |exp(lambda)| of the slowest lambda other than 0, by Arnoldi's method on the inverse of L."""
    from scipy.linalg import lu_solve
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

    def inverse(g: Array) -> Array:
        y = lu_solve(factors, g - pi @ g, check_finite=False)
        y[k] = 0.0
        return np.asarray(y - pi @ y)

    S = len(pi)
    try:
        start = np.random.default_rng(0).standard_normal(S)
        values = eigs(LinearOperator((S, S), matvec=inverse, dtype=float), k=2, v0=start, tol=1e-6, maxiter=30)[0]
    except ArpackError:
        return float("nan")
    rates = (1 / values[np.abs(values) > 0]).real
    return float(-np.expm1(rates[np.abs(rates).argmin()]))


def _chebyshev(n: int, low: float, high: float) -> tuple[Array, Array]:
    """Chebyshev nodes of the first kind on [low, high], ascending, and their differentiation matrix."""
    theta = np.pi * (np.arange(n)[::-1] + 0.5) / n
    x, w = np.cos(theta), (-1.0) ** np.arange(n) * np.sin(theta)
    D = w[None, :] / w[:, None] / (x[:, None] - x + np.eye(n))
    np.fill_diagonal(D, 0.0)
    np.fill_diagonal(D, -D.sum(axis=1))
    return (low + high) / 2 + (high - low) / 2 * x, D * 2 / (high - low)
