"""LipschitzStack: the same step as LipschitzRNN, both ways of its noise, the form of A and W, and its refusals."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import LipschitzStack
from fpanalysis.models._trainable import stacked
from fpanalysis.models.lipschitz import SHRINK, SKEW, untrained

N, B, T = 5, 3, 4
NOTE = {"between": {"skew": 0.75, "shrink": 0.01}}


def network(seed=0, **changes):
    rng = np.random.default_rng(seed)
    A, W = (fpa.LipschitzRNN.between(rng.standard_normal((N, N)) / N, 0.75, 0.01) for _ in range(2))
    parts = {"b": rng.standard_normal(N), "W_in": rng.standard_normal((N, 2)), "W_out": rng.standard_normal((2, N))}
    settings = {"gamma": 0.2, "sigma": 0.4, "multiplicative": 0.3, "b_out": rng.standard_normal(2), "info": NOTE}
    return fpa.LipschitzRNN(**({"A": A, "W": W} | parts | settings | changes))


def inputs(seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((T, B, 2)), rng.standard_normal((B, N)), rng.standard_normal((2, T, B, N))


@pytest.mark.parametrize("gamma", [0.2, np.linspace(0.1, 1, N)])
@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_steps_are_the_network_s(activation, gamma):
    nets = [network(0, activation=activation, gamma=gamma), network(1, activation=activation, info={})]
    nets[1] = dataclasses.replace(nets[1], info=NOTE)
    u, h0, _ = inputs()
    states = LipschitzStack(nets, torch.float64).states(torch.tensor(u), torch.tensor(h0))
    for net, found in zip(nets, states.detach().numpy(), strict=True):
        h = h0
        for t in range(T):
            h = net.step(h, u[t])
            np.testing.assert_allclose(found[t], h, rtol=1e-12, atol=1e-14)
        output = LipschitzStack([net], torch.float64)(torch.tensor(u), torch.tensor(h0))[0, -1]
        np.testing.assert_allclose(output.detach().numpy(), net.output(h), rtol=1e-12)


@pytest.mark.parametrize("kind", ["independent", "joint"])
def test_noise_is_drawn_from_each_network_s_own_generator(kind):
    nets = [network(0, noise=kind), network(1, noise=kind, sigma=0.0, multiplicative=0.1)]
    stack = LipschitzStack(nets)
    draw = [stack.draw_noise(T, B, [torch.Generator().manual_seed(k) for k in seeds]) for seeds in ((1, 2), (1, 3))]
    assert (draw[0][:, 0] == draw[1][:, 0]).all()
    assert (draw[0][1, 1] != draw[1][1, 1]).all()
    assert (draw[0][0, 1] == 0).all()
    same = torch.allclose(draw[0][0, 0] / 0.4, draw[0][1, 0] / 0.3)
    assert same == (kind == "joint")
    assert LipschitzStack([network(sigma=0, multiplicative=0)]).draw_noise(T, B, [torch.Generator()]) is None


@pytest.mark.parametrize("gamma", [0.2, np.linspace(0.1, 1, N)])
@pytest.mark.parametrize("kind", ["independent", "joint"])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_sampled_step_scales_both_noises(share, kind, gamma):
    """Against the network with both at that share, which draws independent noises as one of the same law."""
    net, (u, h0, xi) = network(noise=kind, gamma=gamma), inputs()
    stack = LipschitzStack([net], torch.float64)
    h = torch.tensor(h0).expand(1, 1, 1, B, N).contiguous()
    sigma = torch.full((1, 1, 1, 1, N), share * 0.4, dtype=torch.float64)
    with torch.no_grad():
        stack.move(h, torch.tensor(u[0]).view(1, 1, 1, B, 2), sigma, torch.tensor(xi[0, :1]))
    wanted = dataclasses.replace(net, sigma=share * 0.4, multiplicative=share * 0.3).step(h0, u[0], xi[0, 0])
    np.testing.assert_allclose(h[0, 0, 0].numpy(), wanted, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("skew", [0.0, 0.3, 0.75, 1.0])
def test_a_network_comes_back(skew):
    rng = np.random.default_rng(3)
    A, W = (fpa.LipschitzRNN.between(rng.standard_normal((N, N)), skew, 0.02) for _ in range(2))
    net = network(A=A, W=W, info={"between": {"skew": skew, "shrink": 0.02}})
    again = LipschitzStack.from_network(net, torch.float64).to_network()
    for name in ("A", "W"):
        np.testing.assert_allclose(getattr(again, name), getattr(net, name), rtol=0, atol=1e-15 * 20)
    assert dataclasses.replace(again, A=A, W=W).hash == net.hash
    assert again.info == net.info


def test_a_network_of_no_known_form_comes_back_exactly():
    net = network(A=np.random.default_rng(4).standard_normal((N, N)), info={})
    assert LipschitzStack([net], torch.float64).to_network().hash == net.hash


@pytest.mark.parametrize("note", [(1.0, 0.1), (0.0, 0.1), (0.75, np.inf), (np.nan, 0.1), (0.75, None)])
def test_a_network_that_is_not_of_the_form_it_remembers_comes_back(note):
    """Skew 1 can express antisymmetric matrices only: the stack would run another network."""
    info = {"between": dict(zip(("skew", "shrink"), note, strict=True))}
    net = network(A=np.random.default_rng(4).standard_normal((N, N)), info=info)
    assert net.between_as == (0.5, 0.0)
    assert LipschitzStack([net], torch.float64).to_network().hash == net.hash


def test_weights_are_computed_in_float64_from_what_was_trained():
    stack = LipschitzStack([network()])
    M = stack.M_A[0].detach().double().numpy()
    np.testing.assert_array_equal(stack.to_network().A, fpa.LipschitzRNN.between(M, 0.75, 0.01))


def test_an_untrained_network_has_the_form_and_nearly_no_coupling():
    weights = {"W": np.zeros((64, 64)), "b": np.ones(64), "W_in": np.ones((64, 1)), "W_out": np.ones((1, 64)),
               "b_out": np.zeros(0)}  # fmt: skip
    net = untrained(weights, np.random.default_rng(0), gamma=0.1)
    M = LipschitzStack([net], torch.float64).M_W[0].detach().numpy()
    assert abs(M.std() * 64 / 0.1 - 1) < 4 / np.sqrt(2 * 64**2)
    np.testing.assert_allclose(net.W, fpa.LipschitzRNN.between(M, SKEW, SHRINK), atol=1e-17)
    assert net.b_out is None


def test_gradients_are_the_derivatives():
    stack = LipschitzStack([network(), network(1)], torch.float64)
    u, _, xi = inputs()
    noise = torch.tensor(0.3 * xi)[:, None].expand(-1, 2, -1, -1, -1)
    names = [name for name, _ in stack.named_parameters()]

    def outputs(*values):
        return torch.func.functional_call(stack, dict(zip(names, values, strict=True)), (torch.tensor(u), None, noise))

    values = tuple(p.detach().clone().requires_grad_() for p in stack.parameters())
    assert torch.autograd.gradcheck(outputs, values)


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([], "at least one network"),
        ([network(), network(info={})], "found skew and shrink"),
        ([network(), network(noise="joint")], "found noise joint in network 1"),
        ([network(), network(W_in=None)], "found W_in"),
    ],
)
def test_networks_that_do_not_stack_are_refused(nets, message):
    with pytest.raises(fpa.InputError, match=message):
        LipschitzStack(nets)


def test_the_stack_is_of_the_kind_of_its_networks():
    ctrnn = fpa.Network(W=np.eye(N))
    assert isinstance(stacked([network()]), LipschitzStack)
    assert not isinstance(stacked([ctrnn]), LipschitzStack)
    with pytest.raises(fpa.InputError, match="found LipschitzRNN, Network"):
        stacked([network(), ctrnn])
