"""Noise conventions: what other sources call their noise, as this project's `sigma`, placement and form.

A source adds e xi_t to its equation, xi_t ~ N(0, I) new at every step, with an e that depends on its convention;
here e is sigma inside f (placement "in") and gamma sigma on the state (placement "out", and the current form). Hence

    inside f         sigma = e
    on the state     sigma = e / gamma

of a `Network` as of a `LipschitzRNN` (form "lipschitz"), whose noise may be multiplicative too.

Each constructor names its source and the equation; docs/noise-conventions.md has the table, and says what has no
equivalent here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import real_array
from fpanalysis.results import InputError

Array = NDArray[np.float64]

INSIDE = "h' = (1 - gamma) h + gamma f(x + sigma xi)"
OUTSIDE = "h' = (1 - gamma) h + gamma (f(x) + sigma xi)"
NOISE_NOTE = "noise_given_as"  #: where `info` keeps the convention that the noise was given in
LIPSCHITZ = "h' = h + gamma ((1 + multiplicative xi_2) f + sigma xi_1)"
JOINT = "h' = h + gamma (f + (sigma + multiplicative f) xi)"
CURRENT = "h' = (1 - gamma) h + gamma (W f(h) + W_in u + b + sigma xi)"


KINDS = {"lipschitz": "a LipschitzRNN"}  #: forms that are no setting of a `Network`


@dataclass(frozen=True, eq=False)
class Noise:
    """White noise in this project's convention, and where it came from; ``net.with_noise(noise)`` applies it.

    Attributes
    ----------
    sigma : float or (N,), standard deviation per step.
    placement, form : as in `Network`.
    gamma : float or (N,), the dt / tau that the conversion used and that the network must have; None: it used none.
    convention : the source.
    conversion : the formula for sigma, "" where there is nothing to convert.
    given : what was given, by the source's names.
    multiplicative, joint : of form "lipschitz", as in `LipschitzRNN`.
    """

    sigma: float | Array
    placement: str
    form: str
    gamma: float | Array | None
    convention: str
    conversion: str
    given: Mapping[str, Any]
    multiplicative: float = 0.0
    joint: bool = False

    @classmethod
    def per_step(cls, sigma: ArrayLike, placement: str = "in", form: str = "rate") -> Noise:
        """sigma itself, the convention of this project and of Eckstein & Srinivasan (TMLR 2026).

        In the rate form inside f or on the rate, gamma (f + sigma xi); in the current form on the current.
        """
        if placement not in ("in", "out"):
            raise InputError(f"placement must be 'in' or 'out'; found {placement!r}")
        if _checked_form(form) == "current" and placement == "out":
            raise InputError("placement 'out' has no meaning with form 'current', whose noise is on the current")
        value = _scale("sigma", sigma)
        return cls(value, placement, form, None, "per step", "", {"sigma": value})

    @classmethod
    def yang(cls, sigma_rec: ArrayLike, alpha: ArrayLike) -> Noise:
        """Yang et al. (Nature Neuroscience 2019), noise inside the activation of the rate form:

            r' = (1 - alpha) r + alpha f(W r + W_in u + b + sqrt(2 sigma_rec^2 / alpha) xi)

        Hence sigma = sigma_rec sqrt(2 / alpha), placement "in".
        """
        value, gamma = _scale("sigma_rec", sigma_rec), _step("alpha", alpha)
        given = {"sigma_rec": value, "alpha": gamma}
        formula = "sigma = sigma_rec sqrt(2 / alpha)"
        return cls(value * np.sqrt(2 / gamma), "in", "rate", gamma, "Yang et al. 2019", formula, given)

    @classmethod
    def psychrnn(cls, rec_noise: ArrayLike, alpha: ArrayLike) -> Noise:
        """PsychRNN (Ehrlich et al., eNeuro 2021) and pycog (Song, Yang & Wang, PLoS Comput. Biol. 2016):

            x' = (1 - alpha) x + alpha (W f(x) + W_in u + b) + sqrt(2 alpha rec_noise^2) xi

        The noise is on the current: sigma = rec_noise sqrt(2 / alpha), form "current".
        """
        value, gamma = _scale("rec_noise", rec_noise), _step("alpha", alpha)
        given = {"rec_noise": value, "alpha": gamma}
        formula = "sigma = rec_noise sqrt(2 / alpha)"
        return cls(value * np.sqrt(2 / gamma), "in", "current", gamma, "PsychRNN", formula, given)

    @classmethod
    def state(cls, s: ArrayLike, gamma: ArrayLike, form: str = "rate") -> Noise:
        """Noise added to the new state, h' = (1 - gamma) h + gamma F(h) + s xi. Hence sigma = s / gamma."""
        value, step = _scale("s", s), _step("gamma", gamma)
        given = {"s": value, "gamma": step}
        return cls(value / step, _on_state(form), form, step, "noise on the state per step", "sigma = s / gamma", given)

    @classmethod
    def euler_maruyama(cls, s: ArrayLike, dt: ArrayLike, tau: ArrayLike = 1.0, form: str = "rate") -> Noise:
        """The SDE dh = (F(h) - h) / tau dt + s dB by Euler-Maruyama with time step dt:

            h' = h + dt / tau (F(h) - h) + s sqrt(dt) xi

        Hence gamma = dt / tau and sigma = s sqrt(dt) / gamma = s tau / sqrt(dt); with tau = 1, s / sqrt(gamma).
        """
        value, step, time = _scale("s", s), _positive("dt", dt), _positive("tau", tau)
        gamma = _step("dt / tau", step / time)
        given = {"s": value, "dt": step, "tau": time}
        formula = "sigma = s tau / sqrt(dt)"
        return cls(value * time / np.sqrt(step), _on_state(form), form, gamma, "Euler-Maruyama", formula, given)

    @classmethod
    def noisy_rnn(cls, add: ArrayLike, mult: float, step: float) -> Noise:
        """The code of Lim et al. (NeurIPS 2021) for the Lipschitz RNN, U uniform in [0, 1] at each step and neuron:

            h' = h + step (1 - mult + mult U) f(h) + add xi

        The factor of f has mean 1 - mult / 2 and deviation mult / sqrt(12). Hence, with the same mean and variance of
        the step, gamma = step (1 - mult / 2), sigma = add / gamma, multiplicative = mult / (sqrt(12) (1 - mult / 2)),
        of Gaussian noise. (Without noise that code steps by `step` again: compare at that gamma.)
        """
        value, given, step = _scale("add", add), _number("mult", mult), _number("step", _step("step", step))
        if given > 1:
            raise InputError(f"mult is a share of the increment, from 0 to 1; found {given:g}")
        mean = 1 - given / 2
        formula = "gamma = step (1 - mult / 2), sigma = add / gamma, multiplicative = mult / (sqrt(12) (1 - mult / 2))"
        return cls(
            value / (step * mean), "out", "lipschitz", step * mean, "code of Lim et al. 2021", formula,
            {"add": value, "mult": given, "step": step}, given / (np.sqrt(12) * mean),
        )  # fmt: skip

    @classmethod
    def lipschitz_sde(cls, eps: float, sigma_1: float, sigma_2: float, step: float) -> Noise:
        """The SDE of Lim et al. (NeurIPS 2021), dh = f dt + eps (sigma_1 I + sigma_2 diag f) dB, by Euler-Maruyama:

            h' = h + step f + eps sqrt(step) (sigma_1 + sigma_2 f) xi

        Hence gamma = step, sigma = eps sigma_1 / sqrt(step), multiplicative = eps sigma_2 / sqrt(step), "joint".
        """
        size, gamma = _number("eps", eps), _number("step", _step("step", step))
        one, two = _number("sigma_1", sigma_1), _number("sigma_2", sigma_2)
        given = {"eps": size, "sigma_1": one, "sigma_2": two, "step": gamma}
        scale = size / np.sqrt(gamma)
        formula = "sigma = eps sigma_1 / sqrt(step), multiplicative = eps sigma_2 / sqrt(step)"
        return cls(one * scale, "out", "lipschitz", gamma, "SDE of Lim et al. 2021", formula, given, two * scale, True)

    @property
    def equation(self) -> str:
        """The step with this noise."""
        if self.form == "lipschitz":
            return JOINT if self.joint else LIPSCHITZ
        return CURRENT if self.form == "current" else INSIDE if self.placement == "in" else OUTSIDE

    @property
    def note(self) -> str:
        """Convention, what was given, and how it was converted: what ``Network.info["noise"]`` keeps."""
        given = ", ".join(f"{name} = {_brief(value)}" for name, value in self.given.items())
        return f"{self.convention}, {given}" + (f"; {self.conversion}" if self.conversion else "")

    def check_fits(self, form: str, gamma: float | Array) -> None:
        """Raise `InputError` unless a network of this form and gamma is the one that the noise was converted for."""
        if form != self.form:
            raise InputError(
                f"this noise ({self.convention}) is for form {self.form!r}, the network has form {form!r}: build "
                f"{KINDS.get(self.form, f'the network with form={self.form!r}')} if its equation is {self.equation}"
            )
        if self.gamma is not None and not _agree(self.gamma, gamma):
            raise InputError(
                f"this noise ({self.convention}) was converted for gamma = {_brief(self.gamma)}, the network has gamma "
                f"= {_brief(gamma)}: both must be the same dt / tau"
            )

    def __repr__(self) -> str:
        where = {"current": "on the current", "lipschitz": "on the state"}.get(self.form, self.placement)
        more = f", multiplicative={self.multiplicative:.6g}" if self.form == "lipschitz" else ""
        return f"Noise({self.note}: noise {where}, sigma={_brief(self.sigma)}{more})"


def _checked_form(form: str) -> str:
    if form not in ("rate", "current"):
        raise InputError(f"form must be 'rate' or 'current'; found {form!r}")
    return form


def _on_state(form: str) -> str:
    """The placement that puts the noise on the state."""
    return "in" if _checked_form(form) == "current" else "out"


def _scale(name: str, value: ArrayLike) -> Any:
    """A number >= 0, or one per neuron."""
    array = real_array(name, value)
    if array.ndim > 1 or not array.size or (array < 0).any():
        raise InputError(f"{name} must be >= 0, one number or one per neuron; found {array.tolist()}")
    return float(array) if array.ndim == 0 else array


def _number(name: str, value: ArrayLike) -> float:
    """One number >= 0."""
    number = _scale(name, value)
    if np.ndim(number):
        raise InputError(f"{name} must be one number, the same for all neurons; found {np.asarray(number).tolist()}")
    return float(number)


def _positive(name: str, value: ArrayLike) -> Any:
    number = _scale(name, value)
    if np.any(number == 0):
        raise InputError(f"{name} must be > 0; found {_brief(number)}")
    return number


def _step(name: str, value: ArrayLike) -> Any:
    """dt / tau, in (0, 1]."""
    number = _positive(name, value)
    if np.any(number > 1):
        raise InputError(f"{name} is the step dt / tau and must lie in (0, 1]; found {_brief(number)}")
    return number


def _agree(a: float | Array, b: float | Array) -> bool:
    """Equal but for the rounding of numbers that were kept in single precision."""
    shapes = {np.shape(a), np.shape(b)} - {()}
    return len(shapes) < 2 and bool(np.allclose(a, b, rtol=1e-6, atol=0))


def _brief(value: Any) -> str:
    low, high = np.min(value), np.max(value)
    return f"{low:.6g}" if low == high else f"{low:.4g}..{high:.4g}"
