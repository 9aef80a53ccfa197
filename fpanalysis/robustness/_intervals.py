"""95 % intervals of means over trials that are each run several times under different perturbations.

The draws of one trial are alike: what counts as independent are the trials. Of a share p the trials' own shares p_b
tell how many independent runs the B trials with D draws each are worth,

    n_eff = B m (1 - m) / var(p_b),    within [B, B D]

for Wilson's interval, with the quantile of Student's t with B - 1 degrees of freedom. Mean m and variance are those
with half a trial added that is always right, and half a trial that never is: without them the variance is too small
where few trials ever fail (coverage down to 89 % instead of 95 %). A mean loss has the t-interval of the trials' means.
A difference of two shares, trial by trial, has the t-interval of the trials' differences with half a trial added of
difference 1, and half one of -1: otherwise networks that happen to agree on all trials would differ by 0 +- 0.
Where the trials are all that there are (`sampled` False: the conditions of a task) only the draws are left to chance:
n_eff = B D, which is more than enough for draws within strata, and the loss has the variance within trials.

Source: L. Kish, "Survey Sampling" (1965), the effective sample size; E. L. Korn & B. I. Graubard, Survey Methodology
24 (1998) 193, intervals of small shares from it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

LEVEL = 0.975
ADDED = 0.5  #: trials that are always right, and as many that never are


def _quantile(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf(LEVEL, freedom)) if freedom > 0 else float("inf")


def share_interval(hits: Array, sampled: bool = True) -> tuple[Array, Array]:
    """Share and its interval (..., 2) of hits (..., B, D) of zeros and ones."""
    B, D = hits.shape[-2:]
    own = hits.mean(axis=-1)
    p = own.mean(axis=-1)
    n = np.full(p.shape, float(B * D))
    q = _quantile(B * D - 1)
    if sampled:
        q = _quantile(B - 1)
        m = (own.sum(axis=-1) + ADDED) / (B + 2 * ADDED)
        squares = ((own - m[..., None]) ** 2).sum(axis=-1) + ADDED * (m**2 + (1 - m) ** 2)
        n = np.clip(B * m * (1 - m) / (squares / (B - 1 + 2 * ADDED)), B, B * D)
    if not np.isfinite(q):
        return p, np.stack([np.zeros_like(p), np.ones_like(p)], axis=-1)
    return p, _wilson(p, n, q)


def change_interval(change: Array, sampled: bool = True) -> tuple[Array, Array]:
    """Mean and its interval (..., 2) of differences (..., B, D) of zeros and ones."""
    if not sampled:
        return mean_interval(change, sampled)
    B = change.shape[-2]
    own = change.mean(axis=-1)
    mean = own.mean(axis=-1)
    squares = (own**2).sum(axis=-1) + 2 * ADDED - own.sum(axis=-1) ** 2 / (B + 2 * ADDED)
    n = B + 2 * ADDED
    half = np.minimum(_quantile(B - 1) * np.sqrt(squares / (n - 1) / n), 2.0)
    return mean, np.clip(np.stack([mean - half, mean + half], axis=-1), -1, 1)


def _wilson(p: Array, n: Array, q: float) -> Array:
    """E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209."""
    middle = (p + q**2 / (2 * n)) / (1 + q**2 / n)
    half = q / (1 + q**2 / n) * np.sqrt(p * (1 - p) / n + q**2 / (4 * n**2))
    return np.clip(np.stack([middle - half, middle + half], axis=-1), 0, 1)


def mean_interval(values: Array, sampled: bool = True) -> tuple[Array, Array]:
    """Mean and its interval (..., 2) of values (..., B, D); an infinite one where a single number tells no spread."""
    B, D = values.shape[-2:]
    own = values.mean(axis=-1)
    mean = own.mean(axis=-1)
    if sampled:
        error = own.std(axis=-1, ddof=1) / np.sqrt(B) if B > 1 else np.full(mean.shape, np.inf)
        half = error * _quantile(B - 1) if B > 1 else error
    else:
        within = values.var(axis=-1, ddof=1).sum(axis=-1) if D > 1 else np.full(mean.shape, np.inf)
        half = np.sqrt(within / D) / B * (_quantile(B * (D - 1)) if D > 1 else 1.0)
    return mean, np.stack([mean - half, mean + half], axis=-1)
