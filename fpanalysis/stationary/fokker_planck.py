"""Fokker-Planck: the stationary law of the step's diffusion approximation (see `_diffusion`), one neuron.

    0 = - d/dh (A p) + 1/2 d^2/dh^2 (B p),     p ~ 1/B exp(integral of 2 A / B)

by quadrature in log space (`_zero_flux`), to rounding for barriers of any height. The approximation itself is not
exact at finite gamma: `error` covers the truth, the exact chain, by an estimate of what it misses
(`_diffusion_error`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._diffusion_error import approximation_error
from fpanalysis.stationary._one_neuron import basins, density, gap, solve_one
from fpanalysis.stationary._result import Array, Problem, Stationary, failed
from fpanalysis.stationary._zero_flux import Law, NoLaw, Unresolved

METHOD = "fokker-planck"
LARGEST = 1  #: neurons
SAFETY = 2.0  #: stated over estimated error of the approximation


def solve(problems: Sequence[Problem], rng: Any = 0) -> list[Stationary]:
    """The law of each problem; `rng` is not used: the method is deterministic."""
    return [_solve(problem) for problem in problems]


def _solve(problem: Problem) -> Stationary:
    N = problem.net.N
    if N > LARGEST:
        reason = (
            f"{METHOD} solves for at most {LARGEST} neuron(s), this network has {N}: use 'closure' or 'monte-carlo'"
        )
        return failed(problem, METHOD, Status.NOT_APPLICABLE, reason=reason)
    try:
        law, stable = solve_one(problem)
    except NoLaw as error:
        reason = f"no stationary law: {error} at infinity, so trajectories escape sooner or later"
        return failed(problem, METHOD, Status.DIVERGED, reason=reason)
    except Unresolved as error:
        return failed(problem, METHOD, Status.NOT_CONVERGED, reason=str(error))
    return _result(problem, law, stable)


def _result(problem: Problem, law: Law, stable: Array) -> Stationary:
    net = problem.network
    mean, cov = np.array([law.mean]), np.array([[law.variance]])
    numerical = law.residual * np.sqrt(cov[0]) + 4e-16 * np.abs(mean)
    missed, more = approximation_error(Diffusion.of(problem), mean, cov)
    error = numerical + SAFETY * missed
    rates = mean if net.form == "rate" else np.array([law.expectation(net.activation.f(law.h[..., None])[..., 0])])
    slope = 1.0 if net.form == "rate" else np.abs(net.activation.df(mean))
    law_density = density(law)
    return Stationary(
        mean=mean,
        cov=cov,
        error=error,
        output=net.readout(rates),
        output_error=np.abs(net.readout_weights) @ (slope * error),
        status=Status.OK,
        method=METHOD,
        scope="global",
        start=problem.start,
        provenance=Provenance(METHOD, net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details={
            "domain": law.domain,
            "panels": len(law.h),
            "mass_error": abs(law_density.mass - 1),
            "numerical_error": numerical,
            "approximation_estimate": missed,
            "variance_estimate": np.diag(more),
        },
        density=law_density,
        gap=gap(law),
        basins=basins(law, stable),
        marginals={"neuron 0": law_density},
    )
