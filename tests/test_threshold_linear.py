"""The enumeration of activation patterns, against closed forms and brute force over all 2^N of them."""

import numpy as np
import pytest
from problems import clique_network, digraph_network, gaussian_relu, relu_fixed_points

import fpanalysis as fpa
from fpanalysis.fixed_points.proof import threshold_linear
from fpanalysis.fixed_points.proof._complementarity import NONE, OPEN, POINT, decide, inverse, lipschitz
from fpanalysis.fixed_points.proof._simplex import reoptimise
from fpanalysis.fixed_points.proof.threshold_linear import HAIR, HAIRS, _Search, enumerate_patterns


def assert_same_points(found, expected, tolerance=1e-9):
    assert found.shape == expected.shape
    for h in expected:
        assert np.abs(found - h).max(axis=1).min() < tolerance


def assert_complete(proof, expected):
    assert proof.why == ""
    assert proof.complete
    assert proof.covered == 1
    assert len(proof.singular) == 0
    assert_same_points(proof.h, expected)


@pytest.mark.parametrize("sizes", [[1], [5], [3, 1, 4], [8] * 4, [9, 7, 6, 5, 3], [4] * 8, [16] * 4, [20, 20, 20, 4]])
def test_unions_of_cliques(sizes):
    W, c, expected = clique_network(sizes)
    assert len(expected) == 2 ** len(sizes) - 1
    proof = enumerate_patterns(W, c)
    assert_complete(proof, expected)
    assert (proof.box[1] == np.inf).all()  # nothing excites, so that no rate exceeds c


@pytest.mark.parametrize("seed", range(6))
def test_random_directed_graphs(seed):
    W, c = digraph_network(8 + seed, seed)
    assert_complete(enumerate_patterns(W, c), relu_fixed_points(W, c))


@pytest.mark.parametrize(("N", "seed"), [(20, 3), (20, 4), (32, 0), (32, 1)])
def test_indices_sum_to_one(N, seed):
    """Too many patterns for brute force; but sign det(I - W_aa) over all points of a bounded network sums to +1.
    Some of these points come within 1e-4 of a kink."""
    W, c = digraph_network(N, seed)
    proof = enumerate_patterns(W, c)
    assert proof.complete
    assert len(proof.h) > 50
    np.testing.assert_allclose(np.maximum(proof.h @ W.T + c, 0), proof.h, rtol=0, atol=1e-12)
    assert sum(np.linalg.slogdet(np.eye(N) - (h > 0)[:, None] * W)[0] for h in proof.h) == pytest.approx(1)


@pytest.mark.parametrize("gain", [0.7, 1.0, 1.5, 2.0, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_random_dense_networks(gain, seed):
    W, c = gaussian_relu(12, gain, seed)
    assert_complete(enumerate_patterns(W, c), relu_fixed_points(W, c))


def test_degenerate_networks_lose_nothing():
    """Small whole numbers make kinks and singular patterns common: a list called complete misses nothing that brute
    force knows, and one that is not still has every point off the kinks."""
    g = np.random.default_rng(0)
    seen = {True: 0, False: 0}
    for _ in range(300):
        N = g.integers(2, 7)
        W, c = g.integers(-2, 3, (N, N)).astype(float), g.integers(-1, 2, N).astype(float)
        proof, expected = enumerate_patterns(W, c), relu_fixed_points(W, c, 1e-12)
        seen[proof.complete] += 1
        assert proof.complete == (proof.why == "") == (len(proof.singular) == 0)
        for h in expected:
            kinked = (np.abs(W @ h + c) < 1e-12).any()
            assert np.abs(proof.h - h).max(axis=1).min(initial=np.inf) < 1e-9 or (kinked and not proof.complete)
        for points, atol in ((proof.h, 1e-12), (proof.singular, 1e-5)):
            np.testing.assert_allclose(np.maximum(points @ W.T + c, 0), points, rtol=0, atol=atol)
    assert min(seen.values()) > 50


@pytest.mark.parametrize("N", [4, 64, 128])
def test_a_contracting_network_is_settled_at_the_root(N):
    W, c = gaussian_relu(N, 1.0, 0)
    W *= 0.95 / np.linalg.eigvalsh((W + W.T) / 2)[-1]
    proof = enumerate_patterns(W, c)
    assert (proof.complete, proof.nodes, len(proof.h)) == (True, 1, 1)
    np.testing.assert_allclose(np.maximum(W @ proof.h[0] + c, 0), proof.h[0], atol=1e-12)


def test_excitation_below_threshold_is_settled_at_the_root():
    """W >= 0 of spectral radius 0.5 but far from normal (I - W has no positive definite part): an M-matrix."""
    W = np.triu(np.full((8, 8), 0.5), 1) + 0.5 * np.eye(8)
    assert np.linalg.eigvalsh(W + W.T)[-1] > 2
    c = np.linspace(0.1, 1, 8)
    proof = enumerate_patterns(W, c)
    assert proof.nodes == 1
    assert proof.complete
    expected = np.linalg.solve(np.eye(8) - W, c)
    np.testing.assert_allclose(proof.h, [expected], rtol=1e-9)
    assert (proof.box[1] >= expected).all()


def test_a_pattern_that_a_singular_self_coupling_leaves_open():
    """I - W_aa is singular for neuron 3 alone (w_33 = 1), and only the linear program shows that nothing lies there."""
    W, c = np.array([[-0.25, 1, -0.25], [0.5, -0.25, -0.25], [-0.25, 0.25, 1]]), np.array([2.0, 1.0, -1.0])
    assert_complete(enumerate_patterns(W, c), relu_fixed_points(W, c))


def test_no_fixed_point_is_proven_too():
    proof = enumerate_patterns([[1.5]], [1.0])  # h = 1.5 h + 1 has no solution above zero
    assert proof.complete
    assert proof.h.shape == proof.singular.shape == (0, 1)


def test_the_origin_of_a_contracting_network_without_drive():
    """Every neuron sits on its kink, and yet the point is unique: decided, not singular."""
    proof = enumerate_patterns(0.4 * np.eye(3), np.zeros(3))
    assert_complete(proof, np.zeros((1, 3)))


@pytest.mark.parametrize(
    ("W", "c", "on_it"),
    [
        ([[1.0]], [0.0], lambda h: True),  # every h >= 0
        ([[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], lambda h: abs(h.sum() - 1) < 1e-9),  # h_1 + h_2 = 1
        ([[0.5, 0.5], [0.5, 0.5]], [0.0, 0.0], lambda h: abs(h[0] - h[1]) < 1e-9),  # h_1 = h_2
    ],
)
def test_a_line_of_fixed_points_is_never_complete(W, c, on_it):
    proof = enumerate_patterns(W, c)
    assert not proof.complete
    assert "could not be decided" in proof.why
    assert len(proof.singular)
    assert all(on_it(h) for h in proof.singular)


def test_a_point_on_a_kink_is_reported():
    """c_2 = 2 c_1: neuron 2 is exactly at threshold when neuron 1 has won; (0, 2) is an ordinary point."""
    proof = enumerate_patterns([[0.0, -2.0], [-2.0, 0.0]], [1.0, 2.0])
    assert not proof.complete
    np.testing.assert_allclose(proof.h, [[0, 2]], atol=1e-12)
    np.testing.assert_allclose(proof.singular, [[1, 0]], atol=1e-9)


def test_next_to_a_kink_points_are_told_apart():
    """The same, with neuron 2 by 1e-6 under or over its threshold: 3 points or 1."""
    for gap, count in ((-1e-6, 3), (1e-6, 1)):
        W, c = np.array([[0.0, -2.0], [-2.0, 0.0]]), np.array([1.0, 2.0 + gap])
        assert len(relu_fixed_points(W, c)) == count
        proof = enumerate_patterns(W, c)
        if proof.complete:
            assert_same_points(proof.h, relu_fixed_points(W, c))
    assert_complete(enumerate_patterns(W, [1.0, 2.001]), relu_fixed_points(W, np.array([1.0, 2.001])))


def test_a_budget_stops_it_honestly():
    W, c = gaussian_relu(32, 1.5, 0)
    full = enumerate_patterns(W, c)
    shares = []
    for nodes in (1, 10, 300, 2000):
        proof = enumerate_patterns(W, c, nodes=nodes)
        assert proof.nodes == nodes
        assert not proof.complete
        assert proof.why == f"stopped after {nodes} nodes"
        shares.append(proof.covered)
    assert 0 <= shares[0] <= shares[1] < shares[2] < shares[3] < 1
    again = enumerate_patterns(W, c, nodes=full.nodes)
    assert again.complete
    np.testing.assert_array_equal(again.h, full.h)


def test_order_and_units_do_not_matter():
    """Neurons permuted; the drive rescaled (h scales with it); each neuron measured in its own unit."""
    W, c = digraph_network(11, 3)
    expected = relu_fixed_points(W, c)
    g = np.random.default_rng(1)
    p, unit = g.permutation(11), np.exp(g.normal(size=11))
    assert_same_points(enumerate_patterns(W[np.ix_(p, p)], c[p]).h, expected[:, p])
    for scale in (1e-9, 3.7, 1e9):
        proof = enumerate_patterns(W, scale * c)
        assert proof.complete
        assert_same_points(proof.h / scale, expected)
    assert_complete(enumerate_patterns(unit[:, None] * W / unit, unit * c), unit * expected)


def test_no_multipliers_refute_a_true_point():
    """lambda^T (y - M h + c) is zero at a solution, whatever lambda; also where it is so by whole numbers, exactly."""
    g = np.random.default_rng(0)
    for N in (2, 5, 30):
        M = np.eye(N) - g.integers(-3, 4, (N, N))
        h = g.integers(0, 3, N) * g.integers(0, 2, N)
        y = np.where(h > 0, 0, g.integers(0, 3, N))
        search = _Search(M, (M @ h - y).astype(float), np.full(N, 5.0))
        lam = np.vstack([g.standard_normal((4000, N)), g.integers(-1, 2, (4000, N)) / 3, np.linalg.inv(M + 0.1)])
        true = np.where(h > 0, 1, -1)
        state = np.where(g.random(lam.shape) < 0.6, true, 0).astype(np.int8)
        assert not search._refuted(lam, state).any()
    falls = _Search(np.eye(1), np.array([-1e-7]), np.ones(1))  # active: h = -1e-7, less than any hair
    assert falls._refuted(np.ones((1, 1)), np.array([[1]], np.int8)).all()
    assert not falls._refuted(np.ones((1, 1)), np.array([[0]], np.int8)).any()


def test_wrong_linear_programs_cost_time_but_no_points(monkeypatch):
    """Whatever the simplex claims, nodes are closed on verified grounds: here it calls each infeasible, by some row."""
    g = np.random.default_rng(0)

    def claims(D, fixed, tolerance, pivots):
        reoptimise(D, fixed, tolerance, int(g.integers(1, 4)))
        return g.integers(0, fixed.shape[1] // 2, len(D))

    networks = [gaussian_relu(9, 1.5, 2), digraph_network(9, 2), clique_network([3, 3, 3])[:2]]
    honest = sum(enumerate_patterns(W, c).nodes for W, c in networks)
    monkeypatch.setattr(threshold_linear, "reoptimise", claims)
    proofs = [enumerate_patterns(W, c) for W, c in networks]
    for proof, (W, c) in zip(proofs, networks, strict=True):
        assert_complete(proof, relu_fixed_points(W, c))
    assert sum(proof.nodes for proof in proofs) > honest


def test_decide_at_a_complete_pattern():
    M, hair = np.array([[1.0, 2.0], [2.0, 1.0]]), (HAIR, HAIR * HAIRS)

    def verdict(c, *state):
        return decide(M, np.array(c), np.array(state, np.int8), hair, np.zeros(2))[0]

    assert [verdict([1.0, 1.0], *s) for s in ((1, -1), (1, 1), (-1, -1))] == [POINT, POINT, NONE]
    assert verdict([1.0, 2.0], 1, -1) == OPEN  # neuron 2 on its kink
    assert verdict([1.0, 2.0], 0, 0) == OPEN  # M is no P-matrix
    assert verdict([1.0, 2.0], -1, 0) == POINT


def test_bounds_of_inverse_and_solution_map():
    g = np.random.default_rng(0)
    for N in (1, 3, 30):
        K = g.standard_normal((N, N))
        exact = 1 / np.linalg.svd(K)[1][-1]
        assert exact <= inverse(K)[1] <= 2 * np.sqrt(N) * exact
        K[:, 0] = K[:, 1:].sum(1) if N > 1 else 0.0
        assert inverse(K)[1] > 1e12  # singular up to rounding
    skew = np.array([[1.0, 50.0], [-50.0, 1.0]])
    assert 1 <= lipschitz(skew, 0.0) <= 2.001
    assert lipschitz(skew, 0.6) == np.inf  # half the least eigenvalue is the margin it takes
    assert lipschitz(np.array([[1.0, 2.0], [2.0, 1.0]]), 0.0) == np.inf
    triangular = np.array([[1.0, -9.0], [0.0, 1.0]])
    assert 9 <= lipschitz(triangular, 1e-12) < np.inf
    assert lipschitz(triangular, 0.2) == np.inf


@pytest.mark.parametrize(
    ("W", "c", "message"),
    [
        (np.ones((2, 3)), [1.0, 1.0], "square"),
        ([[np.nan]], [1.0], "finite"),
        ([[0.5]], [1.0, 2.0], "c must have shape"),
        ([[0.5]], [np.inf], "finite"),
    ],
)
def test_bad_input(W, c, message):
    with pytest.raises(fpa.InputError, match=message):
        enumerate_patterns(W, c)
