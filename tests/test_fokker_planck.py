"""Fokker-Planck laws against verified digits, closed forms and high-precision quadrature."""

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis import Status

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
