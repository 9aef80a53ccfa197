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
from fpanalysis.stationary._box import first_box, grows, moved
from fpanalysis.stationary._collocation import Collocation, collocate
from fpanalysis.stationary._result import Array, Problem, Stationary, failed
from fpanalysis.stationary._transition import Axis, Step

TOLERANCE = {1: 1e-10, 2: 1e-8, 3: 1e-6}  #: error of the mean, in standard deviations
LADDER = {
    1: (24, 36, 54, 80, 120, 180, 270, 400),
    2: (14, 20, 28, 40, 54),
    3: (8, 12, 16, 20, 24),
}  #: nodes per axis
ATTEMPTS = 40  #: solves that the search for box and resolution may take
SPECTRUM = (60, 400)  #: states up to which eigenvalues are computed: as a rule, and where one is close to 1
TRUSTED = 1e-9  #: distance of the second eigenvalue from 1 below which a null vector in float64 is not to be trusted
USELESS = 0.1  #: error, in standard deviations, from which on no value is given


@dataclass
class Search:
    """Where the search for box and resolution stands."""

    found: Collocation
    gap: float
    separation: float  #: |1 - lambda| of the eigenvalue nearest to 1
    change: Array  #: (N,), of the mean at the last refinement
    spread: float  #: change of the standard deviations at the last refinement, relative
    levels: list[tuple[int, float]] = field(default_factory=list)  #: nodes per axis and mean of neuron 0
    leak_before: float = 0.0  #: what leaked out of the box of the level before


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
    with np.errstate(under="ignore"):
        try:
            search = _search(step, problem, tolerance or TOLERANCE[N])
        except np.linalg.LinAlgError:
            return failed(problem, "chain", Status.NOT_CONVERGED, reason="the collocation equations are singular")
    if search.separation < TRUSTED:
        return _metastable(problem, _box(search.found), search.separation)
    return _result(problem, step, search)


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
    found = collocate(step, _axes(step, box, ladder[0]))
    search = Search(found, *found.spectrum(), np.full(step.N, np.inf), np.inf, [(ladder[0], float(found.mean[0]))])
    for _ in range(ATTEMPTS):
        leak = search.found.leak.max()
        leaks = leak > 1e-8 and leak > 0.1 * search.leak_before
        box = moved(box, search.found, limits, leaks)
        if leak < 1e-3 or not leaks:
            level += 1
        if level == len(ladder):
            return search
        found = collocate(step, _axes(step, box, ladder[level]), search.found)
        search = _compare(search, found, ladder[level])
        change = max(search.change.max() / deviation(found), search.spread)
        if search.separation < TRUSTED or (change <= tolerance and found.leak.max() <= max(1e-8, tolerance)):
            return search
    return search


def deviation(found: Collocation) -> float:
    """The largest standard deviation, of the law on its box."""
    width = max(axis.high - axis.low for axis in found.axes)
    return float(np.sqrt(max(np.diag(found.cov).max(), (1e-6 * width) ** 2)))


def _compare(search: Search, found: Collocation, n: int) -> Search:
    change = np.abs(found.mean - search.found.mean)
    spread = float(np.abs(found.cov - search.found.cov).max() / deviation(found) ** 2)
    few = len(found.p) <= SPECTRUM[search.separation < 1e-3]
    spectrum = found.spectrum() if few else (search.gap, search.separation)
    levels = [*search.levels, (n, float(found.mean[0]))]
    return Search(found, *spectrum, change, spread, levels, float(search.found.leak.max()))


def _result(problem: Problem, step: Step, search: Search) -> Stationary:
    net, found = problem.network, search.found
    width = np.array([axis.high - axis.low for axis in found.axes])
    rounding = 1e-15 * (np.abs(found.mean).max() + width)
    error = search.change + (found.leak.sum(axis=0) * width + rounding) / min(search.separation, 1.0)
    details = {
        "nodes": tuple(axis.size for axis in found.axes),
        "box": _box(found),
        "leak": float(found.leak.sum()),
        "levels": tuple(search.levels),
    }
    if not np.isfinite(error).all() or error.max() > USELESS * deviation(found):
        reason = f"the mean still changes by {search.change.max():.1g} at {details['nodes']} nodes"
        return failed(problem, "chain", Status.NOT_CONVERGED, reason=reason, tentative_mean=found.mean, **details)
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
        gap=search.gap,
    )
