"""All curves of fixed points of a family: each followed once, from what starts it to both its ends.

Curves start from fixed points found at several levels of the parameter and not yet passed by a curve, and from
branch points, at which a curve not yet followed crosses one that was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.continuation.bifurcations import BRANCH_POINT, Event, Jumped, Sample, events, sample, touch
from fpanalysis.fixed_points.continuation.family import Family
from fpanalysis.fixed_points.curve import FIRST, Point, correct, locate, passes, tangent_of, trace

Array = NDArray[np.float64]

ESCAPED = 1e6
LONGEST = 0.02  #: step, relative to sqrt(N + 1) + |z|: short enough for a smooth picture
CAREFUL = 60  #: short steps past a gap between two curves
MOST_CURVES = 512
SAME = 1e-7  #: two zeros closer than this, relative to 1 + max|h|, are one
SINGULAR = 1e-11  #: smallest singular value of I - dF/dh on a line of fixed points, which may be one at any p
EDGE = 1e-9  #: of the interval, in z


@dataclass(eq=False)
class Run:
    """A curve followed: samples and events, each with its place; ends are why it ends."""

    z: list[Array] = field(default_factory=list)
    n_unstable: list[int] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    ends: tuple[str, str] = ("", "")
    arrivals: tuple[Array, Array] = (np.empty(0), np.empty(0))  # tangents at the ends, outwards
    error: float = 0.0

    def add(self, z: Array, n_unstable: int, error: float = 0.0) -> None:
        self.z.append(z)
        self.n_unstable.append(n_unstable)
        self.error = max(self.error, error)


@dataclass(eq=False)
class _Crossing:
    """A branch point with its two curves, and which of them have been followed."""

    event: Event
    lines: tuple[Array, Array]
    followed: list[bool]


class Atlas:
    """The curves found so far of `family`; `levels` are the parameters p at which their passage is recorded."""

    def __init__(self, family: Family, levels: Array, steps: int) -> None:
        self.family, self.steps = family, steps
        self.levels = {float(p): (float(p) - family.start) / family.unit for p in levels}
        self.passed: dict[float, list[Array]] = {p: [] for p in self.levels}
        self.runs: list[Run] = []
        self.crossings: list[_Crossing] = []
        self.singular: set[float] = set()  # levels at which a curve was started from a line of fixed points
        self.left: list[tuple[Array, float, float]] = []  # fixed points from which no curve could be started

    def add_fixed_point(self, h: Array, p: float) -> None:
        """Follow the curve through the fixed point `h` at level `p`, unless one that was followed passes there."""
        family, z = self.family, self.family.z(h, p)
        DG = family(z)[1]
        # a nearly singular point is known only to its residual over the smallest singular value
        smallest = float(np.linalg.svd(DG[:, :-1], compute_uv=False)[-1])
        near = max(SAME, 1e-10 / max(smallest, 1e-9)) * (1 + np.abs(h).max())
        if self._passes(h, p, near):
            return
        singular = smallest < SINGULAR  # one of a line of fixed points: one curve stands for all at this level
        start = None if singular and p in self.singular else correct(family, z, tangent_of(DG))
        if start is None or not np.isfinite(start.log) or len(self.runs) >= MOST_CURVES:
            self.left.append((h, p, near))
            return
        self.passed[p].append(h)
        self.singular |= {p} if singular else set()
        self._keep(self._both_ways(start))
        self._follow_crossings()

    @property
    def complete(self) -> bool:
        """Whether every curve seen was followed."""
        return len(self.runs) < MOST_CURVES and all(self._passes(*seed) for seed in self.left)

    def _passes(self, h: Array, p: float, near: float) -> bool:
        return any(np.abs(h - other).max() <= near for other in self.passed[p])

    def _follow_crossings(self) -> None:
        while waiting := [(c, k) for c in self.crossings for k in (0, 1) if not c.followed[k]]:
            if len(self.runs) >= MOST_CURVES:
                return
            crossing, k = waiting[0]
            crossing.followed[k] = True
            self._keep(self._both_ways(self._on(crossing.event.z, crossing.lines[k]), crossing.event))

    def _on(self, z: Array, tangent: Array) -> Point:
        return Point(z, tangent, self.family(z)[1], 0.0, -np.inf, 0.0)

    def _both_ways(self, start: Point, branch_point: Event | None = None) -> Run | None:
        """The curve through `start`; None if it is one of those already followed."""
        forward = self._follow(start, branch_point is not None)
        if forward is None or forward.ends[1] == "closed":
            return forward
        back = start._replace(tangent=-start.tangent, sign=-start.sign)
        backward = self._follow(back, branch_point is not None)
        if backward is None:
            return None
        joint = max(forward.n_unstable[:2] + backward.n_unstable[:2])
        return Run(
            backward.z[:0:-1] + forward.z,
            backward.n_unstable[:0:-1] + ([joint] if branch_point else forward.n_unstable[:1]) + forward.n_unstable[1:],
            backward.events[::-1] + forward.events,
            (backward.ends[1], forward.ends[1]),
            (backward.arrivals[1], forward.arrivals[1]),
            max(forward.error, backward.error),
        )

    def _keep(self, run: Run | None) -> None:
        if run is None or len(run.z) < 2:
            return
        self.runs.append(run)
        for event in run.events:
            if event.lines is not None:
                self._cross(event, event.lines)

    def _cross(self, event: Event, lines: tuple[Array, Array]) -> None:
        """Note that the curve with tangent lines[0] was followed through a branch point."""
        for known in self.crossings:
            if touch(known.event.z, event.z):
                known.followed[int(np.argmax([abs(line @ lines[0]) for line in known.lines]))] = True
                return
        self.crossings.append(_Crossing(event, lines, [True, False]))

    def _follow(self, start: Point, from_crossing: bool) -> Run | None:
        """The curve from `start` on, to its end; None if it ends where another that was followed does."""
        run, a = Run(), sample(self.family, start)
        run.add(start.z, a.n_unstable, start.error)
        rising = start.tangent[-1] > 0
        gone = abs(start.z[-1] - (sqrt(self.family.N) if rising else 0.0)) < EDGE
        if gone and abs(start.tangent[-1]) > EDGE:  # it leaves the interval at once
            return _ended(run, "stop" if rising else "start")
        for k, (b, found) in enumerate(self._neighbours(a, from_crossing)):
            if b is None:
                break
            end = self._end(start, a, b, k)
            inside = b if end is None else end[1]
            reach = (inside.point.z - a.point.z) @ a.point.tangent
            for event in found:
                if end is None or (event.z - a.point.z) @ a.point.tangent <= reach:
                    run.events.append(event)
                    run.add(event.z, max(a.n_unstable, b.n_unstable))
            self._note_levels(a.point, inside.point)
            run.add(inside.point.z, inside.n_unstable, inside.point.error)
            if end is not None:
                run.arrivals = (-start.tangent, inside.point.tangent)
                return None if self._known(end[0], inside.point) else _ended(run, end[0])
            if k + 1 >= self.steps:
                return _ended(run, "steps")
            if np.abs(b.point.z[:-1]).max() > ESCAPED:
                return _ended(run, "infinity")
            a = b
        for event in (event for other in self.runs for event in other.events):
            if event.kind == BRANCH_POINT and touch(event.z, a.point.z):
                run.add(event.z, a.n_unstable)
                return _ended(run, BRANCH_POINT)
        return _ended(run, "stuck")

    def _known(self, end: str, point: Point) -> bool:
        """Whether a curve already followed ends there, coming from the same side: then it is the same one."""
        return any(
            end == run.ends[k] and touch(point.z, run.z[-k]) and float(run.arrivals[k] @ point.tangent) > 0.9
            for run in self.runs
            for k in (0, 1)
            if len(run.arrivals[k])
        )

    def _neighbours(self, a: Sample, from_crossing: bool) -> Iterator[tuple[Sample | None, list[Event]]]:
        """The samples after `a`, each with the events on the way to it; None where the curve could not be followed."""
        family, longest, careful = self.family, LONGEST, 0
        # where two curves cross the determinant is zero: the first step away from there is short and has no events
        points = trace(family, a.point, 0.3 * FIRST if from_crossing else FIRST, longest)
        first = from_crossing
        while True:
            point = next(points, None)
            if point is None:
                yield None, []
                return
            b = sample(family, point)
            try:
                found = [] if first else events(family, a, b)
            except Jumped:
                unit = sqrt(len(point.z)) + float(np.linalg.norm(a.point.z))
                longest, careful = float(np.linalg.norm(point.z - a.point.z)) / unit / 8, CAREFUL
                if longest < 1e-8:
                    yield None, []
                    return
                points = trace(family, a.point, longest, longest)
                continue
            yield b, found
            a, first = b, False
            if careful:
                careful -= 1
                if not careful:
                    points, longest = trace(family, point, longest, LONGEST), LONGEST

    def _end(self, start: Point, a: Sample, b: Sample, k: int) -> tuple[str, Sample] | None:
        """Whether the curve ends between `a` and `b`, and where: beyond the interval, or back at its start."""
        family, top = self.family, sqrt(self.family.N)
        z = b.point.z
        edge = 0.0 if z[-1] < -EDGE else top if z[-1] > top + EDGE else None
        if edge is not None:
            at = locate(family, a.point, b.point, lambda point: float(point.z[-1] - edge), 1e-13)
            name = "start" if edge == 0 else "stop"
            return name, a if at is None else sample(family, at)  # None: a is at the edge already
        if k > 1 and passes(start, a.point, b.point):
            at = locate(family, a.point, b.point, lambda point: float((point.z - start.z) @ start.tangent), 1e-13)
            if at is not None and touch(at.z, start.z):
                return "closed", sample(family, at)
        return None

    def _note_levels(self, a: Point, b: Point) -> None:
        for p, level in self.levels.items():
            low, high = sorted((a.z[-1], b.z[-1]))
            if low - EDGE <= level <= high + EDGE:
                at = locate(self.family, a, b, lambda point, level=level: float(point.z[-1] - level), 1e-12)  # type: ignore[misc]
                nearest = a if abs(a.z[-1] - level) < abs(b.z[-1] - level) else b
                self.passed[p].append((nearest if at is None else at).z[:-1])


def _ended(run: Run, end: str) -> Run:
    run.ends = (end, end) if end == "closed" else ("", end)
    return run
