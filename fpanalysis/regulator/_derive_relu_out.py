"""ReLU with noise out: the law on either side of the kink, the shift in closed form, and the closure."""

from __future__ import annotations

from typing import Any

import sympy as sp

from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import (
    E,
    G,
    M,
    Phi,
    V,
    a,
    b,
    f,
    facing,
    gamma,
    h,
    h0,
    lam,
    m,
    s,
    s_minus,
    s_plus,
    sigma,
    v,
    w,
    x,
    x0,
    xi,
)
from fpanalysis.regulator._derive_gaussian import Smoothing, smoothing
from fpanalysis.regulator._derive_start import gaussian_variance, noise_removed, opening, second_moment
from fpanalysis.regulator._derive_target import training_out

p = sp.Function("p")
A = sp.Symbol("A", positive=True)
Z_plus, Z_minus = sp.symbols("Z_+ Z_-", positive=True)
c = sp.Symbol("c", real=True)  #: centre of half a normal law; its variance, its mass, and 2 Phi(c / sqrt S):
S, Z, Q = sp.symbols("S Z Q", positive=True)
x_next = sp.Symbol("x'", real=True)

NAMES = {
    "M": "`E f(a + s xi)`",
    "G": "mean slope of f, `dM/da`",
    "V": "variance of `f(a + s xi)`",
    "mean": "stationary mean; its relative error falls as `gamma^2`, `1 - 2/gamma < w < 1`",
    "shift": "mean less noise-free fixed point, same domain; nan for `w >= 1`, where there is no law, and beyond the "
    "flip, where it is not this one. Beyond 26 standard deviations from the kink, where it is below 1e-300, it may "
    "evaluate to nan",
    "shift_at_kink": "the shift at `b = 0`, its largest in b to leading order in gamma",
    "variance": "stationary variance, as the mean",
    "amplitude": "density above the kink over that below it, at the kink",
    "variance_above": "variance of `w h + b` in the law above the kink",
    "variance_below": "variance of `w h + b` in the law below the kink",
    "closure_variance": "variance in the closure, given `a` and s, where `s^2 = w^2 v`",
    "closure_sigma": "noise sigma that goes with `a` and s in the closure",
    "closure_b": "bias that goes with `a` and s",
    "closure_shift": "shift in the closure, given `a` and s",
}


def derive_relu_out() -> tuple[tuple[Step, ...], dict[str, Any], dict[str, str]]:
    """Steps, results, and what each result is."""
    relu = smoothing()
    balance_step, balance = second_moment("out")
    removed_step, above, _ = noise_removed()
    results: dict[str, Any] = {"M": relu.M, "G": relu.G, "V": relu.V}
    law_steps = _law(above, results)
    closure_step, variance = gaussian_variance(balance, "w h + b", w**2 * v)
    explicit_step = _closure(relu, variance, balance, results)
    training_steps, training, names = training_out(facing(sp.factor(results["variance_above"] / w**2)))
    slow = Step(
        "Slow limit",
        "By the balance v is of order gamma, so h concentrates as `gamma -> 0` and the mean tends to the noise-free "
        "fixed point: unlike noise in, no shift is left. What shift there is comes from the recurrent part, `w^2 v`, "
        "and is largest at the kink, where it falls as the square root of gamma.",
        (sp.Eq(E(h), E(f(w * h + b))), sp.Eq(m, f(w * m + b))),
    )
    steps = (*opening("out"), balance_step, slow, removed_step, *law_steps, *relu.steps, closure_step, explicit_step)
    return (*steps, *training_steps), results | training, NAMES | names


def _side(slope: Any) -> Any:
    """Stationary variance of x' - x0 = slope (x - x0) + gamma w sigma xi."""
    (variance,) = sp.solve(sp.Eq(S, slope**2 * S + (gamma * w * sigma) ** 2), S)
    return facing(sp.factor(variance))


def _half_line(power: int) -> tuple[Any, Any]:
    """(q, rest): q Q + rest = integral of x^power exp(-((x - c)^2 - c^2) / 2S) over x > 0, Q = 2 Phi(c / sqrt S)."""
    integrand = x**power * sp.exp(-(x**2) / (2 * S) + x * c / S)
    value = sp.expand(sp.integrate(integrand, (x, 0, sp.oo)))
    value = value.replace(sp.erfc, lambda u: 2 - Q).replace(sp.erf, lambda u: Q - 1)
    value = sp.expand(value)
    return value.coeff(Q, 1), sp.simplify(value.coeff(Q, 0))


def half_lines() -> tuple[Any, Any, Any]:
    """The integral of 1, and those of x and x^2 in terms of it (Z), for a centre c and a variance S."""
    (q, rest), *higher = (_half_line(power) for power in range(3))
    if rest != 0:
        raise ArithmeticError("the mass of half a normal law is not a multiple of Phi")
    mass = 2 * q * Phi(c / sp.sqrt(S))
    return mass, *(sp.expand(sp.simplify(qn / q)) * Z + rest for qn, rest in higher)


def _law(above: Any, results: dict[str, Any]) -> tuple[Step, ...]:
    """Two truncated normal laws, joined by the exact equation for the mean."""
    x1 = above
    exact = {s_plus: _side(1 - gamma + gamma * w), s_minus: _side(1 - gamma)}
    mass, first, second = half_lines()
    above_kink = {c: x1, S: s_plus, Z: Z_plus}
    below_kink = {c: -b, S: s_minus, Z: Z_minus}  # -x over x < 0
    top, bottom = first.subs(above_kink), -first.subs(below_kink)
    norm = A * Z_plus + Z_minus
    fired = A * top / norm
    total = (A * top + bottom) / norm
    (amplitude,) = sp.solve(sp.numer(sp.together(total - b - w * fired)), A)
    amplitude = facing(sp.factor(amplitude))
    ratio = facing(sp.factor(amplitude.subs(exact)))
    values = {A: ratio, Z_plus: mass.subs(above_kink), Z_minus: mass.subs(below_kink)}
    square = (A * second.subs(above_kink) + second.subs(below_kink)) / norm
    variance = (square - total**2) / w**2
    balanced = sp.together(sp.expand((fired - x1) * norm).subs(A, amplitude))
    shift = facing(sp.factor(balanced)) / norm
    _collect(fired, shift, variance, values | exact, results)
    results |= {"amplitude": ratio, "variance_above": exact[s_plus], "variance_below": exact[s_minus]}
    results["shift_at_kink"] = at_kink = _at_kink(fired.subs(b, 0), mass, ratio, exact)
    return (
        Step(
            "Either side of the kink",
            "In `x = w h + b` the chain is linear on either side of `x = 0`: with slope lambda it falls back towards "
            "the fixed point `x0` of its side, `b/(1 - w)` above the kink and b below it. Left to itself each would "
            "have a normal law of the variance S that solves `S = lambda^2 S + (gamma w sigma)^2`.",
            (
                sp.Eq(x_next, x0 + lam * (x - x0) + gamma * w * sigma * xi),
                sp.Eq(s_plus, exact[s_plus]),
                sp.Eq(s_minus, exact[s_minus]),
            ),
        ),
        Step(
            "The law",
            "Approximation: each side keeps its own normal law, cut off at the kink, with an amplitude `A` above it (1 "
            "below). Steps are small against the width of the law, so only the neighbourhood of the kink is wrong. "
            "The masses on either side are `A` times the first Z, and the second:",
            (
                sp.Eq(
                    p(x),
                    sp.Piecewise(
                        (A * sp.exp(-((x - x1) ** 2 - x1**2) / (2 * s_plus)), x > 0),
                        (sp.exp(-((x - b) ** 2 - b**2) / (2 * s_minus)), True),
                    ),
                ),
                sp.Eq(Z_plus, values[Z_plus]),
                sp.Eq(Z_minus, values[Z_minus]),
            ),
        ),
        Step(
            "The definition of the mean joins the two",
            "The exact equation `E h = E f(x)` with `x = w h + b` says `E x = b + w E f(x)`. Both means are integrals "
            "over the law, and the equation is linear in `A`: the density jumps at the kink.",
            (
                sp.Eq(E(f(x)), fired),
                sp.Eq(E(x), total),
                sp.Eq(A, amplitude),
                sp.Eq(A, ratio),
            ),
        ),
        Step(
            "Mean and shift",
            "The mean is `E f(x)`; the shift is that less the noise-free fixed point. Against the exact chain its "
            "relative error falls as `gamma^2`. It vanishes like `exp(-x0^2 / 2S)` away from the kink, `x0` being "
            "the noise-free fixed point. For `w >= 1` the chain runs away once above the kink: no law is stationary. "
            "For `w < 1 - 2/gamma` it flips across the kink: there is a law, but not this one. At `b = 0`, to leading "
            "order in gamma:",
            (
                sp.Eq(m, fired),
                sp.Eq(m - h0, sp.Piecewise((shift, (b > 0) & (w < 1)), (fired, sp.Le(b, 0) & (w < 1)), (sp.nan, True))),
                sp.Eq(m - h0, at_kink),
            ),
        ),
    )


def _at_kink(fired: Any, mass: Any, ratio: Any, exact: Any) -> Any:
    """The mean at b = 0 to leading order in gamma."""
    half = sp.simplify(mass.subs(c, 0).replace(Phi, lambda u: sp.Rational(1, 2)))
    leading = {T: gamma * sp.limit(variance / gamma, gamma, 0) for T, variance in exact.items()}
    values = {A: ratio.subs(gamma, 0), Z_plus: half.subs(S, s_plus), Z_minus: half.subs(S, s_minus)}
    q = sp.Symbol("q", positive=True)
    value = fired.subs(values).subs(leading).subs(1 - w, q)
    return sp.simplify(value.subs(w - 1, -q)).subs(q, 1 - w).subs(w**2 / sp.Abs(w), sp.Abs(w))


def _collect(fired: Any, shift: Any, variance: Any, values: Any, results: Any) -> None:
    """The results in (w, b, gamma, sigma) alone."""
    mean, shift, variance = (expression.subs(values).subs(values) for expression in (fired, shift, variance))
    inside = (1 - 2 / gamma < w) & (w < 1)
    results |= {
        "mean": sp.Piecewise((sp.Max(b, 0), sp.Eq(w, 0)), (mean, inside), (sp.nan, True)),
        "shift": sp.Piecewise((0, sp.Eq(w, 0)), (shift, inside & (b > 0)), (mean, inside), (sp.nan, True)),
        "variance": sp.Piecewise((gamma * sigma**2 / (2 - gamma), sp.Eq(w, 0)), (variance, inside), (sp.nan, True)),
    }


def _closure(relu: Smoothing, variance: Any, balance: Any, results: dict[str, Any]) -> Step:
    """The closure made explicit: a and s as parameters, v = s^2 / w^2."""
    (noise,) = sp.solve(sp.Eq(v, variance), sigma**2)
    noise = sp.expand(noise)
    own = {v: s**2 / w**2, G(a, s): relu.G, V(a, s): relu.V}
    bias = a - w * relu.M
    tail = relu.M.subs(a, -a)
    results |= {
        "closure_variance": s**2 / w**2,
        "closure_sigma": sp.sqrt(noise.subs(own)),
        "closure_b": bias,
        "closure_shift": sp.Piecewise((tail / (1 - w), (bias > 0) & (w < 1)), (relu.M, sp.Le(bias, 0)), (sp.nan, True)),
    }
    return Step(
        "The closure, explicit",
        "The same formulas as with noise in, but s is the recurrent noise alone. Choose `a` and s; sigma, b and the "
        "shift follow. Its error does not vanish with gamma, as that of the two halves does: at the kink it is below "
        "1 % of the shift for w from -3 to 0.8, half a deviation off up to 10 % for w from -3 to 0.5, and more beyond.",
        (
            sp.Eq(b, a - w * M(a, s)),
            sp.Eq(v, s**2 / w**2),
            sp.Eq(sigma**2, noise),
            sp.Eq(m - h0, sp.Piecewise((M(-a, s) / (1 - w), (b > 0) & (w < 1)), (M(a, s), sp.Le(b, 0)))),
        ),
    )
