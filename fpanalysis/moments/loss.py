"""Expected loss against test noise, split into bias^2 and variance, and the noise level that a network prefers.

For the quadratic loss of a readout, with zbar and Var z the mean and variance of the output over the noise and z* the
target, averaged over outputs, trials and counted steps,

    E loss(sigma) = mean (zbar - z*)^2 + mean Var z = bias^2 + variance

so the whole curve follows from the moments of the output (`propagate`; `layers` where inputs are held until they have
passed a feedforward network), without sampling; Monte Carlo checks it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_levels, check_rng, of_shape
from fpanalysis.moments._outputs import SMALL, Fine, Found, Problem
from fpanalysis.moments._predicted import predicted
from fpanalysis.moments._sampled import Loss, sampled
from fpanalysis.moments.propagate import FAR, check_inputs
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status

Array = NDArray[np.float64]

METHODS = ("closure", "monte-carlo")


@dataclass(frozen=True, eq=False)
class LossCurve:
    """Loss of a network at S levels of test noise.

    Attributes
    ----------
    sigma : (S,), noise levels (the largest entry, where each neuron has its own).
    loss, bias2, variance : (S,), the expected loss and its parts. Monte Carlo's bias2 is unbiased, hence may fall
        slightly below zero where it is small. A loss that is not quadratic has no parts: NaN.
    error, bias2_error, variance_error : (S,), half-widths that cover the truth at 95 %.
    bias2_by_trial, variance_by_trial : (S, B), the parts of each input.
    fine : the curve between the levels, ``.sigma``, ``.loss``, ``.bias2``, ``.variance``: z and its variance are
        interpolated, which vary more slowly than their squares.
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
    def ok(self) -> bool:
        return all(status.ok for status in self.status)


def loss_curve(
    net: Network,
    batch: Sequence[ArrayLike],
    sigma: ArrayLike | None = None,
    method: str = "closure",
    *,
    h0: ArrayLike | None = None,
    loss: Loss | None = None,
    trials: int = 256,
    rng: int | np.random.Generator = 0,
) -> LossCurve:
    """Expected loss of `net` on `batch` at each noise level `sigma`.

    Parameters
    ----------
    batch : (inputs, targets, mask)
        (T, B, n_in), (T, B, n_out) and (T, B): what ``Task.batch`` gives. targets[t] is compared with the output after
        step t; mask weighs the steps.
    sigma : levels, optional
        None means 16 levels from 0 to 1.5 times the training noise. A network trained with a sigma per neuron keeps
        that profile: a level is then its largest entry.
    method : "closure" | "monte-carlo"
        The closure is least reliable for strongly recurrent networks whose trials spread over several basins: check it
        there by Monte Carlo.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.
    loss : callable (z, z*) -> values, optional
        Another loss than the squared error: by Monte Carlo only, since it does not follow from two moments.
    trials, rng
        Of Monte Carlo: runs of each input, and the seed.

    Raises
    ------
    InputError
        If an argument does not fit the network, or `loss` is given with the closure.
    """
    inputs, targets, mask, start = _checked(net, batch, h0)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; found {method!r}")
    if loss is not None and not callable(loss):
        raise InputError(f"loss must be a function of (z, target), or None for the squared error; found {loss!r}")
    if loss is not None and method != "monte-carlo":
        raise InputError(
            "a loss that is not quadratic does not follow from mean and variance: use method='monte-carlo'"
        )
    trained = float(np.max(net.sigma))
    asked = _levels(sigma, trained)
    levels = _with(asked, 0.0, SMALL * (trained or float(asked[-1]) or 1.0), trained)
    profile = np.broadcast_to(net.noise_profile, (net.N,))
    problem = Problem(net, inputs, targets, mask / (mask.sum() * net.n_out), start, levels[:, None] * profile)
    within = (float(asked[0]), float(asked[-1]))
    if method == "closure":
        found, provenance = predicted(problem, within, trained), Provenance(method, net.hash)
    else:
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 4:
            raise InputError(f"trials must be a whole number >= 4, to tell bias from variance; found {trials!r}")
        found = sampled(problem, within, trained, int(trials), check_rng(rng), loss)
        seed = int(rng) if isinstance(rng, int | np.integer) else None
        provenance = Provenance(method, net.hash, {"trials": int(trials)}, seed)
    scale = 1 + float(np.abs(net.drive(inputs)).max()) + float(np.abs(targets).max()) + float(np.abs(start).max())
    diverged = ~(found.summary.loss < (FAR * (scale + levels)) ** 2)
    return _curve(found, diverged, levels, np.searchsorted(levels, asked), trained, provenance)


def _curve(
    found: Found,
    grown: NDArray[np.bool_],
    levels: Array,
    k: NDArray[np.intp],
    trained: float,
    provenance: Provenance,
) -> LossCurve:
    """The result at the levels number `k`, those asked for; `grown` (S,) says where the network has diverged."""
    value, error = found.summary, found.error
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


def _with(levels: Array, *more: float) -> Array:
    """`levels` and those of `more` that are not among them to rounding, ascending."""
    for level in more:
        if not np.isclose(levels, level, rtol=1e-9, atol=0.0).any():
            levels = np.append(levels, level)
    return np.sort(levels)


def _levels(sigma: ArrayLike | None, trained: float) -> Array:
    if sigma is None and not trained:
        raise InputError("sigma must be given: the network was trained without noise, so there is no range to choose")
    return check_levels(np.linspace(0, 1.5 * trained, 16) if sigma is None else sigma)


def _checked(net: Network, batch: Sequence[ArrayLike], h0: ArrayLike | None) -> tuple[Array, Array, Array, Array]:
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise InputError("batch must be (inputs, targets, mask), as Task.batch gives it")
    inputs = check_inputs(net, batch[0])
    T, B, _ = inputs.shape
    targets, mask = of_shape("targets", batch[1], (T, B, net.n_out)), of_shape("mask", batch[2], (T, B))
    if (mask < 0).any() or not mask.any():
        raise InputError("mask must be >= 0, and positive at the steps that count; found none that counts")
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    return inputs, targets, mask, start
