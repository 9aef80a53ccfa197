"""The exact discrete law of one to three neurons as a Markov chain of nonnegative weights: right however rare the hops.

The step from a state h puts each neuron's next state on a line, independently of the others, with a law that is known.
On nodes h_j (a tensor grid, spaced by the widths of these laws) it becomes

    P_ij = prod_d w_d(i, j_d),      w_d(i, .) >= 0 with the moments of h'_d | h_i   (see `_matching`)

so that (P g)(h_i) = E[g(h') | h_i] for every g that is smooth over one step; kinks of f and point masses of the step
do not matter. P >= 0, and `_gth` has its stationary vector p without subtraction. What p says is taken one step on,

    weight_k = sum_i p_i P(h' in B_k | h_i),      mean_k = sum_i p_i E[h'; h' in B_k | h_i] / weight_k

with the border of B_k exact in one dimension, on a four times finer grid in more. Nodes are added until weights
(relative to themselves), means and widths stand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points import find_fixed_points
from fpanalysis.gaussian import legendre_rule
from fpanalysis.network import Network
from fpanalysis.stationary._basins import basin_of, split
from fpanalysis.stationary._gth import Reducible, eliminate, slowest_rate
from fpanalysis.stationary._matching import match
from fpanalysis.stationary._result import Array, Basin, Problem

MOST = 4200  #: nodes of the largest chain
FINENESS = (0.45, 0.67, 1.0, 1.5, 2.2, 3.3, 5.0, 7.5, 11.0, 16.0)  #: nodes per width of a step's law, by level
FINER = 4  #: times as many nodes per neuron for the basins in two and three dimensions
FEWEST = {1: 40, 2: 20, 3: 12}  #: nodes per neuron at fineness 1, by number of neurons
LIKELY = 1e-6  #: probability, in units of the largest, of a state that may be eliminated last
DEGREE = 8  #: moments that the weights of a step keep, where they can
REACH = (12.0, 37.0)  #: |xi| up to which the noise is followed at the first level, and at most: exp(-37^2/2) = 1e-298


@dataclass(frozen=True, eq=False)
class PositiveLaw:
    """A law as weights on states.

    Attributes
    ----------
    states, p : (S, N) and (S,), p >= 0, sum p = 1; moments of p are those of the law.
    mean, error : (N,), and the absolute error at 95 %.
    gap : rate of the slowest relaxation per step, 1 - lambda_2, however small; NaN where it is not real.
    basins : one per stable fixed point, with errors.
    reason : why there is no law, or why it is not to be relied on; "" if it is.
    """

    states: Array
    p: Array
    mean: Array
    error: Array
    gap: float
    basins: tuple[Basin, ...]
    reason: str = ""


@dataclass(frozen=True, eq=False)
class Chain:
    """P (S, S) on states (S, N), a tensor grid of `nodes`, with the fixed points that the basins are about."""

    net: Network
    u: Array
    points: Array
    saddles: Array
    nodes: list[Array]
    reach: float
    states: Array
    P: Array
    outside: Array  #: (S,), probability that the step from a state leaves the box


def positive_law(problem: Problem, box: Array, tolerance: float = 1e-3) -> PositiveLaw:
    """The law of the Network of `problem` (at most three neurons) within `box` (2, N), its lower and upper corner.

    `tolerance` is that of the weights, relative to each, and of the means of the basins, relative to their widths.
    What does not apply, does not fit, or does not converge is said in `reason`.
    """
    net = problem.network.with_sigma(problem.sigma)
    if net.N not in FEWEST:
        return _nothing(net.N, f"{net.N} neurons: chains of nonnegative weights are for at most three")
    if not np.all(net.sigma):
        return _nothing(net.N, "a neuron without noise: its step is not a law with a width")
    fps = find_fixed_points(net, problem.u, prove=False)
    points, saddles = fps.h[fps.stable], fps.h[~fps.stable]
    if not len(points):
        return _nothing(net.N, "no stable fixed point, so no basins")
    laws: list[PositiveLaw] = []
    reason, change, deep = "", np.inf, points[0]
    for nodes, reach in _levels(net, problem.u, np.asarray(box, float)):
        size = int(np.prod([len(x) for x in nodes]))
        if size > MOST:
            grid = " x ".join(str(len(x)) for x in nodes)
            reason = f"{reason}; the next grid, {grid} nodes, does not fit ({MOST} do)".removeprefix("; ")
            break
        chain = _chain(net, problem.u, points, saddles, nodes, reach)
        try:
            law, gap = _law(chain, deep)
        except Reducible:
            reason = f"no way between some states on {size} nodes"
            continue
        laws.append(law)
        reason = _cut(chain, law, tolerance)
        if reason:
            break
        deep = max(law.basins, key=lambda basin: basin.weight).mean
        if len(laws) > 1:
            laws[-1], change = _with_errors(laws)
            if change <= tolerance:
                return replace(laws[-1], gap=gap())
            reason = f"weights or means still change by {change:.2g} with {size} nodes"
    return replace(laws[-1], gap=gap(), reason=reason) if laws else _nothing(net.N, reason)


def _cut(chain: Chain, law: PositiveLaw, tolerance: float) -> str:
    """What the box leaves out, in words; basins are told apart by the nearest fixed point here."""
    empty = [basin.fixed_point for basin in law.basins if not basin.weight > 0]
    if empty:
        return (
            f"no probability comes to the basin of {np.array2string(empty[0], precision=4)}, or the box leaves it out"
        )
    nearest = ((chain.states[:, None] - chain.points) ** 2).sum(axis=2).argmin(axis=1)
    mass, lost = (np.bincount(nearest, x, len(chain.points)) for x in (law.p, law.p * chain.outside))
    worst = float(np.max(lost[mass > 0] / mass[mass > 0]))
    return f"the box cuts the law: of a basin {worst:.2g} leaves it at each step" if worst > tolerance else ""


def _nothing(N: int, reason: str) -> PositiveLaw:
    nan = np.full(N, np.nan)
    return PositiveLaw(np.empty((0, N)), np.empty(0), nan, nan, float("nan"), (), reason)


def _levels(net: Network, u: Array, box: Array) -> Iterator[tuple[list[Array], float]]:
    """Nodes per neuron and reach of the noise, finer and finer."""
    fine = [np.linspace(low, high, 2001) for low, high in box.T]
    counted = [places(net, u, box, d, fine[d]) for d in range(net.N)]
    for level, fineness in enumerate(FINENESS[2:] if net.N == 1 else FINENESS):
        counts = [max(fineness * x[-1], fineness * FEWEST[net.N], 4) for x in counted]
        nodes = [
            np.interp(np.linspace(0, x[-1], int(np.ceil(min(n, MOST))) + 1), x, h)
            for x, h, n in zip(counted, fine, counts, strict=True)
        ]
        yield nodes, min(REACH[0] + 3 * level, REACH[1])


def places(net: Network, u: Array, box: Array, d: int, h: Array) -> Array:
    """How many widths of a step's law there are up to h (n,), in neuron d: the integral of dh / width."""
    others = [np.linspace(low, high, 7)[1:-1] if k != d else h for k, (low, high) in enumerate(box.T)]
    states = np.stack(np.meshgrid(*others, indexing="ij"), axis=-1)
    gamma, sigma = np.broadcast_to(net.gamma, (net.N,))[d], np.broadcast_to(net.sigma, (net.N,))[d]
    if net.form == "current" or net.placement == "out":
        width = np.full(len(h), gamma * sigma)
    else:
        V = net.activation.V(net.preactivation(states, u), net.sigma)[..., d]
        width = gamma * np.moveaxis(np.sqrt(V), d, 0).reshape(len(h), -1).mean(axis=1)
        width = np.maximum(width, (1e-3 if net.smooth else 0.1) * width.max())
    steps = np.diff(h) * (0.5 / width[1:] + 0.5 / width[:-1])
    return np.concatenate([[0.0], np.cumsum(steps)])


def _rule(splits: Array, reach: float, density: float) -> tuple[Array, Array]:
    """Normal noise xi (S, Q) up to `reach` and its weights, Gauss-Legendre between the `splits` (S, m)."""
    ends = np.full((len(splits), 1), reach)
    edges = np.concatenate([-ends, np.sort(np.clip(splits, -reach, reach), axis=1), ends], axis=1)
    t, w = legendre_rule(int(np.ceil(2 * reach * density)))
    width = np.diff(edges, axis=1)[:, :, None]
    xi = (edges[:, :-1, None] + width * t).reshape(len(splits), -1)
    omega = (width * w).reshape(len(splits), -1) * np.exp(-(xi**2) / 2) / sqrt(2 * pi)
    return xi, omega


def _one_step(chain: Chain, d: int, splits: Array | None = None) -> tuple[Array, Array]:
    """Where neuron d is after one step from each state, and with which probability: (S, Q) each."""
    net, S = chain.net, len(chain.states)
    cuts = [] if splits is None else [splits]
    sigma = np.broadcast_to(net.sigma, (net.N,))
    inside = net.form == "rate" and net.placement == "in"
    if inside and not net.smooth:
        cuts.append(-net.preactivation(chain.states, chain.u)[:, [d]] / sigma[d])
    density = max(5.0, 6.0 * sigma[d] / net.activation.strip) if inside else 5.0
    xi, omega = _rule(np.concatenate([np.empty((S, 0)), *cuts], axis=1), chain.reach, density)
    noise = np.zeros((*xi.shape, net.N))
    noise[..., d] = xi
    return net.step(chain.states[:, None, :], chain.u, noise)[..., d], omega


def _chain(net: Network, u: Array, points: Array, saddles: Array, nodes: list[Array], reach: float) -> Chain:
    states = np.stack(np.meshgrid(*nodes, indexing="ij"), axis=-1).reshape(-1, net.N)
    chain = Chain(net, u, points, saddles, nodes, reach, states, np.empty((0, 0)), np.zeros(len(states)))
    weights = []
    for d, x in enumerate(nodes):
        z, omega = _one_step(chain, d)
        margin = 1e-9 * (x[-1] - x[0])
        chain.outside[:] += np.where((z < x[0] - margin) | (z > x[-1] + margin), omega, 0).sum(axis=1)
        weights.append(match(z, omega, x, DEGREE)[0])
    return replace(chain, P=_joint(weights))


def _joint(weights: list[Array]) -> Array:
    """The product law (S, n_1 n_2 ...) of independent neurons with laws (S, n_1), (S, n_2), ..."""
    P = weights[0]
    for w in weights[1:]:
        P = (P[:, :, None] * w[:, None, :]).reshape(len(P), -1)
    return P


def _law(chain: Chain, deep: Array) -> tuple[PositiveLaw, Callable[[], float]]:
    """The law of the chain, eliminated down to the state nearest to `deep` (N,), a likely one; what finds its gap."""
    first = ((chain.states - deep) ** 2).sum(axis=1).argmin()
    order = np.concatenate([[first], np.delete(np.arange(len(chain.states)), first)])
    elimination = eliminate(chain.P[np.ix_(order, order)])
    p = np.empty(len(order))
    p[order] = elimination.stationary()
    basins = _basins_on_a_line(chain, p) if chain.net.N == 1 else _basins_on_a_grid(chain, p)
    nan = np.full(chain.net.N, np.nan)
    law = PositiveLaw(chain.states, p, p @ chain.states, nan, float("nan"), basins)
    if p[first] >= LIKELY * p.max():
        return law, partial(elimination.slowest_rate, p[order])
    return law, partial(slowest_rate, chain.P, p)


def _basins_on_a_line(chain: Chain, p: Array) -> tuple[Basin, ...]:
    """Each basin is intervals between unstable fixed points; the noise is split where the step lands on a border."""
    h = chain.states[:, 0]
    labels = basin_of(chain.net, chain.u, chain.states, chain.points)
    jumps = np.flatnonzero(np.diff(labels))
    borders = np.array([_border(chain.saddles[:, 0], h[j], h[j + 1]) for j in jumps])
    splits = np.stack([_noise_to(chain, c) for c in borders], axis=1) if len(borders) else None
    z, omega = _one_step(chain, 0, splits)
    omega = omega * p[:, None]
    lands = np.concatenate([labels[jumps], labels[-1:]])[np.searchsorted(borders, z)]
    return _collect(chain.points, lands.ravel(), omega.ravel(), z.reshape(-1, 1))


def _border(saddles: Array, low: float, high: float) -> float:
    between = saddles[(saddles >= low) & (saddles <= high)]
    return float(between[0]) if len(between) == 1 else (low + high) / 2


def _noise_to(chain: Chain, c: float) -> Array:
    """xi (S,) with which the step from each state ends at c, by bisection; beyond the reach where there is none."""
    low, high = np.full((2, len(chain.states), 1), chain.reach) * np.array([-1.0, 1.0])[:, None, None]
    rises = chain.net.step(chain.states, chain.u, high) >= chain.net.step(chain.states, chain.u, low)
    for _ in range(60):
        xi = (low + high) / 2
        under = (chain.net.step(chain.states, chain.u, xi) < c) == rises
        low, high = np.where(under, xi, low), np.where(under, high, xi)
    return high[:, 0]


def _basins_on_a_grid(chain: Chain, p: Array) -> tuple[Basin, ...]:
    """The law after one more step on a finer grid, whose nodes have labels."""
    fine = [np.interp(np.arange(0, len(x) - 0.999, 1 / FINER), np.arange(len(x)), x) for x in chain.nodes]
    w = [match(*_one_step(chain, d), x, DEGREE)[0] for d, x in enumerate(fine)]
    rest = _joint(w[1:])
    law = ((w[0] * p[:, None]).T @ rest).ravel()
    states = np.stack(np.meshgrid(*fine, indexing="ij"), axis=-1).reshape(-1, chain.net.N)
    return _collect(chain.points, basin_of(chain.net, chain.u, states, chain.points), law, states)


def _collect(points: Array, labels: NDArray[np.intp], p: Array, states: Array) -> tuple[Basin, ...]:
    return split(labels, states, p, points)


def _with_errors(laws: list[PositiveLaw]) -> tuple[PositiveLaw, float]:
    """The last law with errors from the last two changes, and the largest change in units of what it changes."""
    law = laws[-1]
    error = _change([law.mean for law in laws])
    worst, basins = 0.0, []
    for k, basin in enumerate(law.basins):
        past = [law.basins[k] for law in laws]
        width = np.sqrt(np.diag(basin.cov))
        weight_error, mean_error = _change([b.weight for b in past]), _change([b.mean for b in past])
        basins.append(replace(basin, weight_error=float(weight_error), error=mean_error))
        worst = max(worst, float(weight_error / basin.weight), float(np.max(mean_error / width)))
    return replace(law, error=error, basins=tuple(basins)), worst


def _change(values: list[Any]) -> Array:
    """Twice the difference of the last two `values`, or of the two before where a third of that is larger: they
    converge with about the square of the fineness, which grows by half, but not smoothly."""
    change = np.abs(np.subtract(values[-1], values[-2]))
    if len(values) > 2:
        change = np.maximum(change, np.abs(np.subtract(values[-2], values[-3])) / 3)
    return 2 * change
