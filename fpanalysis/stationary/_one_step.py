"""One neuron's step as a matrix: what Chebyshev polynomials of the next state are on average.

The state y is taken where the noise has yet to pass through f, so that the average over the noise smooths whatever
kink f has:

    noise in:                    y = h,                      y' = (1-gamma) y + gamma f(w y + d + sigma xi)
    noise out, current form:     h = y + gamma sigma xi,     y' = A(h), the step without noise

On [low, high], with y' beyond an end put on it, E[s, k] = E[T_k(y') | y_s] at Chebyshev nodes y_s. The mean over xi is
a trapezoid sum where the integrand is analytic; else it is Gauss-Legendre between kinks of f and crossings of the
ends, and one point, the mean of xi, with its probability where y' does not depend on xi.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from fpanalysis import gaussian
from fpanalysis.stationary._result import Array
from fpanalysis.stationary._transition import PROBE, Step, Unresolved, _chebyshev

REACH = gaussian.TAIL
MOST = 20_000  #: nodes of the rule in xi on either side
SECANTS = 40  #: steps of the search for the noise that leads to an end of the box


class Line:
    """The step of one neuron, in y; `tau` is the noise that h has beyond y, 0 with noise in."""

    def __init__(self, step: Step) -> None:
        self.step, self.activation = step, step.activation
        self.w, self.d = float(step.W[0, 0]), float(step.d[0])
        self.gamma, self.sigma = float(step.gamma[0]), float(step.sigma[0])
        self.inside = step.inside
        self.tau = 0.0 if step.inside else self.gamma * self.sigma
        self.kinked = not step.activation.smooth
        self.limits = self._limits()

    def f(self, x: Array) -> Array:
        return self.step.f(x[..., None])[..., 0]

    def drift(self, h: Array) -> Array:
        """A(h), the step without noise."""
        if self.step.current:
            return (1 - self.gamma) * h + self.gamma * (self.w * self.f(h) + self.d)
        return (1 - self.gamma) * h + self.gamma * self.f(self.w * h + self.d)

    def after(self, y: Array, xi: Array) -> Array:
        """y' from y at the noise xi."""
        if not self.inside:
            return self.drift(y + self.tau * xi)
        return (1 - self.gamma) * y + self.gamma * self.f(self.w * y + self.d + self.sigma * xi)

    def state(self, y: Array, xi: Array) -> Array:
        """The next h from y: y' with noise in, otherwise the h that y' = A(h) follows."""
        return self.after(y, xi) if self.inside else y + self.tau * xi

    def _limits(self) -> tuple[float, float]:
        """Bounds that y does not leave, of a ReLU with noise in the one up to which |xi| <= REACH lead."""
        f = self.f(PROBE)
        low, high = float(f.min()), float(f.max())
        if not self.inside:
            if self.gamma < 1:
                return -np.inf, np.inf
            if self.step.current:
                low, high = sorted((self.w * low + self.d, self.w * high + self.d))
            elif self.w == 0:
                low = high = float(self.f(np.array([self.d]))[0])
        if low == high:  # A is constant
            low, high = low - 1e-3 * self.tau, high + 1e-3 * self.tau
        low, high = (low if low > -1e3 else -np.inf), (high if high < 1e3 else np.inf)
        if self.inside and self.step.flat and self.step.slope == 1 and self.w < 1:
            high = min(high, max(self.d + REACH * self.sigma, 1e-3 * self.sigma) / (1 - max(self.w, 0.0)))
        return low, high

    def kink(self, y: Array) -> Array:
        """The xi at which f is at its kink."""
        if self.inside:
            return -(self.w * y + self.d) / self.sigma
        place = 0.0 if self.step.current else -self.d / self.w if self.w else np.inf
        return (place - y) / self.tau

    def slope(self) -> float:
        """dy' / dxi, at most, as far as f is known."""
        if self.inside:
            return self.gamma * self.sigma * self.step.slope
        return self.tau * max(1 - self.gamma, abs(1 - self.gamma + self.gamma * self.w * self.step.slope))

    def strip(self) -> float:
        """Distance of the nearest singularity of y'(xi) from the real axis."""
        width = self.sigma if self.inside else self.tau * (1.0 if self.step.current else abs(self.w))
        return self.activation.strip / width if width > 0 else np.inf


@dataclass(frozen=True)
class Rule:
    """Noise xi and weights (Q, S), and where it leads: y' on the box, and whether it had to be put there."""

    xi: Array
    weight: Array
    after: Array


def rule(line: Line, y: Array, low: float, high: float, n: int, split: bool) -> Rule:
    """The mean over xi from each of `y` (S,) for polynomials up to degree n - 1 on [low, high]."""
    if not split:
        xi, w = _trapezoid(line, high - low, n)
        after = line.after(y, xi[:, None])
        return Rule(xi[:, None], np.broadcast_to(w[:, None], after.shape), after)
    edges = _edges(line, y, low, high)
    widths, mass = np.diff(edges, axis=0), _mass(edges)
    left, right = (line.after(y, edges[:-1] + widths * t) for t in (0.05, 0.95))
    beyond = (np.minimum(left, right) >= high) | (np.maximum(left, right) <= low)
    still = (left == right) | beyond | (widths <= 0)
    points = [(_center(edges, mass), np.where(still, mass, 0.0))]
    order = np.argsort(still, axis=0, kind="stable")[: max(1, int((~still).sum(axis=0).max()))]
    t, v = gaussian.legendre_rule(_points(line, high - low, n))
    for slot in order:
        columns = np.arange(len(y))
        xi = edges[slot, columns] + widths[slot, columns] * t[:, None]
        w = v[:, None] * np.exp(-((xi**2) - (xi**2).min(axis=0)) / 2)
        points.append((xi, w * (np.where(still, 0.0, mass)[slot, columns] / w.sum(axis=0))))
    xi, w = (np.concatenate(parts) for parts in zip(*points, strict=True))
    w /= w.sum(axis=0)
    return Rule(xi, w, line.after(y, xi))


def _mass(edges: Array) -> Array:
    """P(xi between successive edges), right relative to itself in both tails."""
    from scipy.special import ndtr

    a, b = edges[:-1], edges[1:]
    return np.where(a + b > 0, ndtr(-a) - ndtr(-b), ndtr(b) - ndtr(a))


def _center(edges: Array, mass: Array) -> Array:
    """E[xi] between successive edges."""
    density = np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi)
    mean = (density[:-1] - density[1:]) / np.where(mass > 0, mass, np.inf)
    return np.asarray(np.clip(mean, edges[:-1], edges[1:]))


def _trapezoid(line: Line, width: float, n: int) -> tuple[Array, Array]:
    """Error at most exp(r^2/2 + n c r - 2 pi r / step) for every r below the strip, c being dy'/dxi in half boxes."""
    c = 2 * line.slope() / width
    r = np.linspace(0.05, 1.0, 20) * min(line.strip(), np.sqrt(2 * gaussian.DIGITS))
    step = min(0.5, float((2 * np.pi * r / (gaussian.DIGITS + r**2 / 2 + n * c * r)).max()))
    K = int(np.ceil(REACH / step))
    if K > MOST:
        raise Unresolved(f"one step's noise is so much wider than the law that it would take {2 * K + 1} nodes a state")
    xi = step * np.arange(-K, K + 1.0)
    w = np.exp(-(xi**2) / 2)
    return xi, w / w.sum()


def _points(line: Line, width: float, n: int) -> int:
    swing = min(np.pi, 2 * REACH * 2 * line.slope() / width)
    return 8 * int(np.ceil((44 + 0.5 * n * swing) / 8))


def _edges(line: Line, y: Array, low: float, high: float) -> Array:
    """Ends of the pieces of xi, (pieces + 1, S)."""
    ends = np.full((1, len(y)), REACH)
    parts = np.concatenate([-ends, ends])
    if line.kinked:
        parts = np.concatenate([-ends, np.clip(line.kink(y), -REACH, REACH)[None], ends])
    cuts = [parts]
    for end, limit in ((low, line.limits[0]), (high, line.limits[1])):
        if end != limit:
            cuts += [_crossing(line, y, a, b, end)[None] for a, b in itertools.pairwise(parts)]
    return np.sort(np.concatenate(cuts), axis=0)


def _crossing(line: Line, y: Array, a: Array, b: Array, end: float) -> Array:
    """The xi between a and b at which y' = end (false position, Illinois); b where there is none."""
    fa, fb = line.after(y, a) - end, line.after(y, b) - end
    none = (fa > 0) == (fb > 0)
    if none.all():
        return b
    a, b, stop = a.copy(), b.copy(), b
    near = 1e-14 * (abs(end) + float(np.abs(np.where(none, 0.0, fb - fa)).max()))
    side = np.zeros(len(y))
    x = b
    for _ in range(SECANTS):
        slope = np.where(fb == fa, 1.0, fb - fa)
        x = np.where(none, stop, b - fb * (b - a) / slope)
        fx = line.after(y, x) - end
        if (none | (np.abs(fx) <= near)).all():
            break
        right = (fx > 0) == (fb > 0)
        fa = np.where(right, np.where(side == 1, fa / 2, fa), fx)
        fb = np.where(right, fx, np.where(side == -1, fb / 2, fb))
        a, b = np.where(right, a, x), np.where(right, x, b)
        side = np.where(right, 1, -1)
    return x


def matrix(after: Array, weight: Array, low: float, high: float, n: int) -> tuple[Array, Array]:
    """E (S, n), and the probabilities (S, 2) to be put on the low and on the high end."""
    t = (2 * after - (low + high)) / (high - low)
    out = np.stack([np.where(t < -1, weight, 0.0).sum(axis=0), np.where(t > 1, weight, 0.0).sum(axis=0)], axis=1)
    t = np.clip(t, -1.0, 1.0)
    E = np.empty((n, t.shape[1]))
    previous, now = weight, weight * t
    E[0], E[1] = 1.0, now.sum(axis=0)
    t *= 2
    for k in range(2, n):
        previous, now = now, t * now - previous
        E[k] = now.sum(axis=0)
    return E.T, out


def nodes(low: float, high: float, n: int) -> tuple[Array, Array]:
    """Chebyshev nodes y (n,) and T_k there (n, n)."""
    x, V, _ = _chebyshev(n)
    return (low + high) / 2 + (high - low) / 2 * x, V
