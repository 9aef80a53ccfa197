"""Limit cycles against closed forms, small-amplitude theory and long simulations of their own."""

import numpy as np
import pytest
from problems import random_network
from scipy.optimize import brentq

import fpanalysis as fpa
from fpanalysis.fixed_points import rotation
from fpanalysis.fixed_points.search import seeds


def rotating(gain, theta=1.0, gamma=0.1):
    """W = gain R(theta), whose step's eigenvalues at the origin are 1 - gamma + gamma gain exp(+-i theta)."""
    R = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    return fpa.Network(W=gain * R, gamma=gamma, activation="tanh")


def multiplier(gain, theta=1.0, gamma=0.1):
    return 1 - gamma + gamma * gain * np.exp(1j * theta)


def critical_gain(theta=1.0, gamma=0.1):
    return brentq(lambda gain: abs(multiplier(gain, theta, gamma)) - 1, 0.5, 10, xtol=1e-14)


@pytest.mark.parametrize(("theta", "gamma"), [(1.0, 0.1), (2.0, 0.3), (0.7, 1.0)])
def test_a_small_cycle_turns_as_the_linearised_step_does(theta, gamma):
    """Beyond a Neimark-Sacker point the period tends to 2 pi / arg(eigenvalue) as the squared amplitude does to 0."""
    critical = critical_gain(theta, gamma)
    expected = 2 * np.pi / np.angle(multiplier(critical, theta, gamma))
    found = [fpa.find_limit_cycles(rotating(critical * (1 + eps), theta, gamma)) for eps in (0.04, 0.02)]
    assert [len(cycles) for cycles in found] == [1, 1]
    (large,), (small,) = found
    assert large.regular
    assert small.regular
    assert small.period == pytest.approx(expected, rel=1e-3)
    assert abs(small.period - expected) < 0.6 * abs(large.period - expected) + 2 * small.period_error
    assert large.amplitude.max() / small.amplitude.max() == pytest.approx(np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("gain", [2.1, 3.0])
def test_the_period_is_that_of_a_long_simulation(gain):
    """Revolutions counted over 100 000 steps: wrong by less than one."""
    net, steps = rotating(gain), 100_000
    h = np.array([0.5, 0.1])
    for _ in range(2000):
        h = net.step(h)
    record = np.empty((steps + 1, 2))
    for n in range(steps + 1):
        record[n], h = h, net.step(h)
    revolutions = np.diff(np.unwrap(np.arctan2(record[:, 1], record[:, 0]))[[0, -1]])[0] / (2 * np.pi)
    (cycle,) = fpa.find_limit_cycles(net)
    assert cycle.period == pytest.approx(steps / revolutions, rel=2 / revolutions)
    np.testing.assert_allclose(cycle.amplitude, np.ptp(record, axis=0), rtol=1e-3)
    np.testing.assert_allclose(cycle.mean, 0, atol=1e-3)
    assert len(cycle.h) == round(cycle.period)
    distance = np.abs(cycle.h[:, None] - record[None, :5000]).max(axis=2).min(axis=1)
    assert distance.max() < 0.01  # 5000 steps visit every hundredth of the curve, which is 3 long


def test_a_flip_has_period_two():
    """h -> -h: (1 - gamma) h + gamma tanh(w h) = -h, for w < 1 - 2 / gamma."""
    gamma, w = 0.5, -4.0
    net = fpa.Network(W=[[w]], gamma=gamma, activation="tanh")
    away = brentq(lambda h: (2 - gamma) * h + gamma * np.tanh(w * h), 0.1, 1, xtol=1e-15)
    fps = fpa.find_fixed_points(net)
    (cycle,) = fps.cycles
    assert cycle.period == pytest.approx(2, abs=1e-12)
    assert cycle.regular
    np.testing.assert_allclose(np.sort(cycle.h[:, 0]), [-away, away], rtol=1e-9)
    np.testing.assert_allclose(cycle.amplitude, 2 * away, rtol=1e-9)
    assert len(fpa.find_limit_cycles(fpa.Network(W=[[-2.9]], gamma=gamma, activation="tanh"))) == 0


def test_cycles_beside_each_other_and_none_that_repels():
    """An oscillator beside a bistable neuron: a cycle where that stands up, one where it stands down, and none where
    it stands at its unstable point, though a trajectory that leaves the origin in the oscillator's plane would stay."""
    W = np.zeros((3, 3))
    W[:2, :2], W[2, 2] = rotating(2.0).W, 2.0
    cycles = fpa.find_fixed_points(fpa.Network(W=W, gamma=0.1, activation="tanh")).cycles
    stands = brentq(lambda h: np.tanh(2 * h) - h, 0.5, 1)
    np.testing.assert_allclose(sorted(cycle.mean[2] for cycle in cycles), [-stands, stands], atol=1e-6)
    assert cycles[0].period == pytest.approx(fpa.find_limit_cycles(rotating(2.0))[0].period, rel=1e-6)
    assert cycles.ended.sum() == cycles.provenance.settings["starts"]


def test_a_cycle_beside_a_stable_point():
    """A bistable neuron that leaves an oscillator alone where it stands up, and silences it where it stands down."""
    stands = brentq(lambda h: np.tanh(2 * h) - h, 0.5, 1)
    W = np.zeros((3, 3))
    W[:2, :2], W[:2, 2], W[2, 2] = rotating(2.0).W, 3.0, 2.0
    net = fpa.Network(W=W, b=[-3 * stands, -3 * stands, 0], gamma=0.1, activation="tanh")
    fps = fpa.find_fixed_points(net)
    assert fps.stable.sum() == 1
    (cycle,) = fps.cycles
    (alone,) = fpa.find_limit_cycles(rotating(2.0))
    assert cycle.period == pytest.approx(alone.period, rel=1e-6)
    np.testing.assert_allclose(cycle.amplitude, [*alone.amplitude, 0], atol=1e-3)
    assert fps.cycles.resting > 0
    assert fps.cycles.ended[0] + fps.cycles.resting == fps.cycles.provenance.settings["starts"]


@pytest.mark.parametrize(
    "net",
    [
        fpa.Network(W=[[2.0]], b=[0.1], activation="tanh"),
        rotating(0.98 * critical_gain()),
        random_network(32, gain=0.8, activation="tanh", W_in=None),
        random_network(32, gain=1.4, activation="tanh", W_in=None, seed=2),
    ],
    ids=["bistable", "spiral", "stable", "multistable"],
)
def test_networks_at_rest_have_none(net):
    cycles = fpa.find_fixed_points(net).cycles
    assert len(cycles) == 0
    assert cycles.status.ok
    assert cycles.resting == cycles.provenance.settings["starts"]


def test_what_grows_is_no_cycle():
    cycles = fpa.find_limit_cycles(fpa.Network(W=[[1.5]], b=[0.1], activation="linear"))
    assert (len(cycles), cycles.resting, cycles.escaped) == (0, 0, cycles.provenance.settings["starts"])


def test_what_grows_one_after_the_other_never_rests():
    """f = 0.01 h + b grows from -b / 0.01 on, past 10^6 at times that depend on the start."""
    cycles = fpa.find_limit_cycles(fpa.LipschitzRNN(A=0.01 * np.eye(2), W=np.zeros((2, 2)), b=[0.3, -0.2], gamma=1))
    assert (len(cycles), cycles.resting, cycles.escaped) == (0, 0, cycles.provenance.settings["starts"])


@pytest.mark.parametrize("start", [0.99, 1.5])
def test_each_trajectory_runs_on_when_another_escapes(start):
    """h' = max(1.02 h - 0.02, 0) falls to 0 below 1 and grows without bound above."""
    net = fpa.Network(W=[[1.02]], b=[-0.02], gamma=1)
    ends = seeds.run(net, np.array([[1e5], [start]]), np.zeros(0), 700)
    alone = seeds.run(net, np.array([[start]]), np.zeros(0), 700)
    np.testing.assert_array_equal(ends[1], alone[0])
    assert ends[0] > seeds.ESCAPED


def test_a_slow_spiral_is_undecided_not_a_cycle():
    cycles = fpa.find_limit_cycles(rotating((1 - 1e-4) * critical_gain()), steps=6000)
    assert len(cycles) == 0
    assert cycles.undecided > 0
    assert cycles.status is fpa.Status.UNDECIDED


def test_chaos_is_irregular():
    """h' = 4 h (1 - h), whose sides of 1/2 are tosses of a fair coin."""
    record = np.empty((4000, 1))
    h = 0.3
    for n in range(4000):
        record[n], h = h, 4 * h * (1 - h)
    motion = rotation.motion(record)
    assert not motion.regular
    assert motion.defect > 0.3
    assert motion.period == pytest.approx(4, abs=0.33)  # tails, then heads: every fourth toss, 4 sigma of 1000 returns


@pytest.mark.parametrize("period", [2.0, 3.0, 7.3, 44.617, np.pi * 10])
def test_the_period_of_a_curve_that_crosses_its_section_twice(period):
    t = 2 * np.pi * np.arange(4000) / period
    record = np.stack([np.cos(t) + 2 * np.cos(2 * t + 0.3), np.sin(t)], axis=1)
    motion = rotation.motion(record)
    assert motion.period == pytest.approx(period, rel=1e-7)
    assert motion.defect < 1e-4  # the error of the period adds up along the record


def test_a_torus_is_irregular():
    t = np.arange(4000)
    record = np.stack([np.cos(0.3 * t), np.sin(0.3 * t), np.cos(0.1234 * t)], axis=1)
    assert not rotation.motion(record).regular


def test_bad_input():
    net = random_network(4, activation="tanh")
    with pytest.raises(fpa.InputError, match="net must be"):
        fpa.find_limit_cycles("network")
    with pytest.raises(fpa.InputError, match="steps must be"):
        fpa.find_limit_cycles(net, steps=0)
    with pytest.raises(fpa.InputError, match="points must be"):
        fpa.find_limit_cycles(net, [1.0, 0.0], fpa.find_fixed_points(net))
