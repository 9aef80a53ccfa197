"""Network: what it refuses, what it computes, and when two networks are the same."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.activations import LeakyReLU, Tanh
from fpanalysis.network import Network
from fpanalysis.results import InputError

N, N_IN, N_OUT = 4, 2, 3


def network(seed=0, **changes):
    rng = np.random.default_rng(seed)
    parts = {
        "W": rng.normal(size=(N, N)) / 2,
        "b": rng.normal(size=N),
        "W_in": rng.normal(size=(N, N_IN)),
        "W_out": rng.normal(size=(N_OUT, N)),
        "b_out": rng.normal(size=N_OUT),
        "gamma": 0.2,
        "sigma": 0.5,
        "activation": "tanh",
    }
    return Network(**(parts | changes))


VARIANTS = {
    "rate": {},
    "rate-out": {"placement": "out"},
    "current": {"form": "current"},
    "rate-gammas": {"gamma": [0.1, 0.3, 1.0, 0.01], "sigma": [0.1, 0.0, 1.0, 2.0]},
    "current-gammas": {"form": "current", "gamma": [0.1, 0.3, 1.0, 0.01], "sigma": [0.1, 0.0, 1.0, 2.0]},
}


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS.keys())
def net(request):
    return network(**request.param)


# ---------------------------------------------------------------- refusals

NUMERIC = ("W", "b", "W_in", "W_out", "b_out", "gamma", "sigma", "conditions")
REFUSED = [
    *((name, value) for name in NUMERIC for value in ("text", [["0.1"]], 1j, {}, object(), [[1.0], [1.0, 2.0]])),
    *((name, np.full((N, N), np.nan)) for name in NUMERIC[:4]),
    *((name, value) for name in ("gamma", "sigma") for value in (np.nan, np.inf, [0.1], [0.1] * 5, [[0.1] * N])),
    ("W", 1.0),
    ("W", np.zeros((0, 0))),
    ("W", np.zeros((4, 3))),
    ("W", np.zeros((1, 4, 4))),
    ("W", np.ma.masked_array(np.eye(N), mask=np.eye(N, dtype=bool))),
    ("W", np.full((N, N), "2020-01-01", dtype="datetime64[D]")),
    ("W", [[10**400]]),
    ("W", np.array([["1"]], dtype=object)),
    ("b", np.zeros(3)),
    ("b", np.zeros((N, 1))),
    ("W_in", np.zeros(N)),
    ("W_in", np.zeros((N_IN, N))),
    ("W_out", np.zeros(N)),
    ("W_out", np.zeros((N, N_OUT))),
    ("b_out", np.zeros(N)),
    ("b_out", 0.0),
    ("gamma", 0),
    ("gamma", 1.01),
    ("gamma", -0.1),
    ("gamma", [0.1, 0.1, 0.1, 0.0]),
    ("sigma", -1e-9),
    ("sigma", [0.1, 0.1, 0.1, -0.1]),
    ("placement", "both"),
    ("placement", None),
    ("placement", np.array(["in", "out"])),
    ("form", "spiking"),
    ("form", ["rate"]),
    ("activation", "swish"),
    ("activation", np.zeros((20, 20))),
    ("activation", None),
    ("conditions", np.zeros(N_IN)),
    ("conditions", np.zeros((5, N_IN + 1))),
    ("targets", np.zeros((5, N_OUT))),
    ("info", "a note"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda x: x if isinstance(x, str) else None)
def test_wrong_input_is_refused_by_name_on_one_line(name, value):
    with pytest.raises(InputError, match=name) as caught:
        network(**{name: value})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("targets", [np.zeros((4, N_OUT)), np.zeros((5, N_OUT + 1)), np.zeros(5)])
def test_targets_must_fit_conditions_and_outputs(targets):
    with pytest.raises(InputError, match=r"targets must have shape \(5, 3\)"):
        network(conditions=np.zeros((5, N_IN)), targets=targets)


def test_message_tells_where_a_number_is_missing():
    W = np.eye(N)
    W[2, 1] = np.nan
    with pytest.raises(InputError, match=re.escape("found 1 NaN or infinite value(s), first at index (2, 1)")):
        network(W=W)


def test_noise_outside_has_no_meaning_in_the_current_form():
    with pytest.raises(InputError, match="placement 'out' has no meaning with form 'current'"):
        network(form="current", placement="out")


def test_a_tensor_with_a_gradient_is_refused():
    import torch

    with pytest.raises(InputError, match="W must be an array"):
        network(W=torch.eye(N, requires_grad=True))
    assert network(W=torch.eye(N)).W[0, 0] == 1.0


@pytest.mark.parametrize("name", ["h", "xi", "u"])
@pytest.mark.parametrize("value", [0.5, np.zeros(3), np.zeros((N, 1))])
def test_states_noise_and_inputs_of_the_wrong_length_are_refused(net, name, value):
    arguments = {"h": np.zeros(N), name: value}
    with pytest.raises(InputError, match=rf"^{name} must have \d (input )?value"):
        net.step(**arguments)


def test_states_of_one_neuron_need_their_axis():
    """(3,) is no batch of three states of one neuron: numpy alone would broadcast it."""
    for form in ("rate", "current"):
        one = Network(W=[[0.5]], form=form)
        for call in (one.step, one.jacobian, one.target, one.output, one.preactivation):
            with pytest.raises(InputError, match="h must have 1 value"):
                call(np.zeros(3))
            call(np.zeros((3, 1)))


def test_inputs_must_be_finite_and_real():
    for u in ([np.nan, 0.0], [1j, 0.0], ["1", "2"]):
        with pytest.raises(InputError, match="u must be"):
            network().drive(u)


# ---------------------------------------------------------------- frozen


def test_arrays_are_float64_copies_and_read_only():
    W = np.eye(N, dtype=np.float32)
    net = network(W=W, gamma=[1] * N, conditions=[[0, 1]], targets=[[1, 2, 3]])
    W[0, 0] = 7.0
    assert net.W[0, 0] == 1.0
    for name in ("W", "b", "W_in", "W_out", "b_out", "gamma", "conditions", "targets"):
        array = getattr(net, name)
        assert array.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(net, name, 0)
    assert (type(network().gamma), type(network(sigma=1).sigma)) == (float, float)


def test_info_is_a_copy():
    info = {"task": "a"}
    net = network(info=info)
    info["task"] = "b"
    assert net.info == {"task": "a"}


def test_left_out_parts():
    net = Network(W=np.eye(2) / 2)
    assert (net.N, net.n_in, net.n_out) == (2, 0, 2)
    np.testing.assert_array_equal(net.b, 0)
    assert (net.W_in, net.W_out, net.b_out, net.conditions, net.targets) == (None,) * 5
    assert (net.activation.name, net.placement, net.form) == ("relu", "in", "rate")


def test_repr_is_one_short_line(net):
    assert "\n" not in repr(net)
    assert len(repr(net)) < 200


# ---------------------------------------------------------------- the equations


def test_step_is_the_written_equation(net):
    rng = np.random.default_rng(1)
    h, u, xi = rng.normal(size=N), rng.normal(size=N_IN), rng.normal(size=N)
    gamma, sigma, f = np.broadcast_to(net.gamma, N), np.broadcast_to(net.sigma, N), np.tanh
    for i in range(N):
        if net.form == "rate":
            x = sum(net.W[i, j] * h[j] for j in range(N)) + sum(net.W_in[i, k] * u[k] for k in range(N_IN)) + net.b[i]
            pull = f(x + sigma[i] * xi[i]) if net.placement == "in" else f(x) + sigma[i] * xi[i]
        else:
            drive = sum(net.W_in[i, k] * u[k] for k in range(N_IN)) + net.b[i]
            pull = sum(net.W[i, j] * f(h[j]) for j in range(N)) + drive + sigma[i] * xi[i]
        expected = (1 - gamma[i]) * h[i] + gamma[i] * pull
        assert net.step(h, u, xi)[i] == pytest.approx(expected, rel=1e-14, abs=1e-15)


def test_everything_is_batched_over_leading_axes(net):
    rng = np.random.default_rng(2)
    h, u, xi = rng.normal(size=(5, 3, N)), rng.normal(size=(5, 3, N_IN)), rng.normal(size=(5, 3, N))
    step, jacobian, output = net.step(h, u, xi), net.jacobian(h, u), net.output(h)
    assert (step.shape, jacobian.shape, output.shape) == ((5, 3, N), (5, 3, N, N), (5, 3, N_OUT))
    for k in np.ndindex(5, 3):
        np.testing.assert_allclose(step[k], net.step(h[k], u[k], xi[k]), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(jacobian[k], net.jacobian(h[k], u[k]), rtol=1e-13, atol=1e-15)
        np.testing.assert_allclose(output[k], net.output(h[k]), rtol=1e-13, atol=1e-15)
    assert net.step(h[0, 0], u[0]).shape == (3, N)
    assert net.step(np.zeros((0, N))).shape == (0, N)


def test_jacobian_by_finite_differences(net):
    """Central differences: h^2 / 6 |f'''| + eps / h < 1e-9 at h = 1e-5."""
    rng = np.random.default_rng(3)
    h, u, delta = rng.normal(size=N), rng.normal(size=N_IN), 1e-5
    moved = h + delta * np.eye(N)
    numeric = (net.step(moved, u) - net.step(h - delta * np.eye(N), u)).T / (2 * delta)
    np.testing.assert_allclose(net.jacobian(h, u), numeric, atol=1e-9)
    numeric = (net.target(moved, u) - net.target(h - delta * np.eye(N), u)).T / (2 * delta)
    np.testing.assert_allclose(net.target_jacobian(h, u), numeric, atol=1e-9)


def relaxed(net, u):
    h = np.zeros(net.N)
    for _ in range(3000):
        h = net.step(h, u)
    return h


@pytest.mark.parametrize("form", ["rate", "current"])
def test_fixed_points_do_not_depend_on_gamma(form):
    net, u = network(form=form, W=0.3 * np.random.default_rng(0).normal(size=(N, N))), [0.3, -1.0]
    h = relaxed(net, u)
    for gamma in (0.01, [0.1, 0.3, 1.0, 0.5]):
        again = dataclasses.replace(net, gamma=gamma)
        np.testing.assert_allclose(again.step(h, u), h, atol=1e-14)
        np.testing.assert_allclose(again.target(h, u), h, atol=1e-14)


def test_current_and_rate_form_have_the_same_fixed_points():
    """x = W h + W_in u + b takes the one to the other, r = f(x) takes it back; the outputs agree."""
    rate = network(W=0.3 * np.random.default_rng(0).normal(size=(N, N)))
    current, u = dataclasses.replace(rate, form="current"), [0.3, -1.0]
    h = relaxed(rate, u)
    x = rate.preactivation(h, u)
    np.testing.assert_allclose(current.step(x, u), x, atol=1e-14)
    np.testing.assert_allclose(rate.activation.f(current.preactivation(x, u)), h, atol=1e-14)
    np.testing.assert_allclose(current.output(x), rate.output(h), atol=1e-14)
    eigenvalues = [np.sort_complex(np.linalg.eigvals(net.jacobian(y, u))) for net, y in ((rate, h), (current, x))]
    np.testing.assert_allclose(*eigenvalues, atol=1e-12)  # D W and W D share their spectrum


def test_output_with_and_without_readout():
    h = np.array([[0.5, -1.0], [2.0, 0.0]])
    W_out, b_out = np.array([[1.0, 2.0]]), np.array([10.0])
    for form, rates in (("rate", h), ("current", np.tanh(h))):
        bare = Network(W=np.eye(2), form=form, activation="tanh")
        np.testing.assert_allclose(bare.output(h), rates)
        np.testing.assert_allclose(dataclasses.replace(bare, W_out=W_out).output(h), rates @ W_out.T)
        np.testing.assert_allclose(dataclasses.replace(bare, W_out=W_out, b_out=b_out).output(h), rates @ W_out.T + 10)
        np.testing.assert_allclose(dataclasses.replace(bare, b_out=[1.0, 2.0]).output(h), rates + np.array([1.0, 2.0]))


@pytest.mark.parametrize("W_in", [None, np.zeros((2, 0))])
@pytest.mark.parametrize("form", ["rate", "current"])
def test_networks_without_inputs(W_in, form):
    net = Network(W=np.eye(2) / 2, b=[1.0, 2.0], W_in=W_in, form=form, conditions=np.zeros((3, 0)))
    assert (net.n_in, net.conditions.shape) == (0, (3, 0))
    h = np.ones(2)
    for u in (None, np.zeros(0), []):
        assert net.drive(u).shape == (2,)
        np.testing.assert_array_equal(net.step(h, u), net.step(h))
    assert net.drive(np.zeros((3, 0))).shape == (3, 2)
    np.testing.assert_array_equal(net.step(h, np.zeros((3, 0))), np.tile(net.step(h), (3, 1)))
    with pytest.raises(InputError, match="u must have 0 input value"):
        net.step(h, [1.0])


def test_no_input_means_zero_input(net):
    h = np.ones(N)
    np.testing.assert_array_equal(net.step(h), net.step(h, np.zeros(N_IN)))


@pytest.mark.parametrize("form", ["rate", "current"])
def test_one_neuron(form):
    net = Network(W=[[0.5]], b=[1.0], W_in=[[2.0]], W_out=[[3.0]], gamma=[0.5], sigma=[0.1], form=form)
    assert net.step([2.0], [0.25], [1.0]) == pytest.approx([1.0 + 0.5 * (1.0 + 0.5 + 1.0 + 0.1)])
    assert net.jacobian([2.0]) == pytest.approx(np.array([[0.75]]))
    assert net.output([2.0]) == pytest.approx([6.0])
    assert net.jacobian(np.ones((7, 1))).shape == (7, 1, 1)


def test_invariance_under_permutation(net):
    rng = np.random.default_rng(4)
    p, h, xi = rng.permutation(N), rng.normal(size=N), rng.normal(size=N)
    both = {k: getattr(net, k) if np.ndim(getattr(net, k)) == 0 else getattr(net, k)[p] for k in ("gamma", "sigma")}
    renamed = dataclasses.replace(
        net, W=net.W[np.ix_(p, p)], b=net.b[p], W_in=net.W_in[p], W_out=net.W_out[:, p], **both
    )
    np.testing.assert_allclose(renamed.step(h[p], xi=xi[p]), net.step(h, xi=xi)[p], rtol=1e-13)
    np.testing.assert_allclose(renamed.output(h[p]), net.output(h), rtol=1e-13)


# ---------------------------------------------------------------- identity


CHANGES = {
    "W": np.eye(N),
    "b": np.ones(N),
    "W_in": np.ones((N, N_IN)),
    "W_out": np.ones((N_OUT, N)),
    "b_out": np.ones(N_OUT),
    "gamma": 0.3,
    "sigma": 0.6,
    "activation": "erf",
    "placement": "out",
    "form": "current",
    "conditions": np.zeros((1, N_IN)),
}


def test_hash_is_stable_and_tells_every_field_apart():
    hashes = [network().hash, *(network(**{name: value}).hash for name, value in CHANGES.items())]
    assert len(set(hashes)) == len(CHANGES) + 1
    assert network().hash == hashes[0]
    assert all(re.fullmatch("[0-9a-f]{16}", digest) for digest in hashes)
    conditions = np.zeros((1, N_IN))
    assert len({network(conditions=conditions, targets=t).hash for t in (None, np.zeros((1, 3)), np.ones((1, 3)))}) == 3
    assert network(activation=LeakyReLU(0.1)).hash != network(activation=LeakyReLU(0.2)).hash


def test_hash_is_the_same_on_every_machine():
    """Frozen: results of earlier versions refer to networks by it."""
    net = Network(W=[[0.5, 0.25], [0.0, -1.0]], b=[1.0, 2.0], gamma=0.5, sigma=0.5)
    assert net.hash == "5736697ae41c9726"


def test_hash_does_not_see_how_numbers_were_given():
    net = network()
    assert network(W=np.asfortranarray(net.W), b=net.b.astype(">f8"), sigma=np.float64(0.5)).hash == net.hash
    assert network(W=net.W.tolist(), activation=Tanh(), info={"a": 1}).hash == net.hash
    assert network(b=None).hash == network(b=np.zeros(N)).hash
    for again in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), dataclasses.replace(net)):
        assert again.hash == net.hash


@pytest.mark.parametrize("sigma", [0.5, 1, [0.1, 0.2, 0.3, 0.4]])
def test_hash_survives_a_file(sigma, tmp_path):
    net = network(sigma=sigma, conditions=[[0.1, 0.2]], targets=[[1, 2, 3]])
    fpa.save(net, tmp_path / "net.pt")
    assert fpa.load(tmp_path / "net.pt").hash == net.hash


def test_with_sigma():
    net = network()
    assert net.with_sigma(0.7).sigma == 0.7
    assert net.with_sigma(0.7).hash == network(sigma=0.7).hash
    np.testing.assert_array_equal(net.with_sigma([1, 2, 3, 4]).sigma, [1, 2, 3, 4])
    assert net.sigma == 0.5
    with pytest.raises(InputError, match="sigma"):
        net.with_sigma(-1)


def test_a_network_without_outputs_or_with_no_conditions_is_refused():
    with pytest.raises(fpa.InputError, match="at least one output"):
        fpa.Network(W=[[0.5]], W_out=np.zeros((0, 1)))
    with pytest.raises(fpa.InputError, match="at least one input"):
        fpa.Network(W=[[0.5]], W_in=[[1.0]], conditions=np.zeros((0, 1)))
