"""One step of the chain as matrices: what Chebyshev polynomials of the next state are on average.

Given the present state h the neurons of the next one are independent, so that all that is needed of a step is,
for each neuron i and the polynomials T_k on the interval (or its panels) of that neuron,

    E_i[s, k] = E[T_k(h'_i) | h = h_s]

    rate form, noise in:         h'_i = (1-gamma) h_i + gamma f(x_i + sigma xi),   x = W h + W_in u + b
    noise out, current form:     h'_i = A_i(h) + gamma sigma xi

The mean over xi is a trapezoid sum where the integrand is analytic, and Gauss-Legendre on the pieces between
kinks where it is not. For ReLU the lower piece is a point mass: h'_i = (1-gamma) h_i with probability
Phi(-x_i / sigma). Outside the interval the polynomials go on, up to where they reach e^18: what is lost beyond its
ends is a matter of the law's tails at the ends times that, and a linear network is solved exactly by any n.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from math import pi, sqrt

import numpy as np

from fpanalysis import gaussian
from fpanalysis.stationary._result import Array, Problem

REACH = gaussian.TAIL
DIGITS = gaussian.DIGITS
BEYOND = 18.0  #: log of the largest T_n outside the interval; points farther out are moved to where it is reached
COARSE = 60  #: nodes from which on the polynomials are held constant outside the interval: they resolve the law's tails
MOST = 20_000  #: nodes of the rule in xi on either side
CHUNK = 1 << 21  #: next states held at once
PROBE = np.concatenate([-np.logspace(9, -3, 200), [0.0], np.logspace(-3, 9, 200)])  #: where the range of f is read


@dataclass(frozen=True)
class Axis:
    """Chebyshev nodes on [low, high], in panels that meet at `breaks` (ascending, inside)."""

    low: float
    high: float
    n: int  #: nodes per panel
    breaks: tuple[float, ...] = ()
    held: bool = False  #: whether the polynomials are constant outside the interval, whatever n

    @property
    def beyond(self) -> float:
        return 0.0 if self.held or self.n >= COARSE else BEYOND

    @property
    def edges(self) -> Array:
        return np.array([self.low, *self.breaks, self.high])

    @property
    def size(self) -> int:
        return self.n * (len(self.breaks) + 1)

    @property
    def nodes(self) -> Array:
        low, high = self.edges[:-1, None], self.edges[1:, None]
        return np.asarray((low + high) / 2 + (high - low) / 2 * _chebyshev(self.n)[0], np.float64).ravel()

    @property
    def values(self) -> Array:
        """The basis at the nodes: (size, size), zero between different panels."""
        return np.asarray(np.kron(np.eye(len(self.breaks) + 1), _chebyshev(self.n)[1]), np.float64)

    @property
    def inverse(self) -> Array:
        """The inverse of `values`: coefficients from values at the nodes."""
        return np.asarray(np.kron(np.eye(len(self.breaks) + 1), _chebyshev(self.n)[2]), np.float64)

    def basis(self, h: Array) -> Array:
        """The basis at the points `h` (S,), held constant outside the interval: (S, size)."""
        total = np.zeros((len(h), len(self.breaks) + 1, self.n))
        panel = np.searchsorted(self.edges[1:-1], h, side="right")
        low, high = self.edges[panel], self.edges[panel + 1]
        t = np.clip((2 * h - low - high) / (high - low), -1.0, 1.0)
        total[np.arange(len(h)), panel] = np.polynomial.chebyshev.chebvander(t, self.n - 1)
        return total.reshape(len(h), self.size)


@lru_cache
def _chebyshev(n: int) -> tuple[Array, Array, Array]:
    """Nodes on [-1, 1] ascending, T_k there, and the inverse of that matrix."""
    x = np.asarray(-np.cos(pi * (np.arange(n) + 0.5) / n), np.float64)
    V = np.asarray(np.polynomial.chebyshev.chebvander(x, n - 1), np.float64)
    inverse = np.asarray(2 / n * V.T, np.float64)
    inverse[0] /= 2
    for array in (x, V, inverse):
        array.flags.writeable = False
    return x, V, inverse


@dataclass(frozen=True)
class Branch:
    """Next states and their weights, (m, S, N), that belong to one piece of the noise."""

    after: Array
    weight: Array


class Step:
    """The step of `problem` with its constants at hand: gamma, sigma (N,), drive d = W_in u + b."""

    def __init__(self, problem: Problem) -> None:
        net = problem.network
        self.N = net.N
        self.W, self.d, self.activation = net.W, net.drive(problem.u), net.activation
        self.f = net.activation.f
        self.gamma = np.broadcast_to(np.asarray(net.gamma, float), (net.N,))
        self.sigma = np.broadcast_to(np.asarray(problem.sigma, float), (net.N,))
        self.current = net.form == "current"
        self.inside = not self.current and net.placement == "in"
        self.tau = self.gamma * self.sigma  #: deviation of the noise that is added to the state
        self.slope = float(np.abs(net.activation.df(np.linspace(-5, 5, 41)[:, None] * np.ones(net.N))).max())
        at = self.f(np.array([-1e3, -1.0, -1e-3])[:, None] * np.ones(net.N))
        self.flat = not net.activation.smooth and bool(np.all(at == at[0]))  #: a point mass below the kink

    def preactivation(self, h: Array) -> Array:
        return h @ self.W.T + self.d

    def drift(self, h: Array) -> Array:
        """A(h), the step without noise, (..., N)."""
        pull = self.f(h) @ self.W.T + self.d if self.current else self.f(self.preactivation(h))
        return (1 - self.gamma) * h + self.gamma * pull

    def limits(self) -> Array:
        """Bounds (2, N) that the state does not leave, -inf and inf where there are none."""
        free = np.array([np.full(self.N, -np.inf), np.full(self.N, np.inf)])
        if not self.inside:
            return free
        f = self.f(PROBE[:, None] * np.ones(self.N))
        low, high = f.min(axis=0), f.max(axis=0)
        return np.array([np.where(low > -1e3, low, -np.inf), np.where(high < 1e3, high, np.inf)])

    def breaks(self, i: int, low: float, high: float) -> tuple[float, ...]:
        """Where panels of the axis of neuron i meet: on a kink of the drift that noise does not smooth, if it is at one
        place of this axis, and about a bend that is narrow in the interval, at distances of 1.5, 6, ... strips."""
        if self.inside and (self.activation.smooth or self.sigma.all()):
            return ()
        if self.current:
            kinks = [(0.0, self.activation.strip)] if self.W[:, i].any() else []
        else:
            alone = [k for k in range(self.N) if self.W[k, i] and not np.delete(self.W[k], i).any()]
            kinks = [(-self.d[k] / self.W[k, i], self.activation.strip / abs(self.W[k, i])) for k in alone]
        places = []
        for place, strip in kinks:
            if not self.activation.smooth:
                places.append(place)
            elif high - low > 8 * strip and np.isfinite(self.activation.strip):
                away = 1.5 * strip * 4.0 ** np.arange(int(np.log((high - low) / strip) / np.log(4)) + 1)
                places += [place, *(place - away), *(place + away)]
        margin = 0.01 * (high - low)
        cuts = np.unique([place for place in places if low + margin < place < high - margin])
        return tuple(cuts.tolist())

    def branches(self, h: Array, axes: tuple[Axis, ...]) -> list[Branch]:
        """The next states from `h` (S, N), the branches together weighing 1 for each state and neuron."""
        if self.inside:
            return self._inside(h, axes)
        A = self.drift(h)
        if any(axis.breaks for axis in axes):
            pieces = self._pieces(self._cuts(A, axes), max(axis.n for axis in axes))
            return [Branch(A + self.tau * xi, w) for xi, w in pieces]
        xi, w = self._uncut(axes, np.inf)
        return [Branch(A + self.tau * xi, np.broadcast_to(w, (len(xi), *A.shape)))]

    def _inside(self, h: Array, axes: tuple[Axis, ...]) -> list[Branch]:
        x, rest = self.preactivation(h), (1 - self.gamma) * h
        if self.activation.smooth:
            xi, w = self._uncut(axes, self.activation.strip)
            after = rest + self.gamma * self.f(x + self.sigma * xi)
            return [Branch(after, np.broadcast_to(w, after.shape))]
        silent = np.where(self.sigma > 0, x / np.where(self.sigma > 0, self.sigma, 1.0), np.sign(x) * np.inf)
        kink = np.clip(-silent, -REACH, REACH)[None]
        ends = np.full_like(kink, REACH)
        pieces = self._pieces(np.concatenate([-ends, kink, ends]), max(axis.n for axis in axes))
        if not self.flat:
            return [Branch(rest + self.gamma * self.f(x + self.sigma * xi), w) for xi, w in pieces]
        from scipy.special import ndtr

        xi, w = pieces[1]
        total = w.sum(axis=0)
        w = w * np.where(total > 0, ndtr(silent) / np.where(total > 0, total, 1.0), 0.0)
        below = self.f(-np.ones(self.N))
        still = Branch((rest + self.gamma * below)[None], 1 - w.sum(axis=0)[None])
        return [still, Branch(rest + self.gamma * self.f(np.maximum(x + self.sigma * xi, 0.0)), w)]

    def _cuts(self, A: Array, axes: tuple[Axis, ...]) -> Array:
        """Where xi takes h' across the breaks: (pieces + 1, S, N)."""
        most = max(len(axis.breaks) for axis in axes)
        cuts = np.full((most + 2, *A.shape), REACH)
        cuts[0] = -REACH
        for i, axis in enumerate(axes):
            for k, place in enumerate(axis.breaks):
                to = place - A[:, i]
                cuts[k + 1, :, i] = to / self.tau[i] if self.tau[i] > 0 else np.sign(to) * REACH
        return np.clip(cuts, -REACH, REACH)

    def _pieces(self, cuts: Array, n: int) -> list[tuple[Array, Array]]:
        t, v = gaussian.legendre_rule(40 + 8 * (n // 12))
        pieces = []
        for low, high in itertools.pairwise(cuts):
            xi = low + (high - low) * t[:, None, None]
            pieces.append((xi, (high - low) * v[:, None, None] * np.exp(-(xi**2) / 2) / sqrt(2 * pi)))
        total = np.sum([w.sum(axis=0) for _, w in pieces], axis=0)
        return [(xi, w / total) for xi, w in pieces] if not self.flat or not self.inside else pieces

    def _uncut(self, axes: tuple[Axis, ...], strip: float) -> tuple[Array, Array]:
        """The trapezoid rule for T_n(h'): its error is at most exp(y^2/2 + n c y - 2 pi y / step), for every y below
        strip / sigma, where c is the derivative of h' by xi in units of half the interval."""
        step = 0.5
        for i, axis in enumerate(axes):
            if self.sigma[i] == 0:
                continue
            c = 2 * self.tau[i] * (self.slope if self.inside else 1.0) / (axis.high - axis.low)
            y = np.linspace(0.05, 1.0, 20) * min(strip / self.sigma[i], sqrt(2 * DIGITS))
            step = min(step, float((2 * pi * y / (DIGITS + y**2 / 2 + axis.n * c * y)).max()))
        K = int(np.ceil(REACH / step))
        if K > MOST:
            raise Unresolved(
                f"one step's noise is so much wider than the law that it would take {2 * K + 1} nodes a state"
            )
        xi = np.asarray(step * np.arange(-K, K + 1), np.float64)
        w = np.exp(-(xi**2) / 2)
        return xi[:, None, None], (w / w.sum())[:, None, None]


class Unresolved(ArithmeticError):
    """A box on which the step cannot be integrated."""


def expectations(step: Step, h: Array, axes: tuple[Axis, ...]) -> tuple[Array, ...]:
    """The matrices E_i (S, n_i) at the states `h` (S, N), for each neuron."""
    parts = [_some(step, part, axes) for part in _split(h, 60 + 2 * max(axis.n for axis in axes))]
    return tuple(np.concatenate(E) for E in zip(*parts, strict=True))


def _split(h: Array, nodes: int) -> list[Array]:
    return np.array_split(h, max(1, -(-h.size * nodes // CHUNK)))


def _some(step: Step, h: Array, axes: tuple[Axis, ...]) -> list[Array]:
    branches = step.branches(h, axes)
    E = []
    for i, axis in enumerate(axes):
        rows = np.zeros((len(axis.breaks) + 1, axis.n, len(h)))
        for k, branch in enumerate(branches):
            after, weight = branch.after[:, :, i], branch.weight[:, :, i]
            panel = min(k, len(axis.breaks)) if axis.breaks and not step.inside else None
            _accumulate(rows, axis, after, weight, panel)
        E.append(np.ascontiguousarray(rows.reshape(axis.size, len(h)).T))
    return E


def _accumulate(rows: Array, axis: Axis, after: Array, weight: Array, panel: int | None) -> None:
    """Add sum_q w_q T_k(h'_q) to `rows` (panels, n, S); `panel` is the one that holds all of `after`, if known."""
    if panel is None and axis.breaks:
        which = np.searchsorted(axis.edges[1:-1], after, side="right")
        for p in range(len(rows)):
            _accumulate(rows, axis, after, np.where(which == p, weight, 0.0), p)
        return
    panel = panel or 0
    low, high = axis.edges[panel], axis.edges[panel + 1]
    end = np.cosh(axis.beyond / axis.n)
    t = np.clip((2 * after - (low + high)) / (high - low), -end, end)
    previous, now = weight, weight * t
    rows[panel, 0] += previous.sum(axis=0)
    rows[panel, 1] += now.sum(axis=0)
    t *= 2
    for k in range(2, axis.n):
        previous, now = now, t * now - previous
        rows[panel, k] += now.sum(axis=0)


def grid(axes: tuple[Axis, ...]) -> Array:
    """All combinations of the axes' nodes, (S, N), the last axis fastest."""
    return np.stack(np.meshgrid(*(axis.nodes for axis in axes), indexing="ij"), axis=-1).reshape(-1, len(axes))
