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
FEW = 2  #: terms that most components of a mixture need
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
    c: Array  #: (B, N, ORDER + 1), Hermite coefficients of f


class Rates(NamedTuple):
    """The law of f(x): deviation s of x, mean M, gain G, variance V (B, N each), covariance Q (B, N, N); Hermite
    coefficients c (B, N, ORDER + 1)."""

    s: Array
    M: Array
    G: Array
    V: Array
    Q: Array
    c: Array


def rates(activation: Activation, a: Array, S: Array, variance: Array, cut: float = CUT) -> Rates:
    """The law of f(x), x ~ N(a, S + diag variance), for a (B, N) and S (B, N, N), which is overwritten; Q is of its
    precision."""
    diagonal = np.arange(a.shape[-1])
    s = np.sqrt(np.maximum(S[..., diagonal, diagonal], 0.0) + variance)
    c, G, V = activation.expansion(a, s, ORDER)
    inverse = np.where(s > 0, 1 / np.where(s > 0, s, 1.0), 0.0).astype(S.dtype)
    S *= inverse[..., :, None]
    S *= inverse[..., None, :]
    S[..., diagonal, diagonal] = 0.0
    np.clip(S, -1.0, 1.0, out=S)
    Q = _covariance(c, S, _enough(c, V, S, cut))
    Q[..., diagonal, diagonal] = V
    return Rates(s, c[..., 0], G, V, Q, c)


class Step:
    """The map from (m, C) to (m', C') of `net` at the noise `sigma` (N,).

    C is carried in the precision `dtype`, and Mehler's sum ends where it leaves out less than `cut`.
    """

    def __init__(self, net: Network, sigma: Array, dtype: type[np.floating] = np.float64, cut: float = CUT) -> None:
        self.net, self.sigma, self.dtype, self.cut = net, sigma, dtype, cut
        self.rate = net.form == "rate"
        self.g = np.broadcast_to(np.asarray(net.gamma, float), (net.N,))
        self.inside = sigma**2 if self.rate and net.placement == "in" else np.zeros(net.N)
        self.outside = np.zeros(net.N) if self.rate and net.placement == "in" else self.g**2 * sigma**2
        self.keep = np.outer(1 - self.g, 1 - self.g).astype(dtype)
        self.cross = np.outer(1 - self.g, self.g).astype(dtype)
        self.take = np.outer(self.g, self.g).astype(dtype)
        self.W, self.W_out = net.W.astype(dtype), net.readout_weights.astype(dtype)
        self.diagonal = np.arange(net.N)

    def inputs(self, law: Law, drive: Array) -> Inputs:
        """What enters f at the state `law` and the drive W_in u + b (B, N)."""
        if self.rate:
            a, CO = law.m @ self.net.W.T + drive, law.C @ self.W.T
            S = self.W @ CO
        else:
            a, CO, S = law.m, law.C, law.C.copy()
        f = rates(self.net.activation, a, S, self.inside, self.cut)
        return Inputs(a, f.s, f.M, f.G, f.V, CO * f.G.astype(self.dtype)[..., None, :], f.Q, f.c)

    def start(self, h0: Array) -> Law:
        """Of trials that start from h0 (B, N)."""
        return Law(h0, np.zeros((*h0.shape, self.net.N), self.dtype))

    def law(self, law: Law, drive: Array, x: Inputs) -> Law:
        """The law one step later."""
        g, W = self.g, self.W
        if self.rate:
            m, X, Q = (1 - g) * law.m + g * x.M, x.X, x.Q
        else:
            m, X, Q = (1 - g) * law.m + g * (x.M @ self.net.W.T + drive), x.X @ W.T, W @ x.Q @ W.T
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
        return net.readout(mean), np.einsum("...oj,oj->...o", self.W_out @ cov, self.W_out)


def _covariance(c: Array, rho: Array, terms: NDArray[np.intp]) -> Array:
    """Mehler's sum of each trial to as many `terms` (B,); those that need few are not kept waiting by the others."""
    few = terms <= FEW
    if few.all() or not few.any():
        return mehler_sum(c[..., : terms.max() + 1].astype(rho.dtype), rho)
    Q = np.empty_like(rho)
    for part in (few, ~few):
        Q[part] = mehler_sum(c[part, :, : terms[part].max() + 1].astype(rho.dtype), rho[part])
    return Q


def _enough(c: Array, V: Array, rho: Array, cut: float) -> NDArray[np.intp]:
    """(B,), terms after which Mehler's sum leaves out less than `cut` of the largest variance of the trial.

    What it leaves out of Q_ij is at most |rho_ij|^{K+1} sqrt(T_i T_j), T_i the variance beyond K; |rho_ij| is at most
    the largest correlation of either neuron, so the largest T_i max_j |rho_ij|^{K+1} is a bound.
    """
    top = np.maximum(rho.max(axis=-1, initial=0.0), -rho.min(axis=-1, initial=0.0))
    left, power = V.copy(), top.copy()
    enough, terms = cut * V.max(axis=-1, initial=0.0), np.full(len(V), ORDER)
    for K in range(1, ORDER):
        left -= c[..., K] ** 2
        power *= top
        found = np.max(left * power, axis=-1, initial=0.0) <= enough
        terms[found] = np.minimum(terms[found], K)
        if found.all():
            break
    return terms
