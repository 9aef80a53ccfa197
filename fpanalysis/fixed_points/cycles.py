"""Limit cycles: where noise-free trajectories go that end on no fixed point.

The attractor of the step map may be a cycle of whole states or, at small gamma, a closed invariant curve on which the
states never repeat; both count as a limit cycle, whose period is a mean number of steps. What moves for ever without
closing (quasi-periodic on a torus, chaotic) is listed as irregular: the two are not told apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points import rotation
from fpanalysis.fixed_points.search import seeds
from fpanalysis.fixed_points.settle import settle
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

if TYPE_CHECKING:
    from fpanalysis.fixed_points.result import FixedPoints

Array = NDArray[np.float64]

RANDOM, DEPARTING = 24, 40  #: trajectories from random states, and from unstable points at most
AWAY = 1e-3  #: distance, relative to 1 + max|h|, at which a trajectory starts beside an unstable point
ASIDE = 0.1  #: share of that in a random direction
STILL = 1e-9  #: a trajectory rests where max|F(h) - h| is below this times 1 + max|h|
FLAT = 1e-6  #: a motion whose extent is below this times 1 + max|h| is rest, too
TRANSIENT, RECORD, MOST = 300, 300, 1500  #: steps before the record, in it, and in all at most, times the mean gamma
SHORTEST, FEWEST = 2000, 8000  #: steps of a record, and in all, at least
NUMBERS = 8_000_000  #: numbers of the records held at once
STEADY, DRIFTING = 1e-3, 0.05  #: change of extent along the record that a cycle may have, or that nothing may have
SAME_PERIOD, SAME_CURVE, SAME_CLOUD = 0.01, 0.05, 0.2  #: two cycles that differ by less, relatively, are one


@dataclass(frozen=True, eq=False)
class LimitCycle:
    """An attractor of the noise-free dynamics that is no fixed point.

    Attributes
    ----------
    h : (T, N), one period, about a state per step, on the closed curve fitted to the motion; if irregular, the last
        states seen.
    mean : (N,), over time.
    amplitude : (N,), max - min of each neuron.
    period : steps per period, on average; no integer in general. If irregular, the mean time between returns.
    period_error : how far the mean return times of the two halves of the record differ.
    defect : what a closed curve of that period leaves of the motion, root mean square, relative to its extent.
    regular : whether that is below 0.02. Quasi-periodic and chaotic motion is not.
    """

    h: Array
    mean: Array
    amplitude: Array
    period: float
    period_error: float
    defect: float
    regular: bool

    def __repr__(self) -> str:
        kind = "" if self.regular else "irregular, "
        return f"LimitCycle({kind}period {self.period:.6g} steps, amplitude {self.amplitude.max():.3g})"


@dataclass(frozen=True, eq=False)
class LimitCycles:
    """The distinct cycles found, the largest first, and how all trajectories ended; iterates over `cycles`.

    Attributes
    ----------
    cycles : the limit cycles, regular or not.
    ended : trajectories on each cycle, (len(cycles),).
    resting, escaped, undecided : trajectories that came to rest; that grew without bound; and that had done neither,
        nor come onto a steady motion that returns, when their steps were spent.
    status : OK, or UNDECIDED where some trajectories were.
    """

    net: System
    u: Array
    cycles: tuple[LimitCycle, ...]
    ended: NDArray[np.int_]
    resting: int
    escaped: int
    undecided: int
    status: Status
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.cycles)

    def __iter__(self) -> Iterator[LimitCycle]:
        return iter(self.cycles)

    def __getitem__(self, k: int) -> LimitCycle:
        return self.cycles[k]

    def __repr__(self) -> str:
        return (
            f"LimitCycles({len(self)} found by {int(self.ended.sum())} trajectories; {self.resting} came to rest, "
            f"{self.escaped} escaped, {self.undecided} undecided; {self.status})"
        )


def find_limit_cycles(
    net: System,
    u: ArrayLike | None = None,
    points: FixedPoints | None = None,
    rng: int | Generator = 0,
    steps: int | None = None,
) -> LimitCycles:
    """Follow noise-free trajectories at the constant input `u` (n_in,) from random states, and see what those do
    that do not come to rest. Nothing says that every cycle is found.

    Parameters
    ----------
    points : fixed points of `net` at `u`; trajectories then also leave the unstable ones along their unstable
        directions.
    steps : most steps of a trajectory; None: 1500 / gamma, at least 8000.

    Raises
    ------
    InputError
        If `net` is not a Network or Cell, `u` not one constant input of the right length, `steps` not a positive
        number, or `points` belong to another network or input.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network or Cell; found {type(net).__name__}")
    u = net.check_condition(u)
    if steps is not None and (isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1):
        raise InputError(f"steps must be a whole number of at least 1, or None; found {steps!r}")
    if points is not None and (points.net.hash != net.hash or not np.array_equal(points.u, u)):
        raise InputError("points must be fixed points of this net at this u; found those of another net or input")
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    gamma = float(np.mean(net.gamma))
    limit = max(FEWEST, int(np.ceil(MOST / gamma))) if steps is None else int(steps)
    with threadpool_limits(1, user_api="blas"):
        h = _starts(net, u, points, check_rng(rng))
        journey = _Journey(net, u)
        transient = min(int(np.ceil(TRANSIENT / gamma)), limit // 3)
        length = min(max(SHORTEST, int(np.ceil(RECORD / gamma))), limit - transient)
        journey.go(h, transient, length, limit)
    order = np.argsort([-float(np.linalg.norm(cycle.amplitude)) for cycle in journey.cycles], kind="stable")
    return LimitCycles(
        net=net,
        u=u,
        cycles=tuple(journey.cycles[k] for k in order),
        ended=np.array([journey.ended[k] for k in order], int),
        resting=journey.resting,
        escaped=journey.escaped,
        undecided=journey.undecided,
        status=Status.UNDECIDED if journey.undecided else Status.OK,
        provenance=Provenance("trajectories", net.hash, {"starts": len(h), "steps": limit, "u": u.tolist()}, seed),
    )


def _starts(net: System, u: Array, points: FixedPoints | None, rng: Generator) -> Array:
    """Random states, and states beside unstable points along their unstable directions: (K, N)."""
    beside = [np.empty((0, net.N))]
    for k in rng.permutation(np.flatnonzero(points.n_unstable)) if points is not None else ():
        assert points is not None
        away = points.unstable_directions(int(k))
        aside = rng.standard_normal(away.shape) / np.sqrt(net.N)  # or a symmetric network stays on what repels it
        away = AWAY * (1 + np.abs(points.h[k]).max()) * (away + ASIDE * aside)
        beside += [points.h[k] + away, points.h[k] - away]
        if sum(len(h) for h in beside) >= DEPARTING:
            break
    return seeds.finite(np.vstack([seeds.random_states(net, u, rng, RANDOM), *beside]))


class _Journey:
    """How trajectories of `net` at `u` end: `cycles` and how many `ended` on each; `resting`, `escaped`,
    `undecided`."""

    def __init__(self, net: System, u: Array) -> None:
        self.net, self.u = net, u
        self.cycles: list[LimitCycle] = []
        self.ended: list[int] = []
        self.resting = self.escaped = self.undecided = 0
        self._records: list[Array] = []

    def go(self, h: Array, transient: int, length: int, limit: int) -> None:
        """Follow `h` (K, N) for a transient, then record; what is not regular goes on with a longer record, since
        irregular motion may be a long transient, and is believed to last only at the end."""
        h, spent, last = self._approach(h, transient), transient, False
        while len(h) and not last:
            spent += length
            last = spent + 2 * length > limit
            rows = max(1, NUMBERS // (length * self.net.N))
            h = np.vstack([self._watch(h[i : i + rows], length, last) for i in range(0, len(h), rows)])
            length *= 2
        self.undecided = len(h)

    def _approach(self, h: Array, steps: int) -> Array:
        """Those of `h` that still move after `steps`."""
        for start in range(0, steps, 100):
            h = seeds.run(self.net, h, self.u, min(100, steps - start))
            h = self._moving(h)
            if not len(h):
                break
        return h

    def _moving(self, h: Array) -> Array:
        """Count and drop the rows that escaped or rest."""
        size = np.abs(h).max(axis=1, initial=0.0)
        gone = ~(size <= seeds.ESCAPED)
        h, size = h[~gone], size[~gone]
        still = np.abs(self.net.target(h, self.u) - h).max(axis=1, initial=0.0) <= STILL * (1 + size)
        self.escaped, self.resting = self.escaped + int(gone.sum()), self.resting + int(still.sum())
        return h[~still]

    def _watch(self, h: Array, length: int, last: bool) -> Array:
        """Record `length` steps from `h` (K, N) and note what they show; the last states of those that go on.

        What escapes on the way leaves the others their full record: a short one looks like rest."""
        records, there = np.empty((length, *h.shape)), np.arange(len(h))
        for n in range(length):
            h = self.net.step(h, self.u)
            kept = np.abs(h).max(axis=1, initial=0.0) <= seeds.ESCAPED
            if not kept.all():
                self.escaped += int((~kept).sum())
                h, there = h[kept], there[kept]
            records[n, there] = h
        going = np.array([not self._note(records[:, k], last) for k in there], bool)
        return self._unsettled(self._moving(h[going]))

    def _unsettled(self, h: Array) -> Array:
        """Count and drop the rows that creep towards a stable point."""
        ends, settled = settle(self.net, h, self.u, steps=100)
        rests = settled.astype(bool)
        for k in np.flatnonzero(rests):  # what is near a point that repels only lingers
            rests[k] = np.abs(np.linalg.eigvals(self.net.jacobian(ends[k], self.u))).max() < 1
        self.resting += int(rests.sum())
        return h[~rests]

    def _note(self, record: Array, last: bool) -> bool:
        """Whether `record` (n, N) shows rest or a cycle, and if so count it; irregular motion only at the `last`."""
        extent = np.ptp(record, axis=0)
        if extent.max() <= FLAT * (1 + np.abs(record[-1]).max()):
            self.resting += 1
            return True
        found = rotation.motion(record)
        if found is None or not (found.regular or last) or not is_steady(record, found):
            return False
        mean = found.h.mean(axis=0) if found.regular else record.mean(axis=0)
        cycle = LimitCycle(found.h, mean, extent, found.period, found.period_error, found.defect, found.regular)
        for k, known in enumerate(self.cycles):
            if are_same(known, cycle, self._records[k], record):
                self.ended[k] += 1
                return True
        self.cycles.append(cycle)
        self.ended.append(1)
        self._records.append(record.copy())
        return True


def is_steady(record: Array, found: rotation.Motion) -> bool:
    """Whether the motion in `record` (n, N) neither grows nor dies away.

    The closed curves of the two halves of a regular one must be of one size; that of the quarters of an irregular
    one, which fluctuates, must not fall or rise from each to the next.
    """
    if found.regular:
        curves = [rotation.closed_curve(half, found.period)[1] for half in np.array_split(record, 2)]
        first, second = (float(np.linalg.norm(curve - curve.mean(axis=0))) for curve in curves)
        return abs(first - second) <= STEADY * first
    sizes = np.array([np.linalg.norm(part - part.mean(axis=0)) for part in np.array_split(record, 4)])
    change = np.diff(sizes)
    return not (abs(sizes[-1] - sizes[0]) > DRIFTING * sizes[0] and (np.all(change > 0) or np.all(change < 0)))


def are_same(a: LimitCycle, b: LimitCycle, record_a: Array, record_b: Array) -> bool:
    """Whether two cycles are one: the same period on the same curve or, if irregular, clouds of the same mean and
    extent."""
    size = float(np.linalg.norm(a.amplitude))
    if a.regular != b.regular:
        return False
    if not a.regular:
        apart = max(np.linalg.norm(a.mean - b.mean), np.linalg.norm(a.amplitude - b.amplitude))
        return bool(apart <= SAME_CLOUD * size)
    if abs(a.period - b.period) > SAME_PERIOD * a.period:
        return False
    some = record_b[:: max(1, len(record_b) // 50)]
    nearest = [np.linalg.norm(record_a - h, axis=1).min() for h in some]
    return bool(np.median(nearest) <= SAME_CURVE * size)
