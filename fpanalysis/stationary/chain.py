"""The exact stationary law of the discrete noisy chain of one, two or three neurons.

    p(h') = integral of k(h' | h) p(h) dh,     k the law of one step:

    rate form, noise in:    h'_i = (1-gamma) h_i + gamma f(x_i + sigma xi_i),   x = W h + W_in u + b
    rate form, noise out:   h'_i = (1-gamma) h_i + gamma (f(x_i) + sigma xi_i)
    current form:           h'_i = (1-gamma) h_i + gamma ((W f(h))_i + (W_in u + b)_i + sigma xi_i)

No diffusion limit is taken: gamma is anything in (0, 1]. The backward operator (K g)(h) = E[g(h') | h] is collocated
at Chebyshev nodes and its left null vector gives the stationary moments (`_collocation`, `_transition`); the box
follows the law (`_box`), and the number of nodes grows until the mean and covariance stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary._box import core, first_box, grows, moved
from fpanalysis.stationary._chain_density import basins, density, fine
from fpanalysis.stationary._chain_one import solve_one
from fpanalysis.stationary._collocation import Collocation, collocate, spectrum
from fpanalysis.stationary._result import Array, Problem, Stationary, failed
from fpanalysis.stationary._transition import Axis, Step

TOLERANCE = {1: 3e-12, 2: 1e-8, 3: 1e-6}  #: error of the mean, in standard deviations
LADDER = {
    1: (24, 36, 54, 72, 100, 150, 220, 320),
    2: (14, 20, 28, 40, 54),
    3: (8, 12, 16, 20, 24),
}  #: nodes per axis
LARGEST = {1: 2000, 2: 3200, 3: 14000}  #: states that a grid may have
ATTEMPTS = 20  #: solves that the search for box and resolution may take
SPECTRUM = {1: 48, 2: 16, 3: 7}  #: nodes per axis on which eigenvalues are computed
NEAR = 1e-3  #: distance of the second eigenvalue from 1 below which they are computed again on all nodes
TRUSTED = 1e-7  #: distance of the second eigenvalue from 1 below which a null vector in float64 is not to be trusted
HEAVY = 100.0  #: `tails` from which on no value is given
WEAK = 1e-4  #: the same where the search for the box did not end either: a shallow law would have let it
MASS = 1e-2  #: mass deficit of the density from which on none is given
USELESS = 0.1  #: error, in standard deviations, from which on no value is given


@dataclass
class Search:
    """Where the search for box and resolution stands."""

    found: Collocation
    change: Array  #: (N,), of the mean at the last refinement
    spread: float  #: change of the standard deviations at the last refinement, relative
    levels: list[tuple[int, float]] = field(default_factory=list)  #: nodes per axis and mean of neuron 0


def solve(problems: Sequence[Problem], rng: Any = 0, *, tolerance: float | None = None) -> list[Stationary]:
    """Each problem by itself; `tolerance` is the wanted error of the mean in standard deviations of the law (by default
    1e-10, 1e-8 and 1e-6 for one, two and three neurons). `rng` is not used: the method is deterministic."""
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
        return solve_one(problem, tolerance or TOLERANCE[1])
    with np.errstate(under="ignore"):
        try:
            search = _search(step, problem, tolerance or TOLERANCE[N])
        except np.linalg.LinAlgError:
            return failed(problem, "chain", Status.NOT_CONVERGED, reason="the collocation equations are singular")
    gap, separation = _spectrum(step, search.found)
    if separation < TRUSTED:
        return _metastable(problem, _box(search.found), separation)
    return _result(problem, step, search, gap, separation)


def _why_not(problem: Problem) -> str:
    grow = "far from the origin the noise-free step leads farther away"
    if problem.stable:
        return f"{grow}: noise carries the state out of the basin of its fixed point in the end, so there is a \
quasi-stationary law only"
    return f"{grow}: there is no stationary law"


def _metastable(problem: Problem, box: Array, gap: float) -> Stationary:
    """What is said where the null vector is not to be trusted."""
    reason = f"an eigenvalue lies {gap:.1e} from 1, too near for the null vector to be trusted"
    return failed(problem, "chain", Status.METASTABLE, reason=reason, box=box)


def _box(found: Collocation) -> Array:
    return np.array([[axis.low, axis.high] for axis in found.axes]).T


def _axes(step: Step, box: Array, n: int) -> tuple[Axis, ...]:
    return tuple(Axis(low, high, n, step.breaks(i, low, high)) for i, (low, high) in enumerate(box.T))


def _search(step: Step, problem: Problem, tolerance: float) -> Search:
    """Widen the box and refine the grid together until the moments stay within `tolerance`: then neither matters."""
    limits, ladder, level = step.limits(), LADDER[step.N], 0
    box = first_box(step, problem.start)
    held = core(step)
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
    return search


def tails(found: Collocation, limits: Array) -> float:
    """The heaviest of the law's tails at edges that are not bounds of the state."""
    return float(np.where(_box(found) == limits, 0.0, found.tails).max())


def _spectrum(step: Step, found: Collocation) -> tuple[float, float]:
    """Gap and separation, on few nodes where they are large, on all where they are small."""
    panels = max(axis.size // axis.n for axis in found.axes)
    n = min(found.axes[0].n, max(SPECTRUM[step.N] // panels, 12))
    box = _box(found)
    gap, separation = spectrum(step, _axes(step, box, n))
    if separation < NEAR and len(found.p) <= 500:
        gap, separation = spectrum(step, found.axes)
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


def _result(problem: Problem, step: Step, search: Search, gap: float, separation: float) -> Stationary:
    net, found = problem.network, search.found
    width = np.array([axis.high - axis.low for axis in found.axes])
    rounding = 1e-16 * (np.abs(found.mean).max() + width)
    error = 2 * search.change + rounding / min(separation, 1.0)
    details: dict[str, Any] = {
        "nodes": tuple(axis.size for axis in found.axes),
        "box": _box(found),
        "tails": tails(found, step.limits()),
        "levels": tuple(search.levels),
    }
    if not np.isfinite(error).all() or error.max() > USELESS * deviation(found) or details["tails"] > HEAVY:
        if separation < WEAK:
            return _metastable(problem, _box(found), separation)
        reason = f"the mean still changes by {search.change.max():.1g} at {details['nodes']} nodes"
        return failed(problem, "chain", Status.NOT_CONVERGED, reason=reason, tentative_mean=found.mean, **details)
    law, marginals = density(step, fine(step, found))
    if law is not None:
        details["mass_deficit"] = 1 - law.mass
        if abs(1 - law.mass) > MASS:
            law, marginals = None, {}
    rates = found.p @ net.activation.f(found.h) if step.current else found.mean
    slope = step.slope if step.current else 1.0
    return Stationary(
        mean=found.mean,
        cov=found.cov,
        error=error,
        output=net.readout(rates),
        output_error=slope * np.abs(net.readout_weights) @ error,
        status=Status.OK,
        method="chain",
        scope="global",
        start=problem.start,
        provenance=Provenance("chain", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details=details | {"rates": rates},
        densities=(law, marginals),
        gap=gap,
        basins=basins(problem, step, found, law),
    )
