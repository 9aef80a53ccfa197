"""The list of zeros found so far: each once, with its index, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.equation import Equation

Array = NDArray[np.float64]

SINGULAR = 1e-5  #: a smallest singular value of -dG/dz below this is zero to what Newton can resolve
BLURRED = 1e-3  #: distance, relative to 1 + max|h|, within which two singular zeros are one: Newton cannot tell
MOST_SINGULAR = 100  #: singular zeros kept: there may be a continuum of them


class Points:
    """Zeros of `equation`: `h` (K, N), their coordinates `z` (K, dim) and `index` (K,), sign det(-dG/dz), 0 where
    that is singular or does not exist; `apart` (K,), the distance in z of each from the nearest other one; `seen`
    (K,), whether Newton came to it again since the last one was added."""

    def __init__(self, equation: Equation, N: int) -> None:
        self.equation = equation
        self.h, self.z = np.empty((0, N)), np.empty((0, equation.dim))
        self.index, self.apart, self.seen = np.empty(0, int), np.empty(0), np.empty(0, bool)
        self._view = np.random.default_rng(0).standard_normal((N, 3)) / np.sqrt(N)

    def __len__(self) -> int:
        return len(self.h)

    def add(self, h: Array, index: NDArray[np.int_]) -> int:
        """Add the zeros `h`, distinct and unknown, with their `index`; the number of new ones that have one."""
        kept = index != 0
        for i in np.flatnonzero(~kept):
            others = np.vstack([self.h[self.index == 0], h[:i][kept[:i] & (index[:i] == 0)]])
            far = np.abs(others - h[i]).max(axis=1, initial=0.0) > BLURRED * (1 + np.abs(h[i]).max())
            kept[i] = bool(far.all()) and len(others) < MOST_SINGULAR
        self.h, self.z = np.vstack([self.h, h[kept]]), np.vstack([self.z, self.equation.coordinates(h[kept])])
        self.index = np.append(self.index, index[kept])
        same_list = not index.any()  # but for singular points, which may be many
        self.seen = np.append(self.seen & same_list, np.full(kept.sum(), same_list))
        between = distances(self.z, self.z)
        np.fill_diagonal(between, np.inf)
        self.apart = between.min(axis=1, initial=np.inf)
        return int(np.count_nonzero(index))

    def indices(self, h: Array) -> NDArray[np.int_]:
        """sign det(-dG/dz) at the states `h` (K, N), 0 where that is singular to what Newton can resolve."""
        A = self.equation.slope(self.equation.coordinates(h))
        return np.where(_smallest_singular_value(A) <= SINGULAR, 0, np.linalg.slogdet(A)[0]).astype(int)

    def unknown(self, h: Array, same: float) -> Array:
        """The rows of `h` that are not in the list, each once; two are one within `same` (1 + max|h|). The points of
        the list among them count as seen."""
        size = same * (1 + np.abs(h).max(axis=1, initial=0.0))
        if len(self) and len(h):  # the nearest in three random directions is the only one that it can be
            nearest = np.abs((h @ self._view)[:, None] - (self.h @ self._view)[None]).max(axis=2).argmin(axis=1)
            new = np.abs(h - self.h[nearest]).max(axis=1) > size
            self.seen[nearest[~new]] = True
            h, size = h[new], size[new]
        kept: list[int] = []
        for i in np.argsort(h @ self._view[:, 0], kind="stable"):  # equal rows are neighbours in this order
            if not kept or (np.abs(h[kept[-8:]] - h[i]).max(axis=1) > size[i]).all():
                kept.append(int(i))
        return h[kept]

    def arriving(self, share: float) -> Callable[[Array], NDArray[np.bool_]]:
        """Says of z (K, dim) whether it is closer to a point than `share` of that one's distance from the others;
        such a point counts as seen."""
        if len(self) < 2 or share == 0:
            return lambda z: np.zeros(len(z), bool)
        reach = share * self.apart

        def arrived(z: Array) -> NDArray[np.bool_]:
            near = distances(z, self.z) < reach
            self.seen |= near.any(axis=0)
            return np.asarray(near.any(axis=1))

        return arrived

    def promising(self, starts: Array, share: float) -> Array:
        """The states `starts` (K, N) that are not that close to a point, nor as close to each other."""
        z = self.equation.coordinates(starts)
        new = ~self.arriving(share)(z)
        starts, z = starts[new], z[new]
        if len(self) < 2 or not len(z):
            return starts
        reach = share * self.apart[distances(z, self.z).argmin(axis=1)]
        doubled = np.tril(distances(z, z) < reach[:, None], -1).any(axis=1)
        return starts[~doubled]


def _smallest_singular_value(A: Array) -> Array:
    """Of each of the matrices `A` (K, N, N), from above, by a step of inverse iteration: right to a small factor."""
    start = np.random.default_rng(0).standard_normal((*A.shape[:-1], 1))
    try:
        y = np.linalg.solve(A, start)
        z = np.linalg.solve(A.transpose(0, 2, 1), y)
    except np.linalg.LinAlgError:  # one of them is singular to the last digit
        return np.asarray(np.linalg.norm(A, -2, axis=(1, 2)))
    return np.asarray(np.linalg.norm(y, axis=(1, 2)) / np.linalg.norm(z, axis=(1, 2)))


def distances(a: Array, b: Array) -> Array:
    """Euclidean distances of the rows of `a` from those of `b`."""
    squares = np.sum(a**2, axis=1)[:, None] + np.sum(b**2, axis=1)[None] - 2 * a @ b.T
    return np.asarray(np.sqrt(np.maximum(squares, 0.0)), np.float64)
