"""Where the noise-free dynamics comes to rest."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.search.seeds import ESCAPED, run
from fpanalysis.system import System

Array = NDArray[np.float64]


def settle(net: System, h: ArrayLike, u: ArrayLike | None = None, steps: int = 20_000) -> tuple[Array, Array]:
    """Follow the noise-free dynamics from `h` (K, N) to where it comes to rest.

    Returns the states reached (K, N), polished by Newton where they rest, and whether each rests (K,):
    False for a trajectory that still moves after `steps` (a limit cycle, chaos) or escapes.
    """
    u = net.check_input(u)
    h = np.array(h, float)
    u = np.broadcast_to(u, (len(h), net.n_in))
    rests = np.zeros(len(h), bool)
    active = np.arange(len(h))
    for _ in range(0, steps, 100):
        h[active] = run(net, h[active], u[active], 100)
        gap = np.abs(net.target(h[active], u[active]) - h[active]).max(axis=-1)
        close = gap <= 1e-6 * (1 + np.abs(h[active]).max(axis=-1))
        trial, residual = newton(net, h[active[close]], u[active[close]])
        near = np.abs(trial - h[active[close]]).max(axis=-1, initial=0.0) <= 1e-3 * (1 + np.abs(trial).max(axis=-1))
        good = active[close][(residual <= bound(trial)) & near]
        h[good] = trial[(residual <= bound(trial)) & near]
        rests[good] = True
        gone = np.abs(h[active]).max(axis=-1) > ESCAPED
        active = active[~np.isin(active, good) & ~gone]
        if not len(active):
            break
    return h, rests
