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

from collections.abc import Iterator
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
FRACTIONS = (0.12, 0.25, 0.5, 1.0, 2.0, 4.0)  #: of the first margin about where the network rests
RESOLVED = 1e-6  #: change at which a leak is no lack of nodes
LASTING = 0.3  #: of a leak that more nodes leave: then it is one
MOST = 3e7  #: numbers held at once
HOPS = 1e-9  #: part of a deviation that a period does away with, below which the law of several basins is not known


class Response(NamedTuple):
    """Mean of the rate after each step (P,), the power density of its noise, the relative error of both, and the
    probability to leave the box in a step."""

    mean: Array
    noise: float
    error: float
    status: Status
    leak: float = np.inf


def exact(net: Network, inputs: Array, sigma: Array) -> Response:
    """Of the one neuron `net` under the periodic `inputs` (P, n_in) and noise `sigma` (1,) > 0."""
    P = len(inputs)
    lines = [Line(Step(Problem(net, u, sigma, np.zeros(1)))) for u in inputs]
    unknown = Response(np.full(P, np.nan), np.nan, np.nan, Status.NOT_CONVERGED)
    with np.errstate(all="ignore"):
        try:
            for low, high in _boxes(net, lines, inputs, sigma):
                found = _refined(lines, low, high, unknown)
                if found.status is Status.TOO_LARGE or found.leak <= LEAK:
                    return found
        except Unresolved:
            return unknown._replace(status=Status.TOO_LARGE)
        except np.linalg.LinAlgError:
            pass
    return unknown


def _refined(lines: list[Line], low: float, high: float, unknown: Response) -> Response:
    """On one box, with more nodes until both numbers stand; the first answer where the box leaks."""
    P, before = len(lines), None
    for n in LADDER[1:]:
        if 2 * P * n * n > MOST:
            return unknown._replace(status=Status.TOO_LARGE)
        found = _solved(lines, low, high, n)
        if found.status is Status.METASTABLE:
            return unknown._replace(status=found.status, leak=found.leak)
        if before is not None:
            change = np.abs(_fundamental(found.mean - before.mean)) / np.abs(_fundamental(found.mean))
            error = float(max(change, abs(found.noise / before.noise - 1)))
            found = found._replace(error=error)
            lasts = error <= RESOLVED and found.leak > max(LEAK, LASTING * before.leak)
            if error <= TOLERANCE or lasts:
                return found
        before = found
    return found._replace(status=Status.NOT_CONVERGED)


def _fundamental(m: Array) -> complex:
    return complex(np.fft.rfft(m)[1])


def _boxes(net: Network, lines: list[Line], inputs: Array, sigma: Array) -> Iterator[tuple[float, float]]:
    """From the narrowest that the laws at the extreme inputs do not leave, wider and wider."""
    drives = [line.d for line in lines]
    ends = [int(np.argmin(drives)), int(np.argmax(drives))]
    extents = [extent(lines[k], Problem(net, inputs[k], sigma, np.zeros(1))) for k in ends]
    first = min(low for low, _, _ in extents), max(high for _, high, _ in extents)
    rest = min(rests[0] for _, _, rests in extents), max(rests[1] for _, _, rests in extents)
    if not np.isfinite(rest).all():
        yield first
        return
    limits = min(line.limits[0] for line in lines), max(line.limits[1] for line in lines)
    for part in FRACTIONS:
        low = max(rest[0] - part * (rest[0] - first[0]), limits[0])
        high = min(rest[1] + part * (first[1] - rest[1]), limits[1])
        last = part == FRACTIONS[-1]  # few nodes may not tell
        if high > low and (last or all(collocate(lines[k], low, high, LADDER[2]).leak.max() <= LEAK for k in ends)):
            yield low, high


def _solved(lines: list[Line], low: float, high: float, n: int) -> Response:
    y, V = nodes(low, high, n)
    K, Z, r, rr, out = _steps(lines, y, np.asarray(np.linalg.inv(V), np.float64), low, high)
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
    leak = float(np.abs(np.einsum("kn,kn->k", p, out)).max())
    return Response(mean, noise / P, np.inf, status, leak)


def _steps(
    lines: list[Line], y: Array, inverse: Array, low: float, high: float
) -> tuple[list[Array], list[Array], Array, Array, Array]:
    """K_k and what it makes of r_k times a function, (n, n) each; E[r_k | y] and E[r_k^2 | y], (P, n), and the
    probability to be put on an end of the box that is no bound of the state, (P, n)."""
    n, K, Z, r, rr, leak = len(y), [], [], [], [], []
    for line in lines:
        move = rule(line, y, low, high, n, line.kinked)
        state = line.state(y, move.xi)
        rate = line.f(state) if line.step.current else np.broadcast_to(state, move.weight.shape)
        E, out = matrix(move.after, move.weight, low, high, n)
        K.append(E @ inverse)
        leak.append(out @ [low > line.limits[0], high < line.limits[1]])
        r.append((move.weight * rate).sum(axis=0))
        weighted = matrix(move.after, move.weight * rate, low, high, n)[0]
        weighted[:, 0] = r[-1]  # `matrix` takes its weights to sum to 1
        Z.append(weighted @ inverse)
        outside = not (line.inside or line.step.current)  # several xi of the rule may stand as one for their mean only
        rr.append(y**2 + line.tau**2 if outside else (move.weight * rate**2).sum(axis=0))
    return K, Z, np.array(r), np.array(rr), np.array(leak)


def _slowest(cycle: Array) -> float:
    """1 - |the second eigenvalue|."""
    sizes = np.sort(np.abs(np.linalg.eigvals(cycle)))
    return float(1 - sizes[-2])
