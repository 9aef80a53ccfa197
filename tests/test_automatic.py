"""The gradient of Lipschitz RNNs against finite differences of a loss that is written out in numpy, in float64."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import LipschitzStack
from fpanalysis.models._automatic import AutomaticGradient
from fpanalysis.models._gradient import Trials
from fpanalysis.tasks import Feedback

N, B, T, S, D = 4, 3, 5, 2, 2
LOOP = Feedback(rate=0.3, gain=2.0, centre=0.4)
NAMES = ("M_A", "M_W", "b", "W_in", "W_out", "b_out")
SIGMA, FACTOR, SEED = (0.4, 0.0, 0.3), (0.2, 0.5, 0.0), (0, 1, 1)


def stack(kind="independent"):
    rng = np.random.default_rng(0)
    nets = [
        fpa.LipschitzRNN(
            A=rng.standard_normal((N, N)) / N, W=rng.standard_normal((N, N)) / N, b=rng.standard_normal(N),
            W_in=rng.standard_normal((N, D)), W_out=rng.standard_normal((D, N)), b_out=rng.standard_normal(D),
            gamma=0.3, sigma=sigma, multiplicative=factor, noise=kind,
            info={"between": {"skew": 0.75, "shrink": 0.01}},
        )
        for sigma, factor in zip(SIGMA, FACTOR, strict=True)
    ]  # fmt: skip
    return LipschitzStack(nets, torch.float64)


def trials(kind):
    g = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    xi = draw(S, T, B, N)
    factor = xi if kind == "joint" else draw(S, T, B, N)
    mask = draw(S, T, B).abs()
    return Trials(draw(S, T, B, D), draw(S, T, B, D), mask, draw(S, B, N), xi, torch.tensor(SEED), factor)


def loss(p, m, batch, loop):
    """Of network m with the parameters `p`."""
    inputs, targets, mask, h, xi, factor = (
        part[SEED[m]].numpy() for part in (batch.inputs, batch.targets, batch.mask, batch.h0, batch.xi, batch.factor)
    )
    A, W = (p[name] - 0.5 * p[name].T - 0.01 * np.eye(N) for name in ("M_A", "M_W"))
    position, total = inputs[0] / LOOP.gain + LOOP.centre, 0.0
    for t in range(T):
        u = inputs[t] if loop is None else LOOP.gain * (position - LOOP.centre)
        position = position + LOOP.rate * (h @ p["W_out"].T + p["b_out"])
        f = h @ A.T + np.tanh(h @ W.T + u @ p["W_in"].T + p["b"])
        h = h + 0.3 * ((1 + FACTOR[m] * factor[t]) * f + SIGMA[m] * xi[t])
        found = h @ p["W_out"].T + p["b_out"] if loop is None else position
        total += (mask[t][:, None] * (found - targets[t]) ** 2).sum()
    return total / (D * mask.sum())


@pytest.mark.parametrize("loop", [None, LOOP], ids=["open", "closed"])
@pytest.mark.parametrize("kind", ["independent", "joint"])
def test_loss_and_gradient(kind, loop):
    model, batch, rng = stack(kind), trials(kind), np.random.default_rng(5)
    losses = AutomaticGradient(model, loop)(batch)
    for m in range(3):
        p = {name: model.get_parameter(name)[m].detach().numpy().copy() for name in NAMES}
        assert float(losses[m]) == pytest.approx(loss(p, m, batch, loop), rel=1e-12)
        for name in NAMES:
            way = rng.standard_normal(p[name].shape)
            both = [loss(p | {name: p[name] + step * way}, m, batch, loop) for step in (1e-5, -1e-5)]
            slope = (both[0] - both[1]) / 2e-5
            found = float((model.get_parameter(name).grad[m].numpy() * way).sum())
            assert found == pytest.approx(slope, rel=1e-6, abs=1e-8), name


def test_the_cross_entropy():
    """The same slopes as of the readings by the numpy loss; their derivatives are tested above."""
    model, batch = stack(), trials("independent")
    classes = torch.nn.functional.one_hot(batch.targets.argmax(-1), D).double()
    batch = dataclasses.replace(batch, targets=classes)
    core = AutomaticGradient(model, loss="cross-entropy")
    losses = core(batch)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    logs = core.readings(batch).log_softmax(-1)
    weight = batch.mask[batch.seed] / batch.mask[batch.seed].sum((1, 2), keepdim=True)
    wanted = -(weight[..., None] * classes[batch.seed] * logs).sum((1, 2, 3))
    wanted.sum().backward()
    torch.testing.assert_close(losses, wanted.detach(), rtol=1e-12, atol=0)
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad, rtol=1e-11, atol=1e-14)


def test_a_second_call_starts_anew():
    model, batch = stack(), trials("independent")
    core = AutomaticGradient(model)
    core(batch)
    first = {name: p.grad.clone() for name, p in model.named_parameters()}
    core(batch)
    for name, p in model.named_parameters():
        torch.testing.assert_close(p.grad, first[name], rtol=0, atol=0)


def test_without_noise():
    model, batch = stack(), trials("independent")
    quiet = Trials(batch.inputs, batch.targets, batch.mask, batch.h0, None, batch.seed)
    silent = Trials(batch.inputs, batch.targets, batch.mask, batch.h0, 0 * batch.xi, batch.seed, 0 * batch.factor)
    core = AutomaticGradient(model)
    torch.testing.assert_close(core(quiet), core(silent), rtol=1e-14, atol=0)
    assert (core(quiet) != core(batch)).all()
