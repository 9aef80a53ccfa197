"""Piecewise linear activations, their moments in closed form: linear, ReLU, leaky ReLU."""

from __future__ import annotations

from math import inf, pi, sqrt
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis._activation import Activation, Expansion, Moments, Ranges
from fpanalysis.results import InputError

if TYPE_CHECKING:
    import sympy
    import torch

Array = NDArray[np.float64]


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
    excess = 0.0

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

    def _M(self, a: Array, s: Array) -> Array:
        return np.maximum(a, 0.0) + _smear(a, s)

    def _G(self, a: Array, s: Array) -> Array:
        from scipy.special import ndtr

        return ndtr(a / s)

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

    def _M(self, a: Array, s: Array) -> Array:
        return self.f(a) + (1 - self.slope) * _smear(a, s)

    def _G(self, a: Array, s: Array) -> Array:
        return self.slope + (1 - self.slope) * super()._G(a, s)

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


def _smear(a: Array, s: Array) -> Array:
    """beta of ReLU, s I_1(t) with t = |a| / s and I_1(t) = phi(t) (1 - t R(t)), R(t) Mills' ratio: the quick way to M.
    Its difference loses t^2 roundings, as many as phi(t) has of its argument."""
    from scipy.special import erfcx

    t = np.minimum(np.abs(a / s), 40.0)  # where phi has underflown
    return s / sqrt(2 * pi) * np.exp(-(t**2) / 2) * (1 - sqrt(pi / 2) * t * erfcx(t / sqrt(2)))
