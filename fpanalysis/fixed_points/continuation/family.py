"""Families of systems with one parameter p, whose fixed points F(h; p) = h form curves in (h, p).

scale      W -> p W
input      u -> p u, or u + p direction
any other  a function p -> (system, u)
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import of_shape
from fpanalysis.network import Network
from fpanalysis.results import InputError, one_line
from fpanalysis.system import System

Array = NDArray[np.float64]
Maker = Callable[[float], tuple[System, ArrayLike | None]]

DIFFERENCE = 1e-5  #: step of the central difference dF/dp, relative to the interval
DIFFERENCE_ERROR = 1e-10  #: of such a difference: its own, square, and rounding over the step


class Family(ABC):
    """F(h; p) on the interval from `start` to `stop`."""

    slope_error = 0.0  #: relative error of dF/dp

    def __init__(self, N: int, start: float, stop: float) -> None:
        self.N, self.start, self.stop = N, start, stop
        self.unit = (stop - start) / np.sqrt(N)  # of p, in z: the interval is as long as N neurons' way from 0 to 1

    @abstractmethod
    def system(self, p: float) -> tuple[System, Array]:
        """The system and its input at p."""

    @abstractmethod
    def evaluate(self, h: Array, p: float) -> tuple[Array, Array, Array]:
        """F (N,), dF/dh (N, N) and dF/dp (N,)."""

    @abstractmethod
    def gamma(self, p: float) -> float | Array: ...

    def z(self, h: Array, p: float) -> Array:
        """(h, p) as one vector (N + 1,) in which both have the same weight."""
        return np.append(h, (p - self.start) / self.unit)

    def p(self, z: Array) -> float:
        return float(self.start + self.unit * z[-1])

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """G(z) = F(h; p) - h (N,) and its Jacobian DG (N, N + 1)."""
        h = z[:-1]
        F, F_h, F_p = self.evaluate(h, self.p(z))
        DG = np.empty((self.N, self.N + 1))
        DG[:, :-1], DG[:, -1] = F_h, self.unit * F_p
        DG.ravel()[:: self.N + 2] -= 1
        return F - h, DG

    def eigenvalues(self, z: Array, DG: Array) -> NDArray[np.complex128]:
        """(N,), of the step's Jacobian (1 - gamma) I + gamma dF/dh = I + gamma dG/dh, largest modulus first."""
        gamma = np.broadcast_to(self.gamma(self.p(z)), (self.N,))
        values = np.linalg.eigvals(np.eye(self.N) + gamma[:, None] * DG[:, :-1]).astype(complex)
        return values[np.argsort(-np.abs(values), kind="stable")]


class Custom(Family):
    """`make(p)` gives the system and its input; dF/dp by central differences."""

    slope_error = DIFFERENCE_ERROR

    def __init__(self, make: Maker, start: float, stop: float) -> None:
        self.make = make
        sizes = [self.system(p)[0].N for p in (start, stop)]
        if sizes[0] != sizes[1]:
            raise InputError(f"parameter must give systems of one size; found N = {sizes[0]} and {sizes[1]}")
        super().__init__(sizes[0], start, stop)

    def system(self, p: float) -> tuple[System, Array]:
        made = self.make(p)
        if not (isinstance(made, tuple) and len(made) == 2 and isinstance(made[0], System)):
            raise InputError(f"parameter must be a function p -> (system, u); it gave {one_line(repr(made))}")
        return made[0], made[0].check_condition(made[1])

    def evaluate(self, h: Array, p: float) -> tuple[Array, Array, Array]:
        inside = min(max(p, self.start), self.stop)  # `make` is never asked beyond its interval
        system, u = self.system(inside)
        step = DIFFERENCE * (self.stop - self.start)
        high, low = min(inside + step, self.stop), max(inside - step, self.start)
        (right, u_right), (left, u_left) = self.system(high), self.system(low)
        F_p = (right.target(h, u_right) - left.target(h, u_left)) / (high - low)
        return system.target(h, u) + (p - inside) * F_p, system.target_jacobian(h, u), F_p

    def gamma(self, p: float) -> float | Array:
        return self.system(min(max(p, self.start), self.stop))[0].gamma


class Scale(Family):
    """W -> p W: F(h; p) = f(p W h + v) or p W f(h) + v."""

    def __init__(self, net: Network, u: Array, start: float, stop: float) -> None:
        super().__init__(net.N, start, stop)
        self.net, self.u, self.drive = net, u, net.drive(u)

    def system(self, p: float) -> tuple[System, Array]:
        return dataclasses.replace(self.net, W=p * self.net.W), self.u

    def evaluate(self, h: Array, p: float) -> tuple[Array, Array, Array]:
        if self.net.form == "current":
            recurrent = self.net.target(h, self.u) - self.drive
            return p * recurrent + self.drive, p * self.net.target_jacobian(h, self.u), recurrent
        J = self.net.target_jacobian(p * h, self.u)
        return self.net.target(p * h, self.u), p * J, J @ h

    def gamma(self, p: float) -> float | Array:
        return self.net.gamma


class Input(Family):
    """u + p direction."""

    def __init__(self, net: System, u: Array, direction: Array, start: float, stop: float) -> None:
        super().__init__(net.N, start, stop)
        self.net, self.u, self.direction = net, u, direction
        if not isinstance(net, Network):
            self.slope_error = DIFFERENCE_ERROR

    def system(self, p: float) -> tuple[System, Array]:
        return self.net, self.u + p * self.direction

    def evaluate(self, h: Array, p: float) -> tuple[Array, Array, Array]:
        net, u = self.net, self.u + p * self.direction
        return net.target(h, u), net.target_jacobian(h, u), self._slope(h, p)

    def _slope(self, h: Array, p: float) -> Array:
        """dF/dp: exact for a Network, a central difference for another system."""
        net = self.net
        if isinstance(net, Network) and net.W_in is not None:
            drive = net.W_in @ self.direction
            return drive if net.form == "current" else net.activation.df(net.preactivation(h, self._u(p))) * drive
        step = DIFFERENCE * (self.stop - self.start)
        return np.asarray(net.target(h, self._u(p + step)) - net.target(h, self._u(p - step))) / (2 * step)

    def _u(self, p: float) -> Array:
        return self.u + p * self.direction

    def gamma(self, p: float) -> float | Array:
        return self.net.gamma


def family(
    net: System | None,
    parameter: str | Maker,
    start: float,
    stop: float,
    u: ArrayLike | None,
    direction: ArrayLike | None,
) -> Family:
    """The family that the arguments of `continue_fixed_points` name ("gamma" is none: it moves no fixed point)."""
    if callable(parameter):
        if net is not None or u is not None or direction is not None:
            raise InputError(
                "parameter as a function makes the system and its input itself: leave net, u, direction None"
            )
        return Custom(parameter, start, stop)
    assert net is not None
    if direction is not None and parameter != "input":
        raise InputError(f"direction has a meaning for parameter 'input' only; found parameter {parameter!r}")
    if parameter == "scale":
        if not isinstance(net, Network):
            raise InputError(
                f"parameter 'scale' needs the weights of a Network; found {type(net).__name__}: give a function "
                "p -> (system, u) as parameter instead"
            )
        return Scale(net, net.check_condition(u), start, stop)
    if net.n_in == 0:
        raise InputError("parameter 'input' needs a system with inputs; this one has none (n_in = 0)")
    if direction is not None:
        return Input(net, net.check_condition(u), of_shape("direction", direction, (net.n_in,)), start, stop)
    if u is None and net.n_in > 1:
        raise InputError(f"parameter 'input' with {net.n_in} inputs needs u (then the input is p u) or direction")
    return Input(net, np.zeros(net.n_in), net.check_condition(np.ones(1) if u is None else u), start, stop)
