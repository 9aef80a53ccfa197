"""Path integration: the inputs add up to the targets, the walls hold, and the walk is the one that is promised."""

from __future__ import annotations

import numpy as np
import pytest

from fpanalysis.models import evaluate, train
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task

NAME = "path-integration"
FAR = {"box": 1e6, "speed": 0.1}  #: walls so far away that the walk is the free one, to 1e-12


@pytest.fixture(scope="module")
def walk():
    return get_task(NAME).batch(400, rng=0)


def test_the_inputs_add_up_to_the_targets(walk):
    inputs, targets, _ = walk
    position = np.cumsum(inputs.astype(float) / 10, axis=0)
    # every input, of size up to 3, is rounded to float32, 2^-24 of it; so is the target
    np.testing.assert_allclose(position, targets, atol=50 * 0.3 * 2.0**-24 + 2.0**-24)


def test_speed_and_heading_are_the_velocity_again(walk):
    inputs, targets, _ = get_task(NAME, inputs="speed-heading").batch(400, rng=0)
    np.testing.assert_array_equal(targets, walk[1])
    np.testing.assert_allclose(inputs[..., :1] * inputs[..., 1:], walk[0], atol=1e-6)
    np.testing.assert_allclose(np.hypot(inputs[..., 1], inputs[..., 2]), 1, atol=1e-6)
    assert inputs[..., 0].min() >= 0


def test_a_trial_by_hand(monkeypatch):
    """A walker that goes straight east at 0.4 per step: it turns at the wall, at q = pi / 2, by itself."""
    task = get_task(NAME, T=5, counted=2)
    east = np.broadcast_to([0.4, 0.0], (5, 1, 2))
    monkeypatch.setattr(type(task), "_free_velocity", lambda *_: east)
    inputs, targets, mask = task.batch(1, rng=0)
    x = [0.389418, 0.717356, 0.932039, 0.999574, 0.909297]  # sin(0.4), sin(0.8), ..., sin(2)
    np.testing.assert_allclose(targets[:, 0], [[x_t, 0] for x_t in x], atol=1e-6)
    np.testing.assert_allclose(inputs[:, 0, 0], [3.89418, 3.27938, 2.14683, 0.67535, -0.90277], atol=2e-5)
    np.testing.assert_array_equal(mask[:, 0], [0, 0, 0, 1, 1])


def test_the_walls_hold_and_are_reached_without_a_kink():
    task = get_task(NAME, box=2, speed=0.3, T=300, counted=300, smoothness=10)
    inputs, targets, _ = task.batch(100, rng=0)
    assert np.abs(targets).max() <= 2
    assert (np.abs(targets) > 1.99).any(axis=(0, 2)).mean() > 0.9, "the trials test the walls"
    # |p''| <= |q''| + |q'|^2 / box, and q'' is |w_t - w_{t-1}|; w and its increments stay within 6 standard deviations
    sd = 0.3 / np.sqrt(2)
    step = sd * np.sqrt(2 * (1 - np.exp(-1 / (2 * 10**2))))
    assert np.abs(np.diff(inputs, axis=0)).max() / 10 < 6 * step + (6 * sd) ** 2 / 2
    assert (np.abs(inputs) / 10 <= 6 * sd).all()


def test_the_free_walk_has_the_speed_and_the_smoothness_asked_for():
    B = 20000
    task = get_task(NAME, T=12, counted=12, smoothness=3, **FAR)
    v = task.batch(B, rng=0)[0].astype(float) / 10
    assert np.isclose((v**2).sum(-1).mean(1), 0.1**2, rtol=4 / np.sqrt(B)).all()  # |v|^2 is chi^2_2: its sd is its mean
    rho = (v[0] * v).mean((1, 2)) / (0.1**2 / 2)
    lag = np.arange(12)
    expected = np.exp(-(lag**2) / (2 * 3**2))
    assert (np.abs(rho - expected) < 4 * np.sqrt((1 + expected**2) / (2 * B))).all()
    assert abs((v[0, :, 0] * v[0, :, 1]).mean()) < 4 * 0.005 / np.sqrt(B)  # the axes are independent
    bound = 4 * np.sqrt(0.005 / B)
    assert np.abs(v[0].mean(0)).max() < bound


def test_the_walk_fills_the_box(walk):
    """At the end |x| has the law of |sin|, the arcsine law, to the little that is left of the start: E x^2 = 1/2."""
    x = walk[1][-1].ravel()
    # the free walk's variance after T steps is speed^2 / 2 sum_ij rho_ij; E sin^2 = (1 - exp(-2 Var)) / 2
    lag = np.subtract.outer(np.arange(50), np.arange(50))
    variance = 0.1**2 / 2 * np.exp(-(lag**2) / (2 * 5**2)).sum()
    expected = (1 - np.exp(-2 * variance)) / 2
    assert expected > 0.45
    assert abs((x**2).mean() - expected) < 4 * np.sqrt(1 / 8 / len(x))  # Var sin^2 = 1/8


def test_the_seed_decides_the_batch():
    task = get_task(NAME)
    one, same, other = (task.batch(4, rng) for rng in (7, np.random.default_rng(7), 8))
    for part, again in zip(one, same, strict=True):
        np.testing.assert_array_equal(part, again)
        assert part.dtype == np.float32
    assert np.abs(one[0] - other[0]).max() > 0.1
    assert [part.shape for part in one] == [(50, 4, 2), (50, 4, 2), (50, 4)]


def test_a_trial_succeeds_by_where_it_ends():
    task = get_task(NAME, T=3, counted=3, box=2)
    targets = np.zeros((3, 3, 2), np.float32)
    outputs = np.zeros((3, 3, 2))
    outputs[:2] = 9  # only the end counts
    outputs[-1] = [[0.3, 0.2], [0.3, 0.3], [0, -0.5]]  # 0.36, 0.42 and 0.5 away; 0.2 box = 0.4
    batch = (np.zeros((3, 3, 2), np.float32), targets, np.ones((3, 3), np.float32))
    np.testing.assert_array_equal(task.score(outputs, batch), [1, 0, 0])
    np.testing.assert_array_equal(task.score(np.stack([outputs] * 4), batch), [[1, 0, 0]] * 4)


@pytest.mark.parametrize(("inputs", "n_in"), [("velocity", 2), ("speed-heading", 3)])
def test_conditions_are_standstill(inputs, n_in):
    task = get_task(NAME, inputs=inputs)
    conditions, targets = task.conditions()
    assert targets is None
    assert conditions.shape[1] == task.n_in == n_in
    v = conditions if n_in == 2 else conditions[:, :1] * conditions[:, 1:]
    assert not v.any()
    W = task.initialize(100, rng=0)["W"]
    # diagonal 0.5 + N(0, 0.08^2), 100 of them
    assert abs(np.diag(W).mean() - 0.5) < 4 * 0.08 / 10


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": 0}, r"0 < speed <= box; found speed=0\.0, box=1\.0"),
        ({"box": 0.05}, r"0 < speed <= box; found speed=0\.1, box=0\.05"),
        ({"box": float("inf")}, r"box must be a number of size at most 1e\+06; found inf"),
        ({"smoothness": 0.5}, r"smoothness must be a number of steps in \[1, 1000\]; found 0\.5"),
        ({"smoothness": 1e5}, r"found 100000\.0"),
        ({"inputs": "position"}, "inputs must be 'velocity' or 'speed-heading'; found 'position'"),
        ({"inputs": 1}, "inputs must be a word; found 1"),
        ({"smoothness": "very"}, "smoothness must be a number; found 'very'"),
        ({"T": 0}, "T must be >= 1"),
    ],
)
def test_what_makes_no_walk_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        get_task(NAME, **settings)


def test_a_network_learns_it():
    """Predicting the origin costs 0.39; 60 steps of a small network must do far better."""
    task = get_task(NAME)
    net = train(task, size=32, steps=60, lr=1e-2, sigma=0.5).network()
    assert evaluate(net, task, 0.5, inputs=50, trials=4).loss[0, 0] < 0.1
