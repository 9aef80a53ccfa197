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
STRIDE = 4  #: steps between evaluations of M_2 and M_3


class Path(NamedTuple):
    """What entered f at each step of one trial under the Gaussian closure: (T, N) each, see `_step.Inputs`."""

    a: Array
    s: Array
    G: Array
    V: Array


class Slow(NamedTuple):
    """The slow direction before each of T steps and after the last."""

    l: Array  #: (T + 1, N), unit vectors
    log_n: Array  #: (T + 1,), log of n_t n_{t+1} ... n_{T-1}
    x: Array  #: (T + 1, N), C_t l_t
    o: Array  #: (T + 1, N), what one standard deviation of y moves the inputs of f by
    tau: Array  #: (T + 1,), standard deviation of y


def slow_direction(net: Network, path: Path, sigma: Array) -> Slow:
    """l_t, x_t and tau_t of one trial at the noise `sigma` (N,)."""
    T = len(path.G)
    start = np.ones(net.N)
    for _ in range(2):  # the first sweep only finds where to start
        l, log_n = _backward(net, path.G, start)
        start = (l[:T] * np.sign(l[:T] @ l[0])[:, None]).mean(axis=0)
    x = np.zeros((T + 1, net.N))
    for t in range(T):
        n = np.exp(log_n[t] - log_n[t + 1])
        x[t + 1] = n * _times_J(net, path.G[t], x[t]) + _added(net, path, t, sigma, l[t + 1])
    tau = np.sqrt(np.maximum(np.einsum("tn,tn->t", x, l), 0.0))
    o = x / np.maximum(tau, 1e-300)[:, None]
    return Slow(l, log_n, x, o @ net.W.T if net.form == "rate" else o, tau)


def _backward(net: Network, G: Array, start: Array) -> tuple[Array, Array]:
    T, g = len(G), np.broadcast_to(net.gamma, (net.N,))
    l, log_n = np.empty((T + 1, net.N)), np.zeros(T + 1)
    l[T] = start / max(float(np.linalg.norm(start)), 1e-300)
    for t in range(T - 1, -1, -1):
        later = g * l[t + 1]
        back = (G[t] * later) @ net.W if net.form == "rate" else G[t] * (later @ net.W)
        back = l[t + 1] - later + back
        size = max(float(np.linalg.norm(back)), 1e-300)
        l[t], log_n[t] = back / size, log_n[t + 1] + np.log(size)
    return l, log_n


def _times_J(net: Network, G: Array, x: Array) -> Array:
    return x + net.gamma * ((G * (net.W @ x) if net.form == "rate" else net.W @ (G * x)) - x)


def _added(net: Network, path: Path, t: int, sigma: Array, l: Array) -> Array:
    """Gamma_t l, with the covariances that f makes beyond D left out but for its own neuron's."""
    rate, inside = net.form == "rate", net.form == "rate" and net.placement == "in"
    recurrent = path.s[t] ** 2 - (sigma**2 if inside else 0.0)
    made = np.maximum(path.V[t] - path.G[t] ** 2 * recurrent, 0.0)
    gl = net.gamma * l
    out = made * gl if rate else net.W @ (made * (gl @ net.W))
    return net.gamma * (out if inside else out + sigma**2 * gl)


def departure(net: Network, path: Path, slow: Slow) -> tuple[Array, Array]:
    """Skewness and excess kurtosis of y_t to first order, (T + 1,) each."""
    T = len(path.G)
    at = np.arange(0, T, STRIDE)
    c = net.activation.expansion(path.a[at], path.s[at], 3).c
    inverse = np.where(path.s[at] > 0, 1 / np.where(path.s[at] > 0, path.s[at], 1.0), 0.0)
    M2, M3 = np.sqrt(2) * c[..., 2] * inverse**2, np.sqrt(6) * c[..., 3] * inverse**3
    skew, kurt = np.zeros((2, T + 1))
    for t in range(T):
        if slow.tau[t] == 0.0 or slow.tau[t + 1] == 0.0:
            continue
        u = net.gamma * slow.l[t + 1]
        u = u if net.form == "rate" else u @ net.W
        r = np.exp(slow.log_n[t] - slow.log_n[t + 1]) * slow.tau[t] / slow.tau[t + 1]
        o, k = slow.o[t], t // STRIDE
        skew[t + 1] = r**3 * skew[t] + 3 * r**2 * (u @ (M2[k] * o**2)) / slow.tau[t + 1]
        kurt[t + 1] = r**4 * kurt[t] + 4 * r**3 * (u @ (M3[k] * o**3)) / slow.tau[t + 1]
    return skew, kurt


def needs_mixture(net: Network, path: Path, sigma: Array) -> bool:
    """Whether the law along the slow direction of the trial departs too far from a Gaussian for the closure."""
    skew, kurt = departure(net, path, slow_direction(net, path, sigma))
    return bool(np.abs(skew).max() > SKEW or np.abs(kurt).max() > KURT)
