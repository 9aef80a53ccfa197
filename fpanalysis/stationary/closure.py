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
size of the second order, with a share of the correction, is the stated error (`_cumulants`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from fpanalysis.network import Network
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary._branch import FAILURES, End, follow
from fpanalysis.stationary._cumulants import Cumulants, Source, cumulants, first_order, second_order
from fpanalysis.stationary._equations import TOLERANCE, Solution, iterate, jacobian
from fpanalysis.stationary._nonlinear import Nonlinear, nonlinear_moments
from fpanalysis.stationary._result import Array, Problem, Stationary, failed, unsettled

SAFETY, SHARE = 3.0, 0.03  #: stated error over the size of the second-order terms, and over the correction itself,
# which stands for all higher orders and for the precision of the sum over lags: calibrated, see docs/benchmarks.md
COV_SAFETY, COV_SHARE = 6.0, 0.1  #: the same for the covariance
SMALL = 256  #: neurons up to which one BLAS thread is best: more gain little, and on a busy machine cost tenfold
TAILS = 0.1  #: least relative error of the probability of rare events
ROUNDING = 1e-13  #: relative precision of the mean, to which Newton's iteration solves


def solve(problems: Sequence[Problem], rng: Any = 0) -> list[Stationary]:
    """Each problem by the closure; problems that share network, input and start are solved upward in sigma, each from
    the levels below it, up to where their branch of solutions ends. `rng` is not used: the method is deterministic.

    Where the branch has ended, `details["last_sigma"]` is the last level on it, and `reason` says why."""
    results = [failed(problem, "closure", unsettled(problem)) for problem in problems]
    for chain in _sweeps(problems):
        N = problems[chain[0]].net.N
        levels = [np.broadcast_to(problems[k].sigma, (N,)).astype(float) for k in chain]
        with threadpool_limits(1 if N <= SMALL else None, user_api="blas"):
            for k, found in zip(chain, follow([problems[k] for k in chain], levels), strict=True):
                results[k] = _answer(problems[k], found)
    return results


def _sweeps(problems: Sequence[Problem]) -> Iterator[list[int]]:
    groups: dict[tuple[int, bytes, bytes], list[int]] = {}
    for k, problem in enumerate(problems):
        if problem.stable:
            groups.setdefault((id(problem.net), problem.u.tobytes(), problem.start.tobytes()), []).append(k)
    for chain in groups.values():
        yield sorted(chain, key=lambda k: float(np.max(problems[k].sigma)))


def _answer(problem: Problem, found: Solution | End) -> Stationary:
    if isinstance(found, End):
        return failed(problem, "closure", found.status, last_sigma=found.last_sigma, reason=found.reason)
    try:
        return _result(problem, found)
    except FAILURES:
        reason = "the closure equations have a solution, but none with their correction"
        return failed(problem, "closure", Status.NOT_CONVERGED, reason=reason, tentative_mean=found.state.m)


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
    sizes, dC = _remainder(net, plain, x, second_order(net, C, G, x, q), _rare(net, plain, x, q))
    cut = TOLERANCE * x.M[2] * terms.s**2 + ROUNDING * (1 + np.abs(rates))
    parts = np.vstack([SAFETY * sizes, SHARE * change, terms.remainder * change, cut])
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
            "cov_error": unknown
            * (COV_SAFETY * dC + COV_SHARE * np.abs(found.state.C - C) + TOLERANCE * np.abs(C).max()),
            "a": found.terms.a,
            "s": found.terms.s,
            "rates": rates,
            "mehler_remainder": terms.remainder,
        },
    )


def _remainder(
    net: Network, plain: Solution, x: Nonlinear, second: Sequence[Source], rare: Array
) -> tuple[Array, Array]:
    """Sizes of what the first order leaves out: parts of the change of the mean of f (one per row), and of C."""
    N, G = net.N, plain.terms.moments.G
    dC = [plain.solver.solve(part.R, 1e-2) for part in second]  # to the accuracy of a size
    O = net.W if net.form == "rate" else np.eye(N)
    spreads = [x.M[2] / 2 * np.einsum("ij,ij->i", O @ part, O) for part in dC]
    df = np.column_stack([*(part.f for part in second), *spreads, rare])
    # E f changes by df + G do, where do = W dE f in both forms
    return np.linalg.solve(np.eye(N) - G[:, None] * net.W, df).T, np.sum(np.abs(dC), axis=0)


def _rare(net: Network, plain: Solution, x: Nonlinear, q: Cumulants) -> Array:
    """What events beyond three standard deviations may add to the mean of f, (N,): of what they do in a Gaussian, the
    share of recurrent variance, times the relative change of such tails by skewness (27 / 6) and kurtosis (81 / 24),
    at least TAILS and at most all of it."""
    s2 = np.maximum(plain.terms.s**2, 1e-100)
    direct = plain.state.sigma**2 / s2 if net.form == "rate" and net.placement == "in" else 0.0
    change = TAILS + 4.5 * np.abs(q.t) / s2**1.5 + 3.4 * np.abs(q.k) / s2**2
    return np.asarray(x.rare * np.maximum(1 - direct, 0) * np.minimum(change, 1))
