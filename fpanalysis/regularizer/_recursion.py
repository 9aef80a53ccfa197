"""What small noise does along a trajectory, forward, and where it entered, backward.

With F and J the system's pull and the Jacobian of its step, g its gamma at the step, d and v the mean and the variance
of what noise of unit size adds to F, and per unit of eps^2 throughout:

    h' = (1 - g) h + g F(h, u)
    c_p = g_p (tr(F_p'' C) / 2 + d_p)
    mu' = J mu + c                    mean shift          mu_0 = 0
    C'  = J C J^T + g^2 diag v        covariance          C_0 = 0

    P = sum_t 2 l_r . (r' mu + r'' diag(C) / 2),     Q = sum_t tr(l_rr r' C r')

with l_r = W_out^T dl/dz and l_rr the gradient and Hessian of the loss in the rates r(h) that are read out. Both are
sums over what entered at each step and neuron, which the adjoints of mu and C weigh:

    k = J^T k' + r' l_r               P = sum 2 k' . c + sum l_r . r'' diag C
    K = J^T K' J + r' l_rr r'         Q = sum g^2 v . diag K'
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.regularizer.losses import Loss
from fpanalysis.system import System

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Driven:
    """A system on B trials of T steps: inputs (T, B, n_in), targets and weights (T, B, n_out), start (B, N), gamma and
    sigma (T, N), multiplicative () or (N,); noise of the size eps is eps times the last two. A state beyond `far` has
    diverged."""

    net: System
    inputs: Array
    targets: Array
    weight: Array
    start: Array
    gamma: Array
    sigma: Array
    multiplicative: Array
    far: float


@dataclass(frozen=True, eq=False)
class Path:
    """Along the T steps: states `h` before each; what is `entered` into mu, of that the `direct` part g d, and the
    `variance` into C; after each what the loss makes of it, `slope` l_r r', `bend` l_r r'' diag C, (T, B, N) all, and
    r' l_rr r' = A^T H A with A (T, B, n_out, N), H (T, B, n_out, n_out).

    P, Q, l (B,); z and the variance of the outputs (T, B, n_out), mu (B, N) and C (B, N, N) at the end; `diverged` and
    `unstable` (B,) say of which trials the state, or mu and C, grew without bound.
    """

    h: Array
    entered: Array
    direct: Array
    variance: Array
    slope: Array
    A: Array
    H: Array
    bend: Array
    l: Array
    P: Array
    Q: Array
    z: Array
    spread: Array
    mu: Array
    C: Array
    diverged: NDArray[np.bool_]
    unstable: NDArray[np.bool_]


def forward(problem: Driven, loss: Loss) -> Path:
    """mu, C, and the loss's P and Q, with all that `backward` needs."""
    net, (T, B, n_out), N = problem.net, problem.targets.shape, problem.net.N
    states, entered, direct, variance, slopes, bends = np.zeros((6, T, B, N))
    A, H = np.zeros((T, B, n_out, N)), np.zeros((T, B, n_out, n_out))
    l, P, Q = np.zeros((3, B))
    z, spread = np.zeros((2, T, B, n_out))
    h, mu, C = problem.start, np.zeros((B, N)), np.zeros((B, N, N))
    diverged, unstable = np.zeros((2, B), bool)
    for t in range(T):
        u, g = problem.inputs[t], problem.gamma[t]
        states[t] = h
        drift, v = net.disturbance(h, u, problem.sigma[t], problem.multiplicative)
        direct[t] = g * drift
        entered[t] = g * net.target_curvature(h, u, C) / 2 + direct[t]
        variance[t] = g**2 * v
        J = step_jacobian(net, h, u, g)
        mu = np.einsum("bij,bj->bi", J, mu) + entered[t]
        C = J @ C @ J.swapaxes(-1, -2)
        C[:, range(N), range(N)] += variance[t]
        h = (1 - g) * h + g * net.target(h, u)
        diverged |= ~(np.abs(h) < problem.far).all(axis=-1)
        size = np.abs(mu).max(axis=-1) + np.einsum("bii->bi", C).max(axis=-1)
        unstable |= ~diverged & ~(size < problem.far**2)
        h, mu, C = (np.where(_as(diverged | unstable, part), 0.0, part) for part in (h, mu, C))
        slope, bend = net.rate_derivatives(h)
        z[t] = net.output(h)
        A[t] = net.readout_weights * slope[:, None]
        AC = A[t] @ C
        spread[t] = np.einsum("boi,boi->bo", AC, A[t])
        if not problem.weight[t].any():
            continue
        at = z[t], problem.targets[t], problem.weight[t]
        H[t] = loss.hessian(*at)
        l_r = loss.gradient(*at) @ net.readout_weights
        slopes[t], bends[t] = l_r * slope, l_r * bend * np.einsum("bii->bi", C)
        l += loss.value(*at)
        P += 2 * (slopes[t] * mu).sum(axis=-1) + bends[t].sum(axis=-1)
        Q += np.einsum("bop,bpi,boi->b", H[t], AC, A[t])
    return Path(states, entered, direct, variance, slopes, A, H, bends, l, P, Q, z, spread, mu, C, diverged, unstable)


def backward(problem: Driven, path: Path) -> tuple[Array, Array, Array]:
    """P, of it the part of the d, and Q by trial and neuron, (B, N) each: of P, where the state bends; of Q, where the
    noise entered."""
    B, N = path.mu.shape
    k, K = np.zeros((B, N)), np.zeros((B, N, N))
    P, direct, Q = path.bend.sum(axis=0), np.zeros((B, N)), np.zeros((B, N))
    for t in reversed(range(len(path.h))):
        k = k + path.slope[t]
        if problem.weight[t].any():
            K = K + path.A[t].swapaxes(-1, -2) @ (path.H[t] @ path.A[t])
        P += 2 * k * path.entered[t]
        direct += 2 * k * path.direct[t]
        Q += path.variance[t] * np.einsum("bii->bi", K)
        J = step_jacobian(problem.net, path.h[t], problem.inputs[t], problem.gamma[t])
        k = np.einsum("bij,bi->bj", J, k)
        K = J.swapaxes(-1, -2) @ K @ J
    return P, direct, Q


def step_jacobian(net: System, h: Array, u: Array, gamma: Array) -> Array:
    """(B, N, N), (1 - g) I + g dF/dh."""
    J = gamma[:, None] * net.target_jacobian(h, u)
    J[:, range(net.N), range(net.N)] += 1 - gamma
    return J


def _as(of: NDArray[np.bool_], like: Array) -> NDArray[np.bool_]:
    """(B,) with as many axes as `like`."""
    return of.reshape(-1, *(1 for _ in like.shape[1:]))
