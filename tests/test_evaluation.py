"""Sampling stacks of networks on their task: closed forms, the other sampler, and what does not depend on the stack."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis.models import _trials, evaluate
from fpanalysis.results import InputError
from fpanalysis.tasks import Feedback, Task, get_task

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
RATE, CENTRE, GAIN, NEAR = 0.2, 0.3, 0.5, 0.15


@dataclass(frozen=True)
class Follow(Task):
    """Steer a point to where the target is, seeing it; the second coordinate weighs nothing."""

    T: int = 12
    counted: int = 4

    n_in: ClassVar[int] = 2
    n_out: ClassVar[int] = 2
    feedback: ClassVar[Feedback] = Feedback(rate=RATE, gain=GAIN, centre=CENTRE)
    scored: ClassVar[bool] = True

    def batch(self, batch_size, rng):
        start = np.random.default_rng(rng).uniform(-1, 1, (batch_size, 2))
        targets = np.full((self.T, batch_size, 2), 0.1, np.float32)
        inputs = GAIN * (np.concatenate([start[None], targets[:-1]]) - CENTRE)
        mask = np.zeros((self.T, batch_size, 2), np.float32)
        mask[-self.counted :, :, 0] = [[1], [1], [2], [4]]
        return inputs.astype(np.float32), targets, mask

    def score(self, outputs, batch):
        return np.abs(outputs[..., -1, :, 0] - batch[1][-1, :, 0]) < NEAR


def steering(**settings):
    """A linear network that steers towards the point, so that all laws are Gaussian."""
    return fpa.Network(
        W=[[0.2, -0.4], [0.3, 0.1]], b=[0.1, -0.2], W_in=[[-1.0, 0.2], [0.1, -0.8]], W_out=[[0.7, 0.2], [0.0, 0.6]],
        b_out=[0.02, 0.0], gamma=0.5, activation="linear", sigma=0.4, **settings,
    )  # fmt: skip


def laws_in_the_loop(net, task, start, sigma):
    """Mean and variance (T, B) of the first coordinate, by the recursion of the joint state (h, p)."""
    g, I = net.gamma, np.eye(2)
    A = np.block([[(1 - g) * I + g * net.W, g * GAIN * net.W_in], [RATE * net.W_out, I]])
    c = np.concatenate([g * (net.b - GAIN * CENTRE * net.W_in.sum(axis=1)), RATE * net.b_out])
    Q = np.diag([1.0, 1, 0, 0]) * (g * sigma) ** 2
    m, C = np.concatenate([np.zeros_like(start), start], axis=1), np.zeros((4, 4))
    means, variances = [], []
    for _ in range(task.T):
        m, C = m @ A.T + c, A @ C @ A.T + Q
        means.append(m[:, 2])
        variances.append(np.full(len(start), C[2, 2]))
    return np.array(means), np.array(variances)


def test_a_closed_loop_is_run_closed():
    """bias^2, variance and success rate of a linear network in the loop, whose laws are known."""
    task, net, levels, B = Follow(), steering(), [0.0, 0.2, 0.4, 0.8], 6
    test = evaluate(net, task, levels, inputs=B, trials=800, rng=4)
    inputs, targets, mask = task.batch(B, np.random.default_rng(4))
    weight = mask[..., 0] / mask.sum()
    start, curve = inputs[0] / GAIN + CENTRE, test.curves[0]
    for k, sigma in enumerate(levels):
        mean, variance = laws_in_the_loop(net, task, start.astype(float), sigma)
        bias2 = (weight * (mean - targets[..., 0]) ** 2).sum()
        assert abs(curve.bias2[k] - bias2) <= 2 * curve.bias2_error[k] + 1e-6  # float32
        assert abs(curve.variance[k] - (weight * variance).sum()) <= 2 * curve.variance_error[k] + 1e-6
        width = np.sqrt(np.maximum(variance[-1], 1e-300))
        rate = norm.cdf((0.1 + NEAR - mean[-1]) / width) - norm.cdf((0.1 - NEAR - mean[-1]) / width)
        assert abs(test.success[0, k] - rate.mean()) <= 4 * np.sqrt((rate * (1 - rate)).sum() / 800) / B + 1e-12
        given = np.sqrt(rate.var(ddof=1) / B)  # over the inputs; the noise adds little with 800 runs of each
        assert test.success_error[0, k] == pytest.approx(given, rel=0.1, abs=1e-3)
    assert test.success_removed[0] == test.success[0, 0]
    assert test.success_trained[0] == test.success[0, 2]
    assert 0.05 < test.success[0, 3] < 0.95


@pytest.mark.parametrize("form", ["rate", "current"])
def test_a_network_that_is_read_as_it_is(form):
    """Without W_out in the loop, as with W_out = I: the position moves by the state before the step."""
    read = dataclasses.replace(steering(form=form), W_out=np.eye(2), b_out=None)
    curves = [evaluate(net, Follow(), [0.0, 0.4], inputs=3, trials=16).curves[0]
              for net in (read, dataclasses.replace(read, W_out=None))]  # fmt: skip
    np.testing.assert_allclose(curves[1].loss, curves[0].loss, rtol=1e-5)


def test_an_open_loop_would_be_another_curve():
    """The same network at the inputs of a perfect path: so that the test above can fail."""
    task, net = Follow(), steering()
    batch = task.batch(6, np.random.default_rng(4))
    closed = evaluate(net, task, [0.4], inputs=6, trials=64, rng=4).curves[0]
    straight = fpa.loss_curve(net, batch, [0.4])
    assert abs(closed.bias2[0] - straight.bias2[0]) > 3 * (closed.bias2_error[0] + straight.bias2_error[0])


@pytest.mark.parametrize("form", ["rate", "current"])
def test_both_samplers_and_the_prediction_agree(form):
    """On the same inputs: float32 stacks against float64 runs of one network, and against the closure."""
    net = fpa.load(NETWORKS / "function-approximation-softplus-in-1.0.pt")
    stack = [dataclasses.replace(net, form=form)]
    stack += [dataclasses.replace(net, placement="out", sigma=0.5)] if form == "rate" else []
    levels = [0.0, 0.5, 1.0]
    task = get_task("function-approximation", T=40, counted=10)
    test = evaluate(stack, task, levels, inputs=5, trials=160, rng=2)
    for own, curve in zip(stack, test.curves, strict=True):
        batch = task.batch(5, np.random.default_rng(2))
        assert curve.training_sigma == own.sigma
        for other in (fpa.loss_curve(own, batch, levels, "monte-carlo", trials=160, rng=9),
                      fpa.loss_curve(own, batch, levels)):  # fmt: skip
            for part in ("bias2", "variance"):
                gap = np.abs(getattr(curve, part) - getattr(other, part))
                errors = [np.asarray(getattr(found, f"{part}_error")) for found in (curve, other)]
                assert (gap <= 2 * errors[0] + 2 * errors[1] + 1e-6 * curve.loss).all()  # half-widths of 95 %


def test_the_loss_of_a_network_whose_law_is_known():
    """One linear neuron, h' = (1 - gamma) h + gamma sigma xi + gamma b: Gaussian with known mean and variance."""
    gamma, b, c, T, R = 0.5, 0.3, 0.2, 80, 4000
    net = fpa.Network(W=[[0.0]], b=[b], W_out=[[1.0]], gamma=gamma, activation="linear")
    sigma = np.array([0.0, 0.5, 1.0])
    test = evaluate(net, get_task("regulator", c=c, T=T, counted=1), sigma, inputs=1, trials=R)
    bias2 = (b - c) ** 2  # (1 - gamma)^80 of the start is left: 1e-24
    variance = gamma / (2 - gamma) * sigma**2
    # standard errors over R trials: of the variance, sqrt(2 / R); of bias^2, 2 |b - c| sqrt(V / R) and V sqrt(2) / R
    np.testing.assert_array_less(np.abs(test.variance[0] - variance), 4 * variance * np.sqrt(2 / R) + 1e-12)
    bound = 2 * (b - c) * np.sqrt(variance / R) + variance * np.sqrt(2) / R
    np.testing.assert_array_less(np.abs(test.bias2[0] - bias2), 4 * bound + 1e-7)
    np.testing.assert_array_less(np.abs(test.loss[0] - variance - bias2), 2 * test.error[0] + 1e-7)
    np.testing.assert_allclose(test.loss, test.bias2 + test.variance, rtol=1e-12)


def test_the_sampling_error_of_the_mean_does_not_count_as_bias():
    """With 4 trials per input an uncorrected bias^2 would hold a quarter of the variance: 0.021 here, not 0."""
    net = fpa.Network(W=[[0.0]], b=[0.2], W_out=[[1.0]], gamma=0.5, activation="linear")
    test = evaluate(net, get_task("regulator", c=0.2, counted=1), 0.5, inputs=4000, trials=4)
    V, R = 0.25 / 3, 4
    assert abs(test.bias2[0, 0]) < 4 * V * np.sqrt(2 / (R * (R - 1)) / 4000)  # Var zbar^2 + Var S^2 / R of a Gaussian


def regulators():
    """Two that differ in weight, noise and placement."""
    one = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    return [one, dataclasses.replace(one, W=0.5 * one.W, sigma=0.3, placement="out")]


def test_a_network_is_judged_the_same_alone_and_in_a_stack(monkeypatch):
    nets = regulators()
    together = evaluate(nets, "regulator", [0, 0.3, 0.5], inputs=2, trials=20)
    alone = evaluate(nets[1], "regulator", [0, 0.3, 0.5], inputs=2, trials=20)
    np.testing.assert_allclose(alone.loss[0], together.loss[1], rtol=1e-5)  # float32
    monkeypatch.setattr(_trials, "CHUNK", 1)
    again = evaluate(nets, "regulator", [0, 0.3, 0.5], inputs=2, trials=20)
    assert (again.loss[:, 1:] != together.loss[:, 1:]).all()
    # other random numbers in other chunks: independent estimates of the same loss
    np.testing.assert_array_less(np.abs(again.loss - together.loss), 2 * np.hypot(again.error, together.error) + 1e-7)


def test_levels_and_what_is_said_of_them():
    test = evaluate(regulators(), "regulator", inputs=1, trials=64)
    np.testing.assert_allclose(test.sigma, np.linspace(0, 0.75, 16))
    assert test.success is None
    assert [curve.training_sigma for curve in test.curves] == [0.5, 0.3]
    for curve, loss in zip(test.curves, test.loss, strict=True):
        assert curve.loss_removed == loss[0]
        assert curve.loss_trained == pytest.approx(np.interp(curve.training_sigma, test.sigma, loss), rel=0.05)
    narrow = evaluate(regulators()[0], "regulator", [0.2, 0.4], inputs=1, trials=64).curves[0]
    assert narrow.ratio == pytest.approx(test.curves[0].ratio, rel=1e-5)  # both are run besides


def test_growth_without_bound_is_said():
    net = fpa.Network(W=[[3.0]], b=[1.0], sigma=0.3, gamma=0.5, W_out=[[1.0]])
    curve = evaluate(net, get_task("regulator", T=400, counted=200), [0, 0.3], inputs=1, trials=8).curves[0]
    assert [status.value for status in curve.status] == ["diverged", "diverged"]
    assert np.isnan(curve.preferred)
    assert np.isnan(curve.loss).all()


def test_what_cannot_be_used_is_named():
    net = regulators()[0]
    with pytest.raises(InputError, match="sigma must be noise levels, numbers >= 0"):
        evaluate(net, "regulator", [-0.1])
    with pytest.raises(InputError, match="trials must be a whole number >= 4"):
        evaluate(net, "regulator", 0.5, trials=1)
    with pytest.raises(InputError, match=r"do not fit task 'flip-flop' with 3 input\(s\) and 3 output"):
        evaluate(net, "flip-flop", 0.5)
    with pytest.raises(InputError, match="sigma must be given"):
        evaluate(net.with_sigma(0), "regulator")
    with pytest.raises(InputError, match="must share shapes"):
        evaluate([net, steering()], "regulator", 0.5)
