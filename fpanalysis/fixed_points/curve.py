"""Curves G(z) = 0 of an equation G: R^(N+1) -> R^N, followed by pseudo-arclength continuation.

From a point z with unit tangent t (DG t = 0) the next is predicted at z + s t and corrected by Newton's method in
the plane normal to t: each correction, and the new tangent, solve the bordered system

    [DG ]           [G]     [DG ]          [0]
    [t^T] delta  =  [0],    [t^T] tau   =  [1]

with one factorisation. Folds in the last component of z are no obstacle, and the curve is never left backwards.
At a corner (a kink of ReLU) no step is short enough for the tangents to agree: there the curve is turned so that
the sign of det [DG; t^T] is kept, which orients piecewise linear curves.

Source: E. L. Allgower, K. Georg, *Introduction to Numerical Continuation Methods*, SIAM 2003, chapters 2, 6 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dgetrf, dgetrs
from scipy.optimize import brentq

Array = NDArray[np.float64]
Function = Callable[[Array], tuple[Array, Array]]  #: z (N + 1,) -> G (N,) and DG (N, N + 1)

TOLERANCE = 1e-10  #: the last correction, relative to 1 + max|z|
ROUNDING = 1e-15  #: of a point, relative to 1 + max|z|
CORRECTIONS = 8
TURN = 0.15  #: angle between tangents, in radians, that the step aims at; three times as much is refused
LONGEST, FIRST, SHORTEST = 0.05, 0.01, 1e-10  #: steps, relative to sqrt(N + 1) + |z|


class Point(NamedTuple):
    """A point of the curve."""

    z: Array  #: (N + 1,)
    tangent: Array  #: (N + 1,), unit, in the direction of travel
    DG: Array  #: (N, N + 1)
    sign: float  #: of det [DG; t^T]; it changes at simple branch points, not at folds
    log: float  #: log|det [DG; t^T]|
    error: float  #: size that the next correction would have, which bounds the distance to the curve
    corrections: int = 0
    corner: bool = False  #: whether the curve was turned at a kink just before


def tangent_of(DG: Array) -> Array:
    """A unit vector t with DG t = 0, its last component not negative."""
    t: Array = np.linalg.svd(DG)[2][-1]
    return t if t[-1] >= 0 else -t


def correct(G: Function, guess: Array, normal: Array, tangent: Array | None = None) -> Point | None:
    """The point of the curve in the plane through `guess` (N + 1,) normal to `normal` (N + 1,); None if there is none.

    `tangent` sets the direction of travel where it is not that of `normal`.
    """
    z, n, before = guess, len(guess), 0.0
    M, rhs = np.empty((n, n), order="F"), np.zeros((n, 2), order="F")
    M[-1] = normal
    for k in range(CORRECTIONS + 1):
        gap, DG = G(z)
        M[:-1], rhs[:-1, 0], rhs[-1, 1] = DG, gap, 1.0
        lu, pivots, singular = dgetrf(M)
        size = TOLERANCE * (1 + np.abs(z).max())
        if singular:  # exactly on a branch point, or nowhere
            here = Point(z, normal / np.linalg.norm(normal), DG, 0.0, -np.inf, 0.0, k)
            return here if np.abs(gap).max() <= size else None
        delta, tau = dgetrs(lu, pivots, rhs)[0].T
        z = z - delta
        last = float(np.abs(delta).max())
        if not np.isfinite(last):
            return None
        if last <= size:
            error = last * (min(last / before, 1.0) if before else 1.0) + ROUNDING * size / TOLERANCE
            length = float(np.linalg.norm(tau))
            diagonal = lu.diagonal()
            swaps = np.count_nonzero(pivots != np.arange(n))
            sign = float((-1) ** (swaps + np.count_nonzero(diagonal < 0)))
            tau = tau / length
            if tangent is not None and tau @ tangent < 0:
                tau, sign = -tau, -sign
            # det [DG; normal^T] = (normal . tau) det [DG; tau^T], and normal . tau = 1 / length
            return Point(z, tau, DG, sign, float(np.log(np.abs(diagonal)).sum()) + float(np.log(length)), error, k)
        before = last
    return None


def trace(G: Function, start: Point, first: float = FIRST, longest: float = LONGEST) -> Iterator[Point]:
    """The points of the curve after `start`, in the direction of its tangent, until the caller stops.

    The step, relative to sqrt(N + 1) + |z|, starts at `first` and adapts to the curve's turning up to `longest`.
    The iterator ends where the curve cannot be followed any further.
    """
    point, step = start, first
    while True:
        unit = sqrt(len(point.z)) + float(np.linalg.norm(point.z))
        following, taken = _advance(G, point, step, unit)
        if following is None:
            return
        if following.corner:
            step = min(longest, 0.1 * FIRST)
        else:
            turned = float(np.linalg.norm(following.tangent - point.tangent))
            growth = min(2.0, TURN / max(turned, 1e-3)) if following.corrections <= 4 else 0.7
            step = min(longest, taken * max(growth, 0.5))
        yield following
        point = following


def _advance(G: Function, point: Point, step: float, unit: float) -> tuple[Point | None, float]:
    """The next point and the step, at most `step`, that led to it."""
    shrink = 0.5
    while step > SHORTEST:
        guess = point.z + step * unit * point.tangent
        found = correct(G, guess, point.tangent)
        if found is not None:
            turned = float(np.linalg.norm(found.tangent - point.tangent))
            off = float(np.linalg.norm(found.z - guess))
            # past a branch point the sign changes and the tangent hardly does; at a corner both may
            limit = 3 * TURN if found.sign == point.sign else 0.1 * TURN
            if turned <= limit and off <= 2 * TURN * step * unit:
                return found, step
        step, shrink = step * shrink, max(shrink / 2, 0.1)
    turns = (_turn(G, point, scale * SHORTEST * unit) for scale in (1, 10, 100))
    return next((found for found in turns if found is not None), None), SHORTEST


def _turn(G: Function, point: Point, step: float) -> Point | None:
    """A point just beyond the corner that lies within 10 `step` ahead; None if the curve has no corner there."""
    DG = G(point.z + 20 * step * point.tangent)[1]
    if not np.isfinite(DG).all():
        return None
    t = tangent_of(DG)
    if np.linalg.det(np.vstack([DG, t])) * point.sign < 0:
        t = -t
    found = correct(G, point.z + 10 * step * point.tangent + 20 * step * t, t)
    if found is None or found.sign != point.sign or np.linalg.norm(found.z - point.z) > 100 * step:
        return None
    if found.tangent @ point.tangent > 1 - TURN**2:  # no corner: the way on was lost for another reason
        return None
    return found._replace(corner=True)


def locate(G: Function, a: Point, b: Point, test: Callable[[Point], float], tolerance: float) -> Point | None:
    """The point between the neighbours `a` and `b` of a curve at which `test` changes sign.

    Its distance along the curve to that point is at most `tolerance`; a jump of `test` is located as well as a
    zero. None where the curve between them could not be followed or `test` does not change sign.
    """
    reach = float((b.z - a.z) @ a.tangent)
    known: dict[float, Point] = {0.0: a, reach: b}

    def value(s: float) -> float:
        if s not in known:
            found = correct(G, a.z + s * a.tangent, a.tangent)
            if found is None:
                raise ArithmeticError
            known[s] = found
        return test(known[s])

    try:
        root = brentq(value, 0.0, reach, xtol=tolerance, rtol=4 * np.finfo(float).eps, maxiter=100, disp=False)
        value(root)
    except (ArithmeticError, ValueError):
        return None
    return known[root]


def passes(start: Point, a: Point, b: Point) -> bool:
    """Whether the curve comes back to `start`, in its direction, between the neighbours `a` and `b`."""
    way, offset = b.z - a.z, start.z - a.z
    length = float(way @ way)
    s = float(offset @ way) / length
    beside = offset - s * way
    return 0 <= s <= 1 and float(beside @ beside) <= 0.05 * length and float(a.tangent @ start.tangent) > 0.8
