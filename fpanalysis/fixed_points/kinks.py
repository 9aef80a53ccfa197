"""Which neurons sit on a kink of the activation, where the Jacobian has several sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

KINK = 1e-12  #: a pre-activation closer to a kink than this, relative to the terms it is the sum of, sits on it

JUMP = 1e-8  #: a change of f' over that distance that is smaller than this, relative, is one of a smooth f


def kinked(net: System, h: Array, u: Array) -> NDArray[np.bool_]:
    """(K, N), where f has no derivative at the pre-activation of a neuron in the states `h` (K, N)."""
    if not isinstance(net, Network | LipschitzRNN) or net.activation.smooth:
        return np.zeros(h.shape, bool)
    left, right = slopes(net, h, u)
    return np.asarray(left != right)


def slopes(net: Network | LipschitzRNN, h: Array, u: Array) -> tuple[Array, Array]:
    """f' on the left and on the right of the pre-activations in the states `h` (K, N), each (K, N).

    A neuron sits on a kink within `KINK` times the largest |W| |h| + |W_in u + b|, so that it does not depend on the
    unit of the drive; without a drive there is no unit, and h is measured against 1.
    """
    x, drive = net.preactivation(h, u), np.abs(net.drive(u))
    rates = net.activation.f(h) if net.form == "current" else h
    terms = (np.abs(rates) @ np.abs(net.W).T + drive).max(axis=1, keepdims=True) + (not drive.any())
    near = KINK * terms + np.finfo(float).tiny
    left, right = net.activation.df(x - near), net.activation.df(x + near)
    return left, np.where(np.abs(right - left) > JUMP * (1 + np.abs(left)), right, left)
