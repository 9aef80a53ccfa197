"""The single-neuron regulator: one noisy neuron that must hold its state at a target."""

from fpanalysis.regulator._incentive_results import Landscape, Optimum, PhaseDiagram
from fpanalysis.regulator.incentive import loss_landscape, optimum, phase_diagram, trained

__all__ = ["Landscape", "Optimum", "PhaseDiagram", "loss_landscape", "optimum", "phase_diagram", "trained"]
