"""Small noise: the leading terms in sigma about a stable fixed point h*, for smooth f.

With D = diag f'(x*), J the Jacobian of the step and Gamma = diag gamma (rate form),

    C = J C J^T + Gamma diag(sigma^2 f'^2) Gamma  [in]     or + Gamma diag(sigma^2) Gamma  [out]
    m - h* = (I - D W)^{-1} 1/2 f''(x*) o diag(sigma^2 I [in only] + W C W^T)  + O(sigma^4)

and in the current form, where the state itself enters f,

    C = J C J^T + Gamma diag(sigma^2) Gamma,    m - x* = (I - W D)^{-1} W 1/2 f''(x*) o diag(C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Problem, Stationary, failed


def solve(problems: Sequence[Problem], rng: Any = 0) -> list[Stationary]:
    """Each problem by the leading order in sigma; `rng` is not used: the method is deterministic."""
    return [_solve(problem) for problem in problems]


def _solve(problem: Problem) -> Stationary:
    net, h = problem.net, problem.start
    if not problem.stable:
        return failed(problem, "small-noise", Status.NO_STABLE_FIXED_POINT)
    if not net.activation.smooth:
        return failed(problem, "small-noise", Status.NOT_APPLICABLE, reason=f"{net.activation.name} has a kink")
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
        return failed(problem, "small-noise", Status.UNSTABLE)
    s2 = input_variance(problem, C)
    beta = curvature * s2 / 2
    shift = np.linalg.solve(
        np.eye(net.N) - net.target_jacobian(h, problem.u), beta if net.form == "rate" else net.W @ beta
    )
    rates = h + shift if net.form == "rate" else net.activation.f(h) + slope * shift + beta
    error = _next_order(problem, h + shift, s2, beta)
    return Stationary(
        mean=h + shift,
        cov=C,
        error=error,
        output=net.readout(rates),
        output_error=output_error(problem, error),
        status=Status.OK,
        method="small-noise",
        scope="local",
        start=h,
        provenance=Provenance("small-noise", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
    )


def input_variance(problem: Problem, C: Array) -> Array:
    """s_i^2, the variance of what enters f: diag(W C W^T), plus sigma^2 with noise in; diag C in the current form."""
    net = problem.net
    if net.form == "current":
        return np.maximum(np.diag(C), 0.0)
    s2 = np.maximum(np.einsum("ij,ij->i", net.W @ C, net.W), 0.0)
    return s2 + np.square(problem.sigma) if net.placement == "in" else s2


def output_error(problem: Problem, error: Array) -> Array:
    """Bound on the output's error from that of the state (rates, in the current form): |W_out| error."""
    net = problem.net
    return error if net.W_out is None else np.abs(net.W_out) @ error


def _next_order(problem: Problem, mean: Array, s2: Array, beta: Array) -> Array:
    """What the neglected orders may amount to: the difference between the full smoothing by s at the shifted
    mean and its leading term, carried through the recurrence."""
    net = problem.net
    a = net.preactivation(mean, problem.u)
    full = net.activation.beta(a, np.sqrt(s2))
    h = problem.start
    gap = np.abs(full - beta) + np.abs(_curved(problem, mean))
    gain = np.abs(np.linalg.inv(np.eye(net.N) - net.target_jacobian(h, problem.u)))
    return gain @ (gap if net.form == "rate" else np.abs(net.W) @ gap)


def _curved(problem: Problem, mean: Array) -> Array:
    """f(x) - f(x*) - f'(x*) (x - x*) at the shifted mean: what linearising the recurrence left out."""
    net = problem.net
    a, x = net.preactivation(mean, problem.u), net.preactivation(problem.start, problem.u)
    return net.activation.difference(x, a - x) - net.activation.df(x) * (a - x)
