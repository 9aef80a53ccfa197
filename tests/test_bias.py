"""Asymmetric attenuation and the secant identity."""

import numpy as np
import pytest

import fpanalysis as fpa


def random_network(**kwargs):
    rng = np.random.default_rng(5)
    N = 30
    arguments = {"W": 0.8 * rng.standard_normal((N, N)) / np.sqrt(N), "b": 0.4 * rng.standard_normal(N)}
    arguments |= {"W_out": rng.standard_normal((2, N)) / N, "b_out": [1.0, -1.0], "gamma": 0.2, "sigma": 0.7}
    return fpa.Network(**(arguments | kwargs))


def test_relu_bias_at_the_kink_and_its_symmetry():
    assert fpa.attenuation_bias("relu", 0.0, 0.5) == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=1e-15)
    a = np.linspace(0.01, 3, 20)
    np.testing.assert_allclose(fpa.attenuation_bias("relu", a, 0.5), fpa.attenuation_bias("relu", -a, 0.5), rtol=1e-14)
    assert fpa.attenuation_bias("softplus", np.zeros((3, 1)), [0.1, 1.0]).shape == (3, 2)


def test_bad_arguments():
    with pytest.raises(fpa.InputError, match="standard deviation"):
        fpa.attenuation_bias("relu", 0.0, -1.0)
    with pytest.raises(fpa.InputError, match="numbers that broadcast"):
        fpa.attenuation_bias("relu", "a", 1.0)
    with pytest.raises(fpa.InputError, match="numbers that broadcast"):
        fpa.attenuation_bias("relu", [1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(fpa.InputError, match="unknown activation"):
        fpa.attenuation_bias("rellu", 0.0, 1.0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus", "tanh", "sigmoid", "erf", "linear"])
@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_secant_identity(activation, kwargs):
    """W_out (m - h*) = sum of the shares: an identity, so it holds to rounding."""
    net = random_network(activation=activation, **kwargs)
    att = fpa.attribute_bias(net)
    assert att.status.ok
    assert att.residual < 1e-12 * (1 + np.abs(att.total).max())
    np.testing.assert_allclose(att.contributions.sum(axis=1), att.total, rtol=0, atol=1e-12)
    st = att.stationary
    np.testing.assert_allclose(att.total, st.output - net.output(st.start), rtol=0, atol=1e-12)


def test_local_bias_is_that_of_the_noisy_operating_point():
    """Rate form: beta_i = M(a_i, s_i) - f(a_i), up to the closure's own correction."""
    att = fpa.attribute_bias(random_network(activation="softplus"))
    net, st = random_network(activation="softplus"), att.stationary
    s = np.sqrt(np.diag(net.W @ st.cov @ net.W.T) + net.sigma**2)
    # beta of the corrected law holds what skewness does to E f as well, which is part of the correction
    allowed = st.error.max() + 2 * np.abs(st.details["correction"]).max()
    np.testing.assert_allclose(att.beta, net.activation.beta(att.a, s), rtol=0, atol=allowed)


def test_without_readout_every_neuron_is_an_output():
    att = fpa.attribute_bias(random_network(W_out=None, b_out=None))
    assert att.contributions.shape == (30, 30)
    np.testing.assert_allclose(att.total, att.stationary.mean - att.stationary.start, atol=1e-15)


def test_no_noise_no_bias():
    att = fpa.attribute_bias(random_network(sigma=0.0))
    assert np.abs(att.beta).max() < 1e-14
    assert np.abs(att.contributions).max() < 1e-14


@pytest.mark.parametrize("form", ["rate", "current"])
def test_without_a_law_the_status_says_so(form):
    att = fpa.attribute_bias(fpa.Network(W=[[1.5]], b=[1.0], sigma=0.1, form=form))
    assert att.status is fpa.Status.DIVERGED
    assert np.isnan(att.contributions).all()
