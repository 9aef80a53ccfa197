"""What a Gaussian closure neglects first: the third cumulants of the state, and what they do to m and C.

Let h~ = h - m, J the Jacobian of the smoothed step, o = O h~ what enters f (O = W in the rate form, I in the
current form), U the way from f into the step (diag g, or diag(g) W), M2 = d^2 M/da^2 and M3 = d^3 M/da^3. The
step's linear part and its quadratic part U (M2/2)(o^2 - s^2) make third cumulants at every step,

    source_abc = sum_e M2_e (P_ae P_be U_ce + two permutations),   P = Cov(linear part of h', input of f),

which the linear dynamics carries on: T = sum_n (J^n x J^n x J^n) source. Only contractions of T are needed,

    T(o_i, o_i, o_i) = 3 sum_n sum_e F_ie^2 E_ie M2_e,              E = O J^n U,   F = O J^n P
    T(h_j, o_i, o_i) = sum_n [2 (J^n P) M2 (F o E)^T + (J^n U) M2 (F o F)^T]_ji,

so no N^3 tensor is formed. They correct Cov(h_j, f_i) by M2_i T(h_j, o_i, o_i) / 2, thence C by a Lyapunov
solve, and E f_i by M3_i T(o_i, o_i, o_i) / 6 + M2_i dS_ii / 2, thence m.

Against exact one-neuron chains the signed error of the closure is predicted to some 20 % wherever it is not
dominated by rare events (docs/theory.md), so the correction is applied, and its size is the error estimate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._lyapunov import Lyapunov

Array = NDArray[np.float64]

PER_STRIDE = 4  #: fewest lags summed at one stride before it doubles
SMOOTH = 0.1  #: largest relative curvature from lag to lag at which the stride may double
EVALUATIONS = 160


@dataclass
class Correction:
    """Corrections of the mean of f by skewness and by the covariance, of the mean and of the covariance."""

    skewness: Array  #: (N,), M3 T(o, o, o) / 6
    variance: Array  #: (N,), M2 dS / 2
    m: tuple[Array, Array]  #: the two parts of the correction of the mean, each (N,)
    C: Array  #: (N, N)
    converged: bool  #: whether the sum over lags was carried to its end


def correct(net: Network, C: Array, a: Array, s: Array, G: Array, variance: Array) -> Correction:
    """The leading correction to the closure solution (C; a, s, G), with `variance` = sigma^2 (N,)."""
    N = net.N
    g = np.broadcast_to(net.gamma, (N,))
    rate = net.form == "rate"
    O, U = (net.W, np.diag(g)) if rate else (np.eye(N), g[:, None] * net.W)
    J = np.diag(1 - g) + U @ np.diag(G) @ O
    M2, M3 = _derivatives(net, a, s)
    P = J @ C @ O.T
    if rate and net.placement == "in":
        P[np.diag_indices(N)] += g * G * variance
    third, mixed, converged = _third_cumulants(J, O, U, P, M2)
    dX = 0.5 * mixed * M2
    dy = G[:, None] * (O @ dX)
    dQ = dy + dy.T
    if not rate:
        dX, dQ = dX @ net.W.T, net.W @ dQ @ net.W.T
    cross = (1 - g)[:, None] * dX * g
    dC = Lyapunov(J, np.float32).solve(cross + cross.T + np.outer(g, g) * dQ, 1e-5)
    skewness = M3 * third / 6
    spread = 0.5 * M2 * np.einsum("ij,ij->i", O @ dC, O)
    carry = np.eye(N) - (G[:, None] * net.W if rate else net.W * G)
    parts = np.column_stack([skewness, spread])
    m = np.linalg.solve(carry, parts if rate else net.W @ parts)
    return Correction(skewness, spread, (m[:, 0], m[:, 1]), dC, converged)


def _derivatives(net: Network, a: Array, s: Array) -> tuple[Array, Array]:
    """M2 and M3 from the Hermite coefficients: d^k M / da^k = c_k sqrt(k!) / s^k (0 where s is)."""
    c = net.activation.hermite(a, s, 3)
    inverse = np.where(s > 0, 1 / np.where(s > 0, s, 1.0), 0.0)
    return sqrt(2) * c[:, 2] * inverse**2, sqrt(6) * c[:, 3] * inverse**3


def _third_cumulants(J: NDArray, O: NDArray, U: NDArray, P: NDArray, M2: NDArray) -> tuple[Array, Array, bool]:
    """T(o_i, o_i, o_i) (N,) and T(h_j, o_i, o_i) (N, N), summed over lags at strides 1, 2, 4, ...

    Where the terms vary smoothly from lag to lag the trapezoid rule doubles its stride; where they do not
    (fast or oscillating modes) every lag counts. Float32 is more than the estimate needs.
    """
    scale, size = float(np.abs(P).max()), float(np.abs(M2).max())
    if scale == 0.0 or size == 0.0:
        return np.zeros(len(J)), np.zeros_like(J), True
    power, O, U, weights = (x.astype(np.float32) for x in (J, O, U, M2 / size))
    D = np.eye(len(J), dtype=np.float32)
    right = np.hstack([(P / scale).astype(np.float32), U])
    third, mixed = np.zeros(len(J), np.float32), np.zeros(J.shape, np.float32)
    stride, count, since = 1, len(J), 0
    recent: list[NDArray] = []
    converged = False
    for _ in range(EVALUATIONS):
        B = D @ right
        F, E = np.hsplit(O @ B, 2)
        FE, FF = F * E, F * F
        d3 = 3 * np.einsum("ij,ij,j->i", FF, E, weights)
        dm = (2 * B[:, :count] * weights) @ FE.T + (B[:, count:] * weights) @ FF.T
        recent = [*recent[-2:], np.concatenate([d3, np.diag(dm)])]
        since += 1
        widen = since >= PER_STRIDE and _smooth(recent)
        weight = 1.5 * stride if widen else 1.0 * stride
        third += weight * d3
        mixed += weight * dm
        if not np.isfinite(mixed).all():
            break
        converged = bool(
            stride * np.abs(d3).max() <= 5e-3 * np.abs(third).max()
            and stride * np.abs(dm).max() <= 5e-3 * np.abs(mixed).max()
        )
        if converged:
            break
        if widen:
            stride, since = 2 * stride, 0
            power = power @ power
        D = D @ power
    return size * scale**2 * third.astype(float), size * scale**2 * mixed.astype(float), converged


def _smooth(terms: list[NDArray]) -> bool:
    """Whether the middle one of three successive terms lies near the mean of its neighbours."""
    before, middle, after = terms
    return bool(np.abs(middle - (before + after) / 2).max() <= SMOOTH * np.abs(middle).max())
