"""The single-neuron regulator: one noisy neuron that must hold its state, derived, by formula, and by exact chain."""

from fpanalysis.regulator._single_branch import Branch
from fpanalysis.regulator._single_compare import Comparison, compare
from fpanalysis.regulator._single_escape import Escape
from fpanalysis.regulator._single_law import SlowLimit
from fpanalysis.regulator.derivation import Derivation, Step, derive
from fpanalysis.regulator.single import Loss, Regulator

__all__ = [
    "Branch",
    "Comparison",
    "Derivation",
    "Escape",
    "Loss",
    "Regulator",
    "SlowLimit",
    "Step",
    "compare",
    "derive",
]
