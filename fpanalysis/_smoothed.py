"""Smoothed: an activation averaged over Gaussian noise at its input, f_s(x) = E f(x + s xi), xi ~ N(0, 1).

It does to a constant input what noise of standard deviation s does to the mean of f: the activation of a network
that needs no noise (`fpanalysis.denoise`). With M, G and c_k those of f, and r^2 = s^2 + t^2, for x ~ N(a, t^2):

    f_s(x) = M(x, s)        f_s'(x) = G(x, s)        f_s''(x) = sqrt(2) c_2(x, s) / s^2
    E f_s = M(a, r)         E f_s' = G(a, r)         c_k of f_s = c_k(a, r) rho^(k/2),   rho = t^2 / r^2
    Var f_s = sum_{k>=1} c_k(a, r)^2 rho^k
    E f_s - f_s(a) = integral over s^2 < v < r^2 of E f''(a + sqrt(v) xi) / 2

since noise upon noise is noise: smoothing a smoothed activation by t is smoothing f by r.
"""

from __future__ import annotations

from math import pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis._activation import Activation, Expansion, Moments, get_activation
from fpanalysis.checks import real_array
from fpanalysis.results import InputError

if TYPE_CHECKING:
    import sympy
    import torch

Array = NDArray[np.float64]

ORDER = 60  #: terms of the sum for Var f_s
END = 13.0  #: standard deviations at which that quadrature ends
QUICK_ORDER, QUICK_PRECISION = 24, 1e-6  #: the same of `expansion`
PRECISION = 1e-13  #: of that sum, relative; where it cannot be had, a quadrature takes its place
ODD = (
    "tanh",
    "sigmoid",
    "erf",
)  #: f - f(0) is odd: then f_s' is even about 0 and, if f' has one peak, has one peak too


class Smoothed(Activation):
    """f_s(x) = E f(x + s xi) of another activation f, `base`; s >= 0 is one number or one per neuron.

    Raises
    ------
    InputError
        If `base` is no activation, or `s` is not finite and >= 0.
    """

    name = "smoothed"

    def __init__(self, base: str | dict[str, Any] | Activation, s: ArrayLike) -> None:
        base, s = _unfolded(get_activation(base), _deviation(s))
        self.closed = type(base)._moments is not Activation._moments  # else f_s is a quadrature of f
        if not (self.closed or base.smooth):
            raise InputError(f"smoothed: {base.name!r} has kinks and no moments in closed form; give it `_moments`")
        self.base: Activation = base
        self.s: float | Array = s if s.ndim and np.ptp(s) else float(s.flat[0])
        self.alike = np.ndim(self.s) == 0  # type: ignore[misc]
        self.bounded = base.bounded  # type: ignore[misc]
        self.smooth = base.smooth or bool(np.all(s > 0))  # type: ignore[misc]
        self.strip = base.strip if base.smooth else float(np.min(s, where=s > 0, initial=1.0))  # type: ignore[misc]
        if base.excess is not None:  # E max(x + s xi, 0) <= max(x, 0) + s / sqrt(2 pi)
            self.excess = base.excess + np.asarray(self.s) / sqrt(2 * pi)  # type: ignore[misc]
        peak = base.slope_peak
        kept = peak is not None and (np.isinf(peak) or base.name in ODD)
        self.slope_peak = peak if kept else None  # type: ignore[misc]
        self.ulps = 1e5  # type: ignore[misc]  # 2e-11, the relative error of the moments of f far in its tails
        self.rule = base.smoothing_rule(float(s.max()))

    def __repr__(self) -> str:
        low, high = np.min(self.s), np.max(self.s)
        return (
            f"Smoothed({self.base!r}, s={low:g})"
            if low == high
            else f"Smoothed({self.base!r}, s={low:.3g}..{high:.3g})"
        )

    def parameters(self) -> dict[str, Any]:
        return {"base": self.base.config(), "s": self.s if self.alike else np.asarray(self.s).tolist()}

    def check_size(self, N: int) -> None:
        if np.size(self.s) not in (1, N):
            raise InputError(
                f"smoothed: s must be one number or one per neuron, ({N},); found {np.size(self.s)} numbers"
            )

    def f(self, x: ArrayLike) -> Array:
        return self.base.M(*self._arguments(x)) if self.closed else self._mean(self.base.f, x)

    def df(self, x: ArrayLike) -> Array:
        return self.base.G(*self._arguments(x)) if self.closed else self._mean(self.base.df, x)

    def d2f(self, x: ArrayLike) -> Array:
        return self._curvature(*self._arguments(x))

    def _arguments(self, x: ArrayLike) -> tuple[Array, Array]:
        """x and s, broadcast; at infinity f is what it is without noise."""
        x = np.asarray(x, float)
        return x, np.where(np.isfinite(x), self.s, 0.0)

    def _mean(self, g: Any, x: ArrayLike) -> Array:
        """E g(x + s xi) by quadrature."""
        x, s = self._arguments(x)
        xi, w = self.rule
        middle = len(xi) // 2
        total: Array = w[middle] * g(x + 0 * s)
        for xi_k, w_k in zip(xi[middle + 1 :], w[middle + 1 :], strict=True):
            total = total + w_k * (g(x + xi_k * s) + g(x - xi_k * s))
        return np.where(s > 0, total, g(x))

    def _curvature(self, a: Array, s: Array) -> Array:
        """E f''(a + s xi)."""
        positive = np.where(s > 0, s, 1.0)
        return np.where(s > 0, sqrt(2) * self.base.hermite(a, positive, 2)[..., 2] / positive**2, self.base.d2f(a))

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        """With s a symbol where it differs from neuron to neuron."""
        import sympy

        if not np.any(self.s):
            return self.base.sympy(x)
        s = sympy.Float(float(self.s)) if self.alike else sympy.Symbol("s", positive=True)
        return self.base.smoothed_sympy(x, s)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        if not np.any(self.s):
            return self.base.torch(x)
        s = torch.tensor(self.s, dtype=x.dtype, device=x.device)
        if np.all(self.s):
            return self.base.smoothed_torch(x, s)
        return torch.where(s > 0, self.base.smoothed_torch(x, torch.where(s > 0, s, 1)), self.base.torch(x))

    def _M(self, a: Array, t: Array) -> Array:
        return self.base.M(a, np.hypot(self.s, t))

    def _G(self, a: Array, t: Array) -> Array:
        return self.base.G(a, np.hypot(self.s, t))

    def _moments(self, a: Array, t: Array) -> Moments:
        r = np.hypot(self.s, t)
        M, G, V, beta = self.base.moments(a, r)
        return Moments(
            M, G, self._variance(a, t, (t / r) ** 2, V, self.base.hermite(a, r, ORDER)), self._beta(a, t, beta)
        )

    def _beta(self, a: Array, t: Array, beta: Array) -> Array:
        """E f_s - f_s(a): where t < s, the integral; else the difference of beta(a, r) and beta(a, s)."""
        s = np.broadcast_to(self.s, a.shape)
        plain = beta - self.base.beta(a, s)
        if not (t < s).any():
            return plain
        tau, w = gaussian.legendre_rule(16)
        bends = (w_k * self._curvature(a, np.sqrt(s**2 + tau_k * t**2)) for tau_k, w_k in zip(tau, w, strict=True))
        return np.where(t < s, t**2 / 2 * sum(bends), plain)

    def _variance(self, a: Array, t: Array, rho: Array, V: Array, c: Array, precision: float = PRECISION) -> Array:
        """The sum over k, whose rest is at most rho^(K + 1) times what the c_k^2 summed leave of V(a, r)."""
        K, c2 = c.shape[-1] - 1, c[..., 1:] ** 2
        total = (c2 * rho[..., None] ** np.arange(1, K + 1)).sum(axis=-1)
        rest = rho ** (K + 1) * np.maximum(V - c2.sum(axis=-1), 0.0)
        total = np.where(rho == 1, V, total)
        short = (rest > precision * total) & (rho < 1)
        return np.where(short, self._variance_by_quadrature(a, t), total) if short.any() else total

    def _variance_by_quadrature(self, a: Array, t: Array) -> Array:
        """Gauss-Legendre on panels that become short about x = 0, where f_s bends within s or its strip."""
        t = np.where(t > 0, t, 1.0)  # where there is no noise the variance is not asked for
        wide = np.broadcast_to(self.s if not self.base.smooth else self.base.strip, a.shape)
        near = (np.multiply.outer([-9.0, -3.0, -1.0, 0.0, 1.0, 3.0, 9.0], wide) - a) / t
        fixed = np.broadcast_to(np.linspace(-END, END, 14).reshape(-1, *(1 for _ in a.shape)), (14, *a.shape))
        cuts = np.sort(np.concatenate([fixed, np.clip(near, -END, END)]), axis=0)
        nodes, w = gaussian.legendre_rule(12)
        width = np.diff(cuts, axis=0)
        xi = np.concatenate([cuts[:-1] + width * node for node in nodes])
        weight = np.concatenate([width * w_k for w_k in w]) * np.exp(-(xi**2) / 2) / sqrt(2 * pi)
        f = self.f(a + t * xi)
        return (weight * (f - (weight * f).sum(axis=0)) ** 2).sum(axis=0)

    def _hermite(self, a: Array, t: Array, K: int) -> Array:
        r = np.hypot(self.s, t)
        scale = np.divide(t, r, out=np.zeros_like(r), where=r > 0)
        return self.base.hermite(a, r, K) * scale[..., None] ** np.arange(K + 1)

    def _expansion(self, a: Array, t: Array, K: int) -> Expansion:
        r = np.hypot(self.s, t)
        scale = np.divide(t, r, out=np.zeros_like(r), where=r > 0)
        c, G, V = self.base.expansion(a, r, max(K, QUICK_ORDER))
        variance = self._variance(a, t, scale**2, V, c, QUICK_PRECISION)
        return Expansion(c[..., : K + 1] * scale[..., None] ** np.arange(K + 1), G, np.where(t > 0, variance, 0.0))


def _deviation(s: ArrayLike) -> Array:
    s = real_array("s", s)
    if s.ndim > 1 or not s.size or (s < 0).any():
        found = f"shape {s.shape}" if s.ndim > 1 or not s.size else f"{s.min():g}"
        raise InputError(f"smoothed: s must be one number >= 0, or one per neuron; found {found}")
    return s


def _unfolded(base: Activation, s: Array) -> tuple[Activation, Array]:
    """Smoothing a smoothed activation is smoothing what that one was made of."""
    if not isinstance(base, Smoothed):
        if not base.alike:
            raise InputError(f"smoothed: base {base.name!r} differs between neurons: smooth each group by itself")
        return base, s
    if 1 not in (np.size(base.s), s.size) and np.size(base.s) != s.size:
        raise InputError(f"smoothed: s of {s.size} numbers does not fit a base with {np.size(base.s)}")
    return base.base, real_array("s", np.hypot(base.s, s))
