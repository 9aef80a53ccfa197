"""The fixed points of a network at one input, with their stability and an audit of the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status

Array = NDArray[np.float64]

KINK = 1e-12  #: a pre-activation closer to a kink than this sits on it
KINKS = 5  #: neurons on a kink of which all combinations of sides are tried


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """Fixed points h* of `net` at input `u`, ordered by their distance from the origin.

    Attributes
    ----------
    h : (K, N), the fixed points.
    residual : (K,), max|F(h) - h| <= 1e-12 (1 + max|h|).
    status : OK, or NO_STABLE_FIXED_POINT.
    dry : whether the last rounds of the search found nothing new.
    """

    net: Network
    u: Array
    h: Array
    residual: Array
    dry: bool
    status: Status
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        return (
            f"FixedPoints({len(self)} found, {int(self.stable.sum())} stable, index sum {self.index_sum}, "
            f"completeness {self.completeness!r}; {self.status})"
        )

    @cached_property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """(K, N), of the step's Jacobian (1 - gamma) I + gamma dF/dh, largest modulus first."""
        values = np.linalg.eigvals(self.net.jacobian(self.h, self.u)).astype(complex)
        return np.take_along_axis(values, np.argsort(-np.abs(values), axis=-1), axis=-1)

    @cached_property
    def flow_eigenvalues(self) -> NDArray[np.complex128]:
        """(K, N), of the gamma -> 0 flow dh/dt = gamma/<gamma> (F(h) - h), time in units of the mean tau."""
        rate = np.broadcast_to(self.net.gamma, (self.net.N,)) / np.mean(self.net.gamma)
        slope = self.net.target_jacobian(self.h, self.u) - np.eye(self.net.N)
        values = np.linalg.eigvals(rate[:, None] * slope).astype(complex)
        return np.take_along_axis(values, np.argsort(-values.real, axis=-1), axis=-1)

    @property
    def n_unstable(self) -> NDArray[np.int_]:
        """(K,), unstable dimensions of the map: eigenvalues outside the unit circle (on a kink: of its left side)."""
        return np.sum(np.abs(self.eigenvalues) >= 1, axis=-1)

    @property
    def n_unstable_flow(self) -> NDArray[np.int_]:
        """(K,), unstable dimensions of the flow: eigenvalues with non-negative real part."""
        return np.sum(self.flow_eigenvalues.real >= 0, axis=-1)

    @cached_property
    def stable(self) -> NDArray[np.bool_]:
        """(K,), stable under the step map; at a kink of the activation, for every side of it."""
        return np.array([is_stable(self.net, h, self.u) for h in self.h], bool)

    @property
    def relaxation_time(self) -> Array:
        """(K,), -1 / log(spectral radius) in steps; infinite where not stable."""
        radius = np.abs(self.eigenvalues).max(axis=-1, initial=0.0)
        with np.errstate(divide="ignore"):
            return np.where(radius < 1, -1 / np.log(np.minimum(radius, 1)), np.inf)

    @cached_property
    def index_sum(self) -> int:
        """Sum of sign det(I - dF/dh). Over all fixed points of a bounded network, none singular, it is +1."""
        signs = np.linalg.slogdet(np.eye(self.net.N) - self.net.target_jacobian(self.h, self.u))[0]
        return round(float(np.sum(signs)))

    @property
    def completeness(self) -> str:
        """ "consistent": the audit holds and the search ran dry (this does not prove the list complete);
        "incomplete": the audit fails, points are missing; "unknown": the audit does not apply."""
        if not self.net.dissipative:
            return "unknown"
        if self.index_sum != 1:
            return "incomplete"
        return "consistent" if self.dry else "unknown"


def is_stable(net: Network, h: Array, u: Array) -> bool:
    """Whether the step map is stable at the fixed point `h` (N,).

    Where a neuron sits exactly on a kink of f the Jacobian differs from side to side, and a state that one side
    attracts another may repel: every combination of sides must be stable (of more than `KINKS` such neurons, all
    on one side, all on the other, and each alone on the other).
    """
    x = net.preactivation(h, u)
    left, right = net.activation.df(x - KINK), net.activation.df(x + KINK)
    kinked = np.flatnonzero(left != right) if not net.activation.smooth else np.empty(0, int)
    slope = net.activation.df(x)
    return all(_radius(net, np.where(side, right, slope)) < 1 for side in _sides(net.N, kinked))


def _sides(N: int, kinked: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Which neurons to take on the right of their kink."""
    few = len(kinked) <= KINKS
    chosen = product((False, True), repeat=len(kinked)) if few else ()
    for pattern in chosen if few else [np.zeros(len(kinked)), np.ones(len(kinked)), *np.eye(len(kinked))]:
        side = np.zeros(N, bool)
        side[kinked] = np.asarray(pattern, bool)
        yield side


def _radius(net: Network, slope: Array) -> float:
    """Spectral radius of the step's Jacobian with slopes D: (1 - gamma) I + gamma D W, or gamma W D."""
    gamma = np.broadcast_to(net.gamma, (net.N,))
    DW = slope[:, None] * net.W if net.form == "rate" else net.W * slope
    return float(np.abs(np.linalg.eigvals(np.diag(1 - gamma) + gamma[:, None] * DW)).max())
