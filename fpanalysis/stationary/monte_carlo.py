"""Method "monte-carlo": the network itself, run for a long time in many chains.

The mean is the time average over chains in antithetic pairs, driven by (xi, -xi): every odd order in the
noise cancels from the mean of a pair exactly, also for strongly correlated steps. Beside each pair runs the linear
chain of `_linear_chain`, driven by the same noise, whose mean rates are known: what is averaged is the small difference
to it. Where that gains nothing (chains that hop between basins) or there is no such chain (a Cell, an unstable
linearisation) the plain average is taken, and `details["control"]` says so.

All problems of one call see the same xi (common random numbers): curves in sigma are smooth, differences between
conditions are more accurate than the stated errors, and the errors of two results of one call are *not* independent.

The pairs are independent of each other, so the spread of their time averages gives the standard error
whatever the autocorrelation: with y_k the average of pair k, k = 1..B,

    mean = sum_k y_k / B,    standard_error^2 = sum_k (y_k - mean)^2 / (B (B - 1)),
    error = t_{0.975, B-1} standard_error + rounding + unseen

A neuron silent in nearly all pairs has too few events for this: its error is then a lower bound.
`rounding` bounds what float32 states can add (`_mixing.rounding_bound`; a tenth of it with the linear chain, where
rounding enters to second order); where it is not small beside the sampling error, nor below 1e-4 of the shift,
the problem is run again in float64. `unseen` is what events too rare for the run may add (`_mixing.unseen`).

Chains start at the problem's `start` and forget it for ten relaxation times. The law found is that of the
basins reached from there within the run, so the scope is "local", unless groups of chains that were started in
all basins known agree (`_starts`). A run whose chains disagree (split R-hat of batch means above its bound;
Gelman et al., Bayesian Data Analysis, 2013, section 11.4), whose first and second half differ beyond their errors,
whose relaxation time is beyond `LONGEST` steps, or whose chains hop to other basins too seldom to weigh these is
"poorly mixed". Where hops are many the result has `basins`; where most chains are gone from the first it has
"left basin".
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary._average import Average, averages, better, follows, sample_sizes
from fpanalysis.stationary._histogram import Axes, Histogram, axes
from fpanalysis.stationary._hops import Hops, hops, hops_between
from fpanalysis.stationary._linear_chain import linear_chain
from fpanalysis.stationary._mixing import drifts, quantile, rhat, rhat_bound, standard_error, unseen
from fpanalysis.stationary._relax import relaxation_time, still_growing
from fpanalysis.stationary._result import Densities, Problem, Stationary, failed
from fpanalysis.stationary._sample import Plan, Sample, merge
from fpanalysis.stationary._settings import BATCHES, check_settings
from fpanalysis.stationary._stacks import Job, run
from fpanalysis.stationary._starts import FEWEST as FEWEST_APART
from fpanalysis.stationary._starts import apart, disagreement
from fpanalysis.system import System

METHOD = "monte-carlo"
ANY_SYSTEM = True
BURN_IN, STEPS = 10, 20  #: relaxation times dropped, and averaged over
LONGEST = 1024  #: relaxation time (steps) above which a run is shorter than these multiples
FEWEST, MOST = 400, 20_000  #: steps averaged over, whatever the relaxation time
SMALL = 16  #: neurons up to which double precision costs nothing
ROUNDS = 4  #: times that chains are added, for a standard error that was asked for
RETRIES = 3  #: times that a poorly mixed problem is run again, for a relaxation time at least four times as long
DIGITS = 1e-4  #: rounding error, relative to the shift, below which double precision is not worth its time


def solve(
    problems: Sequence[Problem],
    rng: int | np.random.Generator = 0,
    *,
    chains: int | None = None,
    steps: int | None = None,
    burn_in: int | None = None,
    precision: str | None = None,
    control: bool = True,
    standard_error: float | None = None,
    relative_error: float | None = None,
    max_chains: int = 1 << 16,
    device: str = "cpu",
    density: Sequence[str] | None = None,
    starts: str = "one",
) -> list[Stationary]:
    """Stationary laws by simulation, `problems` of one network stepped together, one stack per thread.

    Parameters
    ----------
    rng : the noise depends on this seed (or the state of this Generator), the number of chains and N only:
        not on the other problems of the call nor on the number of threads.
    chains : even; default 128 at N = 64, more for smaller networks.
    steps, burn_in : steps averaged over and dropped before, per chain; default 20 and 10 relaxation times
        within fixed bounds. With the default, problems run in groups of similar relaxation time, and what turns
        out poorly mixed is run again for one at least four times as long, twice or, where basins exchange, three times
        at most, and not where they exchange over more than `LONGEST` steps.
    precision : "single" or "double" states; default single where its rounding is small beside the error.
    control : whether to run the linear chain beside the network.
    standard_error, relative_error : run more chains until the largest standard error over neurons is at most this;
        relative_error is in units of the largest shift, max|mean - start|. A result that `max_chains` chains do not
        bring there is "poorly mixed", with its mean in `details["tentative_mean"]` as well.
    device : "cpu", or "cuda" for a GPU, which has random numbers of its own.
    density : names of the `marginals` wanted: "neuron 3", "output 0", as histograms with standard errors. By default
        those of the outputs, if there are four or fewer, and of all neurons of a network of three or fewer.
    starts : "one", the problem's `start`, for the law of what is reached from there; "apart", groups of chains from
        every stable fixed point, or far out on both sides where there are not several: the law is then "global" if
        the groups agree, and if they do not the status is "poorly mixed" and no mean is given.

    Returns
    -------
    One `Stationary` per problem; `details` holds standard_error (N,), effective_sample_size (variance of the
    state over squared standard error, smallest over neurons), rhat (largest over neurons), chains, steps,
    burn_in, relaxation_time (steps, that the run was planned for), rounding, precision, control ("linear chain" or
    "none") and, as medians over neurons of the variance of a plain average of as many chains over that with them,
    antithetic_gain (pairs alone) and variance_reduction (pairs and control); reason, where the status is not OK;
    and where any chain was seen outside the basin of `start`, hops between basins, left (fraction of chains) and
    chains_followed: the number of chains that these count, and
    exchange_time: the steps in which the weights of the basins relax. With starts apart also rhat_groups, R-hat between
    the groups, and where these disagree tentative_mean, and `basins` without weights.

    Raises
    ------
    InputError
        If a setting is out of range.
    """
    settings = check_settings(
        chains=chains,
        steps=steps,
        burn_in=burn_in,
        precision=precision,
        control=control,
        standard_error=standard_error,
        relative_error=relative_error,
        max_chains=max_chains,
        device=device,
        density=density,
        starts=starts,
    )
    if device != "cpu" and not all(isinstance(problem.net, Network) for problem in problems):
        raise InputError(f"device must be 'cpu' for a system that is not a Network; found {device!r}")
    if precision == "single" and not all(isinstance(problem.net, Network) for problem in problems):
        raise InputError("precision must be 'double' for a system that is not a Network; found 'single'")
    seed = int(np.random.default_rng(rng).integers(2**63))
    stamp = {"settings": settings, "seed": int(rng) if isinstance(rng, int | np.integer) else None}
    times = _relaxation_times(problems)
    kept = {id(problem.net): axes(problem.net, density) for problem in problems}
    jobs = [_job(problem, tau, settings, kept[id(problem.net)]) for problem, tau in zip(problems, times, strict=True)]
    results = _finish(jobs, seed, stamp)
    if precision is None:
        coarse = [k for k, job in enumerate(jobs) if job.precision == "single" and _too_coarse(results[k])]
        for k in coarse:
            jobs[k].restart(precision="double")
        _again(jobs, results, coarse, seed, stamp)
    if steps is None and burn_in is None:
        for left in range(RETRIES, 0, -1):  # noise made a mode slower than the estimate
            slower = {k: _slower(job, result, left) for k, (job, result) in enumerate(zip(jobs, results, strict=True))}
            slow = [k for k, tau in slower.items() if tau]
            for k in slow:
                jobs[k].restart(tau=slower[k], plan=_plan(problems[k].net, slower[k], settings))
            _again(jobs, results, slow, seed, stamp)
    if standard_error is not None or relative_error is not None:
        _refine(jobs, results, seed, stamp)
    return results


def _relaxation_times(problems: Sequence[Problem]) -> list[float]:
    """Relaxation times, rounded up to a power of two so that similar problems run together; those beyond
    `LONGEST` are all twice that."""
    nets: dict[int, list[int]] = defaultdict(list)
    for index, problem in enumerate(problems):
        nets[id(problem.net)].append(index)
    tau = np.zeros(len(problems))
    for members in nets.values():
        tau[members] = relaxation_time([problems[i] for i in members])
    return [float(2 ** np.ceil(np.log2(t))) for t in np.clip(tau, 1, 2 * LONGEST)]


def _slower(job: Job, result: Stationary, left: int) -> float:
    """The relaxation time for which a poorly mixed problem is to be run again, `left` times at most; 0 where that would
    not help. The last time is for basins whose exchange was seen."""
    exchange = result.details.get("exchange_time", 0.0 if left > 1 else np.inf)
    tau = 4 * job.tau
    if exchange > job.tau:
        tau = max(tau, 2.0 ** np.ceil(np.log2(min(exchange, 2.0 * LONGEST))))
    return tau if result.status is Status.POORLY_MIXED and tau <= LONGEST else 0.0


def _job(problem: Problem, tau: float, settings: dict[str, Any], kept: Axes) -> Job:
    net, precision = problem.net, settings["precision"]
    if precision is None:
        precision = "double" if net.N <= SMALL or not isinstance(net, Network) else "single"
    linear = linear_chain(problem) if settings["control"] else None
    pairs = (settings["chains"] or 2 * int(np.clip(4096 // net.N, 32, 1024))) // 2
    starts = None
    if settings["starts"] == "apart":
        starts = apart(problem, linear, pairs if settings["chains"] else None)
        pairs = max(pairs, FEWEST_APART * len(starts.states))
    return Job(problem, tau, _plan(net, tau, settings), pairs, precision, linear, kept, starts)


def _plan(net: System, tau: float, settings: dict[str, Any]) -> Plan:
    """A mean sample every half time constant of a neuron loses < 2 % of the information, a sample of the
    covariance every relaxation time costs little beside the steps in between."""
    steps = settings["steps"] or int(np.clip(STEPS * tau, FEWEST, MOST))
    burn_in = settings["burn_in"]
    thin = _incommensurate(0.5 / float(np.max(net.gamma)))
    length = -(-steps // (BATCHES * 2 * thin)) * 2 * thin  # an even number of samples, half in each phase of a flip
    return Plan(
        burn_in=int(BURN_IN * min(tau, LONGEST)) if burn_in is None else burn_in,
        batches=BATCHES,
        length=length,
        thin=thin,
        cov_thin=thin * _evenly(length // thin, tau / thin),
    )


def _evenly(count: int, steps: float) -> int:
    """About `steps`, at most, such that every so many of `count` samples make an even number."""
    n = _incommensurate(min(steps, count / 2))
    return next(k for k in range(n, 0, -1) if k == 1 or (k % 2 and k % 3 and -(-count // k) % 2 == 0))


def _incommensurate(steps: float) -> int:
    """About `steps`, at least 1, and no multiple of 2 or 3: samples so far apart see all phases of short cycles."""
    n = max(1, round(steps))
    return n if n % 2 and n % 3 else max(k for k in range(1, n + 1) if k % 2 and k % 3)


def _finish(jobs: Sequence[Job], seed: int, stamp: dict[str, Any]) -> list[Stationary]:
    run(jobs, seed, stamp["settings"]["device"])
    return [_result(job, stamp) for job in jobs]


def _again(jobs: Sequence[Job], results: list[Stationary], chosen: list[int], seed: int, stamp: dict[str, Any]) -> None:
    for k, result in zip(chosen, _finish([jobs[k] for k in chosen], seed, stamp), strict=True):
        results[k] = result


def _refine(jobs: Sequence[Job], results: list[Stationary], seed: int, stamp: dict[str, Any]) -> None:
    """Add pairs to the jobs whose standard error is too large, by its square root law and a tenth more."""
    settings = stamp["settings"]
    for _ in range(ROUNDS):
        short = []
        for k, (job, result) in enumerate(zip(jobs, results, strict=True)):
            excess = _excess(result, settings)
            if excess > 1 and 2 * job.pairs < settings["max_chains"]:
                job.pairs = int(min(np.ceil(1.1 * job.pairs * excess**2), settings["max_chains"] // 2))
                short.append(k)
        _again(jobs, results, short, seed, stamp)
    for k, result in enumerate(results):
        if result.status is Status.OK and _excess(result, settings) > 1:
            reached = float(np.max(result.details["standard_error"]))
            reason = (
                f"the standard error is {reached:.2g} after {settings['max_chains']} chains, above what was asked for"
            )
            details = {**result.details, "reason": reason, "tentative_mean": result.mean}
            results[k] = dataclasses.replace(result, status=Status.POORLY_MIXED, details=details)


def _excess(result: Stationary, settings: dict[str, Any]) -> float:
    """The standard error in units of what was asked for; 0 without one."""
    if "standard_error" not in result.details:
        return 0.0
    reached = float(np.max(result.details["standard_error"]))
    shift = float(np.max(np.abs(result.mean - result.start)))
    wanted = [settings["standard_error"] or np.inf, (settings["relative_error"] or np.inf) * shift]
    return reached / min(wanted) if reached else 0.0


def _too_coarse(result: Stationary) -> bool:
    """Whether rounding makes up more than half of the error of the least accurate neuron, and enough of the shift."""
    rounding = float(result.details.get("rounding", 0.0))
    shift = float(np.max(np.abs(result.mean - result.start)))
    return bool(rounding > 0.5 * np.max(result.error) and rounding > DIGITS * shift)


def _result(job: Job, stamp: dict[str, Any]) -> Stationary:
    """The result of one problem from its blocks."""

    problem, net, plan = job.problem, job.problem.net, job.plan
    sample = merge(job.parts)
    details: dict[str, Any] = {
        "chains": 2 * job.pairs,
        "steps": plan.steps,
        "burn_in": plan.burn_in,
        "relaxation_time": job.tau,
        "precision": job.precision,
    }
    if sample.diverged:
        return _failed(problem, Status.DIVERGED, stamp, **details)
    eps = {"single": 2.0**-24, "double": 2.0**-53}[job.precision]
    plain, *controlled = averages(problem, sample, job.linear, job.tau, eps)
    best = better(plain, *controlled)
    drift = drifts(plain.batches, plain.rounding) or drifts(best.batches, best.rounding)
    if drift and not net.dissipative and still_growing(problem, plain.batches.mean(axis=0)):
        return _failed(problem, Status.DIVERGED, stamp, **details)
    h = sample.h
    details |= {
        "rhat": rhat(h.reshape(-1, *h.shape[2:]), plain.rounding),
        "rounding": best.rounding,
        "control": "linear chain" if best.control else "none",
    }
    seen, differ = _seen(job, sample, plain, best, details)
    alike = details["rhat"] <= rhat_bound(plan.batches, plan.length / job.tau)
    status, reason = _verdict(seen, drift, alike, job.tau, job.starts is not None)
    if differ:
        result = _failed(problem, Status.POORLY_MIXED, stamp, reason=differ, tentative_mean=best.mean, **details)
        return dataclasses.replace(result, basins=None if seen is None else seen.unweighed)
    if status is Status.LEFT_BASIN:
        return _failed(problem, status, stamp, reason=reason, tentative_mean=best.mean, **details)
    if reason:
        details["reason"] = reason
    apart = sample.moments[3] / sample.draws if best.control else None
    missed = unseen(problem, best.cov, apart, details["chains"] * plan.steps)
    t = quantile(job.pairs, 0.975)
    gain = 1.0 if net.W_out is None else np.linalg.norm(net.W_out, axis=1)
    return Stationary(
        mean=best.mean,
        cov=best.cov,
        error=t * best.standard_error
        + best.rounding
        + (missed if sample.rates is None else np.abs(problem.network.W) @ missed),
        output=best.z.mean(axis=0),
        output_error=t * standard_error(best.z)
        + gain * (best.rounding + 2.0**-53 * np.linalg.norm(best.mean))
        + np.abs(net.readout_weights) @ missed,
        status=status,
        method=METHOD,
        scope="global" if (job.starts is not None or seen is not None) and status.ok else "local",
        start=problem.start,
        provenance=Provenance(METHOD, net.hash, **stamp),
        details=sample_sizes(sample, plain, best) | details,
        basins=None if seen is None else seen.basins,
        densities=partial(_densities, net.N, job.axes, sample.histograms),
    )


def _densities(N: int, axes: Axes, histograms: Sequence[Histogram]) -> Densities:
    marginals = {
        name: histogram.density(name, float(offset))
        for name, offset, histogram in zip(axes.names, axes.offset, histograms, strict=True)
    }
    return marginals.get("neuron 0") if N == 1 else None, marginals


def _seen(job: Job, sample: Sample, plain: Average, best: Average, details: dict[str, Any]) -> tuple[Hops | None, str]:
    """Hops between basins, and which groups of chains disagree, "" if none do; what is known of both into `details`."""
    ends, starts, differ = sample.center + sample.ends, job.starts, ""
    if starts is None:
        seen = None if follows(plain, best) else hops(job.problem, ends, best.mean, best.cov)
    else:
        groups = np.concatenate([starts.of(part.h.shape[1]) for part in job.parts])
        details["rhat_groups"], differ = disagreement(plain.y, groups, plain.cov, plain.rounding, starts)
        seen = hops_between(job.problem, ends, groups, starts.states) if starts.attractors else None
    if seen is not None:
        details |= {
            "hops": seen.hops,
            "left": seen.left,
            "chains_followed": seen.chains,
            "exchange_time": float(seen.time * job.plan.length),
        }
    return seen, differ


def _verdict(seen: Hops | None, drift: bool, alike: bool, tau: float, apart: bool) -> tuple[Status, str]:
    """The status of a run, and why."""
    if seen is not None and not seen.weighed:
        share = (
            f"{seen.left:.1%} of the chains followed left the basin they started in ({seen.hops} hops between basins)"
        )
        if not seen.hops:
            return (
                Status.POORLY_MIXED,
                "a chain was seen outside the basin it started in, too rarely to weigh the basins",
            )
        if seen.away > 0.5 and not apart:
            return Status.LEFT_BASIN, f"{share} and {seen.away:.1%} were outside it at the end"
        return Status.POORLY_MIXED, f"{share}: too few, or too much of a drift, to weigh the basins"
    if tau > LONGEST:
        return Status.POORLY_MIXED, f"the relaxation time is beyond {LONGEST} steps"
    if drift:
        return Status.POORLY_MIXED, "the first and the second half of the run differ beyond their errors"
    if not alike:
        return Status.POORLY_MIXED, "the chains differ by more than their own fluctuations explain (R-hat)"
    return Status.OK, ""


def _failed(problem: Problem, status: Status, stamp: dict[str, Any], **details: Any) -> Stationary:
    result = failed(problem, METHOD, status, **details)
    return dataclasses.replace(result, provenance=Provenance(METHOD, problem.net.hash, **stamp))
