"""Sample trajectories: where they start, that they obey the dynamics, and where they end."""

from itertools import pairwise

import numpy as np
import pytest
from problems import low_rank_network

import fpanalysis as fpa


def double_well(**settings):
    return fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", gamma=0.1, **settings)


@pytest.fixture(scope="module")
def points():
    return fpa.find_fixed_points(low_rank_network(16, 3, gain=3.0, gamma=0.2))


def test_every_state_follows_from_the_one_before(points):
    paths = points.trajectories(count=30, steps=7)
    assert paths.shape == (8, len(paths[0]), 16)
    for before, after in pairwise(paths):
        np.testing.assert_array_equal(after, points.net.step(before, points.u))


def test_they_leave_every_saddle_on_both_sides_of_its_unstable_directions(points):
    saddles = np.flatnonzero(points.n_unstable)
    paths = points.trajectories(count=100)
    starts = paths[0, : 2 * points.n_unstable.sum()]
    assert paths.shape[1] == len(starts) + 20
    nearest = np.argmin(np.linalg.norm(starts[:, None] - points.h[saddles], axis=2), axis=1)
    assert np.bincount(nearest).tolist() == (2 * points.n_unstable[saddles]).tolist()
    for start, k in zip(starts, saddles[nearest], strict=True):
        away, directions = start - points.h[k], points.unstable_directions(k)
        np.testing.assert_allclose(directions.T @ directions @ away, away, atol=1e-12)


def test_they_end_on_stable_points(points):
    ends = points.trajectories()[-1]
    stable = points.h[points.stable]
    distance = np.linalg.norm(ends[:, None] - stable, axis=2)
    left = 1e-3 * np.abs(points.h).max()  # about this much, in each coordinate, when they count as resting
    assert distance.min(axis=1).max() < 2 * np.sqrt(16) * left
    assert set(np.argmin(distance, axis=1)) == set(range(len(stable)))


def test_the_two_sides_of_a_saddle_end_in_different_wells():
    points = fpa.find_fixed_points(double_well())
    (left, right), wells = points.trajectories(count=3)[-1, :2, 0], points.h[points.stable][:, 0]
    assert sorted([left, right]) == pytest.approx(sorted(wells), abs=2e-3)


def test_few_are_of_the_saddles_with_the_fewest_unstable_dimensions(points):
    paths = points.trajectories(count=5, steps=1)
    assert paths.shape[1] == 5  # four of them from saddles
    nearest = np.argmin(np.linalg.norm(paths[0, :4, None] - points.h, axis=2), axis=1)
    assert points.n_unstable[nearest].tolist() == [1, 1, 1, 1]


def test_those_that_escape_are_cut():
    net = fpa.Network(W=[[1.5]], b=[-0.5], activation="linear", gamma=0.5)  # h = 1 repels: both sides diverge
    paths = fpa.find_fixed_points(net).trajectories()
    assert np.isnan(paths[-1]).all()
    assert np.isfinite(paths[0]).all()
    assert np.nanmax(np.abs(paths)) < 1e3


def test_a_limit_cycle_does_not_come_to_rest():
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2)
    paths = fpa.find_fixed_points(net).trajectories()
    assert len(paths) == 101  # twenty time constants
    assert np.linalg.norm(paths[-1], axis=1).min() > 0.5


def test_the_seed_decides(points):
    np.testing.assert_array_equal(points.trajectories(rng=1), points.trajectories(rng=1))
    assert (points.trajectories(rng=1, steps=1) != points.trajectories(rng=2, steps=1)).any()


@pytest.mark.parametrize("bad", [{"count": 0}, {"count": None}, {"steps": 0}, {"steps": 2.5}])
def test_bad_numbers(points, bad):
    with pytest.raises(fpa.InputError, match="must be a positive whole number"):
        points.trajectories(**bad)
