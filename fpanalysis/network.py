"""The one object every analysis takes: a noisy recurrent network as frozen float64 arrays.

Rate form (the state h is the filtered rate), with x = W h + W_in u + b and xi ~ N(0, I) at each step:

    placement "in":   h' = (1 - gamma) h + gamma f(x + sigma xi)
    placement "out":  h' = (1 - gamma) h + gamma (f(x) + sigma xi)
    output            z  = W_out h + b_out

Current form (the state, called h here too, is the input current; the noise is added to it):

    h' = (1 - gamma) h + gamma (W f(h) + W_in u + b + sigma xi),     z = W_out f(h) + b_out

`sigma` is the standard deviation of the noise per step (the convention of Eckstein & Srinivasan,
"Paradoxical noise preference in RNNs", TMLR 2026); `gamma` = dt / tau, 0 < gamma <= 1. Both may be one
number or one per neuron. `fpanalysis.noise` converts other conventions.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._parts import checked_parts, checked_weights
from fpanalysis.activations import Activation
from fpanalysis.checks import brief, check_sigma
from fpanalysis.noise import NOISE_NOTE, Noise
from fpanalysis.results import InputError, one_line
from fpanalysis.system import System

Array = NDArray[np.float64]

PLACEMENTS = ("in", "out")
FORMS = ("rate", "current")
LOOP_NOTE = "closed_loop"  #: where `info` says what of a network is a point that it moves


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(System):
    """A noisy recurrent network of N neurons (see the module's docstring for the equations).

    Parameters
    ----------
    W : (N, N)
        Recurrent weights; ``W[i, j]`` is the weight from neuron j to neuron i.
    b : (N,), optional
        Bias; zero if left out.
    W_in : (N, n_in), optional
        Input weights; without them the network has no inputs (n_in = 0).
    W_out, b_out : (n_out, N) and (n_out,), optional
        Readout. Without `W_out` every neuron is an output: z = h (rate form) or f(h) (current form).
    gamma : float or (N,)
        dt / tau, in (0, 1].
    activation : str or Activation
        Name of a known activation, or an instance.
    placement : "in" | "out"
        Noise inside or outside the activation (rate form only).
    form : "rate" | "current"
    sigma : float or (N,)
        Training noise: standard deviation per step, >= 0.
    conditions, targets : (n_cond, n_in) and (n_cond, n_out), optional
        Constant inputs to analyse the network at, and the outputs wanted there.
    info : mapping, optional
        Free notes of plain types (task, training settings, versions); saved with the network, never computed with.

    Raises
    ------
    InputError
        On wrong or inconsistent shapes, non-finite numbers, gamma outside (0, 1], negative sigma, or an
        unknown activation, placement or form.
    """

    if TYPE_CHECKING:  # what the constructor takes is wider than what the fields hold

        def __init__(
            self,
            *,
            W: ArrayLike,
            b: ArrayLike | None = None,
            W_in: ArrayLike | None = None,
            W_out: ArrayLike | None = None,
            b_out: ArrayLike | None = None,
            gamma: ArrayLike = 0.1,
            activation: str | dict[str, Any] | Activation = "relu",
            placement: str = "in",
            form: str = "rate",
            sigma: ArrayLike = 0.0,
            conditions: ArrayLike | None = None,
            targets: ArrayLike | None = None,
            info: Mapping[str, Any] = ...,
        ) -> None: ...

    W: Array
    b: Array = None  # type: ignore[assignment]
    W_in: Array | None = None
    W_out: Array | None = None
    b_out: Array | None = None
    gamma: float | Array = 0.1
    activation: Activation = "relu"  # type: ignore[assignment]
    placement: str = "in"
    form: str = "rate"
    sigma: float | Array = 0.0
    conditions: Array | None = None
    targets: Array | None = None
    info: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        W = checked_weights(self.W)
        N = len(W)
        checked = {"W": W} | checked_parts(self, N)
        if not isinstance(self.placement, str) or self.placement not in PLACEMENTS:
            raise InputError(f"placement must be 'in' or 'out'; found {one_line(repr(self.placement))}")
        if not isinstance(self.form, str) or self.form not in FORMS:
            raise InputError(f"form must be 'rate' or 'current'; found {one_line(repr(self.form))}")
        if self.form == "current" and self.placement != "in":
            raise InputError(
                "placement 'out' has no meaning with form 'current', whose noise is on the current: leave it 'in'"
            )
        for name, value in checked.items():
            object.__setattr__(self, name, value)
        if self.moved and np.ndim(self.sigma) == 0:
            object.__setattr__(self, "sigma", check_sigma(self.check_noise(self.sigma), N))

    def __repr__(self) -> str:
        noise = f"noise {self.placement}" if self.form == "rate" else "noise on the current"
        return (
            f"Network(N={self.N}, n_in={self.n_in}, n_out={self.n_out}, activation={self.activation.name!r}, "
            f"form={self.form!r}, {noise}, gamma={brief(self.gamma)}, sigma={brief(self.sigma)})"
        )

    @property
    def N(self) -> int:
        return len(self.W)

    @property
    def n_in(self) -> int:
        return 0 if self.W_in is None else self.W_in.shape[1]

    @cached_property
    def hash(self) -> str:
        """Hash of everything that enters a computation: the same network has the same hash on every machine."""
        digest = hashlib.sha256()
        for name in ("W", "b", "W_in", "W_out", "b_out", "gamma", "sigma", "conditions", "targets"):
            value = getattr(self, name)
            digest.update(f"{name}{np.shape(value)}".encode())
            digest.update(b"" if value is None else np.ascontiguousarray(value, "<f8").tobytes())
        digest.update(f"{self.form} {self.placement} {self.activation.key}".encode())
        return digest.hexdigest()[:16]

    @property
    def dissipative(self) -> bool:
        """Whether all trajectories provably enter a ball, so that the indices of the fixed points sum to 1.

        True for bounded activations, and where the spectral radius of a matrix A >= 0 is below one with which
        |f(W h + v)| <= A |h| + const: W+, the positive part of W, for f with 0 <= f(x) <= max(x, 0) + c (ReLU,
        softplus, both smoothed); L |W| for |f'| <= L.
        """
        return self.activation.bounded or self._comparison is not None

    @cached_property
    def _comparison(self) -> tuple[Array, Array] | None:
        """A (N, N), of spectral radius below one, and L (N,); see `dissipative` and `_rates`. None without any."""
        f, one = self.activation, np.ones(self.N)
        if f.excess is not None:
            A, L = np.maximum(self.W, 0), one
        elif f.slope_peak is not None:
            _, _, df_lo, df_hi = f.ranges(-inf * one, inf * one)
            L = np.maximum(np.abs(df_lo), np.abs(df_hi))
            A = L[:, None] * np.abs(self.W)
        else:
            return None
        return (A, L) if np.isfinite(A).all() and np.abs(np.linalg.eigvals(A)).max() < 1 else None

    def trapping_box(self, u: ArrayLike | None = None) -> Array | None:
        """Where all fixed points are, (2, N), if the network is `dissipative`: between the bounds of f, or within
        y = A y + const; in the current form within what W makes of such rates."""
        rates = self._rates(u)
        if rates is None or self.form == "rate":
            return rates
        middle, radius = self.W @ (rates[0] + rates[1]) / 2 + self.drive(u), np.abs(self.W) @ (rates[1] - rates[0]) / 2
        return np.stack([middle - radius, middle + radius])

    def _rates(self, u: ArrayLike | None) -> Array | None:
        """Bounds (2, N) of f(x) at the fixed points: r <= W+ r + max(v, 0) + c, or |r| <= L |W| |r| + L |v| + |f(0)|,
        with v = W_in u + b."""
        f, drive = self.activation, self.drive(u)
        if f.bounded:
            return None if f.slope_peak is None else np.stack(f.ranges(*np.full((2, self.N), [[-inf], [inf]]))[:2])
        if self._comparison is None:
            return None
        A, L = self._comparison
        one_sided = f.excess is not None
        base = np.maximum(drive, 0) + f.excess if one_sided else L * np.abs(drive) + np.abs(f.f(np.zeros(self.N)))
        top = np.linalg.solve(np.eye(self.N) - A, base)
        return np.stack([0 * top if one_sided else -top, top])

    @cached_property
    def svd(self) -> tuple[Array, Array, Array]:
        """Left singular vectors (N, N), singular values (N,), right singular vectors (N, N) of W = L diag(s) R."""
        left, values, right = np.linalg.svd(self.W)
        return left, values, right

    @property
    def smooth(self) -> bool:
        return self.activation.smooth

    @property
    def moved(self) -> int:
        """How many neurons, the last ones, are the coordinates of a point that the others move, free of noise
        (:func:`fpanalysis.closed_loop`)."""
        note = self.info.get(LOOP_NOTE)
        n = note.get("moved") if isinstance(note, Mapping) else 0
        return n if type(n) is int and 0 < n < self.N else 0

    def check_noise(self, sigma: ArrayLike) -> float | Array:
        sigma = super().check_noise(sigma)
        if not self.moved or np.ndim(sigma):
            return sigma
        return np.append(np.full(self.N - self.moved, sigma), np.zeros(self.moved))

    def with_sigma(self, sigma: ArrayLike) -> Network:
        """The same network with another noise level, per step, of which no other convention is remembered."""
        info = {name: value for name, value in self.info.items() if name != NOISE_NOTE}
        return dataclasses.replace(self, sigma=self.check_noise(sigma), info=info)

    def with_noise(self, noise: Noise) -> Network:
        """The same network with noise given in another convention, such as ``Noise.yang(0.05, alpha=0.2)``, which is
        remembered in ``info["noise_given_as"]``.

        Raises
        ------
        InputError
            If the noise was converted for another form or gamma than this network's.
        """
        if not isinstance(noise, Noise):
            raise InputError(
                f"noise must be a fpanalysis.Noise, such as Noise.yang(0.05, alpha=0.2); found {type(noise).__name__}; "
                "for another sigma per step: with_sigma"
            )
        noise.check_fits(self.form, self.gamma)
        info = {**self.info, NOISE_NOTE: noise.note}
        return dataclasses.replace(self, sigma=self.check_noise(noise.sigma), placement=noise.placement, info=info)

    def drive(self, u: ArrayLike | None = None) -> Array:
        """The constant part of the pre-activation, W_in u + b: (..., N)."""
        u = self.check_input(u)
        return np.broadcast_to(self.b, (*u.shape[:-1], self.N)) if self.W_in is None else u @ self.W_in.T + self.b

    def preactivation(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """What enters f, without noise: x = W h + W_in u + b (rate form) or the state itself (current form)."""
        h = self.check_state(h)
        return h @ self.W.T + self.drive(u) if self.form == "rate" else h

    def target(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """F(h), where the noise-free step pulls the state: h' = (1 - gamma) h + gamma F(h).

        F(h) = f(W h + W_in u + b) in the rate form, W f(h) + W_in u + b in the current form. Fixed points
        are the zeros of F(h) - h, whatever gamma.
        """
        h = self.check_state(h)
        if self.form == "rate":
            return self.activation.f(self.preactivation(h, u))
        return self.activation.f(h) @ self.W.T + self.drive(u)

    def target_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/dh, (..., N, N): D W in the rate form, W D in the current form, D = diag f'(x)."""
        slope = self.activation.df(self.preactivation(h, u))
        return slope[..., :, None] * self.W if self.form == "rate" else self.W * slope[..., None, :]

    def input_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/du, (..., N, n_in): D W_in in the rate form, W_in in the current form."""
        h, u = self.check_state(h), self.check_input(u)
        W_in = np.zeros((self.N, 0)) if self.W_in is None else self.W_in
        if self.form == "rate":
            return self.activation.df(self.preactivation(h, u))[..., :, None] * W_in
        return np.broadcast_to(W_in, (*np.broadcast_shapes(h.shape[:-1], u.shape[:-1]), *W_in.shape))

    def step(self, h: ArrayLike, u: ArrayLike | None = None, xi: ArrayLike | None = None) -> Array:
        """One step of the network, batched over leading axes of `h`; `xi` (..., N) is the noise, None for none."""
        h = self.check_state(h)
        if self.form == "current" or self.placement == "out":
            return super().step(h, u, xi)
        noise = 0.0 if xi is None else self.sigma * self.check_state(xi, "xi")
        return (1 - self.gamma) * h + self.gamma * self.activation.f(self.preactivation(h, u) + noise)

    def disturbed(self, h: Array, u: Array, sigma: Array, multiplicative: Array, xi: Array) -> Array:
        """See `System.disturbed`; noise "in" enters f: f(x + sigma xi) + multiplicative (f(x) - h) xi."""
        if self._outside:
            return super().disturbed(h, u, sigma, multiplicative, xi)
        x = self.preactivation(h, u)
        F = self.activation.f(x + sigma * xi)
        return F + multiplicative * (self.activation.f(x) - h) * xi if np.any(multiplicative) else F

    def disturbance(self, h: Array, u: Array, sigma: Array, multiplicative: Array) -> tuple[Array, Array]:
        """See `System.disturbance`; noise "in" is attenuated asymmetrically: mean f'' sigma^2 / 2, variance
        (f' sigma + multiplicative (f - h))^2."""
        if self._outside:
            return super().disturbance(h, u, sigma, multiplicative)
        f, x = self.activation, self.preactivation(h, u)
        return f.d2f(x) * sigma**2 / 2, (f.df(x) * sigma + multiplicative * (f.f(x) - h)) ** 2

    def target_curvature(self, h: Array, u: Array, C: Array) -> Array:
        """tr(F_p'' C): f'' diag(W C W^T) in the rate form, W (f'' diag(C)) in the current form."""
        bend = self.activation.d2f(self.preactivation(h, u))
        if self.form == "rate":
            return np.asarray(bend * np.einsum("...ij,ij->...i", self.W @ C, self.W))
        return np.asarray((bend * np.einsum("...ii->...i", C)) @ self.W.T)

    def rate_derivatives(self, h: Array) -> tuple[Array, Array]:
        """1 and 0 (rate form), f' and f'' (current form)."""
        return super().rate_derivatives(h) if self.form == "rate" else (self.activation.df(h), self.activation.d2f(h))

    @property
    def _outside(self) -> bool:
        """Whether the noise is added to F."""
        return self.form == "current" or self.placement == "out"

    def tangent_step(
        self, h: Array, u: Array, noise: float | Array, V: Array, factor: float | Array = 1.0
    ) -> tuple[Array, Array]:
        """See `System.tangent_step`: noise inside f moves the slopes too, at O(k N^2)."""
        f, g = self.activation, self.gamma * np.asarray(factor)
        inside, outside = (0.0, noise) if self._outside else (noise, 0.0)
        if self.form == "current":
            F, turned = f.f(h) @ self.W.T + self.drive(u), (V * f.df(h)[..., None, :]) @ self.W.T
        else:
            x = h @ self.W.T + self.drive(u) + inside
            F, turned = f.f(x), (V @ self.W.T) * f.df(x)[..., None, :]
        moved, g = (1 - g) * h + g * F + self.gamma * outside, g[..., None, :] if g.ndim > 1 else g
        return moved, (1 - g) * V + g * turned

    def variation(self, h: Array, u: Array, r: Array) -> tuple[Array, Array] | None:
        """See `System.variation`; from the range of f' over the pre-activations that the ball reaches."""
        f = self.activation
        if f.slope_peak is None:
            return None
        rounding = (self.N + self.n_in + 4) * np.finfo(float).eps
        x, size, w = self.preactivation(h, u), np.abs(self.W), self._input_norm
        drive = np.abs(self.b) + (0.0 if self.W_in is None else np.abs(self.W_in) @ np.abs(u))
        blur = rounding * (np.abs(h) @ size.T + drive) if self.form == "rate" else np.zeros_like(h)
        reach = blur + (r[:, None] * w if self.form == "rate" else r[:, None]) * (1 + rounding)
        near, wide = f.ranges(x - blur, x + blur), f.ranges(x - reach, x + reach)
        slope = f.df(x)
        change = np.maximum(wide.df_hi - slope, slope - wide.df_lo) + rounding * np.abs(slope)
        if self.form == "rate":
            value = f.f(x)
            return np.maximum(near.f_hi - value, value - near.f_lo), change * w * (1 + rounding)
        values = np.maximum(near.f_hi - near.f_lo, rounding * np.maximum(np.abs(near.f_lo), np.abs(near.f_hi)))
        return values @ size.T + rounding * (np.abs(f.f(x)) @ size.T + drive), (change @ size.T) * (1 + rounding)

    @cached_property
    def _input_norm(self) -> Array:
        """(N,), sum_j |W_ij|."""
        return np.abs(self.W).sum(axis=1)

    def output(self, h: ArrayLike) -> Array:
        """z = W_out h + b_out (rate form) or W_out f(h) + b_out (current form): (..., n_out)."""
        h = self.check_state(h)
        return self.readout(h if self.form == "rate" else self.activation.f(h))
