"""A Markov chain of one or two coordinates on a grid, from the first four cumulants of its step.

From y the next state has mean mu(y), covariance S(y) and small third and fourth cumulants, each a sum over many
neurons. With t and q the cumulants of the whitened z = S^{-1/2} (y' - mu), the density of the step is

    k(y'|y) = exp(-|z|^2 / 2 + t zzz / 6 + (q - 3 t.t) zzzz / 24 + alpha z + z beta z / 2) / Z,   t.t = t_abe t_cde,

Edgeworth's series in the exponent, hence positive; alpha and beta give the step its mean and covariance exactly, on
the grid as it is. The trapezoid rule then makes P_ij = k(y_j|y_i) w_j: at gamma = 0.1 and nodes 1.75 standard
deviations of the step apart the stationary mean and covariance hold to 1e-6. Its stationary vector is found without
subtractions (see `_block_gth`), so that the weights of basins are right whatever the rate of exchange.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fpanalysis.stationary._block_gth import BandElimination, stationary_vector

Array = NDArray[np.float64]

REACH = 7.0  #: where the step is cut off, in standard deviations, unless neighbouring nodes are farther away
FARTHEST = 12.0  #: where the density of the step to a neighbouring node is held, so that all nodes reach each other
SKEWEST = 0.2  #: largest third cumulant of z that the series is used for; larger ones are cut to it
HEAVIEST = 0.05  #: the same for the coefficient of the fourth order
LARGEST = 60_000_000  #: numbers in the band of P
SLICES = 1_000_000  #: updates of one slice by another in its elimination, and below their products: some seconds
WORK = 3e10
MOST = 1e6  #: nodes


class GridTooLarge(MemoryError):
    """The band of P has too many entries, or takes too long to eliminate (`LARGEST`, `SLICES`, `WORK`)."""


@dataclass(frozen=True)
class Step:
    """Cumulants of the next state from n states: (n, k), (n, k, k), (n, k, k, k) and (n, k, k, k, k)."""

    mean: Array
    cov: Array
    third: Array
    fourth: Array


Law = Callable[[Array], Step]  #: from states (n, k) to their steps


class GridChain:
    """The chain of `law` on the box `low`, `high` (k,), its nodes `spacing` standard deviations of the step apart;
    `shape` says whether the third and fourth cumulants are used.

    `grids` and `weights`: per axis, of the trapezoid rule; nodes (n, m, k), with m = 1 in one dimension. In one
    dimension the nodes stand apart in proportion to the local standard deviation of the step, in two at its least.
    """

    def __init__(self, law: Law, low: Array, high: Array, spacing: float, shape: bool = True) -> None:
        axes = _uneven(law, low, high, spacing) if len(low) == 1 else _even(law, low, high, spacing)
        self.grids = tuple(grid for grid, _ in axes)
        self.weights = tuple(weight for _, weight in axes)
        sizes = [len(grid) for grid in self.grids]
        if np.prod(sizes, dtype=float) > MOST:
            raise GridTooLarge(f"{' x '.join(str(size) for size in sizes)} nodes")
        mesh = np.stack(np.meshgrid(*self.grids, indexing="ij"), axis=-1)
        self.nodes = mesh.reshape(len(self.grids[0]), -1, len(low))
        self.step = law(self.nodes.reshape(-1, len(low)))
        self.band, self.skewness = _band(self, shape)

    @cached_property
    def p(self) -> Array:
        """Probabilities of the nodes, (n m,)."""
        return stationary_vector(self.band).ravel()

    @cached_property
    def density(self) -> Array:
        """(n,) or (n, m)."""
        density = self.p.reshape(self.nodes.shape[:2]) / self.weights[0][:, None]
        return density[:, 0] if len(self.grids) == 1 else density / self.weights[1]

    def apply(self, g: Array) -> Array:
        """(K g)(y) = E[g(y') | y] at the nodes, for g (n m, c)."""
        n, m, width, _ = self.band.shape
        r = width // 2
        g = g.reshape(n, m, -1)
        out = np.empty_like(g)
        for i in range(n):
            low, high = max(0, i - r), min(n, i + r + 1)
            block = self.band[i, :, r + low - i : r + high - i].reshape(m, -1)
            out[i] = block @ g[low:high].reshape(-1, g.shape[2])
        return out.reshape(n * m, -1)

    def edge(self) -> Array:
        """Largest density on each side of the box, relative to the largest of all: (k, 2)."""
        d = self.density / self.density.max()
        return np.array([[d.take(0, axis).max(), d.take(-1, axis).max()] for axis in range(d.ndim)])

    def gap(self) -> float:
        """1 - |second eigenvalue| of K, right relative to itself where that eigenvalue is real and positive."""
        middle = int(self.p.reshape(self.nodes.shape[:2]).sum(axis=1).argmax())
        rate = BandElimination(self.band, middle).slowest_rate(self.p)
        return rate if 0 <= rate < 1 else self._gap_by_eigenvalues()

    def _gap_by_eigenvalues(self) -> float:
        from scipy.sparse.linalg import ArpackError, LinearOperator, eigs

        size = self.p.size
        if size <= 700:
            values = np.linalg.eigvals(self.apply(np.eye(size)))
        else:
            operator = LinearOperator((size, size), lambda g: self.apply(g.reshape(-1, 1))[:, 0], dtype=float)
            try:
                start = np.cos(np.arange(size))
                values = eigs(operator, k=3, ncv=40, tol=1e-9, v0=start, return_eigenvectors=False)
            except ArpackError:
                return float("nan")
        return float(1 - np.sort(np.abs(values))[-2])


def _uneven(law: Law, low: Array, high: Array, space: float) -> list[tuple[Array, Array]]:
    y = np.linspace(low[0], high[0], 4001)
    density = 1 / np.sqrt(law(y[:, None]).cov[:, 0, 0])
    count = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2 * np.diff(y))]) / space
    n = int(np.ceil(count[-1])) + 1
    grid = np.interp(np.linspace(0, count[-1], n), count, y)
    spacing = count[-1] / (n - 1) / np.interp(grid, y, density / space)
    return [(grid, spacing)]


def _even(law: Law, low: Array, high: Array, space: float) -> list[tuple[Array, Array]]:
    mesh = np.stack(np.meshgrid(*(np.linspace(a, b, 25) for a, b in zip(low, high, strict=True))), axis=-1)
    precision = np.linalg.inv(law(mesh.reshape(-1, len(low))).cov)
    axes = []
    for k in range(len(low)):
        n = int(np.ceil((high[k] - low[k]) * np.sqrt(precision[:, k, k].max()) / space)) + 1
        grid = np.linspace(low[k], high[k], n)
        axes.append((grid, np.full(n, grid[1] - grid[0])))
    return axes


def _band(chain: GridChain, shape: bool) -> tuple[Array, Array]:
    """The band of P (see `stationary_vector`) and the largest third cumulant of z at each node."""
    n, m, k = chain.nodes.shape
    mean = chain.step.mean.reshape(n, m, k)
    inverse, third, fourth, largest = _whitened(chain.step)
    inverse, third, fourth = (t.reshape(n, m, *t.shape[1:]) for t in (inverse, third * shape, fourth * shape))
    span = REACH * np.sqrt(np.einsum("nii->ni", chain.step.cov)).reshape(n, m, k)
    first = np.searchsorted(chain.grids[0], (mean - span)[..., 0].min(axis=1)).clip(0, n - 1)
    last = np.maximum(np.searchsorted(chain.grids[0], (mean + span)[..., 0].max(axis=1), "right"), first + 1)
    slices = np.arange(n)
    r = int(max((slices - first).max(), (last - 1 - slices).max(), 1))
    if n * m * m * (2 * r + 1) > LARGEST or n * r > SLICES or n * m * (r * m) ** 2 > WORK:
        raise GridTooLarge(f"{n} x {m} nodes, with steps that reach {r} rows of nodes")
    band = np.zeros((n, m, 2 * r + 1, m))
    apart = np.abs(np.subtract.outer(np.arange(m), np.arange(m)))
    volume = np.multiply.outer(chain.weights[0], chain.weights[1] if k == 2 else np.ones(1))
    for i in range(n):
        here = slice(max(0, min(first[i], i - 1)), min(n, max(last[i], i + 2)))
        near = (np.abs(slices[here] - i)[:, None] + apart[:, None, :] == 1).reshape(m, -1)
        z = np.einsum("aij,abj->abi", inverse[i], chain.nodes[here].reshape(-1, k) - mean[i][:, None])
        P = _row(z, third[i], fourth[i], volume[here].ravel(), _inside(mean[i], span[i], chain), near)
        band[i, :, r + here.start - i : r + here.stop - i] = P.reshape(m, -1, m)
    return band, largest


def _whitened(step: Step) -> tuple[Array, Array, Array, Array]:
    """S^{-1/2}, t and q - 3 t.t, cut to what the series bears, and the largest of |t|."""
    w = np.linalg.inv(np.linalg.cholesky(step.cov))
    t = np.einsum("nai,nbj,ncl,nijl->nabc", w, w, w, step.third, optimize=True)
    q = np.einsum("nai,nbj,ncl,ndm,nijlm->nabcd", w, w, w, w, step.fourth, optimize=True)
    largest = np.abs(t).max(axis=(1, 2, 3))
    t *= np.minimum(1, SKEWEST / np.maximum(largest, 1e-300))[:, None, None, None]
    q -= 3 * np.einsum("nabe,ncde->nabcd", t, t)
    size = np.abs(q).max(axis=(1, 2, 3, 4))
    q *= np.minimum(1, HEAVIEST / np.maximum(size, 1e-300))[:, None, None, None, None]
    return w, t, q, largest


def _inside(mean: Array, span: Array, chain: GridChain) -> NDArray[np.bool_]:
    """Which of the steps end within the box for certain."""
    margin = span * 0.75
    inside = np.ones(len(mean), bool)
    for axis, grid in enumerate(chain.grids):
        inside &= (mean[:, axis] - margin[:, axis] > grid[0]) & (mean[:, axis] + margin[:, axis] < grid[-1])
    return inside


def _row(
    z: Array, third: Array, fourth: Array, volume: Array, inside: NDArray[np.bool_], near: NDArray[np.bool_]
) -> Array:
    """Transition probabilities (m, b) of m states with whitened targets z (m, b, k), `near` (m, b) their neighbours."""
    square = np.einsum("abi,abi->ab", z, z)
    reach = np.where(near, square, REACH**2).max(axis=1, keepdims=True)
    log = -0.5 * np.minimum(square, FARTHEST**2)
    if third.any() or fourth.any():
        z = z * (REACH / np.sqrt(np.maximum(square, REACH**2)))[..., None]
        pairs = z[..., :, None] * z[..., None, :]
        log += np.einsum("abi,abjl,aijl->ab", z, pairs, third, optimize=True) / 6
        log += np.einsum("abij,ablm,aijlm->ab", pairs, pairs, fourth, optimize=True) / 24
    P = np.exp(np.where(square > reach, -np.inf, log)) * volume
    P /= np.maximum(P.sum(axis=1, keepdims=True), 1e-300)
    if inside.any():
        P[inside] = _matched(P[inside], z[inside])
    return P


def _matched(P: Array, z: Array) -> Array:
    """P (m, b) tilted so that z (m, b, k) has mean 0 and covariance 1 under it, by Newton's method."""
    k = z.shape[2]
    a, b = np.triu_indices(k)
    features = np.concatenate([z, z[..., a] * z[..., b]], axis=2)
    wanted = np.concatenate([np.zeros(k), np.eye(k)[a, b]])
    for _ in range(6):
        weighted = P[..., None] * features
        mean = weighted.sum(axis=1)
        miss = wanted - mean
        if np.abs(miss).max() < 1e-9:
            break
        gram = np.einsum("abi,abj->aij", weighted, features, optimize=True) - mean[:, :, None] * mean[:, None, :]
        gram += 1e-9 * np.eye(len(wanted))
        step = np.linalg.solve(gram, miss[..., None])[..., 0]
        P = P * np.exp(np.einsum("ai,abi->ab", step, features - wanted).clip(-4.0, 4.0))
        P /= P.sum(axis=1, keepdims=True)
    return P
