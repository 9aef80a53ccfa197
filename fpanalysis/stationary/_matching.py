"""Laws on a line put onto nodes with nonnegative weights that keep their first moments.

A law mu and nodes x_j: linear interpolation gives nonnegative weights w0_j = E_mu[hat_j] with the right mass and mean,
but a variance too large by the square of the spacing. With y = (x - mean) / deviation of mu, normalised Hermite
polynomials He_k(y) and a damping D(y) = exp(-y^2 / 8) that leaves the tails alone, the weights

    w_j = w0_j (1 + D(y_j) sum_k lambda_k He_k(y_j)),      sum_j w_j He_k(y_j) = E_mu He_k(y)      (k <= degree)

have the right moments up to `degree`; lambda is small where the spacing is smaller than the deviation, and w >= 0.
Where w is not (a law narrower than the spacing, or squeezed at one end) the degree is lowered, down to w0 itself,
which is always possible. So E_mu g is kept for every g that is smooth over the width of mu, and the weights of many
laws make the rows of a Markov chain.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.gaussian import hermite_basis

Array = NDArray[np.float64]

DAMPING = 8.0  #: y^2 at which the correction has fallen by e
RESIDUAL = 1e-11  #: of the moments, in units of the deviation
CHUNK = 1 << 22  #: numbers held at once


def match(z: Array, omega: Array, nodes: Array, degree: int) -> tuple[Array, NDArray[np.intp]]:
    """The laws of rows z (S, Q) with weights omega (S, Q) on `nodes` (n,), ascending: (S, n), and degrees (S,).

    Points beyond the nodes are put onto the nearest one.
    """
    weights, degrees = np.empty((len(z), len(nodes))), np.empty(len(z), np.intp)
    size = max(1, CHUNK // ((degree + 1) * (z.shape[1] + len(nodes))))
    for start in range(0, len(z), size):
        part = slice(start, start + size)
        weights[part], degrees[part] = _match(np.clip(z[part], nodes[0], nodes[-1]), omega[part], nodes, degree)
    return weights, degrees


def _match(z: Array, omega: Array, nodes: Array, degree: int) -> tuple[Array, NDArray[np.intp]]:
    rows = np.arange(len(z))
    first, w = _hats(z, omega, nodes)
    columns = first[:, None] + np.arange(w.shape[1])
    x = nodes[columns]
    mass = omega.sum(axis=1)
    mean = (omega * z).sum(axis=1) / mass
    deviation = np.sqrt((omega * (z - mean[:, None]) ** 2).sum(axis=1) / mass)
    deviation = np.maximum(deviation, 1e-3 * np.diff(nodes).min())
    y, y_mu = (x - mean[:, None]) / deviation[:, None], (z - mean[:, None]) / deviation[:, None]
    He = np.moveaxis(hermite_basis(y, degree), 0, -1)
    wanted = np.einsum("ksq,sq->sk", hermite_basis(y_mu, degree), omega)
    damped = w * np.exp(-(y**2) / DAMPING)
    degrees = np.ones(len(z), np.intp)
    left = rows[deviation > 2e-3 * np.diff(nodes).min()]
    for d in range(degree, 1, -1):
        if not len(left):
            break
        better, good = _correct(w[left], damped[left], He[left, :, : d + 1], wanted[left, : d + 1])
        done = left[good]
        w[done], degrees[done] = better[good], d
        left = left[~good]
    out = np.zeros((len(z), len(nodes)))
    out[rows[:, None], columns] = w
    return out, degrees


def _hats(z: Array, omega: Array, nodes: Array) -> tuple[NDArray[np.intp], Array]:
    """E[hat_j] of each row in its own window of nodes: the window's first node (S,), weights (S, J)."""
    j = np.clip(np.searchsorted(nodes, z, side="right") - 1, 0, len(nodes) - 2)
    upper = (z - nodes[j]) / (nodes[j + 1] - nodes[j])
    J = int((j.max(axis=1) - j.min(axis=1)).max()) + 2
    first = np.minimum(j.min(axis=1), len(nodes) - J)
    flat = (j - first[:, None] + J * np.arange(len(z))[:, None]).ravel()
    w = np.zeros(len(z) * J)
    w += np.bincount(flat, (omega * (1 - upper)).ravel(), len(w))
    w += np.bincount(flat + 1, (omega * upper).ravel(), len(w))
    return first, w.reshape(len(z), J)


@np.errstate(invalid="ignore", over="ignore")  # what a singular system gives is refused below
def _correct(w: Array, damped: Array, He: Array, wanted: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The corrected weights, and where they are nonnegative and have the moments wanted."""
    tilt = He * damped[:, :, None]
    gram = He.transpose(0, 2, 1) @ tilt
    missing = wanted - np.einsum("sjk,sj->sk", He, w)
    ridge = 1e-15 * np.trace(gram, axis1=1, axis2=2) + 1e-300  # what it costs shows in the residual
    gram += ridge[:, None, None] * np.eye(gram.shape[1])
    w = w + (tilt @ np.linalg.solve(gram, missing[:, :, None]))[:, :, 0]
    residual = np.abs(np.einsum("sjk,sj->sk", He, w) - wanted).max(axis=1)
    return w, (w >= 0).all(axis=1) & (residual <= RESIDUAL)
