"""Bounds on the top exponent: closed forms, simulation, and the exponents that must keep within them."""

from __future__ import annotations

import numpy as np
import pytest
from problems import FORMS, bare_network

import fpanalysis as fpa


def test_the_bounds_of_the_sde_in_closed_form():
    """One dimension: linear drift a with noise sigma a h dB, and common noise sigma h dB: a - s^2 / 2 exactly."""
    drift = fpa.sde_exponent_bounds([[0.5]], [[0.0]], kind="drift", sigma=3.0)
    assert drift.lower == drift.upper == pytest.approx(0.5 - (3 * 0.5) ** 2 / 2)
    common = fpa.sde_exponent_bounds([[0.5, 1.0], [-1.0, 0.5]], np.zeros((2, 2)), kind="common", sigma=1.5)
    assert common.lower == common.upper == pytest.approx(0.5 - 1.5**2 / 2)
    assert common.holds
    assert common.margin == pytest.approx(0.625)
    assert not fpa.sde_exponent_bounds([[0.5]], [[0.0]]).holds


def test_the_bounds_of_the_sde_enclose_what_it_does():
    """Linear SDE with sigma diag(h) dB by small steps, the paper's A and W: the growth rate of its norm."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((3, 3)) - 0.5 * np.eye(3)
    dt, sigma = 1e-3, 1.2
    h, growth = rng.standard_normal((400, 3)), np.zeros(400)
    for _ in range(4000):
        h = h + dt * h @ A.T + sigma * np.sqrt(dt) * h * rng.standard_normal(h.shape)
        size = np.linalg.norm(h, axis=1)
        growth, h = growth + np.log(size), h / size[:, None]
    found = growth.mean() / 4
    bounds = fpa.sde_exponent_bounds(A, np.zeros((3, 3)), kind="state", sigma=sigma)
    spread = 4 * growth.std() / 4 / 20
    assert bounds.lower - spread <= found <= bounds.upper + spread
    assert bounds.noise == pytest.approx((-(sigma**2) / 2, sigma**2 * (1 / 2 - 1 / 3)))


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_a_networks_exponents_keep_within_the_bounds(mu):
    for seed in range(8):
        form, placement = FORMS[seed % 3]
        net = bare_network(6, 0.2 + 0.15 * seed, seed, form=form, placement=placement, sigma=0.5)
        bounds = fpa.exponent_bounds(net, multiplicative=mu)
        found = fpa.lyapunov(net, k=1, steps=400, chains=4, multiplicative=mu)
        assert bounds.step_lower - found.top_error <= found.top <= bounds.step_upper + found.top_error
        if not mu:
            assert bounds.step_upper <= 0.2 * bounds.upper + 1e-12
            assert bounds.upper == pytest.approx(np.linalg.norm(net.W, 2) - 1)


def test_bounds_refuse_what_they_do_not_fit():
    with pytest.raises(fpa.InputError, match="kind must be one of"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(2), kind="white")
    with pytest.raises(fpa.InputError, match="W must have shape"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(3))
    with pytest.raises(fpa.InputError, match="L and sigma must be >= 0"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(2), L=-1.0)
    with pytest.raises(fpa.InputError, match="multiplicative must be >= 0"):
        fpa.exponent_bounds(bare_network(), multiplicative=-0.1)
