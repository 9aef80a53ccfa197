"""The answer to a periodic input: closed forms, the two-state theory with the chain's own rate, and Monte Carlo."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis import figures

BISTABLE = fpa.Network(W=[[2.0]], W_in=[[1.0]], gamma=0.4, activation="tanh", placement="out")


def two_state(net, amplitude, sigma):
    """SNR = pi (delta / D)^2 r_K, D = gamma sigma^2 / 2: r_K half the gap of the chain without signal, and delta half
    of what A makes of the wells' depths, A tanh(2 h) / 2, whose mean in a well at rest is that of h / 2."""
    st = fpa.stationary(net.with_sigma(sigma), u=[0.0], method="chain")
    D, well = net.gamma * sigma**2 / 2, abs(float(st.basins[0].mean[0]))
    return np.pi * (amplitude * well / 2 / D) ** 2 * st.gap / 2


def peak(sigma, values):
    """Of the parabola through the logarithms of the largest value and its neighbours."""
    k = int(np.argmax(values))
    assert 0 < k < len(values) - 1
    a, b, _ = np.polyfit(sigma[k - 1 : k + 2], np.log(values[k - 1 : k + 2]), 2)
    return -b / (2 * a)


@pytest.mark.parametrize(("placement", "form"), [("out", "rate"), ("in", "rate"), ("in", "current")])
def test_a_linear_unit_in_closed_form(placement, form):
    """a = 1 - gamma + gamma w: z_1 = gamma A W_out / (e^{i omega} - a), up to phase, and S the same for sigma."""
    gamma, w, A, P, sigma = 0.3, 0.6, 0.7, 24, 0.5
    net = fpa.Network(
        W=[[w]], W_in=[[1.0]], b=[0.4], W_out=[[-2.0]], gamma=gamma, activation="linear", placement=placement, form=form
    )
    found = fpa.periodic_response(net, A, P, [sigma])
    turn = np.exp(2j * np.pi / P)
    passed = gamma * turn / (turn - (1 - gamma + gamma * w)) * -2.0  # u_t is seen in z_t, one step on in the state
    assert found.ok
    assert found.gain[0, 0] == pytest.approx(abs(passed), rel=1e-9)
    assert np.exp(-1j * found.lag[0, 0]) == pytest.approx(passed / abs(passed), rel=1e-9)
    assert found.noise[0, 0] == pytest.approx(abs(passed) ** 2 * sigma**2, rel=1e-9)
    assert found.snr[0, 0] == pytest.approx(np.pi * A**2 / sigma**2, rel=1e-9)
    assert found.amplification[0, 0] == found.gain[0, 0] ** 2


@pytest.mark.parametrize(
    ("settings", "sigma"),
    [
        ({"activation": "tanh", "placement": "out", "W": [[2.0]]}, 1.2),
        ({"activation": "tanh", "placement": "in", "W": [[2.0]]}, 1.2),
        ({"activation": "tanh", "form": "current", "W": [[2.0]]}, 1.2),
        ({"activation": "relu", "placement": "in", "W": [[0.5]], "b": [-0.2]}, 0.8),
        ({"activation": "softplus", "placement": "out", "W": [[0.5]], "b": [0.1]}, 0.8),
        ({"activation": "relu", "placement": "out", "W": [[0.6]], "b": [-0.2], "gamma": 1.0}, 0.5),
    ],
)
def test_chain_and_monte_carlo_agree(settings, sigma):
    """1000 runs of 16 periods; twice the 95 % half-width is four standard errors."""
    net = fpa.Network(**{"W_in": [[1.0]], "W_out": [[1.0], [-2.0]], "gamma": 0.3} | settings)
    exact = fpa.periodic_response(net, 0.3, 40, [sigma])
    runs = fpa.periodic_response(net, 0.3, 40, [sigma], method="monte-carlo", trials=1000, rng=1)
    assert exact.ok
    assert np.all(np.abs(runs.gain - exact.gain) <= 2 * runs.gain_error)
    assert np.all(np.abs(runs.snr - exact.snr) <= 2 * runs.snr_error)
    assert np.all(runs.snr_error < 0.5 * runs.snr)
    away = np.angle(np.exp(1j * (runs.lag - exact.lag)))
    assert np.all(np.abs(away) <= 2 * runs.gain_error / runs.gain)


@pytest.mark.parametrize(
    ("settings", "A", "P", "sigma", "gain", "error"),
    [
        ({"form": "current", "activation": "relu", "W": [[0.5]], "b": [-0.5]}, 2.0, 7, 0.4, 0.50062, 5e-5),
        ({"placement": "in", "activation": "relu", "W": [[0.5]], "b": [-1.0]}, 0.8, 10, 0.4, 0.04205, 6e-5),
    ],
)
def test_one_step_without_memory_by_long_runs(settings, A, P, sigma, gain, error):
    """gamma = 1: bounds of the state move with the input. Runs of plain numpy, 3.2 and 0.8 million periods, with their
    standard errors."""
    found = fpa.periodic_response(fpa.Network(W_in=[[1.0]], gamma=1.0, **settings), A, P, [sigma])
    assert found.ok
    assert abs(found.gain[0, 0] - gain) <= 4 * error


@pytest.mark.parametrize(("placement", "form"), [("out", "rate"), ("in", "rate"), ("in", "current")])
def test_a_unit_without_recurrence_in_closed_form(placement, form):
    """gamma = 1, w = 0: the mean output is f or, where noise passes f, M of the drive alone."""
    net = fpa.Network(W=[[0.0]], W_in=[[1.0]], gamma=1.0, activation="relu", placement=placement, form=form)
    P, A, s = 5, 2.0, 0.4
    found = fpa.periodic_response(net, A, P, [s])
    u = A * np.sin(2 * np.pi * np.arange(P) / P)
    rates = np.maximum(u, 0) if placement == "out" else u * ndtr(u / s) + s * norm.pdf(u / s)
    turn = np.exp(-2j * np.pi * np.arange(P) / P)
    assert found.ok
    assert found.gain[0, 0] == pytest.approx(2 * abs(np.mean(rates * turn)) / A, rel=1e-7)
    if placement == "out":
        assert found.noise[0, 0] == pytest.approx(s**2, rel=1e-7)


def test_a_slow_linear_unit_needs_a_wide_box():
    """a = 0.9999: the closed form of z_1 at a step per hundredth of its memory."""
    net = fpa.Network(W=[[0.999]], W_in=[[1.0]], gamma=0.1, activation="linear", placement="out")
    found = fpa.periodic_response(net, 0.3, 20, [1.0])
    turn = np.exp(2j * np.pi / 20)
    assert found.ok
    assert found.gain[0, 0] == pytest.approx(0.1 / abs(turn - 0.9999), rel=1e-7)


def test_weak_and_slow_it_is_the_two_state_theory_with_the_rate_of_the_chain():
    """Measured: 6 % off at A = 0.05 and 100 steps, 1.6 % at A = 0.02 and 200 steps, 0.4 % at 400 steps."""
    off = [
        fpa.periodic_response(BISTABLE, A, P, [0.5]).snr[0, 0] / two_state(BISTABLE, A, 0.5) - 1
        for A, P in ((0.05, 100), (0.02, 200))
    ]
    assert abs(off[0]) < 0.1
    assert abs(off[1]) < abs(off[0]) / 3


def test_the_signal_to_noise_ratio_peaks_where_kramers_says():
    """(1 / D^2) exp(-dV / D) is largest at D = dV / 2, V = h^2 / 2 - ln cosh(2 h) / 2; the theory is to leading order
    in D / dV, here 1/2, and its peak is found within a twentieth all the same. Monte Carlo sees the peak, too."""
    sigma = np.array([0.45, 0.55, 0.65, 0.75, 0.9])
    exact = fpa.periodic_response(BISTABLE, 0.05, 100, sigma)
    theory = [two_state(BISTABLE, 0.05, s) for s in sigma]
    well = 0.95750402407727
    depth = np.log(np.cosh(2 * well)) / 2 - well**2 / 2
    kramers = np.sqrt(depth / BISTABLE.gamma)
    assert peak(sigma, exact.snr[:, 0]) == pytest.approx(kramers, rel=0.05)
    assert peak(sigma, theory) == pytest.approx(kramers, rel=0.05)
    runs = fpa.periodic_response(BISTABLE, 0.2, 100, [0.4, 0.65, 1.4], method="monte-carlo", trials=300)
    low, top, high = runs.snr[:, 0]
    assert top - runs.snr_error[1, 0] > max(low + runs.snr_error[0, 0], high + runs.snr_error[2, 0])


def test_without_noise_the_unit_stays_in_its_well():
    """The linear answer about the well: gain gamma f' / |e^{i omega} - (1 - gamma + gamma w f')|, to order A."""
    found = fpa.periodic_response(BISTABLE, 0.01, 50, [0.0], offset=[1e-9], settle=20)
    slope = 1 - 0.95750402407727**2
    a = 1 - 0.4 + 0.4 * 2 * slope
    assert found.gain[0, 0] == pytest.approx(0.4 * slope / abs(np.exp(2j * np.pi / 50) - a), rel=1e-3)
    assert np.isnan(found.snr[0, 0])


def test_statuses():
    grows = fpa.Network(W=[[3.0]], W_in=[[1.0]], b=[1.0], gamma=0.5, sigma=0.1)
    found = fpa.periodic_response(grows, 0.1, 20, [0.1], method="monte-carlo", trials=4)
    assert found.status == (fpa.Status.DIVERGED,)
    assert np.isnan(found.gain).all()
    assert not fpa.periodic_response(grows, 0.1, 20, [0.1]).ok
    assert fpa.periodic_response(BISTABLE, 0.05, 20, [0.18]).status == (fpa.Status.METASTABLE,)


def test_two_independent_units_are_each_alone():
    """Zero coupling between them, by runs: the first is BISTABLE, the second sees no signal."""
    net = fpa.Network(W=np.diag([2.0, 0.5]), W_in=[[1.0], [0.0]], gamma=0.4, activation="tanh", placement="out")
    both = fpa.periodic_response(net, 0.3, 50, [0.8], trials=600)
    alone = fpa.periodic_response(BISTABLE, 0.3, 50, [0.8])
    assert both.method == "monte-carlo"
    assert abs(both.gain[0, 0] - alone.gain[0, 0]) <= 2 * both.gain_error[0, 0]
    assert both.gain[0, 1] <= 3 * both.gain_error[0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"amplitude": 0.0}, "amplitude must be a number > 0"),
        ({"period": 2}, "period must be a whole number"),
        ({"channel": 1}, "channel must be one of the inputs 0..0"),
        ({"method": "closure"}, "method must be one of"),
        ({"trials": 2}, "trials must be a whole number >= 4"),
        ({"net": fpa.Network(W=[[0.5]])}, "net has no inputs"),
        ({"sigma": -1.0}, "sigma must be"),
    ],
)
def test_bad_input(change, message):
    arguments = {"net": BISTABLE, "amplitude": 0.1, "period": 20, "sigma": 0.5} | change
    with pytest.raises(fpa.InputError, match=message):
        fpa.periodic_response(**arguments)


def test_the_figure_draws_gain_and_snr():
    found = fpa.periodic_response(BISTABLE, 0.2, 30, [0.0, 0.5, 0.8], trials=8, method="monte-carlo")
    gain, snr = figures.periodic_figure(found).axes
    np.testing.assert_array_equal(gain.get_lines()[0].get_ydata(), found.gain[:, 0])
    np.testing.assert_array_equal(snr.get_lines()[0].get_ydata()[1:], found.snr[1:, 0])
    plt.close("all")
