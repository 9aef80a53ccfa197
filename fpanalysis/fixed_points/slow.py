"""Slow points: where the dynamics nearly stops, local minima of |F(h) - h| that are not zeros.

After a saddle and a node have met and vanished, trajectories still linger where they met: the ghost of the pair.
Such a place is a local minimum of

    q(h) = 1/2 |g|^2,    g = F(h) - h    (Sussillo & Barak, Neural Comput. 2013, with F for the one-step map)

with g != 0. There A = I - dF/dh obeys A^T g = 0 and is singular: along its null vector r the distance to the next
state is stationary. q does not depend on gamma, but on the coordinates: unlike a fixed point, a slow point moves if
neurons are rescaled, the less the slower it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points import descent
from fpanalysis.fixed_points.search import seeds
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

WORK, FEWEST, MOST = 80_000, 24, 256  #: starts of a round times N^1.5, and starts of a round at least and at most
EFFORT, FEWEST_ROUNDS, MOST_ROUNDS = 2048, 8, 32  #: rounds times N, and rounds at least and at most
DRY = 4  #: rounds without a new point after which the search ends: one of each kind
SAME = 1e-6  #: two minima closer than this, relative to 1 + max|h|, are one
NEAR = 1e-3  #: the same, of iterates before Newton finishes
FLAT = 1e-8  #: an eigenvalue of the Hessian above minus this share of the largest is not negative
KEPT = 100  #: points returned: there may be a continuum of them


@dataclass(frozen=True, eq=False)
class SlowPoints:
    """Local minima of q(h) = 1/2 |F(h) - h|^2 of `net` at input `u` that are not fixed points, the slowest first.

    Attributes
    ----------
    h : (K, N), the points.
    speed : (K,), max|F(h) - h| > 1e-12 (1 + max|h|), as the residual of a fixed point is measured.
    gradient : (K,), |A^T g| / |g|, zero at an exact minimum.
    hessian_min : (K,), smallest eigenvalue of the Hessian of q: none is negative beyond rounding.
    dry : whether the last rounds of the search found nothing new.
    status : OK, also where there is none; HAS_KINKS where F has no derivatives and nothing was sought.
    """

    net: System
    u: Array
    h: Array
    speed: Array
    gradient: Array
    hessian_min: Array
    dry: bool
    status: Status
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.h)

    def __repr__(self) -> str:
        slowest = f", slowest speed {self.speed[0]:.3g}" if len(self) else ""
        return f"SlowPoints({len(self)} found{slowest}; {self.status})"

    @cached_property
    def eigenvalues(self) -> NDArray[np.complex128]:
        """(K, N), of the step's Jacobian, largest modulus first; with one gamma for all neurons one of them is 1."""
        values = np.linalg.eigvals(self.net.jacobian(self.h, self.u)).astype(complex)
        return np.take_along_axis(values, np.argsort(-np.abs(values), axis=-1, kind="stable"), axis=-1)

    @cached_property
    def direction(self) -> Array:
        """(K, N), unit null vectors r of A, along which the trajectory creeps through, pointing with the motion
        (g . Gamma^-1 r >= 0, Gamma = diag(gamma))."""
        r: Array = np.linalg.svd(descent.slope_matrix(self.net, self.u, self.h))[2][:, -1]
        return np.where(self._drift(r)[:, None] < 0, -r, r)

    @cached_property
    def passage(self) -> Array:
        """(K,), steps that a trajectory takes to creep through, to leading order in a small speed.

        With h = h* + s r the motion along the null vector r is, projected on the left null vector Gamma^-1 g of
        Gamma A, (g . Gamma^-1 r) ds/dt = |g|^2 + 1/2 s^2 g . F''[r, r], and r^T H r = g . F''[r, r]: from -infinity
        to +infinity it takes

            T = pi (g . Gamma^-1 r) / |g| sqrt(2 / r^T H r).

        Meaningful where T is long against 1 / gamma. Where A has a second small singular value, or where other
        eigenvalues lie outside the unit circle, the trajectory may leave by another way.
        """
        g, A = self._gap, descent.slope_matrix(self.net, self.u, self.h)
        r = self.direction
        H = descent.hessian(self.net, self.u, self.h, g, A)
        bend = np.maximum(np.einsum("ki,kij,kj->k", r, H, r), 0.0)
        with np.errstate(divide="ignore"):
            return np.pi * self._drift(r) / np.linalg.norm(g, axis=1) * np.sqrt(2 / bend)

    @cached_property
    def _gap(self) -> Array:
        return self.net.target(self.h, self.u) - self.h

    def _drift(self, r: Array) -> Array:
        """g . Gamma^-1 r, (K,)."""
        return np.asarray(np.sum(self._gap * r / self.net.gamma, axis=1), np.float64)


def find_slow_points(net: System, u: ArrayLike | None = None, rng: int | Generator = 0) -> SlowPoints:
    """Local minima of q(h) = 1/2 |F(h) - h|^2 that are not zeros, at the constant input `u` (n_in,); None: zero input.

    Descent starts, round after round, from where noise-free trajectories are slowest, from random states and from
    midpoints of the zeros and minima found, until rounds find nothing new. Nothing says that the list is complete.
    Minima outside the trapping box of a bounded system, where no trajectory stays, are left out; of a continuum of
    minima, and of more than 100, the slowest 100 are kept.

    Raises
    ------
    InputError
        If `net` is not a Network or Cell, or `u` not one constant input of the right length.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network or Cell; found {type(net).__name__}")
    u = net.check_condition(u)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    with threadpool_limits(1, user_api="blas"):
        search = _Search(net, u, check_rng(rng))
        if net.smooth:
            search.run()
        h = search.minima
        g, A = net.target(h, u) - h, descent.slope_matrix(net, u, h)
        lowest = np.linalg.eigvalsh(descent.hessian(net, u, h, g, A))[:, 0]
        speed = np.abs(g).max(axis=1, initial=0.0)
        order = np.argsort(speed, kind="stable")[:KEPT]
        work = {"rounds": search.rounds, "starts": search.starts, "unfinished": search.unfinished}
        return SlowPoints(
            net=net,
            u=u,
            h=h[order],
            speed=speed[order],
            gradient=descent.relative_gradient(h, g, A)[0][order],
            hessian_min=np.asarray(lowest[order], np.float64),
            dry=search.dry,
            status=Status.OK if net.smooth else Status.HAS_KINKS,
            provenance=Provenance("levenberg-marquardt, newton", net.hash, work | {"u": u.tolist()}, seed),
        )


class _Search:
    """`minima` (K, N) and `zeros` found so far; `dry`, whether the last rounds, one of each kind, found no new
    minimum; `rounds` and `starts`, the work done; `unfinished`, descents that ended at neither."""

    def __init__(self, net: System, u: Array, rng: Generator) -> None:
        self.net, self.u, self.rng = net, u, rng
        self.minima, self.zeros = np.empty((0, net.N)), np.empty((0, net.N))
        self.count = int(np.clip(WORK / net.N**1.5, FEWEST, MOST))
        self.dry, self.rounds, self.starts, self.unfinished = False, 0, 0, 0

    def run(self) -> None:
        fruitless, most = 0, int(np.clip(EFFORT / self.net.N, FEWEST_ROUNDS, MOST_ROUNDS))
        while self.rounds < most and not self.dry and len(self.minima) <= KEPT:
            starts = self._starts(self.rounds % DRY)
            self.rounds, self.starts = self.rounds + 1, self.starts + len(starts)
            fruitless = 0 if self.add(starts) else fruitless + 1
            self.dry = fruitless >= DRY

    def add(self, starts: Array) -> int:
        """Descend from `starts` (K, N); the number of minima that are new."""
        net, u = self.net, self.u
        h = self._keep_zeros(_inside(net, u, descent.approach(net, u, starts)))
        h = self._keep_zeros(_inside(net, u, descent.finish(net, u, unknown(h, self.minima, NEAR))))
        lowest = is_minimum(net, u, h)
        self.unfinished += int(np.sum(~lowest))
        new = unknown(h[lowest], self.minima, SAME)
        self.minima = np.vstack([self.minima, new])
        return len(new)

    def _keep_zeros(self, h: Array) -> Array:
        """Note the rows of `h` that are fixed points; the others."""
        rest = descent.at_rest(h, self.net.target(h, self.u) - h)
        self.zeros = np.vstack([self.zeros, unknown(h[rest], self.zeros, NEAR)])
        return h[~rest]

    def _starts(self, kind: int) -> Array:
        net, u, rng, count = self.net, self.u, self.rng, self.count
        if kind == 0:
            h = np.vstack([np.zeros(net.N), seeds.random_states(net, u, rng, min(count, 24))])
            return slowest_on_the_way(net, u, h, 4 * count)
        if kind == 2:
            found = np.vstack([self.minima, self.zeros])
            pairs = rng.integers(len(found), size=(count // 2, 2)) if len(found) else np.empty((0, 2), int)
            near = seeds.scattered(found, rng, count // 2) if len(found) else found
            return seeds.finite(np.vstack([seeds.midpoints(found, pairs), near]))
        return seeds.finite(seeds.random_states(net, u, rng, count, seeds.LEADING if kind == 1 else net.N))


def slowest_on_the_way(net: System, u: Array, h: Array, most: int) -> Array:
    """Up to `most` states at which trajectories from `h` (K, N) were slower than just before and just after, the
    slowest first, and where they are after 20 / gamma steps: (K', N)."""
    dips, speeds = [], []
    before = now = np.full(len(h), np.inf)
    last = h
    for _ in range(int(np.ceil(20 / np.mean(net.gamma)))):
        speed = np.linalg.norm(net.target(h, u) - h, axis=1)
        dip = (now < before) & (now < speed)
        dips.append(last[dip])
        speeds.append(now[dip])
        before, now, last = now, speed, h
        h = net.step(h, u)
        if np.abs(h).max() > seeds.ESCAPED:
            break
    order = np.argsort(np.concatenate(speeds), kind="stable")[:most]
    return seeds.finite(np.vstack([np.vstack(dips)[order], h]))


def is_minimum(net: System, u: Array, h: Array) -> NDArray[np.bool_]:
    """Whether q has a local minimum at `h` (K, N), to second order and to rounding."""
    g, A = net.target(h, u) - h, descent.slope_matrix(net, u, h)
    gradient, blur = descent.relative_gradient(h, g, A)
    values = np.linalg.eigvalsh(descent.hessian(net, u, h, g, A))
    return np.asarray((gradient <= 10 * descent.GRADIENT + blur) & (values[:, 0] >= -FLAT * values[:, -1]))


def unknown(h: Array, known: Array, same: float) -> Array:
    """The rows of `h` farther than `same` (1 + max|h|) from those of `known` and from each other: (K', N)."""
    kept: list[Array] = []
    for row in h:
        others = np.vstack([known, *[point[None] for point in kept]])
        if (np.abs(others - row).max(axis=1) > same * (1 + np.abs(row).max())).all():
            kept.append(row)
    return np.array(kept).reshape(-1, h.shape[1])


def _inside(net: System, u: Array, h: Array) -> Array:
    """The rows of `h` that did not escape and lie in the trapping box, where there is one."""
    h = seeds.finite(h)
    box = net.trapping_box(u)
    if box is None:
        return h
    slack = SAME * (1 + np.abs(h).max(axis=1, keepdims=True, initial=0.0))
    return h[((h >= box[0] - slack) & (h <= box[1] + slack)).all(axis=1)]
