"""What one neuron's law has beyond a Gaussian: third and fourth cumulants by a closed formula, and what they do.

With J = 1 - gamma + gamma w G the slope of the smoothed step, P = J w v + gamma G sigma^2 [noise in] the covariance of
its linear part with the input of f, and the moments M_k, W_k, n_pq of f at (a, s) (`fpanalysis.stationary._nonlinear`),
the cumulants of h are, to first order in the nonlinearity of one step,

    K3 = (3 M_2 P^2 gamma + 3 n_12 P gamma^2 + n_03 gamma^3) / (1 - J^3)
    K4 = (4 M_3 P^3 gamma + 6 n_22 P^2 gamma^2 + 4 n_13 P gamma^3 + n_04 gamma^4) / (1 - J^4)

and with t = w^3 K3, k = w^4 K4, c = w v they add to E f, Cov(h, f) and Var f, by Edgeworth's series,

    third order     M_3 t/6,                   M_2 w^2 K3/2 + M_4 c t/6,                               W_3 t/6
    fourth order    M_4 k/24 + M_6 t^2/72,     M_3 w^3 K4/6 + M_5 (c k/24 + t w^2 K3/12) + M_7 c t^2/72,
                                                                                       W_4 k/24 + W_6 t^2/72

`fpanalysis.stationary._cumulants` has the same for N neurons, as sums over lags.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.regulator._single_balance import Array, Balance, Cases, Excess
from fpanalysis.stationary._nonlinear import nonlinear_moments

FAR = 4.0  #: standard deviations at which rare events happen
TAILS = 0.1  #: least relative error of the probability of rare events


@dataclass(frozen=True)
class Shape:
    """What the law has beyond a Gaussian, (K,) each."""

    third: Excess  #: from K3
    fourth: Excess  #: from K4
    square: Excess  #: from K3^2
    bend: Array  #: M_2, by which a change of s^2 enters E f: half of it
    rare: Array  #: what events beyond three standard deviations may add to E f


def shape(cases: Cases, plain: Balance) -> Shape:
    """The cumulants at the Gaussian solution `plain`, and what they add to the balance."""
    x = nonlinear_moments(cases.f, plain.a, plain.s)
    w, g, v = cases.w, cases.gamma, plain.v
    J = slope(cases, plain)
    P = J * w * v + (g * plain.moments.G * cases.sigma**2 if cases.inside else 0.0)
    with np.errstate(all="ignore"):
        K3 = g * (3 * x.M[2] * P**2 + 3 * x.n12 * P * g + x.n03 * g**2) / (1 - J**3)
        K4 = g * (4 * x.M[3] * P**3 + 6 * x.n22 * P**2 * g + 4 * x.n13 * P * g**2 + x.n04 * g**3) / (1 - J**4)
        t, k, c = w**3 * K3, w**4 * K4, w * v
        third = Excess(x.M[3] * t / 6, x.M[2] * w**2 * K3 / 2 + x.M[4] * c * t / 6, x.W[3] * t / 6)
        fourth = Excess(x.M[4] * k / 24, x.M[3] * w**3 * K4 / 6 + x.M[5] * c * k / 24, x.W[4] * k / 24)
        crossed = x.M[5] * t * w**2 * K3 / 12 + x.M[7] * c * t**2 / 72
        square = Excess(x.M[6] * t**2 / 72, crossed, x.W[6] * t**2 / 72)
        rare = _rare(cases, plain, x.rare, t, k)
    return Shape(third, fourth, square, x.M[2], rare)


def slope(cases: Cases, plain: Balance) -> Array:
    """J, the slope of the smoothed step."""
    return np.asarray(1 - cases.gamma + cases.gamma * cases.w * plain.moments.G)


def sizes(cases: Cases, plain: Balance, beyond: Shape) -> tuple[Array, Array]:
    """How much the terms of fourth order move m and v, the terms' sizes added up."""
    g, J = cases.gamma, slope(cases, plain)
    with np.errstate(all="ignore"):
        # a rare event finds h about FAR deviations from its mean: so much it adds to Cov(h, f)
        df, dv = beyond.rare, 2 * g * (1 - g) * FAR * np.sqrt(plain.v) * beyond.rare / (1 - J**2)
        for part in (beyond.fourth, beyond.square):
            change = np.abs(2 * g * (1 - g) * part.X + g**2 * part.V) / (1 - J**2)
            dv = dv + change
            df = df + np.abs(part.M) + np.abs(beyond.bend) / 2 * cases.w**2 * change
        return df / (1 - cases.w * plain.moments.G), dv


def _rare(cases: Cases, plain: Balance, rare: Array, t: Array, k: Array) -> Array:
    """Of what rare events do in a Gaussian, the share of recurrent variance, times how far skewness (27 / 6) and
    kurtosis (81 / 24) change such tails: at least TAILS of it and at most all."""
    s2 = np.maximum(plain.s**2, 1e-100)
    direct = cases.sigma**2 / s2 if cases.inside else np.zeros(s2.shape)
    change = TAILS + 4.5 * np.abs(t) / s2**1.5 + 3.4 * np.abs(k) / s2**2
    return np.asarray(rare * np.maximum(1 - direct, 0) * np.minimum(change, 1))
