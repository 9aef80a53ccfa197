"""The exact chain of two and three neurons: densities, basins and limits, against simulation, products and refusals."""

import dataclasses
from functools import cache

import numpy as np
import pytest
from problems import TWO_NEURONS
from scipy.sparse.linalg import ArpackError
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis.stationary._basins import basin_of
from fpanalysis.stationary._collocation import _leading

PAIR = fpa.Network(W=[[0.5, -0.9], [0.6, 0.3]], b=[0.3, -0.2], gamma=0.5, activation="tanh", sigma=0.4)
FORMS = {
    "in": {"placement": "in"},
    "out": {"placement": "out"},
    "current": {"form": "current"},
}


@cache
def chain(net, u=None):
    st = fpa.stationary(net, u=u, method="chain")
    assert st.status.ok, st
    return st


def simulate(net, u=None, start=None, chains=20_000, times=10, every=4, burn=40):
    rng = np.random.default_rng(7)
    h = np.zeros((chains, net.N)) if start is None else start[np.arange(chains) % len(start)]
    states = []
    for t in range(burn + times * every):
        h = net.step(h, u, rng.standard_normal(h.shape))
        if t >= burn and t % every == 0:
            states.append(h)
    return np.stack(states)


def distance(density, sample):
    """Kolmogorov's, at the upper ends of the cells."""
    ends = density.grids[0] + density.weights[0] / 2
    law = np.cumsum(density.values * density.weights[0]) + sum(p for _, p in density.atoms)
    return np.abs(np.searchsorted(np.sort(sample), ends, side="right") / len(sample) - law).max()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_law_of_two_neurons_is_what_a_simulation_visits(activation, form):
    net = dataclasses.replace(PAIR, activation=activation, **FORMS[form])
    st, states = chain(net), simulate(net)
    runs = states.mean(axis=0)  # one mean per chain: independent
    assert (np.abs(st.mean - runs.mean(axis=0)) < 4 * runs.std(axis=0) / np.sqrt(len(runs)) + st.error).all()
    assert abs(st.density.mass - 1) < 1e-9
    assert (st.density.values >= 0).all()
    for i in range(2):
        marginal = st.marginals[f"neuron {i}"]
        assert distance(marginal, states[-1, :, i]) < 1.63 / np.sqrt(len(runs)) + 2e-3  # 99 %, and the cells
        centres = np.sum(marginal.grids[0] * marginal.values * marginal.weights[0])
        assert abs(centres - st.mean[i]) < 5e-3 * np.sqrt(st.cov[i, i])


def test_bistable_reference_has_a_density():
    st = chain(TWO_NEURONS)
    h = np.stack(np.meshgrid(*st.density.grids, indexing="ij"), axis=-1).reshape(-1, 2)
    q = (st.density.values * np.multiply.outer(*st.density.weights)).ravel()
    assert abs(q.sum() - 1) < 1e-9
    np.testing.assert_allclose(np.cov(h.T, aweights=q, ddof=0), st.cov, rtol=0, atol=2e-3)


def test_uncoupled_silent_neurons_keep_their_point_mass():
    """gamma = 1, W = 0: two clipped Gaussians, independent."""
    b, sigma = np.array([0.3, -0.2]), 0.4
    st = chain(fpa.Network(W=np.zeros((2, 2)), b=b, gamma=1.0, activation="relu", sigma=sigma))
    zero = norm.cdf(-b / sigma)
    np.testing.assert_allclose(st.details["mass_at_zero"], [*zero, 1 - np.prod(1 - zero)], rtol=0, atol=1e-9)
    assert abs(st.density.atoms[0][1] - zero.prod()) < 1e-6
    assert abs(st.density.mass + (st.details["mass_at_zero"][2] - zero.prod()) - 1) < 1e-6
    for i in range(2):
        marginal = st.marginals[f"neuron {i}"]
        assert abs(marginal.atoms[0][1] - zero[i]) < 1e-6
        ends = marginal.grids[0] + marginal.weights[0] / 2
        law = np.cumsum(marginal.values * marginal.weights[0]) + zero[i]
        assert np.abs(law - norm.cdf((ends - b[i]) / sigma)).max() < 1e-6


def test_three_uncoupled_neurons_are_a_product():
    net = fpa.Network(W=np.diag([-0.5, 0.3, 0.1]), b=[0.6, 0.2, -0.1], gamma=0.6, activation="tanh", sigma=0.5)
    st = chain(net)
    for i in range(3):
        one = chain(
            fpa.Network(W=net.W[i : i + 1, i : i + 1], b=net.b[i : i + 1], gamma=0.6, activation="tanh", sigma=0.5)
        )
        assert abs(st.mean[i] - one.mean[0]) < st.error[i] + one.error[0]
        assert abs(st.cov[i, i] - one.cov[0, 0]) < 1e-6


def test_basins_of_two_neurons_are_weighed_as_a_simulation_visits_them():
    net = fpa.Network(W=[[1.2, 0.8], [0.8, 1.2]], b=[0.05, 0.0], gamma=0.2, activation="tanh", sigma=1.6)
    st = chain(net)
    assert sum(basin.weight for basin in st.basins) == pytest.approx(1, abs=1e-3)
    total = sum(basin.weight * basin.mean for basin in st.basins)
    assert (np.abs(total - st.mean) < max(b.error.max() + 2 * b.weight_error for b in st.basins)).all()
    at = int(np.argmin([basin.mean[0] for basin in st.basins]))
    low = st.basins[at]
    start = np.array([basin.fixed_point for basin in st.basins])
    states = simulate(net, start=start, chains=4000, times=8, every=100, burn=600)
    labels = basin_of(net, np.zeros(0), states.reshape(-1, 2), start).reshape(len(states), -1)
    share = (labels == at).mean(axis=0)
    assert abs(low.weight - share.mean()) < 4 * share.std() / np.sqrt(len(share)) + low.weight_error


def test_the_box_holds_every_stable_fixed_point():
    """The second basin is left after 1750 steps only; the gap says so."""
    net = fpa.Network(
        W=[[1.2, -0.9], [-0.9, 1.2]], W_in=[[0.3], [-0.3]], gamma=0.2, activation="tanh", sigma=0.8
    )  # fmt: skip
    st = fpa.stationary(net, u=[0.5], method="chain")
    assert st.status.ok
    assert 1500 < st.relaxation_time < 2000
    assert min(basin.weight for basin in st.basins) < 1e-3


def test_one_neuron_without_noise_follows_the_other():
    net = dataclasses.replace(PAIR, sigma=[0.4, 0.0])
    st, runs = chain(net), simulate(net).mean(axis=0)
    assert (np.abs(st.mean - runs.mean(axis=0)) < 4 * runs.std(axis=0) / np.sqrt(len(runs)) + st.error).all()
    assert st.density is None


def test_a_limit_cycle_has_a_law():
    st = chain(fpa.Network(W=[[0.0, -3.0], [3.0, 0.0]], gamma=0.5, activation="tanh", sigma=0.5))
    assert (np.abs(st.mean) <= st.error + 1e-12).all()  # h -> -h
    assert abs(st.cov[0, 0] - st.cov[1, 1]) < 1e-7  # a quarter turn


@pytest.mark.parametrize("b", [0.3, -0.3])
def test_growing_networks_are_refused(b):
    net = fpa.Network(W=[[1.2, 0.3], [0.2, 1.1]], b=[b, b], gamma=0.5, activation="relu", sigma=0.3)
    st = fpa.stationary(net, method="chain")
    assert st.status is fpa.Status.DIVERGED
    assert "leads farther away" in st.reason


def test_slow_steps_are_not_taken_for_growth():
    net = dataclasses.replace(PAIR, activation="relu", gamma=0.005)
    assert fpa.stationary(net, method="chain").status is not fpa.Status.DIVERGED


def test_eigenvalues_are_found_where_arpack_gives_up(monkeypatch):
    """As it does now and then where few eigenvalues are not zero: its new start is random."""
    K = np.random.default_rng(0).random((101, 2)) @ np.random.default_rng(1).random((2, 101))
    K /= K.sum(axis=1, keepdims=True)
    wanted = sorted(np.abs(np.linalg.eigvals(K)))[-2:]

    def gives_up(*_, **__):
        raise ArpackError(3)

    monkeypatch.setattr("scipy.sparse.linalg.eigs", gives_up)
    np.testing.assert_allclose(sorted(np.abs(_leading(K)))[-2:], wanted, rtol=1e-10)
    assert abs(wanted[-1] - 1) < 1e-12
