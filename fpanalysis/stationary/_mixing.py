"""Whether the chains of a run agree with each other, and what the run cannot have seen."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._result import Array, Problem, input_variance
from fpanalysis.system import System

RHAT_BOUND = 1.05
SLOWER = 2.0  #: times slower than planned for that a run may turn out to relax
DRIFT_LEVEL = 1e-4  #: probability of calling a stationary run drifting


def quantile(pairs: int, level: float) -> float:
    """Of Student's t with pairs - 1 degrees of freedom."""
    from scipy.special import stdtrit

    return float(stdtrit(pairs - 1, level))


def standard_error(y: Array) -> Array:
    """Of the mean of independent rows y (B, ...)."""
    error: Array = y.std(axis=0, ddof=1) / np.sqrt(len(y))
    return error


def rhat(h: NDArray[np.float64], rounding: float) -> float:
    """Split R-hat of the batch means h (chains, batches, N), of the neurons whose chains differ most.

    Not rank-normalised: the mean is what is wanted, and in the batch means of a neuron that is almost always
    silent nearly all ranks are ties, whose R-hat means nothing (2.4 where the split R-hat is 1.006).
    """
    from arviz_stats.base import array_stats

    between, within = h.mean(axis=1).var(axis=0), h.var(axis=1).mean(axis=0)
    moving = within > rounding**2
    if not moving.any():
        return 1.0
    ratio = np.where(moving, between / np.where(moving, within, 1.0), 0.0)
    worst = np.argsort(ratio)[-4:]
    worst = worst[moving[worst]]
    return float(np.max(array_stats.rhat(np.moveaxis(h[..., worst], -1, 0).astype(float), method="split")))


def rhat_bound(batches: int, length: float) -> float:
    """What split R-hat may be: that of a process `SLOWER` times slower than planned, or `RHAT_BOUND` if that is more.

    `length` is that of a batch in planned relaxation times. The mean over a time b, in relaxation times, of a process
    with exponential correlation has the variance v(b) = 2 (b - 1 + exp -b) / b^2; n batches per half chain:
    R-hat^2 = (n - 1) / n + v(n b) / (v(b) - v(n b)).
    """
    n, b = batches // 2, length / SLOWER
    v, v_half = (2 * (t + np.expm1(-t)) / t**2 for t in (b, n * b))
    return max(RHAT_BOUND, float(np.sqrt((n - 1) / n + v_half / (v - v_half))))


def drifts(pairs: Array, rounding: float) -> bool:
    """Whether the first and second half of the run (B, batches, N) differ beyond their errors."""
    half = pairs.shape[1] // 2
    change = pairs[:, half:].mean(axis=1) - pairs[:, :half].mean(axis=1)
    t = quantile(len(pairs), 1 - DRIFT_LEVEL / (2 * pairs.shape[-1]))
    return bool(np.any(np.abs(change.mean(axis=0)) > t * standard_error(change) + 2 * rounding))


def unseen(problem: Problem, cov: Array, apart: Array | None, draws: float) -> Array:
    """What events too rare to be seen in `draws` steps may add to the mean of f, (N,), at 95 %.

    A neuron far from a kink of f has the same f' in nearly every step; what happens on the other side of the kink, less
    often than 3 / draws (the rule of three), can change the mean by about that times s, the standard deviation
    of what enters f (of a system that is not a Network, the size of the state's fluctuations), and shows neither
    in the mean nor in its spread. With a linear chain, whose own such events are in its known mean, s^2 is
    `apart` (N,): the mean square of what enters f beyond the linear chain's.
    """
    net = problem.net
    if net.smooth:
        return np.zeros(net.N)
    if apart is not None:
        s2 = apart
    else:
        s2 = input_variance(problem, cov) if isinstance(net, Network) else np.full(net.N, np.trace(cov))
    return 3 / draws * np.sqrt(s2)


def rounding_bound(net: System, u: Array, h: Array, tau: float, eps: float) -> float:
    """What rounding to relative precision `eps` can add to the mean.

    Each step rounds the weights, the products, the drive and the state: per neuron
    eps sqrt(sum_j (W_ij r_j)^2 + drive_i^2 + h_i^2) if these errors are independent (Higham, Accuracy and
    Stability of Numerical Algorithms, 2002, section 2.8), r the state or, in the current form, the rates;
    the recurrence passes on at most about gamma tau of them. Of a system that is not a Network the Jacobian
    stands for the weights, and F for the drive.
    """
    if isinstance(net, Network):
        rates = h if net.form == "rate" else net.activation.f(h)
        size = np.sqrt(net.W**2 @ rates**2 + net.drive(u) ** 2 + h**2).max()
    else:
        size = np.sqrt(net.target_jacobian(h, u) ** 2 @ h**2 + net.target(h, u) ** 2 + h**2).max()
    return float(eps * size * max(1.0, np.max(net.gamma) * tau))
