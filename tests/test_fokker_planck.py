"""Fokker-Planck laws against verified digits, closed forms and high-precision quadrature."""

import mpmath
import numpy as np
import pytest
from chains import exact_moments
from problems import TWO_NEURONS
from scipy.integrate import cumulative_simpson
from scipy.linalg import solve_continuous_lyapunov

import fpanalysis as fpa
from fpanalysis import Status
from fpanalysis.stationary import Problem
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._finite_volume import finite_volume

METHOD = "fokker-planck"

#: mean and variance of the diffusion approximation; verified digits
ONE_NEURON = (
    ("relu", "in", -1.2, 0.7, 0.4, 0.15, 0.344432935821380, 0.00401279753845),
    ("softplus", "in", -2.0, 0.5, 0.8, 0.2, 0.526722879518, 0.005791314480),
    ("softplus", "out", -2.0, 0.5, 0.3, 0.2, 0.486646430478, 0.00509190852836),
)


def neuron(activation, placement, w, b, sigma, gamma, **settings):
    return fpa.Network(W=[[w]], b=[b], activation=activation, placement=placement, sigma=sigma, gamma=gamma, **settings)


@pytest.mark.parametrize(("activation", "placement", "w", "b", "sigma", "gamma", "mean", "var"), ONE_NEURON)
def test_one_neuron_has_the_verified_digits(activation, placement, w, b, sigma, gamma, mean, var):
    st = fpa.stationary(neuron(activation, placement, w, b, sigma, gamma), method=METHOD, compare=False)
    assert st.status is Status.OK
    assert st.scope == "global"
    assert st.mean == pytest.approx([mean], abs=1e-11)
    assert st.cov[0, 0] == pytest.approx(var, abs=1e-11)
    assert st.density.mass == pytest.approx(1, abs=1e-12)


def test_linear_neuron_is_an_ornstein_uhlenbeck_process():
    """Mean b / (1 - w), variance gamma sigma^2 / (2 (1 - w)), relaxation rate gamma (1 - w)."""
    st = fpa.stationary(neuron("linear", "in", 0.3, 0.05, 0.8, 0.1), method=METHOD)
    assert st.mean == pytest.approx([0.05 / 0.7], abs=1e-13)
    assert st.cov[0, 0] == pytest.approx(0.1 * 0.64 / 1.4, rel=1e-12)
    assert st.gap == pytest.approx(1 - np.exp(-0.07), rel=1e-6)


def test_metastable_weight_has_the_verified_digits():
    st = fpa.stationary(neuron("tanh", "in", 2.0, 0.05, 0.8, 0.1), method=METHOD)
    assert st.basins[0].weight == pytest.approx(0.00335, abs=6e-6)
    assert sum(basin.weight for basin in st.basins) == pytest.approx(1, abs=1e-12)
    assert sum(basin.weight * basin.mean for basin in st.basins) == pytest.approx(st.mean, abs=1e-13)


def test_weights_of_basins_that_hardly_exchange():
    """A double well symmetric up to b: the weights' ratio at -b is the inverse of that at b; at b = 0 they are even."""
    weights = []
    for b in (-0.02, 0.0, 0.02):
        st = fpa.stationary(neuron("tanh", "in", 2.0, b, 0.15, 0.1), method=METHOD)
        weights.append([basin.weight for basin in st.basins])
        assert st.gap < 1e-30
    assert weights[0] == pytest.approx(weights[2][::-1], rel=1e-9)
    assert weights[1] == pytest.approx([0.5, 0.5], rel=1e-9)
    assert weights[2][0] < 1e-6


def test_a_drift_that_leads_outward_has_no_law():
    st = fpa.stationary(neuron("relu", "in", 1.2, -0.5, 0.3, 0.1), method=METHOD)
    assert st.status is Status.DIVERGED
    assert "outward" in st.reason


def test_larger_networks_are_refused_with_the_methods_that_apply():
    st = fpa.stationary(fpa.Network(W=np.zeros((4, 4)), sigma=0.1), method=METHOD)
    assert st.status is Status.NOT_APPLICABLE
    assert "4" in st.reason
    assert "'closure'" in st.reason


LINEAR = np.array([[0.3, -0.5, 0.2], [0.6, -0.2, 0.1], [-0.3, 0.2, 0.4]])


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("N", [1, 2, 3])
def test_linear_networks_have_the_covariance_of_the_continuous_lyapunov_equation(N, placement):
    """K C + C K^T = diag(gamma sigma)^2 with K = diag(gamma) (I - W): Ornstein-Uhlenbeck."""
    W, b, gamma = LINEAR[:N, :N], np.array([0.1, 0.2, -0.3])[:N], np.array([0.2, 0.3, 0.1])[:N]
    sigma = np.array([0.5, 0.4, 0.6])[:N]
    net = fpa.Network(W=W, b=b, gamma=gamma, sigma=sigma, activation="linear", placement=placement)
    st = fpa.stationary(net, method=METHOD, compare=False)
    K = gamma[:, None] * (np.eye(N) - W)
    C = solve_continuous_lyapunov(K, np.diag((gamma * sigma) ** 2))
    assert st.mean == pytest.approx(np.linalg.solve(np.eye(N) - W, b), abs=1e-9)
    np.testing.assert_allclose(st.cov, C, rtol=0, atol=1e-8 * C.max())
    assert st.gap == pytest.approx(1 - np.exp(-np.linalg.eigvals(K).real.min()), rel=1e-5)


def test_two_neurons_have_the_verified_digits():
    st = fpa.stationary(TWO_NEURONS, method=METHOD, compare=False)
    assert st.mean == pytest.approx([1.3191936956, 0.7122665679], abs=1e-8)
    assert np.all(np.abs(st.mean - [1.3191936956, 0.7122665679]) <= st.details["numerical_error"] + 1e-10)
    assert st.density.mass == pytest.approx(1, abs=1e-12)
    assert st.density.values.min() >= 0


@pytest.mark.parametrize("form", ["in", "out", "current"])
def test_uncoupled_neurons_have_the_product_law(form):
    settings = {"form": "current"} if form == "current" else {"placement": form}
    w, b, gamma, sigma = np.array([-1.2, 0.6]), np.array([0.7, 0.1]), np.array([0.15, 0.3]), np.array([0.4, 0.7])
    pair = fpa.Network(W=np.diag(w), b=b, gamma=gamma, sigma=sigma, activation="softplus", **settings)
    st = fpa.stationary(pair, method=METHOD, compare=False)
    for i in range(2):
        one = fpa.Network(W=[[w[i]]], b=[b[i]], gamma=gamma[i], sigma=sigma[i], activation="softplus", **settings)
        single = fpa.stationary(one, method=METHOD, compare=False)
        assert abs(st.mean[i] - single.mean[0]) <= st.details["numerical_error"][i] + 1e-9
        assert st.cov[i, i] == pytest.approx(single.cov[0, 0], rel=1e-6)
    assert abs(st.cov[0, 1]) < 1e-8


def test_permuting_the_neurons_permutes_the_law():
    order = [2, 0, 1]
    W = np.array([[0.5, -1.0, -0.8], [-0.9, 0.4, -1.0], [-0.8, -0.7, 0.3]])
    b, sigma = np.array([1.0, 0.9, 0.8]), np.array([0.9, 1.0, 0.8])
    settings = {"gamma": 0.5, "activation": "softplus"}
    st = fpa.stationary(fpa.Network(W=W, b=b, sigma=sigma, **settings), method=METHOD)
    other = fpa.Network(W=W[np.ix_(order, order)], b=b[order], sigma=sigma[order], **settings)
    moved = fpa.stationary(other, method=METHOD)
    bound = (st.details["numerical_error"][order] + moved.details["numerical_error"]).max()
    assert bound < 1e-5
    np.testing.assert_allclose(moved.mean, st.mean[order], rtol=0, atol=bound)


def test_shifting_the_origin_shifts_the_law():
    """Current form: x -> x + c with f(x) = x is a change of the drive by (I - W) c."""
    W, c = LINEAR[:2, :2], np.array([3.0, -2.0])
    settings = {"gamma": 0.2, "sigma": 0.4, "activation": "linear", "form": "current"}
    here = fpa.stationary(fpa.Network(W=W, **settings), method=METHOD, compare=False)
    there = fpa.stationary(fpa.Network(W=W, b=c - W @ c, **settings), method=METHOD, compare=False)
    np.testing.assert_allclose(there.mean, here.mean + c, rtol=0, atol=1e-8)
    np.testing.assert_allclose(there.cov, here.cov, rtol=0, atol=1e-9)


def test_finite_volumes_converge_at_second_order():
    net = fpa.Network(W=[[0.4, -0.8], [0.7, 0.3]], b=[0.3, -0.1], gamma=0.2, sigma=0.8, activation="tanh")
    problem = Problem(net, np.zeros(0), 0.8, np.array([0.3, 0.1]))
    exact = fpa.stationary(net, method=METHOD, compare=False)
    assert exact.details["scheme"] == "collocation"
    box, diffusion = exact.details["domain"], Diffusion.of(problem)
    means = [finite_volume(diffusion, box, n, problem.start).mean for n in (32, 64, 128)]
    error = np.abs(np.array(means) - exact.mean).max(axis=1)
    assert np.log2(error[:-1] / error[1:]) == pytest.approx([2, 2], abs=0.15)


def test_a_neuron_without_noise_is_refused():
    st = fpa.stationary(fpa.Network(W=np.zeros((2, 2)), sigma=[0.3, 0.0]), method=METHOD)
    assert st.status is Status.NOT_APPLICABLE
    assert "neuron 1" in st.reason


@pytest.mark.parametrize(("w", "r"), [(-1.0, -3.0), (0.6, -3.0), (0.6, -6.0), (-2.0, -9.0)])
def test_where_the_diffusion_vanishes(w, r):
    """A silent ReLU, b = r sigma, V down to 1e-21: log p by Simpson's rule on moments of 40 digits, and its mean by
    the trapezoid rule, which converges faster than any power."""
    sigma, gamma = 0.5, 0.2
    st = fpa.stationary(neuron("relu", "in", w, r * sigma, sigma, gamma), method=METHOD, compare=False)
    low, high = st.details["domain"][0]
    mean, variance = _simpson(w, r * sigma, sigma, gamma, low, high, 801)
    assert st.status is Status.OK
    assert st.mean[0] == pytest.approx(mean, rel=1e-9)
    assert st.cov[0, 0] == pytest.approx(variance, rel=1e-8)


def _simpson(w, b, sigma, gamma, low, high, n):
    with mpmath.workdps(40):
        h = [mpmath.mpf(low) + (mpmath.mpf(high) - mpmath.mpf(low)) * k / (n - 1) for k in range(n)]
        rate, log_B = [], []
        for x in h:
            a = (w * x + mpmath.mpf(b)) / sigma
            phi, Phi = mpmath.npdf(a), mpmath.ncdf(a)
            M = sigma * (a * Phi + phi)
            V = sigma**2 * ((a**2 + 1) * Phi + a * phi) - M**2
            rate.append(2 * (M - x) / (gamma * V) * (h[1] - h[0]))
            log_B.append(float(mpmath.log(V)))
    U = cumulative_simpson(np.array(rate, float), dx=1.0, initial=0.0)
    log_p = U - np.array(log_B)
    p = np.exp(log_p - log_p.max())
    x = np.array([float(value - h[0]) for value in h])
    m = p @ x / p.sum()
    return float(h[0]) + m, p @ (x - m) ** 2 / p.sum()


@pytest.mark.parametrize(("activation", "placement"), [("softplus", "in"), ("relu", "in"), ("softplus", "out")])
def test_chain_and_diffusion_meet_as_gamma_vanishes(activation, placement):
    """The variances differ by a part of first order in gamma, the means by second order (that of gamma times C)."""
    means, variances = [], []
    for gamma in (0.08, 0.04, 0.02):
        net = neuron(activation, placement, -1.2, 0.7, 0.4, gamma)
        mean, variance, _ = exact_moments(net)
        st = fpa.stationary(net, method=METHOD, compare=False)
        means.append(abs(st.mean[0] - mean))
        variances.append(abs(st.cov[0, 0] / variance - 1))
        assert means[-1] <= st.error[0]
    assert np.log2(np.divide(variances[:-1], variances[1:])) == pytest.approx([1, 1], abs=0.12)
    assert np.log2(np.divide(means[:-1], means[1:])) == pytest.approx([2, 2], abs=0.25)


def test_what_is_stated_covers_the_exact_chain():
    """Without the comparison the error rests on the leading order in gamma: of 40 random neurons it covers 95 %."""
    rng, covered, ratio = np.random.default_rng(1), [], []
    for _ in range(40):
        activation = str(rng.choice(["relu", "softplus", "tanh", "sigmoid"]))
        w, b, sigma, gamma = rng.uniform(-2, 0.9), rng.uniform(-1, 1), rng.uniform(0.1, 1.5), rng.uniform(0.05, 0.6)
        net = neuron(activation, str(rng.choice(["in", "out"])), w, b, sigma, gamma)
        st = fpa.stationary(net, method=METHOD, compare=False)
        exact = fpa.stationary(net, method="chain")
        off = abs(st.mean - exact.mean)[0]
        covered.append(off <= st.error[0] + exact.error[0])
        ratio.append(st.error[0] / off)
    assert np.mean(covered) >= 0.95
    assert np.median(ratio) < 10


def test_a_weight_that_misleads_is_said_so():
    st = fpa.stationary(neuron("tanh", "in", 2.0, 0.05, 0.8, 0.1), method=METHOD)
    assert st.status is Status.DIFFUSION
    assert st.details["weight_factor"] == pytest.approx(0.0153 / 0.00335, rel=0.05)
    assert "the weight of the smaller basin, 0.00335, is 4." in st.reason
    assert "times too small" in st.reason
    assert st.details["chain_mean"] == pytest.approx([0.83289958], abs=1e-8)
    assert np.all(st.error >= np.abs(st.mean - st.details["chain_mean"]))


def test_the_comparison_gives_what_the_approximation_misses():
    st = fpa.stationary(neuron("relu", "in", -1.2, 0.7, 0.4, 0.15), method=METHOD)
    assert st.status is Status.OK
    assert st.details["approximation_error"] == pytest.approx([0.344661788109754 - 0.344432935821380], rel=1e-6)
    assert st.details["variance_error"] == pytest.approx([0.00401279753845 / 0.00471843661404 - 1], rel=1e-6)


@pytest.mark.parametrize(
    ("w", "b", "gamma", "placement", "words"),
    [
        (-1.2, 0.7, 1.0, "in", "the variance of neuron 0 is too small by 83%"),
        (0.8, 0.2, 1.0, "out", "the shift from the fixed point is off by 32%"),
        (0.8, 0.2, 0.1, "out", ""),
    ],
)
def test_what_misleads_is_said_and_no_more(w, b, gamma, placement, words):
    """A variance, a shift; and a shift of 1e-6 standard deviations, which is nobody's concern."""
    st = fpa.stationary(neuron("relu", placement, w, b, 0.5, gamma), method=METHOD)
    assert st.reason.startswith(words)
    assert (st.status is Status.DIFFUSION) == bool(words)


def test_a_silent_pair_has_a_law():
    """Biases 8 sigma below the kink: the simulation that looks for the law never moves."""
    net = fpa.Network(W=[[0.2, 0.1], [0.1, 0.2]], b=[-3.2, -3.2], gamma=0.2, sigma=0.4)
    st = fpa.stationary(net, method=METHOD, compare=False)
    one = fpa.stationary(neuron("relu", "in", 0.3, -3.2, 0.4, 0.2), method=METHOD, compare=False)
    assert np.all(st.mean > 0)
    assert st.mean == pytest.approx(one.mean.repeat(2), rel=0.1)


def test_compare_takes_only_a_truth_value():
    with pytest.raises(fpa.InputError, match="compare must be True, False or None; found 3"):
        fpa.stationary(neuron("relu", "in", -1.2, 0.7, 0.4, 0.15), method=METHOD, compare=3)


@pytest.mark.parametrize(("sigma", "gap"), [(0.7, 1e-5), (0.4, 1e-26)])
def test_two_dimensional_basins_are_weighed_however_rarely_they_exchange(sigma, gap):
    """Two uncoupled neurons, of which one is bistable: weights, mean and gap are those of one dimension."""
    settings = {"gamma": 0.15, "activation": "tanh", "sigma": sigma}
    one = fpa.stationary(fpa.Network(W=[[2.0]], b=[0.05], **settings), method=METHOD, compare=False)
    pair = fpa.Network(W=[[2.0, 0.0], [0.0, -1.2]], b=[0.05, 0.7], **settings)
    two = fpa.stationary(pair, method=METHOD, compare=False)
    assert two.status is Status.OK
    assert one.gap < gap
    for flat, basin in zip(one.basins, two.basins, strict=True):
        assert abs(basin.weight - flat.weight) <= basin.weight_error
        assert basin.weight_error <= 0.25 * flat.weight
    assert abs(two.mean[0] - one.mean[0]) <= two.details["numerical_error"][0]
    assert two.gap == pytest.approx(one.gap, rel=0.1)


def test_even_basins_stay_even():
    """-h obeys the same equation as h: the weights are one half each, at a gap of 1e-47."""
    net = fpa.Network(W=[[1.2, 0.8], [0.8, 1.2]], gamma=0.1, activation="tanh", sigma=0.5)
    st = fpa.stationary(net, method=METHOD, compare=False)
    assert st.gap < 1e-40
    for basin in st.basins:
        assert abs(basin.weight - 0.5) <= basin.weight_error < 0.01


@pytest.mark.parametrize(("sigma", "why"), [(0.4, "cells would be needed"), (0.1, "higher than")])
def test_a_law_too_narrow_for_the_grid_is_refused_with_the_size(sigma, why):
    net = fpa.Network(W=[[1.2, 0.8], [0.8, 1.2]], gamma=0.1, activation="tanh", sigma=sigma)
    st = fpa.stationary(net, method=METHOD, compare=False)
    assert st.status is Status.TOO_LARGE
    assert why in st.reason
    assert np.isnan(st.mean).all()


def test_two_neurons_whose_drift_leads_outward_have_no_law():
    """The silent state is stable, but noise carries the first neuron beyond its unstable fixed point in the end."""
    net = fpa.Network(W=[[1.3, 0.0], [0.1, 0.2]], b=[-1.0, 0.7], gamma=0.15, sigma=0.3)
    st = fpa.stationary(net, method=METHOD)
    assert st.status is Status.DIVERGED
    assert "outward" in st.reason
