"""What margins and perturbations are asked of: a checked batch, the step that decides a trial, and its class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import of_shape
from fpanalysis.results import InputError
from fpanalysis.robustness._runs import Trials
from fpanalysis.system import System

Array = NDArray[np.float64]


class Checked(NamedTuple):
    """Trials with targets (T, B, n_out), the weights of the loss, which sum to one, and the classes (B,), or None."""

    trials: Trials
    targets: Array
    weight: Array
    label: NDArray[np.intp] | None


def checked(net: System, batch: Sequence[ArrayLike], h0: ArrayLike | None) -> Checked:
    """A batch is one of a classifier where n_out >= 2 and the targets at each trial's last counted step are one-hot."""
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network or another System; found {type(net).__name__}")
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise InputError("batch must be (inputs, targets, mask), as Task.batch gives it")
    inputs = of_shape("inputs", batch[0], (None, None, net.n_in))
    T, B, _ = inputs.shape
    if not net.n_in:
        raise InputError("net must have inputs, which are what is perturbed; found n_in = 0")
    if not T or not B:
        raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
    targets = of_shape("targets", batch[1], (T, B, net.n_out))
    each = np.ndim(batch[2]) == 3
    mask = of_shape("mask", batch[2], targets.shape if each else (T, B))
    weight = mask if each else np.repeat(mask[..., None], net.n_out, axis=2)
    counts = np.asarray(weight.any(axis=2))
    if (mask < 0).any() or not counts.any(axis=0).all():
        raise InputError("mask must be >= 0, and positive at some step of every trial; found one that does not count")
    last = T - 1 - counts[::-1].argmax(axis=0)
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    trials = Trials(net, inputs, start, last)
    return Checked(trials, targets, weight / weight.sum(), _classes(targets[last, np.arange(B)]))


def _classes(ends: Array) -> NDArray[np.intp] | None:
    """Which entry is 1, where each row of (B, n_out) is one-hot; None where one is not."""
    one_hot = ends.shape[1] > 1 and bool(((ends == 0) | (ends == 1)).all() and (ends.sum(axis=1) == 1).all())
    return ends.argmax(axis=1) if one_hot else None
