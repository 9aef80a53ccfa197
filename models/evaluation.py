"""Test loss of trained networks against test noise on the trials of their task, by sampling; and how many succeed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checkpoint import Trained
from fpanalysis.checks import check_rng
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments import LossCurve
from fpanalysis.moments._blocks import SUMS, Sums, estimate, runs_of_blocks
from fpanalysis.moments._curve import curve_of, levels_asked, levels_needed
from fpanalysis.moments._sampled import of_mean_output
from fpanalysis.moments.loss import outputs_mask
from fpanalysis.network import Network
from fpanalysis.regularizer.losses import CrossEntropy
from fpanalysis.results import InputError, Provenance
from fpanalysis.tasks import Task, get_task

from ._trainable import stacked
from ._trials import Trials, block
from .trainer import torch_threads

Array = NDArray[np.float64]
Batch = tuple[NDArray[Any], NDArray[Any], NDArray[Any]]

TOGETHER = 8  #: networks run as one stack


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Loss, and success where the task is scored, of M networks at S test noise levels.

    Attributes
    ----------
    curves : M loss curves, with errors, preferred noise and R; their errors are over the noise, given the inputs.
    success, success_error : (M, S), share of trials that succeed, and its standard error over noise and inputs; None
        for a task without a score.
    success_removed, success_trained : (M,), the same without noise and at the training noise.
    """

    curves: tuple[LossCurve, ...]
    success: Array | None = None
    success_error: Array | None = None
    success_removed: Array | None = None
    success_trained: Array | None = None

    @property
    def inputs(self) -> int:
        """Trials that were drawn: of a task on data, no more than it has."""
        return int(self.curves[0].provenance.settings["inputs"])

    @property
    def sigma(self) -> Array:
        """(S,), ascending."""
        return self.curves[0].sigma

    @property
    def loss(self) -> Array:
        """(M, S), as are its parts and its 95 % half-width."""
        return np.stack([curve.loss for curve in self.curves])

    @property
    def bias2(self) -> Array:
        return np.stack([curve.bias2 for curve in self.curves])

    @property
    def variance(self) -> Array:
        return np.stack([curve.variance for curve in self.curves])

    @property
    def error(self) -> Array:
        return np.stack([curve.error for curve in self.curves])

    @property
    def preferred(self) -> Array:
        """The noise of least loss, (M,)."""
        return np.array([curve.preferred for curve in self.curves])


def evaluate(
    networks: Trained | Sequence[Trained],
    task: Task | str,
    sigma: ArrayLike | None = None,
    *,
    inputs: int = 64,
    trials: int = 64,
    rng: int | np.random.Generator = 0,
    threads: int = 1,
) -> Evaluation:
    """Single-trial loss of networks that share shape, activation and form at each test noise level.

    The trials are the task's own (`Task.test_batch`), in a closed loop where the task has one, as is the loss; the
    statistics are those of ``loss_curve(..., method="monte-carlo")``. Every level and network sees the same `inputs`
    trials drawn from the task and the same xi (common random numbers), so that differences between levels are sharper
    than the losses themselves.

    Parameters
    ----------
    sigma : levels, optional
        None: 16 from 0 to 1.5 times the largest training noise. A network trained with a sigma per neuron keeps that
        profile: a level is then its largest entry. Multiplicative noise of a Lipschitz RNN has the same share of its
        training strength as sigma: level 0 is without any.
    inputs : int
        Trials drawn; of a task on data, all its test data once where there are no more.
    trials : int
        Runs of each input, at least 4.

    Raises
    ------
    InputError
        For levels that are none, too few trials, or networks that differ in shape, activation or form, or do not fit
        the task.
    """
    task = get_task(task) if isinstance(task, str) else task
    listed = [networks] if isinstance(networks, Network | LipschitzRNN) else list(networks)
    stacked(listed)  # refuses networks that differ
    if sigma is None or np.any(np.asarray(sigma)):
        check_levels_mean_all(listed)
    if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 4:
        raise InputError(f"trials must be a whole number >= 4, to tell bias from variance; found {trials!r}")
    trained = [float(np.max(net.sigma)) for net in listed]
    asked = levels_asked(sigma, max(trained))
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    rng = check_rng(rng)
    batch = task.test_batch(inputs, rng)
    _check_fits(listed[0], task, batch)
    levels = levels_needed(asked, *sorted(set(trained)))
    mask = outputs_mask(batch[2], batch[1].shape)
    counted = np.asarray(mask.any(axis=(1, 2)))
    weight, within = mask[counted] / mask.sum(), (float(asked[0]), float(asked[-1]))
    sizes = runs_of_blocks(int(trials), len(levels) * weight.size)
    settings = {"task": task.name, "inputs": batch[1].shape[1], "trials": int(trials)}
    loss = CrossEntropy() if task.loss == CrossEntropy.name else None
    settings |= {} if loss is None else {"loss": loss.name}
    of_mean = None if loss is None else of_mean_output(loss, batch[1][counted].astype(float), weight)
    curves, counts = [], []
    with torch_threads(threads), torch.no_grad():
        runs = _runs(listed, Trials(task, batch, counted, weight, loss), levels, sizes, rng)
        for net, own, (blocks, successes) in zip(listed, trained, runs, strict=True):
            found = estimate(blocks, weight, levels, within, own, of_mean)
            provenance = Provenance("monte-carlo", net.hash, settings, seed)
            curves.append(curve_of(found, levels, asked, own, _scale(net, batch), provenance))
            counts.append(successes)
    if not task.scored:
        return Evaluation(tuple(curves))
    return _scored(tuple(curves), np.stack(counts) / trials, levels, trained)


def _runs(
    networks: Sequence[Trained], trials: Trials, levels: Array, runs: Sequence[int], rng: np.random.Generator
) -> Iterator[tuple[list[Sums], Array]]:
    """Of each network its blocks of `runs`, and the successes (S, B) in all of them."""
    seeds = rng.integers(2**62, size=len(runs)).tolist()
    kept = 2 * len(levels) * trials.batch[1][trials.counted].size * len(runs)
    together = max(1, min(TOGETHER, SUMS // kept))
    for first in range(0, len(networks), together):
        stack = networks[first : first + together]
        each = levels[:, None] * np.stack([np.broadcast_to(net.noise_profile, (net.N,)) for net in stack])[:, None]
        model = stacked(stack)
        found = [block(model, trials, each, R, seed) for R, seed in zip(runs, seeds, strict=True)]
        for m in range(len(stack)):
            yield [sums[m] for sums, _ in found], np.sum([successes[m] for _, successes in found], axis=0)


def _scored(curves: tuple[LossCurve, ...], rate: Array, levels: Array, trained: Sequence[float]) -> Evaluation:
    """With the share of successes of every input, `rate` (M, S, B), at all levels that were run."""
    inputs = rate.shape[2]
    share = rate.mean(axis=2)
    error = rate.std(axis=2, ddof=1) / np.sqrt(inputs) if inputs > 1 else np.full(share.shape, np.nan)
    k = np.searchsorted(levels, curves[0].sigma)
    own = np.array([share[m, np.abs(levels - sigma).argmin()] for m, sigma in enumerate(trained)])
    return Evaluation(curves, share[:, k], error[:, k], share[:, 0], own)


def check_levels_mean_all(networks: Sequence[Trained]) -> None:
    """Refuse multiplicative noise alone: no level of sigma would change it."""
    for net in networks:
        if isinstance(net, LipschitzRNN) and net.multiplicative and not np.any(net.sigma):
            raise InputError(
                f"multiplicative noise (here {net.multiplicative:g}) is scaled along with sigma, but sigma is 0: give "
                "the network a sigma (with_sigma) that the levels refer to"
            )


def _scale(net: Trained, batch: Batch) -> float:
    """The size of what drives the network, beyond which by far it has diverged."""
    return 1 + float(np.abs(net.drive(batch[0])).max()) + float(np.abs(batch[1]).max())


def _check_fits(net: Trained, task: Task, batch: Batch) -> None:
    wanted = batch[0].shape[-1], batch[1].shape[-1]
    if (net.n_in, net.n_out) != wanted:
        raise InputError(
            f"the networks do not fit task {task.name!r} with {wanted[0]} input(s) and {wanted[1]} output(s); "
            f"found n_in = {net.n_in}, n_out = {net.n_out}"
        )
