"""ReLU with noise in: the shift in closed form, its branches, and what a finite gamma adds."""

from __future__ import annotations

from typing import Any

import sympy as sp

from fpanalysis.regulator import _derive_moments as moments
from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import (
    E,
    G,
    M,
    Phi,
    V,
    a,
    b,
    facing,
    gamma,
    h,
    h0,
    m,
    reflected,
    s,
    sigma,
    v,
    w,
)
from fpanalysis.regulator._derive_gaussian import Smoothing, smoothing
from fpanalysis.regulator._derive_start import gaussian_variance, noise_removed, opening, second_moment
from fpanalysis.regulator._derive_target import training_in

NAMES = {
    "M": "`E f(a + s xi)`",
    "G": "mean slope of f, `dM/da`",
    "V": "variance of `f(a + s xi)`",
    "b": "bias at which `a` is the operating point, `gamma -> 0`",
    "mean": "stationary mean, `gamma -> 0`",
    "shift": "mean less noise-free fixed point, `gamma -> 0`; for `w > 1` that of the quasi-stationary law, nan where "
    "there is not even that",
    "variance": "stationary variance to first order in gamma",
    "slope": "derivative of the mean by gamma at `gamma = 0`, w and b held",
    "curvature": "half the second derivative of the mean by gamma at `gamma = 0`: exact, as the slope is",
    "critical_b": "`w > 1`: bias beyond which not even a quasi-stationary state is left; `a`: `Phi(a/sigma) = 1/w`",
    "closure_variance": "variance at finite gamma, given `a` and the total noise s",
    "closure_sigma": "noise sigma that goes with `a` and s at finite gamma",
    "closure_b": "bias that goes with `a` and s at finite gamma",
    "closure_shift": "shift at finite gamma, given `a` and s",
}


def derive_relu_in() -> tuple[tuple[Step, ...], dict[str, Any], dict[str, str]]:
    """Steps, results, and what each result is."""
    f = smoothing()
    balance_step, balance = second_moment("in")
    removed_step, above, _ = noise_removed()
    results = {"M": f.M, "G": f.G, "V": f.V}
    slow_steps = _slow_limit(f, results)
    gamma_steps = _in_gamma(f, results)
    closure_step, variance = gaussian_variance(balance, "w h + b + sigma xi", sigma**2 + w**2 * v)
    parameter_step = _closure(f, variance, results)
    shift_step = _shift(f, above, results)
    training_steps, training, names = training_in(f, results["variance"], variance)
    steps = (
        *opening("in"),
        *f.steps,
        balance_step,
        *slow_steps,
        removed_step,
        shift_step,
        *gamma_steps,
        closure_step,
        parameter_step,
        *training_steps,
    )
    return steps, results | training, NAMES | names


def _slow_limit(f: Smoothing, results: dict[str, Any]) -> tuple[Step, ...]:
    M0, G0 = (f.at(e, a, sigma) for e in (f.M, f.G))
    bias = a - w * M(a, sigma)
    slope = sp.diff(a - w * M0, a)
    fold = sp.expand(a - w * M0).subs(Phi(a / sigma), 1 / w)
    results |= {"b": a - w * M0, "mean": M0, "critical_b": fold}
    return (
        Step(
            "Slow limit",
            "In the balance of the variance U stays finite and `C = w G v` to leading order, so `v` is of order gamma: "
            "as `gamma -> 0` h concentrates at its mean, and the exact equation for the mean closes.",
            (
                sp.Eq(E(h), E(M(w * h + b, sigma))),
                sp.Eq(m, M(w * m + b, sigma)),
            ),
        ),
        Step(
            "Operating point",
            "Call `a = w m + b` the operating point. Everything is explicit in it: each `a` belongs to one bias b. For "
            "`w < 1` that b rises with `a`, so that each b has one `a`.",
            (
                sp.Eq(m, M(a, sigma)),
                sp.Eq(m, M0),
                sp.Eq(b, bias),
                sp.Eq(sp.Derivative(b, a), slope),
            ),
        ),
        Step(
            "Strong self-excitation: no stationary law",
            "For `w > 1` the slope of b vanishes where `Phi(a/sigma) = 1/w`. For b below the value there the lower "
            "solution (`w G < 1`) is quasi-stationary: noise lifts h over the threshold `b/(1 - w)` in the end, and it "
            "grows without bound. Beyond that value there is no solution: h diverges at once.",
            (sp.Eq(G0, 1 / w), sp.Eq(b, fold)),
        ),
    )


def _shift(f: Smoothing, above: Any, results: dict[str, Any]) -> Step:
    """m - h0, with b written in terms of a; and its form in the tail of the other side."""
    bias, M0 = a - w * M(a, sigma), f.at(f.M, a, sigma)
    raw = M(a, sigma) - above.subs(b, bias)
    shift = sp.factor(raw)
    tail = reflected(f.at(f.M, -a, sigma))
    if sp.expand(M0 - a - tail) != 0:
        raise ArithmeticError("M(a) - a is not M(-a)")
    tail = f.at(f.M, -a, sigma)
    firing = (results["b"] > 0) & (w < 1)
    silent = sp.Le(results["b"], 0) & (1 - w * f.at(f.G, a, sigma) > 0)
    results["shift"] = sp.Piecewise((tail / (1 - w), firing), (M0, silent), (sp.nan, True))
    shown = sp.Piecewise(
        (M(-a, sigma) / (1 - w), (b > 0) & (w < 1)), (M(a, sigma), sp.Le(b, 0) & (w * G(a, sigma) < 1)), (sp.nan, True)
    )
    return Step(
        "Shift",
        "The shift is the mean less the noise-free fixed point, with b written in terms of `a`. For `b > 0` it is "
        "`(M(a) - a)/(1 - w)`, on either side of the kink, and since `Phi(-r) = 1 - Phi(r)` the numerator is `M(-a)`. "
        "Where `a >= 0` that is the attenuation bias `beta(a, sigma) = M - f(a)`. For `b <= 0` the silent neuron is "
        "woken by the noise.",
        (
            sp.Eq(m - h0, raw, evaluate=False),
            sp.Eq(m - h0, facing(shift)),
            sp.Eq(M(a, sigma) - a, M(-a, sigma)),
            sp.Eq(m - h0, shown),
        ),
    )


def _in_gamma(f: Smoothing, results: dict[str, Any]) -> tuple[Step, ...]:
    """The mean and the variance as power series in gamma, exact term by term."""
    mu = moments.slow()
    V0, K0 = (f.at(e, a, sigma) for e in (f.V, f.K))
    slopes = [f.at(sp.diff(f.M, a, k), a, sigma) for k in range(1, 5)]
    values = dict(zip((moments.M1, moments.M2, moments.M3, moments.M4), map(sp.simplify, slopes), strict=True))
    values |= {moments.V0: V0, moments.V1: sp.diff(V0, a), moments.V2: sp.diff(V0, a, 2), moments.K0: K0}
    named = {moments.M1: G(a, sigma), moments.M2: values[moments.M2], moments.V0: V(a, sigma)}
    results |= {
        "variance": gamma * mu.full[2, 1].subs(values),
        "slope": mu.full[1, 1].subs(values),
        "curvature": mu.full[1, 2].subs(values),
    }
    order = [(2, 1), (1, 1), (4, 2), (3, 2), (2, 2), (1, 2)]
    hierarchy = tuple(sp.Eq(mu.symbol[key], mu.equation[key]) for key in order)
    return (
        Step(
            "Moments in powers of gamma",
            "How fast the limit is reached: let `E(delta^n)` be the sum of `gamma^k mu_{nk}`, delta measured from the "
            "slow limit. Given h, y has mean `M(a + w delta)`, variance V and third cumulant K; expanded in delta, "
            "the balances of `E(delta^n)` for n up to 4 give one linear equation after the other (`M_k, V_k`: k-th "
            "derivatives by `a` at the operating point). No assumption on the law of h is made.",
            hierarchy,
        ),
        Step(
            "First order in gamma",
            "Put in ReLU's own moments. Mean and variance at the same w and b:",
            (
                sp.Eq(v, gamma * mu.full[2, 1].subs(named)),
                sp.Eq(sp.Derivative(m, gamma), mu.full[1, 1].subs(named)),
            ),
        ),
    )


def _closure(f: Smoothing, variance: Any, results: dict[str, Any]) -> Step:
    """The closure made explicit: a and s as parameters."""
    own = {G(a, s): f.G, V(a, s): f.V}
    value = variance.subs(own)
    bias = a - w * f.M
    tail = f.at(f.M, -a, s)
    results |= {
        "closure_variance": value,
        "closure_sigma": sp.sqrt(s**2 - w**2 * value),
        "closure_b": bias,
        "closure_shift": sp.Piecewise((tail / (1 - w), (bias > 0) & (w < 1)), (f.M, sp.Le(bias, 0)), (sp.nan, True)),
    }
    heat = sp.simplify(sp.diff(f.M, s) / (2 * s) - sp.diff(f.M, a, 2) / 2)
    first = sp.diff(f.M, s).subs(s, sigma) / (2 * sigma) * w**2 * results["variance"] / gamma
    first = first / (1 - w * f.at(f.G, a, sigma))
    if heat != 0 or sp.simplify(first - results["slope"]) != 0:
        raise ArithmeticError("the closure and the moments differ at first order in gamma")
    return Step(
        "The closure, explicit",
        "The equations are coupled in `(m, v)` at given b and sigma, but explicit in `a` and the total noise s: choose "
        "these, and b, sigma and the shift follow. Expanded in gamma, they agree with the first order found above, so "
        "their error is of second order. Where `sigma^2` comes out negative no neuron has this a and s: far above the "
        "kink from the flip on, `w < 1 - 2/gamma`; nearer to it the noise holds off the flip to stronger inhibition.",
        (
            sp.Eq(b, a - w * M(a, s)),
            sp.Eq(sigma**2, s**2 - w**2 * v),
            sp.Eq(m - h0, sp.Piecewise((M(-a, s) / (1 - w), (b > 0) & (w < 1)), (M(a, s), sp.Le(b, 0)))),
        ),
    )
