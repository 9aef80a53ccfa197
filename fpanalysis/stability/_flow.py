"""Trajectories and their tangent vectors under the same noise, re-orthonormalised as they go (QR method).

The state h and k tangent vectors V follow one noisy map (V starts random and orthonormal),

    h' = h + (1 + mu zeta) o (F_xi(h) - h),    V' = V + (1 + mu zeta) o (J_xi(h) V - V)

with F_xi the noisy step, J_xi its Jacobian at the same xi, and mu zeta noise on the increment, zeta ~ N(0, I). Every
few steps V = Q R; log |R_ii| adds up to the growth along the i-th direction (Benettin et al., Meccanica 15 (1980) 9;
Geist, Parlitz & Lauterborn, Prog. Theor. Phys. 83 (1990) 875).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.system import System

Array = NDArray[np.float64]

FAR = 1e100  #: a state beyond it has diverged
LONGEST = 32  #: steps between two QR decompositions, at most
SPREAD = 1e3, 1e7  #: ratio of the |R_ii| below which the steps between two are doubled, and above which they are halved
ZERO = 1e-14  #: a |R_ii| below this share of the largest, after a single step, is rounding: growth -inf


class Flow:
    """`chains` trajectories, each with k tangent vectors; `inputs` (T, n_in) are repeated."""

    def __init__(
        self, net: System, inputs: Array, start: Array, k: int, multiplicative: float, rng: np.random.Generator
    ) -> None:
        self.net, self.inputs, self.multiplicative, self.rng = net, inputs, multiplicative, rng
        self.noisy = bool(np.any(net.sigma))
        self.h = start
        self.V = np.linalg.qr(rng.standard_normal((len(start), net.N, k)))[0].swapaxes(1, 2)
        self.t, self.interval = 0, 1
        self.gone = np.zeros(self.V.shape[:2], bool)  # directions that a step has destroyed stay so
        self.diverged = False

    @np.errstate(over="ignore", invalid="ignore")
    def grow(self, steps: int) -> Array:
        """`steps` further steps; the sums of log |R_ii| over them, (chains, k)."""
        total = np.zeros(self.V.shape[:2])
        done = 0
        while done < steps and not self.diverged:
            count = min(self.interval, steps - done)
            for _ in range(count):
                self._step()
            done += count
            self.diverged = not bool((np.abs(self.h) < FAR).all())
            if not self.diverged:
                total += self._orthonormalise(count)
        return total

    def _step(self) -> None:
        net, u = self.net, self.inputs[self.t % len(self.inputs)]
        noise = net.sigma * self.rng.standard_normal(self.h.shape) if self.noisy else 0.0
        h, V = net.tangent_step(self.h, u, noise, self.V)
        if self.multiplicative:
            factor = 1 + self.multiplicative * self.rng.standard_normal(self.h.shape)
            h, V = self.h + factor * (h - self.h), self.V + factor[:, None] * (V - self.V)
        self.h, self.V, self.t = h, V, self.t + 1

    def _orthonormalise(self, count: int) -> Array:
        Q, R = np.linalg.qr(self.V.swapaxes(1, 2))
        self.V = np.ascontiguousarray(Q.swapaxes(1, 2))
        size = np.abs(np.diagonal(R, axis1=1, axis2=2))
        largest = size.max(axis=1, keepdims=True)
        if count == 1:
            self.gone = np.logical_or.accumulate(self.gone | (size <= ZERO * largest), axis=1)
        size = np.where(self.gone, 0.0, size)
        with np.errstate(divide="ignore"):
            logs = np.log(size)
        least = np.where(self.gone, largest, np.maximum(size, 1e-300)).min(axis=1, keepdims=True)
        spread = float(np.max(largest / least, initial=1.0, where=largest > 0))
        if count == self.interval:
            self.interval = min(2 * count, LONGEST) if spread < SPREAD[0] else count
            self.interval = max(count // 2, 1) if spread > SPREAD[1] else self.interval
        return logs
