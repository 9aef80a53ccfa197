"""The law of neurons as probabilities of cells, for densities and basins.

Given the present state h the neurons of the next one are independent, so that with F_i(. | h) the distribution function
of neuron i one step on and [e_k, e_k+1] the cells of its axis

    P(h' in cell k x l x ...) = sum_c P(h in cell c) prod_i [F_i(e_k+1 | h_c) - F_i(e_k | h_c)],     h_c its centre.

The start is the Chebyshev series that the weights of the collocation stand for: its low moments are those of the law,
and a few steps do away with what it has wrong, and negative, at scales finer than its nodes. That holds whether or not
the law has a density that is bounded. A silent ReLU with noise in takes a cell to (1-gamma) times itself, and its
probability is spread evenly there; at gamma = 1 it goes to a cell of no width at 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import reduce
from math import pi

import numpy as np

from fpanalysis.stationary._basins import basin_of, split
from fpanalysis.stationary._collocation import Collocation
from fpanalysis.stationary._positive import places
from fpanalysis.stationary._result import Array, Basin, Densities, Density, Problem
from fpanalysis.stationary._transition import Axis, Step

FEWEST = {2: 128, 3: 24}  #: cells per axis
MOST = {2: 160, 3: 32}
EQUAL = {1: 300, 2: 128, 3: 32}  #: where the law comes as weights on states
PER_STEP = 3.0  #: cells per standard deviation of one step's noise, where MOST allows it
STEPS = {2: 8, 3: 6}  #: steps that the law may take to settle
SETTLED = 2e-4  #: total variation from one step to the next at which it has
UNSETTLED = 5e-2  #: the same above which there is no density
ROUNDING = 1e-4  #: error of a weight that a comparison of two grids may miss
HALVES = 0.5 ** np.arange(1.0, 11.0)  #: of the first cell of ReLU's, where silent neurons gather
TINY = 1e-40
AMISS = 0.1  #: error of mean or standard deviation, in standard deviations, above which there is no density


@dataclass(frozen=True)
class Cells:
    """Probabilities `q` (n_1, ...) of cells. `edges` per axis; `silent` tells that axes begin with a point at 0."""

    edges: tuple[Array, ...]
    q: Array
    silent: bool = False

    @property
    def centres(self) -> tuple[Array, ...]:
        zero = [0.0] if self.silent else []
        return tuple(np.concatenate([zero, (e[:-1] + e[1:]) / 2]) for e in self.edges)

    @property
    def states(self) -> Array:
        """(S, N), the centres."""
        return np.stack(np.meshgrid(*self.centres, indexing="ij"), axis=-1).reshape(-1, len(self.edges))


def applies(step: Step) -> bool:
    """Whether every neuron has noise and a step whose distribution function is known: f must rise, and of ReLU neurons
    with noise in either all or none go to a point (gamma = 1)."""
    at_once = step.gamma == 1
    if not step.sigma.all() or (step.inside and step.flat and at_once.any() and not at_once.all()):
        return False
    f = step.f(np.linspace(-6, 6, 200)[:, None] * np.ones(step.N))
    return not step.inside or step.flat or bool((np.diff(f, axis=0) > 0).all())


def _to_a_point(step: Step) -> bool:
    """Whether a silent neuron goes to 0 at once."""
    return bool(step.inside and step.flat and np.all(step.gamma == 1))


def cells(problem: Problem, found: Collocation, coarser: float = 1.0) -> Cells | None:
    """The law on cells of the box of `found`, so many times fewer per axis; None where it does not settle, or not on
    the moments of `found`."""
    step = Step(problem)
    if not applies(step):
        return None
    silent = _to_a_point(step)
    edges = _edges(step, problem, found, coarser)
    if silent:
        A = [_next(step, found.h, i, e, True) for i, e in enumerate(edges)]
        law = Cells(edges, _joint(found.p, A), True)
    else:
        q = found.p.reshape([axis.size for axis in found.axes])
        for i, (axis, e) in enumerate(zip(found.axes, edges, strict=True)):
            q = np.moveaxis(np.tensordot(_series(axis, e), q, axes=(1, i)), 0, i)
        law = Cells(edges, q)
    return _settled(step, law, found)


def after(step: Step, states: Array, p: Array) -> Cells | None:
    """The law one step on from probabilities `p` (S,) of `states` (S, N), on equal cells; None as of `cells`."""
    if not applies(step):
        return None
    silent = _to_a_point(step)
    edges = tuple(
        np.linspace(low, high, EQUAL[step.N] + 1) for low, high in zip(states.min(0), states.max(0), strict=True)
    )
    A = [_next(step, states, i, e, silent) for i, e in enumerate(edges)]
    if step.inside and step.flat and not silent:
        for i, e in enumerate(edges):
            to = np.clip(np.searchsorted(e, (1 - step.gamma[i]) * states[:, i], side="right") - 1, 0, len(e) - 2)
            A[i][np.arange(len(states)), to] += _normal_cdf(-step.preactivation(states)[:, i] / step.sigma[i])
    return Cells(edges, _joint(p, A), silent)


def _edges(step: Step, problem: Problem, found: Collocation, coarser: float) -> tuple[Array, ...]:
    """Edges of the cells of each axis, apart in proportion to the width of one step's law there."""
    net, box = problem.network.with_sigma(problem.sigma), np.array([[axis.low, axis.high] for axis in found.axes]).T
    edges = []
    for i, (low, high) in enumerate(box.T):
        h = np.linspace(low, high, 2001)
        count = places(net, problem.u, box, i, h)
        n = int(np.clip(PER_STEP * count[-1], FEWEST[net.N], MOST[net.N]) / coarser)
        e = np.interp(np.linspace(0, count[-1], n + 1), count, h)
        near = e[1] * HALVES if low == 0 and step.flat and step.inside and step.N == 2 else []
        edges.append(np.unique(np.concatenate([e, near])))
    return tuple(edges)


def _settled(step: Step, law: Cells, found: Collocation) -> Cells | None:
    A = _matrices(step, law)
    q, change = law.q / law.q.sum(), np.inf
    for _ in range(STEPS[step.N]):
        new = _joint(q.ravel(), A)
        new /= new.sum()
        change, q = float(np.abs(new - q).sum()) / 2, new
        if change <= SETTLED:
            break
    law = Cells(law.edges, q, law.silent)
    h, sd = law.states, np.sqrt(np.diag(found.cov))
    mean = q.ravel() @ h
    spread = np.sqrt(q.ravel() @ (h - mean) ** 2)
    off = max(np.abs(mean - found.mean).max() / sd.min(), np.abs(spread / sd - 1).max())
    return law if change <= UNSETTLED and off <= AMISS else None


def _series(axis: Axis, edges: Array) -> Array:
    """What the nodes of `axis` put into the cells, as the series p dh = (1 + 2 sum_k m_k cos k theta) dtheta / pi with
    m_k = E[T_k]: (cells, nodes)."""
    total = np.zeros((len(edges) - 1, axis.size))
    k = np.arange(1, axis.n)
    for panel, (low, high) in enumerate(zip(axis.edges[:-1], axis.edges[1:], strict=True)):
        part = slice(panel * axis.n, (panel + 1) * axis.n)
        theta = np.arccos(np.clip((2 * edges - low - high) / (high - low), -1, 1))
        sines = np.concatenate([theta[:, None], 2 * np.sin(theta[:, None] * k) / k], axis=1)
        total[:, part] = -np.diff(sines, axis=0) / pi @ axis.values[part, part].T
    return total


def _matrices(step: Step, law: Cells) -> list[Array]:
    """For each neuron where it is one step after each cell: (S, n_i)."""
    states, shape = law.states, law.q.shape
    narrow = step.inside and not step.flat
    A = []
    for i, edges in enumerate(law.edges):
        rows = _spread(step, states, i, edges) if narrow else _next(step, states, i, edges, law.silent)
        if step.inside and step.flat and not law.silent:
            x = step.preactivation(states)[:, i] / step.sigma[i]
            where = np.unravel_index(np.arange(len(states)), shape)[i]
            rows += _normal_cdf(-x)[:, None] * _shrunk(edges, float(step.gamma[i]))[where]
        A.append(rows)
    return A


def _spread(step: Step, states: Array, i: int, edges: Array) -> Array:
    """The same from four places in each cell, for steps that may be narrower than a cell."""
    cell = np.clip(np.searchsorted(edges, states[:, i]) - 1, 0, len(edges) - 2)
    width = np.diff(edges)[cell][:, None] * np.eye(step.N)[i]
    rows = [_next(step, states + part * width, i, edges, False) for part in (-0.375, -0.125, 0.125, 0.375)]
    return np.asarray(np.mean(rows, axis=0), np.float64)


def _shrunk(edges: Array, gamma: float) -> Array:
    """The parts of (1-gamma) times each cell that lie in each cell: (n, n)."""
    low, high = (1 - gamma) * edges[:-1, None], (1 - gamma) * edges[1:, None]
    common = np.minimum(high, edges[None, 1:]) - np.maximum(low, edges[None, :-1])
    parts = np.maximum(common, 0.0)
    return np.asarray(parts / parts.sum(axis=1, keepdims=True), np.float64)


def _next(step: Step, h: Array, i: int, edges: Array, silent: bool) -> Array:
    """P(h'_i in cell | h) for the states `h` (S, N), (S, n); for ReLU with noise in of a neuron that fires, the
    probability that it is silent in front where `silent`."""
    if not step.inside:
        added = (edges[1] - edges[0]) ** 2 / 12  # the variance that counting by cells adds
        tau = np.sqrt(np.maximum(step.tau[i] ** 2 - added, step.tau[i] ** 2 / 4))
        F = _normal_cdf((edges - step.drift(h)[:, [i]]) / tau)
        F[:, 0], F[:, -1] = 0.0, 1.0
        return np.diff(F, axis=1)
    x, gamma, sigma = step.preactivation(h)[:, [i]], step.gamma[i], step.sigma[i]
    value = (edges - (1 - gamma) * h[:, [i]]) / gamma
    if step.flat:
        F = _normal_cdf((np.maximum(value, 0.0) - x) / sigma)
        F[:, 0], F[:, -1] = _normal_cdf(-x[:, 0] / sigma), 1.0
        return np.concatenate([F[:, :1], np.diff(F, axis=1)], axis=1) if silent else np.diff(F, axis=1)
    z = np.concatenate([np.linspace(x.min() - 9 * sigma, x.max() + 9 * sigma, 4000), [0.0]])
    z.sort()
    f = step.f(z[:, None] * np.ones(step.N))[:, i]
    F = _normal_cdf((np.interp(value, f, z, left=-np.inf, right=np.inf) - x) / sigma)
    F[:, 0], F[:, -1] = 0.0, 1.0
    return np.diff(F, axis=1)


def _normal_cdf(z: Array) -> Array:
    from scipy.special import ndtr

    return np.asarray(ndtr(z), np.float64)


def _joint(p: Array, A: list[Array]) -> Array:
    """sum_s p_s A_1[s] x A_2[s] x ...: (n_1, n_2, ...)."""
    A = [np.where(rows > TINY, rows, 0.0) for rows in A]  # products that underflow cost fifty times as much
    first = A[0] * np.where(np.abs(p) > TINY, p, 0.0)[:, None]
    if len(A) == 1:
        return np.asarray(first.sum(axis=0), np.float64)
    if len(A) == 2:
        return np.asarray(first.T @ A[1], np.float64)
    return np.stack([(first * column[:, None]).T @ A[1] for column in A[2].T], axis=-1)


def basins(problem: Problem, found: Collocation, points: Array) -> tuple[Basin, ...] | None:
    """What the law puts into the basin of each of `points` (K, N), with errors from 1.25 times fewer cells per axis;
    None for one basin, and where there are no cells."""
    if len(points) < 2:
        return None
    laws = [cells(problem, found, coarser) for coarser in (1.0, 1.25)]
    fine, coarse = (law and _split(problem, law, points) for law in laws)
    if not fine or not coarse:
        return None
    result = []
    for a, b in zip(fine, coarse, strict=True):
        weight_error = 3 * abs(a.weight - b.weight) + ROUNDING
        error = 3 * np.abs(a.mean - b.mean) + ROUNDING * np.sqrt(np.diag(found.cov)) / max(a.weight, 1e-300)
        result.append(replace(a, weight_error=weight_error, error=error))
    return tuple(result)


def _split(problem: Problem, law: Cells, points: Array) -> tuple[Basin, ...]:
    states, q = law.states, law.q.ravel()
    some = np.abs(q) > 1e-10 * q.max()
    labels = basin_of(problem.net, problem.u, states[some], points)
    return split(labels, states[some], q[some], points)


def densities(law: Cells | None) -> Densities:
    """The joint density, cell by cell, and the marginals by neuron."""
    if law is None:
        return None, {}
    N = len(law.edges)
    marginals = {}
    for i in range(N):
        q = law.q.sum(axis=tuple(k for k in range(N) if k != i))
        marginals[f"neuron {i}"] = _density((f"neuron {i}",), (law.edges[i],), q, law.silent)
    return _density(tuple(marginals), law.edges, law.q, law.silent), marginals


def _density(names: tuple[str, ...], edges: tuple[Array, ...], q: Array, silent: bool) -> Density:
    """With a point at 0 on the axes: the density of states off the axes, and the point mass of all neurons at 0."""
    d = len(edges)
    atoms = ((np.zeros(d), float(q[(0,) * d])),) if silent else ()
    widths = tuple(np.diff(e) for e in edges)
    off = q[(slice(1, None),) * d] if silent else q
    values = np.maximum(off, 0.0) * off.sum() / np.maximum(off, 0.0).sum() / reduce(np.multiply.outer, widths)
    return Density(names, tuple((e[:-1] + e[1:]) / 2 for e in edges), values, widths, atoms=atoms)
