"""What an activation is: f with derivatives and Gaussian moments. Each activation is one subclass.

For x ~ N(a, s^2), elementwise and broadcasting over neurons:

    M(a, s) = E f(x)          mean
    G(a, s) = E f'(x)         gain, = dM/da
    V(a, s) = Var f(x)        transmitted variance
    beta(a, s) = M - f(a)     asymmetric attenuation (local bias)
    c_k(a, s) = E[f(a + s xi) He_k(xi)] / sqrt(k!)     Hermite coefficients, c_0 = M, c_1 = s G

The base class takes them all from f, f' and f'' by a trapezoid rule; subclasses put in what they know better.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis.gaussian import DIGITS
from fpanalysis.results import InputError, one_line

if TYPE_CHECKING:
    import sympy
    import torch

Array = NDArray[np.float64]

REGISTRY: dict[str, type[Activation]] = {}
CHUNK = 1 << 21  #: values of f held at once by a quadrature
EPS = float(np.finfo(float).eps)
SINGLE = 17.0  #: digits of a quadrature in single precision: exp(-17) = 4e-8
TINY = 1e-300  #: added to every outward rounding: larger than what gradual underflow can lose
QUICK = 20.0  #: quadrature errors of `expansion` are held below exp(-QUICK), about 2e-9
ROUGH = 1e-4  #: change of a quadrature with the step that no f analytic in its strip comes near


class Ranges(NamedTuple):
    """Enclosures over an interval [lo, hi]: f_lo <= f(x) <= f_hi and df_lo <= f'(x) <= df_hi for every x in it."""

    f_lo: Array
    f_hi: Array
    df_lo: Array
    df_hi: Array


class Moments(NamedTuple):
    """Gaussian moments of an activation, each of the broadcast shape of (a, s)."""

    M: Array
    G: Array
    V: Array
    beta: Array


class Expansion(NamedTuple):
    """f(a + s xi) in Hermite polynomials: coefficients c (..., K + 1), gain G and variance V of the broadcast shape."""

    c: Array
    G: Array
    V: Array


class Activation:
    """An activation function. Subclasses give `name`, `f`, `df`, `d2f`, `sympy`, `torch` and, where the
    default quadrature is not wanted, `_moments` and `_hermite`.

    `strip` is the distance of the nearest complex singularity of f from the real axis: the length over which
    f changes (for an entire f such as a Gaussian, its width); an f made of sharper features than 1 must say so.
    `bounded` says whether |f| is; `smooth` whether f'' exists everywhere. `slope_peak` is the point up to which
    f' rises and beyond which it falls (-inf: it falls throughout; +inf: it rises); None if that is not known to
    be so of every neuron, and then nothing can be proven about a network of such neurons.
    `excess` is a c, one or one per neuron, with 0 <= f(x) <= max(x, 0) + c for all x; None if there is none, or none
    is known.
    `alike` says whether f is the same for every neuron; else its arguments have the neurons in their last axis.
    `ulps` bounds the rounding error of f and f' as computed, relative to their values and in units of the machine
    epsilon.
    """

    name: ClassVar[str] = ""
    bounded: ClassVar[bool] = False
    smooth: ClassVar[bool] = True
    strip: ClassVar[float] = 1.0
    slope_peak: ClassVar[float | None] = None
    excess: ClassVar[float | Array | None] = None
    alike: ClassVar[bool] = True
    ulps: ClassVar[float] = 8.0

    def __init_subclass__(cls) -> None:
        if {"f", "df"} & cls.__dict__.keys():
            for name in {"slope_peak", "excess"} - cls.__dict__.keys():
                setattr(cls, name, None)  # a parent's claim about its own f
        if "_moments" in cls.__dict__:  # then a parent's short cuts to two of them are not its own
            for name in {"_M", "_G"} - cls.__dict__.keys():
                setattr(cls, name, getattr(Activation, name))
        if not cls.__dict__.get("name"):
            return  # an unnamed variant must not take its parent's place
        known = REGISTRY.get(cls.name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise InputError(f"activation name {cls.name!r} is taken by {known.__module__}.{known.__qualname__}")
        REGISTRY[cls.name] = cls

    def __repr__(self) -> str:
        arguments = ", ".join(f"{key}={value!r}" for key, value in self.parameters().items())
        return f"{type(self).__name__}({arguments})"

    def parameters(self) -> dict[str, Any]:
        """Keyword arguments that make this activation again: plain numbers, strings and lists."""
        return {}

    def config(self) -> str | dict[str, Any]:
        """What a checkpoint remembers: the name, with the parameters if there are any."""
        parameters = self.parameters()
        return {"name": self.name, **parameters} if parameters else self.name

    @property
    def key(self) -> str:
        return repr((self.name, sorted(self.parameters().items())))

    def check_size(self, N: int) -> None:
        """Raise `InputError` if parameters that are one per neuron do not fit N neurons."""

    def f(self, x: ArrayLike) -> Array:
        raise NotImplementedError(f"activation {self.name!r} has no f")

    def df(self, x: ArrayLike) -> Array:
        raise NotImplementedError(f"activation {self.name!r} has no df")

    def d2f(self, x: ArrayLike) -> Array:
        raise NotImplementedError(f"activation {self.name!r} has no d2f")

    def smoothed_sympy(self, x: sympy.Expr, s: sympy.Expr) -> sympy.Expr:
        """E f(x + s xi); override where the integral is known."""
        import sympy

        xi = sympy.Symbol("xi", real=True)
        density = sympy.exp(-(xi**2) / 2) / sympy.sqrt(2 * sympy.pi)
        return sympy.Integral(self.sympy(x + s * xi) * density, (xi, -sympy.oo, sympy.oo))

    def smoothed_torch(self, x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        """E f(x + s xi), s > 0 broadcasting with `x`; override where a closed form is known.

        By the trapezoid rule, to the precision of the type of `x`.
        """
        if not self.smooth:
            raise NotImplementedError(
                f"activation {self.name!r} has kinks, and no closed form for its smoothed torch function"
            )
        xi, w = self.smoothing_rule(float(s.max()), DIGITS if x.element_size() > 4 else SINGLE)
        middle = len(xi) // 2
        total = w[middle] * self.torch(x)
        for xi_k, w_k in zip(xi[middle + 1 :].tolist(), w[middle + 1 :].tolist(), strict=True):
            total = total + w_k * (self.torch(x + xi_k * s) + self.torch(x - xi_k * s))
        return total

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        raise NotImplementedError(f"activation {self.name!r} has no sympy expression")

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"activation {self.name!r} has no torch function")

    def smoothing_rule(self, s: float, digits: float = DIGITS) -> tuple[Array, Array]:
        """Nodes and weights for E f(x + s' xi) at any x and s' <= s: tails of f tilt the integrand by exp(rate s xi) at
        most, rate = pi / strip."""
        return gaussian.trapezoid_rule(s, self.strip, pi / self.strip * s, digits)

    def difference(self, a: Array, d: Array) -> Array:
        """f(a + d) - f(a); override where a faster formula without cancellation is known.

        Below |d| = strip / 2 it is d times the integral of f'(a + t d) over [0, 1], if f is smooth.
        """
        if not self.smooth:
            return self.f(a + d) - self.f(a)
        t, w = gaussian.legendre_rule(8)
        near = d * sum(wk * self.df(a + tk * d) for tk, wk in zip(t, w, strict=True))
        return np.where(np.abs(d) < self.strip / 2, near, self.f(a + d) - self.f(a))

    def second_difference(self, a: Array, d: Array) -> Array:
        """f(a + d) + f(a - d) - 2 f(a); override where a formula without cancellation is known.

        Below |d| = strip / 2 it is d^2 times the integral of (1 - |t|) f''(a + t d) over [-1, 1], if f is smooth.
        """
        if not self.smooth:
            return self.f(a + d) + self.f(a - d) - 2 * self.f(a)
        t, w = gaussian.legendre_rule(8)
        terms = zip(t, w * (1 - t), strict=True)
        near = d**2 * sum(wk * (self.d2f(a + tk * d) + self.d2f(a - tk * d)) for tk, wk in terms)
        return np.where(np.abs(d) < self.strip / 2, near, self.f(a + d) + self.f(a - d) - 2 * self.f(a))

    @np.errstate(over="ignore", under="ignore", invalid="ignore")
    def ranges(self, lo: ArrayLike, hi: ArrayLike) -> Ranges:
        """Enclosures of f and f' over lo <= x <= hi, elementwise, rounded outwards; infinite ends are allowed.

        f' is taken as Clarke's generalised derivative: at a kink, all slopes between those of its two sides. Its
        range follows from `slope_peak`; that of f from its ends where f is monotone, else from the mean value
        theorem.

        Raises
        ------
        InputError
            If `slope_peak` is None.
        """
        if self.slope_peak is None:
            raise InputError(
                f"activation {self.name!r} has no known slope range: set `slope_peak` if f' rises up to one point "
                "and falls beyond it"
            )
        lo, hi = np.broadcast_arrays(np.asarray(lo, float), np.asarray(hi, float))
        before, after = np.nextafter(lo, -np.inf), np.nextafter(hi, np.inf)  # a kink at an end has both its slopes
        df_lo = self._down(np.minimum(self.df(before), self.df(after)))
        df_hi = self._up(self.df(np.clip(self.slope_peak, before, after)))
        left, right = self.f(lo), self.f(hi)
        f_lo, f_hi = self._down(np.minimum(left, right)), self._up(np.maximum(left, right))
        turns = (df_lo < -TINY) & (df_hi > TINY)
        if turns.any():
            width = np.nextafter(hi - lo, np.inf)
            below, above = self._down(f_lo + df_lo * width), self._up(f_hi - df_lo * width)
            f_lo = np.where(turns, np.where(np.isnan(below), -np.inf, below), f_lo)
            f_hi = np.where(turns, np.where(np.isnan(above), np.inf, above), f_hi)
        return Ranges(f_lo, f_hi, df_lo, df_hi)

    def _down(self, value: Array) -> Array:
        return value - (self.ulps * EPS * np.abs(value) + TINY)

    def _up(self, value: Array) -> Array:
        return value + (self.ulps * EPS * np.abs(value) + TINY)

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        """Where f' = a, before and beyond `slope_peak`, approximately (nothing is proven from it); override
        where a formula is known."""
        peak = float(np.clip(self.slope_peak or 0.0, -40.0, 40.0))
        reach = np.sinh(np.linspace(0, 6, 1000)) * self.strip / 2
        left, right = peak - reach[::-1], peak + reach
        return np.interp(a, self.df(left), left), np.interp(-a, -self.df(right), right)

    @np.errstate(over="ignore", invalid="ignore")
    def moments(self, a: ArrayLike, s: ArrayLike) -> Moments:
        """M, G, V and beta at mean `a` and standard deviation `s` >= 0 (s = 0 gives f, f', 0, 0; NaN gives NaN)."""
        a, s = _mean_and_deviation(a, s)
        still = s == 0
        moments = self._moments(a, np.where(still, 1.0, s))
        if not still.any():
            return moments
        frozen = Moments(self.f(a), self.df(a), np.zeros(a.shape), np.zeros(a.shape))
        return Moments(*(np.where(still, z, m) for z, m in zip(frozen, moments, strict=True)))

    def M(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self._one(self.f, self._M, a, s)

    def G(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self._one(self.df, self._G, a, s)

    @np.errstate(over="ignore", invalid="ignore")
    def _one(self, frozen: Callable[[Array], Array], moment: Callable[[Array, Array], Array], a: Any, s: Any) -> Array:
        a, s = _mean_and_deviation(a, s)
        still = s == 0
        return np.where(still, frozen(a), moment(a, np.where(still, 1.0, s))) if still.any() else moment(a, s)

    def V(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).V

    def beta(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).beta

    def _M(self, a: Array, s: Array) -> Array:
        """M alone, s > 0; override where it costs less than all moments."""
        return self._moments(a, s).M

    def _G(self, a: Array, s: Array) -> Array:
        """G alone, s > 0; override where it costs less than all moments."""
        return self._moments(a, s).G

    def _moments(self, a: Array, s: Array) -> Moments:
        """The moments by the trapezoid rule, s > 0."""
        flat = a.ravel(), s.ravel()
        xi, w = self._rule(*flat)
        out = np.empty((4, a.size))
        for part in _chunks(a.size, len(xi)):
            out[:, part] = self._quadrature(flat[0][part, None], flat[1][part, None], xi, w)
        return Moments(*out.reshape(4, *a.shape))

    def _quadrature(self, a: Array, s: Array, xi: Array, w: Array) -> Array:
        K = len(xi) // 2
        f, bends = self.f(a[:, 0]), self.second_difference(a, s * xi[K + 1 :])
        beta = bends @ w[K + 1 :]
        squares = (self.difference(a, s * xi) - beta[:, None]) ** 2
        V, G = squares @ w, self.df(a + s * xi) @ w
        if K < gaussian.MOST:
            # the same sums at the double step, whose error is about the square root of the error at the single one
            error = np.abs(bends[:, 1::2] @ (2 * w[K + 2 :: 2]) - beta)
            error_V = np.abs(squares[:, K % 2 :: 2] @ (2 * w[K % 2 :: 2]) - V)
            rounding = 1e-10 * (1 + np.abs(f))
            if np.any(error > ROUGH * np.sqrt(V) + rounding) or np.any(error_V > 20 * ROUGH * V + rounding**2):
                raise InputError(
                    f"activation {self.name!r} changes over a shorter distance than its class says (strip = "
                    f"{self.strip:g}): set a smaller `strip`, or give `_moments` and `_hermite` in closed form"
                )
        return np.array([f + beta, G, V, beta])

    def _rule(self, a: Array, s: Array, K: int = 0, digits: float = gaussian.DIGITS) -> tuple[Array, Array]:
        # In an exponential tail of f, of rate pi / strip, the integrands of beta and V peak at xi = rate s and
        # 2 rate s, at most at the nonlinearity |a| / s. Beyond the peak of V, 7.5 standard deviations do.
        finite = np.isfinite(a) & (s > 0) & np.isfinite(s)
        a, s = np.abs(a[finite]), s[finite]
        peak = pi / self.strip * s
        reach = np.maximum(np.minimum(peak, a / s), np.minimum(2 * peak, a / s) - 1.5)
        furthest = float(np.max(reach, initial=0.0)) + 1.5 * sqrt(K)
        return gaussian.trapezoid_rule(float(np.max(s, initial=0.0)), self.strip, furthest, digits)

    @np.errstate(over="ignore", invalid="ignore")
    def hermite(self, a: ArrayLike, s: ArrayLike, K: int) -> Array:
        """Coefficients c_0..c_K on a new last axis, s >= 0."""
        return self._hermite(*_mean_and_deviation(a, s), K)

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        """The coefficients by the trapezoid rule; those of order 20 and s below 1 hold to 1e-10 absolutely."""
        flat_a, flat_s = a.ravel(), s.ravel()
        xi, w = self._rule(flat_a, flat_s, K)
        weighted = (gaussian.hermite_basis(xi, K) * w).T
        c = np.empty((a.size, K + 1))
        for part in _chunks(a.size, len(xi)):
            c[part] = self.difference(flat_a[part, None], flat_s[part, None] * xi) @ weighted
        c[:, 0] += self.f(flat_a)
        return c.reshape(*a.shape, K + 1)

    @np.errstate(over="ignore", invalid="ignore")
    def expansion(self, a: ArrayLike, s: ArrayLike, K: int) -> Expansion:
        """c_0..c_K, G and V in one pass, for recursions over many steps: to about 1e-7 of the largest, c beyond
        order 10 to 5e-6."""
        return self._expansion(*_mean_and_deviation(a, s), K)

    def _expansion(self, a: Array, s: Array, K: int) -> Expansion:
        xi, w = self._rule(a, s, 0, QUICK)
        f = self.f(a)
        weighted = (gaussian.hermite_basis(xi, K) * w).T
        c = np.empty((a.size, K + 1))
        V = np.empty(a.size)
        for part in _chunks(a.size, len(xi)):
            d = self.f(a.ravel()[part, None] + s.ravel()[part, None] * xi) - f.ravel()[part, None]
            c[part] = d @ weighted
            V[part] = np.maximum(d**2 @ w - c[part, 0] ** 2, 0.0)
        c[:, 0] += f.ravel()
        still = s <= 1e-6 * (1 + np.abs(a))  # where the difference quotient c_1 / s is lost in rounding
        G = np.where(still, self.df(a), c[:, 1].reshape(a.shape) / np.where(still, 1.0, s))
        return Expansion(c.reshape(*a.shape, K + 1), G, V.reshape(a.shape))


def get_activation(spec: str | dict[str, Any] | Activation) -> Activation:
    """The activation of that name (or ``{"name": ..., **parameters}``); an instance passes through."""
    if isinstance(spec, Activation):
        return spec
    name, parameters = spec, {}
    if isinstance(spec, dict):
        parameters = {key: value for key, value in spec.items() if key != "name"}
        name = spec.get("name", "")
    if not isinstance(name, str) or name not in REGISTRY:
        raise InputError(
            f"unknown activation {one_line(repr(name))}; known: {', '.join(sorted(REGISTRY))} "
            "(a class of your own: once it is imported)"
        )
    try:
        return REGISTRY[name](**parameters)
    except TypeError as error:
        raise InputError(f"activation {name!r}: {error}") from None


def _mean_and_deviation(a: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
    a, s = np.broadcast_arrays(np.asarray(a, float), np.asarray(s, float))
    if np.any(s < 0):
        raise InputError(f"s must be >= 0: it is a standard deviation; found {np.nanmin(s):g}")
    return a, np.where(np.isinf(s), np.nan, s)


def _chunks(count: int, nodes: int) -> list[slice]:
    size = max(1, CHUNK // nodes)
    return [slice(start, start + size) for start in range(0, count, size)]
