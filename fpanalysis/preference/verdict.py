"""What a preference for noise is due to: the evidence, the verdict, and the rule that leads from one to the other.

Without noise a network's output has no variance, so that whenever noise lowers the loss it lowers bias^2, and by more:
that by itself tells nothing. Two questions do. Does a network with the same weights whose activations are smoothed as
noise smooths them, but which has no noise, do as well? Smoothing keeps what noise does to the mean of f, and loses what
only fluctuations can do, such as hops over a barrier in step with a signal too weak to cross it. And is the preferred
noise the one that the network was trained with?

    restored = (loss without noise - loss smoothed) / (loss without noise - loss at the preferred noise)

is 1 where smoothing does all that noise does, above 1 where it also saves the variance, and 0 where it does nothing. A
loss can fall for another reason than that a signal passes (outputs that are wrong by less), so that resonance is judged
by the gain of the mean output on the wanted one: noise at least doubles it, smoothing does not do half of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

NEEDED = 1.05  #: loss without noise over another, above which noise counts as helping
NEAR, BEYOND = 0.5, 1.5  #: preferred noise over the training noise that counts as being at it
KEEPS, LOSES = 0.8, 0.5  #: `restored` from which on smoothing stands for the noise, and up to which it does not
TIMES = 2.0  #: gain at the preferred noise over that without noise, from which on noise carries a signal


class Verdict(Enum):
    """Why a network prefers its noise. ``.value`` is a short code, ``.meaning`` and ``.advice`` say the rest."""

    ABSORBED = (
        "training noise absorbed",
        "the network depends on its training noise, whose mean effect training built into the weights; with smoothed "
        "activations the same weights have that effect without noise",
        "'fpanalysis denoise' makes one that needs no noise",
    )
    DITHER = (
        "smoothing",
        "the network does better with some noise, not that of its training, because noise smooths its activations: "
        "smoothed activations do the same without noise",
        "use smoothed activations ('fpanalysis denoise --noise', at the preferred noise), or keep that noise as a "
        "dither",
    )
    RESONANCE = (
        "stochastic resonance",
        "noise carries a signal that the network does not pass on by itself, and smoothed activations do not: "
        "fluctuations themselves are needed",
        "keep the noise at its preferred level; fpanalysis.periodic_response shows the resonance against noise and "
        "period",
    )
    NEITHER = (
        "neither",
        "the network does not depend on noise: without it the loss is within a twentieth of its least",
        "remove the noise",
    )
    UNDECIDED = ("undecided", "the numbers do not tell", "see the reason")

    meaning: str
    advice: str

    def __new__(cls, code: str, meaning: str, advice: str) -> Verdict:
        member = object.__new__(cls)
        member._value_ = code
        member.meaning = meaning
        member.advice = advice
        return member

    def __str__(self) -> str:
        return f"{self.value}: {self.meaning}; {self.advice}"


@dataclass(frozen=True)
class Evidence:
    """What a verdict rests on. Errors are 95 % half-widths; NaN where something is not known or does not exist.

    training_sigma, preferred : the noise of training, and that of least loss.
    follows : preferred / training_sigma; NaN for a network trained without noise.
    preferred_bias2 : the noise of least bias^2.
    covered : whether the levels reach from zero to beyond the training noise and the loss is least within them.
    loss_removed, loss_preferred, loss_trained : without noise, at the preferred noise and at that of training.
    bias2_share : of the fall of the loss from zero noise to the preferred one, what is due to bias^2; at least 1, since
        there is no variance to lose.
    loss_denoised : without noise, with smoothed activations; `denoised_by` says how they were smoothed: "sigma", each
        by its own noise, or "smoothed", by all that reaches it (see :func:`fpanalysis.denoise`) if that merges no
        basins.
    restored : see the module's docstring.
    gain_removed, gain_preferred, gain_denoised : by how much of it the mean output follows the wanted output (see
        :mod:`fpanalysis.preference.transmission`); NaN where that is constant, or nothing was sampled.
    correlation_removed, correlation_preferred, correlation_denoised : of single outputs with the wanted output.
    loss : which loss it is. Of the cross-entropy, bias2 is the loss of the mean output.
    """

    training_sigma: float
    preferred: float
    preferred_error: float
    preferred_bias2: float
    covered: bool
    loss_removed: float
    loss_preferred: float
    loss_preferred_error: float
    loss_trained: float
    bias2_share: float = np.nan
    loss_denoised: float = np.nan
    denoised_by: str | None = None
    gain_removed: float = np.nan
    gain_preferred: float = np.nan
    gain_preferred_error: float = np.nan
    gain_denoised: float = np.nan
    correlation_removed: float = np.nan
    correlation_preferred: float = np.nan
    correlation_denoised: float = np.nan
    loss: str = "squared error"

    @property
    def follows(self) -> float:
        return self.preferred / self.training_sigma if self.training_sigma else np.nan

    @property
    def fall(self) -> float:
        """Of the loss, from zero noise to the preferred one."""
        return self.loss_removed - self.loss_preferred

    @property
    def mean_part(self) -> str:
        """What is left of the loss if all noise is averaged out."""
        return "bias²" if self.loss == "squared error" else "the loss of the mean output"

    @property
    def follower(self) -> str:
        """What the gain is of."""
        if self.loss == "cross-entropy":
            return "the probabilities that the mean output stands for follow the classes"
        return "the mean output follows the wanted one"

    @property
    def helps(self) -> bool | None:
        """Whether noise lowers the loss by more than a twentieth; None where the error leaves that open."""
        least = (NEEDED - 1) * self.loss_preferred
        if not abs(self.fall - least) > self.loss_preferred_error * NEEDED:
            return None if self.loss_preferred_error > 0 else False
        return self.fall > least

    @property
    def restored(self) -> float:
        return (self.loss_removed - self.loss_denoised) / self.fall if self.fall > 0 else np.nan

    @property
    def restored_error(self) -> float:
        return abs(self.restored) * self.loss_preferred_error / self.fall if self.fall > 0 else np.nan

    @property
    def carries(self) -> bool | None:
        """Whether noise makes the mean output follow the wanted one at least twice as much, beyond the error, and
        smoothing does less than half of that; None where no gain is known."""
        more = self.gain_preferred - self.gain_removed
        if more != more:
            return None
        sure = self.gain_preferred - self.gain_preferred_error > TIMES * max(self.gain_removed, 0.0)
        return sure and not self.gain_denoised - self.gain_removed > LOSES * more

    @property
    def smoothing_does_it(self) -> bool:
        """Whether the smoothed network keeps the loss, beyond the error, and the signal if there is one."""
        return self.restored - self.restored_error >= KEEPS and not self.carries


def decide(e: Evidence) -> tuple[Verdict, str]:
    """The verdict, and the reason in numbers."""
    if not np.isfinite([e.loss_removed, e.loss_preferred, e.preferred]).all():
        return Verdict.UNDECIDED, "the loss is not known at every level (see the statuses): leave out the noise beyond"
    if not e.covered:
        return Verdict.UNDECIDED, _uncovered(e)
    if e.helps is None:
        return Verdict.UNDECIDED, (
            f"the loss at its least, {e.loss_preferred:.3g} ± {e.loss_preferred_error:.1g}, cannot be told from that "
            f"without noise, {e.loss_removed:.3g}: raise --trials"
        )
    return _of_noise_that_helps(e) if e.helps else (Verdict.NEITHER, _needless(e))


def _of_noise_that_helps(e: Evidence) -> tuple[Verdict, str]:
    if e.restored != e.restored:
        return Verdict.UNDECIDED, "the loss of the network with smoothed activations is not known"
    where = f"at noise {e.preferred:.3g} the loss is {e.loss_preferred:.3g}, without noise {e.loss_removed:.3g}"
    smooth = f"{where}, without noise but smoothed {e.loss_denoised:.3g}"
    if e.smoothing_does_it:
        at_training = NEAR <= e.follows <= BEYOND
        ratio = f", and the preferred noise is {e.follows:.2g} of that of training" if e.training_sigma else ""
        return (Verdict.ABSORBED if at_training else Verdict.DITHER), smooth + ratio
    if not e.carries and e.restored + e.restored_error > LOSES:
        return Verdict.UNDECIDED, (
            f"{smooth}: smoothing does {e.restored:.0%} ± {e.restored_error:.0%} of what noise does, neither all nor "
            "little; more --trials, or another noise, may tell"
        )
    return _not_by_smoothing(e, smooth)


def _not_by_smoothing(e: Evidence, smooth: str) -> tuple[Verdict, str]:
    gains = (
        f"{e.follower} by {e.gain_preferred:.2g} ± {e.gain_preferred_error:.1g} at that "
        f"noise, {e.gain_removed:.2g} without it, {e.gain_denoised:.2g} smoothed"
    )
    if e.carries is None:
        why = "there is no signal in the wanted output (it is constant), or nothing was sampled (--trials)"
        return Verdict.UNDECIDED, f"{smooth}: smoothing does not do what noise does, but {why}"
    if not e.carries:
        return Verdict.UNDECIDED, (
            f"{smooth}; {gains}: smoothing does not do what noise does, nor is it the transmission of a signal that "
            "noise improves (it may average over basins)"
        )
    if NEAR <= e.follows <= BEYOND:
        return Verdict.UNDECIDED, (
            f"{smooth}; {gains}: that is how resonance looks, but the preferred noise is that of training: train at "
            "other noise levels too and give 'fpanalysis preference' the folder, to see whether it follows"
        )
    return Verdict.RESONANCE, f"{smooth}; {gains}"


def _uncovered(e: Evidence) -> str:
    top = f"0:{1.5 * max(e.training_sigma, e.preferred):.3g}"
    needs = ""
    if e.training_sigma and e.loss_removed > NEEDED * e.loss_trained:
        needs = "the network depends on its training noise, but "
    return (
        f"{needs}the levels do not reach from zero to beyond the training noise, or the loss is least at their end: "
        f"widen them (--noise {top})"
    )


def _needless(e: Evidence) -> str:
    if e.training_sigma and e.loss_removed == e.loss_trained:
        return "noise makes no difference to its loss"
    least = f"its least {e.loss_preferred:.3g}" if e.fall > 0 else "and noise does not lower it"
    text = f"without noise the loss is {e.loss_removed:.3g}, {least}"
    if NEAR * e.training_sigma <= e.preferred_bias2 and e.training_sigma:
        text += (
            f". Training did absorb the shift of the mean ({e.mean_part} is least at noise {e.preferred_bias2:.3g}), "
            "but the variance that noise adds costs more: de-noised ('fpanalysis denoise') it may do better still"
        )
    return text
