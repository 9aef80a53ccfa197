"""Batched damped Newton iteration on G(z) = 0, G(h) = F(h) - h or its reduced form.

F is the network's target (f(W h + W_in u + b) in the rate form), so neither the equation nor the stopping
rule depends on gamma, as a one-step speed would.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.equation import Equation, Full
from fpanalysis.system import System

Array = NDArray[np.float64]

TOLERANCE = 1e-12  #: a zero has residual max|F(h) - h| <= TOLERANCE (1 + max|h|)
ITERATIONS = 60
ROAMING_ITERATIONS = 30
HALVINGS = 7
ROAMING = 2  #: halvings of a step that is taken in any case
LEAP = 0.5  #: longest such step, relative to 1 + max|z|
TINY = 1e-300


def newton(net: System, h: Array, u: Array) -> tuple[Array, Array]:
    """Zeros of F(h) - h from the starts `h` (K, N) at inputs `u` (n_in,) or (K, n_in).

    Returns
    -------
    h : (K, N), where the iteration ended; rows that never reached the tolerance are left where they were best.
    residual : (K,), max|F(h) - h|, to be held against :func:`bound`.
    """
    equation = Full(net, u)
    h, residual = zeros(equation, h)
    near = np.flatnonzero(residual <= bound(h))  # one more step brings these to rounding level
    gap = equation.gap(h[near], near)
    last = h[near] + solve(equation.slope(h[near], near), gap)
    size = _size(equation.gap(last, near))
    better = size < residual[near]
    h[near[better]], residual[near[better]] = last[better], size[better]
    return h, residual


def zeros(equation: Equation, z: Array, slack: float = 0.01) -> tuple[Array, Array]:
    """Zeros of `equation` from the starts `z` (K, dim), to a residual of `slack` times the tolerance: where the
    iteration ended, and max|G| there. A row whose residual does not fall along the step, however short, rests at a
    minimum of the residual that is no zero, and stops there.
    """
    z = np.array(z, float)
    gap = equation.gap(z)
    residual = _size(gap)
    active = np.arange(len(z))
    for _ in range(ITERATIONS):
        done = residual[active] <= slack * bound(z[active])
        active = active[~done & np.isfinite(residual[active])]
        if not len(active):
            break
        step = solve(equation.slope(z[active], active), gap[active])
        active = active[_search_line(equation, z, gap, residual, active, step, HALVINGS)]
    return z, residual


def roam(equation: Equation, z: Array, slack: float, known: Callable[[Array], NDArray[np.bool_]]) -> Array:
    """Zeros of `equation` (K', dim), found from the starts `z` (K, dim), if not the nearest ones.

    Where the residual does not fall along the step, a step of limited length is taken all the same: three times as
    many starts come to some zero as by :func:`zeros`. Rows for which `known(z)` holds are given up.
    """
    z = np.array(z, float)
    gap = equation.gap(z)
    residual = _size(gap)
    active = np.arange(len(z))
    ended: list[Array] = []
    for _ in range(ROAMING_ITERATIONS):
        done = residual[active] <= slack * bound(z[active])
        ended.append(z[active[done]])
        active = active[~done & np.isfinite(residual[active])]
        active = active[~known(z[active])]
        if not len(active):
            break
        step = solve(equation.slope(z[active], active), gap[active])
        longest = np.abs(step).max(axis=-1, keepdims=True)
        step *= np.minimum(1.0, LEAP * (1 + np.abs(z[active]).max(axis=-1, keepdims=True)) / (longest + TINY))
        moved = _search_line(equation, z, gap, residual, active, step, ROAMING)
        rows = active[~moved]
        z[rows] += step[~moved]
        gap[rows] = equation.gap(z[rows], rows)
        residual[rows] = _size(gap[rows])
    return np.vstack(ended)


def bound(h: Array) -> Array:
    """The residual below which a row of `h` counts as a fixed point."""
    limit: Array = TOLERANCE * (1 + np.abs(h).max(axis=-1, initial=0.0))
    return limit


def solve(A: Array, b: Array) -> Array:
    """A^{-1} b row by row; least-norm solutions where A is singular, zero where it is not finite."""
    try:
        return np.asarray(np.linalg.solve(A, b[..., None])[..., 0], np.float64)
    except np.linalg.LinAlgError:
        pass
    step = np.zeros_like(b)
    finite = np.asarray(np.isfinite(A).all(axis=(1, 2)))
    regular = finite & (np.linalg.slogdet(np.where(finite[:, None, None], A, 0.0))[0] != 0)
    step[regular] = np.linalg.solve(A[regular], b[regular][..., None])[..., 0]
    for row in np.flatnonzero(finite & ~regular):
        step[row] = np.linalg.lstsq(A[row], b[row], rcond=None)[0]
    return step


def _search_line(
    equation: Equation, z: Array, gap: Array, residual: Array, active: NDArray[np.intp], step: Array, halvings: int
) -> NDArray[np.bool_]:
    """Halve each step until the residual falls; update in place; say which rows moved."""
    norm = np.linalg.norm(gap[active], axis=-1)
    t = np.ones(len(active))
    waiting = np.arange(len(active))
    for _ in range(1 + halvings):
        rows = active[waiting]
        trial = z[rows] + t[waiting, None] * step[waiting]
        trial_gap = equation.gap(trial, rows)
        trial_norm = np.linalg.norm(trial_gap, axis=-1)
        better = trial_norm < (1 - 0.1 * t[waiting]) * norm[waiting]
        accepted = rows[better]
        z[accepted], gap[accepted] = trial[better], trial_gap[better]
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
