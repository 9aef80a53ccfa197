"""What training noise did as a regulariser: its explicit form, from one recursion along the noise-free trajectory."""

from fpanalysis.regularizer._result import Regularizer
from fpanalysis.regularizer.expand import expected_loss, regularizer
from fpanalysis.regularizer.losses import CrossEntropy, Loss, SquaredError

__all__ = ["CrossEntropy", "Loss", "Regularizer", "SquaredError", "expected_loss", "regularizer"]
