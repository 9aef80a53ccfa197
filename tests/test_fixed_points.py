"""Fixed points against roots found by other means, with their stability, audit and statuses."""

import numpy as np
import pytest
from scipy.optimize import brentq

import fpanalysis as fpa
from fpanalysis.fixed_points import settle


def random_network(N=24, gain=0.9, seed=0, **kwargs):
    rng = np.random.default_rng(seed)
    W, b = gain * rng.standard_normal((N, N)) / np.sqrt(N), 0.4 * rng.standard_normal(N)
    return fpa.Network(**({"W": W, "b": b, "gamma": 0.2, "activation": "tanh"} | kwargs))


def test_a_linear_network_has_one():
    net = random_network(activation="linear", gain=0.7)
    fps = fpa.find_fixed_points(net)
    np.testing.assert_allclose(fps.h, [np.linalg.solve(np.eye(24) - net.W, net.b)], rtol=1e-12)
    expected = 0.8 + 0.2 * np.linalg.eigvals(net.W)
    np.testing.assert_allclose(np.sort(np.abs(fps.eigenvalues[0])), np.sort(np.abs(expected)), rtol=1e-12)


def test_a_bistable_neuron_has_three():
    w, b = 2.0, 0.1
    net = fpa.Network(W=[[w]], b=[b], activation="tanh")
    fps = fpa.find_fixed_points(net)
    roots = [
        brentq(lambda h: np.tanh(w * h + b) - h, *bracket, xtol=1e-15)
        for bracket in [(-1, -0.5), (-0.3, 0.3), (0.5, 1)]
    ]
    np.testing.assert_allclose(np.sort(fps.h[:, 0]), roots, rtol=0, atol=1e-14)
    order = np.argsort(fps.h[:, 0])
    assert fps.stable[order].tolist() == [True, False, True]
    assert fps.n_unstable[order].tolist() == fps.n_unstable_flow[order].tolist() == [0, 1, 0]
    assert fps.index_sum == 1
    assert fps.completeness == "proven"
    assert fpa.find_fixed_points(net, prove=False).completeness == "consistent"


def test_orthogonal_patterns_of_a_relu_winner_take_all():
    """Two units that inhibit each other: either wins (stable), or neither (a saddle); all three in closed form."""
    net = fpa.Network(W=[[0, -2.0], [-2.0, 0]], b=[1.0, 1.0])
    fps = fpa.find_fixed_points(net)
    expected = np.array([[0, 1], [1 / 3, 1 / 3], [1, 0]])
    np.testing.assert_allclose(fps.h[np.argsort(fps.h[:, 0])], expected, atol=1e-14)
    assert fps.stable[np.argsort(fps.h[:, 0])].tolist() == [True, False, True]


@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh", "sigmoid", "erf", "leaky_relu"])
@pytest.mark.parametrize("form", ["rate", "current"])
def test_every_point_returned_is_a_zero(activation, form):
    net = random_network(activation=activation, form=form)
    fps = fpa.find_fixed_points(net)
    assert len(fps) >= 1
    assert (fps.residual <= 1e-12 * (1 + np.abs(fps.h).max(axis=1))).all()
    np.testing.assert_allclose(net.step(fps.h), fps.h, rtol=0, atol=1e-12 * (1 + np.abs(fps.h).max()))


def test_both_forms_have_the_same_points():
    rate, current = random_network(gain=1.8, N=8), random_network(gain=1.8, N=8, form="current")
    x = fpa.find_fixed_points(rate).h @ rate.W.T + rate.b
    y = fpa.find_fixed_points(current).h
    assert len(x) == len(y)
    for point in x:
        assert np.abs(y - point).max(axis=1).min() < 1e-9


def test_gamma_changes_stability_not_the_points():
    nets = [fpa.Network(W=[[-3.0]], b=[1.0], gamma=gamma, activation="linear") for gamma in (0.1, 0.49, 0.51, 1.0)]
    found = [fpa.find_fixed_points(net) for net in nets]
    assert all(fps.h[0, 0] == pytest.approx(0.25, abs=1e-15) for fps in found)
    assert [bool(fps.stable[0]) for fps in found] == [True, True, False, False]  # |1 - 4 gamma| < 1
    assert [int(fps.n_unstable_flow[0]) for fps in found] == [0, 0, 0, 0]


def test_relaxation_time_is_that_of_the_slowest_mode():
    fps = fpa.find_fixed_points(fpa.Network(W=[[0.5]], b=[1.0], gamma=0.1, activation="linear"))
    assert fps.relaxation_time[0] == pytest.approx(-1 / np.log(0.95))


def test_per_neuron_gamma_scales_the_flow():
    gamma = np.array([0.1, 0.3])
    fps = fpa.find_fixed_points(fpa.Network(W=np.zeros((2, 2)), b=[1.0, 1.0], gamma=gamma))
    np.testing.assert_allclose(np.sort(fps.flow_eigenvalues[0].real), [-1.5, -0.5])
    np.testing.assert_allclose(np.sort(fps.eigenvalues[0].real), np.sort(1 - gamma))


def test_inputs_move_them():
    net = random_network(N=5, W_in=np.ones((5, 1)), gain=0.5)
    for u in (-1.0, 0.0, 2.0):
        h = fpa.find_fixed_points(net, [u]).h[0]
        np.testing.assert_allclose(h, np.tanh(net.W @ h + u + net.b), rtol=0, atol=1e-13)


def test_a_limit_cycle_is_a_status():
    """A rotation with gain above one: the only fixed point is unstable."""
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2)
    fps = fpa.find_fixed_points(net)
    assert fps.status is fpa.Status.NO_STABLE_FIXED_POINT
    assert fps.n_unstable.max() == 2
    _, rests = settle(net, [[0.3, 0.1]])
    assert not rests[0]


@pytest.mark.parametrize(("activation", "form"), [("relu", "rate"), ("relu", "current"), ("softplus", "rate")])
def test_slow_dynamics_comes_to_rest_as_well(activation, form):
    """w = 0.9999 at gamma = 0.1: 1e5 steps to relax by a factor e. A second neuron, inhibited, crosses its kink."""
    net = fpa.Network(W=[[0.9999, 0], [-1, 0.5]], b=[1.0, 500.0], activation=activation, form=form)
    states, rests = settle(net, np.zeros((1, 2)))
    assert rests[0]
    assert states[0, 0] == pytest.approx(1e4, rel=1e-12)
    assert fpa.stationary(net, sigma=0.1, method="closure").status.ok


def test_a_slow_passage_is_no_rest():
    """Just beyond a saddle-node the state all but stands still for 4,000 steps, at half way, and goes on."""
    w, gap = 2.0, 1e-4
    x = -np.arctanh(np.sqrt(1 - 1 / w))
    net = fpa.Network(W=[[w]], b=[x - w * np.tanh(x) + gap], activation="tanh", gamma=0.02)
    states, rests = settle(net, [[-1.0]], steps=4000)
    assert not rests[0]
    assert states[0, 0] < 0
    states, rests = settle(net, [[-1.0]])
    assert rests[0]
    assert states[0, 0] > 0.9


def test_the_way_to_a_slow_point_may_end_at_a_kink():
    """From 0 the line h' ~ h - 1000 leads to h = 1000, but at h = 900 another neuron opens and stops it there."""
    net = fpa.Network(W=[[0.999, -0.5], [1.0, 0.0]], b=[1.0, -900.0], gamma=0.5)
    states, rests = settle(net, np.zeros((1, 2)))
    assert rests[0]
    np.testing.assert_allclose(states[0], net.target(states[0]), rtol=1e-12)
    assert 900 < states[0, 0] < 901


def test_nothing_to_find_is_a_status():
    """w = 1, b > 0: h grows for ever and there is no fixed point."""
    fps = fpa.find_fixed_points(fpa.Network(W=[[1.0]], b=[1.0]))
    assert len(fps) == 0
    assert fps.status is fpa.Status.NO_STABLE_FIXED_POINT
    assert fps.completeness == "proven"
    assert fps.box is not None
    assert fps.box[1] == 1e6  # h = h + 1 has no solution, but what is not bounded is searched in a box
    assert fpa.find_fixed_points(fps.net, prove=False).completeness == "unknown"
    assert fps.eigenvalues.shape == (0, 1)


def test_a_singular_line_of_points_does_not_break_the_search():
    """w = 1, b = 0: every h >= 0 is a fixed point, I - J is singular at each."""
    fps = fpa.find_fixed_points(fpa.Network(W=[[1.0]], b=[0.0]))
    assert (fps.residual <= 1e-12 * (1 + np.abs(fps.h).max(axis=1, initial=0))).all()
    assert not fps.stable[fps.h[:, 0] > 0].any()  # neutral, which is not stable


@pytest.mark.parametrize(("w", "stable"), [(0.5, True), (-3.0, True), (1.5, False), (2.0, False), (-30.0, False)])
def test_on_a_kink_every_side_must_be_stable(w, stable):
    """b = 0: h = 0 sits on the kink. To its right h' = (1 - gamma + gamma w) h."""
    fps = fpa.find_fixed_points(fpa.Network(W=[[w]], b=[0.0], gamma=0.1))
    assert bool(fps.stable[np.argmin(np.abs(fps.h[:, 0]))]) is stable


def test_many_neurons_on_their_kinks():
    """More of them than all combinations of sides could be tried: one repelling side suffices."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal((24, 24)) / np.sqrt(24)
    calm, wild = (fpa.find_fixed_points(fpa.Network(W=gain * W, gamma=0.1)) for gain in (0.5, 1.8))
    assert calm.stable.tolist() == [True]
    assert not wild.stable[np.argmin(np.abs(wild.h).max(axis=1))]


def test_same_seed_same_points():
    net = random_network(gain=2.5)
    np.testing.assert_array_equal(fpa.find_fixed_points(net, rng=4).h, fpa.find_fixed_points(net, rng=4).h)


def test_permutation():
    net = random_network(N=10, gain=2.0)
    p = np.random.default_rng(2).permutation(10)
    permuted = random_network(N=10, W=net.W[np.ix_(p, p)], b=net.b[p])
    one, other = fpa.find_fixed_points(net), fpa.find_fixed_points(permuted)
    assert len(one) == len(other)
    for point in one.h:
        assert np.abs(other.h - point[p]).max(axis=1).min() < 1e-9


@pytest.mark.parametrize(
    ("u", "message"), [([1.0, 2.0], "1 input value"), ([[1.0]], "one constant input"), ([np.nan], "finite")]
)
def test_bad_input(u, message):
    net = random_network(N=4, W_in=np.ones((4, 1)))
    with pytest.raises(fpa.InputError, match=message):
        fpa.find_fixed_points(net, u)


def test_not_a_network():
    with pytest.raises(fpa.InputError, match="Network"):
        fpa.find_fixed_points(np.eye(3))
