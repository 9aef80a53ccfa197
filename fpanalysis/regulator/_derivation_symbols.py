"""The symbols of the derivations, and three functions: phi and Phi of the standard normal law, and the mean E."""

from __future__ import annotations

from typing import Any

import sympy as sp

h, h_next, xi, delta, delta_next, y = sp.symbols("h h' xi delta deltaprime y", real=True)
w, b, a, r, x, z = sp.symbols("w b a r x z", real=True)
m, h0, x0 = sp.symbols("m h_0 x_0", real=True)
gamma, sigma, s = sp.symbols("gamma sigma s", positive=True)
v, s_plus, s_minus = sp.symbols("v S_+ S_-", positive=True)
lam, M_1 = sp.symbols("lambda M_1", real=True)
f1, f2, f3, f4 = sp.symbols("f_1:5", real=True)
f = sp.Function("f")
M, G, V = (sp.Function(name) for name in "MGV")

RANDOM = (h, xi, delta, y, x)

POSITIVE = {
    M(a, sigma) - a,
    1 - w,
    1 - gamma,
    2 - gamma,
    1 - lam,
    1 - M_1 * w,
    1 - w * f1,
    1 - w * G(a, s),
    1 - w * G(a, sigma),
}

MEANING = {
    "h": "state of the neuron",
    "xi": "standard normal noise, independent of h",
    "w": "weight of the neuron on itself",
    "b": "bias",
    "gamma": "step dt / tau, `0 < gamma <= 1`",
    "sigma": "noise, standard deviation per step",
    "a": "operating point: mean of what enters f, noise apart",
    "s": "standard deviation of all that enters f",
    "r": "operating point in units of the noise, `a / s`",
    "m": "stationary mean of h",
    "v": "stationary variance of h",
    "z": "target: the value at which h is to be held",
    "x": "noise-free operating point `w h0 + b`",
    "f_1": "first derivative of f at x",
    "f_2": "second derivative of f at x",
    "f_3": "third derivative of f at x",
    "f_4": "fourth derivative of f at x",
    "h_0": "fixed point without noise",
    "delta": "deviation of h",
}


class phi(sp.Function):
    """Standard normal density."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Any:
        return -self.args[0] * phi(self.args[0])


class Phi(sp.Function):
    """Standard normal distribution function."""

    nargs = 1

    def fdiff(self, argindex: int = 1) -> Any:
        return phi(self.args[0])


class E(sp.Function):
    """Mean over h and xi: linear, and xi is standard normal and independent of h."""

    nargs = 1

    @classmethod
    def eval(cls, arg: Any) -> Any:
        arg = sp.expand(arg)
        if arg.is_Add:
            return sp.Add(*(cls(term) for term in arg.args))
        if not arg.has(*RANDOM):
            return arg
        fixed, random = arg.as_independent(*RANDOM, as_Add=False)
        noise, rest = random.as_independent(h, delta, y, sp.Function, as_Add=False)
        if noise.has(xi) and not rest.has(xi):
            return fixed * normal_moment(sp.degree(noise, xi)) * cls(rest)
        return fixed * cls(rest) if fixed != 1 else None


def normal_moment(k: int) -> Any:
    """E xi^k."""
    return sp.Integer(0) if k % 2 else sp.factorial2(k - 1) if k else sp.Integer(1)


def in_normal(expression: Any) -> Any:
    """erf, erfc and exp(-r^2/2) written with Phi(r) and phi(r)."""
    expression = expression.replace(sp.erfc, lambda u: 2 - 2 * Phi(sp.sqrt(2) * u))
    expression = expression.replace(sp.erf, lambda u: 2 * Phi(sp.sqrt(2) * u) - 1)
    return expression.subs(sp.exp(-(r**2) / 2), sp.sqrt(2 * sp.pi) * phi(r))


def numeric(expression: Any) -> Any:
    """Phi and phi written with erfc and exp, for lambdify; accurate in the lower tail too.

    erfc is left unevaluated: sympy would turn erfc(-u) into 2 - erfc(u), which cancels there.
    """
    expression = expression.replace(Phi, lambda u: sp.erfc(-u / sp.sqrt(2), evaluate=False) / 2)
    return expression.replace(phi, lambda u: sp.exp(-(u**2) / 2) / sp.sqrt(2 * sp.pi))


def facing(expression: Any) -> Any:
    """Factors turned to the side where they are positive for a stable neuron: 1 - w and not w - 1, 2 - gamma, ..."""

    def turn(product: Any) -> Any:
        sign, factors = sp.Integer(1), []
        for factor in product.args if product.is_Mul else (product,):
            base, exponent = factor.as_base_exp()
            turned = base.is_Add and exponent.is_Integer and -base in POSITIVE
            factors.append((-base) ** exponent if turned else factor)
            sign *= (-1) ** exponent if turned else 1
        return sign * sp.Mul(*factors)

    return expression.replace(lambda e: e.is_Mul or (e.is_Pow and e.exp.is_negative), turn)


def ordered_terms(total: Any) -> list[Any]:
    """The terms of a sum as one writes them: numbers first, what is subtracted last."""
    terms = total.as_ordered_terms(order="lex")
    return sorted(terms, key=lambda term: (term.could_extract_minus_sign(), not term.is_number))


def reflected(expression: Any) -> Any:
    """Phi and phi of a negated argument, by symmetry: Phi(-r) = 1 - Phi(r), phi(-r) = phi(r)."""
    expression = expression.replace(Phi, lambda u: 1 - Phi(-u) if u.could_extract_minus_sign() else Phi(u))
    return expression.replace(phi, lambda u: phi(-u) if u.could_extract_minus_sign() else phi(u))
