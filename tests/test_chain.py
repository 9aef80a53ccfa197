"""The exact chain of one to three neurons against verified digits, closed forms, invariances and other methods."""

import dataclasses

import numpy as np
import pytest
from chains import exact_moments
from problems import ONE_NEURON, TWO_NEURONS, TWO_NEURONS_COV, TWO_NEURONS_MEAN, linear_covariance
from scipy.stats import norm

import fpanalysis as fpa


def chain(net, **settings):
    st = fpa.stationary(net, method="chain", **settings)
    assert st.status.ok, st
    return st


@pytest.mark.parametrize("case", ONE_NEURON, ids=lambda case: f"{case.activation}-{case.placement}")
def test_one_neuron_digits(case):
    """The digits of the table hold to 1e-10, the oracle of `chains` to more."""
    net = dataclasses.replace(case.net, sigma=case.sigma)
    st = chain(net)
    assert abs(st.mean[0] - case.mean) < 1e-10
    assert abs(st.cov[0, 0] - case.var) < 1e-10
    mean, var, _ = exact_moments(net, 80)
    assert abs(st.mean[0] - mean) < 1e-11
    assert abs(st.cov[0, 0] - var) < 1e-11


def test_two_neurons_digits():
    st = chain(TWO_NEURONS)
    np.testing.assert_allclose(st.mean, TWO_NEURONS_MEAN, rtol=0, atol=1e-8)
    np.testing.assert_allclose(st.cov, TWO_NEURONS_COV, rtol=0, atol=3e-8)  # the table's box cuts off 8e-9


@pytest.mark.parametrize("N", [1, 2, 3])
@pytest.mark.parametrize("form", ["rate", "current"])
def test_linear_networks_are_gaussian(N, form):
    W = 0.5 * np.array([[0.5, -0.8, 0.3], [0.6, 0.2, 0.4], [-0.2, 0.5, -0.7]])[:N, :N]
    net = fpa.Network(W=W, b=np.arange(1.0, N + 1), gamma=0.4, activation="linear", form=form, sigma=0.3)
    st = chain(net)
    scale = np.sqrt(np.diag(st.cov))
    np.testing.assert_allclose(st.mean, np.linalg.solve(np.eye(N) - W, net.b), rtol=0, atol=1e-7 * scale.max())
    np.testing.assert_allclose(st.cov, linear_covariance(net, 0.3), rtol=0, atol=1e-6 * scale.max() ** 2)


def test_more_than_three_neurons_are_refused():
    st = fpa.stationary(fpa.Network(W=np.zeros((4, 4)), sigma=0.1), method="chain")
    assert st.status is fpa.Status.NOT_APPLICABLE
    assert "at most 3 neurons" in st.reason


@pytest.mark.parametrize(("w", "b"), [(1.5, 0.3), (1.5, -0.3), (1.0, 0.3)])
def test_without_a_law_there_is_no_number(w, b):
    st = fpa.stationary(fpa.Network(W=[[w]], b=[b], gamma=0.5, sigma=0.2), method="chain")
    assert st.status is fpa.Status.DIVERGED
    assert np.isnan(st.mean).all()
    assert ("quasi-stationary" in st.reason) == (b < 0)


@pytest.mark.parametrize("sigma", [0.3, 1.0])
@pytest.mark.parametrize("b", [0.4, -0.4])
def test_gamma_one_without_coupling_is_one_draw(sigma, b):
    """h = relu(b + sigma xi): closed-form mean and variance, and the atom Phi(-b / sigma) at 0."""
    st = chain(fpa.Network(W=[[0.0]], b=[b], gamma=1.0, sigma=sigma))
    moments = st_moments(b, sigma)
    np.testing.assert_allclose([st.mean[0], st.cov[0, 0]], moments, rtol=0, atol=1e-11)
    assert st.density is not None
    assert abs(st.density.atoms[0][1] - norm.cdf(-b / sigma)) < 1e-11


def st_moments(b, sigma):
    activation = fpa.Network(W=[[0.0]]).activation
    return [float(activation.M(b, sigma)), float(activation.V(b, sigma))]


def test_silent_neurons_law_is_singular_at_zero():
    """p ~ h^(alpha - 1) near 0 does not disturb the moments: with w = 0 they are closed forms."""
    b, sigma, gamma = -0.5, 0.3, 0.2
    st = chain(fpa.Network(W=[[0.0]], b=[b], gamma=gamma, sigma=sigma))
    M, V = st_moments(b, sigma)
    assert abs(st.mean[0] - M) < 1e-11
    assert abs(st.cov[0, 0] - gamma * V / (2 - gamma)) < 1e-11


def test_permuted_neurons():
    net = dataclasses.replace(TWO_NEURONS, W=[[0.4, -0.6], [0.3, -0.2]], b=[0.5, -0.2])
    swapped = dataclasses.replace(net, W=net.W[::-1, ::-1], b=net.b[::-1])
    a, b = chain(net), chain(swapped)
    assert (np.abs(a.mean - b.mean[::-1]) <= a.error + b.error[::-1] + 1e-12).all()


@pytest.mark.parametrize("activation", ["softplus", "relu"])
def test_uncoupled_neurons_are_a_product(activation):
    pair = fpa.Network(W=np.diag([-0.5, 0.3]), b=[0.6, 0.2], gamma=[0.3, 0.6], activation=activation, sigma=[0.4, 0.6])
    st = chain(pair)
    assert abs(st.cov[0, 1]) < 1e-8
    for i in range(2):
        one = fpa.Network(
            W=pair.W[i : i + 1, i : i + 1], b=pair.b[i : i + 1], gamma=pair.gamma[i], activation=activation,
            sigma=pair.sigma[i],
        )  # fmt: skip
        assert abs(st.mean[i] - chain(one).mean[0]) < st.error[i] + 1e-9


def test_metastable_law_is_weighed():
    """tanh, w = 2: weights of 50-digit arithmetic, from a null vector at sigma = 0.8, without subtraction at 0.5."""
    net = fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", sigma=0.8)
    for sigma, mean, weight in ((0.8, 0.832899583649941, 0.01518648), (0.5, 0.934435187083166, 2.04303e-5)):
        st = chain(net, sigma=sigma)
        low, high = st.basins
        assert abs(st.mean[0] - mean) <= st.error[0] < 1e-6
        assert abs(low.weight - weight) <= low.weight_error + 1e-5 * weight
        assert low.weight_error < 1e-3 * weight
        assert abs(low.weight + high.weight - 1) < 1e-9
    assert st.details["null_vector"] == "subtraction-free"
