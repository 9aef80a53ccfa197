"""The symbolic derivation, ReLU: every result against the exact chain, with the order of what it leaves out."""

import re

import numpy as np
import pytest
from derivations import chain, derived, falls
from scipy.optimize import brentq
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis.activations import Activation, get_activation
from fpanalysis.regulator import derive
from fpanalysis.regulator._derivation_symbols import M as fM
from fpanalysis.regulator._derivation_symbols import V as fV


@pytest.fixture(scope="module")
def relu_in():
    return derived()


@pytest.fixture(scope="module")
def relu_out():
    return derived("relu", "out")


# noise in


def test_moments_are_those_of_the_activation(relu_in):
    a, s = np.meshgrid(np.linspace(-5, 5, 21), [0.3, 1.0, 2.0])
    a = a * s
    M, G, V, _ = get_activation("relu").moments(a, s)
    for name, exact in (("M", M), ("G", G), ("V", V)):
        np.testing.assert_allclose(relu_in.function(name, "a s")(a, s), exact, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize(("w", "r"), [(-3, -0.3), (-1, 0.4), (0.5, -1.0), (0.6, 0.5)])
def test_the_slow_limit_and_its_slope_in_gamma(relu_in, w, r):
    """The chain's mean less the partial sums of the series in gamma falls as gamma, gamma^2, gamma^3."""
    sigma = 0.7
    a = r * sigma
    b, mean, slope, curvature = (
        relu_in.function(name, "a w sigma")(a, w, sigma) for name in ("b", "mean", "slope", "curvature")
    )
    gammas = np.array([0.04, 0.02, 0.01])
    m, v = np.transpose([chain(w, b, gamma, sigma) for gamma in gammas])
    assert falls(m - mean, 1)
    assert falls(m - mean - gammas * slope, 2)
    assert falls(m - mean - gammas * slope - gammas**2 * curvature, 3)
    quotient = (m - mean) / gammas  # Richardson twice: the slope itself
    once = 2 * quotient[1:] - quotient[:-1]
    assert (4 * once[1] - once[0]) / 3 == pytest.approx(slope, rel=1e-3)
    variance = relu_in.function("variance", "a w sigma gamma")(a, w, sigma, gammas)
    assert falls(v / variance - 1, 1)


@pytest.mark.parametrize(("w", "a"), [(-1.5, 0.4), (-1.5, -0.2), (0.5, -0.4), (-3.0, 1.0)])
def test_the_shift_is_the_mean_less_the_fixed_point(relu_in, w, a):
    sigma, gamma = 0.5, 1e-3
    b = float(relu_in.function("b", "a w sigma")(a, w, sigma))
    net = fpa.Network(W=[[w]], b=[b], gamma=gamma, sigma=sigma)
    (h0,) = fpa.find_fixed_points(net).h[:, 0]
    assert (b > 0) == (h0 > 0)
    values = a, w, sigma
    shift = relu_in.function("shift", "a w sigma")(*values)
    assert shift == pytest.approx(relu_in.function("mean", "a w sigma")(*values) - h0, rel=1e-12)
    assert chain(w, b, gamma, sigma)[0] - h0 == pytest.approx(
        shift + gamma * relu_in.function("slope", "a w sigma")(*values), rel=1e-4
    )
    if a >= 0:
        assert shift == pytest.approx(fpa.attenuation_bias("relu", a, sigma) / (1 - w), rel=1e-12)


def test_the_shift_far_above_the_kink_keeps_its_digits(relu_in):
    """M(-a) and not M(a) - a: at r = 8 the difference would have no digit left."""
    shift = relu_in.function("shift", "a w sigma")(8.0, -1.0, 1.0)
    assert shift == pytest.approx(fpa.attenuation_bias("relu", 8.0, 1.0) / 2, rel=1e-8)


def test_strong_self_excitation_has_no_stationary_law(relu_in):
    shift = relu_in.function("shift", "a w sigma")
    b = relu_in.function("b", "a w sigma")
    w, sigma = 1.5, 0.5
    a = np.linspace(-3, 2, 20001)
    fold = sigma * norm.ppf(1 / w)
    assert b(a, w, sigma).max() == pytest.approx(relu_in.function("critical_b", "a w sigma")(fold, w, sigma), abs=1e-7)
    assert np.isfinite(shift(fold - 0.1, w, sigma))  # the quasi-stationary branch
    assert np.isnan(shift(fold + 0.1, w, sigma))  # the unstable one
    assert np.isnan(shift(3.0, 1.2, 0.5))
    assert b(0.0, -1.0, 0.5) > 0
    assert np.isfinite(shift(3.0, 0.99, 0.5))


def test_the_quasi_stationary_branch_is_where_the_chain_stays(relu_in):
    """w > 1, far from the threshold: the chain stopped at the threshold keeps the mean of the branch."""
    w, sigma, a, gamma, rng = 1.2, 0.3, -0.45, 0.01, np.random.default_rng(0)
    b = float(relu_in.function("b", "a w sigma")(a, w, sigma))
    shift = float(relu_in.function("shift", "a w sigma")(a, w, sigma))
    slope = float(relu_in.function("slope", "a w sigma")(a, w, sigma))
    h = np.full(4000, shift)
    total = []
    for step in range(3000):
        h = (1 - gamma) * h + gamma * np.maximum(w * h + b + sigma * rng.standard_normal(h.shape), 0)
        if step >= 1000:
            total.append(h.mean())
    assert h.max() < b / (1 - w)
    block = np.reshape(total, (20, 100)).mean(axis=1)
    # neighbouring blocks of a decay time each: the error of their mean is at most twice the independent one
    assert abs(block.mean() - shift - gamma * slope) < 4 * 2 * block.std() / np.sqrt(len(block))


@pytest.mark.parametrize("gamma", [0.1, 0.2])
@pytest.mark.parametrize("w", [-3.0, -1.0, 0.5])
def test_the_closure_at_finite_gamma(relu_in, gamma, w):
    """Within 2 % of the chain's shift, or 1e-4 sigma."""
    for r in (-1.0, 0.0, 1.0):
        values = r, w, 1.0, gamma
        sigma, b = (float(relu_in.function(f"closure_{name}", "a w s gamma")(*values)) for name in ("sigma", "b"))
        shift = float(relu_in.function("closure_shift", "a w s gamma")(*values))
        m, v = chain(w, b, gamma, sigma)
        exact = m - max(b, 0) / (1 - w)
        assert abs(shift - exact) < max(0.02 * abs(exact), 1e-4 * sigma)
        assert relu_in.function("closure_variance", "a w s gamma")(*values) == pytest.approx(v, rel=0.08)


def test_the_noise_holds_off_the_flip(relu_in):
    """The closure ends at w = 1 - 2/gamma far above the kink, and beyond it nearer to the kink, as the chain shows."""
    gamma, w = 0.5, np.linspace(-12, 0, 1201)
    sigma = relu_in.function("closure_sigma", "a w s gamma")
    ends = [w[np.isnan(sigma(r, w, 1.0, gamma))].max() for r in (9.0, 1.0, 0.0)]
    assert ends[0] == pytest.approx(1 - 2 / gamma, abs=0.02)
    assert ends[2] < ends[1] < ends[0]
    values = 0.0, 1.2 * (1 - 2 / gamma), 1.0, gamma
    b = float(relu_in.function("closure_b", "a w s")(*values[:3]))
    m, _ = chain(values[1], b, gamma, float(sigma(*values)))
    assert relu_in.function("closure_shift", "a w s")(*values[:3]) == pytest.approx(m - b / (1 - values[1]), rel=0.3)


def test_the_trained_weight_has_the_least_variance(relu_in):
    """Along the pairs (w, b) that hold the chain's own mean at the target, the variance is least at w_optimal."""
    r, gamma = 1.0, 0.2
    w, z, variance = (
        float(relu_in.function(name, "r gamma")(r, gamma))
        for name in ("w_optimal", "target_optimal", "variance_optimal")
    )

    def at(w):
        b = brentq(lambda b: chain(w, b, gamma, 1.0)[0] - z, (1 - w) * z - 1, (1 - w) * z + 1, xtol=1e-7)
        return chain(w, b, gamma, 1.0)[1]

    low, here, high = at(1.3 * w), at(w), at(0.7 * w)
    assert here < min(low, high)
    assert here == pytest.approx(variance * z**2, rel=0.02)
    assert 1 - 2 / gamma < w < 1 - 1 / gamma + 1


def test_a_neuron_far_above_the_kink_ends_at_the_linear_optimum(relu_in):
    """For a linear neuron the least variance is at slope 0, w = 1 - 1/gamma, and is gamma^2 sigma^2."""
    gamma, r = 0.3, 9.0
    w, z, variance = (
        float(relu_in.function(name, "r gamma")(r, gamma))
        for name in ("w_optimal", "target_optimal", "variance_optimal")
    )
    assert w == pytest.approx(1 - 1 / gamma, rel=1e-6)
    assert variance * z**2 == pytest.approx(gamma**2, rel=1e-6)


def test_the_loss_with_the_noise_removed(relu_in):
    a, w, sigma = 0.1, -0.5, 1.0
    b = float(relu_in.function("b", "a w sigma")(a, w, sigma))
    gammas = np.array([0.04, 0.02, 0.01])
    exact = []
    for gamma in gammas:
        m, v = chain(w, b, gamma, sigma)
        exact.append((m - b / (1 - w)) ** 2 / v)
    assert falls(relu_in.function("loss_ratio", "a w sigma gamma")(a, w, sigma, gammas) / exact - 1, 1)


def test_without_recurrence_the_ratio_is_even_about_the_kink(relu_in):
    """w = 0: the chain's (m - h0)^2 / v to first order in gamma, on either side, as the last step shows it."""
    gamma, sigma = 0.01, 0.7
    shown = relu_in.steps[-1].equation.rhs
    for r in (-1.5, -0.4, 0.6, 2.0):
        m, v = chain(0.0, r * sigma, gamma, sigma)
        exact = (m - max(r * sigma, 0)) ** 2 / v
        assert relu_in.function("loss_ratio", "a w sigma gamma")(r * sigma, 0.0, sigma, gamma) == pytest.approx(
            exact, rel=gamma
        )
        M, V = (lambda r, s, k=k: get_activation("relu").moments(np.array([float(r)]), 1.0)[k][0] for k in (0, 2))
        values = {"r": r, "gamma": gamma}
        at = shown.subs({symbol: values[symbol.name] for symbol in shown.free_symbols})
        assert float(at.replace(fM, M).replace(fV, V)) == pytest.approx(exact, rel=gamma)


def test_no_ratio_without_a_law(relu_in):
    ratio = relu_in.function("loss_ratio", "a w sigma gamma")
    assert np.isnan(ratio(2.0, 1.1, 0.5, 0.1))  # b > 0
    assert np.isnan(ratio(0.5, 1.5, 0.5, 0.1))  # b < 0, beyond the fold
    assert ratio(-0.5, 1.5, 0.5, 0.1) > 0


def test_the_bias_of_the_optimum_is_minus_the_variance_gained(relu_in):
    """The least slow-limit loss at given w, found numerically, has the bias that the derivation gives."""
    w, sigma, a0 = -1.0, 1.0, 0.3
    mean, variance = relu_in.function("mean", "a w sigma"), relu_in.function("variance", "a w sigma gamma")
    z, errors = mean(a0, w, sigma), []
    for gamma in (0.02, 0.01, 0.005):

        def slope(a, gamma=gamma, step=1e-4):
            ends = np.array([a - step, a + step])
            return np.diff((mean(ends, w, sigma) - z) ** 2 + variance(ends, w, sigma, gamma))[0] / (2 * step)

        best = brentq(slope, a0 - 0.1, a0 + 0.1)
        errors.append(
            mean(best, w, sigma) - z - relu_in.function("bias_of_optimum", "a w sigma gamma")(a0, w, sigma, gamma)
        )
    assert falls(errors, 2)


# noise out


@pytest.mark.parametrize(("w", "k"), [(-3.0, 0.0), (-1.5, 1.0), (-0.5, -1.0), (0.5, 1.0)])
def test_noise_out_is_right_to_first_order_in_gamma(relu_out, w, k):
    """Near the kink, at b of the size of the fluctuations, the relative error falls as gamma^2."""
    sigma = 0.5
    shift, variance = (relu_out.function(name, "w b sigma gamma") for name in ("shift", "variance"))
    errors, spread = [], []
    for gamma in (0.1, 0.05, 0.025):
        b = k * np.sqrt(gamma) * sigma * abs(w)
        m, v = chain(w, b, gamma, sigma, placement="out")
        exact = m - max(b, 0) / (1 - w)
        errors.append(shift(w, b, sigma, gamma) / exact - 1)
        spread.append(variance(w, b, sigma, gamma) / v - 1)
    assert falls(errors, 2)
    assert abs(errors[0]) < 0.006
    assert np.all(np.abs(spread) < np.array([0.006, 0.0015, 0.0004]))


def test_noise_out_at_the_kink(relu_out):
    w, sigma = -0.8, 0.6
    leading = relu_out.function("shift_at_kink", "w sigma gamma")
    errors = [leading(w, sigma, g) / chain(w, 0.0, g, sigma, placement="out")[0] - 1 for g in (0.04, 0.02, 0.01)]
    assert falls(errors, 1)


def test_noise_out_far_from_the_kink(relu_out):
    """Where the neuron is linear, or silent, the law is the exact normal one and the shift is gone."""
    shift, variance = (relu_out.function(name, "w b sigma gamma") for name in ("shift", "variance"))
    w, sigma, gamma = -1.0, 0.3, 0.2
    for b in (2.0, -1.0):
        _, v = chain(w, b, gamma, sigma, placement="out")
        assert abs(shift(w, b, sigma, gamma)) < 1e-9
        assert variance(w, b, sigma, gamma) == pytest.approx(v, rel=1e-9)
    assert relu_out.function("variance_firing", "w sigma gamma")(w, sigma, gamma) == pytest.approx(
        chain(w, 2.0, gamma, sigma, placement="out")[1], rel=1e-9
    )
    assert relu_out.function("variance_optimal", "sigma gamma")(sigma, gamma) == pytest.approx(
        chain(float(relu_out.function("w_optimal", "gamma")(gamma)), 20.0, gamma, sigma, placement="out")[1], rel=1e-9
    )


def test_noise_out_without_a_law_or_feedback(relu_out):
    shift = relu_out.function("shift", "w b sigma gamma")
    assert np.isnan(shift(1.2, 0.5, 0.3, 0.2))
    assert np.isnan(shift(1.2, -0.5, 0.3, 0.2))
    assert np.isnan(shift(-9.5, 0.5, 0.3, 0.2))  # below the flip, w = -9
    assert shift(0.0, 0.5, 0.3, 0.2) == 0
    assert chain(0.0, 0.5, 0.2, 0.3, placement="out")[0] == pytest.approx(0.5, rel=1e-9)


@pytest.mark.parametrize(("w", "r"), [(-3.0, 0.0), (-1.0, 0.7), (-1.0, -0.7), (0.5, 0.0)])
def test_the_closure_with_noise_out(relu_out, w, r):
    values = 0.3 * r, w, 0.3, 0.2
    sigma, b, v, shift = (
        float(relu_out.function(f"closure_{name}", "a w s gamma")(*values))
        for name in ("sigma", "b", "variance", "shift")
    )
    m, exact_v = chain(w, b, 0.2, sigma, placement="out")
    assert shift == pytest.approx(m - max(b, 0) / (1 - w), rel=0.05)
    assert v == pytest.approx(exact_v, rel=0.05)
    two_sided = relu_out.function("shift", "w b sigma gamma")(w, b, sigma, 0.2)
    assert two_sided == pytest.approx(m - max(b, 0) / (1 - w), rel=0.02)


# bad input


@pytest.mark.parametrize(
    ("activation", "placement", "message"),
    [
        ("relu", "inside", "placement must be 'in' or 'out'; found 'inside'"),
        ("nothing", "in", "unknown activation 'nothing'"),
        ("leaky_relu", "in", "found 'leaky_relu', which has kinks"),
    ],
)
def test_bad_input(activation, placement, message):
    with pytest.raises(fpa.InputError, match=re.escape(message)):
        derive(activation, placement)


def test_bad_function(relu_in):
    with pytest.raises(fpa.InputError, match="name must be one of"):
        relu_in.function("nothing", "a")
    with pytest.raises(
        fpa.InputError, match=re.escape("arguments must be symbols of this derivation, and a, sigma, w")
    ):
        relu_in.function("shift", "a w")


def test_an_activation_without_a_formula():
    class Nameless(Activation):
        def f(self, x):
            return x

    with pytest.raises(fpa.InputError, match=r"has no sympy expression: give its class a method `sympy\(x\)`"):
        derive(Nameless(), "in")
