"""Torch models, the adapters of other people's cells, and the training core."""

from .cell import Cell
from .ctrnn import CTRNN
from .evaluation import Evaluation, evaluate
from .from_torch import from_torch
from .sweep import Sweep, sweep
from .trainer import Training, train

__all__ = ["CTRNN", "Cell", "Evaluation", "Sweep", "Training", "evaluate", "from_torch", "sweep", "train"]
