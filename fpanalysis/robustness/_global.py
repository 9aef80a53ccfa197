"""A Lipschitz constant of z_y - z_c in all the inputs of a trial that holds everywhere: with it, margins for sure.

With lo <= f' <= hi the difference of two runs obeys dh_{t+1} = J_t dh_t + gamma (B D_t E + G) du_t for some D_t within
that range (`_lure`). The smaller of two bounds, each for all such D_t:

comparison    the adjoints a_t of z_y - z_c enclosed elementwise, middle +- radius, backward from a_T = w_y - w_c; L is
              the dual norm of what encloses the gradient. Exact for a linear network.
norm          |T dh_{t+1}| <= rate |T dh_t| + drive |du_t| in the weighted 2-norm that the contraction machinery finds
              (`fpanalysis.stability`; of a Lipschitz RNN T = I), so that
              L = |T^-1 (w_y - w_c)| drive (sum_k rate^{2k})^{1/2}
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.robustness._attack import dual
from fpanalysis.robustness._lure import Lure
from fpanalysis.stability import contraction_certificates
from fpanalysis.system import System

Array = NDArray[np.float64]


def lipschitz(net: System, lure: Lure, steps: int, norm: str) -> Array | None:
    """L (n_out, n_out) of z_y - z_c after so many steps; None where the slopes are not known to be bounded."""
    slopes = lure.slopes()
    if slopes is None:
        return None
    middle, radius = (slopes[1] + slopes[0]) / 2, (slopes[1] - slopes[0]) / 2
    W = net.readout_weights
    pairs = W[:, None] - W[None]
    with np.errstate(over="ignore", invalid="ignore"):
        bounds = [_compared(lure, pairs, middle, radius, steps, norm), _normed(net, lure, pairs, slopes, steps, norm)]
    return np.asarray(np.fmin(*bounds)) * (1 + 1e-9)


def _compared(lure: Lure, pairs: Array, middle: Array, radius: Array, steps: int, norm: str) -> Array:
    m, e = pairs, np.zeros_like(pairs)
    if lure.reads_rates:
        m, e = m * middle, np.abs(m) * radius
    B, C, M, E, G = (None if X is None else np.abs(X) for X in (lure.B, lure.C, lure.M, lure.E, lure.G))
    steepest = np.abs(middle) + radius
    largest = np.empty((*pairs.shape[:-1], steps, (E if G is None else G).shape[1]))  # type: ignore[union-attr]
    for t in range(steps - 1, -1, -1):
        p, q = lure.gamma * m, lure.gamma * e
        at, off = (p, q) if lure.B is None or B is None else (p @ lure.B, q @ B)
        m, taken = lure.pulled(middle, m)
        off = np.abs(at) * radius + off * steepest
        e = (1 - lure.gamma) * e + (off if C is None else off @ C) + (0.0 if M is None else q @ M)
        largest[..., t, :] = np.abs(taken) + (0.0 if E is None else off @ E) + (0.0 if G is None else q @ G)
    return dual(largest, norm)


def _normed(net: System, lure: Lure, pairs: Array, slopes: tuple[Array, Array], steps: int, norm: str) -> Array:
    """NaN where no rate is known."""
    T, rate = _rate(net, lure, slopes)
    steepest = np.maximum(np.abs(slopes[0]), np.abs(slopes[1]))
    inside = np.zeros((len(T), 1)) if lure.E is None else steepest[:, None] * lure.E
    moved = T * lure.gamma
    drive = np.linalg.norm(moved[:, None] * (inside if lure.B is None else lure.B), 2)
    if lure.B is not None:
        drive *= np.linalg.norm(inside, 2)
    if lure.G is not None:
        drive += np.linalg.norm(moved[:, None] * lure.G, 2)
    powers = rate ** np.arange(steps)
    n_in = net.n_in
    summed = np.sqrt(n_in) * powers.sum() if norm == "infinity" else np.sqrt((powers**2).sum())
    ends = np.abs(pairs) * steepest / T if lure.reads_rates else pairs / T
    return np.asarray(np.linalg.norm(ends, axis=-1) * drive * summed)


def _rate(net: System, lure: Lure, slopes: tuple[Array, Array]) -> tuple[Array, float]:
    N = len(lure.gamma)
    if isinstance(net, Network):
        found = [c for c in contraction_certificates(net).certificates if c.norm == "2"]
        return (found[0].weights, found[0].rate) if found else (np.ones(N), float("nan"))
    middle, radius = (slopes[1] + slopes[0]) / 2, (slopes[1] - slopes[0]) / 2
    B, C = (np.eye(N) if X is None else X for X in (lure.B, lure.C))
    M = np.zeros((N, N)) if lure.M is None else lure.M
    J = np.diag(1 - lure.gamma) + lure.gamma[:, None] * (M + B @ (middle[:, None] * C))
    spread = np.linalg.norm(lure.gamma[:, None] * B * np.sqrt(radius), 2) * np.linalg.norm(
        np.sqrt(radius)[:, None] * C, 2
    )
    return np.ones(N), float(np.linalg.norm(J, 2) + spread)
