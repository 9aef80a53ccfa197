"""Torch models and the training core."""

from .ctrnn import CTRNN
from .evaluation import Evaluation, evaluate
from .trainer import Training, train

__all__ = ["CTRNN", "Evaluation", "Training", "evaluate", "train"]
