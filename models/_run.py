"""The state of a training run, one step of it, and its partial file: all that a resumed run needs.

A network's initial weights, batches and noise come from streams of its seed, so that it trains the same alone or
in company, up to the rounding of the batched product; networks that share a seed share what is drawn from it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fpanalysis import checkpoint
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.tasks import Task

from ._adam import Adam
from ._automatic import AutomaticGradient
from ._gradient import Gradient, Trials
from ._trainable import stacked
from .lipschitz import LipschitzStack, untrained

FORMAT = "fpanalysis.training/2"
MATRICES = {"M_A": "W", "M_W": "W"}  #: what a task calls the recurrent parameters of a Lipschitz RNN


@dataclass(frozen=True)
class Settings:
    """What determines a training run; runs with the same settings give the same networks."""

    task: str
    task_settings: dict[str, Any]
    size: int
    gamma: float
    activation: str | dict[str, Any]
    form: str
    seed: list[int]  #: one per network, as are sigma and placement
    sigma: list[float]
    placement: list[str]
    steps: int
    batch: int
    lr: float
    clip: float
    device: str = "cpu"
    multiplicative: list[float] | None = None  #: these two of Lipschitz RNNs only
    noise: str | None = None

    @property
    def M(self) -> int:
        return len(self.seed)

    @property
    def layers(self) -> list[int] | None:
        """Of a feedforward network."""
        return self.task_settings.get("layers")


class Run:
    """M networks in training: model, Adam state, random streams, losses and the number of steps done.

    Weights that `task.connections` does not have stay as they start.
    """

    def __init__(self, task: Task, settings: Settings) -> None:
        self.task, self.settings = task, settings
        seeds = sorted(set(settings.seed))
        self.member = torch.tensor([seeds.index(seed) for seed in settings.seed], device=settings.device)
        self.model = stacked([_untrained(task, settings, m, _streams(seed)[0]) for m, seed in enumerate(settings.seed)])
        self.model.to(settings.device)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(MATRICES.get(name, name) in task.trainable)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        exist = {name: self.model.W.new_tensor(part) for name, part in task.connections().items()}
        self.exist = [(self.model.get_parameter(name), part) for name, part in exist.items()]
        self.adam = Adam(self.trained)
        self.gradient: Gradient | AutomaticGradient
        if isinstance(self.model, LipschitzStack):
            self.gradient = AutomaticGradient(self.model, task.feedback, task.loss)
        else:
            self.gradient = Gradient(self.model, task.feedback, task.loss)
        self.batches = [np.random.default_rng(_streams(seed)[1]) for seed in seeds]
        multiplicative, joint = any(settings.multiplicative or ()), settings.noise == "joint"
        self.noise = self._generators(2, seeds if any(settings.sigma) or (multiplicative and joint) else ())
        self.factor = self._generators(3, seeds if multiplicative and not joint else ())
        self.losses: NDArray[np.float32] = np.full((settings.steps, settings.M), np.nan, np.float32)
        self.done = 0

    def step(self) -> NDArray[np.float32]:
        """One step of Adam for every network, with the learning rate on a cosine to zero; the losses (M,)."""
        s = self.settings
        losses = self.gradient(self._trials())
        for parameter, exist in self.exist:
            if parameter.grad is not None:
                parameter.grad.mul_(exist)
        _clip_each(self.trained, s.clip)
        self.adam.step(s.lr * (1 + cos(pi * self.done / s.steps)) / 2)
        self.losses[self.done] = losses.cpu().numpy()
        self.done += 1
        return self.losses[self.done - 1]

    def _trials(self) -> Trials:
        """The next batch and noise of every seed."""
        B, N = self.settings.batch, self.settings.size
        batches = [self.task.batch(B, rng) for rng in self.batches]
        starts = [self.task.initial_state(batch[1], N) for batch in batches]
        parts = (*zip(*batches, strict=True), starts)
        inputs, targets, mask, h0 = (
            torch.from_numpy(np.stack(part)).to(self.model.W, non_blocking=True) for part in parts
        )
        shape = inputs.shape[1], B, N
        xi, factor = self._drawn("xi", self.noise, shape), self._drawn("factor", self.factor, shape)
        joint = self.settings.noise == "joint"
        return Trials(inputs, targets, mask, h0, xi, self.member, xi if joint else factor)

    def _generators(self, stream: int, seeds: Sequence[int]) -> list[torch.Generator]:
        """One for each seed, of that stream of it."""
        return [torch.Generator(self.settings.device).manual_seed(_integer(_streams(seed)[stream])) for seed in seeds]

    def _drawn(self, name: str, generators: list[torch.Generator], shape: tuple[int, int, int]) -> Tensor | None:
        """White noise (S, *shape), in memory that is kept; None without generators."""
        if not generators:
            return None
        xi = self.gradient.kept(name, len(generators), *shape)
        for drawn, generator in zip(xi, generators, strict=True):
            drawn.normal_(generator=generator)
        return xi

    def diverged(self) -> list[int | None]:
        """For each network the first step (from 1) whose loss or weights were not finite; None if there is none."""
        finite = np.isfinite(self.losses[: self.done])
        first: list[int | None] = [None if column.all() else int(column.argmin()) + 1 for column in finite.T]
        weights = torch.stack([p.detach().flatten(1).sum(1) for p in self.trained]).isfinite().all(0).cpu()
        return [self.done if k is None and not ok else k for k, ok in zip(first, weights.tolist(), strict=True)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write everything a resumed run needs, atomically, readable by ``torch.load(weights_only=True)``."""
        state = {
            "format": FORMAT,
            "settings": dataclasses.asdict(self.settings),
            "done": self.done,
            "model": self.model.state_dict(),
            "adam": self.adam.state_dict(),
            "batches": [rng.bit_generator.state for rng in self.batches],
            "noise": [generator.get_state() for generator in (*self.noise, *self.factor)],
            "losses": torch.from_numpy(self.losses),
        }
        checkpoint.write(state, path)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Go back to the state that `save` wrote; refused, naming the difference, if its settings were others."""
        if not Path(path).is_file():
            raise InputError(f"no unfinished training at {path}: start it without resume")
        state = unfinished(path)
        saved, wanted = state["settings"], dataclasses.asdict(self.settings)
        differing = [f"{k} {saved.get(k)!r}, now {v!r}" for k, v in wanted.items() if saved.get(k) != v]
        if differing:
            raise InputError(
                f"cannot resume {path} with other settings: it was started with {'; '.join(differing)}; "
                "use the same settings, or start without resume"
            )
        self.done = state["done"]
        self.model.load_state_dict(state["model"])
        self.adam.load_state_dict(state["adam"])
        self.losses[:] = state["losses"].numpy()
        for rng, rng_state in zip(self.batches, state["batches"], strict=True):
            rng.bit_generator.state = rng_state
        for generator, generator_state in zip((*self.noise, *self.factor), state["noise"], strict=True):
            generator.set_state(generator_state)


def unfinished(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What `Run.save` wrote to `path`; refused if it is anything else."""
    state = checkpoint.read(path)
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise InputError(f"{path} is not an unfinished training ({FORMAT!r}): start without resume")
    return state


def _untrained(task: Task, settings: Settings, m: int, stream: np.random.SeedSequence) -> Network | LipschitzRNN:
    rng = np.random.default_rng(stream)
    weights = task.initialize(settings.size, rng)
    conditions, targets = task.conditions()
    shared: dict[str, Any] = {
        "gamma": settings.gamma,
        "activation": settings.activation,
        "sigma": settings.sigma[m],
        "conditions": conditions,
        "targets": targets,
    }
    if settings.multiplicative is not None:
        if task.connections():
            raise InputError(f"form 'lipschitz' has full matrices, but task {task.name!r} has not all connections")
        return untrained(weights, rng, multiplicative=settings.multiplicative[m], noise=settings.noise, **shared)
    own = {name: value for name, value in weights.items() if value.size}
    return Network(**own, placement=settings.placement[m], form=settings.form, **shared)


def _streams(seed: int) -> list[np.random.SeedSequence]:
    """For initial weights, batches, noise, and multiplicative noise."""
    return np.random.SeedSequence(seed).spawn(4)


def _integer(stream: np.random.SeedSequence) -> int:
    return int(stream.generate_state(1, np.uint64)[0] >> 1)


def _clip_each(parameters: list[torch.nn.Parameter], limit: float) -> None:
    """Scale each network's gradient, over all its parameters, to norm <= limit."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (limit / (norm + 1e-6)).clamp(max=1)
    for g in gradients:
        g.mul_(scale.view(-1, *(1 for _ in g.shape[1:])))
