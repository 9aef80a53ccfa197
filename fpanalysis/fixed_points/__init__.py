"""Deterministic fixed points h* = F(h*) of a network at constant input."""

from fpanalysis.fixed_points.find import find_fixed_points
from fpanalysis.fixed_points.result import FixedPoints
from fpanalysis.fixed_points.settle import settle

__all__ = ["FixedPoints", "find_fixed_points", "settle"]
