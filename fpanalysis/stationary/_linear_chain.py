"""The linearised chain that runs beside a Monte Carlo run, driven by the same noise, as its control variate.

About an operating point a of the pre-activation, with any slopes G, the chain

    rate form      d' = (1 - gamma) d + gamma (G y),  y = W d + sigma xi    [in; out: G y + sigma xi with y = W d]
    current form   d' = (1 - gamma) d + gamma (W G d + sigma xi),  y = d

has a Gaussian law whose covariance C solves a Lyapunov equation, so the mean of f(a + y), M(a, s) with s_i^2 the
variance of y_i, is known. In the stationary state the mean rates r = E f(x) obey, exactly and whatever G and a,

    r - G (W r + drive) = E[f(x) - G x] = M - G a + E[f(x) - f(a + y) - G (x - a)],    E x = W r + drive

    r = (I - G W)^-1 (M - G a + G drive + D - G X),     D = mean of f(x) - f(a + y),   X = mean of x - a.

D - G X is small to second order where the linearisation is good, while nothing is neglected where it is not. What
perturbs x (rounding; a state still relaxing) does not enter r to first order either.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.network import Network
from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Problem

ROUNDS = 2  #: Lyapunov solves; the law of the chain is exact after any number
NEWTON = 3  #: steps towards a = W M(a, s) + drive in each


@dataclass(frozen=True, eq=False)
class LinearChain:
    """Operating point a, slopes G, smoothed rates M (all (N,)) and covariance C (N, N) of the linear chain's state."""

    net: Network
    drive: Array
    a: Array
    G: Array
    M: Array
    C: Array

    @property
    def mean(self) -> Array:
        """The state about which the chain is linear."""
        return self.M if self.net.form == "rate" else self.a

    def rates(self, D: Array, X: Array) -> Array:
        """r from means of f(x) - f(a + y) and x - a, (..., N)."""
        T = self.M + self.G * (self.drive - self.a) + D - self.G * X
        return T @ np.linalg.inv(np.eye(self.net.N) - self.G[:, None] * self.net.W).T


def linear_chain(problem: Problem) -> LinearChain | None:
    """The linear chain about the smoothed operating point near `start`; None where it has no stationary law, or
    the system no weights to linearise."""
    net = problem.net
    if not isinstance(net, Network) or not problem.stable:
        return None
    try:
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            return _solve(net, problem)
    except (Unstable, np.linalg.LinAlgError, FloatingPointError):
        return None


def _solve(net: Network, problem: Problem) -> LinearChain:
    W, N, drive = net.W, net.N, net.drive(problem.u)
    gamma, sigma = (np.broadcast_to(value, (N,)) for value in (net.gamma, problem.sigma))
    inside = net.form == "rate" and net.placement == "in"
    a = net.preactivation(problem.start, problem.u) if net.form == "rate" else problem.start
    s = sigma if inside or net.form == "current" else np.sqrt(net.W**2 @ (gamma / (2 - gamma) * sigma**2))
    for _ in range(ROUNDS):
        for _ in range(NEWTON):
            moments = net.activation.moments(a, s)
            a = a + np.linalg.solve(np.eye(N) - W * moments.G, W @ moments.M + drive - a)
        G = net.activation.G(a, s)
        slope = G[:, None] * W if net.form == "rate" else W * G
        noise = gamma * sigma * (G if inside else 1.0)
        C = stationary_covariance(np.diag(1 - gamma) + gamma[:, None] * slope, np.diag(noise**2))
        s2 = np.diag(C) if net.form == "current" else np.einsum("ij,ij->i", W @ C, W) + (sigma**2 if inside else 0.0)
        s = np.sqrt(np.maximum(s2, 0.0))
    return LinearChain(net, drive, a, G, net.activation.M(a, s), C)
