"""The search for fixed points: where Newton's iteration starts, what it solves, and what it has found."""

from fpanalysis.fixed_points.search.rounds import Search

__all__ = ["Search"]
