"""The output's shift by noise, split exactly into the shares of the neurons: the secant identity.

At one input, with m, a = W m + W_in u + b the noisy mean and h*, a* the fixed point (rate form),

    beta_i = E f(x_i) - f(a_i),     Ds_i = (f(a_i) - f(a*_i)) / (a_i - a*_i)
    m - h* = (I - Ds W)^{-1} beta,     z - z* = W_out (m - h*) = sum_i c_i,     c_i = [W_out (I - Ds W)^{-1}]_i beta_i

are identities, not linearisations. In the current form z - z* is the same sum, with a and a* the states themselves.
Of each contribution c_i one part is direct, beta(a_i, s_i) at s_i = the neuron's own noise alone (`own_noise`), and
the rest recurrent: what the noise of the others adds through W C W^T, and what the law's skewness adds to both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.bias._laws import Array, Law, own_noise, solve_laws
from fpanalysis.bias.operating import OperatingPoints, points_of
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary import Stationary
from fpanalysis.stationary._result import unsettled

EXACT = 1e-9  #: of the total, within which the shares sum to it
FLOOR = 1e-13  #: of 1 + |M|, to which a law's mean is solved: E f and M(a, s) that are closer are the same
ROUNDING = 1e-12  #: of the rates that the outputs are made of: where a total is that small, it is rounding


@dataclass(frozen=True, eq=False)
class Attribution:
    """The output's shift by noise at one input, split exactly into the neurons' contributions.

    Attributes
    ----------
    beta : (N,), E f - f(a): each neuron's local bias at its noisy operating point.
    a : (N,), mean of what enters f.
    contributions : (n_out, N), each neuron's share of `total`; `direct` + `recurrent`.
    direct : (n_out, N), what of it the neuron's own noise makes: 0 with noise out.
    recurrent : (n_out, N), what the noise of the network adds.
    leverage : (n_out, N), W_out (I - Ds W)^{-1}: what a unit of a neuron's bias puts on the output.
    total : (n_out,), the output at the stationary mean minus the output at h*. When the noise is removed the
        output is off by -total.
    error : (n_out,), absolute error of `total` at 95 %, that of the stationary mean.
    residual : max |total - sum of the contributions|: rounding.
    """

    beta: Array
    a: Array
    contributions: Array
    direct: Array
    recurrent: Array
    leverage: Array
    total: Array
    error: Array
    residual: float
    status: Status
    stationary: Stationary
    reason: str = ""


@dataclass(frozen=True, eq=False)
class NetworkBias:
    """The bias of a network over its conditions: operating points, attributions, and the neurons' shares.

    Attributes
    ----------
    points : where the neurons work.
    attributions : one per condition.
    total : (n_cond, n_out), the output's shift by noise; when the noise is removed the output is off by -total.
    shares : (N,), share_i = sum_c total_c . contribution_ci / sum_c |total_c|^2 over the conditions c that have an
        attribution. They sum to 1; a negative one works against the rest. All 0 where nothing is shifted.
    direct, recurrent : (N,), the two parts of `shares`.
    """

    points: OperatingPoints
    attributions: tuple[Attribution, ...]
    total: Array
    shares: Array
    direct: Array
    recurrent: Array
    provenance: Provenance

    def __repr__(self) -> str:
        return (
            f"NetworkBias({len(self.attributions)} condition(s), {len(self.shares)} neuron(s), rms {self.rms:.3g}, "
            f"direct {self.direct.sum():.0%}; {self.status.value})"
        )

    @property
    def statuses(self) -> tuple[Status, ...]:
        return tuple(part.status for part in self.attributions)

    @property
    def status(self) -> Status:
        """Ok, or that of the first condition that is not."""
        return next((status for status in self.statuses if not status.ok), Status.OK)

    @cached_property
    def rms(self) -> float:
        """Root mean square of the outputs' bias over the conditions that have one."""
        known = self.total[np.isfinite(self.total).all(axis=1)]
        return float(np.sqrt(np.mean(known**2))) if known.size else float("nan")

    @cached_property
    def contributions(self) -> Array:
        """(n_cond, n_out, N)"""
        return np.array([part.contributions for part in self.attributions])

    @cached_property
    def mean_contributions(self) -> Array:
        """(n_out, N), mean over the conditions that have an attribution."""
        known = [part.contributions for part in self.attributions if part.status.ok]
        return np.mean(known, axis=0) if known else np.full(self.contributions.shape[1:], np.nan)

    @cached_property
    def along(self) -> Array:
        """(n_cond, N), the contributions along the shift, total_c . contribution_ci / |total_c|; they sum to |total_c|.

        NaN where a condition has no attribution, 0 where nothing is shifted.
        """
        size = np.linalg.norm(self.total, axis=1)[:, None]
        dot = np.einsum("ck,cki->ci", self.total, self.contributions)
        return np.where(size == 0, 0.0, dot / np.where(size == 0, 1.0, size))

    @cached_property
    def order(self) -> NDArray[np.intp]:
        """(N,), the neurons by falling size of their share."""
        return np.argsort(-np.abs(self.shares), kind="stable")

    @cached_property
    def cancellation(self) -> float:
        """sum_i |share_i|: 1 where no neuron works against the rest, above it the more of their shares cancel."""
        return float(np.abs(self.shares).sum())

    def carriers(self, level: float = 0.9) -> NDArray[np.intp]:
        """The fewest neurons whose shares make up `level` of all shares, by size; none where nothing is shifted."""
        if not (isinstance(level, int | float | np.number) and 0 < level <= 1):
            raise InputError(f"level must be a share, in (0, 1]; found {level!r}")
        sizes = np.cumsum(np.abs(self.shares[self.order]))
        return self.order[: int((sizes >= level * sizes[-1]).argmax()) + 1] if sizes[-1] > 0 else self.order[:0]


def attribute_bias(
    net: Network,
    u: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    method: str = "closure",
    start: ArrayLike | None = None,
) -> Attribution:
    """Exact attribution of the noise-induced output shift at the constant input `u` (None: zero) and noise `sigma`.

    The stationary mean is that of `method`: the closure, its correction included, or in the rate form another, such
    as the exact "chain" of up to three neurons. The fixed point is the one reached from `start` (None: 0).

    Raises
    ------
    InputError
        If `u`, `sigma`, `method` or `start` does not fit the network.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network, whose shift is attributed to neurons; found {net!r}")
    (law,) = solve_laws(net, net.check_condition(u), sigma, method, start)
    return _attribution(law)


def network_bias(
    net: Network,
    u: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    method: str = "closure",
    start: ArrayLike | None = None,
) -> NetworkBias:
    """Operating points and attributions at all conditions, from one solve; arguments as `operating_points`.

    A condition without a law has its status, and the others are answered.

    Raises
    ------
    InputError
        On values that do not fit the network, or an unknown method.
    """
    laws = solve_laws(net, u, sigma, method, start)
    parts = tuple(map(_attribution, laws))
    total = np.array([part.total for part in parts])
    known = [part for part in parts if part.status.ok]
    sums = [part.contributions.sum(axis=1) for part in known]  # the total, and in weak noise free of its rounding
    weight = sum(float(z @ z) for z in sums) or 1.0
    direct, recurrent = np.zeros(net.N), np.zeros(net.N)
    for part, z in zip(known, sums, strict=True):
        direct += z @ part.direct / weight
        recurrent += z @ part.recurrent / weight
    points = points_of(net, laws)
    provenance = Provenance(method, net.hash, {"sigma": points.sigma.tolist()})
    return NetworkBias(points, parts, total, direct + recurrent, direct, recurrent, provenance)


def _attribution(law: Law) -> Attribution:
    net, st = law.problem.network, law.stationary
    W_out = net.readout_weights
    f = net.activation
    beta, total = _local_bias(law), W_out @ (law.rates - law.rates_star)
    nothing = np.full(W_out.shape, np.nan)
    without = Attribution(
        beta, law.a, nothing, nothing, nothing, nothing, total, st.output_error, np.nan, st.status, st, st.reason
    )
    if not law.problem.stable and st.status.ok:
        reason = "there is no stable fixed point to measure the shift from"
        return replace(without, total=total * np.nan, status=unsettled(law.problem), reason=reason)
    if not np.isfinite(beta).all():
        return without
    try:
        leverage = np.linalg.solve((np.eye(net.N) - secant_slopes(law)[:, None] * net.W).T, W_out.T).T
    except np.linalg.LinAlgError:
        return replace(without, status=Status.NOT_CONVERGED, reason=NEUTRAL)
    contributions, direct = leverage * beta, leverage * f.beta(law.a, own_noise(net, law.problem.sigma))
    residual = float(np.abs(total - contributions.sum(axis=1)).max())
    scale = float((np.abs(W_out) @ (np.abs(law.rates) + np.abs(law.rates_star))).max())
    dropped = FLOOR * float((np.abs(leverage) @ (1 + np.abs(law.rates))).max())
    if not residual <= EXACT * float(np.abs(total).max()) + ROUNDING * scale + dropped:
        return replace(without, residual=residual, status=Status.NOT_CONVERGED, reason=NEUTRAL)
    return replace(
        without,
        contributions=contributions,
        direct=direct,
        recurrent=contributions - direct,
        leverage=np.asarray(leverage),
        residual=residual,
    )


NEUTRAL = "the dynamics between fixed point and noisy mean is neutral (I - Ds W is singular): the shares are not unique"


def _local_bias(law: Law) -> Array:
    """E f - f(a) (N,), as beta(a, s) + (E f - M(a, s)): in weak noise E f and f(a) agree to rounding, beta is small."""
    gaussian = law.problem.network.activation.moments(law.a, law.s)
    rest = law.rates - gaussian.M
    return gaussian.beta + np.where(np.abs(rest) <= FLOOR * (1 + np.abs(gaussian.M)), 0.0, rest)


def secant_slopes(law: Law) -> Array:
    """Ds (N,), f' where noisy mean and fixed point coincide: a silent neuron has the slope 0, and no NaN."""
    f, same = law.problem.network.activation, np.abs(law.gap) <= 1e-300
    return np.where(same, f.df(law.a_star), f.difference(law.a_star, law.gap) / np.where(same, 1.0, law.gap))
