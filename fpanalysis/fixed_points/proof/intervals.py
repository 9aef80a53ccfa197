"""Proof by intervals: branch and prune over boxes until every fixed point is enclosed and none can be missing.

For networks of low rank, or of few neurons, whose activation has known slope ranges. The equations, their
enclosures and the rounding are in `_enclosure`; here are the region to search, and the search.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.fixed_points.proof._enclosure import (
    EPS,
    TINY,
    Linear,
    Reduced,
    contracts,
    linearise,
    newton_image,
    plain_image,
    refutes,
    rounding,
)
from fpanalysis.fixed_points.proof._result import Proof
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]

RANK = 5  #: of a large network
SMALL = 10  #: neurons of a network of any rank
NEGLIGIBLE = 1e-6  #: singular values below this share of the largest go into the remainder E
BATCH = 256  #: boxes treated at once
SHRUNK = 0.25  #: share of its volume below which a box is tried again before it is halved
MINIMAL = 1e-5  #: a box over which no x varies by more than this times 1 + max|c| is halved no further
LEAST = 1e-12  #: size of a region of uniqueness, relative to the largest kappa, at least
REFINEMENTS = 40  #: of the enclosure of a zero, at most: few where f is smooth, for each squares its relative width
UNDECIDED = 256  #: so many of those and the search stops: points are not isolated, or nearly so
FAR = 1e3  #: where no bound is known, f(x) for |x| <= FAR (1 + max|c|) is searched
SLACK = 1e-9  #: relative, far above any rounding, for bounds that need not be sharp


class Zero(NamedTuple):
    """A zero, the only one in centre +- rad, enclosed in k +- radius; all (r,)."""

    k: Array
    radius: Array
    centre: Array
    rad: Array


class Region(NamedTuple):
    """Rates f(x), (N,), between which all fixed points are that have their state in `box`, (2, N)."""

    lo: Array
    hi: Array
    box: Array  #: infinite where a bound is proven


@dataclass
class Search:
    """The state of the search: pending boxes (K, r), boxes too small to divide, zeros found, boxes visited."""

    lo: Array
    hi: Array
    small: list[tuple[Array, Array]] = field(default_factory=list)
    zeros: list[Zero] = field(default_factory=list)
    nodes: int = 0


def applicable(net: Network) -> bool:
    """Whether `branch_and_prune` takes `net`: rank <= 5 or N <= 10, and one activation with known slope ranges."""
    f = net.activation
    return f.alike and f.slope_peak is not None and (net.N <= SMALL or _rank(net, _singular_values(net)) <= RANK)


def branch_and_prune(net: Network, u: ArrayLike | None = None, nodes: int = 200_000) -> Proof:
    """Every fixed point of `net` at the constant input `u` (n_in,), by visiting at most `nodes` boxes.

    A box is dropped when its enclosure holds no zero; it is done when its zeros lie in a region that holds
    exactly one; else it is shrunk to its enclosure, and halved where that gains little. Deterministic. `box` is
    infinite where no fixed point can lie outside the region searched. Not complete if `nodes` run out, or where
    points are not isolated (a line attractor, a bifurcation): `singular` has one point of each such cluster.

    Raises
    ------
    InputError
        If `u` is not one input of the right length, or `net` is not `applicable`.
    """
    if not applicable(net):
        raise InputError(
            f"net must have rank <= {RANK} or N <= {SMALL} and one activation with a known `slope_peak`; found "
            f"{net!r} of rank {_rank(net, _singular_values(net))}: use find_fixed_points, which searches without proof"
        )
    u = net.check_input(u)
    if u.ndim != 1:
        raise InputError(f"u must be one constant input ({net.n_in},); found shape {u.shape}: call once per condition")
    region = _region(net, u)
    P, lo, hi = _reduce(net, u, region)
    search = _run(P, lo, hi, nodes)
    zeros, doubtful = _distinct(_refine(P, search.zeros))
    left = np.array([hi - lo for lo, hi in search.small] + list(search.hi - search.lo)).reshape(-1, len(lo))
    why = _reason(search, doubtful, nodes)
    singular = [*_representatives(search.small, P), *(zero.k for zero in doubtful)]
    return Proof(
        method="intervals",
        h=_states(net, P, [zero.k for zero in zeros]),
        complete=not why,
        box=region.box,
        covered=1.0 if not why else max(0.0, 1 - max(EPS, _share(left, hi - lo))),
        nodes=search.nodes,
        why=why,
        singular=_states(net, P, singular),
    )


def _states(net: Network, P: Reduced, kappa: list[Array]) -> Array:
    """(K, N), the states at those kappa, but for E."""
    x = np.array(kappa).reshape(-1, len(P.reach)) @ P.U.T + P.c
    return P.activation.f(x) if net.form == "rate" else x


def _reason(search: Search, doubtful: list[Zero], nodes: int) -> str:
    if len(search.small) > UNDECIDED:
        return (
            f"more than {UNDECIDED} boxes are undecided and too small to divide: the points are not isolated, or nearly"
        )
    if search.small or doubtful:
        return "a fixed point is singular, or too nearly so to be told from its neighbours"
    if len(search.lo):
        return f"the budget of {nodes} boxes is spent"
    return ""


def _share(widths: Array, whole: Array) -> float:
    """Volume of boxes as a share of the whole."""
    share = widths / np.where(whole > 0, whole, 1)
    return float(np.prod(np.where(whole > 0, share, 1), axis=1).sum())


# the region, and the equations on it


def _steepest(net: Network) -> float:
    """sup |f'|."""
    _, _, lo, hi = net.activation.ranges(-np.inf, np.inf)
    return float(np.maximum(np.abs(lo), np.abs(hi)))


def _singular_values(net: Network) -> Array:
    return net.svd[1]


def _rank(net: Network, values: Array) -> int:
    """How many singular values of W are needed for the rest, E, to be negligible and |E| sup f' <= 0.05."""
    most = min(NEGLIGIBLE * values[0], 0.05 / (_steepest(net) * np.sqrt(net.N)))
    return max(1, int((values > most).sum()))


def _rounding_of_drive(net: Network, u: Array) -> Array:
    size = np.abs(net.b) if net.W_in is None else np.abs(net.W_in) @ np.abs(u) + np.abs(net.b)
    return rounding(net.n_in + 2) * size


def _region(net: Network, u: Array) -> Region:
    """All rates of a bounded network; else a proven bound, if the loop gain is below one; else a large box.

    Then shrunk by h -> f(W h + c), which keeps every fixed point.
    """
    f, c, dc = net.activation, net.drive(u), _rounding_of_drive(net, u)
    lo, hi, _, _ = f.ranges(-np.inf, np.inf)
    region = _everywhere(net, lo, hi) if f.bounded else _bound(net, c, dc) or _large(net, c)
    return _shrink_region(net, c, dc, region)


def _everywhere(net: Network, lo: Array, hi: Array) -> Region:
    infinite = np.full(net.N, np.inf)
    return Region(np.broadcast_to(lo, (net.N,)), np.broadcast_to(hi, (net.N,)), np.array([-infinite, infinite]))


def _bound(net: Network, c: Array, dc: Array) -> Region | None:
    """|h| <= y where B y + base <= y and B >= 0 has spectral radius < 1.

    B = L |W|, from |f(x)| <= |f(0)| + L |x|; or, for rising f >= a, B = L W+, from f(x) <= |f(0)| + L max(x, 0).
    """
    f, L = net.activation, _steepest(net)
    least, _, slope, _ = f.ranges(-np.inf, np.inf)
    at_zero = float(np.max(np.abs(f.ranges(0.0, 0.0)[:2])))
    one_sided = bool(np.isfinite(least) and slope >= -TINY)
    if one_sided:
        B = L * np.maximum(net.W, 0)
        base = at_zero + L * np.maximum(c + dc + np.maximum(-net.W, 0).sum(axis=1) * max(-float(least), 0.0), 0)
    else:
        B, base = L * np.abs(net.W), at_zero + L * (np.abs(c) + dc)
    base = base * (1 + SLACK) + SLACK
    if np.abs(np.linalg.eigvals(B)).max() >= 1:
        return None
    y = np.linalg.solve(np.eye(net.N) - B, base) * (1 + 1e3 * SLACK)
    if not ((y > 0).all() and (B @ y * (1 + SLACK) + base <= y).all()):
        return None
    return _everywhere(net, least if one_sided else -y, y)


def _large(net: Network, c: Array) -> Region:
    far = np.full(net.N, FAR * (1 + np.abs(c).max()))
    lo, hi, _, _ = net.activation.ranges(-far, far)
    return Region(lo, hi, np.array([lo, hi] if net.form == "rate" else [-far, far]))


def _shrink_region(net: Network, c: Array, dc: Array, region: Region) -> Region:
    lo, hi = region.lo, region.hi
    size = np.abs(net.W)
    for _ in range(20):
        mid, rad = (lo + hi) / 2, (hi - lo) / 2
        x = net.W @ mid + c
        radius = (size @ rad + dc + rounding(net.N + 4) * (size @ (np.abs(mid) + rad) + np.abs(c))) * (1 + SLACK)
        f_lo, f_hi, _, _ = net.activation.ranges(x - radius, x + radius)
        new_lo, new_hi = np.maximum(lo, f_lo), np.minimum(hi, f_hi)
        if (new_lo > new_hi).any() or (new_hi - new_lo).sum() > 0.99 * (hi - lo).sum():
            break
        lo, hi = new_lo, new_hi
    return region._replace(lo=lo, hi=hi)


def _reduce(net: Network, u: Array, region: Region) -> tuple[Reduced, Array, Array]:
    """The reduced equations, and the box of kappa = V^T h, (r,), to search."""
    c, L = net.drive(u), _steepest(net)
    left, values, right = net.svd
    rank = _rank(net, values)
    if rank < net.N and rank <= RANK:
        U, V = left[:, :rank] * values[:rank], right[:rank].T
        E = np.abs(net.W - U @ V.T) + rounding(rank + 2) * (np.abs(net.W) + np.abs(U) @ np.abs(V).T)
    else:
        U, V, E = np.eye(net.N), net.W.T, np.zeros_like(net.W)
    mid, rad = (region.lo + region.hi) / 2, (region.hi - region.lo) / 2
    kappa = mid @ V
    radius = rad @ np.abs(V) + rounding(net.N + 4) * ((np.abs(mid) + rad) @ np.abs(V)) * (1 + SLACK)
    reach = 2 * (np.abs(kappa) + radius) * (1 + SLACK) + 1e-100  # so that W = 0 leaves room for rounding
    gain = float(E.sum(axis=1).max()) * L * (1 + SLACK)
    if net.activation.bounded:
        rate = np.max(np.abs(net.activation.ranges(-np.inf, np.inf)[:2]))
    else:  # |f(x)| <= |f(0)| + L |x|, whether or not the rates at x(kappa) are in the region
        at_zero = np.max(np.abs(net.activation.ranges(0.0, 0.0)[:2]))
        rate = (at_zero + L * (np.abs(U) @ reach + np.abs(c)).max()) / (1 - gain)
        rate = max(rate, np.maximum(np.abs(region.lo), np.abs(region.hi)).max())
    delta = (E.sum(axis=1) * rate + _rounding_of_drive(net, u)) * (1 + SLACK)
    zeta = gain / (1 - gain) * np.abs(U).max() * (1 + SLACK)
    return Reduced(net.activation, U, V, c, delta, reach, zeta), kappa - radius, kappa + radius


# the search


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _run(P: Reduced, lo: Array, hi: Array, nodes: int) -> Search:
    """Boxes are treated last in, first out, so that few are pending at any time."""
    search = Search(lo[None], hi[None])
    while len(search.lo) and search.nodes < nodes and len(search.small) <= UNDECIDED:
        taken = slice(max(0, len(search.lo) - min(BATCH, nodes - search.nodes)), None)
        lo, hi = search.lo[taken], search.hi[taken]
        search.nodes += len(lo)
        lo, hi, gained, e = _treat(P, lo, hi, search)
        tiny = ~gained & _is_tiny(P, lo, hi)
        search.small += zip(lo[tiny], hi[tiny], strict=True)
        halves = _halve(P, lo[~tiny], hi[~tiny], gained[~tiny], e[~tiny])
        search.lo, search.hi = (
            np.vstack([old[: taken.start], new]) for old, new in zip((search.lo, search.hi), halves, strict=True)
        )
    return search


def _treat(P: Reduced, lo: Array, hi: Array, search: Search) -> tuple[Array, Array, NDArray[np.bool_], Array]:
    """Drop, finish or shrink boxes; what is left, whether it gained much, and the bands e over it (K, N)."""
    mid = (lo + hi) / 2
    L = linearise(P, mid, np.nextafter(np.maximum(hi - mid, mid - lo), np.inf))
    new_lo, new_hi = _intersect(lo, hi, mid, *plain_image(L))
    alive = np.asarray((new_lo <= new_hi).all(axis=1)) & ~refutes(L)
    lo, hi, mid, new_lo, new_hi = (ends[alive] for ends in (lo, hi, mid, new_lo, new_hi))
    L = Linear(*(part[alive] for part in L))
    centre, radius, _, _ = newton_image(P, L)
    new_lo, new_hi = _intersect(new_lo, new_hi, mid, centre, radius)
    alive = np.asarray((new_lo <= new_hi).all(axis=1))
    # thin sides need not shrink, which rounding may forbid: what counts is the box in its widest direction
    shrinks = (radius < 0.9 * np.maximum(L.rad, 0.01 * L.rad.max(axis=1, keepdims=True))).all(axis=1)
    tiny = _is_tiny(P, lo, hi)
    rows = np.flatnonzero(alive & (shrinks | tiny))
    wide = np.where(tiny, 4.0, 2.0)[rows, None] * radius[rows] + LEAST * P.reach
    alive[rows] = ~_certify(P, mid[rows] + centre[rows], wide, search)
    new_lo, new_hi, before = new_lo[alive], new_hi[alive], (hi - lo)[alive]
    share = np.divide(new_hi - new_lo, before, where=before > 0, out=np.ones_like(before))
    return new_lo, new_hi, np.prod(share, axis=1) < SHRUNK, L.e[alive]


def _intersect(lo: Array, hi: Array, mid: Array, centre: Array, radius: Array) -> tuple[Array, Array]:
    """The boxes within mid + centre +- radius; an enclosure that overflowed (NaN) says nothing."""
    below, above = np.nextafter(centre - radius, -np.inf), np.nextafter(centre + radius, np.inf)
    return np.fmax(lo, np.nextafter(mid + below, -np.inf)), np.fmin(hi, np.nextafter(mid + above, np.inf))


def _certify(P: Reduced, centre: Array, rad: Array, search: Search) -> NDArray[np.bool_]:
    """Which of the regions centre +- rad hold exactly one zero; their zeros are noted.

    All zeros of a box lie in its region, which may reach beyond the box: a zero on a border is found from both
    sides, and known to be one by the regions.
    """
    L = linearise(P, centre, rad)
    k, R, Y, YV = newton_image(P, L)
    inside = (np.abs(k) + R < rad * (1 - 4 * EPS)).all(axis=1) & (np.abs(centre) + rad <= P.reach).all(axis=1)
    single = inside & contracts(P, L, Y, YV)
    R = R + 4 * EPS * (np.abs(centre) + np.abs(k))
    search.zeros += [Zero(centre[i] + k[i], R[i], centre[i], rad[i]) for i in np.flatnonzero(single)]
    return single


def _halve(P: Reduced, lo: Array, hi: Array, gained: NDArray[np.bool_], e: Array) -> tuple[Array, Array]:
    """Boxes that gained little in two, across the direction that widens x most where the bands are wide."""
    rows = np.flatnonzero(~gained)
    weight = e[rows] * np.abs(P.V).sum(axis=1)
    across = np.argmax((hi - lo)[rows] * (weight @ np.abs(P.U)), axis=1)
    lo_2, hi_1 = lo[rows], hi[rows]
    cut = (lo_2 + hi_1)[np.arange(len(rows)), across] / 2
    hi_1[np.arange(len(rows)), across] = cut
    lo_2[np.arange(len(rows)), across] = cut
    return np.vstack([lo[gained], lo[rows], lo_2]), np.vstack([hi[gained], hi_1, hi[rows]])


def _is_tiny(P: Reduced, lo: Array, hi: Array) -> NDArray[np.bool_]:
    return np.asarray(((hi - lo) @ np.abs(P.U).T).max(axis=1) <= _minimal(P))


def _minimal(P: Reduced) -> float:
    return float(MINIMAL * (1 + np.abs(P.c).max()))


# what was found


def _refine(P: Reduced, zeros: list[Zero]) -> list[Zero]:
    """The zeros in enclosures as narrow as rounding allows: images of enclosures, which keep them."""
    if not zeros:
        return []
    k, radius = np.array([zero.k for zero in zeros]), np.array([zero.radius for zero in zeros])
    for _ in range(REFINEMENTS):
        step, R, _, _ = newton_image(P, linearise(P, k, radius))
        R += 4 * EPS * (np.abs(k) + np.abs(step))
        better = (radius > R).all(axis=1)
        if not better.any():
            break
        k[better] += step[better]
        radius[better] = R[better]
    return [zero._replace(k=k[i], radius=radius[i]) for i, zero in enumerate(zeros)]


def _distinct(zeros: list[Zero]) -> tuple[list[Zero], list[Zero]]:
    """Each zero once; and those whose enclosures overlap without a region of uniqueness to say they are one."""
    found: list[Zero] = []
    doubtful: list[Zero] = []
    dim = len(zeros[0].k) if zeros else 0
    k, radius = np.empty((len(zeros), dim)), np.empty((len(zeros), dim))  # of those found
    for zero in zeros:
        n = len(found)
        overlaps = (np.abs(zero.k - k[:n]) <= (zero.radius + radius[:n]) * (1 + 8 * EPS)).all(axis=1)
        twins = [found[i] for i in np.flatnonzero(overlaps)]
        if not twins:
            k[n], radius[n] = zero.k, zero.radius
            found.append(zero)
        elif not any(_within(zero, other) or _within(other, zero) for other in twins):
            doubtful.append(zero)
    return found, doubtful


def _within(zero: Zero, other: Zero) -> bool:
    return bool((np.abs(zero.k - other.centre) + zero.radius <= other.rad * (1 - 4 * EPS)).all())


def _representatives(small: list[tuple[Array, Array]], P: Reduced) -> list[Array]:
    """The middle of one box of each cluster of boxes that are close to each other."""
    from scipy.sparse.csgraph import connected_components

    if not small:
        return []
    lo, hi = (np.array(ends) for ends in zip(*small, strict=True))
    gap = np.maximum(np.maximum(lo[:, None] - hi, lo - hi[:, None]), 0) @ np.abs(P.U).T
    count, label = connected_components(gap.max(axis=-1) <= 100 * _minimal(P))
    middles = (lo + hi) / 2
    clusters = (middles[label == i] for i in range(count))
    return [cluster[np.argmin(np.linalg.norm(cluster - cluster.mean(axis=0), axis=1))] for cluster in clusters]
