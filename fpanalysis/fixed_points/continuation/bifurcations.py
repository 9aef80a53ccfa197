"""Special points of a curve of fixed points: found between two neighbours on it, located, and named.

    fold                the parameter turns back along the curve: one eigenvalue +1 of the step's Jacobian J
    pitchfork,          two curves cross (det [DG; t^T] = 0): one eigenvalue +1; a pitchfork where one of the two is
    transcritical       tangent to the states, transcritical where neither is
    branch point        an eigenvalue +1 at which the curves that meet could not be resolved
    flip                an eigenvalue -1
    Neimark-Sacker      a pair of complex eigenvalues on the unit circle
    border collision    stability, or the direction in the parameter, jumps at a kink of the activation

Source: Y. A. Kuznetsov, *Elements of Applied Bifurcation Theory*, 3rd ed., Springer 2004, chapters 4, 5 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.continuation.family import Family
from fpanalysis.fixed_points.curve import Point, locate

Array = NDArray[np.float64]

LOCATED = 1e-13  #: distance along the curve to which a special point is located
ROUNDING = 1e-13  #: of a test function of order one
TOUCHING = 1e-5  #: special points closer than this, relative to 1 + max|z|, are one
JUMP = 1e-5  #: a test function still this far from zero at its change of sign jumps there
GAP = 1e-10  #: residual between two curves, relative to 1 + max|h|, above which they pass without meeting
FOLD, PITCHFORK, TRANSCRITICAL, BRANCH_POINT = "fold", "pitchfork", "transcritical", "branch point"
FLIP, NEIMARK_SACKER, BORDER = "flip", "Neimark-Sacker", "border collision"


class Sample(NamedTuple):
    """A point of a curve with the eigenvalues of the step there, largest modulus first."""

    point: Point
    eigenvalues: NDArray[np.complex128]

    @property
    def n_unstable(self) -> int:
        return int(np.sum(np.abs(self.eigenvalues) >= 1))


@dataclass(frozen=True, eq=False)
class Event:
    """A special point at z (N + 1,), with the directions of the two curves that cross there, if they do."""

    kind: str
    z: Array
    eigenvalue: complex
    error: float  #: of p
    lines: tuple[Array, Array] | None = None  #: unit tangents (N + 1,), first that of the curve being followed


class Jumped(Exception):
    """The curve could not be followed from a point to its neighbour: the two may lie on curves that nearly meet."""


def sample(family: Family, point: Point) -> Sample:
    return Sample(point, family.eigenvalues(point.z, point.DG))


def events(family: Family, a: Sample, b: Sample) -> list[Event]:
    """The special points between the neighbours `a` and `b`, in their order along the curve.

    Raises
    ------
    Jumped
        If the curve could not be followed from `a` to `b`: take shorter steps.
    """
    turns = (a.point.tangent[-1] > 0) != (b.point.tangent[-1] > 0)
    turns &= max(abs(a.point.tangent[-1]), abs(b.point.tangent[-1])) > 1e-9
    if b.point.corner:
        return [_corner(family, a, b)] if turns or a.n_unstable != b.n_unstable else []
    found: list[Event] = []
    if (a.point.sign > 0) != (b.point.sign > 0):
        _add(found, _crossing(family, a, b))
    if turns:
        _add(found, _fold(family, a, b))
    explained = len(found) == 1 and abs(a.n_unstable - b.n_unstable) == 1 and found[0].kind != BORDER
    if a.n_unstable != b.n_unstable and not explained:
        for event in _instabilities(family, a, b):
            _add(found, event)
    return sorted(found, key=lambda event: float((event.z - a.point.z) @ a.point.tangent))


def _add(found: list[Event], event: Event | None) -> None:
    if event is not None and not any(touch(event.z, other.z) for other in found):
        found.append(event)


def touch(z: Array, other: Array) -> bool:
    return bool(np.abs(z - other).max() <= TOUCHING * (1 + np.abs(z).max()))


def _event(family: Family, a: Sample, b: Sample, test: Callable[[Point], float], kind: str) -> tuple[Event, Point]:
    """The point at which `test` changes sign, an event there of that kind, and the eigenvalue closest to one."""
    point = locate(family, a.point, b.point, test, LOCATED)
    if point is None:
        raise Jumped
    slope = abs(test(b.point) - test(a.point)) / float(np.linalg.norm(b.point.z - a.point.z))
    values = family.eigenvalues(point.z, point.DG)
    eigenvalue = complex(values[np.argmin(np.abs(values - 1))])
    along = LOCATED + ROUNDING / max(slope, 1e-300)
    steepness = abs(float(point.tangent[-1])) + along  # p changes by as much along the curve: at a fold, hardly
    return Event(kind, point.z, eigenvalue, family.unit * (along * min(steepness, 1.0) + point.error)), point


def _fold(family: Family, a: Sample, b: Sample) -> Event:
    event, point = _event(family, a, b, lambda point: float(point.tangent[-1]), FOLD)
    return event if abs(point.tangent[-1]) < JUMP else _renamed(event, BORDER)


def _renamed(event: Event, kind: str, eigenvalue: complex | None = None) -> Event:
    return Event(kind, event.z, event.eigenvalue if eigenvalue is None else eigenvalue, event.error, event.lines)


def _corner(family: Family, a: Sample, b: Sample) -> Event:
    """Where the straight lines before and after the kink meet."""
    lines = np.column_stack([a.point.tangent, b.point.tangent])
    s = np.linalg.lstsq(lines, b.point.z - a.point.z, rcond=None)[0]
    z = a.point.z + s[0] * a.point.tangent
    miss = float(np.linalg.norm(b.point.z - s[1] * b.point.tangent - z))
    outermost = a if abs(a.eigenvalues[0]) > abs(b.eigenvalues[0]) else b
    error = family.unit * (miss + a.point.error + b.point.error + ROUNDING * (1 + float(np.abs(z).max())))
    return Event(BORDER, z, complex(outermost.eigenvalues[0]), error)


def _instabilities(family: Family, a: Sample, b: Sample) -> list[Event]:
    """One event for every eigenvalue, or pair, whose modulus passes one: the k-th largest modulus as test function."""
    k, last = sorted((a.n_unstable, b.n_unstable))
    found = []
    while k < last:

        def test(point: Point, k: int = k) -> float:
            return float(np.abs(family.eigenvalues(point.z, point.DG)[k]) - 1)

        event, point = _event(family, a, b, test, BRANCH_POINT)
        values = family.eigenvalues(point.z, point.DG)
        value = complex(values[k])
        if abs(abs(value) - 1) > JUMP:
            less_stable = a if a.n_unstable > b.n_unstable else b
            event = _renamed(event, BORDER, complex(less_stable.eigenvalues[k]))
        elif abs(value.imag) > JUMP:
            event = _renamed(event, NEIMARK_SACKER, complex(value.real, abs(value.imag)))
        elif value.real < 0:
            event = _renamed(event, FLIP, value)
        found.append(event)
        k += 2 if event.kind == NEIMARK_SACKER else 1
    return found


def _crossing(family: Family, a: Sample, b: Sample) -> Event | None:
    """The simple branch point between `a` and `b`; None where the determinant jumps at a kink."""

    def det(point: Point) -> float:
        return point.sign * float(np.exp(min(point.log - a.point.log, 50.0)))

    polished = _polish(family, (a.point.z + b.point.z) / 2)
    way = b.point.z - a.point.z
    if polished is None or np.linalg.norm(polished.z - a.point.z - way / 2) > np.linalg.norm(way):
        event, point = _event(family, a, b, det, BRANCH_POINT)
        return event if abs(det(point)) < JUMP else None
    if abs(polished.gap) > GAP * (1 + np.abs(polished.z).max()):
        raise Jumped
    error = family.unit * (polished.step + ROUNDING + family.slope_error)
    values = family.eigenvalues(polished.z, family(polished.z)[1])
    eigenvalue = complex(values[np.argmin(np.abs(values - 1))])
    if polished.lines is None:
        return Event(BRANCH_POINT, polished.z, eigenvalue, error)
    lines = sorted(polished.lines, key=lambda line: -abs(float(line @ way)))
    kind = PITCHFORK if min(abs(line[-1]) for line in lines) < 1e-5 else TRANSCRITICAL
    return Event(kind, polished.z, eigenvalue, error, (lines[0], lines[1]))


class _Polished(NamedTuple):
    z: Array
    gap: float  #: beta; zero where the two curves meet
    step: float  #: size of the last Newton step
    lines: list[Array] | None


def _polish(family: Family, z: Array) -> _Polished | None:
    """Newton on the minimally augmented system of a simple branch point, regular where the curve's own is not:

        G(z) + beta w0 = 0,   g(z) = 0     with     [DG  w0] [V]     [0]
                                                    [V0^T 0] [g^T] = [I]

    of the unknowns (z, beta), where w0 and V0 span the approximate left and right null spaces of DG.
    Source: W. Govaerts, *Numerical Methods for Bifurcations of Dynamical Equilibria*, SIAM 2000, chapter 4.
    """
    N = family.N
    left, _, right = np.linalg.svd(family(z)[1])
    K = np.zeros((N + 2, N + 2))
    K[:N, -1], K[N:, :-1] = left[:, -1], right[-2:]
    L, beta, step = K.copy(), 0.0, np.inf
    try:
        for _ in range(10):
            gap, DG = family(z)
            K[:N, :-1] = L[:N, :-1] = DG
            Vg = np.linalg.solve(K, np.eye(N + 2)[:, N:])
            w = np.linalg.solve(K.T, np.eye(N + 2)[-1])[:N]
            V: Array = np.asarray(Vg[:-1].T, np.float64)
            bends: Array = np.array([w @ _second(family, z, v) for v in V])
            H: Array = bends @ V.T
            L[N:, :-1] = -bends
            delta = np.linalg.solve(L, -np.append(gap + beta * left[:, -1], Vg[-1]))
            last, step = step, float(np.abs(delta).max())
            z, beta = z + delta[:-1], beta + float(delta[-1])
            if step <= 1e-13 * (1 + np.abs(z).max()) or (step >= last and step < 1e-9):
                return _Polished(z, beta, step, _lines(H, V))
    except np.linalg.LinAlgError:
        return None
    return None


def _second(family: Family, z: Array, v: Array) -> Array:
    """D^2 G [v, .], (N, N + 1), by central differences."""
    step = 1e-4 * (1 + np.abs(z).max()) / np.abs(v).max()
    return np.asarray(family(z + step * v)[1] - family(z - step * v)[1]) / (2 * step)


def _lines(H: Array, V: Array) -> list[Array] | None:
    """The two unit directions V^T x of the null space V (2, N + 1) with x^T H x = 0; None unless H is indefinite."""
    values, q = np.linalg.eigh((H + H.T) / 2)
    if not values[0] < -1e-8 * abs(values).max() < 1e-8 * abs(values).max() < values[1]:
        return None
    x = [np.sqrt(values[1]) * q[:, 0] + side * np.sqrt(-values[0]) * q[:, 1] for side in (1, -1)]
    return [line / np.linalg.norm(line) for line in (V.T @ y for y in x)]
