"""When a linear complementarity problem has exactly one solution, and which signs that solution has, rigorously.

At a node of the pattern tree the neurons are active (A: y = 0), silent (S: h = 0) or undecided (U). Eliminating
h_A leaves on U the problem  z >= 0, w >= 0, w - C z = q, z w = 0  with the Schur complement
C = M_UU - M_UA M_AA^-1 M_AU. Whatever q, it has exactly one solution if

    C has a positive definite symmetric part, lambda = min eig (C + C^T) / 2 > 0:   |dz|_2 <= |dq|_2 / lambda
    or  <C> v >= u > 0 for some v > 0  (<C>_ii = C_ii, <C>_ij = -|C_ij|: an H-matrix):  |dz| <= v max |dq| / u

(Cottle, Pang & Stone, The Linear Complementarity Problem, 1992, sections 3.3 and 7.3). The second column bounds
how far the solution moves with q; the error of an approximate solution is that bound with its residual for dq,
because it solves the problem with q moved by the residual exactly. All rounding errors are bounded a priori.
"""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError, norm
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
States = NDArray[np.int8]

ACTIVE, SILENT, UNDECIDED = 1, -1, 0
POINT, NONE, OPEN = "point", "none", "open"
MARGIN = 1 + 1e-9  #: more than the rounding errors of the few operations between norms


def rounding(n: int) -> float:
    """A bound on the relative error of a sum of n + 8 products: gamma_n = n u / (1 - n u), with u = eps / 2."""
    return (n + 8) * np.finfo(float).eps


def decide(M: Array, c: Array, state: States, hair: tuple[float, float], guess: Array) -> tuple[str, Array]:
    """The fixed points of a node: h_A > hair[0], 0 <= h_S <= hair[1], h_U >= 0, y = M h - c >= 0, h y = 0.

    POINT: exactly one, near the h (N,) returned. NONE: none. OPEN: this test cannot tell. `guess` (N,) is a
    state whose active neurons the search for the solution starts from.
    """
    order = np.argsort(-state % 3, kind="stable")  # undecided, silent, active
    U, S, A = np.split(order, np.searchsorted(-state[order] % 3, [1, 2]))
    R, kappa = inverse(M[A][:, A])
    slope = lipschitz(*schur(M, A, U, R, kappa)) if np.isfinite(kappa) else np.inf
    h = solve(M, c, state, guess) if np.isfinite(slope) else None
    if h is None:
        return OPEN, guess
    y = M @ h - c
    absolute = np.abs(M)
    error = rounding(len(c)) * (absolute @ np.abs(h) + np.abs(c))  # of y, as computed
    gap = np.where((state == ACTIVE) | (h > 0), np.abs(y), np.maximum(-y, 0)) + error
    loose = np.full(len(S), True)  # the silent whose rate is not yet known to be zero
    while True:
        moved = hair[1] * absolute[:, S[loose]].sum(1)  # the effect of their rates
        error_U = slope * (norm(gap[U] + moved[U]) + norm(M[U][:, A]) * kappa * norm(gap[A] + moved[A]))
        error_A = kappa * (norm(gap[A] + moved[A]) + norm(M[A][:, U]) * error_U)
        error_S = error[S] + moved[S] + rows(M[S][:, A]) * error_A + rows(M[S][:, U]) * error_U
        error_A, error_S = MARGIN * error_A, MARGIN * error_S
        if (h[A] + error_A < hair[0]).any() or (y[S] + error_S < 0).any():
            return NONE, h
        still = loose & (y[S] <= error_S)
        if still.sum() == loose.sum():
            return (POINT if not still.any() and (h[A] > error_A).all() else OPEN), h
        loose = still


def rows(B: Array) -> Array:
    """|B_i|_2 of every row."""
    return np.sqrt(np.einsum("ij,ij->i", B, B))


def inverse(K: Array) -> tuple[Array, float]:
    """R, near K^-1, and a bound on |K^-1|_2: |R| / (1 - |I - R K|); infinite if K may be singular."""
    if not len(K):
        return K, 0.0
    try:
        R = np.asarray(np.linalg.inv(K), float)
    except LinAlgError:
        return K, np.inf
    defect = norm(R @ K - np.eye(len(K))) + rounding(len(K)) * (norm(np.abs(R) @ np.abs(K)) + 1)
    return R, float(MARGIN * norm(R) / (1 - defect)) if defect < 0.5 else np.inf


def schur(M: Array, A: Indices, U: Indices, R: Array, kappa: float) -> tuple[Array, float]:
    """The Schur complement C of M on U after A is eliminated, and a bound on its error's Frobenius norm.

    With X near M_AA^-1 M_AU, here R M_AU, the error of M_UU - M_UA X is M_UA M_AA^-1 (M_AA X - M_AU).
    """
    g, K, UA, AU, UU = rounding(len(M)), M[A][:, A], M[U][:, A], M[A][:, U], M[U][:, U]
    X = R @ AU
    defect = norm(K @ X - AU) + g * norm(np.abs(K) @ np.abs(X) + np.abs(AU))
    error = norm(UA) * kappa * defect + g * norm(np.abs(UU) + np.abs(UA) @ np.abs(X))
    return UU - UA @ X, float(MARGIN * error)


def lipschitz(C: Array, error: float) -> float:
    """L with |dz|_2 <= L |dq|_2 for every matrix within `error` of C; infinite where uniqueness is not shown."""
    if not len(C):
        return 0.0
    symmetric = (C + C.T) / 2
    margin = error + 4 * rounding(len(C)) * (np.abs(np.diag(C)).sum() + 1)  # of Cholesky: Rump, BIT 46 (2006)
    least = np.linalg.eigvalsh(symmetric)[0] / 2
    if least > margin and dpotrf(symmetric - (least + margin) * np.eye(len(C)))[1] == 0:
        return float(MARGIN / least)
    comparison = -np.abs(C)
    np.fill_diagonal(comparison, np.diag(C))
    try:
        v = np.linalg.solve(comparison, np.ones(len(C)))
    except LinAlgError:
        return np.inf
    u = comparison @ v - rounding(len(C)) * (np.abs(C) @ np.abs(v)) - error * norm(v)
    return float(MARGIN * norm(v) / u.min()) if (v > 0).all() and (u > 0).all() else np.inf


def solve(M: Array, c: Array, state: States, guess: Array) -> Array | None:
    """An approximate solution of the node's problem, y_S and the signs of h_A not asked for; None if not found.

    Block principal pivoting: all undecided neurons of the wrong sign change sides, one at a time (Murty) when
    that has not ended.
    """
    N, undecided = len(c), state == UNDECIDED
    on = (state == ACTIVE) | (undecided & (guess > 0))
    for k in range(5 * N + 20):
        i = np.flatnonzero(on)
        h = np.zeros(N)
        try:
            h[i] = np.linalg.solve(M[i][:, i], c[i])
        except LinAlgError:
            return None
        wrong = undecided & (np.where(on, h, M @ h - c) < 0)
        if not wrong.any():
            return h
        on = on ^ (wrong if k < 20 else np.arange(N) == wrong.argmax())
    return None
