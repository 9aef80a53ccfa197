"""Torch models, the adapters of other people's cells, and the training core."""

from ._outcome import TrainingStatus
from .cell import Cell
from .ctrnn import CTRNN
from .evaluation import Evaluation, evaluate
from .flatness import Flatness, flatness
from .from_torch import from_torch
from .lipschitz import LipschitzStack
from .noise_stability import NoiseStability, noise_stability
from .study import Study, StudyGroup, StudyNetwork, StudyProgress, read_study, train_study
from .sweep import Sweep, sweep
from .trainer import Training, train

__all__ = [
    "CTRNN",
    "Cell",
    "Evaluation",
    "Flatness",
    "LipschitzStack",
    "NoiseStability",
    "Study",
    "StudyGroup",
    "StudyNetwork",
    "StudyProgress",
    "Sweep",
    "Training",
    "TrainingStatus",
    "evaluate",
    "flatness",
    "from_torch",
    "noise_stability",
    "read_study",
    "sweep",
    "train",
    "train_study",
]
