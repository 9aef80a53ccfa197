"""What noise does to a LipschitzRNN: regulariser, exponents under common noise, certificates and bounds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from problems import log_gain

import fpanalysis as fpa
from fpanalysis.system import System

NOISES = ("independent", "joint")


def network(N=5, seed=0, gain=1.2, shrink=1.2, **settings):
    rng = np.random.default_rng(seed)
    A, W = (fpa.LipschitzRNN.between(gain * rng.standard_normal((N, N)) / np.sqrt(N), 0.7, shrink) for _ in range(2))
    return fpa.LipschitzRNN(A=A, W=W, b=0.3 * rng.standard_normal(N), **({"gamma": 0.1} | settings))


@pytest.mark.parametrize("noise", NOISES)
def test_the_regulariser_is_the_trace_of_the_unrolled_hessian(noise):
    """With the network's own noise, additive and on the increment, at every step a variable of its own."""
    rng, N, T = np.random.default_rng(0), 4, 5
    weights = {"W_in": rng.standard_normal((N, 2)), "W_out": rng.standard_normal((3, N))}
    base = network(N, sigma=0.3, multiplicative=0.5, noise=noise, gamma=0.4)
    net = fpa.LipschitzRNN(
        A=base.A, W=base.W, b=base.b, gamma=0.4, sigma=0.3, multiplicative=0.5, noise=noise, **weights
    )
    inputs, targets = rng.standard_normal((T, 1, 2)), np.eye(3)[rng.integers(3, size=(T, 1))]
    A, W, b, W_in, W_out = (torch.tensor(x) for x in (net.A, net.W, net.b, net.W_in, net.W_out))

    def value(xi):
        h, total = torch.zeros(N, dtype=torch.float64), 0.0
        for t, (one, two) in enumerate(xi.reshape(T, 2, N)):
            f = A @ h + torch.tanh(W @ h + W_in @ torch.tensor(inputs[t, 0]) + b)
            h = h + 0.4 * (f * (1 + 0.5 * (one if noise == "joint" else two)) + 0.3 * one)
            total = total - (torch.tensor(targets[t, 0]) * torch.log_softmax(W_out @ h, -1)).sum() / T
        return total

    zero = torch.zeros(2 * N * T, dtype=torch.float64)
    found = fpa.regularizer(net, (inputs, targets, np.ones((T, 1))), "cross-entropy", pairs=0)
    trace = float(torch.autograd.functional.hessian(value, zero).trace())
    assert found.eps == 0.5
    assert found.l == pytest.approx(float(value(zero)), rel=1e-12)
    assert (found.P + found.Q) * found.eps**2 == pytest.approx(trace, rel=1e-11)
    still = fpa.regularizer(net, (inputs, targets, np.ones((T, 1))), "cross-entropy", sigma=0.0)
    assert (still.eps, still.sampled, still.error) == (0.0, still.l, 0.0)


def test_the_tangent_step_is_the_derivative_of_the_noisy_step():
    net, rng = network(), np.random.default_rng(2)
    h, noise, factor, V = *rng.standard_normal((3, 6, 5)), rng.standard_normal((6, 2, 5))
    for stretch in (1.0, factor):
        moved, turned = net.tangent_step(h, np.zeros(0), noise, V, stretch)
        f = net.target(h) - h
        np.testing.assert_allclose(moved, h + 0.1 * (stretch * f + noise), rtol=1e-13, atol=1e-14)
        for i in range(2):
            ends = [net.tangent_step(h + s * V[:, i], np.zeros(0), noise, V, stretch)[0] for s in (1e-6, -1e-6)]
            np.testing.assert_allclose(turned[:, i], (ends[0] - ends[1]) / 2e-6, atol=1e-8)
        general = System.tangent_step(net, h, np.zeros(0), noise, V, stretch)
        for own, other in zip((moved, turned), general, strict=True):
            np.testing.assert_allclose(own, other, atol=1e-13)


@pytest.mark.parametrize("noise", NOISES)
def test_one_dimension_is_lambda_minus_half_sigma_squared(noise):
    """f = a h with noise on the increment: the exponent of the step exactly, and of the SDE as gamma goes to zero."""
    a, s, gaps = 0.5, 1.5, []
    for gamma in (0.01, 0.005):
        mu = s / (a * np.sqrt(gamma))
        net = fpa.LipschitzRNN(A=[[a]], W=[[0.0]], gamma=gamma, multiplicative=mu, noise=noise)
        found = fpa.lyapunov(net, start=[0.0], chains=100, steps=500)
        assert abs(found.top - log_gain(gamma * a, mu)) < 2 * found.top_error < 0.02
        gaps.append(abs(log_gain(gamma * a, mu) / gamma - (a - s**2 / 2)))
        bounds = fpa.exponent_bounds(net)  # without a or W the SDE's are tight
        assert (bounds.lower, bounds.upper) == pytest.approx((a - s**2 / 2,) * 2)
        assert found.top + found.top_error < 0 < fpa.lyapunov(net, sigma=0, start=[0.0]).top
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize("noise", NOISES)
def test_two_trajectories_under_the_same_noise_meet_at_the_top_exponent(noise):
    """Written out, the difference renormalised; the network's own noise is the default."""
    net = network(8, 3, sigma=0.5, multiplicative=1.5, noise=noise)
    found = fpa.lyapunov(net, k=1, steps=2000)
    rng = np.random.default_rng(11)
    h = rng.standard_normal((60, 8))
    other, growth = h + 1e-7 * rng.standard_normal(h.shape), np.zeros(60)
    for t in range(1200):
        one, two = rng.standard_normal((2, *h.shape))
        factor = 1 + 1.5 * (one if noise == "joint" else two)
        h, other = (x + 0.1 * ((net.target(x) - x) * factor + 0.5 * one) for x in (h, other))
        size = np.linalg.norm(other - h, axis=1) / 1e-7
        other, growth = h + (other - h) / size[:, None], growth + np.log(size) * (t >= 200)
    error = 2 * growth.std(ddof=1) / 1000 / np.sqrt(60)
    assert abs(growth.mean() / 1000 - found.top) < 2 * np.hypot(error, found.top_error)
    assert np.hypot(error, found.top_error) < 0.01
    assert found.multiplicative == 1.5
    assert abs(found.top - fpa.lyapunov(net, k=1, multiplicative=0.0).top) > 2 * found.top_error


def test_the_rate_bounds_the_norm_at_every_slope():
    gamma = np.array([0.1, 0.3, 0.9, 1.0, 0.5])
    net = network(gamma=gamma)
    found = fpa.contraction_certificates(net)
    for slopes in itertools.product((0.0, 1.0), repeat=5):
        J = np.eye(5) + gamma[:, None] * (net.A + np.diag(slopes) @ net.W)
        for c in found.certificates:
            scaled = c.weights[:, None] * J / c.weights
            assert np.linalg.norm(scaled, {"infinity": np.inf, "1": 1, "2": 2}[c.norm]) <= c.rate
    assert fpa.contraction_certificates(net, region="box").status is fpa.Status.NOT_APPLICABLE


def test_exponents_respect_certificates_and_bounds():
    held = 0
    for seed in range(24):
        net = network(1 + seed % 8, seed, 0.05 * seed, 1.0, gamma=(0.05, 0.1, 0.3)[seed % 3], sigma=0.4)
        found = fpa.contraction_certificates(net)
        for mu in (0.0, 0.6):
            top = fpa.lyapunov(net, multiplicative=mu, k=1, steps=300, chains=4)
            if top.status is fpa.Status.DIVERGED:
                continue
            bounds = fpa.exponent_bounds(net, mu)
            assert bounds.step_lower <= top.top + top.top_error
            assert top.top - top.top_error <= bounds.step_upper
            assert mu or all(top.top - top.top_error <= c.exponent for c in found.certificates)
        held += found.holds
    assert 8 < held < 24


def test_the_norm_condition_is_that_of_the_sde():
    net = network(multiplicative=0.5)
    bounds = fpa.exponent_bounds(net)
    sde = fpa.sde_exponent_bounds(net.A, net.W, kind="drift", sigma=0.5 * np.sqrt(0.1))
    assert (bounds.lower, bounds.upper) == pytest.approx((sde.lower, sde.upper))
    assert bounds.weight_norm == pytest.approx(np.linalg.norm(net.W, 2))
