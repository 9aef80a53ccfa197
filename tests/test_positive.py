"""The law of nonnegative weights: known digits, limits and symmetries, and hops as rare as they come."""

import json
from pathlib import Path

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.stationary import Problem
from fpanalysis.stationary._matching import match
from fpanalysis.stationary._positive import positive_law

ROOT = Path(__file__).parent
PAIR = {"W": [[2.0]], "b": [0.05], "gamma": 0.1, "activation": "tanh"}


def law_of(net, low, high, **settings):
    problem = Problem(net, np.zeros(0), net.sigma, np.zeros(net.N))
    return positive_law(problem, np.stack([np.broadcast_to(low, net.N), np.broadcast_to(high, net.N)]), **settings)


@pytest.mark.parametrize("degree", [2, 4, 8])
def test_weights_keep_the_moments_and_are_not_negative(degree):
    """Shifted, squeezed and two-humped laws, all wider than the spacing."""
    rng = np.random.default_rng(0)
    nodes = np.linspace(-1, 1, 60)
    z = np.tanh(rng.normal(size=(20, 4000)) * rng.uniform(0.1, 0.3, (20, 1)) + rng.uniform(-0.5, 0.5, (20, 1)))
    omega = np.full(z.shape, 1 / 4000)
    w, degrees = match(z, omega, nodes, degree)
    assert (w >= 0).all()
    assert degrees.min() >= min(degree, 4)
    for k in range(degree + 1):
        kept = degrees >= k
        np.testing.assert_allclose((w @ nodes**k)[kept], (z**k).mean(1)[kept], atol=1e-11)


def test_a_law_narrower_than_the_spacing_keeps_its_mean():
    nodes = np.linspace(0, 1, 11)
    w, degrees = match(np.array([[0.33, 0.34], [0.5, 0.5]]), np.full((2, 2), 0.5), nodes, 8)
    np.testing.assert_allclose(w @ nodes, [0.335, 0.5], rtol=1e-14)
    np.testing.assert_allclose(w.sum(1), 1, rtol=1e-14)
    assert (w >= 0).all()
    assert degrees.max() <= 2


@pytest.mark.parametrize("case", [0, 1, 2])
def test_one_neuron_against_the_reference(case):
    """Where the gap is ordinary: ReLU with its point mass, softplus, noise out."""
    digits = json.loads((ROOT / "reference" / "stationary.json").read_text())["one_neuron"][case]
    settings = {key: digits[key] for key in ("activation", "placement", "sigma", "gamma")}
    net = fpa.Network(W=[[digits["w"]]], b=[digits["b"]], **settings)
    law = law_of(net, -0.2 if digits["placement"] == "out" else 0.0, 1.5)
    assert law.reason == ""
    assert abs(law.mean[0] - digits["chain_mean"]) <= min(law.error[0] + 1e-11, 1e-5)
    variance = law.basins[0].cov[0, 0]
    assert variance == pytest.approx(digits["chain_var"], rel=1e-4)


def test_the_metastable_reference():
    """weight_below_zero is split at 0, the basins at the unstable point -0.0499: the weights are close, not equal."""
    digits = json.loads((ROOT / "reference" / "stationary.json").read_text())["metastable"][0]
    law = law_of(fpa.Network(**PAIR, sigma=digits["sigma"]), -1, 1)
    assert law.reason == ""
    assert law.error[0] < 1e-4
    assert abs(law.mean[0] - digits["chain_mean"]) <= law.error[0] + 1e-8
    smaller = law.basins[0]
    assert smaller.mean[0] < 0
    assert smaller.weight == pytest.approx(digits["weight_below_zero"], rel=0.02)
    total = sum(basin.weight * basin.mean[0] for basin in law.basins)
    assert total == pytest.approx(law.mean[0], abs=1e-6)


@pytest.mark.parametrize(("sigma", "mean"), [(0.8, 0.832899583649941), (0.5, 0.934435187083166)])
def test_means_in_multiprecision_arithmetic(sigma, mean):
    """Chebyshev collocation in 50 digits, at 72 and 112 nodes (tests/benchmarks/bench_metastable.py).

    At sigma = 0.5 the gap is 3e-13 and the mean within each basin holds to 1e-12, so that the mean fixes the weight.
    """
    law = law_of(fpa.Network(**PAIR, sigma=sigma), -1, 1)
    smaller, larger = law.basins
    assert law.reason == ""
    assert abs(law.mean[0] - mean) <= law.error[0] + 1e-12
    weight = (larger.mean[0] - mean) / (larger.mean[0] - smaller.mean[0])
    assert abs(smaller.weight - weight) <= 0.002 * weight


def test_weights_against_trajectories():
    """sigma = 1.2: 2000 chains for 2500 steps, 4 standard errors between chains (0.013 of 0.22 and 0.017 of 0.33)."""
    net, rng, n, T = fpa.Network(**PAIR, sigma=1.2), np.random.default_rng(5), 2000, 2500
    law = law_of(net, -1, 1)
    h, below, total = np.full((n, 1), 0.9), np.zeros(n), np.zeros(n)
    border = -0.0500418  # the unstable fixed point
    for t in range(T + 1000):
        h = net.step(h, xi=rng.standard_normal(h.shape))
        if t >= 1000:
            below += h[:, 0] < border
            total += h[:, 0]
    for value, samples in ((law.basins[0].weight, below / T), (law.mean[0], total / T)):
        assert abs(samples.mean() - value) < 4 * samples.std() / np.sqrt(n)


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_two_like_basins_share_the_law_however_rare_the_hops(sigma):
    """b = 0: both weights are 1/2; at sigma = 0.3 the chain hops once in 1e37 steps. On nodes without the symmetry."""
    net = fpa.Network(**(PAIR | {"b": [0.0]}), sigma=sigma)
    law = law_of(net, [-0.999], [1.0])
    weights = np.array([basin.weight for basin in law.basins])
    errors = np.array([basin.weight_error for basin in law.basins])
    np.testing.assert_allclose(weights, 0.5, atol=0.01)
    assert (np.abs(weights - 0.5) <= errors + 1e-9).all()
    assert law.gap < (1e-36 if sigma == 0.3 else 1e-4)


def test_turning_the_network_round_turns_the_law_round():
    here = law_of(fpa.Network(**PAIR, sigma=0.6), -1, 1)
    there = law_of(fpa.Network(**(PAIR | {"b": [-0.05]}), sigma=0.6), -1, 1)
    np.testing.assert_allclose(there.mean, -here.mean, atol=here.error[0])
    weights = [sorted(basin.weight for basin in law.basins) for law in (here, there)]
    np.testing.assert_allclose(*weights, rtol=1e-3)
    assert there.gap == pytest.approx(here.gap, rel=1e-3)


def test_two_neurons_against_the_reference():
    digits = json.loads((ROOT / "reference" / "stationary.json").read_text())["two_neurons"][0]
    settings = {key: digits[key] for key in ("W", "b", "activation", "placement", "sigma", "gamma")}
    law = law_of(fpa.Network(**settings), 0, 7, tolerance=5e-3)
    assert law.reason == ""
    assert (np.abs(law.mean - digits["chain_mean"]) <= law.error + 1e-10).all()
    np.testing.assert_allclose(law.basins[0].cov, digits["chain_cov"], atol=3e-3)
    assert law.error.max() < 2e-3


def test_uncoupled_neurons_have_the_product_law():
    """Four basins, of weights 5e-3 to 0.7, within the stated errors."""
    gamma, sigma, b = np.array([0.3, 0.5]), np.array([1.0, 0.9]), np.array([-0.1, 0.05])
    settings = {"W": 2 * np.eye(2), "b": b, "gamma": gamma, "sigma": sigma, "activation": "tanh"}
    law = law_of(fpa.Network(**settings), -1, 1, tolerance=0.1)
    single = [
        law_of(fpa.Network(W=[[2.0]], b=b[[k]], gamma=gamma[k], sigma=sigma[k], activation="tanh"), -1, 1)
        for k in range(2)
    ]
    assert law.reason == ""
    np.testing.assert_array_less(np.abs(law.mean - [one.mean[0] for one in single]), law.error + 1e-4)
    assert len(law.basins) == 4
    for basin in law.basins:
        weight = 1.0
        for k, one in enumerate(single):
            weight *= next(x.weight for x in one.basins if x.mean[0] * basin.mean[k] > 0)
        assert abs(basin.weight - weight) <= basin.weight_error + 1e-4
        assert basin.weight == pytest.approx(weight, rel=0.1)


def test_what_does_not_apply_is_said():
    four = fpa.Network(W=np.eye(4) / 2, b=np.ones(4), activation="tanh", sigma=0.5)
    assert "4 neurons" in law_of(four, -1, 1).reason
    half = fpa.Network(W=np.eye(2) / 2, b=np.ones(2), activation="tanh", sigma=[0.5, 0.0])
    assert "without noise" in law_of(half, -1, 1).reason
    pair = fpa.Network(**PAIR, sigma=0.8)
    assert "no probability comes to the basin of [-0.9" in law_of(pair, 0.5, 1).reason
    assert "cuts the law" in law_of(pair, -0.8, 0.99).reason
    sharp = fpa.Network(W=2 * np.eye(2), activation="tanh", sigma=0.01)
    law = law_of(sharp, -1, 1)
    assert "does not fit" in law.reason
    assert np.isnan(law.mean).all()
