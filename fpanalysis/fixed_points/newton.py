"""Batched damped Newton iteration on F(h) - h = 0.

F is the network's target (f(W h + W_in u + b) in the rate form), so neither the equation nor the stopping
rule depends on gamma, as a one-step speed would.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network

Array = NDArray[np.float64]

TOLERANCE = 1e-12  #: a zero has residual max|F(h) - h| <= TOLERANCE (1 + max|h|)
ITERATIONS = 60
HALVINGS = 8


def newton(net: Network, h: Array, u: Array) -> tuple[Array, Array]:
    """Zeros of F(h) - h from the starts `h` (K, N) at inputs `u` (n_in,) or (K, n_in).

    Returns
    -------
    h : (K, N), where the iteration ended; rows that never reached the tolerance are left where they were best.
    residual : (K,), max|F(h) - h|, to be held against :func:`bound`.
    """
    h = np.array(h, float)
    u = np.broadcast_to(u, (len(h), net.n_in))
    gap = net.target(h, u) - h
    residual = _size(gap)
    active = np.arange(len(h))
    for _ in range(ITERATIONS):
        # one step beyond the tolerance costs little and brings the residual to rounding level
        done = residual[active] <= 0.01 * bound(h[active])
        active = active[~done & np.isfinite(residual[active])]
        if not len(active):
            break
        step = _newton_step(net, h[active], u[active], gap[active])
        moved = _search_line(net, h, u, gap, residual, active, step)
        active = active[moved]
    return h, residual


def bound(h: Array) -> Array:
    """The residual below which a row of `h` counts as a fixed point."""
    limit: Array = TOLERANCE * (1 + np.abs(h).max(axis=-1, initial=0.0))
    return limit


def _newton_step(net: Network, h: Array, u: Array, gap: Array) -> Array:
    A = np.eye(net.N) - net.target_jacobian(h, u)
    try:
        return np.asarray(np.linalg.solve(A, gap[..., None])[..., 0], np.float64)
    except np.linalg.LinAlgError:  # some row is singular: least-norm steps for all
        return np.asarray((np.linalg.pinv(A) @ gap[..., None])[..., 0], np.float64)


def _search_line(
    net: Network, h: Array, u: Array, gap: Array, residual: Array, active: NDArray[np.intp], step: Array
) -> NDArray[np.bool_]:
    """Halve each step until the residual falls; update in place; say which rows moved."""
    norm = np.linalg.norm(gap[active], axis=-1)
    t = np.ones(len(active))
    waiting = np.arange(len(active))
    for _ in range(HALVINGS):
        rows = active[waiting]
        trial = h[rows] + t[waiting, None] * step[waiting]
        trial_gap = net.target(trial, u[rows]) - trial
        trial_norm = np.linalg.norm(trial_gap, axis=-1)
        better = trial_norm < (1 - 0.1 * t[waiting]) * norm[waiting]
        accepted = rows[better]
        h[accepted], gap[accepted] = trial[better], trial_gap[better]
        residual[accepted] = _size(trial_gap[better])
        waiting = waiting[~better]
        if not len(waiting):
            break
        t[waiting] /= 2
    moved = np.ones(len(active), bool)
    moved[waiting] = False
    return moved


def _size(gap: Array) -> Array:
    return np.abs(gap).max(axis=-1, initial=0.0)
