"""Deterministic fixed points h* = F(h*) of a network at constant input."""

from fpanalysis.fixed_points.result import FixedPoints
from fpanalysis.fixed_points.search import find_fixed_points, settle

__all__ = ["FixedPoints", "find_fixed_points", "settle"]
