"""Curves followed by pseudo-arclength against curves known in closed form; directional fibers."""

from itertools import islice

import numpy as np
import pytest
from scipy.linalg import hadamard
from scipy.optimize import brentq

import fpanalysis as fpa
from fpanalysis.fixed_points.curve import correct, locate, tangent_of, trace
from fpanalysis.fixed_points.newton import bound
from fpanalysis.fixed_points.search.fibers import fibers


def circle(z):
    return np.array([z @ z - 1]), 2 * z[None]


def cubic(z):
    """x^3 - x - y: y has two folds, at x = -+ 1/sqrt(3)."""
    x, y = z
    return np.array([x**3 - x - y]), np.array([[3 * x**2 - 1, -1.0]])


def helix(z):
    """(cos p, sin p, p)"""
    x, y, p = z
    return np.array([x - np.cos(p), y - np.sin(p)]), np.array([[1, 0, np.sin(p)], [0, 1, -np.cos(p)]])


def start(G, z):
    z = np.asarray(z, float)
    return correct(G, z, tangent_of(G(z)[1]))


def test_a_circle_is_followed_all_the_way_round():
    points = list(islice(trace(circle, start(circle, [1, 0])), 200))
    z = np.array([point.z for point in points])
    np.testing.assert_allclose(np.hypot(*z.T), 1, atol=1e-14)
    angle = np.unwrap(np.arctan2(z[:, 1], z[:, 0]))
    assert (np.diff(angle) > 0).all()  # never back
    assert angle[-1] > 4 * np.pi


def test_tangents_are_those_of_the_curve():
    for point in islice(trace(helix, start(helix, [1, 0, 0])), 50):
        p = point.z[-1]
        np.testing.assert_allclose(point.z, [np.cos(p), np.sin(p), p], atol=1e-12)
        expected = np.array([-np.sin(p), np.cos(p), 1]) / np.sqrt(2)
        np.testing.assert_allclose(point.tangent, expected, atol=1e-9)


def test_the_determinant_is_that_of_the_bordered_matrix():
    for point in islice(trace(helix, start(helix, [1, 0, 0])), 20):
        det = np.linalg.det(np.vstack([point.DG, point.tangent]))
        assert point.sign * np.exp(point.log) == pytest.approx(det, rel=1e-12)


def test_orientation_is_kept_through_folds():
    points = list(islice(trace(cubic, start(cubic, [-2, -6])), 300))
    x = np.array([point.z[0] for point in points])
    assert (np.diff(x) > 0).all()
    y = np.array([point.z[1] for point in points if abs(point.z[0]) < 2])
    assert np.sum(np.diff(np.sign(np.diff(y))) != 0) == 2  # up, down, up
    assert {point.sign for point in points} == {points[0].sign}  # folds are no branch points


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-9, 1e-12])
def test_a_fold_is_located_to_the_tolerance(tolerance):
    a = start(cubic, [-1.0, 0.0])
    for b in trace(cubic, a):
        if b.tangent[-1] < 0:
            break
        a = b
    fold = locate(cubic, a, b, lambda point: point.tangent[-1], tolerance)
    assert abs(fold.z[0] + 1 / np.sqrt(3)) <= tolerance + 1e-15


def test_a_jump_is_located_like_a_zero():
    a = start(helix, [1, 0, 0])
    b = next(trace(helix, a, first=0.1))
    p = (a.z[-1] + 2 * b.z[-1]) / 3
    assert locate(helix, a, b, lambda point: 1.0 if point.z[-1] > p else -1.0, 1e-10).z[-1] == pytest.approx(
        p, abs=1e-9
    )
    assert locate(helix, a, b, lambda point: 1.0, 1e-10) is None


def test_a_corner_is_turned():
    """y = relu(x): the direction turns by 90 degrees; and the fold x = |y|, at which it turns back in x."""

    def corner(z):
        return np.array([z[1] - max(4 * z[0], 0)]), np.array([[-4.0 * (z[0] > 0), 1.0]])

    def fold(z):
        return np.array([abs(z[0]) - z[1] / 3]), np.array([[np.sign(z[0]), -1 / 3]])

    first = start(corner, [-1, 0])
    first = first if first.tangent[0] > 0 else first._replace(tangent=-first.tangent, sign=-first.sign)
    points = list(islice(trace(corner, first), 60))
    assert sum(point.corner for point in points) == 1
    assert points[-1].z[1] == pytest.approx(4 * points[-1].z[0])
    assert points[-1].z[1] > 1
    down = start(fold, [-1, 3])
    points = list(islice(trace(fold, down._replace(tangent=-down.tangent, sign=-down.sign)), 60))
    assert sum(point.corner for point in points) == 1
    assert points[-1].z[0] > 0.5
    assert points[-1].z[1] == pytest.approx(3 * points[-1].z[0])


def test_the_end_of_a_curve_ends_the_iterator():
    """sqrt(x) - y has no curve at x < 0."""

    def G(z):
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.array([np.sqrt(z[0]) - z[1] - 1]), np.array([[0.5 / np.sqrt(z[0]), -1.0]])

    first = start(G, [1.0, 0.0])
    points = list(islice(trace(G, first._replace(tangent=-first.tangent, sign=-first.sign)), 500))
    assert len(points) < 500


def patterns(N, count, gain):
    """Hopfield network of orthogonal patterns."""
    X = hadamard(N)[1 : count + 1].astype(float)
    return fpa.Network(W=gain * X.T @ X / N, activation="tanh")


def test_fibers_reach_all_points_of_two_patterns():
    """W = g (x x^T + y y^T) / N: 0; +-x and +-y with overlap m = tanh(g m); and four mixtures, in which x and y
    have the same overlap a / 2, a = tanh(g a), and half of the neurons are silent."""
    net = patterns(16, 2, 2.0)
    m = brentq(lambda m: np.tanh(2 * m) - m, 0.5, 1)
    found, rng = np.zeros((1, 16)), np.random.default_rng(0)
    for k in range(12):
        new = fibers(net, np.zeros(0), found[k % len(found)], rng)
        assert (np.abs(net.target(new) - new).max(axis=1, initial=0) <= bound(new)).all()
        found = np.vstack([found, *[h[None] for h in new if np.abs(found - h).max(axis=1).min() > 1e-6]])
    sizes = np.sort(np.linalg.norm(found, axis=1) / 4)
    np.testing.assert_allclose(sizes, np.sort([0, *[m] * 4, *[m / np.sqrt(2)] * 4]), atol=1e-12)


def test_a_fiber_does_not_return_its_start():
    net = fpa.Network(W=[[0.5]], b=[0.2], activation="tanh")
    h = fpa.find_fixed_points(net).h[0]
    assert fibers(net, np.zeros(0), h, np.random.default_rng(0)).shape == (0, 1)


def test_a_fiber_in_one_dimension_meets_every_point():
    """With N = 1 the fiber is the whole line."""
    net = fpa.Network(W=[[2.0]], b=[0.1], activation="tanh")
    h = np.sort(fpa.find_fixed_points(net).h[:, 0])
    others = fibers(net, np.zeros(0), h[:1], np.random.default_rng(0))
    np.testing.assert_allclose(np.sort(others[:, 0]), h[1:], atol=1e-12)


def test_fibers_find_what_the_search_misses():
    """Four patterns at gain 2 have hundreds of fixed points; each found by a fiber is one, and a new one."""
    net = patterns(32, 4, 2.0)
    new = fibers(net, np.zeros(0), np.zeros(32), np.random.default_rng(1), steps=600)
    assert len(new) > 10
    np.testing.assert_allclose(net.target(new), new, atol=2e-12)
    distance = np.abs(new[:, None] - new[None]).max(axis=-1) + np.eye(len(new))
    assert distance.min() > 1e-6


def test_an_unbounded_network_ends_too():
    net = fpa.Network(W=[[0.5, -1.0], [0.3, 0.2]], b=[1.0, 1.0], activation="softplus")
    h = fpa.find_fixed_points(net).h[0]
    assert len(fibers(net, np.zeros(0), h, np.random.default_rng(0), steps=500)) == 0
