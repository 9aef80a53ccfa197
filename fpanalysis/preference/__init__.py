"""Preference or resonance: why a network does better with noise, and how a periodic signal passes through it."""

from fpanalysis.preference.judge import Preference, preference
from fpanalysis.preference.periodic import PeriodicResponse, periodic_response
from fpanalysis.preference.transmission import Transmission
from fpanalysis.preference.verdict import Evidence, Verdict

__all__ = [
    "Evidence",
    "PeriodicResponse",
    "Preference",
    "Transmission",
    "Verdict",
    "periodic_response",
    "preference",
]
