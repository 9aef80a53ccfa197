"""Exponents of finite trials: against products by hand, two trajectories, a closed form and the QR method."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad

import fpanalysis as fpa


def tanh_network(N=5, seed=0, **settings):
    rng = np.random.default_rng(seed)
    return fpa.Network(
        W=1.5 * rng.standard_normal((N, N)) / np.sqrt(N),
        W_in=rng.standard_normal((N, 2)),
        activation="tanh",
        **settings,
    )


def test_the_largest_singular_value_of_the_product():
    net, inputs = tanh_network(gamma=0.5), np.random.default_rng(1).standard_normal((7, 3, 2))
    found = fpa.trial_exponents(net, inputs, sigma=0)
    for b in range(3):
        h, J = np.zeros(5), np.eye(5)
        for u in inputs[:, b]:
            J, h = net.jacobian(h, u) @ J, net.step(h, u)
        np.testing.assert_allclose(found.exponents[b], np.log(np.linalg.norm(J, 2)) / 7, rtol=1e-12)
        np.testing.assert_allclose(found.end[b], h, rtol=1e-14)
    assert found.ok
    assert found.noise == 0
    assert abs(found.top - found.exponents.mean()) < 1e-15


@pytest.mark.parametrize("placement", ["in", "out"])
def test_no_difference_of_starts_grows_more_and_one_nearly_does(placement):
    net, rng = tanh_network(gamma=0.5, sigma=0.4, placement=placement), np.random.default_rng(2)
    inputs = np.repeat(rng.standard_normal((6, 1, 2)), 2, axis=1)
    top = fpa.trial_exponents(net, inputs[:, :1], rng=5).exponents[0]
    xi, distance = np.random.default_rng(5).standard_normal((6, 1, 5)), 1e-7
    directions = rng.standard_normal((400, 5))
    start = distance * directions / np.linalg.norm(directions, axis=1, keepdims=True)
    h, other = np.zeros((1, 5)), start
    for u, noise in zip(inputs[:, 0], xi, strict=True):
        h, other = net.step(h, u, noise), net.step(other, u, np.broadcast_to(noise, other.shape))
    growth = np.log(np.linalg.norm(other - h, axis=1) / distance) / 6
    assert growth.max() <= top + 1e-6
    assert growth.max() > top - 0.1  # the best of 400 directions in five dimensions


def test_one_dimension_with_noise_on_the_increment():
    """h' = h + g (1 + mu xi) (a h): log-growth is the mean of log|1 + g a (1 + mu xi)|."""
    net = fpa.LipschitzRNN(A=[[-1.0]], W=[[0.0]], gamma=0.5, multiplicative=0.8)
    found = fpa.trial_exponents(net, np.zeros((50, 4000, 0)), h0=np.ones((4000, 1)))
    density = lambda x: np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * np.log(np.abs(1 - 0.5 * (1 + 0.8 * x)))  # noqa: E731
    wanted = quad(density, -12, 12, points=[1.25])[0]
    assert abs(found.top - wanted) < found.error * 5 / 1.96


def test_noise_on_the_increment_is_the_networks_own_unless_there_is_none():
    net = fpa.LipschitzRNN(A=[[-1.0]], W=[[0.0]], sigma=0.1, multiplicative=0.8)
    for sigma, own in ((None, 0.8), (0.2, 0.8), (0, 0.0)):
        assert fpa.trial_exponents(net, np.zeros((3, 2, 0)), sigma).provenance.settings["multiplicative"] == own
        assert fpa.lyapunov(net, sigma=sigma, steps=400).multiplicative == own


def test_long_trials_tend_to_the_lyapunov_exponent():
    net = tanh_network(gamma=0.5, sigma=0.3)
    u = np.array([0.5, -0.2])
    long = fpa.trial_exponents(net, np.broadcast_to(u, (800, 20, 2)))
    exact = fpa.lyapunov(net, u, k=1, steps=4000)
    assert abs(long.top - exact.top) < 0.01 + long.error + exact.top_error


def test_what_diverges_or_is_destroyed_says_so():
    grows = fpa.Network(W=[[1e60]], gamma=1.0, activation="linear")
    found = fpa.trial_exponents(grows, np.zeros((9, 2, 0)), h0=np.ones((2, 1)))
    assert found.status is fpa.Status.DIVERGED
    assert np.isnan(found.exponents).all()
    silent = fpa.Network(W=[[1.0]], b=[-1.0], gamma=1.0, activation="relu")
    assert fpa.trial_exponents(silent, np.zeros((3, 1, 0))).top == -np.inf


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": np.zeros((3, 2))}, "inputs must have shape"),
        ({"inputs": np.zeros((0, 2, 2))}, "at least one step"),
        ({"h0": np.zeros((1, 5))}, "h0 must have shape"),
        ({"multiplicative": -1}, "multiplicative must be >= 0"),
        ({"sigma": -1}, "sigma must be >= 0"),
    ],
)
def test_wrong_input_is_named(changes, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.trial_exponents(tanh_network(), **({"inputs": np.zeros((3, 2, 2))} | changes))
