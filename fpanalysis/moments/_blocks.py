"""The loss curve from sums over sampled runs, whichever sampler made them.

The runs come in blocks that are independent of each other: leaving out one after the other (jackknife) gives the error
of whatever is computed from the whole. With z_r the output of run r of R and z* the target, a block holds the sums of
z_r - z* and of its square, from which

    bias^2 = (zbar - z*)^2 - S^2 / R,    variance = S^2 = sum (z_r - zbar)^2 / (R - 1)

Of another convex loss l, l(E z) stands for them, which remains if all noise is averaged out, and Jensen's gap
E l(z) - l(E z) >= 0: of the squared error, these are bias^2 and variance. With l_k the loss of the mean without block k
of K, the jackknife takes from l(zbar) what its sampling error adds: K l(zbar) - (K - 1) mean l_k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._outputs import ROUNDING, Found, Outputs, Summary, between, interpolation_error, summary

Array = NDArray[np.float64]

BLOCKS = 16
SUMS = 1 << 26  #: numbers kept of all blocks and levels


class Sums(NamedTuple):
    """Of one block of `runs` at S levels: z - z* and its square, (S, T, B, n_out) at the counted steps, and the loss
    of each input (S, B) where that is not the squared error."""

    runs: int
    first: Array
    second: Array
    own: Array | None = None


def runs_of_blocks(trials: int, size: int) -> list[int]:
    """How many of the `trials` each block takes, where a block keeps 2 `size` numbers."""
    blocks = max(2, min(BLOCKS, trials // 2, SUMS // (2 * size)))
    return [trials // blocks + (k < trials % blocks) for k in range(blocks)]


def estimate(
    blocks: Sequence[Sums],
    weight: Array,
    sigma: Array,
    within: tuple[float, float],
    trained: float,
    of_mean: Callable[[Array], Array] | None = None,
) -> Found:
    """The curve at the levels `sigma` (S,), with its standard errors as 95 % half-widths.

    `weight` (T, B, n_out) is that of the counted steps. `of_mean` gives another loss than the squared error (S, B) at
    the mean of z - z* (S, T, B, n_out); without it such a loss has no parts.
    """
    from scipy.stats import t as student

    K = len(blocks)
    with np.errstate(over="ignore", invalid="ignore"):  # of levels at which the network has diverged
        whole = joined(blocks)
        left_out: list[Summary] = []
        means: list[Array] = []
        for part in blocks:
            rest = _outputs(without(whole, part), weight, of_mean)
            left_out.append(summary(rest, sigma, within, trained))
            if rest.of_mean is not None:
                means.append(rest.of_mean)
        outputs = _outputs(whole, weight, of_mean)
        if outputs.of_mean is not None:
            outputs = replace(outputs, of_mean=K * outputs.of_mean - (K - 1) * np.mean(means, axis=0))
        found = summary(outputs, sigma, within, trained)
        factor = float(student.ppf(0.975, K - 1)) * (K - 1) / sqrt(K)
        error = Summary(*(factor * np.std(values, axis=0) for values in zip(*left_out, strict=True)))
        between_levels = interpolation_error(outputs, sigma, within, found.preferred)
        error = error._replace(preferred=float(error.preferred) + between_levels)
        bias2, variance = outputs.parts()
        fine = between(outputs, sigma, within)
    return Found(found, error, fine, bias2, variance, np.zeros(bias2.shape, bool))


def joined(blocks: Sequence[Sums]) -> Sums:
    """All runs together."""
    runs, first, second, own = zip(*blocks, strict=True)
    return Sums(sum(runs), np.sum(first, axis=0), np.sum(second, axis=0), None if own[0] is None else np.sum(own, 0))


def without(whole: Sums, part: Sums) -> Sums:
    """The runs that are not in the block `part`."""
    own = None if whole.own is None or part.own is None else whole.own - part.own
    return Sums(whole.runs - part.runs, whole.first - part.first, whole.second - part.second, own)


def _outputs(sums: Sums, weight: Array, of_mean: Callable[[Array], Array] | None) -> Outputs:
    """Mean and variance over the runs, from their sums."""
    R = sums.runs
    bias = sums.first / R
    spread = sums.second / R - bias**2
    spread = np.where(spread > ROUNDING * bias**2, spread, 0.0) * (R / (R - 1))
    if sums.own is None:
        return Outputs(bias, spread, weight, R)
    return Outputs(bias, spread, weight, R, sums.own / R, None if of_mean is None else of_mean(bias))
