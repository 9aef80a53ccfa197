"""Fokker-Planck laws against verified digits, closed forms and high-precision quadrature."""

import numpy as np
import pytest
from problems import TWO_NEURONS
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
    st = fpa.stationary(neuron(activation, placement, w, b, sigma, gamma), method=METHOD)
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
    st = fpa.stationary(net, method=METHOD)
    K = gamma[:, None] * (np.eye(N) - W)
    C = solve_continuous_lyapunov(K, np.diag((gamma * sigma) ** 2))
    assert st.mean == pytest.approx(np.linalg.solve(np.eye(N) - W, b), abs=1e-9)
    np.testing.assert_allclose(st.cov, C, rtol=0, atol=1e-8 * C.max())
    assert st.gap == pytest.approx(1 - np.exp(-np.linalg.eigvals(K).real.min()), rel=1e-5)


def test_two_neurons_have_the_verified_digits():
    st = fpa.stationary(TWO_NEURONS, method=METHOD)
    assert st.mean == pytest.approx([1.3191936956, 0.7122665679], abs=1e-8)
    assert np.all(np.abs(st.mean - [1.3191936956, 0.7122665679]) <= st.details["numerical_error"] + 1e-10)
    assert st.density.mass == pytest.approx(1, abs=1e-12)
    assert st.density.values.min() >= 0


@pytest.mark.parametrize("form", ["in", "out", "current"])
def test_uncoupled_neurons_have_the_product_law(form):
    settings = {"form": "current"} if form == "current" else {"placement": form}
    w, b, gamma, sigma = np.array([-1.2, 0.6]), np.array([0.7, 0.1]), np.array([0.15, 0.3]), np.array([0.4, 0.7])
    pair = fpa.Network(W=np.diag(w), b=b, gamma=gamma, sigma=sigma, activation="softplus", **settings)
    st = fpa.stationary(pair, method=METHOD)
    for i in range(2):
        one = fpa.Network(W=[[w[i]]], b=[b[i]], gamma=gamma[i], sigma=sigma[i], activation="softplus", **settings)
        single = fpa.stationary(one, method=METHOD)
        assert abs(st.mean[i] - single.mean[0]) <= st.details["numerical_error"][i] + 1e-9
        assert st.cov[i, i] == pytest.approx(single.cov[0, 0], rel=1e-6)
    assert abs(st.cov[0, 1]) < 1e-8


def test_permuting_the_neurons_permutes_the_law():
    order = [2, 0, 1]
    W = np.array([[0.5, -1.0, -0.8], [-0.9, 0.4, -1.0], [-0.8, -0.7, 0.3]])
    b, sigma = np.array([1.0, 0.9, 0.8]), np.array([0.9, 1.0, 0.8])
    settings = {"gamma": 0.3, "activation": "softplus"}
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
    here = fpa.stationary(fpa.Network(W=W, **settings), method=METHOD)
    there = fpa.stationary(fpa.Network(W=W, b=c - W @ c, **settings), method=METHOD)
    np.testing.assert_allclose(there.mean, here.mean + c, rtol=0, atol=1e-8)
    np.testing.assert_allclose(there.cov, here.cov, rtol=0, atol=1e-9)


def test_finite_volumes_converge_at_second_order():
    net = fpa.Network(W=[[0.4, -0.8], [0.7, 0.3]], b=[0.3, -0.1], gamma=0.2, sigma=0.8, activation="tanh")
    problem = Problem(net, np.zeros(0), 0.8, np.array([0.3, 0.1]))
    exact = fpa.stationary(net, method=METHOD)
    assert exact.details["scheme"] == "collocation"
    box, diffusion = exact.details["domain"], Diffusion.of(problem)
    means = [finite_volume(diffusion, box, n, problem.start).mean for n in (32, 64, 128)]
    error = np.abs(np.array(means) - exact.mean).max(axis=1)
    assert np.log2(error[:-1] / error[1:]) == pytest.approx([2, 2], abs=0.15)


def test_weights_of_two_dimensional_basins_are_those_of_one_dimension():
    one = fpa.stationary(neuron("tanh", "in", 2.0, 0.05, 0.8, 0.15), method=METHOD)
    pair = fpa.Network(W=[[2.0, 0.0], [0.0, -1.2]], b=[0.05, 0.7], gamma=0.15, activation="tanh", sigma=0.8)
    two = fpa.stationary(pair, method=METHOD)
    for flat, basin in zip(one.basins, two.basins, strict=True):
        assert basin.weight == pytest.approx(flat.weight, abs=2 * basin.weight_error)
        assert basin.weight_error < 0.1 * flat.weight
        assert basin.mean[0] == pytest.approx(flat.mean[0], abs=5e-3)


def test_a_neuron_without_noise_is_refused():
    st = fpa.stationary(fpa.Network(W=np.zeros((2, 2)), sigma=[0.3, 0.0]), method=METHOD)
    assert st.status is Status.NOT_APPLICABLE
    assert "neuron 1" in st.reason
