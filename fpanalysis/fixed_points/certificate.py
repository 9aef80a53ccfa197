"""Proof, point by point, that a fixed point exists near a computed one and that it is the only one there.

With Y an approximate inverse of A = I - dF/dh at the computed point, T(h) = h + Y (F(h) - h) has the fixed
points of F (where Y is regular), and in the ball |h' - h| <= r of the maximum norm

    |T(h) - h| <= delta = |Y| (|F(h) - h| + e),      Lip T <= Z(r) = |I - Y A| + |Y| v(r),

e bounding the rounding error of F as computed and v(r) the row sums of |dF/dh(h') - dF/dh(h)| over the ball. If
delta + Z(r) r <= r, T contracts the ball into itself: it holds exactly one fixed point, and that lies within
delta / (1 - Z) of h (Krawczyk, Computing 4, 1969; Rump, Acta Numerica 19, 2010, section 13). Rounding errors of the
test itself are bounded a priori and added.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.system import System

Array = NDArray[np.float64]

EPS = float(np.finfo(float).eps)
SECANTS, AIM = 6, 0.95  #: steps towards the radius at which Z reaches this
LARGEST = 10.0  #: radii tried reach this times 1 + max|h|
BLOCK = 1 << 22  #: matrix elements held at once


@dataclass(frozen=True, eq=False)
class Certificates:
    """certified (K,); error (K,): distance within which the true fixed point lies, maximum norm; radius (K,): of the
    largest ball about the point shown to hold exactly one fixed point; both NaN where not certified."""

    certified: NDArray[np.bool_]
    error: Array
    radius: Array


def certify(net: System, h: Array, u: Array) -> Certificates:
    """Certificates of the computed fixed points `h` (K, N) at the input `u` (n_in,)."""
    size = max(1, BLOCK // net.N**2)
    with threadpool_limits(1, user_api="blas"):
        parts = [_certify(net, h[i : i + size], u) for i in range(0, len(h), size)]
    error = np.concatenate([np.empty(0), *(part[0] for part in parts)])
    radius = np.concatenate([np.empty(0), *(part[1] for part in parts)])
    return Certificates(np.isfinite(error), error, radius)


def _certify(net: System, h: Array, u: Array) -> tuple[Array, Array]:
    """Error and radius of each row of `h`; NaN for what cannot be shown."""
    K, N = h.shape
    A = np.eye(N) - net.target_jacobian(h, u)
    Y, regular = _inverse(A)
    size = np.abs(Y)
    rounding = (N + 4) * EPS / (1 - (N + 4) * EPS)
    up = 1 + 4 * rounding  # for the sums of positive terms below
    first = net.variation(h, u, np.zeros(K))
    if first is None:
        return np.full(K, np.nan), np.full(K, np.nan)
    gap = np.abs(net.target(h, u) - h) * (1 + EPS) + first[0]
    delta = up * _rows(size, gap)
    spread = _rows(size, np.abs(A).sum(axis=2) + 1)
    Z0 = up * (np.abs(np.eye(N) - Y @ A).sum(axis=2).max(axis=1) + rounding * (spread + 1))

    def contracts(r: Array) -> tuple[NDArray[np.bool_], Array]:
        bounds = net.variation(h, u, r)
        assert bounds is not None
        Z = Z0 + up * _rows(size, bounds[1])
        return regular & (up * (delta + Z * r) <= r) & (Z < 1), Z

    low = 2 * delta + 1e-300  # just above the smallest radius that can do
    certified, Z = contracts(low)
    error = np.where(certified, up * delta / np.where(certified, 1 - Z, 1.0), np.nan)
    # Z grows about linearly until f' has taken all its values: secants from above close in on where it reaches 1
    high = np.maximum(LARGEST * (1 + np.abs(h).max(axis=1)), 2 * low)
    holds, Z_high = contracts(high)
    for _ in range(SECANTS):
        share = (AIM - Z) / np.maximum(Z_high - Z, AIM)
        r = low + np.clip(share, 1e-3, np.where(holds, 0.9, 0.25)) * (high - low)
        holds, Z_r = contracts(r)
        low, Z = np.where(holds, r, low), np.where(holds, Z_r, Z)
        high, Z_high = np.where(holds, high, r), np.where(holds, Z_high, Z_r)
    return error, np.where(certified, low, np.nan)


def _inverse(A: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Inverses of the matrices `A` (K, N, N), zero where there is none, and where there is one."""
    regular = np.asarray(np.isfinite(A).all(axis=(1, 2)))
    try:
        return np.asarray(np.linalg.inv(np.where(regular[:, None, None], A, 0.0)), np.float64), regular
    except np.linalg.LinAlgError:
        regular &= np.linalg.slogdet(np.where(regular[:, None, None], A, 0.0))[0] != 0
    Y = np.zeros(A.shape)
    Y[regular] = np.linalg.inv(A[regular])
    return Y, regular


def _rows(Y: Array, v: Array) -> Array:
    """max over rows of Y v, for each matrix of the batch."""
    product: Array = (Y @ v[..., None])[..., 0].max(axis=-1)
    return product
