"""Search for fixed points: Newton from many seeds, round after round, until rounds find nothing new."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from fpanalysis.fixed_points.certificate import certify
from fpanalysis.fixed_points.equation import smallest
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.fixed_points.newton import bound, newton, roam
from fpanalysis.fixed_points.search import seeds
from fpanalysis.fixed_points.search.fibers import fibers
from fpanalysis.fixed_points.search.points import Points
from fpanalysis.network import Network
from fpanalysis.system import System

Array = NDArray[np.float64]

ROUNDS = 80
WORK, FEWEST, MOST = 20_000, 12, 1024  #: seeds of a round times dim^1.5, and seeds of a round at least and at most
MOST_OF_A_CELL = 128  #: the same of a cell, whose Jacobians cost more
TRAJECTORIES = 48
STEPS = 8e6  #: points along a fiber, times N^2
FEW_POINTS = 30  #: up to which one fruitless round of each kind is enough
MOST_POINTS = 2000  #: the search ends, and is not dry, when there are more
SAME = 1e-7  #: two zeros closer than this, relative to 1 + max|h|, are one
ROUGH, NEAR = 1e4, 1e-6  #: Newton first stops at this multiple of the tolerance, where zeros this near are one
CLOSE = 0.25  #: share of the distance between two known points within which a start leads to one of them
HERE = 0.02  #: the same, of an iterate on its way
CHEAP = 16  #: dimension up to which Newton's steps cost less than to look whether they lead to a known point


class Search:
    """The fixed points of `net` at the input `u`: `points`, the zeros found so far; `dry`, whether the last rounds,
    one of each kind at least, found nothing new but all points again; `rounds` and `starts`, the work done."""

    def __init__(self, net: System, u: Array, rng: Generator) -> None:
        self.net, self.u, self.rng = net, u, rng
        self.equation = smallest(net, u)
        self.points = Points(self.equation, net.N)
        self._box = net.trapping_box(u)
        self._odd = _is_odd(net, u)
        most = MOST if isinstance(net, Network) else MOST_OF_A_CELL
        self.count = int(np.clip(WORK / self.equation.dim**1.5, FEWEST, most))
        self.dry, self.rounds, self.starts = False, 0, 0
        self._waiting: dict[str, tuple[int, NDArray[np.intp]]] = {}

    def run(self) -> None:
        """Rounds until they run dry and the audit, where it applies, misses nothing."""
        fruitless = 0
        for starts in self._rounds():
            fruitless = 0 if self.add(starts) else fruitless + 1
            if fruitless >= 2 * self._cycle and self.missing and self._follow():
                fruitless = 0
            # one of each kind found nothing new and all that is known: a point like the others was not missed.
            # Newton ends all about a singular point, and need not come to the same state again
            again = bool(np.all(self.points.seen | (self.points.index == 0)))
            self.dry = fruitless >= self._cycle and again
            if (self.dry and not self.missing) or self.rounds >= ROUNDS or len(self.points) > MOST_POINTS:
                self.dry &= len(self.points) <= MOST_POINTS
                break

    def _follow(self) -> int:
        """Along a directional fiber through a point chosen at random; the number of points that are new."""
        if not len(self.points):
            return 0
        start = self.points.h[self.rng.integers(len(self.points))]
        steps = int(np.clip(STEPS / self.net.N**2, 100, 2000))
        self.rounds += 1
        return self.include(fibers(self.net, self.u, start, self.rng, steps))

    @property
    def missing(self) -> bool:
        """Whether the audit shows that points are missing."""
        index = self.points.index
        return self.net.dissipative and bool(np.all(index)) and int(index.sum()) != 1

    def add(self, starts: Array) -> int:
        """One round: Newton from `starts` (K, N); the number of points that are new."""
        self.rounds, self.starts = self.rounds + 1, self.starts + len(starts)
        z = self.equation.coordinates(seeds.finite(starts))
        known = self.points.arriving(HERE if self.equation.dim > CHEAP else 0.0)
        h = self.equation.state(roam(self.equation, z, ROUGH, known))
        return self.include(self.points.unknown(h, NEAR))

    def include(self, h: Array) -> int:
        """Add the zeros that Newton reaches from `h` (K, N), close by; the number of those that are new."""
        if self._odd:
            h = np.vstack([h, -h])
        h, residual = newton(self.net, h, self.u)
        h = self.points.unknown(h[(residual <= bound(h)) & self._possible(h)], SAME)
        on_a_kink = kinked(self.net, h, self.u).any(axis=1)
        index = np.where(on_a_kink, 0, self.points.indices(h))
        doubtful = (index == 0) & ~on_a_kink
        if doubtful.any():
            h, index = self._told_apart(h, index, doubtful)
        return self.points.add(h, index)

    def _told_apart(
        self, h: Array, index: NDArray[np.int_], doubtful: NDArray[np.bool_]
    ) -> tuple[Array, NDArray[np.int_]]:
        """`h` and `index` with those nearly singular points that are certified given their index, and each kept once:
        Newton may end at different places within the ball that holds one fixed point."""
        rows = np.flatnonzero(doubtful)
        proven = certify(self.net, h[rows], self.u)
        sign = np.linalg.slogdet(self.equation.slope(self.equation.coordinates(h[rows])))[0].astype(int)
        dropped: list[int] = []
        for k in np.flatnonzero(proven.certified):
            others = np.vstack([self.points.h, np.delete(h, [*dropped, *rows[k:]], axis=0)])
            if (np.abs(others - h[rows[k]]).max(axis=1, initial=0.0) <= proven.radius[k]).any() and len(others):
                dropped.append(int(rows[k]))
            else:
                index[rows[k]] = sign[k]
        return np.delete(h, dropped, axis=0), np.delete(index, dropped)

    def _possible(self, h: Array) -> NDArray[np.bool_]:
        """Whether `h` is where fixed points can be: a gate that closes for ever makes F(h) - h underflow far away."""
        if self._box is None:
            return np.ones(len(h), bool)
        low, high = self._box
        slack = NEAR * (1 + np.abs(h).max(axis=1, keepdims=True, initial=0.0))
        return np.asarray(((h >= low - slack) & (h <= high + slack)).all(axis=1))

    @property
    def _relu(self) -> bool:
        return isinstance(self.net, Network) and self.net.activation.name == "relu" and self.net.form == "rate"

    @property
    def _cycle(self) -> int:
        """Fruitless rounds before the search may be dry: one of each kind, or two where there are many points."""
        return (5 if self._relu else 4) * (1 if len(self.points) <= FEW_POINTS else 2)

    def _rounds(self) -> Iterator[Array]:
        """The starts of round after round, one kind after the other."""
        net, u, rng = self.net, self.u, self.rng
        yield seeds.trajectories(net, u, rng, TRAJECTORIES)
        if self._relu and net.N <= seeds.LARGE:
            yield seeds.tree(net, u)
        while True:
            yield self._midpoints()
            yield seeds.random_states(net, u, rng, self.count)
            yield self._mixtures()
            if self._relu:
                yield self._patterns()
            yield seeds.random_states(net, u, rng, self.count, net.N)

    def _midpoints(self) -> Array:
        pairs = self._pairs("midpoints", max(self.count, 2 * len(self.points)))
        return self.points.promising(seeds.midpoints(self.points.h, pairs), CLOSE)

    def _mixtures(self) -> Array:
        h = self.points.h
        if not len(h):
            return h
        count = max(self.count, len(h)) // 2
        parts = [seeds.scattered(h, self.rng, count), seeds.mixtures(h, self.rng, count)]
        return self.points.promising(np.vstack(parts), CLOSE)

    def _patterns(self) -> Array:
        assert isinstance(self.net, Network)
        pairs = self._pairs("patterns", max(self.count // 4, len(self.points)))
        return seeds.patterns(self.net, self.u, self.points.h, pairs, self.rng, max(self.count, len(self.points)))

    def _pairs(self, kind: str, most: int) -> NDArray[np.intp]:
        """Up to `most` pairs of points that this kind of round has not had yet, at random."""
        known, waiting = self._waiting.get(kind, (0, np.empty((0, 2), int)))
        fresh = [np.column_stack([np.full(i, i), np.arange(i)]) for i in range(known, len(self.points))]
        pairs = self.rng.permutation(np.vstack([waiting, *fresh]))
        self._waiting[kind] = len(self.points), pairs[most:]
        return pairs[:most]


def _is_odd(net: System, u: Array) -> bool:
    """Whether f is odd and nothing drives the network, so that fixed points come in pairs h, -h."""
    if not isinstance(net, Network) or np.any(net.drive(u)):
        return False
    x = np.linspace(0, 3, 31)[:, None]
    return bool(np.array_equal(net.activation.f(-x), -net.activation.f(x)))
