"""What perturbed inputs do to the accuracy or the loss of a network: white, multiplicative and salt-and-pepper noise.

With s the level, xi ~ N(0, 1) and v ~ U(0, 1) independent at each trial, step and input, drawn anew `draws` times:

    white              u + s xi
    multiplicative     u (1 + s xi)
    salt-and-pepper    the least input of the batch where v < s / 2, the largest where v >= 1 - s / 2, else u

All levels, and all networks that are given the same batch and seed, see the same xi and v (common random numbers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_levels, check_rng
from fpanalysis.regularizer.losses import CrossEntropy, Loss, SquaredError
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.robustness._batch import Checked, checked
from fpanalysis.robustness._intervals import change_interval, mean_interval, share_interval
from fpanalysis.system import System

Array = NDArray[np.float64]
Score = Callable[[Array, tuple[Array, Array, Array]], Any]

KINDS = ("white", "multiplicative", "salt-and-pepper")
LEVELS = {
    "white": (0.0, 0.1, 0.2, 0.3, 0.5),
    "multiplicative": (0.0, 0.1, 0.2, 0.4, 0.8),
    "salt-and-pepper": (0.0, 0.03, 0.05, 0.1, 0.2),
}
LOSSES: dict[str, type[Loss]] = {"squared error": SquaredError, "cross-entropy": CrossEntropy}


@dataclass(frozen=True, eq=False)
class Perturbed:
    """Accuracy and loss of a network at S levels of one kind of perturbation; intervals are at 95 %."""

    kind: str
    levels: Array  #: (S,)
    accuracy: Array | None  #: (S,), share of trials of the right class, or that succeed; None where neither is told
    accuracy_interval: Array | None  #: (S, 2)
    loss: Array  #: (S,)
    loss_interval: Array  #: (S, 2)
    hits: Array | None  #: (S, B, D), 1 where a trial is right under a draw, else 0
    losses: Array  #: (S, B, D)
    statuses: tuple[Status, ...]  #: of each level
    provenance: Provenance

    @property
    def status(self) -> Status:
        """The first that is not ok."""
        return next((status for status in self.statuses if not status.ok), Status.OK)

    def difference(self, other: Perturbed) -> tuple[Array, Array]:
        """By how much the accuracy (without one the loss) exceeds that of another network, (S,), and its interval
        (S, 2): trial by trial, which is sharper than two intervals.

        Raises
        ------
        InputError
            If the other was not asked the same: same kind, levels, draws, seed and number of trials.
        """
        same = self.losses.shape == other.losses.shape and np.array_equal(self.levels, other.levels)
        asked = [(one.provenance.settings, one.provenance.seed) for one in (self, other)]
        if not same or asked[0] != asked[1] or asked[0][1] is None:
            raise InputError(
                "other must have seen the same perturbations, of the same trials, levels and seed (a number); found "
                f"{other.losses.shape[1]} trials of {dict(other.provenance.settings)}, seed {other.provenance.seed}"
            )
        shares = self.hits is not None and other.hits is not None
        with np.errstate(invalid="ignore"):
            sampled = bool(self.provenance.settings["sampled"])
            if shares:
                return change_interval(self.hits - other.hits, sampled)  # type: ignore[operator]
            return mean_interval(self.losses - other.losses, sampled)


def perturbed(
    net: System,
    batch: Sequence[ArrayLike],
    kind: str = "white",
    levels: ArrayLike | None = None,
    *,
    h0: ArrayLike | None = None,
    draws: int = 8,
    sigma: ArrayLike | None = 0.0,
    score: Score | None = None,
    loss: str | None = None,
    sampled: bool = True,
    rng: int | np.random.Generator = 0,
) -> Perturbed:
    """Accuracy and loss of `net` on `batch` with perturbed inputs.

    Parameters
    ----------
    batch, h0 : as of :func:`fpanalysis.margins`; one-hot targets at the end of each trial make it one of a
        classifier, whose accuracy is told.
    levels : (S,), >= 0, optional
        None: five from 0. Shares of salt-and-pepper are at most 1.
    draws : of the perturbation, for each trial, >= 2.
    sigma : the network's own noise, as in `stationary`; 0 is none, None what it was trained with, with its
        multiplicative part.
    score : callable (outputs (T, B, n_out), batch) -> 1 or 0 per trial, optional
        What success is instead, such as ``Task.score``.
    loss : "squared error" | "cross-entropy", optional
        None: the squared error.
    sampled : whether the trials stand for more of their kind; False where they are all there are, so that the
        intervals only cover the draws.

    Raises
    ------
    InputError
        If an argument does not fit.
    """
    given = checked(net, batch, h0)
    if kind not in KINDS:
        raise InputError(f"kind must be one of {', '.join(KINDS)}; found {kind!r}")
    at = check_levels(LEVELS[kind] if levels is None else levels)
    if kind == "salt-and-pepper" and at[-1] > 1:
        raise InputError(f"levels of salt-and-pepper are shares, at most 1; found {at[-1]:g}")
    if isinstance(draws, bool) or not isinstance(draws, int | np.integer) or draws < 2:
        raise InputError(f"draws must be a whole number >= 2, to tell their spread; found {draws!r}")
    if loss is not None and loss not in LOSSES:
        raise InputError(f"loss must be one of {', '.join(LOSSES)}; found {loss!r}")
    measure = LOSSES[loss or "squared error"]()
    measure.check_targets(given.targets, given.weight)
    own = None if sigma is None else np.asarray(net.check_noise(sigma))
    hits, losses = [], []
    for seed in check_rng(rng).integers(2**62, size=draws):
        z = _run(given, kind, at, own, int(seed))
        losses.append(_losses(measure, z, given))
        hits.append(_hits(z, given, score))
    finite = [bool(np.isfinite(part).all()) for part in np.moveaxis(np.array(losses), 1, 0)]
    settings = {"kind": kind, "draws": int(draws), "sigma": None if own is None else own.tolist(), "sampled": sampled}
    provenance = Provenance("perturbed", net.hash, settings, int(rng) if isinstance(rng, int | np.integer) else None)
    values = np.stack(losses, axis=-1)
    right = None if hits[0] is None else np.stack(hits, axis=-1)  # type: ignore[arg-type]
    with np.errstate(invalid="ignore", over="ignore"):
        share, share_ends = (None, None) if right is None else share_interval(right, sampled)
        mean, interval = mean_interval(values, sampled)
    return Perturbed(
        kind,
        at,
        share,
        share_ends,
        mean,
        interval,
        right,
        values,
        tuple(Status.OK if good else Status.DIVERGED for good in finite),
        provenance,
    )


def _run(given: Checked, kind: str, levels: Array, sigma: Array | None, seed: int) -> Array:
    """Outputs (S, T, B, n_out) under one draw."""
    net, inputs, h0, _ = given.trials
    rng, inner = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    low, high = inputs.min(), inputs.max()
    h = np.broadcast_to(h0, (len(levels), *h0.shape))
    z = np.empty((len(levels), *given.targets.shape))
    quiet = sigma is not None and not np.any(sigma)
    with np.errstate(over="ignore", invalid="ignore"):
        for t, u in enumerate(inputs):
            seen = _shaken(kind, levels[:, None, None], u, rng, low, high)
            xi = None if quiet else inner.standard_normal(h0.shape)
            h = _step(net, h, seen, sigma, xi)
            z[:, t] = net.output(h)
    return z


def _shaken(kind: str, s: Array, u: Array, rng: np.random.Generator, low: float, high: float) -> Array:
    if kind == "salt-and-pepper":
        v = rng.random(u.shape)
        return np.where(v < s / 2, low, np.where(v >= 1 - s / 2, high, u))
    xi = rng.standard_normal(u.shape)
    return u + s * xi * (u if kind == "multiplicative" else 1.0)


def _step(net: System, h: Array, u: Array, sigma: Array | None, xi: Array | None) -> Array:
    if xi is None:
        return net.step(h, u)
    noise = np.broadcast_to(xi, h.shape)
    if sigma is None:
        return net.step(h, u, noise)
    return h + net.gamma * (net.disturbed(h, u, sigma, np.zeros(()), noise) - h)


def _losses(measure: Loss, z: Array, given: Checked) -> Array:
    """(S, B), whose mean over trials is the loss of the batch."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(measure.value(z, given.targets, given.weight).sum(axis=1) * z.shape[2])


def _hits(z: Array, given: Checked, score: Score | None) -> Array | None:
    """(S, B) of 0 and 1; None where nothing tells success."""
    if score is not None:
        batch = (given.trials.inputs, given.targets, given.weight)
        hits = np.stack([np.asarray(score(one, batch), float) for one in z])
        if hits.shape != (len(z), z.shape[2]):
            raise InputError(f"score must give one value per trial, ({z.shape[2]},); found shape {hits.shape[1:]}")
        return hits
    if given.label is None:
        return None
    ends = z[:, given.trials.last, np.arange(z.shape[2])]
    known = np.isfinite(ends).all(axis=-1)
    return np.asarray((np.nan_to_num(ends).argmax(axis=-1) == given.label) & known, float)
