"""Slow points against closed forms, one-dimensional minimisation, a fine grid and simulated passages."""

import numpy as np
import pytest
import torch
from problems import random_network
from scipy.optimize import minimize, minimize_scalar

import fpanalysis as fpa
from fpanalysis.fixed_points import descent

W1 = 2.0  #: one tanh neuron of this weight has its fold at slope w f'(x) = 1, x = -arctanh sqrt(1 - 1/w)
FOLD = np.sqrt(1 - 1 / W1)
B1 = W1 * FOLD - np.arctanh(FOLD)  #: its bias there; with more, saddle and node are gone


def ghost(beyond, **settings):
    return fpa.Network(**({"W": [[W1]], "b": [B1 + beyond], "activation": "tanh"} | settings))


def q(net, h, u=None):
    return 0.5 * np.sum((net.target(h, u) - h) ** 2, axis=-1)


@pytest.mark.parametrize("beyond", [1e-1, 1e-3, 1e-6])
def test_the_ghost_of_a_saddle_and_a_node(beyond):
    """At the minimum w f'(x) = 1 as at the fold: x, h, speed and curvature q'' = g f''(x) w^2 in closed form."""
    net = ghost(beyond)
    slow = fpa.find_slow_points(net)
    x = -np.arctanh(FOLD)
    assert len(slow) == 1
    assert slow.status.ok
    np.testing.assert_allclose(slow.h, [[(x - B1 - beyond) / W1]], rtol=1e-9)
    np.testing.assert_allclose(slow.speed, beyond / W1, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(slow.hessian_min, beyond / W1 * net.activation.d2f(x) * W1**2, rtol=1e-6)
    np.testing.assert_allclose(slow.eigenvalues, 1, rtol=1e-9)
    assert slow.gradient.max() < 1e-9
    assert slow.direction[0, 0] == 1  # with the motion, which is upwards
    found = minimize_scalar(lambda h: q(net, np.array([h])) / beyond**2, bounds=(-0.9, -0.5), options={"xatol": 1e-12})
    assert slow.h[0, 0] == pytest.approx(found.x, abs=1e-6)  # where the scalar minimiser can see q change


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_the_time_to_pass_is_that_of_a_simulation(gamma):
    """What the leading order leaves out is the time to come and to go, a few 1 / gamma whatever the speed."""
    for beyond in (1e-2, 1e-4):
        net = ghost(beyond, gamma=gamma)
        h, steps = np.array([-1.0]), 0
        while h[0] < 0.5:
            h, steps = net.step(h), steps + 1
        passage = fpa.find_slow_points(net).passage[0]
        assert abs(passage - steps) < 3 / gamma
    assert passage > 300 / gamma


def test_the_time_to_pass_with_a_gamma_of_its_own_for_each_neuron():
    """Two neurons drive each other through the ghost; passages between fixed states grow as the formula says."""
    W, gamma = np.array([[1.2, 0.8], [0.6, 1.4]]), np.array([0.1, 0.4])
    times = []
    for beyond in (1e-3, 1e-5):
        net = fpa.Network(W=W, b=np.full(2, B1 + beyond), gamma=gamma, activation="tanh")
        h, steps = np.array([-1.0, -1.0]), 0
        while h[0] < 0.5:
            h, steps = net.step(h), steps + 1
        times.append((fpa.find_slow_points(net).passage[0], steps))
    assert times[1][0] > 1000
    assert abs(times[0][0] - times[0][1]) < 30
    assert abs(times[1][0] - times[1][1]) < 30


@pytest.mark.parametrize(
    ("form", "seed", "count"), [("rate", 1, 1), ("rate", 17, 1), ("rate", 4, 0), ("current", 6, 1)]
)
def test_two_neurons_against_a_fine_grid(form, seed, count):
    """Every local minimum of q on a grid of 601 x 601, refined without derivatives, and no others."""
    g = np.random.default_rng(seed)
    net = fpa.Network(W=3 * g.normal(size=(2, 2)) / np.sqrt(2), b=0.4 * g.normal(size=2), activation="tanh", form=form)
    lower, upper = net.trapping_box()
    axes = [np.linspace(lo - 0.01, hi + 0.01, 601) for lo, hi in zip(lower, upper, strict=True)]
    states = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    height = q(net, states)
    inner = height[1:-1, 1:-1]
    around = [height[1 + i : 600 + i, 1 + j : 600 + j] for i in (-1, 0, 1) for j in (-1, 0, 1) if i or j]
    dips = states[1:-1, 1:-1][(inner <= np.min(around, axis=0))]
    precise = {"xatol": 1e-10, "fatol": 1e-20, "maxiter": 2000}
    refined = [minimize(lambda h: q(net, h), dip, method="Nelder-Mead", options=precise) for dip in dips]
    expected = np.array([r.x for r in refined if r.fun > 1e-12]).reshape(-1, 2)
    slow = fpa.find_slow_points(net)
    assert len(slow) == count == len(np.unique(expected.round(4), axis=0))
    for point in expected:
        assert np.abs(slow.h - point).max(axis=1).min(initial=np.inf) < 1e-5


def test_a_contracting_linear_network_has_none():
    assert len(fpa.find_slow_points(random_network(12, gain=0.5, activation="linear"))) == 0


def test_every_point_is_a_minimum_and_singular():
    net = random_network(24, gain=1.8, seed=1, activation="tanh")
    slow = fpa.find_slow_points(net, [0.1, -0.2])
    assert len(slow) >= 1
    assert slow.gradient.max() < 1e-9
    assert (np.diff(slow.speed) >= 0).all()
    assert (slow.speed > 1e-6).all()
    directions = np.random.default_rng(0).standard_normal((200, net.N))
    for h, r in zip(slow.h, slow.direction, strict=True):
        near = np.vstack([h + 1e-3 * directions, h + np.outer([-1e-3, 1e-3], r)])
        assert (q(net, near, [0.1, -0.2]) > q(net, h, [0.1, -0.2])).all()
    A = np.eye(net.N) - net.target_jacobian(slow.h, [0.1, -0.2])
    assert np.linalg.norm(np.einsum("kij,kj->ki", A, slow.direction), axis=1).max() < 1e-9


def test_gamma_does_not_matter():
    nets = [random_network(8, gain=2.5, seed=0, activation="tanh", gamma=gamma) for gamma in (0.05, 1.0)]
    slow, other = (fpa.find_slow_points(net) for net in nets)
    assert len(slow) == len(other) == 3
    np.testing.assert_allclose(slow.h, other.h, rtol=0, atol=1e-8)
    np.testing.assert_allclose(slow.passage, 20 * other.passage, rtol=1e-6)


def test_the_order_of_the_neurons_does_not_matter():
    net = random_network(8, gain=2.5, seed=0, activation="tanh")
    order = np.random.default_rng(0).permutation(8)
    mixed = fpa.Network(W=net.W[np.ix_(order, order)], b=net.b[order], gamma=net.gamma, activation="tanh")
    slow, other = fpa.find_slow_points(net), fpa.find_slow_points(mixed)
    assert len(slow) == len(other) == 3
    np.testing.assert_allclose(slow.h[:, order], other.h, rtol=0, atol=1e-8)


def test_a_cell_finds_those_of_the_network_that_it_is():
    """A callable's second derivatives are differences of its Jacobian: they must lead to the same points."""
    net = random_network(8, gain=2.5, seed=0, activation="tanh", gamma=1.0)
    W, b = torch.tensor(net.W), torch.tensor(net.b)
    cell = fpa.models.from_torch(lambda u, h: torch.tanh(h @ W.T + b), n_in=0, N=8)
    slow, other = fpa.find_slow_points(net), fpa.find_slow_points(cell)
    assert len(slow) == len(other) == 3
    np.testing.assert_allclose(slow.h, other.h, rtol=0, atol=1e-8)
    np.testing.assert_allclose(slow.hessian_min, other.hessian_min, rtol=1e-6)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_the_hessian_is_the_derivative_of_the_gradient(form):
    net = random_network(6, gain=1.5, activation="tanh", form=form)
    u = np.array([0.3, -0.1])
    h = np.random.default_rng(1).normal(size=(1, 6))

    def gradient(h):
        return -np.einsum("kij,ki->kj", descent.slope_matrix(net, u, h), net.target(h, u) - h)

    H = descent.hessian(net, u, h, net.target(h, u) - h, descent.slope_matrix(net, u, h))[0]
    step = 1e-5 * np.eye(6)
    differences = (gradient(h + step) - gradient(h - step)) / 2e-5
    np.testing.assert_allclose(H, differences, atol=1e-8)  # differences err by step^2 / 6 times a third derivative


def test_a_network_with_kinks_is_not_searched():
    slow = fpa.find_slow_points(random_network(8, activation="relu"))
    assert len(slow) == 0
    assert slow.status is fpa.Status.HAS_KINKS
    assert "has kinks" in repr(slow)
    assert slow.passage.shape == (0,)


def test_bad_input():
    with pytest.raises(fpa.InputError, match="net must be"):
        fpa.find_slow_points("network")
    with pytest.raises(fpa.InputError, match="one constant input"):
        fpa.find_slow_points(random_network(4, activation="tanh"), np.zeros((2, 2)))
