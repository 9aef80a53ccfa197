"""The exact low-dimensional chain of a low-rank network, and the whole state given it.

With W = A R^T, R (N, k), one gamma, and the rate form, the input x = A y + W_in u + b of the neurons depends on the
state only through y = R^T h, and y is a Markov chain by itself, whose step has the cumulants (sums over neurons)

    mean   (1 - gamma) y + gamma sum_i R_i M_i,         third   gamma^3 sum_i R_i R_i R_i K3_i
    cov    gamma^2 sum_i R_i R_i^T V_i,                 fourth  gamma^4 sum_i R_i R_i R_i R_i K4_i

with M, V, K3 and K4 the cumulants of f(x_i + sigma xi) [in]; f(x_i), sigma^2, 0, 0 [out], where the step is Gaussian.
 Given the stationary law p of y, with e = f(x + sigma xi) [in] or f(x) + sigma xi [out],

    E h = E M(x(y)),       E[h G(y)^T] = E[e H(y')^T],     H = gamma (1 - (1 - gamma) K)^-1 G,   (K H)(y) = E[H(y') | y]

because h_t = gamma sum_s (1 - gamma)^s e_{t-1-s}; in E[e H(y')] the two are correlated through their common noise,
taken as jointly Gaussian. With G = M(x) that gives the covariance of h, with G the indicator of a basin the mean there.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis import gaussian
from fpanalysis._grouped import groups
from fpanalysis.activations import Activation
from fpanalysis.network import Network
from fpanalysis.stationary._grid_chain import GridChain, Step
from fpanalysis.stationary._result import Problem

Array = NDArray[np.float64]

RANK = 1e-10  #: singular values below this part of the largest count as zero
NODES = 3000  #: of the tables of the cumulants over the range of x
NEAR = 1e-4  #: distance to a fixed point, relative to the box, at which the noise-free chain has arrived
SETTLE = 1000  #: times 20 steps: how long it is followed
CHUNK = 4_000_000  #: values of f held at once


def row_space(net: Network) -> Array:
    """Orthonormal basis (N, k) of what W reads from the state."""
    _, values, right = net.svd
    return right[values > RANK * values[0]].T if values[0] > 0 else np.zeros((net.N, 0))


def applies(net: Network, L: Array | None = None) -> bool:
    """Whether one or two coordinates, or those given by `L` (N, k), are a chain by themselves."""
    if net.form != "rate" or np.ptp(net.gamma) > 0:
        return False
    R = row_space(net)
    if L is None:
        return 1 <= R.shape[1] <= 2
    missed = R - L @ np.linalg.lstsq(L, R, rcond=None)[0]
    return bool(np.abs(missed).max(initial=0.0) < 1e-8)


class LowRank:
    """The chain of y = R^T h for a basis `R` (N, k) of the row space of W."""

    def __init__(self, problem: Problem, R: Array) -> None:
        self.net, self.R = problem.network, R
        self.gamma = float(np.mean(self.net.gamma))
        self.sigma = np.broadcast_to(problem.sigma, (self.net.N,)).astype(float)
        self.A = self.net.W @ np.linalg.pinv(R).T
        self.drive = self.net.drive(problem.u)
        self._groups = groups(self.net.activation, self.net.N)
        self._table: tuple[float, float, list[Any]] | None = None

    def change(self, T: Array) -> None:
        """Coordinates T^T y in place of y."""
        self.R, self.A = self.R @ T, self.A @ np.linalg.inv(T).T

    def inputs(self, y: Array) -> Array:
        """x (n, N)."""
        return y @ self.A.T + self.drive

    def cumulants(self, y: Array) -> Array:
        """M, V, K3 and K4 of the neurons at y (n, k): (4, n, N)."""
        x = self.inputs(y)
        if self.net.placement == "out":
            zero = np.zeros_like(x)
            return np.stack([self.net.activation.f(x), np.broadcast_to(self.sigma**2, x.shape), zero, zero])
        if np.ptp(self.sigma) == 0 and all(f.alike for f, _ in self._groups):
            return self._look_up(x)
        return neuron_cumulants(self.net.activation, x, self.sigma)

    def _look_up(self, x: Array) -> Array:
        from scipy.interpolate import CubicSpline

        low, high = float(x.min()), float(x.max())
        if self._table is None or low < self._table[0] or high > self._table[1]:
            margin = 0.5 * (high - low) + self.sigma[0]
            grid = np.linspace(low - margin, high + margin, NODES)
            tables = [neuron_cumulants(f, grid[:, None], self.sigma[:1])[..., 0] for f, _ in self._groups]
            self._table = (grid[0], grid[-1], [CubicSpline(grid, table, axis=1) for table in tables])
        cumulants = np.empty((4, *x.shape))
        for (_, own), spline in zip(self._groups, self._table[2], strict=True):
            cumulants[..., own] = spline(x[..., own])
        return cumulants

    def noise_free(self, y: Array) -> Array:
        """y after one step without noise."""
        return (1 - self.gamma) * y + self.gamma * self.net.activation.f(self.inputs(y)) @ self.R

    def follow(self, y: Array, points: Array) -> NDArray[np.intp]:
        """Which of the fixed points (K, N) the noise-free chain reaches from `y` (n, k): (n,), -1 for none."""
        rests = points @ self.R
        if rests.shape[1] == 1 and self._ascends(min(y.min(), rests.min()), max(y.max(), rests.max())):
            order = rests[:, 0].argsort()
            return order[np.searchsorted(self._borders(rests[order, 0]), y[:, 0])]
        labels, left = np.full(len(y), -1), np.arange(len(y))
        near = NEAR * (np.abs(rests).max() + np.abs(y).max())
        for _ in range(SETTLE):
            for _ in range(20):
                y = self.noise_free(y)
            distance = np.abs(y[:, None] - rests).max(axis=2)
            home = distance.min(axis=1) < near
            labels[left[home]] = distance[home].argmin(axis=1)
            y, left = y[~home], left[~home]
            if not len(left):
                break
        return labels

    def _ascends(self, low: float, high: float) -> bool:
        """Whether the noise-free step of one coordinate is monotone, so that no trajectory leaps over a fixed point."""
        return bool((np.diff(self.noise_free(np.linspace(low, high, 1000)[:, None])[:, 0]) > 0).all())

    def _borders(self, rests: Array) -> Array:
        """The unstable fixed points (K - 1,) between stable ones, ascending (K,), by bisection."""
        low, high = rests[:-1, None], rests[1:, None]
        edge = 1e-6 * (high - low)
        low, high = low + edge, high - edge
        for _ in range(45):
            middle = (low + high) / 2
            back = self.noise_free(middle) < middle
            low, high = np.where(back, middle, low), np.where(back, high, middle)
        return ((low + high) / 2)[:, 0]

    def __call__(self, y: Array) -> Step:
        M, V, K3, K4 = self.cumulants(y)
        g, R = self.gamma, self.R
        pairs = np.einsum("ia,ib->iab", R, R)
        triples = np.einsum("iab,ic->iabc", pairs, R)
        quadruples = np.einsum("iab,icd->iabcd", pairs, pairs)
        return Step(
            (1 - g) * y + g * M @ R,
            g**2 * np.tensordot(V, pairs, 1),
            g**3 * np.tensordot(K3, triples, 1),
            g**4 * np.tensordot(K4, quadruples, 1),
        )


def neuron_cumulants(f: Activation, x: Array, sigma: Array) -> Array:
    """The first four cumulants of f(x + sigma xi), (4, ...), for inputs x (..., N)."""
    moments = f.moments(x, np.broadcast_to(sigma, x.shape))
    strip = f.strip if f.smooth else 0.1
    xi, w = gaussian.trapezoid_rule(float(sigma.max()), strip)
    flat, mean = x.reshape(-1, x.shape[-1]), moments.M.reshape(-1, x.shape[-1])
    K = np.empty((2, *flat.shape))
    size = max(1, CHUNK // (len(xi) * flat.shape[1]))
    for start in range(0, len(flat), size):
        part = slice(start, start + size)
        values = f.f(flat[part] + xi[:, None, None] * sigma) - mean[part]
        K[:, part] = np.tensordot(w, values**3, 1), np.tensordot(w, values**4, 1)
    K3, K4 = K.reshape(2, *x.shape)
    return np.stack([moments.M, moments.V, K3, K4 - 3 * moments.V**2])


class LowRankState:
    """Moments of the whole state h, given the solved chain of y.

    G (n, c): functions of y that span, to `TOLERANCE`, the means M(x(y)) with 1, y and `more` (n, c').
    """

    TOLERANCE = 1e-5

    def __init__(self, low_rank: LowRank, chain: GridChain, more: Array) -> None:
        self.low_rank, self.chain = low_rank, chain
        self.M, self.V, _, _ = low_rank.cumulants(chain.nodes.reshape(len(chain.p), -1))
        self.mean = chain.p @ self.M
        self.G = self._basis(more)

    def _basis(self, more: Array) -> Array:
        p, y = self.chain.p, self.chain.nodes.reshape(len(self.chain.p), -1)
        weighted = np.sqrt(p)[:, None] * (self.M - self.mean)
        values, V = np.linalg.eigh(weighted.T @ weighted)
        keep = values > self.TOLERANCE**2 * max(values.max(), 0.0)
        modes = (self.M - self.mean) @ V[:, keep][:, -12:]
        return np.hstack([np.ones((len(p), 1)), y - p @ y, modes, more])

    @cached_property
    def products(self) -> Array:
        """E[h G^T], (N, c)."""
        low, chain = self.low_rank, self.chain
        H = low.gamma * _resolvent(chain, 1 - low.gamma, self.G)
        n = len(chain.p)
        y = chain.nodes.reshape(n, -1)
        KH = chain.apply(H)
        k = y.shape[1]
        spread = chain.apply((y[:, :, None] * H[:, None, :]).reshape(n, -1)).reshape(n, k, -1)
        spread -= chain.step.mean[:, :, None] * KH[:, None, :]  # E[(y' - mu) H(y') | y]
        slope = np.linalg.solve(chain.step.cov, spread)
        direct = self.M.T @ (chain.p[:, None] * KH)
        shared = np.einsum("ni,ia,nac->ic", chain.p[:, None] * self.V, low.R, slope, optimize=True)
        return direct + low.gamma * shared

    @cached_property
    def cov(self) -> Array:
        """C = (1-g)^2 C + g (1-g) (X + X^T) + g^2 Q with X = Cov(h, M(x(y))), Q = Cov(e)."""
        g, p = self.low_rank.gamma, self.chain.p
        d = self.M - self.mean
        Q = (p[:, None] * d).T @ d + np.diag(p @ self.V)
        X = (self.products - np.outer(self.mean, p @ self.G)) @ self._coefficients(d)
        C = (g * (1 - g) * (X + X.T) + g**2 * Q) / (g * (2 - g))
        return (C + C.T) / 2

    def _coefficients(self, d: Array) -> Any:
        """B (c, N) with d = G B, by least squares under p."""
        root = np.sqrt(self.chain.p)[:, None]
        return np.linalg.lstsq(root * self.G, root * d, rcond=1e-9)[0]

    @cached_property
    def given(self) -> Any:
        """eta (n, N), the best approximation of E[h | y] by combinations of G."""
        gram = (self.chain.p[:, None] * self.G).T @ self.G
        return self.G @ np.linalg.lstsq(gram, self.products.T, rcond=1e-9)[0]


def _resolvent(chain: GridChain, c: float, G: Array) -> Array:
    """x = (1 - c K)^-1 G: Chebyshev's iteration for a spectrum within c of 1 and near the real axis, as that of a slow
    chain is; where that fails, x <- G + c K x, which always converges."""
    x, r, d, alpha = np.zeros_like(G), G, G, 1.0
    size = np.abs(G).max(axis=0) + 1e-300
    tolerance = 1e-6 * (1 - c)
    for step in range(200):
        x = x + d
        r = G - x + c * chain.apply(x)
        miss = float((np.abs(r).max(axis=0) / size).max())
        if miss < tolerance:
            return x
        if miss > 100:
            break
        beta = (c * alpha) ** 2 / (2 if step == 0 else 4)
        alpha = 1 / (1 - beta / alpha)
        d = alpha * r + beta * d
    x = G
    for _ in range(int(np.log(tolerance) / np.log(c)) + 1):
        x = G + c * chain.apply(x)
    return x
