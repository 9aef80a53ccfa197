"""The exact stationary law of the discrete noisy chain of one, two or three neurons.

    p(h') = integral of k(h' | h) p(h) dh,     k the law of one step:

    rate form, noise in:    h'_i = (1-gamma) h_i + gamma f(x_i + sigma xi_i),   x = W h + W_in u + b
    rate form, noise out:   h'_i = (1-gamma) h_i + gamma (f(x_i) + sigma xi_i)
    current form:           h'_i = (1-gamma) h_i + gamma ((W f(h))_i + (W_in u + b)_i + sigma xi_i)

No diffusion limit is taken: gamma is anything in (0, 1]. The backward operator (K g)(h) = E[g(h') | h] is collocated
at Chebyshev nodes and its left null vector gives the stationary moments (`_collocation`, `_transition`); the box
follows the law (`_box`), and the number of nodes grows until the mean and covariance stay. One neuron has a solver of
its own (`_chain_one`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fpanalysis.results import InputError, Status
from fpanalysis.stationary import _cells
from fpanalysis.stationary._basins import attractors
from fpanalysis.stationary._box import core, first_box, grows, moved
from fpanalysis.stationary._chain_law import chain_law
from fpanalysis.stationary._chain_one import solve_one
from fpanalysis.stationary._collocation import Collocation, collocate, spectrum
from fpanalysis.stationary._metastable import metastable
from fpanalysis.stationary._result import Array, Problem, Stationary, failed
from fpanalysis.stationary._transition import Axis, Step, Unresolved

TOLERANCE = {2: 1e-8, 3: 1e-6}  #: error of the mean, in standard deviations
LADDER = {2: (14, 20, 28, 40, 54), 3: (8, 12, 16, 20, 24)}  #: nodes per axis
LARGEST = {2: 3200, 3: 14000}  #: states that a grid may have
ATTEMPTS = 20  #: solves that the search for box and resolution may take
SPECTRUM = {2: 16, 3: 7}  #: nodes per axis on which eigenvalues are computed
NEAR = 1e-3  #: distance of the second eigenvalue from 1 below which they are computed again on all nodes
FLOOR = {2: 1e-11, 3: 1e-9}  #: rounding error that the polynomials outside the box magnify, in deviations
TRUSTED = 1e-7  #: distance of the second eigenvalue from 1 below which a null vector in float64 is not to be trusted
HEAVY = 100.0  #: `tails` from which on no value is given
SAME = 0.02  #: relative difference up to which the gaps of two grids are one
WEAK = 1e-4  #: the same where the search for the box did not end either: a shallow law would have let it
USELESS = 0.1  #: error, in standard deviations, from which on no value is given


@dataclass
class Search:
    """Where the search for box and resolution stands."""

    found: Collocation
    change: Array  #: (N,), of the mean at the last refinement
    spread: float  #: change of the standard deviations at the last refinement, relative
    levels: list[tuple[int, float]] = field(default_factory=list)  #: nodes per axis and mean of neuron 0
    settled: bool = True  #: whether the box came to an end


def solve(problems: Sequence[Problem], rng: Any = 0, *, tolerance: float | None = None) -> list[Stationary]:
    """Each problem by itself; `tolerance` is the wanted error of the mean in standard deviations of the law (by default
    3e-12, 1e-8 and 1e-6 for one, two and three neurons). `rng` is not used: the method is deterministic."""
    if tolerance is not None and not (np.ndim(tolerance) == 0 and 0 < tolerance < np.inf):
        raise InputError(f"tolerance must be one number > 0; found {tolerance!r}")
    return [_solve(problem, tolerance) for problem in problems]


def _solve(problem: Problem, tolerance: float | None) -> Stationary:
    N = problem.net.N
    if N > 3:
        reason = f"chain solves for at most 3 neurons, this network has {N}: use 'closure', 'reduced' or 'monte-carlo'"
        return failed(problem, "chain", Status.NOT_APPLICABLE, reason=reason)
    step = Step(problem)
    if grows(step):
        return failed(problem, "chain", Status.DIVERGED, reason=_why_not(problem))
    if N == 1:
        return solve_one(step, problem, tolerance)
    points = attractors(problem.net, problem.u)
    with np.errstate(under="ignore"):
        try:
            search = _search(step, problem, tolerance or TOLERANCE[N], points)
        except np.linalg.LinAlgError:
            return failed(problem, "chain", Status.NOT_CONVERGED, reason="the collocation equations are singular")
        except Unresolved as error:
            return failed(problem, "chain", Status.TOO_LARGE, reason=str(error))
    gap, separation = _spectrum(step, search.found)
    if separation < TRUSTED:
        return metastable(problem, _box(search.found), separation)
    return _result(problem, step, search, gap, separation, points)


def _why_not(problem: Problem) -> str:
    grow = "far from the origin the noise-free step leads farther away"
    if problem.stable:
        return f"{grow}: noise carries the state out of the basin of its fixed point in the end, so there is a \
quasi-stationary law only"
    return f"{grow}: there is no stationary law"


def _size(found: Collocation) -> str:
    """Why there is no second grid to compare with."""
    grid = " x ".join(str(axis.size) for axis in found.axes)
    memory = 8 * 1.4 ** (2 * len(found.axes)) * len(found.p) ** 2 / 2**30
    return f"{grid} nodes do not suffice, and the equations on the next grid would take {memory:.1f} GiB"


def _box(found: Collocation) -> Array:
    return np.array([[axis.low, axis.high] for axis in found.axes]).T


def _axes(step: Step, box: Array, n: int) -> tuple[Axis, ...]:
    axes = []
    for i, (low, high) in enumerate(box.T):
        breaks = step.breaks(i, low, high)
        each = max(6, round(2 * n / (len(breaks) + 2)))  # several panels share the nodes
        axes.append(Axis(low, high, each, breaks))
    return tuple(axes)


def _search(step: Step, problem: Problem, tolerance: float, points: Array) -> Search:
    """Widen the box and refine the grid together until the moments stay within `tolerance`: then neither matters.
    The box holds `points` (K, N)."""
    limits, ladder, level = step.limits(), LADDER[step.N], 0
    held = core(step, points)
    box = first_box(step, problem.start, held)
    found = collocate(step, _axes(step, box, ladder[0]))
    search = Search(found, np.full(step.N, np.inf), np.inf, [(ladder[0], float(found.mean[0]))])
    for _ in range(ATTEMPTS):
        heavy = tails(search.found, limits)
        box = moved(step, box, search.found, limits, held)
        if heavy <= 1:
            level += 1
        if level == len(ladder):
            return search
        axes = _axes(step, box, ladder[level])
        if np.prod([axis.size for axis in axes]) > LARGEST[step.N]:
            return search
        found = collocate(step, axes, search.found)
        search = _compare(search, found, ladder[level])
        close = max(search.change.max() / deviation(found), search.spread) <= tolerance
        if close and tails(found, limits) <= 1:
            return search
    return replace(search, settled=False)


def tails(found: Collocation, limits: Array) -> float:
    """The heaviest of the law's tails at edges that are not bounds of the state."""
    return float(np.where(_box(found) == limits, 0.0, found.tails).max())


def _spectrum(step: Step, found: Collocation) -> tuple[float | None, float]:
    """Gap and separation, on few nodes where they are large, on all where they are small.

    Along a neuron without noise nothing smooths, and the edge of the box adds eigenvalues that are not the chain's,
    some beyond 1: there is no gap then unless a coarser grid has the same."""
    panels = max(axis.size // axis.n for axis in found.axes)
    n = min(found.axes[0].n, max(SPECTRUM[step.N] // panels, 12))
    box = _box(found)
    gap, separation = spectrum(step, _axes(step, box, n))
    if separation < NEAR and len(found.p) <= 500:
        gap, separation = spectrum(step, found.axes)
    if not step.sigma.all():
        coarser, _ = spectrum(step, _axes(step, box, n - n // 3))
        return gap if abs(coarser - gap) <= SAME * gap else None, separation
    return gap, separation


def deviation(found: Collocation) -> float:
    """The largest standard deviation, of the law on its box."""
    width = max(axis.high - axis.low for axis in found.axes)
    return float(np.sqrt(max(np.diag(found.cov).max(), (1e-6 * width) ** 2)))


def _compare(search: Search, found: Collocation, n: int) -> Search:
    change = np.abs(found.mean - search.found.mean)
    spread = float(np.abs(found.cov - search.found.cov).max() / deviation(found) ** 2)
    levels = [*search.levels, (n, float(found.mean[0]))]
    return Search(found, change, spread, levels)


def _result(
    problem: Problem, step: Step, search: Search, gap: float | None, separation: float, points: Array
) -> Stationary:
    found = search.found
    width = np.array([axis.high - axis.low for axis in found.axes])
    rounding = 1e-16 * (np.abs(found.mean).max() + width)
    error = 2 * search.change + (rounding + FLOOR[step.N] * deviation(found)) / min(separation, 1.0)
    details: dict[str, Any] = {
        "nodes": tuple(axis.size for axis in found.axes),
        "box": _box(found),
        "tails": tails(found, step.limits()),
        "levels": tuple(search.levels),
    }
    useless = not np.isfinite(error).all() or error.max() > USELESS * deviation(found)
    if useless or details["tails"] > HEAVY or not search.settled:
        if separation < WEAK or len(points) > 1:
            return metastable(problem, _box(found), separation)
        if np.isinf(search.change).any():
            return failed(problem, "chain", Status.TOO_LARGE, reason=_size(found), tentative_mean=found.mean, **details)
        reason = f"the mean still changes by {search.change.max():.1g} at {details['nodes']} nodes"
        if not search.settled:
            reason += f", and the box about the law was still moving after {ATTEMPTS} solves"
        return failed(problem, "chain", Status.NOT_CONVERGED, reason=reason, tentative_mean=found.mean, **details)
    if step.inside and step.flat and np.any(step.gamma == 1):
        details["mass_at_zero"] = _mass_at_zero(step, found)
    rates = found.p @ problem.network.activation.f(found.h) if step.current else found.mean
    return chain_law(
        problem,
        step,
        found.mean,
        found.cov,
        error,
        rates,
        details,
        densities=lambda: _cells.densities(_cells.cells(problem, found)),
        gap=gap,
        basins=_cells.basins(problem, found, points),
    )


def _mass_at_zero(step: Step, found: Collocation) -> tuple[float, ...]:
    """P(h_i = 0) for each neuron, then P(some h_i = 0): the mass on the axes, where gamma = 1."""
    from scipy.special import ndtr

    silent = np.where(step.gamma == 1, ndtr(-step.preactivation(found.h) / step.sigma), 0.0)
    return (*(found.p @ silent).tolist(), float(1 - found.p @ (1 - silent).prod(axis=1)))
