"""Asymmetric attenuation of one neuron: the local bias, its upward and downward halves, and the transmitted variance.

With xi ~ N(0, 1), operating point a and noise s at what enters f:

    beta(a, s) = E f(a + s xi) - f(a) = up + down
    up(a, s)   = E[f(a + s xi) - f(a); xi > 0],      down(a, s) = E[f(a + s xi) - f(a); xi < 0]
    V(a, s)    = Var f(a + s xi),                    noise gain V / s^2, f'(a)^2 at s = 0

For ReLU above the kink `up` is what a line would give, s / sqrt(2 pi), and `down` is clipped; their difference is the
bias. Far from the nonlinearity the halves cancel: beta is not formed as their sum but comes from its own formula.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from math import pi, sqrt
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.activations import Activation, get_activation
from fpanalysis.gaussian import TAIL, legendre_rule
from fpanalysis.results import InputError

Array = NDArray[np.float64]

NODES = 16  #: of Gauss-Legendre on each panel
FURTHEST = 30.0  #: standard deviations, and TAIL more, beyond which the normal density underflows
GRADES = np.array([1.0, 3.0, 9.0, 27.0])  #: cuts around the nonlinearity, in the length over which f changes
CURVE_REACH, CURVE_POINTS = 4.0, 241  #: standard deviations that a curve shows to either side, and its points
CURVE_STRIPS = 1.6  #: and lengths over which a smooth f changes


@dataclass(frozen=True, eq=False)
class Attenuation:
    """What neurons make of the noise at their operating points: arrays of one shape.

    Attributes
    ----------
    a, s : mean and standard deviation of what enters f.
    beta : local bias E f - f(a).
    up, down : its halves from xi > 0 and xi < 0, each accurate by itself; where f rises, up >= 0 >= down.
    V : transmitted variance Var f.
    gain : V / s^2; at s = 0 its limit f'(a)^2 (at a kink, the f' of the activation).
    """

    activation: Activation
    a: Array
    s: Array
    beta: Array
    up: Array
    down: Array
    V: Array
    gain: Array

    def __repr__(self) -> str:
        return f"Attenuation({self.activation!r}, shape {self.a.shape})"


def attenuation_bias(activation: str | dict[str, Any] | Activation, a: ArrayLike, s: ArrayLike) -> Array:
    """beta(a, s) = E f(a + s xi) - f(a) with xi ~ N(0, 1), broadcasting over operating points a and noise s.

    ReLU: s (phi(r) - r Phi(-r)) with r = |a| / s, even in a, s / sqrt(2 pi) at the kink.
    Smooth f: s^2 f''(a) / 2 + O(s^4).

    Raises
    ------
    InputError
        On an unknown activation, negative s, or values that are not numbers or do not broadcast.
    """
    f = get_activation(activation)
    return f.beta(*_broadcast(a, s))


def attenuation(activation: str | dict[str, Any] | Activation, a: ArrayLike, s: ArrayLike) -> Attenuation:
    """beta(a, s) with its two halves, the transmitted variance V(a, s) and the noise gain V / s^2, broadcasting.

    Of an activation whose parameters differ between neurons, the last axis is the neurons. NaN gives NaN.

    Raises
    ------
    InputError
        As :func:`attenuation_bias`.
    """
    f = get_activation(activation)
    a, s = _broadcast(a, s)
    moments = f.moments(a, s)
    up, down = _halves(f, a, s)
    return Attenuation(f, a, s, moments.beta, up, down, moments.V, noise_gain(f, a, s))


def attenuation_curve(activation: str | dict[str, Any] | Activation, s: float = 1.0) -> Attenuation:
    """The curves to draw at one noise s: `attenuation` over the a / s where bias or transmitted variance change.

    Those of ReLU are the same for every s, in units of s (beta / s, V / s^2), and run from -4 to 4.
    """
    f = get_activation(activation)
    reach = np.hypot(CURVE_REACH, f.smooth * CURVE_STRIPS * f.strip / s)
    return attenuation(f, np.linspace(-reach, reach, CURVE_POINTS) * s, s)


def noise_gain(activation: str | dict[str, Any] | Activation, a: ArrayLike, s: ArrayLike) -> Array:
    """V(a, s) / s^2, the share of the noise's variance that a neuron lets through; f'(a)^2 at s = 0."""
    f = get_activation(activation)
    a, s = _broadcast(a, s)
    still = s < 1e-150  # whose square underflows
    with np.errstate(over="ignore", invalid="ignore"):
        return np.where(still, f.df(a) ** 2, f.V(a, s) / np.where(still, 1.0, s) ** 2)


def _broadcast(a: ArrayLike, s: ArrayLike) -> tuple[Array, Array]:
    try:
        a, s = np.broadcast_arrays(np.asarray(a, float), np.asarray(s, float))
    except (TypeError, ValueError) as error:
        raise InputError(f"a and s must be numbers that broadcast together; found {error}") from None
    return a, np.where(np.isinf(s), np.nan, s)


@np.errstate(over="ignore", under="ignore", invalid="ignore")
def _halves(f: Activation, a: Array, s: Array) -> tuple[Array, Array]:
    """(up, down), by Gauss-Legendre panels over xi = +-t: every term of a half has the same sign if f is monotone."""
    t, w = legendre_rule(NODES)
    halves = []
    for side in (1.0, -1.0):
        total = np.zeros(a.shape)
        for left, right in _panels(-side * a / np.where(s > 0, s, 1.0), s, f.strip):
            width = right - left
            for tk, wk in zip(t, w, strict=True):
                x = left + width * tk
                total = total + f.difference(a, side * s * x) * (wk * width * np.exp(-(x**2) / 2))
        halves.append(np.where(s > 0, total / sqrt(2 * pi), np.where(s == 0, 0.0, np.nan)))
    return halves[0], halves[1]


def _panels(kink: Array, s: Array, strip: float) -> Iterator[tuple[Array, Array]]:
    """Panels [left, right] of 0 < t < reach that end at `kink`, where what enters f passes 0, and grow from there and
    from 0: in units of the length over which f changes, and of that over which the normal density falls at the kink."""
    near = np.clip(np.nan_to_num(kink), 0.0, FURTHEST)
    reach = near + TAIL
    length = strip / np.where(s > 0, s, 1.0)
    steps = [0 * near, *(g * length for g in GRADES), *(g / np.maximum(near, 1.0) for g in GRADES)]
    graded = [np.clip(kink + sign * step, 0.0, reach) for step in steps for sign in (1, -1)]
    graded += [np.minimum(g * length, reach) for g in GRADES]
    fixed = [np.minimum(k, reach) for k in range(int(np.ceil(np.max(reach, initial=0.0))) + 1)]
    cuts = np.sort(np.stack(np.broadcast_arrays(*graded, *fixed)), axis=0)
    for left, right in pairwise(cuts):
        if np.any(right > left):
            yield left, right
