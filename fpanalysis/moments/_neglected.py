"""What a Gaussian leaves out of the output's mean and variance: the response to third and fourth cumulants.

The sources of `fpanalysis.stationary._cumulants`, f of E f and R of the covariance, evaluated at the end of a trial,
act on the smoothed step J there as if they had held since long:

    dC = J dC J^T + R,    d = f + M2 diag(O dC O^T) / 2,    U = g (rate form) or g W (current form)
    dm = (I - J)^{-1} U d,    dz = W_out dm  or  W_out (d + diag(G) dm)
    dVar z = diag(W_out dC W_out^T)  or  diag(W_out (G dC G + Q) W_out^T)

with O = W in the rate form, I in the current form, whose output is W_out f: Q is what the cumulants add to Cov f.
J is scaled down to what T steps can build up, if its spectral radius is above exp(-1 / T). The first order corrects,
the second measures what is left.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.moments._step import Inputs, Law
from fpanalysis.network import Network
from fpanalysis.stationary._cumulants import Source, cumulants, first_order, second_order
from fpanalysis.stationary._equations import jacobian
from fpanalysis.stationary._lyapunov import Lyapunov, Unstable
from fpanalysis.stationary._nonlinear import Nonlinear, nonlinear_moments

Array = NDArray[np.float64]

PRECISION = 1e-3  #: of the Lyapunov solves


class Neglected(NamedTuple):
    """Changes of the output's mean and variance, (B, n_out) each: the first order, and the size of the second."""

    mean: Array
    variance: Array
    mean_left: Array
    variance_left: Array


def neglected(net: Network, law: Law, x: Inputs, sigma: Array, T: int) -> Neglected:
    """Of every trial of T steps, at the end state `law` with what enters f there; infinite where that is not known."""
    unbounded = np.stack([np.zeros(net.n_out)] * 2 + [np.full(net.n_out, np.inf)] * 2)
    found = []
    for b in range(len(law.m)):
        try:
            if not np.isfinite(law.C[b]).all():
                raise Unstable
            found.append(_trial(net, law.C[b], x.a[b], x.s[b], x.G[b], sigma, T))
        except (Unstable, OverflowError, np.linalg.LinAlgError):
            found.append(unbounded)
    return Neglected(*np.stack(found, axis=1))


def _trial(net: Network, C: Array, a: Array, s: Array, G: Array, sigma: Array, T: int) -> Array:
    moments = nonlinear_moments(net.activation, a, s)
    J = jacobian(net, G)
    radius = float(np.abs(np.linalg.eigvals(J)).max())
    J *= min(1.0, exp(-1 / T) / max(radius, 1e-300))
    q = cumulants(net, J, C, G, moments, sigma**2)
    response = _Response(net, J, moments, G)
    mean, variance = response.output(first_order(net, C, G, moments, q))
    parts = [response.output(part) for part in second_order(net, C, G, moments, q)]
    unknown = 1.0 if q.converged else np.inf
    left = [unknown * np.sum(np.abs(sizes), axis=0) for sizes in zip(*parts, strict=True)]
    return np.stack([mean, variance, *left])


class _Response:
    """What a source, held for long, does to the output of one trial."""

    def __init__(self, net: Network, J: Array, x: Nonlinear, G: Array) -> None:
        self.net, self.curvature, self.G = net, x.M[2] / 2, G
        self.lyapunov = Lyapunov(J, np.float32)
        g = np.broadcast_to(net.gamma, (net.N,))
        self.inverse = np.linalg.solve(np.eye(net.N) - J, np.diag(g) if net.form == "rate" else g[:, None] * net.W)

    def output(self, part: Source) -> tuple[Array, Array]:
        """Changes of mean and variance of z, (n_out,) each."""
        rate, W, W_out = self.net.form == "rate", self.net.W, self.net.readout_weights
        dC = self.lyapunov.solve(part.R, PRECISION)
        d = part.f + self.curvature * (np.einsum("ij,ij->i", W @ dC, W) if rate else np.diag(dC))
        dm = self.inverse @ d
        if rate:
            return W_out @ dm, _diagonal(W_out, dC)
        return W_out @ (d + self.G * dm), _diagonal(W_out * self.G, dC) + _diagonal(W_out, part.Q)


def _diagonal(A: Array, C: Array) -> Array:
    """Of A C A^T."""
    return np.einsum("oj,oj->o", A @ C, A)
