"""The Fokker-Planck law of one neuron: landmarks, basins, spectral gap, density.

Basins are those of the noise-free dynamics, whose borders are the unstable zeros of F(h) - h. The second eigenvalue
lambda of the generator comes from power iteration with its inverse,

    g' = 2 / (B p) * integral of f p up to h,      |lambda| = <f, g> / <g, g>

for mean-free f and g: sums without cancellation, hence right for a barrier of any height. The gap of the step is
1 - exp(lambda), the time unit being one step.
"""

from __future__ import annotations

import numpy as np

from fpanalysis.network import Network
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._result import Array, Basin, Densities, Density, Problem
from fpanalysis.stationary._zero_flux import Law, accumulate, panel_rules, zero_flux

POWER_STEPS = 40
LOWEST = -600.0  #: log p below which a barrier is not resolved in double precision, and the gap is given as 0


def solve_one(problem: Problem) -> tuple[Law, Array]:
    """The law of a one-neuron problem, and the stable fixed points (K,) of its noise-free dynamics, ascending.

    Raises `NoLaw` or `Unresolved`.
    """
    diffusion, net = Diffusion.of(problem), problem.network
    stable, cuts = fixed_points(net, problem.u)
    bend, scale = _bend(diffusion)
    return zero_flux(diffusion.along, float(diffusion.gamma[0]), bend, scale, cuts), stable


def _bend(diffusion: Diffusion) -> tuple[Array, Array]:
    """Where f turns, in h, and over which length."""
    net, noise = diffusion.problem.network, float(diffusion.sigma[0])
    length = noise if not net.smooth else max(noise if diffusion.noise_in else 0.0, net.activation.strip)
    w = net.W[0, 0] if net.form == "rate" else 1.0
    if w == 0:
        return np.zeros(1), np.array([noise])
    centre = -diffusion.drive[0] / w if net.form == "rate" else 0.0
    return np.array([centre]), np.array([length / abs(w)])


def fixed_points(net: Network, u: Array) -> tuple[Array, Array]:
    """Stable and unstable zeros of F(h) - h, both ascending: between the points where F' = 1 and the kink it is
    monotone, so that its signs there miss none."""
    w, drive = float(net.W[0, 0]), float(net.drive(u)[0])

    def target(h: Array) -> Array:
        f = net.activation.f((h if net.form == "current" else w * h + drive)[:, None])[:, 0]
        return w * f + drive if net.form == "current" else f

    inner = np.linspace(-40.0, 40.0, 161) * net.activation.strip  # for an f whose slopes are not known
    if net.activation.slope_peak is not None:
        inner = np.array([0.0])
        if w > 0:
            inner = np.append(inner, [float(x) for x in net.activation.slope_inverse(np.array(1 / w))])
    inner = inner[np.isfinite(inner)]
    if net.form == "rate":
        inner = (inner - drive) / w if w else np.array([drive])
    far = 1e6 * (1 + np.abs(inner).max() + abs(drive))
    h = np.unique(np.concatenate([[-far], inner, [far]]))
    sign = np.sign(target(h) - h)
    h, sign = h[sign != 0], sign[sign != 0]
    change = np.flatnonzero(sign[1:] != sign[:-1])
    low, high = h[change], h[change + 1]
    falling = sign[change] > 0
    for _ in range(80):
        middle = (low + high) / 2
        left = (target(middle) > middle) == falling
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return low[falling], low[~falling]


def gap(law: Law) -> float:
    """Spectral gap 1 - exp(lambda) of the generator."""
    if law.log_p.min() < LOWEST:
        return 0.0
    _, w, S, _ = panel_rules()
    p, width = law.p, law.weights.sum(axis=1)
    q = law.weights * p
    middle = int(np.searchsorted(np.cumsum(q.sum(axis=1)), 0.5))
    f, rate = law.h - law.mean, 0.0
    for _ in range(POWER_STEPS):
        rise = (f * p) @ w * width
        flow = accumulate(rise, 0)[:-1, None] + (f * p) @ S.T * width[:, None]
        flow[middle:] = (accumulate(rise, len(rise))[1:, None] - (f * p) @ (w - S).T * width[:, None])[middle:]
        slope = -2 * flow / (law.B * p)
        g = accumulate(slope @ w * width, middle)[:-1, None] + slope @ S.T * width[:, None]
        g -= np.sum(q * g)
        size = np.sum(q * g * g)
        last, rate = rate, float(np.sum(q * f * g) / size)
        f = g / np.sqrt(size)
        if abs(rate - last) <= 1e-7 * rate:
            break
    return float(-np.expm1(-rate))


def densities(law: Law) -> Densities:
    """The density at the panels' nodes, with the weights of the quadrature."""
    density = Density(("neuron 0",), (law.h.ravel(),), law.p.ravel(), (law.weights.ravel(),))
    return density, {"neuron 0": density}


def basins(law: Law, stable: Array) -> tuple[Basin, ...] | None:
    """What the law puts into each basin; None where there is only one."""
    if len(stable) < 2:
        return None
    parts = zip(law.share, law.means, law.variances, stable, strict=True)
    return tuple(Basin(float(p), np.array([m]), np.array([[v]]), np.array([h])) for p, m, v, h in parts)
