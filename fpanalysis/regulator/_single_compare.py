"""One regulator over noise levels by every method, side by side."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from fpanalysis.checks import check_levels
from fpanalysis.regulator._single_balance import Array
from fpanalysis.regulator.single import Regulator
from fpanalysis.results import Status
from fpanalysis.stationary import solve

SLOW, FORMULA = "slow limit", "finite gamma"
SOLVED = ("fokker-planck", "chain", "monte-carlo")  #: methods of `fpanalysis.stationary`
METHODS = (SLOW, FORMULA, *SOLVED)


@dataclass(frozen=True, eq=False)
class Comparison:
    """Mean and standard deviation of the state by method and noise level.

    Attributes
    ----------
    regulators : one per noise level, ascending.
    mean, error, deviation : (methods, levels); NaN where a method has none. The slow limit's error is not known; its
        deviation is that of first order in gamma.
    status, reason : per method and level.
    """

    regulators: tuple[Regulator, ...]
    methods: tuple[str, ...]
    mean: Array
    error: Array
    deviation: Array
    status: tuple[tuple[Status, ...], ...]
    reason: tuple[tuple[str, ...], ...]

    @property
    def sigma(self) -> Array:
        return np.array([regulator.sigma for regulator in self.regulators])

    @property
    def h0(self) -> float:
        """The noise-free fixed point, from which the shift is measured."""
        return self.regulators[0].h0

    @property
    def shift(self) -> Array:
        """(methods, levels), mean - h0."""
        return self.mean - self.h0


def compare(regulator: Regulator, sigma: ArrayLike, rng: int | Generator = 0) -> Comparison:
    """`regulator` at the noise levels `sigma`, by both formulas, Fokker-Planck, the exact chain and Monte Carlo.

    Raises
    ------
    InputError
        If the levels are not numbers >= 0.
    """
    levels = tuple(replace(regulator, sigma=float(level)) for level in check_levels(sigma))
    rows = [[_slow(level) for level in levels], [_formula(level) for level in levels]]
    for method in SOLVED:
        laws = solve([level._problem for level in levels], method, rng)
        means = [level.h0 if level.sigma == 0 else law.mean[0] for level, law in zip(levels, laws, strict=True)]
        values = [(mean, law.error[0], law.cov[0, 0]) for mean, law in zip(means, laws, strict=True)]
        statuses = [law.status for law in laws]
        reasons = [law.reason for law in laws]
        rows.append([(*value, *rest) for value, *rest in zip(values, statuses, reasons, strict=True)])
    numbers = np.array([[entry[:3] for entry in row] for row in rows], float)
    mean, error, variance = np.moveaxis(numbers, 2, 0)
    return Comparison(
        regulators=levels,
        methods=METHODS,
        mean=mean,
        error=error,
        deviation=np.sqrt(np.maximum(variance, 0.0)),
        status=tuple(tuple(entry[3] for entry in row) for row in rows),
        reason=tuple(tuple(entry[4] for entry in row) for row in rows),
    )


Entry = tuple[float, float, float, Status, str]


def _slow(regulator: Regulator) -> Entry:
    slow = regulator.slow_limit()
    status = regulator.status
    if status is Status.NOT_CONVERGED and np.isfinite(slow.mean):
        status = Status.OK
    exact = 0.0 if regulator.sigma == 0 else np.nan
    return slow.mean, exact, regulator.gamma * slow.variance_slope, status, ""


def _formula(regulator: Regulator) -> Entry:
    values = regulator.mean(), regulator.error(), regulator.variance()
    return (*values, regulator.status, "" if regulator.status.ok else regulator.branch.meaning)
