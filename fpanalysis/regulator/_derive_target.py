"""Where training ends: a neuron held at a target, its loss, and what happens when the noise is removed."""

from __future__ import annotations

from typing import Any

import sympy as sp

from fpanalysis.regulator._derivation_steps import Step
from fpanalysis.regulator._derivation_symbols import G, M, Phi, V, a, b, facing, gamma, m, phi, r, s, sigma, v, w, z
from fpanalysis.regulator._derive_gaussian import Smoothing

L, R = sp.symbols("L R", positive=True)
k0, k1, k2 = sp.symbols("k_0:3", real=True)  #: coefficients of a quadratic equation for w
P, p, g, nu = sp.symbols("Phi phi g nu", positive=True)  #: functions of r = a / s, written short

IN = {
    "target": "value at which h is held, `gamma -> 0`",
    "b_for_target": "bias that holds h at z with operating point `a`: one for every w",
    "bias_of_optimum": "`m - z` at the least loss for given w, first order in gamma: variance traded for bias",
    "loss_ratio": "loss with the noise removed over loss with it, first order in gamma; above 1 noise is preferred; "
    "nan as shift",
    "w_optimal": "weight of least variance at fixed target and sigma, finite gamma (closure), given `r = a/s`",
    "target_optimal": "`z / sigma` that goes with r at that weight",
    "variance_optimal": "`v / z^2` there",
}
OUT = {
    "variance_firing": "variance well above the kink: exact there, the same at every target",
    "w_optimal": "weight of least variance well above the kink",
    "variance_optimal": "variance there",
}


def _by_r(expression: Any) -> Any:
    """d/dr of an expression in Phi, g and nu: Phi' = phi, g' = Phi, nu' = 2 g (1 - Phi)."""
    return sum(sp.diff(expression, of) * by for of, by in ((P, p), (g, P), (nu, 2 * g * (1 - P))))


def training_in(f: Smoothing, variance: Any, closure: Any) -> tuple[tuple[Step, ...], dict[str, Any], dict[str, str]]:
    """Steps, results and their names, from the variance to first order in gamma and that of the closure."""
    M0, G0 = (f.at(e, a, sigma) for e in (f.M, f.G))
    spread = sp.Function("v")(a)
    (on_target,) = sp.solve(sp.diff((M(a, sigma) - z) ** 2 + spread, a), z)
    bias = sp.cancel(M(a, sigma) - on_target).subs(sp.Derivative(M(a, sigma), a), G(a, sigma))
    trade = bias.subs(spread, variance).subs(G(a, sigma), G0).doit()
    named = gamma * V(a, sigma) / (2 * (1 - w * G(a, sigma)))
    fall = facing(sp.factor(sp.diff(named, w)))
    firing, tail = a - w * M0 > 0, f.at(f.M, -a, sigma)
    ratio = sp.Piecewise(
        (tail**2 / (1 - w) ** 2 / variance, firing & (w < 1)),
        (M0**2 / variance, sp.Not(firing) & (w * G0 < 1)),
        (sp.nan, True),
    )
    unit = {s: 1, a: r}
    ratio_0 = 2 * M(-sp.Abs(r), 1) ** 2 / (gamma * V(r, 1))
    steps = (
        Step(
            "Target and loss",
            "The neuron is to hold h at the target z (a readout `c h + d` only rescales this). The expected squared "
            "error is `(m - z)^2 + v`, squared bias and variance. At given w its derivative by `a` vanishes where the "
            "bias is of order gamma, so to leading order the mean is on target, and that fixes the operating point: "
            "the smaller the target against the noise, the closer to the kink, or under it.",
            (
                sp.Eq(L, (m - z) ** 2 + v),
                sp.Eq(m - z, bias),
                sp.Eq(z, M(a, sigma)),
                sp.Eq(z / sigma, sp.expand(f.M.subs(unit)).subs(r, a / sigma)),
            ),
        ),
        Step(
            "Which w and b: the slow limit",
            "One line of pairs `(w, b)` has the mean on target. Along it the variance falls as w does, all the way, "
            "the operating point staying where it is: to leading order in gamma the loss has no minimum, "
            "only a valley towards strong self-inhibition, ever flatter. Training that stops early stops in it; how "
            "far it came decides the shift, `M(-a)/(1 - w)`.",
            (sp.Eq(b, a - w * z), sp.Eq(v, named), sp.Eq(sp.Derivative(v, w), fall)),
        ),
    )
    optimum, values = _optimum(f, closure)
    last = Step(
        "Noise removed after training",
        "The loss is then the squared shift. Its ratio R to the loss with noise grows as `1/gamma` at given w; where "
        "`R > 1` the trained neuron prefers noise. With `w = 0` it depends on `r = a/sigma` alone, through the "
        "attenuation bias `M(-|r|, 1)`, even in r.",
        (
            sp.Eq(R, sp.Piecewise((M(-a, sigma) ** 2 / (1 - w) ** 2 / v, b > 0), (M(a, sigma) ** 2 / v, sp.Le(b, 0)))),
            sp.Eq(sp.Symbol("R_0"), ratio_0),
        ),
    )
    results = {"target": M0, "b_for_target": a - w * z, "bias_of_optimum": trade, "loss_ratio": ratio} | values
    return (*steps, optimum, last), results, IN


def _optimum(f: Smoothing, closure: Any) -> tuple[Step, dict[str, Any]]:
    """The least variance at fixed target and sigma in the closure: a quadratic equation for w."""
    own = {P: Phi(r), p: phi(r), g: f.M.subs({s: 1, a: r}), nu: f.V.subs({s: 1, a: r})}
    if any(sp.expand(sp.diff(own[e], r) - _by_r(e).subs(own)) != 0 for e in (P, g, nu)):
        raise ArithmeticError("the derivatives of Phi, g and nu by r are not as assumed")
    value = closure.subs({V(a, s): nu * s**2, G(a, s): P})
    variance, noise = value / (s * g) ** 2, sp.expand((s**2 - w**2 * value) / s**2) / g**2
    stationary = sp.diff(variance, w) * _by_r(noise) - _by_r(variance) * sp.diff(noise, w)
    factors = [factor for factor, _ in sp.factor_list(sp.numer(sp.together(stationary)))[1]]
    (quadratic,) = (factor for factor in factors if sp.degree(factor, w) == 2)
    c0, c1, c2 = (sp.factor(sp.Poly(quadratic, w).coeff_monomial(w**k)) for k in range(3))
    # c2 < 0 < c0, since Phi E f^2 >= (E f)^2: this root is the negative one, and 0 at gamma = 1
    root = -2 * c0 / (c1 + sp.sqrt(c1**2 - 4 * c0 * c2))
    weight = root.subs(own)
    spread = sp.sqrt((noise * g**2).subs(own).subs(w, weight))
    step = Step(
        "Which w and b: finite gamma",
        "With strong inhibition the recurrent noise `w^2 v` comes back into s and ends the gain: there is a minimum. "
        "With `r = a/s`, `g = M/s`, `nu = V/s^2` (functions of r; so are Phi and phi) the closure reads "
        "as below. Setting the derivative of v at fixed z and sigma to zero leaves a quadratic equation in w: its "
        "negative solution is where training ends if it runs to the end, and b follows. It is of order `1/gamma`, near "
        "`w = 1 - 1/gamma` (one-step correction, exact for a linear neuron), and moves towards the flip and past it "
        "as r falls; there v hardly depends on w any more, and the closure is rough.",
        (
            sp.Eq(v / z**2, variance),
            sp.Eq(sigma**2 / z**2, noise),
            sp.Eq(0, k0 + k1 * w + k2 * w**2),
            sp.Eq(k0, facing(c0)),
            sp.Eq(k1, sp.collect(sp.expand(c1), gamma, sp.factor)),
            sp.Eq(k2, facing(c2)),
            sp.Eq(w, -2 * k0 / (k1 + sp.sqrt(k1**2 - 4 * k0 * k2))),
            sp.Eq(b, a - w * z),
        ),
    )
    results = {
        "w_optimal": weight,
        "target_optimal": own[g] / spread,
        "variance_optimal": variance.subs(own).subs(w, weight),
    }
    return step, results


def training_out(variance: Any) -> tuple[tuple[Step, ...], dict[str, Any], dict[str, str]]:
    """Noise out: nothing is gained at the kink."""
    slope = facing(sp.factor(sp.diff(variance, w)))
    (weight,) = sp.solve(sp.numer(slope), w)
    weight, least = sp.expand(weight), sp.factor(sp.simplify(variance.subs(w, weight)))
    step = Step(
        "Target, loss and training",
        "The loss is `(m - z)^2 + v`. Well above the kink the mean is on target with `b = (1 - w) z`, and v "
        "does not depend on the target: the noise that is added behind f passes wherever f operates (in the closure: "
        "`V + sigma^2 >= sigma^2`), so nothing draws the neuron to the kink. The variance has its minimum at the "
        "w below (one-step correction), and removing the noise there leaves the mean on target: the loss "
        "falls to the squared shift, which is exponentially small.",
        (
            sp.Eq(v, variance),
            sp.Eq(sp.Derivative(v, w), slope),
            sp.Eq(w, weight),
            sp.Eq(v, least),
            sp.Eq(b, (1 - w) * z),
        ),
    )
    return (step,), {"variance_firing": variance, "w_optimal": weight, "variance_optimal": least}, OUT
