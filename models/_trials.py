"""Runs of M stacked networks at S noise levels in float32: the sums that their loss curves are made of.

Every network and level sees the same inputs and the same xi (common random numbers). In a closed loop the positions
p are the outputs (`fpanalysis.tasks.Feedback`):

    u_t = gain (p_t - centre)      h_{t+1} = step(h_t, u_t)      p_{t+1} = p_t + rate z(h_t)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fpanalysis.moments._blocks import Sums
from fpanalysis.regularizer.losses import Loss
from fpanalysis.tasks import Task

from .ctrnn import CTRNN
from .lipschitz import LipschitzStack

Array = NDArray[np.float64]

CHUNK = 1 << 20  #: states, or outputs of all steps, of one network held at once


class Trials(NamedTuple):
    """What networks are run on: a batch of `task`, the steps (T,) that count, and `weight` (T, B, n_out) of these; the
    loss where it is not the squared error."""

    task: Task
    batch: tuple[NDArray[Any], NDArray[Any], NDArray[Any]]
    counted: NDArray[np.bool_]
    weight: Array
    loss: Loss | None = None


def block(model: CTRNN | LipschitzStack, trials: Trials, levels: Array, R: int, seed: int) -> tuple[list[Sums], Array]:
    """The sums of each network over R runs of every input with noise `levels` (M, S, N), and the number of runs that
    succeed (M, S, B)."""
    task, (_, targets, _), counted, weight, loss = trials
    M, S, N = levels.shape
    T, B, n_out = targets.shape
    generator = torch.Generator().manual_seed(seed)
    first, second = np.zeros((2, M, S, int(counted.sum()), B, n_out))
    own, success = np.zeros((2, M, S, B))
    at_once = max(1, CHUNK // (S * B * max(N, T * n_out)))
    for done in range(0, R, at_once):
        runs = min(at_once, R - done)
        z = torch.stack(_outputs(model, trials, levels, runs, generator), 3).numpy()  # (M, S, runs, T, B, n_out)
        d = z[:, :, :, counted] - targets[counted]
        first += d.sum(axis=2)
        second += (d**2).sum(axis=2)
        if loss is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # of a network that has diverged
                own += loss.value(z[:, :, :, counted], targets[counted], weight).sum(axis=(2, 3))
        if task.scored:
            success += task.score(z, trials.batch).sum(axis=2)
    sums = [Sums(R, *parts) for parts in zip(first, second, strict=True)]
    if loss is not None:
        sums = [part._replace(own=one) for part, one in zip(sums, own, strict=True)]
    return sums, success


def _outputs(
    model: CTRNN | LipschitzStack, trials: Trials, levels: Array, R: int, generator: torch.Generator
) -> list[Tensor]:
    """The output after each step, or the position, (M, S, R, B, n_out)."""
    task, (inputs, targets, _), *_ = trials
    M, S, N = levels.shape
    B, dtype, loop = targets.shape[1], model.b.dtype, task.feedback
    sigma = torch.tensor(levels, dtype=dtype)[:, :, None, None]
    h = torch.tensor(task.initial_state(targets, N), dtype=dtype).expand(M, S, R, B, N).contiguous()
    p = None if loop is None else torch.tensor(loop.start(inputs), dtype=dtype).expand(M, S, R, B, -1)
    found = []
    for u in torch.tensor(inputs, dtype=dtype):
        xi = torch.randn(R, B, N, generator=generator, dtype=dtype)
        if loop is None or p is None:
            _step(model, h, u.expand(M, 1, 1, B, -1), sigma, xi)
            found.append(_read(model, h).to(torch.float64, copy=True))
        else:
            seen, p = loop.gain * (p - loop.centre), p + loop.rate * _read(model, h)
            _step(model, h, seen, sigma, xi)
            found.append(p.double())
    return found


def _step(model: CTRNN | LipschitzStack, h: Tensor, u: Tensor, sigma: Tensor, xi: Tensor) -> None:
    """h (M, S, R, B, N) after a step with inputs u (M, ..., B, n_in) and noise sigma xi, in place: time goes into
    memory."""
    if isinstance(model, LipschitzStack):
        model.move(h, u, sigma, xi)
        return
    f = model.activation.torch
    drive = model.b[:, None, None, None]
    if model.W_in is not None:
        drive = drive + (u.flatten(1, 3) @ model.W_in.mT).unflatten(1, u.shape[1:4])
    rate, inside = model.form == "rate", model.inside[..., None]
    x = ((h if rate else f(h)).flatten(1, 3) @ model.W.mT).unflatten(1, h.shape[1:4]).add_(drive)
    if not rate or inside.all():
        x.addcmul_(sigma, xi)
        new = f(x) if rate else x
    elif not inside.any():
        new = f(x).addcmul_(sigma, xi)
    else:
        new = f(x.addcmul_(torch.where(inside, sigma, 0), xi)).addcmul_(torch.where(inside, 0, sigma), xi)
    gamma = model._gamma()
    h.lerp_(new, gamma if isinstance(gamma, float) else gamma[:, None, None])


def _read(model: CTRNN | LipschitzStack, h: Tensor) -> Tensor:
    return model.output(h.flatten(1, 3)).unflatten(1, h.shape[1:4])
