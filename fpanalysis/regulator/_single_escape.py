"""How fast noise carries a neuron over the unstable fixed point beyond which activity grows without bound.

The chain is stopped when it leaves [low, high], high far enough beyond the unstable fixed point that hardly anything
returns. Of the stopped step K the leading eigenvalue is 1 - rate, and its left eigenvector the quasi-stationary law:

    p K = (1 - rate) p

K is collocated at Chebyshev nodes as for the stationary law (`fpanalysis.stationary._one_step`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from fpanalysis.results import Status
from fpanalysis.stationary._one_neuron import fixed_points
from fpanalysis.stationary._one_step import Line, matrix, nodes, rule
from fpanalysis.stationary._result import Problem
from fpanalysis.stationary._transition import Step, Unresolved

LADDER = (60, 90, 135, 200, 300, 450)  #: nodes
BEYOND = 6.0  #: standard deviations of the linear dynamics past the unstable fixed point
WIDER = 1.3  #: by what the interval is widened to see that it does not matter
TOLERANCE = 1e-3  #: of the rate, relative
LEAST = 1e-13  #: rate that rounding leaves of none


@dataclass(frozen=True)
class Escape:
    """Quasi-stationary law of a neuron that noise carries off in the end.

    Attributes
    ----------
    rate : probability of escape per step; 0 where it is below what float64 resolves, 1e-13.
    rate_error : its numerical error.
    mean, variance : of the state, given that it has not escaped yet.
    threshold : the unstable fixed point.
    edge : where the state counts as escaped, so far beyond it that hardly anything returns.
    """

    rate: float
    rate_error: float
    mean: float
    variance: float
    threshold: float
    edge: float
    status: Status

    @property
    def steps(self) -> float:
        """Mean number of steps until the escape, from the quasi-stationary law."""
        return 1 / self.rate if self.rate > 0 else float("inf")


def escape(problem: Problem) -> Escape | None:
    """The escape of a one-neuron problem whose activity grows far away; None where there is no barrier to cross."""
    unstable = fixed_points(problem.network, problem.u)[1]
    barrier = unstable[unstable > problem.start[0]]
    if not len(barrier) or not problem.stable:
        return None
    threshold = float(barrier[0])
    line = Line(Step(problem))
    if line.sigma == 0:
        return Escape(0.0, 0.0, float(problem.start[0]), 0.0, threshold, threshold, Status.OK)
    low, high = _interval(line, float(problem.start[0]), threshold)
    edge = threshold + WIDER * (high - threshold)
    found: list[tuple[float, float, float]] = []
    for n in LADDER:
        for top in (high, edge):
            try:
                found.append(_stopped(line, low, top, n))
            except (Unresolved, np.linalg.LinAlgError):
                return Escape(nan, nan, nan, nan, threshold, edge, Status.NOT_CONVERGED)
        rates = np.array([rate for rate, _, _ in found[-4:]])
        error = float(np.ptp(rates)) if len(found) > 2 else np.inf
        if error <= max(TOLERANCE * abs(rates[-1]), LEAST):
            rate, mean, variance = found[-1]
            rate = rate if rate > LEAST else 0.0
            return Escape(rate, max(error, LEAST), mean, variance + line.tau**2, threshold, edge, Status.OK)
    return Escape(found[-1][0], error, *found[-1][1:], threshold, edge, Status.NOT_CONVERGED)


def _interval(line: Line, rest: float, threshold: float) -> tuple[float, float]:
    """From where the state does not go lower, to where it hardly returns from."""
    growth = line.gamma * (line.w * float(line.activation.df([line.w * threshold + line.d])[0]) - 1)
    width = line.gamma * line.sigma / np.sqrt(growth * (2 + growth))
    low = line.limits[0]
    if not np.isfinite(low):
        low = min(rest, threshold) - 2 * BEYOND * max(width, line.gamma * line.sigma)
    return float(low), threshold + BEYOND * width


def _stopped(line: Line, low: float, high: float, n: int) -> tuple[float, float, float]:
    """Rate of escape, mean and variance of the chain stopped at the ends."""
    y, V = nodes(low, high, n)
    move = rule(line, y, low, high, n, line.kinked)
    E, out = matrix(move.after, move.weight, low, high, n)
    E = E - out[:, 1:]  # T_k = 1 at the upper end
    if low > line.limits[0]:
        E -= out[:, :1] * (-1.0) ** np.arange(n)
    K = np.linalg.solve(V.T, E.T).T  # values to values
    values, vectors = np.linalg.eig(K.T)
    first = int(np.argmax(values.real))
    p = vectors[:, first].real
    p = p / p.sum()
    mean = float(p @ y)
    return float(1 - values[first].real), mean, float(p @ (y - mean) ** 2)
