"""Deterministic fixed points h* = F(h*) of a network at constant input."""

from fpanalysis.fixed_points.cycles import LimitCycle, LimitCycles, find_limit_cycles
from fpanalysis.fixed_points.find import find_fixed_points
from fpanalysis.fixed_points.result import FixedPoints
from fpanalysis.fixed_points.settle import settle
from fpanalysis.fixed_points.slow import SlowPoints, find_slow_points

__all__ = [
    "FixedPoints",
    "LimitCycle",
    "LimitCycles",
    "SlowPoints",
    "find_fixed_points",
    "find_limit_cycles",
    "find_slow_points",
    "settle",
]
