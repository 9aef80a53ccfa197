"""The density of a chain's law and what it puts into each basin, from the weights of the collocation.

    p(h') = sum_s p_s k(h' | h_s),     k the density of one step      (Nystroem's interpolation)

Noise in: k_i(h') = phi(xi) / (gamma sigma f'(x_i + sigma xi)) at the xi that leads to h', where f is increasing.
With ReLU k has a point mass too, h' = (1-gamma) h with probability q(h) = Phi(-x / sigma). For one neuron it is
followed from the upper end down, k_+ being the part of k that has a density:

    p(h') = g(h') + [q p](h' / (1-gamma)) / (1-gamma),    g(h') = sum_s p_s k_+(h' | h_s)

on a grid that is a geometric sequence of which 1-gamma is a power; at gamma = 1 it is the atom sum_s p_s q(h_s) at 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import ceil, pi, sqrt

import numpy as np

from fpanalysis import gaussian
from fpanalysis.stationary import _basins
from fpanalysis.stationary._collocation import Collocation, collocate
from fpanalysis.stationary._result import Array, Basin, Density, Problem
from fpanalysis.stationary._transition import REACH, Step

POINTS = {1: 300, 2: 128, 3: 48}  #: grid points per axis
SPAN = 1e-9  #: smallest over largest point of the geometric grid


def density(step: Step, found: Collocation) -> tuple[Density | None, dict[str, Density]]:
    """The joint density and the marginals by neuron. None and none where a neuron has no noise, where f is not
    increasing, and for several neurons with ReLU and noise in, whose law has mass on lines."""
    if not step.sigma.all() or (step.inside and not step.flat and not _increasing(step)):
        return None, {}
    if step.inside and step.flat:
        if step.N > 1 or not found.axes[0].high > 0:
            return None, {}
        one = _with_atom(step, found)
        return one, {"neuron 0": one}
    grids = tuple(np.linspace(axis.low, axis.high, POINTS[step.N]) for axis in found.axes)
    k = [_kernel(step, found.h, i, grid) for i, grid in enumerate(grids)]
    names = tuple(f"neuron {i}" for i in range(step.N))
    weights = tuple(_trapezoid(grid) for grid in grids)
    alone = [np.maximum(rows @ found.p, 0.0) for rows in k]
    each = {n: Density((n,), (grids[i],), alone[i], (weights[i],)) for i, n in enumerate(names)}
    if step.N == 1:
        return each[names[0]], each
    joint = k[0] * found.p
    values = joint @ k[1].T if step.N == 2 else np.stack([joint * row @ k[1].T for row in k[2]], axis=-1)
    return Density(names, grids, np.maximum(values, 0.0), weights), each


def fine(step: Step, found: Collocation) -> Collocation:
    """The law of one neuron on nodes that resolve the density of one step as a function of the state it starts from:
    moments need fewer."""
    if step.N > 1 or (step.inside and step.flat and step.gamma[0] == 1):
        return found
    axis = found.axes[0]
    n = int(np.clip(5 * (axis.high - axis.low) / max(float(step.tau[0]), 1e-300), 64, 180))
    n //= len(axis.breaks) + 1
    return found if n <= axis.n else collocate(step, (replace(axis, n=n),))


def _increasing(step: Step) -> bool:
    f = step.f(np.linspace(-6, 6, 200)[:, None] * np.ones(step.N))
    return bool((np.diff(f, axis=0) > 0).all())


def _kernel(step: Step, h: Array, i: int, to: Array) -> Array:
    """The density of h'_i at the points `to` (M,) from each of the states `h` (S, N): (M, S)."""
    tau = step.tau[i]
    if not step.inside:
        return _normal((to[:, None] - step.drift(h)[:, i]) / tau) / tau
    xi, slope = _noise_to(step, h, i, to)
    with np.errstate(divide="ignore", invalid="ignore"):
        values = _normal(xi) / (tau * slope)
    return np.where(slope > 0, np.nan_to_num(values, posinf=0.0), 0.0)


def _noise_to(step: Step, h: Array, i: int, to: Array) -> tuple[Array, Array]:
    """The xi that takes neuron i from the states `h` to the points `to`, inf where none does, and f' there: (M, S)."""
    x = step.preactivation(h)[:, i]
    value = (to[:, None] - (1 - step.gamma[i]) * h[:, i]) / step.gamma[i]
    low, high = float(x.min() - 9 * step.sigma[i]), float(x.max() + 9 * step.sigma[i])
    others = np.ones(step.N)

    def along(function: Callable[[Array], Array], z: Array) -> Array:
        return function(z[..., None] * others)[..., i]

    table = np.linspace(low, high, 2000)
    values = along(step.f, table)
    z = np.interp(value, values, table)
    for _ in range(3):
        with np.errstate(divide="ignore", invalid="ignore"):
            move = (along(step.f, z) - value) / along(step.activation.df, z)
        z = np.clip(z - np.nan_to_num(move, posinf=0.0, neginf=0.0), low, high)
    slope = along(step.activation.df, z)
    xi = (z - x) / step.sigma[i]
    xi = np.where(value >= values[-1], np.inf, np.where(value <= values[0], -np.inf, xi))
    return xi, np.where(np.isfinite(xi), slope, 0.0)


def _with_atom(step: Step, found: Collocation) -> Density:
    from scipy.special import ndtr

    g, s = float(step.gamma[0]), float(step.sigma[0])
    top = found.axes[0].high
    if g == 1:
        grid = np.linspace(0.0, top, POINTS[1])
    else:
        ratio = -np.log1p(-g)
        every = max(1, ceil(ratio / 0.025))
        count = ceil(-np.log(SPAN) / ratio * every)
        grid = top * np.exp(-ratio / every * np.arange(count, -1, -1))
    x = step.preactivation(found.h)[:, 0]
    rate = (grid[:, None] - (1 - g) * found.h[:, 0]) / g
    p = np.where(rate > 0, _normal((rate - x) / s), 0.0) @ found.p / (g * s)
    silent = ndtr(-step.preactivation(grid[:, None])[:, 0] / s)
    atoms: tuple[tuple[Array, float], ...] = ()
    if g == 1:
        weights = _trapezoid(grid)
        atoms = ((np.zeros(1), float(found.p @ ndtr(-x / s))),)
    else:
        for j in range(len(grid) - every - 1, -1, -1):
            p[j] += silent[j + every] * p[j + every] / (1 - g)
        weights = grid * ratio / every
        weights[[0, -1]] /= 2
    return Density(("neuron 0",), (grid,), np.maximum(p, 0.0), (weights,), atoms=atoms)


def _normal(z: Array) -> Array:
    return np.asarray(np.exp(-(z**2) / 2) / sqrt(2 * pi), np.float64)


def _trapezoid(grid: Array) -> Array:
    w = np.full(len(grid), grid[1] - grid[0])
    w[[0, -1]] /= 2
    return w


def basins(problem: Problem, step: Step, found: Collocation, law: Density | None) -> tuple[Basin, ...] | None:
    """What the law puts into each basin of the noise-free dynamics, where there are several; None otherwise.

    One neuron: exact integrals of the step up to the unstable fixed points. Several: the density at its grid points, so
    that the weights hold to about the mass of the cells on the borders.
    """
    if step.N == 1:
        return None if step.inside and (step.flat or not _increasing(step)) else _between(step, fine(step, found))
    if law is None:
        return None
    points = _basins.attractors(problem.net, problem.u)
    if len(points) < 2:
        return None
    states = np.stack(np.meshgrid(*law.grids, indexing="ij"), axis=-1).reshape(-1, step.N)
    weights = law.values
    for axis, w in enumerate(law.weights):
        weights = weights * w.reshape([-1 if k == axis else 1 for k in range(step.N)])
    some = weights.ravel() > 1e-9 * weights.max()
    labels = _basins.basin_of(problem.net, problem.u, states[some], points)
    return _basins.split(labels, states[some], weights.ravel()[some] / weights.sum(), points)


def _between(step: Step, found: Collocation) -> tuple[Basin, ...] | None:
    """Basins of one neuron: for each the sum over s of p_s times the integral over the xi that lead into it."""
    from scipy.optimize import brentq

    def pull(h: float) -> float:
        return float(step.drift(np.array([[h]]))[0, 0] - h)

    h = np.linspace(found.axes[0].low, found.axes[0].high, 802)
    sign = np.sign(step.drift(h[:, None])[:, 0] - h)
    stable = [float(brentq(pull, h[k], h[k + 1])) for k in np.nonzero((sign[:-1] > 0) & (sign[1:] < 0))[0]]
    borders = [float(brentq(pull, h[k], h[k + 1])) for k in np.nonzero((sign[:-1] < 0) & (sign[1:] > 0))[0]]
    if len(stable) < 2 or len(borders) != len(stable) - 1:
        return None
    if step.inside:
        cuts = _noise_to(step, found.h, 0, np.array(borders))[0]
    else:
        cuts = (np.array(borders)[:, None] - step.drift(found.h)[:, 0]) / step.tau[0]
    ends = np.full((1, len(found.h)), REACH)
    cuts = np.clip(np.concatenate([-ends, cuts, ends]), -REACH, REACH)
    t, v = gaussian.legendre_rule(80)
    result = []
    for low, high, point in zip(cuts[:-1], cuts[1:], stable, strict=True):
        xi = low + (high - low) * t[:, None]
        w = (high - low) * v[:, None] * _normal(xi) * found.p
        after = next_state(step, found.h[:, 0], xi)
        weight = float(w.sum())
        mean = float((w * after).sum() / weight)
        var = float((w * (after - mean) ** 2).sum() / weight)
        result.append(Basin(weight, np.array([mean]), np.array([[var]]), np.array([point])))
    return tuple(result)


def next_state(step: Step, h: Array, xi: Array) -> Array:
    """The next state of one neuron from `h` (S,) at the noise `xi` (M, S)."""
    if not step.inside:
        return step.drift(h[:, None])[:, 0] + step.tau[0] * xi
    x = step.preactivation(h[:, None])[:, 0]
    f = step.f((x + step.sigma[0] * xi)[..., None])[..., 0]
    return (1 - step.gamma[0]) * h + step.gamma[0] * f
