"""The reduced chain against brute force, Monte Carlo, other coordinates, and networks that cannot be reduced."""

import numpy as np
import pytest
from problems import hopfield_network, low_rank_network, random_network

import fpanalysis as fpa
from fpanalysis.stationary import _gth
from fpanalysis.stationary._block_gth import BandElimination, stationary_vector


def rank_one(N, *, gain=1.5, bias=0.005, seed=0, signs=True, **settings):
    """W = gain a v^T / N with a, v about +-1: two basins for tanh, the bias along the pattern."""
    g = np.random.default_rng(seed)
    a, v = 1 + 0.3 * g.standard_normal((2, N))
    s = g.choice([-1.0, 1.0], N) if signs else np.ones(N)
    return fpa.Network(W=gain * np.outer(a * s, v * s) / N, b=bias * s, **({"activation": "tanh"} | settings))


def rank_two(N, *, gain=1.3, bias=0.002, seed=0, **settings):
    g = np.random.default_rng(seed)
    P = g.choice([-1.0, 1.0], (N, 2))
    A, V = P * (1 + 0.3 * g.standard_normal((2, N, 2)))
    return fpa.Network(W=gain * A @ V.T / N, b=bias * P[:, 0], **({"activation": "tanh", "sigma": 1.0} | settings))


def brute_force(net, n=60, q=20):
    """Mean of the state and variance of y of a rank-one network of two or three neurons: the backward operator of y at
    Chebyshev nodes, the noise by product Gauss-Hermite quadrature, its left null vector."""
    left, values, right = net.svd
    R, A = right[0], left[:, 0] * values[0]
    z, w = np.polynomial.hermite_e.hermegauss(q)
    xi = np.stack(np.meshgrid(*[z] * net.N), axis=-1).reshape(-1, net.N)
    weight = np.prod(np.stack(np.meshgrid(*[w / w.sum()] * net.N), axis=-1).reshape(-1, net.N), axis=1)

    def means(y, noise):
        x = A * y + net.b
        if net.placement == "in":
            return net.activation.f(x + net.sigma * noise)
        return net.activation.f(x) + net.sigma * noise

    g = np.random.default_rng(0)
    y, seen = np.zeros((2000, 1)), []
    for _ in range(600):
        y = (1 - net.gamma) * y + net.gamma * (means(y, g.standard_normal((2000, net.N))) @ R)[:, None]
        seen.append((y.min(), y.max()))
    low, high = np.min(seen), np.max(seen)
    middle, half = (low + high) / 2, 0.75 * (high - low)
    c = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    rows, M = np.empty((n, n)), np.empty((n, net.N))
    for i, y in enumerate(middle + half * c):
        f = means(y, xi)
        after = (1 - net.gamma) * y + net.gamma * f @ R
        rows[i] = weight @ np.polynomial.chebyshev.chebvander(np.clip((after - middle) / half, -1, 1), n - 1)
        M[i] = weight @ f
    K = rows @ np.linalg.inv(np.polynomial.chebyshev.chebvander(c, n - 1))
    values, vectors = np.linalg.eig(K.T)
    p = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    p /= p.sum()
    y = middle + half * c
    return p @ M, p @ (y - p @ y) ** 2


def simulate(net, h, steps, seed=0):
    """States of every tenth step, (steps // 10, chains, N), of chains that start at `h` (chains, N)."""
    g = np.random.default_rng(seed)
    kept = []
    for t in range(steps):
        h = net.step(h, xi=g.standard_normal(h.shape))
        if t % 10 == 9:
            kept.append(h)
    return np.array(kept)


def variance_along(st):
    L = st.details["L"][:, 0] / np.linalg.norm(st.details["L"][:, 0])
    return L @ st.cov @ L


@pytest.mark.parametrize("m", [1, 4])
def test_block_elimination_solves_the_chain(m):
    """Against the null vector of the dense matrix, and for rare passages against detailed balance."""
    g = np.random.default_rng(0)
    n, r = 9, 2
    band = g.random((n, m, 2 * r + 1, m))
    dense = np.zeros((n, m, n, m))
    for i in range(n):
        for d in range(-r, r + 1):
            if not 0 <= i + d < n:
                band[i, :, r + d] = 0
    band /= band.sum(axis=(2, 3), keepdims=True)
    for i in range(n):
        for d in range(max(-r, -i), min(r, n - 1 - i) + 1):
            dense[i, :, i + d] = band[i, :, r + d]
    pi = stationary_vector(band).ravel()
    np.testing.assert_allclose(pi @ dense.reshape(n * m, n * m), pi, rtol=0, atol=1e-15)


def test_weights_hold_however_rare_the_exchange():
    """A birth-death chain with a passage of 1e-200: pi_i P_i,i+1 = pi_i+1 P_i+1,i to rounding."""
    up, down = np.array([0.2, 1e-200, 0.3]), np.array([0.1, 3e-200, 0.2])
    band = np.zeros((4, 1, 3, 1))
    band[:3, 0, 2, 0], band[1:, 0, 0, 0] = up, down
    pi = stationary_vector(band)[:, 0]
    np.testing.assert_allclose(pi[1:] / pi[:-1], up / down, rtol=1e-14)


@pytest.mark.parametrize("passage", [1e-2, 1e-25, 1e-100])
@pytest.mark.parametrize("keep", [0, 3, 7])
def test_the_slowest_rate_is_right_relative_to_itself(keep, passage):
    """Two halves of a banded chain with a rare passage, against the dense elimination of the same chain."""
    g = np.random.default_rng(1)
    n, m, r = 8, 3, 2
    band, dense = g.random((n, m, 2 * r + 1, m)), np.zeros((n, m, n, m))
    for i in range(n):
        for d in range(-r, r + 1):
            inside = 0 <= i + d < n
            band[i, :, r + d] *= inside * (passage if (i < 4) != (i + d < 4) else 1.0)
    band /= band.sum(axis=(2, 3), keepdims=True)
    for i in range(n):
        for d in range(max(-r, -i), min(r, n - 1 - i) + 1):
            dense[i, :, i + d] = band[i, :, r + d]
    dense = dense.reshape(n * m, n * m)
    elimination = BandElimination(band, keep)
    p = elimination.stationary().ravel()
    np.testing.assert_allclose(p, _gth.stationary_vector(dense), rtol=1e-12)
    assert elimination.slowest_rate(p) == pytest.approx(_gth.slowest_rate(dense, p), rel=1e-6)


def test_gaps_go_on_falling_below_rounding():
    """Wells that deepen with the gain: the logarithm of the gap falls smoothly, also below 1e-16."""
    gains = (1.8, 1.95, 2.1)
    gaps = [fpa.stationary(rank_one(64, gain=gain, bias=0.0005, sigma=1.0), method="reduced").gap for gain in gains]
    falls = -np.diff(np.log(gaps))
    assert gaps[-1] < 1e-18
    assert falls.min() > 3
    assert np.abs(np.diff(falls)).max() < 0.4 * falls.max()


def test_basins_that_never_exchange_are_not_weighed():
    st = fpa.stationary(rank_one(64, gain=3.0, sigma=0.5), method="reduced")
    assert st.status is fpa.Status.METASTABLE
    assert "exchange" in st.reason
    assert st.gap == 0
    assert np.isnan(st.mean).all()
    assert np.isnan([basin.weight for basin in st.basins]).all()


@pytest.mark.parametrize(("gamma", "sigma"), [(0.3, 1.0), (1.0, 1.0)])
def test_strongly_skewed_steps_of_two_neurons(gamma, sigma):
    """Far from Gaussian, with nodes no step reaches within its cut-off: within the stated error, without a warning."""
    net = rank_one(2, gain=0.6, bias=0.3, signs=False, gamma=gamma, sigma=sigma)
    st = fpa.stationary(net, method="reduced")
    exact = fpa.stationary(net, method="chain")
    assert st.status is fpa.Status.OK
    assert st.details["skewness"] > 0.4
    assert (np.abs(st.mean - exact.mean) <= st.error + exact.error).all()


def test_borders_between_basins_are_those_of_the_trajectories():
    """Rank one: basins by bisection, against the noise-free network followed from the same states."""
    from fpanalysis.stationary import Problem
    from fpanalysis.stationary._basins import attractors, basin_of
    from fpanalysis.stationary._low_rank import LowRank, row_space

    net = rank_one(16, gain=1.8)
    problem = Problem(net, np.zeros(0), 1.0, np.zeros(16))
    points = attractors(net, problem.u)
    low = LowRank(problem, row_space(net))
    h = np.random.default_rng(0).standard_normal((200, 16))
    np.testing.assert_array_equal(low.follow(h @ low.R, points), basin_of(net, problem.u, h, points))


@pytest.mark.parametrize("gamma", [0.1, 0.3])
@pytest.mark.parametrize("activation", ["tanh", "softplus", "linear"])
def test_noise_out_is_exact(activation, gamma):
    """The step of y is Gaussian: only the grid errs."""
    net = rank_one(3, gain=-0.7, bias=0.5, signs=False, activation=activation, gamma=gamma, placement="out", sigma=0.5)
    mean, variance = brute_force(net)
    st = fpa.stationary(net, method="reduced")
    assert st.status is fpa.Status.OK
    assert st.scope == "global"
    np.testing.assert_allclose(st.mean, mean, rtol=0, atol=np.maximum(st.error, 1e-11).max())
    assert st.error.max() < 1e-6
    assert variance_along(st) == pytest.approx(variance, rel=1e-6)


@pytest.mark.parametrize(("activation", "gain"), [("softplus", -0.7), ("tanh", 0.5)])
def test_few_neurons_within_the_stated_error(activation, gain):
    """Three neurons are as far from Gaussian as it gets; the error says so."""
    net = rank_one(3, gain=gain, bias=0.5, signs=False, activation=activation, sigma=0.5)
    mean, variance = brute_force(net)
    st = fpa.stationary(net, method="reduced")
    assert (np.abs(st.mean - mean) <= st.error + 1e-9).all()
    assert st.error.max() < 1e-3
    assert variance_along(st) == pytest.approx(variance, rel=1e-2)


def test_linear_networks_are_exact_in_every_moment():
    """Covariance of the whole state from the Lyapunov equation."""
    from problems import linear_covariance

    net = rank_one(6, gain=0.6, bias=0.1, activation="linear", sigma=0.4)
    st = fpa.stationary(net, method="reduced")
    np.testing.assert_allclose(st.cov, linear_covariance(net, 0.4), rtol=0, atol=1e-6 * st.cov.max())
    np.testing.assert_allclose(st.mean, np.linalg.solve(np.eye(6) - net.W, net.b), rtol=0, atol=1e-8)
    assert st.basins is None


@pytest.fixture(scope="module")
def bistable():
    net = rank_one(64, sigma=1.0)
    return net, fpa.stationary(net, method="reduced")


def test_basin_weights_and_law_against_monte_carlo(bistable):
    """256 chains, 4,000 steps of 64 neurons, gap 7.5e-3: per-chain means are independent, 4 standard errors."""
    net, st = bistable
    points = np.array([basin.fixed_point for basin in st.basins])
    p = np.array([basin.weight for basin in st.basins])
    start = points[np.random.default_rng(1).choice(2, 256, p=p)]
    h = simulate(net, start, 4500)[50:]
    L = st.details["L"][:, 0]
    y, rests = h @ L, points @ L
    inputs = lambda k: net.activation.f(k * net.W @ L / (L @ L) + net.b) @ L - k  # noqa: E731
    inner = np.linspace(0.8 * rests.min(), 0.8 * rests.max(), 2001)
    drift = np.array([inputs(k) for k in inner])
    border = inner[np.flatnonzero((drift[:-1] < 0) & (drift[1:] >= 0))[0] + 1]
    lower = (y < border).mean(axis=0)
    hops = np.diff(y < border, axis=0).sum()
    assert hops > 1000
    weight = st.basins[int(rests.argmin())].weight
    assert abs(lower.mean() - weight) < 4 * lower.std(ddof=1) / 16
    means = h.mean(axis=0)
    assert (np.abs(means.mean(axis=0) - st.mean) < 5 * means.std(axis=0, ddof=1) / 16 + st.error).all()
    density = st.marginals["coordinate 0"]
    edges = np.linspace(y.min(), y.max(), 31)
    counts = np.array([np.histogram(chains, edges)[0] / chains.size for chains in np.split(y, 8, axis=1)])
    cdf = np.concatenate([[0.0], np.cumsum(density.values * density.weights[0])])
    ends = np.concatenate(
        [density.grids[0] - density.weights[0] / 2, density.grids[0][-1:] + density.weights[0][-1:] / 2]
    )
    expected = np.diff(np.interp(edges, ends, cdf))
    distance = np.abs(counts.mean(axis=0) - expected).sum() / 2
    assert distance < 4 * counts.std(axis=0, ddof=1).sum() / 2 / np.sqrt(8) + 0.005


def test_covariance_of_the_state_agrees_with_that_of_the_coordinate(bistable):
    """L^T C L is the variance of the reduced law, though found from the whole state's own equation."""
    _, st = bistable
    d = st.marginals["coordinate 0"]
    p = d.values * d.weights[0]
    L = st.details["L"][:, 0]
    mean = p @ d.grids[0]
    assert st.mean @ L == pytest.approx(mean, abs=1e-7)
    assert L @ st.cov @ L == pytest.approx(p @ (d.grids[0] - mean) ** 2, rel=1e-5)
    total = sum(basin.weight * basin.mean for basin in st.basins)
    np.testing.assert_allclose(total, st.mean, rtol=0, atol=1e-5)
    assert sum(basin.weight for basin in st.basins) == pytest.approx(1, abs=1e-9)


def test_permuting_the_neurons_permutes_the_law(bistable):
    net, st = bistable
    order = np.random.default_rng(2).permutation(net.N)
    other = fpa.stationary(
        fpa.Network(W=net.W[np.ix_(order, order)], b=net.b[order], activation="tanh", sigma=1.0), method="reduced"
    )
    np.testing.assert_allclose(other.mean, st.mean[order], rtol=0, atol=1e-8)
    assert sorted(b.weight for b in other.basins) == pytest.approx(sorted(b.weight for b in st.basins), rel=1e-6)


def test_other_coordinates_of_the_same_plane_give_the_same_law():
    """A rank-two network in its own coordinates and in a mixture of them given by hand."""
    net = rank_two(32, gain=0.9, gamma=0.3)
    st = fpa.stationary(net, method="reduced")
    c, s = np.cos(0.5), np.sin(0.5)
    mixed = np.linalg.qr(st.details["L"])[0] @ np.array([[c, -s], [s, c]])
    other = fpa.stationary(net, method="reduced", coordinates=mixed)
    assert st.status is other.status is fpa.Status.OK
    np.testing.assert_array_equal(other.details["L"], mixed)
    np.testing.assert_allclose(other.mean, st.mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(other.cov, st.cov, rtol=0, atol=1e-4 * st.cov.max())
    assert st.density.mass == pytest.approx(1, abs=1e-9)


def test_full_rank_about_rank_one_agrees_with_monte_carlo():
    """Rank one plus a random part of gain 0.1: 128 chains, 4,000 steps; 5 standard errors and the stated error."""
    net = rank_one(32, gain=1.0, bias=0.03, sigma=0.5)
    W = net.W + 0.1 * np.random.default_rng(5).standard_normal((32, 32)) / np.sqrt(32)
    net = fpa.Network(W=W, b=net.b, activation="tanh", sigma=0.5)
    st = fpa.stationary(net, method="reduced")
    assert st.status is fpa.Status.OK
    assert not st.details["exact_rank"]
    assert st.details["spectral_ratio"] > 2
    means = simulate(net, np.tile(st.mean, (128, 1)), 4000)[20:].mean(axis=0)
    assert (np.abs(means.mean(axis=0) - st.mean) < 5 * means.std(axis=0, ddof=1) / np.sqrt(128) + st.error).all()


@pytest.mark.parametrize("net", [random_network(32), hopfield_network(4)], ids=["random", "hopfield"])
def test_networks_of_many_slow_modes_are_refused(net):
    st = fpa.stationary(net, sigma=0.5, method="reduced")
    assert st.status is fpa.Status.NOT_REDUCED
    assert "slow" in st.reason
    assert np.isnan(st.mean).all()


@pytest.mark.parametrize(
    ("net", "status", "reason"),
    [
        (fpa.Network(W=[[0.5]], sigma=0.1), fpa.Status.NOT_APPLICABLE, "chain"),
        (fpa.Network(W=np.zeros((3, 3)), sigma=0.1), fpa.Status.NOT_APPLICABLE, "independent"),
        (
            fpa.Network(W=[[0.0, -3.0], [3.0, 0.0]], gamma=0.5, activation="tanh", sigma=0.1),
            fpa.Status.NO_STABLE_FIXED_POINT,
            "no stable",
        ),
    ],
)
def test_where_it_does_not_apply(net, status, reason):
    st = fpa.stationary(net, method="reduced")
    assert st.status is status
    assert reason in st.reason


@pytest.mark.parametrize(
    "coordinates", [np.ones((3, 3)), np.ones(5), np.zeros((6, 1)), np.ones((6, 2)), np.full((6, 1), np.nan)]
)
def test_bad_coordinates(coordinates):
    with pytest.raises(fpa.InputError, match="coordinates"):
        fpa.stationary(low_rank_network(6, 1, gain=0.5, sigma=0.3), method="reduced", coordinates=coordinates)
