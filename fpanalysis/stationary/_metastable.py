"""The law of a chain whose second eigenvalue is too near 1 for a null vector in float64: from nonnegative weights.

A null vector errs by about 1e-16 / gap. Where that is too much, `_positive` weighs the states without subtraction,
and this file makes a `Stationary` of its weights p on the states h:

    mean = sum_s p_s h_s,    cov = sum_s p_s (h_s - mean)(h_s - mean)^T,    P(h' in cell) = sum_s p_s P(cell | h_s)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fpanalysis.results import Status
from fpanalysis.stationary import _cells
from fpanalysis.stationary._chain_law import chain_law
from fpanalysis.stationary._positive import PositiveLaw, positive_law
from fpanalysis.stationary._result import Array, Problem, Stationary, failed
from fpanalysis.stationary._transition import Step


def metastable(problem: Problem, box: Array, separation: float) -> Stationary:
    """The law of `problem` (at most three neurons) within `box` (2, N); `separation` is how far from 1 the float64
    solve has found the second eigenvalue. METASTABLE, with what is known of each basin, where the weights do not
    converge either."""
    law = positive_law(problem, box)
    details: dict[str, Any] = {
        "null_vector": "subtraction-free",
        "separation": separation,
        "states": len(law.p),
        "box": np.asarray(box, float),
    }
    if law.reason:
        reason = (
            f"an eigenvalue lies {separation:.1e} from 1, too near for a null vector in float64 to be trusted; "
            f"without subtraction: {law.reason}"
        )
        if np.isfinite(law.mean).all():
            details["tentative_mean"] = law.mean
        refused = failed(problem, "chain", Status.METASTABLE, reason=reason, **details)
        basins = tuple(replace(basin, weight=np.nan, weight_error=np.nan) for basin in law.basins)
        return replace(refused, gap=law.gap, basins=basins or None)
    return _result(problem, law, details)


def _result(problem: Problem, law: PositiveLaw, details: dict[str, Any]) -> Stationary:
    step, d = Step(problem), law.states - law.mean
    rates = law.p @ problem.network.activation.f(law.states) if step.current else law.mean
    cov = (law.p[:, None] * d).T @ d
    return chain_law(
        problem,
        step,
        law.mean,
        cov,
        law.error,
        rates,
        details,
        densities=lambda: _cells.densities(_cells.after(step, law.states, law.p)),
        gap=law.gap,
        basins=law.basins,
    )
