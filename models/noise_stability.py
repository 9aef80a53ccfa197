"""The noise-stability curve: the loss expected of a network whose weights are perturbed at random, against how much.

    E l(s) = E l(theta + s unit x),  x ~ N(0, I)          = l + s^2 / 2 tr H + O(s^4)

from pairs x, -x, so that odd orders cancel pair by pair, with the same directions at every level s. With c_k = x_k^T H
x_k / 2, of known mean tr H / 2, and e_k(s) what the mean loss of pair k is above l,

    E l(s) - l = mean_k (e_k - b c_k) + b tr H / 2    b by regression: little noise where the loss is nearly quadratic
    r(s) = mean_k (e_k - s^2 c_k)                     what is beyond the second order: O(s^4) for a smooth network

Of kinks H knows nothing. A step across one costs more than H says, and so the curvature 2 (E l - l) / s^2 of the curve
rises above tr H from the s on at which perturbed neurons reach their kinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t as student
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng, real_array
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.tasks import Feedback

from ._krylov import half_width
from ._landscape import Landscape, Parameters
from .flatness import Flatness, check_counts, flatness
from .trainer import torch_threads

Array = NDArray[np.float64]

LEVELS = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  #: as shares of the weights
LARGEST = 1e6  #: level


@dataclass(frozen=True, eq=False)
class NoiseStability:
    """Errors are half-widths at 95 %, over the directions and, at a noise level, over the runs.

    Attributes
    ----------
    levels : (S,), s, ascending.
    excess, error : (S,), E l(s) - l; infinite where trajectories diverge.
    flat : the flatness at s = 0: l, tr H, their errors.
    remainder, remainder_error : (S,), r(s).
    remainder_size : (S,), root mean square over the pairs of what r is the mean of.
    """

    levels: Array
    excess: Array
    error: Array
    remainder: Array
    remainder_error: Array
    remainder_size: Array
    flat: Flatness
    status: Status
    provenance: Provenance

    @property
    def loss(self) -> Array:
        """E l(s), (S,)."""
        return self.flat.loss + self.excess

    @property
    def predicted(self) -> Array:
        """l + s^2 / 2 tr H, (S,)."""
        return self.flat.loss + self.levels**2 / 2 * self.flat.trace

    @property
    def curvature(self) -> Array:
        """2 (E l - l) / s^2, (S,): tr H as s -> 0."""
        return 2 * self.excess / self.levels**2

    @property
    def curvature_error(self) -> Array:
        return 2 * self.error / self.levels**2

    @property
    def order(self) -> float:
        """Slope of log `remainder_size` against log s where the loss has not doubled: 4 for a smooth network, 2 where
        kinks add what H lacks. NaN if there are not two such levels."""
        near = (np.abs(self.excess) < self.flat.loss) & (self.remainder_size > 0)
        if near.sum() < 2:
            return float("nan")
        return float(np.polyfit(np.log(self.levels[near]), np.log(self.remainder_size[near]), 1)[0])


def noise_stability(
    net: Network | LipschitzRNN,
    batch: Sequence[ArrayLike],
    levels: ArrayLike | None = None,
    *,
    flat: Flatness | None = None,
    scale: str = "weight",
    loss: str | None = None,
    sigma: float = 0.0,
    smoothed: float | None = None,
    runs: int = 8,
    parameters: Parameters | None = None,
    feedback: Feedback | None = None,
    h0: ArrayLike | None = None,
    pairs: int = 64,
    rng: int | np.random.Generator = 0,
) -> NoiseStability:
    """Expected loss of `net` on `batch` under random changes of its weights of each size in `levels`.

    Parameters
    ----------
    levels : (S,), optional
        s > 0, in the units of `scale`: with "weight", 0.1 is a tenth of every weight. None: seven from 0.003 to 0.5,
        with "absolute" of the root mean square of all weights.
    flat : Flatness, optional
        Of the same network, batch and settings; None: it is computed.
    pairs : int
        Of opposite directions.

    The other parameters are those of :func:`fpanalysis.models.flatness`.

    Raises
    ------
    InputError
        If an argument does not fit the network, or `flat` is that of another one.
    """
    check_counts(pairs=pairs)
    given: dict[str, Any] = {"scale": scale, "loss": loss, "sigma": sigma, "smoothed": smoothed, "runs": runs}
    given |= {"parameters": parameters, "feedback": feedback, "h0": h0}
    flat = flatness(net, batch, rng=rng, **given) if flat is None else flat
    generator = check_rng(rng)
    land = Landscape(net, batch, rng=generator, **given)
    _check_same(net, land, flat)
    s = _levels(LEVELS if levels is None else levels)
    if levels is None and scale == "absolute":
        s = s * np.sqrt(np.mean(land.theta**2))
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    provenance = Provenance("antithetic directions", net.hash, land.settings | {"pairs": pairs}, seed)
    with torch_threads(1), threadpool_limits(1, user_api="blas"), np.errstate(over="ignore", invalid="ignore"):
        x = generator.standard_normal((pairs, land.P))
        centre = land.values(np.zeros((1, land.P)))
        e = np.stack([_pairs(land, level * x) for level in s]) - centre  # (S, pairs, R)
        c = np.stack([land.product(v) @ v for v in x]) / 2  # (pairs, R)
        excess, error = np.array([_expected(each, c, flat) for each in e]).T
        rest = np.array([_remainder(each - level**2 * c) for level, each in zip(s, e, strict=True)]).T
    status = Status.OK if np.isfinite(e).all() else Status.DIVERGED
    return NoiseStability(s, excess, error, rest[0], rest[1], rest[2], flat, status, provenance)


def _pairs(land: Landscape, x: Array) -> Array:
    """Mean loss at theta + x and theta - x, (pairs, R)."""
    return (land.values(x) + land.values(-x)) / 2


def _expected(e: Array, c: Array, flat: Flatness) -> tuple[float, float]:
    """E l - l at one level, and its error."""
    if not np.isfinite(e).all():
        return float("inf"), float("nan")
    n, (y, x) = len(e), (e.mean(axis=1), c.mean(axis=1))
    spread = float(((x - x.mean()) ** 2).sum())
    b = float((x - x.mean()) @ y) / spread if spread and n > 3 else 0.0
    left = y - b * (x - flat.trace / 2)
    over_pairs = student.ppf(0.975, max(n - 2, 1)) * left.std(ddof=1) / np.sqrt(n)
    off = float((x.mean() - flat.trace / 2) ** 2) / spread if spread else 0.0
    over_noise = half_width((e - b * c).mean(axis=0))
    parts = (over_pairs * np.sqrt(1 + n * off), over_noise, b * flat.trace_error / 2)
    return float(left.mean()), float(np.sqrt(sum(part**2 for part in parts)))


def _remainder(r: Array) -> tuple[float, float, float]:
    """Mean over pairs and runs, its error over both, and the root mean square over the pairs."""
    if not np.isfinite(r).all():
        return float("nan"), float("nan"), float("nan")
    pairs, runs = r.mean(axis=1), r.mean(axis=0)
    return float(r.mean()), float(np.hypot(half_width(pairs), half_width(runs))), float(np.sqrt(np.mean(pairs**2)))


def _levels(levels: ArrayLike) -> Array:
    s = np.unique(np.atleast_1d(real_array("levels", levels)))
    if not len(s) or not ((s > 0) & (s <= LARGEST)).all():
        raise InputError(f"levels must be sizes of the change of weights, above 0, at most {LARGEST:g}; found {s}")
    return s


def _check_same(net: Network | LipschitzRNN, land: Landscape, flat: Flatness) -> None:
    if flat.provenance.model != net.hash:
        raise InputError(f"flat must be the flatness of net ({net.hash}); found that of {flat.provenance.model}")
    for name, value in land.settings.items():
        if flat.provenance.settings[name] != value:
            found = flat.provenance.settings[name]
            raise InputError(f"flat must be of the same settings; found {name} {found!r} in it and {value!r} here")
