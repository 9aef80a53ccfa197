"""The slow direction of a trial, and how far from a Gaussian the law along it must be.

With the Jacobian J_t of the smoothed step (1 - g + g D_t W in the rate form, 1 - g + g W D_t in the current form,
D = diag G) and unit vectors l_t found backward from the end,

    n_t l_t = J_t^T l_{t+1},    y_t = l_t . (h_t - m_t)

is what of a disturbance at t is still seen later. x_t = C_t l_t and tau_t^2 = l_t . x_t follow without C_t:

    x_{t+1} = n_t J_t x_t + Gamma_t l_{t+1},    Gamma = what one step adds to C (noise, and what f makes of C beyond D)

One standard deviation of y moves the input of f by o_t = O x_t / tau_t (O = W in the rate form, 1 in the current form).
With u the weight of f in y_{t+1} and M_k = d^k M / da^k, skewness and excess kurtosis of y are, to first order,

    skew_{t+1} = r^3 skew_t + 3 r^2 (u . M_2 o^2) / tau_{t+1}
    kurt_{t+1} = r^4 kurt_t + 4 r^3 (u . M_3 o^3) / tau_{t+1}

with r = n_t tau_t / tau_{t+1}. Where they are not small, one Gaussian does not describe the trial.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network

Array = NDArray[np.float64]

SKEW, KURT = 1.2, 0.38  #: sizes above which a trial needs a mixture


class Path(NamedTuple):
    """What entered f at each step of trials under the Gaussian closure: (T, ..., N) each, see `_step.Inputs`."""

    s: Array
    G: Array
    V: Array
    c2: Array
    c3: Array


class Slow(NamedTuple):
    """The slow direction of trials before each of T steps and after the last."""

    l: Array  #: (T + 1, ..., N), unit vectors
    log_n: Array  #: (T + 1, ...), log of n_t n_{t+1} ... n_{T-1}
    x: Array  #: (T + 1, ..., N), C_t l_t
    o: Array  #: (T + 1, ..., N), what one standard deviation of y moves the inputs of f by
    tau: Array  #: (T + 1, ...), standard deviation of y

    def of_trial(self, b: int) -> Slow:
        return Slow(*(part[:, b] for part in self))


def slow_direction(net: Network, path: Path, sigma: Array) -> Slow:
    """l_t, x_t and tau_t of every trial at the noise `sigma` (N,)."""
    T = len(path.G)
    start = np.ones(path.G.shape[1:])
    for _ in range(2):  # the first sweep only finds where to start
        l, log_n = _backward(net, path.G, start)
        sign = np.sign(np.einsum("t...n,...n->t...", l[:T], l[0]))
        start = np.einsum("t...n,t...->...n", l[:T], sign)
    x, n = np.zeros(l.shape), np.exp(log_n[:-1] - log_n[1:])
    for t in range(T):
        x[t + 1] = n[t][..., None] * _times_J(net, path.G[t], x[t]) + _added(net, path, t, sigma, l[t + 1])
    tau = np.sqrt(np.maximum(np.einsum("t...n,t...n->t...", x, l), 0.0))
    o = x / np.maximum(tau, 1e-300)[..., None]
    return Slow(l, log_n, x, o @ net.W.T if net.form == "rate" else o, tau)


def _backward(net: Network, G: Array, start: Array) -> tuple[Array, Array]:
    T, g = len(G), net.gamma
    l, log_n = np.empty((T + 1, *start.shape)), np.zeros((T + 1, *start.shape[:-1]))
    l[T] = start / _norm(start)[..., None]
    for t in range(T - 1, -1, -1):
        later = g * l[t + 1]
        back = (G[t] * later) @ net.W if net.form == "rate" else G[t] * (later @ net.W)
        back += l[t + 1] - later
        size = _norm(back)
        l[t], log_n[t] = back / size[..., None], log_n[t + 1] + np.log(size)
    return l, log_n


def _norm(x: Array) -> Array:
    size: Array = np.maximum(np.sqrt(np.einsum("...n,...n->...", x, x)), 1e-300)
    return size


def _times_J(net: Network, G: Array, x: Array) -> Array:
    return x + net.gamma * ((G * (x @ net.W.T) if net.form == "rate" else (G * x) @ net.W.T) - x)


def _added(net: Network, path: Path, t: int, sigma: Array, l: Array) -> Array:
    """Gamma_t l, with the covariances that f makes beyond D left out but for its own neuron's."""
    rate, inside = net.form == "rate", net.form == "rate" and net.placement == "in"
    recurrent = path.s[t] ** 2 - (sigma**2 if inside else 0.0)
    made = np.maximum(path.V[t] - path.G[t] ** 2 * recurrent, 0.0)
    gl = net.gamma * l
    out = made * gl if rate else (made * (gl @ net.W)) @ net.W.T
    return net.gamma * (out if inside else out + sigma**2 * gl)


def departure(net: Network, path: Path, slow: Slow) -> tuple[Array, Array]:
    """Skewness and excess kurtosis of y_t to first order, (T + 1, ...) each; zero where y is still."""
    still = path.s <= 0
    inverse = np.where(still, 0.0, 1 / np.where(still, 1.0, path.s))
    o, tau = slow.o[:-1] * inverse, slow.tau
    u = net.gamma * slow.l[1:] @ (np.eye(net.N) if net.form == "rate" else net.W)
    bent = np.einsum("t...n,t...n->t...", u, np.sqrt(2) * path.c2 * o**2)
    swung = np.einsum("t...n,t...n->t...", u, np.sqrt(6) * path.c3 * o**3)
    moves = (tau[:-1] > 0) & (tau[1:] > 0)
    inverse = np.where(moves, 1 / np.where(moves, tau[1:], 1.0), 0.0)
    r = np.exp(slow.log_n[:-1] - slow.log_n[1:]) * tau[:-1] * inverse
    skew, kurt = np.zeros((2, *tau.shape))
    for t in range(len(r)):
        skew[t + 1] = r[t] ** 3 * skew[t] + 3 * r[t] ** 2 * bent[t] * inverse[t]
        kurt[t + 1] = r[t] ** 4 * kurt[t] + 4 * r[t] ** 3 * swung[t] * inverse[t]
    return skew, kurt
