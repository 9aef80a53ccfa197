"""What a Gaussian closure neglects: the third and fourth cumulants of the state, and what they do to m and C.

Let J be the Jacobian of the smoothed step, o = O (h - m) what recurrence brings into f (O = W in the rate form, I in
the current form), U the way from f into the step (diag g, or diag(g) W), n_e the nonlinear part of f_e and n_pq its
moments (`_nonlinear`), P_ae the covariance of (the linear part of h')_a and the input of f_e. For a Gaussian h
every step makes the cumulants

    third   sum_e M2_e P_ae P_be U_ce + n12_e P_ae U_be U_ce + ... + n03_e U_ae U_be U_ce          (all placements)
    fourth  sum_e M3_e P P P U + n22_e P P U U + n13_e P U U U + n04_e U U U U                      (likewise)

exactly but for products of the n of different neurons, and the linear dynamics carries them on:
T = sum_n (J^n x J^n x J^n) third, K likewise. With E = O J^n U, F = O J^n P only these contractions are formed, by
N x N products:

    T(h_j, o_i, o_i) = sum_n [J^n P (2 M2 F E + n12 E^2)^T + J^n U (M2 F^2 + 2 n12 F E + n03 E^2)^T]_ji
    K(h_j, o_i, o_i, o_i) = sum_n [J^n P (3 M3 F^2 E + 3 n22 F E^2 + n13 E^3)^T
                                   + J^n U (M3 F^3 + 3 n22 F^2 E + 3 n13 F E^2 + n04 E^3)^T]_ji

To first order in T (Edgeworth), with t_i = T(o_i, o_i, o_i), they add to E f_i, Cov(h_j, f_i) and Var f_i

    M3_i t_i / 6,     M2_i T(h_j, o_i, o_i) / 2 + M4_i Cov(h_j, o_i) t_i / 6,     W3_i t_i / 6

and to second order, with k_i = K(o_i, o_i, o_i, o_i),

    M4_i k_i / 24 + M6_i t_i^2 / 72,     W4_i k_i / 24 + W6_i t_i^2 / 72,
    M3_i K(h_j, o_i, o_i, o_i) / 6 + M5_i [Cov(h_j, o_i) k_i / 24 + T(h_j, o_i, o_i) t_i / 12]
                                   + M7_i Cov(h_j, o_i) t_i^2 / 72.

The first order corrects the closure; the second, which leaves out how T makes K, measures what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._nonlinear import Nonlinear

Array = NDArray[np.float64]

PER_STRIDE = 4  #: fewest lags summed at one stride before it doubles
END = 1e-2  #: size of the last term and of the tail beyond it, relative to the sum, at which the sum ends
SMOOTH = 0.1  #: largest relative curvature from lag to lag at which the stride may double
EVALUATIONS = 160


@dataclass(frozen=True)
class Cumulants:
    """Third and fourth cumulants of the state with the inputs o of f."""

    t: Array  #: (N,), T(o_i, o_i, o_i)
    T: Array  #: (N, N), T(h_j, o_i, o_i)
    k: Array  #: (N,), K(o_i, o_i, o_i, o_i)
    K: Array  #: (N, N), K(h_j, o_i, o_i, o_i)
    converged: bool  #: whether the sum over lags was carried to its end


@dataclass(frozen=True)
class Source:
    """What enters the closure equations beside the Gaussian terms."""

    f: Array  #: (N,), of E f
    R: Array  #: (N, N), of the covariance equation
    Q: Array  #: (N, N), of Cov f, which R has passed on


class Additions(NamedTuple):
    """What cumulants add to E f_i (N,), Cov(h_j, f_i) (N, N) and Var f_i (N,)."""

    f: Array
    X: Array
    V: Array


def first_additions(x: Nonlinear, q: Cumulants, c: Array) -> Additions:
    """To first order in the third cumulants, with c = Cov(h_j, o_i)."""
    M, t = x.M, q.t
    return Additions(M[3] * t / 6, M[2] / 2 * q.T + M[4] * t / 6 * c, x.W[3] * t / 6)


def second_additions(x: Nonlinear, q: Cumulants, c: Array) -> tuple[Additions, Additions]:
    """To first order in the fourth cumulants, and to second order in the third."""
    M, W, t, k = x.M, x.W, q.t, q.k
    return (
        Additions(M[4] * k / 24, M[3] / 6 * q.K + M[5] * k / 24 * c, W[4] * k / 24),
        Additions(M[6] * t**2 / 72, M[5] * t / 12 * q.T + M[7] * t**2 / 72 * c, W[6] * t**2 / 72),
    )


def first_order(net: Network, C: Array, G: Array, x: Nonlinear, q: Cumulants) -> Source:
    """The terms of first order in the third cumulants, at the covariance C."""
    return _source(net, G, *first_additions(x, q, _with_inputs(net, C)))


def second_order(net: Network, C: Array, G: Array, x: Nonlinear, q: Cumulants) -> tuple[Source, Source]:
    """The terms of first order in the fourth cumulants, and those of second order in the third."""
    fourth, third = second_additions(x, q, _with_inputs(net, C))
    return _source(net, G, *fourth), _source(net, G, *third)


def _with_inputs(net: Network, C: Array) -> Array:
    """Cov(h_j, o_i)."""
    return C @ net.W.T if net.form == "rate" else C


def _source(net: Network, G: Array, f: Array, X: Array, V: Array) -> Source:
    """From what is added to E f_i, Cov(h_j, f_i) and Var f_i."""
    rate = net.form == "rate"
    Q = G[:, None] * (net.W @ X if rate else X)
    Q = Q + Q.T
    np.fill_diagonal(Q, V)
    arriving = Q
    if not rate:
        X, arriving = X @ net.W.T, net.W @ Q @ net.W.T
    g = np.broadcast_to(net.gamma, (net.N,))
    cross = (1 - g)[:, None] * X * g
    return Source(f, cross + cross.T + np.outer(g, g) * arriving, Q)


def cumulants(net: Network, J: Array, C: Array, G: Array, x: Nonlinear, variance: Array) -> Cumulants:
    """T and K at the covariance C, with `variance` = sigma^2 (N,)."""
    N = net.N
    g = np.broadcast_to(net.gamma, (N,))
    rate = net.form == "rate"
    O, U = (net.W, np.diag(g)) if rate else (np.eye(N), g[:, None] * net.W)
    P = J @ C @ O.T if rate else J @ C
    if rate and net.placement == "in":
        P[np.diag_indices(N)] += g * G * variance
    # units of the state, of o and of n in which no float32 over- or underflows
    h = float(np.sqrt(np.diag(C).max(initial=0.0)))
    o = h * float(np.abs(O).max(initial=0.0))
    n = float(np.sqrt(x.n02.max(initial=0.0)))
    if h == 0.0 or o == 0.0 or n == 0.0:
        zero = np.zeros(N)
        return Cumulants(zero, np.zeros((N, N)), zero, np.zeros((N, N)), True)
    third = x.M[2] * o**2 / n, x.n12 * o / n**2, x.n03 / n**3
    fourth = x.M[3] * o**3 / n, x.n22 * o**2 / n**2, x.n13 * o / n**3, x.n04 / n**4
    power, inputs, *start = (v.astype(np.float32) for v in (J, O * (h / o), P / (h * o), U * (n / h)))
    T, K, converged = _sum_over_lags(
        power,
        inputs if rate else None,
        np.hstack(start),
        [v.astype(np.float32) for v in third],
        [v.astype(np.float32) for v in fourth],
    )
    T, K = T.astype(float), K.astype(float)
    t, k = ((O * (h / o) * part.T).sum(axis=1) for part in (T, K))
    return Cumulants(t * o**3, T * h * o**2, k * o**4, K * h * o**3, converged)


def _sum_over_lags(
    power: NDArray, O: NDArray | None, B: NDArray, third: Sequence[NDArray], fourth: Sequence[NDArray]
) -> tuple[NDArray, NDArray, bool]:
    """T(h_j, o_i, o_i) and K(h_j, o_i, o_i, o_i), (N, N) each, summed over lags at strides 1, 2, 4, ... of J = power.

    B = (P, U), (N, 2 N), is carried from lag to lag; O is None where it is the identity.

    Where the terms vary smoothly from lag to lag the trapezoid rule doubles its stride, with the end correction of
    Euler and Maclaurin, -(stride^2 / 12) times the slope, at the change; where they do not (fast or oscillating
    modes) every lag counts. The tail is taken as geometric. Float32 is more than the correction needs.
    """
    N = len(B)
    total = np.zeros(B.shape, np.float32)
    stride = 1
    terms: list[NDArray] = []  # at the present stride
    for _ in range(EVALUATIONS):
        OB = B if O is None else O @ B
        terms.append(lag_term(B, OB[:, :N], OB[:, N:], third, fourth))
        total += stride * terms[-1]
        if not np.isfinite(total).all():
            break
        ratio = _ratio(terms)
        if stride * max(1.0, ratio / (1 - ratio)) * np.abs(terms[-1]).max() <= END * np.abs(total).max():
            total += stride * ratio / (1 - ratio) * terms[-1]
            return total[:, :N], total[:, N:], True
        if len(terms) > PER_STRIDE and _smooth(terms):
            total += stride / 8 * (7 * terms[-1] - 4 * terms[-2] + terms[-3])
            stride, terms = 2 * stride, [terms[-1]]
            power = power @ power
        B = power @ B
        del terms[:-6]
    return total[:, :N], total[:, N:], False


def _ratio(terms: list[NDArray]) -> float:
    """By what the last term is smaller than the one before, in norm."""
    if len(terms) < 2:
        return 0.9
    return float(np.clip(np.linalg.norm(terms[-1]) / max(float(np.linalg.norm(terms[-2])), 1e-38), 0.0, 0.9))


def lag_term(B: NDArray, F: NDArray, E: NDArray, third: Sequence[NDArray], fourth: Sequence[NDArray]) -> NDArray:
    """The terms of T and of K at one lag, side by side, (J, 2 I); B = (J^n P, J^n U), (J, 2 n_e), F and E (I, n_e)."""
    n_e = F.shape[1]
    M2, n12, n03 = third
    M3, n22, n13, n04 = fourth
    FF, FE, EE = F * F, F * E, E * E
    by_P = np.vstack([2 * M2 * FE + n12 * EE, (3 * M3 * FF + 3 * n22 * FE + n13 * EE) * E])
    by_U = np.vstack([M2 * FF + 2 * n12 * FE + n03 * EE, (M3 * FF + 3 * n22 * FE + 3 * n13 * EE) * F + n04 * EE * E])
    return B[:, :n_e] @ by_P.T + B[:, n_e:] @ by_U.T


def _smooth(terms: list[NDArray]) -> bool:
    """Whether the middle one of the last three terms lies near the mean of its neighbours."""
    before, middle, after = (np.diagonal(term) for term in terms[-3:])
    return bool(np.abs(middle - (before + after) / 2).max() <= SMOOTH * np.abs(middle).max())
