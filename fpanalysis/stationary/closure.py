"""Gaussian closure (moment closure, statistical linearisation) of the stationary mean and covariance.

Unknowns: mean m and covariance C of the state. Rate form, with noise in [in] or out [out]:

    a = W m + W_in u + b,    S = W C W^T + sigma^2 I [in],    s_i^2 = S_ii
    m = M(a, s)
    C = (1-g) C (1-g) + (1-g) X g + g X^T (1-g) + g Q g,      g = diag gamma,  X = C W^T diag G
    Q_ij = sum_{k>=1} c_k^i c_k^j rho_ij^k (i != j),  Q_ii = V(a_i, s_i) + sigma^2 [out]

Current form, with s_i^2 = C_ii and the moments at (m, s):

    m = W M(m, s) + W_in u + b,     X = C diag(G) W^T,     Q -> W Q W^T + sigma^2 I

X is exact for Gaussian states (Stein's lemma), Q is Mehler's sum. The equations are those of the discrete
chain: no continuous-time limit is taken. Their solution is corrected to first order in the third cumulants, and the
size of the second order is the stated error (`_cumulants`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from fpanalysis.fixed_points import settle
from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._cumulants import Source, cumulants, first_order, second_order
from fpanalysis.stationary._equations import TOLERANCE, NotConverged, Solution, State, iterate, jacobian
from fpanalysis.stationary._lyapunov import Lyapunov, Unstable
from fpanalysis.stationary._nonlinear import Nonlinear, nonlinear_moments
from fpanalysis.stationary._result import Array, Problem, Stationary, failed, unsettled

SAFETY = 6.0  #: stated error over the size of the second-order terms: docs/benchmarks.md says what it covers
COV_SAFETY = 12.0  #: the same for the covariance
ROUNDING = 1e-13  #: relative precision of the mean, to which Newton's iteration solves
LAGS = 2e-3  #: relative precision of the sum over lags, and of the response to it


def solve(problems: Sequence[Problem], rng: Any = 0) -> list[Stationary]:
    """Each problem by the closure; problems that share network, input and start are solved upward in sigma,
    each from the level below it. `rng` is not used: the method is deterministic."""
    results: list[Stationary] = [failed(problem, "closure", Status.NOT_CONVERGED) for problem in problems]
    for chain in _sweeps(problems):
        warm: list[State] = []
        for k in chain:
            results[k] = _solve(problems[k], warm)
        solved = [k for k in chain if results[k].status.ok]
        for k in _strayed([problems[k] for k in solved], [results[k].mean for k in solved]):
            left = results[solved[k]]
            results[solved[k]] = failed(problems[solved[k]], "closure", Status.LEFT_BASIN, tentative_mean=left.mean)
    return results


def _sweeps(problems: Sequence[Problem]) -> Iterator[list[int]]:
    groups: dict[tuple[int, bytes, bytes], list[int]] = {}
    for k, problem in enumerate(problems):
        groups.setdefault((id(problem.net), problem.u.tobytes(), problem.start.tobytes()), []).append(k)
    for chain in groups.values():
        yield sorted(chain, key=lambda k: float(np.max(problems[k].sigma)))


def _solve(problem: Problem, warm: list[State]) -> Stationary:
    if not problem.stable:
        return failed(problem, "closure", unsettled(problem))
    sigma = np.broadcast_to(problem.sigma, (problem.net.N,)).astype(float)
    try:
        plain = _reach(problem, sigma, warm)
        result = _result(problem, plain)
    except (Unstable, np.linalg.LinAlgError):
        return failed(problem, "closure", Status.UNSTABLE)
    except NotConverged:
        return failed(problem, "closure", Status.NOT_CONVERGED)
    warm.append(plain.state)
    return result


def _reach(problem: Problem, sigma: Array, warm: list[State]) -> Solution:
    """Solve at once, or, where that fails, level by level."""
    try:
        return iterate(problem, _guess(problem, sigma, warm))
    except (Unstable, NotConverged):
        return _continuation(problem, sigma, warm)


def _guess(problem: Problem, sigma: Array, warm: list[State]) -> State:
    """Extrapolated from the levels below (a polynomial in the noise level through up to three of them and the
    fixed point), or the fixed point itself."""
    by_level = {float(np.max(state.sigma)): state for state in warm if np.max(state.sigma) > 0}
    past = list(by_level.values())[-3:]  # each level once: profiles with the same largest entry share a node
    if not past:
        return State(sigma, problem.start.copy(), np.zeros_like(problem.network.W))
    x, nodes = float(np.max(sigma)), [float(np.max(state.sigma)) for state in past]
    m = _lagrange(x, [0.0, *nodes], [problem.start, *(state.m for state in past)])
    C = x**2 * _lagrange(x, nodes, [state.C / node**2 for state, node in zip(past, nodes, strict=True)])
    return State(sigma, m, C)


def _lagrange(x: float, nodes: list[float], values: list[Array]) -> Array:
    total = np.zeros_like(values[0])
    for i, value in enumerate(values):
        total += value * np.prod([(x - q) / (nodes[i] - q) for j, q in enumerate(nodes) if j != i])
    return total


def _continuation(problem: Problem, sigma: Array, warm: list[State]) -> Solution:
    """Reach `sigma` from the nearest solved level in steps that halve where one fails."""
    path = list(warm)
    low = path[-1].sigma if path else np.zeros_like(sigma)
    done, step, tries = 0.0, 0.5, 0
    while True:
        t = min(1.0, done + step)
        level = low + t * (sigma - low)
        tries += 1
        try:
            found = iterate(problem, _guess(problem, level, path))
        except (Unstable, NotConverged):
            step /= 2
            if step < 1 / 64 or tries > 40:
                raise
            continue
        if t == 1.0:
            return found
        path.append(found.state)
        done = t


def _strayed(problems: list[Problem], means: list[Array]) -> list[int]:
    """Those whose noisy mean the noise-free dynamics does not bring back to the fixed point it belongs to."""
    if not problems:
        return []
    start = problems[0].start
    h, rests = settle(problems[0].net, np.array(means), problems[0].u)
    back = rests & (np.abs(h - start).max(axis=1) <= 1e-5 * (1 + np.abs(start).max()))
    return [k for k, home in enumerate(back) if not home]


def _result(problem: Problem, plain: Solution) -> Stationary:
    """The closure solution corrected to first order in the cumulants; the error is the size of the second order."""
    net, terms, C = problem.network, plain.terms, plain.state.C
    G = terms.moments.G
    x = nonlinear_moments(net.activation, terms.a, terms.s)
    q = cumulants(net, jacobian(net, G), C, G, x, plain.state.sigma**2)
    first = first_order(net, C, G, x, q)
    found = iterate(problem, plain.state, plain, first)
    m, rates = found.state.m, found.terms.moments.M + first.f
    change = rates - terms.moments.M
    sizes, dC = _remainder(net, plain, x, second_order(net, C, G, x, q))
    cut = TOLERANCE * x.M[2] * terms.s**2 + ROUNDING * (1 + np.abs(rates))
    parts = np.vstack([SAFETY * sizes, LAGS * change, terms.remainder * change, cut])
    unknown = 1.0 if q.converged else np.inf
    states = parts if net.form == "rate" else parts @ net.W.T
    outputs = np.array([net.readout(df) for df in parts]) - net.readout(np.zeros(net.N))
    return Stationary(
        mean=m,
        cov=found.state.C,
        error=unknown * np.abs(states).sum(axis=0),
        output=net.readout(m if net.form == "rate" else rates),
        output_error=unknown * np.abs(outputs).sum(axis=0),
        status=Status.OK,
        method="closure",
        scope="local",
        start=problem.start,
        provenance=Provenance("closure", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details={
            "iterations": plain.steps + found.steps,
            "correction": m - plain.state.m,
            "cov_error": unknown * (COV_SAFETY * dC + LAGS * np.abs(found.state.C - C) + TOLERANCE * np.abs(C).max()),
            "a": found.terms.a,
            "s": found.terms.s,
            "rates": rates,
            "mehler_remainder": terms.remainder,
        },
    )


def _remainder(net: Network, plain: Solution, x: Nonlinear, second: Sequence[Source]) -> tuple[Array, Array]:
    """Sizes of what the first order leaves out: parts of the change of the mean of f (one per row), and of C."""
    N, G = net.N, plain.terms.moments.G
    lyapunov = Lyapunov(jacobian(net, G), np.float32)
    dC = [lyapunov.solve(part.R, 1e-3) for part in second]
    O = net.W if net.form == "rate" else np.eye(N)
    spreads = [x.M[2] / 2 * np.einsum("ij,ij->i", O @ part, O) for part in dC]
    df = np.column_stack([*(part.f for part in second), *spreads, x.rare])
    # E f changes by df + G do, where do = W dE f in both forms
    return np.linalg.solve(np.eye(N) - G[:, None] * net.W, df).T, np.sum(np.abs(dC), axis=0)
