"""A ball of inputs in which the class of a trial provably stays the same: a lower bound on its margin.

In the form of `_lure`, along the trial's own states, with D_t = diag f'(y_t) and J_t = dh_{t+1}/dh_t: a perturbation d
of the inputs with |d| <= r changes the states by a linear part and what the nonlinearity leaves,

    n_t = f(y_t + dy_t) - f(y_t) - D_t dy_t,      |n_t| <= int_0^|dy_t| delta_t(v) dv,
    dh_t = linear + sum_{k < t} Phi(t, k + 1) gamma B n_k,      Phi(t, k) = J_{t-1} ... J_k

where delta_t(v) is how far f' can be from f'(y_t) within v of it. As |dy_t| depends on the n_k before it only, bounds
of both follow from each other step by step, elementwise, with the exact |C Phi(t, k + 1) gamma B|; nothing grows that
the network itself does not make grow. The class cannot become c while

    z_y - z_c  >  r |d(z_y - z_c)/du|  +  sum_k |a_{k+1} gamma B| |n_k|

with a the adjoints of z_y - z_c. The largest r that is found by bisection holds; as r -> 0 it is the linear margin,
and for a linear network the margin itself. Rounding is not bounded: the result is lowered by SAFE, relative.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.robustness._attack import dual
from fpanalysis.robustness._lure import Lure
from fpanalysis.robustness._runs import Trials, states

Array = NDArray[np.float64]

LARGEST = 1 << 24  #: numbers in the transitions of a trial, T^2 N^2 / 2
SAFE = 1e-9
PARTS = 16  #: of the integral of delta
SMALLEST = 2.0**-40  #: of the linear margin, at which the search gives up
FINER = 10  #: halvings once a radius is found


def affordable(trials: Trials) -> bool:
    T, N = len(trials.inputs), trials.net.N
    return T * T * N * N // 2 <= LARGEST


def safe_radius(
    trials: Trials, lure: Lure, b: int, label: int, gaps: Array, g: Array, local: float, norm: str
) -> float:
    """The radius for trial `b`: `gaps` (C,) = z_y - z_c of the other classes and their gradients `g` (C, T, n_in)."""
    ball = _Ball(trials, lure, b, g, norm).against(label)
    r = local * (1 - SAFE)
    if ball.holds(r, gaps):
        return r
    while not ball.holds(r, gaps):
        r /= 2
        if r < SMALLEST * local:
            return 0.0
    low, high = r, 2 * r
    for _ in range(FINER):
        middle = (low + high) / 2
        low, high = (middle, high) if ball.holds(middle, gaps) else (low, middle)
    return low * (1 - SAFE)


class _Ball:
    """What does not depend on r."""

    def __init__(self, trials: Trials, lure: Lure, b: int, g: Array, norm: str) -> None:
        self.lure, self.steps = lure, int(trials.last[b]) + 1
        one = trials.of(np.array([b]))
        h = states(one)[: self.steps + 1, 0]
        u = one.inputs[: self.steps, 0]
        self.y = lure.y(trials.net, h[:-1], u)
        self.end = h[-1]
        self.net = trials.net
        self.slope = lure.f.df(self.y)
        self.norm = norm
        self.linear = dual(g, norm)
        self._transitions()

    def _dual(self, g: Array) -> Array:
        """As `dual`, of (N, T n_in)."""
        return np.abs(g).sum(axis=-1) if self.norm == "infinity" else np.sqrt((g**2).sum(axis=-1))

    def _transitions(self) -> None:
        """The gain of y_t from the inputs (T, N), and |C Phi(t, k + 1) gamma B| of all k < t side by side, (N, t N);
        and those of z."""
        lure, N, T = self.lure, len(self.lure.gamma), self.steps
        E = np.zeros((N, self.net.n_in)) if lure.E is None else lure.E
        n_in = E.shape[1]
        noise = np.empty((N, T * N))  #: Phi(t, k + 1) gamma B of the k so far
        driven = np.empty((N, T * n_in))
        self.passed: list[Array] = []
        self.gain = np.empty((T, N))
        first = lure.gamma[:, None] * (np.eye(N) if lure.B is None else lure.B)
        for t in range(T):
            S, V = noise[:, : t * N], driven[:, : t * n_in]
            seen, moved = (S, V) if lure.C is None else (lure.C @ S, lure.C @ V)
            self.gain[t] = self._dual(np.hstack([moved, E]))
            self.passed.append(np.abs(seen))
            noise[:, : t * N], driven[:, : t * n_in] = self._next(t, S, seen), self._next(t, V, moved)
            noise[:, t * N : (t + 1) * N] = first
            own = self._next(t, np.zeros_like(E), E)
            driven[:, t * n_in : (t + 1) * n_in] = own if lure.G is None else own + lure.gamma[:, None] * lure.G
        out = self.net.readout_weights * self.net.rate_derivatives(self.end)[0]
        self.out = (out @ noise).reshape(len(out), T, N)
        self.end_gain = self._dual(driven)
        self.end_passed = np.abs(noise)

    def _next(self, t: int, X: Array, seen: Array) -> Array:
        """J_t X for X with C X = `seen`; with X = 0 what that much of y gives."""
        lure = self.lure
        inner = self.slope[t][:, None] * seen
        F = inner if lure.B is None else lure.B @ inner
        if lure.M is not None:
            F = F + lure.M @ X
        return (1 - lure.gamma)[:, None] * X + lure.gamma[:, None] * F

    def _left(self, y: Array, reach: Array) -> Array:
        """Bound of |n| = |f(y + dy) - f(y) - f'(y) dy| for |dy| <= reach: the integral of delta, summed from above."""
        part = reach * ((1 + np.arange(PARTS)[:, None]) / PARTS)
        ranges, slope = self.lure.f.ranges(y - part, y + part), self.lure.f.df(y)
        return np.asarray(np.maximum(ranges.df_hi - slope, slope - ranges.df_lo).clip(0).mean(axis=0) * reach)

    def holds(self, r: float, gaps: Array) -> bool:
        left = np.empty_like(self.y)
        with np.errstate(over="ignore", invalid="ignore"):
            for t in range(self.steps):
                reach = r * self.gain[t] + self.passed[t] @ left[:t].ravel()
                left[t] = self._left(self.y[t], reach)
            change = self._outputs(left)
            if self.lure.reads_rates:
                reach = r * self.end_gain + self.end_passed @ left.ravel()
                change = change + np.abs(self.pairs_end) @ self._left(self.end, reach)
            return bool((r * self.linear + change < gaps).all())

    def _outputs(self, left: Array) -> Array:
        return np.abs(self.pairs) @ left.ravel()

    def against(self, label: int) -> _Ball:
        """For the differences of output `label` to the others."""
        others = np.delete(np.arange(len(self.out)), label)
        self.pairs = (self.out[label] - self.out[others]).reshape(len(others), -1)
        W = self.net.readout_weights
        self.pairs_end = W[label] - W[others]
        return self
