"""Losses with the derivatives that noise asks for: value, gradient and Hessian in the output z.

All take outputs z and targets z* (..., n_out) and weights w (..., n_out), and act on the last axis:

    squared error    sum_o w_o (z_o - z*_o)^2
    cross-entropy    -w sum_o z*_o log softmax(z)_o,    w = sum_o w_o

The weights of a batch sum to one, so that both are means over what counts, as in `fpanalysis.loss_curve`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import InputError

Array = NDArray[np.float64]

UNEVEN = 11.0  #: a remainder of fourth order falls 16-fold if the step is halved, one of third order 8-fold
NOTABLE = 1e-3  #: share of the second-order term from which on the remainder tells anything


class Loss(ABC):
    """A loss of outputs; subclasses give its name, its value and two derivatives."""

    name: ClassVar[str] = ""

    def check_targets(self, targets: Array, weight: Array) -> None:
        """Raise `InputError` where the loss makes no sense of targets and weights (T, B, n_out)."""
        return

    def prediction(self, z: Array) -> Array:
        """What of z the targets are wanted of, (..., n_out): z itself."""
        return z

    @abstractmethod
    def value(self, z: Array, target: Array, weight: Array) -> Array:
        """(...)."""

    @abstractmethod
    def gradient(self, z: Array, target: Array, weight: Array) -> Array:
        """(..., n_out)."""

    @abstractmethod
    def hessian(self, z: Array, target: Array, weight: Array) -> Array:
        """(..., n_out, n_out)."""


class SquaredError(Loss):
    name = "squared error"

    def value(self, z: Array, target: Array, weight: Array) -> Array:
        return np.asarray((weight * (z - target) ** 2).sum(axis=-1))

    def gradient(self, z: Array, target: Array, weight: Array) -> Array:
        return 2 * weight * (z - target)

    def hessian(self, z: Array, target: Array, weight: Array) -> Array:
        return 2 * weight[..., None] * np.eye(z.shape[-1])


class CrossEntropy(Loss):
    """Of softmax(z); targets are probabilities, one-hot for classes."""

    name = "cross-entropy"

    def check_targets(self, targets: Array, weight: Array) -> None:
        counts = weight.any(axis=-1)
        wrong = (targets < 0).any(axis=-1) | (np.abs(targets.sum(axis=-1) - 1) > 1e-6)
        if targets.shape[-1] < 2 or (wrong & counts).any():
            raise InputError(
                "targets of the cross-entropy must be probabilities of two classes or more (one-hot, say), which sum "
                f"to 1 at every step that counts; found {int((wrong & counts).sum())} steps of {targets.shape[-1]} "
                "output(s) where they do not"
            )
        if np.ptp(weight, axis=-1).any():
            raise InputError("mask must be (T, B) with the cross-entropy, to which all outputs belong together")

    def prediction(self, z: Array) -> Array:
        """The probabilities softmax(z)."""
        return _softmax(z)

    def value(self, z: Array, target: Array, weight: Array) -> Array:
        top = z.max(axis=-1, keepdims=True)
        log_sum = top + np.log(np.exp(z - top).sum(axis=-1, keepdims=True))
        return np.asarray(weight.sum(axis=-1) * (target * (log_sum - z)).sum(axis=-1))

    def gradient(self, z: Array, target: Array, weight: Array) -> Array:
        total = target.sum(axis=-1, keepdims=True)
        return np.asarray(weight.sum(axis=-1, keepdims=True) * (total * _softmax(z) - target))

    def hessian(self, z: Array, target: Array, weight: Array) -> Array:
        p = _softmax(z)
        spread = p[..., None] * np.eye(z.shape[-1]) - p[..., :, None] * p[..., None, :]
        return np.asarray((weight.sum(axis=-1) * target.sum(axis=-1))[..., None, None] * spread)


def _softmax(z: Array) -> Array:
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    return np.asarray(p / p.sum(axis=-1, keepdims=True))


def is_smooth(loss: Loss, z: Array, target: Array, weight: Array, reach: Array) -> bool:
    """Whether the loss at z has two derivatives, and is their expansion within half of `reach` (..., n_out).

    What is left of l(z + d) + l(z - d) - 2 l(z) - d l'' d falls with the fourth power of d; where kinks are within
    reach, on average over many outputs, with the second (of the loss) or the third (of its slope).
    """
    H, here = loss.hessian(z, target, weight), loss.value(z, target, weight)
    left, second = np.zeros((2, 2))
    for k, d in enumerate((reach / 2, reach / 4)):
        bend = loss.value(z + d, target, weight) + loss.value(z - d, target, weight) - 2 * here
        left[k] = np.abs(bend - np.einsum("...i,...ij,...j->...", d, H, d)).sum()
        second[k] = np.abs(bend).sum()
    return bool((left <= NOTABLE * second).all() or left[1] <= left[0] / UNEVEN)
