"""The symbolic derivation, smooth f: the orders in sigma against the exact chain and against closed forms."""

import numpy as np
import pytest
import sympy as sp
from derivations import chain, derived, falls

from fpanalysis.regulator import derive


@pytest.fixture(scope="module")
def smooth():
    return {place: derived("smooth", place) for place in ("in", "out")}


@pytest.fixture(scope="module")
def named():
    cases = (("softplus", "in"), ("softplus", "out"), ("tanh", "in"), ("tanh", "out"))
    return {case: derived(*case) for case in cases}


@pytest.mark.parametrize(
    ("name", "place", "w", "x", "gamma"),
    [
        ("softplus", "in", -1.5, 0.3, 0.3),
        ("softplus", "out", 0.7, -0.5, 0.5),
        ("tanh", "in", -0.8, 0.5, 0.5),
        ("tanh", "out", -0.9, 0.6, 1.0),
    ],
)
def test_smooth_activations_to_second_and_fourth_order(named, name, place, w, x, gamma):
    """Relative errors of the shift and the variance fall as sigma^2 and sigma^4; gamma is not small."""
    d = named[name, place]
    b, h = float(d.function("b", "x w")(x, w)), float(d.function("fixed_point", "x")(x))
    sigmas = np.array([0.2, 0.1, 0.05])
    m, v = np.transpose([chain(w, b, gamma, sigma, name, place) for sigma in sigmas])
    for result, exact in (("shift", m - h), ("variance", v)):
        second, fourth = (d.function(r, "x w sigma gamma")(x, w, sigmas, gamma) for r in (f"{result}_second", result))
        assert falls(second / exact - 1, 2), result
        assert falls(fourth / exact - 1, 4, 0.6), result
        assert abs(fourth[1] / exact[1] - 1) < 0.1 * abs(second[1] / exact[1] - 1)


def test_a_general_f_is_the_named_one_with_its_derivatives(smooth, named):
    x, w, sigma, gamma = 0.4, -0.7, 0.6, 0.3
    t = sp.Symbol("t")
    f = [float(sp.diff(sp.log(1 + sp.exp(t)), t, k).subs(t, x)) for k in range(1, 5)]
    for place in ("in", "out"):
        general = smooth[place].function("shift", "f_1 f_2 f_3 f_4 w sigma gamma")(*f, w, sigma, gamma)
        assert general == pytest.approx(
            named["softplus", place].function("shift", "x w sigma gamma")(x, w, sigma, gamma)
        )


def test_the_second_order_has_its_known_form(smooth):
    for place, inside in (("in", 1), ("out", 0)):
        d = smooth[place]
        f1, f2, w, sigma, gamma = (d.symbols[name] for name in ("f_1", "f_2", "w", "sigma", "gamma"))
        passed = f1**2 if inside else 1
        v = gamma * passed * sigma**2 / ((1 - w * f1) * (2 - gamma * (1 - w * f1)))
        assert sp.simplify(d.results["variance_second"] - v) == 0
        assert sp.simplify(d.results["shift_second"] - f2 * (inside * sigma**2 + w**2 * v) / (2 * (1 - w * f1))) == 0


def test_a_quadratic_f_at_one_step_has_its_exact_moments(smooth):
    """w = 0, gamma = 1: h' = f(b + sigma xi), whose moments for a polynomial f are those of the normal law."""
    d = smooth["in"]
    at = {d.symbols["w"]: 0, d.symbols["gamma"]: 1}
    f1, f2, f3, f4, sigma = (d.symbols[name] for name in ("f_1", "f_2", "f_3", "f_4", "sigma"))
    shift = f2 * sigma**2 / 2 + f4 * sigma**4 / 8
    variance = f1**2 * sigma**2 + (f2**2 / 2 + f1 * f3) * sigma**4
    assert sp.expand(d.results["shift"].subs(at) - shift) == 0
    assert sp.expand(d.results["variance"].subs(at) - variance) == 0
    assert sp.expand(d.results["fourth"].subs(at) - 3 * f1**4 * sigma**4) == 0
    assert sp.expand(d.results["third"].subs(at) - sp.Rational(9, 2) * f1**2 * f2 * sigma**4) == 0


def test_a_linear_f_is_not_shifted():
    assert derive("linear", "in").result == 0
