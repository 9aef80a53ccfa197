"""The discrete Lyapunov equation C = J C J^T + R by doubling, with the powers of J kept for reuse.

C = sum_k J^k R J^kT; each doubling step squares J and doubles the number of terms summed
(R. A. Smith, "Matrix equation XA + BX = C", SIAM J. Appl. Math. 1968), so a relaxation time of tau steps
costs about log2(tau) + 5 steps of three matrix products, two once the powers are known.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

DOUBLINGS = 40  #: 2^40 steps: a spectral radius within 1e-11 of one


class Unstable(ArithmeticError):
    """The sum does not converge: the spectral radius of J is not below one."""


class Lyapunov:
    """Solver of C = J C J^T + R for one J (N, N) and any number of right-hand sides.

    With ``dtype=float32`` it is a cheap approximate inverse, used to correct a float64 residual.
    """

    def __init__(self, J: Array, dtype: type = np.float64) -> None:
        self.powers: list[Array] = [np.ascontiguousarray(J, dtype)]

    def solve(self, R: Array, tolerance: float = 1e-15) -> Array:
        """C (N, N), summed until the last doubling changed it by less than `tolerance`, relatively.

        Raises
        ------
        Unstable
            If the sum does not converge.
        """
        scale = float(np.abs(R).max(initial=0.0))
        if scale == 0.0:
            return np.zeros(R.shape)
        C = (R / scale).astype(self.powers[0].dtype)
        for k in range(DOUBLINGS):
            A = self._power(k)
            term = A @ C @ A.T
            C += term
            size, last = float(np.abs(C).max()), float(np.abs(term).max())
            if not np.isfinite(size) or size > 1e18:
                break
            if last <= tolerance * size:
                return scale * C.astype(np.float64)
        raise Unstable("the spectral radius of J is not below one")

    def _power(self, k: int) -> Array:
        """J^(2^k)."""
        if k == len(self.powers):
            with np.errstate(over="ignore", invalid="ignore"):
                self.powers.append(self.powers[-1] @ self.powers[-1])
        return self.powers[k]


def stationary_covariance(J: Array, R: Array) -> Array:
    """C = J C J^T + R, symmetric, to rounding. Raises `Unstable` unless the spectral radius of J is below one."""
    C = Lyapunov(J).solve(R)
    return (C + C.T) / 2
