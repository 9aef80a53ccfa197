"""Torch models, the adapters of other people's cells, and the training core."""

from .cell import Cell
from .ctrnn import CTRNN
from .evaluation import Evaluation, evaluate
from .from_torch import from_torch
from .study import Study, StudyGroup, StudyNetwork, StudyProgress, TrainingStatus, read_study, train_study
from .trainer import Training, train

__all__ = [
    "CTRNN",
    "Cell",
    "Evaluation",
    "Study",
    "StudyGroup",
    "StudyNetwork",
    "StudyProgress",
    "Training",
    "TrainingStatus",
    "evaluate",
    "from_torch",
    "read_study",
    "train",
    "train_study",
]
