"""Systems with known answers: stationary laws and fixed points by exact formulas, brute force or verified digits."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
from scipy.integrate import quad
from scipy.linalg import solve_discrete_lyapunov

from fpanalysis.network import Network


@dataclass(frozen=True)
class OneNeuron:
    """One neuron with the mean and variance of its exact chain; three independent methods agree to 1e-10."""

    activation: str
    placement: str
    w: float
    b: float
    sigma: float
    gamma: float
    h_star: float
    mean: float
    var: float

    @property
    def net(self) -> Network:
        return Network(W=[[self.w]], b=[self.b], gamma=self.gamma, activation=self.activation, placement=self.placement)


ONE_NEURON = (
    OneNeuron("relu", "in", -1.2, 0.7, 0.4, 0.15, 0.318181818181818, 0.344661788109754, 0.00471843661404),
    OneNeuron("softplus", "in", -2.0, 0.5, 0.8, 0.2, 0.485287837156564, 0.527024501380, 0.00713432486),
    OneNeuron("softplus", "out", -2.0, 0.5, 0.3, 0.2, 0.485287837156564, 0.486937550233, 0.00618548251522),
)

#: two bistable neurons: mean and covariance of the exact two-dimensional chain (collocation, verified digits)
TWO_NEURONS = Network(W=[[0.5, -1.4], [-1.4, 0.5]], b=[1.0, 0.9], gamma=0.5, activation="softplus", sigma=1.0)
TWO_NEURONS_MEAN = np.array([1.3168093597, 0.7086804105])
TWO_NEURONS_COV = np.array([[0.61271880, -0.36526557], [-0.36526557, 0.38763646]])


def random_network(N: int, *, gain: float = 0.8, seed: int = 0, **settings) -> Network:
    """Random weights of spectral radius about `gain`, random bias, two inputs and two outputs."""
    g = np.random.default_rng(seed)
    settings = {"gamma": 0.2, "W_in": g.normal(size=(N, 2)), "W_out": g.normal(size=(2, N)) / N} | settings
    return Network(W=gain * g.normal(size=(N, N)) / np.sqrt(N), b=0.3 * g.normal(size=N), **settings)


#: (form, placement) of all kinds of noise
FORMS = [("rate", "in"), ("rate", "out"), ("current", "in")]


def bare_network(N: int = 8, gain: float = 1.0, seed: int = 0, **settings) -> Network:
    """Random weights of spectral radius about `gain` and random bias; no inputs, every neuron is an output."""
    g = np.random.default_rng(seed)
    W, b = g.standard_normal((N, N)) * gain / np.sqrt(N), 0.3 * g.standard_normal(N)
    return Network(**{"W": W, "b": b, "activation": "tanh", "gamma": 0.2} | settings)


def log_gain(a: float, mu: float) -> float:
    """E log |1 + a (1 + mu xi)|, the exponent of h' = h + a (1 + mu xi) h."""
    zero = -(1 + 1 / a) / mu

    def integrand(xi):
        return np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi) * np.log(abs(1 + a * (1 + mu * xi)))

    parts = sorted({-12.0, float(np.clip(zero, -12, 12)), 12.0})
    return sum(quad(integrand, lo, hi, limit=200)[0] for lo, hi in pairwise(parts))


def linear_covariance(net: Network, sigma) -> np.ndarray:
    """Exact covariance of a linear network: C = J C J^T + diag(gamma sigma)^2."""
    noise = np.broadcast_to(np.asarray(net.gamma) * sigma, (net.N,))
    return solve_discrete_lyapunov(net.jacobian(np.zeros(net.N)), np.diag(noise**2))


def low_rank_network(N: int, rank: int, *, gain: float, seed: int = 0, overlap: float = 1.0, **settings) -> Network:
    """W = (gain / N) U V^T of Gaussian U and V, correlated by `overlap`; several fixed points where gain > 1."""
    g = np.random.default_rng(seed)
    V = g.standard_normal((N, rank))
    U = overlap * V + np.sqrt(1 - overlap**2) * g.standard_normal((N, rank))
    settings = {"b": 0.1 * g.standard_normal(N), "activation": "tanh"} | settings
    return Network(W=gain / N * U @ V.T, **settings)


def hopfield_patterns(count: int, N: int = 64) -> np.ndarray:
    """(count, N), orthogonal patterns of +-1 of which every combination occurs in N / 2^count neurons."""
    return np.array([[(-1) ** ((n >> mu) & 1) for n in range(N)] for mu in range(count)], float)


def hopfield_network(count: int, *, N: int = 64, gain: float = 2.0) -> Network:
    """W = gain / N sum_mu xi_mu xi_mu^T: kappa_mu = 1/N sum_i xi_mu,i tanh(gain sum_nu xi_nu,i kappa_nu)."""
    patterns = hopfield_patterns(count, N)
    return Network(W=gain / N * patterns.T @ patterns, activation="tanh")


def winner_take_all(N: int = 6, *, excitation: float = 0.9, inhibition: float = 0.5, **settings) -> Network:
    """Softplus units that excite themselves and inhibit each other alike."""
    W = np.full((N, N), -inhibition)
    np.fill_diagonal(W, excitation)
    return Network(W=W, **({"b": np.ones(N), "activation": "softplus"} | settings))


def ring_network(N: int = 64, *, gain: float = 2.0) -> Network:
    """W = 2 gain / N cos(theta_i - theta_j): for large N a ring of fixed points, and the origin."""
    theta = 2 * np.pi * np.arange(N) / N
    return Network(W=2 * gain / N * np.cos(theta[:, None] - theta), activation="tanh")


def threshold_linear(edges: np.ndarray, *, eps: float = 0.25, delta: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """W and c = 1 of a combinatorial threshold-linear network (Curto, Geneson & Morrison, Neural Comput. 2019).

    ``edges`` (N, N) is boolean; W_ij = -1 + eps where j excites i less weakly, -1 - delta elsewhere, 0 on the diagonal.
    """
    W = np.where(edges, -1 + eps, -1 - delta)
    np.fill_diagonal(W, 0.0)
    return W, np.ones(len(W))


def digraph_network(N: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A threshold-linear network on a random directed graph, edge probability 1/2."""
    return threshold_linear(np.random.default_rng(seed).random((N, N)) < 0.5)


def clique_network(sizes, *, eps: float = 0.25, delta: float = 0.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W, c and all 2^m - 1 fixed points (K, N) of m disjoint cliques: one for every non-empty union of them.

    In a union with total rate T a neuron of a clique of n fires at
    h = (1 - (1 + delta) T) / (eps - (eps + delta) n), and T = sum n h.
    """
    n, of = np.asarray(sizes), np.repeat(np.arange(len(sizes)), sizes)
    W, c = threshold_linear(of[:, None] == of, eps=eps, delta=delta)
    per = 1 / (eps - (eps + delta) * n)
    points = []
    for union in product((0, 1), repeat=len(n)):
        if any(union):
            Q = np.sum(np.array(union) * n * per)
            points.append((np.array(union) * per / (1 + (1 + delta) * Q))[of])
    return W, c, np.array(points)


def gaussian_relu(N: int, gain: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """W and c: dense Gaussian weights of spectral radius about `gain`, Gaussian drive."""
    g = np.random.default_rng(seed)
    return gain * g.standard_normal((N, N)) / np.sqrt(N), g.standard_normal(N)


def relu_fixed_points(W: np.ndarray, c: np.ndarray, tolerance: float = 0.0) -> np.ndarray:
    """(K, N), all h = relu(W h + c) by solving every one of the 2^N activation patterns (N <= 14).

    With a tolerance also those with a neuron on its kink, each once; patterns with a singular I - W_aa are left out.
    """
    N = len(c)
    points = np.empty((0, N))
    for block in np.array_split(np.arange(2**N), max(1, 2**N // 4096)):
        on = (block[:, None] >> np.arange(N) & 1).astype(bool)
        K = np.eye(N) - on[:, :, None] * W
        K, on = K[abs(np.linalg.det(K)) > 1e-9], on[abs(np.linalg.det(K)) > 1e-9]
        h = np.linalg.solve(K, (on * c)[..., None])[..., 0]
        y = h - h @ W.T - c
        for point in h[(np.where(on, h, y) >= -tolerance).all(1)]:
            if not tolerance or not (np.abs(points - point).max(1, initial=0) < 1e-8).any():
                points = np.vstack([points, point])
    return points
