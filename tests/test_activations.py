"""Activations: derivatives, Gaussian moments and Hermite coefficients against multiprecision references."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpanalysis import gaussian
from fpanalysis.activations import (
    REGISTRY,
    Activation,
    Erf,
    LeakyReLU,
    Moments,
    ReLU,
    Smoothed,
    Softplus,
    Tanh,
    get_activation,
)
from fpanalysis.results import InputError

REFERENCE = json.loads((Path(__file__).parent / "reference" / "moments.json").read_text())
CLOSED = ("relu", "leaky_relu", "erf")
QUADRATURE = ("softplus", "tanh", "sigmoid")
BUILT_IN = ("linear", *CLOSED, *QUADRATURE)
ODD = ("linear", "tanh", "erf")
LEAST = 1e-290  #: below it products of the tails lose digits to underflow

bounded = settings(max_examples=60, deadline=None, derandomize=True)
means = st.floats(-40, 40)
deviations = st.floats(1e-3, 10)


def known(name):
    return LeakyReLU(REFERENCE["slope"]) if name == "leaky_relu" else get_activation(name)


class Algebraic(Activation):
    """x / sqrt(1 + x^2), with a branch point at distance 1: nothing but f, f' and f''."""

    def f(self, x):
        return x / np.sqrt(1 + np.square(x))

    def df(self, x):
        return (1 + np.square(x)) ** -1.5

    def d2f(self, x):
        return -3 * np.asarray(x) * (1 + np.square(x)) ** -2.5

    def precise(self, x):
        return x / mp.sqrt(1 + x * x)


class Gelu(Activation):
    """x Phi(x), entire."""

    def f(self, x):
        from scipy.special import ndtr

        return x * ndtr(x)

    def df(self, x):
        from scipy.special import ndtr

        return ndtr(x) + x * normal_density(x)

    def d2f(self, x):
        return (2 - np.square(x)) * normal_density(x)

    def precise(self, x):
        return x * mp.ncdf(x)


def normal_density(x):
    return np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi)


# ---------------------------------------------------------------- moments against references


@pytest.mark.parametrize("one_by_one", [False, True])
@pytest.mark.parametrize("name", [*CLOSED, *QUADRATURE])
def test_moments_agree_with_the_stored_digits(name, one_by_one):
    """|a| / s up to 30, s from 1e-3 to 10; in one call (one rule for all) and point by point.

    Rounding of r = a / s alone costs r^2 eps = 1e-13 of a tail at |r| = 30, and erf has two such factors: 1e-12.
    The quadratures add exp(-36) times the growth of f in its strip, hence 1e-11 relative to V and beta.
    """
    rows = np.array(REFERENCE["moments"][name])
    a, s, expected = rows[:, 0], rows[:, 1], rows[:, 2:]
    f = known(name)
    found = np.array([f.moments(*point) for point in zip(a, s, strict=True)]) if one_by_one else f.moments(a, s)
    found = found if one_by_one else np.transpose(found)
    bound = 1e-12 if name in CLOSED else 1e-11
    scale = np.abs(expected)
    if name == "leaky_relu":  # M = f(a) + beta passes through zero
        scale[:, 0] = np.abs(f.f(a)) + expected[:, 3]
    assert (np.abs(found - expected) <= bound * scale + LEAST).all()
    assert (found[:, 2][expected[:, 2] > 0] > 0).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_mean_and_gain_alone_are_those_of_all_moments(name):
    """Short cuts must not differ: in the tails to r^2 eps as above, at infinity, without noise, with tiny and NaN."""
    f = known(name)
    a, s = np.meshgrid([-np.inf, -30.0, -5.0, -0.3, 0.0, 2.0, 40.0, np.inf, np.nan], [0.0, 1e-320, 1e-3, 1.0, 3.0])
    moments = f.moments(a, s)
    np.testing.assert_allclose(f.M(a, s), moments.M, rtol=1e-12, atol=LEAST)
    np.testing.assert_allclose(f.G(a, s), moments.G, rtol=1e-12, atol=LEAST)
    again = Smoothed(f, 0.4)
    a = np.linspace(-3, 3, 9)
    np.testing.assert_allclose(again.M(a, 0.3), again.moments(a, 0.3).M, rtol=1e-12)
    np.testing.assert_allclose(again.G(a, 0.3), again.moments(a, 0.3).G, rtol=1e-12)


def test_short_cuts_are_not_inherited_by_other_moments():
    class Doubled(ReLU):
        def _moments(self, a, s):
            return Moments(*(2 * moment for moment in ReLU()._moments(a, s)))

    assert Doubled().M(0.3, 1.0) == 2 * ReLU().moments(0.3, 1.0).M
    assert Doubled().G(0.3, 1.0) == 2 * ReLU().moments(0.3, 1.0).G


@pytest.mark.parametrize("name", BUILT_IN)
def test_symmetry(name):
    """Odd f: M and beta odd, G and V even. relu, softplus: beta even in a. sigmoid: f - 1/2 is odd."""
    a, s = np.meshgrid(np.linspace(0, 40, 41), [1e-3, 0.2, 1.0, 10.0])
    up, down = known(name).moments(a, s), known(name).moments(-a, s)
    if name in (*ODD, "sigmoid"):
        np.testing.assert_allclose(down.beta, -up.beta, rtol=1e-13)
        np.testing.assert_allclose(down.G, up.G, rtol=1e-13)
        np.testing.assert_allclose(down.V, up.V, rtol=1e-11)
        np.testing.assert_allclose(down.M + up.M, name == "sigmoid", atol=1e-14)
    else:
        np.testing.assert_array_equal(down.beta, up.beta)


LIVE = [
    ("softplus", lambda x: mp.log1p(mp.exp(x)), -20.0, 2.0),
    ("tanh", mp.tanh, 6.0, 0.5),
    ("sigmoid", lambda x: 1 / (1 + mp.exp(-x)), -1.3, 1.7),
    ("erf", mp.erf, 2.5, 4.0),
    ("relu", lambda x: max(x, mp.mpf(0)), -3.0, 1.5),
]


@pytest.mark.parametrize(("name", "f", "a", "s"), LIVE)
def test_moments_by_adaptive_quadrature(name, f, a, s):
    """Another method at another precision than the stored digits: Gauss-Legendre on panels about the peak."""
    got = known(name).moments(a, s)
    with mp.workdps(40):
        a, s = mp.mpf(a), mp.mpf(s)
        panels = sorted({*map(mp.mpf, range(-12, 13, 1)), -a / s})

        def mean(g):
            return mp.quad(lambda xi: g(a + s * xi) * mp.npdf(xi), panels, maxdegree=4)

        M = mean(f)
        V = mean(lambda x: (f(x) - M) ** 2)
        for value, exact in ((got.M, M), (got.beta, M - f(a)), (got.V, V)):
            assert abs(value - exact) <= 1e-11 * abs(exact)


@pytest.mark.parametrize("f", [Algebraic(), Gelu()], ids=repr)
@pytest.mark.parametrize("s", [1e-3, 0.3, 1.0, 10.0])
def test_own_class_needs_no_more_than_f_and_its_derivatives(f, s):
    for a in (-3.0, 0.0, 2.5):
        got = f.moments(a, s)
        with mp.workdps(30):
            step = mp.mpf(min(0.2, 0.05 / s))
            xi = [k * step for k in range(-int(13 / step), int(13 / step) + 1)]
            weight = [step * mp.npdf(x) for x in xi]
            values = [f.precise(mp.mpf(a) + mp.mpf(s) * x) for x in xi]
            M = mp.fdot(weight, values)
            V = mp.fdot(weight, [(value - M) ** 2 for value in values])
            gain = mp.fdot(weight, [value * x for value, x in zip(values, xi, strict=True)]) / mp.mpf(s)  # Stein
            exact = [float(x) for x in (M, gain, V, M - f.precise(mp.mpf(a)))]
        np.testing.assert_allclose(got, exact, rtol=1e-12, atol=1e-13)


class Steep(Tanh):
    strip = 1.0

    def f(self, x):
        return np.tanh(20 * np.asarray(x))

    def df(self, x):
        return 20 / np.cosh(np.minimum(np.abs(20 * np.asarray(x)), 300)) ** 2

    def d2f(self, x):
        return -40 * self.f(x) * self.df(x)

    difference = Activation.difference
    second_difference = Activation.second_difference


class HardTanh(Activation):
    def f(self, x):
        return np.clip(x, -1.0, 1.0)

    def df(self, x):
        return np.where(np.abs(x) < 1, 1.0, 0.0)

    def d2f(self, x):
        return np.zeros(np.shape(x))


@pytest.mark.parametrize("f", [Steep(), HardTanh()], ids=["steep", "kinked"])
@pytest.mark.parametrize("s", [0.5, 1.0, 3.0])
def test_sharper_features_than_declared_are_refused(f, s):
    with pytest.raises(InputError, match=r"strip"):
        f.moments([0.0, 0.3, -1.1], s)


def test_declared_strip_makes_steep_functions_right():
    """E tanh(20 x) at (a, s) = E tanh(y) at (20 a, 20 s)."""
    f = Steep()
    f.strip = np.pi / 40  # type: ignore[misc]
    a, s = np.array([0.0, 0.3, -1.1]), 0.5
    got, expected = f.moments(a, s), Tanh().moments(20 * a, 20 * s)
    np.testing.assert_allclose(got.M, expected.M, atol=1e-14)
    np.testing.assert_allclose(got.V, expected.V, rtol=1e-12)
    np.testing.assert_allclose(got.G, 20 * expected.G, rtol=1e-12)


# ---------------------------------------------------------------- identities


@pytest.mark.parametrize("name", BUILT_IN)
@bounded
@given(a=means, s=deviations)
def test_gain_is_the_derivative_of_the_mean(name, a, s):
    """dM/da = G by the five-point difference: error at most h^4 / 30 |d^5 M / da^5| + 1.5 eps |M| / h.

    By parts d^5 M / da^5 = E[(f - M) He_5] / s^5 <= sqrt(5! V) / s^5, and h = s / 100.
    """
    h, f = s / 100, known(name)
    M = f.M(a + h * np.array([-2, -1, 1, 2]), s)
    difference = (M[0] - 8 * M[1] + 8 * M[2] - M[3]) / (12 * h)
    spread = np.sqrt(f.V(a, s))
    assert abs(difference - f.G(a, s)) <= 11 / 30 * 1e-8 * spread / s + 3e-15 * (np.abs(M).max() + s) / h + 1e-15


@pytest.mark.parametrize("name", BUILT_IN)
@bounded
@given(a=st.floats(-10, 10), s=st.floats(0.05, 5))
def test_mean_obeys_the_heat_equation(name, a, s):
    """dM/ds = s E f'' = sqrt(2) c_2 / s: joins the moments to the Hermite coefficients, kinks included."""
    h, f = s / 100, known(name)
    M = f.M(a, s + h * np.array([-2, -1, 1, 2]))
    difference = (M[0] - 8 * M[1] + 8 * M[2] - M[3]) / (12 * h)
    c_2 = f.hermite(a, s, 2)[..., 2]
    assert abs(difference - np.sqrt(2) * c_2 / s) <= 1e-6 * np.sqrt(f.V(a, s)) / s + 3e-15 * (np.abs(M).max() + s) / h


@pytest.mark.parametrize("name", BUILT_IN)
@bounded
@given(a=means, s=deviations)
def test_order_relations(name, a, s):
    """0 < V <= s^2 max f'^2, 0 <= G <= max f', and beta = M - f(a) to the rounding of M."""
    f = known(name)
    M, G, V, beta = f.moments(a, s)
    steepest = {"erf": 2 / np.sqrt(np.pi), "sigmoid": 0.25}.get(name, 1.0)
    assert 0 <= V <= (s * steepest) ** 2 * (1 + 1e-12)
    assert 0 <= G <= steepest * (1 + 1e-12)
    assert abs(beta - (M - f.f(a))) <= 1e-14 * (1 + abs(a) + s)


@pytest.mark.parametrize("name", BUILT_IN)
@bounded
@given(a=means, s=deviations)
def test_parseval(name, a, s):
    """The sum of c_k^2 over k >= 1 grows monotonically to V and never passes it; c_0 = M and c_1 = s G."""
    f = known(name)
    M, G, V, _ = f.moments(a, s)
    c = f.hermite(a, s, 40)
    remainder = V - np.cumsum(c[1:] ** 2)
    rounding = 1e-9 * V + 1e-18  # the rule serves c_k with an error that grows with k
    assert abs(c[0] - M) <= 1e-14 * (1 + abs(M) + s)
    assert abs(c[1] - s * G) <= 1e-12 * s
    assert remainder[-1] >= -rounding
    assert remainder[-1] <= 0.2 * V + rounding


@pytest.mark.parametrize("name", ["relu", "softplus", "tanh", "erf"])
def test_parseval_remainder_vanishes(name):
    f, a, s = known(name), 0.4, 0.7
    V, c = f.V(a, s), f.hermite(a, s, 80)
    remainder = V - np.cumsum(c[1:] ** 2)
    assert remainder[-1] < 2e-4 * V  # relu: c_k^2 falls as k^-5/2, the rest sums to 80^-3/2 / 15
    assert remainder[20] < 1e-6 * V or name == "relu"


@pytest.mark.parametrize("name", [*QUADRATURE, "erf"])
def test_hermite_coefficients_agree_with_the_stored_digits(name):
    stored = REFERENCE["hermite"][name]
    for a, s, *expected in stored["rows"]:
        found = known(name).hermite(a, s, 20)[stored["orders"]]
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-15 if name == "erf" else 1e-10)


def test_hermite_coefficients_of_relu():
    """c_k by parts: E[max(a + s xi, 0) He_k(xi)] on panels that end at the kink, k up to 12."""
    for a, s in ((0.4, 0.7), (-2.0, 1.0)):
        c, leaky = ReLU().hermite(a, s, 12), LeakyReLU(0.2).hermite(a, s, 12)
        x, w = np.polynomial.legendre.leggauss(200)
        low, high = -a / s, 14.0
        xi = (high - low) / 2 * x + (high + low) / 2
        weight = (high - low) / 2 * w * normal_density(xi)
        expected = gaussian.hermite_basis(xi, 12) @ (weight * (a + s * xi))
        np.testing.assert_allclose(c, expected, atol=1e-14)
        line = np.zeros(13)
        line[:2] = a, s
        np.testing.assert_allclose(leaky, 0.2 * line + 0.8 * expected, atol=1e-14)


@pytest.mark.parametrize("f", [*map(known, BUILT_IN), Algebraic(), Gelu(), HardTanh()], ids=repr)
def test_differences_are_those_of_f(f):
    """f(a + d) - f(a) and f(a + d) + f(a - d) - 2 f(a), steps across a kink and onto it included.

    Against plain differences, which err by their rounding; the local quadrature of a smooth f adds 1e-13.
    """
    if isinstance(f, HardTanh):
        f.smooth = False  # type: ignore[misc]
    a = np.array([-2.0, -1.0, -0.1, 0.0, 0.03, 1.0, 7.0])[:, None]
    d = np.array([-3.0, -0.6, -0.49, -0.1, -1e-3, 0.0, 0.05, 0.1, 0.51, 2.0])
    up, down = f.f(a + d) - f.f(a), f.f(a - d) - f.f(a)
    np.testing.assert_allclose(f.difference(a, d), up, rtol=0, atol=1e-13)
    np.testing.assert_allclose(f.second_difference(a, d), up + down, rtol=0, atol=2e-13)


# ---------------------------------------------------------------- branches and limits


def test_tail_integrals_are_continuous_and_precise_where_the_recurrence_turns():
    t = np.array([0.0, 1.0, gaussian.NEAR * (1 - 1e-15), gaussian.NEAR, gaussian.NEAR * (1 + 1e-15), 3.0, 20.0, 37.0])
    found = np.array(gaussian.normal_tail_integrals(t))
    with mp.workdps(60):
        for k, x in enumerate(map(mp.mpf, t)):
            I0 = mp.erfc(x / mp.sqrt(2)) / 2
            I1 = mp.npdf(x) - x * I0
            exact = [float(I0), float(I1), float((I0 - x * I1) / 2)]
            np.testing.assert_allclose(found[:, k], exact, rtol=4e-14 + 2 * t[k] ** 2 * 1.2e-16)


def test_erf_beta_is_continuous_where_its_formula_changes():
    """width = |a| - |a| / q = 1, where the short form (a quadrature) meets the long one (a difference).

    The two points are 2e-13 |a| apart and beta changes by at most 2 / sqrt(pi) per unit of a.
    """
    for s in (0.8, 1.5, 10.0, 100.0):
        q = np.sqrt(1 + 2 * s**2)
        a = 1 / (1 - 1 / q) * (1 + np.array([-1e-13, 1e-13]))
        below, above = Erf().beta(a, s)
        assert abs(below - above) <= 3e-13 * a[0] + 1e-15
        with mp.workdps(50):
            exact = mp.erf(mp.mpf(a[1]) / mp.sqrt(1 + 2 * mp.mpf(s) ** 2)) - mp.erf(mp.mpf(a[1]))
        assert abs(above / float(exact) - 1) < 1e-13


@pytest.mark.parametrize("c", [-600.0, -40.0, -3.0, 0.0, 5.0])
def test_softplus_difference_is_continuous_at_30(c):
    d = 30 * (1 + np.array([-1e-15, 0, 1e-15]))
    for sign in (1, -1):
        values = Softplus().difference(np.array(c), sign * d)
        with mp.workdps(400):
            x = mp.mpf(c) + sign * mp.mpf(d[1])
            exact = float(mp.log1p(mp.exp(x)) - mp.log1p(mp.exp(mp.mpf(c))))
        np.testing.assert_allclose(values, exact, rtol=1e-12)


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_noise_gives_the_function_itself(name):
    f, a = known(name), np.array([-40.0, -1.0, 0.0, 0.3, 50.0])
    M, G, V, beta = f.moments(a, [0.0, 0.0, 0.0, 0.0, 0.0])
    np.testing.assert_array_equal(M, f.f(a))
    np.testing.assert_array_equal(G, f.df(a))
    np.testing.assert_array_equal([V, beta], 0.0)
    c = f.hermite(a, 0.0, 3)
    np.testing.assert_array_equal(c[:, 0], f.f(a))
    np.testing.assert_array_equal(c[:, 1:], 0.0)
    mixed = f.moments(a, [0.0, 1.0, 0.0, 1.0, 0.0])
    np.testing.assert_array_equal(mixed.M[::2], f.f(a)[::2])
    np.testing.assert_allclose(mixed.V[1::2], f.V(a[1::2], 1.0), rtol=1e-11)


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("s", [1e-12, 1e-150, 1e-300, 1e-320])
def test_tiny_noise(name, s):
    """M -> f, G -> f', V -> s^2 f'^2, beta -> s^2 f'' / 2, without warnings and without dividing by nothing."""
    f, a = known(name), np.array([-700.0, -2.0, 0.7, 1e10])
    M, G, V, beta = f.moments(a, s)
    np.testing.assert_allclose(M, f.f(a), rtol=1e-14)
    np.testing.assert_allclose(G, f.df(a), rtol=1e-13)
    np.testing.assert_allclose(V, s**2 * f.df(a) ** 2, rtol=1e-10, atol=1e-320)
    if f.smooth:
        np.testing.assert_allclose(beta, s**2 * f.d2f(a) / 2, rtol=1e-10, atol=1e-320)
    assert np.isfinite(f.hermite(a, s, 6)).all()


@pytest.mark.parametrize(("name", "upper", "lower"), [("softplus", 1, 0), ("tanh", 1, -1), ("sigmoid", 1, 0)])
def test_huge_noise_sees_only_the_asymptotes(name, upper, lower):
    """s = 100 (still exact): softplus is relu plus an O(1 / s) bump, tanh and sigmoid are steps."""
    f, s = known(name), 100.0
    for a in (-50.0, 0.0, 20.0):
        M, G, V, _ = f.moments(a, s)
        if name == "softplus":  # the bump's area is pi^2 / 6
            np.testing.assert_allclose(M, ReLU().M(a, s) + np.pi**2 / 6 * normal_density(a / s) / s, rtol=1e-5)
            np.testing.assert_allclose(G, ReLU().G(a, s), rtol=1e-3)
        else:
            P = ReLU().G(a, s)
            np.testing.assert_allclose(M, upper * P + lower * (1 - P), atol=1e-4)
            np.testing.assert_allclose(V, (upper - lower) ** 2 * P * (1 - P), rtol=0.05)


@pytest.mark.parametrize("name", BUILT_IN)
def test_absurd_and_missing_numbers_neither_raise_nor_exhaust_memory(name):
    """A diverging iteration gets numbers or NaN back, and says so itself."""
    f = known(name)
    M, _, V, _ = f.moments([1.0, 1e200, 3.0], [1e7, 1e7, 1e4])
    assert np.isfinite(M).all()
    assert (V >= 0).all()
    assert np.isfinite(f.hermite(1.0, 1e5, 3)).all()
    assert np.isnan(f.moments([np.nan, 1.0], 1.0).M).tolist() == [True, False]
    for s in (np.nan, np.inf):
        assert np.isnan(f.moments([1.0, 2.0], [1.0, s]).V).tolist() == [False, True]


@pytest.mark.parametrize("name", [*CLOSED, *QUADRATURE])
def test_variance_stays_positive_down_to_the_underflow_limit(name):
    """On the saturated side V falls monotonically, smoothly in its logarithm, and is never negative."""
    f, a = known(name), np.linspace(0, 60, 400)
    side = -1 if name in ("relu", "leaky_relu", "softplus") else 1
    V = f.V(side * a, 1.0)
    assert (V >= 0).all()
    positive = V > 1e-300
    assert positive.sum() > 100
    assert (np.diff(V) <= 1e-12 * V[:-1]).all()
    assert (np.diff(np.log(V[positive]), 3) < 0.05).all()


@pytest.mark.parametrize("name", BUILT_IN)
def test_shapes(name):
    f = known(name)
    assert {np.shape(m) for m in f.moments(0.5, 1.0)} == {()}
    assert {np.shape(m) for m in f.moments(np.zeros(0), 1.0)} == {(0,)}
    assert {np.shape(m) for m in f.moments(np.zeros((3, 1)), np.ones(4))} == {(3, 4)}
    assert {np.shape(m) for m in f.moments(1, [0, 1])} == {(2,)}
    assert f.hermite(0.5, 1.0, 4).shape == (5,)
    assert f.hermite(np.zeros(0), 1.0, 4).shape == (0, 5)
    assert f.hermite(np.zeros((3, 1)), np.ones(4), 0).shape == (3, 4, 1)
    for method in (f.f, f.df, f.d2f):
        assert np.shape(method(1)) == ()
        assert method([[1, 2]]).shape == (1, 2)
    grid = f.moments(np.array([[-1.0], [2.0]]), [0.5, 3.0])
    np.testing.assert_allclose(grid.V[1, 1], f.V(2.0, 3.0), rtol=1e-12)


def test_large_batches_are_worked_in_parts(monkeypatch):
    a = np.random.default_rng(0).normal(size=(7, 11))
    whole, coefficients = Tanh().moments(a, 1.3), Tanh().hermite(a, 1.3, 5)
    monkeypatch.setattr("fpanalysis._activation.CHUNK", 300)
    np.testing.assert_allclose(Tanh().moments(a, 1.3), whole, rtol=1e-13)
    np.testing.assert_allclose(Tanh().hermite(a, 1.3, 5), coefficients, rtol=1e-12, atol=1e-15)


def test_negative_deviation_is_refused():
    for call in (lambda: Tanh().moments(0.0, [1.0, -0.5]), lambda: ReLU().hermite(0.0, -0.5, 3)):
        with pytest.raises(InputError, match=r"s must be >= 0.*-0\.5"):
            call()


# ---------------------------------------------------------------- the function in its several guises


@pytest.mark.parametrize("name", BUILT_IN)
def test_derivatives_by_finite_differences(name):
    f, x, h = known(name), np.array([-9.0, -2.0, -0.3, 0.4, 1.7, 11.0]), 1e-3
    stencil = np.array([1, -8, 8, -1]) / (12 * h)
    shifted = x[:, None] + h * np.array([-2, -1, 1, 2])
    np.testing.assert_allclose(f.f(shifted) @ stencil, f.df(x), atol=2e-11)  # h^4 / 30 |f^(5)| + eps |f| / h
    np.testing.assert_allclose(f.df(shifted) @ stencil, f.d2f(x), atol=2e-11)


@pytest.mark.parametrize("name", BUILT_IN)
def test_torch_function_and_its_gradient(name):
    import torch

    f = known(name)
    x = np.array([-800.0, -30.0, -2.0, -1e-3, 1e-3, 0.7, 15.0, 800.0])
    tensor = torch.tensor(x, requires_grad=True)
    y = f.torch(tensor)
    y.sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), f.f(x), rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(tensor.grad.numpy(), f.df(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("name", BUILT_IN)
def test_sympy_expression_and_its_derivatives(name):
    import sympy

    f, x = known(name), sympy.Symbol("x", real=True)
    expression = f.sympy(x)
    for value in (-6.0, -1.5, 0.25, 3.0):
        for order, method in enumerate((f.f, f.df, f.d2f)):
            exact = float(sympy.diff(expression, x, order).subs(x, sympy.Float(value, 30)).evalf(20))
            assert method(value) == pytest.approx(exact, rel=1e-13, abs=1e-16)


@pytest.mark.parametrize("name", BUILT_IN)
def test_configuration_makes_the_same_activation_again(name):
    f = known(name)
    again = get_activation(f.config())
    assert type(again) is type(f)
    assert again.key == f.key
    assert repr(again) == repr(f)
    assert get_activation(f) is f


def test_declared_properties():
    x = np.linspace(-1e4, 1e4, 2001)
    for name in BUILT_IN:
        assert known(name).bounded == bool(np.abs(known(name).f(x)).max() <= 1)
        assert known(name).smooth == (name not in ("relu", "leaky_relu"))


def test_leaky_relu_of_every_slope():
    """slope 1 is linear, 0 is relu, -1 is |x|: E|x| = 2 E relu(x) - a, Var|x| = a^2 + s^2 - (E|x|)^2."""
    a, s = np.linspace(-4, 4, 9), 1.3
    np.testing.assert_allclose(LeakyReLU(1.0).moments(a, s)[:3], (a, np.ones(9), np.full(9, s**2)), rtol=1e-14)
    np.testing.assert_allclose(LeakyReLU(0.0).moments(a, s), ReLU().moments(a, s), rtol=1e-15)
    M, _, V, _ = LeakyReLU(-1.0).moments(a, s)
    np.testing.assert_allclose(M, 2 * ReLU().M(a, s) - a, rtol=1e-14)
    np.testing.assert_allclose(V, a**2 + s**2 - M**2, rtol=1e-13)


@pytest.mark.parametrize(
    "spec",
    [
        "rellu",
        None,
        7,
        ["relu"],
        {},
        {"name": "relu", "slope": 1},
        {"name": "leaky_relu", "slope": "steep"},
        {"name": "leaky_relu", "slope": np.nan},
        {"name": "leaky_relu", "slope": [0.1, 0.2]},
        {"name": "leaky_relu", "slope": None},
        {"name": "leaky_relu", 1: 2},
        {"name": ["relu"]},
    ],
    ids=repr,
)
def test_unknown_activations_are_refused(spec):
    with pytest.raises(InputError, match=r"activation|leaky_relu") as caught:
        get_activation(spec)
    assert "\n" not in str(caught.value)


def test_registry_keeps_names_apart():
    class Variant(ReLU):
        """Without a name of its own it is not registered in its parent's place."""

    assert REGISTRY["relu"] is ReLU
    with pytest.raises(InputError, match="taken"):
        type("Another", (Activation,), {"name": "relu"})
    assert REGISTRY["relu"] is ReLU

    def define():
        class Again(Activation):
            name = "defined-twice"

        return Again

    try:
        define()  # a notebook cell that is run twice defines its class twice
        second = define()
        assert REGISTRY["defined-twice"] is second
    finally:
        REGISTRY.pop("defined-twice", None)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "softplus", "tanh", "sigmoid", "erf", "linear"])
def test_expansion_is_moments_and_coefficients_in_one_pass(name):
    f = get_activation(name)
    a, s = np.meshgrid(np.linspace(-6, 6, 25), [0.0, 1e-7, 1e-3, 0.3, 1.0, 4.0], indexing="ij")
    found, moments = f.expansion(a, s, 8), f.moments(a, s)
    size = 5e-8 * (1 + s)
    assert (np.abs(found.c - f.hermite(a, s, 8)) <= size[..., None]).all()
    assert (np.abs(found.G - moments.G) <= 1e-7).all()
    assert (np.abs(found.V - moments.V) <= size * s + 1e-15).all()
