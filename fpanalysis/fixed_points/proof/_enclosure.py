"""Enclosures over many boxes at once: the outward-rounded arithmetic behind the interval proof.

Fixed points of both forms satisfy x = W f(x) + c. With W = U V^T + E and kappa = V^T f(x) they are the zeros of

    G(kappa) = V^T f(x(kappa)) - kappa,      x(kappa) = U kappa + c + E f(x(kappa)),

r equations instead of N; x(kappa) is one point because |E| sup f' < 1. A box is kappa = m + k, |k| <= rad. On the
interval that it gives each x_n, f(x_n) is replaced by a line of slope a_n and a band e_n, so that zeros satisfy

    (I - S) k = q + V^T eta,      S = V^T A U,      |eta| <= e,

which Y ~ (I - S)^-1 turns into |k - Y q| <= |Y V^T| e: the error is of second order in the box, and each neuron's
share of it is taken after Y V^T is multiplied out. If all k allowed by this lie inside the box, it holds a zero
(Brouwer). It holds one at most if I - Y (I - V^T D U) contracts for all slopes D that occur in it (Krawczyk).

Rounding: one operation errs by at most EPS / 2 of its result, a sum of n products by at most n EPS / 2 (1 + n EPS)
of the sum of their absolute values; `rounding(n)` = n EPS leaves the other half for what is of second order.
Sources: A. Neumaier, Interval Methods for Systems of Equations (1990), chapter 5; lines with bands as in affine
arithmetic (Stolfi and de Figueiredo 1997).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)
TINY = 1e-290  #: more than what underflow can lose in any sum here
NARROW = 1e-8  #: width of x below which the chord's slope is mostly rounding, and f' in the middle is taken


def rounding(n: int) -> float:
    """Relative bound for a sum of n products."""
    return n * EPS


class Band(NamedTuple):
    """|f(x) - centre - a (x - mid)| <= e."""

    centre: Array
    a: Array
    e: Array


def band(activation: Activation, lo: Array, hi: Array, mid: Array) -> Band:
    """A line and its greatest distance from f over lo <= x <= hi, elementwise, lo < hi.

    g = f - a (x - mid) is convex up to `slope_peak` and concave beyond it. So its extremes are at the ends, or
    they are bounded by the tangent at any t: from below up to the peak, from above beyond it; tightly if f'(t) ~ a.
    """
    peak = activation.slope_peak
    assert peak is not None
    left, right = activation.f(lo), activation.f(hi)
    width = hi - lo
    a = (right - left) / width
    narrow = width < NARROW
    if narrow.any():
        a[narrow] = activation.df(mid[narrow])
    across = (lo < peak) & (hi > peak)
    if across.any():  # between the chord and the steepest tangent: nearer the best line through an S
        a[across] += 0.25 * (activation.df(np.array(peak)) - a[across])
    g_lo, g_hi = left - a * (lo - mid), right - a * (hi - mid)
    top, bottom = np.maximum(g_lo, g_hi), np.minimum(g_lo, g_hi)
    before, beyond = activation.slope_inverse(a)
    convex, concave = lo < peak, hi > peak
    if convex.any():
        parts = (v[convex] for v in (before, a, lo, np.minimum(hi, peak), mid))
        bottom[convex] = np.minimum(bottom[convex], _tangent(activation, *parts, sign=1))
    if concave.any():
        parts = (v[concave] for v in (beyond, a, np.maximum(lo, peak), hi, mid))
        top[concave] = np.maximum(top[concave], _tangent(activation, *parts, sign=-1))
    size = np.maximum(np.abs(top), np.abs(bottom)) + np.abs(a) * width
    return Band((top + bottom) / 2, a, (top - bottom) / 2 + ((activation.ulps + 6) * EPS * size + TINY))


def _tangent(activation: Activation, t: Array, a: Array, lo: Array, hi: Array, mid: Array, *, sign: int) -> Array:
    """Lower bound over [lo, hi] of a convex g (sign 1), upper bound of a concave one (sign -1)."""
    t = np.clip(t, lo, hi)
    if activation.smooth:
        s_lo = s_hi = activation.df(t)
    else:
        _, _, s_lo, s_hi = activation.ranges(t, t)
    unsure = 2 * activation.ulps * EPS * np.maximum(np.abs(s_lo), np.abs(s_hi)) + TINY
    rise, fall = np.maximum(s_lo - a, 0) + unsure, np.maximum(a - s_hi, 0) + unsure
    toward_lo, toward_hi = (rise, fall) if sign > 0 else (fall, rise)
    slack = np.maximum(toward_lo * (t - lo), toward_hi * (hi - t)) * (1 + 4 * EPS)
    return activation.f(t) - a * (t - mid) - sign * slack


@dataclass(frozen=True, eq=False)
class Reduced:
    """The r equations: |x(kappa) - U kappa - c| <= delta for |kappa| <= reach."""

    activation: Activation
    U: Array  #: (N, r)
    V: Array  #: (N, r)
    c: Array  #: (N,)
    delta: Array  #: (N,), from E and from the rounding of c
    reach: Array  #: (r,)
    zeta: float  #: |(I - E D)^-1 U - U| <= zeta for all slopes D
    noise: Array = field(init=False)  #: (N,), delta and the rounding of U kappa + c
    products: Array = field(init=False)  #: (N, r r), V_ni U_nj
    size: Array = field(init=False)  #: (r, r), |V|^T |U|

    def __post_init__(self) -> None:
        N, r = self.U.shape
        noise = self.delta + rounding(r + 4) * (np.abs(self.U) @ self.reach + np.abs(self.c)) + TINY
        products = (self.V[:, :, None] * self.U[:, None, :]).reshape(N, r * r)
        object.__setattr__(self, "noise", noise * (1 + rounding(4)))
        object.__setattr__(self, "products", products)
        object.__setattr__(self, "size", np.abs(products).sum(axis=0).reshape(r, r))

    def interval(self, mid: Array, rad: Array) -> tuple[Array, Array, Array]:
        """Lower ends, upper ends and middles of x over the boxes, (K, N) each; |mid| <= reach."""
        x = mid @ self.U.T + self.c
        radius = (rad @ np.abs(self.U).T + self.noise) * (1 + rounding(len(self.reach) + 6))
        return np.nextafter(x - radius, -np.inf), np.nextafter(x + radius, np.inf), x

    def contract_sums(self, D: Array) -> Array:
        """V^T D U for diagonals D (K, N): (K, r, r)."""
        r = len(self.reach)
        return (D @ self.products).reshape(-1, r, r)


class Linear(NamedTuple):
    """(I - S) k = q + V^T eta over each box, |eta| <= e, with S known to dS and q to dq; `rad` is the box."""

    rad: Array
    lo: Array
    hi: Array
    S: Array
    dS: Array
    q: Array
    dq: Array
    e: Array
    spread: Array  #: (K, r), |V|^T e


def linearise(P: Reduced, mid: Array, rad: Array) -> Linear:
    """The equations over the boxes mid +- rad, (K, r) each."""
    lo, hi, x = P.interval(mid, rad)
    line = band(P.activation, lo, hi, x)
    size = np.abs(line.a)
    e = line.e + size * P.noise
    err = rounding(len(P.U) + 4)
    q = line.centre @ P.V - mid
    dq = err * (np.abs(line.centre) @ np.abs(P.V) + np.abs(mid)) + TINY
    dS = err * size.max(axis=1)[:, None, None] * P.size
    return Linear(rad, lo, hi, P.contract_sums(line.a), dS, q, dq, e, (e @ np.abs(P.V)) * (1 + err))


def plain_image(L: Linear) -> tuple[Array, Array]:
    """Centre and radius, (K, r), of k = q + S k + V^T eta."""
    radius = _apply(np.abs(L.S) + L.dS, L.rad) + L.spread + L.dq
    return L.q, radius * (1 + rounding(L.q.shape[1] + 6))


def refutes(L: Linear) -> NDArray[np.bool_]:
    """(K,), boxes in which some row of (I - S) k = q + V^T eta has no solution."""
    A = np.abs(np.eye(L.q.shape[1]) - L.S) + L.dS
    most = (_apply(A, L.rad) + L.spread + L.dq) * (1 + rounding(L.q.shape[1] + 6))
    return np.asarray((np.abs(L.q) > most).any(axis=1))


def newton_image(P: Reduced, L: Linear) -> tuple[Array, Array, Array, Array]:
    """Centre and radius of k = Y q + Y V^T eta + (I - Y (I - S)) k, with Y (K, r, r) and |Y V^T| (K, r, N)."""
    N, r = P.U.shape
    A = np.eye(r) - L.S
    try:
        Y = np.asarray(np.linalg.inv(A), np.float64)
    except np.linalg.LinAlgError:  # some box is exactly singular; any Y encloses
        Y = np.asarray(np.linalg.pinv(np.nan_to_num(A)), np.float64)
    YV = np.abs((Y.reshape(-1, r) @ P.V.T).reshape(-1, r, N))
    err = rounding(r + 4)
    radius = _apply(YV, L.e) + _apply(np.abs(Y), err * (L.spread + np.abs(L.q)) + L.dq)
    radius += _apply(_defect(Y, L.S, L.dS), L.rad)
    return _apply(Y, L.q), radius * (1 + rounding(N + 16)), Y, YV


def contracts(P: Reduced, L: Linear, Y: Array, YV: Array) -> NDArray[np.bool_]:
    """(K,), whether |I - Y (I - V^T D (I - E D)^-1 U)| rad < rad for all slopes D: at most one zero in the box."""
    N, r = P.U.shape
    _, _, d_lo, d_hi = P.activation.ranges(L.lo, L.hi)
    most = np.maximum(np.abs(d_lo), np.abs(d_hi))
    half = (d_hi - d_lo) / 2 + 4 * EPS * most + TINY
    dS = rounding(N + 4) * most.max(axis=1)[:, None, None] * P.size
    B = _defect(Y, P.contract_sums((d_lo + d_hi) / 2), dS)
    B += (YV * half[:, None, :]) @ np.abs(P.U) + P.zeta * _apply(YV, most)[..., None]
    B += np.abs(Y) @ (rounding(r + 8) * ((most[:, None, :] * np.abs(P.V).T) @ (np.abs(P.U) + P.zeta)))
    moved = _apply(B, L.rad) * (1 + rounding(2 * N + 32))
    return np.asarray((moved < L.rad).all(axis=1))


def _defect(Y: Array, S: Array, dS: Array) -> Array:
    """Upper bound of |I - Y (I - S')| for |S' - S| <= dS."""
    r = S.shape[1]
    eye = np.eye(r)
    return np.abs(eye - Y @ (eye - S)) + np.abs(Y) @ (dS + rounding(2 * r + 8) * (eye + np.abs(S))) + rounding(4) * eye


def _apply(A: Array, v: Array) -> Array:
    return np.asarray((A @ v[..., None])[..., 0])
