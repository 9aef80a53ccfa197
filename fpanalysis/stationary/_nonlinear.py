"""Gaussian moments of f and of its nonlinear part, neuron by neuron.

For x = a + s z, z ~ N(0, 1), with f = M + G s z + n (so that E n = E z n = 0) and He_k the Hermite polynomials:

    M_k = d^k M / da^k = E[f He_k(z)] / s^k                      k = 2..7
    W_k = E[(f - M)^2 He_k(z)] / s^k                             k = 3, 4, 6
    n_pq = E[He_p(z) n^q] / s^p, without what n^2 makes of n^4   (p, q) = (0, 2), (1, 2), (0, 3), (2, 2), (1, 3), (0, 4)

n_pq is the joint cumulant of p unit inputs and q times n. By composite Gauss-Legendre quadrature, with panels that
end at the kink x = 0 and become short around it where s is larger than the length over which f changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.gaussian import hermite_basis, legendre_rule

Array = NDArray[np.float64]

ORDER = 7
FAR = 3.0  #: standard deviations beyond which an event counts as rare


@dataclass(frozen=True)
class Nonlinear:
    """Arrays over the neurons, (N,) each; names as in the module's docstring."""

    M: Array  #: (ORDER + 1, N), M_k
    W: Array  #: (ORDER + 1, N), W_k
    n02: Array
    n12: Array
    n03: Array
    n22: Array
    n13: Array
    n04: Array
    rare: Array  #: E[|n|; |z| > FAR], where more than half of E n^2 comes from there; else 0


def nonlinear_moments(activation: Activation, a: Array, s: Array) -> Nonlinear:
    """The moments at mean `a` and standard deviation `s`, (N,) each; zero where s is zero."""
    still = s <= 0
    s = np.where(still, 1.0, s)
    z, w = _rule(a, s, activation.strip)
    f = activation.f(a + s * z)
    inverse = np.where(still, 0.0, 1 / s) ** np.arange(ORDER + 1)[:, None]
    f = f - (w * f).sum(axis=0)
    basis = hermite_basis(z, ORDER)
    basis *= np.sqrt([float(factorial(k)) for k in range(ORDER + 1)])[:, None, None]
    weighted = basis * w
    M, W = (np.einsum("kqi,qi->ki", weighted, values) * inverse for values in (f, f**2))
    n = f - M[1] * s * z
    n2, n3 = n**2, n**3
    second = (w * n2).sum(axis=0)
    far = np.abs(z) > FAR
    rare = (w * np.abs(n) * far).sum(axis=0) * ((w * n2 * far).sum(axis=0) > 0.5 * second)
    parts = (
        second,
        (weighted[1] * n2).sum(axis=0) * inverse[1],
        (w * n3).sum(axis=0),
        (weighted[2] * n2).sum(axis=0) * inverse[2],
        (weighted[1] * n3).sum(axis=0) * inverse[1],
        (w * n2**2).sum(axis=0) - 3 * second**2,
        rare,
    )
    return Nonlinear(M, W, *(np.where(still, 0.0, part) for part in parts))


def _rule(a: Array, s: Array, strip: float) -> tuple[Array, Array]:
    """Nodes z and normalised weights, (nodes, N) each, on panels of [-9, 9] graded around x = 0."""
    steps = strip / s * np.array([-9.0, -3.0, -1.0, 0.0, 1.0, 3.0, 9.0])[:, None]
    fixed = np.broadcast_to(np.linspace(-9, 9, 10)[:, None], (10, len(a)))
    cuts = np.sort(np.vstack([fixed, np.clip(-a / s + steps, -9, 9)]), axis=0)
    t, w = legendre_rule(12)
    width = np.diff(cuts, axis=0)[:, None]
    z = (cuts[:-1, None] + width * t[:, None]).reshape(-1, len(a))
    density = np.exp(-(z**2) / 2) / sqrt(2 * np.pi)
    weights = (width * w[:, None]).reshape(-1, len(a)) * density
    return z, weights / weights.sum(axis=0)
