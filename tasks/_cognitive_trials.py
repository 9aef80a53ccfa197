"""Trials of the cognitive suite: drawn from their rules as numbers, and drawn out in time as a network sees them.

Inputs: fixation, ring 1, ring 2, one per rule. Outputs: fixation, a ring. Unit i of a ring of n prefers
theta_i = 2 pi i / n; a stimulus of strength g at theta drives it with 0.8 g exp(-(8 d / pi)^2 / 2), d the distance of
the directions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np

from ._cognitive_rules import Rule, Stimuli, Timing
from ._task import Array, Batch

DT = 20.0  #: ms per step
GRACE = 100.0  #: ms at the beginning of trial and response that do not count
PEAK, BASE = 0.8, 0.05  #: of the outputs, as wanted
RESPONSE_WEIGHT, FIXATION_WEIGHT = 5.0, 2.0  #: of the response's steps, and of the fixation output


@dataclass(frozen=True)
class Trials:
    """B trials as numbers; times in steps, directions in radians.

    rule (B,): its place among the rules in use. theta (B, 2): directions of both stimuli. strength (B, 2, 2): by
    stimulus and ring. on, off (B, 2): when they are shown. release (B,): when the fixation input goes off. go, end
    (B,): the response. answer (B,): its direction; NaN: keep fixating.
    """

    rule: Array
    theta: Array
    strength: Array
    on: Array
    off: Array
    release: Array
    go: Array
    end: Array
    answer: Array

    def __len__(self) -> int:
        return len(self.rule)

    def __getitem__(self, which: Array) -> Trials:
        return Trials(**{field.name: getattr(self, field.name)[which] for field in dataclasses.fields(self)})

    @classmethod
    def join(cls, parts: Sequence[Trials]) -> Trials:
        names = [field.name for field in dataclasses.fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    @classmethod
    def draw(cls, rules: Sequence[Rule], n: int, scale: float, contrast: float, rng: np.random.Generator) -> Trials:
        """n random trials, each of any of the rules."""
        place = rng.integers(len(rules), size=n)
        parts = []
        for k, rule in enumerate(rules):
            m = int((place == k).sum())
            stimuli = rule.stimuli(rng, m, contrast)
            durations = np.stack([epoch.draw(rng, m) for epoch in rule.timing.epochs], 1)
            parts.append(arrange(rule, k, durations, stimuli, scale))
        return cls.join(parts)[np.argsort(np.argsort(place, kind="stable"), kind="stable")]


def arrange(rule: Rule, place: int, durations: Array, stimuli: Stimuli, scale: float) -> Trials:
    """Trials of one rule, the rule number `place`, with these durations of its epochs in ms, (n, epochs)."""
    theta, strength = stimuli
    steps = _steps(durations, scale)
    border = np.concatenate([np.zeros_like(steps[:, :1]), steps.cumsum(1)], 1)
    on, off = (border[:, [shown[side] for shown in rule.timing.shown]] for side in (0, 1))
    go, end = border[:, -2], border[:, -1]
    release = go if rule.timing.cue else end
    return Trials(np.full(len(go), place), theta, strength, on, off, release, go, end, rule.answer(theta, strength))


def longest(timing: Timing, scale: float) -> int:
    """Steps of the longest trial."""
    return int(_steps(np.array([max(epoch.values) for epoch in timing.epochs]), scale).sum())


def _steps(durations: Array, scale: float) -> Array:
    """Durations in ms (..., epochs) as whole steps, at least one; all but the last, the response, are scaled."""
    factor = np.full(durations.shape[-1], scale)
    factor[-1] = 1
    return np.maximum(np.floor(durations * factor / DT + 1e-9).astype(int), 1)


def bump(theta: Array, n: int) -> Array:
    """0.8 exp(-(8 d / pi)^2 / 2) for each unit of a ring, (..., n); zeros where theta is NaN."""
    d = np.abs((theta[..., None] - 2 * pi / n * np.arange(n) + pi) % (2 * pi) - pi)
    return np.nan_to_num(PEAK * np.exp(-((8 / pi * d) ** 2) / 2))


def direction(ring: Array) -> Array:
    """The angle of the population vector sum_i y_i exp(i theta_i), (...,) for a ring (..., n)."""
    preferred = 2 * pi / ring.shape[-1] * np.arange(ring.shape[-1])
    return np.arctan2(ring @ np.sin(preferred), ring @ np.cos(preferred))


def render(trials: Trials, T: int, n: int, n_rules: int) -> Batch:
    """Inputs (T, B, 1 + 2 n + n_rules) without noise, targets and mask (T, B, 1 + n); all zero after a trial's end,
    but the targets, which stay at 0.05."""
    t, B = np.arange(T)[:, None], len(trials)
    running, responding = t < trials.end, (trials.go <= t) & (t < trials.end)
    inputs = np.zeros((T, B, 1 + 2 * n + n_rules), np.float32)
    inputs[..., 0] = t < trials.release
    rings = inputs[..., 1 : 1 + 2 * n].reshape(T, B, 2, n)  # a copy: the slice is not contiguous
    for k in range(2):
        shape = trials.strength[:, k, :, None] * bump(trials.theta[:, k], n)[:, None]
        rings += ((trials.on[:, k] <= t) & (t < trials.off[:, k]))[..., None, None] * shape.astype(np.float32)
    inputs[..., 1 : 1 + 2 * n] = rings.reshape(T, B, 2 * n)
    inputs[..., 1 + 2 * n :] = running[..., None] * (trials.rule[:, None] == np.arange(n_rules))

    targets = np.full((T, B, 1 + n), BASE, np.float32)
    targets[..., 0][running & ~(responding & np.isfinite(trials.answer))] = PEAK
    targets[..., 1:] += responding[..., None] * bump(trials.answer, n).astype(np.float32)

    grace = round(GRACE / DT)
    mask = np.zeros((T, B, 1 + n), np.float32)
    mask[(grace <= t) & (t < trials.go)] = 1
    mask[(trials.go + grace <= t) & responding] = RESPONSE_WEIGHT
    mask[..., 0] *= FIXATION_WEIGHT
    return inputs, targets, mask
