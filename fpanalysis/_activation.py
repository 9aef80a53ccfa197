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

from math import inf, sqrt
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis import gaussian
from fpanalysis.results import InputError

if TYPE_CHECKING:
    import sympy
    import torch

Array = NDArray[np.float64]

REGISTRY: dict[str, type[Activation]] = {}
CHUNK = 1 << 21  #: values of f held at once by a quadrature


class Moments(NamedTuple):
    """Gaussian moments of an activation, each of the broadcast shape of (a, s)."""

    M: Array
    G: Array
    V: Array
    beta: Array


class Activation:
    """An activation function. Subclasses give `name`, `f`, `df`, `d2f`, `sympy`, `torch` and, where the
    default quadrature is not wanted, `_moments` and `hermite`.

    `strip` is the distance of the nearest complex singularity of f from the real axis; `bounded` says
    whether |f| is; `smooth` whether f'' exists everywhere.
    """

    name: ClassVar[str] = ""
    bounded: ClassVar[bool] = False
    smooth: ClassVar[bool] = True
    strip: ClassVar[float] = inf

    def __init_subclass__(cls) -> None:
        if cls.name:
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

    def sympy(self, x: sympy.Expr) -> sympy.Expr:
        raise NotImplementedError(f"activation {self.name!r} has no sympy expression")

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError(f"activation {self.name!r} has no torch function")

    def difference(self, a: Array, d: Array) -> Array:
        """f(a + d) - f(a); override where this cancels."""
        return self.f(a + d) - self.f(a)

    def second_difference(self, a: Array, d: Array) -> Array:
        """f(a + d) + f(a - d) - 2 f(a); override where a formula without cancellation is known.

        Below |d| = 1 it is d^2 times the integral of (1 - |t|) f''(a + t d) over [-1, 1].
        """
        a, d = np.broadcast_arrays(a, d)
        plain = self.f(a + d) + self.f(a - d) - 2 * self.f(a)
        t, w = np.polynomial.legendre.leggauss(8)
        t, w = (t + 1) / 2, w / 2 * (1 - (t + 1) / 2)
        near = sum(wk * (self.d2f(a + tk * d) + self.d2f(a - tk * d)) for tk, wk in zip(t, w, strict=True))
        return np.where(np.abs(d) < 1, d**2 * near, plain)

    def moments(self, a: ArrayLike, s: ArrayLike) -> Moments:
        """M, G, V and beta at mean `a` and standard deviation `s` >= 0 (s = 0 gives f, f', 0, 0)."""
        a, s = np.broadcast_arrays(np.asarray(a, float), np.asarray(s, float))
        if np.any(s < 0):
            raise InputError(f"s must be >= 0: it is a standard deviation; found {s.min()}")
        still = s == 0
        moments = self._moments(a, np.where(still, 1.0, s))
        if not still.any():
            return moments
        frozen = Moments(self.f(a), self.df(a), np.zeros(a.shape), np.zeros(a.shape))
        return Moments(*(np.where(still, z, m) for z, m in zip(frozen, moments, strict=True)))

    def M(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).M

    def G(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).G

    def V(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).V

    def beta(self, a: ArrayLike, s: ArrayLike) -> Array:
        return self.moments(a, s).beta

    def _moments(self, a: Array, s: Array) -> Moments:
        """The moments by the trapezoid rule, s > 0."""
        flat = a.ravel(), s.ravel()
        xi, w = self._rule(*flat)
        out = np.empty((4, a.size))
        for part in _chunks(a.size, len(xi)):
            out[:, part] = self._quadrature(flat[0][part, None], flat[1][part, None], xi, w)
        return Moments(*out.reshape(4, *a.shape))

    def _quadrature(self, a: Array, s: Array, xi: Array, w: Array) -> Array:
        half = len(xi) // 2 + 1
        beta = self.second_difference(a, s * xi[half:]) @ w[half:]
        V = (self.difference(a, s * xi) - beta[:, None]) ** 2 @ w
        G = self.df(a + s * xi) @ w
        return np.array([self.f(a[:, 0]) + beta, G, V, beta])

    def _rule(self, a: Array, s: Array, K: int = 0) -> tuple[Array, Array]:
        # in an exponential tail of f the integrand of V peaks at xi = 2 s, at most at the nonlinearity
        reach = float(np.max(np.minimum(2 * s, np.abs(a) / s), initial=0.0))
        return gaussian.trapezoid_rule(float(np.max(s, initial=0.0)), self.strip, reach + 1.5 * sqrt(K))

    def hermite(self, a: ArrayLike, s: ArrayLike, K: int) -> Array:
        """Coefficients c_0..c_K on a new last axis; a and s one-dimensional or broadcastable, s > 0 or 0."""
        a, s = np.broadcast_arrays(np.asarray(a, float), np.asarray(s, float))
        flat_a, flat_s = a.ravel(), s.ravel()
        xi, w = self._rule(flat_a, np.where(flat_s == 0, 1.0, flat_s), K)
        weighted = (gaussian.hermite_basis(xi, K) * w).T
        c = np.empty((a.size, K + 1))
        for part in _chunks(a.size, len(xi)):
            c[part] = self.difference(flat_a[part, None], flat_s[part, None] * xi) @ weighted
        c[:, 0] += self.f(flat_a)
        return c.reshape(*a.shape, K + 1)


def _chunks(count: int, nodes: int) -> list[slice]:
    size = max(1, CHUNK // nodes)
    return [slice(start, start + size) for start in range(0, count, size)]
