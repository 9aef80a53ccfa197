"""How fast a noisy network forgets its state."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._result import Problem

Array = NDArray[np.float64]

DOUBLINGS = 10
BLOCK = 1 << 22  #: matrix entries held at once


def relaxation_time(problems: Sequence[Problem]) -> Array:
    """Steps in which a perturbation of the mean changes by a factor e, (P,), for problems of one network.

    1 / |log rho| with rho the spectral radius of the step's Jacobian at `start`; the larger of the noise-free
    one and, for a Network, the one smoothed by the noise, whose slopes are G(a, s) = E f'(a + s xi) (a ReLU that
    is silent without noise still has a slope with it). rho > 1 counts as well: the time to leave an unstable start.
    """
    tau = np.zeros(len(problems))
    size = max(1, BLOCK // problems[0].net.N ** 2)
    for first in range(0, len(problems), size):
        part = problems[first : first + size]
        jacobians = np.array([_jacobians(problem, problem.start) for problem in part])
        rate = np.abs(log_radius(jacobians)).min(axis=1)
        with np.errstate(divide="ignore"):
            tau[first : first + size] = 1 / rate
    return np.minimum(tau, 2.0**40)


def _jacobians(problem: Problem, h: Array) -> Array:
    """The step's Jacobian at state h without and with the smoothing by the noise, as far as known: (1 or 2, N, N)."""
    if not isinstance(problem.net, Network):
        return problem.net.jacobian(h[None], problem.u)
    net, slopes = problem.net, _slopes(problem, h)
    gamma = np.broadcast_to(net.gamma, (net.N,))
    DW = slopes[..., :, None] * net.W if net.form == "rate" else net.W * slopes[..., None, :]
    return np.diag(1 - gamma) + gamma[:, None] * DW


def _slopes(problem: Problem, h: Array) -> Array:
    """f'(a) and G(a, s) at state h, (2, N). s is the standard deviation of what enters f: sigma for noise
    "in"; else that of the noise filtered by the leak alone, sqrt(gamma / (2 - gamma)) sigma, which reaches f
    through W (noise "out") or directly (current form)."""
    net = problem.network
    sigma = np.broadcast_to(problem.sigma, (net.N,))
    s = sigma
    if net.form == "current" or net.placement == "out":
        s = np.sqrt(net.gamma / (2 - np.asarray(net.gamma))) * sigma
    if net.placement == "out":
        s = np.sqrt(net.W**2 @ s**2)
    a = net.preactivation(h, problem.u)
    return np.array([net.activation.df(a), net.activation.G(a, s)])


def log_radius(J: Array) -> Array:
    """Logarithm of the spectral radius of J (..., N, N), by repeated squaring: with n = 2^9,
    (log |J^2n| - log |J^n|) / n, right to about log(condition of the eigenvectors) / n."""
    power, log_norm, history = J, np.zeros(J.shape[:-2]), []
    for _ in range(DOUBLINGS + 1):
        norm = np.linalg.norm(power, axis=(-2, -1))
        with np.errstate(divide="ignore"):
            log_norm = log_norm + np.log(norm)
        history.append(log_norm)
        power = power / np.where(norm > 0, norm, 1.0)[..., None, None]
        power, log_norm = power @ power, 2 * log_norm
    with np.errstate(invalid="ignore"):
        rate = (history[-1] - history[-2]) / 2 ** (DOUBLINGS - 1)
    return np.where(np.isnan(rate), -np.inf, rate)  # a nilpotent J forgets everything


def still_growing(problem: Problem, means: Array) -> bool:
    """Whether batch means (batches, N) moved away from `start` to the end, where the smoothed dynamics grows."""
    distance = np.abs(means - problem.start).max(axis=1)
    rising = bool(np.all(np.diff(distance[len(distance) // 2 :]) > 0))
    return rising and bool(log_radius(_jacobians(problem, means[-1])[-1]) >= -1e-9)
