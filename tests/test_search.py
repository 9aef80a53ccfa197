"""The search: reduced and full equations agree, known lists are found whole, degenerate points stay few."""

import numpy as np
import pytest
from problems import (
    clique_network,
    digraph_network,
    hopfield_network,
    low_rank_network,
    relu_fixed_points,
    ring_network,
)

import fpanalysis as fpa
from fpanalysis.fixed_points.equation import Full, Reduced, smallest
from fpanalysis.fixed_points.newton import newton, roam, zeros
from fpanalysis.fixed_points.search import Search
from fpanalysis.fixed_points.search.points import Points

RNG = np.random.default_rng


def search(net, seed=0, u=None):
    done = Search(net, net.check_condition(u), RNG(seed))
    done.run()
    return done


def sorted_rows(h):
    return h[np.lexsort(np.round(h, 9).T)]


@pytest.mark.parametrize("settings", [{}, {"form": "current"}, {"activation": "softplus"}])
def test_the_reduced_equation_is_the_full_one(settings):
    """Same zeros, and sign det(I - V^T D U) = sign det(I - D U V^T) (Sylvester)."""
    net = low_rank_network(20, 2, gain=3.0, **settings)
    u = np.zeros(0)
    reduced, full = smallest(net, u), Full(net, u)
    assert isinstance(reduced, Reduced)
    assert reduced.dim == 2
    h = 3 * RNG(1).standard_normal((40, 20))
    x = net.W @ (h if net.form == "rate" else net.activation.f(h)).T + net.drive(u)[:, None]
    np.testing.assert_allclose(reduced.U @ reduced.coordinates(h).T + net.drive(u)[:, None], x, atol=1e-12)
    points = search(net).points.h
    z = reduced.coordinates(points)
    np.testing.assert_allclose(reduced.gap(z), 0, atol=1e-11)
    np.testing.assert_allclose(reduced.state(z), points, atol=1e-11)
    np.testing.assert_allclose(np.linalg.det(reduced.slope(z)), np.linalg.det(full.slope(points)), rtol=1e-9)


@pytest.mark.parametrize("equation", [Full, smallest])
def test_the_slope_is_the_derivative(equation):
    net = low_rank_network(12, 3, gain=2.0)
    G = equation(net, np.zeros(0))
    z = RNG(0).standard_normal((2, G.dim))
    step = 1e-6 * np.eye(G.dim)
    numeric = np.stack([(G.gap(z - e) - G.gap(z + e)) / 2e-6 for e in step], axis=-1)
    np.testing.assert_allclose(G.slope(z), numeric, atol=1e-8)


def test_full_rank_is_not_reduced():
    assert isinstance(smallest(fpa.Network(W=np.eye(6)), np.zeros(0)), Full)


@pytest.mark.parametrize("seed", range(3))
def test_unions_of_cliques(seed):
    W, c, expected = clique_network([6] * 5)
    found = search(fpa.Network(W=W, b=c), seed).points.h
    assert len(found) == len(expected) == 31
    np.testing.assert_allclose(sorted_rows(found), sorted_rows(expected), atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_threshold_linear_networks_on_graphs(seed):
    W, c = digraph_network(12, seed)
    found, expected = search(fpa.Network(W=W, b=c)).points.h, relu_fixed_points(W, c)
    assert len(found) == len(expected)
    np.testing.assert_allclose(sorted_rows(found), sorted_rows(expected), atol=1e-12)


@pytest.mark.parametrize(("patterns", "count"), [(1, 3), (2, 9), (3, 51), (4, 273)])
def test_hopfield_networks(patterns, count):
    """The counts are those that the interval proof gives (test_intervals.py)."""
    done = search(hopfield_network(patterns))
    assert len(done.points) == count
    assert done.dry
    assert not done.missing


@pytest.mark.parametrize("seed", range(4))
def test_low_rank_networks_against_their_proof(seed):
    net = low_rank_network(64, 3, gain=3.0, seed=seed)
    points = fpa.find_fixed_points(net)
    assert points.completeness == "proven"
    assert len(search(net).points) == len(points) == len(points.proof.h)


def test_the_flip_flop_has_its_27():
    net = fpa.load("examples/networks/flip_flop_tanh.pt")
    for seed in range(3):
        points = fpa.find_fixed_points(net, rng=seed)
        assert len(points) == 27
        assert np.bincount(points.n_unstable).tolist() == [8, 12, 6, 1]
        assert points.certified.all()
        assert points.completeness == "consistent"


def test_a_missing_point_fails_the_audit():
    done = search(hopfield_network(2))
    assert not done.missing
    done.points.h, done.points.index = done.points.h[1:], done.points.index[1:]
    assert done.missing


def test_a_line_of_points_is_cut_short():
    """h_1 = h_1, h_2 = h_2 / 2: every start ends somewhere else; what is kept is bounded, and singular."""
    done = search(fpa.Network(W=np.diag([1.0, 0.5]), activation="linear"))
    assert 1 < len(done.points) <= 100
    assert (done.points.index == 0).all()
    assert not done.missing
    assert done.rounds < 20


def test_a_fold_is_one_point():
    """tanh(w h + b) - h has a double root where w (1 - h^2) = 1: Newton ends all about it, to about 1e-6."""
    w = 2.0
    h = np.sqrt(1 - 1 / w)
    net = fpa.Network(W=[[w]], b=[np.arctanh(h) - w * h], activation="tanh")
    points = fpa.find_fixed_points(net)
    assert len(points) == 2
    fold = int(np.argmin(np.abs(points.h[:, 0] - h)))
    assert abs(points.h[fold, 0] - h) < 1e-5
    assert points.singular[fold]
    assert not points.singular[1 - fold]
    assert points.completeness == "unknown"


def test_nearby_points_are_kept_apart():
    """Just above its critical gain tanh has three roots, 0 and +-sqrt(3 (w - 1)) to leading order."""
    w = 1 + 1e-3
    points = fpa.find_fixed_points(fpa.Network(W=[[w]], activation="tanh"))
    assert len(points) == 3
    np.testing.assert_allclose(np.sort(points.h[:, 0]), np.sqrt(3e-3) * np.array([-1, 0, 1]), rtol=2e-3, atol=1e-12)


def test_points_know_their_own():
    net = hopfield_network(2, N=16)
    done = search(net)
    found = done.points
    again = found.unknown(np.repeat(found.h, 2, axis=0) + 1e-10, 1e-7)
    assert len(again) == 0
    assert len(found.unknown(found.h + 1e-3, 1e-7)) == len(found)
    assert len(found.unknown(np.repeat(found.h + 1e-3, 3, axis=0), 1e-7)) == len(found)
    empty = Points(found.equation, net.N)
    assert len(empty.unknown(np.repeat(found.h, 3, axis=0), 1e-7)) == len(found)
    assert found.arriving(0.1)(found.z + 1e-6).all()
    assert not found.arriving(0.1)(0.7 * found.z[:1] + 0.3 * found.z[1:2]).any()


def test_roaming_ends_at_zeros_only():
    net = fpa.Network(W=2.5 * RNG(0).standard_normal((30, 30)) / np.sqrt(30), activation="tanh")
    G = Full(net, np.zeros(0))
    starts = RNG(1).standard_normal((64, 30))
    ended = roam(G, starts, 1.0, lambda z: np.zeros(len(z), bool))
    assert (np.abs(G.gap(ended)).max(axis=1) <= 1e-12 * (1 + np.abs(ended).max(axis=1))).all()
    settled, residual = zeros(G, starts)
    assert len(ended) > (residual < 1e-12).sum()
    assert np.isfinite(settled).all()


def test_singular_rows_do_not_spoil_the_others():
    """One start where I - dF/dh is exactly singular, one where it is not finite, one ordinary."""
    net = fpa.Network(W=[[1.0, 0.0], [0.0, -1.0]], b=[0.0, 1.0])
    h, residual = newton(net, np.array([[3.0, 0.2], [np.nan, 0.0], [-2.0, 0.1]]), np.zeros(0))
    assert residual[0] < 1e-12
    np.testing.assert_allclose(h[0], [3.0, 0.5])
    assert np.isnan(residual[1])
    np.testing.assert_allclose(h[2], [0.0, 0.5], atol=1e-12)


def test_the_proof_may_be_refused_asked_for_or_impossible():
    net = hopfield_network(2, N=16)
    assert fpa.find_fixed_points(net, prove=False).proof is None
    assert fpa.find_fixed_points(net, prove=True).completeness == "proven"
    dense = fpa.Network(W=RNG(0).standard_normal((16, 16)), activation="tanh")
    assert fpa.find_fixed_points(dense).proof is None
    with pytest.raises(fpa.InputError, match="at most 10 neurons"):
        fpa.find_fixed_points(dense, prove=True)
    with pytest.raises(fpa.InputError, match="prove must be"):
        fpa.find_fixed_points(net, prove="yes")


def test_relu_proofs_in_the_current_form():
    W, c, expected = clique_network([3, 2, 2])
    points = fpa.find_fixed_points(fpa.Network(W=W, b=c, form="current"))
    assert points.completeness == "proven"
    np.testing.assert_allclose(sorted_rows(np.maximum(points.h, 0)), sorted_rows(expected), atol=1e-12)


def test_a_closed_gate_is_no_fixed_point():
    """An update gate near 1 makes F(h) - h underflow far outside [-1, 1], where no fixed point can be."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    gru = torch.nn.GRU(1, 3)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter *= 4
    points = fpa.find_fixed_points(fpa.models.from_torch(gru))
    assert (np.abs(points.h) <= 1).all()
    assert points.certified.all()


def test_a_ring_of_points_is_singular_throughout():
    """Its Jacobians are singular to the last digits: a zero pivot in one of them must not hide the others."""
    points = fpa.find_fixed_points(ring_network(), prove=False)
    on_the_ring = np.linalg.norm(points.h, axis=1) > 1
    assert on_the_ring.sum() > 50
    assert points.singular[on_the_ring].all()
    assert points.completeness == "unknown"


@pytest.mark.parametrize("unit", [1e-12, 1e-8, 1.0, 1e8])
def test_relu_networks_know_no_unit(unit):
    """h = relu(W h + c) scales with c: the list must not depend on whether c is in A or nA."""
    W, c, expected = clique_network([2, 3, 1])
    points = fpa.find_fixed_points(fpa.Network(W=W, b=unit * c))
    assert points.completeness == "proven"
    assert fpa.find_fixed_points(fpa.Network(W=W, b=unit * c), prove=False).completeness == "consistent"
    np.testing.assert_allclose(sorted_rows(points.h / unit), sorted_rows(expected), atol=1e-9)
    assert points.certified.all()


def test_no_fixed_point_is_invented_at_a_small_scale():
    """w > 1 and b > 0: h = w h + b has a negative solution only, whatever the size of b."""
    for w, b in ((2.56, 1.2e-12), (1 + 1e-8, 1e-13)):
        assert len(fpa.find_fixed_points(fpa.Network(W=[[w]], b=[b]), prove=False)) == 0


def test_one_nearly_singular_point_is_one():
    """1 - w = 1e-9: residuals below the tolerance reach far about the fixed point h = b / (1 - w)."""
    net = fpa.Network(W=[[1 - 1e-9]], b=[1e-9], activation="tanh")
    points = fpa.find_fixed_points(net)
    assert len(points) == 1
    assert points.completeness == "proven"


@pytest.mark.parametrize("excess", [1e-4, 1e-6, 1e-8])
def test_certified_points_have_an_index_however_close(excess):
    points = fpa.find_fixed_points(fpa.Network(W=[[1 + excess]], activation="tanh"))
    assert np.sort(points.index).tolist() == [-1, 1, 1]
    assert points.completeness == "proven"
    np.testing.assert_allclose(
        np.sort(points.h[:, 0]), np.sqrt(3 * excess) * np.array([-1, 0, 1]), rtol=1e-2, atol=1e-9
    )


@pytest.mark.parametrize("seed", [1, 4])
def test_symmetric_networks_have_the_same_points_from_every_seed(seed):
    A = 1.5 * RNG(seed).standard_normal((32, 32)) / np.sqrt(32)
    net = fpa.Network(W=(A + A.T) / np.sqrt(2), activation="tanh")
    first, second = (fpa.find_fixed_points(net, rng=rng) for rng in (0, 1))
    assert len(first) == len(second) == {1: 329, 4: 91}[seed]
    np.testing.assert_allclose(sorted_rows(first.h), sorted_rows(-first.h), atol=1e-8)


def test_a_list_that_lacks_what_the_proof_encloses_is_incomplete():
    """One neuron fires at 1e7, two others at 1: their difference is below what Newton resolves at that size."""
    points = fpa.find_fixed_points(fpa.Network(W=[[0, -2.0, 0], [-2.0, 0, 0], [0, 0, 0]], b=[1.0, 1.0, 1e7]))
    assert len(points.proof.h) == 3
    assert points.completeness == ("proven" if len(points) == 3 else "incomplete")


def test_thousands_of_points_end_the_search():
    done = search(fpa.Network(W=2 * np.eye(7), activation="tanh"))
    assert len(done.points) > 2000
    assert not done.dry


@pytest.mark.parametrize("unit", [1e-14, 1.0, 1e10])
def test_stability_knows_no_unit(unit):
    """What sits on a kink is measured against the drive: at 1e-14 no pre-activation is large, at 1e10 none is small."""
    net = fpa.Network(W=[[0, -2.0], [-2.0, 0]], b=[unit, unit])
    points = fpa.find_fixed_points(net)
    assert points.stable.tolist() == [False, True, True]
    assert not points.singular.any()
    edge = fpa.Network(W=[[0, 2.0], [0, 0]], b=[-2 * unit, unit])  # the first neuron rests exactly on its kink
    assert fpa.find_fixed_points(edge).singular.tolist() == [True]


def test_a_fold_does_not_keep_the_search_from_ending():
    """Newton ends all about a singular point, each time at another state."""
    h = np.sqrt(0.5)
    done = search(fpa.Network(W=np.diag([2.0, 0.5, 0.5]), b=[np.arctanh(h) - 2 * h, 0.1, 0.0], activation="tanh"))
    assert done.rounds < 20
    assert (done.points.index == 0).sum() == 1
