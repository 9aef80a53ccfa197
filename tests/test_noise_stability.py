"""The noise-stability curve against closed forms, its own second order, and what kinks add to it."""

from __future__ import annotations

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.models import flatness, noise_stability

T, B, N = 6, 4, 5
READOUT = ("W_out", "b_out")


def network(activation="tanh", seed=0, **settings):
    rng = np.random.default_rng(seed)
    return fpa.Network(
        W=rng.standard_normal((N, N)) / N**0.5,
        b=rng.standard_normal(N) / 4,
        W_in=rng.standard_normal((N, 1)),
        W_out=rng.standard_normal((1, N)),
        b_out=np.full(1, 0.2),
        **{"activation": activation, "gamma": 0.3} | settings,
    )


def batch(trials=B, steps=T, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((steps, trials, 1)), rng.standard_normal((steps, trials, 1)), np.ones((steps, trials))


@pytest.mark.parametrize("scale", ["absolute", "group", "weight"])
def test_a_quadratic_loss_is_predicted_to_rounding(scale):
    """In the readout alone: E l(s) = l + s^2 / 2 tr H at every s, which the regression takes all chance out of."""
    found = noise_stability(network(), batch(), [0.1, 1.0, 10.0], scale=scale, parameters=READOUT, pairs=8)
    np.testing.assert_allclose(found.loss, found.predicted, rtol=1e-9)
    np.testing.assert_allclose(found.curvature, found.flat.trace, rtol=1e-8)
    assert (found.curvature_error < 1e-8 * found.flat.trace).all()
    assert (np.abs(found.remainder) < 1e-9 * found.excess).all()


def test_fourth_order():
    """The remainder of a smooth network falls 16-fold per halving of s; that of one with kinks 4-fold."""
    found = noise_stability(network("softplus"), batch(), [0.01, 0.02, 0.04, 0.08], pairs=16)
    assert found.order == pytest.approx(4, abs=0.1)
    assert found.status.ok
    kinked = noise_stability(network("relu", seed=2), batch(40), [0.02, 0.05, 0.1], pairs=16)
    assert kinked.order < 3


def test_plain_sampling_agrees():
    """E l by hand: weights perturbed one network at a time, loss in numpy."""
    net, data, s = network(), batch(), 0.3
    rng = np.random.default_rng(2)
    losses = []
    for _ in range(1500):
        W, b = (part + s * np.abs(part) * rng.standard_normal(part.shape) for part in (net.W, net.b))
        other = fpa.Network(W=W, b=b, W_in=net.W_in, W_out=net.W_out, b_out=net.b_out, activation="tanh", gamma=0.3)
        h, total = np.zeros((B, N)), 0.0
        for u, y in zip(*data[:2], strict=True):
            h = other.step(h, u)
            total += np.mean((other.output(h) - y) ** 2) / T
        losses.append(total)
    found = noise_stability(net, data, [s], parameters=("W", "b"), pairs=256)
    error = 2 * np.std(losses) / np.sqrt(len(losses))
    assert abs(found.loss[0] - np.mean(losses)) < 1.5 * np.hypot(found.error[0], error)
    assert found.error[0] < error


def test_kinks_show_in_the_curve_and_in_the_smoothed_hessian():
    """In the biases, where outputs are too large throughout: kinks add to the curvature of the expected loss what the
    smooth pieces lack."""
    size = 3
    net = fpa.Network(
        W=np.full((size, size), 0.1), W_in=np.ones((size, 1)), W_out=np.ones((1, size)), sigma=0.5, gamma=0.5
    )
    u, _, mask = batch(trials=8, steps=6)
    given = {"sigma": 0.5, "runs": 96, "parameters": ("b",)}
    data = (u, np.full(u.shape, -3.0), mask)
    pieces = flatness(net, data, smoothed=0.0, **given)
    whole = flatness(net, data, **given)
    curve = noise_stability(net, data, [0.1], smoothed=0.0, scale="absolute", flat=pieces, pairs=48, **given)
    assert pieces.status is fpa.Status.PIECEWISE
    assert whole.status is fpa.Status.OK
    assert abs(whole.trace - curve.curvature[0]) < 1.5 * np.hypot(whole.trace_error, curve.curvature_error[0])
    assert curve.curvature[0] - pieces.trace > 3 * np.hypot(pieces.trace_error, curve.curvature_error[0])


def test_divergence_is_a_status():
    net = fpa.Network(W=np.full((2, 2), 0.3), W_in=[[1.0], [1.0]], activation="linear", gamma=1.0)
    data = (np.ones((200, 1, 1)), np.zeros((200, 1, 2)), np.ones((200, 1)))
    found = noise_stability(net, data, [0.01, 100.0], pairs=4)
    assert found.status is fpa.Status.DIVERGED
    assert np.isfinite(found.excess[0])
    assert found.excess[1] == np.inf


def test_what_is_refused():
    net, data = network(), batch()
    with pytest.raises(fpa.InputError, match="levels must be sizes"):
        noise_stability(net, data, [0.0, 0.1])
    with pytest.raises(fpa.InputError, match="pairs must be a whole number >= 2"):
        noise_stability(net, data, pairs=1)
    with pytest.raises(fpa.InputError, match="flat must be the flatness of net"):
        noise_stability(net, data, flat=flatness(network(seed=5), data))
    with pytest.raises(fpa.InputError, match="found scale 'absolute' in it and 'weight' here"):
        noise_stability(net, data, flat=flatness(net, data))
