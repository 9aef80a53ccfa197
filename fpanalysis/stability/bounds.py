"""Bounds on the top Lyapunov exponent from norms of the weights, and when they prove almost-sure stability.

Model (Lim, Erichson, Hodgkinson & Mahoney, "Noisy Recurrent Neural Networks", NeurIPS 2021, the section on stability
and noise-induced stabilisation): an SDE in the state h, driven by an input x, with slopes |a'| <= L,

    dh = f(h, x) dt + Sigma(h, x) dB,     f(h, x) = A h + a(W h + U x + b)

For the difference e of two solutions under the same input and the same B, Ito's formula gives log |e| the drift

    <e, df> / |e|^2  +  |dSigma|_F^2 / (2 |e|^2)  -  |dSigma' e|^2 / |e|^4

in which the first term lies between lambda_min(A_sym) - L s_max(W) and lambda_max(A_sym) + L s_max(W), and the other
two are what the noise adds. Where the upper bound is negative all solutions under the same noise meet, exponentially
and almost surely (X. Mao, "Stochastic Differential Equations and Applications", on almost sure exponential stability).
The terms of the noise are worked out here for each kind, and need not be as sharp as the paper's:

    "additive"   Sigma constant                     0
    "common"     Sigma = s h, one scalar B          -s^2 / 2 exactly: such noise always stabilises
    "state"      Sigma = s diag(h)                  between -s^2 / 2 and s^2 (1/2 - 1/N)
    "drift"      Sigma = s_1 I + s diag(f)          between -s^2 F^2 / 2 and s^2 (F^2 / 2 - c^2 / N)

with F = |A| + L s_max(W) >= |df| / |e|, and c the least |<e, df>| / |e|^2 that the bounds of the first term leave.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot, inf, log

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import of_shape
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]

KINDS = ("additive", "common", "state", "drift")


@dataclass(frozen=True)
class ExponentBounds:
    """lower <= top exponent <= upper, per unit of time; `noise` (lower, upper) is the part that the noise adds.

    `step_lower` and `step_upper` bound the exponent per step of a network's own map, at any gamma; NaN for an SDE.
    """

    lower: float
    upper: float
    noise: tuple[float, float]
    weight_norm: float  #: L s_max(W)
    step_lower: float = float("nan")
    step_upper: float = float("nan")

    @property
    def margin(self) -> float:
        """-upper: by how much the sufficient condition for almost-sure global stability holds, or fails if < 0."""
        return -self.upper

    @property
    def holds(self) -> bool:
        return self.upper < 0


def sde_exponent_bounds(
    A: ArrayLike, W: ArrayLike, L: float = 1.0, kind: str = "additive", sigma: float = 0.0
) -> ExponentBounds:
    """The bounds for the model of this module: A, W (N, N), L the steepest |a'|, `sigma` the s of the noise `kind`.

    Raises
    ------
    InputError
        On shapes that do not fit, an unknown kind, or L or sigma < 0.
    """
    A = of_shape("A", A, (None, None))
    W = of_shape("W", W, A.shape)
    L, sigma = (float(of_shape(name, value, ())) for name, value in (("L", L), ("sigma", sigma)))
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; found {kind!r}")
    if L < 0 or sigma < 0:
        raise InputError(f"L and sigma must be >= 0; found {L:g} and {sigma:g}")
    if A.shape[0] != A.shape[1] or not A.size:
        raise InputError(f"A must be square, (N, N); found shape {A.shape}")
    reach = L * float(np.linalg.norm(W, 2))
    symmetric = np.linalg.eigvalsh((A + A.T) / 2)
    drift = float(symmetric[0]) - reach, float(symmetric[-1]) + reach
    F, N = sigma * (float(np.linalg.norm(A, 2)) + reach), len(A)
    least = sigma * max(drift[0], -drift[1], 0.0)
    squared = sigma * sigma
    noise = {
        "additive": (0.0, 0.0),
        "common": (-0.5 * squared, -0.5 * squared),
        "state": (-0.5 * squared, (0.5 - 1 / N) * squared),
        "drift": (-0.5 * F * F, 0.5 * F * F - least * least / N),
    }[kind]
    return ExponentBounds(drift[0] + noise[0], drift[1] + noise[1], noise, reach)


def exponent_bounds(net: Network | LipschitzRNN, multiplicative: float | None = None) -> ExponentBounds:
    """The bounds for a network of this project, time in units of tau (in steps if gamma is one per neuron), in which a
    `Network` has A = -I.

    The noise of the network, inside f or outside, is the same for both trajectories and bounded slopes bound it too:
    it adds nothing. `multiplicative` = mu (see `lyapunov`; None: that of the network) is the kind "drift" with s = mu
    sqrt(gamma). The bounds for the step itself are, with x = gamma L s_max(W) and K = I + gamma A,

        log(s_min(K) - x)  <=  exponent  <=  1/2 log[(s_max(K) + x)^2 + mu^2 (gamma |A| + x)^2]

    (no lower bound where its argument is not positive, or with mu). Of a `Network` K = (1 - gamma) I, and without mu
    the upper one is at most gamma times the SDE's: where the condition holds for the SDE it holds for every step. Of a
    `LipschitzRNN` the step can part what the SDE brings together, if gamma is large.

    Raises
    ------
    InputError
        If the slopes of the activation are not known to be bounded, or `multiplicative` is not a number >= 0.
    """
    L = _steepest(net)
    mu = float(of_shape("multiplicative", net.multiplicative if multiplicative is None else multiplicative, ()))
    if mu < 0:
        raise InputError(f"multiplicative must be >= 0: it is a standard deviation; found {mu:g}")
    gamma = np.broadcast_to(net.gamma, (net.N,))
    tau = float(gamma[0]) if len(np.unique(gamma)) == 1 else 1.0
    rate = gamma / tau
    W = net.W * L if isinstance(net, Network) and net.form == "current" else L[:, None] * net.W
    A = -np.diag(rate) if isinstance(net, Network) else rate[:, None] * net.A
    sde = sde_exponent_bounds(A, rate[:, None] * W, 1.0, "drift", mu * tau**0.5)
    x, kept = tau * sde.weight_norm, np.linalg.svd(np.eye(net.N) + tau * A, compute_uv=False)
    least, most = float(kept[-1]) - x, float(kept[0]) + x
    noisy = mu * (tau * float(np.linalg.norm(A, 2)) + x)
    lower = log(least) if least > 0 and not mu else -inf
    upper = log(hypot(most, noisy)) if most else -inf
    return ExponentBounds(sde.lower, sde.upper, sde.noise, sde.weight_norm, lower, upper)


def _steepest(net: Network | LipschitzRNN) -> Array:
    """The largest |f'| of each neuron, (N,)."""
    if not isinstance(net, Network | LipschitzRNN):
        raise InputError(f"net must be a Network, whose weights the bounds are made of; found {type(net).__name__}")
    if net.activation.slope_peak is None:
        raise InputError(f"activation {net.activation.name!r} has no known range of slopes, so there is no bound")
    ranges = net.activation.ranges(*np.full((2, net.N), [[-inf], [inf]]))
    return np.maximum(np.abs(ranges.df_lo), np.abs(ranges.df_hi))
