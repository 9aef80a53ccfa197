"""The single-neuron regulator, one noisy neuron that must hold its state: derived, by formula, exactly, trained."""

from fpanalysis.regulator._incentive_results import Landscape, Optimum, PhaseDiagram
from fpanalysis.regulator._single_branch import Branch
from fpanalysis.regulator._single_compare import Comparison, compare
from fpanalysis.regulator._single_escape import Escape
from fpanalysis.regulator._single_law import SlowLimit
from fpanalysis.regulator.derivation import Derivation, Step, derive
from fpanalysis.regulator.incentive import loss_landscape, optimum, phase_diagram, trained
from fpanalysis.regulator.single import Loss, Regulator

__all__ = [
    "Branch",
    "Comparison",
    "Derivation",
    "Escape",
    "Landscape",
    "Loss",
    "Optimum",
    "PhaseDiagram",
    "Regulator",
    "SlowLimit",
    "Step",
    "compare",
    "derive",
    "loss_landscape",
    "optimum",
    "phase_diagram",
    "trained",
]
