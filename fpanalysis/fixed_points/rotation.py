"""Whether a recorded motion is periodic, and its period.

The samples h_n of a closed curve traced with a constant mean period T are h_n = Phi(n / T) with Phi of period 1, also
where T is no integer and no two samples meet: the invariant curve of a map. T is the mean return time through a
section, and Phi a Fourier series fitted to the phases n / T; what it leaves of h says whether the motion is regular.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

RETURNS = 8  #: returns through the section without which no period is given
LOOPS = 8  #: returns that one period is made of, at most
FEW, MANY = 8, 128  #: harmonics of Phi at least and at most
REGULAR = 0.02  #: what Phi may leave of h, root mean square, relative to that of h about its mean
SAMPLES = 6000  #: states that Phi is fitted to at most, evenly spread over the record
MEANINGLESS = 1e-10  #: eigenvalues below this share of the largest are zero in the fit of Phi


class Motion(NamedTuple):
    """What a record shows: see `LimitCycle`."""

    period: float
    period_error: float
    defect: float
    h: Array

    @property
    def regular(self) -> bool:
        return self.defect <= REGULAR


def motion(record: Array) -> Motion | None:
    """Period and closed curve of the motion in `record` (n, N); None where it does not return often enough.

    Orbits that cross the section more than once per period are tried with 1, 2, ... returns to a period, and the
    first that closes is taken; if none does, one return is called a period.
    """
    times = returns(record)
    if len(times) <= RETURNS:
        return None
    between, error = mean_return(times)
    tried = []
    for loops in range(1, LOOPS + 1):
        if loops * between * RETURNS / 2 > len(record):
            break
        tried.append(Motion(loops * between, loops * error, *closed_curve(record, loops * between)))
        if tried[-1].regular:
            return tried[-1]
    return tried[0]._replace(h=record[-int(np.ceil(between)) :])


def returns(record: Array) -> Array:
    """Times at which `record` (n, N) crosses its mean upwards along its first principal component, interpolated."""
    centred = record - record.mean(axis=0)
    along = centred @ np.linalg.eigh(centred.T @ centred)[1][:, -1]
    before = np.flatnonzero((along[:-1] < 0) & (along[1:] >= 0))
    return np.asarray(before - along[before] / (along[before + 1] - along[before]), np.float64)


def mean_return(times: Array) -> tuple[float, float]:
    """The mean time between `times`, and how far those of the two halves of the record are from each other.

    Weights exp(-1 / (t (1 - t))) make the mean of a quasi-periodic sequence converge faster than any power of its
    length (Das, Saiki, Sander & Yorke, Nonlinearity 2017).
    """

    def smooth_mean(values: Array) -> float:
        t = (np.arange(len(values)) + 1) / (len(values) + 1)
        weights = np.exp(-1 / (t * (1 - t)))
        return float(weights @ values / weights.sum())

    between = np.diff(times)
    half = len(between) // 2
    return smooth_mean(between), abs(smooth_mean(between[:half]) - smooth_mean(between[half:]))


def closed_curve(record: Array, period: float) -> tuple[float, Array]:
    """What a curve of that period leaves of `record` (n, N), root mean square, relative to that of the record about
    its mean; and the curve, sampled about once a step, (T, N)."""
    harmonics = int(np.clip(period / 4, FEW, MANY))
    chosen = np.arange(0, len(record), -(-len(record) // SAMPLES))
    record, basis = record[chosen], _waves(chosen / period, harmonics)
    gram = np.linalg.pinv(basis.T @ basis, rcond=MEANINGLESS, hermitian=True)  # singular where the period is a ratio
    series = gram @ (basis.T @ record)
    left = np.linalg.norm(record - basis @ series) / np.linalg.norm(record - record.mean(axis=0))
    samples = max(2, round(period))
    return float(left), np.asarray(_waves(np.arange(samples) / samples, harmonics) @ series, np.float64)


def _waves(phase: Array, harmonics: int) -> Array:
    angles = 2 * np.pi * np.outer(phase, np.arange(1, harmonics + 1))
    return np.hstack([np.ones((len(phase), 1)), np.cos(angles), np.sin(angles)])
