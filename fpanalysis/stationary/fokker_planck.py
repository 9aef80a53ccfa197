"""Fokker-Planck: the stationary law of the step's diffusion approximation (see `_diffusion`), one to three neurons.

    0 = - sum_i d/dh_i (A_i p) + 1/2 sum_i d^2/dh_i^2 (B_i p)

One neuron: the zero-flux law p ~ 1/B exp(integral of 2 A / B) by quadrature in log space (`_zero_flux`), to rounding
for barriers of any height. Two and three: `_few_neurons`. The approximation itself is not exact at finite gamma:
`error` covers the truth, the exact chain, by comparison with it, else by an estimate of what the diffusion misses
(`_diffusion_error`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary import _few_neurons, _one_neuron
from fpanalysis.stationary._compare import compare as compared
from fpanalysis.stationary._compare import judged
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._diffusion_error import law_error
from fpanalysis.stationary._finite_volume import NoBox
from fpanalysis.stationary._gth import Reducible
from fpanalysis.stationary._result import Array, Basin, Densities, Problem, Stationary, failed
from fpanalysis.stationary._zero_flux import Frozen, NoLaw, Unresolved

METHOD = "fokker-planck"
LARGEST = 3  #: neurons
COMPARED = 2  #: neurons up to which the exact chain is solved as well, by default
SAFETY = 2.0  #: stated over estimated error of the approximation
UNSURE = 0.1  #: error of the weight of a basin beyond which the mean over all basins is not given
COARSE = 0.3  #: numerical error, in standard deviations, beyond which a grid is too coarse for the law


@dataclass(frozen=True)
class Solution:
    """A law of the diffusion; `numerical` (N,) bounds the error of its mean as a solution of the equation."""

    mean: Array
    cov: Array
    numerical: Array
    rates: Array  #: E f(h)
    densities: Densities | Callable[[], Densities]
    gap: float
    basins: tuple[Basin, ...] | None
    details: dict[str, Any]


def solve(problems: Sequence[Problem], rng: Any = 0, *, compare: bool | None = None) -> list[Stationary]:
    """The law of each problem; `rng` is not used: the method is deterministic.

    `compare` says whether the exact chain is solved as well, to say how far the approximation is from it; None: for
    one and two neurons. Raises `InputError` on any other value.
    """
    if compare is not None and not isinstance(compare, bool):
        raise InputError(f"compare must be True, False or None; found {compare!r}")
    return [_solve(problem, problem.net.N <= COMPARED if compare is None else compare) for problem in problems]


def _solve(problem: Problem, compare: bool) -> Stationary:
    N = problem.net.N
    if N > LARGEST:
        reason = (
            f"{METHOD} solves for at most {LARGEST} neurons, this network has {N}: use 'closure', 'reduced' or "
            "'monte-carlo'"
        )
        return failed(problem, METHOD, Status.NOT_APPLICABLE, reason=reason)
    silent = np.flatnonzero(np.broadcast_to(problem.sigma, (N,)) == 0)
    if len(silent):
        reason = f"neuron {silent[0]} has no noise of its own, so the diffusion is degenerate: use 'monte-carlo'"
        return failed(problem, METHOD, Status.NOT_APPLICABLE, reason=reason)
    try:
        solution = _of_one(problem) if N == 1 else _of_few(problem)
    except Frozen as narrow:
        solution = _gaussian(problem, narrow)
    except (NoLaw, NoBox) as error:
        reason = f"no stationary law was found: {error}"
        return failed(problem, METHOD, Status.DIVERGED, reason=reason)
    except Reducible as error:
        reason = f"the barriers between the basins are higher than the finest grid and float64 hold: {error}"
        return failed(problem, METHOD, Status.TOO_LARGE, reason=reason)
    except Unresolved as error:
        return failed(problem, METHOD, Status.NOT_CONVERGED, reason=str(error))
    result = _result(problem, solution)
    return judged(result, compared(problem, result)) if compare and result.status.ok else result


def _of_one(problem: Problem) -> Solution:
    law, stable = _one_neuron.solve_one(problem)
    mean, cov = np.array([law.mean]), np.array([[law.variance]])
    return Solution(
        mean=mean,
        cov=cov,
        numerical=law.residual * np.sqrt(cov[0]) + 4e-16 * np.abs(mean),
        rates=np.array([law.expectation(problem.network.activation.f(law.h[..., None])[..., 0])]),
        densities=partial(_one_neuron.densities, law),
        gap=_one_neuron.gap(law),
        basins=_one_neuron.basins(law, stable),
        details={
            "domain": np.array([law.domain]),
            "scheme": "quadrature",
            "resolution": len(law.h),
            "mass_error": law.residual,
        },
    )


def _gaussian(problem: Problem, narrow: Frozen) -> Solution:
    """The law about its only centre where it is too narrow for anything but the linearised dynamics."""
    mean, width = np.array([narrow.h]), np.array([narrow.width])
    rate = Diffusion.of(problem).along(mean)[2]
    return Solution(
        mean=mean,
        cov=width[:, None] ** 2,
        numerical=width**2 + 1e-3 * width + 4e-16 * np.abs(mean),
        rates=problem.network.activation.f(mean),
        densities=(None, {}),
        gap=float(-np.expm1(rate[0])),
        basins=None,
        details={
            "domain": np.array([mean + width * k for k in (-10, 10)]).T,
            "scheme": "linear",
            "resolution": 0,
            "mass_error": 0.0,
        },
    )


def _of_few(problem: Problem) -> Solution:
    found = _few_neurons.solve_few(problem)
    details = {
        "domain": found.box,
        "scheme": found.scheme,
        "resolution": found.resolution,
        "mass_error": found.cut,
        "cells_per_deviation": found.cells,
    }
    parts = (found.mean, found.cov, found.numerical, found.rates, found.densities, found.gap, found.basins)
    return Solution(*parts, details)


def _result(problem: Problem, solution: Solution) -> Stationary:
    net = problem.network
    missed, more = law_error(Diffusion.of(problem), solution.mean, solution.cov, solution.basins)
    error = solution.numerical + SAFETY * missed
    rate = net.form == "rate"
    slope = 1.0 if rate else np.abs(net.activation.df(solution.mean))
    result = Stationary(
        mean=solution.mean,
        cov=solution.cov,
        error=error,
        output=net.readout(solution.mean if rate else solution.rates),
        output_error=np.abs(net.readout_weights) @ (slope * error),
        status=Status.OK,
        method=METHOD,
        scope="global",
        start=problem.start,
        provenance=Provenance(METHOD, net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details={
            **solution.details,
            "numerical_error": solution.numerical,
            "approximation_estimate": missed,
            "variance_estimate": np.diag(more),
        },
        densities=solution.densities,
        gap=solution.gap if np.isfinite(solution.gap) else None,
        basins=solution.basins,
    )
    return _if_weighed(problem, _if_resolved(problem, result))


def _if_resolved(problem: Problem, result: Stationary) -> Stationary:
    """`result`, or `TOO_LARGE` where the finest grid is too coarse for the law: its numbers are tentative then."""
    if problem.net.N == 1:
        return result
    details = result.details
    parts = [(result.cov, details["numerical_error"])]
    if result.basins is not None:
        parts = [(basin.cov, basin.error) for basin in result.basins if basin.weight > COARSE]
    off = [np.max(error / np.sqrt(np.maximum(np.diag(cov), 1e-300))) for cov, error in parts]
    cells = details["cells_per_deviation"]
    if cells > 1 or not max(off) > COARSE:
        return result
    N, n = problem.net.N, details["resolution"]
    needed = int(np.ceil(2 * n / max(cells, 1e-9)))
    reason = (
        f"the law is too narrow for the grid: at least {needed}^{N} = {float(needed) ** N:.1e} cells would be needed, "
        f"at most {n}^{N} are solved; the tentative mean and covariance are in details"
    )
    return _withheld(result, Status.TOO_LARGE, reason)


def _if_weighed(problem: Problem, result: Stationary) -> Stationary:
    """`result`, or, where the weights of the basins are not resolved, only what holds in each."""
    if problem.net.N == 1 or result.basins is None or not result.status.ok:
        return result
    if max(basin.weight_error for basin in result.basins) <= UNSURE:
        return result
    size = "unknown" if result.gap is None else f"{result.gap:.1e}"
    reason = f"the weights of the basins do not converge on the grid (spectral gap {size}): they are not weighed"
    withheld = _withheld(result, Status.METASTABLE, reason)
    return replace(withheld, basins=tuple(replace(basin, weight=float("nan")) for basin in result.basins))


def _withheld(result: Stationary, status: Status, reason: str) -> Stationary:
    """`result` without its moments over all basins, which go into the details as tentative."""
    nan, out = np.full(result.mean.shape, np.nan), np.full(result.output.shape, np.nan)
    return replace(
        result,
        mean=nan,
        cov=np.full(result.cov.shape, np.nan),
        error=nan,
        output=out,
        output_error=out,
        status=status,
        densities=(None, {}),
        details={**result.details, "reason": reason, "tentative_mean": result.mean, "tentative_cov": result.cov},
    )
