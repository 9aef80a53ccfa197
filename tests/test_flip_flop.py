"""The flip-flop: its batches against a loop, what it refuses, that networks learn it, and the two in examples/."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import fsolve

import fpanalysis as fpa
from fpanalysis.models import CTRNN, train
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
PLACES = np.array(list(product((-1, 0, 1), repeat=3)))  #: 8 corners of a cube, 12 edges, 6 faces, the middle


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
        ({"n": 2.5}, r"n must be a whole number, at most 100000; found 2\.5"),
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
    with pytest.raises(InputError, match="batch_size must be a whole number >= 1; found 0"):
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


def tanh_example():
    """Output of a batch, step and its Jacobian."""
    net = fpa.load(NETWORKS / "flip_flop_tanh.pt")
    return lambda inputs: outputs(net, inputs), net.step, lambda h: net.jacobian(h, np.zeros(3))


def gru_example():
    """The same of torch's GRU, in float64."""
    saved = torch.load(NETWORKS / "flip_flop_gru.pt", weights_only=True)
    rnn, readout = torch.nn.GRU(3, 64), torch.nn.Linear(64, 3)
    rnn.load_state_dict(saved["rnn"])
    readout.load_state_dict(saved["readout"])
    torch.nn.ModuleList([rnn, readout]).double().requires_grad_(False)  # in place

    def output(inputs):
        return readout(rnn(torch.from_numpy(inputs).double())[0]).numpy()

    def step(h, u=(0, 0, 0)):
        return rnn(torch.tensor(u, dtype=torch.float64)[None], torch.as_tensor(h)[None])[1][0]

    def jacobian(h):
        return torch.autograd.functional.jacobian(step, torch.from_numpy(h)).numpy()

    return output, lambda *hu: step(*hu).numpy(), jacobian


@pytest.fixture(scope="module", params=[tanh_example, gru_example])
def example(request):
    return request.param()


def memory(step, signs):
    """Where the state comes to rest after opening pulses of these signs."""
    h = np.zeros(64)
    for t in range(400):
        h = step(h, np.array(signs, float) if t < get_task("flip-flop").duration else np.zeros(3))
    return h


def cube(step, jacobian):
    """Zeros (27, N) of step(h) - h from the means of the memories around each corner, edge, face and the middle."""
    memories = {tuple(signs): memory(step, signs) for signs in PLACES[PLACES.all(1)]}

    def zero(place):
        around = [h for signs, h in memories.items() if all(p in (0, s) for p, s in zip(place, signs, strict=True))]
        start, options = np.mean(around, 0), {"xtol": 1e-14, "full_output": True}  # full_output: no warnings
        return fsolve(lambda h: step(h) - h, start, fprime=lambda h: jacobian(h) - np.eye(64), **options)[0]

    return np.array([zero(place) for place in PLACES])


def test_the_examples_remember(example):
    inputs, targets, _ = get_task("flip-flop").batch(200, rng=1)
    z = example[0](inputs)
    assert right(z, targets) > 0.999
    assert np.square(z - targets).mean() < 0.01


def test_the_examples_have_the_27_fixed_points_of_a_cube(example):
    """27 different zeros, each unstable in one dimension for every undecided bit, and of index sum +1."""
    _, step, jacobian = example
    points = cube(step, jacobian)
    assert max(np.abs(step(h) - h).max() for h in points) <= 1e-12 * (1 + np.abs(points).max())
    distance = np.abs(points[:, None] - points).max(-1)
    assert distance[np.triu_indices(27, 1)].min() > 0.01
    slopes = [jacobian(h) for h in points]
    unstable = [(np.abs(np.linalg.eigvals(J)) > 1).sum() for J in slopes]
    np.testing.assert_array_equal(unstable, (PLACES == 0).sum(1))
    assert sum(np.linalg.slogdet(np.eye(64) - J)[0] for J in slopes) == 1


def test_the_search_finds_no_other_point_of_the_tanh_example():
    net = fpa.load(NETWORKS / "flip_flop_tanh.pt")
    points = cube(net.step, lambda h: net.jacobian(h, np.zeros(3)))
    found = fpa.find_fixed_points(net).h
    assert len(found) >= 20
    assert np.abs(found[:, None] - points).max(-1).min(1).max() < 1e-8


@pytest.mark.parametrize("name", ["flip_flop_tanh.pt", "flip_flop_gru.pt"])
def test_the_example_files_are_small(name):
    assert (NETWORKS / name).stat().st_size < 250_000
