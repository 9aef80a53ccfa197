"""LipschitzRNN: its step, derivatives, noise and file-independent checks against differences and sampling."""

from __future__ import annotations

import numpy as np
import pytest

import fpanalysis as fpa


def network(N=4, n_in=2, seed=0, **settings):
    rng = np.random.default_rng(seed)
    A, W = (fpa.LipschitzRNN.between(rng.standard_normal((N, N)) / N, 0.75, 0.001) for _ in range(2))
    W_in, W_out, b = rng.standard_normal((N, n_in)), rng.standard_normal((3, N)), rng.standard_normal(N)
    return fpa.LipschitzRNN(A=A, W=W, b=b, W_in=W_in, W_out=W_out, **settings)


def differences(f, x, step=1e-6):
    return np.stack([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))], axis=-1)


def test_step_is_the_equation():
    net, h, u = network(gamma=0.2), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    wanted = h + 0.2 * (net.A @ h + np.tanh(net.W @ h + net.W_in @ u + net.b))
    np.testing.assert_allclose(net.step(h, u), wanted, rtol=1e-14)


def test_jacobians_are_differences():
    net, h, u = network(), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    np.testing.assert_allclose(net.jacobian(h, u), differences(lambda h: net.step(h, u), h), atol=1e-9)
    np.testing.assert_allclose(net.input_jacobian(h, u), differences(lambda u: net.target(h, u), u), atol=1e-9)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_input_jacobian_of_a_network_is_differences(form):
    rng = np.random.default_rng(1)
    net = fpa.Network(W=rng.standard_normal((3, 3)), W_in=rng.standard_normal((3, 2)), activation="tanh", form=form)
    h, u = rng.standard_normal(3), rng.standard_normal(2)
    np.testing.assert_allclose(net.input_jacobian(h, u), differences(lambda u: net.target(h, u), u), atol=1e-9)
    general = fpa.network.System.input_jacobian(net, h, u)
    np.testing.assert_allclose(general, net.input_jacobian(h, u), atol=1e-8)


def test_curvature_is_the_general_one():
    net, h, u = network(), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    root = np.random.default_rng(2).standard_normal((4, 4))
    C = root @ root.T
    np.testing.assert_allclose(net.target_curvature(h, u, C), fpa.network.System.target_curvature(net, h, u, C), 1e-6)


@pytest.mark.parametrize("noise", ["independent", "joint"])
def test_noise_has_the_variance_of_its_equation(noise):
    net = network(sigma=0.5, multiplicative=0.3, noise=noise, gamma=0.1)
    h, u = np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    runs = 200_000
    xi = np.random.default_rng(3).standard_normal((runs, 4))
    moved = net.step(np.broadcast_to(h, xi.shape), u, xi)
    f = net.target(h, u) - h
    wanted = 0.01 * ((0.5 + 0.3 * f) ** 2 if noise == "joint" else 0.25 + 0.09 * f**2)
    np.testing.assert_allclose(moved.var(axis=0), wanted, rtol=5 * np.sqrt(2 / runs))
    np.testing.assert_allclose(moved.mean(axis=0), net.step(h, u), atol=5 * np.sqrt(wanted.max() / runs))


def test_form_of_the_trained_matrices():
    M = np.random.default_rng(4).standard_normal((5, 5))
    A = fpa.LipschitzRNN.between(M, 0.75, 0.01)
    np.testing.assert_allclose(A, 0.25 * (M + M.T) + 0.75 * (M - M.T) - 0.01 * np.eye(5), rtol=1e-14)
    assert np.abs(np.linalg.eigvals(fpa.LipschitzRNN.between(M, 1, 0.01)).real + 0.01).max() < 1e-12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"A": np.eye(3)}, r"A must have shape \(2, 2\)"),
        ({"gamma": 1.5}, "gamma, the step, must lie"),
        ({"multiplicative": -1}, "multiplicative must be a number from 0"),
        ({"noise": "both"}, "noise must be 'independent' or 'joint'"),
        ({"W": np.ones((2, 3))}, "W must be square"),
        ({"targets": [[1.0, 1.0]]}, "targets were given without conditions"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.LipschitzRNN(**({"A": np.eye(2), "W": np.eye(2)} | wrong))
