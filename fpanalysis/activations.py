"""The activations by name, and how to find them; adding one is adding one class (see `fpanalysis._activation`).

No moment is computed as a difference of nearly equal numbers: V and beta stay accurate *relative to
themselves* deep in the tails. Piecewise linear activations use repeated integrals of the normal tail
(Abramowitz & Stegun 7.2), erf uses Plackett's identity, the others a trapezoid rule (`fpanalysis.gaussian`) on
exact formulas for f(a + d) - f(a) and f(a + d) + f(a - d) - 2 f(a).
"""

from __future__ import annotations

from math import inf, log, pi, sqrt
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis._activation import REGISTRY, Activation, Moments, Ranges, get_activation
from fpanalysis._grouped import Grouped
from fpanalysis._piecewise_linear import LeakyReLU, Linear, ReLU
from fpanalysis._smoothed import Smoothed

if TYPE_CHECKING:
    import sympy
    import torch

__all__ = [
    "REGISTRY",
    "Activation",
    "Grouped",
    "LeakyReLU",
    "Linear",
    "Moments",
    "Ranges",
    "ReLU",
    "Smoothed",
    "get_activation",
]

Array = NDArray[np.float64]

BELOW_ONE = 1 - 1e-16  #: the largest number whose arctanh is finite


class Softplus(Activation):
    """f(x) = log(1 + e^x)."""

    name = "softplus"
    strip = pi
    slope_peak = inf
    excess = log(2)

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

    def _M(self, a: Array, s: Array) -> Array:
        return self.f(a / np.sqrt(1 + 2 * s**2))

    def _G(self, a: Array, s: Array) -> Array:
        q = np.sqrt(1 + 2 * s**2)
        return self.df(a / q) / q

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
