"""The Fokker-Planck law of two or three neurons: moments by collocation where it converges, else by finite volumes.

The box comes from the law itself (`fit_box`, from the hull of a short simulation). Where A and B are smooth, moments
are those of the collocation, refined until they stand; finite volumes, which stay right where B -> 0, referee them on
coarse grids. Where the two differ by more than the finite volumes' error, or A has kinks, finite volumes on three
grids and their limit are taken; with several basins these are always solved (`_wells`), for the weights. The density
is solved for when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from fpanalysis.fixed_points.search.seeds import ESCAPED
from fpanalysis.stationary._basins import attractors
from fpanalysis.stationary._box import grows
from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._finite_volume import GridLaw, NoBox, distrust, extrapolated, finite_volume, fit_box
from fpanalysis.stationary._generator import Collocation, Singular, collocate
from fpanalysis.stationary._result import Array, Basin, Densities, Density, Problem
from fpanalysis.stationary._transition import Step
from fpanalysis.stationary._wells import weighed

NODES = {2: (20, 26, 32, 38, 44), 3: (9, 12, 15)}  #: of the collocation, per axis
REFEREE = {2: (32, 48, 64), 3: (8, 12, 16)}  #: cells per axis of the finite volumes beside a collocation
CELLS = {2: (64, 96, 128), 3: (12, 16, 24)}  #: where they stand alone
WELLS = {2: (64, 80, 112), 3: (12, 16, 20)}  #: where there are several basins
DENSITY = {2: 128, 3: 28}  #: for the density
FITTED = {2: 48, 3: 16}  #: with which the box is found
STEPS = {2: 16, 3: 4}  #: of which all grids of CELLS and WELLS are multiples
EDGE = {2: 1e-8, 3: 1e-6}  #: density at the walls; the collocation extrapolates, and a smaller box resolves more
TOLERANCE = {2: 3e-9, 3: 1e-7}  #: change of the mean under refinement, in standard deviations
CLOSE = 1e-6  #: standard deviations by which collocation and finite volumes may differ whatever the error of these
RESOLVED = 1e-7  #: spectral gap below which the collocation is not looked at
BLOWN = 100.0  #: growth of the change under refinement at which finer collocation is given up
CHAINS = 1000


@dataclass(frozen=True)
class GridSolution:
    """A law in two or three dimensions; `numerical` (N,) bounds the error of its mean as a solution of the equation."""

    mean: Array
    cov: Array
    numerical: Array
    rates: Array  #: E f(h)
    densities: Callable[[], Densities]
    box: Array
    cut: float  #: probability beyond the box
    gap: float
    scheme: str
    resolution: int
    basins: tuple[Basin, ...] | None = None
    cells: float = np.inf  #: per standard deviation along the narrowest direction of a basin, on the finest grid


def solve_few(problem: Problem) -> GridSolution:
    """The law of a problem of two or three neurons.

    Raises `NoBox` where none was found, `Reducible` where float64 does not hold the exchange between basins."""
    N, diffusion = problem.net.N, Diffusion.of(problem)
    if grows(Step(problem)):
        raise NoBox("far from the origin the drift leads outward")
    points = attractors(problem.net, problem.u)
    box, typical, core = _hull(problem, points)
    box = _opened(diffusion, box)
    several = len(points) > 1
    if not several:
        core = np.stack([typical, typical], axis=1)
    box = fit_box(diffusion, box, FITTED[N], points if several else typical[None], EDGE[N], core)
    if diffusion.kinks and problem.network.form == "current":
        box = _aligned(box, STEPS[N])
    fast = diffusion.tabulated(box)
    if several:
        found = _several(fast, box, points)
    elif diffusion.kinks:
        found = _on_grids(fast, box, CELLS[N], typical)
        found = replace(found, gap=_gap(diffusion, box))
    else:
        found = _on_grids(fast, box, REFEREE[N], typical)
    if not (diffusion.kinks or found.gap < RESOLVED):
        found = _collocated(diffusion, found) or (found if several else _on_grids(fast, box, CELLS[N], typical))
    return replace(found, numerical=found.numerical + found.cut * np.diff(box, axis=1)[:, 0])


def _opened(diffusion: Diffusion, box: Array) -> Array:
    """`box` (N, 2), where it is narrower than the noise makes it, opened: a simulation may stand still, silent."""
    middle, radius = box.mean(axis=1), np.diff(box, axis=1)[:, 0] / 2
    A, B, _ = diffusion.terms(middle)
    centre, width = middle + A / diffusion.gamma, np.sqrt(B / (2 * diffusion.gamma))
    still = (radius < width)[:, None]
    return np.where(still, np.stack([centre - 8 * width, centre + 8 * width], axis=1), box)


def _aligned(box: Array, steps: int) -> Array:
    """`box` (N, 2), enlarged so that the origin, if it is within, falls between two of `steps` equal parts of it: the
    kinks of the current form are then between cells on every grid whose size is a multiple of `steps`."""
    box = box.copy()
    for i, (low, high) in enumerate(box):
        if low < 0 < high:
            k = int(np.clip(round(-low / (high - low) * steps), 1, steps - 1))
            width = max(-low / k, high / (steps - k))
            box[i] = -k * width, (steps - k) * width
    return box


def _on_grids(diffusion: Diffusion, box: Array, n: tuple[int, ...], typical: Array) -> GridSolution:
    """The limit of finite volumes on three grids of `n` cells per axis."""
    laws = [finite_volume(diffusion, box, size, typical) for size in n]
    mean, error = extrapolated(n, np.array([law.mean for law in laws]))
    cov, _ = extrapolated(n, np.array([law.cov for law in laws]))
    error += distrust(diffusion, laws[-1]) * np.abs(mean - laws[-1].mean)
    f = diffusion.problem.network.activation.f
    rates, _ = extrapolated(n, np.array([law.p.ravel() @ f(law.points) for law in laws]))
    densities = partial(_densities, diffusion, box, typical)
    width = np.sqrt(max(float(np.linalg.eigvalsh(cov)[0]), 0.0))
    cells = width / float(np.max(np.diff(box, axis=1))) * n[-1]
    return GridSolution(
        mean, cov, error, rates, densities, box, laws[-1].cut, float("nan"), "finite volumes", n[-1], None, cells
    )


def _several(diffusion: Diffusion, box: Array, points: Array) -> GridSolution:
    """The law with the weights of its basins about `points` (K, N)."""
    n = WELLS[len(box)]
    wells = weighed(diffusion, box, n, points)
    parts = (wells.mean, wells.cov, wells.error, wells.rates, partial(density, wells.law), box, wells.cut)
    return GridSolution(*parts, wells.gap, "finite volumes", n[-1], wells.basins, wells.finest)


def _collocated(diffusion: Diffusion, grids: GridSolution) -> GridSolution | None:
    """`grids` with moments by collocation, if the finite volumes allow them."""
    found, change, n = _refine(diffusion, grids.box)
    if found is None:
        return None
    sd = np.sqrt(np.maximum(np.diag(grids.cov), 0.0))
    if not np.all(np.abs(found.mean - grids.mean) <= 3 * grids.numerical + CLOSE * sd):
        return None
    if grids.basins is not None and np.max(change / sd) > np.max(grids.numerical / sd):
        return None
    rates = found.pi @ diffusion.problem.network.activation.f(found.h)
    gap = found.gap if np.isfinite(found.gap) or grids.basins is None else grids.gap
    return replace(
        grids,
        mean=found.mean,
        cov=found.cov,
        numerical=change,
        rates=rates,
        gap=gap,
        scheme="collocation",
        resolution=n,
        cells=np.inf,
    )


def _gap(diffusion: Diffusion, box: Array) -> float:
    """The gap by collocation at a moderate number of nodes: enough for a number of which three digits are wanted."""
    try:
        return collocate(diffusion, box, NODES[len(box)][1], spectrum=True).gap
    except Singular:
        return float("nan")


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


def _densities(diffusion: Diffusion, box: Array, typical: Array) -> Densities:
    return density(finite_volume(diffusion, box, DENSITY[len(box)], typical))


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
