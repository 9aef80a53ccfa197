"""Whether a network forgets its past: Lyapunov exponents with and without noise, and proofs that it contracts."""

from fpanalysis.stability.bounds import ExponentBounds, exponent_bounds, sde_exponent_bounds
from fpanalysis.stability.contraction import Certificate, Contraction, contraction_certificates
from fpanalysis.stability.exponents import Lyapunov, lyapunov
from fpanalysis.stability.trials import TrialExponents, trial_exponents

__all__ = [
    "Certificate",
    "Contraction",
    "ExponentBounds",
    "Lyapunov",
    "TrialExponents",
    "contraction_certificates",
    "exponent_bounds",
    "lyapunov",
    "sde_exponent_bounds",
    "trial_exponents",
]
