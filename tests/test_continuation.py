"""Branches and bifurcations against closed forms, brute force, invariances and the audit of indices."""

import dataclasses
import json
from itertools import product

import numpy as np
import pytest
from scipy.optimize import brentq

import fpanalysis as fpa
from fpanalysis.fixed_points.continuation import atlas
from fpanalysis.fixed_points.continuation.family import family
from fpanalysis.system import System

LN2 = float(np.log(2))


def neuron(w=1.0, b=0.0, activation="tanh", gamma=0.3):
    return fpa.Network(W=[[w]], b=[b], W_in=[[1.0]], activation=activation, gamma=gamma)


def small_network(seed, N=6, gain=1.1, **kwargs):
    rng = np.random.default_rng(seed)
    W, b, W_in = gain * rng.standard_normal((N, N)), 0.3 * rng.standard_normal(N), rng.standard_normal((N, 1))
    return fpa.Network(**({"W": W, "b": b, "W_in": W_in, "activation": "tanh", "gamma": 0.2} | kwargs))


def kinds(result):
    return [point.kind for point in result.points]


def passages(result, p):
    """How often the branches pass the parameter value p."""
    return sum(int(np.sum((branch.p[:-1] < p) != (branch.p[1:] < p))) for branch in result)


def fold(w):
    """h = tanh(w h + p) folds at w (1 - h^2) = 1."""
    x = np.arccosh(np.sqrt(w))
    return x - w * np.tanh(x)


@pytest.mark.parametrize("w", [1.2, 2.0, 5.0])
def test_folds_of_a_bistable_neuron(w):
    result = fpa.continue_fixed_points(neuron(w), "input", -4, 4)
    assert kinds(result) == ["fold", "fold"]
    for point, p in zip(result.points, (fold(w), -fold(w)), strict=True):
        assert abs(point.p - p) <= point.error + 1e-14
        assert point.error < 1e-8
        assert point.eigenvalue == pytest.approx(1, abs=1e-5)
    (branch,) = result
    assert branch.ends == ("start", "stop")
    assert (branch.p[0], branch.p[-1]) == (-4, 4)
    order = np.argsort(branch.h[:, 0])  # along the branch h only grows: it is S-shaped
    assert sorted(order.tolist()) in (order.tolist(), order[::-1].tolist())
    np.testing.assert_allclose(branch.h, np.tanh(w * branch.h + branch.p[:, None]), atol=1e-10)
    inside = np.abs(branch.h[:, 0]) < np.sqrt(1 - 1 / w) - 1e-6
    np.testing.assert_array_equal(branch.n_unstable[inside], 1)
    np.testing.assert_array_equal(branch.stable, np.abs(branch.h[:, 0]) > np.sqrt(1 - 1 / w) + 1e-6)


def test_the_error_of_the_points_holds():
    """x = w h + p: given h, the exact p is arctanh(h) - w h."""
    (branch,) = fpa.continue_fixed_points(neuron(2.0), "input", -1, 1)
    h = branch.h[:, 0]
    steepness = np.abs(2 - 1 / (1 - h**2))  # of p against h
    assert (np.abs(np.arctanh(h) - 2 * h - branch.p) <= (1 + steepness) * branch.error).all()


def test_pitchfork_of_a_neuron():
    result = fpa.continue_fixed_points(neuron(), "scale", 0.3, 2)
    (point,) = result.points
    assert point.kind == "pitchfork"
    assert abs(point.p - 1) <= max(point.error, 1e-15)
    assert point.error < 1e-8
    trivial, arms = result
    np.testing.assert_allclose(trivial.h, 0, atol=1e-20)
    np.testing.assert_array_equal(trivial.stable, trivial.p < 1)
    assert arms.ends == ("stop", "stop")  # both arms, joined at the pitchfork
    m = brentq(lambda m: np.tanh(2 * m) - m, 0.5, 1)
    np.testing.assert_allclose(np.sort(arms.h[[0, -1], 0]), [-m, m], atol=1e-12)
    joint = np.argmin(np.abs(arms.h[:, 0]))
    assert arms.stable.sum() == len(arms) - 1
    assert abs(arms.p[joint] - 1) < 1e-12


def test_a_pitchfork_at_an_end_of_the_interval():
    """At p = 1 Newton finds no more than that 0 is near; the branches that come from there are all found."""
    above = fpa.continue_fixed_points(neuron(), "scale", 1, 2)
    assert passages(above, 1.5) == 3
    below = fpa.continue_fixed_points(neuron(), "scale", 0.3, 1)
    assert passages(below, 0.7) == 1
    assert above.status.ok
    assert below.status.ok


def test_a_line_of_fixed_points_is_one_branch():
    """h = p h: at p = 1 every h."""
    result = fpa.continue_fixed_points(neuron(activation="linear"), "scale", 0.5, 1.5)
    assert sorted(branch.ends for branch in result) == [("infinity", "infinity"), ("start", "stop")]
    line = next(branch for branch in result if "infinity" in branch.ends)
    np.testing.assert_allclose(line.p, 1, atol=1e-9)


def test_branches_left_out_are_a_status(monkeypatch):
    monkeypatch.setattr(atlas, "MOST_CURVES", 1)
    result = fpa.continue_fixed_points(neuron(), "scale", 0.3, 2)
    assert len(result) == 1
    assert result.status is fpa.Status.CUT_SHORT


def test_a_line_of_fixed_points_in_gamma_has_no_error():
    net = fpa.Network(W=[[1.0]], activation="linear")
    document = fpa.continue_fixed_points(net, "gamma", 0.1, 1).document()
    assert {branch["error"] for branch in document["branches"]} == {None}
    json.dumps(document, allow_nan=False)


def test_a_plane_of_fixed_points_is_a_status():
    """W_in = 0, w = 1: every h at every p is fixed, and no curve is singled out."""
    net = fpa.Network(W=[[1.0]], W_in=[[0.0]], activation="linear")
    assert fpa.continue_fixed_points(net, "input", -1, 1).status is fpa.Status.CUT_SHORT


class Shell(System):
    """A network seen from outside: step, Jacobian and output, no weights."""

    def __init__(self, net):
        self.net, self.gamma, self.sigma = net, net.gamma, net.sigma

    N = property(lambda self: self.net.N)
    n_in = property(lambda self: self.net.n_in)
    n_out = property(lambda self: self.net.n_out)
    hash = property(lambda self: self.net.hash)

    def target(self, h, u=None):
        return self.net.target(h, u)

    def target_jacobian(self, h, u=None):
        return self.net.target_jacobian(h, u)

    def output(self, h):
        return self.net.output(h)


def test_any_system_can_be_followed():
    found = []
    for system in (neuron(2.0), Shell(neuron(2.0))):
        of = family(system, "input", -1.0, 1.0, None, None)
        curves = atlas.Atlas(of, np.array([-1.0, 1.0]), 500)
        curves.add_fixed_point(fpa.find_fixed_points(neuron(2.0), [-1.0]).h[0], -1.0)
        (run,) = curves.runs
        found.append([(event.kind, of.p(event.z)) for event in run.events])
    assert [kind for kind, _ in found[1]] == ["fold", "fold"]
    assert [p for _, p in found[1]] == pytest.approx([p for _, p in found[0]], abs=1e-9)
    with pytest.raises(fpa.InputError, match="needs the weights of a Network; found Shell"):
        fpa.continue_fixed_points(Shell(neuron()), "scale", 0, 1)


@pytest.mark.parametrize("b", [1e-2, 1e-4, 1e-6, 1e-9])
def test_a_broken_pitchfork_is_a_fold(b):
    """h = tanh(w h + b) with w > 0 folds where w (1 - h^2) = 1, which gives b = arctanh(h) - w h, h < 0 for b > 0."""
    h = brentq(lambda h: np.arctanh(h) - h / (1 - h**2) - b, -0.9, -1e-5, xtol=1e-15)
    result = fpa.continue_fixed_points(neuron(b=b), "scale", 0.3, 3)
    assert kinds(result) == ["fold"]
    assert result.points[0].p == pytest.approx(1 / (1 - h**2), abs=1e-8)
    assert len(result) == 2
    assert [branch.status.ok for branch in result] == [True, True]


def transcritical(p):
    """h = ln 2 whatever p: softplus(0) = ln 2, f'(0) = 1/2."""
    return fpa.Network(W=[[p]], b=[-p * LN2], activation="softplus"), None


def test_transcritical_point_of_a_family_of_ones_own():
    result = fpa.continue_fixed_points(None, transcritical, 1, 3)
    (point,) = result.points
    assert point.kind == "transcritical"
    assert abs(point.p - 2) <= point.error < 1e-8
    assert point.h[0] == pytest.approx(LN2, abs=1e-10)
    assert len(result) == 2
    below, above = (fpa.find_fixed_points(*transcritical(p)).stable.sum() for p in (1.5, 2.5))
    assert below == above == 1  # the two exchange stability
    for p in (1.5, 2.5):
        assert passages(result, p) == 2


def test_flip_of_a_neuron_that_inhibits_itself():
    """1 - gamma + gamma w = -1 at w = 1 - 2 / gamma."""
    for gamma in (0.3, 0.5, 0.9):
        result = fpa.continue_fixed_points(neuron(-1.0, gamma=gamma), "scale", 0.2, 8)
        (point,) = result.points
        assert point.kind == "flip"
        assert abs(point.p - (2 / gamma - 1)) <= point.error
        assert point.error < 1e-8
        assert point.eigenvalue == pytest.approx(-1, abs=1e-9)


def rotation(g, theta):
    return g * np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])


@pytest.mark.parametrize("theta", [0.4, 1.0, 2.0, 3.0])
def test_neimark_sacker_of_a_rotation(theta):
    """|1 - gamma + gamma g e^(i theta)| = 1 at h = 0."""
    gamma = 0.3
    net = fpa.Network(W=rotation(1, theta), activation="tanh", gamma=gamma)
    g = brentq(lambda g: abs(1 - gamma + gamma * g * np.exp(1j * theta)) - 1, 0.2, 8, xtol=1e-15)
    result = fpa.continue_fixed_points(net, "scale", 0.2, 1.3 * g)
    (point,) = result.points
    assert point.kind == "Neimark-Sacker"
    assert abs(point.p - g) <= point.error
    assert point.error < 1e-8
    assert point.eigenvalue == pytest.approx(1 - gamma + gamma * g * np.exp(1j * theta), abs=1e-9)


def test_gamma_moves_no_fixed_point():
    """gamma = 2 (1 - Re mu) / |1 - mu|^2, against the direct solution of |1 - gamma + gamma mu| = 1."""
    net = fpa.Network(W=rotation(2, 1.8), activation="tanh", gamma=0.5)
    result = fpa.continue_fixed_points(net, "gamma", 0.01, 1)
    mu = 2 * np.exp(1.8j)
    gamma = brentq(lambda gamma: abs(1 - gamma + gamma * mu) - 1, 0.1, 1, xtol=1e-15)
    (point,) = result.points
    assert point.kind == "Neimark-Sacker"
    assert abs(point.p - gamma) <= max(point.error, 2e-15)
    (branch,) = result
    np.testing.assert_allclose(branch.h, 0, atol=1e-20)
    np.testing.assert_array_equal(branch.stable, branch.p < gamma - 1e-9)


def test_flip_in_gamma():
    result = fpa.continue_fixed_points(neuron(-3.0), "gamma", 0.1, 1)
    (point,) = result.points
    assert (point.kind, point.p) == ("flip", pytest.approx(0.5, abs=1e-14))


def test_gamma_agrees_with_a_curve_followed():
    net = small_network(3, gain=1.6)
    closed = fpa.continue_fixed_points(net, "gamma", 0.05, 1)
    followed = fpa.continue_fixed_points(None, lambda gamma: (dataclasses.replace(net, gamma=gamma), None), 0.05, 1)
    assert kinds(closed) == kinds(followed) != []
    for point, other in zip(closed.points, followed.points, strict=True):
        assert abs(point.p - other.p) <= point.error + other.error
        assert point.eigenvalue == pytest.approx(other.eigenvalue, abs=1e-8)


def test_two_neurons_that_inhibit_each_other():
    """W = -p [[0, 1], [1, 0]]: along (1, -1) a pitchfork at p = 1, along (1, 1) a flip at p = 2 / gamma - 1."""
    net = fpa.Network(W=[[0, -1], [-1, 0]], activation="tanh", gamma=0.5)
    result = fpa.continue_fixed_points(net, "scale", 0.3, 4)
    assert kinds(result) == ["pitchfork", "flip"]
    assert [point.p for point in result.points] == pytest.approx([1, 3], abs=1e-10)
    arms = result[1]
    np.testing.assert_allclose(arms.h[:, 0], -arms.h[:, 1], atol=1e-9)
    assert arms.stable.sum() == len(arms) - 1


def test_a_double_pitchfork_is_a_branch_point_at_which_all_curves_meet():
    """Two neurons that do not see each other: at p = 1, nine fixed points come out of one."""
    result = fpa.continue_fixed_points(fpa.Network(W=np.eye(2), activation="tanh"), "scale", 0.3, 2)
    (point,) = result.points
    assert point.kind == "branch point"
    assert point.p == pytest.approx(1, abs=1e-8)
    assert passages(result, 0.7) == 1
    assert passages(result, 1.5) == 9
    assert result.status.ok


def isola(p):
    """Two of three fixed points of h = tanh(w h + 0.1), w = 2 - p^2, exist while w is above its fold."""
    return fpa.Network(W=[[2 - p**2]], b=[0.1], activation="tanh"), None


def test_a_closed_branch_beside_another():
    h = brentq(lambda h: np.arctanh(h) - h / (1 - h**2) - 0.1, -0.9, -1e-5, xtol=1e-15)
    end = np.sqrt(2 - 1 / (1 - h**2))
    result = fpa.continue_fixed_points(None, isola, -1.3, 1.4)
    assert kinds(result) == ["fold", "fold"]
    assert [point.p for point in result.points] == pytest.approx([-end, end], abs=1e-8)
    assert sorted(branch.closed for branch in result) == [False, True]
    closed = next(branch for branch in result if branch.closed)
    np.testing.assert_allclose(closed.h[0], closed.h[-1], atol=1e-6)
    assert [passages(result, p) for p in (-1.2, 0.3, 1.3)] == [1, 3, 1]


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("parameter", ["scale", "input"])
def test_branches_have_every_fixed_point_found_and_index_one(form, parameter):
    """A bounded network whose branches all leave the interval has index sum 1 at every p."""
    for seed in range(2):
        net = small_network(seed, form=form)
        result = fpa.continue_fixed_points(net, parameter, 0.2, 2)
        for p in (0.37, 1.71):
            at = dataclasses.replace(net, W=p * net.W) if parameter == "scale" else net
            u = None if parameter == "scale" else [p]
            fps = fpa.find_fixed_points(at, u, prove=False)
            assert passages(result, p) % 2 == 1
            assert passages(result, p) >= len(fps)
            states = np.vstack([branch.h for branch in result])
            assert all(np.abs(states - h).max(axis=1).min() < 0.5 for h in fps.h)


def all_points(net, u):
    """Every fixed point of a small ReLU network: all 2^N patterns tried."""
    N, v, found = net.N, net.drive([u]), []
    for pattern in product((0.0, 1.0), repeat=N):
        D = np.diag(pattern)
        h = np.linalg.solve(np.eye(N) - D @ net.W, D @ v)
        if np.array_equal(net.W @ h + v > 0, np.array(pattern, bool)):
            found.append(h)
    return found


@pytest.mark.parametrize("seed", range(6))
def test_relu_branches_against_brute_force(seed):
    rng = np.random.default_rng(100 + seed)
    W = 0.9 * rng.standard_normal((5, 5)) - 0.6 * (1 - np.eye(5))
    net = fpa.Network(W=W, b=rng.standard_normal(5), W_in=rng.standard_normal((5, 1)), gamma=0.2)
    result = fpa.continue_fixed_points(net, "input", -2, 2)
    assert set(kinds(result)) <= {"border collision"}
    for p in (-1.5, -0.7, 0.11, 0.9, 1.7):
        assert passages(result, p) == len(all_points(net, p))


def test_border_collision_where_a_relu_neuron_is_born():
    """h = relu(w h + p), w > 1: for p < 0 both 0 and p / (1 - w); they meet at p = 0."""
    result = fpa.continue_fixed_points(neuron(2.0, activation="relu"), "input", -1, 1)
    (point,) = result.points
    assert point.kind == "border collision"
    assert abs(point.p) <= point.error < 1e-8
    (branch,) = result
    assert branch.ends == ("start", "start")


def test_border_collision_where_stability_jumps():
    """w = -8: stable at h = 0, and at p > 0 an eigenvalue 1 - gamma - 8 gamma < -1 that never was -1."""
    result = fpa.continue_fixed_points(neuron(-8.0, activation="relu", gamma=0.5), "input", -1, 1)
    (point,) = result.points
    assert point.kind == "border collision"
    assert abs(point.p) <= point.error < 1e-8
    assert point.eigenvalue == pytest.approx(0.5 - 4)
    calm = fpa.continue_fixed_points(neuron(-1.0, activation="relu", gamma=0.5), "input", -1, 1)
    assert calm.points == ()  # the same kink, and nothing happens


def test_a_branch_that_goes_to_infinity():
    """h = 1 / (1 - p): no fixed point beyond p = 1 on this side; the other side is a branch of its own."""
    result = fpa.continue_fixed_points(neuron(1.0, b=1.0, activation="linear"), "scale", 0.5, 1.5)
    assert {branch.ends for branch in result} <= {("start", "infinity"), ("infinity", "stop"), ("stop", "infinity")}
    assert result.status.ok


def test_permutation_of_the_neurons():
    net = small_network(2)
    order = np.random.default_rng(0).permutation(6)
    permuted = dataclasses.replace(net, W=net.W[np.ix_(order, order)], b=net.b[order], W_in=net.W_in[order])
    one, other = (fpa.continue_fixed_points(n, "scale", 0.2, 2.5) for n in (net, permuted))
    assert kinds(one) == kinds(other) != []
    for a, b in zip(one.points, other.points, strict=True):
        assert abs(a.p - b.p) <= a.error + b.error + 1e-12
        np.testing.assert_allclose(a.h[order], b.h, atol=1e-5)


def test_scale_and_input_as_functions_give_the_same():
    net = small_network(1)
    made = {
        "scale": lambda p: (dataclasses.replace(net, W=p * net.W), [0.5]),
        "input": lambda p: (net, [0.5 * p]),
    }
    for parameter, make in made.items():
        one = fpa.continue_fixed_points(net, parameter, 0.3, 2.5, u=[0.5])
        other = fpa.continue_fixed_points(None, make, 0.3, 2.5)
        assert kinds(one) == kinds(other)
        assert [p.p for p in one.points] == pytest.approx([p.p for p in other.points], abs=1e-9)


def test_direction_of_the_input():
    net = dataclasses.replace(small_network(1), W_in=np.random.default_rng(0).standard_normal((6, 2)))
    along = fpa.continue_fixed_points(net, "input", -1, 1, u=[0.2, 0.1], direction=[1.0, -1.0])
    (first, *_) = along
    for p, h in zip(first.p[::7], first.h[::7], strict=True):
        np.testing.assert_allclose(net.target(h, [0.2 + p, 0.1 - p]), h, atol=1e-9)


def test_same_seed_same_answer():
    one, other = (fpa.continue_fixed_points(small_network(4), "scale", 0.2, 2.0, rng=3) for _ in range(2))
    assert json.dumps(one.document()) == json.dumps(other.document())


def test_the_document_is_json():
    result = fpa.continue_fixed_points(neuron(2.0), "input", -1, 1, u=[1.0])
    document = json.loads(json.dumps(result.document(), allow_nan=False))
    assert document["schema"] == "fpanalysis.branches/1"
    assert document["points"][0]["kind"] == "fold"
    assert document["branches"][0]["p"] == result[0].p.tolist()
    assert document["settings"]["u"] == [1.0]
    assert "2 fold" in repr(result)


def test_a_spent_budget_is_a_status():
    result = fpa.continue_fixed_points(neuron(2.0), "input", -1, 1, steps=5)
    assert result.status is fpa.Status.CUT_SHORT
    assert "steps" in result[0].ends


def test_no_fixed_point_is_a_status():
    result = fpa.continue_fixed_points(neuron(1.0, b=1.0, activation="relu"), "input", 0.5, 2)
    assert len(result) == 0
    assert result.status is fpa.Status.NOTHING_FOUND


NET = neuron(2.0)
BLIND = fpa.Network(W=[[2.0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((NET, "bias", 0, 1), "parameter must be one of 'gamma'"),
        ((NET, 3.0, 0, 1), "parameter must be one of"),
        ((NET, "scale", 1, 1), "start must be below stop; found 1 and 1"),
        ((NET, "scale", 2, 1), "start must be below stop"),
        ((NET, "scale", np.nan, 1), "start must be finite"),
        ((NET, "scale", [0, 1], 2), "one number each"),
        ((NET, "gamma", 0, 1), r"gamma must lie in \(0, 1\]"),
        ((NET, "gamma", 0.5, 1.5), r"gamma must lie in \(0, 1\]"),
        ((BLIND, "input", 0, 1), "n_in = 0"),
        ((NET, "input", 0, 1, [1.0, 2.0]), "1 input value"),
        ((NET, "input", 0, 1, None, [1.0, 2.0]), "direction must have shape"),
        ((NET, "scale", 0, 1, None, [1.0]), "direction has a meaning"),
        ((NET, "gamma", 0.1, 1, None, [1.0]), "direction has a meaning"),
        ((np.eye(2), "scale", 0, 1), "Network or Cell; found ndarray"),
        ((NET, lambda p: (NET, None), 0, 1), "leave net, u"),
        ((None, lambda p: NET, 0, 1), "function p -> "),
        ((None, lambda p: (fpa.Network(W=np.eye(1 + (p > 0.5))), None), 0, 1), "one size"),
        ((NET, "scale", 0, 1, None, None, 0, 0), "steps must be"),
        ((NET, "scale", 0, 1, None, None, -1), "rng must be"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.continue_fixed_points(*arguments)


def test_several_inputs_need_one_to_follow():
    net = fpa.Network(W=[[0.5]], W_in=[[1.0, 2.0]])
    with pytest.raises(fpa.InputError, match="needs u"):
        fpa.continue_fixed_points(net, "input", 0, 1)


@pytest.mark.parametrize(
    ("net", "parameter", "start", "stop", "stable"),
    [
        (fpa.Network(W=[[1.0]]), "scale", 0.5, 2.0, [True, False]),
        (fpa.Network(W=[[0.5, 1.0], [1.0, 0.5]]), "scale", 0.2, 2.0, [True, False]),
        (fpa.Network(W=[[1.5, 3.0], [3.0, 1.5]]), "gamma", 0.05, 1.0, [False, False]),
    ],
)
def test_a_branch_on_kinks_is_stable_on_all_sides_or_not(net, parameter, start, stop, stable):
    """h = 0 of a ReLU network without drive: the right-hand slopes decide, and the status says what is not located."""
    branches = fpa.continue_fixed_points(net, parameter, start, stop)
    assert branches.status is fpa.Status.ON_KINKS
    assert branches[0].stable[[0, -1]].tolist() == stable
    assert branches.points == ()
