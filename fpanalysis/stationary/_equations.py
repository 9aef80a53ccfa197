"""The equations of the Gaussian closure and their iteration; `closure` says what they are.

A few outer steps around a doubling Lyapunov solve: the residual r of the covariance equation is formed in float64,
C <- C + P r with P a Lyapunov solve whose powers of the Jacobian are kept in float32, and the sequence is accelerated
(Anderson, J. ACM 1965). Terms beyond the Gaussian ones (`Source`) may be added to the right-hand sides.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import numpy as np

from fpanalysis.activations import Moments
from fpanalysis.gaussian import mehler_sum
from fpanalysis.network import Network
from fpanalysis.stationary._cumulants import Source
from fpanalysis.stationary._lyapunov import Lyapunov
from fpanalysis.stationary._result import Array, Problem

TOLERANCE = 1e-9  #: relative change of C, and of m in units of the noise's own scale, at convergence
FOLLOW = 1e-4  #: the same for the response to a source, relative to that response
PRECISION = 1e-3  #: of the Lyapunov solves, relative: they precondition the iteration
STALE = 0.05  #: change of a gain G since the solver's Jacobian was formed, at which it is formed anew
NEWTON = 1e-3  #: by what the gap of the mean's equation is closed in each iteration
ITERATIONS = 80
MARGIN = 10.0  #: on the rate of convergence, by which the next step is foreseen from the last two
DEPTH = 6  #: steps that Anderson acceleration looks back
ORDERS = (4, 48)  #: fewest and most terms of Mehler's sum


class NotConverged(ArithmeticError):
    """The iteration stopped before its tolerance."""


@dataclass
class State:
    """Where the iteration stands: mean, covariance, and the level they belong to."""

    sigma: Array
    m: Array
    C: Array


@dataclass
class Terms:
    """The pieces of the equations at (m, C)."""

    a: Array
    s: Array
    moments: Moments
    X: Array  #: Cov(h, f(x)), (N, N)
    Q: Array  #: covariance of f(x), (N, N)
    remainder: float  #: bound on what Mehler's sum left out, relative to max V
    extra: Array  #: (N,), added to the mean of f


@dataclass
class Solution:
    """A solution of the equations, the pieces there, and what is worth keeping of the way to it."""

    state: State
    terms: Terms
    solver: Lyapunov  #: of a Jacobian nearby
    gains: Array  #: (N,), the G of that Jacobian
    steps: int


def iterate(problem: Problem, state: State, near: Solution | None = None, extra: Source | None = None) -> Solution:
    """Solve the closure equations from the guess `state`; with `extra` from the solution `near` without it.

    Raises
    ------
    NotConverged, Unstable, numpy.linalg.LinAlgError
        Where there is no solution near the guess.
    """
    net, N = problem.network, problem.net.N
    variance = state.sigma**2
    m, C = state.m, state.C
    mixture = Mixture()
    solver, gains = (near.solver, near.gains) if near else (None, np.full(N, np.inf))
    change = last = np.inf
    scale = float(np.max(state.sigma))
    tolerance = TOLERANCE
    for steps in range(1, ITERATIONS + 1):
        previous = m
        m, terms = _terms(problem, variance, m, C, extra)
        r = _residual(net, terms, C, variance)
        if extra is not None:
            r += extra.R
        if solver is None or change > 0.3 * last or np.abs(terms.moments.G - gains).max() > STALE:
            gains = terms.moments.G
            solver = Lyapunov(jacobian(net, gains), np.float32)
        correction = solver.solve(r, PRECISION)
        correction = (correction + correction.T) / 2
        size = float(np.abs(C + correction).max())  # 0 where every neuron is silent beyond the underflow
        last, change = change, float(np.abs(correction).max()) / size if size != 0 else 0.0
        drift = float(np.abs(m - previous).max()) / (scale + float(np.abs(m - problem.start).max()))
        if not np.isfinite(change):
            raise NotConverged
        if extra is not None and steps == 1:
            tolerance = max(TOLERANCE, FOLLOW * max(change, drift))
        elif steps > 1 and max(change, drift) * min(1.0, MARGIN * change / max(last, 1e-300)) < tolerance:
            return Solution(State(state.sigma, m, C + correction), terms, solver, gains, steps)
        C = mixture.next(C, correction)
    raise NotConverged


class Mixture:
    """Anderson's mixture of the last iterates, the one that minimises the combined correction."""

    def __init__(self) -> None:
        self.last: tuple[Array, Array] | None = None
        self.steps: list[Array] = []  #: what each step did to x + f
        self.changes: list[Array] = []  #: and to f
        self.gram = np.zeros((0, 0))  #: of the changes

    def next(self, x: Array, f: Array) -> Array:
        """The iterate after x, whose plain successor is x + f."""
        y = x + f
        if self.last is not None:
            self.steps = [*self.steps, y - self.last[0]][-DEPTH:]
            self.changes = [*self.changes, f - self.last[1]][-DEPTH:]
            old, size = self.gram[-DEPTH + 1 :, -DEPTH + 1 :], len(self.changes)
            self.gram = np.empty((size, size))
            self.gram[:-1, :-1] = old
            self.gram[-1] = self.gram[:, -1] = [np.vdot(self.changes[-1], change) for change in self.changes]
        self.last = y, f
        if not self.steps:
            return y
        theta = np.linalg.lstsq(self.gram, [np.vdot(change, f) for change in self.changes], rcond=1e-14)[0]
        for weight, step in zip(theta, self.steps, strict=True):
            y = y - weight * step
        return y


def _terms(problem: Problem, variance: Array, m: Array, C: Array, extra: Source | None) -> tuple[Array, Terms]:
    """The mean that belongs to C (from the guess m), and the pieces of the equations there."""
    net = problem.network
    CO = C
    if net.form == "rate":
        CO = C @ net.W.T
        S = net.W @ CO
        s2 = np.maximum(np.diag(S), 0.0) + (variance if net.placement == "in" else 0.0)
    else:
        S, s2 = C, np.maximum(np.diag(C), 0.0)
    s = np.sqrt(s2)
    f = extra.f if extra else np.zeros_like(m)
    m, a, moments = _mean(problem, m, s, f)
    inverse = np.where(s > 0, 1 / np.where(s > 0, s, 1.0), 0.0)
    rho = np.clip(S * inverse[:, None] * inverse, -1.0, 1.0)
    np.fill_diagonal(rho, 0.0)
    Q, remainder = _mehler(net, a, s, moments.V, rho)
    return m, Terms(a, s, moments, CO * moments.G, Q, remainder, f)


def _mehler(net: Network, a: Array, s: Array, V: Array, rho: Array) -> tuple[Array, float]:
    """Cov f(x) and the bound max |rho|^{K+1} sqrt(T_i T_j) on what was cut off, relative to max V."""
    top = float(np.abs(rho).max(initial=0.0))
    K = ORDERS[1] if top > 0.999 else int(np.clip(log(TOLERANCE) / log(max(top, 1e-12)), *ORDERS))
    c = net.activation.hermite(a, s, K)
    Q = mehler_sum(c, rho)
    tail = np.maximum(V - (c[:, 1:] ** 2).sum(axis=1), 0.0).max(initial=0.0)
    np.fill_diagonal(Q, V)
    return Q, float(top ** (K + 1) * tail / max(float(V.max()), 1e-300))


def _mean(problem: Problem, m: Array, s: Array, extra: Array) -> tuple[Array, Array, Moments]:
    """Newton on m = M(W m + drive, s) + extra (rate form) or m = W (M(m, s) + extra) + drive (current form)."""
    net = problem.network
    drive, shift = net.drive(problem.u), extra if net.form == "rate" else net.W @ extra
    a, moments, gap = _mean_gap(net, drive, m, s)
    gap = gap + shift
    size = np.abs(gap).max()
    enough = NEWTON * size  # at the end of the iteration, where the guess is good to TOLERANCE, this is rounding
    for _ in range(50):
        if size <= max(enough, 1e-13 * (1 + np.abs(m).max())):
            return m, a, moments
        try:
            step = np.linalg.solve(np.eye(net.N) - linear(net, moments.G), gap)
        except np.linalg.LinAlgError:
            raise NotConverged from None
        t = 1.0
        while True:
            trial = m + t * step
            a_t, moments_t, gap_t = _mean_gap(net, drive, trial, s)
            gap_t = gap_t + shift
            size_t = np.abs(gap_t).max()
            if size_t < size or t < 1e-3:
                break
            t /= 2
        if not size_t < size:
            break
        m, a, moments, gap, size = trial, a_t, moments_t, gap_t, size_t
    if size > 1e-11 * (1 + np.abs(m).max()):
        raise NotConverged
    return m, a, moments


def _mean_gap(net: Network, drive: Array, m: Array, s: Array) -> tuple[Array, Moments, Array]:
    a = net.W @ m + drive if net.form == "rate" else m
    moments = net.activation.moments(a, s)
    return a, moments, (moments.M if net.form == "rate" else net.W @ moments.M + drive) - m


def linear(net: Network, G: Array) -> Array:
    """The smoothed network's dF/dh: diag(G) W (rate form) or W diag(G) (current form)."""
    return G[:, None] * net.W if net.form == "rate" else net.W * G


def jacobian(net: Network, G: Array) -> Array:
    g = np.broadcast_to(net.gamma, (net.N,))
    return np.diag(1 - g) + g[:, None] * linear(net, G)


def _residual(net: Network, terms: Terms, C: Array, variance: Array) -> Array:
    """Right-hand side minus left-hand side of the covariance equation."""
    g = np.broadcast_to(net.gamma, (net.N,))
    half = (1 - g)[:, None] * terms.X * g + np.outer(g / 2, g) * terms.Q  # r is this plus its transpose
    if net.form == "current":
        half = (((1 - g)[:, None] * terms.X + g[:, None] / 2 * (net.W @ terms.Q)) @ net.W.T) * g
    r = half + half.T
    r += (np.outer(1 - g, 1 - g) - 1) * C
    if net.form == "current" or net.placement == "out":
        r[np.diag_indices(net.N)] += g**2 * variance
    return r
