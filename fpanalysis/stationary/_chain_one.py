"""The exact chain of one neuron: mean, variance, gap and basins from one small collocation.

With the nodes y_s and matrix E of `_one_step` and V_sk = T_k(y_s), let M be V - E with ones for its column T_0. Then

    M^T p = e_0    gives weights p with    sum_s p_s (T_k - E T_k)(y_s) = 0,   sum_s p_s = 1:    E[g] = sum_s p_s g(y_s)
    M c = g        gives c_0 = E[g], and with -c_1, -c_2, ... the solution of Poisson's equation for g

so that c says how rounding, about 1e-16 |M| |c| in each equation, and a leak through the ends of the box act on E[g].
Box and degree grow together until mean and variance stay; `error` is their last change with these two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fpanalysis.results import Status
from fpanalysis.stationary._box import core, first_box
from fpanalysis.stationary._chain_law import chain_law
from fpanalysis.stationary._metastable import metastable
from fpanalysis.stationary._one_basins import Parts, basins, parts
from fpanalysis.stationary._one_density import densities
from fpanalysis.stationary._one_step import Line, Rule, matrix, nodes, rule
from fpanalysis.stationary._result import Array, Basin, Densities, Problem, Stationary, failed
from fpanalysis.stationary._transition import Step, Unresolved, _chebyshev

TOLERANCE = 3e-12  #: error of the mean, in standard deviations
LADDER = (28, 44, 70, 110, 170, 250, 340)  #: degrees
ATTEMPTS = 16  #: solves that the search for box and degree may take
WIDE = 9.0  #: deviations that the box reaches from the mean, at least
LEAK = 1e-14  #: probability per step to leave the box from which on it is widened
LASTING = 0.03  #: part of a leak that more nodes leave of it if it is one of the law
SURE = 1e-4  #: leak that is one of the law even after the first solve
FAINT = 2e-16  #: probability that rounding cannot tell from none
BLOCK = 48  #: degrees whose block of the step's matrix has the eigenvalues
NEAR = 1e-2  #: distance of the second eigenvalue from 1 below which it is found by inverse iteration
ROUNDED = 1e-8  #: error of the mean by rounding, in deviations, from which on the law is weighed without subtraction
RARE = 1e-3  #: the same for the error of a basin's weight, relative to it, where the gap is below `SLOW`
SLOW = 1e-6
SETTLED = 3e-3  #: `rough` from which on a leak may be one of the collocation, not of the law
RESOLVED = 1e-8  #: `rough` below which the degree is high enough
FAR = 16  #: deviations from the mean to an end that is moved in if the degree is too low
STANDS = 1e-9  #: error of the basins' weights at which they stand
STEADY = 0.2  #: relative change of the gap with the number of degrees, at most
APART = 1e-2  #: distance of the second eigenvalue from 1 from which on basins are not what is wrong
SEEN = 1e-5  #: `rough` from which on it is not rounding: the law is not resolved, and its spectrum not known
ROUGH = 1e-3  #: `rough` from which on a law of several basins is not resolved
ROUNDING = 2e-15  #: error of an entry of the equations, relative to it
LEAST = 1e-6  #: deviation, in units of one step's noise, below which errors are judged in this unit
ALIKE = 0.03  #: how far mean (in deviations) and variance (relative) of a density may be off
USELESS = 0.1  #: error, in deviations, from which on no value is given


@dataclass(frozen=True)
class Solved:
    """The law on one box and degree."""

    low: float
    high: float
    y: Array
    V: Array
    E: Array
    size: Array  #: |V| + |E|
    lu: Any
    p: Array
    rule: Rule
    tau: float
    mean: float
    var: float
    leak: Array  #: (2,), probability per step to leave the box, by end
    rounding: Array  #: (2,), error of mean and variance by rounding
    range: float  #: of the solution of Poisson's equation for the state
    rough: float  #: the part of that solution which is in its highest degrees

    @property
    def n(self) -> int:
        return len(self.p)

    def average(self, g: Array) -> tuple[Array, Array]:
        """E[g] of the functions g (n, m) at the nodes, and their errors by rounding."""
        c = _apply(self.lu, g)
        return c[0], ROUNDING * (np.abs(self.p) @ (self.size @ np.abs(c)))


def collocate(line: Line, low: float, high: float, n: int) -> Solved:
    """Raises LinAlgError where the equations are singular."""
    y, V = nodes(low, high, n)
    move = rule(line, y, low, high, n, line.kinked)
    E, out = matrix(move.after, move.weight, low, high, n)
    M = V - E
    M[:, 0] = 1.0
    lu = _factor(M)
    one = np.zeros(n)
    one[0] = 1.0
    p = _apply(lu, one, transposed=True)
    if not np.isfinite(p).all():
        raise np.linalg.LinAlgError("singular")
    p /= p.sum()
    mean = float(p @ y)
    var = max(float(p @ (y - mean) ** 2), 0.0) + line.tau**2
    c = _apply(lu, np.stack([y - mean, (y - mean) ** 2], axis=1))
    size = np.abs(V) + np.abs(E)
    rounding = ROUNDING * (np.abs(p) @ (size @ np.abs(c)) + [abs(mean), 0.0])
    reach = float(np.ptp(V[:, 1:] @ c[1:, 0]))
    rough = float(np.abs(c[-(n // 6) :, 0]).sum() / np.abs(c[1:, 0]).sum())
    leak = np.abs(p @ out) * [low > line.limits[0], high < line.limits[1]]  # nothing leaves by a bound of the state
    return Solved(low, high, y, V, E, size, lu, p, move, line.tau, mean, var, leak, rounding, reach, rough)


def _factor(M: Array) -> Any:
    from scipy.linalg.lapack import dgetrf

    lu, pivots, _ = dgetrf(M)
    return lu, pivots


def _apply(lu: Any, g: Array, transposed: bool = False) -> Array:
    """M^-1 g, or M^-T g."""
    from scipy.linalg.lapack import dgetrs

    return np.asarray(dgetrs(*lu, g, trans=int(transposed))[0], np.float64)


@dataclass(frozen=True)
class Search:
    """`changes` are those of the mean and of the variance by way of it, in deviations, per step of the search."""

    found: Solved
    before: Solved
    changes: tuple[float, ...]
    levels: tuple[tuple[int, float], ...]

    @property
    def remaining(self) -> float:
        """What the next change will be at most: the changes of a spectral method fall by growing factors. Before it
        resolves the modes that decide they go up and down, and the mean factor of the last three is what counts."""
        *past, last = self.changes
        if self.found.rough > RESOLVED and len(past) > 2 and past[-3] > 0:
            return max(last, *past[-2:]) * float(np.clip((last / past[-3]) ** (1 / 3), 1e-3, 1.0))
        return last * (float(np.clip(last / past[-1], 1e-3, 1.0)) if past and past[-1] > 0 else 1.0)

    @property
    def leak(self) -> float:
        """The probability per step to leave the box, by the last solve, less what more nodes would leave of it."""
        found, before = self.found, self.before
        same = np.array([found.low == before.low, found.high == before.high])
        falls = np.where(same & (before.leak > found.leak), found.leak / np.maximum(before.leak, 1e-300), 1.0)
        return float((found.leak * falls).max())


def solve_one(step: Step, problem: Problem, tolerance: float | None) -> Stationary:
    """The law of the one neuron of `problem`, whose state does not run away."""
    line = Line(step)
    with np.errstate(all="ignore"):
        try:
            search = _search(line, problem, tolerance or TOLERANCE)
        except np.linalg.LinAlgError:
            return failed(problem, "chain", Status.NOT_CONVERGED, reason="the collocation equations are singular")
        except Unresolved as error:
            return failed(problem, "chain", Status.TOO_LARGE, reason=str(error))
        gap, separation = spectrum(search.found)
        split = parts(line, search.found.low, search.found.high)
        some = None if split is None else _basins(line, search, split)
    lost = not search.found.rounding[0] <= ROUNDED * deviation(line, search.found) or not separation > 0
    lost |= split is not None and search.found.rough > ROUGH
    if lost or (separation < SLOW and _unresolved(some)):
        weighed = metastable(problem, _state_box(search.found), separation)
        if weighed.status.ok or (lost and (split is not None or separation < APART)):
            return weighed
        if lost:
            lost_digits = search.found.rounding[0] / deviation(line, search.found)
            reason = f"rounding costs {lost_digits:.1g} deviations of the mean"
            return failed(problem, "chain", Status.NOT_CONVERGED, reason=reason)
    known = gap > 0 and search.found.rough <= SEEN and (separation < NEAR or _stands(search.found))
    return _result(problem, line, search, gap if known else None, some)


def _basins(line: Line, search: Search, split: Parts) -> tuple[Basin, ...] | None:
    """On more nodes than the mean needs, until the weights stand: the step into a basin is steep in y."""
    before, found = search.before, search.found
    some = basins(line, found, before, split)
    for n in LADDER:
        if some is None or max(basin.weight_error for basin in some) <= STANDS:
            break
        if n > found.n:
            before, found = found, collocate(line, found.low, found.high, n)
            some = basins(line, found, before, split)
    return some


def _unresolved(some: tuple[Basin, ...] | None) -> bool:
    return some is not None and any(not basin.weight_error <= RARE * basin.weight for basin in some)


def _state_box(found: Solved) -> Array:
    margin = WIDE * found.tau
    return np.array([[found.low - margin], [found.high + margin]])


def _search(line: Line, problem: Problem, tolerance: float) -> Search:
    low, high, least = extent(line, problem)
    found = collocate(line, low, high, LADDER[0])
    search = Search(found, found, (), ((found.n, found.mean),))
    level = 0
    for attempt in range(ATTEMPTS):
        low, high = _moved(line, search, least, attempt == 0)
        if attempt == 0 or (low, high) == (found.low, found.high) or found.rough > RESOLVED:
            level = min(level + 1, len(LADDER) - 1)
        n = LADDER[level]
        if (low, high, n) == (found.low, found.high, found.n):
            break
        found = collocate(line, low, high, n)
        search = _next(line, search, found)
        rounding = float(_in_deviations(line, found, found.rounding))
        leak = (search.leak - FAINT) * found.range / deviation(line, found)
        if search.remaining <= max(tolerance, rounding) and leak <= max(0.1 * tolerance, rounding):
            break
    return search


def _next(line: Line, search: Search, found: Solved) -> Search:
    change = np.array([found.mean - search.found.mean, found.var - search.found.var])
    changes, moved = search.changes, _in_deviations(line, found, np.abs(change))
    if changes and found.n == search.found.n:  # the same nodes in another box tell nothing of what more would change
        changes, moved = changes[:-1], max(changes[-1], moved)
    changes = (*changes, moved)
    return Search(found, search.found, changes, (*search.levels, (found.n, found.mean)))


def deviation(line: Line, found: Solved) -> float:
    return max(float(np.sqrt(found.var)), LEAST * line.gamma * line.sigma)


def _in_deviations(line: Line, found: Solved, error: Array) -> float:
    """Errors of mean and variance as one number; the variance is worth a tenth."""
    unit = deviation(line, found)
    return float(max(error[0] / unit, 0.1 * error[1] / unit**2))


def extent(line: Line, problem: Problem) -> tuple[float, float, tuple[float, float]]:
    """A first box in y, and what any later one holds: where the noise-free step rests."""
    box = first_box(line.step, problem.start)[:, 0]
    rests = core(line.step)[:, 0]
    if not line.inside:
        box, rests = _image(line, box), _image(line, rests) if np.isfinite(rests).all() else rests
    low, high = np.clip(box, *line.limits)
    if not high > low:
        width = 1e-9 * (1 + abs(low))
        low, high = low - width, high + width
    return float(low), float(high), (float(rests[0]), float(rests[1]))


def _image(line: Line, box: Array) -> Array:
    A = line.drift(np.linspace(box[0], box[1], 401))
    return np.array([A.min(), A.max()])


def _moved(line: Line, search: Search, least: tuple[float, float], first: bool) -> tuple[float, float]:
    """Ends moved out where the law leaks, also on the next degree: few nodes do not tell a small leak from none. After
    the first solve also in, where the law lies far inside, or out to `WIDE` deviations."""
    found, before = search.found, search.before
    spread = float(np.sqrt(max(found.var - line.tau**2, 0.0))) + 1e-15 * (found.high - found.low)
    stays = np.array([found.low == before.low, found.high == before.high]) & (found.leak > LASTING * before.leak)
    lasts = (stays & (found.n > before.n)) | (found.rough < RESOLVED)
    leaks = (found.leak > LEAK) & (lasts | (found.leak > 10 * found.rough + (SURE if first else 1e-3 * SURE)))
    wider = np.array([found.low < before.low, found.high > before.high])
    leaks &= ~(wider & (found.leak > 0.3 * before.leak))  # a wider box did not help: it is the degree that is too low
    ends = []
    for k, (end, sign) in enumerate(((found.low, -1.0), (found.high, 1.0))):
        away = want = sign * (end - found.mean)
        if first:
            held = sign * (least[k] - found.mean) if np.isfinite(least[k]) else 0.0
            want = (
                max(12 * spread, 0.3 * away, held) if away > FAR * spread and not leaks[k] else max(away, WIDE * spread)
            )
        if leaks[k] and found.rough < SETTLED:
            want = max(want, away * float(np.clip((np.log(1e-16) / np.log(min(found.leak[k], 0.5))) ** 0.7, 1.15, 2.5)))
        new, limit = found.mean + sign * want, line.limits[k]
        if sign * (limit - new) < 0.3 * abs(found.mean - limit):
            new = limit
        ends.append(float(new))
    return ends[0], ends[1]


def spectrum(found: Solved) -> tuple[float, float]:
    """The gap 1 - |lambda_2|, and |1 - lambda| of the eigenvalue nearest to 1 among the others; negative where
    inverse iteration finds it beyond 1."""
    inverse = _chebyshev(found.n)[2]
    m = min(found.n, BLOCK)
    values = np.linalg.eigvals((inverse @ found.E)[:m, :m])
    rest = np.delete(values, np.abs(values - 1).argmin())
    nearest = rest[np.abs(1 - rest).argmin()]
    separation = float(np.abs(1 - nearest))
    gap = float(1 - np.abs(rest).max())
    if separation >= NEAR and gap > 0:
        return gap, separation
    slowest = _slowest(found)
    others = np.delete(rest, np.abs(1 - rest).argmin())
    return float(min(slowest, *(1 - np.abs(others[np.abs(others) < 1])))), slowest


def _stands(found: Solved) -> bool:
    """Whether twice as many degrees have the same spectral radius: a sharp mode, as of a two-cycle, needs many."""
    if found.n <= 3 * BLOCK:  # what few degrees resolve has no sharp modes
        return True
    matrix = _chebyshev(found.n)[2] @ found.E
    sizes = []
    for m in (BLOCK, min(found.n, 2 * BLOCK)):
        values = np.linalg.eigvals(matrix[:m, :m])
        sizes.append(np.abs(np.delete(values, np.abs(values - 1).argmin())).max())
    return bool(abs(sizes[0] - sizes[1]) <= STEADY * (1 - min(sizes[0], 1.0)) + 1e-6)


def _slowest(found: Solved) -> float:
    """The eigenvalue of 1 - K nearest to 0 but for 0 itself, by inverse iteration."""
    c, rate = np.ones(found.n) / np.arange(1, found.n + 1) ** 2, np.inf
    for _ in range(60):
        c[0] = 0.0
        c /= np.linalg.norm(c)
        new = _apply(found.lu, found.V @ c)
        new[0] = 0.0
        before, rate = rate, float(1 / (c @ new))
        c = new
        if abs(rate - before) <= 1e-9 * abs(rate):
            break
    return rate


def _result(
    problem: Problem, line: Line, search: Search, gap: float | None, some: tuple[Basin, ...] | None
) -> Stationary:
    found, unit = search.found, deviation(line, search.found)
    leak = search.leak * found.range
    error = 2 * search.remaining * unit + float(found.rounding[0]) + 2 * leak
    if found.rough > SEEN:
        error += found.rough * found.range
    details: dict[str, Any] = {
        "nodes": (found.n,),
        "box": _state_box(found),
        "leak": search.leak,
        "levels": search.levels,
        "null_vector": "collocation",
    }
    if not error <= USELESS * unit:
        reason = (
            f"at {found.n} nodes the mean still changes by {search.changes[-1]:.1g} deviations, "
            f"{found.rough:.1g} of what decides it is in the finest modes, and {search.leak:.1g} a step leaves the box"
        )
        return failed(
            problem, "chain", Status.NOT_CONVERGED, reason=reason, tentative_mean=np.array([found.mean]), **details
        )
    rates = _rates(line, found)
    return chain_law(
        problem,
        line.step,
        np.array([found.mean]),
        np.array([[found.var]]),
        np.array([error]),
        rates,
        details,
        densities=lambda: _checked(densities(line, found.low, found.high, collocate), found),
        gap=gap,
        basins=some,
    )


def _checked(drawn: Densities, found: Solved) -> Densities:
    """The density, if it has the mean and the variance of the law; none where its grid does not hold a narrow one."""
    density = drawn[0]
    if density is None:
        return drawn
    points = np.concatenate([density.grids[0], [float(place[0]) for place, _ in density.atoms]])
    p = np.concatenate([density.values * density.weights[0], [mass for _, mass in density.atoms]])
    mean = p @ points
    off, ratio = abs(mean - found.mean) / np.sqrt(found.var), p @ (points - mean) ** 2 / found.var
    return drawn if off <= ALIKE and abs(ratio - 1) <= ALIKE else (None, {})


def _rates(line: Line, found: Solved) -> Array:
    if not line.step.current:
        return np.array([found.mean])
    f = line.f(found.y + line.tau * found.rule.xi)
    return np.array([found.p @ (found.rule.weight * f).sum(axis=0)])
