"""The diffusion approximation of the noisy step: an Ito diffusion whose time unit is one step.

    dh_i = A_i(h) dt + sqrt(B_i(h)) dw_i

has the step's conditional mean, and (but for terms of second order in gamma) its conditional variance:

    rate form, noise in:     A = gamma (-h + M(x, sigma)),    B = gamma^2 V(x, sigma),    x = W h + W_in u + b
    rate form, noise out:    A = gamma (-h + f(x)),           B = gamma^2 sigma^2
    current form:            A = gamma (-h + W f(h) + W_in u + b),    B = gamma^2 sigma^2

It lives on all of R^N, also where the chain stays positive: with ReLU and noise in, M and V are positive
everywhere, so the diffusion crosses h_i = 0, where the chain does not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fpanalysis.stationary._result import Array, Problem

FLOOR = 1e-280  #: least V: below it the noise is lost in underflow


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Drift and diffusion of `problem`; h is (..., N)."""

    problem: Problem
    gamma: Array
    sigma: Array
    drive: Array

    @classmethod
    def of(cls, problem: Problem) -> Diffusion:
        net = problem.network
        gamma, sigma = (np.broadcast_to(np.asarray(value, float), (net.N,)) for value in (net.gamma, problem.sigma))
        return cls(problem, gamma, sigma, net.drive(problem.u))

    @property
    def noise_in(self) -> bool:
        """Whether the noise passes through f."""
        return self.problem.network.form == "rate" and self.problem.network.placement == "in"

    @property
    def kinks(self) -> bool:
        """Whether the drift has kinks: f has, and nothing smooths it."""
        return not (self.problem.network.smooth or self.noise_in)

    def terms(self, h: Array) -> tuple[Array, Array, Array]:
        """A, B and the slopes df (or G) that A has at h, all (..., N): dA_i/dh_j = gamma_i (df_i W_ij - delta_ij), in
        the current form gamma_i (W_ij df_j - delta_ij)."""
        net, g = self.problem.network, self.gamma
        x = h if net.form == "current" else h @ net.W.T + self.drive
        if self.noise_in:
            moments = net.activation.moments(x, self.sigma)
            return g * (moments.M - h), g**2 * np.maximum(moments.V, FLOOR), moments.G
        f = net.activation.f(x)
        A = g * ((f @ net.W.T + self.drive if net.form == "current" else f) - h)
        return A, np.broadcast_to((g * self.sigma) ** 2, A.shape), net.activation.df(x)

    def along(self, h: Array) -> tuple[Array, Array, Array]:
        """A, B and dA/dh of a single neuron at h (S,)."""
        A, B, df = self.terms(h[:, None])
        return A[:, 0], B[:, 0], self.gamma[0] * (self.problem.network.W[0, 0] * df[:, 0] - 1)
