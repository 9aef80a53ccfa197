"""The fixed points of a network at one input, with their stability and an audit of the list."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points import departures
from fpanalysis.fixed_points.certificate import Certificates, certify
from fpanalysis.fixed_points.cycles import LimitCycles, find_limit_cycles
from fpanalysis.fixed_points.kinks import slopes
from fpanalysis.fixed_points.proof import Proof
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

KINKS = 5  #: neurons on a kink of which all combinations of sides are tried


@dataclass(frozen=True, eq=False)
class FixedPoints:
    """Fixed points h* of `net` at input `u`, ordered by their distance from the origin.

    Attributes
    ----------
    h : (K, N), the fixed points.
    residual : (K,), max|F(h) - h| <= 1e-12 (1 + max|h|), unless the rounding of W h alone is more.
    index : (K,), sign det(I - dF/dh); 0 where that is singular to what Newton's iteration can resolve, or on a kink.
    dry : whether the last rounds of the search found nothing new and every regular point again; False where a
        finished proof made the search unnecessary.
    proof : what an exhaustive search established, if one was made.
    status : OK, or NO_STABLE_FIXED_POINT.
    """

    net: System
    u: Array
    h: Array
    residual: Array
    index: NDArray[np.int_]
    dry: bool
    proof: Proof | None
    status: Status
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        return (
            f"FixedPoints({len(self)} found, {int(self.stable.sum())} stable, {int(self.certified.sum())} certified, "
            f"index sum {self.index_sum}, completeness {self.completeness!r}; {self.status})"
        )

    @cached_property
    def _pull(self) -> NDArray[np.complex128]:
        """(K, N), eigenvalues mu of dF/dh; with one gamma for all neurons those of step and flow follow."""
        return np.linalg.eigvals(self.net.target_jacobian(self.h, self.u)).astype(complex)

    @cached_property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """(K, N), of the step's Jacobian (1 - gamma) I + gamma dF/dh, largest modulus first."""
        if np.ndim(self.net.gamma) == 0:
            values = 1 - self.net.gamma + self.net.gamma * self._pull
        else:
            values = np.linalg.eigvals(self.net.jacobian(self.h, self.u)).astype(complex)
        return np.take_along_axis(values, np.argsort(-np.abs(values), axis=-1, kind="stable"), axis=-1)

    @cached_property
    def flow_eigenvalues(self) -> NDArray[np.complex128]:
        """(K, N), of the gamma -> 0 flow dh/dt = gamma/<gamma> (F(h) - h), time in units of the mean tau."""
        if np.ndim(self.net.gamma) == 0:
            values = self._pull - 1
        else:
            rate = np.broadcast_to(self.net.gamma, (self.net.N,)) / np.mean(self.net.gamma)
            slope = self.net.target_jacobian(self.h, self.u) - np.eye(self.net.N)
            values = np.linalg.eigvals(rate[:, None] * slope).astype(complex)
        return np.take_along_axis(values, np.argsort(-values.real, axis=-1, kind="stable"), axis=-1)

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
    def kinked(self) -> NDArray[np.bool_]:
        """(K,), not stable only for another side of a kink, on which the point sits: its Jacobian, that of the left
        side, is stable."""
        least = 1 - 1e-9 * np.min(self.net.gamma)  # nearer to 1 it is rounding that decides
        return ~self.stable & (np.abs(self.eigenvalues).max(axis=-1, initial=0.0) < least)

    @property
    def time_constants(self) -> Array:
        """(K, N), -1 / log|eigenvalue| in steps, slowest first: positive where the mode decays, negative where it
        grows, infinite on the unit circle."""
        with np.errstate(divide="ignore"):
            return -1 / np.log(np.abs(self.eigenvalues))

    @property
    def relaxation_time(self) -> Array:
        """(K,), -1 / log(spectral radius) in steps; infinite where not stable."""
        radius = np.abs(self.eigenvalues).max(axis=-1, initial=0.0)
        with np.errstate(divide="ignore"):
            return np.where(radius < 1, -1 / np.log(np.minimum(radius, 1)), np.inf)

    def unstable_directions(self, k: int) -> Array:
        """(n_unstable[k], N), orthonormal directions in which the map leaves point `k`, the fastest first."""
        if not isinstance(k, int | np.integer) or not -len(self) <= k < len(self):
            raise InputError(f"k must be the number of one of the {len(self)} points; found {k!r}")
        values, vectors = np.linalg.eig(self.net.jacobian(self.h[k], self.u))
        columns: list[Array] = []
        for i in np.argsort(-np.abs(values), kind="stable"):
            if np.abs(values[i]) >= 1 and values[i].imag >= 0:  # one of each complex pair, which spans a plane
                columns += [vectors[:, i].real, vectors[:, i].imag][: 2 if values[i].imag > 0 else 1]
        if not columns:
            return np.empty((0, self.net.N))
        return np.asarray(np.linalg.qr(np.stack(columns, axis=1))[0].T, np.float64)

    def trajectories(self, count: int = 100, steps: int | None = None, rng: int | Generator = 0) -> Array:
        """(T, M, N), M <= `count` noise-free trajectories from beside the saddles, on both sides along each unstable
        direction, and (a fifth of them) from random states; for :func:`fpanalysis.figures.plot_fixed_points`.

        They last `steps` steps, T = steps + 1; None: until all have all but come to rest, at most ten of the slowest
        time constants and 1000 steps. States are NaN once they are ten times as large as the fixed points.

        Raises
        ------
        InputError
            If `count` or `steps` is not a positive whole number.
        """
        for name, value in (("count", count), ("steps", steps)):
            if not (isinstance(value, int | np.integer) and value > 0) and (name, value) != ("steps", None):
                raise InputError(f"{name} must be a positive whole number; found {value!r}")
        return departures.sample(self, int(count), None if steps is None else int(steps), check_rng(rng))

    @cached_property
    def cycles(self) -> LimitCycles:
        """Where trajectories go that end on none of the points, from random states and from the unstable points:
        simulated when first asked for (see :func:`fpanalysis.find_limit_cycles`)."""
        return find_limit_cycles(self.net, self.u, self)

    @cached_property
    def certificates(self) -> Certificates:
        """Existence and uniqueness near each point: see :mod:`fpanalysis.fixed_points.certificate`."""
        return certify(self.net, self.h, self.u)

    @property
    def certified(self) -> NDArray[np.bool_]:
        """(K,), whether a fixed point is proven to exist near `h`, and to be the only one within `radius`."""
        return self.certificates.certified

    @property
    def radius(self) -> Array:
        """(K,), of the ball max|h' - h| <= radius proven to hold exactly one fixed point; NaN if not certified."""
        return self.certificates.radius

    @property
    def error(self) -> Array:
        """(K,), distance max|h* - h| within which that fixed point is proven to lie; NaN if not certified."""
        return self.certificates.error

    @property
    def singular(self) -> NDArray[np.bool_]:
        """(K,), where I - dF/dh is singular to what Newton's iteration can resolve (a singular value below 1e-5, and no
        certificate), or does not exist: points of a line attractor, at a bifurcation, very slow, or on a kink."""
        return self.index == 0

    @property
    def index_sum(self) -> int:
        """Sum of sign det(I - dF/dh). Over all fixed points of a bounded network, none singular, it is +1."""
        return int(self.index.sum())

    @property
    def box(self) -> Array | None:
        """(2, N), lower and upper corner of the region in which the list is proven complete; else None."""
        return self.proof.box if self.proof is not None and self.proof.complete else None

    @property
    def completeness(self) -> str:
        """ "proven": an exhaustive search decided every part of `box`; "consistent": the audit holds and the search
        ran dry (which proves nothing); "incomplete": the audit fails, or a proof encloses more points, so that some
        are missing; "unknown": the audit does not apply (an unbounded network, a singular point), or the search
        stopped before it ran dry."""
        if self.box is not None:
            return "proven"
        if self.proof is not None and len(self.proof.h) > len(self):
            return "incomplete"
        if not self.net.dissipative or self.singular.any():
            return "unknown"
        if self.index_sum != 1:
            return "incomplete"
        return "consistent" if self.dry else "unknown"


def is_stable(net: System, h: Array, u: Array) -> bool:
    """Whether the step map is stable at the fixed point `h` (N,).

    Where a neuron sits exactly on a kink of f the Jacobian differs from side to side, and a state that one side
    attracts another may repel: every combination of sides must be stable (of more than `KINKS` such neurons, all
    on one side, all on the other, and each alone on the other).
    """
    if not isinstance(net, Network | LipschitzRNN) or net.activation.smooth:
        return _spectral_radius(net.jacobian(h, u)) < 1
    left, right = (slope[0] for slope in slopes(net, h[None], u))
    sides = _sides(net.N, np.flatnonzero(left != right))
    return all(_spectral_radius(_jacobian(net, np.where(side, right, left))) < 1 for side in sides)


def _sides(N: int, kinked: NDArray[np.intp]) -> Iterator[NDArray[np.bool_]]:
    """Which neurons to take on the right of their kink."""
    few = len(kinked) <= KINKS
    chosen = product((False, True), repeat=len(kinked)) if few else ()
    for pattern in chosen if few else [np.zeros(len(kinked)), np.ones(len(kinked)), *np.eye(len(kinked))]:
        side = np.zeros(N, bool)
        side[kinked] = np.asarray(pattern, bool)
        yield side


def _jacobian(net: Network | LipschitzRNN, slope: Array) -> Array:
    """The step's Jacobian with slopes D: (1 - gamma) I + gamma D W, or gamma W D; or I + gamma (A + D W)."""
    gamma = np.broadcast_to(net.gamma, (net.N,))
    if isinstance(net, LipschitzRNN):
        return np.eye(net.N) + gamma[:, None] * (net.A + slope[:, None] * net.W)
    DW = slope[:, None] * net.W if net.form == "rate" else net.W * slope
    return np.diag(1 - gamma) + gamma[:, None] * DW


def _spectral_radius(J: Array) -> float:
    return float(np.abs(np.linalg.eigvals(J)).max())
