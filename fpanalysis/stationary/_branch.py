"""The branch of closure solutions that starts at a fixed point, followed upward in the noise, and where it ends.

A level is solved from what the levels below it extrapolate to. Where that fails, or where the noise-free dynamics no
longer brings the mean back to the fixed point, the level is approached in steps that halve at every failure, until
the end of the branch is known to EDGE. Two things end a branch: a fold of the closure equations, before which the
mean moves as the square root of the distance, so that its slope in sigma^2 grows without bound; or a mean that leaves
the basin of the noise-free dynamics.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fpanalysis.fixed_points import settle
from fpanalysis.results import Status
from fpanalysis.stationary._equations import NotConverged, Solution, State, iterate
from fpanalysis.stationary._lyapunov import Unstable
from fpanalysis.stationary._result import Array, Problem

EDGE = 2e-3  #: relative precision of the level at which a branch ends
LEAST = 1e-4  #: smallest level tried, relative to the one asked for
STEEP = 3.0  #: growth of the slope dm / d(sigma^2) along a branch that is taken for a fold
FAILURES = (NotConverged, Unstable, np.linalg.LinAlgError)


@dataclass(frozen=True)
class End:
    """Where a branch ends: the last level solved on it, and why there is none beyond."""

    status: Status
    last_sigma: float
    reason: str


def follow(problems: Sequence[Problem], sigmas: Sequence[Array]) -> list[Solution | End]:
    """The solution at each of `sigmas` (N,), ascending, of `problems` that differ in nothing else."""
    found: list[Solution | End] = []
    path = [State(np.zeros_like(sigmas[0]), problems[0].start, np.zeros_like(problems[0].network.W))]
    beyond: tuple[Array, End] | None = None
    while len(found) < len(problems):
        tried = _directly(problems[len(found) :], sigmas[len(found) :], path, beyond)
        home = returns(problems[0], [solution.state.m for solution in tried])
        good = home.index(False) if False in home else len(home)
        found += tried[:good]
        path += [solution.state for solution in tried[:good]]
        if len(found) == len(problems):
            break
        k = len(found)
        if beyond is None or not _above(sigmas[k], beyond[0]):
            last = _approach(problems[k], sigmas[k], path)
            beyond = (sigmas[k], last) if isinstance(last, End) else beyond
            found.append(last)
        else:
            found.append(beyond[1])
    return found


def _above(sigma: Array, bound: Array) -> bool:
    return bool(np.all(sigma >= bound))


def _directly(
    problems: Sequence[Problem], sigmas: Sequence[Array], path: list[State], beyond: tuple[Array, End] | None
) -> list[Solution]:
    """Solutions level after level, each from the extrapolation of those below it, up to the first that fails."""
    solved: list[Solution] = []
    for problem, sigma in zip(problems, sigmas, strict=True):
        if beyond is not None and _above(sigma, beyond[0]):
            break
        try:
            solved.append(iterate(problem, _guess(sigma, [*path, *(solution.state for solution in solved)])))
        except FAILURES:
            break
    return solved


def _guess(sigma: Array, path: list[State]) -> State:
    """A polynomial in the noise level through up to three of the levels below and the fixed point, path[0]."""
    by_level = {float(np.max(state.sigma)): state for state in path[1:]}
    past = list(by_level.values())[-3:]  # each level once: profiles with the same largest entry share a node
    if not past:
        return State(sigma, path[0].m.copy(), path[0].C)
    x, nodes = float(np.max(sigma)), [float(np.max(state.sigma)) for state in past]
    m = _lagrange(x, [0.0, *nodes], [path[0].m, *(state.m for state in past)])
    C = x**2 * _lagrange(x, nodes, [state.C / node**2 for state, node in zip(past, nodes, strict=True)])
    return State(sigma, m, C)


def _lagrange(x: float, nodes: list[float], values: list[Array]) -> Array:
    total = np.zeros_like(values[0])
    for i, value in enumerate(values):
        total += value * np.prod([(x - q) / (nodes[i] - q) for j, q in enumerate(nodes) if j != i])
    return total


def _approach(problem: Problem, sigma: Array, path: list[State]) -> Solution | End:
    """Reach `sigma` from the last level of `path` in steps that halve where one fails; extends `path`."""
    low, span = path[-1].sigma, float(np.max(sigma - path[-1].sigma))
    done, step, left = 0.0, 0.5, False
    failure: Exception | None = None
    while step * span > max(EDGE * float(np.max(path[-1].sigma)), LEAST * span):
        t = min(1.0, done + step)
        level = low + t * (sigma - low)
        try:
            solution = iterate(problem, _guess(level, path) if t - done > 1 / 16 else _nearest(level, path))
        except FAILURES as error:
            failure, left, step = error, False, step / 2
            continue
        if not returns(problem, [solution.state.m])[0]:
            left, step = True, step / 2
            continue
        if t == 1.0:
            return solution
        path.append(solution.state)
        done = t
    return _end(path, left, failure)


def _nearest(sigma: Array, path: list[State]) -> State:
    return State(sigma, path[-1].m, path[-1].C)


def _end(path: list[State], left: bool, failure: Exception | None) -> End:
    last = float(np.max(path[-1].sigma))
    status = Status.UNSTABLE if isinstance(failure, Unstable) else Status.NOT_CONVERGED
    if last == 0.0:
        return End(
            status, last, "the closure equations have no solution near this fixed point at any noise level tried"
        )
    if left:
        reason = f"the noisy mean leaves the basin of this fixed point at sigma = {last:.3g} (closure)"
        return End(Status.LEFT_BASIN, last, reason)
    if _steepening(path) > STEEP:
        return End(
            Status.LEFT_BASIN, last, f"the basin of this fixed point ceases to exist at sigma = {last:.3g} (closure)"
        )
    return End(status, last, f"no solution of the closure equations was found beyond sigma = {last:.3g}")


def _steepening(path: list[State]) -> float:
    """By what the slope dm / d(sigma^2) at the end of the path exceeds that at its start."""
    slopes = [
        float(np.abs(b.m - a.m).max() / np.max(b.sigma**2 - a.sigma**2))
        for a, b in pairwise(path)
        if np.max(b.sigma) > np.max(a.sigma)
    ]
    return slopes[-1] / slopes[0] if len(slopes) > 1 and slopes[0] > 0 else 0.0


def returns(problem: Problem, means: list[Array]) -> list[bool]:
    """Whether the noise-free dynamics brings each of the noisy means back to the fixed point."""
    if not means:
        return []
    start = problem.start
    h, rests = settle(problem.net, np.array(means), problem.u)
    back = rests & (np.abs(h - start).max(axis=1) <= 1e-5 * (1 + np.abs(start).max()))
    return [bool(home) for home in back]
