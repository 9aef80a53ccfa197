"""Runs of a batch without noise, and the gradient of its outputs in all of its inputs by one pass backward.

    h_{t+1} = h_t + gamma (F(h_t, u_t) - h_t),    z = output(h) after the step `last` of each trial
    a_{last+1} = W_out diag r'(h),    a_t = a_{t+1} J_t,    dz/du_t = a_{t+1} gamma dF/du_t

with one adjoint a (N,) for each output: no matrix of the size of state times inputs is ever made.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.robustness._lure import Lure, lure_form
from fpanalysis.system import System

Array = NDArray[np.float64]
Index = NDArray[np.intp]


class Trials(NamedTuple):
    """A system and trials of it: `inputs` (T, B, n_in), `h0` (B, N), the step that decides, `last` (B,)."""

    net: System
    inputs: Array
    h0: Array
    last: Index

    def of(self, which: Index) -> Trials:
        """Some of them."""
        return Trials(self.net, self.inputs[:, which], self.h0[which], self.last[which])

    def moved(self, inputs: Array) -> Trials:
        """The same under other inputs."""
        return self._replace(inputs=inputs)


def states(trials: Trials) -> Array:
    """(T + 1, B, N), of which the first are `h0`."""
    h = np.empty((len(trials.inputs) + 1, *trials.h0.shape))
    h[0] = trials.h0
    for t, u in enumerate(trials.inputs):
        h[t + 1] = trials.net.step(h[t], u)
    return h


def outputs(trials: Trials) -> Array:
    """z (B, n_out) of each trial when it is decided; `inputs` may have further axes, (T, ..., B, n_in)."""
    lead = trials.inputs.shape[1:-1]
    h = np.broadcast_to(trials.h0, (*lead, trials.net.N))
    kept = np.empty(h.shape)
    for t in range(int(trials.last.max()) + 1):
        h = trials.net.step(h, trials.inputs[t])
        kept[..., trials.last == t, :] = h[..., trials.last == t, :]
    return trials.net.output(kept)


def gradients(trials: Trials) -> tuple[Array, Array]:
    """z (B, n_out), and dz/du (B, n_out, T, n_in)."""
    net, lure = trials.net, lure_form(trials.net)
    h = states(trials)
    T, B, n_in = trials.inputs.shape
    end = h[trials.last + 1, np.arange(B)]
    first = net.readout_weights * net.rate_derivatives(end)[0][:, None, :]
    a = np.zeros((B, net.n_out, net.N))
    g = np.zeros((B, net.n_out, T, n_in))
    for t in range(int(trials.last.max()), -1, -1):
        starts = trials.last == t
        a[starts] = first[starts]
        a, g[:, :, t] = _back(net, lure, h[t], trials.inputs[t], a)
    return net.output(end), g


def _back(net: System, lure: Lure | None, h: Array, u: Array, a: Array) -> tuple[Array, Array]:
    """Adjoints (B, n_out, N) one step earlier, and what the input there is multiplied by, (B, n_out, n_in)."""
    if lure is not None:
        return lure.pulled(lure.slope(net, h, u)[:, None, :], a)
    return a @ net.jacobian(h, u), (net.gamma * a) @ net.input_jacobian(h, u)
