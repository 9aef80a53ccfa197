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
from math import inf, log, log1p

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import of_shape
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
    F, N = float(np.linalg.norm(A, 2)) + reach, len(A)
    least = max(drift[0], -drift[1], 0.0)
    noise = {
        "additive": (0.0, 0.0),
        "common": (-0.5, -0.5),
        "state": (-0.5, 0.5 - 1 / N),
        "drift": (-0.5 * F**2, 0.5 * F**2 - least**2 / N),
    }[kind]
    noise = sigma**2 * noise[0], sigma**2 * noise[1]
    return ExponentBounds(drift[0] + noise[0], drift[1] + noise[1], noise, reach)


def exponent_bounds(net: Network, multiplicative: float = 0.0) -> ExponentBounds:
    """The bounds for a network of this project: A = -I, time in units of tau (in steps if gamma is one per neuron).

    The noise of the network, inside f or outside, is the same for both trajectories and bounded slopes bound it too:
    it adds nothing. `multiplicative` = mu (see `lyapunov`) is the kind "drift" with s = mu sqrt(gamma). The bounds for
    the step itself are, with x = L s_max(W),

        log(1 - gamma - gamma x)  <=  exponent  <=  1/2 log[(1 - gamma + gamma x)^2 + mu^2 gamma^2 (1 + x)^2]

    (no lower bound where its argument is not positive, or with mu). Without mu the upper one is at most gamma times the
    SDE's: where the condition holds for the SDE it holds for every step.

    Raises
    ------
    InputError
        If the slopes of the activation are not known to be bounded, or `multiplicative` is not a number >= 0.
    """
    L, multiplicative = _steepest(net), float(of_shape("multiplicative", multiplicative, ()))
    if multiplicative < 0:
        raise InputError(f"multiplicative must be >= 0: it is a standard deviation; found {multiplicative:g}")
    gamma = np.broadcast_to(net.gamma, (net.N,))
    tau = float(gamma[0]) if len(np.unique(gamma)) == 1 else 1.0
    rate = gamma / tau
    W = rate[:, None] * (L[:, None] * net.W if net.form == "rate" else net.W * L)
    sde = sde_exponent_bounds(-np.diag(rate), W, 1.0, "drift", multiplicative * tau**0.5)
    x, fast, slow = tau * sde.weight_norm, float(gamma.max()), float(gamma.min())
    kept = 1 - fast - x
    grown = (1 - slow + x) ** 2 + (multiplicative * (fast + x)) ** 2
    lower = log(kept) if kept > 0 and not multiplicative else -inf
    return ExponentBounds(sde.lower, sde.upper, sde.noise, sde.weight_norm, lower, log1p(grown - 1) / 2)


def _steepest(net: Network) -> Array:
    """The largest |f'| of each neuron, (N,)."""
    if not isinstance(net, Network):
        raise InputError(f"net must be a Network, whose weights the bounds are made of; found {type(net).__name__}")
    if net.activation.slope_peak is None:
        raise InputError(f"activation {net.activation.name!r} has no known range of slopes, so there is no bound")
    ranges = net.activation.ranges(*np.full((2, net.N), [[-inf], [inf]]))
    return np.maximum(np.abs(ranges.df_lo), np.abs(ranges.df_hi))
