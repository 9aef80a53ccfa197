"""The law of one neuron by formula: closed in the limit gamma -> 0, and at finite gamma with an error.

Slow limit: the state does not fluctuate, so a = w m + b and m = M(a, sigma) with noise in, m = f(a) with noise out.
The first order in gamma follows from the variance that recurrence returns:

    Var h = gamma V1 + O(gamma^2),        V1 = (V + sigma^2 [out]) / (2 (1 - w G))
    m = m0 + gamma m1 + O(gamma^2),       m1 = M_2 w^2 V1 / (2 (1 - w G)),     M_2 = d^2 M / da^2

Finite gamma: the closure's balance (`_single_balance`) corrected for the third cumulant of the law
(`_single_cumulants`); the fourth order, with a share of the third, is the error. For ReLU with noise out there is a
second law, two halves of normal laws joined at the kink (`_single_halves`), right for small gamma where the first is
right for small w: their mean, weighted by the inverse fourth power of their errors, so that it is nearly the better of
the two and continuous in the bias.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.regulator._single_balance import Balance, Cases, balance, operating_point
from fpanalysis.regulator._single_cumulants import shape, sizes
from fpanalysis.regulator._single_halves import Halves, halves

#: stated error over the size of the fourth order, and over the correction of third order: calibrated on random
#: neurons of three activations, both placements, gamma up to 1 and w up to 1 and down to the flip, and checked on
#: others (tests/benchmarks/bench_regulator.py)
SAFETY, SHARE = 3.0, 0.1
V_SAFETY, V_SHARE = 6.0, 0.6  #: the same for the variance
ROUNDING = 2e-15  #: of M, relative to 1 + |m|


@dataclass(frozen=True)
class SlowLimit:
    """The law to first order in gamma.

    Attributes
    ----------
    a, s : mean and standard deviation of what enters f.
    mean, shift : m0, and its distance from the noise-free fixed point.
    slope : m1, d mean / d gamma; NaN where the kink leaves none (noise out, a = 0).
    variance_slope : V1, d Var h / d gamma.
    """

    a: float
    s: float
    mean: float
    shift: float
    slope: float
    variance_slope: float


@dataclass(frozen=True)
class Formula:
    """Mean and variance at finite gamma with their errors (95 %), and the Gaussian solution that they correct."""

    a: float
    s: float
    mean: float
    variance: float
    error: float
    variance_error: float
    gaussian_mean: float
    gaussian_variance: float


def slow_limit(cases: Cases, h: float) -> SlowLimit:
    """The limit gamma -> 0 about the noise-free fixed point `h` of a single case; NaN where there is none."""
    w, sigma = float(cases.w[0]), float(cases.sigma[0])
    s = np.array([sigma if cases.inside else 0.0])
    with np.errstate(all="ignore"):
        a, moments = operating_point(cases, cases.w * h + cases.b, s, np.zeros(1))
        rate = 1 - w * float(moments.G[0])
        gap = abs(float((a - cases.w * moments.M - cases.b)[0]))
    if not (rate > 0 and gap <= 1e-9 * (sigma + abs(float(a[0])) + abs(float(cases.b[0])))):
        return SlowLimit(*[float("nan")] * 6)
    V1 = float(moments.V[0] + (0.0 if cases.inside else sigma**2)) / (2 * rate)
    m = float(moments.M[0]) if cases.inside else h  # f(a) of the fixed point, without its rounding
    slope = _bend(cases, a, s) * w**2 * V1 / (2 * rate) if w and V1 else 0.0
    return SlowLimit(float(a[0]), float(s[0]), m, m - h, slope, V1)


def _bend(cases: Cases, a: np.ndarray, s: np.ndarray) -> float:
    """M_2 = E f'' = sqrt(2) c_2 / s^2."""
    if s[0] > 0:
        return float(np.sqrt(2) * cases.f.hermite(a, s, 2)[0, 2] / s[0] ** 2)
    return float(cases.f.d2f(a)[0]) if cases.f.smooth or a[0] != 0 else float("nan")


def formula(cases: Cases, h: float) -> Formula | None:
    """The law of a single case about the noise-free fixed point `h`; None where the equations have no solution."""
    found = _corrected(cases, h)
    if cases.f.name != "relu" or cases.inside:
        return found
    other = halves(*(float(value[0]) for value in (cases.w, cases.b, cases.gamma, cases.sigma)))
    return _merged(found, other, float(cases.w[0]), float(cases.b[0])) if found and other else found


def _merged(one: Formula, other: Halves, w: float, b: float) -> Formula:
    """Both laws, weighted by how good they are."""

    def weighted(x: float, x_error: float, y: float, y_error: float) -> tuple[float, float]:
        larger = max(x_error, y_error)
        x_weight, y_weight = (y_error / larger) ** 4, (x_error / larger) ** 4
        share = x_weight / (x_weight + y_weight)
        return y + share * (x - y), y_error + share * (x_error - y_error)

    mean, error = weighted(one.mean, one.error, other.mean, other.error)
    variance, variance_error = weighted(one.variance, one.variance_error, other.variance, other.variance_error)
    a, s = w * mean + b, abs(w) * variance**0.5
    return Formula(a, s, mean, variance, error, variance_error, one.gaussian_mean, one.gaussian_variance)


def _corrected(cases: Cases, h: float) -> Formula | None:
    """The balance with the third cumulant."""
    start = np.full(1, h)
    plain = balance(cases, start)
    if not plain.found[0]:
        return None
    beyond = shape(cases, plain)
    found = balance(cases, start, beyond.third)
    if not found.found[0]:
        return None
    error, variance_error = _errors(cases, plain, found, *sizes(cases, plain, beyond))
    values = (found.a, found.s, found.m, found.v, error, variance_error, plain.m, plain.v)
    return Formula(*(float(value[0]) for value in values))


def _errors(
    cases: Cases, plain: Balance, found: Balance, dm: np.ndarray, dv: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rounding = ROUNDING * (1 + np.abs(found.m)) / (1 - cases.w * found.moments.G)
    mean = SAFETY * dm + SHARE * np.abs(found.m - plain.m) + rounding
    return mean, V_SAFETY * dv + V_SHARE * np.abs(found.v - plain.v) + 1e-9 * found.v
