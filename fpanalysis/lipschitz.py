"""LipschitzRNN: a noisy recurrent network whose increment has a linear part and a bounded one.

    f(h, u) = A h + a(W h + W_in u + b),      h' = h + gamma (f + noise),      z = W_out h + b_out

with an activation a (tanh), `gamma` the step of the explicit Euler scheme, and the noise, xi_1, xi_2 ~ N(0, I),

    noise "independent":  sigma xi_1 + multiplicative f xi_2        (f xi elementwise)
    noise "joint":        (sigma + multiplicative f) xi_1

As everywhere in this project, sigma counts per step and inside the step: the state gets gamma sigma xi. Code that adds
`add` xi to the state has sigma = add / gamma; the SDE dh = f dt + eps (sigma_1 I + sigma_2 diag f) dB, with noise
eps sqrt(gamma) (...) xi, is "joint" with sigma = eps sigma_1 / sqrt(gamma), multiplicative = eps sigma_2 / sqrt(gamma).

Source: Erichson, Azencot, Queiruga, Hodgkinson & Mahoney, "Lipschitz recurrent neural networks" (ICLR 2021); with noise
Lim, Erichson, Hodgkinson & Mahoney, "Noisy recurrent neural networks" (NeurIPS 2021). Both train A and W in the form
of `between`.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._parts import checked_parts, checked_weights
from fpanalysis.activations import Activation
from fpanalysis.checks import LARGEST, brief, of_shape
from fpanalysis.noise import NOISE_NOTE, Noise
from fpanalysis.results import InputError, one_line
from fpanalysis.system import System

Array = NDArray[np.float64]

NOISES = ("independent", "joint")


@dataclass(frozen=True, eq=False, kw_only=True)
class LipschitzRNN(System):
    """A noisy Lipschitz recurrent network (see the module's docstring for the equations).

    Parameters
    ----------
    A, W : (N, N)
        Linear part of the increment, and recurrent weights inside the activation.
    b : (N,), optional
    W_in : (N, n_in), optional
    W_out, b_out : (n_out, N) and (n_out,), optional
        Readout; without `W_out` every state variable is an output.
    gamma : float or (N,)
        Step of the Euler scheme, in (0, 1].
    activation : str or Activation
    sigma : float or (N,)
        Training noise, standard deviation per step; the state gets gamma sigma xi.
    multiplicative : float
        Training noise on the increment, relative.
    noise : "independent" | "joint"
        Whether the two have noise of their own.
    conditions, targets, info : as in `Network`.

    Raises
    ------
    InputError
        As for `Network`.
    """

    if TYPE_CHECKING:  # what the constructor takes is wider than what the fields hold

        def __init__(
            self,
            *,
            A: ArrayLike,
            W: ArrayLike,
            b: ArrayLike | None = None,
            W_in: ArrayLike | None = None,
            W_out: ArrayLike | None = None,
            b_out: ArrayLike | None = None,
            gamma: ArrayLike = 0.1,
            activation: str | dict[str, Any] | Activation = "tanh",
            sigma: ArrayLike = 0.0,
            multiplicative: float = 0.0,
            noise: str = "independent",
            conditions: ArrayLike | None = None,
            targets: ArrayLike | None = None,
            info: Mapping[str, Any] = ...,
        ) -> None: ...

    form: ClassVar[str] = "lipschitz"
    moved: ClassVar[int] = 0  #: no point, see `Network.moved`
    BETWEEN: ClassVar[str] = "between"  #: where `info` keeps skew and shrink of the form that A and W were trained in

    A: Array
    W: Array
    b: Array = None  # type: ignore[assignment]
    W_in: Array | None = None
    W_out: Array | None = None
    b_out: Array | None = None
    gamma: float | Array = 0.1
    activation: Activation = "tanh"  # type: ignore[assignment]
    sigma: float | Array = 0.0
    multiplicative: float = 0.0
    noise: str = "independent"
    conditions: Array | None = None
    targets: Array | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        W = checked_weights(self.W)
        N = len(W)
        checked = {"A": of_shape("A", self.A, (N, N)), "W": W} | checked_parts(self, N)
        checked["multiplicative"] = float(of_shape("multiplicative", self.multiplicative, ()))
        if not 0 <= checked["multiplicative"] <= LARGEST:
            raise InputError(f"multiplicative must be a number from 0 to {LARGEST:g}; found {self.multiplicative:g}")
        if not isinstance(self.noise, str) or self.noise not in NOISES:
            raise InputError(f"noise must be 'independent' or 'joint'; found {one_line(repr(self.noise))}")
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        return (
            f"LipschitzRNN(N={self.N}, n_in={self.n_in}, n_out={self.n_out}, activation={self.activation.name!r}, "
            f"step={brief(self.gamma)}, sigma={brief(self.sigma)}, multiplicative={self.multiplicative:g}, "
            f"noise {self.noise})"
        )

    @property
    def N(self) -> int:
        return len(self.W)

    @property
    def n_in(self) -> int:
        return 0 if self.W_in is None else self.W_in.shape[1]

    @property
    def between_as(self) -> tuple[float, float]:
        """Skew and shrink of the form in which A and W were trained, by `info`; (0.5, 0), they themselves, without, or
        where they are not of that form: skew 0 is for symmetric matrices, 1 for antisymmetric ones."""
        note = self.info.get(self.BETWEEN)
        skew, shrink = (note.get("skew"), note.get("shrink")) if isinstance(note, Mapping) else (None, None)
        if not isinstance(skew, int | float) or not isinstance(shrink, int | float):
            return 0.5, 0.0
        if not (0 <= skew <= 1 and isfinite(shrink)) or (skew in (0, 1) and not self._has_form(skew, shrink)):
            return 0.5, 0.0
        return float(skew), float(shrink)

    def _has_form(self, skew: float, shrink: float) -> bool:
        """Whether A and W, plus shrink I, are symmetric (skew = 0) or antisymmetric (1)."""
        shift, sign = shrink * np.eye(self.N), 1 - 2 * skew
        gaps = [(matrix + shift) - sign * (matrix + shift).T for matrix in (self.A, self.W)]
        return max(np.abs(gap).max() for gap in gaps) <= 1e-12 * max(np.abs(self.A).max(), np.abs(self.W).max())

    @property
    def dissipative(self) -> bool:
        """Whether all trajectories provably enter a ball, so that the indices of the fixed points sum to 1: if the
        activation is bounded and the linear part of the step, I + gamma A, has spectral radius below one."""
        linear = np.eye(self.N) + np.broadcast_to(self.gamma, (self.N,))[:, None] * self.A
        return self.activation.bounded and float(np.abs(np.linalg.eigvals(linear)).max()) < 1

    @cached_property
    def hash(self) -> str:
        digest = hashlib.sha256(b"LipschitzRNN")
        names = ("A", "W", "b", "W_in", "W_out", "b_out", "gamma", "sigma", "multiplicative", "conditions", "targets")
        for name in names:
            value = getattr(self, name)
            digest.update(f"{name}{np.shape(value)}".encode())
            digest.update(b"" if value is None else np.ascontiguousarray(value, "<f8").tobytes())
        digest.update(f"{self.noise} {self.activation.key}".encode())
        return digest.hexdigest()[:16]

    @property
    def smooth(self) -> bool:
        return self.activation.smooth

    def with_sigma(self, sigma: ArrayLike) -> LipschitzRNN:
        """The same network with another additive noise, per step, of which no other convention is remembered."""
        info = {name: value for name, value in self.info.items() if name != NOISE_NOTE}
        return dataclasses.replace(self, sigma=self.check_noise(sigma), info=info)

    def with_noise(self, noise: Noise) -> LipschitzRNN:
        """The same network with noise given in another convention, such as ``Noise.noisy_rnn(0.1, 0.05, step=0.1)``,
        which is remembered in ``info["noise_given_as"]``.

        Raises
        ------
        InputError
            If the noise was converted for another form or gamma than this network's.
        """
        if not isinstance(noise, Noise):
            raise InputError(f"noise must be a fpanalysis.Noise, such as Noise.noisy_rnn(...); found {noise!r}")
        noise.check_fits(self.form, self.gamma)
        own: dict[str, Any] = {"sigma": self.check_noise(noise.sigma), "multiplicative": noise.multiplicative}
        noted = {**self.info, NOISE_NOTE: noise.note}
        return dataclasses.replace(self, **own, noise="joint" if noise.joint else "independent", info=noted)

    def drive(self, u: ArrayLike | None = None) -> Array:
        """W_in u + b, (..., N)."""
        u = self.check_input(u)
        return np.broadcast_to(self.b, (*u.shape[:-1], self.N)) if self.W_in is None else u @ self.W_in.T + self.b

    def preactivation(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """x = W h + W_in u + b, (..., N)."""
        return self.check_state(h) @ self.W.T + self.drive(u)

    def target(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """F(h) = h + f(h, u) = h + A h + a(x), (..., N)."""
        h = self.check_state(h)
        return h + h @ self.A.T + self.activation.f(self.preactivation(h, u))

    def target_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/dh = I + A + diag(a'(x)) W, (..., N, N)."""
        slope = self.activation.df(self.preactivation(h, u))
        return np.eye(self.N) + self.A + slope[..., :, None] * self.W

    def input_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/du = diag(a'(x)) W_in, (..., N, n_in)."""
        slope = self.activation.df(self.preactivation(h, u))
        return slope[..., :, None] * (np.zeros((self.N, 0)) if self.W_in is None else self.W_in)

    def target_curvature(self, h: Array, u: Array, C: Array) -> Array:
        """tr(F_p'' C) = a''(x_p) (W C W^T)_pp."""
        bend = self.activation.d2f(self.preactivation(h, u))
        return np.asarray(bend * np.einsum("...ij,ij->...i", self.W @ C, self.W))

    def step(self, h: ArrayLike, u: ArrayLike | None = None, xi: ArrayLike | None = None) -> Array:
        """One step; `xi` (..., N) is the noise, additive and multiplicative, None for none.

        Independent noises are drawn as their sum, sqrt(sigma^2 + multiplicative^2 f^2) xi, which has the same law.
        """
        h = self.check_state(h)
        if xi is None:
            return h + self.gamma * (self.target(h, u) - h)
        sigma, multiplicative = np.asarray(self.sigma), np.asarray(self.multiplicative)
        moved = self.disturbed(h, self.check_input(u), sigma, multiplicative, self.check_state(xi, "xi"))
        return h + self.gamma * (moved - h)

    def disturbed(self, h: Array, u: Array, sigma: Array, multiplicative: Array, xi: Array) -> Array:
        """See `System.disturbed`; independent noises as one of the same law."""
        F = self.target(h, u)
        return F + self._amplitude(F - h, sigma, multiplicative) * xi

    def disturbance(self, h: Array, u: Array, sigma: Array, multiplicative: Array) -> tuple[Array, Array]:
        """See `System.disturbance`: variance (sigma + multiplicative f)^2, or sigma^2 + multiplicative^2 f^2."""
        return np.zeros_like(h), self._amplitude(self.target(h, u) - h, sigma, multiplicative) ** 2

    def variation(self, h: Array, u: Array, r: Array) -> tuple[Array, Array] | None:
        """See `System.variation`; from the range of a' over the pre-activations that the ball reaches."""
        a = self.activation
        if a.slope_peak is None:
            return None
        rounding = (self.N + self.n_in + 4) * np.finfo(float).eps
        linear, size = np.abs(self.A), np.abs(self.W)
        drive = np.abs(self.b) + (0.0 if self.W_in is None else np.abs(self.W_in) @ np.abs(u))
        x, w = self.preactivation(h, u), size.sum(axis=1)
        blur = rounding * (np.abs(h) @ size.T + drive)
        reach = blur + r[:, None] * w * (1 + rounding)
        near, wide = a.ranges(x - blur, x + blur), a.ranges(x - reach, x + reach)
        value, slope = a.f(x), a.df(x)
        change = np.maximum(wide.df_hi - slope, slope - wide.df_lo) + rounding * np.abs(slope)
        sums = np.abs(h) + np.abs(h) @ linear.T + np.abs(value)
        error = np.maximum(near.f_hi - value, value - near.f_lo) + rounding * sums
        return error, change * w * (1 + rounding) + rounding * (1 + linear.sum(axis=1))

    def tangent_step(
        self, h: Array, u: Array, noise: float | Array, V: Array, factor: float | Array = 1.0
    ) -> tuple[Array, Array]:
        """See `System.tangent_step`; at O(k N^2)."""
        x = h @ self.W.T + self.drive(u)
        f, turned = h @ self.A.T + self.activation.f(x), V @ self.A.T
        turned += (V @ self.W.T) * self.activation.df(x)[..., None, :]
        g = self.gamma * np.asarray(factor)
        moved, g = h + g * f + self.gamma * noise, g[..., None, :] if g.ndim > 1 else g
        return moved, V + g * turned

    def _amplitude(self, f: Array, sigma: Array, multiplicative: Array) -> Array:
        if self.noise == "joint":
            return sigma + multiplicative * f
        return np.hypot(np.broadcast_to(sigma, f.shape), multiplicative * f)

    @staticmethod
    def between(M: ArrayLike, skew: float, shrink: float) -> Array:
        """(1 - skew) (M + M^T) + skew (M - M^T) - shrink I: the form in which A and W are trained.

        `skew` = 1 leaves the antisymmetric part alone, whose eigenvalues are imaginary; `shrink` moves all eigenvalues
        to the left. (The sources call them beta and gamma.)
        """
        M = of_shape("M", M, (None, None))
        if len(M) != M.shape[1]:
            raise InputError(f"M must be square, (N, N); found shape {M.shape}")
        return M + (1 - 2 * skew) * M.T - shrink * np.eye(len(M))
