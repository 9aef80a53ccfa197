"""The mean and variance of one noisy neuron at finite gamma: two equations in the operating point a and v = Var h.

    a = w m + b,    m = M(a, s) + dM
    v = [gamma (V(a, s) + dV + sigma^2 [noise out]) + 2 (1 - gamma) dX] / [2 - gamma - 2 (1 - gamma) w G(a, s)]
    s^2 = w^2 v + sigma^2 [noise in]

With dM = dX = dV = 0 these are the closure's equations for N = 1, exact where h is Gaussian; the three are what a law
that is not Gaussian adds to E f, Cov(h, f) and Var f (`_single_cumulants`). Newton's iteration for a inside a secant
iteration for v, from the noise-free fixed point and v = 0 upwards; arrays of cases go through it together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation, Moments

Array = NDArray[np.float64]

TOLERANCE = 1e-13  #: relative change of v, and of a in units of 1 + |a|, at convergence
ROUNDED = 1e-9  #: relative change of v that may be rounding, where it no longer falls
STEPS = 200  #: of the iteration for v
NEWTON = 60  #: steps for a
HALVINGS = 12  #: of one such step
GROWTH = 10.0  #: of v in one step, at most
RUNAWAY = 1e4  #: s, in units of sigma + |b| + the length over which f changes, from which on there is no law
STEEPEST = 1 - 1e-6  #: slope of v's iteration up to which the secant step is trusted


@dataclass(frozen=True)
class Cases:
    """Single neurons that share activation and placement: arrays (K,)."""

    f: Activation
    inside: bool
    w: Array
    b: Array
    gamma: Array
    sigma: Array

    def spread(self, v: Array) -> Array:
        """s, the standard deviation of what enters f."""
        return np.sqrt(self.w**2 * v + (self.sigma**2 if self.inside else 0.0))


@dataclass(frozen=True)
class Excess:
    """What the law adds to the Gaussian E f, Cov(h, f) and Var f, (K,) each."""

    M: Array
    X: Array
    V: Array


@dataclass(frozen=True)
class Balance:
    """A solution, (K,) each; `found` says where there is one, with w G < 1."""

    a: Array
    s: Array
    m: Array
    v: Array
    moments: Moments
    found: NDArray[np.bool_]


def balance(cases: Cases, h: Array, excess: Excess | None = None) -> Balance:
    """Solve the equations from the states `h` (K,)."""
    zero = np.zeros(cases.w.shape)
    excess = excess or Excess(zero, zero, zero)
    v, a = zero, cases.w * h + cases.b
    before: tuple[Array, Array] | None = None
    done = np.zeros(v.shape, bool)
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            a, moments = operating_point(cases, a, cases.spread(v), excess.M)
            target = np.maximum(_variance(cases, moments, excess), 0.0)
            target[cases.spread(target) > RUNAWAY * (cases.sigma + np.abs(cases.b) + cases.f.strip)] = np.nan
            change = target - v
            stalls = before is not None and np.abs(change) >= np.abs(before[1]) / 2  # at rounding
            done = (np.abs(change) <= TOLERANCE * target) | (stalls & (np.abs(change) <= ROUNDED * target))
            if (done | ~np.isfinite(change)).all():
                break
            before, v = (v, change), np.where(done, v, _next(v, change, before))
        s = cases.spread(v)
        a, moments = operating_point(cases, a, s, excess.M)
        gap = np.abs(a - cases.w * (moments.M + excess.M) - cases.b)
        found = done & np.isfinite(v) & (cases.w * moments.G < 1) & (gap <= 1e-9 * (s + np.abs(cases.b) + np.abs(a)))
    return Balance(a, s, moments.M + excess.M, v, moments, found)


def _variance(cases: Cases, moments: Moments, excess: Excess) -> Array:
    g = cases.gamma
    V = moments.V + excess.V + (0.0 if cases.inside else cases.sigma**2)
    return np.asarray((g * V + 2 * (1 - g) * excess.X) / (2 - g - 2 * (1 - g) * cases.w * moments.G))


def _next(v: Array, change: Array, before: tuple[Array, Array] | None) -> Array:
    """v after a secant step for change = 0, plain where the last two do not give one."""
    if before is None:
        return v + change
    width = v - before[0]
    slope = 1 + np.where(width == 0, 0.0, (change - before[1]) / np.where(width == 0, 1.0, width))
    step = change / (1 - np.clip(slope, -1.0, STEEPEST))
    return np.clip(v + step, np.minimum(v, v + change) / GROWTH, GROWTH * np.maximum(v, v + change))


def operating_point(cases: Cases, a: Array, s: Array, dM: Array) -> tuple[Array, Moments]:
    """a = w (M(a, s) + dM) + b by Newton's iteration from the guess `a`, halving steps that do not reduce the gap; a
    case whose gap cannot be reduced rests where it is, at rounding."""
    moments = cases.f.moments(a, s)
    gap = a - cases.w * (moments.M + dM) - cases.b
    rests = np.zeros(a.shape, bool)
    for _ in range(NEWTON):
        step = -gap / (1 - cases.w * moments.G)
        moving = ~rests & (np.abs(step) > TOLERANCE * (1e-3 * s + np.abs(a) + np.abs(cases.b)))
        if not moving.any():
            break
        t = np.where(moving, 1.0, 0.0)
        for _ in range(HALVINGS):
            trial = np.where(moving, a + t * step, a)
            at_trial = cases.f.moments(trial, s)
            new = trial - cases.w * (at_trial.M + dM) - cases.b
            worse = moving & ~(np.abs(new) < np.abs(gap)) & np.isfinite(gap)
            if not worse.any():
                break
            t = np.where(worse, t / 2, t)
        rests |= worse
        a, moments, gap = trial, at_trial, new
    return a, moments
