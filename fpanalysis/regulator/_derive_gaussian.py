"""Gaussian moments of ReLU by integration: M, G, V, the third cumulant K, and Stein's lemma."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import E, G, M, Phi, V, a, f, in_normal, phi, r, s, x, xi


@dataclass(frozen=True)
class Smoothing:
    """M, G, V and the third cumulant K of max(a + s xi, 0), as expressions in a and s, and how they came about."""

    M: Any
    G: Any
    V: Any
    K: Any
    steps: tuple[Step, ...]

    def at(self, expression: Any, mean: Any, deviation: Any) -> Any:
        return expression.subs({a: mean, s: deviation}, simultaneous=True)


def over_the_kink(integrand: Any) -> Any:
    """Integral over x > -r of a polynomial in x times phi(x), in Phi(r) and phi(r)."""
    terms = sp.Poly(sp.expand(integrand), x).terms()
    return sp.expand(sum(c * _power_over_the_kink(k) for (k,), c in terms))


@cache
def _power_over_the_kink(k: int) -> Any:
    density = sp.exp(-(x**2) / 2) / sp.sqrt(2 * sp.pi)
    return in_normal(sp.expand(sp.integrate(x**k * density, (x, -r, sp.oo))))


@cache
def smoothing() -> Smoothing:
    """The moments, each power of f integrated over x > -r after the substitution a = r s."""
    raw = [over_the_kink((s * (r + x)) ** n) for n in range(4)]
    stein = over_the_kink(x * s * (r + x))
    back = {r: a / s}
    mean, square, cube = (sp.expand(e.subs(back)) for e in raw[1:])
    gain = sp.expand(sp.diff(mean, a))
    variance = sp.collect(sp.expand(square), Phi(a / s)) - M(a, s) ** 2
    third = cube - 3 * square * mean + 2 * mean**3
    if sp.expand(stein.subs(back) - s * gain) != 0:
        raise ArithmeticError("the integral of x f(a + s x) phi(x) is not s dM/da")
    named = {M(a, s): mean}
    steps = _steps(raw, mean, gain, variance, stein)
    return Smoothing(mean, gain, variance.subs(named), third, steps)


def _steps(raw: list[Any], mean: Any, gain: Any, variance: Any, stein: Any) -> tuple[Step, ...]:
    top = (x, -r, sp.oo)
    whole = sp.Integral(sp.Max(a + s * x, 0) * phi(x), (x, -sp.oo, sp.oo))
    split = sp.Integral(s * (r + x) * phi(x), top)
    return (
        Step(
            "Gaussian smoothing",
            "`M(a, s)` is the mean of f when normal noise of standard deviation s is added to `a`; phi is the standard "
            "normal density. With `a = r s` the integrand vanishes for `x < -r`, the kink, and is linear beyond it.",
            (
                sp.Eq(M(a, s), whole, evaluate=False),
                sp.Eq(M(a, s), split),
                sp.Eq(M(a, s), raw[1]),
                sp.Eq(M(a, s), mean),
            ),
        ),
        Step(
            "Gain",
            "The slope of the smoothed activation is the probability of being above the kink.",
            (sp.Eq(G(a, s), sp.Derivative(M(a, s), a)), sp.Eq(G(a, s), gain)),
        ),
        Step(
            "Transmitted variance",
            "The second moment by the same integral, less the square of the mean.",
            (
                sp.Eq(V(a, s), sp.Integral((s * (r + x)) ** 2 * phi(x), top) - M(a, s) ** 2),
                sp.Eq(V(a, s), variance),
            ),
        ),
        Step(
            "Stein's lemma",
            "The covariance of f with the noise in it: the integral is `s G`, so the input's noise passes as "
            "through a linear unit of gain G.",
            (
                sp.Eq(E(xi * f(a + s * xi)), sp.Integral(x * s * (r + x) * phi(x), top)),
                sp.Eq(E(xi * f(a + s * xi)), sp.expand(stein.subs(r, a / s))),
            ),
        ),
    )
