"""A network without loops, such as a feedforward one, has exactly one fixed point.

Where no chain of weights leads from a neuron back to itself, the neurons can be taken in an order in which each sees
only those before it: h = F(h) then gives one state after the other, whatever f is and however large the weights.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.proof._result import Proof
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

NO_LOOPS = "no loops"  #: the method's name


def only_point(net: System, u: Array) -> Proof | None:
    """The fixed point of a network without loops; None for any other system, or if it is too large to be computed."""
    if not isinstance(net, Network):
        return None
    depth = _depth(net.W)
    if depth is None:
        return None
    h = np.zeros((1, net.N))
    with np.errstate(over="ignore", invalid="ignore"):
        for _ in range(depth):
            h = net.target(h, u)
    if not np.isfinite(h).all():
        return None
    everywhere = np.array([[-np.inf], [np.inf]]) * np.ones(net.N)
    return Proof(NO_LOOPS, h, True, everywhere, 1.0, 0, "", np.zeros((0, net.N)))


def _depth(W: Array) -> int | None:
    """How many neurons the longest chain of weights passes through; None if there is a loop."""
    follows, left = W != 0, np.ones(len(W), bool)
    for depth in range(len(W) + 1):
        if not left.any():
            return depth
        first = left & ~(follows & left).any(axis=1)
        if not first.any():
            return None
        left &= ~first
    return None
