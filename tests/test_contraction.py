"""Certificates of contraction: by brute force over all slopes, against another search, and by what they promise."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from problems import FORMS, bare_network
from scipy.optimize import minimize

import fpanalysis as fpa
from fpanalysis.stability._scaled import Family, infinity_norm


def weighted_norm(J, T, norm):
    return np.linalg.norm(T[:, None] * J / T, {"infinity": np.inf, "1": 1, "2": 2}[norm])


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", ["tanh", "relu", {"name": "leaky_relu", "slope": 0.3}])
def test_the_rate_bounds_the_norm_at_every_slope(form, activation):
    """All 2^N corners of the slopes, where the norm, convex in them, is largest; the gains differ between neurons."""
    gamma = np.array([0.1, 0.3, 0.9, 1.0, 0.5])
    net = bare_network(5, gain=1.2, activation=activation, form=form, gamma=gamma)
    found = fpa.contraction_certificates(net)
    worst = dict.fromkeys(("infinity", "1", "2"), 0.0)
    for d in itertools.product(*found.slopes.T):
        DW = np.diag(d) @ net.W if form == "rate" else net.W @ np.diag(d)
        J = np.diag(1 - gamma) + gamma[:, None] * DW
        for c in found.certificates:
            worst[c.norm] = max(worst[c.norm], weighted_norm(J, c.weights, c.norm))
    for c in found.certificates:
        assert worst[c.norm] <= c.rate
        slack = 1e-12 if c.norm != "2" else 0.1  # Young's inequality takes each neuron's worst at once
        assert worst[c.norm] >= c.rate * (1 - slack)
        assert 0 < c.rounding < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_of_the_infinity_norm_are_the_best(seed):
    """Against the largest spectral radius over all choices of rows (Perron-Frobenius for the worst D)."""
    rng = np.random.default_rng(seed)
    X, c = rng.standard_normal((5, 5)) - 1.5 * np.diag([1, 0, 1, 1, 0]), rng.uniform(0, 0.9, 5)
    C = np.diag(c)
    found = infinity_norm(Family(C, C, X, np.full(5, -0.9), np.ones(5)))  # self-inhibition: for some the worst d is lo
    corners = np.array(list(itertools.product((-0.9, 1.0), repeat=5)))
    radii = np.abs(np.linalg.eigvals(np.abs(C + corners[:, :, None] * X))).max(axis=1)
    assert found.rate == pytest.approx(radii.max(), rel=1e-8)
    assert found.rate >= radii.max() - 1e-14


def test_the_2_norm_is_at_the_optimum_of_another_search():
    """A derivative-free search from the result finds nothing better; a plain norm is far worse."""
    from fpanalysis.stability._scaled import _Square

    net = bare_network(3, gain=1.2)
    best = next(c for c in fpa.contraction_certificates(net).certificates if c.norm == "2")
    square = _Square(Family(0.8 * np.eye(3), 0.8 * np.eye(3), 0.2 * net.W, np.zeros(3), np.ones(3)))
    start = np.concatenate([np.log(best.weights), np.full(3, -1.0)])
    options = {"maxiter": 8000, "maxfev": 8000, "xatol": 1e-9, "fatol": 1e-12}
    search = minimize(lambda z: np.linalg.eigvalsh(square._H(z))[-1], start, method="Nelder-Mead", options=options)
    assert best.rate <= np.sqrt(search.fun) * (1 + 1e-3)
    assert best.rate < 0.8 + 0.2 * np.linalg.norm(net.W, 2) - 0.02


def test_a_symmetric_network_is_certified_up_to_the_loss_of_stability():
    """W symmetric: W' = W / w_max has D W of eigenvalues < 1 iff w_max < 1; with T = I the bound is met."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((10, 10))
    S = A @ A.T
    S /= np.linalg.eigvalsh(S)[-1]
    for w, holds in ((0.99, True), (1.01, False)):
        found = fpa.contraction_certificates(fpa.Network(W=w * S, activation="tanh", gamma=0.2))
        assert found.holds is holds
        assert found.best.rate == pytest.approx(1 - 0.2 * (1 - w), abs=2e-3)


def test_wherever_a_certificate_holds_the_exponents_respect_it():
    """Over random networks, with and without noise; and contraction is of any two trajectories, by its norm."""
    held = 0
    for seed in range(24):
        form, placement = FORMS[seed % 3]
        activation = ("tanh", "relu", "softplus", "sigmoid")[seed % 4]
        net = bare_network(6 + seed % 5, 0.3 + 0.05 * seed, seed, activation=activation, form=form, placement=placement)
        found = fpa.contraction_certificates(net)
        for sigma in (0.0, 0.8):
            top = fpa.lyapunov(net, sigma=sigma, k=1, steps=400, chains=4)
            if top.status is fpa.Status.DIVERGED:
                continue
            for c in found.certificates:
                assert top.top - top.top_error <= c.exponent
            held += found.holds
    assert held > 20


def test_two_trajectories_come_closer_at_the_rate():
    net = bare_network(20, gain=0.6, sigma=1.0, seed=4)
    best = fpa.contraction_certificates(net).best
    assert best.holds
    assert best.norm == "2"
    rng = np.random.default_rng(0)
    h, other = 3 * rng.standard_normal((2, 50, 20))
    for _ in range(20):
        xi = rng.standard_normal(h.shape)
        before = np.linalg.norm(best.weights * (other - h), axis=1)
        h, other = net.step(h, xi=xi), net.step(other, xi=xi)
        assert (np.linalg.norm(best.weights * (other - h), axis=1) <= best.rate * before + 1e-15).all()


def test_within_the_box_the_slopes_are_gentler():
    """Saturated units: a strong bias keeps x away from 0 wherever the state is in [-1, 1]."""
    net = bare_network(6, gain=1.1, b=np.full(6, 4.0), seed=1)
    everywhere, box = (fpa.contraction_certificates(net, region=region) for region in ("everywhere", "box"))
    assert box.best.rate < everywhere.best.rate - 0.02
    assert (box.box == [[-1] * 6, [1] * 6]).all() or np.abs(box.box).max() == pytest.approx(1)
    rng = np.random.default_rng(0)
    slopes = net.activation.df(net.preactivation(rng.uniform(-1, 1, (1000, 6))))
    assert (slopes >= box.slopes[0]).all()
    assert (slopes <= box.slopes[1]).all()
    assert fpa.lyapunov(net, sigma=0, k=1).top <= box.best.exponent + 1e-9
    unbounded = bare_network(6, gain=3, activation="softplus")
    assert fpa.contraction_certificates(unbounded, region="box").status is fpa.Status.NOT_APPLICABLE
    with pytest.raises(fpa.InputError, match="region must be"):
        fpa.contraction_certificates(net, region="ball")


def test_extreme_weights_are_bounded_too():
    """No step at all, and squares that overflow: no 2-norm is found, the others are right."""
    still = fpa.contraction_certificates(fpa.Network(W=[[0.0]], activation="tanh", gamma=1.0))
    assert [c.rate for c in still.certificates] == [0.0] * 3
    assert still.best.exponent == -np.inf
    huge = fpa.contraction_certificates(fpa.Network(W=[[1e160, 1.0], [1.0, 0.0]], activation="tanh", gamma=0.5))
    assert [c.rate for c in huge.certificates] == pytest.approx([5e159, 5e159, np.inf])
    with pytest.raises(fpa.InputError, match="net must be"):
        fpa.contraction_certificates(np.eye(2))
