"""Classes in the training core: the gradient of the cross-entropy, what it is without learning, and its loss curve."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from math import log
from typing import ClassVar

import numpy as np
import pytest
import torch
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.models import evaluate, train
from fpanalysis.models._gradient import Gradient, Trials
from fpanalysis.models._outcome import constant_loss
from fpanalysis.models.ctrnn import CTRNN
from fpanalysis.moments._blocks import Sums, estimate
from fpanalysis.regularizer import CrossEntropy, SquaredError
from fpanalysis.results import InputError
from fpanalysis.tasks import Defaults, Task, get_task

CHANCES = (0.5, 0.3, 0.2)


@dataclass(frozen=True)
class Lot(Task):
    """Three classes with unequal chances, of which a constant input tells all."""

    T: int = 6
    counted: int = 3

    name: ClassVar[str] = "lot-for-test"
    n_in: ClassVar[int] = 3
    n_out: ClassVar[int] = 3
    loss: ClassVar[str] = "cross-entropy"
    scored: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults(size=4, gamma=0.5, steps=3, lr=1e-2, batch=8)

    def trials(self, batch_size, rng):
        one_hot = np.eye(3)[rng.choice(3, size=batch_size, p=CHANCES)]
        return one_hot, one_hot

    def test_batch(self, batch_size, rng):
        return self.batch(3, 0)

    def score(self, outputs, batch):
        return outputs[..., -1, :, :].argmax(-1) == batch[1][-1].argmax(-1)

    def conditions(self):
        return np.eye(3), None

    def initialize(self, size, rng):
        rng = np.random.default_rng(rng)
        shapes = {"W": (size, size), "b": (size,), "W_in": (size, 3), "W_out": (3, size), "b_out": (3,)}
        return {name: rng.standard_normal(shape) / 2 for name, shape in shapes.items()}


def linear(**settings):
    """A linear network of three neurons, read as they are: Gaussian outputs at every noise."""
    return fpa.Network(W=[[0.2, -0.4, 0.1], [0.3, 0.1, 0.0], [0.0, 0.2, -0.3]], b=[0.1, -0.2, 0.3], W_in=2 * np.eye(3),
                       W_out=[[1.5, 0.3, 0.0], [0.2, 1.1, -0.4], [0.0, 0.1, 1.3]], b_out=[0.2, 0.0, -0.1], gamma=0.5,
                       activation="linear", sigma=0.8, **settings)  # fmt: skip


@pytest.mark.parametrize("form", ["rate", "current"])
def test_gradient_is_that_of_automatic_differentiation(form):
    """Three networks on two batches, in float64; targets are probabilities, of which a class is the extreme."""
    g = torch.Generator().manual_seed(0)
    M, S, T, B, N = 3, 2, 5, 4, 4

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    nets = [
        fpa.Network(**Lot().initialize(N, m), gamma=0.3, activation="softplus", sigma=0.3, form=form) for m in range(M)
    ]
    model = CTRNN(nets, torch.float64)
    targets, mask, seed = draw(S, T, B, 3).softmax(-1), draw(S, T, B).abs(), torch.tensor([0, 1, 1])
    mask[:, 1] = 0
    batch = Trials(draw(S, T, B, 3), targets, mask, draw(S, B, N), draw(S, T, B, N), seed)
    losses = Gradient(model, loss="cross-entropy")(batch)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    z = model(batch.inputs[seed], batch.h0[seed], batch.xi[seed] * model.per_network("sigma"))
    each = torch.nn.functional.cross_entropy(z.permute(0, 3, 1, 2), targets[seed].permute(0, 3, 1, 2), reduction="none")
    wanted = (mask[seed] * each).sum((1, 2)) / mask[seed].sum((1, 2))
    wanted.sum().backward()
    torch.testing.assert_close(losses, wanted.detach(), rtol=1e-13, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-11, atol=1e-13, msg=name)


def test_without_learning_the_loss_is_the_entropy_of_the_classes():
    entropy = -sum(p * log(p) for p in CHANCES)
    # of n draws, -log p of the class has the variance below, to first order that of the entropy of frequencies
    spread = sum(p * log(p) ** 2 for p in CHANCES) - entropy**2
    assert constant_loss(Lot(), 4000) == pytest.approx(entropy, abs=4 * np.sqrt(spread / 4000) + 3 / 4000)
    assert constant_loss(Lot(), 1) == pytest.approx(log(3)), "one class tells nothing: equal chances"
    assert constant_loss(get_task("digits")) == pytest.approx(log(10), abs=0.01)


def law(net, inputs, sigma, T):
    """Mean (T, B, 3) and covariance (T, 3, 3) of the outputs of a linear network."""
    g, m, C = net.gamma, np.zeros((inputs.shape[1], 3)), np.zeros((3, 3))
    A = (1 - g) * np.eye(3) + g * net.W
    means, covariances = [], []
    for t in range(T):
        m, C = m @ A.T + g * (inputs[t] @ net.W_in.T + net.b), A @ C @ A.T + (g * sigma) ** 2 * np.eye(3)
        means.append(m @ net.W_out.T + net.b_out)
        covariances.append(net.W_out @ C @ net.W_out.T)
    return np.array(means), np.array(covariances)


def expected(net, batch, sigma, nodes=24):
    """E l and l(E z) by Gauss-Hermite quadrature over the three Gaussian outputs, written out."""
    inputs, targets, mask = batch
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    grid = np.stack([a.ravel() for a in np.meshgrid(x, x, x)], -1)
    weight = np.prod([a.ravel() for a in np.meshgrid(w, w, w)], 0) / (2 * np.pi) ** 1.5
    means, covariances = law(net, inputs, sigma, len(inputs))

    def loss(z, target):
        return np.log(np.exp(z).sum(-1)) - (z * target).sum(-1)

    both = np.zeros(2)
    for t in np.flatnonzero(mask[:, 0]):
        values, vectors = np.linalg.eigh(covariances[t])
        z = means[t] + ((grid * np.sqrt(np.maximum(values, 0))) @ vectors.T)[:, None]
        both += [(weight[:, None] * loss(z, targets[t])).sum(), loss(means[t], targets[t]).sum()]
    return both / mask.sum()


def curves_of(net, levels, rng):
    """By both samplers, on the same inputs."""
    batch = Lot().test_batch(3, 0)
    yield evaluate(net, Lot(), levels, inputs=3, trials=400, rng=rng).curves[0]
    yield fpa.loss_curve(net, batch, levels, "monte-carlo", loss="cross-entropy", trials=400, rng=rng + 100)


def test_loss_and_its_parts_of_a_network_whose_law_is_known():
    """E l, l(E z) and Jensen's gap, each within the error stated; at zero noise there is no gap."""
    net, levels = linear(), [0.0, 0.4, 0.8, 1.6]
    exact = np.array([expected(net, Lot().test_batch(3, 0), sigma) for sigma in levels])
    for curve in curves_of(net, levels, 0):
        assert (np.abs(curve.loss - exact[:, 0]) <= 2 * curve.error + 1e-6).all()  # half-widths of 95 %; float32
        assert (np.abs(curve.bias2 - exact[:, 1]) <= 2 * curve.bias2_error + 1e-6).all()
        gap = exact[:, 0] - exact[:, 1]
        assert (np.abs(curve.variance - gap) <= 2 * curve.variance_error + 1e-6).all()
        np.testing.assert_allclose(curve.bias2 + curve.variance, curve.loss, rtol=1e-12)
        np.testing.assert_allclose(curve.bias2_by_trial.sum(1), curve.bias2, rtol=1e-12)
        assert curve.variance[0] == pytest.approx(0, abs=1e-6)
        assert (curve.variance[1:] > 5 * curve.variance_error[1:]).all(), "sharp enough to tell the gap"
        assert curve.ok
        assert np.isfinite(curve.preferred_bias2)


def test_few_runs_are_no_bias_of_the_parts():
    """With 8 runs an uncorrected l(zbar) would hold an eighth of the noise, and the errors cover the truth."""
    net, sigma = linear(), 2.0
    truth = expected(net, Lot().test_batch(3, 0), sigma)
    rows = []
    for seed in range(80):
        curve = evaluate(net, Lot(), sigma, trials=8, rng=seed).curves[0]
        own = np.array([curve.loss[0], curve.bias2[0]]) - truth
        rows.append(np.concatenate([own, own / [curve.error[0], curve.bias2_error[0]]]))
    rows = np.array(rows)
    mean, standard = rows.mean(0)[:2], rows.std(0, ddof=1)[:2] / np.sqrt(80)
    assert (np.abs(mean) < 4 * standard).all()
    assert 3 * standard[1] < (truth[0] - truth[1]) / 8, "would be seen"
    assert ((np.abs(rows[:, 2:]) < 1).sum(0) >= 67).all()  # coverage 95 % gives 76 +- 1.9


def test_of_the_squared_error_the_parts_are_bias_and_variance():
    """The same sums through the general way: l(E z) by the jackknife over equal blocks is unbiased, too."""
    rng = np.random.default_rng(0)
    sigma, weight, targets = np.array([0.0, 0.1, 1.0]), np.full((2, 3, 2), 1 / 12), rng.standard_normal((2, 3, 2))
    z = rng.standard_normal((2, 3, 2)) + sigma[:, None, None, None, None] * rng.standard_normal((3, 640, 2, 3, 2))
    d, loss = z - targets, SquaredError()
    parts = [slice(k, k + 40) for k in range(0, 640, 40)]
    plain = [Sums(40, d[:, p].sum(1), (d[:, p] ** 2).sum(1)) for p in parts]
    own = [s._replace(own=loss.value(z[:, p], targets, weight).sum((1, 2))) for s, p in zip(plain, parts, strict=True)]
    of_mean = lambda bias: loss.value(bias + targets, targets, weight).sum(1)  # noqa: E731
    one = estimate(plain, weight, sigma, (0, 1), 1.0)
    other = estimate(own, weight, sigma, (0, 1), 1.0, of_mean)
    np.testing.assert_allclose(other.summary.loss, one.summary.loss, rtol=1e-12)
    # the same up to how the variance is taken off, that of 640 runs or of 16 blocks: S^2 / 640 times a relative
    # error sqrt(2 / 15 / 12) of the latter, of 12 numbers each
    bound = 4 * one.summary.variance / 640 * np.sqrt(2 / 15 / 12) + 1e-14
    assert (np.abs(other.summary.bias2 - one.summary.bias2) < bound).all()
    assert one.summary.variance[2] == pytest.approx(1, rel=0.1)


def test_closures_do_not_know_it_and_bad_targets_are_refused():
    net, batch = linear(), Lot().test_batch(3, 0)
    with pytest.raises(InputError, match="use method='monte-carlo'"):
        fpa.loss_curve(net, batch, [0.5], loss="cross-entropy")
    with pytest.raises(InputError, match="must be probabilities of two classes or more"):
        fpa.loss_curve(net, (batch[0], 2 * batch[1], batch[2]), [0.5], "monte-carlo", loss=CrossEntropy())
    same = fpa.loss_curve(net, batch, [0.5], "monte-carlo", loss="squared error", trials=8)
    assert same.loss[0] == fpa.loss_curve(net, batch, [0.5], "monte-carlo", trials=8).loss[0]
    named = fpa.loss_curve(net, batch, [0.5], "monte-carlo", loss=CrossEntropy(), trials=8)
    assert named.provenance.settings["loss"] == "cross-entropy"


def test_layers_have_the_loss_of_their_task():
    task = get_task("lot-for-test", layers=[5, 4])
    assert task.loss == "cross-entropy"
    assert task.test_batch(50, 0)[0].shape == (2, 3, 3)  # its own three trials, a step for each layer


def test_growth_without_bound_is_said():
    net = dataclasses.replace(linear(), W=5e3 * np.eye(3))
    curve = evaluate(net, Lot(T=60), [0, 0.3], trials=8).curves[0]
    assert [status.value for status in curve.status] == ["diverged", "diverged"]
    assert np.isnan(curve.loss).all()


def test_digits_are_learned_and_tested_on_others():
    """Most are right after a short training, on all 450 test images, by both ways to run a network."""
    task = get_task("digits")
    training = train(task, seed=[0, 1], sigma=[0.0, 0.5], size=32, steps=150, lr=2e-2)
    nets = training.networks
    found = evaluate(nets, task, [0.0, 0.5], inputs=450, trials=4)
    assert found.curves[0].provenance.settings["inputs"] == 450
    assert (found.success_trained > 0.7).all()
    assert training.final_loss(1) < constant_loss(task) / 2
    # 450 test images: the rate that their scores have when run by the engine, one by one, is the same
    u, z, _ = batch = task.test_batch(450, 0)
    h = np.zeros((450, 32))
    for u_t in u:
        h = nets[0].step(h, u_t)
    right = task.score(nets[0].output(h)[None], batch)
    assert abs(right.mean() - found.success_trained[0]) <= 1 / 450  # float32: at most one image on the border
    loss = CrossEntropy().value(nets[0].output(h), z[-1], np.full((450, 10), 1 / 4500)).sum()
    assert found.loss[0, 0] == pytest.approx(loss, rel=1e-4)


def test_the_command_tells_the_accuracy(tmp_path):
    run = ["train", "digits", "--size", "24", "--steps", "60", "--lr", "0.02", "-o", str(tmp_path / "d.pt")]
    noisy, quiet = (CliRunner().invoke(main, [*run, "--noise", noise]) for noise in ("0.3", "0"))
    assert noisy.exit_code == quiet.exit_code == 0, noisy.output + quiet.output
    shares = re.findall(
        r"^accuracy at noise 0\.3 +(0\.\d{4}) \(of 450 test trials\)\n.*removed +(0\.\d{4})$", noisy.output, re.M
    )
    assert len(shares) == 1
    assert min(map(float, shares[0])) > 0.4
    assert re.search(r"^accuracy, noise removed +0\.\d{4} \(of 450 test trials\)$", quiet.output, re.M)
    assert "test loss" not in quiet.output
    never = CliRunner().invoke(main, [*run, "--steps", "1"])
    assert never.exit_code == 3
    assert "not trained (a constant output: loss 2.3" in never.stderr
