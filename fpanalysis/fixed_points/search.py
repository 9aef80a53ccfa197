"""Search for fixed points: Newton from many seeds, round after round, until rounds find nothing new."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.result import FixedPoints
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status

Array = NDArray[np.float64]

ROUNDS = 12
DRY_ROUNDS = 2
SAME = 1e-7  #: two zeros closer than this, relative to 1 + max|h|, are one
ESCAPED = 1e6


def find_fixed_points(net: Network, u: ArrayLike | None = None, rng: int | Generator = 0) -> FixedPoints:
    """Fixed points of F(h) = h at the constant input `u` (n_in,); None means zero input.

    Seeds are the ends and waypoints of noise-free and noisy trajectories, random combinations of the
    leading left singular vectors of W passed through f, and midpoints and extrapolations of points already
    found. Every point returned is a zero to rounding: nothing slow but moving is reported as fixed.

    Raises
    ------
    InputError
        If `u` is not one constant input of the right length.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    u = net.check_condition(u)
    seed = rng if isinstance(rng, int | np.integer) else None
    rng = check_rng(rng)
    count = int(np.clip(2048 // net.N, 8, 64))
    found, dry = np.empty((0, net.N)), 0
    for k in range(ROUNDS):
        seeds = _trajectory_seeds(net, u, rng, count) if k == 0 else _seeds(net, u, rng, count, found)
        h, residual = newton(net, seeds, u)
        before = len(found)
        found = _merge(found, h[residual <= bound(h)])
        dry = dry + 1 if len(found) == before else 0
        if dry == DRY_ROUNDS:
            break
    found = found[np.argsort(np.linalg.norm(found, axis=1), kind="stable")]
    residual = np.abs(net.target(found, u) - found).max(axis=-1, initial=0.0)
    provenance = Provenance("newton", net.hash, {"rounds": k + 1, "seeds": count, "u": u.tolist()}, _int(seed))
    points = FixedPoints(net, u, found, residual, dry == DRY_ROUNDS, Status.OK, provenance)
    if points.stable.any():
        return points
    return FixedPoints(net, u, found, residual, points.dry, Status.NO_STABLE_FIXED_POINT, provenance)


def settle(net: Network, h: ArrayLike, u: ArrayLike | None = None, steps: int = 20_000) -> tuple[Array, Array]:
    """Follow the noise-free dynamics from `h` (K, N) to where it comes to rest.

    Returns the states reached (K, N), polished by Newton where they rest, and whether each rests (K,):
    False for a trajectory that still moves after `steps` (a limit cycle, chaos) or escapes.
    """
    u = net.check_input(u)
    h = np.array(h, float)
    u = np.broadcast_to(u, (len(h), net.n_in))
    drive = np.broadcast_to(net.drive(u), h.shape)
    rests = np.zeros(len(h), bool)
    active = np.arange(len(h))
    for _ in range(0, steps, 100):
        h[active] = _run(net, h[active], drive[active], 100)
        gap = np.abs(net.target(h[active], u[active]) - h[active]).max(axis=-1)
        close = gap <= 1e-6 * (1 + np.abs(h[active]).max(axis=-1))
        trial, residual = newton(net, h[active[close]], u[active[close]])
        near = np.abs(trial - h[active[close]]).max(axis=-1, initial=0.0) <= 1e-3 * (1 + np.abs(trial).max(axis=-1))
        good = active[close][(residual <= bound(trial)) & near]
        h[good] = trial[(residual <= bound(trial)) & near]
        rests[good] = True
        gone = np.abs(h[active]).max(axis=-1) > ESCAPED
        active = active[~np.isin(active, good) & ~gone]
        if not len(active):
            break
    return h, rests


def _run(net: Network, h: Array, drive: Array, steps: int, rng: Generator | None = None) -> Array:
    """`steps` steps of the network from `h` at the constant `drive`, noise-free unless `rng` is given."""
    f, W, gamma = net.activation.f, net.W.T, net.gamma
    for _ in range(steps):
        noise = 0.0 if rng is None else net.sigma * rng.standard_normal(h.shape)
        if net.form == "current":
            pulled = f(h) @ W + drive + noise
        elif net.placement == "in":
            pulled = f(h @ W + drive + noise)
        else:
            pulled = f(h @ W + drive) + noise
        h = h + gamma * (pulled - h)
        if np.abs(h).max(initial=0.0) > ESCAPED:
            break
    return h


def _trajectory_seeds(net: Network, u: Array, rng: Generator, count: int) -> Array:
    """Ends and waypoints of noise-free trajectories, from 0 and from random states, and of noisy ones."""
    drive = net.drive(u)
    h = np.vstack([np.zeros(net.N), _random_states(net, u, rng, count // 4)])
    length = int(np.ceil(5 / np.mean(net.gamma)))
    waypoints = [_run(net, h, drive, length)]
    waypoints.append(_run(net, waypoints[0], drive, 5 * length))
    noisy = net if np.any(np.asarray(net.sigma) > 0) else net.with_sigma(0.5)
    waypoints.append(_run(noisy, h, drive, 2 * length, rng))
    return _finite(np.vstack([np.zeros(net.N), *waypoints]))


def _random_states(net: Network, u: Array, rng: Generator, count: int) -> Array:
    """F at random combinations of W's leading left singular vectors, at random scales."""
    left, values, _ = np.linalg.svd(net.W)
    rank = min(net.N, 8)
    scale = np.exp(rng.uniform(-2, 2, (count, 1))) * max(1.0, float(values[0])) * np.sqrt(net.N)
    weights = rng.standard_normal((count, rank)) * values[:rank] / max(float(values[0]), 1e-300)
    x = scale * weights @ left[:, :rank].T / np.sqrt(rank) + net.drive(u)
    return net.activation.f(x) if net.form == "rate" else x


def _seeds(net: Network, u: Array, rng: Generator, count: int, found: Array) -> Array:
    seeds = [_random_states(net, u, rng, count // 2)]
    if len(found) > 1:
        i, j = rng.integers(len(found), size=(2, count // 2))
        t = rng.choice([0.5, 1.5, -0.5, 2.0], size=(count // 2, 1))
        seeds.append((1 - t) * found[i] + t * found[j])
    elif len(found):
        spread = 1 + np.abs(found).max()
        seeds.append(found + spread * rng.standard_normal((count // 4, net.N)) / np.sqrt(net.N))
    return _finite(np.vstack(seeds))


def _finite(h: Array) -> Array:
    return h[np.isfinite(h).all(axis=1) & (np.abs(h).max(axis=1) <= ESCAPED)]


def _merge(found: Array, new: Array) -> Array:
    """`found` with those of `new` that are not there yet."""
    for h in new:
        distance = np.abs(found - h).max(axis=1, initial=0.0)
        if not (distance <= SAME * (1 + np.abs(h).max())).any():
            found = np.vstack([found, h])
    return found


def _int(seed: int | np.integer | None) -> int | None:
    return None if seed is None else int(seed)
