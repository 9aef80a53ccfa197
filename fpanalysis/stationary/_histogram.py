"""Densities of neurons and outputs from a Monte Carlo run: histograms, with errors from independent groups of pairs.

Bins have a width 2^k and edges at whole multiples of it, counted from the value of the axis where all rates are zero.
They are chosen from the first batch and added where later states fall outside, all made twice as wide when there are
too many: so no state is ever lost, and histograms of different blocks add up exactly. A ReLU never puts a
state on both sides of an edge at 0, and what is exactly there, where that has a probability, is a point mass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.stationary._result import Array, Density
from fpanalysis.system import System

FEW = 3  #: neurons up to which all have a density unless told otherwise
OUTPUTS = 4  #: outputs up to which they have one
GROUPS = 64  #: of pairs in a block, at most: their spread is the error
FINEST = 32  #: bins per standard deviation at first
MOST = 512  #: bins at most
RELATIVE = 0.025  #: error of the density of the bins that most states are in, above which these are made wider
COARSEST = 4  #: bins per standard deviation that are left at least


@dataclass(frozen=True, eq=False)
class Axes:
    """K coordinates by name, `states` (N, K) h + `rates` (N, K) r + `offset` (K,); where `sticks` (K,), the first two
    terms can be exactly zero with a probability of their own."""

    names: tuple[str, ...]
    states: Array
    rates: Array
    offset: Array
    sticks: Array


def axes(net: System, names: Sequence[str] | None) -> Axes:
    """The axes of `names`, or those that cost little: the outputs, if few, and the neurons of a small network.

    Raises
    ------
    InputError
        If a name is not one of the network's neurons or outputs.
    """
    known = [f"neuron {i}" for i in range(net.N)] + [f"output {k}" for k in range(net.n_out)]
    if names is None:
        neurons, outputs = known[: net.N], known[net.N :]
        names = neurons * (net.N <= FEW) + outputs * (len(outputs) <= OUTPUTS and net.W_out is not None)
    unknown = [name for name in names if name not in known]
    if unknown or len(set(names)) < len(names):
        raise InputError(
            f"density must be names of neurons or outputs, each once, 'neuron 0' to 'neuron {net.N - 1}' or "
            f"'output 0' to 'output {net.n_out - 1}'; found {', '.join(map(repr, names))}"
        )
    rows = [known.index(name) for name in names]
    current = isinstance(net, Network) and net.form == "current"
    identity, readout = np.eye(net.N), net.readout_weights
    states = np.vstack([identity, 0 * readout if current else readout])[rows].T
    rates = np.vstack([0 * identity, readout if current else 0 * readout])[rows].T
    b_out = np.zeros(net.n_out) if net.b_out is None else net.b_out
    return Axes(tuple(names), states, rates, np.append(np.zeros(net.N), b_out)[rows], _sticks(net, states, rates))


def _sticks(net: System, states: Array, rates: Array) -> Array:
    """Only the rate of a neuron under its kink is exactly zero; the state of one that forgets at once is that rate."""
    if not isinstance(net, Network) or net.activation.smooth:
        return np.zeros(states.shape[1], bool)
    if net.form == "current":
        return (states == 0).all(axis=0)
    forgets = np.broadcast_to(net.gamma, (net.N,)) == 1
    silent = forgets if net.placement == "in" else np.zeros(net.N, bool)
    return np.asarray((silent[:, None] | (states == 0)).all(axis=0))


class Histogram:
    """Counts (groups, bins) of one axis; bin j of width 2^level begins at (first + j) 2^level, and exact zeros count
    apart, as `zeros` (groups,), if it `sticks`."""

    def __init__(self, sticks: bool, eps: float) -> None:
        self.sticks, self.eps, self.level, self.first = sticks, eps, 0, 0
        self.counts, self.zeros = np.zeros((0, 0), np.int64), np.zeros(0, np.int64)

    def add(self, values: NDArray[np.floating]) -> None:
        """Count values (..., pairs)."""
        values = values.reshape(-1, values.shape[-1])
        pairs = values.shape[1]
        groups = min(GROUPS, pairs)
        group = np.arange(pairs) * groups // pairs
        if not len(self.zeros):
            self.counts, self.zeros = np.zeros((groups, 0), np.int64), np.zeros(groups, np.int64)
        if self.sticks:
            here = values == 0
            self.zeros += np.bincount(group, here.sum(axis=0), minlength=groups).astype(np.int64)
            group = np.broadcast_to(group, values.shape)[~here]
            values = values[~here]
        if not values.size:
            return
        if not self.counts.size:
            self.level = _level(values, self.eps)
        index = np.floor(values * 2.0**-self.level)
        level, low, high = self.level, int(index.min()), int(index.max())
        self._reach(low, high)
        bins = self.counts.shape[1]
        if self.level > level:
            index = np.floor(index * 2.0 ** (level - self.level))
        index += group * bins - self.first
        self.counts += np.bincount(index.astype(np.intp).ravel(), minlength=groups * bins).reshape(groups, bins)

    def _reach(self, low: int, high: int) -> None:
        """Let the bins reach from the `low`-th to the `high`-th, in wider ones if these are too many."""
        if self.counts.size:
            low, high = min(low, self.first), max(high, self.first + self.counts.shape[1] - 1)
        else:
            self.first = low
        before = self.first - low
        while high - low >= MOST:
            low, high = low >> 1, high >> 1
            self.coarsen()
            before = self.first - low
        after = high - low + 1 - before - self.counts.shape[1]
        self.counts, self.first = np.pad(self.counts, ((0, 0), (before, after))), low

    def coarsen(self) -> None:
        """Make the bins twice as wide."""
        odd = self.first % 2
        even = (odd + self.counts.shape[1]) % 2
        padded = np.pad(self.counts, ((0, 0), (odd, even)))
        self.counts = padded.reshape(len(padded), -1, 2).sum(axis=2)
        self.level, self.first = self.level + 1, self.first >> 1

    def density(self, name: str, offset: float) -> Density:
        """The histogram as a density, its bins wide enough for small errors."""
        n = self.counts.sum(axis=1) + self.zeros
        least = self.level
        if self.counts.any():
            x = np.arange(self.counts.shape[1])
            p = self.counts.sum(axis=0) / self.counts.sum()
            least += max(0, int(np.log2(max(np.sqrt(p @ (x - p @ x) ** 2) / COARSEST, 1.0))))
        while self.level < least and _mean_error(self.counts, n) > RELATIVE:
            self.coarsen()
        width = np.ldexp(1.0, self.level)
        total, error = _share(self.counts, n)
        bins = len(total)
        return Density(
            names=(name,),
            grids=(offset + (self.first + 0.5 + np.arange(bins)) * width,),
            values=total / width,
            weights=(np.full(bins, width),),
            error=error / width,
            atoms=((np.array([offset]), float(self.zeros.sum() / n.sum())),) if self.zeros.any() else (),
        )


def joined(parts: Sequence[Histogram]) -> Histogram:
    """Histograms of one axis over different pairs as one; `parts` may be made coarser."""
    whole = Histogram(parts[0].sticks, parts[0].eps)
    full = [part for part in parts if part.counts.size]
    while full and len({part.level for part in full}) > 1:
        min(full, key=lambda part: part.level).coarsen()
    if full:
        low = min(part.first for part in full)
        high = max(part.first + part.counts.shape[1] - 1 for part in full)
        for part in full:
            part._reach(low, high)
        whole.level, whole.first = full[0].level, full[0].first
    bins = full[0].counts.shape[1] if full else 1
    whole.counts = np.vstack([part.counts if part.counts.size else np.zeros((len(part.zeros), bins)) for part in parts])
    whole.zeros = np.concatenate([part.zeros for part in parts])
    return whole


def _level(values: NDArray[np.floating], eps: float) -> int:
    """For bins that resolve most of the values, but not their rounding."""
    some = values.ravel()[:: max(1, values.size // 4096)]
    low, high = np.percentile(some, [25, 75])
    spread = float(np.std(some))
    if high > low:
        spread = min(spread, float(high - low) / 1.349)
    return round(np.log2(max(spread / FINEST, 64 * eps * np.abs(some).max(), 1e-30)))


def _share(counts: NDArray[np.int64], n: NDArray[np.int64]) -> tuple[Array, Array]:
    """Share (bins,) of all states in each bin, and its standard error from the groups; at least that of one state."""
    groups, total = len(n), n.sum()
    share = counts.sum(axis=0) / total
    spread = np.sqrt(np.sum((counts - n[:, None] * share) ** 2, axis=0) * groups / (groups - 1)) / total
    return share, np.maximum(spread, 1 / total)


def _mean_error(counts: NDArray[np.int64], n: NDArray[np.int64]) -> float:
    """Of the density relative to itself, averaged over the states."""
    share, error = _share(counts, n)
    return float(error.sum() / max(share.sum(), 1 / n.sum()))
