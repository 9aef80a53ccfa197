"""Smooth f: the stationary moments to fourth order in sigma, from the exact moment recursions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sympy as sp

from fpanalysis.regulator import _derive_moments as moments
from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import (
    b,
    delta,
    delta_next,
    f,
    f1,
    f2,
    facing,
    gamma,
    h0,
    lam,
    m,
    sigma,
    v,
    w,
    x,
    xi,
)
from fpanalysis.regulator._derive_start import opening

if TYPE_CHECKING:
    from fpanalysis.activations import Activation

u = sp.Symbol("u", real=True)  #: deviation of what enters f

NAMES = {
    "shift": "`m - h0`, to fourth order in sigma",
    "shift_second": "`m - h0`, to second order in sigma",
    "variance": "stationary variance, to fourth order in sigma",
    "variance_second": "stationary variance, to second order in sigma",
    "third": "third moment of `h - h0`, to fourth order in sigma",
    "fourth": "fourth moment of `h - h0`, to fourth order in sigma",
    "multiplier": "lambda, the slope of the map at `h0`: the expansion needs `|lambda| < 1`",
}
OF_F = {"fixed_point": "`h0 = f(x)`", "b": "bias at which x is the noise-free operating point"}


def derive_smooth(
    placement: str, activation: Activation | None = None
) -> tuple[tuple[Step, ...], dict[str, Any], dict[str, str]]:
    """Steps, results, and what each result is; with an activation, in terms of its operating point x."""
    step, mu = moments.small_noise(placement)
    slope = 1 - gamma + gamma * w * f1
    results = {name: expression.subs(lam, slope) for name, expression in _results(mu).items()}
    results["multiplier"] = slope
    steps = (*opening(placement), *_expansion(placement, step, slope), *_orders(placement, mu))
    if activation is None:
        return steps, results, NAMES
    derivatives = [activation.sympy(x)]
    for _ in moments.TAYLOR:
        derivatives.append(sp.diff(derivatives[-1], x))
    own = dict(zip(moments.TAYLOR, derivatives[1:], strict=True))
    results = {name: expression.subs(own) for name, expression in results.items()}
    results |= {"fixed_point": derivatives[0], "b": x - w * derivatives[0]}
    last = Step(
        f"The activation {activation.name}",
        "All results are explicit in the noise-free operating point x, at which the derivatives are taken:",
        (
            sp.Eq(f(x), derivatives[0]),
            *(sp.Eq(fk, sp.simplify(value)) for fk, value in own.items()),
            sp.Eq(b, x - w * f(x)),
        ),
    )
    return (*steps, last), results, NAMES | OF_F


def _results(mu: moments.Moments) -> dict[str, Any]:
    """Shift and variance (about the mean) in powers of sigma."""
    full = mu.full
    shift_second = sigma**2 * full[1, 1]
    variance_second = sigma**2 * full[2, 1]
    return {
        "shift": shift_second + sigma**4 * full[1, 2],
        "shift_second": shift_second,
        "variance": variance_second + sigma**4 * (full[2, 2] - full[1, 1] ** 2),
        "variance_second": variance_second,
        "third": sigma**4 * full[3, 2],
        "fourth": sigma**4 * full[4, 2],
    }


def _expansion(placement: str, step: Any, slope: Any) -> tuple[Step, ...]:
    inner = w * delta + (sigma * xi if placement == "in" else 0)
    taylor = sum(fk * inner**k / sp.factorial(k) for k, fk in enumerate(moments.TAYLOR, start=1))
    after = (1 - gamma) * delta + gamma * (taylor + (sigma * xi if placement == "out" else 0))
    bent = gamma * sum(fk * u**k / sp.factorial(k) for k, fk in enumerate(moments.TAYLOR[1:], start=2))
    linear = step.coeff(delta, 1).coeff(xi, 0)
    exact = sp.expand(after - step.subs(xi, sigma * xi).subs(lam, slope))
    if exact != 0 or linear != lam:
        raise ArithmeticError("the expanded step is not the Taylor series of the model")
    return (
        Step(
            "Noise removed",
            "Without noise the fixed point `h0` solves the same equation at `sigma = 0`; lambda is the slope of the "
            "map there, `f_k` the k-th derivative of f at `x = w h0 + b`. The map is stable for `|lambda| < 1`: "
            "`lambda = 1`, where `w f_1 = 1`, is a fold, `lambda = -1`, where `w f_1 = 1 - 2/gamma`, a flip.",
            (sp.Eq(h0, f(w * h0 + b)), sp.Eq(lam, slope)),
        ),
        Step(
            "Taylor expansion",
            "Put `h = h0 + delta`. It is of order sigma: terms up to the fourth power give the fourth order.",
            (
                sp.Eq(u, inner),
                sp.Eq(delta_next, after.subs(inner, u)),
                sp.Eq(delta_next, lam * delta + gamma * sigma * xi * (f1 if placement == "in" else 1) + bent),
            ),
        ),
    )


def _orders(placement: str, mu: moments.Moments) -> tuple[Step, ...]:
    second = [(2, 1), (1, 1)]
    fourth = [(4, 2), (3, 2), (2, 2), (1, 2)]
    own = {lam: 1 - gamma + gamma * w * f1}
    shift, variance = (facing(sp.factor(mu.full[key].subs(own))) for key in [(1, 1), (2, 1)])
    q = sp.Symbol("q", positive=True)
    slow = sp.cancel(mu.full[1, 2].subs(lam, 1 - gamma * q)).subs(gamma, 0) if placement == "in" else None
    steps = (
        Step(
            "Order by order",
            "Let `E(delta^n)` be the sum of `sigma^k mu_{nk}`; a stationary law has `E(delta'^n) = E(delta^n)`. "
            "Averaged over xi and sorted by powers of sigma, these are linear equations, solved one after the other. "
            "Second order: `n = 2`, then `n = 1`.",
            tuple(sp.Eq(mu.symbol[key], mu.equation[key]) for key in second),
        ),
        Step(
            "Second order in sigma",
            "With lambda written out, v the variance of h:",
            (sp.Eq(v, sigma**2 * variance), sp.Eq(m - h0, _with_v(placement, mu)), sp.Eq(m - h0, sigma**2 * shift)),
        ),
        Step(
            "Fourth order in sigma",
            "The same equations at fourth order: `n = 4, 3, 2, 1`, each in terms of those before it.",
            tuple(sp.Eq(mu.symbol[key], mu.equation[key]) for key in fourth),
        ),
        Step(
            "Mean and variance",
            "The moments are about `h0`; the variance is about the mean.",
            (
                sp.Eq(m - h0, sigma**2 * mu.symbol[1, 1] + sigma**4 * mu.symbol[1, 2]),
                sp.Eq(v, sigma**2 * mu.symbol[2, 1] + sigma**4 * (mu.symbol[2, 2] - mu.symbol[1, 1] ** 2)),
            ),
        ),
    )
    if slow is None:
        return steps
    limit = Step(
        "Slow limit",
        "As `gamma -> 0`, with `q = 1 - w f_1`, what is left is the smoothing of f by the noise itself.",
        (sp.Eq(m - h0, sigma**2 * f2 / (2 * q) + sigma**4 * sp.expand(slow).subs(w * f1, 1 - q)),),
    )
    return (*steps, limit)


def _with_v(placement: str, mu: moments.Moments) -> Any:
    """m - h* with the variance v left in."""
    written = mu.equation[1, 1].subs({mu.symbol[2, 1]: v / sigma**2, lam: 1 - gamma + gamma * w * f1})
    return facing(sp.factor(sp.expand(sigma**2 * written)))
