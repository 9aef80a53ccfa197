"""How far each trial of a classifier is from another class, in its inputs: to first order, at most, and for sure.

The class is the largest output after the last step that counts. The margin of a trial of class y is the norm, over the
whole sequence of inputs (T, n_in), of the smallest perturbation that makes another output at least as large:

    local    min_c (z_y - z_c) / |d(z_y - z_c)/du|_dual      by adjoints along the recursion; negative if misclassified
    found    norm of a perturbation that was run and changes the class                      >= margin
    proven   radius of a ball in which no perturbation does                                 <= margin

`proven` is the larger of two: one ball around the trial, along its own states (`_ball`), and one from a Lipschitz
constant that holds everywhere (`_global`). Both bounds hold in exact arithmetic; rounding is allowed for by a relative
1e-9 and not bounded.

Source: margins of recurrent networks from the Jacobian along the recursion, Lim, Erichson, Hodgkinson & Mahoney,
"Noisy recurrent neural networks" (NeurIPS 2021); bounds of the first-order margin by norms of the input Jacobian,
J. Sokolic, R. Giryes, G. Sapiro & M. R. D. Rodrigues, IEEE Trans. Signal Process. 65 (2017) 4265.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_rng
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.robustness._attack import attack, distances, flipped, length
from fpanalysis.robustness._ball import affordable, safe_radius
from fpanalysis.robustness._batch import checked
from fpanalysis.robustness._global import lipschitz
from fpanalysis.robustness._lure import lure_form
from fpanalysis.robustness._runs import Trials, gradients
from fpanalysis.system import System

Array = NDArray[np.float64]
Index = NDArray[np.intp]

NORMS = ("2", "infinity")
STARTS = 4


@dataclass(frozen=True, eq=False)
class Margins:
    """Margins of B trials. A misclassified trial has found = proven = 0 and local < 0; without classes all are NaN."""

    local: Array  #: (B,)
    found: Array  #: (B,), inf where no perturbation was found
    proven: Array  #: (B,), NaN where not asked for; 0, which says nothing, of an imported cell
    perturbation: Array  #: (T, B, n_in), that of `found`; zero of a misclassified trial, NaN where none was found
    label: Index | None  #: (B,), the class wanted
    predicted: Index | None  #: (B,), the class by the largest output
    spectral: Array  #: (B,), largest singular value of the Jacobian of the outputs in the inputs, (n_out, T n_in)
    frobenius: Array  #: (B,), its Frobenius norm
    lipschitz: float  #: the largest of the constants that hold everywhere, over pairs of classes; NaN if not known
    norm: str
    statuses: tuple[Status, ...]  #: of each trial
    provenance: Provenance

    @property
    def status(self) -> Status:
        """The first that is not ok."""
        return next((status for status in self.statuses if not status.ok), Status.OK)

    @property
    def correct(self) -> NDArray[np.bool_]:
        """(B,)"""
        if self.label is None or self.predicted is None:
            return np.zeros(len(self.local), bool)
        return np.asarray(self.label == self.predicted)

    def accuracy(self, size: ArrayLike) -> tuple[Array, Array]:
        """Accuracy under the worst perturbations of these norms, (...): at least what is proven, at most what is found;
        both NaN without classes."""
        size = np.asarray(size, float)[..., None]
        if self.label is None:
            return (np.full(size.shape[:-1], np.nan),) * 2
        low, high = ((self.correct & (value > size)).mean(axis=-1) for value in (self.proven, self.found))
        return np.asarray(low), np.asarray(high)


def margins(
    net: System,
    batch: Sequence[ArrayLike],
    *,
    h0: ArrayLike | None = None,
    norm: str = "2",
    starts: int = STARTS,
    proven: bool = True,
    rng: int | np.random.Generator = 0,
) -> Margins:
    """Margins of the trials of `batch` without noise, and norms of their input Jacobians.

    Parameters
    ----------
    batch : (inputs, targets, mask)
        (T, B, n_in), (T, B, n_out), and (T, B) or (T, B, n_out), as ``Task.batch`` gives them; one-hot targets. Where
        they are not, there are no margins (status "no margin") but still Jacobians.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.
    norm : "2" | "infinity"
        Of perturbations.
    starts : of the search for `found`: the first goes for the nearest boundary, the next for those of the other classes
        in order of distance, any more from random displacements. On classifiers of 10 classes four are within 1 % of
        what 24 find on average, and within 16 % for single trials.
    proven : whether to look for it, at O(T^2 N^3) per trial.

    Raises
    ------
    InputError
        If an argument does not fit the network, or the network has no inputs.
    """
    given = checked(net, batch, h0)
    if norm not in NORMS:
        raise InputError(f"norm must be '2' or 'infinity'; found {norm!r}")
    if isinstance(starts, bool) or not isinstance(starts, int | np.integer) or starts < 1:
        raise InputError(f"starts must be a whole number >= 1; found {starts!r}")
    trials, label, generator = given.trials, given.label, check_rng(rng)
    with np.errstate(over="ignore", invalid="ignore"):
        z, g = gradients(trials)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    provenance = Provenance("margins", net.hash, {"norm": norm, "starts": int(starts), "proven": proven}, seed)
    lost = np.asarray(~(np.isfinite(z).all(axis=1) & np.isfinite(g).all(axis=(1, 2, 3))))
    spectral, frobenius = _jacobian_norms(g, lost)
    B = len(z)
    local, found, sure = np.full((3, B), np.nan)
    d = np.full(trials.inputs.shape, np.nan)
    common = (spectral, frobenius)
    if label is None:
        statuses = (Status.NO_MARGIN,) * B
        return Margins(local, found, sure, d, None, None, *common, np.nan, norm, statuses, provenance)
    live = np.flatnonzero(~lost)
    local[live] = distances(z[live], g[live], label[live], norm)[2].min(axis=1)
    right = live[z[live].argmax(axis=1) == label[live]]
    found[live], d[:, live] = 0.0, 0.0
    d[:, right] = _found(trials.of(right), label[right], norm, starts, generator, local[right])
    found[right] = np.nan_to_num(length(d[:, right], norm), nan=np.inf)
    constant = np.nan
    if proven:
        sure[live] = 0.0
        sure[right], constant = _proven(trials.of(right), label[right], z[right], g[right], local[right], norm)
    statuses = tuple(
        Status.DIVERGED if gone else Status.NOT_FOUND if f == np.inf else Status.OK
        for gone, f in zip(lost, found, strict=True)
    )
    predicted = np.where(lost, -1, np.nan_to_num(z).argmax(axis=1))
    return Margins(local, found, sure, d, label, predicted, *common, constant, norm, statuses, provenance)


def _jacobian_norms(g: Array, lost: NDArray[np.bool_]) -> tuple[Array, Array]:
    """Of g (B, n_out, T, n_in); NaN where a run was lost."""
    G = np.where(lost[:, None, None], 0.0, g.reshape(*g.shape[:2], -1))
    largest = np.sqrt(np.maximum(np.linalg.eigvalsh(G @ np.swapaxes(G, 1, 2))[:, -1], 0))
    return np.where(lost, np.nan, largest), np.where(lost, np.nan, np.sqrt((G**2).sum(axis=(1, 2))))


def _found(trials: Trials, label: Index, norm: str, starts: int, rng: np.random.Generator, local: Array) -> Array:
    if not len(label):
        return np.empty(trials.inputs.shape)
    scale = np.where(np.isfinite(local), local, 1.0) / 2
    with np.errstate(over="ignore", invalid="ignore"):
        d = attack(trials, label, norm, starts, rng, scale)
        crosses = flipped(trials, label, d)  # once more, as the whole batch runs
    return np.where(crosses[:, None], d, np.nan)


def _proven(trials: Trials, label: Index, z: Array, g: Array, local: Array, norm: str) -> tuple[Array, float]:
    """(B,), and the largest Lipschitz constant."""
    lure, B = lure_form(trials.net), len(label)
    if lure is None or lure.f.slope_peak is None or not B:
        return np.zeros(B), float("nan")
    L = lipschitz(trials.net, lure, len(trials.inputs), norm)
    sure, rows = np.zeros(B), np.arange(B)
    for b in range(B):
        others = np.delete(np.arange(z.shape[1]), label[b])
        gaps, slopes = z[b, label[b]] - z[b, others], g[b, label[b]] - g[b, others]
        if L is not None:
            sure[b] = np.nan_to_num(np.min(gaps / np.maximum(L[label[b], others], 1e-300)), posinf=1e300)
        if affordable(trials) and np.isfinite(local[b]):
            sure[b] = max(sure[b], safe_radius(trials, lure, b, label[b], gaps, slopes, float(local[b]), norm))
    return sure, float("nan") if L is None else float(L[label[rows]].max())
