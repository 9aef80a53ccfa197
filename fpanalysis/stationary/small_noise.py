"""Small noise: the leading terms in sigma about a stable fixed point h*, for smooth f.

With D = diag f'(x*), J the Jacobian of the step and Gamma = diag gamma (rate form),

    C = J C J^T + Gamma diag(sigma^2 f'^2) Gamma  [in]     or + Gamma diag(sigma^2) Gamma  [out]
    m - h* = (I - D W)^{-1} 1/2 f''(x*) o diag(sigma^2 I [in only] + W C W^T)  + O(sigma^4)

and in the current form, where the state itself enters f,

    C = J C J^T + Gamma diag(sigma^2) Gamma,    m - x* = (I - W D)^{-1} W 1/2 f''(x*) o diag(C).

A system that is not a Network has its noise on the state: see `_state_noise`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Problem, Stationary, failed, input_variance, unsettled
from fpanalysis.stationary._state_noise import small_state_noise

METHOD = "small-noise"
ANY_SYSTEM = True
SAFETY = 2.0  #: error over the estimated size of what was neglected


def solve(problems: Sequence[Problem], rng: Any = 0) -> list[Stationary]:
    """Each problem by the leading order in sigma; `rng` is not used: the method is deterministic."""
    return [_of_network(problem) if isinstance(problem.net, Network) else _of_system(problem) for problem in problems]


def _of_system(problem: Problem) -> Stationary:
    if not problem.stable:
        return failed(problem, METHOD, unsettled(problem))
    if not problem.net.smooth:
        return failed(problem, METHOD, Status.NOT_APPLICABLE, reason=f"{problem.net!r} has kinks")
    try:
        m, C, error = small_state_noise(problem)
    except Unstable:
        return failed(problem, METHOD, Status.UNSTABLE)
    return _result(problem, m, C, error, problem.net.output(m), error)


def _of_network(problem: Problem) -> Stationary:
    net, h = problem.network, problem.start
    if not problem.stable:
        return failed(problem, METHOD, unsettled(problem))
    if not net.activation.smooth:
        return failed(problem, METHOD, Status.NOT_APPLICABLE, reason=f"{net.activation.name} has a kink")
    x = net.preactivation(h, problem.u)
    slope, curvature = net.activation.df(x), net.activation.d2f(x)
    gamma = np.broadcast_to(net.gamma, (net.N,))
    variance = np.broadcast_to(np.square(problem.sigma), (net.N,))
    inside = net.form == "rate" and net.placement == "in"
    try:
        C = stationary_covariance(
            net.jacobian(h, problem.u), np.diag(gamma**2 * variance * (slope**2 if inside else 1))
        )
    except Unstable:
        return failed(problem, METHOD, Status.UNSTABLE)
    s2 = input_variance(problem, C)
    beta = curvature * s2 / 2
    shift = np.linalg.solve(
        np.eye(net.N) - net.target_jacobian(h, problem.u), beta if net.form == "rate" else net.W @ beta
    )
    rates = h + shift if net.form == "rate" else net.activation.f(h) + slope * shift + beta
    error, rate_error = _next_order(problem, h + shift, C, s2, beta)
    return _result(problem, h + shift, C, error, net.readout(rates), rate_error)


def _result(problem: Problem, m: Array, C: Array, error: Array, output: Array, rate_error: Array) -> Stationary:
    return Stationary(
        mean=m,
        cov=C,
        error=error,
        output=output,
        output_error=_carried(problem.net.readout_weights, rate_error),
        status=Status.OK,
        method=METHOD,
        scope="local",
        start=problem.start,
        provenance=Provenance(METHOD, problem.net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
    )


def _carried(weights: Array, error: Array) -> Array:
    """|weights| error, infinite where nothing is known of the error."""
    return np.abs(weights) @ error if np.isfinite(error).all() else np.full(len(weights), np.inf)


def _next_order(problem: Problem, mean: Array, C: Array, s2: Array, beta: Array) -> tuple[Array, Array]:
    """What the neglected orders may amount to, for the state and for the mean rates (N,): twice the differences
    between leading terms and full ones, carried through the recurrence.

    Full are the smoothing by s at the shifted mean, the curvature of f between fixed point and mean, and the
    input variance from the Lyapunov equation with smoothed gains G and variances V.
    """
    net = problem.network
    a, x = net.preactivation(mean, problem.u), net.preactivation(problem.start, problem.u)
    slope = net.activation.df(x)
    full = net.activation.moments(a, np.sqrt(s2))
    curved = net.activation.difference(x, a - x) - slope * (a - x)
    grown = np.abs(_smoothed_variance(problem, C, s2, full.G, full.V) - s2)
    if not np.isfinite(grown).all():
        return np.full(net.N, np.inf), np.full(net.N, np.inf)
    gap = np.abs(full.beta - beta) + np.abs(curved) + np.abs(net.activation.d2f(a)) * grown / 2
    carried = np.abs(np.linalg.inv(np.eye(net.N) - net.target_jacobian(problem.start, problem.u)))
    error = SAFETY * carried @ (gap if net.form == "rate" else np.abs(net.W) @ gap)
    return error, error if net.form == "rate" else np.abs(slope) * error + SAFETY * gap


def _smoothed_variance(problem: Problem, C: Array, s2: Array, G: Array, V: Array) -> Array:
    """Input variance s^2 from C = J C J^T + g R g with the smoothed J and R = diag(V - G^2 S); infinite where
    that dynamics is unstable."""
    net = problem.network
    g = np.broadcast_to(net.gamma, (net.N,))
    noise = np.broadcast_to(np.square(problem.sigma), (net.N,))
    own = s2 - noise if net.form == "rate" and net.placement == "in" else s2
    R = np.diag(np.maximum(V - G**2 * own, 0.0))
    J = np.diag(1 - g) + g[:, None] * (G[:, None] * net.W if net.form == "rate" else net.W * G)
    if net.form == "current":
        R = net.W @ R @ net.W.T
    if net.form == "current" or net.placement == "out":
        R = R + np.diag(noise)
    try:
        return input_variance(problem, stationary_covariance(J, g[:, None] * R * g))
    except Unstable:
        return np.full(net.N, np.inf)
