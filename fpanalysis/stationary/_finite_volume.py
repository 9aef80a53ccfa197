"""Finite volumes for the Fokker-Planck equation in a box: conservative, positive, of second order.

Per axis i, with q = B_i p, the flux J_i = A_i p - 1/2 d(B_i p)/dh_i through the face between cells L and R is that of
constant 2 A / B between their centres (Scharfetter & Gummel, IEEE Trans. Electron Devices 1969),

    J = (bern(-z) q_L - bern(z) q_R) / (2 dx),     z = 2 A dx / B at the face,     bern(z) = z / (e^z - 1)

and nothing passes the walls of the box. The matrix of -dp/dt is a singular M-matrix, whose null vector is positive
and of mass one by construction.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._result import Array

HEAVY = 100.0  #: how far above `edge` the density at a wall must be for the box to be enlarged
FITS = 12  #: boxes tried
STEEPEST = 600.0  #: bound on |z|, where bern is 0 or -z to all digits


class NoBox(ArithmeticError):
    """No box holds the law."""


@dataclass(frozen=True)
class GridLaw:
    """Probabilities p of the cells about the points of `axes`."""

    axes: tuple[Array, ...]
    p: Array

    @property
    def points(self) -> Array:
        """The centres of the cells, (cells, N)."""
        return lattice(self.axes)

    @property
    def mean(self) -> Array:
        return self.p.ravel() @ self.points

    @property
    def cov(self) -> Array:
        d = self.points - self.mean
        return (d * self.p.ravel()[:, None]).T @ d

    def marginal(self, i: int) -> Array:
        return self.p.sum(axis=tuple(k for k in range(self.p.ndim) if k != i))


def lattice(axes: tuple[Array, ...]) -> Array:
    """The points of a grid as states (points, N)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def finite_volume(diffusion: Diffusion, box: Array, n: int, typical: Array) -> GridLaw:
    """The stationary law on n cells per axis of `box` (N, 2).

    Probabilities are solved for relative to that of the cell that holds the state `typical` (N,), which must not be
    negligible: rounding errors are relative to the flows there."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    N = len(box)
    shape = (n,) * N
    axes = tuple(low + (np.arange(n) + 0.5) * (high - low) / n for low, high in box)
    entries = [_fluxes(diffusion, axes, i) for i in range(N)]
    values, rows, columns = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    cells = prod(shape)
    matrix = csc_matrix((values, (rows, columns)), shape=(cells, cells))
    place = np.clip(((typical - box[:, 0]) / np.diff(box, axis=1)[:, 0] * n).astype(int), 0, n - 1)
    anchor = int(np.ravel_multi_index(tuple(place), shape))
    rest = np.arange(cells) != anchor
    options = {"SymmetricMode": True}
    lu = splu(matrix[rest][:, rest], permc_spec="MMD_AT_PLUS_A", options=options, diag_pivot_thresh=0.0)
    p = np.ones(cells)
    p[rest] = np.maximum(lu.solve(-matrix[rest][:, [anchor]].toarray().ravel()), 0.0)
    return GridLaw(axes, (p / p.sum()).reshape(shape))


def _fluxes(diffusion: Diffusion, axes: tuple[Array, ...], i: int) -> tuple[Array, Array, Array]:
    """Matrix entries (values, rows, columns) of -dp/dt that the fluxes along axis i give."""
    shape = tuple(len(axis) for axis in axes)
    dx = float(axes[i][1] - axes[i][0])
    faces = list(axes)
    faces[i] = (axes[i][1:] + axes[i][:-1]) / 2
    A, B, _ = diffusion.terms(lattice(tuple(faces)))
    z = np.clip(2 * A[:, i] / B[:, i] * dx, -STEEPEST, STEEPEST)
    B_cell = diffusion.terms(lattice(axes))[1][:, i].reshape(shape)
    index = np.arange(prod(shape)).reshape(shape)
    lower, upper = (np.arange(shape[i] - 1) + k for k in (0, 1))
    L, R = np.take(index, lower, axis=i).ravel(), np.take(index, upper, axis=i).ravel()
    up = _bern(-z) * np.take(B_cell, lower, axis=i).ravel() / (2 * dx**2)
    down = _bern(z) * np.take(B_cell, upper, axis=i).ravel() / (2 * dx**2)
    return np.concatenate([up, -up, down, -down]), np.concatenate([L, R, R, L]), np.concatenate([L, L, R, R])


def _bern(z: Array) -> Array:
    near = np.where(np.abs(z) < 1e-9, 1.0, z)
    return np.where(np.abs(z) < 1e-9, 1 - z / 2, near / np.expm1(near))


def fit_box(diffusion: Diffusion, box: Array, n: int, typical: Array, edge: float, core: Array) -> Array:
    """The box (N, 2) beyond which the marginals of the law fall below `edge` of their largest values, found
    from the law on n cells per axis; never less than `core` (N, 2).

    Raises
    ------
    NoBox
        If no box is large enough.
    """
    for _ in range(FITS):
        law = finite_volume(diffusion.tabulated(box), box, n, typical)
        new, grown = box.copy(), False
        for i, (low, high) in enumerate(box):
            q = law.marginal(i)
            here = np.flatnonzero(q > edge * q.max())
            dx = (high - low) / n
            new[i] = low + max(here[0] - 1, 0) * dx, high - max(n - 2 - here[-1], 0) * dx
            if q[0] > HEAVY * edge * q.max():
                new[i, 0], grown = low - 0.3 * (high - low), True
            if q[-1] > HEAVY * edge * q.max():
                new[i, 1], grown = high + 0.3 * (high - low), True
        new = np.stack([np.minimum(new[:, 0], core[:, 0]), np.maximum(new[:, 1], core[:, 1])], axis=1)
        kept = np.diff(new, axis=1) / np.diff(box, axis=1)
        box = new
        if not grown and np.all(kept > 0.8):
            return box
    raise NoBox("no box holds the law")
