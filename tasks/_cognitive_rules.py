"""The 20 tasks of the cognitive suite as data: when things happen, what is shown, and which answer is right.

A trial is a row of epochs, of which the last is the response; one or two stimuli, each shown from one border between
epochs to another; and an answer, a direction or (NaN) none: keep fixating. Durations in ms, coherences and directions
are those of Yang et al. (Nature Neuroscience 2019) in the public code that came with the paper
(github.com/gyyang/multitask, task.py). There all trials of a batch share a rule, the durations and the rings; here
every trial draws its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from ._task import Array

Stimuli = tuple[Array, Array]  #: directions (n, 2) of both stimuli, and strengths (n, 2, 2) by stimulus and ring
Answer = Callable[[Array, Array], Array]  #: directions and strengths -> the right direction (n,), NaN for none


def _any_of(values: Sequence[float] | Array, rng: np.random.Generator, n: int | tuple[int, ...]) -> Array:
    return np.array(values)[rng.integers(len(values), size=n)]  # a third of the time of rng.choice


@dataclass(frozen=True)
class Epoch:
    """A duration in ms: one of `values`, or, if these are the ends of a range, anything between."""

    values: tuple[float, ...]
    between: bool = False

    def draw(self, rng: np.random.Generator, n: int) -> Array:
        if self.between:
            return rng.uniform(min(self.values), max(self.values), n)
        return _any_of(self.values, rng, n)


@dataclass(frozen=True)
class Timing:
    """Epochs in order, and for each stimulus the borders between which it is shown: 0 opens the trial, k ends epoch k.

    cue: whether the fixation input goes off where the response begins; it stays on where the stimulus is the signal.
    """

    epochs: tuple[Epoch, ...]
    shown: tuple[tuple[int, int], tuple[int, int]]
    cue: bool


@dataclass(frozen=True)
class Rule:
    """title: the paper's name. wanted: where to point, in words."""

    title: str
    wanted: str
    timing: Timing
    stimuli: Callable[[np.random.Generator, int, float], Stimuli]
    answer: Answer


def _one_of(*values: float) -> Epoch:
    return Epoch(values)


def _between(low: float, high: float) -> Epoch:
    return Epoch((low, high), between=True)


NEVER = (0, 0)
RESPONSE = _one_of(500)
SHORT, PAUSE = _one_of(200, 400, 600), _one_of(200, 400, 800, 1600)

GO = Timing((_between(300, 700), _between(500, 1500), RESPONSE), ((1, 3), NEVER), cue=True)
REACT = Timing((_between(500, 2500), RESPONSE), ((1, 2), NEVER), cue=False)
REMEMBER = Timing((_one_of(300, 500, 700), SHORT, PAUSE, RESPONSE), ((1, 2), NEVER), cue=True)
COMPARE = Timing((_between(100, 400), _one_of(400, 800, 1600), RESPONSE), ((1, 2), (1, 2)), cue=True)
COMPARE_LATER = Timing((SHORT, SHORT, PAUSE, SHORT, _between(100, 300), RESPONSE), ((1, 2), (3, 4)), cue=True)
MATCH = Timing((SHORT, SHORT, PAUSE, RESPONSE), ((1, 2), (3, 4)), cue=False)
CATEGORIZE = Timing((SHORT, SHORT, PAUSE, SHORT), ((1, 2), (3, 4)), cue=False)

FINE, COARSE = (0.01, 0.02, 0.04, 0.08), (0.08, 0.16, 0.32)  #: coherences
BOTH = (0, 1)  #: rings


def _one(rng: np.random.Generator, n: int, contrast: float) -> Stimuli:
    """One stimulus, in either ring."""
    strength = np.zeros((n, 2, 2))
    strength[np.arange(n), 0, rng.integers(2, size=n)] = 1
    return rng.uniform(0, 2 * pi, (n, 2)), strength


def _pair(rng: np.random.Generator, n: int, apart: float) -> Array:
    """Two directions at least `apart` from each other."""
    theta = rng.uniform(0, 2 * pi, n)
    return np.stack([theta, (theta + rng.uniform(apart, 2 * pi - apart, n)) % (2 * pi)], 1)


def _graded(rng: np.random.Generator, n: int, coherences: tuple[float, ...], contrast: float) -> Array:
    """Strengths (n, 2) of two stimuli, mean +- coherence, either one the stronger."""
    coherence = contrast * _any_of(coherences, rng, n) * _any_of((1, -1), rng, n)
    return rng.uniform(0.8, 1.2, n)[:, None] + np.stack([coherence, -coherence], 1)


def _graded_in(rings: tuple[int, ...], coherences: tuple[float, ...]) -> Callable[..., Stimuli]:
    """Two stimuli of graded strength, drawn anew for each of these rings."""

    def draw(rng: np.random.Generator, n: int, contrast: float) -> Stimuli:
        strength = np.zeros((n, 2, 2))
        for ring in rings:
            strength[..., ring] = _graded(rng, n, coherences, contrast)
        return _pair(rng, n, pi / 2), strength

    return draw


def _graded_over(coherences: tuple[float, ...]) -> Callable[..., Stimuli]:
    """Two stimuli whose graded strength is the mean over the rings, unequally divided between them."""

    def draw(rng: np.random.Generator, n: int, contrast: float) -> Stimuli:
        strength = _graded(rng, n, coherences, contrast)
        uneven = strength * rng.uniform(0.2, 0.8, (n, 2)) * _any_of((1, -1), rng, (n, 2)) / 2
        return _pair(rng, n, pi / 2), np.stack([strength + uneven, strength - uneven], -1)

    return draw


def _each_in_a_ring(rng: np.random.Generator, n: int) -> Array:
    strength = np.zeros((n, 2, 2))
    np.put_along_axis(strength, rng.integers(2, size=(n, 2, 1)), 1, -1)
    return strength


def _samples(rng: np.random.Generator, n: int, contrast: float) -> Stimuli:
    """The same direction twice or, as often, two at least 20 degrees apart; each in either ring."""
    theta = _pair(rng, n, pi / 9)
    theta[:, 1] = np.where(rng.integers(2, size=n), theta[:, 0], theta[:, 1])
    return theta, _each_in_a_ring(rng, n)


def _categories(rng: np.random.Generator, n: int, contrast: float) -> Stimuli:
    """Two of the ten directions 18, 54, ... degrees, each in either ring."""
    return _any_of(np.arange(0.1, 2, 0.2) * pi, rng, (n, 2)), _each_in_a_ring(rng, n)


def _towards(theta: Array, strength: Array) -> Array:
    return theta[:, 0]


def _away(theta: Array, strength: Array) -> Array:
    return (theta[:, 0] + pi) % (2 * pi)


def _strongest(*rings: int) -> Answer:
    """The stimulus that is stronger in these rings together."""

    def answer(theta: Array, strength: Array) -> Array:
        attended = strength[..., rings].sum(-1)
        return np.where(attended[:, 0] > attended[:, 1], theta[:, 0], theta[:, 1])

    return answer


def _second_if(same: bool, by: Callable[[Array], Array]) -> Answer:
    """The second stimulus where both are the same, or are not, in what `by` tells of a direction."""

    def answer(theta: Array, strength: Array) -> Array:
        first, second = by(theta).T
        return np.where((first == second) == same, theta[:, 1], np.nan)

    return answer


def _itself(theta: Array) -> Array:
    return theta


def _category(theta: Array) -> Array:
    """The half of the circle."""
    return theta < pi


RULES: dict[str, Rule] = {
    "go": Rule("Go", "at what is shown, on the signal", GO, _one, _towards),
    "rt-go": Rule("RT Go", "at what is shown, at once", REACT, _one, _towards),
    "dly-go": Rule("Dly Go", "at what was shown", REMEMBER, _one, _towards),
    "anti": Rule("Anti", "away from what is shown, on the signal", GO, _one, _away),
    "rt-anti": Rule("RT Anti", "away from what is shown, at once", REACT, _one, _away),
    "dly-anti": Rule("Dly Anti", "away from what was shown", REMEMBER, _one, _away),
    "dm1": Rule("DM 1", "at the stronger, in ring 1", COMPARE, _graded_in((0,), FINE), _strongest(0)),
    "dm2": Rule("DM 2", "at the stronger, in ring 2", COMPARE, _graded_in((1,), FINE), _strongest(1)),
    "ctx-dm1": Rule("Ctx DM 1", "at the stronger in ring 1, not 2", COMPARE, _graded_in(BOTH, FINE), _strongest(0)),
    "ctx-dm2": Rule("Ctx DM 2", "at the stronger in ring 2, not 1", COMPARE, _graded_in(BOTH, FINE), _strongest(1)),
    "multsen-dm": Rule(
        "MultSen DM", "at the stronger in both together", COMPARE, _graded_over(FINE), _strongest(*BOTH)
    ),
    "dly-dm1": Rule(
        "Dly DM 1", "at the stronger in turn, in ring 1", COMPARE_LATER, _graded_in((0,), COARSE), _strongest(0)
    ),
    "dly-dm2": Rule(
        "Dly DM 2", "at the stronger in turn, in ring 2", COMPARE_LATER, _graded_in((1,), COARSE), _strongest(1)
    ),
    "ctx-dly-dm1": Rule(
        "Ctx Dly DM 1", "at the stronger in turn, ring 1 not 2", COMPARE_LATER, _graded_in(BOTH, COARSE), _strongest(0)
    ),
    "ctx-dly-dm2": Rule(
        "Ctx Dly DM 2", "at the stronger in turn, ring 2 not 1", COMPARE_LATER, _graded_in(BOTH, COARSE), _strongest(1)
    ),
    "multsen-dly-dm": Rule(
        "MultSen Dly DM",
        "at the stronger in turn, both together",
        COMPARE_LATER,
        _graded_over(COARSE),
        _strongest(*BOTH),
    ),
    "dms": Rule("DMS", "at the second if it is as the first", MATCH, _samples, _second_if(True, _itself)),
    "dnms": Rule("DNMS", "at the second if it is not as the first", MATCH, _samples, _second_if(False, _itself)),
    "dmc": Rule("DMC", "at the second if in the same half", CATEGORIZE, _categories, _second_if(True, _category)),
    "dnmc": Rule("DNMC", "at the second if in the other half", CATEGORIZE, _categories, _second_if(False, _category)),
}
