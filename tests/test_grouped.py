"""Activations that differ between groups of neurons: each group against its own, and networks against their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis._grouped import smoothed
from fpanalysis.activations import Grouped, LeakyReLU, Smoothed, Tanh, get_activation
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.models import CTRNN
from fpanalysis.results import InputError

KINDS = ["relu", "tanh", "linear", LeakyReLU(0.2), "softplus", "erf", Smoothed("tanh", 0.4)]
INDEX = np.array([3, 0, 1, 6, 0, 2, 5, 4, 1])  # interleaved: groups are no blocks
A = np.random.default_rng(0).normal(scale=2, size=(4, len(INDEX)))
S = np.abs(np.random.default_rng(1).normal(size=A.shape)) * (np.arange(A.size).reshape(A.shape) % 5 > 0)  # some are 0


def one_by_one(method, *arguments):
    """The same from each neuron's own activation."""
    return [getattr(get_activation(KINDS[k]), method)(*(x[:, i] for x in arguments)) for i, k in enumerate(INDEX)]


@pytest.mark.parametrize("method", ["f", "df", "d2f", "torch"])
def test_values_are_those_of_each_neuron(method):
    x = torch.tensor(A) if method == "torch" else A
    found = getattr(Grouped(KINDS, INDEX), method)(x)
    np.testing.assert_array_equal(found, np.stack(one_by_one(method, x), axis=1))


def test_gradient_in_torch():
    x, f = torch.tensor(A, requires_grad=True), Grouped(KINDS, INDEX)
    (gradient,) = torch.autograd.grad(f.torch(x).sum(), x)
    np.testing.assert_allclose(gradient, f.df(A), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("method", ["moments", "difference", "second_difference", "ranges", "M", "G", "V", "beta"])
def test_functions_of_two_arguments(method):
    """A quadrature may take other nodes for all s together than for each: 1e-12, its accuracy."""
    second = A + S if method == "ranges" else S
    found = getattr(Grouped(KINDS, INDEX), method)(A, second)
    expected = one_by_one(method, A, second)
    if isinstance(found, tuple):
        for k, part in enumerate(found):
            np.testing.assert_allclose(part, np.stack([c[k] for c in expected], axis=1), rtol=1e-12, atol=1e-13)
    else:
        np.testing.assert_allclose(found, np.stack(expected, axis=1), rtol=1e-12, atol=1e-13)


def test_hermite_and_expansion():
    f = Grouped(KINDS, INDEX)
    c = np.stack([get_activation(KINDS[k]).hermite(A[:, i], S[:, i], 12) for i, k in enumerate(INDEX)], axis=1)
    np.testing.assert_allclose(f.hermite(A, S, 12), c, rtol=0, atol=1e-10)
    quick = f.expansion(A, S, 12)
    np.testing.assert_allclose(quick.c, c, rtol=0, atol=5e-6 * np.abs(c).max())
    np.testing.assert_allclose(quick.V, f.V(A, S), rtol=0, atol=1e-6)
    np.testing.assert_allclose(quick.G, f.G(A, S), rtol=0, atol=1e-6)


def test_what_holds_of_the_whole():
    for names, kind in (
        (("tanh", "erf"), (True, True)),
        (("tanh", "linear"), (False, True)),
        (("tanh", "relu"), (False, False)),
    ):
        f = Grouped(names, [0, 1])
        assert (f.bounded, f.smooth) == kind
    assert Grouped(["tanh", "softplus"], [0, 1]).strip == Tanh.strip
    np.testing.assert_array_equal(Grouped(["relu", "tanh"], [0, 1, 0]).slope_peak, [np.inf, 0, np.inf])
    np.testing.assert_allclose(Grouped(["relu", "softplus"], [1, 0]).excess, [np.log(2), 0])
    assert Grouped(["relu", "tanh"], [1, 0]).excess is None
    net = fpa.Network(W=np.diag([0.5, -3.0]), activation=Grouped(["relu", "softplus"], [0, 1]))
    assert net.dissipative
    assert not fpa.Network(W=np.diag([0.5, 1.0]), activation=Grouped(["relu", "linear"], [0, 1])).dissipative


def test_one_activation_for_all_is_that_activation():
    """Also where arguments have no axis of neurons."""
    f, x = Grouped(["tanh", "tanh"], [1, 0, 1]), np.linspace(-2, 2, 7)
    assert f.alike
    np.testing.assert_array_equal(f.f(x), np.tanh(x))
    np.testing.assert_array_equal(f.hermite(x, 0.3, 4), Tanh().hermite(x, 0.3, 4))
    one = fpa.Network(W=[[0.5]], b=[0.1], sigma=0.3, activation=Grouped(["relu"], [0]))
    plain = fpa.stationary(fpa.Network(W=[[0.5]], b=[0.1], sigma=0.3, activation="relu"), method="chain")
    np.testing.assert_allclose(fpa.stationary(one, method="chain").mean, plain.mean, rtol=1e-12)


def test_configuration_and_checkpoint(tmp_path):
    inner = Grouped(["relu", "tanh"], [0, 1, 0])
    f = Grouped([inner, "linear", "relu"], [0, 1, 0, 0, 2])
    assert len(f.groups) == 3
    x = np.linspace(-2, 2, 5)
    np.testing.assert_array_equal(f.f(x), [0, -1, 0, 1, 2])
    assert get_activation(f.config()).key == f.key
    net = fpa.Network(W=np.eye(9) / 3, activation=Grouped(KINDS, INDEX))
    fpa.save(net, tmp_path / "net.pt")
    loaded = fpa.load(tmp_path / "net.pt")
    assert loaded.hash == net.hash
    np.testing.assert_array_equal(loaded.step(A), net.step(A))


def test_sympy_by_cases():
    import sympy

    x, k = sympy.Symbol("x", real=True), sympy.Symbol("k", integer=True, nonnegative=True)
    f = Grouped(["relu", "tanh"], [0, 1])
    for number, name in enumerate(("relu", "tanh")):
        assert f.sympy(x).subs(k, number) == get_activation(name).sympy(x)


@pytest.mark.parametrize(
    ("of", "index", "match"),
    [
        ("relu", [0], "of must be a list"),
        ([], [0], "of must be a list"),
        (["relu", "tanh"], [0, 2], "0..1"),
        (["relu"], [0.0], "whole number"),
        (["relu"], [[0]], "whole number"),
        (["nothing"], [0], "unknown activation"),
        ([Smoothed("tanh", [0.1, 0.2, 0.3]), "relu"], [0, 1, 0], r"one per neuron, \(2,\)"),
    ],
)
def test_bad_groups(of, index, match):
    with pytest.raises(InputError, match=match):
        Grouped(of, index)


def test_a_network_of_another_size():
    with pytest.raises(InputError, match=r"one entry per neuron, \(3,\); found 2"):
        fpa.Network(W=np.eye(3), activation=Grouped(["relu", "tanh"], [0, 1]))


def test_smoothing_is_by_group():
    s = np.linspace(0.1, 0.9, len(INDEX))
    f = Grouped(KINDS, INDEX)
    smooth = smoothed(f, s)
    np.testing.assert_allclose(smooth.f(A), f.M(A, s), rtol=0, atol=1e-12)
    np.testing.assert_allclose(smooth.torch(torch.tensor(A)), f.M(A, s), rtol=0, atol=1e-12)
    np.testing.assert_allclose(f.smoothed_torch(torch.tensor(A), torch.tensor(s)), f.M(A, s), rtol=0, atol=1e-12)
    with pytest.raises(InputError, match="smooth each group by itself"):
        Smoothed(f, 0.3)
    with pytest.raises(InputError, match="one per neuron"):
        smoothed(f, s[:2])


def two_populations(seed=0, **settings):
    """ReLU and tanh neurons with no weights between them, and each population as a network of its own."""
    g = np.random.default_rng(seed)
    order = g.permutation(12)
    W = np.zeros((12, 12))
    W[:5, :5], W[5:, 5:] = 0.6 * g.normal(size=(5, 5)) / 5**0.5, 0.6 * g.normal(size=(7, 7)) / 7**0.5
    W, b, index = W[np.ix_(order, order)], g.normal(size=12)[order], np.repeat([0, 1], [5, 7])[order]
    settings = {"gamma": 0.3, "sigma": 0.4} | settings
    whole = fpa.Network(W=W, b=b, activation=Grouped(["relu", "tanh"], index), **settings)
    parts = [
        (index == k, fpa.Network(W=W[np.ix_(index == k, index == k)], b=b[index == k], activation=name, **settings))
        for k, name in enumerate(("relu", "tanh"))
    ]
    return whole, parts


@pytest.mark.parametrize("settings", [{}, {"placement": "out"}, {"form": "current"}])
def test_populations_without_coupling_are_networks_of_their_own(settings):
    """Fixed points, closure and moments in time are those of the parts."""
    whole, parts = two_populations(**settings)
    points = fpa.find_fixed_points(whole)
    law = fpa.stationary(whole, method="closure")
    inputs = (np.zeros((6, 1, 0)), np.zeros((6, 1, 12)), np.ones((6, 1)))
    curve = fpa.loss_curve(whole, inputs, [0.4])
    loss = 0.0
    for own, part in parts:
        np.testing.assert_allclose(points.h[:, own], fpa.find_fixed_points(part).h, rtol=0, atol=1e-12)
        alone = fpa.stationary(part, method="closure")
        np.testing.assert_allclose(law.mean[own], alone.mean, rtol=0, atol=1e-8)  # where its sums end
        np.testing.assert_allclose(law.cov[np.ix_(own, own)], alone.cov, rtol=0, atol=1e-8)
        small = (inputs[0], inputs[1][..., own], inputs[2])
        loss += fpa.loss_curve(part, small, [0.4]).loss[0] * own.sum() / 12
    np.testing.assert_allclose(curve.loss[0], loss, rtol=1e-6)  # `expansion` holds to 1e-7 or so


def test_kinks_of_some_neurons():
    net = fpa.Network(W=np.zeros((3, 3)), activation=Grouped(["relu", "tanh", "linear"], [0, 1, 2]))
    np.testing.assert_array_equal(kinked(net, np.zeros((1, 3)), np.zeros(0)), [[True, False, False]])


def test_exact_chain_of_two_neurons():
    """Without coupling each neuron's law is that of its own; with it, Monte Carlo within four standard errors."""
    net = fpa.Network(
        W=np.diag([0.5, -0.4]), b=[0.1, 0.2], gamma=0.3, sigma=0.4, activation=Grouped(["relu", "tanh"], [0, 1])
    )
    law = fpa.stationary(net, method="chain")
    for i, name in enumerate(("relu", "tanh")):
        alone = fpa.Network(W=net.W[[i]][:, [i]], b=net.b[[i]], gamma=0.3, sigma=0.4, activation=name)
        exact = fpa.stationary(alone, method="chain")
        assert abs(law.mean[i] - exact.mean[0]) <= law.error[i] + exact.error[0]
    mixed = fpa.Network(W=[[0.5, -0.8], [0.7, -0.4]], b=[0.1, 0.2], gamma=0.3, sigma=0.4, activation=net.activation)
    law, check = fpa.stationary(mixed, method="chain"), fpa.stationary(mixed, method="monte-carlo", rng=1)
    assert (np.abs(law.mean - check.mean) <= 4 / 1.96 * check.error + law.error).all()


def test_low_rank_with_groups():
    """Rank one, uniform noise: the table that the neurons share is for activations that are alike."""
    g = np.random.default_rng(0)
    W = np.outer(g.normal(size=10), g.normal(size=10)) / 10
    net = fpa.Network(
        W=W, b=0.3 * g.normal(size=10), sigma=0.5, gamma=0.2, activation=Grouped(["relu", "tanh"], np.arange(10) % 2)
    )
    law, check = fpa.stationary(net, method="reduced"), fpa.stationary(net, method="closure")
    assert law.status.ok
    assert (np.abs(law.mean - check.mean) <= law.error + check.error).all()


def test_monte_carlo_in_torch_and_a_stack():
    whole, _ = two_populations()
    check, law = fpa.stationary(whole, method="monte-carlo", rng=2), fpa.stationary(whole, method="closure")
    assert (np.abs(law.mean - check.mean) <= 4 / 1.96 * check.error + law.error).all()
    h0 = np.random.default_rng(3).normal(size=(1, 12))
    h = h0
    for _ in range(5):
        h = whole.step(h)
    z = CTRNN([whole])(torch.zeros(5, 1, 0), torch.tensor(h0).float(), None)
    np.testing.assert_allclose(z[0, -1].detach(), h, rtol=0, atol=1e-5)


def test_proofs_leave_groups_alone():
    whole, _ = two_populations()
    assert fpa.find_fixed_points(whole).proof is None
    with pytest.raises(InputError, match="prove=True needs"):
        fpa.find_fixed_points(whole, prove=True)


def test_reduced_with_a_smoothing_per_neuron():
    """Such neurons share no table either."""
    g = np.random.default_rng(0)
    W = np.outer(g.normal(size=4), g.normal(size=4)) / 4
    f = Smoothed("tanh", np.linspace(0.1, 1, 4))
    net = fpa.Network(W=W, b=0.3 * g.normal(size=4), sigma=0.5, gamma=0.2, activation=f)
    law, check = fpa.stationary(net, method="reduced"), fpa.stationary(net, method="closure")
    assert law.status.ok
    assert (np.abs(law.mean - check.mean) <= law.error + check.error).all()
