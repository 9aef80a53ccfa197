"""One noisy neuron on whole grids at once: mean and variance by the scalar Gaussian closure, and where it rests.

With a = w m + b, f at x ~ N(a, s^2) (M, G, V of `Activation.moments`) and e = sigma^2 for noise in, 0 for noise out:

    m = M(a, s),    v = gamma (V + sigma^2 - e) / [2 - gamma - 2 (1 - gamma) w G],    s^2 = e + w^2 v

Given the operating point a and w this is one equation, for s^2, and b = a - w m follows; given b it is a second one,
for a. Both are solved by Steffensen's iteration, elementwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.activations import Activation

Array = NDArray[np.float64]

CYCLES = 25  #: of Steffensen's iteration, at most
TOLERANCE = 1e-11  #: of the iterations, relative to s^2, or to |a| + s
HALVINGS = 90
FLIP_STEPS = 2000  #: of a noise-free trajectory where the fixed point does not attract


class Law(NamedTuple):
    """Stationary mean m and variance v of h at the operating point (a, s) with the bias b; NaN where there is none."""

    a: Array
    s: Array
    b: Array
    m: Array
    v: Array


@dataclass(frozen=True)
class Neuron:
    """What does not change on a grid: the activation and where the noise enters."""

    f: Activation
    placement: str

    @property
    def inside(self) -> bool:
        return self.placement == "in"

    def at(self, a: ArrayLike, w: ArrayLike, sigma: ArrayLike, gamma: ArrayLike) -> Law:
        """The law at the operating point a, all arguments broadcast."""
        a, w, sigma, gamma = np.broadcast_arrays(*(np.asarray(x, float) for x in (a, w, sigma, gamma)))
        e = sigma**2 if self.inside else np.zeros(a.shape)
        s2 = _fixed_point(lambda s2: e + w**2 * self._variance(a, w, sigma, gamma, s2), e, lambda s2: s2, e)
        s = np.sqrt(s2)
        m = self.f.moments(a, s).M
        return Law(a, s, a - w * m, m, self._variance(a, w, sigma, gamma, s2))

    def _variance(self, a: Array, w: Array, sigma: Array, gamma: Array, s2: Array) -> Array:
        _, G, V, _ = self.f.moments(a, np.sqrt(s2))
        D = 2 - gamma - 2 * (1 - gamma) * w * G
        return gamma * (V if self.inside else V + sigma**2) / np.where(D > 0, D, np.nan)

    def of(self, w: ArrayLike, b: ArrayLike, sigma: ArrayLike, gamma: ArrayLike, guess: Array | None = None) -> Law:
        """The law of the neuron with weight w and bias b; `guess` is a first operating point."""
        w, b, sigma, gamma = np.broadcast_arrays(*(np.asarray(x, float) for x in (w, b, sigma, gamma)))

        def newton(a: Array) -> Array:
            law = self.at(a, w, sigma, gamma)
            return a - (law.b - b) / (1 - w * self.f.moments(a, law.s).G)

        start = b / (1 - np.minimum(w, 0.0)) if guess is None else guess
        a = _fixed_point(newton, start, lambda a: np.abs(a) + sigma)
        return self.at(a, w, sigma, gamma)

    def rest(self, w: ArrayLike, b: ArrayLike) -> Array:
        """h* = f(w h* + b): the only one, since w f' < 1."""
        w, b = np.broadcast_arrays(np.asarray(w, float), np.asarray(b, float))
        reach = 1 + np.abs(b)
        low, high = -reach, reach.copy()
        for _ in range(60):
            low = np.where(low > self.f.f(w * low + b), 2 * low, low)
            high = np.where(high < self.f.f(w * high + b), 2 * high, high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            above = middle > self.f.f(w * middle + b)
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        return (low + high) / 2

    def loss_at_rest(self, w: ArrayLike, b: ArrayLike, gamma: ArrayLike, target: ArrayLike) -> Array:
        """(h - target)^2 where the noise-free neuron ends: at h*, or on average over the cycle about it that a
        trajectory from the target reaches if the step flips (|1 - gamma + gamma w f'| > 1)."""
        values = np.broadcast_arrays(*(np.asarray(x, float) for x in (w, b, gamma, target)))
        h = self.rest(*values[:2])
        loss = np.array((h - values[3]) ** 2)
        flips = np.abs(1 - values[2] + values[2] * values[0] * self.f.df(values[0] * h + values[1])) > 1
        if flips.any():
            loss[flips] = self._loss_on_cycle(*(x[flips] for x in values))
        return loss

    def _loss_on_cycle(self, w: Array, b: Array, gamma: Array, target: Array) -> Array:
        h, total = target, np.zeros(target.shape)
        for t in range(FLIP_STEPS):
            h = (1 - gamma) * h + gamma * self.f.f(w * h + b)
            total += (h - target) ** 2 * (t >= FLIP_STEPS // 2)
        return total / (FLIP_STEPS // 2)


def steepest(f: Activation) -> float:
    """The largest slope of f."""
    return float(f.df(np.linspace(-40.0, 40.0, 8001)).max())


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def _fixed_point(
    step: Callable[[Array], Array], x: Array, scale: Callable[[Array], Array], low: Array | float = -np.inf
) -> Array:
    """x = step(x), elementwise and not below `low`; NaN where the iteration does not converge."""
    for _ in range(CYCLES):
        one = step(x)
        two = step(one)
        bend = two - 2 * one + x
        jump = x - (one - x) ** 2 / bend
        new = np.where(np.isfinite(jump) & (jump >= low) & (np.abs(bend) > 1e-13 * scale(two)), jump, two)
        done = np.abs(new - x) <= TOLERANCE * scale(new)
        x = new
        if np.all(done | np.isnan(x)):
            break
    return np.where(done, x, np.nan)
