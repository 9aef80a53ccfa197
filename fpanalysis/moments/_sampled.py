"""Runs of one network at several noise levels, in float64: the sums that its loss curve is made of.

All levels see the same noise (common random numbers), so that a curve is sharper than its points.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments._blocks import Sums, estimate, runs_of_blocks
from fpanalysis.moments._outputs import Found, Problem
from fpanalysis.network import Network
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from fpanalysis.regularizer.losses import Loss

Array = NDArray[np.float64]
Each = Callable[[Array, Array], Array]  #: (z, z*) -> loss of each number

CHUNK = 1 << 21  #: states held at once


def sampled(
    problem: Problem,
    within: tuple[float, float],
    trained: float,
    trials: int,
    rng: np.random.Generator,
    loss: Loss | Each | None,
) -> Found:
    """The curve from `trials` runs of every input at every level."""
    weight, targets = problem.weight[problem.counted], problem.targets[problem.counted]
    of_mean = None if loss is None or callable(loss) else of_mean_output(loss, targets, weight)
    return estimate(blocks_of(problem, trials, rng, loss), weight, problem.sigma, within, trained, of_mean)


def blocks_of(problem: Problem, trials: int, rng: np.random.Generator, loss: Loss | Each | None = None) -> list[Sums]:
    """The sums of `trials` runs of every input at every level, in independent blocks."""
    runs = runs_of_blocks(trials, len(problem.levels) * problem.weight[problem.counted].size)
    seeds = rng.integers(2**62, size=len(runs))
    return [_block(problem, R, np.random.default_rng(seed), loss) for R, seed in zip(runs, seeds, strict=True)]


def of_mean_output(loss: Loss, targets: Array, weight: Array) -> Callable[[Array], Array]:
    """The function that gives `loss` (S, B) of z by z - z* (S, T, B, n_out), at the counted steps."""
    return lambda bias: loss.value(bias + targets, targets, weight).sum(axis=1)


def _block(problem: Problem, trials: int, rng: np.random.Generator, loss: Loss | Each | None) -> Sums:
    """Sums over `trials` runs of every input."""
    net, S = problem.net, len(problem.levels)
    B = problem.inputs.shape[1]
    first, second = np.zeros((2, S, *problem.targets[problem.counted].shape))
    own = np.zeros((S, B))
    at_once = max(1, CHUNK // (S * B * net.N))
    for done in range(0, trials, at_once):
        R = min(at_once, trials - done)
        h = np.broadcast_to(problem.start, (S, R, B, net.N))
        k = 0
        for t, counts in enumerate(problem.counted):
            xi = rng.standard_normal((R, B, net.N))
            h = _advance(net, h, problem.inputs[t], problem.levels[:, None, None], xi)
            if not counts:
                continue
            z = net.output(h)
            d = z - problem.targets[t]
            first[:, k] += d.sum(axis=1)
            second[:, k] += (d**2).sum(axis=1)
            if loss is not None:
                own += _values(loss, z, problem.targets[t], problem.weight[t]).sum(axis=1)
            k += 1
    return Sums(trials, first, second, None if loss is None else own)


def deviations_of_inputs(
    net: LipschitzRNN, inputs: Array, sigma: Array, start: Array, trials: int, rng: np.random.Generator
) -> Array:
    """s (N,), the root of the variance of W h over `trials` runs of each input, averaged over steps and inputs."""
    h = np.broadcast_to(start, (1, trials, *start.shape))
    total = np.zeros(net.N)
    for u in inputs:
        total += (h @ net.W.T).var(axis=1, ddof=1).mean(axis=(0, 1))
        h = _advance(net, h, u, sigma[None, None, None], rng.standard_normal((trials, *start.shape)))
    return np.asarray(np.sqrt(total / len(inputs)))


def _values(loss: Loss | Each, z: Array, target: Array, weight: Array) -> Array:
    """The weighted loss (S, R, B) of the outputs z (S, R, B, n_out)."""
    if not callable(loss):
        return loss.value(z, target, weight)
    values = np.asarray(loss(z, np.broadcast_to(target, z.shape)), float)
    if values.shape != z.shape:
        raise InputError(f"loss must give one value per output, {z.shape}; found shape {values.shape}")
    return np.asarray(np.einsum("srbo,bo->srb", values, weight))


def _advance(net: Network | LipschitzRNN, h: Array, u: Array, sigma: Array, xi: Array) -> Array:
    """One step of the states h (S, R, B, N); noise on the increment has the same share of its training strength as
    sigma (S, 1, 1, N) has."""
    if isinstance(net, LipschitzRNN):
        share = sigma.max(axis=-1, keepdims=True) / (np.max(net.sigma) or 1.0)
        return h + net.gamma * (net.disturbed(h, u, sigma, share * net.multiplicative, xi) - h)
    gamma, f, drive, noise = net.gamma, net.activation.f, net.drive(u), sigma * xi
    if net.form == "current":
        return (1 - gamma) * h + gamma * (f(h) @ net.W.T + drive + noise)
    x = h @ net.W.T + drive
    return (1 - gamma) * h + gamma * (f(x + noise) if net.placement == "in" else f(x) + noise)
