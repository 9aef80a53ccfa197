"""Branches of fixed points in a parameter, with their bifurcations."""

from fpanalysis.fixed_points.continuation.branches import Branch, Branches, SpecialPoint
from fpanalysis.fixed_points.continuation.follow import continue_fixed_points

__all__ = ["Branch", "Branches", "SpecialPoint", "continue_fixed_points"]
