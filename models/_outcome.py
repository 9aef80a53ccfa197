"""What became of a training: trained, not trained, or diverged; and the loss that tells the first two apart."""

from __future__ import annotations

from enum import Enum
from math import log

import numpy as np

from fpanalysis.tasks import Task

from .trainer import Training

LEARNED = 0.9  #: of the loss of a constant output: a final loss above that is no learning
CONSTANT = 1e-9  #: variance over mean square below which float32 targets are constant


class TrainingStatus(Enum):
    """What became of a network of a study; ``advice`` says what to do next."""

    PENDING = ("pending", "its training is not finished: resume the study")
    TRAINED = ("trained", "the network is in its file")
    NOT_TRAINED = (
        "not trained",
        "its loss did not end clearly below that of a constant output (at most 0.9 of it), so it learned next "
        "to nothing: train longer (steps), with another learning rate (lr), or with less noise",
    )
    DIVERGED = (
        "diverged",
        "its loss stopped being finite, so there is no network: use a smaller learning rate (lr), or less noise",
    )

    advice: str

    def __new__(cls, code: str, advice: str) -> TrainingStatus:
        member = object.__new__(cls)
        member._value_ = code
        member.advice = advice
        return member

    @property
    def failed(self) -> bool:
        return self in (TrainingStatus.NOT_TRAINED, TrainingStatus.DIVERGED)


def status_of(training: Training, m: int, constant: float) -> TrainingStatus:
    """What became of network `m`, where a constant output has the loss `constant` (targets of zero, and hence no loss,
    cannot tell)."""
    if training.diverged[m] is not None:
        return TrainingStatus.DIVERGED
    learned = not constant or training.final_loss(m) <= LEARNED * constant
    return TrainingStatus.TRAINED if learned else TrainingStatus.NOT_TRAINED


def constant_loss(task: Task, trials: int = 1024) -> float:
    """Loss of the best constant output, estimated on a batch: the weighted variance of the targets, or the entropy of
    the classes where the loss is the cross-entropy. Where the target itself is constant, loss of an output of zero: its
    square, or the entropy of equal chances."""
    _, targets, mask = task.batch(trials, 0)
    if task.loss == "cross-entropy":
        p = np.einsum("tb,tbo->o", mask / mask.sum(dtype=float), targets)
        return -float((p * np.log(np.where(p > 0, p, 1))).sum()) or log(len(p))
    weight = np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], targets.shape).astype(float)
    target = targets.astype(float)
    mean = (weight * target).sum((0, 1)) / np.maximum(weight.sum((0, 1)), np.finfo(float).tiny)
    variance = float((weight * (target - mean) ** 2).sum() / weight.sum())
    square = float((weight * target**2).sum() / weight.sum())
    return variance if variance > CONSTANT * square else square
