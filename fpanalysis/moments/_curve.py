"""A loss curve: what is known of the loss against test noise, whichever way it was found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_levels
from fpanalysis.moments._outputs import SMALL, Fine, Found
from fpanalysis.moments.propagate import FAR
from fpanalysis.results import InputError, Provenance, Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Loss of a network at S levels of test noise.

    Attributes
    ----------
    sigma : (S,), noise levels (the largest entry, where each neuron has its own).
    loss, bias2, variance : (S,), the expected loss and its parts. Monte Carlo's bias2 is unbiased, hence may fall
        slightly below zero where it is small. Of the cross-entropy, l(E z), what is left if all noise is averaged out,
        and Jensen's gap E l(z) - l(E z); a loss given as a function has no parts: NaN.
    error, bias2_error, variance_error : (S,), half-widths that cover the truth at 95 %.
    bias2_by_trial, variance_by_trial : (S, B), the parts of each input.
    fine : the curve between the levels, ``.sigma``, ``.loss``, ``.bias2``, ``.variance``: z and its variance are
        interpolated, which vary more slowly than their squares. (Of another loss, its values are.)
    preferred, preferred_bias2 : the noise level of least loss and of least bias2 on the fine curve, hence within the
        range of the levels.
    preferred_error : 95 %, of `preferred` (NaN where it is not known), with what few levels leave open between them.
    slope_zero : d loss / d sigma^2 at sigma = 0, as the mean slope up to 0.05 of the training noise (of the largest
        level, without one); negative: a little noise helps.
    slope_training : d loss / d sigma at the training noise; NaN where that lies outside the levels.
    loss_removed, loss_trained : loss without noise and at the training noise; `ratio` is R, their quotient.
    status : one per level. `untrusted` (S, B) says which inputs a level's status is about.
    """

    sigma: Array
    loss: Array
    bias2: Array
    variance: Array
    error: Array
    bias2_error: Array
    variance_error: Array
    bias2_by_trial: Array
    variance_by_trial: Array
    fine: Fine
    preferred: float
    preferred_bias2: float
    preferred_error: float
    slope_zero: float
    slope_training: float
    loss_removed: float
    loss_trained: float
    training_sigma: float
    untrusted: NDArray[np.bool_]
    status: tuple[Status, ...]
    method: str
    provenance: Provenance

    @property
    def ratio(self) -> float:
        """R = loss with the noise removed / loss at the training noise; above one, the network needs its noise."""
        return self.loss_removed / self.loss_trained if self.loss_trained > 0 else np.nan

    @property
    def of(self) -> str:
        """Which loss it is."""
        return str(self.provenance.settings.get("loss", "squared error"))

    @property
    def ok(self) -> bool:
        return all(status.ok for status in self.status)


def curve_of(
    found: Found, levels: Array, asked: Array, trained: float, scale: float, provenance: Provenance
) -> LossCurve:
    """The result at the levels `asked` of those computed; where outputs went far beyond `scale`, the size of what
    drives and starts the network, it has diverged."""
    value, error, k = found.summary, found.error, np.searchsorted(levels, asked)
    with np.errstate(over="ignore", invalid="ignore"):
        grown = ~(value.loss < (FAR * (scale + levels)) ** 2)
    bad = found.untrusted[k]
    codes = np.where(grown[k], 2, np.where(bad.any(axis=1), 1, 0)).tolist()
    status = tuple((Status.OK, Status.NOT_GAUSSIAN, Status.DIVERGED)[code] for code in codes)
    loss = np.where(grown, np.nan, value.loss)
    known = np.nan if grown.any() else 1.0  # a minimum between levels of which some are not known is none
    return LossCurve(
        sigma=levels[k],
        loss=loss[k],
        bias2=np.where(grown, np.nan, value.bias2)[k],
        variance=np.where(grown, np.nan, value.variance)[k],
        error=error.loss[k],
        bias2_error=error.bias2[k],
        variance_error=error.variance[k],
        bias2_by_trial=found.bias2[k],
        variance_by_trial=found.variance[k],
        fine=found.fine,
        preferred=known * value.preferred,
        preferred_bias2=known * value.preferred_bias2,
        preferred_error=known * error.preferred if len(k) > 1 else np.nan,
        slope_zero=known * value.slope_zero,
        slope_training=known * value.slope_training,
        loss_removed=float(loss[0]),
        loss_trained=float(loss[np.abs(levels - trained).argmin()]),
        training_sigma=trained,
        untrusted=bad,
        status=status,
        method=provenance.method,
        provenance=provenance,
    )


def levels_asked(sigma: ArrayLike | None, trained: float, count: int = 16) -> Array:
    """The noise levels `sigma`, ascending; None: `count` of them from 0 to 1.5 times the training noise."""
    if sigma is None and not trained:
        raise InputError("sigma must be given: the network was trained without noise, so there is no range to choose")
    return check_levels(np.linspace(0, 1.5 * trained, count) if sigma is None else sigma)


def levels_needed(asked: Array, *trained: float) -> Array:
    """`asked` with zero, each training noise, and the small levels that give the slope at zero."""
    small = [SMALL * (sigma or float(asked[-1]) or 1.0) for sigma in trained]
    return with_levels(asked, 0.0, *small, *trained)


def with_levels(levels: Array, *more: float) -> Array:
    """`levels` and those of `more` that are not among them to rounding, ascending."""
    for level in more:
        if not np.isclose(levels, level, rtol=1e-9, atol=0.0).any():
            levels = np.append(levels, level)
    return np.sort(levels)
