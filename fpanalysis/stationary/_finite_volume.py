"""Finite volumes for the Fokker-Planck equation in a box: conservative, positive, of second order.

Per axis i, with q = B_i p, the flux J_i = A_i p - 1/2 d(B_i p)/dh_i through the face between cells L and R is that of
constant 2 A / B between their centres (Scharfetter & Gummel, IEEE Trans. Electron Devices 1969),

    J = (bern(-z) q_L - bern(z) q_R) / (2 dx),     z = 2 A dx / B at the face,     bern(z) = z / (e^z - 1)

and nothing passes the walls of the box. The matrix of -dp/dt is a singular M-matrix, whose null vector is positive
and of mass one by construction. Where A has kinks, z is its mean over the volume of one cell about the face: the error
is then c dx^2 with a c that does not depend on where the kinks fall between the faces, and `extrapolated` removes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._result import Array

HEAVY = 100.0  #: how far above `edge` the density at a wall must be for the box to be enlarged
FITS = 12  #: boxes tried
SUBCELLS = 4  #: points per axis over which a drift with kinks is averaged
NEXT = 0.2  #: relative size of the next order, in units of z^2, where B is constant
NEXT_IN = 2.0  #: the same where B is not
LARGE = 10.0  #: z^2 from which one order is as large as the other
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

    @property
    def cut(self) -> float:
        """The probability beyond the walls, if the law goes on falling there as it does in the last two cells."""
        lost = 0.0
        for i in range(self.p.ndim):
            q = self.marginal(i)
            for wall, inner in ((q[0], q[1]), (q[-1], q[-2])):
                fall = min(wall / inner, 0.9) if inner > 0 else 0.0
                lost += float(wall * fall / (1 - fall))
        return lost


def lattice(axes: tuple[Array, ...]) -> Array:
    """The points of a grid as states (points, N)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def finite_volume(diffusion: Diffusion, box: Array, n: int, typical: Array) -> GridLaw:
    """The stationary law on n cells per axis of `box` (N, 2).

    Probabilities are solved for relative to that of the cell that holds the state `typical` (N,), which must not be
    negligible: rounding errors are relative to the flows there."""
    from scipy.sparse import csc_matrix
    from scipy.sparse.linalg import splu

    axes = cells(box, n)
    shape = (n,) * len(box)
    index = np.arange(prod(shape)).reshape(shape)
    values, rows, columns = [], [], []
    for i in range(len(box)):
        up, down = (rate.ravel() for rate in rates(diffusion, axes, i))
        L, R = (np.take(index, np.arange(n - 1) + k, axis=i).ravel() for k in (0, 1))
        values += [up, -up, down, -down]
        rows += [L, R, R, L]
        columns += [L, L, R, R]
    entries = np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))
    matrix = csc_matrix(entries, shape=(index.size, index.size))
    anchor = int(index[cell_of(typical, box, n)])
    rest = np.arange(index.size) != anchor
    options = {"SymmetricMode": True}
    lu = splu(matrix[rest][:, rest], permc_spec="MMD_AT_PLUS_A", options=options, diag_pivot_thresh=0.0)
    p = np.ones(index.size)
    p[rest] = np.maximum(lu.solve(-matrix[rest][:, [anchor]].toarray().ravel()), 0.0)
    return GridLaw(axes, (p / p.sum()).reshape(shape))


def cells(box: Array, n: int) -> tuple[Array, ...]:
    """Centres of n cells per axis of `box` (N, 2)."""
    return tuple(low + (np.arange(n) + 0.5) * (high - low) / n for low, high in box)


def cell_of(state: Array, box: Array, n: int) -> tuple[int, ...]:
    """The cell nearest to `state` (N,)."""
    place = np.clip((state - box[:, 0]) / np.diff(box, axis=1)[:, 0] * n, 0, n - 1)
    return tuple(int(k) for k in place)


def rates(diffusion: Diffusion, axes: tuple[Array, ...], i: int) -> tuple[Array, Array]:
    """Rates at which probability passes the faces along axis i upward and downward, both of the grid's shape with one
    less along axis i."""
    shape = tuple(len(axis) for axis in axes)
    dx = float(axes[i][1] - axes[i][0])
    faces = list(axes)
    faces[i] = (axes[i][1:] + axes[i][:-1]) / 2
    h = lattice(tuple(faces))
    A, B, _ = diffusion.terms(h)
    drift = A[:, i]
    if diffusion.kinks:
        t = (np.arange(SUBCELLS) + 0.5) / SUBCELLS - 0.5
        offsets = lattice(tuple(t * (axis[1] - axis[0]) for axis in axes))
        drift = np.mean([diffusion.terms(h + offset)[0][:, i] for offset in offsets], axis=0)
    z = np.clip(2 * drift / B[:, i] * dx, -STEEPEST, STEEPEST)
    B = diffusion.terms(lattice(axes))[1][:, i].reshape(shape)
    size = tuple(n - (k == i) for k, n in enumerate(shape))
    lower, upper = (np.take(B, np.arange(shape[i] - 1) + k, axis=i) / (2 * dx**2) for k in (0, 1))
    return _bern(-z).reshape(size) * lower, _bern(z).reshape(size) * upper


def distrust(diffusion: Diffusion, law: GridLaw) -> float:
    """The part of an extrapolation to be added to its error: what comes after dx^2 is smaller by z^2, on average over
    the law, but not where B -> 0 and z is large."""
    A, B, _ = diffusion.terms(law.points)
    dx = np.array([axis[1] - axis[0] for axis in law.axes])
    z2 = np.max((2 * A * dx / B) ** 2, axis=1)
    return float(min((NEXT_IN if diffusion.noise_in else NEXT) * (law.p.ravel() @ np.minimum(z2, LARGE)), 1.0))


def extrapolated(n: Sequence[int], values: Array) -> tuple[Array, Array]:
    """Limit of `values` (3, ...) on grids of n cells per axis, whose errors fall as n^-2, and an error of the limit:
    twice its largest change with the pair of grids that it is taken from."""
    limits = [values[b] + (values[b] - values[a]) / ((n[b] / n[a]) ** 2 - 1) for a, b in ((0, 2), (0, 1), (1, 2))]
    return limits[0], 2 * np.max([np.abs(limit - limits[0]) for limit in limits[1:]], axis=0)


def _bern(z: Array) -> Array:
    near = np.where(np.abs(z) < 1e-9, 1.0, z)
    return np.where(np.abs(z) < 1e-9, 1 - z / 2, near / np.expm1(near))


def fit_box(diffusion: Diffusion, box: Array, n: int, typical: Array, edge: float, core: Array) -> Array:
    """The box (N, 2) beyond which the marginals of the law fall below `edge` of their largest values, found from the
    law on n cells per axis; never less than `core` (N, 2). `typical` (K, N) are states of the parts of the law that
    hardly exchange: each part is looked at by itself.

    Raises
    ------
    NoBox
        If no box is large enough.
    """
    for _ in range(FITS):
        table = diffusion.tabulated(box)
        laws = [finite_volume(table, box, n, state) for state in typical]
        new, grown = box.copy(), False
        for i, (low, high) in enumerate(box):
            parts = [law.marginal(i) for law in laws]
            q = np.max([part / part.max() for part in parts], axis=0)
            here = np.flatnonzero(q > edge)
            dx = (high - low) / n
            new[i] = low + max(here[0] - 1, 0) * dx, high - max(n - 2 - here[-1], 0) * dx
            if q[0] > HEAVY * edge:
                new[i, 0], grown = low - 0.3 * (high - low), True
            if q[-1] > HEAVY * edge:
                new[i, 1], grown = high + 0.3 * (high - low), True
        new = np.stack([np.minimum(new[:, 0], core[:, 0]), np.maximum(new[:, 1], core[:, 1])], axis=1)
        kept = np.diff(new, axis=1) / np.diff(box, axis=1)
        box = new
        if not grown and np.all(kept > 0.8):
            return box
    raise NoBox("no box holds the law")
