"""An independent oracle: the exact stationary law of one neuron's discrete chain.

The backward operator (K g)(h) = E g(h') is collocated at Chebyshev nodes; its left null vector gives the
stationary expectations of polynomials. Expectations over xi are Gauss-Legendre sums, split at the kink.
"""

from itertools import pairwise

import numpy as np


def exact_moments(net, n=60):
    """Mean and variance of the one-neuron network `net`, and how much the mean changes from n to n + 12 nodes."""
    m, _ = _moments(net, n)
    finer, v = _moments(net, n + 12)
    return finer, v, abs(finer - m)


def _moments(net, n):
    low, high = _domain(net)
    k = np.arange(n)
    x = np.cos(np.pi * (k + 0.5) / n)
    h = (low + high) / 2 + (high - low) / 2 * x
    rows = np.empty((n, n))
    for i in range(n):
        after, weight = _step(net, h[i])
        scaled = np.clip((after - (low + high) / 2) / ((high - low) / 2), -1, 1)
        rows[i] = weight @ np.polynomial.chebyshev.chebvander(scaled, n - 1)
    K = rows @ np.linalg.inv(np.polynomial.chebyshev.chebvander(x, n - 1))
    values, vectors = np.linalg.eig(K.T)
    p = np.real(vectors[:, np.argmin(np.abs(values - 1))])
    p /= p.sum()
    mean = p @ h
    return mean, p @ (h - mean) ** 2


def _domain(net):
    """Where a long run of the chain goes, with a margin."""
    rng = np.random.default_rng(0)
    h = np.zeros((1000, 1))
    low, high = np.inf, -np.inf
    for t in range(600):
        h = net.step(h, xi=rng.standard_normal(h.shape))
        if t > 200:
            low, high = min(low, h.min()), max(high, h.max())
    margin = 0.35 * (high - low)
    low = low - margin
    if net.placement == "in" and net.activation.name in ("relu", "softplus"):
        low = max(low, 0.0)
    return low, high + margin


def _step(net, h):
    """States after one step from `h`, and their weights."""
    t, w = np.polynomial.legendre.leggauss(60)
    a, sigma, reach = net.W[0, 0] * h + net.b[0], net.sigma, 9.0
    kink = -a / sigma if net.placement == "in" else 0.0
    cuts = [-reach, kink, reach] if -reach < kink < reach else [-reach, reach]
    pairs = list(pairwise(cuts))
    xi = np.concatenate([(p + q) / 2 + (q - p) / 2 * t for p, q in pairs])
    weight = np.concatenate([(q - p) / 2 * w for p, q in pairs]) * np.exp(-(xi**2) / 2)
    return net.step(np.full((len(xi), 1), h), xi=xi[:, None])[:, 0], weight / weight.sum()
