"""One step of mean and covariance by the Gaussian closure, for many trials at once.

Rate form, with noise in [in] or out [out], g = diag gamma:

    a = W m + W_in u + b,    S = W C W^T + sigma^2 I [in],    s_i^2 = S_ii
    m' = (1-g) m + g M(a, s)
    C' = (1-g) C (1-g) + (1-g) X g + g X^T (1-g) + g Q g,     X = C W^T diag G
    Q_ij = sum_{k>=1} c_k^i c_k^j rho_ij^k (i != j),    Q_ii = V(a_i, s_i) + sigma^2 [out]

Current form, with a = m, S = C:  m' = (1-g) m + g (W M + W_in u + b),  X = C diag(G) W^T,  Q -> W Q W^T + sigma^2 I.
The stationary closure (`fpanalysis.stationary.closure`) is the fixed point of this map.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.gaussian import mehler_sum
from fpanalysis.network import Network

Array = NDArray[np.float64]

ORDER = 12  #: most terms of Mehler's sum
CUT = 1e-5  #: what it may leave out of Q, relative to the largest variance


class Law(NamedTuple):
    """Gaussian laws of the state of B trials: mean (B, N) and covariance (B, N, N)."""

    m: Array
    C: Array


class Inputs(NamedTuple):
    """What enters f at one step: mean a and deviation s (B, N), expansion of f there, Cov(h, f), Cov(f)."""

    a: Array
    s: Array
    M: Array
    G: Array
    V: Array
    X: Array  #: (B, N, N), Cov(h, f(x))
    Q: Array  #: (B, N, N), covariance of f(x), without noise outside


class Rates(NamedTuple):
    """The law of f(x): deviation s of x, mean M, gain G, variance V (B, N each), covariance Q (B, N, N)."""

    s: Array
    M: Array
    G: Array
    V: Array
    Q: Array


def rates(activation: Activation, a: Array, S: Array, variance: Array) -> Rates:
    """The law of f(x), x ~ N(a, S + diag variance), for a (B, N) and S (B, N, N), which is overwritten."""
    diagonal = np.arange(a.shape[-1])
    s = np.sqrt(np.maximum(S[..., diagonal, diagonal], 0.0) + variance)
    c, G, V = activation.expansion(a, s, ORDER)
    inverse = np.where(s > 0, 1 / np.where(s > 0, s, 1.0), 0.0)
    S *= inverse[..., :, None]
    S *= inverse[..., None, :]
    S[..., diagonal, diagonal] = 0.0
    np.clip(S, -1.0, 1.0, out=S)
    Q = mehler_sum(c[..., : _enough(c, V, S) + 1], S)
    Q[..., diagonal, diagonal] = V
    return Rates(s, c[..., 0], G, V, Q)


class Step:
    """The map from (m, C) to (m', C') of `net` at the noise `sigma` (N,)."""

    def __init__(self, net: Network, sigma: Array) -> None:
        self.net, self.sigma = net, sigma
        self.rate = net.form == "rate"
        self.g = np.broadcast_to(np.asarray(net.gamma, float), (net.N,))
        self.inside = sigma**2 if self.rate and net.placement == "in" else np.zeros(net.N)
        self.outside = np.zeros(net.N) if self.rate and net.placement == "in" else self.g**2 * sigma**2
        self.keep = np.outer(1 - self.g, 1 - self.g)
        self.cross = np.outer(1 - self.g, self.g)
        self.take = np.outer(self.g, self.g)
        self.diagonal = np.arange(net.N)

    def inputs(self, law: Law, drive: Array) -> Inputs:
        """What enters f at the state `law` and the drive W_in u + b (B, N)."""
        W = self.net.W
        if self.rate:
            a, CO = law.m @ W.T + drive, law.C @ W.T
            S = W @ CO
        else:
            a, CO, S = law.m, law.C, law.C.copy()
        f = rates(self.net.activation, a, S, self.inside)
        return Inputs(a, f.s, f.M, f.G, f.V, CO * f.G[..., None, :], f.Q)

    def law(self, law: Law, drive: Array, x: Inputs) -> Law:
        """The law one step later."""
        g, W = self.g, self.net.W
        if self.rate:
            m, X, Q = (1 - g) * law.m + g * x.M, x.X, x.Q
        else:
            m, X, Q = (1 - g) * law.m + g * (x.M @ W.T + drive), x.X @ W.T, W @ x.Q @ W.T
        cross = self.cross * X
        C = self.keep * law.C
        C += cross
        C += cross.swapaxes(-1, -2)
        C += self.take * Q
        C[..., self.diagonal, self.diagonal] += self.outside
        return Law(m, C)

    def output(self, law: Law) -> tuple[Array, Array]:
        """Mean and variance of z, (B, n_out) each."""
        net = self.net
        mean, cov = law.m, law.C
        if not self.rate:
            x = self.inputs(law, np.zeros_like(law.m))
            mean, cov = x.M, x.Q
        if net.W_out is None:
            return net.readout(mean), cov[..., self.diagonal, self.diagonal]
        return net.readout(mean), np.einsum("...oj,oj->...o", net.W_out @ cov, net.W_out)


def _enough(c: Array, V: Array, rho: Array) -> int:
    """Terms after which Mehler's sum leaves out less than CUT: max |rho|^{K+1} times the variance beyond K."""
    top = float(max(rho.max(initial=0.0), -rho.min(initial=0.0)))
    left = V[..., None] - np.cumsum(c[..., 1:] ** 2, axis=-1)
    worst = np.maximum(left, 0.0).reshape(-1, ORDER).max(axis=0, initial=0.0)  # beyond K = 1, 2, ...
    small = worst * top ** np.arange(2, ORDER + 2) <= CUT * float(V.max(initial=0.0))
    return int(small.argmax()) + 1 if small.any() else ORDER
