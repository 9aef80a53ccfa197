"""Gaussian closure (moment closure, statistical linearisation) of the stationary mean and covariance.

Unknowns: mean m and covariance C of the state. Rate form, with noise in [in] or out [out]:

    a = W m + W_in u + b,    S = W C W^T + sigma^2 I [in],    s_i^2 = S_ii
    m = M(a, s)
    C = (1-g) C (1-g) + (1-g) X g + g X^T (1-g) + g Q g,      g = diag gamma,  X = C W^T diag G
    Q_ij = sum_{k>=1} c_k^i c_k^j rho_ij^k (i != j),  Q_ii = V(a_i, s_i) + sigma^2 [out]

Current form, with s_i^2 = C_ii and the moments at (m, s):

    m = W M(m, s) + W_in u + b,     X = C diag(G) W^T,     Q -> W Q W^T + sigma^2 I

X is exact for Gaussian states (Stein's lemma), Q is Mehler's sum. The equations are those of the discrete
chain: no continuous-time limit is taken. A few outer steps around a doubling Lyapunov solve: the residual r of
the covariance equation is formed in float64, C <- C + P r with P a Lyapunov solve whose powers of the
Jacobian are kept in float32, and the sequence is accelerated (Anderson, J. ACM 1965).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np

from fpanalysis.activations import Moments
from fpanalysis.fixed_points import settle
from fpanalysis.gaussian import mehler_sum
from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._lyapunov import Lyapunov, Unstable
from fpanalysis.stationary._result import Array, Problem, Stationary, failed, unsettled
from fpanalysis.stationary._skewness import correct

TOLERANCE = 1e-9  #: relative change of C, and of m in units of the noise's own scale, at convergence
ITERATIONS = 80
DEPTH = 6  #: steps that Anderson acceleration looks back
SAFETY = 1.5  #: error estimate over the size of the correction: docs/benchmarks.md says what it covers
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
    Q: Array  #: covariance of f(x), (N, N)
    remainder: float  #: bound on what Mehler's sum left out, relative to max V


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
        state, terms, steps = _reach(problem, sigma, warm)
        result = _result(problem, state, terms, steps)
    except (Unstable, np.linalg.LinAlgError):
        return failed(problem, "closure", Status.UNSTABLE)
    except NotConverged:
        return failed(problem, "closure", Status.NOT_CONVERGED)
    warm.append(state)
    return result


def _reach(problem: Problem, sigma: Array, warm: list[State]) -> tuple[State, Terms, int]:
    """Solve at once, or, where that fails, level by level."""
    try:
        return _iterate(problem, _guess(problem, sigma, warm))
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


def _continuation(problem: Problem, sigma: Array, warm: list[State]) -> tuple[State, Terms, int]:
    """Reach `sigma` from the nearest solved level in steps that halve where one fails."""
    path = list(warm)
    low = path[-1].sigma if path else np.zeros_like(sigma)
    done, step, tries = 0.0, 0.5, 0
    while True:
        t = min(1.0, done + step)
        level = low + t * (sigma - low)
        tries += 1
        try:
            state, terms, steps = _iterate(problem, _guess(problem, level, path))
        except (Unstable, NotConverged):
            step /= 2
            if step < 1 / 64 or tries > 40:
                raise
            continue
        if t == 1.0:
            return state, terms, steps
        path.append(state)
        done = t


def _iterate(problem: Problem, state: State) -> tuple[State, Terms, int]:
    """Solve the closure equations from the guess `state`."""
    net, N = problem.network, problem.net.N
    variance = state.sigma**2
    m, C = state.m, state.C
    history: list[tuple[Array, Array]] = []
    solver: Lyapunov | None = None
    change = last = np.inf
    scale = float(np.max(state.sigma))
    for steps in range(1, ITERATIONS + 1):
        previous = m
        m, terms = _terms(problem, variance, m, C)
        r = _residual(net, terms, C, variance)
        if solver is None or change > 0.3 * last:
            solver = Lyapunov(_jacobian(net, terms.moments.G), np.float32)
        correction = solver.solve(r, 1e-4)
        correction = (correction + correction.T) / 2
        last, change = change, float(np.abs(correction).max() / np.abs(C + correction).max())
        drift = float(np.abs(m - previous).max()) / (scale + float(np.abs(m - problem.start).max()))
        if not np.isfinite(change):
            raise NotConverged
        if max(change, drift if steps > 1 else np.inf) < TOLERANCE:
            return State(state.sigma, m, C + correction), terms, steps
        C = _accelerate(history, C, correction).reshape(N, N)
    raise NotConverged


def _accelerate(history: list[tuple[Array, Array]], C: Array, correction: Array) -> Array:
    """Anderson's mixture of the last iterates that minimises the combined correction."""
    history.append((C.ravel(), correction.ravel()))
    del history[: -DEPTH - 1]
    x, f = history[-1]
    if len(history) == 1:
        return x + f
    dx = np.array([x - past for past, _ in history[:-1]])
    df = np.array([f - past for _, past in history[:-1]])
    theta = np.linalg.lstsq(df @ df.T, df @ f, rcond=1e-14)[0]
    return x + f - theta @ (dx + df)


def _terms(problem: Problem, variance: Array, m: Array, C: Array) -> tuple[Array, Terms]:
    """The mean that belongs to C (from the guess m), and the pieces of the equations there."""
    net = problem.network
    if net.form == "rate":
        S = net.W @ C @ net.W.T
        s2 = np.maximum(np.diag(S), 0.0) + (variance if net.placement == "in" else 0.0)
    else:
        S, s2 = C, np.maximum(np.diag(C), 0.0)
    s = np.sqrt(s2)
    m, a, moments = _mean(problem, m, s)
    inverse = np.where(s > 0, 1 / np.where(s > 0, s, 1.0), 0.0)
    rho = np.clip(S * inverse[:, None] * inverse, -1.0, 1.0)
    np.fill_diagonal(rho, 0.0)
    Q, remainder = _mehler(net, a, s, moments.V, rho)
    return m, Terms(a, s, moments, Q, remainder)


def _mehler(net: Network, a: Array, s: Array, V: Array, rho: Array) -> tuple[Array, float]:
    """Cov f(x) and the bound max |rho|^{K+1} sqrt(T_i T_j) on what was cut off, relative to max V."""
    top = float(np.abs(rho).max(initial=0.0))
    K = ORDERS[1] if top > 0.999 else int(np.clip(log(TOLERANCE) / log(max(top, 1e-12)), *ORDERS))
    c = net.activation.hermite(a, s, K)
    Q = mehler_sum(c, rho)
    tail = np.maximum(V - (c[:, 1:] ** 2).sum(axis=1), 0.0).max(initial=0.0)
    np.fill_diagonal(Q, V)
    return Q, float(top ** (K + 1) * tail / max(float(V.max()), 1e-300))


def _mean(problem: Problem, m: Array, s: Array) -> tuple[Array, Array, Moments]:
    """Newton on m = M(W m + drive, s) (rate form) or m = W M(m, s) + drive (current form)."""
    net = problem.network
    drive = net.drive(problem.u)
    a, moments, gap = _mean_gap(net, drive, m, s)
    size = np.abs(gap).max()
    for _ in range(50):
        if size <= 1e-13 * (1 + np.abs(m).max()):
            return m, a, moments
        try:
            step = np.linalg.solve(np.eye(net.N) - _linear(net, moments.G), gap)
        except np.linalg.LinAlgError:
            raise NotConverged from None
        t = 1.0
        while True:
            trial = m + t * step
            a_t, moments_t, gap_t = _mean_gap(net, drive, trial, s)
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


def _linear(net: Network, G: Array) -> Array:
    """The smoothed network's dF/dh: diag(G) W (rate form) or W diag(G) (current form)."""
    return G[:, None] * net.W if net.form == "rate" else net.W * G


def _jacobian(net: Network, G: Array) -> Array:
    g = np.broadcast_to(net.gamma, (net.N,))
    return np.diag(1 - g) + g[:, None] * _linear(net, G)


def _residual(net: Network, terms: Terms, C: Array, variance: Array) -> Array:
    """Right-hand side minus left-hand side of the covariance equation."""
    g = np.broadcast_to(net.gamma, (net.N,))
    X = C @ _linear(net, terms.moments.G).T
    Q = terms.Q if net.form == "rate" else net.W @ terms.Q @ net.W.T
    cross = (1 - g)[:, None] * X * g
    r = (np.outer(1 - g, 1 - g) - 1) * C + cross + cross.T + np.outer(g, g) * Q
    if net.form == "current" or net.placement == "out":
        r[np.diag_indices(net.N)] += g**2 * variance
    return r


def _strayed(problems: list[Problem], means: list[Array]) -> list[int]:
    """Those whose noisy mean the noise-free dynamics does not bring back to the fixed point it belongs to."""
    if not problems:
        return []
    start = problems[0].start
    h, rests = settle(problems[0].net, np.array(means), problems[0].u)
    back = rests & (np.abs(h - start).max(axis=1) <= 1e-5 * (1 + np.abs(start).max()))
    return [k for k, home in enumerate(back) if not home]


def _result(problem: Problem, state: State, terms: Terms, steps: int) -> Stationary:
    """The closure solution with its leading correction; the error is that correction's size."""
    net = problem.network
    G = terms.moments.G
    correction = correct(net, state.C, terms.a, terms.s, G, state.sigma**2)
    parts = list(zip(correction.m, (correction.skewness, correction.variance), strict=True))
    rates = [G * (net.W @ dm if net.form == "rate" else dm) + df for dm, df in parts]
    outputs = [net.readout(dr) - net.readout(np.zeros(net.N)) for dr in rates]
    return Stationary(
        mean=state.m + sum(correction.m),
        cov=state.C + correction.C,
        error=_stated(correction.m, terms, correction.converged),
        output=net.readout(terms.moments.M + sum(rates)),
        output_error=_stated(outputs, terms, correction.converged),
        status=Status.OK,
        method="closure",
        scope="local",
        start=problem.start,
        provenance=Provenance("closure", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details={
            "iterations": steps,
            "correction": sum(correction.m),
            "a": terms.a,
            "s": terms.s,
            "rates": terms.moments.M + sum(rates),
            "mehler_remainder": terms.remainder,
        },
    )


def _stated(parts: Sequence[Array], terms: Terms, converged: bool) -> Array:
    """The error stated for a correction that is the sum of `parts`; infinite where they are not known."""
    size = np.sum(np.abs(parts), axis=0)
    return SAFETY * (1 + terms.remainder) * size if converged else np.full(size.shape, np.inf)
