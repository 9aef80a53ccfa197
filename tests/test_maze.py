"""The maze: its reference, walls and scores against trials worked by hand and a slower method; what training finds."""

from __future__ import annotations

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fpanalysis import figures
from fpanalysis.models import train
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task

MAZE = get_task("maze")
GOAL = np.array([0.85, 0.85])


def starts(batch):
    return MAZE.feedback.start(batch[0].astype(float))


def straight(start, T=80):
    """From each start (B, 2) to the goal, through the walls: (T, B, 2)."""
    return start + (GOAL - start) * (np.arange(1, T + 1) / T)[:, None, None]


def walk(net, batch, rng=None):
    """Positions (T, B, 2) of a network in the maze, step by step; without noise if there is no rng."""
    p, path = starts(batch), []
    h = np.zeros((len(p), net.N))
    for _ in range(MAZE.T):
        u, z = 4 * (p - 0.5), net.output(h)
        h = net.step(h, u, None if rng is None else rng.standard_normal(h.shape))
        p = p + 0.05 * z
        path.append(p)
    return np.stack(path)


def clipped(a, b, low, high):
    """Whether a part of the segment a -> b is left when it is clipped to the box (Liang & Barsky)."""
    enter, leave = 0.0, 1.0
    for x, y, lo, hi in zip(a, b, low, high, strict=True):
        if x == y:
            if not lo <= x <= hi:
                return False
            continue
        one, other = sorted(((lo - x) / (y - x), (hi - x) / (y - x)))
        enter, leave = max(enter, one), min(leave, other)
    return enter <= leave


def test_a_reference_worked_by_hand():
    """From (.34, .18) the legs are .5, .34, .68, .33, .69 long, 2.54 in all: .01 a step to the goal in 254."""
    task = get_task("maze", T=300, counted=300, hold=46, left=0.34, right=0.34, bottom=0.18, top=0.18)
    inputs, targets, mask = task.batch(3, rng=0)
    places = {0: (0.35, 0.18), 49: (0.84, 0.18), 83: (0.84, 0.52), 100: (0.67, 0.52), 151: (0.16, 0.52)}
    places |= {184: (0.16, 0.85), 200: (0.32, 0.85), 253: (0.85, 0.85), 299: (0.85, 0.85)}
    for t, place in places.items():
        np.testing.assert_allclose(targets[t], [place] * 3, atol=1e-7)  # float32: 2^-24
    np.testing.assert_allclose(inputs[0], [[4 * (0.34 - 0.5), 4 * (0.18 - 0.5)]] * 3, atol=2e-7)
    assert mask.sum() == 900


def test_inputs_are_what_is_seen_on_the_reference():
    inputs, targets, mask = MAZE.batch(50, rng=0)
    assert inputs.dtype == targets.dtype == mask.dtype == np.float32
    assert inputs.shape == targets.shape == (80, 50, 2)
    np.testing.assert_allclose(inputs[1:], 4 * (targets[:-1] - 0.5), atol=1e-6)
    np.testing.assert_array_equal(mask, np.ones((80, 50)))
    np.testing.assert_array_equal(get_task("maze", counted=30).batch(2, rng=0)[2].sum(0), 30)


def test_the_walk_has_constant_speed_but_where_it_cuts_a_corner_or_rests():
    p = MAZE.reference(starts(MAZE.batch(20, rng=1)))
    step = np.linalg.norm(np.diff(p, axis=0), axis=-1)
    total = step[0] * 65  # steps until it rests
    length = 0.34 + 0.68 + 0.33 + 0.69 + np.linalg.norm(p[0] - (0.84, 0.18), axis=1)
    np.testing.assert_allclose(total, length, rtol=1e-12)
    np.testing.assert_allclose(step[65:], 0, atol=1e-15)
    assert (step[:65] <= step[0] * (1 + 1e-12)).all()
    whole = np.isclose(step[:65], step[0], rtol=1e-12).sum(0)
    assert ((whole >= 61) & (whole <= 65)).all(), "at most four turns"


def test_starts_fill_their_rectangle():
    start = starts(MAZE.batch(4000, rng=0))
    low, high = np.array([0.05, 0.05]), np.array([0.55, 0.25])
    assert (start >= low - 1e-7).all()
    assert (start <= high + 1e-7).all()
    np.testing.assert_array_less(np.abs(start.mean(0) - (low + high) / 2), 4 * (high - low) / np.sqrt(12 * 4000))
    assert (np.ptp(start, axis=0) > 0.99 * (high - low)).all()  # fails with probability (1 + 40) e^-40


def test_the_seed_decides_the_batch_and_a_trial_is_the_same_alone():
    for one, other in zip(MAZE.batch(4, rng=7), MAZE.batch(4, rng=np.random.default_rng(7)), strict=True):
        np.testing.assert_array_equal(one, other)
    start = starts(MAZE.batch(4, rng=7))
    alone = [MAZE.reference(start[k : k + 1]) for k in range(4)]
    np.testing.assert_allclose(np.concatenate(alone, 1), MAZE.reference(start), rtol=1e-14)


def test_the_reference_succeeds_from_every_start_and_the_straight_line_from_none():
    for settings in ({}, {"hold": 0}, {"T": 40, "counted": 40}, {"opening": 0.12, "thickness": 0.1, "goal": 0.01}):
        task = get_task("maze", **settings)
        batch = task.batch(1000, rng=0)
        np.testing.assert_array_equal(task.score(batch[1], batch), 1)
        np.testing.assert_array_equal(task.score(straight(starts(batch), task.T), batch), 0)


@pytest.mark.parametrize(
    ("path", "hit"),
    [
        ([(0.5, 0.2), (0.5, 0.5)], True),  # through the first bar in one step, both ends free
        ([(0.7, 0.2), (0.7, 0.5)], False),  # beside it
        ([(0.679, 0.2), (0.679, 0.5)], True),  # its end is at .68
        ([(0.5, 0.2), (0.5, 0.334)], False),  # its underside at .335
        ([(0.5, 0.2), (0.5, 0.336)], True),
        ([(0.66, 0.40), (0.72, 0.34)], False),  # past the corner (.68, .365) at x + y = 1.06 > 1.045
        ([(0.65, 0.38), (0.69, 0.34)], True),  # and across it at 1.03
        ([(0.3, 0.6), (0.3, 0.8)], False),  # beside the second bar, which begins at .32
        ([(0.33, 0.6), (0.33, 0.8)], True),
        ([(0.9, 0.1), (0.999, 0.1)], False),
        ([(0.9, 0.1), (1.001, 0.1)], True),  # out of the square
        ([(0.1, 0.1), (0.1, -0.001), (0.1, 0.1)], True),
        ([(0.5, 0.35), (0.5, 0.35)], True),  # at rest inside a bar
        ([(0.5, 0.5), (0.5, 0.5)], False),
        ([(0.8, 0.2), (0.8, 0.6), (0.5, 0.6), (0.5, 0.8), (0.5, 0.6)], True),  # only the third step
    ],
)
def test_collisions_worked_by_hand(path, hit):
    assert MAZE.collides(np.array(path)[:, None]).tolist() == [hit]
    assert MAZE.collides(np.array(path)[::-1, None]).tolist() == [hit]


def test_collisions_are_those_of_clipping_one_by_one():
    rng = np.random.default_rng(0)
    step = rng.normal(0, 0.15, (5, 3, 200, 2)).cumsum(1)
    paths = rng.uniform(0.2, 0.8, (5, 1, 200, 2)) + step * (rng.random((5, 1, 200, 2)) < 0.7)  # some along an axis
    inside = ((paths > 0) & (paths < 1)).all((1, 3))
    found = MAZE.collides(paths)
    for k, b in np.ndindex(5, 200):
        path = paths[k, :, b]
        crossed = any(clipped(p, q, *wall) for p, q in pairwise(path) for wall in MAZE.walls)
        assert found[k, b] == (crossed or not inside[k, b])
        assert MAZE.collides(path[:, None]).item() == found[k, b]
    assert 0.2 < found[inside].mean() < 0.8, "both kinds are among them"


def test_success_is_decided_at_the_end_and_by_every_step():
    batch = MAZE.batch(6, rng=0)
    path = batch[1].astype(float)
    path[-1, 0] = (0.85 + 0.0599, 0.85)
    path[-1, 1] = (0.85, 0.85 + 0.0601)
    path[-2, 2] = (0.85, 0.55)  # once through the second bar and back
    path[10, 3] = np.nan
    path[-1, 4] = np.inf
    np.testing.assert_array_equal(MAZE.score(path, batch), [1, 0, 0, 0, 0, 1])


def test_the_step_from_the_start_counts():
    batch = MAZE.batch(3, rng=0)
    at_once = np.broadcast_to(GOAL, batch[1].shape)
    assert not MAZE.collides(at_once).any()
    np.testing.assert_array_equal(MAZE.score(at_once, batch), 0)


def test_the_shortest_trials_that_are_taken_can_still_succeed():
    for opening in (0.05, 0.32, 0.9):
        for T in range(1, 200):
            try:
                task = get_task("maze", T=T, counted=T, hold=0, opening=opening, thickness=0.2, top=0.2)
            except InputError as error:
                message = str(error)
                continue
            break
        assert "cut corners" in message
        batch = task.batch(2000, rng=0)
        np.testing.assert_array_equal(task.score(batch[1], batch), 1)


def test_scores_of_many_networks_are_those_of_each():
    batch = MAZE.batch(5, rng=0)
    noise = np.random.default_rng(1).normal(0, 0.05, (2, 3, 4, *batch[1].shape))
    outputs = batch[1] + noise * np.array([0.1, 1])[:, None, None, None, None, None]
    score = MAZE.score(outputs, batch)
    assert score.shape == (2, 3, 4, 5)
    assert 0 < score.mean() < 1
    for index in np.ndindex(2, 3, 4):
        np.testing.assert_array_equal(MAZE.score(outputs[index], batch), score[index])


def test_conditions_are_places_on_the_reference_without_a_wanted_output():
    inputs, targets = MAZE.conditions()
    reference = MAZE.reference(np.array([[0.3, 0.15]]))[:, 0]
    np.testing.assert_allclose(inputs[[0, 5, 11]], 4 * (reference[[0, 30, 65]] - 0.5), atol=1e-14)
    assert inputs.shape == (12, 2)
    assert targets is None
    assert get_task("maze", T=25, hold=20, counted=25, opening=0.99).conditions()[0].shape == (6, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hold": 80}, r"hold must be a whole number of steps in 0\.\.T-1; found hold=80, T=80"),
        ({"hold": 1.5}, r"hold must be a whole number, at most 100000; found 1\.5"),
        ({"hold": float("nan")}, r"hold must be a number; found nan"),
        ({"T": 20, "counted": 20}, r"cut corners: .* opening / 2; found T=20, hold=15, opening=0\.32"),
        ({"T": 0}, r"T must be >= 1"),
        ({"opening": 0}, r"opening must lie between 0 and 1, .* found 0"),
        ({"opening": float("nan")}, r"opening must be a number; found nan"),
        ({"thickness": 0.34}, r"thickness must be >= 0 and leave the lanes free, < 0\.34; found 0\.34"),
        ({"goal": 0.16}, r"goal is a radius > 0 that fits between the walls, <= 0\.15; found 0\.16"),
        ({"goal": 0.13, "thickness": 0.1}, r"<= 0\.115; found 0\.13"),
        ({"top": 0.34}, r"below the first bar: .* bottom <= top < 0\.335; .*top=0\.34"),
        ({"left": 0.6}, r"found left=0\.6, right=0\.55"),
        ({"left": -0.1}, r"starts must lie inside the square"),
        ({"bottom": float("nan")}, r"bottom must be a number; found nan"),
    ],
)
def test_what_cannot_be_used_is_named(settings, message):
    with pytest.raises(InputError, match=message):
        get_task("maze", **settings)


def test_settings_make_the_task_again():
    task = get_task("maze", hold=10, opening=0.2)
    assert get_task("maze", **task.settings()) == task
    assert {type(value) for value in task.settings().values()} <= {int, float}


def test_noise_inside_makes_a_network_that_needs_it():
    """R = loss with the noise removed / at the training noise; small networks, briefly trained: seeds 0 to 5 gave
    R = 2.2 to 3.2 with the noise inside."""
    nets = train("maze", seed=0, sigma=1.0, placement=("in", "out"), size=32, steps=300, batch=16).networks
    batch = MAZE.batch(64, rng=1)
    R = []
    for net in nets:
        noisy, silent = (((walk(net, batch, rng) - batch[1]) ** 2).mean() for rng in (np.random.default_rng(2), None))
        R.append(silent / noisy)
    assert R[0] > 1.5
    assert R[1] < 1


def test_the_figure_shows_the_walls_the_paths_and_who_succeeded():
    batch = MAZE.batch(3, rng=0)
    start = starts(batch)
    paths = [np.concatenate([start[None], path]) for path in (batch[1], straight(start))]
    success = [MAZE.score(path[1:], batch) for path in paths]
    panels = {"with": (paths[0], success[0]), "without": (paths[1], success[1]), "unscored": (paths[1], None)}
    figure = figures.maze_figure(panels, reference=paths[0][:, 0], **MAZE.layout())
    left, right, unscored = figure.axes
    assert left.get_title() == "with: 3 of 3 succeed"
    assert right.get_title() == "without: 0 of 3 succeed"
    assert unscored.get_title() == "unscored"
    for ax, path in zip((left, right), paths, strict=True):
        reference, *drawn = ax.get_lines()
        np.testing.assert_array_equal(reference.get_xydata(), paths[0][:, 0])
        for b in range(3):
            np.testing.assert_array_equal(drawn[b].get_xydata(), path[:, b])
        bars = ax.patches[2:]
        assert [bar.get_xy() for bar in bars] == [tuple(low) for low, _ in MAZE.walls]
    crosses = [line for line in right.get_lines() if line.get_marker() == "X"]
    np.testing.assert_array_equal(crosses[0].get_xydata(), paths[1][-1])


def test_an_empty_maze_can_be_drawn():
    ax = figures.plot_maze(**MAZE.layout())
    assert len(ax.patches) == 4
    assert ax.get_lines() == []
    plt.close(ax.figure)
