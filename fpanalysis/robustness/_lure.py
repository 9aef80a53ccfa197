"""The form that networks have here, a linear part and one nonlinearity:

F(h, u) = M h + G u + B f(y) + const,      y = C h + E u + const,      D = diag f'(y)
dF/dh = M + B D C,      dF/du = G + B D E

rate form: M = 0, G = 0, B = I, C = W, E = W_in      current form: M = 0, G = W_in, B = W, C = I, E = 0
Lipschitz RNN: M = I + A, the rest as the rate form
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]


class Lure(NamedTuple):
    """See the module's docstring; None stands for a matrix of zeros (M, G, E) or the identity (B, C)."""

    f: Activation
    gamma: Array  #: (N,)
    M: Array | None
    G: Array | None
    B: Array | None
    C: Array | None
    E: Array | None
    reads_rates: bool  #: whether f(h) is read out instead of h

    def slope(self, net: System, h: Array, u: Array) -> Array:
        """f'(y), (..., N)."""
        return self.f.df(self.y(net, h, u))

    def y(self, net: System, h: Array, u: Array) -> Array:
        assert isinstance(net, Network | LipschitzRNN)
        return net.preactivation(h, u)

    def slopes(self) -> tuple[Array, Array] | None:
        """Lowest and highest f' of each neuron over all y, (N,) each; None where they are not known or not bounded."""
        if self.f.slope_peak is None:
            return None
        ranges = self.f.ranges(*np.full((2, len(self.gamma)), [[-inf], [inf]]))
        known = np.isfinite(ranges.df_lo).all() and np.isfinite(ranges.df_hi).all()
        return (ranges.df_lo, ranges.df_hi) if known else None

    def pulled(self, slope: Array, a: Array) -> tuple[Array, Array]:
        """a' J and a' dh'/du of one step for adjoints `a` (..., N) and slopes that broadcast: (..., N), (..., n_in)."""
        b = self.gamma * a
        through = (b if self.B is None else b @ self.B) * slope
        back = (1 - self.gamma) * a + (through if self.C is None else through @ self.C)
        if self.M is not None:
            back = back + b @ self.M
        taken = 0.0 if self.E is None else through @ self.E
        return back, np.asarray(taken if self.G is None else taken + b @ self.G)


def lure_form(net: System) -> Lure | None:
    """None for a system of another form, such as an imported cell."""
    if not isinstance(net, Network | LipschitzRNN):
        return None
    W_in = np.zeros((net.N, 0)) if net.W_in is None else net.W_in
    gamma = np.broadcast_to(np.asarray(net.gamma, float), (net.N,))
    if isinstance(net, LipschitzRNN):
        return Lure(net.activation, gamma, np.eye(net.N) + net.A, None, None, net.W, W_in, False)
    if net.form == "rate":
        return Lure(net.activation, gamma, None, None, None, net.W, W_in, False)
    return Lure(net.activation, gamma, None, W_in, net.W, None, None, True)
