"""The stationary law of a large network by a chain of one or two of its coordinates.

y = L^T h, (k,), k = 1 or 2, makes steps whose mean and first cumulants are sums over many neurons, so that the kernel
is nearly Gaussian. The discrete chain is solved, not its diffusion limit, whose weights of basins are wrong by factors;
and without subtractions, so that the weights hold however rarely the basins exchange (`_grid_chain`).

Exact rank: W of rank one or two, one gamma, noise on the rates. y = R^T h with W = A R^T is a chain by itself, and the
moments of the whole state follow from it (`_low_rank`). The error is that of the kernel's shape and of the grid.
Any other network and form: one coordinate, the slowest mode, with the others slaved to it (`_slaved`); where they are
not faster than it by `RATIO` at least, the status is NOT_REDUCED.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import real_array
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary import _low_rank
from fpanalysis.stationary._basins import attractors
from fpanalysis.stationary._grid_chain import GridChain, GridTooLarge
from fpanalysis.stationary._gth import Reducible
from fpanalysis.stationary._low_rank import LowRank, LowRankState
from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Basin, Density, Problem, Stationary, failed, input_variance, unsettled
from fpanalysis.stationary._slaved import NotReducible, Slaved, SlavedState, slow_coordinate

WIDTH = 6.5  #: half width of the first box about each fixed point, in local standard deviations
EDGE = 1e-9  #: density at the edge of the box, relative to its largest, at which the box is wide enough
ROUNDS = 8  #: times the box is widened
SPACING = (1.0, 1.75)  #: of the grid for small gamma in one and two dimensions, in standard deviations of the step
COARSER = 1.4  #: spacing of the grid that tells the error, relative to that
SUB = (64, 4)  #: points per axis of a cell at a boundary between basins, in one and two dimensions
RATIO = 2.0  #: rate of the slowest neglected mode over that of the slowest mode kept
SAFETY = 1.5  #: stated error over the size of what makes it
FLOOR = 1e-6  #: least stated error, in standard deviations of the state: that of the trapezoid rule
OUTPUTS = 4  #: most outputs whose densities are given

Box = tuple[Array, Array]


def solve(problems: Sequence[Problem], rng: Any = 0, *, coordinates: ArrayLike | None = None) -> list[Stationary]:
    """Each problem by its reduced chain.

    `coordinates`: L, (N, k) or (k, N) with k = 1 or 2, in place of the method's own; a readout, say. `rng` is not used:
    the method is deterministic. `details` of the results: "L" (N, k), "exact_rank", "spectral_ratio" (rate of the
    slowest mode neglected over that of the mode kept, averaged over the law), "nodes", "skewness" (rms third cumulant
    of the step in units of its standard deviation), "reason".

    Raises
    ------
    InputError
        If `coordinates` do not have that shape, or are linearly dependent.
    """
    with threadpool_limits(1, user_api="blas"):  # the matrices are small: threads would only double the CPU time
        return [_solve(problem, _check(coordinates, problem.net.N)) for problem in problems]


def _check(coordinates: ArrayLike | None, N: int) -> Array | None:
    if coordinates is None:
        return None
    L = real_array("coordinates", coordinates)
    L = L[:, None] if L.shape == (N,) else L.T if L.ndim == 2 and L.shape[1] == N and len(L) <= 2 and N > 2 else L
    if L.ndim != 2 or len(L) != N or not 1 <= L.shape[1] <= 2:
        raise InputError(f"coordinates must have shape ({N}, k) or (k, {N}) with k = 1 or 2; found {L.shape}")
    if np.linalg.matrix_rank(L) < L.shape[1]:
        raise InputError("coordinates must be linearly independent, and not zero; give other columns")
    return L


def _solve(problem: Problem, L: Array | None) -> Stationary:
    net = problem.network
    if net.N < 2:
        return failed(problem, "reduced", Status.NOT_APPLICABLE, reason="one neuron has nothing to reduce: use 'chain'")
    if not net.W.any():
        return failed(problem, "reduced", Status.NOT_APPLICABLE, reason="W is zero: the neurons are independent")
    points = attractors(net, problem.u)
    if not len(points):
        return failed(problem, "reduced", unsettled(problem), reason="no stable fixed point was found")
    try:
        if _low_rank.applies(net, L):
            return _exact(problem, L, points)
        return _slow(problem, L, points)
    except GridTooLarge as error:
        return failed(problem, "reduced", Status.TOO_LARGE, reason=f"the grid would have {error}")
    except NotReducible as error:
        return failed(problem, "reduced", Status.NOT_REDUCED, reason=str(error))
    except Reducible as error:
        reason = f"the steps are too small beside the box that holds all basins: {error}"
        return failed(problem, "reduced", Status.NOT_CONVERGED, reason=reason)
    except (np.linalg.LinAlgError, Unstable):
        reason = "the noise of the coordinates is degenerate, or their local covariance infinite"
        return failed(problem, "reduced", Status.NOT_CONVERGED, reason=reason)


def _exact(problem: Problem, L: Array | None, points: Array) -> Stationary:
    low = LowRank(problem, _low_rank.row_space(problem.network) if L is None else L)
    y, C, J = _rests(low, points @ low.R)
    if L is None:
        T = _orientation(low, y, C)
        low.change(T)
        y, C = y @ T, np.einsum("ai,nab,bj->nij", T, C, T)
    spread = WIDTH * np.sqrt(np.einsum("nii->ni", C))
    box = (y - spread).min(axis=0), (y + spread).max(axis=0)
    chain, (coarse, plain) = _chains(lambda _: low, box, low.gamma)
    inside = _shares(low, chain, points)
    state = LowRankState(low, chain, inside[:, 1:])
    grid = coarse.p @ low.cumulants(_nodes(coarse))[0]
    shape = plain.p @ low.cumulants(_nodes(plain))[0] - grid
    weights = (coarse.p - plain.p) @ _shares(low, coarse, points)
    slowest = 1 - max(float(np.abs(np.linalg.eigvals(j)).max()) for j in J)
    details = {"exact_rank": True, "spectral_ratio": low.gamma / max(slowest, 1e-12)}
    return _result(problem, low, chain, state, inside, points, (shape, grid - state.mean), weights, details)


def _slow(problem: Problem, L: Array | None, points: Array) -> Stationary:
    net = problem.network
    if L is None:
        L, start = slow_coordinate(problem, points)
    elif L.shape[1] == 2:
        reason = "two coordinates are solved for only where W has rank one or two, with one gamma, in the rate form"
        return failed(problem, "reduced", Status.NOT_APPLICABLE, reason=reason)
    else:
        start = points.mean(axis=0)
    box = _first_box(problem, L, points)
    made: list[Slaved] = []

    def law(box: Box) -> Slaved:
        made.append(Slaved(problem, L, float(box[0][0]), float(box[1][0]), start))
        return made[-1]

    chain, (coarse, plain) = _chains(law, box, float(np.mean(net.gamma)))
    slaved = made[-1]
    inside = _shares(slaved, chain, points)
    state = SlavedState(slaved, chain)
    crude = Slaved(problem, L, *slaved.box, start, crude=True)
    rough = GridChain(crude, chain.grids[0][:1], chain.grids[0][-1:], SPACING[0] * COARSER)
    parts = [SlavedState(slaved, coarse).mean, SlavedState(slaved, plain).mean, SlavedState(crude, rough).mean]
    weights = _shares(crude, rough, points).T @ rough.p - inside.T @ chain.p
    ratio = slaved.spectral_ratio(chain)
    details = {"exact_rank": False, "spectral_ratio": ratio}
    differences = (parts[1] - parts[0], parts[0] - state.mean, parts[2] - state.mean)
    result = _result(problem, slaved, chain, state, inside, points, differences, weights, details)
    if ratio >= RATIO:
        return result
    reason = f"the slowest neglected mode relaxes only {ratio:.2g} times as fast as the coordinate"
    tentative = {"tentative_mean": result.mean, "tentative_density": result.density, "L": L}
    return failed(problem, "reduced", Status.NOT_REDUCED, reason=reason, **tentative, **details)


def _chains(law: Callable[[Box], Any], box: Box, gamma: float) -> tuple[GridChain, tuple[GridChain, GridChain]]:
    """The chain on a box that holds its law; on a coarser grid; and there with a Gaussian step."""
    space = 1 + (SPACING[len(box[0]) - 1] - 1) * max(0.0, 1 - 2 * gamma)
    low, high = box
    for _ in range(ROUNDS):
        step = law((low, high))
        chain = GridChain(step, low, high, space)
        over = chain.edge() > EDGE
        if not over.any():
            break
        low, high = low - 0.3 * (high - low) * over[:, 0], high + 0.3 * (high - low) * over[:, 1]
    return chain, tuple(GridChain(step, low, high, COARSER * space, shape) for shape in (True, False))  # type: ignore[return-value]


def _nodes(chain: GridChain) -> Array:
    return chain.nodes.reshape(len(chain.p), -1)


def _rests(low: LowRank, y: Array) -> tuple[Array, Array, Array]:
    """Where the mean step from `y` (n, k) comes to rest, covariances about there and Jacobians of the mean step."""
    for _ in range(int(60 / low.gamma)):
        before, y = y, low(y).mean
        if np.abs(y - before).max() < 1e-9 * (1 + np.abs(y).max()):
            break
    n, k = y.shape
    step = low(y)
    d = 1e-4 * (np.abs(y).max() + np.sqrt(step.cov.max()))
    J = np.stack([(low(y + d * e).mean - low(y - d * e).mean) / (2 * d) for e in np.eye(k)], axis=-1)
    C = np.empty((n, k, k))
    for i, noise in enumerate(step.cov):
        radius = np.abs(np.linalg.eigvals(J[i])).max()
        C[i] = stationary_covariance(J[i] * min(1.0, (1 - 0.05 * low.gamma) / max(radius, 1e-300)), noise)
    return y, C, J


def _orientation(low: LowRank, y: Array, C: Array) -> Array:
    """T (k, k): coordinates T^T y in which the noise is white on average, the first the one that varies most; their
    columns of L have unit length and a positive largest entry."""
    T = np.eye(y.shape[1])
    if len(T) == 2:
        white = np.linalg.inv(np.linalg.cholesky(low(y).cov.mean(axis=0))).T
        d = (y - y.mean(axis=0)) @ white
        _, axes = np.linalg.eigh(d.T @ d / len(y) + white.T @ C.mean(axis=0) @ white)
        T = white @ axes[:, ::-1]
    L = low.R @ T
    signs = np.sign(L[np.abs(L).argmax(axis=0), np.arange(len(T))])
    return T * signs / np.linalg.norm(L, axis=0)


def _first_box(problem: Problem, L: Array, points: Array) -> Box:
    net, y = problem.network, points @ L
    g = np.broadcast_to(problem.net.gamma, (net.N,))
    noise = g * np.sqrt(input_variance(problem, np.zeros_like(net.W)) + (net.placement == "out") * problem.sigma**2)
    if net.form == "current":
        noise = g * problem.sigma
    spreads = []
    for point in points:
        J = net.jacobian(point, problem.u)
        slope = np.abs(net.activation.df(net.preactivation(point, problem.u))) if net.placement == "in" else 1.0
        rate = max(0.02 * float(g.mean()), 1 - float(L[:, 0] @ J @ L[:, 0] / (L[:, 0] @ L[:, 0])))
        scale = slope if net.form == "rate" else 1.0
        spreads.append(WIDTH * np.linalg.norm(L[:, 0] * noise * scale) / np.sqrt(2 * rate))
    spread = np.array(spreads)[:, None]
    return (y - spread).min(axis=0), (y + spread).max(axis=0)


def _shares(law: LowRank | Slaved, chain: GridChain, points: Array) -> Array:
    """(n m, K): how much of each node's cell lies in each basin, by the noise-free dynamics from its node, and from
    `SUB` points per axis in cells at a boundary, weighted by the density across the cell."""
    y, shape = _nodes(chain), chain.nodes.shape[:2]
    k = y.shape[1]
    if len(points) == 1:
        return np.ones((len(y), 1))
    labels = law.follow(y, points)
    shares = (labels[:, None] == np.arange(len(points))).astype(float)
    at = np.flatnonzero(_borders(labels.reshape(shape)))
    if not len(at):
        return shares
    offset = (np.arange(SUB[k - 1]) + 0.5) / SUB[k - 1] - 0.5
    offsets = np.stack(np.meshgrid(*[offset] * k, indexing="ij"), axis=-1).reshape(-1, k)
    cells = np.stack(np.meshgrid(*chain.weights, indexing="ij"), axis=-1).reshape(-1, k)
    fine = law.follow((y[at, None] + offsets * cells[at, None]).reshape(-1, k), points).reshape(len(at), -1)
    log = np.log(np.maximum(chain.density, 1e-300))
    slope = np.stack([np.gradient(log, axis=axis) for axis in range(k)], axis=-1).reshape(-1, k)
    weight = np.exp((slope[at] @ offsets.T).clip(-10, 10))
    weight /= weight.sum(axis=1, keepdims=True)
    shares[at] = np.einsum("as,ask->ak", weight, fine[..., None] == np.arange(len(points)))
    return shares


def _borders(labels: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Nodes with a neighbour of another label."""
    mixed = np.zeros(labels.shape, bool)
    for axis in range(2):
        differs = np.diff(labels, axis=axis) != 0
        mixed |= np.insert(differs, 0, False, axis) | np.insert(differs, differs.shape[axis], False, axis)
    return mixed


def _result(
    problem: Problem,
    law: LowRank | Slaved,
    chain: GridChain,
    state: LowRankState | SlavedState,
    inside: Array,
    points: Array,
    differences: tuple[Array, ...],
    weights: Array,
    details: dict[str, Any],
) -> Stationary:
    net = problem.network
    skewness = float(np.sqrt(chain.p @ chain.skewness**2))
    differences = (differences[0] * (1 + 4 * skewness), *differences[1:])
    error = SAFETY * np.sum(np.abs(differences), axis=0) + FLOOR * np.sqrt(np.maximum(np.diag(state.cov), 0))
    names = tuple(f"coordinate {k}" for k in range(len(chain.grids)))
    rates = state.mean if net.form == "rate" else chain.p @ net.activation.f(state.given)
    outputs = [net.readout(d) - net.readout(np.zeros(net.N)) for d in differences]
    result = Stationary(
        mean=state.mean,
        cov=state.cov,
        error=error,
        output=net.readout(rates),
        output_error=SAFETY * np.sum(np.abs(outputs), axis=0),
        status=Status.OK,
        method="reduced",
        scope="global",
        start=problem.start,
        provenance=Provenance("reduced", net.hash, {"sigma": np.asarray(problem.sigma).tolist()}),
        details={"L": law.R, "nodes": chain.nodes.shape[:2], "skewness": skewness, **details},
        densities=lambda: (
            Density(names, chain.grids, chain.density, chain.weights),
            _marginals(net, chain, state),
        ),
        gap=chain.gap(),
        basins=_basins(chain, state, inside, points, weights, error) if len(points) > 1 else None,
    )
    return result if result.gap or len(points) == 1 else _metastable(problem, result)


def _metastable(problem: Problem, result: Stationary) -> Stationary:
    reason = "the basins exchange less than once in 1e150 steps, too rarely to weigh them"
    basins = tuple(replace(b, weight=float("nan"), weight_error=float("nan")) for b in result.basins or ())
    lost = failed(problem, "reduced", Status.METASTABLE, reason=reason, **result.details)
    return replace(lost, basins=basins, gap=result.gap, scope="global")


def _basins(
    chain: GridChain, state: Any, inside: Array, points: Array, weights: Array, error: Array
) -> tuple[Basin, ...]:
    p, eta = chain.p, state.given
    rest = state.cov - np.cov(eta.T, aweights=p, ddof=0)
    basins = []
    for k, point in enumerate(points):
        q = p * inside[:, k]
        weight = float(q.sum())
        if weight == 0:
            basins.append(Basin(0.0, np.full_like(point, np.nan), np.full_like(rest, np.nan), point))
            continue
        mean = q @ eta / weight
        d = eta - mean
        basins.append(Basin(weight, mean, (q[:, None] * d).T @ d / weight + rest, point, SAFETY * abs(weights[k])))
    return tuple(basins)


def _marginals(net: Network, chain: GridChain, state: Any) -> dict[str, Density]:
    """Of the coordinates, and of few outputs that are linear in the state: given y they are Gaussian."""
    marginals = {}
    for k, (grid, weight) in enumerate(zip(chain.grids, chain.weights, strict=True)):
        other = [weights for axis, weights in enumerate(chain.weights) if axis != k]
        values = np.tensordot(chain.density, other[0], (1 - k, 0)) if other else chain.density
        marginals[f"coordinate {k}"] = Density((f"coordinate {k}",), (grid,), values, (weight,))
    if net.form == "current" or net.W_out is None or net.n_out > OUTPUTS:
        return marginals
    rest = state.cov - np.cov(state.given.T, aweights=chain.p, ddof=0)
    for j, row in enumerate(net.W_out):
        z, s = net.readout(state.given)[:, j], np.sqrt(max(float(row @ rest @ row), 0.0))
        if s <= 1e-6 * np.ptp(z):
            continue
        grid = np.linspace(z[chain.p > 1e-12].min() - 6 * s, z[chain.p > 1e-12].max() + 6 * s, 401)
        values = chain.p @ np.exp(-(((grid - z[:, None]) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi))
        marginals[f"output {j}"] = Density((f"output {j}",), (grid,), values, (np.full(401, grid[1] - grid[0]),))
    return marginals
