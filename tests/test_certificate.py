"""Certificates against roots in multiprecision, brute force and closed forms: they enclose, and never two points."""

import mpmath
import numpy as np
import pytest
from problems import clique_network, hopfield_network, winner_take_all

import fpanalysis as fpa
from fpanalysis.fixed_points.certificate import certify

CASES = {
    "tanh": {"activation": "tanh", "gain": 2.0},
    "softplus": {"activation": "softplus", "gain": 1.5},
    "sigmoid": {"activation": "sigmoid", "gain": 6.0},
    "erf": {"activation": "erf", "gain": 2.0},
    "relu": {"activation": "relu", "gain": 0.9},
    "leaky": {"activation": {"name": "leaky_relu", "slope": -0.3}, "gain": 0.9},
    "current": {"activation": "tanh", "gain": 2.0, "form": "current"},
    "per neuron": {"activation": "tanh", "gain": 2.0, "gamma": np.linspace(0.1, 1, 5)},
}
FUNCTIONS = {
    "tanh": mpmath.tanh,
    "softplus": lambda x: mpmath.log(1 + mpmath.exp(x)),
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "erf": mpmath.erf,
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mpmath.mpf(-0.3) * x,
}


def network(gain, N=5, seed=0, **settings):
    rng = np.random.default_rng(seed)
    W, b = gain * rng.standard_normal((N, N)) / np.sqrt(N), rng.standard_normal(N)
    return fpa.Network(W=W, b=b, W_in=rng.standard_normal((N, 2)), **settings)


def exact_zero(net, h, u):
    """The zero of F(h) - h near `h`, to 40 digits, by Newton's method with the float64 inverse as slope."""
    f = FUNCTIONS[net.activation.name]
    with mpmath.workdps(50):
        W, drive = mpmath.matrix(net.W), mpmath.matrix(net.W_in) * mpmath.matrix(u) + mpmath.matrix(net.b)
        Y = mpmath.matrix(np.linalg.inv(np.eye(net.N) - net.target_jacobian(h, u)))
        z = mpmath.matrix(h)
        for _ in range(12):
            F = (W * z + drive).apply(f) if net.form == "rate" else W * z.apply(f) + drive
            z = z + Y * (F - z)
        assert max(abs(x) for x in F - z) < mpmath.mpf(10) ** -40
        return z


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", range(3))
def test_the_error_holds_the_true_point(case, seed):
    net, u = network(seed=seed, **CASES[case]), [0.3, -0.2]
    points = fpa.find_fixed_points(net, u)
    assert points.certified.any()
    for h, error, radius in zip(points.h, points.error, points.radius, strict=True):
        distance = max(abs(x) for x in exact_zero(net, h, u) - mpmath.matrix(h))
        assert distance <= error <= radius
        assert error < 1e-12


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9])
def test_an_inaccurate_point_gets_the_error_it_has(distance):
    """A point moved off the zero is not certified with less than its distance from it."""
    net = hopfield_network(2, N=16)
    points = fpa.find_fixed_points(net)
    moved = points.h + distance * np.random.default_rng(0).choice([-1.0, 1.0], points.h.shape)
    proven = certify(net, moved, points.u)
    assert proven.certified.all()
    assert (proven.error >= distance * (1 - 1e-6)).all()
    assert (proven.error <= 10 * distance).all()


def families():
    yield "hopfield", hopfield_network(3)
    yield "winner", winner_take_all()
    W, c, _ = clique_network([3, 4, 2])
    yield "cliques", fpa.Network(W=W, b=c)
    for seed in range(4):
        yield f"tanh {seed}", network(3.0, N=8, seed=seed, activation="tanh")
    yield "close pair", fpa.Network(W=[[1.0 + 1e-4]], activation="tanh")


@pytest.mark.parametrize(("net"), [pytest.param(net, id=name) for name, net in families()])
def test_no_ball_holds_two_points(net):
    points = fpa.find_fixed_points(net)
    assert points.certified.all()
    apart = np.abs(points.h[:, None] - points.h[None]).max(axis=2)
    np.fill_diagonal(apart, np.inf)
    assert (points.radius < apart.min(axis=1)).all()


def test_the_radius_reaches_as_far_as_it_can():
    """h = relu(h / 2 + 1) = 2: beyond the kink, at a distance of 4, Y = 2 makes T no contraction."""
    points = fpa.find_fixed_points(fpa.Network(W=[[0.5]], b=[1.0]))
    assert points.h[0, 0] == pytest.approx(2.0)
    assert 2 < points.radius[0] <= 4
    linear = fpa.find_fixed_points(fpa.Network(W=[[-3.0]], b=[1.0], activation="linear"))
    assert linear.radius[0] > 5


@pytest.mark.parametrize(
    "net",
    [
        fpa.Network(W=[[1.0]], activation="tanh"),  # a pitchfork at its critical gain
        fpa.Network(W=[[1.0, 0.0], [0.0, 0.5]], activation="linear"),  # a line of fixed points
    ],
)
def test_singular_points_are_reported_and_not_certified(net):
    points = fpa.find_fixed_points(net)
    assert len(points)
    assert points.singular.all()
    assert not points.certified.any()
    assert np.isnan(points.radius).all()
    assert np.isnan(points.error).all()
    assert points.completeness == "unknown"


def test_a_point_on_a_kink_may_still_be_the_only_one():
    """Every slope d between those of the two sides, 0 and 1, leaves 1 + d / 2 within 1/2 of 1."""
    points = fpa.find_fixed_points(fpa.Network(W=[[-0.5]], b=[0.0]))
    assert points.h.tolist() == [[0.0]]
    assert points.singular.tolist() == [True]
    assert points.certified.tolist() == [True]


def test_an_unknown_slope_range_is_not_certified():
    class Bump(fpa.Activation):
        name = "bump for certificates"
        bounded = True

        def f(self, x):
            return np.exp(-np.square(x))

        def df(self, x):
            return -2 * np.asarray(x) * self.f(x)

    points = fpa.find_fixed_points(fpa.Network(W=[[0.5]], activation=Bump()))
    assert len(points) == 1
    assert not points.certified.any()
    assert points.completeness == "consistent"
