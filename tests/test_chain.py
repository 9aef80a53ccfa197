"""The exact chain of one to three neurons against verified digits, closed forms, invariances and other methods."""

import dataclasses

import numpy as np
import pytest
from chains import exact_moments
from problems import ONE_NEURON, TWO_NEURONS, TWO_NEURONS_COV, TWO_NEURONS_MEAN, linear_covariance

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
