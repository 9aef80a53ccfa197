"""How far inputs can be perturbed before a network errs: margins, and accuracy or loss under perturbations."""

from fpanalysis.robustness._intervals import mean_interval, share_interval
from fpanalysis.robustness.margins import Margins, margins
from fpanalysis.robustness.perturbed import Perturbed, perturbed
from fpanalysis.robustness.summary import Robustness, robustness

__all__ = [
    "Margins",
    "Perturbed",
    "Robustness",
    "margins",
    "mean_interval",
    "perturbed",
    "robustness",
    "share_interval",
]
