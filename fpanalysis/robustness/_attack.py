"""The smallest perturbation of the inputs found that changes the class: an upper bound on the margin.

From several starts: linearise the differences of the outputs in the inputs, step onto the nearest boundary of the
linear problem, and again until the class changes (S.-M. Moosavi-Dezfooli, A. Fawzi & P. Frossard, "DeepFool",
CVPR 2016); the second start aims at the class that is second nearest to first order, and so on; those beyond the
number of classes are displaced at random, and so are further ones for trials of which nothing was found. Then, from a
point on the boundary, its tangent plane tells in which direction it is nearest: go there, bisect back onto the
boundary, keep what is shorter. The last point of a bisection is on the far side, so that every perturbation returned
has been run and does change the class.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fpanalysis.robustness._runs import Trials, gradients, outputs

Array = NDArray[np.float64]
Index = NDArray[np.intp]

STEPS = 40  #: of linearisation
BEYOND = 0.02  #: by what share a step goes further than the linear problem asks for
TURNS = 12  #: onto the tangent plane
HALVINGS = 12  #: of a perturbation on the way
FINAL = 32  #: of the shortest one
GAIN = 1e-6  #: by what share a turn must shorten
SHARES = (1.0, 0.5, 0.25)  #: of a turn
FURTHER = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  #: times `scale`: starts for trials of which nothing was found


def length(d: Array, norm: str) -> Array:
    """Norm of perturbations (T, B, n_in), of each trial: (B,)."""
    return np.abs(d).max(axis=(0, 2), initial=0) if norm == "infinity" else np.sqrt((d**2).sum(axis=(0, 2)))


def dual(g: Array, norm: str) -> Array:
    """The dual norm of gradients (..., T, n_in): how much a perturbation of norm one changes what they are of."""
    return np.abs(g).sum(axis=(-2, -1)) if norm == "infinity" else np.sqrt((g**2).sum(axis=(-2, -1)))


def distances(z: Array, g: Array, label: Index, norm: str) -> tuple[Array, Array, Array]:
    """Of z (B, C) and its gradients (B, C, T, n_in) the gaps z_label - z_c (B, C), their gradients, and the signed
    distances to the boundaries to first order (B, C), infinite for the label itself."""
    rows = np.arange(len(z))
    gaps, slopes = z[rows, label][:, None] - z, g[rows, label][:, None] - g
    with np.errstate(divide="ignore", invalid="ignore"):
        far = gaps / dual(slopes, norm)
    far = np.where(np.isnan(far), np.where(gaps == 0, 0.0, np.inf), far)
    far[rows, label] = np.inf
    return gaps, slopes, far


def flipped(trials: Trials, label: Index, d: Array) -> NDArray[np.bool_]:
    """Whether another output is at least as large as that of `label` under the perturbation `d` (T, B, n_in), if it is
    finite."""
    known = np.asarray(np.isfinite(d).all(axis=(0, 2)))
    z = outputs(trials.moved(trials.inputs + np.where(known[:, None], d, 0.0)))
    own = z[np.arange(len(label)), label]
    z[np.arange(len(label)), label] = -np.inf
    return np.asarray((z.max(axis=1) >= own) & np.isfinite(own) & known)


def attack(trials: Trials, label: Index, norm: str, starts: int, rng: np.random.Generator, scale: Array) -> Array:
    """The shortest perturbation found of each trial (T, B, n_in), NaN where none was; `scale` (B,) is the length
    of the random displacements of those starts that have no class left to aim at."""
    best = np.full(trials.inputs.shape, np.nan)
    ranked = np.argsort(distances(*gradients(trials), label, norm)[2], axis=1)[:, :-1]
    for k in range(starts):
        aim = ranked[:, k] if 0 < k < ranked.shape[1] else None
        d = _displaced(best.shape, norm, scale, rng) if k and aim is None else np.zeros(best.shape)
        d = _tightened(trials, label, _crossed(trials, label, d, norm, aim), norm)
        longer = ~(length(d, norm) >= length(best, norm))
        best = np.where(longer[:, None], d, best)
    for factor in FURTHER:
        left = np.flatnonzero(~np.isfinite(best).all(axis=(0, 2)))
        if not len(left):
            break
        own = trials.of(left)
        d = _displaced(own.inputs.shape, norm, factor * scale[left], rng)
        best[:, left] = _tightened(own, label[left], _crossed(own, label[left], d, norm, None), norm)
    return _bisected(trials, label, best, FINAL)


def _displaced(shape: tuple[int, ...], norm: str, scale: Array, rng: np.random.Generator) -> Array:
    """Random directions, of these lengths."""
    d = rng.standard_normal(shape)
    return np.asarray(d * (scale / np.maximum(length(d, norm), 1e-300))[:, None])


def _crossed(trials: Trials, label: Index, d: Array, norm: str, aim: Index | None) -> Array:
    """From the displacement `d` towards the class `aim`, or the nearest one, until any boundary is crossed; NaN where
    none was."""
    d = d.copy()
    active = np.flatnonzero(~flipped(trials, label, d))
    for _ in range(STEPS):
        if not len(active):
            break
        own = trials.of(active)
        z, g = gradients(own.moved(own.inputs + d[:, active]))
        gaps, slopes, far = distances(z, g, label[active], norm)
        rows, c = np.arange(len(active)), far.argmin(axis=1) if aim is None else aim[active]
        d[:, active] -= _step(gaps[rows, c] * (1 + BEYOND), slopes[rows, c], norm)
        active = active[np.isfinite(d[:, active]).all(axis=(0, 2))]
        active = active[~flipped(trials.of(active), label[active], d[:, active])] if len(active) else active
    d[:, active] = np.nan
    return d


def _step(gap: Array, slope: Array, norm: str) -> Array:
    """The shortest d (T, B, n_in) with <slope, d> = gap, for slopes (B, T, n_in)."""
    size = dual(slope, norm)
    with np.errstate(divide="ignore", invalid="ignore"):
        along = np.sign(slope) / size[:, None, None] if norm == "infinity" else slope / size[:, None, None] ** 2
    return np.moveaxis(gap[:, None, None] * along, 0, 1)


def _tightened(trials: Trials, label: Index, d: Array, norm: str) -> Array:
    """Shorter perturbations on the boundary, from those `d` that cross it."""
    d, left = d.copy(), np.flatnonzero(np.isfinite(d).all(axis=(0, 2)))
    if len(left):
        d[:, left] = _bisected(trials.of(left), label[left], d[:, left])
    for _ in range(TURNS):
        if not len(left):
            break
        nearer, found = _turned(trials.of(left), label[left], d[:, left], norm)
        left = left[found]
        d[:, left] = nearer[:, found]
    return d


def _turned(trials: Trials, label: Index, d: Array, norm: str) -> tuple[Array, NDArray[np.bool_]]:
    """Points of the boundary that are nearer than its points `d`, by its tangent plane there, and where there is one.

    As the boundary bends, the turn is halved until what lies in its direction is nearer."""
    z, g = gradients(trials.moved(trials.inputs + d))
    rows = np.arange(len(label))
    z[rows, label] = -np.inf
    slope = g[rows, label] - g[rows, z.argmax(axis=1)]
    plane = _step(np.einsum("bti,tbi->b", slope, d), slope, norm)
    nearer, found = d.copy(), np.zeros(len(label), bool)
    wanted = length(d, norm) * (1 - GAIN)
    left = np.flatnonzero(length(plane, norm) < wanted)
    for share in SHARES:
        if not len(left):
            break
        ray = (1 - share) * d[:, left] + share * plane[:, left]
        ray *= (wanted[left] / np.maximum(length(ray, norm), 1e-300))[:, None]
        hit = flipped(trials.of(left), label[left], ray)
        done, left = left[hit], left[~hit]
        if len(done):
            nearer[:, done] = _bisected(trials.of(done), label[done], ray[:, hit])
            found[done] = True
    return nearer, found


def _bisected(trials: Trials, label: Index, d: Array, halvings: int = HALVINGS) -> Array:
    """Each `d` shortened onto the boundary between the trial and itself, on the far side."""
    low, high = np.zeros(len(label)), np.ones(len(label))
    for _ in range(halvings):
        middle = (low + high) / 2
        over = flipped(trials, label, d * middle[:, None])
        low, high = np.where(over, low, middle), np.where(over, middle, high)
    return d * high[:, None]
