"""One slow coordinate of a network of any rank: the other modes slaved to it, Gaussian about where they rest.

y = L^T h with L the slowest left eigenvector of the step, smoothed by the noise, half way between the attractors. For
each y the rest m, the drift c and the covariance C of the fast modes solve

    g (T(m) - m) = R c,   L^T m = y,        T(m) = M(W m + drive, s)  or, current form,  W M(m, s) + drive
    C = F C F^T + P D P^T,                  P = 1 - R l^T,   F = P J P,   s^2 from C and sigma^2

with g = diag gamma, J the Jacobian of the smoothed step at m, R and l its slow right and left eigenvectors there
(L^T R = l^T R = 1), D the noise of one step. The slow motion is y' = y + c(y) + l^T noise: to project with the local l
is what eliminates the fast modes' memory to first order. Not kept: what their fluctuation adds to c beyond the
smoothing by s, and the change of l along y; the `crude` variant (C = 0; R and l those of the middle) tells their order
of magnitude.
Source: Parsons & Rogers, "Dimension reduction for stochastic dynamical systems forced onto a manifold by large drift",
J. Phys. A 2017.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

from fpanalysis.stationary._basins import basin_of
from fpanalysis.stationary._grid_chain import GridChain, Step
from fpanalysis.stationary._low_rank import neuron_cumulants
from fpanalysis.stationary._lyapunov import Lyapunov, Unstable
from fpanalysis.stationary._result import Array, Problem, input_variance

NODES = 17  #: Chebyshev nodes in y at which the fast modes are solved for
ROUNDS = 12  #: alternations between m, the eigenvectors and C
TOLERANCE = 1e-7  #: change of m, relative to its size, at which they agree


class NotReducible(ArithmeticError):
    """One coordinate does not describe the network; the message says why."""


class Slaved:
    """The slow chain on low <= y <= high, and the state given y."""

    def __init__(self, problem: Problem, L: Array, low: float, high: float, start: Array, crude: bool = False) -> None:
        self.problem, self.R, self.crude = problem, L, crude
        self.box = low, high
        t = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        y = (low + high) / 2 + (high - low) / 2 * t
        self._fit = np.linalg.inv(chebyshev.chebvander(t, NODES - 1))
        first = int(np.abs(y - L[:, 0] @ start).argmin())
        points: list[_Point | None] = [None] * NODES
        seed = _Point(problem, L[:, 0], start)
        for order in (range(first, NODES), range(first - 1, -1, -1)):
            point = seed if points[first] is None else points[first]
            for j in order:
                point = points[j] = point.moved(float(y[j]), crude)  # type: ignore[union-attr]
        self.points = [point for point in points if point is not None]
        table = [np.array([getattr(p, name) for p in self.points]) for name in ("drift", "noise", "third", "fourth")]
        table[1] = np.log(table[1])
        self._table, self._m = self._fit @ np.array(table).T, self._fit @ np.array([p.m for p in self.points])

    def _basis(self, y: Array) -> Array:
        low, high = self.box
        return chebyshev.chebvander(((2 * y[:, 0] - low - high) / (high - low)).clip(-1, 1), NODES - 1)

    def __call__(self, y: Array) -> Step:
        c, v, k3, k4 = (self._basis(y) @ self._table).T
        return Step(y + c[:, None], np.exp(v)[:, None, None], k3[:, None, None, None], k4[:, None, None, None, None])

    def states(self, y: Array) -> Array:
        """m (n, N) at y (n, 1)."""
        return self._basis(y) @ self._m

    def follow(self, y: Array, points: Array) -> NDArray[np.intp]:
        """The basin of m(y)."""
        return basin_of(self.problem.net, self.problem.u, self.states(y), points)

    def shares(self, chain: GridChain) -> Array:
        """(NODES,), weights of the Chebyshev nodes in averages over y; their sum is 1."""
        return chain.p @ self._basis(chain.nodes.reshape(-1, 1)) @ self._fit

    def spectral_ratio(self, chain: GridChain) -> float:
        """Rate of the slowest mode neglected over that of the mode kept, both averaged over y."""
        y = chain.nodes.reshape(-1, 1)
        rates = np.array([(point.fast, point.slow) for point in self.points])
        fast, slow = np.abs(self._basis(y) @ self._fit @ rates).T
        return float((chain.p @ fast) / (chain.p @ slow))


class SlavedState:
    """Moments of the state: a mixture over y of Gaussians about m(y)."""

    def __init__(self, slaved: Slaved, chain: GridChain) -> None:
        self.given = slaved.states(chain.nodes.reshape(-1, 1))
        self.mean = chain.p @ self.given
        d = self.given - self.mean
        rest = np.tensordot(slaved.shares(chain), np.array([point.C for point in slaved.points]), 1)
        self.cov = (chain.p[:, None] * d).T @ d + (rest + rest.T) / 2


class _Point:
    """The fast modes at one y: m, C, the eigenvectors r and l, and what the chain needs."""

    def __init__(self, problem: Problem, L: Array, m: Array) -> None:
        self.problem, self.L, self.m = problem, L, m
        self.C = np.zeros((len(L), len(L)))
        self.gamma = np.broadcast_to(problem.net.gamma, (len(L),))
        self.r, self.l = L / (L @ L), L.copy()
        self.drift = 0.0
        J, _ = self._linear(m, np.sqrt(input_variance(problem, self.C)))
        for _ in range(5):
            self._turn(J)

    def moved(self, y: float, crude: bool) -> _Point:
        """The point at `y`, started from this one."""
        new = object.__new__(_Point)
        new.__dict__.update(self.__dict__)
        new.m = self.m + (y - self.L @ self.m) * self.r
        for _ in range(1 if crude else ROUNDS):
            before = new.m
            s = np.sqrt(input_variance(self.problem, new.C))
            new._rest(y, s)
            J, D = new._linear(new.m, s)
            if crude:
                break
            new._turn(J)
            new._spread(J, D)
            if np.abs(new.m - before).max() < TOLERANCE * (1 + np.abs(before).max()):
                break
        new._finish(J, D, crude)
        return new

    def _mean_and_slope(self, m: Array, s: Array) -> tuple[Array, Array, Array]:
        """T(m), dT/dm, and the part of Var f that is not linear in the fast modes."""
        net, drive = self.problem.network, self.problem.network.drive(self.problem.u)
        a = net.W @ m + drive if net.form == "rate" else m
        M, G, V, _ = net.activation.moments(a, s)
        outside = 0.0 if net.form == "current" or net.placement == "out" else np.square(self.problem.sigma)
        left = np.maximum(V - G**2 * (s**2 - outside), 0.0)
        if net.form == "rate":
            return M, G[:, None] * net.W, left
        return net.W @ M + drive, net.W * G, left

    def _linear(self, m: Array, s: Array) -> tuple[Array, Array]:
        """J and D."""
        net, g = self.problem.network, self.gamma
        _, slope, left = self._mean_and_slope(m, s)
        J = np.diag(1 - g) + g[:, None] * slope
        sigma2 = np.broadcast_to(np.square(self.problem.sigma), g.shape)
        if net.form == "current":
            return J, g[:, None] * ((net.W * left) @ net.W.T + np.diag(sigma2)) * g
        return J, np.diag(g**2 * (left + (sigma2 if net.placement == "out" else 0.0)))

    def _rest(self, y: float, s: Array) -> None:
        """Newton for m and c."""
        g, L, r, N = self.gamma, self.L, self.r, len(self.L)
        K = np.zeros((N + 1, N + 1))
        K[:N, N], K[N, :N] = -r, L
        for _ in range(30):
            T, slope, _ = self._mean_and_slope(self.m, s)
            miss = np.append(g * (T - self.m) - self.drift * r, L @ self.m - y)
            K[:N, :N] = g[:, None] * slope - np.diag(g)
            step = np.linalg.solve(K, -miss)
            self.m, self.drift = self.m + step[:N], float(self.drift + step[N])
            if np.abs(step[:N]).max() < 1e-10 * (1 + np.abs(self.m).max()):
                return
        raise NotReducible("the fast modes do not come to rest where the slow coordinate is held")

    def _turn(self, J: Array) -> None:
        """r and l by one step of inverse iteration at 1."""
        A = J - (1 + 1e-7) * np.eye(len(J))
        right, left = np.linalg.solve(A, self.r), np.linalg.solve(A.T, self.l)
        self.r = right / (self.L @ right)
        self.l = left / (left @ self.r)

    def _spread(self, J: Array, D: Array) -> None:
        P = np.eye(len(J)) - np.outer(self.r, self.l)
        lyapunov = Lyapunov(P @ J @ P, np.float32)
        try:
            self.C = lyapunov.solve(P @ D @ P.T, 1e-5)
        except Unstable:
            raise NotReducible("a neglected mode is unstable where the slow coordinate is held") from None
        k = len(lyapunov.powers) - 1
        size = float(np.linalg.norm(lyapunov.powers[k]))
        self.fast = 1 - size ** (0.5**k) if np.isfinite(size) else 0.0

    def _finish(self, J: Array, D: Array, crude: bool) -> None:
        l = self.l
        net, g = self.problem.network, self.gamma
        self.slow = float(1 - l @ J @ self.r)
        self.noise, self.third, self.fourth = float(l @ D @ l), 0.0, 0.0
        if crude:
            self.fast = 1.0
        if net.form == "rate" and net.placement == "in":
            a = net.W @ self.m + net.drive(self.problem.u)
            K3, K4 = neuron_cumulants(net.activation, a, np.broadcast_to(self.problem.sigma, a.shape).astype(float))[2:]
            self.third, self.fourth = float((g * l) ** 3 @ K3), float((g * l) ** 4 @ K4)


def slow_coordinate(problem: Problem, points: Array) -> tuple[Array, Array]:
    """L (N, 1) and the state it was found at.

    Raises `NotReducible` where one mode does not stand out."""
    middle = points.mean(axis=0)
    probe = _Point.__new__(_Point)
    probe.problem, probe.gamma = problem, np.broadcast_to(problem.net.gamma, (problem.net.N,))
    J, _ = probe._linear(middle, np.sqrt(input_variance(problem, np.zeros((problem.net.N,) * 2))))
    values, vectors = np.linalg.eig(J.T)
    order = np.argsort(-values.real)
    first, second = values[order[0]], values[order[1]]
    ratio = (1 - second.real) / max(abs(1 - first), 1e-12)
    if first.imag != 0:
        raise NotReducible(f"the slowest mode oscillates (eigenvalue {first:.3g}): one coordinate is too few")
    if second.real >= 1:
        raise NotReducible("more than one mode is unstable half way between the attractors: no single mode is slow")
    if len(points) == 1 and ratio < 2:
        raise NotReducible(f"no single mode is slow: the rate of the next is {ratio:.2g} times that of the slowest")
    L = vectors[:, order[0]].real
    L *= np.sign(L[np.abs(L).argmax()]) / np.linalg.norm(L)
    y = np.sort(points @ L)
    if len(y) > 1 and np.diff(y).min() < 1e-3 * (y[-1] - y[0]):
        raise NotReducible("the slow coordinate does not tell all attractors apart")
    return L[:, None], middle
