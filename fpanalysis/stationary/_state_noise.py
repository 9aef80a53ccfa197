"""Small noise on the state of any smooth system, h' = (1 - gamma) h + gamma (F(h) + sigma xi), about a stable h*.

With J the Jacobian of the step, A = dF/dh and C = sum_k lambda_k v_k v_k^T,

    C = J C J^T + Gamma diag(sigma^2) Gamma
    m - h* = (I - A)^{-1} B(C) + O(sigma^4),    B(C) = 1/2 sum_k lambda_k d^2 F(h*)[v_k, v_k]

where B(C) is what a scatter of covariance C adds to the mean of F. Nothing but values of F and A enters: second
derivatives along v_k are differences of fourth order.
"""

from __future__ import annotations

import numpy as np

from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Problem
from fpanalysis.system import System

STEP = 1e-3  #: of the differences along unit vectors: relative error 1e-8 for weights up to 10
DRAWS = 256  #: pairs of states at which F is compared with its expansion
SAFETY = 2.0  #: error over the estimated size of what was neglected


def small_state_noise(problem: Problem) -> tuple[Array, Array, Array]:
    """Mean (N,), covariance (N, N) and the error of the mean (N,); raises `Unstable` if J is."""
    net, h, u = problem.net, problem.start, problem.u
    noise = np.broadcast_to(np.asarray(net.gamma) * problem.sigma, (net.N,))
    C = stationary_covariance(net.jacobian(h, u), np.diag(noise**2))
    inverse = np.linalg.inv(np.eye(net.N) - net.target_jacobian(h, u))
    m = h + inverse @ _scatter(net, h, u, C)
    return m, C, SAFETY * np.abs(inverse) @ _neglected(net, h, u, m, C)


def curvature(net: System, h: Array, u: Array, v: Array) -> Array:
    """d^2 F(h)[v_k, v_k] at `h` (N,) along each of `v` (K, N), by differences: (K, N)."""
    size = np.linalg.norm(v, axis=1, keepdims=True)
    step = STEP * v / np.where(size > 0, size, 1.0)
    near, far = (net.target(h + k * step, u) + net.target(h - k * step, u) for k in (1, 2))
    return (16 * near - far - 30 * net.target(h, u)) * (size / STEP) ** 2 / 12


def _scatter(net: System, h: Array, u: Array, C: Array) -> Array:
    """B(C), for any symmetric C."""
    values, vectors = np.linalg.eigh(C)
    return 0.5 * values @ curvature(net, h, u, vectors.T)


def _neglected(net: System, h: Array, u: Array, m: Array, C: Array) -> Array:
    """What the neglected orders may add to the mean of F, (N,); infinite where that is not known.

    At antithetic draws m + x, m - x from the Gaussian law found: the mean of F beyond B(C), the curvature of F
    between h* and m, and B(dC) for the change dC of the covariance by what in F is not linear.
    """
    g, A = np.broadcast_to(net.gamma, (net.N,)), net.target_jacobian(h, u)
    values, vectors = np.linalg.eigh(C)
    x = np.random.default_rng(0).standard_normal((DRAWS, net.N)) * np.sqrt(np.maximum(values, 0)) @ vectors.T
    up, down, middle = net.target(m + x, u), net.target(m - x, u), net.target(m, u)
    even, odd = (up + down) / 2 - middle, (up - down) / 2 - x @ A.T
    beyond = (even - curvature(net, h, u, x) / 2).mean(axis=0)
    curved = middle - net.target(h, u) - A @ (m - h)
    linear, spread = x @ net.jacobian(h, u).T, even - even.mean(axis=0)
    cross = linear.T @ (g * odd)
    change = (cross + cross.T + (g * odd).T @ (g * odd) + (g * spread).T @ (g * spread)) / DRAWS
    try:
        grown = _scatter(net, h, u, stationary_covariance(net.jacobian(h, u), change))
    except Unstable:
        return np.full(net.N, np.inf)
    total = np.abs(beyond) + np.abs(curved) + np.abs(grown)
    return total if np.isfinite(total).all() else np.full(net.N, np.inf)
