"""CTRNN: every step is `Network.step`, whatever the activation, placement, form and gamma, alone or stacked."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fpanalysis import Network
from fpanalysis.activations import get_activation
from fpanalysis.models import CTRNN
from fpanalysis.results import InputError

ACTIVATIONS = ("linear", "relu", "leaky_relu", "softplus", "tanh", "sigmoid", "erf")
KINDS = (("rate", "in"), ("rate", "out"), ("current", "in"))
GAMMAS = (0.1, 0.5, 1.0, "per neuron")
N, N_IN, N_OUT, T, B = 7, 3, 2, 6, 4


def network(seed=0, form="rate", placement="in", gamma=0.2, sigma=0.5, activation="relu", **given):
    rng = np.random.default_rng(seed)
    weights = {"W": (N, N), "b": (N,), "W_in": (N, N_IN), "W_out": (N_OUT, N), "b_out": (N_OUT,)}
    arrays = {name: 0.5 * rng.standard_normal(shape) for name, shape in weights.items()} | given
    gamma = rng.uniform(0.1, 1, N) if gamma == "per neuron" else gamma
    return Network(**arrays, form=form, placement=placement, gamma=gamma, sigma=sigma, activation=activation)


def trajectory(net, inputs, h, xi):
    """States and outputs by `Network.step`, time-major."""
    states = []
    for u_t, xi_t in zip(inputs, xi, strict=True):
        h = net.step(h, u_t, xi_t)
        states.append(h)
    return np.array(states), net.output(np.array(states))


def drawn(M=1, seed=1):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(shape) for shape in ((M, T, B, N_IN), (M, B, N), (M, T, B, N)))


@pytest.mark.parametrize("gamma", GAMMAS)
@pytest.mark.parametrize(("form", "placement"), KINDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_step_is_the_network_s(activation, form, placement, gamma):
    net = network(form=form, placement=placement, gamma=gamma, activation=activation)
    inputs, h0, xi = drawn()
    model = CTRNN.from_network(net, torch.float64)
    args = torch.tensor(inputs), torch.tensor(h0), net.sigma * torch.tensor(xi)
    states, outputs = trajectory(net, inputs[0], h0[0], xi[0])
    np.testing.assert_allclose(model.states(*args)[0].detach(), states, rtol=0, atol=1e-12)
    np.testing.assert_allclose(model(*args)[0].detach(), outputs, rtol=0, atol=1e-12)


def test_networks_of_a_stack_keep_their_own_placement_gamma_and_sigma():
    own = [("in", 0.1, 0.5), ("out", 0.7, 0.2), ("in", 0.7, np.linspace(0, 1, N)), ("out", "per neuron", 0.0)]
    nets = [network(seed=m, placement=p, gamma=g, sigma=s) for m, (p, g, s) in enumerate(own)]
    inputs, h0, xi = drawn(M=len(nets))
    noise = np.stack([net.sigma * x for net, x in zip(nets, xi, strict=True)])
    stack = CTRNN(nets, torch.float64)(torch.tensor(inputs), torch.tensor(h0), torch.tensor(noise))
    for m, net in enumerate(nets):
        np.testing.assert_allclose(stack[m].detach(), trajectory(net, inputs[m], h0[m], xi[m])[1], rtol=0, atol=1e-12)


def test_one_input_serves_all_networks_of_a_stack():
    nets = [network(seed=m) for m in range(3)]
    inputs, h0, xi = (torch.tensor(part[0]) for part in drawn())
    model = CTRNN(nets, torch.float64)
    each = [part.expand(3, *part.shape) for part in (inputs, h0, xi)]
    torch.testing.assert_close(model(inputs, h0, xi), model(*each), rtol=0, atol=0)


def test_a_network_comes_back_exactly():
    net = network(gamma=0.3, sigma=0.7).with_sigma(np.linspace(0, 1, N))
    assert CTRNN.from_network(net, torch.float64).to_network().hash == net.hash


def test_float32_weights_are_not_rounded_again():
    model = CTRNN([network(seed=0), network(seed=1)])
    back = CTRNN([model.to_network(0), model.to_network(1)])
    for name, value in model.state_dict().items():
        assert torch.equal(back.state_dict()[name], value)
    assert model.to_network(1).gamma == 0.2, "gamma and sigma are not weights: not rounded to float32"


def test_what_is_not_trained_comes_back():
    net = network(activation={"name": "leaky_relu", "slope": 0.3}, conditions=np.eye(N_IN), targets=np.ones((3, N_OUT)))
    back = CTRNN.from_network(net).to_network()
    assert back.activation.key == get_activation({"name": "leaky_relu", "slope": 0.3}).key
    np.testing.assert_array_equal(back.conditions, net.conditions)
    np.testing.assert_array_equal(back.targets, net.targets)


def test_a_network_without_inputs_and_readout_gives_its_states():
    net = network(W_in=None, W_out=None, b_out=None)
    xi = np.random.default_rng(0).standard_normal((T, B, N))
    h0 = np.ones((B, N))
    model = CTRNN.from_network(net, torch.float64)
    outputs = model(torch.zeros(T, B, 0), torch.tensor(h0), net.sigma * torch.tensor(xi))[0]
    np.testing.assert_allclose(outputs.detach(), trajectory(net, np.zeros((T, B, 0)), h0, xi)[0], rtol=0, atol=1e-12)
    assert model.to_network().W_in is None


@pytest.mark.parametrize("gamma", [0.3, "per neuron"])
@pytest.mark.parametrize(("form", "placement"), KINDS)
def test_gradients_are_the_derivatives(form, placement, gamma):
    net = network(form=form, placement=placement, gamma=gamma, activation="softplus")
    model = CTRNN.from_network(net, torch.float64)
    inputs, h0, xi = map(torch.tensor, drawn())

    def loss(*parameters):
        named = dict(zip(dict(model.named_parameters()), parameters, strict=True))
        return torch.func.functional_call(model, named, (inputs, h0, 0.5 * xi)).square().mean()

    assert torch.autograd.gradcheck(loss, tuple(model.parameters()))


def test_noise_comes_from_each_network_s_own_generator_with_its_sigma():
    nets = [network(sigma=0.5), network(sigma=np.linspace(0, 2, N)), network(sigma=0)]
    seeds = lambda *s: [torch.Generator().manual_seed(k) for k in s]  # noqa: E731
    noise = CTRNN(nets).draw_noise(T, B, seeds(3, 4, 5))
    alone = CTRNN(nets[1:2]).draw_noise(T, B, seeds(4))
    torch.testing.assert_close(noise[1], alone[0], rtol=0, atol=0)
    assert not noise[2].any()
    assert CTRNN(nets[2:]).draw_noise(T, B, seeds(5)) is None
    many = CTRNN(nets[:1]).draw_noise(100, 100, seeds(0))
    # variance of 70,000 normal numbers: relative standard error sqrt(2 / 70000)
    assert many.var().item() / 0.25 == pytest.approx(1, abs=4 * np.sqrt(2 / many.numel()))


@pytest.mark.parametrize(
    ("nets", "message"),
    [
        ([], "at least one network"),
        ([network(), network(activation="tanh")], "activation .*tanh.* in network 1 and .*relu.* in network 0"),
        ([network(), network(form="current")], "form current in network 1"),
        ([network(), network(b_out=None)], "b_out"),
    ],
)
def test_networks_that_do_not_stack_are_refused(nets, message):
    with pytest.raises(InputError, match=message):
        CTRNN(nets)
