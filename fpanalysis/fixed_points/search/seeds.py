"""Where Newton's iteration starts: trajectories, directions that W amplifies, and mixtures of points found."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fpanalysis.fixed_points.proof.threshold_linear import enumerate_patterns
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

ESCAPED = 1e6
TOGETHER = 0.02  #: distance, relative to 1 + max|h|, within which two starts lead to the same point
NODES, LARGE = 3e9, 128  #: nodes of a tree of patterns times N^4; neurons from which on one node takes too long
LEADING = 8  #: singular vectors that count as leading


def trajectories(net: System, u: Array, rng: Generator, count: int) -> Array:
    """Waypoints and ends of `count` noise-free trajectories from 0 and random states, and of noisy ones; those that
    have nearly come together once."""
    h = np.vstack([np.zeros(net.N), random_states(net, u, rng, count)])
    length = int(np.ceil(5 / np.mean(net.gamma)))
    noisy = run(net, h[: 1 + count // 2], u, 2 * length, rng if np.any(net.sigma) else None)
    early = run(net, h, u, length)
    return _apart(finite(np.vstack([h[:1], run(net, early, u, 3 * length), early[: 1 + count // 2], noisy])))


def _apart(h: Array) -> Array:
    """The rows of `h` but those that are within `TOGETHER`, relative to 1 + max|h|, of an earlier one."""
    near = np.abs(h[:, None] - h[None]).max(axis=2) <= TOGETHER * (1 + np.abs(h).max(axis=1))
    return h[~np.tril(near, -1).any(axis=1)]


def run(net: System, h: Array, u: Array, steps: int, rng: Generator | None = None) -> Array:
    """`steps` steps from `h` (K, N) at input `u`, without noise unless there is an `rng` for it; what escapes stays."""
    gone = np.zeros(len(h), bool)
    for _ in range(steps):
        moved = net.step(h, u, None if rng is None else rng.standard_normal(h.shape))
        h = np.where(gone[:, None], h, moved) if gone.any() else moved
        gone |= ~(np.abs(h).max(axis=1, initial=0.0) <= ESCAPED)
        if gone.all():
            break
    return h


def random_states(net: System, u: Array, rng: Generator, count: int, leading: int = LEADING) -> Array:
    """F at random states, at random scales: of a network, along the `leading` left singular vectors of W."""
    if not isinstance(net, Network):
        scale = np.exp(rng.uniform(-2, 1, (count, 1)))
        return net.target(scale * rng.standard_normal((count, net.N)), u)
    left, values, _ = net.svd
    rank = min(net.N, leading)
    scale = np.exp(rng.uniform(-2, 2, (count, 1))) * max(1.0, float(values[0])) * np.sqrt(net.N / rank)
    weights = rng.standard_normal((count, rank)) * values[:rank] / max(float(values[0]), 1e-300)
    x = scale * weights @ left[:, :rank].T + net.drive(u)
    return net.activation.f(x) if net.form == "rate" else x


def midpoints(found: Array, pairs: NDArray[np.intp]) -> Array:
    """Half way between two points found: where a saddle between two attractors is to be expected."""
    i, j = pairs.T
    return 0.5 * (found[i] + found[j])


def mixtures(found: Array, rng: Generator, count: int) -> Array:
    """Extrapolations (1 - t) h_i + t h_j and means of three points found."""
    i, j, k = rng.integers(len(found), size=(3, count))
    t = rng.choice([0.25, 1.5, -0.5, 2.0], size=(count, 1))
    three = rng.random((count, 1)) < 0.3
    return np.where(three, (found[i] + found[j] + found[k]) / 3, (1 - t) * found[i] + t * found[j])


def scattered(found: Array, rng: Generator, count: int) -> Array:
    """Points found, displaced at random by as much as they are large."""
    chosen = found[rng.integers(len(found), size=count)]
    spread = np.exp(rng.uniform(-3, 0, (count, 1))) * (1 + np.abs(found).max())
    return chosen + spread * rng.standard_normal(chosen.shape)


def patterns(net: Network, u: Array, found: Array, pairs: NDArray[np.intp], rng: Generator, count: int) -> Array:
    """For ReLU, solutions of h = D (W h + c) on unions, intersections and differences of the supports of `pairs`
    of points found, and on `count` supports with one or two neurons switched: supports are often made of each other."""
    a, b = found[pairs[:, 0]] > 0, found[pairs[:, 1]] > 0
    switched = found[rng.integers(len(found), size=count)] > 0 if len(found) else found > 0
    for part in (switched, switched[::2]):
        part[np.arange(len(part)), rng.integers(net.N, size=len(part))] ^= True
    D = np.vstack([a | b, a & b, a ^ b, a & ~b, b & ~a, switched]).astype(float)
    A = np.eye(net.N) - D[:, :, None] * net.W
    regular = np.linalg.slogdet(A)[0] != 0
    h: Array = np.linalg.solve(A[regular], (D * net.drive(u))[regular][..., None])[..., 0]
    return finite(h)


def tree(net: System, u: Array) -> Array:
    """For ReLU, what a few nodes of the tree of activation patterns hold: all its points where N is below about 25."""
    assert isinstance(net, Network)
    c = net.drive(u)
    nodes = int(np.clip(NODES / net.N**4, 1, 5000)) if c.any() else 1
    return enumerate_patterns(net.W, c, nodes).h


def finite(h: Array) -> Array:
    return h[np.isfinite(h).all(axis=1) & (np.abs(h).max(axis=1, initial=0.0) <= ESCAPED)]
