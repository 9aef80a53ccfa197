"""Basins of attraction, and how a law is split among them."""

import numpy as np

import fpanalysis as fpa
from fpanalysis.stationary._basins import attractors, basin_of, split

PAIR = fpa.Network(W=[[2.0]], b=[0.05], activation="tanh", gamma=0.1)


def test_in_one_dimension_the_unstable_point_is_the_border():
    points = attractors(PAIR, np.zeros(0))
    fps = fpa.find_fixed_points(PAIR)
    border = fps.h[~fps.stable][0, 0]
    states = np.linspace(-2, 2, 401)[:, None]
    labels = basin_of(PAIR, np.zeros(0), states, points)
    np.testing.assert_array_equal(points[labels, 0] > 0, states[:, 0] > border)


def test_states_that_never_rest_belong_to_no_basin():
    ring = fpa.Network(W=3 * np.array([[0.0, -1.0], [1.0, 0.0]]), gamma=0.5, activation="tanh")
    assert (basin_of(ring, np.zeros(0), np.ones((2, 2)), np.zeros((1, 2))) == -1).all()
    assert (basin_of(ring, np.zeros(0), np.ones((2, 2)), np.zeros((0, 2))) == -1).all()


def test_split_puts_the_law_together_again():
    rng = np.random.default_rng(0)
    states, weights = rng.normal(size=(200, 2)), rng.dirichlet(np.ones(200))
    labels = (states[:, 0] > 0).astype(int)
    basins = split(labels, states, weights, np.array([[-1.0, 0.0], [1.0, 0.0], [9.0, 9.0]]))
    assert basins[2].weight == 0
    assert np.isnan(basins[2].mean).all()
    total = sum(basin.weight for basin in basins)
    mean = sum(basin.weight * basin.mean for basin in basins[:2])
    second = sum(basin.weight * (basin.cov + np.outer(basin.mean, basin.mean)) for basin in basins[:2])
    np.testing.assert_allclose(total, 1, atol=1e-14)
    np.testing.assert_allclose(mean, weights @ states, atol=1e-14)
    np.testing.assert_allclose(second, (weights[:, None] * states).T @ states, atol=1e-14)
