"""Where the noise-free dynamics comes to rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.search.seeds import ESCAPED, run
from fpanalysis.system import System

Array = NDArray[np.float64]

CHUNK = 100  #: steps between two looks at the state
LOOKS = (800, 3200, 12_800)  #: steps after which one looks ahead
LINEAR, ROUNDING = 1e-6, 1e-12  #: to which the linearised dynamics must give the trajectory: of it, and of the point
DOUBLINGS = 30  #: of the time at which its way ahead is checked


def settle(net: System, h: ArrayLike, u: ArrayLike | None = None, steps: int = 20_000) -> tuple[Array, Array]:
    """Follow the noise-free dynamics from `h` (K, N) to where it comes to rest.

    Returns the states reached (K, N), polished by Newton where they rest, and whether each rests (K,):
    False for a trajectory that still moves after `steps` (a limit cycle, chaos) or escapes. One that would rest only
    later, for its dynamics is slow, but is in the linear regime of a stable point by then, is taken to that point.
    """
    u = net.check_input(u)
    h = np.array(h, float)
    u = np.broadcast_to(u, (len(h), net.n_in))
    rests = np.zeros(len(h), bool)
    active = np.arange(len(h))
    for done in range(0, steps, CHUNK):
        before = h[active]
        h[active] = run(net, before, u[active], CHUNK)
        if done + CHUNK in LOOKS:
            ahead, known = _ahead(net, before, h[active], u[active])
            h[active[known]], rests[active[known]] = ahead[known], True
            active = active[~known]
            if not len(active):
                break
        gap = np.abs(net.target(h[active], u[active]) - h[active]).max(axis=-1)
        close = gap <= 1e-6 * (1 + np.abs(h[active]).max(axis=-1))
        trial, residual = newton(net, h[active[close]], u[active[close]])
        near = np.abs(trial - h[active[close]]).max(axis=-1, initial=0.0) <= 1e-3 * (1 + np.abs(trial).max(axis=-1))
        good = active[close][(residual <= bound(trial)) & near]
        h[good] = trial[(residual <= bound(trial)) & near]
        rests[good] = True
        gone = np.abs(h[active]).max(axis=-1) > ESCAPED
        active = active[~np.isin(active, good) & ~gone]
        if not len(active):
            break
    return h, rests


def _ahead(net: System, before: Array, h: Array, u: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The zeros nearest to the states `h` (K, N), and which of them are where the trajectories will rest: those that
    are stable and whose linearised dynamics leads from `before` to `h`, `CHUNK` steps later, and on from there."""
    points, residual = newton(net, h, u)
    known = np.zeros(len(h), bool)
    for k in np.flatnonzero(residual <= bound(points)):
        J, point = net.jacobian(points[k], u[k]), points[k]
        if np.abs(np.linalg.eigvals(J)).max() < 1:
            expected = np.linalg.matrix_power(J, CHUNK) @ (before[k] - point)
            path = point + _path(J, h[k] - point)
            known[k] = (
                _near(h[k] - point, expected, point)
                and _near(net.step(path, u[k]) - point, (path - point) @ J.T, point).all()
            )
    return points, known


def _near(value: Array, expected: Array, point: Array) -> NDArray[np.bool_]:
    """Whether departures from `point`, (..., N), are those that the linearised dynamics gives."""
    size = LINEAR * np.abs(expected).max(axis=-1) + ROUNDING * (1 + np.abs(point).max())
    return np.asarray(np.abs(value - expected).max(axis=-1) <= size)


def _path(J: Array, d: Array) -> Array:
    """Departures d, J d, J^2 d, J^4 d, ... of the linear dynamics, (DOUBLINGS, N)."""
    path = [d]
    for _ in range(DOUBLINGS - 1):
        path.append(J @ d)
        J = J @ J
    return np.array(path)
