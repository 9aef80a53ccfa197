"""Method "monte-carlo": the network itself, run for a long time in many chains.

The mean is the time average over chains in antithetic pairs, driven by (xi, -xi): every odd order in the
noise cancels from the mean of a pair exactly, also for strongly correlated steps. All problems of one call
see the same xi (common random numbers): curves in sigma are smooth, differences between conditions are more
accurate than the stated errors, and the errors of two results of one call are *not* independent.

The pairs are independent of each other, so the spread of their time averages gives the standard error
whatever the autocorrelation: with y_k the average of pair k, k = 1..B,

    mean = sum_k y_k / B,    standard_error^2 = sum_k (y_k - mean)^2 / (B (B - 1)),
    error = t_{0.975, B-1} standard_error + rounding + unseen

A neuron silent in nearly all pairs has too few events for this: its error is then a lower bound.
`rounding` bounds what float32 states can add (`_rounding`); where it is not small beside the sampling error
the problem is run again in float64. `unseen` is what events too rare for the run may add (`_unseen`).

Chains start at the problem's `start` and forget it for ten relaxation times. The law found is that of the
basins reached from there within the run, so the scope is always "local": that no other basin exists is not
something a run can show. A run whose chains disagree (split R-hat of batch means above 1.05; Gelman et al.,
Bayesian Data Analysis, 2013, section 11.4), whose first and second half differ beyond their errors, as when
some chains hop to another basin, or whose relaxation time is beyond `LONGEST` steps is "poorly mixed".
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary._relax import relaxation_time, still_growing
from fpanalysis.stationary._result import Problem, Stationary, failed, input_variance
from fpanalysis.system import System

Array = NDArray[np.float64]
T = TypeVar("T")

METHOD = "monte-carlo"
ANY_SYSTEM = True
BATCHES = 20  #: batch means kept per chain
BURN_IN, STEPS = 10, 80  #: relaxation times dropped, and averaged over
LONGEST = 1024  #: relaxation time (steps) above which a run is shorter than these multiples
FEWEST, MOST = 2000, 20_000  #: steps averaged over, whatever the relaxation time
STACK = 1 << 20  #: state numbers stepped at once by one thread, at most
SMALL = 16  #: neurons up to which double precision costs nothing
LARGE = 2e7  #: multiplications per step that are worth torch's own threads
RHAT_BOUND = 1.05
RETRIES = 2  #: times that a poorly mixed problem is run again, for a relaxation time four times as long
DRIFT_LEVEL = 1e-4  #: probability of calling a stationary run drifting


def solve(
    problems: Sequence[Problem],
    rng: int | np.random.Generator = 0,
    *,
    chains: int | None = None,
    steps: int | None = None,
    burn_in: int | None = None,
    precision: str | None = None,
) -> list[Stationary]:
    """Stationary laws by simulation, `problems` of one network stepped together, one stack per thread.

    Parameters
    ----------
    rng : the noise depends on this seed (or the state of this Generator), the number of chains and N only:
        not on the other problems of the call nor on the number of threads.
    chains : even; default 128 at N = 64, more for smaller networks.
    steps, burn_in : steps averaged over and dropped before, per chain; default 80 and 10 relaxation times
        within fixed bounds. With the default, problems run in groups of similar relaxation time, and what turns
        out poorly mixed is run again for one four times as long, twice at most.
    precision : "single" or "double" states; default single where its rounding is small beside the error.

    Returns
    -------
    One `Stationary` per problem; `details` holds standard_error (N,), effective_sample_size (variance of the
    state over squared standard error, smallest over neurons), rhat (largest over neurons), chains, steps,
    burn_in, relaxation_time (steps, that the run was planned for), antithetic_gain (median over neurons of the
    variance without pairing over that with it), rounding and precision.

    Raises
    ------
    InputError
        If a setting is out of range.
    """
    settings = _check(chains=chains, steps=steps, burn_in=burn_in, precision=precision)
    if precision == "single" and not all(isinstance(problem.net, Network) for problem in problems):
        raise InputError("precision must be 'double' for a system that is not a Network; found 'single'")
    seed = int(np.random.default_rng(rng).integers(2**63))
    stamp = {"settings": settings, "seed": int(rng) if isinstance(rng, int | np.integer) else None}
    results: dict[int, Stationary] = {}
    members = range(len(problems))
    double = [i for i in members if precision == "double" or (precision is None and _in_double(problems[i].net))]
    tau = dict(enumerate(_relaxation_times(problems)))

    def run(chosen: list[int], precision: str) -> None:
        stacks = _stacks(chosen, problems, tau, chains)
        found = _in_parallel(
            [partial(_run, stack, precision, seed, settings, stamp) for stack in stacks],
            work=max((stack.work for stack in stacks), default=0),
        )
        for stack, part in zip(stacks, found, strict=True):
            results.update(zip(stack.members, part, strict=True))

    run([i for i in members if i not in double], "single")
    if precision is None:
        double += [i for i in members if i not in double and _too_coarse(results[i])]
    run(double, "double")
    if steps is None and burn_in is None:
        for _ in range(RETRIES):  # noise made a mode slower than the estimate
            slow = [i for i in members if results[i].status is Status.POORLY_MIXED and 4 * tau[i] <= LONGEST]
            tau.update({i: 4 * tau[i] for i in slow})
            run([i for i in slow if i not in double], "single")
            run([i for i in slow if i in double], "double")
    return [results[i] for i in range(len(problems))]


def _check(**settings: Any) -> dict[str, Any]:
    for name in ("chains", "steps", "burn_in"):
        value = settings[name]
        if value is not None and not (isinstance(value, int | np.integer) and not isinstance(value, bool)):
            raise InputError(f"{name} must be a whole number; found {value!r}")
    chains, precision = settings["chains"], settings["precision"]
    if chains is not None and (chains < 8 or chains % 2):
        raise InputError(f"chains must be an even number >= 8, for antithetic pairs; found {chains}")
    if settings["steps"] is not None and settings["steps"] < BATCHES:
        raise InputError(f"steps must be at least {BATCHES}; found {settings['steps']}")
    if settings["burn_in"] is not None and settings["burn_in"] < 0:
        raise InputError(f"burn_in must be >= 0; found {settings['burn_in']}")
    if precision not in (None, "single", "double"):
        raise InputError(f"precision must be 'single' or 'double'; found {precision!r}")
    return settings


def _in_double(net: System) -> bool:
    """Small networks, for which it costs nothing, and systems that are not Networks, which know nothing else."""
    return net.N <= SMALL or not isinstance(net, Network)


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


@dataclass(frozen=True)
class _Stack:
    """Problems of one network and one relaxation time, small enough to run together; `members` are their
    positions in the call."""

    members: list[int]
    problems: list[Problem]
    tau: float
    chains: int

    @property
    def work(self) -> int:
        """Multiplications per step."""
        return len(self.members) * self.chains * self.problems[0].net.N ** 2


def _stacks(members: list[int], problems: Sequence[Problem], tau: dict[int, float], chains: int | None) -> list[_Stack]:
    """Split by network, relaxation time and kind of sigma, then into as many even parts as there are threads
    or the memory asks for."""
    import torch

    groups: dict[tuple[int, float, bool], list[int]] = defaultdict(list)
    for i in members:
        groups[id(problems[i].net), tau[i], np.ndim(problems[i].sigma) > 0].append(i)
    stacks = []
    for (_, time, _), group in groups.items():
        N = problems[group[0]].net.N
        count = chains or 2 * int(np.clip(4096 // N, 32, 1024))
        parts = max(torch.get_num_threads(), len(group) * count * N // STACK + 1)
        split = np.array_split(group, min(parts, len(group)))
        stacks += [_Stack(part.tolist(), [problems[i] for i in part], time, count) for part in split]
    return sorted(stacks, key=lambda stack: -stack.tau * stack.work)


def _in_parallel(tasks: Sequence[Callable[[], T]], work: float) -> list[T]:
    """Run `tasks` in as many threads as torch uses, each task with its share of torch's own threads.

    A thread of its own per stack needs no barrier within a step: 15 % faster than torch's own threads on two
    idle cores and many times faster on busy ones.
    """
    import torch

    threads = torch.get_num_threads()
    own = max(1, threads // max(1, len(tasks))) if work > LARGE else 1
    try:
        torch.set_num_threads(own)
        with ThreadPoolExecutor(threads) as pool:
            return [future.result() for future in [pool.submit(task) for task in tasks]]
    finally:
        torch.set_num_threads(threads)


def _too_coarse(result: Stationary) -> bool:
    """Whether rounding makes up more than half of the error of the least accurate neuron."""
    return bool(result.details.get("rounding", 0.0) > 0.5 * np.max(result.error))


def _run(stack: _Stack, precision: str, seed: int, settings: dict[str, Any], stamp: dict[str, Any]) -> list[Stationary]:
    import torch

    from fpanalysis.stationary._simulate import simulate

    net = stack.problems[0].net
    plan = _plan(net, stack.tau, settings)
    dtype = {"single": torch.float32, "double": torch.float64}[precision]
    samples = simulate(net, stack.problems, plan, stack.chains // 2, seed, dtype)
    common = {
        "chains": stack.chains,
        "steps": plan.steps,
        "burn_in": plan.burn_in,
        "relaxation_time": stack.tau,
        "precision": precision,
    }
    results = []
    for k, problem in enumerate(stack.problems):
        if samples.diverged[k]:
            results.append(_failed(problem, Status.DIVERGED, stamp, **common))
            continue
        rates = None if samples.rates is None else samples.rates[k]
        h = samples.h[k].numpy()
        results.append(_summary(problem, samples.center[k], h, rates, samples.cov[k], common, stamp))
    return results


def _plan(net: System, tau: float, settings: dict[str, Any]) -> Any:
    """A mean sample every half time constant of a neuron loses < 2 % of the information, a sample of the
    covariance every relaxation time costs little beside the steps in between."""
    from fpanalysis.stationary._simulate import Plan

    steps = settings["steps"] or int(np.clip(STEPS * tau, FEWEST, MOST))
    burn_in = settings["burn_in"]
    thin = max(1, round(0.5 / float(np.max(net.gamma))))
    length = -(-steps // (BATCHES * thin)) * thin
    return Plan(
        burn_in=int(BURN_IN * min(tau, LONGEST)) if burn_in is None else burn_in,
        batches=BATCHES,
        length=length,
        thin=thin,
        cov_thin=min(thin * max(1, round(tau / thin)), length),
    )


def _summary(
    problem: Problem,
    center: Array,
    h: NDArray[Any],
    rates: Array | None,
    cov: Array,
    common: dict[str, Any],
    stamp: dict[str, Any],
) -> Stationary:
    """The result of one problem from the batch means h (2, B, batches, N) of its chains about `center`."""
    net = problem.net
    pairs = h.mean(axis=0, dtype=np.float64)  # (B, batches, N)
    y = pairs.mean(axis=1)
    mean, se = center + y.mean(axis=0), _standard_error(y)
    z = net.readout(center + y if rates is None else rates)
    eps = {"single": 2.0**-24, "double": 2.0**-53}[common["precision"]]
    rounding = _rounding(net, problem.u, mean, common["relaxation_time"], eps)
    gain = 1.0 if net.W_out is None else np.linalg.norm(net.W_out, axis=1)
    t = _quantile(len(y), 0.975)
    drift = _drifts(pairs, rounding)
    if drift and not net.dissipative and still_growing(problem, center + pairs.mean(axis=0)):
        return _failed(problem, Status.DIVERGED, stamp, **common)
    unseen = _unseen(problem, cov, common["chains"] * common["steps"])
    rhat = _rhat(h.reshape(-1, *h.shape[2:]), rounding)
    mixed = not drift and rhat <= RHAT_BOUND and common["relaxation_time"] <= LONGEST
    return Stationary(
        mean=mean,
        cov=cov,
        error=t * se + rounding + (unseen if rates is None else np.abs(problem.network.W) @ unseen),
        output=z.mean(axis=0),
        output_error=t * _standard_error(z)
        + gain * (rounding + 2.0**-53 * np.linalg.norm(mean))
        + np.abs(net.readout_weights) @ unseen,
        status=Status.OK if mixed else Status.POORLY_MIXED,
        method=METHOD,
        scope="local",
        start=problem.start,
        provenance=Provenance(METHOD, net.hash, **stamp),
        details=_sample_sizes(h, cov, se, rounding) | {"rhat": rhat, "rounding": rounding} | common,
    )


def _sample_sizes(h: NDArray[Any], cov: Array, se: Array, rounding: float) -> dict[str, Any]:
    """Standard errors, what they are worth in independent states, and what the antithetic pairs gained."""
    chains = h.mean(axis=2, dtype=np.float64)
    alone = chains.var(axis=(0, 1)) / (2 * h.shape[1])
    return {
        "standard_error": se,
        "effective_sample_size": float(np.min(_over(np.diag(cov), se, rounding))),
        "antithetic_gain": float(np.median(_over(alone, se, rounding))),
    }


def _unseen(problem: Problem, cov: Array, draws: float) -> Array:
    """What events too rare to be seen in `draws` steps may add to the mean of f, (N,), at 95 %.

    A neuron far from a kink of f has the same f' in nearly every step; what happens on the other side of the kink, less
    often than 3 / draws (the rule of three), can change the mean by about that times s, the standard deviation
    of what enters f (of a system that is not a Network, the size of the state's fluctuations), and shows neither
    in the mean nor in its spread.
    """
    net = problem.net
    if net.smooth:
        return np.zeros(net.N)
    s2 = input_variance(problem, cov) if isinstance(net, Network) else np.full(net.N, np.trace(cov))
    return 3 / draws * np.sqrt(s2)


def _standard_error(y: Array) -> Array:
    return y.std(axis=0, ddof=1) / np.sqrt(len(y))


def _over(variance: Array, se: Array, rounding: float) -> Array:
    """variance / se^2 of the neurons that vary by more than rounding."""
    moving = variance > rounding**2
    with np.errstate(divide="ignore"):
        return variance[moving] / se[moving] ** 2 if moving.any() else np.array([np.inf])


def _quantile(pairs: int, level: float) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(pairs - 1, level))


def _rounding(net: System, u: Array, h: Array, tau: float, eps: float) -> float:
    """What rounding to relative precision `eps` can add to the mean.

    Each step rounds the weights, the products, the drive and the state: per neuron
    eps sqrt(sum_j (W_ij r_j)^2 + drive_i^2 + h_i^2) if these errors are independent (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 2.8), r the state or, in the current form, the rates;
    the recurrence passes on at most about gamma tau of them. Of a system that is not a Network the Jacobian
    stands for the weights, and F for the drive.
    """
    if isinstance(net, Network):
        rates = h if net.form == "rate" else net.activation.f(h)
        size = np.sqrt(net.W**2 @ rates**2 + net.drive(u) ** 2 + h**2).max()
    else:
        size = np.sqrt(net.target_jacobian(h, u) ** 2 @ h**2 + net.target(h, u) ** 2 + h**2).max()
    return float(eps * size * max(1.0, np.max(net.gamma) * tau))


def _rhat(h: NDArray[Any], rounding: float) -> float:
    """Split R-hat of the batch means h (chains, batches, N), of the neurons whose chains differ most.

    Not rank-normalised: the mean is what is wanted, and in the batch means of a neuron that is almost always
    silent nearly all ranks are ties, whose R-hat means nothing (2.4 where the split R-hat is 1.006).
    """
    from arviz_stats.base import array_stats

    between, within = h.mean(axis=1).var(axis=0), h.var(axis=1).mean(axis=0)
    moving = within > rounding**2
    if not moving.any():
        return 1.0
    ratio = np.where(moving, between / np.where(moving, within, 1.0), 0.0)
    worst = np.argsort(ratio)[-4:]
    worst = worst[moving[worst]]
    return float(np.max(array_stats.rhat(np.moveaxis(h[..., worst], -1, 0).astype(float), method="split")))


def _drifts(pairs: Array, rounding: float) -> bool:
    """Whether the first and second half of the run (B, batches, N) differ beyond their errors."""
    half = pairs.shape[1] // 2
    change = pairs[:, half:].mean(axis=1) - pairs[:, :half].mean(axis=1)
    t = _quantile(len(pairs), 1 - DRIFT_LEVEL / (2 * pairs.shape[-1]))
    return bool(np.any(np.abs(change.mean(axis=0)) > t * _standard_error(change) + 2 * rounding))


def _failed(problem: Problem, status: Status, stamp: dict[str, Any], **details: Any) -> Stationary:
    result = failed(problem, METHOD, status, **details)
    return dataclasses.replace(result, provenance=Provenance(METHOD, problem.net.hash, **stamp))
