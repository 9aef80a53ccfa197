"""Whether a fixed point sits on a kink of the activation, where the Jacobian has several sides."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

KINK = 1e-12  #: a pre-activation closer to a kink than this, relative to 1 + max|x|, sits on it


def on_a_kink(net: System, h: Array, u: Array) -> NDArray[np.bool_]:
    """(K,), whether f has no derivative at some neuron's pre-activation, for each state of `h` (K, N)."""
    if not isinstance(net, Network) or net.activation.smooth:
        return np.zeros(len(h), bool)
    x = net.preactivation(h, u)
    near = KINK * (1 + np.abs(x).max(axis=1, keepdims=True, initial=0.0))
    return np.asarray((net.activation.df(x - near) != net.activation.df(x + near)).any(axis=1))
