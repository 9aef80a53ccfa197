"""Which weight and bias a neuron ends at: by minimising its expected loss, or by a training of finite length.

The expected loss L = (m - target)^2 + v is a function of (a, w), where a law costs least (`Neuron.at`); b = a - w m.
Along w it is a long flat valley, across it a steep one, so that the best a is found for each w, then the best w. A
training follows the same loss with Adam in (w, b), without sampling, and stops where its steps are spent.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fpanalysis.regulator._incentive_law import Law, Neuron

Array = NDArray[np.float64]

SCAN = 41  #: operating points looked at before the best one is refined
DEPTH, HEIGHT = 9.0, 3.0  #: how far below and above the noise-free operating point they reach, in units of s
WEIGHTS = 17  #: weights looked at before the best one is refined
GOLDEN = (np.sqrt(5) - 1) / 2
HIGHEST_W = 0.5
BETA1, BETA2, EPSILON, CLIP = 0.9, 0.999, 1e-8, 1.0  #: Adam's, and the largest norm of the gradient
DIFFERENCE = 1e-5  #: step of the central differences, relative to s and 1 + |w|


def expected_loss(law: Law, target: Array) -> Array:
    """(m - target)^2 + v, infinite where there is no law."""
    return np.nan_to_num((law.m - target) ** 2 + law.v, nan=np.inf)


def minimise(loss: Callable[[Array], Array], grid: Array, steps: int) -> Array:
    """The x of least loss(x) on grid (n, ...), refined by golden sections between its neighbours; `loss` is elementwise
    and takes the whole grid."""
    best = np.argmin(loss(grid), axis=0)
    pick = [np.take_along_axis(grid, np.clip(best + k, 0, len(grid) - 1)[None], 0)[0] for k in (-1, 1)]
    low, high = pick
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    f_left, f_right = loss(left), loss(right)
    for _ in range(steps):
        down = f_left <= f_right
        low, high = np.where(down, low, left), np.where(down, right, high)
        kept, f_kept = np.where(down, left, right), np.where(down, f_left, f_right)
        new = np.where(down, high - GOLDEN * (high - low), low + GOLDEN * (high - low))
        f_new = loss(new)
        left, right = np.where(down, new, kept), np.where(down, kept, new)
        f_left, f_right = np.where(down, f_new, f_kept), np.where(down, f_kept, f_new)
    return np.where(f_left <= f_right, left, right)


def held_point(neuron: Neuron, target: Array) -> Array:
    """The a with f(a) = target, by bisection."""
    low, high = np.full(target.shape, -1.0), np.full(target.shape, 1.0)
    for _ in range(60):
        low = np.where(neuron.f.f(low) > target, 2 * low, low)
        high = np.where(neuron.f.f(high) < target, 2 * high, high)
    for _ in range(100):
        middle = (low + high) / 2
        below = neuron.f.f(middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return high


def best_point(neuron: Neuron, w: Array, target: Array, sigma: Array, gamma: Array) -> Array:
    """The operating point a of least expected loss at the weight w."""
    a = held_point(neuron, target)
    s = neuron.at(a, w, sigma, gamma).s
    s = np.where(np.isfinite(s), s, sigma) + (0 if neuron.inside else np.sqrt(gamma) * sigma)
    x = np.linspace(-DEPTH, HEIGHT, SCAN).reshape(-1, *([1] * s.ndim))
    return minimise(lambda a: expected_loss(neuron.at(a, w, sigma, gamma), target), a + s * x, 24)


def best_weight(neuron: Neuron, target: Array, sigma: Array, gamma: Array) -> tuple[Array, NDArray[np.bool_]]:
    """The weight of least expected loss between 1 - 2 / gamma, where the noise-free step begins to flip, and 1/2; and
    whether it lies at the lower bound."""
    lowest = 1 - 2 / gamma

    def weight(x: Array) -> Array:
        return 1 - (1 - HIGHEST_W) * ((1 - lowest) / (1 - HIGHEST_W)) ** x

    def loss(x: Array) -> Array:
        a = best_point(neuron, weight(x), target, sigma, gamma)
        return expected_loss(neuron.at(a, weight(x), sigma, gamma), target)

    grid = np.broadcast_to(np.linspace(0, 1, WEIGHTS).reshape(-1, *([1] * gamma.ndim)), (WEIGHTS, *gamma.shape))
    x = minimise(loss, grid, 20)
    at_bound = x > 0.998
    return weight(np.where(at_bound, 1.0, x)), at_bound


def train(
    neuron: Neuron, target: Array, sigma: Array, gamma: Array, w: Array, steps: int, lr: float
) -> tuple[Array, Array]:
    """(w, a) after `steps` of Adam on the expected loss, from weight w and the bias that holds the target without
    noise, the learning rate on a cosine to zero and the norm of the gradient clipped."""
    x = np.stack([w, held_point(neuron, target) - w * target])
    a = neuron.of(x[0], x[1], sigma, gamma).a
    first, second = np.zeros(x.shape), np.zeros(x.shape)
    for k in range(steps):
        gradient, b, b_a, b_w = _gradient(neuron, a, x[0], target, sigma, gamma)
        gradient *= CLIP / np.maximum(CLIP, np.hypot(*gradient))
        first = BETA1 * first + (1 - BETA1) * gradient
        second = BETA2 * second + (1 - BETA2) * gradient**2
        rate = lr * (1 + np.cos(np.pi * k / steps)) / 2
        size = np.sqrt(second / (1 - BETA2 ** (k + 1))) + EPSILON
        step = -rate * first / (1 - BETA1 ** (k + 1)) / size
        x = x + step
        a = a + (x[1] - b - b_w * step[0]) / b_a
    return x[0], neuron.of(x[0], x[1], sigma, gamma, a).a


def _gradient(
    neuron: Neuron, a: Array, w: Array, target: Array, sigma: Array, gamma: Array
) -> tuple[Array, Array, Array, Array]:
    """(dL/dw, dL/db), and b with its slopes along a and w, at the operating point a, from differences in (a, w)."""
    da, dw = DIFFERENCE * sigma, DIFFERENCE * (1 + np.abs(w))
    sides = neuron.at(np.stack([a + da, a - da, a, a]), np.stack([w, w, w + dw, w - dw]), sigma, gamma)
    L, b = (sides.m - target) ** 2 + sides.v, sides.b
    L_a, L_w = (L[0] - L[1]) / (2 * da), (L[2] - L[3]) / (2 * dw)
    b_a, b_w = (b[0] - b[1]) / (2 * da), (b[2] - b[3]) / (2 * dw)
    return np.stack([L_w - L_a * b_w / b_a, L_a / b_a]), (b[0] + b[1]) / 2, b_a, b_w
