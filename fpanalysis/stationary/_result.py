"""The question a stationary method gets and the answer it gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.newton import bound
from fpanalysis.fixed_points.search.seeds import ESCAPED
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Problem:
    """One stationary law to find: of the system `net` at constant input `u` (n_in,) and noise `sigma`, about the fixed
    point `start` (N,), from which the method starts. `stable` says whether `start` is a stable fixed point, `local`
    whether the law about it is wanted even where a method would find that of all basins."""

    net: System
    u: Array
    sigma: float | Array
    start: Array
    stable: bool = True
    local: bool = False

    @property
    def network(self) -> Network:
        """`net`, for methods that work with the weights of a Network."""
        if not isinstance(self.net, Network):
            raise TypeError(f"a Network is needed, not a {type(self.net).__name__}")
        return self.net


@dataclass(frozen=True, eq=False)
class Density:
    """The law of one or more coordinates on a grid, point masses kept apart.

    Attributes
    ----------
    names : what the axes are: "neuron 0", "output 1", "coordinate 0".
    grids : per axis k, ascending (n_k,).
    values : (n_1, ..., n_d), density of the part of the law that has one, >= 0, at the grid points.
    weights : per axis, (n_k,): sum(values * outer(weights)) + sum(atoms) is 1, up to the error of the method.
    error : standard error of `values` where they are estimates, else None.
    atoms : pairs (location (d,), probability).
    """

    names: tuple[str, ...]
    grids: tuple[Array, ...]
    values: Array
    weights: tuple[Array, ...]
    error: Array | None = None
    atoms: tuple[tuple[Array, float], ...] = ()

    def __repr__(self) -> str:
        axes = " x ".join(f"{name} ({len(grid)})" for name, grid in zip(self.names, self.grids, strict=True))
        masses = f", {len(self.atoms)} point mass(es)" if self.atoms else ""
        return f"Density({axes}, mass {self.mass:.6g}{masses})"

    @property
    def mass(self) -> float:
        """The probability that the grid and the point masses account for."""
        total = self.values
        for weights in reversed(self.weights):
            total = total @ weights
        return float(total) + sum(probability for _, probability in self.atoms)

    def marginal(self, *names: str) -> Density:
        """The law of the axes `names` alone, in this order; the point masses go with it.

        `error` is kept only where no axis is summed over: errors of neighbouring values are not independent.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown or not names or len(set(names)) < len(names):
            raise InputError(f"names must be axes of this density, {', '.join(self.names)}; found {', '.join(names)}")
        keep = [self.names.index(name) for name in names]
        values = self.values
        for k in reversed(range(len(self.names))):
            if k not in keep:
                values = np.tensordot(values, self.weights[k], axes=(k, 0))
        order = np.argsort(np.argsort(keep))
        whole = len(keep) == len(self.names)
        masses: dict[tuple[float, ...], float] = {}
        for location, probability in self.atoms:
            at = tuple(np.asarray(location, float)[keep].tolist())
            masses[at] = masses.get(at, 0.0) + probability
        return Density(
            names=names,
            grids=tuple(self.grids[k] for k in keep),
            values=values.transpose(order),
            weights=tuple(self.weights[k] for k in keep),
            error=self.error.transpose(order) if whole and self.error is not None else None,
            atoms=tuple((np.array(at), probability) for at, probability in masses.items()),
        )


Densities = tuple[Density | None, Mapping[str, Density]]


@dataclass(frozen=True, eq=False)
class Basin:
    """What the law puts into the basin of attraction of one stable fixed point of the noise-free dynamics.

    `weight` is the probability to be found there, `mean` (N,) and `cov` (N, N) are conditional on it; `error` (N,)
    and `weight_error` are absolute errors at 95 %, NaN where they are not known.
    """

    weight: float
    mean: Array
    cov: Array
    fixed_point: Array
    weight_error: float = float("nan")
    error: Array | None = None

    def __repr__(self) -> str:
        return f"Basin(weight={self.weight:.6g}, fixed_point={np.array2string(self.fixed_point, precision=4)})"


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
    densities : `density` and `marginals`, or what computes them when one of them is first asked for.
    gap : spectral gap of the step, 1 - |second eigenvalue|, where the method has it, else None.
    basins : one `Basin` per stable fixed point where the law is metastable or multistable and the method has their
        weights, else None.
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
    densities: Densities | Callable[[], Densities] = (None, {})
    gap: float | None = None
    basins: tuple[Basin, ...] | None = None

    @cached_property
    def _densities(self) -> Densities:
        return self.densities() if callable(self.densities) else self.densities

    @property
    def density(self) -> Density | None:
        """Of the state (one to three neurons) or of the coordinates the method works in; None where it has none."""
        return self._densities[0]

    @property
    def marginals(self) -> Mapping[str, Density]:
        """Densities of single neurons, outputs or coordinates by name, where the method has them."""
        return self._densities[1]

    @property
    def relaxation_time(self) -> float | None:
        """Steps in which the slowest correlation falls by e, -1 / log(1 - gap); None where the gap is not known."""
        if self.gap is None:
            return None
        return 0.0 if self.gap >= 1 else float(np.inf) if self.gap <= 0 else float(-1 / np.log1p(-self.gap))

    @property
    def reason(self) -> str:
        """Why the status is what it is, or why this method was chosen, in the method's own words; "" without any."""
        return str(self.details.get("reason", ""))

    def __repr__(self) -> str:
        error = f"error <= {np.max(self.error):.2g}" if np.isfinite(self.error).all() else "error unknown"
        more = "" if self.basins is None else f", {len(self.basins)} basins"
        reason = f" ({self.reason})" if self.reason else ""
        return (
            f"Stationary(method={self.method!r}, scope={self.scope!r}, N={len(self.mean)}, {error}{more}; "
            f"{self.status}{reason})"
        )


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
