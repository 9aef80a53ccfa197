"""The activations by name, and how to find them; adding one is adding one class (see `fpanalysis._activation`).

No moment is computed as a difference of nearly equal numbers: V and beta stay accurate *relative to
themselves* deep in the tails. Piecewise linear activations use repeated integrals of the normal tail
(Abramowitz & Stegun 7.2), erf uses Plackett's identity, the others a trapezoid rule (`fpanalysis.gaussian`) on
exact formulas for f(a + d) - f(a) and f(a + d) + f(a - d) - 2 f(a).
"""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis._activation import REGISTRY, Activation, Expansion, Moments, Ranges, get_activation
from fpanalysis._smoothed import Smoothed
from fpanalysis.results import InputError

if TYPE_CHECKING:
    import sympy
    import torch

__all__ = ["REGISTRY", "Activation", "Moments", "Ranges", "Smoothed", "get_activation"]

Array = NDArray[np.float64]

BELOW_ONE = 1 - 1e-16  #: the largest number whose arctanh is finite


class Linear(Activation):
    """f(x) = x."""

    name = "linear"
    slope_peak = inf

    def f(self, x: ArrayLike) -> Array:
        return np.array(x, float)

    def df(self, x: ArrayLike) -> Array:
        return np.ones(np.shape(x))

    def d2f(self, x: ArrayLike) -> Array:
        return np.zeros(np.shape(x))

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        return x

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        return x

    def _moments(self, a: Array, s: Array) -> Moments:
        return Moments(a.copy(), np.ones(a.shape), s**2, np.zeros(a.shape))

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        c = np.zeros((*a.shape, K + 1))
        c[..., 0] = a
        if K:
            c[..., 1] = s
        return c


class ReLU(Activation):
    """f(x) = max(x, 0), with f'(0) = 0.

    With r = a / s and I_n(t) = integral of (x - t)^n / n! phi(x) over x > t:
    beta = s I_1(|r|), M = f(a) + beta, G = Phi(r), V = s^2 (2 I_2 - I_1^2)(|r|) + s^2 erf(r / sqrt 2) [r > 0].
    """

    name = "relu"
    smooth = False
    slope_peak = inf

    def f(self, x: ArrayLike) -> Array:
        return np.maximum(x, 0.0)

    def df(self, x: ArrayLike) -> Array:
        return np.where(np.asarray(x) > 0, 1.0, 0.0)

    def d2f(self, x: ArrayLike) -> Array:
        return np.zeros(np.shape(x))

    def smoothed_sympy(self, x: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        import sympy

        r = x / s
        phi = sympy.exp(-(r**2) / 2) / sympy.sqrt(2 * sympy.pi)
        return x * (1 + sympy.erf(r / sympy.sqrt(2))) / 2 + s * phi

    def smoothed_torch(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        r = x / s
        return x * (r / -sqrt(2)).erfc() / 2 + s / sqrt(2 * pi) * (-r.square() / 2).exp()

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        import sympy

        return sympy.Max(x, 0)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        return np.zeros(np.shape(a)), np.zeros(np.shape(a))

    def _moments(self, a: Array, s: Array) -> Moments:
        from scipy.special import erf, ndtr

        r = a / s
        _, I1, I2 = gaussian.normal_tail_integrals(np.abs(r))
        beta = s * I1
        V = s**2 * (2 * I2 - I1**2 + erf(np.maximum(r, 0) / sqrt(2)))
        return Moments(np.maximum(a, 0) + beta, ndtr(r), V, beta)

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        """c_0 = M, c_1 = s Phi(r), c_k = s phi(r) (-1)^k He_{k-2}(r) / sqrt(k!)."""
        return self._expansion(a, s, K).c

    def _expansion(self, a: Array, s: Array, K: int) -> Expansion:
        r = np.clip(a / np.where(s == 0, 1.0, s), -38.0, 38.0)
        moments = self.moments(a, s)
        c = np.zeros((*a.shape, K + 1))
        c[..., 0] = moments.M
        if K:
            c[..., 1] = s * moments.G
        phi = np.exp(-(r**2) / 2) / sqrt(2 * pi)
        basis = gaussian.hermite_basis(r, max(K - 2, 0))
        for k in range(2, K + 1):
            c[..., k] = s * phi * (-1) ** k * basis[k - 2] / sqrt(k * (k - 1))
        return Expansion(c, moments.G, moments.V)


class LeakyReLU(ReLU):
    """f(x) = x for x > 0 and slope * x below: the mixture slope * x + (1 - slope) * relu(x)."""

    name = "leaky_relu"

    def __init__(self, slope: float = 0.01) -> None:
        if isinstance(slope, bool) or not (isinstance(slope, int | float | np.number) and np.isfinite(slope)):
            raise InputError(f"leaky_relu: slope must be one finite number; found {slope!r}")
        self.slope = float(slope)
        self.slope_peak = inf if slope <= 1 else -inf  # type: ignore[misc]  # convex or concave

    def parameters(self) -> dict[str, Any]:
        return {"slope": self.slope}

    def f(self, x: ArrayLike) -> Array:
        x = np.asarray(x, float)
        return np.where(x > 0, x, self.slope * x)

    def df(self, x: ArrayLike) -> Array:
        return np.where(np.asarray(x) > 0, 1.0, self.slope)

    def ranges(self, lo: ArrayLike, hi: ArrayLike) -> Ranges:
        big = np.finfo(float).max  # 0 * inf is no slope
        lo, hi = np.broadcast_arrays(np.clip(lo, -big, big), np.clip(hi, -big, big))
        _, _, df_lo, df_hi = super().ranges(lo, hi)
        with np.errstate(over="ignore"):
            ends = self.f(lo), self.f(hi), self.f(np.clip(0.0, lo, hi))
            return Ranges(self._down(np.minimum.reduce(ends)), self._up(np.maximum.reduce(ends)), df_lo, df_hi)

    def smoothed_sympy(self, x: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        return self.slope * x + (1 - self.slope) * super().smoothed_sympy(x, s)

    def smoothed_torch(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return self.slope * x + (1 - self.slope) * super().smoothed_torch(x, s)

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        return self.slope * x + (1 - self.slope) * super().sympy(x)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.leaky_relu(x, self.slope)

    def _moments(self, a: Array, s: Array) -> Moments:
        k, (_, G, V, beta) = self.slope, super()._moments(a, s)
        beta = (1 - k) * beta
        variance = (k * s) ** 2 + 2 * k * (1 - k) * s**2 * G + (1 - k) ** 2 * V
        return Moments(self.f(a) + beta, k + (1 - k) * G, variance, beta)

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        return self.slope * Linear().hermite(a, s, K) + (1 - self.slope) * ReLU().hermite(a, s, K)

    def _expansion(self, a: Array, s: Array, K: int) -> Expansion:
        moments = self.moments(a, s)
        return Expansion(self._hermite(a, s, K), moments.G, moments.V)


class Softplus(Activation):
    """f(x) = log(1 + e^x)."""

    name = "softplus"
    strip = pi
    slope_peak = inf

    def f(self, x: ArrayLike) -> Array:
        return np.logaddexp(0.0, x)

    def df(self, x: ArrayLike) -> Array:
        return _logistic(x)

    def d2f(self, x: ArrayLike) -> Array:
        return _sech2(np.asarray(x) / 2) / 4

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        import sympy

        return sympy.log(1 + sympy.exp(x))

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        import torch

        return torch.nn.functional.softplus(x, threshold=40)  # torch's own, 20, drops e^-20 = 2e-9

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.log(a / (1 - a)), np.full(np.shape(a), inf)

    def difference(self, a: Array, d: Array) -> Array:
        """sgn(d) log(1 + f'(c) (e^|d| - 1)) with c = min(a, a + d), where every term is positive."""
        c, size = np.minimum(a, a + d), np.abs(d)
        near = np.log1p(_logistic(c) * np.expm1(np.minimum(size, 30.0)))
        return np.sign(d) * np.where(size < 30, near, np.logaddexp(0.0, size - np.logaddexp(0.0, -c)))

    def second_difference(self, a: Array, d: Array) -> Array:
        """log(1 + sinh^2(d / 2) / cosh^2(a / 2))."""
        a, d = np.abs(a), np.abs(d)
        with np.errstate(divide="ignore"):
            log_ratio = (d - a) / 2 + np.log(-np.expm1(-d)) - np.log1p(np.exp(-a))
        return np.logaddexp(0.0, 2 * log_ratio)


class Tanh(Activation):
    """f(x) = tanh(x)."""

    name = "tanh"
    bounded = True
    strip = pi / 2
    slope_peak = 0.0

    def f(self, x: ArrayLike) -> Array:
        return np.tanh(x)

    def df(self, x: ArrayLike) -> Array:
        return _sech2(x)

    def d2f(self, x: ArrayLike) -> Array:
        return -2 * np.tanh(x) * _sech2(x)

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        import sympy

        return sympy.tanh(x)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        x = np.arctanh(np.sqrt(np.clip(1 - a, 0, BELOW_ONE)))
        return -x, x

    def difference(self, a: Array, d: Array) -> Array:
        """sinh(d) / (cosh(a + d) cosh(a))."""
        b, size = np.abs(a + d), np.abs(d)
        a = np.abs(a)
        scale = 2 * np.exp(size - a - b) * -np.expm1(-2 * size)
        return np.sign(d) * scale / ((1 + np.exp(-2 * a)) * (1 + np.exp(-2 * b)))

    def second_difference(self, a: Array, d: Array) -> Array:
        """-2 tanh(a) sinh^2(d) / (cosh^2(a) + sinh^2(d))."""
        size, d = np.abs(a), np.abs(d)
        with np.errstate(divide="ignore", over="ignore"):
            ratio = np.exp(size - d) * (1 + np.exp(-2 * size)) / -np.expm1(-2 * d)
            return -2 * np.tanh(a) / (1 + ratio**2)


class Sigmoid(Activation):
    """f(x) = 1 / (1 + e^-x) = (1 + tanh(x / 2)) / 2."""

    name = "sigmoid"
    bounded = True
    strip = pi
    slope_peak = 0.0

    def f(self, x: ArrayLike) -> Array:
        return _logistic(x)

    def df(self, x: ArrayLike) -> Array:
        return _sech2(np.asarray(x) / 2) / 4

    def d2f(self, x: ArrayLike) -> Array:
        half = np.asarray(x) / 2
        return -np.tanh(half) * _sech2(half) / 4

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        import sympy

        return 1 / (1 + sympy.exp(-x))

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        return x.sigmoid()

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        x = 2 * np.arctanh(np.sqrt(np.clip(1 - 4 * a, 0, BELOW_ONE)))
        return -x, x

    def difference(self, a: Array, d: Array) -> Array:
        return Tanh().difference(a / 2, d / 2) / 2

    def second_difference(self, a: Array, d: Array) -> Array:
        return Tanh().second_difference(a / 2, d / 2) / 2


class Erf(Activation):
    """f(x) = erf(x). With q^2 = 1 + 2 s^2 and z = a / q: M = erf(z), G = 2 / (q sqrt pi) e^{-z^2}, and, by
    Plackett's identity for the bivariate normal distribution (Biometrika 1954),
    V = (2 / pi) integral over 0 < theta < asin(2 s^2 / q^2) of exp(-2 z^2 / (1 + sin theta))."""

    name = "erf"
    bounded = True
    slope_peak = 0.0
    ulps = 800.0  # the rounding of x^2 enters an exponential, up to x^2 = 745

    def f(self, x: ArrayLike) -> Array:
        from scipy.special import erf

        return erf(np.asarray(x, float))

    def df(self, x: ArrayLike) -> Array:
        return 2 / sqrt(pi) * np.exp(-(np.asarray(x, float) ** 2))

    def d2f(self, x: ArrayLike) -> Array:
        return -2 * np.asarray(x) * self.df(x)

    def smoothed_sympy(self, x: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        import sympy

        return sympy.erf(x / sympy.sqrt(1 + 2 * s**2))

    def smoothed_torch(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return (x / (1 + 2 * s.square()).sqrt()).erf()

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        import sympy

        return sympy.erf(x)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        return x.erf()

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        x = np.sqrt(-np.log(np.clip(sqrt(pi) / 2 * a, 1e-300, 1.0)))
        return -x, x

    def difference(self, a: Array, d: Array) -> Array:
        """erfc(a) - erfc(a + d) for a > 0, and its mirror image below, where neither term rounds to 1."""
        from scipy.special import erfc

        sign = np.where(a >= 0, 1.0, -1.0)
        far = sign * (erfc(sign * a) - erfc(sign * (a + d)))
        short = np.abs(d) * (1 + 2 * np.abs(a)) < 1  # here the far form cancels, and e^{-x^2} changes little
        return np.where(short, super().difference(a, d), far)

    def _moments(self, a: Array, s: Array) -> Moments:
        q = np.sqrt(1 + 2 * s**2)
        z = a / q
        t, w = gaussian.legendre_rule(120)
        top = np.arctan2(2 * s**2, np.sqrt(1 + 4 * s**2))  # asin(2 s^2 / q^2)
        V = 2 / pi * top * (np.exp(-2 * z[..., None] ** 2 / (1 + np.sin(top[..., None] * t))) @ w)
        return Moments(self.f(z), 2 / sqrt(pi) * np.exp(-(z**2)) / q, V, self._beta(a, s, q))

    def _beta(self, a: Array, s: Array, q: Array) -> Array:
        """erf(a / q) - erf(a) = -(2 / sqrt pi) times the integral of e^{-x^2} over [a / q, a]."""
        from scipy.special import erfc

        low = np.abs(a) / q
        width = low * 2 * s**2 / (1 + q)
        t, w = gaussian.legendre_rule(40)
        x = low[..., None] + width[..., None] * t
        short = 2 / sqrt(pi) * width * (np.exp(-(x**2)) @ w)
        long = erfc(low) - erfc(np.abs(a))
        return -np.sign(a) * np.where(width < 1, short, long)

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        """c_k = s^k M^(k)(a) / sqrt(k!), from the derivatives of erf."""
        q = np.sqrt(1 + 2 * s**2)
        z = a / q
        c = np.zeros((*a.shape, K + 1))
        c[..., 0] = self.f(z)
        slope = 2 / sqrt(pi) * np.exp(-(z**2))
        basis = gaussian.hermite_basis(sqrt(2) * z, max(K - 1, 0))
        for k in range(1, K + 1):
            c[..., k] = (sqrt(2) * s / q) ** k * slope * (-1) ** (k - 1) * basis[k - 1] / sqrt(2 * k)
        return c


def _logistic(x: ArrayLike) -> Array:
    x = np.asarray(x, float)
    tail = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, tail) / (1 + tail)


def _sech2(x: ArrayLike) -> Array:
    tail = np.exp(-2 * np.abs(np.asarray(x, float)))
    return 4 * tail / (1 + tail) ** 2
