"""Trajectories and their tangent vectors under the same noise, re-orthonormalised as they go (QR method).

The state h and k tangent vectors V follow one noisy map (V starts random and orthonormal),

    h' = h + gamma [(1 + mu zeta) o (F - h) + sigma xi],    V' = V + gamma (1 + mu zeta) o (F' V - V)

or, with noise inside f, F and its Jacobian F' at the same xi and no sigma xi outside; zeta ~ N(0, I) is independent of
xi, or xi itself in a `LipschitzRNN` of "joint" noise. Every few steps V = Q R; log |R_ii| adds up to the growth along
the i-th direction (Benettin et al., Meccanica 15 (1980) 9; Geist, Parlitz & Lauterborn, Prog. Theor. Phys. 83 (1990)
875).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.system import System

Array = NDArray[np.float64]

FAR = 1e100  #: a state beyond it has diverged
LONGEST = 32  #: steps between two QR decompositions, at most
SPREAD = 7.0, 16.0  #: of log |R_ii| and 0, below which the steps between two are doubled, and above which halved
ZERO = 1e-14  #: a |R_ii| below this share of the largest, after a single step, is rounding: growth -inf


class Flow:
    """`chains` trajectories, each with k tangent vectors; `inputs` (T, n_in) are repeated."""

    def __init__(
        self, net: System, inputs: Array, start: Array, k: int, multiplicative: float | Array, rng: np.random.Generator
    ) -> None:
        self.net, self.inputs, self.multiplicative, self.rng = net, inputs, multiplicative, rng
        self.noisy, self.stretched = bool(np.any(net.sigma)), bool(np.any(multiplicative))
        self.joint = self.stretched and isinstance(net, LipschitzRNN) and net.noise == "joint"
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
            self.diverged = not bool((np.abs(self.h) < FAR).all() and np.isfinite(self.V).all())
            if not self.diverged:
                total += self._orthonormalise(count)
        return total

    def _step(self) -> None:
        net, u = self.net, self.inputs[self.t % len(self.inputs)]
        xi = self.rng.standard_normal(self.h.shape) if self.noisy or self.joint else 0.0
        factor: float | Array = 1.0
        if self.stretched:
            zeta = xi if self.joint else self.rng.standard_normal(self.h.shape)
            factor = 1 + self.multiplicative * np.asarray(zeta)
        self.h, self.V = net.tangent_step(self.h, u, net.sigma * xi, self.V, factor)
        self.t += 1

    def _orthonormalise(self, count: int) -> Array:
        Q, R = np.linalg.qr(self.V.swapaxes(1, 2))
        self.V = np.ascontiguousarray(Q.swapaxes(1, 2))
        size = np.abs(np.diagonal(R, axis1=1, axis2=2))
        largest = size.max(axis=1, keepdims=True)
        lost = size <= ZERO * largest if count == 1 else size == 0
        self.gone = np.logical_or.accumulate(self.gone | lost, axis=1)
        size = np.where(self.gone, 0.0, size)
        with np.errstate(divide="ignore"):
            logs = np.log(size)
        left = np.where(self.gone, 0.0, logs)
        spread = float((left.max(axis=1, initial=0.0) - left.min(axis=1, initial=0.0)).max())
        if count == self.interval:
            self.interval = min(2 * count, LONGEST) if spread < SPREAD[0] else count
            self.interval = max(count // 2, 1) if spread > SPREAD[1] else self.interval
        return logs
