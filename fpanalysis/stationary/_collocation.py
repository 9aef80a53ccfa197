"""The stationary law as a left null vector of the collocated backward operator.

With (K g)(h) = E[g(h') | h] taken at the nodes h_s for all products g of Chebyshev polynomials, the weights p with

    sum_s p_s [(K g)(h_s) - g(h_s)] = 0    for every g,      sum_s p_s = 1

give the stationary mean of any smooth function as sum_s p_s g(h_s). The density need not be smooth (it may have
point masses and poles), only K g has to be. K is a row-wise Kronecker product of the neurons' matrices E_i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fpanalysis.stationary._result import Array
from fpanalysis.stationary._transition import Axis, Step, expectations, grid

DENSE = 3200  #: states up to which the equations are solved directly


@dataclass(frozen=True)
class Collocation:
    """The chain on a grid: nodes h (S, N), the law's weights p (S,)."""

    axes: tuple[Axis, ...]
    h: Array
    p: Array

    @cached_property
    def tails(self) -> Array:
        """E[t^K] with t from 0 to 1 across the box, towards the low and the high edge, over what it is about where the
        box holds six standard deviations of a Gaussian: (2, N). Single p near an edge say nothing about the tails,
        they are not even positive; the mean of a polynomial does."""
        K = min(self.axes[0].n - 1, 100)
        low, high = np.array([(axis.low, axis.high) for axis in self.axes]).T
        t = (self.h - low) / (high - low)
        return np.abs(np.stack([self.p @ (1 - t) ** K, self.p @ t**K])) * 10 ** (1 + K / 8)

    @cached_property
    def mean(self) -> Array:
        return self.p @ self.h

    @cached_property
    def cov(self) -> Array:
        d = self.h - self.mean
        cov: Array = (self.p[:, None] * d).T @ d
        rows = np.arange(len(cov))
        cov[rows, rows] = np.maximum(cov[rows, rows], 0.0)  # of a point mass only rounding is left
        return cov


def collocate(step: Step, axes: tuple[Axis, ...], guess: Collocation | None = None) -> Collocation:
    """Solve for the law on the grid of `axes`; raises LinAlgError where the equations are singular."""
    h = grid(axes)
    E = expectations(step, h, axes)
    p = _direct(axes, E) if len(h) <= DENSE else _iterative(axes, E, guess)
    return Collocation(axes, h, p)


def _rowwise(factors: tuple[Array, ...]) -> Array:
    rows = factors[0]
    for factor in factors[1:]:
        rows = (rows[:, :, None] * factor[:, None, :]).reshape(len(rows), -1)
    return rows


def _direct(axes: tuple[Axis, ...], E: tuple[Array, ...]) -> Array:
    values = axes[0].values
    for axis in axes[1:]:
        values = np.asarray(np.kron(values, axis.values), np.float64)
    B = _rowwise(E) - values
    B[:, 0] = 1.0  # g = 1 (or its first panel, given the others) says nothing: the normalisation takes its place
    one = np.zeros(len(B))
    one[0] = 1.0
    p = np.linalg.solve(B.T, one)
    return p / p.sum()


def spectrum(step: Step, axes: tuple[Axis, ...]) -> tuple[float, float]:
    """The gap 1 - |lambda_2| of K, and |1 - lambda| of the eigenvalue nearest to 1 among the others.

    From the leading eigenvalues of K on `axes`, with the polynomials held constant outside the box: states beyond
    its edge would otherwise add eigenvalues of their own.
    """
    axes = tuple(replace(axis, held=True) for axis in axes)
    E = expectations(step, grid(axes), axes)
    values = _leading(_rowwise(tuple(e @ axis.inverse for e, axis in zip(E, axes, strict=True))))
    rest = np.delete(values, np.abs(values - 1).argmin())
    return float(1 - np.abs(rest).max()), float(np.abs(1 - rest).min())


def _leading(K: Array) -> NDArray[np.complex128]:
    """The eigenvalues of largest modulus; of a large matrix six (most are tiny, and finding all is very slow)."""
    if len(K) <= 100:
        return np.asarray(np.linalg.eigvals(K), np.complex128)
    from scipy.sparse.linalg import ArpackError, eigs

    try:
        return np.asarray(eigs(K, k=6, v0=np.ones(len(K)) / len(K), return_eigenvectors=False, tol=1e-10))
    except ArpackError:  # no convergence, or a Krylov space that is exhausted, as where few eigenvalues are not zero
        return np.asarray(np.linalg.eigvals(K), np.complex128)


def _iterative(axes: tuple[Axis, ...], E: tuple[Array, ...], guess: Collocation | None) -> Array:
    """GMRES for (I - K^T) p + u sum(p) = u with u the guess, whose sum is 1."""
    from scipy.sparse.linalg import LinearOperator, gmres

    factors = tuple(e @ axis.inverse for e, axis in zip(E, axes, strict=True))
    size = len(factors[0])
    u = np.full(size, 1 / size) if guess is None else transfer(guess, axes)
    first, rest = factors[0], _rowwise(factors[1:])

    def apply(p: Array) -> Array:
        return p - ((first * p[:, None]).T @ rest).ravel() + u * p.sum()

    p, _ = gmres(LinearOperator((size, size), matvec=apply), u, x0=u, rtol=1e-13, restart=60, maxiter=4)
    return p / p.sum()


def transfer(guess: Collocation, axes: tuple[Axis, ...]) -> Array:
    """The law of `guess` as weights on the nodes of `axes`."""
    shape = [axis.size for axis in guess.axes]
    p = guess.p.reshape(shape)
    for i, axis in enumerate(axes):
        to = axis.basis(guess.axes[i].nodes) @ axis.inverse
        p = np.moveaxis(np.tensordot(to, p, axes=(0, i)), 0, i)
    return p.ravel()
