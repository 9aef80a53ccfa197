"""Training: M networks (seeds x noise levels x placements) at once, resumable at any step.

Adam, learning rate on a cosine to zero, each network's gradient norm clipped, float32 on one thread unless told
otherwise. The loss is the single-trial squared error with the network's own noise switched on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fpanalysis
from fpanalysis.activations import Activation, get_activation
from fpanalysis.checkpoint import Trained
from fpanalysis.results import InputError, check_writable, one_line
from fpanalysis.tasks import Task, get_task, layered

from ._run import Run, Settings
from .lipschitz import notes as lipschitz_notes

Progress = Callable[[int, NDArray[np.float32]], None]


@dataclass(frozen=True)
class Training:
    """The outcome of `train`.

    losses : (steps, M)
        Training loss of every step; NaN after a run in which all networks diverged was stopped.
    diverged : (M,)
        The step at which a network's loss stopped being finite; None for a network that trained.
    """

    settings: Settings
    losses: NDArray[np.float32]
    diverged: tuple[int | None, ...]
    _run: Run

    @property
    def networks(self) -> list[Trained]:
        """All M trained networks.

        Raises
        ------
        InputError
            If one of them diverged; `network` gives the others one by one.
        """
        return [self.network(m) for m in range(self.settings.M)]

    def network(self, m: int = 0) -> Trained:
        """Trained network number `m`; its `info` tells how it was made.

        Raises
        ------
        InputError
            If its training diverged: there is no network then.
        """
        s, step = self.settings, self.diverged[m]
        if step is not None:
            where = f"placement {s.placement[m]!r}" if s.multiplicative is None else f"form {s.form!r}"
            raise InputError(
                f"training diverged: the loss of network {m} (seed {s.seed[m]}, sigma {s.sigma[m]:g}, "
                f"{where}) was not finite at step {step} of {s.steps}; use a smaller lr than {s.lr:g}"
            )
        net = self._run.model.to_network(m)
        return dataclasses.replace(net, info=self._info(m) | lipschitz_notes(net))

    def final_loss(self, m: int = 0) -> float:
        """Training loss averaged over the last 50 steps."""
        return float(self.losses[-50:, m].mean(dtype=float))

    def _info(self, m: int) -> dict[str, Any]:
        s = self.settings
        training = {"steps": s.steps, "lr": s.lr, "batch": s.batch, "clip": s.clip, "seed": s.seed[m]}
        versions = {"fpanalysis": fpanalysis.__version__, "torch": torch.__version__, "numpy": np.__version__}
        layers = {"layers": s.layers} if s.layers else {}
        return layers | {
            "task": s.task,
            "task_settings": dict(s.task_settings),
            "training": training | {"final_loss": self.final_loss(m)},
            "versions": {name: str(version) for name, version in versions.items()},
        }


def train(
    task: Task | str,
    *,
    seed: int | Sequence[int] = 0,
    sigma: float | Sequence[float] | None = None,
    placement: str | Sequence[str] = "in",
    activation: str | dict[str, Any] | Activation | None = None,
    form: str = "rate",
    multiplicative: float | Sequence[float] | None = None,
    noise: str | None = None,
    layers: Sequence[int] | None = None,
    size: int | None = None,
    gamma: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    clip: float = 1.0,
    threads: int = 1,
    device: str = "cpu",
    progress: Progress | None = None,
    partial: str | os.PathLike[str] | None = None,
    resume: bool = False,
    save_every: float = 10.0,
) -> Training:
    """Train networks on a task; what is None is the task's default.

    Parameters
    ----------
    task : Task or str
    form : "rate" | "current" | "lipschitz"
        Of a `Network`; "lipschitz" trains `LipschitzRNN`s, with A and W in the form of its `between`, by default tanh.
    seed, sigma, placement, multiplicative : one value, or M of them
        Together they make the stack: ``seed=range(4), sigma=0.5`` are four networks that differ in seed.
    multiplicative, noise : of form "lipschitz" only
        As in `LipschitzRNN`; 0 and "independent" by default.
    layers : sequence of int, optional
        Sizes of the layers of a feedforward network (`fpanalysis.feedforward`), for a task with constant inputs.
    clip : float
        Largest gradient norm of a network.
    threads : int
        Threads of torch while training; put back afterwards.
    device : "cpu", "cuda", ...
        Where torch trains. Noise is drawn there: another device gives other noise.
    progress : callable, optional
        Called after every step with the number of steps done and the losses (M,).
    partial : path, optional
        File that holds the whole state of the unfinished training: written every `save_every` seconds, on
        Ctrl-C (at the end of the running step; a second Ctrl-C does not wait) and at the end. The caller
        removes it.
    resume : bool
        Go on from `partial`; the outcome is bit for bit that of an uninterrupted run.

    Raises
    ------
    InputError
        On settings that make no network, or a `partial` that cannot be written, or resumed with these settings.
        A loss that stops being finite is no exception here: see `Training`.
    """
    task = get_task(task) if isinstance(task, str) else task
    task = task if layers is None else layered(task, layers)
    settings = settings_of(
        task, seed=seed, sigma=sigma, placement=placement, activation=activation, form=form,
        multiplicative=multiplicative, noise=noise, size=size, gamma=gamma, steps=steps, batch=batch, lr=lr, clip=clip,
        device=device,
    )  # fmt: skip
    if partial is not None:
        check_writable(partial)
    elif resume:
        raise InputError("resume needs partial, the file of the unfinished training")
    with torch_threads(threads):
        run = Run(task, settings)
        if partial is not None:
            run.restore(partial) if resume else Path(partial).unlink(missing_ok=True)
        _finish(run, progress, partial, save_every)
    return Training(settings, run.losses, tuple(run.diverged()), run)


def settings_of(
    task: Task,
    *,
    seed: int | Sequence[int] = 0,
    sigma: float | Sequence[float] | None = None,
    placement: str | Sequence[str] = "in",
    activation: str | dict[str, Any] | Activation | None = None,
    form: str = "rate",
    multiplicative: float | Sequence[float] | None = None,
    noise: str | None = None,
    size: int | None = None,
    gamma: float | None = None,
    steps: int | None = None,
    batch: int | None = None,
    lr: float | None = None,
    clip: float = 1.0,
    device: str = "cpu",
) -> Settings:
    """The settings that `train` would use, checked, with the task's defaults for None."""
    default = task.defaults
    if form not in ("rate", "current", "lipschitz"):
        raise InputError(f"form must be 'rate', 'current' or 'lipschitz'; found {form!r}")
    lipschitz = form == "lipschitz"
    if not lipschitz and (multiplicative is not None or noise is not None):
        raise InputError("multiplicative and noise are of form 'lipschitz': leave them out, or give form='lipschitz'")
    if activation is None:
        activation = "tanh" if lipschitz else default.activation
    settings = Settings(
        task=task.name,
        task_settings=task.settings(),
        size=_positive("size", default.size if size is None else size),
        gamma=_number("gamma", default.gamma if gamma is None else gamma),
        activation=get_activation(activation).config(),
        form=form,
        **_stack(
            seed,
            default.sigma if sigma is None else sigma,
            placement,
            0.0 if multiplicative is None else multiplicative,
            lipschitz,
        ),
        noise=(noise or "independent") if lipschitz else None,
        steps=_positive("steps", default.steps if steps is None else steps),
        batch=_positive("batch", default.batch if batch is None else batch),
        lr=_above_zero("lr", default.lr if lr is None else lr),
        clip=_above_zero("clip", clip),
        device=_device(device),
    )
    _check_layers(settings)
    return settings


@contextlib.contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Run with so many torch threads; the former number comes back afterwards."""
    before = torch.get_num_threads()
    torch.set_num_threads(_positive("threads", threads))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finish(run: Run, progress: Progress | None, partial: str | os.PathLike[str] | None, save_every: float) -> None:
    """Take the remaining steps; after an interrupt `partial` holds the last whole one."""
    saved = time.monotonic()
    with _deferred_interrupt(partial is not None) as interrupted:
        while run.done < run.settings.steps and not _all_lost(run):
            losses = run.step()
            try:
                if progress is not None:
                    progress(run.done, losses)
                if interrupted.is_set():
                    raise KeyboardInterrupt
            except KeyboardInterrupt:
                if partial is not None:
                    run.save(partial)
                raise
            if partial is not None and time.monotonic() - saved > save_every:
                run.save(partial)
                saved = time.monotonic()
        if partial is not None:
            run.save(partial)
        if interrupted.is_set():  # in the last instants: a study must not go on to its next stack
            raise KeyboardInterrupt


def _all_lost(run: Run) -> bool:
    return run.done > 0 and not np.isfinite(run.losses[run.done - 1]).any()


@contextlib.contextmanager
def _deferred_interrupt(wanted: bool) -> Iterator[threading.Event]:
    """Let the first Ctrl-C set the event instead of breaking a step in two; the second one breaks."""
    interrupted = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    heard = before not in (None, signal.SIG_IGN) and threading.current_thread() is threading.main_thread()
    if not wanted or not heard:
        yield interrupted
        return

    def remember(*_: object) -> None:
        interrupted.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, remember)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)


def _stack(seed: Any, sigma: Any, placement: Any, multiplicative: Any, lipschitz: bool) -> dict[str, Any]:
    """seed, sigma, placement, and of Lipschitz RNNs multiplicative, as lists of one length M."""
    given = {"seed": seed, "sigma": sigma, "placement": placement}
    given |= {"multiplicative": multiplicative} if lipschitz else {}
    try:
        found = dict(zip(given, np.broadcast_arrays(*(np.asarray(v).ravel() for v in given.values())), strict=True))
    except ValueError:
        *names, last = given
        lengths = ", ".join(str(np.size(value)) for value in given.values())
        raise InputError(
            f"{', '.join(names)} and {last} must be one value or the same number; found {lengths}"
        ) from None
    if not len(found["seed"]):
        raise InputError(f"{', '.join(given)} must be one value or several; found none")
    seeds = found["seed"]
    if seeds.dtype.kind not in "iu" or seeds.min() < 0:
        raise InputError(f"seed must be whole numbers >= 0; found {seed!r}")
    for name in ("sigma", "multiplicative"):
        if name in found and found[name].dtype.kind not in "iuf":
            raise InputError(f"{name} must be numbers; found {given[name]!r}")
        found |= {name: found[name].astype(float)} if name in found else {}
    if lipschitz and (found["placement"] != "in").any():
        raise InputError("placement 'out' has no meaning with form 'lipschitz', whose noise is on the state: leave it")
    return {name: values.tolist() for name, values in found.items()}


def _positive(name: str, value: Any) -> int:
    if not (isfinite(_number(name, value)) and value == int(value) >= 1):
        raise InputError(f"{name} must be a whole number >= 1; found {value!r}")
    return int(value)


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise InputError(f"{name} must be a number; found {value!r}")
    return float(value)


def _above_zero(name: str, value: Any) -> float:
    if not (isfinite(_number(name, value)) and value > 0):
        raise InputError(f"{name} must be a finite number > 0; found {value!r}")
    return float(value)


def _device(name: str) -> str:
    try:
        torch.empty(1, device=name)
        torch.Generator(name)
    except (RuntimeError, AssertionError, TypeError) as error:  # what torch raises for a device that it does not have
        raise InputError(
            f"device must be one that torch can use here; found {name!r} ({one_line(str(error))})"
        ) from None
    return name


def _check_layers(settings: Settings) -> None:
    found = (settings.gamma, settings.form)
    if settings.layers and found != (1, "rate"):
        raise InputError(
            f"gamma must be 1 and form 'rate' with layers, where a step is a layer; found gamma={found[0]:g}, "
            f"form={found[1]!r}"
        )
