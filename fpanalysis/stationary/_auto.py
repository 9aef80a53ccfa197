"""Method "auto": the best method for the case, the reason for the choice, and a second opinion.

    Cell                         small-noise: it has no weights that the others could use
    N <= 2                       chain, which is exact
    N = 3                        closure where its own error is small beside the shift, else chain
    N > 3                        closure, checked by Monte Carlo
    N > 3, several basins        reduced, the law of all basins with their weights; closure about `start` where a
                                 start was given, or where one or two coordinates do not capture the dynamics

A problem that asks for the law about its start (`Problem.local`) gets, from a method that finds the law of all
basins, the law given the state is in that start's basin, as long as the state stays there much longer than it needs to
relax. Where the first choice fails, Monte Carlo stands in. Two methods that differ by more than their errors make
the status "methods disagree"; nothing is averaged.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from fpanalysis.network import Network
from fpanalysis.results import InputError, Status
from fpanalysis.stationary._basins import attractors, basin_of
from fpanalysis.stationary._result import Basin, Problem, Stationary, failed

Run = Callable[[Sequence[Problem], str, int | Generator], list[Stationary]]

EXACT = 2  #: neurons up to which the exact chain costs little
SMALL = 3  #: neurons up to which there is an exact chain
ENOUGH = 1e-3  #: error of the closure, relative to the shift, that makes the exact chain of three neurons unnecessary
STAYS = 10.0  #: times that a basin must outlast its own relaxation to have a law of its own
MOST_BASINS = 32  #: that are answered one by one
CHANCE = 1e-3  #: probability that two methods that agree are called disagreeing
CHECKED = ("closure", "small-noise")  #: what the referee looks at: approximations whose error is an estimate


def solve(problems: Sequence[Problem], run: Run, rng: int | Generator = 0, *, referee: bool = True) -> list[Stationary]:
    """Each problem by the method that suits it; `run(problems, method, rng)` calls a method by name.

    Parameters
    ----------
    referee : whether Monte Carlo checks the closure, and stands in where nothing else gives a law.
    """
    if not isinstance(referee, bool):
        raise InputError(f"referee must be True or False; found {referee!r}")
    results: list[Stationary] = [None] * len(problems)  # type: ignore[list-item]
    choices = [""] * len(problems)
    for (name, why), members in _groups(problems).items():
        for k, st in zip(members, run([problems[k] for k in members], name, rng), strict=True):
            results[k], choices[k] = _second_choice(problems[k], st, run, rng), why
    asked = [k for k, st in enumerate(results) if referee and _needs_referee(problems[k], st)]
    checks = run([problems[k] for k in asked], "monte-carlo", rng) if asked else []
    for k, check in zip(asked, checks, strict=True):
        results[k] = judged(results[k], check)
    explained = [_because(st, why) for st, why in zip(results, choices, strict=True)]
    return [about_start(problem, st) for problem, st in zip(problems, explained, strict=True)]


def _groups(problems: Sequence[Problem]) -> dict[tuple[str, str], list[int]]:
    """Which problems go to which method first, and why."""
    groups: dict[tuple[str, str], list[int]] = {}
    basins: dict[tuple[int, bytes], int] = {}
    for k, problem in enumerate(problems):
        key = id(problem.net), problem.u.tobytes()
        if problem.net.N > SMALL and not problem.local and key not in basins:
            basins[key] = len(attractors(problem.net, problem.u))
        groups.setdefault(_first_choice(problem, basins.get(key, 1)), []).append(k)
    return groups


def _first_choice(problem: Problem, basins: int) -> tuple[str, str]:
    N = problem.net.N
    if not isinstance(problem.net, Network):
        return "small-noise", f"the other methods need a Network; this is a {type(problem.net).__name__}"
    if N <= EXACT:
        return "chain", f"{'one neuron' if N == 1 else 'two neurons'}: the exact chain"
    if N == SMALL:
        return "closure", "three neurons"
    if basins > 1:
        return "reduced", f"{basins} stable fixed points"
    return "closure", f"{N} neurons: about one fixed point"


def _second_choice(problem: Problem, st: Stationary, run: Run, rng: int | Generator) -> Stationary:
    """Another method, where the first one did not come out well enough and the other did."""
    if st.method == "closure" and problem.net.N == SMALL:
        other, why = "chain", _short_of(problem, st)
    elif st.method in ("chain", "reduced") and not st.status.ok and not _per_basin(problem, st):
        about = "each" if st.method == "reduced" else "one"
        other, why = "closure", f"{_failure(st)}, so the closure about {about} fixed point"
    else:
        return st
    if not why:
        return st
    second = _each_basin(problem, run, rng) if st.method == "reduced" else run([problem], other, rng)[0]
    return _because(second, why) if second.status.ok else st


def _per_basin(problem: Problem, st: Stationary) -> bool:
    """Whether a law that could not be weighed says what was asked: about the basin of the start, if that was."""
    return st.status is Status.METASTABLE and (not problem.local or _known(_home(problem, st)))


def _home(problem: Problem, st: Stationary) -> Basin | None:
    """The basin of the start."""
    points = np.array([basin.fixed_point for basin in st.basins or ()])
    home = int(basin_of(problem.net, problem.u, problem.start[None], points)[0])
    return None if home < 0 or st.basins is None else st.basins[home]


def _known(basin: Basin | None) -> bool:
    return basin is not None and basin.error is not None and bool(np.isfinite(basin.mean + basin.error).all())


def _each_basin(problem: Problem, run: Run, rng: int | Generator) -> Stationary:
    """The closure about the fixed point of `problem`, with those about the others as basins of unknown weight."""
    points = attractors(problem.net, problem.u)
    abouts = [dataclasses.replace(problem, start=h, stable=True, local=True) for h in points[:MOST_BASINS]]
    st, *laws = run([problem, *abouts], "closure", rng)
    basins = [Basin(np.nan, law.mean, law.cov, law.start, np.nan, law.error) for law in laws]
    return dataclasses.replace(st, basins=tuple(basins))


def _short_of(problem: Problem, st: Stationary) -> str:
    """What makes the exact chain of three neurons worth its seconds; "" if nothing does."""
    if not st.status.ok:
        return _failure(st)
    if not problem.local and len(attractors(problem.net, problem.u)) > 1:
        return "several stable fixed points"
    small = np.all(st.error <= ENOUGH * np.abs(st.mean - problem.start).max())
    return "" if small else f"the closure's error is above {ENOUGH:g} of the shift"


def _needs_referee(problem: Problem, st: Stationary) -> bool:
    if st.status.ok:
        return st.method in CHECKED and bool(np.any(problem.sigma))
    return st.status is not Status.METASTABLE


def judged(st: Stationary, check: Stationary) -> Stationary:
    """`st` with what the referee found; the referee itself where `st` has no law."""
    if not st.status.ok:
        lawless = not np.isfinite(check.mean).all()
        return _because(check, f"{_failure(st)}{', nor does Monte Carlo' if lawless else '; Monte Carlo stands in'}")
    if not check.status.ok:
        return _adding(st, f"the Monte Carlo check is {check.status.value}")
    worst = disagreement(st, check)
    seen = {"referee": check.method, "referee_mean": check.mean, "referee_error": check.error, "disagreement": worst}
    if worst <= _limit(len(st.mean)):
        return _adding(_with(st, **seen), "Monte Carlo agrees")
    why = f"{st.method} and {check.method} differ by {worst:.1f} times their combined error"
    return dataclasses.replace(_adding(_with(st, **seen), why), status=Status.DISAGREE)


def disagreement(st: Stationary, check: Stationary) -> float:
    """Largest |difference of the means| over the combined error, over neurons."""
    gap, error = np.abs(st.mean - check.mean), np.hypot(st.error, check.error)
    return float(np.max(np.divide(gap, error, out=np.where(gap > 0, np.inf, 0.0), where=error > 0)))


def _limit(N: int) -> float:
    """What the disagreement of N neurons exceeds by chance with probability `CHANCE`, errors being at 95 %."""
    from scipy.special import ndtri

    return float(ndtri(1 - CHANCE / (2 * N)) / ndtri(0.975))


def about_start(problem: Problem, st: Stationary) -> Stationary:
    """The law given the basin of `start`, where that is asked for and the basin lasts."""
    unweighed = st.status is Status.METASTABLE
    if not problem.local or st.basins is None or len(st.basins) < 2 or not (unweighed or st.scope == "global"):
        return st
    basin, stays = _home(problem, st), st.relaxation_time
    if basin is None or (unweighed and not _known(basin)):
        return st
    radius = np.abs(np.linalg.eigvals(problem.net.jacobian(basin.fixed_point, problem.u))).max()
    within = -1 / np.log(radius) if radius > 0 else 0.0
    if not np.isfinite(basin.mean).all():
        return _left(problem, st, "the law puts no weight on the basin of this fixed point")
    if stays is not None and stays < STAYS * within:
        return _left(problem, st, f"basins mix within {stays:.3g} steps, the state relaxes within {within:.3g}")
    return _given(problem, st, basin)


def _left(problem: Problem, st: Stationary, reason: str) -> Stationary:
    reason = f"{st.reason}; {reason}; the law of all basins is found without a start"
    lost = failed(problem, st.method, Status.LEFT_BASIN, reason=reason, global_mean=st.mean)
    return dataclasses.replace(lost, basins=st.basins, gap=st.gap, densities=st.densities)


def _given(problem: Problem, st: Stationary, basin: Basin) -> Stationary:
    """The law conditional on one basin. In the current form the mean output is that of a Gaussian with the same mean
    and covariance, which comes without an error."""
    net = problem.network
    error = st.error if basin.error is None else basin.error
    rate = net.form == "rate"
    rates = basin.mean if rate else net.activation.M(basin.mean, np.sqrt(np.maximum(np.diag(basin.cov), 0)))
    return dataclasses.replace(
        _with(st, reason=f"{st.reason}; given the basin of the start", global_mean=st.mean, rates=rates),
        mean=basin.mean,
        cov=basin.cov,
        error=error,
        output=net.readout(rates),
        output_error=np.abs(net.readout_weights) @ error if rate else np.full(net.n_out, np.inf),
        status=Status.OK if st.status is Status.METASTABLE else st.status,
        scope="local",
        start=basin.fixed_point,
    )


def _failure(st: Stationary) -> str:
    return f"{st.method} gives no law ({st.status.value}{': ' if st.reason else ''}{st.reason})"


def _because(st: Stationary, why: str) -> Stationary:
    """`st` with `why` in front of what it says itself."""
    return _with(st, choice=st.method, reason=f"{why}; {st.reason}" if st.reason else why)


def _adding(st: Stationary, more: str) -> Stationary:
    """`st` with `more` behind what it says itself."""
    return _with(st, reason=f"{st.reason}; {more}" if st.reason else more)


def _with(st: Stationary, **details: Any) -> Stationary:
    return dataclasses.replace(st, details={**st.details, **details})
