"""Directional fibers: curves that lead from one fixed point to others.

Along F(h) - h = alpha c, with a fixed unit vector c, every passage of alpha through zero is a fixed point. The curve
through a known fixed point is followed both ways. Points on other components of the curve are not reached; another
random c may reach them.

Source: G. E. Katz, J. A. Reggia, "Using directional fibers to locate fixed points of recurrent neural networks",
IEEE Transactions on Neural Networks and Learning Systems 29 (2018) 3636-3646.
"""

from __future__ import annotations

from itertools import islice

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fpanalysis.fixed_points.curve import Function, Point, correct, passes, tangent_of, trace
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.system import System

Array = NDArray[np.float64]

#: a curve this many times as far out as any fixed point can be, or as those seen where that is not known, is left
BEYOND = 6.0
SAME = 1e-7  #: two zeros closer than this, relative to 1 + max|h|, are one


def fibers(net: System, u: Array, start: Array, rng: Generator, steps: int = 2000) -> Array:
    """Fixed points (K, N) of `net` at the constant input `u` (n_in,) on a random fiber through `start` (N,).

    `start` must be a fixed point; it is not among those returned. Each is a zero to the tolerance of
    :func:`newton`; each direction is followed until it leaves the region that can hold fixed points, or for
    `steps` points.
    """
    c = rng.standard_normal(net.N)
    c /= np.linalg.norm(c)

    def G(z: Array) -> tuple[Array, Array]:
        h = z[:-1]
        DG = np.empty((net.N, net.N + 1))
        DG[:, :-1], DG[:, -1] = net.target_jacobian(h, u), -c
        DG.ravel()[:: net.N + 2] -= 1
        return net.target(h, u) - h - z[-1] * c, DG

    z = np.append(start, 0.0)
    first = correct(G, z, tangent_of(G(z)[1]))
    if first is None:
        return np.empty((0, net.N))
    back = first._replace(tangent=-first.tangent, sign=-first.sign)
    guesses = [h for way in (first, back) for h in _passages(G, way, net.trapping_box(u), steps)]
    h, residual = newton(net, np.reshape(guesses, (-1, net.N)), u)
    return _distinct(h[residual <= bound(h)], start)


def _passages(G: Function, start: Point, box: Array | None, steps: int) -> list[Array]:
    """Where alpha passes through zero on the curve from `start` on, to first order."""
    found: list[Array] = []
    centre, reach = (np.zeros(1), np.zeros(1)) if box is None else (box.mean(axis=0), np.ptp(box, axis=0) / 2)
    a, seen = start, float(np.abs(start.z[:-1]).max())
    for k, b in enumerate(islice(trace(G, start), steps)):
        if (a.z[-1] > 0) != (b.z[-1] > 0) and k:
            t = a.z[-1] / (a.z[-1] - b.z[-1])
            found.append(((1 - t) * a.z + t * b.z)[:-1])
            seen = max(seen, float(np.abs(found[-1]).max()))
        out = np.abs(b.z[:-1] - centre) > BEYOND * (1 + seen if box is None else reach)
        if out.any() or (k and passes(start, a, b)):
            break
        a = b
    return found


def _distinct(h: Array, start: Array) -> Array:
    """Each row of `h` (K, N) once, without `start`."""
    found = np.array(start, float)[None]
    for row in h:
        if (np.abs(found - row).max(axis=1) > SAME * (1 + np.abs(row).max())).all():
            found = np.vstack([found, row])
    return found[1:]
