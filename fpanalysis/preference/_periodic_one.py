"""The exact periodic law of one driven neuron: the mean of its rate over a period, and the noise about it.

Let K_k g (y) = E[g(y_k+1) | y_k = y] be the step at phase k of the period P, on Chebyshev nodes, and r_k the rate that
goes with it. The product of all K_k has one law p_0 that it leaves as it is, p_k+1 = p_k K_k, and the mean is m_k =
p_k E[r_k | y]. With omega = 2 pi / P, where e^{-i omega P} = 1,

    R_k = E[r_k | y] - m_k + e^{-i omega} K_k R_k+1,      R_P = R_0

sums all later deviations with their phases, and the power of what is not periodic, at the drive's frequency, is

    S(omega) = sum_tau <C_k(tau)> e^{-i omega tau} = <Var r_k + 2 Re e^{-i omega} p_k E[(r_k - m_k) R_k+1(y_k+1) | y]>

the averages <> being over the phases. Without approximation but that of the nodes, whose number grows until both stay.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from fpanalysis.network import Network
from fpanalysis.results import Status
from fpanalysis.stationary._chain_one import LADDER, collocate, extent
from fpanalysis.stationary._one_step import Line, matrix, nodes, rule
from fpanalysis.stationary._result import Array, Problem
from fpanalysis.stationary._transition import Step, Unresolved

TOLERANCE = 1e-7  #: relative change with the number of nodes at which both numbers stand
LEAK = 1e-12  #: probability per step to leave the box
FRACTIONS = (0.12, 0.25, 0.5, 1.0, 2.0)  #: of the first margin about where the network rests
MOST = 3e7  #: numbers held at once
HOPS = 1e-9  #: part of a deviation that a period does away with, below which the law of several basins is not known


class Response(NamedTuple):
    """Mean of the rate after each step (P,), the power density of its noise, and the relative error of both."""

    mean: Array
    noise: float
    error: float
    status: Status


def exact(net: Network, inputs: Array, sigma: Array) -> Response:
    """Of the one neuron `net` under the periodic `inputs` (P, n_in) and noise `sigma` (1,) > 0."""
    P = len(inputs)
    lines = [Line(Step(Problem(net, u, sigma, np.zeros(1)))) for u in inputs]
    unknown = Response(np.full(P, np.nan), np.nan, np.nan, Status.NOT_CONVERGED)
    before: Response | None = None
    with np.errstate(all="ignore"):
        try:
            low, high = _box(net, lines, inputs, sigma)
            for n in LADDER[1:]:
                if 2 * P * n * n > MOST:
                    return unknown._replace(status=Status.TOO_LARGE)
                found = _solved(lines, low, high, n)
                if found.status is Status.METASTABLE:
                    return unknown._replace(status=found.status)
                if before is not None:
                    change = np.abs(_fundamental(found.mean - before.mean)) / np.abs(_fundamental(found.mean))
                    error = float(max(change, abs(found.noise / before.noise - 1)))
                    if error <= TOLERANCE:
                        return found._replace(error=error)
                    found = found._replace(error=error)
                before = found
        except Unresolved:
            return unknown._replace(status=Status.TOO_LARGE)
        except np.linalg.LinAlgError:
            return unknown
    return unknown if before is None else before._replace(status=Status.NOT_CONVERGED)


def _fundamental(m: Array) -> complex:
    return complex(np.fft.rfft(m)[1])


def _box(net: Network, lines: list[Line], inputs: Array, sigma: Array) -> tuple[float, float]:
    """The narrowest that the laws at the extreme inputs do not leave."""
    drives = [line.d for line in lines]
    ends = [int(np.argmin(drives)), int(np.argmax(drives))]
    extents = [extent(lines[k], Problem(net, inputs[k], sigma, np.zeros(1))) for k in ends]
    first = min(low for low, _, _ in extents), max(high for _, high, _ in extents)
    rest = min(rests[0] for _, _, rests in extents), max(rests[1] for _, _, rests in extents)
    low, high = first
    if not np.isfinite(rest).all():
        return low, high
    limits = lines[0].limits
    for part in FRACTIONS:
        low = max(rest[0] - part * (rest[0] - first[0]), limits[0])
        high = min(rest[1] + part * (first[1] - rest[1]), limits[1])
        if high > low and all(collocate(lines[k], low, high, LADDER[2]).leak.max() <= LEAK for k in ends):
            break
    return low, high


def _solved(lines: list[Line], low: float, high: float, n: int) -> Response:
    y, V = nodes(low, high, n)
    K, Z, r, rr = _steps(lines, y, np.asarray(np.linalg.inv(V), np.float64), low, high)
    P, turn = len(lines), np.exp(-2j * np.pi / len(lines))
    cycle = np.eye(n)
    for step in K:
        cycle = cycle @ step
    rest = np.eye(n) - cycle
    rest_inverse = np.linalg.inv(rest + 1.0 / n)  # the constant function is what the cycle leaves as it is
    p = [np.full(n, 1.0 / n) @ rest_inverse]
    p[0] = p[0] / p[0].sum()
    for step in K[:-1]:
        p.append(p[-1] @ step)
    mean = np.einsum("kn,kn->k", p, r)
    variance = np.einsum("kn,kn->k", p, rr) - mean**2
    total = np.zeros(n, complex)
    for k in reversed(range(P)):
        total = r[k] - mean[k] + turn * (K[k] @ total)
    later = rest_inverse @ (total - (p[0] @ total))
    later -= p[0] @ later
    noise = 0.0
    for k in reversed(range(P)):
        noise += variance[k] + 2 * float(np.real(turn * (p[k] @ ((Z[k] - mean[k] * K[k]) @ later))))
        later = r[k] - mean[k] + turn * (K[k] @ later)
    status = Status.METASTABLE if _slowest(cycle) < HOPS else Status.OK
    if not lines[0].inside:  # the rates are those before the step
        mean = np.roll(mean, -1)
    return Response(mean, noise / P, np.inf, status)


def _steps(
    lines: list[Line], y: Array, inverse: Array, low: float, high: float
) -> tuple[list[Array], list[Array], Array, Array]:
    """K_k and what it makes of r_k times a function, (n, n) each; E[r_k | y] and E[r_k^2 | y], (P, n)."""
    n, K, Z, r, rr = len(y), [], [], [], []
    for line in lines:
        move = rule(line, y, low, high, n, line.kinked)
        state = line.state(y, move.xi)
        rate = line.f(state) if line.step.current else np.broadcast_to(state, move.weight.shape)
        K.append(matrix(move.after, move.weight, low, high, n)[0] @ inverse)
        r.append((move.weight * rate).sum(axis=0))
        weighted = matrix(move.after, move.weight * rate, low, high, n)[0]
        weighted[:, 0] = r[-1]  # `matrix` takes its weights to sum to 1
        Z.append(weighted @ inverse)
        outside = not (line.inside or line.step.current)  # several xi of the rule may stand as one for their mean only
        rr.append(y**2 + line.tau**2 if outside else (move.weight * rate**2).sum(axis=0))
    return K, Z, np.array(r), np.array(rr)


def _slowest(cycle: Array) -> float:
    """1 - |the second eigenvalue|."""
    sizes = np.sort(np.abs(np.linalg.eigvals(cycle)))
    return float(1 - sizes[-2])
