"""The question a stationary method gets and the answer it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.newton import bound
from fpanalysis.fixed_points.search.seeds import ESCAPED
from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Problem:
    """One stationary law to find: of the system `net` at constant input `u` (n_in,) and noise `sigma`, about the fixed
    point `start` (N,), from which the method starts. `stable` says whether `start` is a stable fixed point."""

    net: System
    u: Array
    sigma: float | Array
    start: Array
    stable: bool = True

    @property
    def network(self) -> Network:
        """`net`, for methods that work with the weights of a Network."""
        if not isinstance(self.net, Network):
            raise TypeError(f"a Network is needed, not a {type(self.net).__name__}")
        return self.net


@dataclass(frozen=True, eq=False)
class Stationary:
    """A stationary law of a noisy system, exact or approximate.

    Attributes
    ----------
    mean, cov : (N,) and (N, N), of the state.
    error : (N,), absolute error of the mean that covers the truth at 95 %.
    output, output_error : (n_out,), mean of the output z and its error in the same sense.
    scope : "global", or "local" about `start`.
    details : what the method has to say about its own work (sample sizes, iterations, ...).
    density, gap, basins : where the method has them, else None.
    """

    mean: Array
    cov: Array
    error: Array
    output: Array
    output_error: Array
    status: Status
    method: str
    scope: str
    start: Array
    provenance: Provenance
    details: Mapping[str, Any] = field(default_factory=dict)
    density: Any = None
    gap: float | None = None
    basins: tuple[Any, ...] | None = None

    def __repr__(self) -> str:
        error = f"error <= {np.max(self.error):.2g}" if np.isfinite(self.error).all() else "error unknown"
        return f"Stationary(method={self.method!r}, scope={self.scope!r}, N={len(self.mean)}, {error}; {self.status})"


def failed(problem: Problem, method: str, status: Status, **details: Any) -> Stationary:
    """A result that has no numbers: everything NaN, the status says why."""
    net = problem.net
    nan = np.full(net.N, np.nan)
    out = np.full(net.n_out, np.nan)
    return Stationary(
        mean=nan,
        cov=np.full((net.N, net.N), np.nan),
        error=nan,
        output=out,
        output_error=out,
        status=status,
        method=method,
        scope="local",
        start=problem.start,
        provenance=Provenance(method=method, model=net.hash),
        details=details,
    )


def unsettled(problem: Problem) -> Status:
    """Why there is no stable fixed point to start from: the noise-free dynamics escapes, or goes on moving."""
    return Status.NO_STABLE_FIXED_POINT if np.abs(problem.start).max() < ESCAPED else Status.DIVERGED


def point_mass(problem: Problem, method: str) -> Stationary:
    """The law without noise: all mass at `start`, if that is where the noise-free dynamics rests."""
    net, h = problem.net, problem.start
    gap = np.abs(net.target(h, problem.u) - h).max()
    if not gap <= bound(h[None])[0]:
        return failed(problem, method, unsettled(problem))
    rates = net.activation.f(h) if isinstance(net, Network) and net.form == "current" else h
    zero = np.zeros(net.N)
    return Stationary(
        mean=h,
        cov=np.zeros((net.N, net.N)),
        error=zero,
        output=net.readout(rates),
        output_error=np.zeros(net.n_out),
        status=Status.OK,
        method=method,
        scope="local",
        start=h,
        provenance=Provenance(method, net.hash, {"sigma": 0.0}),
        details={"point_mass": True, "rates": rates, "standard_error": zero},
    )


def input_variance(problem: Problem, C: Array) -> Array:
    """s_i^2, the variance of what enters f: diag(W C W^T), plus sigma^2 with noise in; diag C in the current form."""
    net = problem.network
    if net.form == "current":
        return np.maximum(np.diag(C), 0.0)
    s2 = np.maximum(np.einsum("ij,ij->i", net.W @ C, net.W), 0.0)
    return s2 + np.square(problem.sigma) if net.placement == "in" else s2
