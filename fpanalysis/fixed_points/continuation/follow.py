"""Continuation: the branches of fixed points in a parameter, and the bifurcations on them.

The fixed points F(h; p) = h of a family of systems form curves in (h, p). They do not depend on gamma, their
stability does: in gamma every branch is one point, and an eigenvalue mu of dF/dh there leaves the unit circle,
|1 - gamma + gamma mu| = 1, at

    gamma = 2 (1 - Re mu) / |1 - mu|^2
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eig

from fpanalysis.checks import check_rng, real_array
from fpanalysis.fixed_points import find_fixed_points
from fpanalysis.fixed_points.continuation.atlas import Atlas, Run
from fpanalysis.fixed_points.continuation.bifurcations import BRANCH_POINT, FLIP, NEIMARK_SACKER
from fpanalysis.fixed_points.continuation.branches import Branch, Branches, SpecialPoint
from fpanalysis.fixed_points.continuation.family import Custom, Family, Maker, family
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.fixed_points.result import is_stable
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status, one_line
from fpanalysis.system import System

Array = NDArray[np.float64]

PARAMETERS = ("gamma", "scale", "input")
#: where between start (0) and stop (1) fixed points are looked for: at no simple fraction, where symmetric systems
#: have their bifurcations; the ends last, since people like to start at one
LEVELS = (0.4361, 0.6180, 0.2137, 0.8293, 0.0, 1.0)


def continue_fixed_points(
    net: System | None,
    parameter: str | Maker,
    start: float,
    stop: float,
    u: ArrayLike | None = None,
    direction: ArrayLike | None = None,
    rng: int | Generator = 0,
    steps: int = 2000,
) -> Branches:
    """Branches of fixed points of `net` as a parameter p goes from `start` to `stop`.

    Parameters
    ----------
    net : a Network or Cell; None if `parameter` is a function.
    parameter :
        "gamma": p is dt / tau, the same for all neurons, in (0, 1];
        "scale": W -> p W (a Network only);
        "input": u -> p u, or u + p direction if `direction` (n_in,) is given; with neither and n_in = 1, p is u;
        a function p -> (system, u): anything else. Its derivative in p is taken by differences.
    u : (n_in,), constant input; None for zero.
    rng : seed of the search for fixed points from which the branches start.
    steps : most points of a branch on either side of where it starts.

    Fixed points are searched for at six values of p, those at both ends included; each is followed both ways until
    it leaves the interval, closes on itself, or cannot be followed. At simple branch points the other branch is
    followed too. A branch that exists between two neighbouring values only, and is connected to no other, is not seen.

    Raises
    ------
    InputError
        On an unknown parameter, start >= stop, gamma outside (0, 1], "input" for a system without inputs, or an
        input or direction of the wrong length.
    """
    start, stop = _interval(start, stop)
    _check(net, parameter, steps)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    generator = check_rng(rng)
    if parameter == "gamma":
        assert net is not None
        if start <= 0 or stop > 1:
            raise InputError(f"gamma must lie in (0, 1]; found the interval from {start:g} to {stop:g}")
        if direction is not None:
            raise InputError("direction has a meaning for parameter 'input' only; found parameter 'gamma'")
        return _in_gamma(net, start, stop, net.check_condition(u), generator, seed)
    of = family(net, parameter, start, stop, u, direction)
    levels = start + (stop - start) * np.array(LEVELS)
    atlas = Atlas(of, levels, steps)
    for p in map(float, levels):
        system, at = of.system(p)
        for h in find_fixed_points(system, at, rng=generator, prove=False).h:
            atlas.add_fixed_point(h, p)
    name = "custom" if isinstance(of, Custom) else str(parameter)
    settings = {"parameter": name, "levels": levels.tolist(), "steps": steps}
    settings |= {} if u is None else {"u": np.asarray(u, float).tolist()}
    settings |= {} if direction is None else {"direction": np.asarray(direction, float).tolist()}
    system = of.system(start)[0] if net is None else net
    branches = tuple(_branch(of, run) for run in atlas.runs)
    points = _special_points(of, atlas.runs)
    status = _status(branches) if atlas.complete else Status.CUT_SHORT
    provenance = Provenance("pseudo-arclength", system.hash, settings, seed)
    return Branches(name, start, stop, system, branches, points, status, provenance)


def _interval(start: float, stop: float) -> tuple[float, float]:
    ends = [real_array(name, value) for name, value in (("start", start), ("stop", stop))]
    if any(end.ndim for end in ends):
        raise InputError("start and stop must be one number each")
    low, high = map(float, ends)
    if low >= high:
        raise InputError(f"start must be below stop; found {low:g} and {high:g}")
    return low, high


def _check(net: object, parameter: object, steps: object) -> None:
    if not callable(parameter):
        if not isinstance(parameter, str) or parameter not in PARAMETERS:
            raise InputError(
                f"parameter must be one of {', '.join(map(repr, PARAMETERS))} or a function p -> (system, u); "
                f"found {one_line(repr(parameter))}"
            )
        if not isinstance(net, System):
            raise InputError(f"net must be a fpanalysis.Network or Cell; found {type(net).__name__}")
    if not isinstance(steps, int | np.integer) or isinstance(steps, bool) or steps < 1:
        raise InputError(f"steps must be a whole number >= 1; found {steps!r}")


def _branch(of: Family, run: Run) -> Branch:
    z, n_unstable, ends = np.array(run.z), np.array(run.n_unstable), run.ends
    if z[0, -1] > z[-1, -1]:
        z, n_unstable, ends = z[::-1], n_unstable[::-1], (ends[1], ends[0])
    status = Status.CUT_SHORT if {"steps", "stuck"} & set(run.ends) else Status.OK
    p = of.start + of.unit * z[:, -1]
    for k, end in zip((0, -1), ends, strict=True):  # exactly, where it leaves the interval
        p[k] = {"start": of.start, "stop": of.stop}.get(end, p[k])
    return _on_all_sides(Branch(p, z[:, :-1], n_unstable, ends, status, run.error), of.system)


def _on_all_sides(branch: Branch, at: Callable[[float], tuple[System, Array]]) -> Branch:
    """`branch`, unstable too where only another side of a kink is on which a point sits; with the status ON_KINKS
    where that is no isolated point (a border collision) but a stretch."""
    n_unstable, on_a_kink = branch.n_unstable.copy(), np.zeros(len(branch), bool)
    for k, (p, h) in enumerate(zip(branch.p, branch.h, strict=True)):
        net, u = at(float(p))
        if net.smooth:
            return branch
        on_a_kink[k] = kinked(net, h[None], u).any()
        if on_a_kink[k] and not n_unstable[k]:
            n_unstable[k] = int(not is_stable(net, h, u))
    stretch = bool((on_a_kink[1:] & on_a_kink[:-1]).any())
    status = Status.ON_KINKS if stretch and branch.status.ok else branch.status
    return dataclasses.replace(branch, n_unstable=n_unstable, status=status)


def _special_points(of: Family, runs: list[Run]) -> tuple[SpecialPoint, ...]:
    """Each once, in the order of p."""
    points: list[SpecialPoint] = []
    for k, run in enumerate(runs):
        for event in run.events:
            point = SpecialPoint(event.kind, of.p(event.z), event.z[:-1], event.eigenvalue, k, event.error)
            if not any(_same(point, other) for other in points):
                points.append(point)
    return tuple(sorted(points, key=lambda point: point.p))


def _same(point: SpecialPoint, other: SpecialPoint) -> bool:
    """Where two curves of different p touch, h is known only to the root of the error of p."""
    near = 1 + np.abs(point.h).max()
    return (
        (point.kind == other.kind or other.kind == BRANCH_POINT)
        and abs(point.p - other.p) <= 1e-7 * near
        and bool(np.abs(point.h - other.h).max() <= 1e-4 * near)
    )


def _status(branches: tuple[Branch, ...]) -> Status:
    if not branches:
        return Status.NOTHING_FOUND
    return next((branch.status for branch in branches if not branch.status.ok), Status.OK)


def _with_gamma(net: System, gamma: float) -> System:
    return dataclasses.replace(net, gamma=gamma) if isinstance(net, Network) else net


def _in_gamma(net: System, start: float, stop: float, u: Array, rng: Generator, seed: int | None) -> Branches:
    found = find_fixed_points(net, u, rng=rng, prove=False)
    branches, points = [], []
    for k, h in enumerate(found.h):
        mu, error = _spectrum(net.target_jacobian(h, u))
        with np.errstate(divide="ignore", invalid="ignore"):
            at = 2 * (1 - mu.real) / np.abs(1 - mu) ** 2
            error_at = 4 * error / np.abs(1 - mu) ** 2
        one_sided = kinked(net, h[None], u).any()  # then mu are those of the left side only
        for i in np.flatnonzero((at >= start) & (at <= stop) & (mu.imag >= 0) & ~one_sided):
            kind = FLIP if mu[i].imag == 0 else NEIMARK_SACKER
            points.append(
                SpecialPoint(kind, float(at[i]), h, complex(1 - at[i] + at[i] * mu[i]), k, float(error_at[i]))
            )
        p = np.union1d(np.linspace(start, stop, 101), [point.p for point in points if point.branch == k])
        n_unstable = np.sum(np.abs(1 - p[:, None] + p[:, None] * mu) >= 1 - 1e-12, axis=1)
        smallest = np.linalg.svd(np.eye(net.N) - net.target_jacobian(h, u), compute_uv=False)[-1]
        error_h = float(found.residual[k] / smallest) if smallest > 1e-12 else np.inf  # one of a line of points
        ends = ("start", "stop")
        branch = Branch(p, np.repeat(h[None], len(p), axis=0), n_unstable, ends, Status.OK, error_h)
        branches.append(_on_all_sides(branch, lambda p: (_with_gamma(net, p), u)))
    settings = {"parameter": "gamma", "u": u.tolist()}
    provenance = Provenance("eigenvalues", net.hash, settings, seed)
    ordered = tuple(sorted(points, key=lambda point: point.p))
    return Branches("gamma", start, stop, net, tuple(branches), ordered, _status(tuple(branches)), provenance)


def _spectrum(A: Array) -> tuple[NDArray[np.complex128], Array]:
    """Eigenvalues of A (N,) and their errors: rounding times each one's condition number."""
    values, left, right = eig(A, left=True, right=True)
    condition = 1 / np.maximum(np.abs(np.sum(left.conj() * right, axis=0)), 1e-300)
    return values, len(A) * np.finfo(float).eps * np.linalg.norm(A, 2) * condition
