"""Small noise: its order of convergence, the formulas of one neuron, and where it does not apply."""

import numpy as np
import pytest

import fpanalysis as fpa

SIGMA = np.array([0.05, 0.1, 0.2])


def random_network(**kwargs):
    rng = np.random.default_rng(3)
    N = 16
    W, b = 0.7 * rng.standard_normal((N, N)) / np.sqrt(N), rng.standard_normal(N)
    return fpa.Network(**({"W": W, "b": b, "gamma": 0.3, "activation": "softplus"} | kwargs))


@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}, {"activation": "tanh"}])
def test_remainder_is_of_fourth_order(kwargs):
    """Against the corrected closure, whose own error is of higher order: the slope of the difference is 4."""
    net = random_network(**kwargs)
    gaps, shifts = [], []
    for sigma in SIGMA:
        small, full = (fpa.stationary(net, sigma=sigma, method=name) for name in ("small-noise", "closure"))
        gaps.append(np.abs(small.mean - full.mean).max())
        shifts.append(np.abs(small.mean - small.start).max())
        assert np.abs(small.mean - full.mean).max() <= 3 * small.error.max()
    assert np.log2(np.divide(gaps[1:], gaps[:-1])) == pytest.approx([4, 4], abs=0.25)
    assert np.log2(np.divide(shifts[1:], shifts[:-1])) == pytest.approx([2, 2], abs=1e-9)


@pytest.mark.parametrize("placement", ["in", "out"])
def test_one_neuron_formulas(placement):
    """m - h* = f'' (sigma^2 [in] + w^2 Var h) / (2 (1 - w f')), Var h of the AR(1) process."""
    w, b, gamma, sigma = -1.3, 0.4, 0.2, 0.1
    net = fpa.Network(W=[[w]], b=[b], gamma=gamma, sigma=sigma, activation="softplus", placement=placement)
    st = fpa.stationary(net, method="small-noise")
    x = w * st.start[0] + b
    f1 = 1 / (1 + np.exp(-x))
    f2 = f1 * (1 - f1)
    drive = f1**2 if placement == "in" else 1.0
    variance = gamma * drive * sigma**2 / ((1 - w * f1) * (2 - gamma * (1 - w * f1)))
    direct = sigma**2 if placement == "in" else 0.0
    assert st.cov[0, 0] == pytest.approx(variance, rel=1e-12)
    assert st.mean[0] - st.start[0] == pytest.approx(f2 * (direct + w**2 * variance) / (2 * (1 - w * f1)), rel=1e-11)


def test_output_of_the_current_form_agrees_with_the_closure():
    net = random_network(form="current", W_out=np.ones((1, 16)) / 16)
    small, full = (fpa.stationary(net, sigma=0.05, method=name) for name in ("small-noise", "closure"))
    shift = full.output[0] - net.output(full.start)[0]
    assert small.output[0] - net.output(small.start)[0] == pytest.approx(shift, rel=5e-3)


def test_error_of_the_output_holds_the_smoothing_itself():
    """W = 0, current form: the state is exactly Gaussian and the mean rate is M(1, 1)."""
    net = fpa.Network(W=[[0.0]], b=[1.0], gamma=1.0, sigma=1.0, form="current", activation="softplus")
    st = fpa.stationary(net, method="small-noise")
    miss = abs(st.output[0] - net.activation.M(1.0, 1.0))
    assert 0 < miss <= st.output_error[0] < 4 * miss


def test_stated_errors_cover_the_closure():
    """Random networks and noise levels, both forms: the difference to the closure, less the closure's own error."""
    rng = np.random.default_rng(1)
    covered = []
    for k in range(60):
        N, kind = int(rng.integers(1, 8)), ({}, {"placement": "out"}, {"form": "current"})[k % 3]
        net = fpa.Network(
            W=0.8 * rng.standard_normal((N, N)) / np.sqrt(N),
            b=0.6 * rng.standard_normal(N),
            W_out=rng.standard_normal((1, N)),
            gamma=float(rng.choice([0.1, 0.3, 1.0])),
            sigma=float(rng.choice([0.1, 0.3, 0.6, 1.0])),
            activation=str(rng.choice(["softplus", "tanh", "sigmoid", "erf"])),
            **kind,
        )
        small, full = (fpa.stationary(net, method=name) for name in ("small-noise", "closure"))
        if small.status.ok and full.status.ok:
            covered += (np.abs(small.mean - full.mean) <= small.error + full.error).tolist()
            covered += (np.abs(small.output - full.output) <= small.output_error + full.output_error).tolist()
    assert len(covered) > 150
    assert np.mean(covered) >= 0.95


def test_a_kink_has_no_second_derivative():
    st = fpa.stationary(random_network(activation="relu", sigma=0.1), method="small-noise")
    assert st.status is fpa.Status.NOT_APPLICABLE
    assert np.isnan(st.mean).all()


def test_no_stable_fixed_point():
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.5, sigma=0.1)
    assert fpa.stationary(net, method="small-noise", start=[0.1, 0.0]).status is fpa.Status.NO_STABLE_FIXED_POINT


def test_an_error_that_cannot_be_estimated_is_infinite():
    """Noise so large that the smoothed dynamics grows: the slope of softplus rises to nearly 1/2, times w = 4."""
    net = fpa.Network(W=[[4.0]], b=[-3.0], gamma=0.1, activation="softplus", sigma=4.0)
    st = fpa.stationary(net, method="small-noise")
    assert st.status.ok
    assert np.isinf(st.error).all()
    assert np.isinf(st.output_error).all()
