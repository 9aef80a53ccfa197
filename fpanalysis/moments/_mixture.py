"""Mean and variance of the output of one trial from a Gaussian mixture, split along one direction.

The law of the state obeys p_{t+1}(h') = int k(h' | h) p_t(h) dh, which is linear in p: the components of a mixture
evolve on their own, and each stays the closer to a Gaussian the narrower it is where the dynamics bends. Every
component N(m, C) is carried by the closure step; when they have grown wide along y = l . h, they are rearranged onto
a grid in y:

    N(mu, tau^2) -> sum_j w_j delta(y - y_j), with weights that keep mean and variance,
    h | y_j ~ N(m + c (y_j - mu), C - c c^T tau^2),    c = C l / tau^2        (exact conditioning)

and what meets at a node is merged by its moments, so mean and covariance of the whole are kept; a component too narrow
for the grid moves to its nearest node as it is. The spacing is a fraction of the spread that the closure foresees, at
the place where the spread will be largest.

Two directions serve: the slow one of the closure (`_slow`), accurate where it exists, and the one that best separates
the components, l = argmax (l . B l) / (l . A l) with A the covariance within and B that between components (Fisher's
discriminant), less accurate but at hand where the closure has left the law or its slow pair is complex. Their
difference is the error; where it is large, the second is the answer. Covariances are carried in float32: what
merging costs is larger by far.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._slow import Path, Slow, slow_direction
from fpanalysis.moments._step import Law, Step
from fpanalysis.network import Network

Array = NDArray[np.float64]

NODES = 2.5  #: grid nodes per standard deviation of the widest spread foreseen, along the slow direction
SEPARATING = 3.0  #: the same along the separating direction
SMALL, FINEST = 32, 3.0  #: a network of N < SMALL neurons affords a grid finer by sqrt(SMALL / N), at most FINEST
AGREE = 0.18  #: largest relative difference of the variances after the first third at which the slow one is believed
RIDGE = 1e-6  #: share of the mean variance within components that is added to each, where some directions have none
WIDE = 0.7  #: mean variance of the components along y, in squared spacings, at which they are split
NARROW = 0.25  #: the same of one component, up to which no weights on the grid can keep its variance
SMOOTH = 0.5  #: and from which on a sampled Gaussian is smooth on the grid
REACH = 4.5  #: standard deviations of a component that the grid covers
DROP = 1e-7  #: weight of a node that is left out
MOST = 80  #: most nodes
LEFT_OUT = 1e-3  #: what Mehler's sum may leave out in a component, relative to its largest variance
SINGLE = (1e-15, 1e15)  #: deviations of y whose squares float32 holds
FLOOR = 0.05  #: error of the variance, relative, by what is lost when components are merged


class Mixture(NamedTuple):
    """Of the output z after each of T steps: (T, n_out) each; infinite errors where the recursion broke down."""

    mean: Array
    variance: Array
    mean_error: Array
    variance_error: Array
    components: int  #: at the end


class Components(NamedTuple):
    """Weights (K,) and laws of K components."""

    p: Array
    law: Law


def mixture(net: Network, inputs: Array, sigma: Array, h0: Array, slow: Slow | None = None) -> Mixture:
    """Moments of z of one trial: `inputs` (T, n_in), noise `sigma` (N,), start `h0` (N,).

    `slow` is the slow direction of the trial under the plain closure, if the caller has it. The errors (95 %) are the
    difference of the two directions and what merging is known to cost.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        slow = slow or slow_direction(net, closure_path(Step(net, sigma), inputs, h0), sigma)
        if not all(np.isfinite(part).all() for part in slow):
            unknown, infinite = np.full((len(inputs), net.n_out), np.nan), np.full((len(inputs), net.n_out), np.inf)
            return Mixture(unknown, unknown, infinite, infinite, 0)
        small, large = SINGLE
        step = Step(net, sigma, np.float32 if small < slow.tau.max() < large else np.float64, LEFT_OUT)
        finer = min(max(1.0, (SMALL / net.N) ** 0.5), FINEST)
        first = run(step, inputs, h0, slow, spacing(slow, NODES * finer))
        second = run(step, inputs, h0, slow, spacing(slow, SEPARATING * finer), separating=True)
    late = np.s_[len(inputs) // 3 :]
    apart = np.abs(first[1] - second[1])[late].sum()
    agree = apart <= AGREE * np.maximum(first[1], second[1])[late].sum()
    mean, spread, mix = first if agree else second
    error = np.abs(first[1] - second[1]) + FLOOR * spread
    mean_error = np.abs(first[0] - second[0]) + FLOOR * np.sqrt(spread)
    broken = ~(np.isfinite(mean_error) & np.isfinite(error))
    return Mixture(mean, spread, np.where(broken, np.inf, mean_error), np.where(broken, np.inf, error), len(mix.p))


def closure_path(step: Step, inputs: Array, h0: Array) -> Path:
    """What enters f along one trial under the plain closure."""
    law, rows = step.start(h0[None]), []
    for u in inputs:
        drive = step.net.drive(u)[None]
        x = step.inputs(law, drive)
        law = step.law(law, drive, x)
        rows.append((x.s[0], x.G[0], x.V[0], x.c[0, :, 2], x.c[0, :, 3]))
    return Path(*(np.array(part) for part in zip(*rows, strict=True)))


def spacing(slow: Slow, nodes: float) -> Array:
    """(T + 1,), of the grid in y before each step: 1 / `nodes` of the widest spread where it will be the widest.

    A unit of y at time t moves the inputs of f at t' >= t by n_t ... n_{t'-1} |o_t'| / tau_t'.
    """
    size = np.linalg.norm(slow.o, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        log_unit = np.where(slow.tau > 0, np.log(size) - np.log(slow.tau), -np.inf) - slow.log_n
    most = np.maximum.accumulate(log_unit[::-1])[::-1]
    return size.max() / nodes * np.exp(np.minimum(-most - slow.log_n, 600.0))


def run(
    step: Step, inputs: Array, h0: Array, slow: Slow, d: Array, separating: bool = False
) -> tuple[Array, Array, Components]:
    """Mean and variance of z after each step, and the components at the end, with spacings d (T + 1,) along the slow
    direction; `separating`: along the direction that separates the components, once there are three."""
    net, T = step.net, len(inputs)
    mix = Components(np.ones(1), step.start(h0[None]))
    mean, variance = np.empty((2, T, net.n_out))
    for t in range(T):
        drive = np.broadcast_to(net.drive(inputs[t]), mix.law.m.shape)
        law = step.law(mix.law, drive, step.inputs(mix.law, drive))
        z, spread = step.output(law)
        mean[t] = mix.p @ z
        variance[t] = mix.p @ (spread + (z - mean[t]) ** 2)
        mix = Components(mix.p, law)
        if not (np.isfinite(law.m).all() and np.isfinite(law.C).all()):
            mean[t:], variance[t:] = np.nan, np.nan
            break
        l, gap = slow.l[t + 1], d[t + 1]
        if separating and len(mix.p) > 2:
            l, moves = discriminant(step, mix)
            gap *= float(np.linalg.norm(slow.o[t + 1])) / slow.tau[t + 1] / moves
        if mix.p @ (law.C @ l.astype(step.dtype) @ l) >= WIDE * gap**2 > 0:
            mix = rearranged(mix, l, gap)
    return mean, variance, mix


def discriminant(step: Step, mix: Components) -> tuple[Array, float]:
    """The direction l that best separates the components, and what one unit of l . h moves the inputs of f by."""
    p, (m, C) = mix
    within = np.tensordot(p.astype(C.dtype), C, 1).astype(float)
    within[step.diagonal, step.diagonal] += RIDGE * np.trace(within) / len(within)
    apart = (m - p @ m) * np.sqrt(p)[:, None]
    towards = np.linalg.solve(within, apart.T)
    l = towards @ np.linalg.eigh(apart @ towards)[1][:, -1]
    x = within @ l + apart.T @ (apart @ l)
    o = step.net.W @ x if step.rate else x
    return l, float(np.linalg.norm(o) / (l @ x))


def rearranged(mix: Components, l: Array, d: float) -> Components:
    """The mixture with its components on a grid of spacing d in y = l . h, mean and covariance kept."""
    p, (m, C) = mix
    mu, c = m @ l, (C @ l.astype(C.dtype)).astype(float)
    tau2 = np.maximum(c @ l, 0.0)
    reach = REACH * np.sqrt(tau2)
    low, high = float((mu - reach).min()), float((mu + reach).max())
    d = max(d, (high - low) / MOST)
    nodes = np.arange(np.floor(low / d) - 1, np.ceil(high / d) + 2) * d
    split = tau2 >= NARROW * d**2
    w = np.zeros((len(p), len(nodes)))
    w[split] = weights((nodes - mu[split, None]) / d, tau2[split] / d**2)
    w[~split, np.rint((mu[~split] - nodes[0]) / d).astype(int)] = 1.0
    joint = p[:, None] * w
    kept = joint.sum(axis=0) > DROP
    joint = joint[:, kept] / joint[:, kept].sum()
    q = joint.sum(axis=0)
    share = joint / q
    c = np.where(split[:, None], c / np.maximum(tau2, 1e-300)[:, None], 0.0)
    C = C - (c[:, :, None] * (c * tau2[:, None])[:, None, :]).astype(C.dtype)
    moved = m[:, None] + c[:, None] * (nodes[kept] - mu[:, None])[..., None]  # (K, J, N)
    means = np.einsum("kj,kjn->jn", share, moved)
    apart, share = (moved - means).transpose(1, 2, 0).astype(C.dtype), share.astype(C.dtype)
    cov = (share.T @ C.reshape(len(p), -1)).reshape(-1, *C.shape[1:])
    cov += (apart * share.T[:, None, :]) @ apart.swapaxes(1, 2)
    return Components(q, Law(means, cov))


def weights(x: Array, v: Array) -> Array:
    """Nonnegative weights (K, J) at nodes x (K, J), one apart, with mean 0 and variance v (K,) >= 1 / 4.

    From v = `SMOOTH` on a Gaussian at the nodes, times the quadratic that mends its first three moments (by 1e-3 at
    most; its higher moments err by exp(-2 pi^2 v)); below, the three nodes nearest to 0.
    """
    w = np.zeros(x.shape)
    rows = np.arange(len(x))
    near = np.clip(np.abs(x).argmin(axis=1), 1, x.shape[1] - 2)
    offset = -x[rows, near]
    second = v + offset**2
    w[rows, near - 1], w[rows, near], w[rows, near + 1] = (second - offset) / 2, 1 - second, (second + offset) / 2
    wide = v >= SMOOTH
    if wide.any():
        x, v = x[wide], v[wide]
        g = np.exp(-(x**2) / (2 * v[:, None]))
        g /= g.sum(axis=1, keepdims=True)
        powers = x[..., None] ** np.arange(3)
        gram = np.einsum("kj,kja,kjb->kab", g, powers, powers)
        wanted = np.stack([np.ones_like(v), np.zeros_like(v), v], axis=1)
        mend = np.linalg.solve(gram, wanted[..., None])[..., 0]
        w[wide] = np.maximum(g * np.einsum("kja,ka->kj", powers, mend), 0.0)
    return w
