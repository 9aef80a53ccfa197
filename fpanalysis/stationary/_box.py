"""Where the law of a chain lies: a first box from the noisy dynamics, then edges moved until nothing leaks out.

The law's own tails decide. With the weights p of a solve on the present box, the probability that the next step ends
beyond an edge must be below a bound; where it is not the edge moves out, where the tail ends well inside it moves in.
"""

from __future__ import annotations

import numpy as np

from fpanalysis.gaussian import hermite_basis
from fpanalysis.stationary._collocation import Collocation
from fpanalysis.stationary._result import Array
from fpanalysis.stationary._transition import REACH, Step

FAR = 1e8  #: distance, in units of the problem's own scale, at which growth is decided
GRID = 401
WIDE = 9.0  #: deviations of the local Gaussian that the first box holds


def scale(step: Step) -> float:
    """A size that nothing of interest in the network exceeds by orders of magnitude."""
    return float(1 + np.abs(step.d).max() + step.sigma.max() + np.abs(step.f(np.zeros(step.N))).max())


def grows(step: Step) -> bool:
    """Whether trajectories from far away go farther still: no law exists then, whatever happens near the origin.

    The state runs without noise from the corners and the axes of a huge box, where the noise is negligible.
    """
    directions = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * step.N, indexing="ij"), axis=-1).reshape(-1, step.N)
    h = directions[np.abs(directions).max(axis=1) > 0] * FAR * scale(step)
    size = norm = FAR * scale(step)
    rounds = 8 if step.N == 1 else 60
    for _ in range(rounds):
        for _ in range(2):
            h = step.drift(h)
        before, size = size, float(np.abs(h).max())
    return size >= (before if step.N > 1 else norm) * (1 - 1e-14) and size >= 1e-3 * norm


def first_box(step: Step, start: Array) -> Array:
    """A box (2, N) about where the law should be."""
    box = _one(step) if step.N == 1 else _sampled(step, start)
    limits = step.limits()
    width = np.maximum(box[1] - box[0], 1e-12 * (1 + np.abs(box).max(axis=0)))
    box = np.stack([box[0] - 1e-3 * width, box[1] + 1e-3 * width])
    return snap(box, limits)


def snap(box: Array, limits: Array) -> Array:
    """Edges that are near a bound of the state, or beyond it, put on it."""
    width = box[1] - box[0]
    low = np.where(box[0] < limits[0] + 0.15 * width, limits[0], box[0])
    high = np.where(box[1] > limits[1] - 0.15 * width, limits[1], box[1])
    return np.stack([np.where(np.isfinite(low), low, box[0]), np.where(np.isfinite(high), high, box[1])])


def _mean_step(step: Step, h: Array) -> tuple[Array, Array]:
    """Mean and variance of the next state of one neuron from each of `h` (S,), by a coarse rule in xi."""
    if not step.inside:
        return step.drift(h[:, None])[:, 0], np.full(len(h), float(step.tau[0] ** 2))
    xi, w = _hermite()
    x = step.preactivation(h[:, None])
    f = step.f((x + step.sigma[0] * xi)[..., None])[..., 0]
    mean = f @ w
    g = step.gamma[0]
    return (1 - g) * h + g * mean, g**2 * ((f - mean[:, None]) ** 2 @ w)


def _next(step: Step, h: Array, xi: float) -> Array:
    """The next state of one neuron from each of `h` (S,) at the noise `xi`."""
    if not step.inside:
        return step.drift(h[:, None])[:, 0] + step.tau[0] * xi
    f = step.f(step.preactivation(h[:, None]) + step.sigma * xi)[:, 0]
    return (1 - step.gamma[0]) * h + step.gamma[0] * f


def _hermite() -> tuple[Array, Array]:
    xi = np.linspace(-6, 6, 41)
    w = np.exp(-(xi**2) / 2) * hermite_basis(xi, 0)[0]
    return xi, w / w.sum()


def _one(step: Step) -> Array:
    """One neuron: the hull of local Gaussians about the stable zeros of the mean step."""
    low, high = reachable(step)
    h = np.linspace(low, high, GRID)
    to, variance = _mean_step(step, h)
    pull = to - h
    down = np.nonzero((pull[:-1] > 0) & (pull[1:] <= 0))[0]
    if not len(down):
        return np.array([[low], [high]])
    zero = h[down] + (h[down + 1] - h[down]) * pull[down] / (pull[down] - pull[down + 1])
    near = 3 * np.sqrt(np.interp(zero, h, variance)) + 1e-9 * (high - low)
    J = (_mean_step(step, zero + near)[0] - _mean_step(step, zero - near)[0]) / (2 * near)
    V = np.maximum(_mean_step(step, zero)[1], np.interp(zero, h, variance))
    deviation = np.sqrt(V / np.maximum(1 - J**2, 1e-3))
    edges = np.stack([zero - WIDE * deviation, zero + WIDE * deviation])
    jumps = np.array([_next(step, zero, -REACH), _next(step, zero, REACH)])
    edges = np.stack([np.minimum(edges[0], jumps.min(axis=0)), np.maximum(edges[1], jumps.max(axis=0))])
    return np.array([[max(edges[0].min(), low)], [min(edges[1].max(), high)]])


def reachable(step: Step) -> tuple[float, float]:
    """The interval that one neuron's step maps into itself for all |xi| <= 9, or what 30 steps of the search reach."""
    s = float(step.sigma[0])
    noise = REACH * s * np.array([-1.0, 0.0, 1.0])
    low = high = 0.0
    for _ in range(30):
        h = np.linspace(low, high, 33)[:, None]
        if step.inside:
            to = step.f((step.preactivation(h) + noise)[..., None])
        else:
            to = (step.drift(h) - (1 - step.gamma) * h) / step.gamma + noise
        new = min(low, float(to.min())), max(high, float(to.max()))
        if new[0] >= low - 1e-3 * (high - low) and new[1] <= high + 1e-3 * (high - low) and high > low:
            break
        low, high = new
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _sampled(step: Step, start: Array, chains: int = 256) -> Array:
    """Several neurons: mean +- 7 deviations of a short run, and all of what it visits."""
    rng = np.random.default_rng(0)
    spread = step.sigma + 0.5 * np.abs(step.f(np.zeros(step.N))) + 0.5 * np.abs(step.d)
    h = start + spread * rng.standard_normal((chains, step.N))
    length = int(np.clip(8 / step.gamma.min(), 60, 400))
    visited = []
    for t in range(length):
        xi = rng.standard_normal(h.shape)
        if step.inside:
            h = (1 - step.gamma) * h + step.gamma * step.f(step.preactivation(h) + step.sigma * xi)
        else:
            h = step.drift(h) + step.tau * xi
        if 2 * t > length:
            visited.append(h)
    states = np.concatenate(visited)
    mean, deviation = states.mean(axis=0), states.std(axis=0)
    return np.stack(
        [
            np.minimum(mean - 6 * deviation, states.min(axis=0) - 1.5 * deviation),
            np.maximum(mean + 6 * deviation, states.max(axis=0) + 1.5 * deviation),
        ]
    )


def moved(box: Array, found: Collocation, limits: Array, leaks: bool) -> Array:
    """A wider box, by more at the edges that leak; or, where the law is far inside, a narrower one."""
    width = box[1] - box[0]
    out = np.full_like(box, 0.05)
    if leaks:
        out = np.where(found.leak > 1e-5, 0.5, np.where(found.leak > 1e-8, 0.2, out))
    new = np.stack([box[0] - out[0] * width, box[1] + out[1] * width])
    spread = 14 * np.sqrt(np.maximum(np.diag(found.cov), 0.0))
    tight = np.stack([np.maximum(box[0], found.mean - spread), np.minimum(box[1], found.mean + spread)])
    inside = (tight[1] - tight[0] < 0.6 * width) & (spread > 0) & (not leaks)
    return snap(np.where(inside, tight, new), limits)
