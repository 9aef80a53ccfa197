"""Local minima of q(h) = 1/2 |g|^2, g = F(h) - h, by batched descent.

With A = I - dF/dh the gradient of q is -A^T g and its Hessian

    H = A^T A + sum_i g_i d2F_i/dh2.

Gauss-Newton (Levenberg-Marquardt) steps, which leave the second term out, come near a minimum; at one with g != 0
that term is what bends q along the null vector of A, so that Newton steps with the whole of H finish.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.newton import bound
from fpanalysis.fixed_points.search.seeds import ESCAPED
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

GRADIENT = 1e-11  #: |A^T g| / |g| at a minimum, to which rounding adds
BLURRED = 1e-6  #: what rounding may add at most
NEAR_MINIMUM = 1e-3  #: the same, where Newton steps take over
APPROACHING, FINISHING = 40, 50  #: steps at most
STUCK = 1e8  #: damping beyond which no step lowers q
ENTRIES = 4_000_000  #: numbers of the Jacobians held at once by differences

Step = Callable[[Array, Array, Array, Array], Array]  #: of h, g, A and the damping (K,)


def approach(net: System, u: Array, h: Array) -> Array:
    """Levenberg-Marquardt from the starts `h` (K, N) until near a minimum of q, or at a zero of g: (K, N)."""

    def step(h: Array, g: Array, A: Array, damping: Array) -> Array:
        M = np.einsum("kji,kjl->kil", A, A, optimize=True)
        np.einsum("kii->ki", M)[...] += damping[:, None]
        return np.asarray(np.linalg.solve(M, _back(A, g)[..., None])[..., 0], np.float64)

    return _descend(net, u, h, step, APPROACHING, NEAR_MINIMUM)


def finish(net: System, u: Array, h: Array) -> Array:
    """Newton on the gradient of q from `h` (K, N); eigenvalues of H count by their size, so that q falls: (K, N)."""

    def step(h: Array, g: Array, A: Array, damping: Array) -> Array:
        values, vectors = np.linalg.eigh(hessian(net, u, h, g, A))
        along = np.einsum("kij,ki->kj", vectors, _back(A, g)) / (np.abs(values) + damping[:, None])
        return np.einsum("kij,kj->ki", vectors, along)

    return _descend(net, u, h, step, FINISHING, GRADIENT)


def hessian(net: System, u: Array, h: Array, g: Array, A: Array) -> Array:
    """H of q at `h` (K, N) with g = F(h) - h and A = I - dF/dh: (K, N, N)."""
    return np.asarray(np.swapaxes(A, -1, -2) @ A + _bend(net, u, h, g), np.float64)


def slope_matrix(net: System, u: Array, h: Array) -> Array:
    """A = I - dF/dh at `h` (K, N): (K, N, N)."""
    return np.asarray(np.eye(net.N) - net.target_jacobian(h, u), np.float64)


def relative_gradient(h: Array, g: Array, A: Array) -> tuple[Array, Array]:
    """|A^T g| / |g| (K,), and what rounding alone can make of it (K,), at most `BLURRED`: with more,
    what nears a zero of g would pass for a minimum."""
    size = np.linalg.norm(g, axis=-1)
    safe = np.where(size > 0, size, 1.0)
    blur = 16 * np.finfo(float).eps * (1 + np.abs(h).max(axis=-1, initial=0.0)) * np.linalg.norm(A, axis=(-2, -1))
    return np.linalg.norm(_back(A, g), axis=-1) / safe, np.minimum(blur / safe, BLURRED)


def at_rest(h: Array, g: Array) -> NDArray[np.bool_]:
    """Whether `h` (K, N) is a fixed point, by the measure of the search for those."""
    return np.asarray(np.abs(g).max(axis=-1, initial=0.0) <= bound(h))


def _back(A: Array, g: Array) -> Array:
    """A^T g, (K, N)."""
    return np.asarray(np.einsum("kij,ki->kj", A, g), np.float64)


def _bend(net: System, u: Array, h: Array, g: Array) -> Array:
    """sum_i g_i d2F_i/dh2 (K, N, N): W^T diag(g f''(x)) W in the rate form, diag(f''(h) W^T g) in the current form;
    of other systems by central differences of dF/dh, which limits how fast Newton converges, not where to."""
    if isinstance(net, Network):
        bend = net.activation.d2f(net.preactivation(h, u))
        if net.form == "rate":
            return np.asarray((net.W.T * (g * bend)[:, None, :]) @ net.W, np.float64)
        return np.asarray((bend * (g @ net.W))[:, :, None] * np.eye(net.N), np.float64)
    return np.array([_bend_by_differences(net, u, *row) for row in zip(h, g, strict=True)]).reshape(-1, net.N, net.N)


def _bend_by_differences(net: System, u: Array, h: Array, g: Array) -> Array:
    shifts = np.cbrt(np.finfo(float).eps) * (1 + np.abs(h))
    rows = []
    for block in np.array_split(np.arange(net.N), -(-(net.N**3) // ENTRIES)):
        shift = np.eye(net.N)[block] * shifts
        change = net.target_jacobian(h + shift, u) - net.target_jacobian(h - shift, u)
        rows.append(np.einsum("jik,i->jk", change, g) / (2 * shifts[block, None]))
    bend = np.vstack(rows)
    return (bend + bend.T) / 2


def _descend(net: System, u: Array, h: Array, step: Step, steps: int, tolerance: float) -> Array:
    """Damped steps that lower q, or, where rounding hides that, its gradient; each row until its relative gradient
    meets the tolerance, it rests, escapes or is stuck."""
    h, damping = np.array(h, float), np.full(len(h), 1e-3)
    g = net.target(h, u) - h
    active = np.arange(len(h))
    for _ in range(steps):
        A = slope_matrix(net, u, h[active])
        slope, blur = relative_gradient(h[active], g[active], A)
        done = (slope <= tolerance + blur) | at_rest(h[active], g[active]) | (damping[active] > STUCK)
        going = ~done & np.isfinite(slope) & (np.abs(h[active]).max(axis=-1, initial=0.0) < ESCAPED)
        active, A, slope = active[going], A[going], slope[going]
        if not len(active):
            break
        trial = h[active] + step(h[active], g[active], A, damping[active])
        trial_gap = net.target(trial, u) - trial
        before, after = np.linalg.norm(g[active], axis=-1), np.linalg.norm(trial_gap, axis=-1)
        better = after < before * (1 - 1e-13)
        level = ~better & (after <= before * (1 + 1e-12))
        if level.any():
            new, _ = relative_gradient(trial[level], trial_gap[level], slope_matrix(net, u, trial[level]))
            better[level] = new < slope[level]
        rows = active[better]
        h[rows], g[rows] = trial[better], trial_gap[better]
        damping[rows] *= 0.1
        damping[active[~better]] *= 8
    return h
