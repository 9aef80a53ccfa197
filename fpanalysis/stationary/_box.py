"""Where the law of a chain lies: a first box from the noisy dynamics, then edges moved until nothing leaks out.

The law's own tails decide, measured by high moments (`Collocation.tails`): where they are heavy the edge moves out,
where the law lies well inside it moves in, but never past an attractor of the noise-free or of the mean step: a law
that has none of its weight at one of them may be one that float64 cannot weigh.
"""

from __future__ import annotations

import numpy as np

from fpanalysis.gaussian import hermite_basis
from fpanalysis.stationary._collocation import Collocation
from fpanalysis.stationary._result import Array
from fpanalysis.stationary._transition import COARSE, Step

FAR = 1e8  #: distance, in units of the problem's own scale, at which growth is decided
GRID = 401
WIDEST = 1e4  #: first box of one neuron, in units of the problem's scale
WIDE = 7.5  #: deviations of the local Gaussian that the first box holds


def scale(step: Step) -> float:
    """A size that nothing of interest in the network exceeds by orders of magnitude."""
    return float(1 + np.abs(step.d).max() + step.sigma.max() + np.abs(step.f(np.zeros(step.N))).max())


def grows(step: Step) -> bool:
    """Whether trajectories from far away go farther still: no law exists then, whatever happens near the origin.

    The state runs without noise from the corners and the axes of a huge box, where the noise is negligible.
    """
    if step.N == 1:
        return _one_grows(step)
    directions = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * step.N, indexing="ij"), axis=-1).reshape(-1, step.N)
    h = directions[np.abs(directions).max(axis=1) > 0] * FAR * scale(step)
    size = norm = FAR * scale(step)
    for _ in range(60):
        for _ in range(int(np.clip(1 / step.gamma.min(), 2, 200))):
            h = step.drift(h)
        before, size = size, float(np.abs(h).max())
        if not 1e-3 * norm < size < 1e6 * norm:
            break
    return size >= before * (1 - 1e-14) and size >= 1e-3 * norm


def _one_grows(step: Step) -> bool:
    """Far away a step multiplies h > 0 by `up` and h < 0 by `down`: h grows on a side that it does not leave, or from
    side to side. A leap from below onto a side on which it decays, however far, is no growth."""
    far = FAR * scale(step)
    up, down = step.drift(np.array([[far], [-far]]))[:, 0] / [far, -far]
    grows = max(up, down) >= 1 - 1e-14
    return bool(grows or (up < 0 and down < 0 and up * down >= 1 - 1e-14))


def first_box(step: Step, start: Array, held: Array | None = None) -> Array:
    """A box (2, N) about where the law should be; it holds the box `held`, by default that of `core`."""
    held = core(step) if held is None else held
    box = _one(step) if step.N == 1 else _sampled(step, start)
    limits = step.limits()
    box = np.stack([np.minimum(box[0], held[0]), np.maximum(box[1], held[1])])
    width = np.maximum(box[1] - box[0], 1e-12 * (1 + np.abs(box).max(axis=0)))
    box = np.stack([box[0] - 1e-3 * width, box[1] + 1e-3 * width])
    box = snap(box, limits)
    if step.inside and step.flat:
        wide = np.minimum(_closed(step), (20 if step.N == 1 else 1.3) * box[1])
        box[1] = np.where(box[0] == limits[0], np.maximum(box[1], wide), box[1])
    return box


def core(step: Step, points: Array | None = None) -> Array:
    """The hull (2, N) of `points` (K, N) and of where the noise-free step comes to rest from a wide lattice, one step's
    noise added; empty (inf, -inf) where nothing rests."""
    far = 2 * scale(step)
    if step.N == 1:
        h = np.linspace(-far, far, 802)
        pull = step.drift(h[:, None])[:, 0] - h
        ends = h[:-1][(pull[:-1] > 0) & (pull[1:] <= 0)][:, None]
    else:
        axis = np.linspace(-far, far, 7 if step.N == 2 else 5)
        h = np.stack(np.meshgrid(*[axis] * step.N, indexing="ij"), axis=-1).reshape(-1, step.N)
        for _ in range(int(np.clip(12 / step.gamma.min(), 30, 400))):
            h = step.drift(h)
        moving = np.abs(step.drift(h) - h).max(axis=1)
        ends = h[moving <= 1e-4 * step.gamma.min() * far]
    if points is not None:
        ends = np.concatenate([ends, points])
    if not len(ends):
        return np.stack([np.full(step.N, np.inf), np.full(step.N, -np.inf)])
    ends = np.concatenate([ends, _next(step, ends, -6.0), _next(step, ends, 6.0)])
    return np.stack([ends.min(axis=0), ends.max(axis=0)])


def _closed(step: Step) -> Array:
    """Upper ends (N,) of a box that ReLU with |xi| <= 8.2 does not leave, inf without any. A law that is singular at 0
    has weights that fall slowly towards the far edge, so that nothing may go wrong there: it must not be crossed."""
    positive = np.maximum(step.W, 0.0)
    if np.abs(np.linalg.eigvals(positive)).max() >= 1:
        return np.full(step.N, np.inf)
    top = np.linalg.solve(np.eye(step.N) - positive, np.maximum(step.d + 8.2 * step.sigma, 0.0))
    return np.asarray(top, np.float64)


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
    """The next state from `h` (S, N) when the noise of each neuron is `xi`."""
    if not step.inside:
        return step.drift(h) + step.tau * xi
    return (1 - step.gamma) * h + step.gamma * step.f(step.preactivation(h) + step.sigma * xi)


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
    jumps = np.concatenate([_next(step, zero[:, None], xi) for xi in (-8.0, 8.0)])
    return np.array([[min(edges[0].min(), jumps.min())], [max(edges[1].max(), jumps.max())]])


def reachable(step: Step) -> tuple[float, float]:
    """An interval that one neuron's mean step maps into itself, or what 40 steps of the search reach."""
    low = high = float(step.f(step.d)[0])
    for k in range(40):
        h = np.linspace(low, high, 33)
        to = (_mean_step(step, h)[0] - (1 - step.gamma[0]) * h) / step.gamma[0]
        new = min(low, float(to.min())), max(high, float(to.max()))
        if high > low and new[0] >= low and new[1] <= high:
            break
        if new[1] - new[0] > WIDEST * scale(step):
            break
        more = 0.1 * step.sigma[0] + 1.5**k * 0.1 * (new[1] - new[0])
        low, high = new[0] - more * (new[0] < low), new[1] + more * (new[1] > high)
    return (low, high) if high > low else (low - 1.0, high + 1.0)


def _sampled(step: Step, start: Array, chains: int = 256) -> Array:
    """Several neurons: mean +- 7 deviations of a short run, and all of what it visits."""
    rng = np.random.default_rng(0)
    side = 5 if step.N == 2 else 3
    lattice = np.stack(np.meshgrid(*[np.linspace(-1, 1, side)] * step.N, indexing="ij"), axis=-1).reshape(-1, step.N)
    h = np.concatenate([start[None], 2 * scale(step) * lattice])
    for _ in range(int(np.clip(12 / step.gamma.min(), 30, 400))):
        h = step.drift(h)  # every attractor that the lattice finds has chains of its own
    ends = h
    h = np.repeat(h, -(-chains // len(h)), axis=0)
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
    states = np.concatenate([*visited, ends])
    mean, deviation = states.mean(axis=0), states.std(axis=0)
    return np.stack(
        [
            np.minimum(mean - 7 * deviation, states.min(axis=0) - 2 * deviation),
            np.maximum(mean + 7 * deviation, states.max(axis=0) + 2 * deviation),
        ]
    )


def moved(step: Step, box: Array, found: Collocation, limits: Array, core: Array) -> Array:
    """A wider box, by more at the edges with heavy `tails`; or, where the law is far inside, a narrower one."""
    width = box[1] - box[0]
    heavy = (found.tails > 1) & (box != limits)
    few = 0.04 if found.axes[0].n < COARSE else 0.01
    out = np.where(heavy, np.where(found.tails > 1e3, 0.5, 0.2), few)
    new = np.stack([box[0] - out[0] * width, box[1] + out[1] * width])
    spread = 14 * np.sqrt(np.maximum(np.diag(found.cov), 0.0))
    reach = np.array([_next(step, found.mean, -8.0), _next(step, found.mean, 8.0)])
    low = np.maximum(box[0], np.minimum(np.minimum(found.mean - spread, reach.min(axis=0)), core[0]))
    high = np.minimum(box[1], np.maximum(np.maximum(found.mean + spread, reach.max(axis=0)), core[1]))
    inside = (
        (high - low < 0.6 * width)
        & (high > low)
        & ~heavy.any(axis=0)
        & ~((box[0] == limits[0]) & (step.inside and step.flat))
    )
    return snap(np.where(inside, np.stack([low, high]), new), limits)
