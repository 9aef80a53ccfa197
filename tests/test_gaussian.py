"""Quadrature, Hermite polynomials and Mehler sums."""

from __future__ import annotations

from math import factorial, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial import hermite_e

from fpanalysis import gaussian
from fpanalysis.activations import get_activation


@pytest.mark.parametrize("s", [1e-300, 1e-3, 1.0, 10.0, 1000.0])
def test_rule_is_a_symmetric_probability(s):
    xi, w = gaussian.trapezoid_rule(s, strip=pi / 2)
    np.testing.assert_array_equal(xi, -xi[::-1])
    assert xi[len(xi) // 2] == 0
    assert (w > 0).all()
    assert w.sum() == pytest.approx(1, abs=1e-14)
    for k in range(1, 5):  # normal moments (2k - 1)!!; what phi(9) cuts off the eighth is 1e-12 of it
        assert w @ xi ** (2 * k) == pytest.approx(np.prod(np.arange(1, 2 * k, 2)), rel=1e-11)


def test_rule_converges_geometrically():
    """E 1 / cosh^2(s xi): the error falls as exp(-2 pi y / step), y = strip / s, to the rounding level.

    Measured as the slope of log error against 1 / step; the growth of phi along the shifted contour and the
    double pole change it by O(step), so to 15 %.
    """
    s, strip = 3.0, pi / 2

    def expectation(step):
        xi = step * np.arange(-int(12 / step), int(12 / step) + 1)
        return step * np.exp(-(xi**2) / 2) @ np.cosh(s * xi) ** -2.0 / sqrt(2 * pi)

    exact = expectation(0.02)
    steps = np.array([0.4, 0.35, 0.3, 0.25, 0.2, 0.16])
    errors = np.array([abs(expectation(step) - exact) for step in steps])
    slope = np.polyfit(1 / steps, np.log(errors), 1)[0]
    assert slope == pytest.approx(-2 * pi * strip / s, rel=0.15)
    xi, w = gaussian.trapezoid_rule(s, strip)
    assert w @ np.cosh(s * xi) ** -2.0 == pytest.approx(exact, rel=1e-13)


@pytest.mark.parametrize("s", [0.01, 0.5, 3.0, 30.0])
def test_rule_needs_no_more_nodes_than_its_error_asks_for(s):
    """At twice the step the error is visible or the step was at its ceiling; the nodes end where phi does."""
    xi, _ = gaussian.trapezoid_rule(s, strip=pi / 2)
    assert gaussian.TAIL <= xi[-1] < gaussian.TAIL + 0.51
    assert len(xi) <= 2 * (gaussian.TAIL / min(0.5, 0.27 / s) + 1) + 1


def test_reach_and_number_of_nodes_are_bounded():
    xi, w = gaussian.trapezoid_rule(1.0, pi, reach=5.0)
    assert xi[-1] >= gaussian.TAIL + 5
    xi, w = gaussian.trapezoid_rule(1e9, pi)
    assert len(xi) == 2 * gaussian.MOST + 1
    assert xi[-1] == pytest.approx(gaussian.TAIL)
    assert w.sum() == pytest.approx(1, abs=1e-12)


def test_legendre_rule_is_exact_for_polynomials_and_read_only():
    t, w = gaussian.legendre_rule(8)
    for k in range(16):
        assert w @ t**k == pytest.approx(1 / (k + 1), rel=1e-13)
    with pytest.raises(ValueError, match="read-only"):
        t[0] = 0


def test_hermite_basis():
    x = np.linspace(-5, 5, 11).reshape(1, 11)
    basis = gaussian.hermite_basis(x, 12)
    assert basis.shape == (13, 1, 11)
    for k in range(13):
        exact = hermite_e.hermeval(x, [0] * k + [1]) / sqrt(factorial(k))
        np.testing.assert_allclose(basis[k], exact, rtol=1e-11, atol=1e-12)
    np.testing.assert_array_equal(gaussian.hermite_basis(x, 0), np.ones((1, 1, 11)))
    xi, w = gaussian.trapezoid_rule(1.0, reach=1.5 * sqrt(30))
    basis = gaussian.hermite_basis(xi, 15)
    np.testing.assert_allclose((basis * w) @ basis.T, np.eye(16), atol=1e-12)


def bivariate_covariance(name, a, s, rho):
    """Cov(f(x), f(y)) by a tensor rule in y | x: exact for smooth f; for relu the inner mean is closed."""
    f = get_activation(name)
    xi, w = gaussian.trapezoid_rule(max(s), 0.3)
    inner = f.M(a[1] + s[1] * rho * xi, s[1] * sqrt(1 - rho**2))  # E[f(y) | x]
    if f.smooth:
        outer = f.f(a[0] + s[0] * xi)
        return w @ (outer * inner) - (w @ outer) * (w @ inner)
    # the kink of the outer factor ends a Gauss-Legendre panel
    t, v = np.polynomial.legendre.leggauss(120)
    kink = -a[0] / s[0]
    total = 0.0
    for low, high in ((-12.0, kink), (kink, 12.0)):
        x = (high - low) / 2 * t + (high + low) / 2
        weight = (high - low) / 2 * v * np.exp(-(x**2) / 2) / sqrt(2 * pi)
        inner = f.M(a[1] + s[1] * rho * x, s[1] * sqrt(1 - rho**2))
        total += weight @ (f.f(a[0] + s[0] * x) * inner)
    return total - f.M(a[0], s[0]) * f.M(a[1], s[1])


def remainder(name, a, s, K):
    f = get_activation(name)
    c = f.hermite(np.array(a), np.array(s), K)
    return c, np.maximum(f.V(np.array(a), np.array(s)) - (c[:, 1:] ** 2).sum(1), 0)


@pytest.mark.parametrize("name", ["relu", "tanh", "softplus", "erf", "leaky_relu"])
@pytest.mark.parametrize("rho", [-0.95, -0.5, 0.1, 0.6, 0.95])
@pytest.mark.parametrize("K", [3, 12, 30])
def test_mehler_sum_and_its_truncation_bound(name, rho, K):
    a, s = [0.3, -0.8], [0.7, 1.2]
    exact = bivariate_covariance(name, a, s, rho)
    c, T = remainder(name, a, s, K)
    found = gaussian.mehler_sum(c, np.array([[1.0, rho], [rho, 1.0]]))
    assert abs(found[0, 1] - exact) <= abs(rho) ** (K + 1) * sqrt(T[0] * T[1]) + 1e-10
    assert found[0, 1] == found[1, 0]
    np.testing.assert_allclose(np.diag(found) + T, get_activation(name).V(a, s), rtol=1e-9)


def test_mehler_sum_by_brute_force_in_two_dimensions():
    """scipy's adaptive quadrature of f(x) f(y) under the joint density: nothing shared with the sum."""
    from scipy.integrate import dblquad
    from scipy.special import expit

    a, s, rho = (0.2, -0.4), (1.0, 0.6), 0.7
    q = sqrt(1 - rho**2)

    def joint(y, x):
        density = np.exp(-(x**2) / 2 - y**2 / 2) / (2 * pi)
        return expit(a[0] + s[0] * x) * expit(a[1] + s[1] * (rho * x + q * y)) * density

    mixed, _ = dblquad(joint, -8, 8, -8, 8, epsabs=1e-9)
    f = get_activation("sigmoid")
    c = f.hermite(np.array(a), np.array(s), 30)
    exact = mixed - f.M(*[z[0] for z in (a, s)]) * f.M(*[z[1] for z in (a, s)])
    assert gaussian.mehler_sum(c, np.array([[1, rho], [rho, 1]]))[0, 1] == pytest.approx(exact, abs=1e-8)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_independent_inputs_have_no_covariance(name):
    c = get_activation(name).hermite(np.array([0.1, 2.0, -1.0]), 0.8, 10)
    np.testing.assert_array_equal(gaussian.mehler_sum(c, np.zeros((3, 3))), 0)


def test_mehler_sum_may_start_anywhere():
    c = np.random.default_rng(0).normal(size=(3, 6))
    rho = np.array([[1, 0.3, -0.2], [0.3, 1, 0.9], [-0.2, 0.9, 1]])
    for start in range(6):
        terms = sum(np.outer(c[:, k], c[:, k]) * rho**k for k in range(start, 6))
        np.testing.assert_allclose(gaussian.mehler_sum(c, rho, start), terms, rtol=1e-13, atol=1e-15)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.floats(-0.999, 0.999), st.floats(-3, 3), st.floats(0.01, 5))
def test_mehler_sum_is_a_covariance(rho, a, s):
    """|Cov| <= sqrt(V_i V_j), and for linear f it is rho s_i s_j."""
    f, rho = get_activation("erf"), np.array([[1, rho], [rho, 1]])
    a, s = np.array([a, 0.5]), np.array([s, 1.0])
    found, V = gaussian.mehler_sum(f.hermite(a, s, 25), rho), f.V(a, s)
    assert abs(found[0, 1]) <= sqrt(V[0] * V[1]) * (1 + 1e-9)
    linear = gaussian.mehler_sum(get_activation("linear").hermite(a, s, 5), rho)
    np.testing.assert_allclose(linear, rho * np.outer(s, s), rtol=1e-14)
