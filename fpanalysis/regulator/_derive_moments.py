"""Stationary moments of the deviation delta, order by order, from the exact moment recursions of the chain.

For a chain of which E(delta'^n - delta^n | delta) = sum_{i,l} c_{il} delta^i epsilon^l is known, and whose moments are
E delta^n = sum_k mu_{nk} epsilon^k with k >= n / 2, the stationary law makes each order of that mean vanish. At order k
the moments n = 2k, 2k - 1, ..., 1 follow one after the other, each from one linear equation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import sympy as sp

from fpanalysis.regulator._derivation_symbols import M_1 as M1
from fpanalysis.regulator._derivation_symbols import delta, f1, f2, f3, f4, facing, gamma, lam, normal_moment, w, xi

epsilon = sp.Symbol("epsilon", positive=True)
M2, M3, M4, V0, V1, V2, K0 = sp.symbols("M_2:5 V_0:3 K_0", real=True)  #: with M1: derivatives of M and V; K
TAYLOR = (f1, f2, f3, f4)
ORDERS = 2


@dataclass(frozen=True)
class Moments:
    """mu[n, k]: its symbol; `equation[n, k]`: it, in terms of earlier ones; `full[n, k]`: solved down to parameters."""

    symbol: Mapping[tuple[int, int], Any]
    equation: Mapping[tuple[int, int], Any]
    full: Mapping[tuple[int, int], Any]


def solve_orders(balance: Mapping[int, Any], per_order: int) -> Moments:
    """The moments from `balance[n]`, a polynomial in delta and epsilon; mu_{nk} is named mu_{n, per_order k}."""
    symbol = {
        (n, k): sp.Symbol(f"mu_{n}{per_order * k}", real=True)
        for k in range(1, ORDERS + 1)
        for n in range(1, 2 * k + 1)
    }
    equation: dict[tuple[int, int], Any] = {}
    full: dict[Any, Any] = {}
    for n, k in sorted(symbol, key=lambda nk: (nk[1], -nk[0])):
        total = sp.Integer(0)
        for (i, order), c in sp.Poly(balance[n], delta, epsilon).terms():
            if i == 0:
                total += c if order == k else 0
            else:
                total += c * symbol.get((i, k - order), 0)
        linear = sp.Poly(total, symbol[n, k])
        solved = -linear.coeff_monomial(1) / linear.coeff_monomial(symbol[n, k])
        equation[n, k] = facing(sp.factor(solved))
        full[symbol[n, k]] = solved.subs(full)
    return Moments(symbol, equation, {key: facing(tidy(full[symbol[key]])) for key in symbol})


def tidy(expression: Any) -> Any:
    """A sum over monomials of the derivatives of f (or M and V), each with its coefficient in factors."""
    bends = [symbol for symbol in (f2, f3, f4, M2, M3, M4, V0, V1, V2, K0) if expression.has(symbol)]
    if not bends:
        return sp.factor(expression)
    top, bottom = sp.fraction(sp.together(expression))
    terms = sp.Poly(top, *bends).terms()
    return sp.Add(*(sp.factor(c / bottom) * sp.Mul(*map(sp.Pow, bends, powers)) for powers, c in terms))


def _truncated(polynomial: Any, *symbols: Any) -> Any:
    """Without what only enters beyond the last order: delta^i epsilon^l with i / 2 + l > ORDERS."""
    terms = sp.Poly(polynomial, *symbols).terms()
    half = [1, 1] if len(symbols) == 2 and symbols[1] == xi else [1, 2]
    kept = ((p, c) for p, c in terms if p[0] * half[0] + p[1] * half[1] <= 2 * ORDERS)
    return sp.Add(*(c * symbols[0] ** p[0] * symbols[1] ** p[1] for p, c in kept))


@cache
def small_noise(placement: str) -> tuple[Any, Moments]:
    """The Taylor-expanded step delta' (with sigma xi written xi), and the moments in powers of epsilon = sigma^2.

    lambda = 1 - gamma + gamma w f_1 is kept as a symbol.
    """
    inside = w * delta + (xi if placement == "in" else 0)
    bent = sum(fk * inside**k / sp.factorial(k) for k, fk in enumerate(TAYLOR[1:], start=2))
    noise = gamma * (f1 if placement == "in" else 1) * xi
    step = lam * delta + noise + gamma * bent
    power, balance = sp.Integer(1), {}
    for n in range(1, 2 * ORDERS + 1):
        power = _truncated(sp.expand(power * step), delta, xi)
        terms = sp.Poly(power, delta, xi).terms()
        mean = sum(c * delta**i * normal_moment(j) * epsilon ** sp.Rational(j, 2) for (i, j), c in terms)
        balance[n] = sp.expand(mean - delta**n)
    return step, solve_orders(balance, 2)


@cache
def slow() -> Moments:
    """The moments in powers of epsilon = gamma, for noise in, about the mean m of the slow limit, m = M(w m + b).

    With y = f(w h + b + sigma xi): delta' = (1 - gamma) delta + gamma (y - m), and given delta the mean of y - m is
    M(a + w delta) - m, its variance V(a + w delta), its third cumulant K; all three as Taylor series in delta.
    """
    mean = sum(Mk * (w * delta) ** k / sp.factorial(k) for k, Mk in enumerate((M1, M2, M3, M4), start=1))
    var = sum(Vk * (w * delta) ** k / sp.factorial(k) for k, Vk in enumerate((V0, V1, V2)))
    raw = [1, mean, var + mean**2, K0 + 3 * var * mean + mean**3]
    balance = {}
    for n in range(1, 2 * ORDERS + 1):
        after = ((1 - epsilon) ** n - 1) * delta**n
        for j in range(1, min(n, 3) + 1):
            after += sp.binomial(n, j) * (1 - epsilon) ** (n - j) * epsilon**j * delta ** (n - j) * raw[j]
        balance[n] = _truncated(sp.expand(after / epsilon), delta, epsilon)
    return solve_orders(balance, 1)
