"""The equation whose zeros are the fixed points, in the coordinates in which it is smallest.

In full, G(h) = F(h) - h, N equations. With W = U V^T of rank r < N/2 the state enters only through
kappa = V^T f(x), and with x = U kappa + W_in u + b both forms of the network come to r equations,

    G(kappa) = V^T f(U kappa + W_in u + b) - kappa,     h = f(x) in the rate form, the state x in the current form.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

ROUNDED = 1e-13  #: singular values below this share of the largest are rounding errors
ALL = slice(None)


class Equation(ABC):
    """G(z) = 0, batched over rows of `z` (K, dim); `rows` are the rows of the whole batch that `z` stands for."""

    dim: int

    @abstractmethod
    def gap(self, z: Array, rows: Any = ALL) -> Array:
        """G(z), (K, dim)."""

    @abstractmethod
    def slope(self, z: Array, rows: Any = ALL) -> Array:
        """-dG/dz, (K, dim, dim): I - dF/dh or its like."""

    @abstractmethod
    def state(self, z: Array) -> Array:
        """The states h (K, N) at `z`; zeros of G are fixed points."""

    @abstractmethod
    def coordinates(self, h: Array) -> Array:
        """z (K, dim) of the states `h`."""


class Full(Equation):
    """G(h) = S(h, u) - h with S the system's `still`, F itself for a Network; `u` is (n_in,), or (K, n_in) with an
    input of its own for each row."""

    def __init__(self, net: System, u: Array) -> None:
        self.net, self.u, self.dim = net, u, net.N

    def _input(self, rows: Any) -> Array:
        return self.u if self.u.ndim == 1 else self.u[rows]

    def gap(self, z: Array, rows: Any = ALL) -> Array:
        return self.net.still(z, self._input(rows)) - z

    def slope(self, z: Array, rows: Any = ALL) -> Array:
        A = -self.net.still_jacobian(z, self._input(rows))
        np.einsum("kii->ki", A)[...] += 1
        return A

    def state(self, z: Array) -> Array:
        return z

    def coordinates(self, h: Array) -> Array:
        return h


class Reduced(Equation):
    """G(kappa) = V^T f(U kappa + c) - kappa for W = U V^T, U and V (N, r)."""

    def __init__(self, net: Network, u: Array, U: Array, V: Array) -> None:
        self.activation, self.form = net.activation, net.form
        self.U, self.V, self.c, self.dim = U, V, net.drive(u), U.shape[1]
        self.VU = (V[:, :, None] * U[:, None, :]).reshape(net.N, -1)

    def gap(self, z: Array, rows: Any = ALL) -> Array:
        return self.activation.f(z @ self.U.T + self.c) @ self.V - z

    def slope(self, z: Array, rows: Any = ALL) -> Array:
        A = -(self.activation.df(z @ self.U.T + self.c) @ self.VU).reshape(-1, self.dim, self.dim)
        np.einsum("kii->ki", A)[...] += 1
        return A

    def state(self, z: Array) -> Array:
        x = z @ self.U.T + self.c
        return self.activation.f(x) if self.form == "rate" else x

    def coordinates(self, h: Array) -> Array:
        return (h if self.form == "rate" else self.activation.f(h)) @ self.V


def smallest(net: System, u: Array) -> Equation:
    """The equation of `net` at the input `u` (n_in,) in its smallest form."""
    if not isinstance(net, Network) or net.N < 3:
        return Full(net, u)
    left, values, right = net.svd
    rank = max(1, int((values > ROUNDED * values[0]).sum()))
    if rank >= net.N / 2:
        return Full(net, u)
    return Reduced(net, u, left[:, :rank] * values[:rank], right[:rank].T)
