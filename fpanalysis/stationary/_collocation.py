"""The stationary law as a left null vector of the collocated backward operator.

With (K g)(h) = E[g(h') | h] taken at the nodes h_s for all products g of Chebyshev polynomials, the weights p with

    sum_s p_s [(K g)(h_s) - g(h_s)] = 0    for every g,      sum_s p_s = 1

give the stationary mean of any smooth function as sum_s p_s g(h_s). The density need not be smooth (it may have
point masses and poles), only K g has to be. K is a row-wise Kronecker product of the neurons' matrices E_i.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fpanalysis.stationary._result import Array
from fpanalysis.stationary._transition import Axis, Expectations, Step, expectations, grid

DENSE = 3200  #: states up to which the equations are solved directly


@dataclass(frozen=True)
class Collocation:
    """The chain on a grid: nodes h (S, N), the law's weights p (S,) and the probability to leave the box (2, N)."""

    axes: tuple[Axis, ...]
    h: Array
    p: Array
    expected: Expectations

    @property
    def leak(self) -> Array:
        return np.abs(np.einsum("ksi,s->ki", self.expected.beyond, self.p))

    @cached_property
    def mean(self) -> Array:
        return self.p @ self.h

    @cached_property
    def cov(self) -> Array:
        d = self.h - self.mean
        return (self.p[:, None] * d).T @ d

    def spectrum(self) -> tuple[float, float]:
        """The gap 1 - |lambda_2| of K, and |1 - lambda| of the eigenvalue nearest to 1 among the others."""
        return spectrum(self.axes, self.expected)


def collocate(step: Step, axes: tuple[Axis, ...], guess: Collocation | None = None) -> Collocation:
    """Solve for the law on the grid of `axes`; raises LinAlgError where the equations are singular."""
    h = grid(axes)
    expected = expectations(step, h, axes)
    p = _direct(axes, expected) if len(h) <= DENSE else _iterative(axes, expected, guess)
    return Collocation(axes, h, p, expected)


def _rowwise(factors: tuple[Array, ...]) -> Array:
    rows = factors[0]
    for factor in factors[1:]:
        rows = (rows[:, :, None] * factor[:, None, :]).reshape(len(rows), -1)
    return rows


def _direct(axes: tuple[Axis, ...], expected: Expectations) -> Array:
    values = axes[0].values
    for axis in axes[1:]:
        values = np.asarray(np.kron(values, axis.values), np.float64)
    B = _rowwise(expected.E) - values
    B[:, 0] = 1.0  # g = 1 (or its first panel, given the others) says nothing: the normalisation takes its place
    one = np.zeros(len(B))
    one[0] = 1.0
    p = np.linalg.solve(B.T, one)
    return p / p.sum()


def spectrum(axes: tuple[Axis, ...], expected: Expectations) -> tuple[float, float]:
    """See `Collocation.spectrum`; from all eigenvalues of the collocated K."""
    K = _rowwise(tuple(E @ axis.inverse for E, axis in zip(expected.E, axes, strict=True)))
    values = np.linalg.eigvals(K)
    rest = np.delete(values, np.abs(values - 1).argmin())
    return float(1 - np.abs(rest).max()), float(np.abs(1 - rest).min())


def _iterative(axes: tuple[Axis, ...], expected: Expectations, guess: Collocation | None) -> Array:
    """GMRES for (I - K^T) p + u sum(p) = u with u the guess, whose sum is 1."""
    from scipy.sparse.linalg import LinearOperator, gmres

    factors = tuple(E @ axis.inverse for E, axis in zip(expected.E, axes, strict=True))
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
