"""From the sums of a Monte Carlo run to means with errors: plain averages, or controlled by the linear chain."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from fpanalysis.network import Network
from fpanalysis.stationary._linear_chain import LinearChain
from fpanalysis.stationary._mixing import rounding_bound, standard_error
from fpanalysis.stationary._result import Array, Problem
from fpanalysis.stationary._sample import Sample

RELIEF = 0.1  #: share of the rounding bound that remains where rounding enters to second order only
CLOSE = 30  #: gain in variance by the linear chain from which on it is taken to describe every pair
QUADRATURE = 2e-13  #: error of the known mean of the linear chain, relative to the largest state or one


@dataclass(frozen=True)
class Average:
    """Means of the B independent antithetic pairs of a run: y (B, N) of the state, z (B, n_out) of the output; and by
    batch, (B, batches, N). `control` says whether the linear chain is subtracted."""

    batches: Array
    z: Array
    cov: Array
    rounding: float
    control: bool

    @cached_property
    def y(self) -> Array:
        mean: Array = self.batches.mean(axis=1)
        return mean

    @property
    def mean(self) -> Array:
        mean: Array = self.y.mean(axis=0)
        return mean

    @cached_property
    def standard_error(self) -> Array:
        return standard_error(self.y)


def averages(problem: Problem, sample: Sample, linear: LinearChain | None, tau: float, eps: float) -> list[Average]:
    """The plain average, and after it, if there is one, the controlled one."""
    net = problem.net
    batches = sample.center + sample.h.mean(axis=0)
    z = net.readout(batches.mean(axis=1) if sample.rates is None else sample.rates)
    cov = sample.cov
    rounding = rounding_bound(net, problem.u, batches.mean(axis=(0, 1)), tau, eps)
    plain = Average(batches, z, cov, rounding, control=False)
    if linear is None or sample.D is None or sample.X is None or not isinstance(net, Network):
        return [plain]
    rates = linear.rates(sample.D, sample.X)
    states = rates if net.form == "rate" else rates @ net.W.T + linear.drive
    z = net.readout(rates.mean(axis=1))
    rounding = RELIEF * rounding + QUADRATURE * float(1 + np.abs(plain.mean).max())
    return [plain, Average(states, z, _covariance(sample, linear), rounding, control=True)]


def _covariance(sample: Sample, linear: LinearChain) -> Array:
    """The sample covariance less the error of the linear chain's; the plain one if that is not positive."""
    cov = sample.cov - (sample.moments[2] / sample.draws - linear.C)
    try:
        np.linalg.cholesky(cov + 1e-7 * np.abs(cov).max() * np.eye(len(cov)))
    except np.linalg.LinAlgError:
        return sample.cov
    return cov if (np.diag(cov) >= 0).all() else sample.cov


def better(plain: Average, *controlled: Average) -> Average:
    """The one with the smaller variance, over all neurons: both are unbiased."""
    for average in controlled:
        if np.sum(average.standard_error**2) < np.sum(plain.standard_error**2):
            return average
    return plain


def follows(plain: Average, chosen: Average) -> bool:
    """Whether the chains stayed so close to the linear one that none can have left the basin: one that leaves moves
    both averages of its pair alike, and then the control gains little."""
    return bool(np.sum(plain.standard_error**2) > CLOSE * np.sum(chosen.standard_error**2))


def sample_sizes(sample: Sample, plain: Average, chosen: Average) -> dict[str, Any]:
    """Standard errors, what they are worth in independent states, and what pairing and control gained."""
    chains = sample.h.mean(axis=2)
    alone = chains.var(axis=(0, 1)) / (2 * sample.h.shape[1])
    return {
        "standard_error": chosen.standard_error,
        "effective_sample_size": float(np.min(_over(np.diag(chosen.cov), chosen))),
        "antithetic_gain": float(np.median(_over(alone, plain))),
        "variance_reduction": float(np.median(_over(alone, chosen))),
    }


def _over(variance: Array, average: Average) -> Array:
    """variance / standard_error^2 of the neurons that vary by more than rounding."""
    moving = variance > average.rounding**2
    with np.errstate(divide="ignore", over="ignore"):
        return variance[moving] / average.standard_error[moving] ** 2 if moving.any() else np.array([np.inf])
