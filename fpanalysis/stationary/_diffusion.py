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

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fpanalysis.stationary._result import Array, Problem

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

FLOOR = 1e-280  #: least V: below it the noise is lost in underflow
TABLE = 2001  #: points of a table of M and V


@dataclass(frozen=True, eq=False)
class Table:
    """Cubic splines of M and log V against x, one per neuron."""

    splines: tuple[tuple[CubicSpline, CubicSpline], ...]

    @classmethod
    def through(cls, x: Array, M: Array, log_V: Array) -> Table:
        from scipy.interpolate import CubicSpline

        return cls(tuple((CubicSpline(t, a), CubicSpline(t, b)) for t, a, b in zip(x.T, M.T, log_V.T, strict=True)))

    def M(self, x: Array) -> Array:
        return np.stack([spline(x[..., i]) for i, (spline, _) in enumerate(self.splines)], axis=-1)

    def log_V(self, x: Array) -> Array:
        return np.stack([spline(x[..., i]) for i, (_, spline) in enumerate(self.splines)], axis=-1)


@dataclass(frozen=True, eq=False)
class Diffusion:
    """Drift and diffusion of `problem`; h is (..., N)."""

    problem: Problem
    gamma: Array
    sigma: Array
    drive: Array
    table: Table | None = None

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
        if self.noise_in and self.table is not None:
            return g * (self.table.M(x) - h), g**2 * np.exp(self.table.log_V(x)), np.full(np.shape(x), np.nan)
        if self.noise_in:
            moments = net.activation.moments(x, self.sigma)
            return g * (moments.M - h), g**2 * np.maximum(moments.V, FLOOR), moments.G
        f = net.activation.f(x)
        A = g * ((f @ net.W.T + self.drive if net.form == "current" else f) - h)
        return A, np.broadcast_to((g * self.sigma) ** 2, A.shape), net.activation.df(x)

    def tabulated(self, box: Array) -> Diffusion:
        """With M and V from a table for h within `box` (N, 2), for grids of many states: errors below 1e-9 or so."""
        if not self.noise_in:
            return self
        W, middle, radius = self.problem.network.W, box.mean(axis=1), np.diff(box, axis=1)[:, 0] / 2
        reach = np.abs(W) @ radius * (1 + 1e-6) + 1e-6 * self.sigma
        x = W @ middle + self.drive + np.linspace(-1, 1, TABLE)[:, None] * reach
        moments = self.problem.network.activation.moments(x, self.sigma)
        table = Table.through(x, moments.M, np.log(np.maximum(moments.V, FLOOR)))
        return dataclasses.replace(self, table=table)

    def along(self, h: Array) -> tuple[Array, Array, Array]:
        """A, B and dA/dh of a single neuron at h (S,)."""
        A, B, df = self.terms(h[:, None])
        return A[:, 0], B[:, 0], self.gamma[0] * (self.problem.network.W[0, 0] * df[:, 0] - 1)
