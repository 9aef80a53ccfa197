"""What method "chain" returns, whichever way the law was found."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._result import Array, Problem, Stationary
from fpanalysis.stationary._transition import Step


def chain_law(
    problem: Problem,
    step: Step,
    mean: Array,
    cov: Array,
    error: Array,
    rates: Array,
    details: dict[str, Any],
    **more: Any,
) -> Stationary:
    """The law of all basins with `mean` and `error` (N,), `cov` (N, N) of the state, and mean `rates` (N,)."""
    net = problem.network
    slope = step.slope if step.current else 1.0  # of f, by which an error of the state becomes one of the rates
    return Stationary(
        mean=mean,
        cov=cov,
        error=error,
        output=net.readout(rates),
        output_error=slope * np.abs(net.readout_weights) @ error,
        status=Status.OK,
        method="chain",
        scope="global",
        start=problem.start,
        provenance=Provenance("chain", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details=details | {"rates": rates},
        **more,
    )
