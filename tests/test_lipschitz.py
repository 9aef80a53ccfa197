"""LipschitzRNN: its step, derivatives, noise and file-independent checks against differences and sampling."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq, root

import fpanalysis as fpa


def network(N=4, n_in=2, seed=0, **settings):
    rng = np.random.default_rng(seed)
    A, W = (fpa.LipschitzRNN.between(rng.standard_normal((N, N)) / N, 0.75, 0.001) for _ in range(2))
    W_in, W_out, b = rng.standard_normal((N, n_in)), rng.standard_normal((3, N)), rng.standard_normal(N)
    return fpa.LipschitzRNN(A=A, W=W, b=b, W_in=W_in, W_out=W_out, **settings)


def differences(f, x, step=1e-6):
    return np.stack([(f(x + step * e) - f(x - step * e)) / (2 * step) for e in np.eye(len(x))], axis=-1)


def test_repr_has_the_range_of_steps_and_noise():
    shown = repr(network(3, gamma=[0.1, 0.2, 0.6], sigma=[0.0, 0.1, 0.3]))
    assert "step=0.1..0.6, sigma=0..0.3, multiplicative=" in shown


def test_step_is_the_equation():
    net, h, u = network(gamma=0.2), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    wanted = h + 0.2 * (net.A @ h + np.tanh(net.W @ h + net.W_in @ u + net.b))
    np.testing.assert_allclose(net.step(h, u), wanted, rtol=1e-14)


def test_jacobians_are_differences():
    net, h, u = network(), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    np.testing.assert_allclose(net.jacobian(h, u), differences(lambda h: net.step(h, u), h), atol=1e-9)
    np.testing.assert_allclose(net.input_jacobian(h, u), differences(lambda u: net.target(h, u), u), atol=1e-9)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_input_jacobian_of_a_network_is_differences(form):
    rng = np.random.default_rng(1)
    net = fpa.Network(W=rng.standard_normal((3, 3)), W_in=rng.standard_normal((3, 2)), activation="tanh", form=form)
    h, u = rng.standard_normal(3), rng.standard_normal(2)
    np.testing.assert_allclose(net.input_jacobian(h, u), differences(lambda u: net.target(h, u), u), atol=1e-9)
    general = fpa.network.System.input_jacobian(net, h, u)
    np.testing.assert_allclose(general, net.input_jacobian(h, u), atol=1e-8)


def test_curvature_is_the_general_one():
    net, h, u = network(), np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    root = np.random.default_rng(2).standard_normal((4, 4))
    C = root @ root.T
    np.testing.assert_allclose(net.target_curvature(h, u, C), fpa.network.System.target_curvature(net, h, u, C), 1e-6)


@pytest.mark.parametrize("noise", ["independent", "joint"])
def test_noise_has_the_variance_of_its_equation(noise):
    net = network(sigma=0.5, multiplicative=0.3, noise=noise, gamma=0.1)
    h, u = np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    runs = 200_000
    xi = np.random.default_rng(3).standard_normal((runs, 4))
    moved = net.step(np.broadcast_to(h, xi.shape), u, xi)
    f = net.target(h, u) - h
    wanted = 0.01 * ((0.5 + 0.3 * f) ** 2 if noise == "joint" else 0.25 + 0.09 * f**2)
    np.testing.assert_allclose(moved.var(axis=0), wanted, rtol=5 * np.sqrt(2 / runs))
    np.testing.assert_allclose(moved.mean(axis=0), net.step(h, u), atol=5 * np.sqrt(wanted.max() / runs))


def test_form_of_the_trained_matrices():
    M = np.random.default_rng(4).standard_normal((5, 5))
    A = fpa.LipschitzRNN.between(M, 0.75, 0.01)
    np.testing.assert_allclose(A, 0.25 * (M + M.T) + 0.75 * (M - M.T) - 0.01 * np.eye(5), rtol=1e-14)
    assert np.abs(np.linalg.eigvals(fpa.LipschitzRNN.between(M, 1, 0.01)).real + 0.01).max() < 1e-12


def test_a_form_of_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(fpa.InputError, match=r"M must be square, \(N, N\); found shape \(1, 3\)"):
        fpa.LipschitzRNN.between([[1.0, 2.0, 3.0]], 0.5, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"A": np.eye(3)}, r"A must have shape \(2, 2\)"),
        ({"gamma": 1.5}, r"gamma must lie in \(0, 1\]; found 1.5"),
        ({"multiplicative": -1}, "multiplicative must be a number from 0"),
        ({"noise": "both"}, "noise must be 'independent' or 'joint'"),
        ({"W": np.ones((2, 3))}, "W must be square"),
        ({"targets": [[1.0, 1.0]]}, "targets were given without conditions"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.LipschitzRNN(**({"A": np.eye(2), "W": np.eye(2)} | wrong))


def roots(net, points):
    """Fixed points by Newton's method from each of `points` (K, N)."""
    found = []
    for h0 in points:
        r = root(lambda h: net.target(h) - h, h0, jac=lambda h: net.target_jacobian(h) - np.eye(net.N), tol=1e-13)
        if r.success and np.abs(net.target(r.x) - r.x).max() < 1e-10:
            found += [] if any(np.abs(r.x - h).max() < 1e-6 for h in found) else [r.x]
    return np.array(sorted(map(tuple, found)))


@pytest.mark.parametrize(
    ("A", "W", "b", "number"),
    [(-0.5, 1.0, 0.0, 3), (-0.5, 1.0, 0.1, 3), (-0.2, 3.0, 0.1, 3), (-1e-3, 1.0, 0.0, 3), (-1.0, 0.5, 0.4, 1)],
)
def test_fixed_points_of_one_neuron(A, W, b, number):
    """A h + tanh(W h + b) = 0 by its changes of sign on |h| <= 1 / |A|, where all roots are."""
    net = fpa.LipschitzRNN(A=[[A]], W=[[W]], b=[b], gamma=0.3)
    grid = np.linspace(-1.01 / abs(A), 1.01 / abs(A), 100_001)
    value = A * grid + np.tanh(W * grid + b)
    at = np.nonzero((value[:-1] > 0) != (value[1:] > 0))[0]
    exact = [brentq(lambda h: A * h + np.tanh(W * h + b), grid[k], grid[k + 1], xtol=1e-15, rtol=1e-14) for k in at]
    points = fpa.find_fixed_points(net)
    assert len(exact) == number
    np.testing.assert_allclose(np.sort(points.h[:, 0]), exact, rtol=1e-11, atol=1e-14)
    assert points.certified.all()
    assert (points.completeness, points.index_sum) == ("consistent", 1)
    slope = 1 + 0.3 * (A + W * (1 - np.tanh(W * points.h[:, 0] + b) ** 2))
    np.testing.assert_allclose(points.eigenvalues[:, 0], slope, rtol=1e-9)
    np.testing.assert_array_equal(points.stable, np.abs(slope) < 1)


@pytest.mark.parametrize(("W", "stable"), [(2.0, False), (0.5, True), (-3.0, True)])
def test_a_point_on_a_kink_is_stable_where_both_sides_are(W, stable):
    """h' = h + 0.1 (-h + max(W h, 0)) at 0 has slopes 0.9 and 0.9 + 0.1 W."""
    net = fpa.LipschitzRNN(A=[[-1.0]], W=[[W]], activation="relu", gamma=0.1)
    points = fpa.find_fixed_points(net)
    assert points.h.tolist() == [[0.0]]
    assert (points.stable.tolist(), points.index.tolist(), points.completeness) == ([stable], [0], "unknown")
    assert points.status.ok == stable


@pytest.mark.parametrize("seed", range(4))
def test_fixed_points_of_two_neurons(seed):
    rng = np.random.default_rng(seed)
    A, W = 0.3 * rng.standard_normal((2, 2)) - 0.5 * np.eye(2), 2.5 * rng.standard_normal((2, 2))
    net = fpa.LipschitzRNN(A=A, W=W, b=0.2 * rng.standard_normal(2), gamma=0.2)
    grid = np.stack(np.meshgrid(*2 * [np.linspace(-8, 8, 25)]), -1).reshape(-1, 2)
    points = fpa.find_fixed_points(net)
    found = points.h[np.lexsort(points.h.T[::-1])]
    np.testing.assert_allclose(found, roots(net, grid), rtol=1e-8, atol=1e-9)
    assert points.certified.all()
    assert points.completeness == "consistent"
    for h, eigenvalues in zip(points.h, points.eigenvalues, strict=True):
        J = differences(net.step, h)
        np.testing.assert_allclose(np.sort_complex(eigenvalues), np.sort_complex(np.linalg.eigvals(J)), atol=1e-8)


def test_the_jacobian_varies_within_its_bound():
    """At random points of the ball, and nearly as much as the bound says where W is diagonal."""
    rng = np.random.default_rng(6)
    net, u, r = network(), np.array([1.0, -0.5]), np.array([0.3, 1.0])
    h = rng.standard_normal((2, 4))
    error, bound = net.variation(h, u, r)
    near = h + r[:, None] * rng.uniform(-1, 1, (4000, 2, 4))
    change = np.abs(net.target_jacobian(near, u) - net.target_jacobian(h, u)).sum(axis=-1)
    assert (change <= bound).all()
    assert (error > 0).all()
    assert (error < 1e-13).all()
    one = fpa.LipschitzRNN(A=[[-1.0]], W=[[2.0]])
    _, bound = one.variation(np.zeros((1, 1)), np.zeros(0), np.array([0.5]))
    assert bound[0, 0] == pytest.approx(2 * np.tanh(1) ** 2, rel=1e-9)


@pytest.mark.parametrize(("A", "inside"), [([[-0.1, 2], [-2, -0.1]], False), ([[-1.5, 1], [-1, -1.5]], True)])
def test_dissipative_where_trajectories_stay(A, inside):
    """The linear part alone decides: |1 + gamma lambda|; a step of 0.5 is too long for a weak damping."""
    net = fpa.LipschitzRNN(A=A, W=np.eye(2), gamma=0.5)
    h = np.array([100.0, -50.0])
    for _ in range(200):
        h = net.step(h)
    assert net.dissipative == inside == bool(np.abs(h).max() < 100)


@pytest.mark.parametrize(
    "noise",
    [fpa.Noise.noisy_rnn(0.1, 0.6, step=0.2), fpa.Noise.lipschitz_sde(0.7, 0.5, 0.4, step=0.2)],
    ids=["code", "sde"],
)
def test_one_step_has_the_mean_and_variance_of_the_source(noise):
    rng, runs = np.random.default_rng(7), 400_000
    net = network(gamma=noise.gamma).with_noise(noise)
    h, u = np.array([0.3, -1, 0.5, 2]), np.array([1.0, -0.5])
    f = net.A @ h + np.tanh(net.W @ h + net.W_in @ u + net.b)
    xi = rng.standard_normal((runs, 4))
    if noise.joint:
        source = h + 0.2 * f + 0.7 * np.sqrt(0.2) * (0.5 + 0.4 * f) * xi
    else:
        source = h + 0.2 * (1 - 0.6 + 0.6 * rng.uniform(size=(runs, 4))) * f + 0.1 * xi
    own = net.step(np.broadcast_to(h, xi.shape), u, rng.standard_normal((runs, 4)))
    error = np.sqrt((source.var(axis=0) + own.var(axis=0)) / runs)
    np.testing.assert_array_less(np.abs(source.mean(axis=0) - own.mean(axis=0)), 4 * error)
    np.testing.assert_allclose(own.var(axis=0), source.var(axis=0), rtol=4 * np.sqrt(4 / runs))


def test_the_convention_travels_with_the_network():
    noise = fpa.Noise.noisy_rnn(0.1, 0.05, step=0.1)
    net = network(gamma=noise.gamma).with_noise(noise)
    assert net.sigma == pytest.approx(0.1 / (0.1 * 0.975))
    assert net.multiplicative == pytest.approx(0.05 / 12**0.5 / 0.975)
    assert "code of Lim et al. 2021, add = 0.1, mult = 0.05, step = 0.1" in net.info["noise_given_as"]
    assert "noise_given_as" not in net.with_sigma(0.2).info
    with pytest.raises(fpa.InputError, match=r"converted for gamma = 0.0975, the network has gamma = 0.1"):
        network(gamma=0.1).with_noise(noise)
    with pytest.raises(fpa.InputError, match=r"is for form 'lipschitz', the network has form 'rate': build a Lipsch"):
        fpa.Network(W=np.eye(2)).with_noise(noise)
    with pytest.raises(fpa.InputError, match=r"is for form 'rate', the network has form 'lipschitz'"):
        network().with_noise(fpa.Noise.per_step(0.1))
    with pytest.raises(fpa.InputError, match="mult is a share of the increment"):
        fpa.Noise.noisy_rnn(0.1, 1.5, step=0.1)
