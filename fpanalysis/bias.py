"""Asymmetric attenuation: the bias noise puts on a neuron near its nonlinearity, and its exact share of the output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.activations import Activation, get_activation
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status
from fpanalysis.stationary import Stationary, stationary

Array = NDArray[np.float64]


def attenuation_bias(activation: str | dict[str, Any] | Activation, a: ArrayLike, s: ArrayLike) -> Array:
    """beta(a, s) = E f(a + s xi) - f(a) with xi ~ N(0, 1), broadcasting over operating points a and noise s.

    ReLU: s (phi(r) - r Phi(-r)) with r = |a| / s, even in a, s / sqrt(2 pi) at the kink.
    Smooth f: s^2 f''(a) / 2 + O(s^4).

    Raises
    ------
    InputError
        On an unknown activation, negative s, or values that are not numbers or do not broadcast.
    """
    f = get_activation(activation)
    try:
        a, s = np.broadcast_arrays(np.asarray(a, float), np.asarray(s, float))
    except (TypeError, ValueError) as error:
        raise InputError(f"a and s must be numbers that broadcast together; found {error}") from None
    return f.beta(a, s)


@dataclass(frozen=True, eq=False)
class Attribution:
    """The output's shift by noise, split exactly into the neurons' shares.

    Attributes
    ----------
    beta : (N,), E f - f(a): each neuron's local bias at its noisy operating point.
    a : (N,), mean of what enters f.
    contributions : (n_out, N), each neuron's share of `total`.
    total : (n_out,), the output at the stationary mean minus the output at h*. When the noise is removed the
        output is off by -total.
    residual : max |total - sum of the shares|: rounding.
    """

    beta: Array
    a: Array
    contributions: Array
    total: Array
    residual: float
    status: Status
    stationary: Stationary


def attribute_bias(net: Network, u: ArrayLike | None = None, sigma: ArrayLike | None = None) -> Attribution:
    """Exact attribution of the noise-induced output shift at the constant input `u` (None: zero) and noise `sigma`.

    With secant slopes Ds_i = (f(a_i) - f(a*_i)) / (a_i - a*_i) between the noisy mean and the fixed point,

        m - h* = (I - Ds W)^{-1} beta,      z - z* = W_out (I - Ds W)^{-1} beta

    are identities, not linearisations; in the current form the second holds as it stands, with a and Ds at
    the state itself. The stationary mean is the closure's, its correction included.

    Raises
    ------
    InputError
        If `u` or `sigma` does not fit the network.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network, whose shift is attributed to neurons; found {net!r}")
    st = stationary(net, u, sigma, method="closure")
    m, h, f = st.mean, st.start, net.activation.f
    a, a_star = net.preactivation(m, u), net.preactivation(h, u)
    rates, rates_star = (m, h) if net.form == "rate" else (st.details.get("rates", m * np.nan), f(h))
    beta = rates - f(a)
    gap = a - a_star
    same = np.abs(gap) <= 1e-300
    Ds = np.where(same, net.activation.df(a_star), net.activation.difference(a_star, gap) / np.where(same, 1.0, gap))
    W_out = net.readout_weights
    total = W_out @ (rates - rates_star)
    if not np.isfinite(beta).all():
        return Attribution(beta, a, np.full(W_out.shape, np.nan), total, np.nan, st.status, st)
    try:
        contributions = np.linalg.solve((np.eye(net.N) - Ds[:, None] * net.W).T, W_out.T).T * beta
    except np.linalg.LinAlgError:  # the secant dynamics is neutral: the shares are not unique
        return Attribution(beta, a, np.full(W_out.shape, np.nan), total, np.nan, Status.NOT_CONVERGED, st)
    residual = float(np.abs(total - contributions.sum(axis=1)).max())
    return Attribution(beta, a, contributions, total, residual, st.status, st)
