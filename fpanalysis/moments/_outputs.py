"""Mean and variance of the output at several noise levels, what the loss makes of them, and between the levels."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network

Array = NDArray[np.float64]

FINE = 2001  #: points, at least, between the first and the last level at which a minimum is sought
ROUNDING = 1e-13  #: relative difference of sampled numbers that is none
SMALL = 0.05  #: of the training noise: the level from which the slope at zero is taken


@dataclass(frozen=True, eq=False)
class Problem:
    """A network, what it is driven by and what is wanted of it, and the noise levels (S, N), of which the largest
    entries are `sigma` (S,): ascending, the first zero, one of them small. `weight` (T, B, n_out) sums to 1."""

    net: Network | LipschitzRNN
    inputs: Array
    targets: Array
    weight: Array
    start: Array
    levels: Array

    @property
    def sigma(self) -> Array:
        return self.levels.max(axis=1)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """(T,), steps that count."""
        return np.asarray(self.weight.any(axis=(1, 2)))


@dataclass(frozen=True, eq=False)
class Outputs:
    """Mean z of the output minus its target, and its variance, (S, T, B, n_out) each, at the counted steps, which
    `weight` (T, B, n_out) weighs.

    `trials` is how many runs the mean is of, infinite where it is not sampled; `own` (S, B) is the loss of each input
    where that is not the squared error, and `of_mean` (S, B) the loss of the mean, if that stands for the bias.
    """

    bias: Array
    spread: Array
    weight: Array
    trials: float = np.inf
    own: Array | None = None
    of_mean: Array | None = None

    def parts(self) -> tuple[Array, Array]:
        """bias^2 and variance, (S, B) each: sums over steps and outputs of (z - z*)^2 - spread / trials and spread.

        The term that is taken off is what the sampling error of z adds. Of another loss, that of the mean and the rest;
        NaN where the former does not stand for the bias.
        """
        if self.own is not None:
            bias2 = np.full(self.own.shape, np.nan) if self.of_mean is None else self.of_mean
            return bias2, np.where(abs(self.own - bias2) > ROUNDING * abs(self.own), self.own - bias2, 0.0)
        variance = np.einsum("stbo,tbo->sb", self.spread, self.weight)
        return np.einsum("stbo,tbo->sb", self.bias**2, self.weight) - variance / self.trials, variance

    def at(self, levels: NDArray[np.intp]) -> Outputs:
        """At some of the levels only."""
        own, of_mean = (None if part is None else part[levels] for part in (self.own, self.of_mean))
        return replace(self, bias=self.bias[levels], spread=self.spread[levels], own=own, of_mean=of_mean)

    def gram(self) -> Array:
        """(S, S), the weighted products of the biases of two levels."""
        S = len(self.bias)
        weighted = self.bias * self.weight
        return weighted.reshape(S, -1) @ self.bias.reshape(S, -1).T


class Summary(NamedTuple):
    """The curve at the levels (S,), and where it is least."""

    loss: Array
    bias2: Array
    variance: Array
    preferred: float
    preferred_bias2: float
    slope_zero: float
    slope_training: float


class Found(NamedTuple):
    """A curve with the half-widths that cover the truth at 95 %, its parts by trial (S, B), where they are unsure."""

    summary: Summary
    error: Summary
    fine: Fine
    bias2: Array
    variance: Array
    untrusted: NDArray[np.bool_]


class Fine(NamedTuple):
    """The curve between the levels."""

    sigma: Array
    loss: Array
    bias2: Array
    variance: Array


def summary(outputs: Outputs, sigma: Array, within: tuple[float, float], trained: float) -> Summary:
    """Of outputs at the levels `sigma` (S,); minima are sought in the range `within`."""
    bias2, variance = (part.sum(axis=1) for part in outputs.parts())
    loss = bias2 + variance if outputs.own is None else outputs.own.sum(axis=1)
    fine = between(outputs, sigma, within)
    slope = np.gradient(fine.loss, fine.sigma) if len(fine.sigma) > 1 else np.full(1, np.nan)
    inside = within[0] <= trained <= within[1]
    k = int(np.searchsorted(sigma, SMALL * (trained or sigma[-1]) * (1 - 1e-6)))
    return Summary(
        loss,
        bias2,
        variance,
        float(fine.sigma[fine.loss.argmin()]),
        np.nan if outputs.own is not None and outputs.of_mean is None else float(fine.sigma[fine.bias2.argmin()]),
        float((loss[k] - loss[0]) / sigma[k] ** 2),
        float(np.interp(trained, fine.sigma, slope)) if inside else np.nan,
    )


def between(outputs: Outputs, sigma: Array, within: tuple[float, float]) -> Fine:
    """The curve at many points of the range `within`, from cubic splines of z and its variance through the levels.

    z varies more slowly with sigma than bias^2 does, whose minimum is sharp where z passes through the target. A spline
    is linear in its values, so bias^2 = b G b with the splines b of unit values and the products G of the levels. Of
    another loss, it and its parts are interpolated as they are.
    """
    from scipy.interpolate import CubicSpline

    fine = _points(sigma, *within)
    flat = (1, np.zeros(len(sigma)))  # the moments are even in sigma
    basis = CubicSpline(sigma, np.eye(len(sigma)), bc_type=(flat, "not-a-knot"))(fine)
    if outputs.own is not None:
        bias2, variance = (basis @ part.sum(axis=1) for part in outputs.parts())
        return Fine(fine, basis @ outputs.own.sum(axis=1), bias2, variance)
    variance = basis @ outputs.parts()[1].sum(axis=1)
    bias2 = np.einsum("fs,st,ft->f", basis, outputs.gram(), basis, optimize=True) - variance / outputs.trials
    return Fine(fine, bias2 + variance, bias2, variance)


def _points(sigma: Array, low: float, high: float) -> Array:
    """Points of the range, dense between any two levels, however far apart others are."""
    inside = sigma[(sigma >= low) & (sigma <= high)]
    each = -(-(FINE - 1) // max(len(inside) - 1, 1))
    pieces = [np.linspace(a, b, each, endpoint=False) for a, b in pairwise(inside)]
    return np.unique(np.concatenate([*pieces, inside[-1:]]))


def interpolation_error(outputs: Outputs, sigma: Array, within: tuple[float, float], preferred: float) -> float:
    """Twice what the minimum of the loss moves by if the level next to it is left out: many levels leave open less, two
    perhaps more than once. Zero where the range is one level."""
    if within[0] == within[1]:
        return 0.0
    dropped = 1 + int(np.abs(sigma[1:-1] - preferred).argmin())
    kept = np.delete(np.arange(len(sigma)), dropped)
    fine = between(outputs.at(kept), sigma[kept], within)
    return 2 * abs(float(fine.sigma[fine.loss.argmin()]) - preferred)
