"""The law of a ReLU neuron with noise out as two half normal laws joined at the kink, with an error.

In x = w h + b the chain is linear on either side of x = 0, with q = 1 - w the laws of the sides are

    above    normal about x0 = b / q,    S+ = gamma (w sigma)^2 / [q (2 - gamma q)]
    below    normal about b,             S- = gamma (w sigma)^2 / (2 - gamma)

each cut off at the kink; E x = b + w E f(x) gives the density above the kink over that below, A = S- / (q S+). So

    m = E f(x) = A (S+ + Z+ x0) / N,    m - h0 = (S- - Z- b) / (q N)  for b > 0,    N = A Z+ + Z-
    Z+ = sqrt(2 pi S+) exp(x0^2 / 2 S+) Phi(x0 / sqrt S+),    Z- = sqrt(2 pi S-) exp(b^2 / 2 S-) Phi(-b / sqrt S-)

(derived in `_derive_relu_out`). Steps are short against the width of the law, so that only the neighbourhood of the
kink is wrong: the relative error of the shift is of order gamma^2. In the tails, where crossings are rare, it is
gamma^2 |w| q x0^2 / 24 S+ (and gamma^2 |w| b^2 / 24 S- below): the first Euler-Maclaurin term of the sum over the steps
since a crossing, each of which kicks the state by gamma w x. At the kink gamma^2 w^2 / 100 was measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erfc, exp, pi, sqrt

from scipy.special import erfcx

LEAP = 1.0  #: gamma q up to which the step does not leap over the fixed point above the kink
SAFETY = 2.5  #: stated error over its leading order; times 1 + gamma q for the orders left out
TAIL, KINK = 1 / 24, 0.01  #: of gamma^2 |w| q x0^2 / S and of gamma^2 w^2
SPREAD = 0.025  #: the relative error of the variance in units of gamma^2 w^2, measured
ROUNDING = 2e-15  #: relative


@dataclass(frozen=True)
class Halves:
    """Mean and variance of h with their errors."""

    mean: float
    variance: float
    error: float
    variance_error: float


def halves(w: float, b: float, gamma: float, sigma: float) -> Halves | None:
    """The law, for w < 1 and sigma > 0; None where a step may leap over the fixed point."""
    q = 1 - w
    if not (w != 0 and 0 < gamma * q <= LEAP):
        return None
    S_above, S_below = gamma * (w * sigma) ** 2 / (q * (2 - gamma * q)), gamma * (w * sigma) ** 2 / (2 - gamma)
    A = S_below / (q * S_above)
    # mass and first moment of each side, in units of the larger of the two exponentials
    r, t = b / q / sqrt(S_above), -b / sqrt(S_below)
    unit = max(r, t, 0.0) ** 2 / 2
    Z_above, first_above = (A * value for value in _side(r, S_above, unit))
    Z_below, first_below = _side(t, S_below, unit)
    N = Z_above + Z_below
    shift = first_below / (q * N) if b > 0 else first_above / N
    x = (first_above - first_below) / N
    second = S_above * Z_above + b / q * first_above + S_below * Z_below - b * first_below
    v = (second / N - x**2) / w**2
    reach = q * r**2 if b > 0 else t**2
    growth = SAFETY * gamma**2 * abs(w) * (1 + gamma * q)
    m = max(b, 0.0) / q + shift
    error = growth * (TAIL * reach + KINK * abs(w)) * shift + ROUNDING * (1 + m) / q
    variance_error = (growth * SPREAD * abs(w) + ROUNDING) * v + ROUNDING * (x / w) ** 2
    return Halves(m, v, error, variance_error)


def _side(r: float, S: float, unit: float) -> tuple[float, float]:
    """Z = sqrt(2 pi S) exp(r^2 / 2) Phi(r) and S + Z r sqrt(S), the integrals of exp(r^2 / 2 - (x / sqrt S - r)^2 / 2)
    and of x times it over x > 0, both times exp(-unit)."""
    if r > 0:
        Z = sqrt(pi * S / 2) * exp(r**2 / 2 - unit) * erfc(-r / sqrt(2))
        return Z, S * exp(-unit) + Z * r * sqrt(S)
    mills = sqrt(pi / 2) * float(erfcx(-r / sqrt(2)))
    return sqrt(S) * mills * exp(-unit), S * (1 + r * mills) * exp(-unit)
