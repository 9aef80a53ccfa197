"""The front door of the stationary methods: choice, point masses, starts, and input that cannot be used."""

import numpy as np
import pytest
from problems import random_network

import fpanalysis as fpa
from fpanalysis.stationary import methods

RING = 3 * np.array([[0.0, -1.0], [1.0, 0.0]])


def test_methods_are_the_files():
    assert methods() == ["chain", "closure", "fokker-planck", "monte-carlo", "reduced", "small-noise"]


@pytest.mark.parametrize("method", ["auto", "closure", "monte-carlo", "small-noise"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_without_noise_the_law_is_a_point(method, activation):
    """Also for small noise at a kink: without noise there is nothing to expand."""
    net = random_network(6, activation=activation)
    st = fpa.stationary(net, [0.5, 0.5], sigma=0.0, method=method)
    assert st.status is fpa.Status.OK
    np.testing.assert_allclose(net.target(st.mean, [0.5, 0.5]), st.mean, rtol=0, atol=1e-12)
    assert not st.error.any()
    assert not st.cov.any()
    np.testing.assert_array_equal(st.output, net.output(st.mean))


@pytest.mark.parametrize("method", ["closure", "monte-carlo"])
def test_without_noise_and_without_rest_there_is_no_law(method):
    ring = fpa.Network(W=RING, gamma=0.5, activation="tanh")
    assert fpa.stationary(ring, method=method, start=[0.1, 0.0]).status is fpa.Status.NO_STABLE_FIXED_POINT
    runaway = fpa.Network(W=[[1.5]], b=[0.1], gamma=0.5)
    assert fpa.stationary(runaway, method=method).status is fpa.Status.DIVERGED


def test_auto_says_what_it_chose():
    assert fpa.stationary(random_network(6), [0, 0], sigma=0.1).method == "closure"


def test_start_picks_the_basin():
    net = fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", sigma=0.1)
    up, down = (fpa.stationary(net, start=[h]) for h in (0.5, -0.5))
    assert down.start < 0 < up.start
    assert down.mean < 0 < up.mean


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "closur"}, "unknown stationary method"),
        ({"method": None}, "unknown stationary method"),
        ({"start": [0.0]}, "start must have shape"),
        ({"start": np.full(6, np.nan)}, "start must be finite"),
        ({"start": "0"}, "start must"),
        ({"sigma": -1.0}, "sigma must be >= 0"),
        ({"sigma": "loud"}, "sigma"),
        ({"u": [1.0]}, "2 input value"),
        ({"u": [[1.0, 2.0]]}, "one constant input"),
        ({"chains": 64}, "chains"),
        ({"method": "monte-carlo", "chains": "64"}, "whole number"),
        ({"rng": "seed"}, "rng"),
        ({"rng": -1}, "rng"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.stationary(random_network(6), **({"u": [0.0, 0.0], "sigma": 0.1} | arguments))
