"""Densities from Monte Carlo against laws known in closed form. Seeds are fixed; deviations are in units of the stated
standard errors, whose 63 or more degrees of freedom make bounds of 5 wider than one in 10^4 of a hundred bins."""

from __future__ import annotations

import numpy as np
import pytest
from problems import linear_covariance, random_network
from scipy.special import ndtr

from fpanalysis.fixed_points import settle
from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.stationary import monte_carlo
from fpanalysis.stationary._histogram import Histogram, joined
from fpanalysis.stationary._result import Problem


def law(net, sigma, rng=0, **settings):
    u = net.check_input(None)
    start = settle(net, np.zeros((1, net.N)), u)[0][0]
    return monte_carlo.solve([Problem(net, u, sigma, start)], rng, **settings)[0]


def deviations(density, cdf, atom=0.0):
    """Of the bins from those of a law with the distribution function `cdf`, beside a point mass, in standard errors."""
    edges = density.grids[0][0] - density.weights[0][0] / 2 + density.weights[0][0] * np.arange(len(density.values) + 1)
    expected = np.diff(cdf(edges)) / density.weights[0]
    assert density.mass == pytest.approx(1, abs=1e-12)
    assert abs(expected @ density.weights[0] + atom - 1) < 1e-3  # what is outside is rare
    return (density.values - expected) / density.error


def fair(z):
    """Neither too small nor wasteful errors: bins with few states have an error of one state at least."""
    return np.abs(z).max() < 5 and 0.4 < np.mean(z**2) < 1.6


@pytest.mark.parametrize("gamma", [0.1, 1.0])
def test_uncoupled_relu_has_its_point_mass_only_where_there_is_one(gamma):
    net = Network(W=[[0.0]], b=[0.3], gamma=gamma, activation="relu", W_out=[[-2.0]], b_out=[0.5])
    result = law(net, 0.6)
    neuron, output = result.marginals["neuron 0"], result.marginals["output 0"]
    assert abs(neuron.mass - 1) < 1e-12
    mean = neuron.values * neuron.grids[0] @ neuron.weights[0]
    assert abs(mean - net.activation.M(0.3, 0.6)) < 0.01
    assert output.names == ("output 0",)
    if gamma < 1:
        assert neuron.atoms == output.atoms == ()
        assert neuron.grids[0][0] > 0  # no state on the wrong side of 0
        return
    (where, probability), (moved, same) = neuron.atoms[0], output.atoms[0]
    n = result.details["chains"] * 40  # states taken, at least
    assert (where[0], moved[0]) == (0.0, 0.5)
    assert probability == same
    assert abs(probability - ndtr(-0.5)) < 4 * np.sqrt(ndtr(-0.5) * ndtr(0.5) / n)
    assert fair(deviations(neuron, lambda h: ndtr((h - 0.3) / 0.6), ndtr(-0.5)))
    assert fair(deviations(output, lambda z: ndtr((0.3 - (0.5 - z) / 2) / 0.6), ndtr(-0.5)))


@pytest.mark.parametrize("form", ["in", "out", "current"])
def test_linear_network_is_gaussian(form):
    settings = {"form": "current"} if form == "current" else {"placement": form}
    net = random_network(8, activation="linear", **settings)
    result = law(net, 0.5, density=["neuron 3", "output 1"])
    assert list(result.marginals) == ["neuron 3", "output 1"]
    C = linear_covariance(net, 0.5)
    for name, mean, variance in (
        ("neuron 3", result.start[3], C[3, 3]),
        ("output 1", net.output(result.start)[1], net.W_out[1] @ C @ net.W_out[1]),
    ):
        z = deviations(result.marginals[name], lambda h, m=mean, v=variance: ndtr((h - m) / np.sqrt(v)))
        assert fair(z)


def test_current_form_outputs_are_of_the_rates():
    """Uncoupled: x is Gaussian, and the output of a silent ReLU neuron is b_out exactly."""
    net = Network(W=[[0.0]], b=[0.2], gamma=0.5, activation="relu", form="current", W_out=[[2.0]], b_out=[-1.0])
    result = law(net, 1.0)
    s = np.sqrt(0.5 / 1.5)
    assert fair(deviations(result.marginals["neuron 0"], lambda x: ndtr((x - 0.2) / s)))
    output = result.marginals["output 0"]
    (where, probability) = output.atoms[0]
    assert where[0] == -1.0
    assert abs(probability - ndtr(-0.2 / s)) < 0.01
    assert fair(deviations(output, lambda z: ndtr(((z + 1) / 2 - 0.2) / s), ndtr(-0.2 / s)))


def test_by_default_small_networks_and_few_outputs():
    small, large, many = random_network(3), random_network(12), Network(W=np.zeros((6, 6)), gamma=0.2)
    run = {"chains": 8, "steps": 20, "burn_in": 10}
    assert list(law(small, 0.3, **run).marginals) == [f"neuron {i}" for i in range(3)] + ["output 0", "output 1"]
    assert list(law(large, 0.3, **run).marginals) == ["output 0", "output 1"]
    assert law(many, 0.3, **run).marginals == {}
    assert law(small, 0.3, density=(), **run).marginals == {}


@pytest.mark.parametrize("names", [["neuron 3"], ["output 2"], ["h"], "neuron 0", [0], ["neuron 0", "neuron 0"]])
def test_names_that_are_not_there(names):
    with pytest.raises(InputError, match="density"):
        law(random_network(3), 0.3, density=names)


def test_no_state_is_lost_and_blocks_add_up_exactly():
    g = np.random.default_rng(0)
    parts, values = [Histogram(False, 1e-16) for _ in range(3)], []
    for k, part in enumerate(parts):
        for scale in (0.01, 0.1, 30.0):  # later states far outside the first bins
            values.append(scale * g.normal(size=(50, 70)) + 5 * k)
            part.add(values[-1])
    whole = joined(parts)
    everything = np.concatenate(values, axis=None)
    assert whole.counts.sum() == everything.size
    edges = (whole.first + np.arange(whole.counts.shape[1] + 1)) * 2.0**whole.level
    assert len(edges) <= 513
    assert np.array_equal(whole.counts.sum(axis=0), np.histogram(everything, edges)[0])
    density = whole.density("neuron 0", 0.25)
    assert density.mass == pytest.approx(1, abs=1e-12)
    assert (
        abs(density.values * density.grids[0] @ density.weights[0] - 0.25 - everything.mean()) < density.weights[0][0]
    )


def test_errors_are_those_of_repeated_runs():
    net = Network(W=[[0.6]], b=[0.1], gamma=0.3, activation="tanh")
    runs = [law(net, 0.8, rng=seed, chains=128, steps=200).marginals["neuron 0"] for seed in range(24)]
    grids = [(run.grids[0], run.values, run.error, run.weights[0][0]) for run in runs]
    width = max(width for *_, width in grids)
    at = [grid[np.abs(grid - 0.25).argmin()] for grid, _, _, own in grids if own == width]
    assert len(set(at)) == 1
    values, errors = zip(
        *((v[np.abs(x - at[0]).argmin()], e[np.abs(x - at[0]).argmin()]) for x, v, e, w in grids if w == width),
        strict=True,
    )
    # chi^2 of len - 1 degrees of freedom: within a factor of two either way at 4 sigma or so
    assert len(values) >= 12
    assert 0.35 < np.var(values, ddof=1) / np.mean(np.square(errors)) < 2.3
