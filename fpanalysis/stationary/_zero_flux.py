"""The zero-flux law of a one-dimensional diffusion, by adaptive Gauss-Legendre panels in log space.

    p(h) = exp(U(h)) / B(h) up to a factor,      U' = 2 A / B

U is integrated panel by panel through the interpolating polynomial of 2 A / B, and only log p is ever formed,
basin by basin, so that neither barriers nor B -> 0 overflow. The domain comes from the solution: on a grid graded
towards the zeros of A it is where log p is within reach of its top. A panel is halved until p and U are resolved on
it; panels that carry less than exp(-DEEP) of their basin are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fpanalysis.gaussian import legendre_rule
from fpanalysis.stationary._result import Array

Terms = Callable[[Array], tuple[Array, Array, Array]]  #: A, B and dA/dh at h (S,)

NODES = 16
DEEP = 48.0  #: exp(-48) = 1e-21: where a law may be cut off
STEEP = 10.0  #: largest change of log p over a panel
TAIL = 1e-7  #: size of the last Legendre coefficients of p: its integral is right to the square of that
TAIL_U = 1e-12  #: the same for U, whose error enters p as it is
SEARCH = np.concatenate([2.0 ** np.arange(7), 8.0 ** np.arange(3, 10)])  #: distances at which the law is looked for
PANEL_BORDERS = np.array([2, 4, 5.5, 7, 8.5, 10, 16, 32, 64, 128, 256])  #: for a law about Gaussian near a zero of A
NARROW = 1e-7  #: width of a law, relative to its mean, below which it is taken as Gaussian
FAR = 1e7  #: how far to look for the law, relative to all known lengths
ROUNDS = 60
PANELS = 4000
STEEPEST = 1e200  #: bound on |2 A / B|, far beyond what a law can hold
EPS = float(np.finfo(float).eps)


class NoLaw(ArithmeticError):
    """The zero-flux solution cannot be normalised: the drift leads outward at infinity."""


class Unresolved(ArithmeticError):
    """Double precision does not hold the law."""


class Frozen(ArithmeticError):
    """There is one stable zero of A, about which the law is too narrow for its nonlinearity to be seen in float64."""

    def __init__(self, h: float, width: float) -> None:
        super().__init__(f"the law is narrower than rounding resolves: {width:.1g} about {h:.6g}")
        self.h, self.width = h, width


@dataclass
class Law:
    """A one-dimensional law on P adjacent panels with n nodes each; `weights` integrate over h.

    Per basin (between neighbouring cuts): `share`, its probability, and the moments conditional on it.
    """

    h: Array  #: (P, n)
    A: Array
    B: Array
    weights: Array
    log_p: Array
    share: Array
    means: Array
    variances: Array
    residual: float  #: relative error of p

    @property
    def p(self) -> Array:
        return np.exp(self.log_p)

    @property
    def mean(self) -> float:
        return float(self.share @ self.means)

    @property
    def variance(self) -> float:
        return float(self.share @ (self.variances + (self.means - self.mean) ** 2))

    @property
    def domain(self) -> tuple[float, float]:
        """Where the density is above exp(-DEEP) of its largest value."""
        here = self.h[self.log_p > self.log_p.max() - DEEP]
        return float(here[0]), float(here[-1])

    def expectation(self, values: Array) -> float:
        """E of what has `values` (P, n) at the nodes."""
        return float(np.sum(self.weights * self.p * values))


@dataclass
class _Panels:
    """Adjacent panels and what is known at their nodes."""

    left: Array
    right: Array
    h: Array
    A: Array
    B: Array

    @classmethod
    def on(cls, left: Array, right: Array, terms: Terms) -> _Panels:
        h = left[:, None] + (right - left)[:, None] * panel_rules()[0]
        A, B, _ = (values.reshape(h.shape) for values in terms(h.ravel()))
        return cls(left, right, h, A, B)

    @property
    def width(self) -> Array:
        return self.right - self.left

    def halved(self, split: NDArray[np.bool_], terms: Terms) -> _Panels:
        """With the panels marked in `split` (P,) cut in two."""
        left, right = self.left[split], self.right[split]
        middle = (left + right) / 2
        new = _Panels.on(np.concatenate([left, middle]), np.concatenate([middle, right]), terms)
        order = np.argsort(np.concatenate([self.left[~split], new.left]))
        fields = ((getattr(self, name)[~split], getattr(new, name)) for name in ("left", "right", "h", "A", "B"))
        return _Panels(*(np.concatenate(pair)[order] for pair in fields))


def zero_flux(terms: Terms, leak: float, bends: Array, reach: Array, cuts: Array) -> Law:
    """The law of the diffusion with `terms` A and B.

    Parameters
    ----------
    leak : rounding errors of A are EPS (|A| + leak |h|).
    bends, reach : (K,), states about which A and B change, and over which distance; panels begin there, so that
        a bend may be a kink.
    cuts : borders of the basins, ascending.

    Raises
    ------
    NoLaw
        If there is no normalisable solution.
    Frozen
        If the law is too narrow.
    Unresolved
        If double precision does not hold the law.
    """
    borders, origin = _window(terms, bends, reach, cuts)
    panels = _Panels.on(borders[:-1], borders[1:], terms)
    for _ in range(ROUNDS):
        law, split = _assess(panels, leak, cuts, origin)
        if not split.any():
            return law
        if len(split) + split.sum() > PANELS:
            break
        panels = panels.halved(split, terms)
    raise Unresolved("the law has features too fine for double precision")


def _assess(panels: _Panels, leak: float, cuts: Array, origin: float) -> tuple[Law, NDArray[np.bool_]]:
    """The law on these panels, and which of them to halve."""
    _, w, _, L = panel_rules()
    width, h = panels.width, panels.h
    r = np.clip(2 * panels.A / panels.B, -STEEPEST, STEEPEST) * width[:, None]
    noise = EPS * (2 * leak * np.abs(h / panels.B).max(axis=1) * width + np.abs(r).max(axis=1))
    tail_U = np.abs(r @ L.T).max(axis=1)
    log_p = _potential(r, tail_U, int(np.searchsorted(panels.left, origin))) - np.log(panels.B)
    basin = np.searchsorted(cuts, (panels.left + panels.right) / 2)
    tops = np.array([log_p[basin == k].max(initial=-np.inf) for k in range(len(cuts) + 1)])
    p = np.exp(log_p - tops[basin, None])
    masses = np.bincount(basin, width * (p @ w))
    portion = width / masses[basin]
    tail_p = np.abs(p @ L.T).max(axis=1) * portion
    weighty = p.max(axis=1) * portion > np.exp(-DEEP)
    inner = np.zeros(len(width), bool)
    inner[weighty.argmax() : len(width) - weighty[::-1].argmax()] = True
    beyond = _beyond(width * (p @ w) / masses[basin], basin)
    split = weighty & ((np.ptp(log_p, axis=1) > STEEP) | (tail_p > TAIL))
    split |= inner & (tail_U * beyond > np.maximum(TAIL_U, 10 * noise * beyond))
    split &= width > 1e-14 * np.maximum(np.abs(panels.left), np.abs(panels.right))
    log_share = tops + np.log(masses)
    total = float(np.logaddexp.reduce(log_share))
    means, variances = _moments(h, p * w * portion[:, None], basin)
    residual = float(
        np.sum((np.minimum(np.maximum(tail_U, noise), 1.0) * beyond)[inner]) + np.sum(tail_p[weighty] ** 2)
    )
    h, A, B, weights, log_p = (part[inner] for part in (h, panels.A, panels.B, width[:, None] * w, log_p - total))
    return Law(h, A, B, weights, log_p, np.exp(log_share - total), means, variances, residual), split


def _potential(r: Array, tail: Array, k: int) -> Array:
    """U at the nodes from its increments r (P, n), counted from the left border of panel k.

    Where the polynomial through r may overshoot, sums that have the sign of A stand in for its integral."""
    _, w, S, _ = panel_rules()
    steps = r * w
    within = np.where(tail[:, None] > 0.1, np.cumsum(steps, axis=1) - steps / 2, r @ S.T)
    return accumulate(steps.sum(axis=1), k)[:-1, None] + within


def _beyond(share: Array, basin: NDArray[np.intp]) -> Array:
    """What an error of U on a panel can move: the probability on its outer side, given the basin; between basins, 1."""
    first, last = basin == 0, basin == basin[-1]
    left = np.where(first, np.cumsum(np.where(first, share, 0.0)), 1.0)
    right = np.where(last, np.cumsum(np.where(last, share, 0.0)[::-1])[::-1], 1.0)
    return np.minimum(left, right)


def _moments(h: Array, q: Array, basin: NDArray[np.intp]) -> tuple[Array, Array]:
    """Mean and variance per basin from conditional probabilities q (P, n), about a typical state of each."""
    centres = np.array([h[basin == k].flat[q[basin == k].argmax()] for k in range(basin[-1] + 1)])
    d = h - centres[basin, None]
    offsets = np.bincount(basin, (q * d).sum(axis=1))
    variances = np.bincount(basin, (q * (d - offsets[basin, None]) ** 2).sum(axis=1)).astype(float)
    return centres + offsets, variances


def accumulate(rise: Array, k: int) -> Array:
    """Sums of `rise` (P,) from border k to every border (P + 1,): huge terms on one side leave the other exact."""
    return np.concatenate([-np.cumsum(rise[:k][::-1])[::-1], [0.0], np.cumsum(rise[k:])])


def _window(terms: Terms, bends: Array, reach: Array, cuts: Array) -> tuple[Array, float]:
    """Borders of panels that hold the law, graded towards the zeros of A and the bends, and one of those zeros."""
    far = FAR * (1 + np.abs(bends).max() + reach.max())
    points = _graded(bends, reach, SEARCH)
    points = np.unique(np.concatenate([points, [-far, far]]))
    A, _, _ = terms(points)
    change = np.flatnonzero(np.sign(A[1:]) != np.sign(A[:-1]))
    if not len(change) or A[0] < 0 or A[-1] > 0:
        raise NoLaw("the drift leads outward")
    zeros, width = _zeros(terms, points[change], points[change + 1])
    if len(zeros) == 1 and width[0] <= NARROW * max(abs(zeros[0]), NARROW):
        raise Frozen(float(zeros[0]), float(width[0]))
    points = np.unique(np.concatenate([points, _graded(zeros, width, SEARCH), cuts]))
    A, B, _ = terms(points)
    r = np.clip(2 * A / B, -STEEPEST, STEEPEST)
    middle = zeros[len(zeros) // 2]
    rise = (r[1:] + r[:-1]) / 2 * np.diff(points)
    log_p = accumulate(rise, int(np.abs(points - middle).argmin())) - np.log(B)
    basin = np.searchsorted(cuts, points)
    tops = np.array([log_p[basin == k].max() for k in range(len(cuts) + 1)])
    keep = np.flatnonzero(log_p > tops[basin] - DEEP - 12)
    if not len(keep):
        raise Unresolved("the noise vanishes over most of the range between the fixed points")
    low, high = points[max(keep[0] - 1, 0)], points[min(keep[-1] + 1, len(points) - 1)]
    borders = np.concatenate([_graded(zeros, width, PANEL_BORDERS), bends, cuts])
    return np.unique(np.concatenate([[low, high], borders[(borders > low) & (borders < high)]])), middle


def _graded(centres: Array, widths: Array, ladder: Array) -> Array:
    """Each centre, and points at `ladder` times its width on both sides of it, ascending."""
    d = widths[:, None] * ladder
    return np.unique(np.concatenate([(centres[:, None] - d).ravel(), centres, (centres[:, None] + d).ravel()]))


def _zeros(terms: Terms, low: Array, high: Array) -> tuple[Array, Array]:
    """Zeros of A in the brackets [low, high] by Newton's method kept inside them, and the local widths
    sqrt(B / 2 |A'|) of the law there, to a fraction of which the zeros are found."""
    up = terms(low)[0] > 0
    h, width = (low + high) / 2, high - low
    for _ in range(60):
        A, B, slope = terms(h)
        width[:] = np.sqrt(B / (2 * np.maximum(np.abs(slope), 1e-8)))
        left = (A > 0) == up
        low, high = np.where(left, h, low), np.where(left, high, h)
        step = h - A / np.where(slope == 0, 1.0, slope)
        new = np.where((step > low) & (step < high), step, (low + high) / 2)
        change, h = np.abs(new - h), new
        if np.all(change <= np.maximum(0.05 * width, 4 * EPS * np.abs(h))):
            break
    width = np.maximum(width, 4 * EPS * np.abs(h))
    return h, width


@lru_cache
def panel_rules() -> tuple[Array, Array, Array, Array]:
    """Nodes t and weights w on [0, 1]; S (n, n): integrals from 0 to t_i; L (2, n): last two Legendre coefficients."""
    t, w = legendre_rule(NODES)
    x = 2 * t - 1
    V = np.polynomial.legendre.legvander(x, NODES)
    to_coefficients = np.linalg.inv(V[:, :-1])
    integrals: Array = np.empty((NODES, NODES))
    integrals[:, 0] = x + 1
    integrals[:, 1:] = (V[:, 2:] - V[:, :-2]) / (2 * np.arange(1, NODES) + 1)
    cumulative: Array = np.asarray(integrals @ to_coefficients / 2, float)
    return t, w, cumulative, np.asarray(to_coefficients[-2:], float)
