"""Preference or resonance? The evidence about a network on its trials, gathered, and the verdict that it leads to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_levels, check_rng
from fpanalysis.denoise import own_noise
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments import LossCurve, loss_curve
from fpanalysis.moments._sampled import Each
from fpanalysis.moments.loss import SQUARED, loss_name
from fpanalysis.network import Network
from fpanalysis.preference._smoothing import smoothed_by_all, without_noise
from fpanalysis.preference.transmission import Transmission, measured
from fpanalysis.preference.verdict import Evidence, Verdict, decide
from fpanalysis.regularizer.losses import Loss
from fpanalysis.results import InputError, Provenance, Status

Array = NDArray[np.float64]

MERGED = (
    "smoothed by all that reaches it, the network has fewer basins than before: that smoothing is made of hops between "
    "basins and is left out; each activation is smoothed by its own noise alone"
)
OWN = "'denoised' of the result of fpanalysis.preference is that network; 'fpanalysis denoise' is for CTRNNs"
RUNS = 2  #: of a network without noise, all alike


@dataclass(frozen=True, eq=False)
class Preference:
    """Why a network prefers the noise that it prefers.

    Attributes
    ----------
    verdict : its text says what it means and what to do next.
    reason : in numbers.
    evidence : what the verdict rests on.
    curve : the loss against test noise that the preferred noise is from.
    transmission : gain and correlation against noise; None if nothing was sampled.
    denoised : the network with smoothed activations and no noise; None where none was needed.
    notes : what `denoise` warns of, if it was asked.
    status : OK where the curve is; a verdict may be given on a part of it all the same.
    """

    verdict: Verdict
    reason: str
    evidence: Evidence
    curve: LossCurve
    transmission: Transmission | None
    denoised: Network | LipschitzRNN | None
    notes: tuple[str, ...]
    status: Status
    provenance: Provenance

    @property
    def summary(self) -> str:
        """Verdict, meaning, reason and advice in a few sentences."""
        v = self.verdict
        if v is Verdict.UNDECIDED:
            return f"Verdict: {v.value}. {_sentence(self.reason)}"
        own = isinstance(self.denoised, LipschitzRNN) and v in (Verdict.ABSORBED, Verdict.DITHER)
        return (
            f"Verdict: {v.value}. {_sentence(v.meaning)} Evidence: {self.reason}. {_sentence(OWN if own else v.advice)}"
        )


def preference(
    net: Network | LipschitzRNN,
    batch: Sequence[ArrayLike],
    sigma: ArrayLike | None = None,
    *,
    curve: LossCurve | None = None,
    h0: ArrayLike | None = None,
    loss: str | Loss | Each | None = None,
    trials: int = 128,
    rng: int | np.random.Generator = 0,
) -> Preference:
    """Whether `net` prefers noise on `batch` because training absorbed it, by stochastic resonance, or not at all.

    Parameters
    ----------
    batch, h0 : as of :func:`fpanalysis.loss_curve`.
    sigma : noise levels, optional
        None: those of `curve`, else 16 from 0 to 1.5 times the training noise.
    curve : optional
        The loss curve, if it is known already; else it is sampled. `sigma` are then the levels of the transmission.
    loss : optional
        Another loss than the squared error, as of :func:`fpanalysis.loss_curve`: "cross-entropy" for classes. A `curve`
        must be of the same.
    trials, rng
        Runs of each input at every level, and the seed. 0 with a `curve`: nothing is sampled, which cannot tell
        resonance, and is for the squared error of a `Network` only.

    Returns
    -------
    Preference
        With `verdict`, `reason`, `evidence` and the transmission of the signal against noise. See
        :mod:`fpanalysis.preference.verdict` for the rule.

    Raises
    ------
    InputError
        If an argument does not fit, or there is no noise level to choose levels by.
    """
    task = _Task(net, batch, h0, loss)
    if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or (trials and trials < 4) or trials < 0:
        raise InputError(f"trials must be a whole number >= 4, or 0 to sample nothing; found {trials!r}")
    if curve is None:
        if not trials:
            raise InputError("trials must be given where there is no curve: the loss is sampled")
        curve = loss_curve(net, batch, sigma, "monte-carlo", h0=h0, loss=loss, trials=int(trials), rng=rng)
    elif curve.of != task.of:
        raise InputError(f"curve must be of the same loss: it is of the {curve.of}, but the loss is {task.of}")
    if not trials and (task.of != SQUARED or not isinstance(net, Network)):
        raise InputError(
            "trials must be >= 4: but for the squared error of a Network the loss is known by sampling only"
        )
    levels = curve.sigma if sigma is None else check_levels(sigma)
    best = curve.preferred if np.isfinite(curve.preferred) else 0.0
    sampled = None
    if trials:
        levels = np.union1d(levels, [0.0, best])
        sampled = task.measured(net, levels, int(trials), _apart(rng))
    evidence = dataclasses.replace(_of_curve(curve, sampled, best), loss=task.of)
    clean: Network | LipschitzRNN | None = None
    notes: tuple[str, ...] = ()
    if best > 0 and evidence.fall > 0 and evidence.helps is not False:
        evidence, clean, notes = _with_denoised(task, evidence, best)
    verdict, reason = decide(evidence)
    status = next((status for status in curve.status if not status.ok), Status.OK)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    provenance = Provenance("preference", net.hash, {"trials": int(trials), "curve": curve.method}, seed)
    return Preference(verdict, reason, evidence, curve, sampled, clean, notes, status, provenance)


class _Task(NamedTuple):
    """A network, what it is run on, and by which loss."""

    net: Network | LipschitzRNN
    batch: Sequence[ArrayLike]
    h0: ArrayLike | None
    loss: str | Loss | Each | None

    @property
    def of(self) -> str:
        """The name that a curve has for the loss."""
        return SQUARED if self.loss is None else loss_name(self.loss)

    def measured(
        self, net: Network | LipschitzRNN, levels: Array, trials: int, rng: np.random.Generator
    ) -> Transmission:
        return measured(net, self.batch, levels, self.h0, trials, rng, self.loss)


def _apart(rng: int | np.random.Generator) -> np.random.Generator:
    """Other random numbers than those of the curve: the noise that looked best by chance does not look so twice."""
    source = check_rng(rng)
    return source if isinstance(rng, np.random.Generator) else np.random.default_rng([int(rng), 1])


def _of_curve(curve: LossCurve, sampled: Transmission | None, best: float) -> Evidence:
    """Losses by the samples where there are any, which hold for a network that hops, too."""
    top, trained = float(curve.sigma[-1]), curve.training_sigma
    inside = curve.sigma[0] == 0 and len(curve.sigma) > 2 and top >= trained * (1 - 1e-9)
    at_end = best >= top or not np.isfinite(curve.preferred)
    known = bool(np.isfinite(curve.preferred))
    if sampled is None:
        k = int(np.abs(curve.fine.sigma - best).argmin())
        removed, least = curve.loss_removed, float(curve.fine.loss[k])
        error = float(np.interp(best, curve.sigma, curve.error))
        fall_bias2 = float(curve.fine.bias2[0] - curve.fine.bias2[k])
    else:
        k = int(np.abs(sampled.sigma - best).argmin())
        removed, least, error = (float(x) for x in (sampled.loss[0], sampled.loss[k], sampled.loss_error[k]))
        fall_bias2 = float(sampled.bias2[0] - sampled.bias2[k])
    found = Evidence(
        training_sigma=trained,
        preferred=curve.preferred,
        preferred_error=curve.preferred_error,
        preferred_bias2=curve.preferred_bias2,
        covered=bool(inside and not at_end),
        loss_removed=removed,
        loss_preferred=least if known else np.nan,
        loss_preferred_error=error,
        loss_trained=curve.loss_trained,
        bias2_share=fall_bias2 / (removed - least) if removed > least and best > 0 else np.nan,
    )
    if sampled is None:
        return found
    return dataclasses.replace(
        found,
        gain_removed=float(sampled.gain[0]),
        gain_preferred=float(sampled.gain[k]),
        gain_preferred_error=float(sampled.gain_error[k]),
        correlation_removed=float(sampled.correlation[0]),
        correlation_preferred=float(sampled.correlation[k]),
    )


def _with_denoised(task: _Task, e: Evidence, best: float) -> tuple[Evidence, Network | LipschitzRNN, tuple[str, ...]]:
    """The evidence with what a smoothed network does: each activation smoothed by its own noise, which costs nothing;
    where that does not restore what noise does, by all that `denoise` finds to reach it. The better one counts.

    Where the latter merges basins it does not count: its s is then the spread over several basins, so that it stands
    for the very hops that are to be told from smoothing."""
    net, level = task.net, best * task.net.noise_profile
    simple = without_noise(net, own_noise(net, np.broadcast_to(level, (net.N,))) if isinstance(net, Network) else None)
    found = _smooth(task, e, simple, "sigma")
    if found.smoothing_does_it:
        return found, simple, ()
    full, merges, notes = smoothed_by_all(net, task.batch, task.h0, level)
    if merges:
        return found, simple, (*notes, MERGED)
    other = _smooth(task, e, full, "smoothed")
    return (other, full, notes) if _better(other, found) else (found, simple, notes)


def _better(one: Evidence, other: Evidence) -> bool:
    """Whether the smoothed network of `one` says more against resonance."""
    if one.gain_denoised == one.gain_denoised and one.carries != other.carries:
        return not one.carries
    return not one.loss_denoised >= other.loss_denoised


def _smooth(task: _Task, e: Evidence, clean: Network | LipschitzRNN, by: str) -> Evidence:
    one = task.measured(clean, np.zeros(1), RUNS, np.random.default_rng(0))
    loss, gain, correlation = (float(part[0]) for part in (one.loss, one.gain, one.correlation))
    return dataclasses.replace(
        e, loss_denoised=loss, denoised_by=by, gain_denoised=gain, correlation_denoised=correlation
    )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
