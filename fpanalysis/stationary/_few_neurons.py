"""The Fokker-Planck law of two or three neurons: moments by collocation, density by finite volumes.

The box comes from the law itself (`fit_box`, from the hull of a short simulation). Moments are those of the
collocation, refined until they stand; the finite volumes, which stay right where B -> 0, referee them: where the two
differ by more than the finite volumes' own change under refinement, their values are taken instead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fpanalysis.fixed_points.search.seeds import ESCAPED
from fpanalysis.stationary._basins import attractors, basin_of, split
from fpanalysis.stationary._box import grows
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._finite_volume import GridLaw, NoBox, finite_volume, fit_box
from fpanalysis.stationary._generator import Collocation, Singular, collocate
from fpanalysis.stationary._result import Array, Basin, Density, Problem
from fpanalysis.stationary._transition import Step

NODES = {2: (20, 26, 32, 38, 44), 3: (9, 12, 15)}  #: of the collocation, per axis
CELLS = {2: (64, 128), 3: (16, 28)}  #: of the finite volumes, per axis: referee and density
FITTED = {2: 48, 3: 16}  #: cells per axis with which the box is found
EDGE = {2: 1e-8, 3: 1e-6}  #: density at the walls; the collocation extrapolates, and a smaller box resolves more
TOLERANCE = {2: 3e-9, 3: 1e-7}  #: change of the mean under refinement, in standard deviations
AGREE = 1e-3  #: standard deviations by which laws solved for relative to different states may differ
BLOWN = 100.0  #: growth of the change under refinement at which finer collocation is given up
CHAINS = 1000
NEGLIGIBLE = 1e-13  #: probability of a cell that is not worth following to its basin


@dataclass(frozen=True)
class GridSolution:
    """A law in two or three dimensions; `numerical` (N,) bounds the error of its mean as a solution of the equation."""

    mean: Array
    cov: Array
    numerical: Array
    rates: Array  #: E f(h)
    law: GridLaw
    box: Array
    gap: float
    scheme: str
    resolution: int
    basins: tuple[Basin, ...] | None


def solve_few(problem: Problem) -> GridSolution:
    """The law of a problem of two or three neurons. Raises `NoBox` where none was found.

    Where the noise-free dynamics has several attractors, the finite volumes are solved once relative to each: in
    float64 they agree only as long as the spectral gap is resolved. Where they do not, the gap is given as 0.
    """
    N, diffusion = problem.net.N, Diffusion.of(problem)
    if grows(Step(problem)):
        raise NoBox("far from the origin the drift leads outward")
    points = attractors(problem.net, problem.u)
    box, typical, core = _hull(problem, points)
    if len(points) < 2:
        core = np.stack([typical, typical], axis=1)
    box = fit_box(diffusion, box, FITTED[N], typical, EDGE[N], core)
    fast = diffusion.tabulated(box)
    coarse, fine = (finite_volume(fast, box, n, typical) for n in CELLS[N])
    if len(points) > 1:
        views = [finite_volume(fast, box, CELLS[N][0], point) for point in points]
        if _disagree(views):
            return _frozen(problem, views, points, box)
    doubt = np.abs(fine.mean - coarse.mean)
    found, change, n = _refine(diffusion, box)
    basins = _basins(problem, coarse, fine, points) if len(points) > 1 else None
    close = 2 * doubt + 10 * EDGE[N] * np.sqrt(np.diag(fine.cov))
    if found is not None and np.all(np.abs(found.mean - fine.mean) <= close):
        rates = found.pi @ problem.network.activation.f(found.h)
        return GridSolution(found.mean, found.cov, change, rates, fine, box, found.gap, "collocation", n, basins)
    rates = fine.p.ravel() @ problem.network.activation.f(fine.points)
    gap = float("nan") if found is None else found.gap
    mean, cov = fine.mean + (fine.mean - coarse.mean) / 3, fine.cov + (fine.cov - coarse.cov) / 3
    return GridSolution(mean, cov, doubt, rates, fine, box, gap, "finite volumes", CELLS[N][1], basins)


def _disagree(views: list[GridLaw]) -> bool:
    """Whether the laws solved for relative to different states are not the same one."""
    means = np.array([view.mean for view in views])
    spread = np.sqrt(np.max([np.diag(view.cov) for view in views], axis=0))
    return bool(np.any(np.ptp(means, axis=0) > AGREE * spread))


def _frozen(problem: Problem, views: list[GridLaw], points: Array, box: Array) -> GridSolution:
    """What is known where the basins exchange too rarely for float64: each basin by itself, solved relative to it."""
    basins = []
    for k, view in enumerate(views):
        p, states = view.p.ravel(), view.points
        here = p > NEGLIGIBLE
        labels = basin_of(problem.net, problem.u, states[here], points)
        basins.append(replace(split(labels, states[here], p[here], points)[k], weight=float("nan")))
    law, nan = views[0], np.full(len(box), np.nan)
    rates = np.full(problem.net.N, np.nan)
    cov = np.full((len(box), len(box)), np.nan)
    return GridSolution(nan, cov, nan, rates, law, box, 0.0, "finite volumes", len(law.axes[0]), tuple(basins))


def _refine(diffusion: Diffusion, box: Array) -> tuple[Collocation | None, Array, int]:
    """The collocation refined until its mean stands, or where it stands best; by how much its mean changed there;
    nodes per axis."""
    N = len(box)
    best: tuple[Collocation | None, Array, int] = None, np.full(N, np.inf), 0
    gap, least, last = float("nan"), np.inf, None
    for n in NODES[N]:
        try:
            found = collocate(diffusion, box, n, spectrum=n == NODES[N][1])
        except Singular:
            break
        gap = found.gap if n == NODES[N][1] else gap
        change = np.full(N, np.inf) if last is None else np.abs(found.mean - last.mean)
        size = float(np.max(change / np.sqrt(np.abs(np.diag(found.cov)))))
        if size <= least:
            best, least = (found, change, n), size
        last = found
        if size <= TOLERANCE[N] or size > BLOWN * least:
            break
    chosen, change, n = best
    return (None if chosen is None else replace(chosen, gap=gap)), change, n


def _hull(problem: Problem, points: Array) -> tuple[Array, Array, Array]:
    """A box (N, 2) about where a short simulation from the fixed points goes, with a margin; a state of it;
    its hull (N, 2)."""
    net, rng = problem.network, np.random.default_rng(0)
    starts = np.concatenate([points, problem.start[None]]) if np.isfinite(problem.start).all() else points
    if not len(starts) or np.abs(starts).max() > ESCAPED:
        raise NoBox("trajectories escape")
    h = starts[np.arange(CHAINS) % len(starts)]
    net = net.with_sigma(problem.sigma)
    for _ in range(int(np.clip(8 / np.min(net.gamma), 30, 400))):
        h = net.step(h, problem.u, rng.standard_normal(h.shape))
    if not np.isfinite(h).all() or np.abs(h).max() > ESCAPED:
        raise NoBox("trajectories escape")
    low, middle, high = h.min(axis=0), np.median(h, axis=0), h.max(axis=0)
    box = np.stack([middle - 2 * (middle - low), middle + 2 * (high - middle)], axis=1)
    return box, h[0], np.stack([low, high], axis=1)


def _basins(problem: Problem, coarse: GridLaw, fine: GridLaw, points: Array) -> tuple[Basin, ...]:
    """The law per basin, with the change of the weights from the coarse to the fine grid as their error."""
    parts = []
    for law in (coarse, fine):
        p, states = law.p.ravel(), law.points
        here = p > NEGLIGIBLE
        labels = basin_of(problem.net, problem.u, states[here], points)
        parts.append(split(labels, states[here], p[here], points))
    return tuple(
        Basin(new.weight, new.mean, new.cov, new.fixed_point, abs(new.weight - old.weight), np.abs(new.mean - old.mean))
        for old, new in zip(*parts, strict=True)
    )


def density(law: GridLaw) -> tuple[Density, dict[str, Density]]:
    """The density on the cells' centres, and its marginals."""
    steps = [float(axis[1] - axis[0]) for axis in law.axes]
    weights = tuple(np.full(len(axis), dx) for axis, dx in zip(law.axes, steps, strict=True))
    names = tuple(f"neuron {i}" for i in range(len(steps)))
    marginals = {
        name: Density((name,), (law.axes[i],), law.marginal(i) / steps[i], (weights[i],))
        for i, name in enumerate(names)
    }
    return Density(names, law.axes, law.p / np.prod(steps), weights), marginals
