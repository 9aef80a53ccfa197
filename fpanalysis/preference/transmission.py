"""How well a network passes on what is wanted of it, at several levels of noise.

With z* the wanted output and z the output, each less its weighted mean over trials and steps, and the averages by the
weights of a batch,

    gain         g = <zbar z*> / <z*^2>,                          zbar the mean of z over the noise
    correlation  c = g sqrt(<z*^2> / (<zbar^2> + Var z)),         of single outputs: SNR = c^2 / (1 - c^2)

The square of g is the spectral amplification of a periodic signal (P. Jung and P. Haenggi, Phys. Rev. A 44, 8032, 1991)
in phase with z*; c is the measure of aperiodic stochastic resonance (J. J. Collins, C. C. Chow and T. T. Imhoff, Phys.
Rev. E 52, R3321, 1995). A unit that stays in one well follows a weak signal with a small g, but as truly as one likes:
c need not be small where g is, which is why the verdict looks at g.

Of the cross-entropy, g is that of softmax(zbar), the probabilities that the mean output stands for, on the targets: 0
is chance, 1 is all that is wanted. c is given for the squared error alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments._blocks import Sums, joined, without
from fpanalysis.moments._outputs import Problem
from fpanalysis.moments._sampled import Each, blocks_of, of_mean_output
from fpanalysis.moments.loss import checked_batch, chosen_loss
from fpanalysis.network import Network
from fpanalysis.regularizer.losses import Loss

Array = NDArray[np.float64]

CONSTANT = 1e-12  #: mean square of the wanted signal, relative to that of the wanted output, below which there is none


@dataclass(frozen=True, eq=False)
class Transmission:
    """Sampled at the levels `sigma` (S,): loss, bias^2 (of another loss than the squared error: that of the mean
    output), gain, correlation, (S,) each, and their 95 % half-widths."""

    sigma: Array
    loss: Array
    bias2: Array
    gain: Array
    correlation: Array
    loss_error: Array
    bias2_error: Array
    gain_error: Array
    correlation_error: Array


def measured(
    net: Network | LipschitzRNN,
    batch: Sequence[ArrayLike],
    levels: Array,
    h0: ArrayLike | None,
    trials: int,
    rng: np.random.Generator,
    loss: str | Loss | Each | None = None,
) -> Transmission:
    """From `trials` runs of every input at every level; errors by leaving out one block of runs after the other."""
    from scipy.stats import t as student

    inputs, targets, mask, start = checked_batch(net, batch, h0)
    chosen = chosen_loss(loss, targets, mask)
    profile = np.broadcast_to(net.noise_profile, (net.N,))
    problem = Problem(net, inputs, targets, mask / mask.sum(), start, levels[:, None] * profile)
    weight, wanted = problem.weight[problem.counted], targets[problem.counted]
    with np.errstate(over="ignore", invalid="ignore"):  # of levels at which the network diverges
        blocks = blocks_of(problem, trials, rng, chosen)
        whole = joined(blocks)
        values = _numbers(whole, weight, wanted, chosen)
        left = [_numbers(without(whole, block), weight, wanted, chosen) for block in blocks]
        K = len(blocks)
        factor = float(student.ppf(0.975, K - 1)) * (K - 1) / sqrt(K)
        errors = factor * np.std(left, axis=0)
        if chosen is not None:  # the loss of the mean is too large by what its sampling error adds
            values[1] = K * values[1] - (K - 1) * np.mean(left, axis=0)[1]
    return Transmission(levels, *values, *errors)


def _numbers(sums: Sums, weight: Array, wanted: Array, loss: Loss | Each | None) -> Array:
    """Loss, bias^2, gain and correlation, (4, S)."""
    R = sums.runs
    off = sums.first / R
    spread = np.maximum(sums.second / R - off**2, 0.0) * (R / max(R - 1, 1))
    variance = np.einsum("stbo,tbo->s", spread, weight)
    bias2 = np.einsum("stbo,tbo->s", off**2, weight) - variance / R
    total, seen, spreads = bias2 + variance, off + wanted, 1.0
    if loss is not None and sums.own is not None:
        total, bias2, spreads = sums.own.sum(axis=1) / R, np.full(len(off), np.nan), np.nan
        if not callable(loss):
            bias2 = of_mean_output(loss, wanted, weight)(off).sum(axis=1)
            seen = loss.prediction(seen)
    signal, power = _centred(wanted[None], weight)[0], float(np.sum(weight * wanted**2))
    size = float(np.sum(weight * signal**2))
    if not size > CONSTANT * power:
        unknown = np.full(len(off), np.nan)
        return np.array([total, bias2, unknown, unknown])
    mean = _centred(seen, weight)
    gain = np.einsum("stbo,tbo->s", mean, weight * signal) / size
    power_out = np.maximum(np.einsum("stbo,tbo->s", mean**2, weight) + variance * (1 - 1 / R), 1e-300)
    return np.array([total, bias2, gain, spreads * gain * np.sqrt(size / power_out)])


def _centred(z: Array, weight: Array) -> Array:
    """Each output (S, T, B, n_out) less its mean over steps and trials."""
    total = weight.sum(axis=(0, 1))
    mean = (z * weight).sum(axis=(1, 2), keepdims=True) / np.where(total > 0, total, 1.0)
    return z - mean
