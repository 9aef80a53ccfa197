"""Proofs that the step contracts: norms in which it brings any two states closer, whatever the noise inside f.

The Jacobian of the step is, at any state, input and noise,

    J = I - Gamma + Gamma D W  (rate form),    I - Gamma + Gamma W D  (current form),    D = diag d, lo <= d <= hi

or I + Gamma (A + D W) (`LipschitzRNN`), with [lo, hi] the range of f'. A certificate is a diagonal T > 0 and a norm p
with ||T J T^-1||_p <= rate for *all* such D: then |T (h - h')|_p falls by the factor rate at each step for any two
trajectories under the same input and the same noise (inside f or outside), and no Lyapunov exponent exceeds log rate.
The inequality holds in exact arithmetic: `rounding`, a bound on what floating point can have lost, is part of the rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stability._scaled import Family, infinity_norm, one_norm, two_norm
from fpanalysis.stationary.closure import SMALL
from fpanalysis.system import System

Array = NDArray[np.float64]

REGIONS = ("everywhere", "box")


@dataclass(frozen=True, eq=False)
class Certificate:
    """A norm |T e|_p in which one step changes the difference e of two states by at most the factor `rate`."""

    norm: str  #: p: "infinity", "1" or "2"
    rate: float  #: per step, `rounding` included
    weights: Array  #: (N,), the diagonal of T
    rounding: float

    @property
    def holds(self) -> bool:
        return self.rate < 1

    @property
    def margin(self) -> float:
        """1 - rate: by how much it holds, or, negative, by how much it fails."""
        return 1 - self.rate

    @property
    def exponent(self) -> float:
        """log rate: no Lyapunov exponent (per step) exceeds it."""
        return log(self.rate) if self.rate > 0 else -inf


@dataclass(frozen=True, eq=False)
class Contraction:
    """The best certificate found in each norm, and the slopes of f that they allow for.

    They hold for any states, inputs and noise (`region` "everywhere"), or without noise within `box` (2, N), which the
    step does not leave. Status "not applicable": the range of f' or the box is not known, there are no certificates.
    """

    certificates: tuple[Certificate, ...]
    slopes: Array | None  #: (2, N), lowest and highest f'
    region: str
    box: Array | None
    status: Status
    provenance: Provenance

    @property
    def best(self) -> Certificate | None:
        """The one of the smallest rate."""
        return min(self.certificates, key=lambda c: c.rate, default=None)

    @property
    def holds(self) -> bool:
        return self.best is not None and self.best.holds


def contraction_certificates(net: System, u: ArrayLike | None = None, region: str = "everywhere") -> Contraction:
    """Look for a weighted infinity-, 1- and 2-norm in which the step of `net` contracts.

    Infinity and 1: the weights are Perron vectors of a comparison matrix, the best there are. 2: T and one parameter
    per neuron are optimised (see `fpanalysis.stability._scaled`); a better T can exist. Noise outside f, and none,
    leave the range of slopes as it is, and so does noise inside f, whose certificates hold for every xi. Multiplicative
    noise, also that of a `LipschitzRNN`, is not covered: it stretches differences without bound (`exponent_bounds`).

    Parameters
    ----------
    u : one held input (n_in,), which the box depends on; not needed "everywhere".
    region : "everywhere", or "box": only within `net.trapping_box(u)`, without noise, where f may be less steep.

    Raises
    ------
    InputError
        On another region, or an input that does not fit.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network, or another system; found {type(net).__name__}")
    if region not in REGIONS:
        raise InputError(f"region must be 'everywhere' or 'box'; found {region!r}")
    u = net.check_condition(u)
    provenance = Provenance("contraction", net.hash, {"region": region})
    box = net.trapping_box(u) if region == "box" else None
    known = region != "box" or box is not None
    slopes = _slopes(net, u, box) if isinstance(net, Network | LipschitzRNN) and known else None
    if slopes is None or not isinstance(net, Network | LipschitzRNN) or not np.isfinite(slopes).all():
        return Contraction((), None, region, box, Status.NOT_APPLICABLE, provenance)
    family = _family(net, slopes)
    with (
        threadpool_limits(1 if net.N <= SMALL else None, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        found = {"infinity": infinity_norm(family), "1": one_norm(family), "2": two_norm(family)}
    if _current(net):  # J is the transpose of the family's matrices: ||T J T^-1||_p = ||T^-1 J' T||_q
        swapped = {"infinity": "1", "1": "infinity", "2": "2"}
        found = {name: found[other]._replace(T=1 / found[other].T) for name, other in swapped.items()}
    certificates = tuple(Certificate(name, b.rate, b.T, b.rounding) for name, b in found.items())
    return Contraction(certificates, slopes, region, box, Status.OK, provenance)


def _current(net: Network | LipschitzRNN) -> bool:
    return isinstance(net, Network) and net.form == "current"


def _family(net: Network | LipschitzRNN, slopes: Array) -> Family:
    """The Jacobians of the step, or, in the current form, their transposes."""
    gamma = np.broadcast_to(net.gamma, (net.N,))
    X = net.W.T * gamma if _current(net) else gamma[:, None] * net.W
    if isinstance(net, Network):
        kept = np.diag(1 - gamma)
        return Family(kept, kept, X, *slopes)
    linear = gamma[:, None] * net.A
    return Family(np.eye(net.N) + linear, np.eye(net.N) + np.abs(linear), X, *slopes)


def _slopes(net: Network | LipschitzRNN, u: Array, box: Array | None) -> Array | None:
    """Lowest and highest f' (2, N) of each neuron, over all x or those that the box allows; None if not known."""
    f = net.activation
    if f.slope_peak is None:
        return None
    if box is None:
        low, high = np.full(net.N, -inf), np.full(net.N, inf)
    elif _current(net):
        low, high = box
    else:
        middle, radius = box.mean(axis=0), (box[1] - box[0]) / 2
        eps = (net.N + net.n_in + 8) * np.finfo(float).eps
        reach = np.abs(net.W) @ (radius * (1 + eps) + eps * np.abs(middle))
        reach += eps * (np.abs(net.W) @ np.abs(box).max(axis=0) + np.abs(net.drive(u)) + np.abs(net.b))
        x = net.preactivation(middle, u)
        low, high = x - reach, x + reach
    ranges = f.ranges(low, high)
    return np.stack([ranges.df_lo, ranges.df_hi])
