"""Where the neurons of a network sit on the curves of asymmetric attenuation, at each of its conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fpanalysis._grouped import groups
from fpanalysis.bias._laws import Array, Law, own_noise, solve_laws
from fpanalysis.bias.curves import Attenuation, attenuation, attenuation_curve, noise_gain
from fpanalysis.network import Network
from fpanalysis.results import Status


@dataclass(frozen=True, eq=False)
class OperatingPoints:
    """Operating points of N neurons at n_cond inputs; arrays (n_cond, N) unless said otherwise, NaN without a law.

    Attributes
    ----------
    inputs : (n_cond, n_in).
    sigma : (N,), the noise of each neuron.
    own : (N,), the part of it that enters f: sigma with noise in, 0 with noise out, sigma filtered by the leak,
        sqrt(gamma / (2 - gamma)) sigma, in the current form.
    a, s : mean and standard deviation of what enters f, the noise of the other neurons included.
    beta, up, down, V : `attenuation` there, of a Gaussian input.
    gain : V(a, sigma) / sigma^2, the share of its own noise's variance that a neuron lets through, or, with noise
        out, would let through. In the current form with `own` for sigma.
    weights : (N,), the neurons' weights in averages, sum over outputs of |W_out|; in a closed loop that of how far they
        move the point in a step.
    statuses : one per condition.
    """

    net: Network
    inputs: Array
    sigma: Array
    own: Array
    a: Array
    s: Array
    beta: Array
    up: Array
    down: Array
    V: Array
    gain: Array
    weights: Array
    statuses: tuple[Status, ...]

    def __repr__(self) -> str:
        return (
            f"OperatingPoints({len(self.inputs)} condition(s), {self.net.N} neuron(s), "
            f"mean noise gain {self.mean_gain:.3g}; {self.status.value})"
        )

    @property
    def status(self) -> Status:
        """Ok, or that of the first condition that is not."""
        return next((status for status in self.statuses if not status.ok), Status.OK)

    @cached_property
    def weighted_gain(self) -> Array:
        """(n_cond,), mean of `gain` over neurons, weighted by |W_out|."""
        return self.gain @ self.weights / self.weights.sum()

    @cached_property
    def mean_gain(self) -> float:
        """Mean of `weighted_gain` over the conditions that have a law.

        Training with noise in drives it down, noise out leaves it where the task puts it.
        """
        known = self.weighted_gain[np.isfinite(self.weighted_gain)]
        return float(known.mean()) if len(known) else float("nan")

    @property
    def outside(self) -> bool:
        """Whether the noise is added behind the nonlinearity, where no neuron clips it."""
        return self.net.form == "rate" and self.net.placement == "out"

    @cached_property
    def most_gain(self) -> float:
        """The largest noise gain that a neuron could have at the typical noise; NaN where there is no `curve`."""
        return float("nan") if self.curve is None else float(self.curve.gain.max())

    @cached_property
    def inside(self) -> Attenuation:
        """What the neurons would make of their noise sigma, were it added inside f at these operating points."""
        return attenuation(self.net.activation, self.a, np.broadcast_to(self.sigma, self.a.shape))

    @cached_property
    def typical_s(self) -> float:
        """The noise for which to draw a curve: median of `s`, or of sigma with noise out; by |W_out|."""
        s = np.broadcast_to(self.sigma, self.a.shape) if self.outside else self.s
        known = np.isfinite(self.a) & (s > 0)
        if not known.any():
            return float("nan")
        values, weights = s[known], np.broadcast_to(self.weights, s.shape)[known]
        order = np.argsort(values, kind="stable")
        return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])

    @cached_property
    def curve(self) -> Attenuation | None:
        """`attenuation_curve` at the typical noise; None without noise, or where the neurons of weight differ in f."""
        parts = groups(self.net.activation, self.net.N)
        kinds = [f for f, own in parts if self.weights[own].any()]
        if len(kinds) != 1 or not kinds[0].alike or not self.typical_s > 0:
            return None
        return attenuation_curve(kinds[0], self.typical_s)


def operating_points(
    net: Network,
    u: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    method: str = "closure",
    start: ArrayLike | None = None,
) -> OperatingPoints:
    """Where each neuron of `net` works under noise, and what it makes of it there.

    Parameters
    ----------
    u : (n_in,) or (n_cond, n_in), optional
        Constant inputs; None means the network's conditions if it has any, else zero input.
    sigma : number or (N,), optional
        Noise per step; None means the network's own.
    method : the stationary method that gives mean and covariance; "chain" is exact for up to three neurons. The
        current form takes the closure only.
    start : (N,), optional
        A state: the law about the fixed point where it comes to rest, by default that reached from 0.

    Raises
    ------
    InputError
        On values that do not fit the network, or an unknown method.
    """
    return points_of(net, solve_laws(net, u, sigma, method, start))


def points_of(net: Network, laws: Sequence[Law]) -> OperatingPoints:
    sigma = np.broadcast_to(np.asarray(laws[0].problem.sigma, float), (net.N,))
    a, s = (np.array([getattr(law, name) for law in laws]) for name in ("a", "s"))
    at = attenuation(net.activation, a, s)
    own = own_noise(net, sigma)
    return OperatingPoints(
        net=net,
        inputs=np.array([law.problem.u for law in laws]),
        sigma=sigma,
        own=own,
        a=a,
        s=s,
        beta=at.beta,
        up=at.up,
        down=at.down,
        V=at.V,
        gain=noise_gain(net.activation, a, own if net.form == "current" else sigma),
        weights=_weights(net),
        statuses=tuple(law.stationary.status for law in laws),
    )


def _weights(net: Network) -> Array:
    if not net.moved:
        return np.asarray(np.abs(net.readout_weights).sum(axis=0))
    moves = np.abs(np.broadcast_to(net.gamma, (net.N,))[:, None] * net.W)[-net.moved :].sum(axis=0)
    return np.append(moves[: -net.moved], np.zeros(net.moved))
