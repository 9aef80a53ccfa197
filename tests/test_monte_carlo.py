"""Monte Carlo against exact laws, its own stated errors, and invariances. Seeds are fixed; bounds are 4 sigma
unless said otherwise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from problems import (
    ONE_NEURON,
    TWO_NEURONS,
    TWO_NEURONS_COV,
    TWO_NEURONS_MEAN,
    linear_covariance,
    random_network,
)
from scipy.optimize import brentq
from scipy.special import ndtr
from scipy.stats import binom

from fpanalysis.fixed_points import settle
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status
from fpanalysis.stationary import monte_carlo
from fpanalysis.stationary import solve as solve_stationary
from fpanalysis.stationary._linear_chain import linear_chain
from fpanalysis.stationary._relax import log_radius, relaxation_time
from fpanalysis.stationary._result import Problem


def problem(net, sigma, u=None, start=None):
    u = net.check_input(u)
    start = settle(net, np.zeros((1, net.N)), u)[0][0] if start is None else np.asarray(start, float)
    return Problem(net, u, sigma, start)


def law(net, sigma, u=None, start=None, rng=0, **settings):
    return monte_carlo.solve([problem(net, sigma, u, start)], rng, **settings)[0]


def close_covariance(result, C, tau):
    """Every entry within 5 standard errors of a sample covariance of chains * steps / (2 tau) draws."""
    draws = result.details["chains"] * result.details["steps"] / (2 * tau + 1)
    error = np.sqrt((np.outer(np.diag(C), np.diag(C)) + C**2) / draws)
    return np.max(np.abs(result.cov - C) / error) < 5


@pytest.mark.parametrize("case", ONE_NEURON, ids=lambda case: f"{case.activation}-{case.placement}")
def test_one_neuron_has_the_verified_mean_and_variance(case):
    result = law(case.net, case.sigma, start=[case.h_star])
    assert result.status is Status.OK
    assert abs(result.mean[0] - case.mean) < 4 * result.details["standard_error"][0]
    assert close_covariance(result, np.array([[case.var]]), result.details["relaxation_time"])
    assert result.details["standard_error"][0] < 0.003 * abs(case.mean - case.h_star)


def test_two_neurons_that_hop_often_have_the_verified_law():
    result = law(TWO_NEURONS, 1.0)
    assert result.status is Status.OK
    assert np.all(np.abs(result.mean - TWO_NEURONS_MEAN) < 4 * result.details["standard_error"])
    # the hops make the slowest mode about ten times slower than the one at the start
    assert close_covariance(result, TWO_NEURONS_COV, 10 * result.details["relaxation_time"])


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("vector", [False, True])
@pytest.mark.parametrize("N", [6, 24])
def test_linear_network_has_the_lyapunov_covariance(placement, vector, N):
    g = np.random.default_rng(1)
    gamma = g.uniform(0.1, 0.3, N) if vector else 0.2
    sigma = g.uniform(0.2, 1.0, N) if vector else 0.5
    net = random_network(N, activation="linear", placement=placement, gamma=gamma)
    h = np.linalg.solve(np.eye(N) - net.W, net.drive([0.3, -0.5]))
    result = law(net, sigma, u=[0.3, -0.5], start=h, chains=128, precision="double" if N == 6 else "single")
    assert result.status is Status.OK
    # antithetic pairs make the mean of a linear network exact: only rounding is left
    assert np.all(np.abs(result.mean - result.start) <= result.error)
    assert np.all(result.error < 1e-5)
    assert np.all(np.abs(result.output - net.output(result.start)) <= result.output_error)
    C = linear_covariance(net, sigma)
    assert close_covariance(result, C, relaxation_time([problem(net, sigma)])[0])


def test_relu_that_never_clips_is_linear():
    net = random_network(8, activation="relu")
    net = Network(W=net.W, b=net.b + 50, gamma=0.2, activation="relu")
    h = np.linalg.solve(np.eye(8) - net.W, net.b)
    h_linear = Network(W=net.W, b=net.b - (np.eye(8) - net.W) @ (h - 50), gamma=0.2, activation="relu")
    result = law(h_linear, 0.5, start=np.full(8, 50.0))
    assert np.allclose(result.mean, 50, rtol=0, atol=1e-11)
    assert close_covariance(result, linear_covariance(Network(W=net.W, gamma=0.2, activation="linear"), 0.5), 20)


def test_covers_the_truth_as_often_as_it_says():
    case = ONE_NEURON[0]
    repeats = 200
    inside = sum(
        abs(result.mean[0] - case.mean) <= result.error[0]
        for result in (
            law(case.net, case.sigma, start=[case.h_star], rng=seed, chains=32, steps=200, burn_in=40)
            for seed in range(repeats)
        )
    )
    # two-sided 1e-4 bounds of Binomial(200, 0.95): neither too small an error nor a wasteful one
    assert binom.ppf(1e-4, repeats, 0.95) <= inside <= binom.ppf(1 - 1e-4, repeats, 0.95)


def test_output_error_covers_the_difference_of_two_seeds():
    net = random_network(12, activation="relu")
    a, b = (law(net, 0.6, u=[0.2, 0.4], rng=seed, chains=256) for seed in (1, 2))
    spread = np.hypot(a.output_error, b.output_error) / 2
    assert np.all(np.abs(a.output - b.output) < 4 * spread)
    assert np.allclose(a.output, net.output(a.mean), rtol=0, atol=1e-12)
    # an error of W_out y, not the neurons' errors added up
    assert np.all(a.output_error < np.abs(net.W_out) @ a.error)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_current_form_agrees_with_a_plain_loop(activation):
    net = random_network(5, activation=activation, form="current", seed=3)
    u, sigma = np.array([0.5, -0.2]), 0.8
    result = law(net, sigma, u=u)
    assert result.status is Status.OK
    g = np.random.default_rng(7)
    plain, h = net.with_sigma(sigma), np.tile(result.start, (4000, 1))
    for _ in range(100):
        h = plain.step(h, u, g.normal(size=h.shape))
    sums, outputs, steps = np.zeros_like(h), np.zeros((4000, 2)), 200
    for _ in range(steps):
        h = plain.step(h, u, g.normal(size=h.shape))
        sums += h / steps
        outputs += plain.output(h) / steps
    for ours, error, theirs in (
        (result.mean, result.details["standard_error"], sums),
        (result.output, result.output_error / 2, outputs),
    ):
        spread = np.hypot(error, theirs.std(axis=0) / np.sqrt(4000))
        assert np.all(np.abs(ours - theirs.mean(axis=0)) < 4 * spread)


def test_permuting_neurons_permutes_the_law():
    net = random_network(10, activation="softplus")
    order = np.random.default_rng(5).permutation(10)
    moved = Network(
        W=net.W[np.ix_(order, order)], b=net.b[order], W_in=net.W_in[order], gamma=0.2, activation="softplus"
    )
    a, b = law(net, 0.7), law(moved, 0.7)
    spread = np.hypot(a.error[order], b.error) / 2
    assert np.all(np.abs(a.mean[order] - b.mean) < 4.5 * spread)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus", "tanh", "sigmoid", "erf"])
def test_uncoupled_neurons_have_the_gaussian_mean(activation):
    b = np.array([-1.0, -0.2, 0.4, 1.5])
    net = Network(W=np.zeros((4, 4)), b=b, gamma=0.25, activation=activation)
    result = law(net, 0.9, start=net.activation.f(b))
    moments = net.activation.moments(b, 0.9)
    # the linear chain is the network itself: only rounding is left
    assert np.all(np.abs(result.mean - moments.M) < result.error)
    assert np.all(result.error < 1e-12)
    plain = law(net, 0.9, start=net.activation.f(b), control=False)
    assert np.all(np.abs(plain.mean - moments.M) < 4 * plain.details["standard_error"])
    for law_ in (result, plain):
        assert close_covariance(law_, np.diag(0.25 / 1.75 * moments.V) + 1e-300, 4)


def test_a_sweep_gives_what_each_problem_gives_alone():
    net = random_network(20, activation="relu")
    sweep = [problem(net, sigma, [u, 0.1]) for u in (-1.0, 0.5) for sigma in (0.0, 0.2, 0.6)]
    together = monte_carlo.solve(sweep, 3)
    for one, result in zip(sweep, together, strict=True):
        alone = monte_carlo.solve([one], 3)[0]
        # float32 states: trajectories differ by rounding, far below the sampling error
        assert np.allclose(alone.mean, result.mean, rtol=0, atol=2e-6)
        assert np.allclose(alone.cov, result.cov, rtol=1e-4, atol=1e-6)
        assert alone.details["steps"] == result.details["steps"]


def test_the_number_of_threads_does_not_change_the_answer():
    net = random_network(40, activation="softplus")
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            results.append(law(net, 0.5, precision="double", steps=400))
    finally:
        torch.set_num_threads(before)
    assert np.allclose(results[0].mean, results[1].mean, rtol=0, atol=1e-13)
    assert np.allclose(results[0].cov, results[1].cov, rtol=0, atol=1e-13)


def test_single_precision_stays_within_its_stated_rounding():
    net = random_network(40, activation="relu")
    single, double = (law(net, 0.05, u=[1, 1], precision=p, steps=1000) for p in ("single", "double"))
    assert np.max(np.abs(single.mean - double.mean)) < single.details["rounding"]
    assert double.details["rounding"] < 1e-11


def test_runs_again_in_double_where_single_is_too_coarse():
    net = random_network(20, activation="softplus")
    results = monte_carlo.solve([problem(net, 1e-3), problem(net, 0.5)], 0)
    assert [result.details["precision"] for result in results] == ["double", "single"]
    assert np.all(results[0].error < 0.01 * np.abs(results[0].mean - results[0].start).max())


def test_generator_and_seed():
    net = ONE_NEURON[0].net
    first = law(net, 0.3, rng=5, steps=100)
    assert np.array_equal(first.mean, law(net, 0.3, rng=5, steps=100).mean)
    assert np.array_equal(first.mean, law(net, 0.3, rng=np.random.default_rng(5), steps=100).mean)
    assert not np.array_equal(first.mean, law(net, 0.3, rng=6, steps=100).mean)
    assert first.provenance.seed == 5
    assert first.provenance.settings["steps"] == 100


def test_growth_without_bound_is_diverged_and_leaves_others_alone():
    net = Network(W=[[1.5, 0.0], [0.0, 0.4]], b=[-1.0, 0.5], W_in=[[1.0], [0.0]], gamma=0.2, activation="relu")
    start = np.array([0.0, 0.5 / 0.6])
    calm = Problem(net, np.array([-30.0]), 0.5, start)
    wild = Problem(net, np.array([1.5]), 0.5, start, stable=False)
    alone = monte_carlo.solve([calm], 0)[0]
    gone, stays, gone_too = monte_carlo.solve([wild, calm, wild], 0)
    assert gone.status is gone_too.status is Status.DIVERGED
    assert np.isnan(gone.mean).all()
    assert stays.status is Status.OK
    assert np.allclose(stays.mean, alone.mean, rtol=0, atol=1e-12)


@pytest.mark.parametrize("w", [1.0, 1.01])
def test_slow_growth_is_diverged(w):
    net = Network(W=[[w]], b=[0.5], gamma=0.1, activation="relu")
    result = law(net, 0.3, start=[0.0], chains=64)
    assert result.status is Status.DIVERGED


def test_hopping_between_basins_is_poorly_mixed():
    net = Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh")
    result = law(net, 1.0, start=[0.97], steps=400, burn_in=160)  # the exchange takes 650 steps
    assert result.status is Status.POORLY_MIXED
    assert result.reason
    # at sigma = 0.5 no chain ever leaves: the law of one basin, well mixed
    assert law(net, 0.5, start=[0.97], steps=2000).status is Status.OK
    fast = Network(W=[[2.0]], b=[0.05], gamma=0.9, activation="tanh")
    assert law(fast, 1.5, start=[0.97], steps=4000).status is Status.OK


def test_relaxation_time_of_known_matrices():
    J = np.array([np.diag([0.9, 0.5]), 0.8 * np.array([[0.0, -1.0], [1.0, 0.0]]), [[0.95, 5.0], [0.0, 0.2]]])
    assert np.allclose(log_radius(J), np.log([0.9, 0.8, 0.95]), rtol=1e-6)
    assert log_radius(np.array([[0.0, 1.0], [0.0, 0.0]])) == -np.inf


@pytest.mark.parametrize(
    "settings",
    [
        {"chains": 7},
        {"steps": 3},
        {"burn_in": -1},
        {"precision": "half"},
        {"control": 1},
        {"standard_error": 0.0},
        {"relative_error": "small"},
        {"max_chains": 4},
        {"device": "tpu"},
        {"starts": "everywhere"},
        {"starts": "apart", "chains": 16},
    ],
)
def test_refuses_settings_out_of_range(settings):
    *_, name = settings
    with pytest.raises(InputError, match=name):
        law(ONE_NEURON[0].net, 0.1, **settings)


@pytest.mark.parametrize("b", [-2.4, -2.7, -3.0])
def test_events_too_rare_to_be_seen_are_in_the_error(b):
    """A neuron five or six standard deviations under its kink: its mean, known from the closure, is a few events'."""
    net = Network(W=[[0.2, 0.3], [0.1, 0.2]], b=[0.5, b], gamma=0.2)
    result = law(net, 0.5)
    known = solve_stationary([problem(net, 0.5)], "closure")[0]
    assert known.mean[1] > 0
    assert np.all(np.abs(result.mean - known.mean) <= result.error + known.error)
    assert result.error[1] < 1e-4


@pytest.mark.parametrize("form", ["in", "out", "current"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
def test_the_linear_chain_changes_the_error_and_not_the_mean(activation, form):
    settings = {"form": "current"} if form == "current" else {"placement": form}
    net = random_network(12, activation=activation, **settings)
    with_it, without = (law(net, 0.4, u=[0.3, -0.5], control=on, rng=on) for on in (True, False))
    assert (with_it.details["control"], without.details["control"]) == ("linear chain", "none")
    assert np.all(np.abs(with_it.mean - without.mean) < 2.2 * np.hypot(with_it.error, without.error))
    assert np.all(np.abs(with_it.output - without.output) < 2.5 * np.hypot(with_it.output_error, without.output_error))
    gained = with_it.details["variance_reduction"] / with_it.details["antithetic_gain"]
    assert gained > 20
    assert np.all(np.abs(with_it.cov - without.cov) < 0.1 * np.abs(without.cov).max())


@pytest.mark.parametrize("form", ["in", "out", "current"])
def test_the_mean_of_the_linear_chain_is_known(form):
    """E f(a + y) = M by a plain loop of the linear chain, and the identity for the rates by exact moments."""
    settings = {"form": "current"} if form == "current" else {"placement": form}
    net = random_network(5, activation="relu", **settings).with_sigma(0.7)
    chain = linear_chain(problem(net, 0.7, [0.3, -0.5]))
    g = np.random.default_rng(3)
    d, total = np.zeros((20_000, 5)), np.zeros((20_000, 5))
    for t in range(140):
        xi = 0.7 * g.normal(size=d.shape)
        y = d if form == "current" else d @ net.W.T + (xi if form == "in" else 0.0)
        pull = {"in": chain.G * y, "out": chain.G * y + xi, "current": (chain.G * d) @ net.W.T + xi}[form]
        total += net.activation.f(chain.a + y) if t >= 40 else 0.0
        d = d + 0.2 * (pull - d)
    rates = total / 100
    assert np.all(np.abs(rates.mean(0) - chain.M) < 4 * rates.std(0) / np.sqrt(20_000))
    # a linear network: whatever a and G, the rates follow from D = X - y and X alone
    linear = random_network(5, activation="linear")
    other = dataclasses.replace(linear_chain(problem(linear, 0.7)), a=np.full(5, 0.3), G=np.full(5, 0.4))
    other = dataclasses.replace(other, M=other.a)
    h = np.linalg.solve(np.eye(5) - linear.W, linear.b)
    X = linear.W @ h + linear.b - other.a
    assert np.allclose(other.rates(X, X), h, rtol=0, atol=1e-13)


@pytest.mark.parametrize(("activation", "least"), [("relu", 100), ("softplus", 1e4)])
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_variance_of_the_shift_falls_as_much_as_said(activation, least, sigma):
    """By repeated runs, N = 64: against a plain average of as many chains, and against what the result states."""
    net = random_network(64, activation=activation, gain=0.9)
    runs = [law(net, sigma, rng=seed, chains=16, steps=100, burn_in=100, precision="double") for seed in range(12)]
    plain = [law(net, sigma, rng=seed, chains=16, steps=100, burn_in=100, control=False) for seed in range(12)]
    variance = np.var([run.mean for run in runs], axis=0, ddof=1)
    pairs = np.var([run.mean for run in plain], axis=0, ddof=1)
    gain = np.median([run.details["antithetic_gain"] for run in plain])
    measured = gain * pairs.sum() / variance.sum()
    assert measured > least
    stated = np.mean([run.details["standard_error"] ** 2 for run in runs], axis=0)
    # 64 neurons of 11 degrees of freedom each, their errors correlated: within a factor of two
    assert 0.5 < variance.sum() / stated.sum() < 2


def tanh_kernel(net, cells=800):
    """Transition matrix of one tanh neuron between cells of [-1, 1], their centres, and which lie in the upper basin.

    P(h' <= c | h) = Phi((atanh((c - (1 - gamma) h) / gamma) - w h - b) / sigma); the basins meet at a fixed point."""
    edges = np.linspace(-1, 1, cells + 1)
    h = (edges[1:] + edges[:-1]) / 2
    inner = np.clip((edges - (1 - net.gamma) * h[:, None]) / net.gamma, -1 + 1e-15, 1 - 1e-15)
    K = np.diff(ndtr((np.arctanh(inner) - net.W[0, 0] * h[:, None] - net.b[0]) / net.sigma), axis=1)
    saddle = brentq(lambda x: np.tanh(net.W[0, 0] * x + net.b[0]) - x, -0.5, 0.5)
    return K / K.sum(axis=1, keepdims=True), h, h > saddle


def basin_changes(net, start, burn_in, gap, ends):
    """Expected changes of basin between the `ends` states that are `gap` steps apart, per chain."""
    K, h, upper = tanh_kernel(net)
    p = np.zeros(len(h))
    p[np.abs(h - start).argmin()] = 1.0
    leap, total = np.linalg.matrix_power(K, gap), 0.0
    p = p @ np.linalg.matrix_power(K, burn_in) @ leap
    for _ in range(ends - 1):
        after_up, after_down = (p * upper) @ leap, (p * ~upper) @ leap
        total += after_up[~upper].sum() + after_down[upper].sum()
        p = after_up + after_down
    return total


def test_hops_come_at_the_exact_rate():
    net = Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", sigma=1.0)
    runs = [law(net, 1.0, start=[0.969], rng=seed, chains=64, steps=2000, burn_in=100) for seed in range(8)]
    counted = np.array([run.details["hops"] for run in runs], float)
    expected = 64 * basin_changes(net, 0.969, 100, 100, 20)
    first = sum(run.details["left"] for run in runs)  # a chain that is outside at its first end counts one more
    assert all(run.details["chains_followed"] == 64 for run in runs)
    slack = 4 * counted.std(ddof=1) / np.sqrt(len(runs))
    assert expected - slack < counted.mean() < expected + slack + 64 * first / 8
    assert all(run.basins is not None for run in runs)


def test_basins_that_exchange_often_are_weighed():
    net = Network(W=[[2.0]], b=[0.05], gamma=0.9, activation="tanh", sigma=1.5)
    result = law(net, 1.5, start=[0.969], chains=512)
    assert result.status is Status.OK
    assert result.details["hops"] > 100
    K, h, upper = tanh_kernel(net)
    p = np.linalg.matrix_power(K, 1024)[0]
    assert len(result.basins) == 2
    for basin in result.basins:
        here = upper if basin.fixed_point[0] > 0 else ~upper
        assert abs(basin.weight - p[here].sum()) < 2 * basin.weight_error < 0.1
        assert abs(basin.mean[0] - p[here] @ h[here] / p[here].sum()) < 0.1


def test_runs_until_the_standard_error_asked_for():
    net = random_network(20, activation="relu")
    first = law(net, 0.5, steps=200)
    wanted = 0.4 * first.details["standard_error"].max()
    result = law(net, 0.5, steps=200, standard_error=wanted)
    assert result.status is Status.OK
    assert result.details["standard_error"].max() <= wanted
    assert 5 * first.details["chains"] < result.details["chains"] < 20 * first.details["chains"]
    assert np.all(np.abs(result.mean - first.mean) < 2 * (result.error + first.error))
    relative = law(net, 0.5, steps=200, relative_error=wanted / np.abs(first.mean - first.start).max())
    assert relative.details["chains"] == pytest.approx(result.details["chains"], rel=0.3)
    capped = law(net, 0.5, steps=200, standard_error=wanted / 100, max_chains=1000)
    assert capped.status is Status.POORLY_MIXED
    assert "above what was asked for" in capped.reason
    assert np.array_equal(capped.details["tentative_mean"], capped.mean)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_an_input_error():
    with pytest.raises(InputError, match="torch finds no GPU here: use device='cpu'"):
        law(ONE_NEURON[0].net, 0.1, device="cuda")


@pytest.mark.parametrize(
    ("sigma", "mean", "weight", "gap"),
    [(1.0, 0.60797912, 0.0933554, 1.543e-3), (1.2, 0.33004019, 0.219188, 5.780e-3)],
)
def test_chains_started_apart_give_the_global_law(sigma, mean, weight, gap):
    net = Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh")
    result = law(net, sigma, starts="apart", chains=512)
    assert result.status is Status.OK
    assert result.scope == "global"
    assert result.details["rhat_groups"] < 1.01
    assert result.details["steps"] > 4 / gap  # it noticed how slow the exchange is
    assert 0.5 < -np.log1p(-gap) * result.details["exchange_time"] < 2
    assert abs(result.mean[0] - mean) < 4 * result.details["standard_error"][0] < 0.1
    low = min(result.basins, key=lambda basin: basin.weight)
    assert abs(low.weight - weight) < 2 * low.weight_error < 0.3 * weight


def test_groups_that_do_not_meet_are_poorly_mixed():
    net = Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh")
    result = law(net, 0.5, starts="apart")
    assert result.status is Status.POORLY_MIXED
    assert "started at [-0.952] and at [0.962] disagree" in result.reason
    assert np.isnan(result.mean).all()
    assert np.isfinite(result.details["tentative_mean"]).all()
    low, high = sorted(result.basins, key=lambda basin: basin.mean[0])
    assert np.isnan(low.weight)
    # each basin has the mean of its own local law
    for basin in (low, high):
        own = law(net, 0.5, start=basin.fixed_point)
        assert abs(basin.mean[0] - own.mean[0]) < 1e-3


def test_one_attractor_is_reached_from_far_out():
    net = random_network(12, activation="relu")
    result, usual = law(net, 0.4, starts="apart"), law(net, 0.4)
    assert result.status is Status.OK
    assert result.scope == "global"
    assert result.basins is None
    assert result.details["rhat_groups"] < 1.01
    assert np.all(np.abs(result.mean - usual.mean) < 1.1 * (result.error + usual.error))
    early = law(net, 0.4, starts="apart", burn_in=0, steps=40)
    assert early.status is Status.POORLY_MIXED
    assert "disagree" in early.reason
