"""The density of one neuron's chain, by whichever of three ways its smoothness allows.

Smooth: from the moments m_k = E[T_k(h)] of the collocation, x being h on [-1, 1],

    p(x) = 2 / (pi sqrt(1 - x^2)) sum'_k m_k T_k(x),    with quadrature weights that make its mass m_0 = 1

gamma = 1 with noise in: the law is that of f(x + sigma xi), so that F(h) = sum_s p_s P(f(x_s + sigma xi) <= h), over
cells; below its kink ReLU has a point mass at f(0). Otherwise (noise in, the law is singular somewhere): the chain on
cells, P_ij the mean over cell i of the probability to step into cell j, which is positive and has mass 1. Cells of a
silent ReLU neuron, whose density is a power of h near 0, are a geometric sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fpanalysis.gaussian import legendre_rule
from fpanalysis.stationary._one_step import REACH, Line, matrix
from fpanalysis.stationary._result import Array, Density

if TYPE_CHECKING:
    from fpanalysis.stationary._chain_one import Solved

DEGREES = (120, 240)  #: degrees tried for a smooth density
RESOLVED = 1e-7  #: moments of the highest degrees, relative, below which the density is smooth
POINTS = 400
CELLS = 400
SPAN = 1e-8  #: smallest over largest cell edge of the geometric sequence, of which 1 - gamma is a power
MOST = 600  #: cells of it
NAMES = ("neuron 0",)


def densities(
    line: Line, low: float, high: float, collocate: Callable[[Line, float, float, int], Solved]
) -> tuple[Density | None, Mapping[str, Density]]:
    """The density, and it again as the marginal of neuron 0; the law lies between `low` and `high`, in y."""
    with np.errstate(all="ignore"):
        one = _density(line, low, high, collocate)
    return one, ({} if one is None else {NAMES[0]: one})


def _density(
    line: Line, low: float, high: float, collocate: Callable[[Line, float, float, int], Solved]
) -> Density | None:
    at_once = line.inside and line.gamma == 1
    for n in DEGREES:
        found = collocate(line, low, high, n)
        if at_once:
            break
        margin = REACH * line.tau
        moments = _moments(line, found, low - margin, high + margin)
        if np.abs(moments[-n // 6 :]).max() <= RESOLVED:
            return _series(moments, low - margin, high + margin)
    if not line.inside:
        return _series(moments, low - margin, high + margin)
    inverse = _inverse(line, low, high)
    if inverse is None:
        return None
    return _drawn(line, found, inverse) if at_once else _on_cells(line, found, inverse)


def _moments(line: Line, found: Solved, low: float, high: float) -> Array:
    """E[T_k(h)], with T_k on [low, high]."""
    if line.inside:
        return found.p @ found.V
    xi = np.arange(-36, 37) / 4.0
    w = np.exp(-(xi**2) / 2)
    weight = np.repeat((w / w.sum())[:, None], found.n, axis=1)
    return found.p @ matrix(found.y + line.tau * xi[:, None], weight, low, high, found.n)[0]


def _series(moments: Array, low: float, high: float) -> Density:
    angle = np.pi * (np.arange(POINTS) + 0.5) / POINTS
    x, half = -np.cos(angle), (high - low) / 2
    coefficients = 2 * moments
    coefficients[0] /= 2
    values = np.maximum(np.polynomial.chebyshev.chebval(x, coefficients), 0.0)
    values /= values.mean()
    weights = np.pi / POINTS * np.sin(angle) * half
    return Density(NAMES, ((low + high) / 2 + half * x,), values / (np.pi * np.sin(angle) * half), (weights,))


def _inverse(line: Line, low: float, high: float) -> Callable[[Array], Array] | None:
    """f^-1, -inf and inf beyond the values of f, for an f that rises (above its kink, if it is flat below)."""
    x = line.w * np.array([low, high]) + line.d
    first, last = float(x.min() - REACH * line.sigma), float(x.max() + REACH * line.sigma)
    if line.step.flat:
        first, last = 0.0, max(last, line.sigma)
    z = np.linspace(first, last, 6000)
    values = line.f(z)
    if not (np.diff(values) >= 0).all():
        return None
    inside = np.concatenate([[True], np.diff(values) > 0])
    z, values = z[inside], values[inside]

    def inverse(value: Array) -> Array:
        at = np.interp(value, values, z)
        return np.where(value >= values[-1], np.inf, np.where(value <= values[0], -np.inf, at))

    return inverse


def _drawn(line: Line, found: Solved, inverse: Callable[[Array], Array]) -> Density:
    """gamma = 1: every state is drawn anew."""
    from scipy.special import ndtr

    x = line.w * found.y + line.d
    edges = np.linspace(found.low, found.high, CELLS + 1)
    F = np.clip(ndtr((inverse(edges)[:, None] - x) / line.sigma) @ found.p, 0.0, 1.0)
    atoms: tuple[tuple[Array, float], ...] = ()
    if line.step.flat:
        below = line.f(np.array([-1.0]))
        F[edges <= below[0]] = float(found.p @ ndtr(-x / line.sigma))
        atoms = ((below, float(F[0])),)
    else:
        F[0] = 0.0
    F[-1] = 1.0
    return _histogram(np.diff(np.maximum.accumulate(F)), edges, atoms)


def _on_cells(line: Line, found: Solved, inverse: Callable[[Array], Array]) -> Density | None:
    from scipy.special import ndtr

    edges = _cells(line, found)
    t, _ = legendre_rule(2)
    P = np.zeros((len(edges) - 1,) * 2)
    for share in t:
        h = edges[:-1] + share * np.diff(edges)
        xi = (inverse((edges[1:-1] - (1 - line.gamma) * h[:, None]) / line.gamma) - (line.w * h + line.d)[:, None]) / (
            line.sigma
        )
        F = np.concatenate([np.zeros((len(h), 1)), ndtr(xi), np.ones((len(h), 1))], axis=1)
        P += np.diff(F, axis=1) / len(t)
    A = np.eye(len(P)) - P.T + 1 / len(P)
    try:
        p = np.maximum(np.linalg.solve(A, np.full(len(P), 1 / len(P))), 0.0)
        return _histogram(p / p.sum(), edges, ())
    except np.linalg.LinAlgError:
        return None


def _cells(line: Line, found: Solved) -> Array:
    if not line.step.flat or found.low > 0:
        return np.linspace(found.low, found.high, CELLS + 1)
    ratio = -np.log1p(-line.gamma)
    every = int(np.ceil(ratio / 0.05))
    count = min(int(-np.log(SPAN) / ratio * every), MOST)
    return np.concatenate([[0.0], found.high * np.exp(-ratio / every * np.arange(count, -1, -1))])


def _histogram(mass: Array, edges: Array, atoms: tuple[tuple[Array, float], ...]) -> Density:
    widths = np.diff(edges)
    return Density(NAMES, ((edges[:-1] + edges[1:]) / 2,), mass / widths, (widths,), atoms=atoms)
