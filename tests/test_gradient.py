"""The backward pass written out by hand against automatic differentiation of the same loss, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.activations import get_activation
from fpanalysis.models import _gradient
from fpanalysis.models._gradient import Gradient, Trials, slope
from fpanalysis.models._run import Run, Settings
from fpanalysis.models.ctrnn import CTRNN
from fpanalysis.tasks import Feedback, get_task

N, B, T, S, M, D = 7, 5, 6, 2, 3, 2
LOOP = Feedback(rate=0.3, gain=2.0, centre=0.4)
PLACEMENTS = (("in", "in", "in"), ("out", "out", "out"), ("in", "out", "in"))


def stack(
    activation="relu", form="rate", placements=PLACEMENTS[2], sigma=(0.1, 0.4, 0.3), gamma=(0.2, 0.2, 0.2), n_in=D
):
    rng = np.random.default_rng(0)
    networks = [
        fpa.Network(
            W=rng.standard_normal((N, N)) / N**0.5,
            b=rng.standard_normal(N) / 3,
            W_in=rng.standard_normal((N, n_in)) if n_in else None,
            W_out=rng.standard_normal((D, N)),
            b_out=rng.standard_normal(D),
            gamma=g,
            activation=activation,
            placement=place if form == "rate" else "in",
            form=form,
            sigma=level,
        )
        for place, level, g in zip(placements, sigma, gamma, strict=True)
    ]
    return CTRNN(networks, torch.float64)


def trials(n_in=D, per_output=True, noisy=True):
    g = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    mask = draw(S, T, B, D).abs() if per_output else draw(S, T, B).abs()
    xi = draw(S, T, B, N) if noisy else None
    return Trials(draw(S, T, B, n_in), draw(S, T, B, D), mask, draw(S, B, N), xi, torch.tensor([0, 1, 1]))


def loss(model, batch, loop=None):
    """By the public forward pass, one step at a time in a closed loop."""
    k = batch.seed
    noise = None if batch.xi is None else batch.xi[k] * model.per_network("sigma")
    if loop is None:
        readings = model(batch.inputs[k], batch.h0[k], noise)
    else:
        h, p, path = batch.h0[k], batch.inputs[k][:, 0] / loop.gain + loop.centre, []
        for t in range(T):
            z = model.output(h)
            xi = None if noise is None else noise[:, t : t + 1]
            h = model.states(loop.gain * (p - loop.centre)[:, None], h, xi)[:, 0]
            p = p + loop.rate * z
            path.append(p)
        readings = torch.stack(path, 1)
    mask = batch.mask[k] if batch.mask.ndim == 4 else batch.mask[k][..., None].expand_as(readings)
    return (mask * (readings - batch.targets[k]) ** 2).sum((1, 2, 3)) / mask.sum((1, 2, 3))


def assert_agree(model, batch, loop=None):
    losses = Gradient(model, loop)(batch)
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    wanted = loss(model, batch, loop)
    wanted.sum().backward()
    torch.testing.assert_close(losses, wanted.detach(), rtol=1e-13, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-11, atol=1e-13, msg=name)


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh", "sigmoid", "erf", "leaky_relu", "linear"])
def test_gradient_is_that_of_automatic_differentiation(activation, form):
    assert_agree(stack(activation, form), trials())


@pytest.mark.parametrize("loop", [None, LOOP])
@pytest.mark.parametrize("placements", PLACEMENTS)
def test_noise_in_and_out_in_an_open_and_a_closed_loop(placements, loop):
    assert_agree(stack("softplus", placements=placements), trials(), loop)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_closed_loop_without_noise(form):
    assert_agree(stack("tanh", form), trials(noisy=False), LOOP)


def test_one_mask_for_all_outputs_and_no_inputs():
    assert_agree(stack(n_in=0), trials(n_in=0, per_output=False))


def test_networks_of_their_own_gamma_and_a_network_without_noise():
    assert_agree(stack(gamma=(0.1, 0.5, 1.0), sigma=(0.0, 0.4, 0.3)), trials())


def test_chunks_change_nothing(monkeypatch):
    model, batch = stack(), trials()
    losses = Gradient(model)(batch)
    whole = {name: p.grad.clone() for name, p in model.named_parameters()}
    monkeypatch.setattr(_gradient, "CACHED", 2 * B * N)
    torch.testing.assert_close(Gradient(model)(batch), losses, rtol=1e-14, atol=0)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("M", [1, 2, 7, 64])
@pytest.mark.parametrize("size", [1, 2048, 1 << 20])
def test_chunks_are_all_networks_once_and_fit(M, size):
    parts = list(_gradient._chunks(M, size))
    assert [m for part in parts for m in range(M)[part]] == list(range(M))
    assert max(part.stop - part.start for part in parts) <= max(1, _gradient.CACHED // size)


@pytest.mark.parametrize("name", _gradient.SLOPES)
def test_slopes_by_value(name):
    f = get_activation(name)
    x = torch.linspace(-6, 6, 41, dtype=torch.float64) + 0.01
    torch.testing.assert_close(_gradient.SLOPES[name](f.torch(x)), slope(f, x), rtol=1e-10, atol=1e-15)


def test_memory_is_kept_between_steps():
    core, batch = Gradient(stack()), trials()
    core(batch)
    places = {name: part.data_ptr() for name, part in core.memory.items()}
    core(batch)
    assert places == {name: part.data_ptr() for name, part in core.memory.items()}


def test_connections_that_do_not_exist_stay_as_they_start(monkeypatch):
    task = get_task("function-approximation", T=4, counted=1)
    settings = Settings(
        task.name, task.settings(), 6, 1.0, "relu", "rate", [0, 1], [0.5, 0.5], ["in", "out"], 5, 4, 1e-2, 1.0
    )
    exist = np.tril(np.ones((6, 6)), -1)
    monkeypatch.setattr(type(task), "connections", lambda self: {"W": exist})
    run = Run(task, settings)
    start = run.model.W.detach().clone()
    for _ in range(5):
        run.step()
    moved = (start != run.model.W).detach().numpy()
    assert not moved[:, exist == 0].any()
    assert moved[:, exist == 1].any()
