"""Tasks: what a batch holds, that the seed decides it, and that an unknown name or setting is refused."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fpanalysis.results import InputError
from fpanalysis.tasks import Task, available, get_task


@pytest.fixture(params=["function-approximation", "regulator"])
def task(request):
    return get_task(request.param)


def test_both_tasks_are_known():
    assert {"function-approximation", "regulator"} <= set(available())


def test_a_batch_is_time_major_float32(task):
    inputs, targets, mask = task.batch(5, rng=0)
    assert inputs.shape == (80, 5, task.n_in)
    assert targets.shape == (80, 5, task.n_out)
    assert mask.shape == (80, 5)
    assert inputs.dtype == targets.dtype == mask.dtype == np.float32


def test_the_loss_counts_the_end_of_the_trial(task):
    mask = task.batch(3, rng=0)[2]
    assert not mask[:40].any()
    assert (mask[40:] == 1).all()


def test_the_seed_decides_the_batch(task):
    for one, other in zip(task.batch(4, rng=7), task.batch(4, rng=np.random.default_rng(7)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_initial_weights_have_the_shapes_of_a_network(task):
    N = task.defaults.size
    shapes = {name: value.shape for name, value in task.initialize(N, rng=0).items()}
    assert shapes == {"W": (N, N), "b": (N,), "W_in": (N, task.n_in), "W_out": (task.n_out, N), "b_out": (task.n_out,)}
    assert set(task.trainable) <= set(shapes)


def test_function_approximation_wants_the_sine_of_its_input():
    task = get_task("function-approximation")
    inputs, targets, _ = task.batch(1000, rng=0)
    np.testing.assert_allclose(targets, np.sin(np.pi * inputs.astype(float)), atol=4e-7)  # pi u rounded to float32
    assert np.ptp(inputs, axis=0).max() == 0, "the input is constant within a trial"
    # u ~ U(-1, 1) has variance 1/3 and fourth moment 1/5: 4 standard errors at 1000 trials
    assert abs(inputs[0].mean()) < 4 * np.sqrt(1 / 3 / 1000)
    assert abs((inputs[0] ** 2).mean() - 1 / 3) < 4 * np.sqrt((1 / 5 - 1 / 9) / 1000)
    np.testing.assert_array_equal(task.initial_state(targets, 8), np.zeros((1000, 8)))


def test_function_approximation_starts_with_gain_0_8():
    W = get_task("function-approximation").initialize(64, rng=0)["W"]
    # the variance of 4096 normal numbers has a relative standard error sqrt(2 / 4096)
    assert W.var() * 64 / 0.8**2 == pytest.approx(1, abs=4 * np.sqrt(2 / 4096))


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *[(name, {}) for name in ("function-approximation", "regulator", "flip-flop", "maze", "path-integration")],
        ("cognitive", {"input_noise": 0}),
        ("digits", {}),
        ("function-approximation", {"layers": [4, 3]}),
    ],
)
def test_trials_are_held_where_nothing_changes_in_them(name, settings):
    task = get_task(name, **settings)
    inputs, targets, _ = task.batch(20, rng=0)
    assert task.held == (not np.ptp(inputs, axis=0).any() and not np.ptp(targets, axis=0).any())


def test_conditions_span_the_inputs():
    conditions, targets = get_task("function-approximation").conditions()
    np.testing.assert_allclose(conditions[:, 0], np.linspace(-1, 1, 11))
    np.testing.assert_allclose(targets, np.sin(np.pi * conditions))


def test_the_regulator_starts_at_its_target_and_stays_without_noise():
    task = get_task("regulator", c=0.3)
    weights = task.initialize(1, rng=0)
    _, targets, _ = task.batch(2, rng=0)
    h0 = task.initial_state(targets, 1)
    np.testing.assert_array_equal(h0, np.float32([[0.3], [0.3]]))
    np.testing.assert_allclose(h0 @ weights["W"].T + weights["b"], h0, rtol=1e-6)  # float32 target
    assert [part.shape for part in task.conditions()] == [(1, 0), (1, 1)]
    with pytest.raises(InputError, match="size must be 1"):
        task.initialize(2, rng=0)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("nosuch", {}, r"unknown task 'nosuch'; known: .*function-approximation.*regulator"),
        ("regulator", {"colour": 1}, r"no setting 'colour'; it has T, counted, c"),
        ("regulator", {"c": float("nan")}, r"c must be a number; found nan"),
        ("regulator", {"c": 1e7}, r"c must be a number of size at most 1e\+06; found 10000000\.0"),
        ("regulator", {"c": True}, r"c must be a number; found True"),
        ("maze", {"T": 80.5}, r"T must be a whole number, at most 100000; found 80\.5"),
        ("maze", {"T": float("inf")}, r"T must be a whole number, at most 100000; found inf"),
        ("path-integration", {"T": 10**400}, r"T must be a whole number, at most 100000; found 1000"),
        ("path-integration", {"counted": 1.5}, r"counted must be a whole number, at most 100000; found 1\.5"),
        ("flip-flop", {"n": float("nan")}, r"n must be a number; found nan"),
        ("flip-flop", {"n": 0}, r"n and duration must be whole numbers >= 1; found n=0"),
        ("flip-flop", {"duration": -1.0}, r"n and duration must be whole numbers >= 1; .*duration=-1"),
        ("function-approximation", {"T": 10, "counted": 11}, r"counted in 1\.\.T; found T=10, counted=11"),
    ],
)
def test_what_cannot_be_used_is_named(name, settings, message):
    with pytest.raises(InputError, match=message):
        get_task(name, **settings)


def test_numbers_of_any_kind_are_taken_as_plain_ones():
    """A list of sizes may come as floats from the command line, and settings from numpy; a checkpoint holds neither."""
    task = get_task("maze", T=np.int64(60), counted=60.0, opening=np.float32(0.5), goal=np.float64(0.05))
    assert task == get_task("maze", T=60, counted=60, opening=0.5, goal=0.05)
    assert {type(value) for value in task.settings().values()} == {int, float}
    assert task.batch(2, rng=0)[2].sum() == 120


def test_settings_make_the_task_again():
    task = get_task("regulator", c=0.1, T=100)
    assert get_task(task.name, **task.settings()) == task


def test_an_empty_batch_is_refused(task):
    with pytest.raises(InputError, match="batch_size must be a whole number >= 1; found 0"):
        task.batch(0, rng=0)


def test_a_new_task_is_one_class():
    class Hold(Task):
        name = "hold-for-test"

    assert isinstance(get_task("hold-for-test"), Hold)


def test_tasks_do_not_import_torch():
    code = "import sys, fpanalysis.tasks as t; t.available(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
