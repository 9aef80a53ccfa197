"""A law of the diffusion with several basins in two or three dimensions: right weights however rarely they exchange.

On three grids the law of the finite volumes comes from subtraction-free elimination (`_slices`), right in every cell
relative to itself. What is left is the grid's own error, which in the weight w_k of a basin is one of the barrier's
height: the logarithms of the weights are extrapolated, with mean and covariance within each basin beside them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.stationary._basins import basin_of, split
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._finite_volume import GridLaw, cell_of, cells, extrapolated, lattice, rates
from fpanalysis.stationary._gth import Reducible
from fpanalysis.stationary._result import Array, Basin
from fpanalysis.stationary._slices import Slices, eliminated

NEGLIGIBLE = 1e-13  #: probability of a cell within its basin that is not worth following to it
LIKELY = 1e-2  #: probability of the last state, relative to the largest, that does for the slowest rate
DISTRUST = 0.2  #: part of an extrapolation added to its error, times (dx / width)^2, by which the next order is smaller
SPLIT = {2: 4, 3: 2}  #: parts per axis of a cell that a border passes


@dataclass(frozen=True)
class Wells:
    """Basins by `weights` (K,) with `log_error` of their logarithms; the mean over them with its error; and the gap."""

    basins: tuple[Basin, ...]
    mean: Array
    cov: Array
    error: Array
    rates: Array  #: E f(h)
    log_error: Array
    gap: float
    cut: float
    law: GridLaw  #: on the finest grid
    finest: float  #: cells per standard deviation of the narrowest basin along an axis


def weighed(diffusion: Diffusion, box: Array, n: tuple[int, ...], points: Array) -> Wells:
    """The law on three grids of `n` cells per axis in `box` (N, 2), and its limit; `points` (K, N): the attractors.

    Raises `Reducible` where float64 does not hold the rates at which the basins exchange."""
    laws, rate, state = [], [], points[0]
    for size in n:
        law, process = on_grid(diffusion, box, size, state)
        if size != n[-1]:
            if law.p[cell_of(state, box, size)] < LIKELY * law.p.max():
                state = law.points[law.p.argmax()]
                law, process = on_grid(diffusion, box, size, state)
            rate.append(process.slowest_rate(law.p.reshape(process.up.shape)))
        laws.append(law)
    tables = [_within(diffusion, law, points) for law in laws]
    return _limit(n, laws, tables, points, _slowest(n, rate))


def on_grid(diffusion: Diffusion, box: Array, n: int, state: Array) -> tuple[GridLaw, Slices]:
    """The law on n cells per axis, right in every cell relative to itself, and the process eliminated down to the cell
    of `state` (N,)."""
    axes = cells(box, n)
    N, m = len(axes), n ** (len(axes) - 1)
    index = np.arange(m).reshape((n,) * (N - 1))
    up, down = np.zeros((n, m)), np.zeros((n, m))
    forth, back = rates(diffusion, axes, 0)
    up[:-1], down[1:] = forth.reshape(n - 1, m), back.reshape(n - 1, m)
    within = np.zeros((n, m, m))
    for i in range(1, N):
        forth, back = (rate.reshape(n, -1) for rate in rates(diffusion, axes, i))
        L, R = (np.take(index, np.arange(n - 1) + k, axis=i - 1).ravel() for k in (0, 1))
        within[:, L, R], within[:, R, L] = forth, back
    place = cell_of(state, box, n)
    process = eliminated(within, up, down, (place[0], int(index[place[1:]])))
    return GridLaw(axes, process.stationary().reshape((n,) * N)), process


def _slowest(n: tuple[int, ...], rate: list[float]) -> float:
    """The gap of the step from the slowest rates on the two coarser grids."""
    if not (np.isfinite(rate).all() and min(rate) > 0):
        return min(rate)
    first, second = np.log(rate)
    return float(-np.expm1(-np.exp(second + (second - first) / ((n[1] / n[0]) ** 2 - 1))))


def _within(diffusion: Diffusion, law: GridLaw, points: Array) -> Array:
    """Per basin (K, 2 + 2 N + N^2): log weight and its error by cells on borders, and E h, E f(h), Cov h within it.

    Raises `Reducible` where nothing of a basin is left."""
    problem, shape = diffusion.problem, law.p.shape
    p, h = law.p.ravel(), law.points
    nearest = np.argmin([np.sum((h - point) ** 2, axis=1) for point in points], axis=0)
    most = np.array([p[nearest == k].max(initial=0.0) for k in range(len(points))])
    here = p > NEGLIGIBLE * most[nearest]
    labels = np.full(len(p), -2)
    labels[here] = basin_of(problem.net, problem.u, h[here], points)
    cut = _on_borders(labels.reshape(shape)).ravel()
    kept = here & ~cut
    side = SPLIT[len(shape)]
    t = (np.arange(side) + 0.5) / side - 0.5 + 0.01 / side  # off the diagonals, where symmetric basins meet
    offsets = lattice(tuple((t + 0.003 * k) * (axis[1] - axis[0]) for k, axis in enumerate(law.axes)))
    fine = (h[cut][:, None] + offsets).reshape(-1, len(shape))
    states = np.concatenate([h[kept], fine])
    weights = np.concatenate([p[kept], np.repeat(p[cut], len(offsets)) / len(offsets)])
    labels = np.concatenate([labels[kept], basin_of(problem.net, problem.u, fine, points)])
    f = problem.network.activation.f(states)
    unsure = p[cut].sum() / (2 * side)
    rows = []
    for k, basin in enumerate(split(labels, states, weights, points)):
        if not basin.weight > 0:
            raise Reducible("a basin is too small for the grid")
        inside = labels == k
        mean_f = weights[inside] @ f[inside] / basin.weight
        of_border = np.log1p(unsure / basin.weight)
        rows.append(np.concatenate([[np.log(basin.weight), of_border], basin.mean, mean_f, basin.cov.ravel()]))
    return np.array(rows)


def _on_borders(labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which cells that were followed to their basins (labels >= -1) have a neighbour of another basin."""
    border = np.zeros(labels.shape, bool)
    for i in range(labels.ndim):
        a, b = np.moveaxis(labels, i, 0)[1:], np.moveaxis(labels, i, 0)[:-1]
        differ = (a != b) & (a > -2) & (b > -2)
        view = np.moveaxis(border, i, 0)
        view[1:] |= differ
        view[:-1] |= differ
    return border


def _limit(n: tuple[int, ...], laws: list[GridLaw], tables: list[Array], points: Array, gap: float) -> Wells:
    """Weights by their logarithms, the rest as it is; mean and covariance over all basins from these, or those of the
    whole law where they change less from grid to grid."""
    K, N = points.shape
    value, change = extrapolated(n, np.array(tables))
    w = np.exp(value[:, 0] - value[:, 0].max())
    w /= w.sum()
    covs = value[:, 2 * N + 2 :].reshape(K, N, N)
    dx = np.array([axis[1] - axis[0] for axis in laws[-1].axes])
    on_finest = tables[-1][:, 2 * N + 2 :].reshape(K, N, N)
    variances = np.einsum("kii->ki", np.where(covs > 0, covs, on_finest))
    finest = float(np.min(np.sqrt(variances) / dx))
    distrust = min(DISTRUST / max(finest, 1e-9) ** 2, 1.0)
    change += distrust * np.abs(value - tables[-1])
    log_error = change[:, 0] + tables[-1][:, 1]
    share_error = np.minimum(w * (1 - w) * np.expm1(np.minimum(log_error.sum(), 50.0)), np.maximum(w, 1 - w))
    means, f = value[:, 2 : N + 2], value[:, N + 2 : 2 * N + 2]
    off = change[:, 2 : N + 2]
    mean = w @ means
    d = means - mean
    cov = np.einsum("k,kij->ij", w, covs) + (w[:, None] * d).T @ d
    error = w @ off + share_error @ np.abs(d)
    whole, doubt = extrapolated(n, np.array([law.mean for law in laws]))
    doubt += distrust * np.abs(whole - laws[-1].mean)
    if doubt.max() < error.max():
        mean, error = whole, doubt
        cov = extrapolated(n, np.array([law.cov for law in laws]))[0]
    basins = tuple(Basin(float(w[k]), means[k], covs[k], points[k], float(share_error[k]), off[k]) for k in range(K))
    return Wells(basins, mean, cov, error, w @ f, log_error, gap, laws[-1].cut, laws[-1], finest)
