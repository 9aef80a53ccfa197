"""The flip-flop: its batches against a loop, what it refuses, and that a network learns it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import CTRNN, train
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task


def test_the_targets_are_what_a_loop_over_the_pulses_holds():
    inputs, targets, _ = get_task("flip-flop", n=4, rate=0.2, duration=3).batch(20, rng=0)
    for trial in range(20):
        for channel in range(4):
            held = None
            for t in range(60):
                pulse = inputs[t, trial, channel]
                held = pulse if pulse != 0 else held
                assert targets[t, trial, channel] == held


def test_a_batch_is_time_major_float32_and_every_step_counts():
    inputs, targets, mask = get_task("flip-flop", n=2).batch(5, rng=0)
    assert inputs.shape == targets.shape == (60, 5, 2)
    assert mask.shape == (60, 5)
    assert (mask == 1).all()
    assert inputs.dtype == targets.dtype == mask.dtype == np.float32
    np.testing.assert_array_equal(get_task("flip-flop", counted=7).batch(2, rng=0)[2].sum(0), 7)


def test_the_seed_decides_the_batch():
    task = get_task("flip-flop")
    for one, other in zip(task.batch(4, rng=7), task.batch(4, rng=np.random.default_rng(7)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_without_further_pulses_the_opening_one_is_held():
    inputs, targets, _ = get_task("flip-flop", rate=0, duration=4).batch(50, rng=0)
    assert (np.abs(inputs[:4]) == 1).all()
    assert not inputs[4:].any()
    np.testing.assert_array_equal(targets, np.broadcast_to(inputs[0], targets.shape))
    np.testing.assert_array_equal(inputs[:4], np.broadcast_to(inputs[0], (4, 50, 3)))


def test_a_pulse_at_every_step_is_followed_at_every_step():
    inputs, targets, _ = get_task("flip-flop", rate=1, duration=2).batch(50, rng=0)
    np.testing.assert_array_equal(inputs, targets)
    assert abs((inputs == 1).mean() - 0.5) < 4 * 0.5 / np.sqrt(inputs.size)  # fair signs: 4 standard errors


def test_pulses_come_at_the_rate_and_last_for_the_duration():
    """A step is silent if none of the `duration` last steps began a pulse: (1 - rate)^duration."""
    rate, duration, trials = 0.1, 3, 2000
    inputs = get_task("flip-flop", T=40, counted=40, rate=rate, duration=duration).batch(trials, rng=0)[0]
    silent = inputs[duration - 1 :: duration][1:] == 0  # windows of `duration` steps that do not overlap: independent
    p = (1 - rate) ** duration
    assert abs(silent.mean() - p) < 4 * np.sqrt(p * (1 - p) / silent.size)


def test_the_condition_to_analyse_is_zero_input_without_a_wanted_output():
    conditions, targets = get_task("flip-flop", n=2).conditions()
    np.testing.assert_array_equal(conditions, [[0, 0]])
    assert targets is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n": 0}, r"n and duration must be whole numbers >= 1; found n=0, duration=2"),
        ({"n": 2.5}, r"must be whole numbers >= 1; found n=2\.5"),
        ({"duration": 0}, r"found n=3, duration=0"),
        ({"rate": 1.1}, r"rate is a probability per step, in \[0, 1\]; found 1\.1"),
        ({"rate": float("nan")}, r"found nan"),
        ({"T": 50}, r"counted in 1\.\.T; found T=50, counted=60"),
    ],
)
def test_what_cannot_be_used_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        get_task("flip-flop", **settings)


def test_an_empty_batch_is_refused():
    with pytest.raises(InputError, match="batch_size must be >= 1; found 0"):
        get_task("flip-flop").batch(0, rng=0)


def right(output, targets):
    return float((np.sign(output) == targets).mean())


def outputs(net, inputs):
    with torch.no_grad():
        return CTRNN.from_network(net)(torch.from_numpy(inputs))[0].numpy()


def test_one_bit_is_learned_and_is_three_fixed_points(tmp_path):
    """Sixteen neurons, two seconds; both memories are stable and a saddle divides them."""
    task = get_task("flip-flop", n=1)
    net = train(task, size=16, steps=300, batch=32, lr=1e-2).network()
    inputs, targets, _ = task.batch(200, rng=1)
    assert right(outputs(net, inputs), targets) > 0.99
    points = fpa.find_fixed_points(net)
    assert sorted(points.n_unstable) == [0, 0, 1]
    assert sorted(np.sign(net.output(points.h[points.stable])[:, 0])) == [-1, 1]
    fpa.save(net, tmp_path / "net.pt")
    assert fpa.load(tmp_path / "net.pt").info["task_settings"] == task.settings()
