"""Which networks provably keep their trajectories in a ball, and the box that holds their fixed points."""

from __future__ import annotations

import numpy as np
import pytest
from problems import random_network

import fpanalysis as fpa
from fpanalysis.activations import Activation, LeakyReLU, ReLU, Smoothed, get_activation
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.fixed_points.search.seeds import run

N = 12
S = np.linspace(0.0, 2.0, N)
RECTIFIERS = ["relu", "softplus", Smoothed("relu", 0.7), Smoothed("relu", S), Smoothed("softplus", S)]
UNBOUNDED = [*RECTIFIERS, "linear", LeakyReLU(0.2), LeakyReLU(-0.4), Smoothed(LeakyReLU(0.2), S)]


def contracting(activation, form="rate", radius=0.9):
    """The comparison matrix has spectral radius `radius`."""
    net = random_network(N, activation=activation, form=form)
    size = np.maximum(net.W, 0) if net.activation.excess is not None else np.abs(net.W)
    gain = radius / np.abs(np.linalg.eigvals(size)).max()
    return fpa.Network(W=gain * net.W, b=net.b, activation=net.activation, form=form, gamma=0.5)


@pytest.mark.parametrize("activation", RECTIFIERS, ids=repr)
def test_the_excess_of_rectifiers(activation):
    """0 <= f(x) <= max(x, 0) + c; of a ReLU c is the least, taken at the kink."""
    f = get_activation(activation)
    x = np.linspace(-30, 30, 2001)[:, None] * np.ones(N)
    assert (f.f(x) >= 0).all()
    assert (f.f(x) <= np.maximum(x, 0) + f.excess * (1 + 1e-14) + 1e-14).all()
    if getattr(f, "base", f).name == "relu":
        np.testing.assert_allclose(f.excess * np.ones(N), f.f(np.zeros(N)), rtol=1e-14)


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", UNBOUNDED, ids=repr)
def test_trajectories_from_afar_end_in_the_box(activation, form):
    net = contracting(activation, form)
    assert net.dissipative
    lo, hi = net.trapping_box()
    far = 1e4 * np.random.default_rng(0).normal(size=(20, N))
    h = run(net, far, np.zeros(0), 500)
    slack = 1e-6 * (1 + np.abs([lo, hi]).max())
    assert ((h >= lo - slack) & (h <= hi + slack)).all()
    points = fpa.find_fixed_points(net)
    assert points.completeness in ("consistent", "proven")
    assert ((points.h >= lo) & (points.h <= hi)).all()


@pytest.mark.parametrize("activation", [ReLU(), Smoothed("relu", 0.3), "linear"], ids=repr)
def test_a_network_that_may_run_away_is_not_called_dissipative(activation):
    net = fpa.Network(W=[[1.01]], b=[1.0], activation=activation)
    assert not net.dissipative
    assert net.trapping_box() is None
    assert run(net, np.ones((1, 1)), np.zeros(0), 20_000)[0, 0] > 1e6


def test_nothing_is_claimed_of_a_changed_relu():
    """An unnamed variant has its parent's name, not its bounds."""

    class Squared(ReLU):
        def f(self, x):
            return np.maximum(x, 0.0) ** 2

    class Unknown(Activation):
        def f(self, x):
            return np.asarray(x) ** 2

    for f in (Squared(), Unknown()):
        net = fpa.Network(W=[[0.5]], b=[3.0], activation=f)
        assert f.excess is None
        assert not net.dissipative


def test_a_de_noised_network_has_its_list_proven():
    """A smoothed ReLU of three neurons, bistable: branch and prune in the trapping box."""
    net = fpa.Network(
        W=[[0.5, -2.0, 0.1], [-2.0, 0.5, 0.1], [0.2, 0.2, -0.5]], b=[1.0, 1.0, 0.3], activation=Smoothed("relu", 0.1)
    )
    points = fpa.find_fixed_points(net)
    assert points.completeness == "proven"
    assert points.index_sum == 1
    assert len(points) == 3


def test_smooth_neurons_beside_one_with_a_kink_do_not_sit_on_it():
    """f' of a smoothed neuron differs from side to side by rounding, and by its curvature, which is no kink."""
    net = contracting(Smoothed("relu", S))
    assert not net.activation.smooth
    points = fpa.find_fixed_points(net)
    assert points.index_sum == 1
    assert not kinked(net, points.h, points.u).any()
    at = np.where(S > 0, 0.3, 0.0)
    moved = fpa.Network(W=net.W, b=at - net.W @ at, activation=net.activation)  # neuron 0 gets 0, its kink
    assert np.flatnonzero(kinked(moved, at[None], np.zeros(0))[0]).tolist() == [0]
