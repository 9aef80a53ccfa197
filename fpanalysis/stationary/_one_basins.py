"""What the law of one neuron's chain puts into each basin of the noise-free dynamics.

Basins are intervals that meet at the unstable fixed points c. With a border at c, one step from y gives

    noise in:     P(h' > c | y) and the moments of h' there, the noise being split where h' = c
    otherwise:    h = y + tau xi,   P(h > c | y) = Phi((y - c) / tau),   and Gaussian moments beyond c
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fpanalysis import gaussian
from fpanalysis.stationary._one_step import REACH, Line, _crossing
from fpanalysis.stationary._result import Array, Basin

if TYPE_CHECKING:
    from fpanalysis.stationary._chain_one import Solved

LOOK = 802  #: points at which the noise-free step is looked at


@dataclass(frozen=True)
class Parts:
    stable: tuple[float, ...]
    borders: tuple[float, ...]


def parts(line: Line, low: float, high: float) -> Parts | None:
    """Stable fixed points and the borders between them; None where there are not several."""
    from scipy.optimize import brentq

    def pull(h: float) -> float:
        return float(line.drift(np.array([h]))[0] - h)

    margin = REACH * line.tau
    h = np.linspace(low - margin, high + margin, LOOK)
    sign = np.sign(line.drift(h) - h)
    down, up = (np.nonzero((s * sign[:-1] > 0) & (s * sign[1:] < 0))[0] for s in (1, -1))
    if len(down) < 2 or len(up) != len(down) - 1:
        return None
    root = [tuple(float(brentq(pull, h[k], h[k + 1], xtol=1e-15)) for k in cut) for cut in (down, up)]
    return Parts(*root)


def basins(line: Line, found: Solved, before: Solved, split: Parts) -> tuple[Basin, ...] | None:
    """With errors from rounding and from the change against the solution `before`; None where there is one basin, or
    f does not rise with noise in, so that a border is crossed at more than one value of the noise."""
    if line.inside and not _rises(line):
        return None
    now, rounding = found.average(_observables(line, found.y, split))
    past = before.average(_observables(line, before.y, split))[0]
    change = 2 * np.abs(now - past) + rounding
    result = []
    for k, point in enumerate(split.stable):
        weight, first, second = now[3 * k : 3 * k + 3]
        d_weight, d_first, _ = change[3 * k : 3 * k + 3]
        if not weight > d_weight:
            nan = np.full(1, np.nan)
            result.append(
                Basin(max(float(weight), 0.0), nan, nan[:, None], np.array([point]), float(d_weight + abs(weight)))
            )
            continue
        mean = point + first / weight
        var = max(second / weight - (first / weight) ** 2, 0.0)
        error = (d_first + abs(first / weight) * d_weight) / weight
        result.append(
            Basin(
                float(weight),
                np.array([mean]),
                np.array([[var]]),
                np.array([point]),
                float(d_weight),
                np.array([error + 1e-15 * abs(mean)]),
            )
        )
    return tuple(result)


def _rises(line: Line) -> bool:
    return bool((np.diff(line.f(np.linspace(-6, 6, 200))) >= 0).all())


def _observables(line: Line, y: Array, split: Parts) -> Array:
    """Per basin the probability to be in it and the first two moments about its fixed point, (len(y), 3 basins)."""
    ends = [-np.inf, *split.borders, np.inf]
    columns: list[Array] = []
    for low, high, point in zip(ends[:-1], ends[1:], split.stable, strict=True):
        columns += (
            _within(line, y, low, high, point)
            if line.inside
            else _normal(line.tau, y - point, low - point, high - point)
        )
    return np.stack(columns, axis=1)


def _normal(tau: float, y: Array, low: float, high: float) -> list[Array]:
    """E[1, h, h^2; low < h < high] of h ~ N(y, tau^2)."""
    from scipy.special import ndtr

    a, b = (low - y) / tau, (high - y) / tau
    phi = [np.where(np.isfinite(z), np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi), 0.0) for z in (a, b)]
    P = np.where(a + b > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))
    edge = [np.where(np.isfinite(z), z, 0.0) * f for z, f in zip((a, b), phi, strict=True)]
    Z = phi[0] - phi[1]
    return [P, y * P + tau * Z, (y**2 + tau**2) * P + 2 * y * tau * Z + tau**2 * (edge[0] - edge[1])]


def _within(line: Line, y: Array, low: float, high: float, point: float) -> list[Array]:
    """The same for h' from y with noise in, by Gauss-Legendre between the borders, and the kink of f if it has one."""
    ends = np.full(len(y), REACH)
    cuts = [-ends, ends]
    for c, far in ((low, -ends), (high, ends)):
        cuts.append(far if not np.isfinite(c) else _crossing_or_end(line, y, c))
    a, b = cuts[2], cuts[3]
    middle = np.clip(line.kink(y) if line.kinked else (a + b) / 2, np.minimum(a, b), b)
    total = [np.zeros(len(y)) for _ in range(3)]
    t, v = gaussian.legendre_rule(80)
    for left, right in ((a, middle), (middle, b)):
        width = np.maximum(right - left, 0.0)
        xi = left + width * t[:, None]
        w = width * v[:, None] * np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi)
        d = line.after(y, xi) - point
        for k in range(3):
            total[k] += (w * d**k).sum(axis=0)
    return total


def _crossing_or_end(line: Line, y: Array, c: float) -> Array:
    """The xi that leads to c; where there is none the end of the noise beyond which it would lie."""
    ends = np.full(len(y), REACH)
    x = _crossing(line, y, -ends, ends, c)
    above = line.after(y, -ends) >= c
    return np.where(above, -ends, x)
