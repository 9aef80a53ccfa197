"""Where every derivation starts: the model equation, what stationary means, and the noise-free fixed points."""

from __future__ import annotations

from typing import Any

import sympy as sp

from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import (
    E,
    G,
    M,
    V,
    a,
    b,
    delta,
    delta_next,
    f,
    facing,
    gamma,
    h,
    h0,
    h_next,
    lam,
    m,
    s,
    sigma,
    v,
    w,
    xi,
    y,
)

C = sp.Symbol("C", real=True)  #: Cov(h, y)
U = sp.Symbol("U", positive=True)  #: Var y


def model(placement: str) -> Any:
    """h' as an expression in h and xi."""
    driven = f(w * h + b + sigma * xi) if placement == "in" else f(w * h + b) + sigma * xi
    return (1 - gamma) * h + gamma * driven


def opening(placement: str) -> tuple[Step, ...]:
    """The model and the exact equation of its stationary mean."""
    after = model(placement)
    (mean,) = sp.solve(sp.Eq(E(h), E(after)), E(h))
    noise = (
        "The noise is inside f and does not drop out."
        if placement == "in"
        else "The noise is added behind f, has mean zero and drops out: f sees none of it but what returns through w."
    )
    return (
        Step(
            "Model",
            f"One neuron that feeds back on itself with weight w, noise {placement}; xi is standard normal and "
            "independent of h.",
            (sp.Eq(h_next, after),),
        ),
        Step(
            "Stationary mean",
            "Stationary means: h' has the law of h, hence its mean. Taking means of both sides and solving for `E(h)` "
            f"removes gamma: the equation is exact at every gamma. {noise}",
            (sp.Eq(E(h), E(after)), sp.Eq(E(h), mean)),
        ),
    )


def second_moment(placement: str) -> tuple[Step, Any]:
    """The exact balance of the variance, with C = Cov(h, y) and U = Var y, and its step."""
    after = (1 - gamma) * delta + gamma * (y - m) + (gamma * sigma * xi if placement == "out" else 0)
    known = {E(delta): 0, E(y): m, E(delta**2): v, E(delta * y): C, E(y**2): U + m**2}
    square = E(after**2).subs(known)
    balance = sp.expand(sp.cancel((v - square) / gamma))
    balance = sp.Eq(sp.collect(balance.coeff(v, 1) * v, v), sp.factor(balance.coeff(v, 1) * v - balance))
    inner = "w h + b + sigma xi" if placement == "in" else "w h + b"
    step = Step(
        "Stationary variance",
        f"The same for the square of `delta = h - m`, with `y = f({inner})`, whose mean is m: v is the variance of h, "
        "U that of y, and C the covariance of h and y. Still exact.",
        (sp.Eq(delta_next, after), sp.Eq(v, square), balance),
    )
    return step, balance


def gaussian_variance(balance: Any, inner: str, total: Any) -> tuple[Step, Any]:
    """v from the balance when the law of h is taken to be normal: C by regression and Stein's lemma."""
    covariance = w * v / s**2 * s * (s * G(a, s))
    (variance,) = sp.solve(balance.subs({C: covariance, U: V(a, s)}), v)
    top, bottom = sp.fraction(sp.factor(variance))
    if bottom.subs({w: 0, gamma: 0}) < 0:
        top, bottom = -top, -bottom
    variance = sp.factor(top) / (2 - gamma + facing(sp.factor(sp.expand(bottom - 2 + gamma))))
    step = Step(
        "Finite gamma: Gaussian closure",
        f"At finite gamma h fluctuates. Taking it as normal (the only approximation), `{inner}` has mean "
        "`a = w m + b` and variance `s^2`; the regression of h on it has slope `w v / s^2`, and Stein's lemma gives C. "
        "Solving the balance for v:",
        (
            sp.Eq(s**2, total),
            sp.Eq(m, M(a, s)),
            sp.Eq(C, covariance),
            sp.Eq(v, variance),
        ),
    )
    return step, variance


def noise_removed() -> tuple[Step, Any, tuple[Any, Any]]:
    """The fixed points without noise, and where the map leaves them."""
    (above,) = sp.solve(sp.Eq(h0, w * h0 + b), h0)
    above = -sp.cancel(-above) if above.could_extract_minus_sign() else above
    above = b / sp.cancel(b / above)
    slope = sp.diff((1 - gamma) * h + gamma * (w * h + b), h)
    ends = tuple(sp.solve(sp.Eq(slope, end), w)[0] for end in (1, -1))
    branches = sp.Piecewise((above, (b > 0) & (w < 1)), (0, sp.Le(b, 0)), (sp.nan, True))
    step = Step(
        "Noise removed",
        "Without noise the fixed point solves `h0 = f(w h0 + b)`. Above the kink f is the identity, and the solution "
        "is genuine if positive; below it f is zero and the neuron silent. The slope lambda of the map above the kink "
        "reaches 1 at the first w below: beyond it, activity grows without bound if `b > 0` (no fixed point), while "
        "for `b < 0` the silent state is stable and `b/(1 - w)` an unstable threshold. Slope -1 is reached at the "
        "second: below that w the map flips from one side to the other at every step.",
        (
            sp.Eq(h0, branches),
            sp.Eq(lam, slope),
            sp.Eq(w, ends[0]),
            sp.Eq(w, sp.expand(ends[1])),
        ),
    )
    return step, above, ends
