"""The single-neuron regulator: one neuron that must hold its state at a target."""

from fpanalysis.regulator.derivation import Derivation, Step, derive

__all__ = ["Derivation", "Step", "derive"]
