"""The cognitive suite: up to 20 tasks of memory, choice and matching in one network, told apart by a rule input.

Yang, Joglekar, Song, Newsome & Wang, "Task representations in neural networks trained to perform many cognitive
tasks" (Nature Neuroscience 2019). Two rings of inputs show directions, a fixation input asks to wait, and a ring of
outputs must point in the right direction once the response begins, not before. `_cognitive_rules` lists the tasks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import pi, sqrt
from typing import ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._cognitive_rules import RULES
from ._cognitive_trials import BASE, DT, PEAK, Trials, bump, direction, longest, render
from ._task import Array, Batch, Defaults, Task, check_batch_size

TAU = 100.0  #: ms
ALPHA = DT / TAU
WITHIN = 0.2 * pi  #: how far off the right direction a response may be
FINEST = 1000  #: units of a ring
DIRECTIONS = 4  #: at which responses are analysed


@dataclass(frozen=True)
class Cognitive(Task):
    """Every trial of a batch has its own rule and durations; what lies after its end does not count.

    Steps are 20 ms, for a network with tau = 100 ms: gamma = 0.2. The paper's sizes are ``ring=32, scale=1,
    contrast=1`` with 256 neurons; the default's 96 need a tenth of the work per trial. With half the units per ring
    and half the time, a signal among the same input noise is half as clear: twice the contrast puts that right.

    The default noise is the paper's sigma_rec = 0.05, inside the activation: sigma = 0.05 sqrt(2 / 0.2) = 0.158. What
    differs from the paper's networks: the outputs are linear (there: a sigmoid); the mask is the weight of the squared
    error (the public code squares the mask as well, which trained more slowly here); all rules are as likely (there:
    ctx-dm1 and ctx-dm2 five times as likely, being the hardest); and a trial in which fixation is broken fails (the
    public code scores its last step alone).

    Parameters
    ----------
    ring : int
        Units of a ring, n; 1 + 2 n + rules inputs, 1 + n outputs.
    scale : float
        Factor on the durations of all epochs but the response, whose length tau decides; 0.25 to 10.
    contrast : float
        Factor, up to 2.5, on the coherences, which are +-0.01 to +-0.08 in the decision tasks, +-0.08 to +-0.32 in
        their delayed versions.
    rules : str
        Names of the tasks in use, separated by commas, or "all"; each has a rule input, in this order.
    input_noise : float
        sigma_x: every input gets independent noise of standard deviation sigma_x sqrt(2 / 0.2) per step. The paper's
        value is the default: without it one look would tell which stimulus is stronger, and nothing need be
        accumulated.
    """

    ring: int = 16
    scale: float = 0.5
    contrast: float = 2.0
    rules: str = "all"
    input_noise: float = 0.01

    #: no settings of this task: the rules and their scale decide them
    T: ClassVar[int] = property(lambda task: task._longest())  # type: ignore[assignment, misc]
    counted: ClassVar[int]  # type: ignore[misc]

    name: ClassVar[str] = "cognitive"
    scored: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults(
        size=96, gamma=ALPHA, steps=6000, lr=7e-3, batch=32, sigma=0.05 * sqrt(2 / ALPHA)
    )

    def __post_init__(self) -> None:
        self._check_kinds()
        if not 4 <= self.ring <= FINEST:
            raise InputError(f"ring must be in 4..{FINEST}: fewer do not tell directions apart; found {self.ring}")
        if not 0.25 <= self.scale <= 10:
            raise InputError(
                f"scale must be in [0.25, 10]; found {self.scale}: with less, no step would count before some responses"
            )
        if not 0 < self.contrast <= 2.5:
            raise InputError(f"contrast must be in (0, 2.5], so that no stimulus is negative; found {self.contrast}")
        if not 0 <= self.input_noise <= 1:
            raise InputError(f"input_noise must be in [0, 1]; found {self.input_noise}")
        names = self.rule_names
        unknown = sorted(set(names) - set(RULES))
        if unknown:
            raise InputError(f"rules has no {unknown[0]!r}; known: all, or some of {', '.join(RULES)}")
        if len(set(names)) < len(names):
            raise InputError(f"rules must name each task once; found {self.rules!r}")

    @property
    def rule_names(self) -> list[str]:
        """The tasks in use, in the order of their rule inputs."""
        return list(RULES) if self.rules == "all" else [name.strip() for name in self.rules.split(",")]

    @property
    def titles(self) -> list[str]:
        """What the paper calls them, and where to point."""
        return [f"{RULES[name].title}: {RULES[name].wanted}" for name in self.rule_names]

    @property
    def n_in(self) -> int:  # type: ignore[override]  # settings decide it
        return 1 + 2 * self.ring + len(self.rule_names)

    @property
    def n_out(self) -> int:  # type: ignore[override]
        return 1 + self.ring

    def _longest(self) -> int:
        """Steps of the longest trial, hence of every batch: T."""
        return max(longest(RULES[name].timing, self.scale) for name in self.rule_names)

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Inputs, targets and mask, the last (T, B, n_out): 1 before the response, 5 in it, twice that for the
        fixation output, 0 in the first 100 ms of trial and response and after the end."""
        check_batch_size(batch_size)
        rng = np.random.default_rng(rng)
        rules = [RULES[name] for name in self.rule_names]
        return self.render(Trials.draw(rules, batch_size, self.scale, self.contrast, rng), rng)

    def render(self, trials: Trials, rng: int | np.random.Generator = 0) -> Batch:
        """The batch that holds these trials, the input noise from `rng`."""
        inputs, targets, mask = render(trials, self._longest(), self.ring, len(self.rule_names))
        if self.input_noise:
            running = np.arange(self._longest())[:, None] < trials.end
            xi = np.random.default_rng(rng).standard_normal((int(running.sum()), self.n_in), np.float32)
            inputs[running] += np.float32(self.input_noise * sqrt(2 / ALPHA)) * xi
        return inputs, targets, mask

    def rule_of(self, inputs: Array) -> Array:
        """Which of `rule_names` each trial of inputs (T, B, n_in) has, (B,)."""
        return inputs[..., 1 + 2 * self.ring :].sum(0).argmax(-1)

    def score(self, outputs: Array, batch: Batch) -> Array:
        """1 where the fixation output stayed above 0.5 at all counted steps at which it should and, if there is a
        response to give, at its last step fell below and the ring's population vector points within 0.2 pi of the
        right direction."""
        _, targets, mask = batch
        counted = mask.any(-1)
        fixate = counted & (targets[..., 0] > 0.5)
        respond = counted & ~fixate
        kept = ((outputs[..., 0] > 0.5) | ~fixate).all(-2)
        last = (np.arange(self._longest())[:, None] * counted).max(0), np.arange(targets.shape[1])
        y, wanted = outputs[..., *last, :], targets[*last]
        off = (direction(y[..., 1:]) - direction(wanted[..., 1:]) + pi) % (2 * pi) - pi
        pointed = (y[..., 0] < 0.5) & (np.abs(off) < WITHIN)
        return (kept & (pointed | ~respond.any(0))).astype(float)

    def accuracy(self, outputs: Array, batch: Batch) -> dict[str, float]:
        """The mean score of the trials of each task; NaN for a task that has none."""
        score, rule = self.score(outputs, batch), self.rule_of(batch[0])
        return {
            name: float(score[..., rule == k].mean()) if (rule == k).any() else float("nan")
            for k, name in enumerate(self.rule_names)
        }

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W = 0.5 times a random orthogonal matrix, W_in ~ N(0, 1/n_in), W_out uniform within
        +-sqrt(6 / (N + n_out)), biases zero, as in the paper."""
        rng = np.random.default_rng(rng)
        Q, R = np.linalg.qr(rng.standard_normal((size, size)))
        reach = sqrt(6 / (size + self.n_out))
        return {
            "W": 0.5 * Q * np.sign(np.diag(R)),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, self.n_in)) / sqrt(self.n_in),
            "W_out": rng.uniform(-reach, reach, (self.n_out, size)),
            "b_out": np.zeros(self.n_out),
        }

    def conditions(self) -> tuple[Array, Array]:
        """For each task, what is constant while it waits: fixation and rule, at which fixation is wanted whatever is
        remembered. And where the stimulus stays on during the response, so that the input decides it: the response
        to four directions in ring 1. `condition_names` tells them apart."""
        inputs, targets = zip(*[part for _, *part in self._conditions()], strict=True)
        return np.array(inputs), np.array(targets)

    @property
    def condition_names(self) -> list[str]:
        """Of each of `conditions`: "dly-go waiting", "anti responding to 90", in degrees, ..."""
        return [name for name, *_ in self._conditions()]

    def _conditions(self) -> Iterator[tuple[str, Array, Array]]:
        blank = np.zeros(self.ring)
        for name, rule in zip(self.rule_names, np.eye(len(self.rule_names)), strict=True):
            timing = RULES[name].timing
            yield f"{name} waiting", np.concatenate([[1], blank, blank, rule]), np.concatenate([[PEAK], BASE + blank])
            if timing.shown[0][1] < len(timing.epochs):
                continue
            theta = 2 * pi / DIRECTIONS * np.arange(DIRECTIONS)
            answer = RULES[name].answer(theta[:, None], np.empty(0))
            for at, shown, right in zip(theta, bump(theta, self.ring), bump(answer, self.ring), strict=True):
                inputs = np.concatenate([[not timing.cue], shown, blank, rule])
                yield f"{name} responding to {np.degrees(at):.0f}", inputs, np.concatenate([[BASE], BASE + right])
