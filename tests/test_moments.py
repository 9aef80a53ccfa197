"""Moments in time: exact where f is linear, the stationary law in the limit, sampling elsewhere."""

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.moments import propagate


def network(**kwargs):
    rng = np.random.default_rng(3)
    N = 12
    arguments = {"W": 0.7 * rng.standard_normal((N, N)) / np.sqrt(N), "b": 0.3 * rng.standard_normal(N)}
    arguments |= {"W_in": rng.standard_normal((N, 2)), "W_out": rng.standard_normal((2, N)) / 4, "b_out": [0.5, -1.0]}
    return fpa.Network(**(arguments | {"gamma": 0.3, "sigma": 0.6, "activation": "softplus"} | kwargs))


def steps(T=15, B=3, seed=0):
    return np.random.default_rng(seed).standard_normal((T, B, 2))


def run(net, inputs, trials, seed=1):
    """Outputs (T, R, B, n_out) of sampled runs."""
    rng = np.random.default_rng(seed)
    h, z = np.zeros((trials, inputs.shape[1], net.N)), []
    for u in inputs:
        h = net.step(h, u, rng.standard_normal(h.shape))
        z.append(net.output(h))
    return np.array(z)


@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_linear_networks_exactly(kwargs):
    """h' = J h + g d + g e with known J: m and C follow from J alone."""
    net, inputs = network(activation="linear", **kwargs), steps()
    law = propagate(net, inputs)
    J = net.jacobian(np.zeros(12), np.zeros(2))
    m, C = np.zeros((3, 12)), np.zeros((12, 12))
    for t, u in enumerate(inputs):
        m = net.step(m, u)
        C = J @ C @ J.T + (net.gamma * net.sigma) ** 2 * np.eye(12)
        np.testing.assert_allclose(law.mean[t], m, atol=1e-12)
        np.testing.assert_allclose(law.output[t], net.output(m), atol=1e-12)
        variance = np.diag(net.W_out @ C @ net.W_out.T)
        np.testing.assert_allclose(law.output_variance[t], np.tile(variance, (3, 1)), rtol=1e-10)
    np.testing.assert_allclose(law.cov, np.tile(C, (3, 1, 1)), atol=1e-12)
    assert all(status.ok for status in law.status)


@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh", "leaky_relu"])
@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_a_held_input_ends_in_the_stationary_law(activation, kwargs):
    """The plain recursion ends at the stationary closure's equations; its corrected output at the corrected one's."""
    net = network(activation=activation, **kwargs)
    u = np.array([[0.4, -0.7]])
    law = propagate(net, np.repeat(u[None], 150, axis=0))
    st = fpa.stationary(net, u[0], method="closure")
    plain = st.mean - st.details["correction"]
    np.testing.assert_allclose(law.mean[-1, 0], plain, atol=3e-6)
    # to first order the correction is the same; what is left is of the second order, which both state
    allowed = 3e-6 + 2 * st.output_error + law.output_error[-1, 0]
    assert (np.abs(law.output[-1, 0] - st.output) <= allowed).all()
    if net.form == "rate":
        variance = np.diag(net.W_out @ st.cov @ net.W_out.T)
        np.testing.assert_allclose(law.output_variance[-1, 0], variance, rtol=5e-3)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_driven_networks_against_sampling(activation, kwargs):
    net, inputs = network(activation=activation, **kwargs), steps()
    law, R = propagate(net, inputs), 20000
    z = run(net, inputs, R)
    mean, variance = z.mean(axis=1), z.var(axis=1, ddof=1)
    bound = 5 * np.sqrt(variance / R) + law.output_error
    assert (np.abs(law.output - mean) < bound).all()
    # the variance of a variance is 2 / R for a Gaussian; a half more for what is none
    assert (np.abs(law.output_variance - variance) < 7.5 * variance / np.sqrt(R) + law.output_variance_error).all()


def test_without_noise_the_trajectory():
    net, inputs = network(activation="relu"), steps()
    law = propagate(net, inputs, sigma=0.0)
    h = np.zeros((3, 12))
    for t, u in enumerate(inputs):
        h = net.step(h, u)
        np.testing.assert_allclose(law.mean[t], h, atol=1e-13)
    assert np.abs(law.variance).max() == 0
    assert np.abs(law.output_error).max() == 0


def test_trials_do_not_know_of_each_other():
    net, inputs = network(), steps(B=4)
    h0 = np.random.default_rng(2).standard_normal((4, 12))
    law = propagate(net, inputs, h0=h0)
    alone = propagate(net, inputs[:, [2]], h0=h0[[2]])
    np.testing.assert_allclose(alone.output[:, 0], law.output[:, 2], rtol=1e-6)
    np.testing.assert_allclose(alone.output_variance[:, 0], law.output_variance[:, 2], rtol=1e-5)


def test_without_readout_every_state_is_an_output():
    law = propagate(network(W_out=None, b_out=None), steps())
    assert law.output.shape == (15, 3, 12)
    corrected = np.abs(law.output - law.mean).max()
    assert corrected == 0  # the input moves to the end: nothing is corrected
    np.testing.assert_allclose(law.output_variance, law.variance)


def test_growth_without_bound_has_a_status():
    net = fpa.Network(W=[[30.0]], b=[1.0], sigma=0.3, gamma=1.0)
    law = propagate(net, np.zeros((400, 1, 0)))
    assert law.status == (fpa.Status.DIVERGED,)


def test_bad_input_names_the_argument():
    net = network()
    with pytest.raises(fpa.InputError, match="inputs must have shape"):
        propagate(net, np.zeros((5, 2)))
    with pytest.raises(fpa.InputError, match="at least one step"):
        propagate(net, np.zeros((0, 1, 2)))
    with pytest.raises(fpa.InputError, match="h0 must have shape"):
        propagate(net, steps(), h0=np.zeros((2, 12)))
    with pytest.raises(fpa.InputError, match="h0 must be finite"):
        propagate(net, steps(), h0=np.full((3, 12), np.nan))
    for bad in ("start", [[0.0, 1.0], [0.0]]):
        with pytest.raises(fpa.InputError, match="h0 must be an array of real numbers"):
            propagate(net, steps(), h0=bad)
    with pytest.raises(fpa.InputError, match="sigma must be >= 0"):
        propagate(net, steps(), sigma=-1.0)
    with pytest.raises(fpa.InputError, match=r"must be a fpanalysis\.Network"):
        propagate(None, steps())


@pytest.mark.parametrize(
    ("activation", "w", "b", "gamma"), [("relu", -1.0, 0.2, 0.5), ("relu", 0.5, 0.1, 0.3), ("tanh", -2.0, 0.5, 0.5)]
)
def test_output_of_one_neuron_in_the_current_form(activation, w, b, gamma):
    """z = f(x) against the density of x' = (1 - gamma) x + gamma (w f(x) + b + sigma xi), carried by quadrature."""
    net = fpa.Network(W=[[w]], b=[b], gamma=gamma, activation=activation, form="current", sigma=0.6)
    x = np.linspace(-6, 6, 2001)
    z = net.activation.f(x)
    to = np.exp(-(((x[:, None] - (1 - gamma) * x - gamma * (w * z + b)) / (gamma * 0.6)) ** 2) / 2)
    p = np.exp(-(((x - gamma * (w * net.activation.f(0.0) + b)) / (gamma * 0.6)) ** 2) / 2)
    for _ in range(59):
        p = to @ (p / p.sum())
    mean = z @ p / p.sum()
    variance = (z - mean) ** 2 @ p / p.sum()
    found = propagate(net, np.zeros((60, 1, 0)))
    assert abs(found.output[-1, 0, 0] - mean) <= found.output_error[-1, 0, 0]
    assert abs(found.output_variance[-1, 0, 0] - variance) <= min(
        found.output_variance_error[-1, 0, 0], 5e-3 * variance
    )
