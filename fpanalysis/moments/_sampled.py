"""The loss curve by sampling: runs of every input, in blocks, at every noise level.

All levels see the same noise (common random numbers), so that a curve is sharper than its points. The blocks are
independent of each other: leaving out one after the other (jackknife) gives the error of whatever is computed.
"""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._outputs import Found, Outputs, Problem, Summary, between, interpolation_error, summary
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]
Loss = Callable[[Array, Array], Array]  #: (z, z*) -> loss of each number

CHUNK = 1 << 21  #: states held at once
BLOCKS = 16
SUMS = 1 << 26  #: numbers kept of all blocks and levels


def sampled(
    problem: Problem,
    within: tuple[float, float],
    trained: float,
    trials: int,
    rng: np.random.Generator,
    loss: Loss | None,
) -> Found:
    """The curve from `trials` runs of every input at every level, with its standard errors as 95 % half-widths."""
    from scipy.stats import t as student

    size = 2 * len(problem.levels) * problem.targets[problem.counted].size
    blocks = max(2, min(BLOCKS, trials // 2, SUMS // size))
    runs = trials // blocks + (np.arange(blocks) < trials % blocks)
    sums = [
        _block(problem, int(R), np.random.default_rng(seed), loss)
        for R, seed in zip(runs, rng.integers(2**62, size=blocks), strict=True)
    ]
    whole = tuple(np.sum(parts, axis=0) for parts in zip(*sums, strict=True))
    outputs = _outputs(problem, whole, trials, loss)
    found = summary(outputs, problem.sigma, within, trained)
    left_out = [
        summary(
            _outputs(problem, tuple(w - p for w, p in zip(whole, part, strict=True)), trials - int(R), loss),
            problem.sigma,
            within,
            trained,
        )
        for part, R in zip(sums, runs, strict=True)
    ]
    factor = float(student.ppf(0.975, blocks - 1)) * (blocks - 1) / sqrt(blocks)
    error = Summary(*(factor * np.std(values, axis=0) for values in zip(*left_out, strict=True)))
    between_levels = interpolation_error(outputs, problem.sigma, within, found.preferred)
    error = error._replace(preferred=float(error.preferred) + between_levels)
    bias2, variance = outputs.parts()
    return Found(found, error, between(outputs, problem.sigma, within), bias2, variance, np.zeros(bias2.shape, bool))


def _outputs(problem: Problem, sums: tuple[Array, ...], trials: int, loss: Loss | None) -> Outputs:
    """Mean and variance over `trials` runs, from their sums."""
    first, second, own = sums
    bias = first / trials
    spread = np.maximum(second / trials - bias**2, 0.0) * (trials / (trials - 1))
    return Outputs(bias, spread, problem.weight[problem.counted], trials, None if loss is None else own / trials)


def _block(problem: Problem, trials: int, rng: np.random.Generator, loss: Loss | None) -> tuple[Array, Array, Array]:
    """Sums over `trials` runs of z - z* and its square, (S, T, B, n_out) at the counted steps, and of the loss (S,)."""
    net, S = problem.net, len(problem.levels)
    B = problem.inputs.shape[1]
    first, second = np.zeros((2, S, *problem.targets[problem.counted].shape))
    own = np.zeros(S)
    at_once = max(1, CHUNK // (S * B * net.N))
    for done in range(0, trials, at_once):
        R = min(at_once, trials - done)
        h = np.broadcast_to(problem.start, (S, R, B, net.N))
        k = 0
        for t, counts in enumerate(problem.counted):
            xi = rng.standard_normal((R, B, net.N))
            h = _advance(net, h, net.drive(problem.inputs[t]), problem.levels[:, None, None] * xi)
            if not counts:
                continue
            z = net.readout(h if net.form == "rate" else net.activation.f(h))
            d = z - problem.targets[t]
            first[:, k] += d.sum(axis=1)
            second[:, k] += (d**2).sum(axis=1)
            if loss is not None:
                values = np.asarray(loss(z, np.broadcast_to(problem.targets[t], z.shape)), float)
                if values.shape != z.shape:
                    raise InputError(f"loss must give one value per output, {z.shape}; found shape {values.shape}")
                own += np.einsum("srbo,b->s", values, problem.weight[t])
            k += 1
    return first, second, own


def _advance(net: Network, h: Array, drive: Array, noise: Array) -> Array:
    """One step with sigma xi = `noise`."""
    gamma, f = net.gamma, net.activation.f
    if net.form == "current":
        return (1 - gamma) * h + gamma * (f(h) @ net.W.T + drive + noise)
    x = h @ net.W.T + drive
    return (1 - gamma) * h + gamma * (f(x + noise) if net.placement == "in" else f(x) + noise)
