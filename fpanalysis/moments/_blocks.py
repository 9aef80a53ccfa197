"""The loss curve from sums over sampled runs, whichever sampler made them.

The runs come in blocks that are independent of each other: leaving out one after the other (jackknife) gives the error
of whatever is computed from the whole. With z_r the output of run r of R and z* the target, a block holds the sums of
z_r - z* and of its square, from which

    bias^2 = (zbar - z*)^2 - S^2 / R,    variance = S^2 = sum (z_r - zbar)^2 / (R - 1)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._outputs import Found, Outputs, Summary, between, interpolation_error, summary

Array = NDArray[np.float64]

BLOCKS = 16
SUMS = 1 << 26  #: numbers kept of all blocks and levels


class Sums(NamedTuple):
    """Of one block of `runs` at S levels: z - z* and its square, (S, T, B, n_out) at the counted steps, and the loss
    (S,) where that is not the squared error."""

    runs: int
    first: Array
    second: Array
    own: Array | None = None


def runs_of_blocks(trials: int, size: int) -> list[int]:
    """How many of the `trials` each block takes, where a block keeps 2 `size` numbers."""
    blocks = max(2, min(BLOCKS, trials // 2, SUMS // (2 * size)))
    return [trials // blocks + (k < trials % blocks) for k in range(blocks)]


def estimate(blocks: Sequence[Sums], weight: Array, sigma: Array, within: tuple[float, float], trained: float) -> Found:
    """The curve at the levels `sigma` (S,), with its standard errors as 95 % half-widths; `weight` (T, B, n_out) is
    that of the counted steps."""
    from scipy.stats import t as student

    K = len(blocks)
    with np.errstate(over="ignore", invalid="ignore"):  # of levels at which the network has diverged
        whole = _joined(blocks)
        outputs = _outputs(whole, weight)
        found = summary(outputs, sigma, within, trained)
        left_out = [summary(_outputs(_without(whole, part), weight), sigma, within, trained) for part in blocks]
        factor = float(student.ppf(0.975, K - 1)) * (K - 1) / sqrt(K)
        error = Summary(*(factor * np.std(values, axis=0) for values in zip(*left_out, strict=True)))
        between_levels = interpolation_error(outputs, sigma, within, found.preferred)
        error = error._replace(preferred=float(error.preferred) + between_levels)
        bias2, variance = outputs.parts()
        fine = between(outputs, sigma, within)
    return Found(found, error, fine, bias2, variance, np.zeros(bias2.shape, bool))


def _joined(blocks: Sequence[Sums]) -> Sums:
    runs, first, second, own = zip(*blocks, strict=True)
    return Sums(sum(runs), np.sum(first, axis=0), np.sum(second, axis=0), None if own[0] is None else np.sum(own, 0))


def _without(whole: Sums, part: Sums) -> Sums:
    own = None if whole.own is None or part.own is None else whole.own - part.own
    return Sums(whole.runs - part.runs, whole.first - part.first, whole.second - part.second, own)


def _outputs(sums: Sums, weight: Array) -> Outputs:
    """Mean and variance over the runs, from their sums."""
    R = sums.runs
    bias = sums.first / R
    spread = np.maximum(sums.second / R - bias**2, 0.0) * (R / (R - 1))
    return Outputs(bias, spread, weight, R, None if sums.own is None else sums.own / R)
