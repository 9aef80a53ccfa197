"""The loss curve from the closure's moments in time, and the error of its parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._outputs import Fine, Found, Outputs, Problem, Summary, between, interpolation_error, summary
from fpanalysis.moments.layers import Layers, layers, passes
from fpanalysis.moments.propagate import Moments, propagate
from fpanalysis.network import Network

Array = NDArray[np.float64]

MATTERS = 0.01  #: share of the loss that the error of one trial must reach to make its level untrusted


def predicted(net: Network, problem: Problem, within: tuple[float, float], trained: float) -> Found:
    """The curve and its error; a trial is untrusted where its law is far from a Gaussian and that matters."""
    counted, weight, sigma = problem.counted, problem.weight[problem.counted], problem.sigma
    S, B = len(sigma), weight.shape[1]
    bias, spread = np.empty((2, S, *weight.shape))
    dz, dv = np.empty_like(bias), np.empty_like(spread)
    open_ = np.zeros((S, B), bool)
    settled = passes(net, problem.inputs, counted)
    for k, level in enumerate(problem.levels):
        law: Moments | Layers
        found: tuple[Array, ...]
        if settled:
            law = layers(net, problem.inputs[0], level)
            found = law.output, law.output_variance, law.output_error, law.output_variance_error
        else:
            law = propagate(net, problem.inputs, level, problem.start)
            found = tuple(values[counted] for values in law.outputs)
        bias[k], spread[k], dz[k], dv[k] = found
        open_[k] = [not status.ok for status in law.status]
    bias -= problem.targets[counted]
    outputs = Outputs(bias, spread, weight)
    curve = summary(outputs, sigma, within, trained)
    # trials err with different signs; the bound takes them all as one
    bias_errors = np.einsum("stbo,tbo->sb", 2 * np.abs(bias) * dz + dz**2, weight)
    variance_errors = np.einsum("stbo,tbo->sb", dv, weight)
    untrusted = open_ & ~(bias_errors + variance_errors <= MATTERS * curve.loss[:, None])
    bias_error, variance_error = bias_errors.sum(axis=1), variance_errors.sum(axis=1)
    fine = between(outputs, sigma, within)
    error = Summary(
        bias_error + variance_error,
        bias_error,
        variance_error,
        _width(fine, fine.loss, np.interp(fine.sigma, sigma, bias_error + variance_error))
        + interpolation_error(outputs, sigma, within, curve.preferred),
        _width(fine, fine.bias2, np.interp(fine.sigma, sigma, bias_error)),
        np.nan,
        np.nan,
    )
    return Found(curve, error, fine, *outputs.parts(), untrusted)


def _width(fine: Fine, curve: Array, error: Array) -> float:
    """How far from the minimum of `curve` the minimum of anything within `error` of it can be."""
    possible = fine.sigma[curve - error <= (curve + error).min()]
    known = len(possible) and np.isfinite(error).all()
    return float(np.abs(possible - fine.sigma[curve.argmin()]).max(initial=0.0)) if known else np.nan
