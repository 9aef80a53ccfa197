"""Networks without noise whose activations are smoothed as noise smooths them.

Of a `Network`, `denoise` knows by how much (Gaussian closure). Of a `LipschitzRNN`, whose noise is outside its
activation, what reaches neuron i through W is sampled: s_i^2 is the variance of (W h)_i over the noise, averaged over
the steps and the trials.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._grouped import smoothed
from fpanalysis.denoise import NOTE, DenoiseWarning, denoise
from fpanalysis.fixed_points import find_fixed_points
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments._sampled import deviations_of_inputs
from fpanalysis.moments.loss import checked_batch
from fpanalysis.network import Network

Array = NDArray[np.float64]

RUNS = 32  #: of each trial, from which s is taken
SAMPLED = "the activations of the Lipschitz RNN are smoothed by the sampled spread of what reaches them through W"


def without_noise(net: Network | LipschitzRNN, s: Array | None) -> Network | LipschitzRNN:
    """`net` without noise, its activations smoothed by `s` (N,), if by anything."""
    f = net.activation if s is None else smoothed(net.activation, s)
    if isinstance(net, LipschitzRNN):
        return dataclasses.replace(net.with_sigma(0.0), activation=f, multiplicative=0.0)
    return dataclasses.replace(net.with_sigma(0.0), activation=f)


def smoothed_by_all(
    net: Network | LipschitzRNN, batch: Sequence[ArrayLike], h0: ArrayLike | None, level: float | Array
) -> tuple[Network | LipschitzRNN, bool, tuple[str, ...]]:
    """`net` smoothed by all that reaches its activations at noise `level`, whether basins are lost by that, and what
    there is to say of it."""
    if isinstance(net, LipschitzRNN):
        inputs, _, _, start = checked_batch(net, batch, h0)
        s = deviations_of_inputs(net, inputs, np.broadcast_to(level, (net.N,)), start, RUNS, np.random.default_rng(0))
        clean = without_noise(net, s)
        at = np.zeros((1, net.n_in)) if net.conditions is None else net.conditions
        before, after = ([int(find_fixed_points(one, u, rng=0, prove=False).stable.sum()) for u in at]
                         for one in (without_noise(net, None), clean))  # fmt: skip
        return clean, _fewer(before, after), (SAMPLED,)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DenoiseWarning)
        full = denoise(net, level)
    notes = tuple(str(warning.message) for warning in caught if issubclass(warning.category, DenoiseWarning))
    return full, _fewer(full.info[NOTE]["stable_before"], full.info[NOTE]["stable_after"]), notes


def _fewer(before: Sequence[int], after: Sequence[int]) -> bool:
    return any(now < then for then, now in zip(before, after, strict=True))
