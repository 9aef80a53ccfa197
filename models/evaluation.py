"""Test loss against test noise, split into bias^2 and variance, by sampling.

With z_r the output of trial r of R on the same input, zbar its mean, S^2 its variance (R - 1) and z* the target,

    loss = mean_r (z_r - z*)^2 = bias^2 + variance,    variance = S^2,    bias^2 = (zbar - z*)^2 - S^2 / R

(the last term removes the bias that the sampling error of zbar would add), averaged over inputs and counted steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_sigma
from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.tasks import Task, get_task

from .ctrnn import CTRNN
from .trainer import torch_threads

Array = NDArray[np.float64]

CHUNK = 1 << 22  #: numbers of noise held at once


@dataclass(frozen=True)
class Evaluation:
    """Loss of M networks at S test noise levels.

    sigma (S,); loss, bias2, variance (M, S); error (M, S): standard error of the loss over the trials, given the
    inputs. bias2 is unbiased, hence may fall slightly below zero where it is small.
    """

    sigma: Array
    loss: Array
    bias2: Array
    variance: Array
    error: Array

    @property
    def preferred(self) -> Array:
        """The noise level of least loss, (M,)."""
        return self.sigma[self.loss.argmin(1)]


def evaluate(
    networks: Network | Sequence[Network] | CTRNN,
    task: Task | str,
    sigma: ArrayLike,
    *,
    inputs: int = 64,
    trials: int = 64,
    rng: int | np.random.Generator = 0,
    threads: int = 1,
) -> Evaluation:
    """Single-trial loss of trained networks at each test noise level.

    Every level and network sees the same `inputs` drawn from the task and the same xi (common random numbers), so
    that differences between levels are sharper than the losses themselves.

    Raises
    ------
    InputError
        For a negative sigma, fewer than 2 trials, or networks that differ in shape, activation or form.
    """
    task = get_task(task) if isinstance(task, str) else task
    levels = np.atleast_1d(np.asarray(sigma, float))
    check_sigma(float(levels.min(initial=0)), 1)
    if trials < 2:
        raise InputError(f"trials must be >= 2, to tell bias from variance; found {trials}")
    model = networks if isinstance(networks, CTRNN) else CTRNN(_listed(networks))
    rng = np.random.default_rng(rng)
    batch = task.batch(inputs, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    with torch_threads(threads), torch.no_grad():
        error = _errors(model, task, batch, levels, trials, generator)
    return _split(levels, error, batch[2])


def _listed(networks: Network | Sequence[Network]) -> Sequence[Network]:
    return [networks] if isinstance(networks, Network) else networks


def _errors(
    model: CTRNN, task: Task, batch: tuple[Array, ...], levels: Array, trials: int, generator: torch.Generator
) -> Array:
    """z - z* for (S, M, R, T, B, n_out)."""
    inputs, targets = torch.from_numpy(batch[0]), torch.from_numpy(batch[1])
    h0 = torch.from_numpy(task.initial_state(batch[1], model.N))
    T, B, _ = inputs.shape
    together = max(1, min(trials, CHUNK // (model.M * T * B * model.N)))
    parts = []
    for start in range(0, trials, together):
        R = min(together, trials - start)
        xi = torch.randn(T, R * B, model.N, generator=generator)
        z = [model(inputs.repeat(1, R, 1), h0.repeat(R, 1), s * xi if s else None) for s in levels.tolist()]
        parts.append((torch.stack(z).unflatten(3, (R, B)) - targets[:, None]).movedim(3, 2))
    return torch.cat(parts, 2).double().numpy()


def _split(levels: Array, error: Array, mask: Array) -> Evaluation:
    R = error.shape[2]
    weight = mask / mask.sum()
    square = np.einsum("smrtbo,tb->msr", error**2, weight) / error.shape[-1]
    spread = np.einsum("smtbo,tb->ms", error.var(2, ddof=1), weight) / error.shape[-1]
    loss = square.mean(2)
    return Evaluation(levels, loss, loss - spread, spread, square.std(2, ddof=1) / np.sqrt(R))
