"""The interval proof: enclosures against multiprecision, counts against brute force, honest stops."""

from __future__ import annotations

from itertools import permutations, product
from math import comb

import mpmath as mp
import numpy as np
import pytest
from problems import hopfield_network, hopfield_patterns, low_rank_network, ring_network, winner_take_all
from scipy.optimize import brentq

import fpanalysis as fpa
from fpanalysis.activations import Activation, LeakyReLU
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.proof import _enclosure as enclosure
from fpanalysis.fixed_points.proof import intervals
from fpanalysis.fixed_points.proof.intervals import applicable, branch_and_prune

MP = {"tanh": mp.tanh, "sigmoid": lambda x: 1 / (1 + mp.exp(-x)), "softplus": lambda x: mp.log1p(mp.exp(x))}


def dense_network(N, gain, seed, **settings):
    g = np.random.default_rng(seed)
    settings = {"b": 0.2 * g.standard_normal(N), "activation": "tanh"} | settings
    return fpa.Network(W=gain * g.standard_normal((N, N)) / np.sqrt(N), **settings)


def distinct(h):
    found = np.empty((0, h.shape[1]))
    for point in h:
        if not (np.abs(found - point).max(axis=1, initial=0) < 1e-7).any():
            found = np.vstack([found, point])
    return found


def multistart(net, count, seed=0):
    """Zeros that Newton finds from many starts x = U k + drive over all scales."""
    g = np.random.default_rng(seed)
    left, values, _ = np.linalg.svd(net.W)
    rank = int((values > 1e-8 * values[0]).sum())
    x = np.exp(g.uniform(-3, 1, (count, 1))) * g.standard_normal((count, rank)) @ left[:, :rank].T * np.sqrt(net.N)
    x = x + net.drive()
    h, residual = newton(net, net.activation.f(x) if net.form == "rate" else x, np.zeros(0))
    return distinct(h[residual <= bound(h)])


def assert_same_points(found, expected, atol=1e-9):
    assert len(found) == len(expected)
    for point in expected:
        assert np.abs(found - point).max(axis=1).min() < atol


def index_sum(net, h):
    return round(np.linalg.slogdet(np.eye(net.N) - net.target_jacobian(h))[0].sum())


# the enclosures, against multiprecision


def reduced(net):
    u = np.zeros(net.n_in)
    return intervals._reduce(net, u, intervals._region(net, u))


def exact_gap(net, P, kappa):
    """G(kappa) in multiprecision, by iterating x = U kappa + c + E f(x) with the exact E = W - U V^T."""
    f, U, V, W = MP[net.activation.name], *(mp.matrix(A.tolist()) for A in (P.U, P.V, net.W))
    x = base = U * kappa + mp.matrix(P.c.tolist())
    E = W - U * V.T
    for _ in range(12):
        x = base + E * x.apply(f)
    return V.T * x.apply(f) - kappa


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "softplus"])
@pytest.mark.parametrize("noisy", [False, True])
def test_linear_equations_enclose(activation, noisy):
    """G(m + k) = q - (I - S) k + V^T eta at corners, edges and inner points of boxes 1e-13 to 10 wide."""
    net = low_rank_network(7, 2, gain=2.0, activation=activation)
    if noisy:
        net = fpa.Network(W=np.asarray(net.W, np.float32), b=net.b, activation=activation)
    P, _, _ = reduced(net)
    assert P.U.shape == (7, 2)
    g = np.random.default_rng(3)
    mid = P.reach / 2 * g.uniform(-1, 1, (24, 2))
    rad = 10 ** g.uniform(-13, 1, (24, 2)) * P.reach / 4
    L = enclosure.linearise(P, mid, rad)
    with mp.workdps(50):
        for i, t in product(range(24), [*product((-1, 1), repeat=2), (1, 0.25), (-0.5, -1)]):
            k = mp.matrix([mp.mpf(r) * s for r, s in zip(rad[i], t, strict=True)])
            gap = exact_gap(net, P, mp.matrix(mid[i].tolist()) + k)
            claim = mp.matrix(L.q[i].tolist()) - (mp.eye(2) - mp.matrix(L.S[i].tolist())) * k
            allowed = mp.matrix((L.spread[i] + L.dq[i]).tolist()) + mp.matrix(L.dS[i].tolist()) * k.apply(abs)
            assert all(abs(gap[j] - claim[j]) <= allowed[j] for j in range(2))


def exact_zero(net, P, start):
    def gap(*kappa):
        return list(exact_gap(net, P, mp.matrix(kappa)))

    return mp.findroot(gap, [mp.mpf(float(v)) for v in start], tol=1e-60)


@pytest.mark.parametrize("activation", ["tanh", "softplus"])
def test_no_image_loses_a_zero(activation):
    """Boxes with a zero at a corner, on an edge or inside: every image keeps it, down to its last digit."""
    net = low_rank_network(6, 2, gain=1.5, activation=activation, seed=1)
    P, lo, hi = reduced(net)
    zeros = intervals._run(P, lo, hi, 10_000).zeros
    assert zeros
    g = np.random.default_rng(4)
    with mp.workdps(50):
        for zero in zeros:
            kappa = exact_zero(net, P, zero.k)
            assert all(abs(kappa[j] - mp.mpf(zero.k[j])) <= zero.radius[j] for j in range(2))
            near = np.array([float(v) for v in kappa])
            for corner in ((1, 1), (-1, 1), (1, 0), (0.3, -1)):
                rad = 10 ** g.uniform(-12, 0, (8, 2))
                mid = near - rad * corner
                hold = [
                    all(abs(kappa[j] - mp.mpf(m[j])) <= r[j] for j in range(2)) for m, r in zip(mid, rad, strict=True)
                ]
                mid, rad = mid[hold], rad[hold]
                L = enclosure.linearise(P, mid, rad)
                assert not enclosure.refutes(L).any()
                for centre, radius in (enclosure.plain_image(L), enclosure.newton_image(P, L)[:2]):
                    for m, c, r in zip(mid, centre, radius, strict=True):
                        assert all(abs(kappa[j] - mp.mpf(m[j]) - mp.mpf(c[j])) <= r[j] for j in range(2))


def test_a_zero_in_the_corner_of_all_boxes_is_one():
    """The region divided at the zero itself: each of the 2^r boxes must account for it."""
    net = low_rank_network(20, 3, gain=2.0, b=np.zeros(20))
    P, lo, hi = reduced(net)
    cut = np.zeros(3)  # the network is odd
    search = intervals.Search(lo[None], hi[None])
    zeros = []
    for sides in product((0, 1), repeat=3):
        side = np.array(sides, bool)
        part = intervals._run(P, np.where(side, cut, lo), np.where(side, hi, cut), 20_000)
        assert not len(part.lo)
        assert not part.small
        assert any((np.abs(zero.k) <= zero.radius).all() for zero in part.zeros)
        zeros += part.zeros
    found, doubtful = intervals._distinct(zeros)
    assert not doubtful
    whole, _ = intervals._distinct(intervals._run(P, search.lo[0], search.hi[0], 20_000).zeros)
    assert len(found) == len(whole)


# counts, against other means


def roots(F, lo, hi, count=40_001):
    """Sign changes of F(h) - h on a fine grid, refined."""
    grid = np.linspace(lo, hi, count)
    gap = F(grid) - grid
    ends = np.flatnonzero(gap[:-1] * gap[1:] < 0)
    return np.array([brentq(lambda h: F(h) - h, grid[i], grid[i + 1], xtol=1e-14) for i in ends])


@pytest.mark.parametrize("activation", ["tanh", "sigmoid", "erf", "softplus"])
@pytest.mark.parametrize(("w", "b"), [(-5.0, 0.3), (0.7, 0.1), (4.7, 0.0123), (6.0, -3.1), (8.0, -4.3)])
def test_one_neuron(activation, w, b):
    w = min(w, 0.9) if activation == "softplus" else w
    net = fpa.Network(W=[[w]], b=[b], activation=activation)
    proof = branch_and_prune(net)
    assert proof.complete
    expected = roots(lambda h: net.activation.f(w * h + b), -1.1, 30.0)
    np.testing.assert_allclose(np.sort(proof.h[:, 0]), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("seed", range(4))
def test_two_neurons(form, seed):
    """w_22 = 0 makes it one equation in h_1."""
    W = np.random.default_rng(seed).normal(0, 4, (2, 2))
    W[1, 1], W[0, 0] = 0, 3 + seed
    b = np.array([0.1, -0.2])
    net = fpa.Network(W=W, b=b, activation="tanh", form=form)
    proof = branch_and_prune(net)
    assert proof.complete
    expected = roots(lambda h: np.tanh(W[0, 0] * h + W[0, 1] * np.tanh(W[1, 0] * h + b[1]) + b[0]), -1, 1)
    first = proof.h[:, 0] if form == "rate" else np.tanh(proof.h[:, 0])
    np.testing.assert_allclose(np.sort(first), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("N", "rank", "gain", "overlap", "settings"),
    [
        (64, 3, 4.0, 1.0, {}),
        (64, 3, 4.0, 0.7, {"form": "current"}),
        (64, 3, 12.0, 1.0, {"activation": "sigmoid"}),
        (64, 3, 4.0, 1.0, {"activation": "erf"}),
        (48, 2, 6.0, 1.0, {"b": None}),
        (128, 4, 2.5, 1.0, {}),
    ],
)
def test_low_rank(N, rank, gain, overlap, settings):
    """Newton from many starts finds the same points, and their indices sum to one."""
    net = low_rank_network(N, rank, gain=gain, overlap=overlap, **settings)
    proof = branch_and_prune(net)
    assert proof.complete
    assert proof.covered == 1
    assert not len(proof.singular)
    assert np.isinf(proof.box).all()
    np.testing.assert_allclose(net.target(proof.h), proof.h, rtol=0, atol=1e-9 * (1 + np.abs(proof.h).max()))
    assert_same_points(proof.h, multistart(net, 300))
    assert index_sum(net, proof.h) == 1


@pytest.mark.parametrize(("patterns", "count"), [(1, 3), (2, 9), (3, 51), (4, 273)])
def test_hopfield(patterns, count):
    """Against Newton in kappa over the 2^p kinds of neurons, from starts all over the cube."""
    proof = branch_and_prune(hopfield_network(patterns))
    assert proof.complete
    xi = hopfield_patterns(patterns, 2**patterns)
    kappa = np.random.default_rng(0).uniform(-1, 1, (5 * count, patterns))
    kappa[0] = 0
    for _ in range(60):
        t = np.tanh(2 * kappa @ xi)
        J = 2 / 2**patterns * np.einsum("an,kn,bn->kab", xi, 1 - t**2, xi) - np.eye(patterns)
        kappa = kappa - np.linalg.solve(J, (t @ xi.T / 2**patterns - kappa)[..., None])[..., 0]
    residual = np.abs(np.tanh(2 * kappa @ xi) @ xi.T / 2**patterns - kappa).max(axis=1)
    rare = distinct(kappa[residual < 1e-13])  # with what follows by exchanging patterns and by changing their signs
    orders = [rare[:, order] for order in permutations(range(patterns))]
    expected = distinct(np.vstack([signs * points for points in orders for signs in product((-1, 1), repeat=patterns)]))
    assert len(expected) == count
    assert_same_points(proof.h @ hopfield_patterns(patterns).T / 64, expected)


@pytest.mark.parametrize(("excitation", "inhibition"), [(0.6, 0.5), (0.8, 1.0), (0.9, 0.5), (0.95, 0.3)])
def test_winner_take_all(excitation, inhibition):
    """By symmetry h_i = f((s + w) h_i - w S + b) with S = sum h: convex, so two values; k units take the upper one."""
    N, b, both = 6, 1.0, excitation + inhibition

    def values(S):  # the minimum of f(both h - w S + b) - h parts them
        least = (inhibition * S - b - np.log(both - 1)) / both
        gap = lambda h: np.logaddexp(0, both * h - inhibition * S + b) - h  # noqa: E731
        if gap(least) > 0:
            return None
        return brentq(gap, -1, least, xtol=1e-14), brentq(gap, least, least + 1e3, xtol=1e-14)

    count = 0
    for k in range(N + 1):
        grid = np.linspace(0, 40, 4001)
        both_values = [values(S) for S in grid]
        gaps = np.array(
            [np.nan if v is None else k * v[1] + (N - k) * v[0] - S for v, S in zip(both_values, grid, strict=True)]
        )
        count += comb(N, k) * int(np.nansum(gaps[:-1] * gaps[1:] < 0))
    net = winner_take_all(N, excitation=excitation, inhibition=inhibition)
    proof = branch_and_prune(net)
    assert proof.complete
    assert np.isinf(proof.box).all()
    assert len(proof.h) == count
    np.testing.assert_allclose(net.target(proof.h), proof.h, rtol=0, atol=1e-10)


@pytest.mark.parametrize("N", [4, 6, 8])
@pytest.mark.parametrize("gain", [1.5, 3.0])
@pytest.mark.parametrize("form", ["rate", "current"])
def test_dense(N, gain, form):
    net = dense_network(N, gain, seed=N, form=form)
    proof = branch_and_prune(net)
    assert proof.complete
    assert_same_points(proof.h, multistart(net, 100))
    assert index_sum(net, proof.h) == 1


@pytest.mark.parametrize("activation", ["relu", LeakyReLU(0.1), LeakyReLU(-0.5), LeakyReLU(2.0)], ids=repr)
@pytest.mark.parametrize("seed", [0, 1, 3])
def test_piecewise_linear_by_all_patterns(activation, seed):
    """None to four points, each from one pattern of active neurons."""
    net = dense_network(6, 2.0, seed, activation=activation)
    proof = branch_and_prune(net)
    assert proof.complete
    low = activation.slope if isinstance(activation, LeakyReLU) else 0.0
    expected = []
    for active in product((0, 1), repeat=6):
        D = np.where(active, 1.0, low)
        h = np.linalg.solve(np.eye(6) - D[:, None] * net.W, D * net.b)
        if ((net.W @ h + net.b > 0) == np.array(active, bool)).all():
            expected.append(h)
    assert_same_points(proof.h, np.array(expected).reshape(-1, 6))


def test_a_remainder_is_enclosed():
    """Single-precision weights of rank 3 have rank 64: the rest is enclosed, and points found are near."""
    exact = low_rank_network(64, 3, gain=4.0)
    net = fpa.Network(W=np.asarray(exact.W, np.float32), b=exact.b, activation="tanh")
    assert np.linalg.matrix_rank(net.W) > 8
    proof = branch_and_prune(net)
    assert proof.complete
    assert_same_points(proof.h, multistart(net, 300), atol=1e-5)


def test_a_box_far_from_zero():
    net = low_rank_network(32, 2, gain=2.0, b=np.full(32, 40.0))
    proof = branch_and_prune(net)
    assert proof.complete
    np.testing.assert_allclose(proof.h, np.ones((1, 32)), atol=1e-12)


def test_no_coupling():
    proof = branch_and_prune(fpa.Network(W=np.zeros((20, 20)), b=np.arange(20.0), activation="tanh"))
    assert proof.complete
    np.testing.assert_allclose(proof.h, [np.tanh(np.arange(20.0))], rtol=0, atol=1e-15)


# unbounded networks


def test_a_bound_is_proven_where_the_loop_gain_is_below_one():
    """Inhibition counts for nothing with rates >= 0, and for its size with rates of both signs."""
    W = [[0.5, -3.0], [-3.0, 0.5]]
    for activation in ("softplus", "relu"):
        assert np.isinf(branch_and_prune(fpa.Network(W=W, b=[1.0, 1.0], activation=activation)).box).all()
    for activation in ("linear", LeakyReLU(-0.1)):
        assert np.isfinite(branch_and_prune(fpa.Network(W=W, b=[1.0, 1.0], activation=activation)).box).all()


def test_elsewhere_the_box_is_stated():
    proof = branch_and_prune(fpa.Network(W=[[2.0]], b=[-1.0]))
    assert proof.complete
    np.testing.assert_allclose(np.sort(proof.h[:, 0]), [0, 1], atol=1e-12)
    np.testing.assert_allclose(proof.box[:, 0], [0, 2000], atol=1e-12)
    nowhere = branch_and_prune(fpa.Network(W=[[1.0]], b=[1.0]))
    assert nowhere.complete
    assert nowhere.h.shape == (0, 1)
    current = branch_and_prune(fpa.Network(W=[[2.0]], b=[-1.0], form="current"))
    np.testing.assert_allclose(np.sort(current.h[:, 0]), [-1, 1], atol=1e-12)
    np.testing.assert_allclose(current.box[:, 0], [-2000, 2000])


# honest stops


def test_an_exactly_singular_box_among_others():
    """W = 1 in one direction of a linear network: I - S cannot be inverted, in any box, and none may be dropped."""
    proof = branch_and_prune(fpa.Network(W=[[1.0, 0], [0, 0.5]], b=[0.0, 1.0], activation="linear"))
    assert not proof.complete
    assert len(proof.singular) > 0
    np.testing.assert_allclose(proof.singular[:, 1], 2.0, atol=1e-3)


@pytest.mark.parametrize("w", [1.0, 1 + 1e-13])
def test_a_pitchfork_is_not_decided(w):
    proof = branch_and_prune(fpa.Network(W=[[w]], activation="tanh"))
    assert not proof.complete
    assert len(proof.singular) == 1
    assert abs(proof.singular[0, 0]) < 1e-4
    assert 0.99 < proof.covered < 1
    assert "singular" in proof.why


@pytest.mark.parametrize(("w", "count"), [(1 - 1e-8, 1), (1 + 1e-6, 3)])
def test_next_to_a_pitchfork_it_is(w, count):
    proof = branch_and_prune(fpa.Network(W=[[w]], activation="tanh"))
    assert proof.complete
    assert len(proof.h) == count


def test_a_critical_direction_among_others():
    """The origin singular, the rest of the region decided and its points found."""
    W = low_rank_network(64, 3, gain=4.0).W
    rates = np.sort(np.linalg.eigvals(W).real)
    proof = branch_and_prune(fpa.Network(W=W / rates[-2], activation="tanh"))
    assert not proof.complete
    assert len(proof.h) == 2
    assert np.abs(proof.singular).max() < 1e-3


@pytest.mark.parametrize(
    "net", [ring_network(), fpa.Network(W=np.eye(3), activation="linear"), fpa.Network(W=[[1.0]], b=[0.0])], ids=str
)
def test_a_continuum_stops_early(net):
    proof = branch_and_prune(net)
    assert not proof.complete
    assert proof.nodes < 30_000
    assert "not isolated" in proof.why
    assert 0 < len(proof.singular) <= intervals.UNDECIDED + intervals.BATCH
    np.testing.assert_allclose(net.target(proof.singular), proof.singular, atol=1e-3)


def test_the_budget_is_kept():
    net = low_rank_network(64, 3, gain=4.0)
    proof = branch_and_prune(net, nodes=300)
    assert not proof.complete
    assert proof.nodes == 300
    assert 0 < proof.covered < 1
    assert "300" in proof.why
    whole = branch_and_prune(net)
    assert whole.complete
    assert branch_and_prune(net, nodes=whole.nodes).complete


def test_an_enclosure_that_is_no_number_drops_nothing():
    lo, hi = np.array([[-1.0, 2.0]]), np.array([[1.0, 3.0]])
    for centre, radius in ((np.nan, 1.0), (0.0, np.nan), (np.nan, np.inf)):
        kept = intervals._intersect(lo, hi, (lo + hi) / 2, np.full((1, 2), centre), np.full((1, 2), radius))
        np.testing.assert_array_equal(kept, (lo, hi))


@pytest.mark.parametrize("scale", [1e9, 1e150])
@pytest.mark.parametrize("activation", ["tanh", "relu", "softplus"])
def test_overflow_loses_nothing(scale, activation):
    """Enclosures that overflow drop no box: either the search says that it is not complete, or it has all points."""
    net = fpa.Network(W=scale * np.array([[0.0, -2.0], [-2.0, 0.0]]), b=[scale, scale], activation=activation)
    proof = branch_and_prune(net, nodes=5000)
    known = multistart(net, 100)
    assert not proof.complete or len(proof.h) >= len(known)
    if activation == "tanh":  # either neuron on and the other off
        assert not proof.complete or len(proof.h) == 3


def test_same_network_same_answer():
    net = low_rank_network(64, 3, gain=4.0)
    np.testing.assert_array_equal(branch_and_prune(net).h, branch_and_prune(net).h)


def test_an_input_moves_the_points():
    net = dense_network(5, 2.0, 0, W_in=np.ones((5, 1)))
    for u in (-0.5, 0.3):
        moved = fpa.Network(W=net.W, b=net.b + u, activation="tanh")
        assert_same_points(branch_and_prune(net, [u]).h, branch_and_prune(moved).h, atol=1e-12)


class Unknown(Activation):
    def f(self, x):
        return np.sin(x)


def test_where_it_applies():
    assert applicable(low_rank_network(64, 5, gain=1.0))
    assert applicable(dense_network(10, 1.0, 0))
    assert not applicable(low_rank_network(64, 6, gain=1.0))
    assert not applicable(dense_network(11, 1.0, 0))
    assert not applicable(fpa.Network(W=[[1.0]], activation=Unknown()))
    with pytest.raises(fpa.InputError, match="rank 11"):
        branch_and_prune(dense_network(11, 1.0, 0))
    with pytest.raises(fpa.InputError, match="one constant input"):
        branch_and_prune(dense_network(4, 1.0, 0, W_in=np.ones((4, 1))), [[1.0]])
