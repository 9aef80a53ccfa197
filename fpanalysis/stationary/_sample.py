"""What a Monte Carlo run is asked for, its plan, and what it leaves, its sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from fpanalysis.stationary._histogram import Histogram, joined
from fpanalysis.stationary._result import Array


@dataclass(frozen=True)
class Plan:
    """How long to run: `burn_in` steps dropped, then `batches` of `length` steps, one state in `thin` kept
    for the mean and one in `cov_thin` for the covariance."""

    burn_in: int
    batches: int
    length: int
    thin: int
    cov_thin: int

    @property
    def steps(self) -> int:
        return self.batches * self.length


@dataclass(frozen=True)
class Sample:
    """What a run leaves of one problem, as deviations from `center` (N,).

    `h` (2, B, batches, N): batch means of the state of each chain; `ends`, the same shape, the states at their ends;
    `rates` (B, N), mean of f(h) over the run and each pair, current form only; `D` and `X` (B, batches, N), with a
    linear chain only: means over each pair of f(x) - f(a + y) and x - a; `moments`: sums of h, h h^T, d d^T and
    (x - a - y)^2 over `draws` states; `histograms`, one per axis.
    """

    center: Array
    h: Array
    ends: Array
    rates: Array | None
    D: Array | None
    X: Array | None
    moments: tuple[Array, Array, Array, Array]
    draws: int
    diverged: bool
    histograms: list[Histogram] = field(default_factory=list)

    @property
    def cov(self) -> Array:
        """Covariance of the state."""
        first, second, *_ = self.moments
        mean = first / self.draws
        cov: Array = second / self.draws - np.outer(mean, mean)
        return cov


def merge(parts: Sequence[Sample]) -> Sample:
    """The runs of several blocks of pairs of one problem as one."""

    def concatenated(name: str, axis: int) -> Array | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays, axis)

    return Sample(
        center=parts[0].center,
        h=np.concatenate([part.h for part in parts], 1),
        ends=np.concatenate([part.ends for part in parts], 1),
        rates=concatenated("rates", 0),
        D=concatenated("D", 0),
        X=concatenated("X", 0),
        moments=tuple(sum(part.moments[k] for part in parts) for k in range(4)),  # type: ignore[arg-type]
        draws=sum(part.draws for part in parts),
        diverged=any(part.diverged for part in parts),
        histograms=[joined(same) for same in zip(*(part.histograms for part in parts), strict=True)],
    )
