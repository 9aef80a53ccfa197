"""One noise level of a shift in a few numbers, and whether its methods agree."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import Status

if TYPE_CHECKING:
    import xarray

Array = NDArray[np.float64]

NORMAL_95 = 1.959963984540054


@dataclass(frozen=True)
class Level:
    """One noise level in a few numbers, over all conditions and stable fixed points, by the first method.

    Root mean squares (rms) run over conditions, fixed points and neurons or outputs; numbers that do not
    exist are None. `disagreement` is the largest difference between two methods' means, over neurons and
    conditions, in units of their combined standard error; `disagreement_limit` is what chance alone exceeds
    once in a thousand sweeps.
    """

    sigma: float
    shift: float | None  #: rms of m - h*
    output_shift: float | None  #: rms of the output's shift: the output bias when this noise is removed
    output_shift_error: float | None  #: rms of its error at 95 %
    output_error: float | None  #: rms distance of the mean output from the target
    disagreement: float | None
    disagreement_limit: float | None
    statuses: tuple[Status, ...]

    @property
    def ok(self) -> bool:
        return not self.statuses


def summary(data: xarray.Dataset, count: int) -> Level:
    """Summary of one noise level."""
    first = data.isel(method=0)
    largest, limit = _disagreement(data, count)
    codes = {str(code) for code in np.unique(data.status.values)} - {"", Status.OK.value}
    statuses = [status for status in Status if status.value in codes]
    if largest is not None and limit is not None and largest > limit:
        statuses.append(Status.DISAGREE)
    return Level(
        sigma=float(data.sigma),
        shift=_rms(first["shift"].values),
        output_shift=_rms(first.output_shift.values),
        output_shift_error=_rms(first.output_error.values),
        output_error=_rms((first.output - first.target).values) if "target" in first else None,
        disagreement=largest,
        disagreement_limit=limit,
        statuses=tuple(statuses),
    )


def _disagreement(data: xarray.Dataset, count: int) -> tuple[float | None, float | None]:
    """Largest |difference of two methods' means| in combined standard errors, and what chance alone exceeds once
    in a thousand sweeps of `count` levels (Student's t with the degrees of freedom of the sampling method).

    Only results that are ok count: the others say themselves that their errors do not hold."""
    from scipy.special import ndtri, stdtrit

    held = data.where(data.status == Status.OK.value)
    mean, error = (np.moveaxis(held[name].values, -2, 0) for name in ("mean", "error"))
    scores = []
    for i in range(len(mean)):
        for j in range(i):
            standard = np.hypot(error[i], error[j]) / NORMAL_95
            gap = np.abs(mean[i] - mean[j])
            tiny = gap <= 1e-10 * (1 + np.abs(mean[i]))
            with np.errstate(divide="ignore", invalid="ignore"):
                scores.append(np.where(tiny, 0.0, gap / standard))
    values = np.concatenate([score[np.isfinite(score)] for score in scores]) if scores else np.empty(0)
    if not values.size:
        return None, None
    level = 1 - 0.0005 / (values.size * count)
    freedom = int(data.attrs["degrees_of_freedom"])
    return float(values.max()), float(stdtrit(freedom, level) if freedom else ndtri(level))


def _rms(values: Array) -> float | None:
    values = values[np.isfinite(values)]
    return float(np.sqrt(np.mean(values**2))) if values.size else None
