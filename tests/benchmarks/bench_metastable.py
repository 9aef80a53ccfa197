"""Rare hops of one bistable neuron: the law of nonnegative weights against two methods that share nothing with it.

    h' = 0.9 h + 0.1 tanh(2 h + 0.05 + sigma xi)

Forward flux sampling (Allen, Frenkel & ten Wolde, J. Chem. Phys. 124, 024102, 2006) simulates both exchange rates,
k_AB = flux out of A times the product of the probabilities to reach each next interface before A, and with them the
weights, w_A k_AB = w_B k_BA, and the gap, k_AB + k_BA. Below sigma = 0.55 the hops from the heavier side are carried by
so few trajectories that its samples are skewed: most repetitions are low, and so is the weight. There the check is
the mean by Chebyshev collocation of the backward operator in multiprecision arithmetic, which fixes the weight.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_metastable.py [sigma ...]
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time

import mpmath
import numpy as np

import fpanalysis as fpa
from fpanalysis.stationary import Problem
from fpanalysis.stationary._positive import positive_law

W, B, GAMMA = 2.0, 0.05, 0.1
END = -0.75  #: what gets below has changed sides
GROUPS, TRIALS = 8, 100_000  #: independent repetitions, trajectories per interface in each


def step(h, sigma, rng):
    return (1 - GAMMA) * h + GAMMA * np.tanh(W * h + B + sigma * rng.standard_normal(h.shape))


def fire(h, level, core, sigma, rng):
    """From h (n,) run down to `level`, or back up to the core.

    Returns the lowest point of each trajectory (n,) and the states of those that got below `level`.
    """
    lowest, ends, active = h.copy(), np.full(len(h), np.nan), np.arange(len(h))
    x = h.copy()
    while len(active):
        x = step(x, sigma, rng)
        lowest[active] = np.minimum(lowest[active], x)
        through = x < level
        ends[active[through]] = x[through]
        going = ~through & (x < core)
        active, x = active[going], x[going]
    return lowest, ends[~np.isnan(ends)]


def exits(core, sigma, rng, n=2000, steps=2000):
    """How often per step a chain on the upper side leaves the core, and the states in which it does."""
    h, inside, left = np.full(n, 0.95), np.ones(n, bool), []
    for t in range(steps):
        h = step(h, sigma, rng)
        if t >= 300:
            left.append(h[inside & (h < core)])
        h[h < END] = 0.95
        inside = h >= core
    left = np.concatenate(left)
    return len(left) / (n * (steps - 300)), left


def rate(sigma, rng, core, interfaces=None):
    """The rate of hops downwards; without interfaces they are placed so that three in ten get from one to the next."""
    k, states = exits(core, sigma, rng)
    placed = []
    while True:
        start = rng.choice(states, TRIALS)
        if interfaces is None:
            lowest, _ = fire(start, END, core, sigma, rng)
            placed.append(max(float(np.quantile(lowest, 0.3)), END))
        else:
            placed.append(interfaces[len(placed)])
        _, states = fire(start, placed[-1], core, sigma, rng)
        k *= len(states) / TRIALS
        if placed[-1] <= END:
            return k, placed


def sampled(sigma, rng):
    """Weight of the basin below and gap by sampling: value and standard error of each."""
    global B
    rates = np.empty((GROUPS, 2))
    for side in range(2):
        h = np.full(5000, 0.95)
        for _ in range(300):
            h = step(h, sigma, rng)
        core = float(np.quantile(h, 0.1))  # A is above; nine in ten states are
        _, interfaces = rate(sigma, rng, core)
        rates[:, side] = [rate(sigma, rng, core, interfaces)[0] for _ in range(GROUPS)]
        B = -B  # h -> -h
    down, up = rates.T
    weight, gap = down.mean() / (down.mean() + up.mean()), down + up
    relative = np.hypot(down.std(ddof=1) / down.mean(), up.std(ddof=1) / up.mean()) / np.sqrt(GROUPS)
    return weight, relative * weight * (1 - weight), gap.mean(), gap.std(ddof=1) / np.sqrt(GROUPS)


def multiprecision_mean(sigma, n, digits=50):
    """E h from p (R - T) = 0, R_ik = E[T_k(h') | x_i], T_ik = T_k(x_i), at n Chebyshev nodes of [-1, 1]."""
    with mpmath.workdps(digits):
        mpf = mpmath.mpf
        gamma, w, b, sigma = mpf(1) / 10, mpf(2), mpf(5) / 100, mpf(str(sigma))
        x = np.array([mpmath.cos(mpmath.pi * (2 * i + 1) / (2 * n)) for i in range(n)])
        h = mpf(1) / 5  # trapezoid: e^(-2 pi^2 / h^2) and, from the poles of tanh, e^(-pi^2 / (sigma h)) are lost
        xi = np.array([h * k for k in range(-75, 76)])
        omega = np.array([mpmath.exp(-(v**2) / 2) for v in xi])
        omega = omega / omega.sum()
        after = np.array([[(1 - gamma) * a + gamma * mpmath.tanh(w * a + b + sigma * v) for v in xi] for a in x])
        A = mpmath.matrix(n, n)
        (z0, z1), (t0, t1) = (after * 0 + 1, after), (x * 0 + 1, x)
        for k in range(n):
            column = (z0 * omega).sum(axis=1) - t0 if k else t0
            for i in range(n):
                A[k, i] = column[i]
            z0, z1, t0, t1 = z1, 2 * after * z1 - z0, t1, 2 * x * t1 - t0
        p = mpmath.lu_solve(A, mpmath.matrix([1] + [0] * (n - 1)))
        return sum(p[i] * x[i] for i in range(n))


def main():
    print("| sigma | mean | weight below | by sampling | gap | by sampling | multiprecision mean | CPU s |")
    print("|---|---|---|---|---|---|---|---|")
    for sigma in [float(value) for value in sys.argv[1:]] or [0.5, 0.6, 0.8]:
        net = fpa.Network(W=[[W]], b=[B], gamma=GAMMA, activation="tanh", sigma=sigma)
        before = time.process_time()
        law = positive_law(Problem(net, np.zeros(0), sigma, np.zeros(1)), np.array([[-1.0], [1.0]]))
        seconds = time.process_time() - before
        basin = law.basins[0]
        weight, weight_se, gap, gap_se = sampled(sigma, np.random.default_rng(1))
        exact, finer = (multiprecision_mean(sigma, n) for n in (96, 112))
        print(
            f"| {sigma:g} | {law.mean[0]:.9f} ± {law.error[0]:.0e} | {basin.weight:.5e} ± {basin.weight_error:.0e} "
            f"| {weight:.3e} ± {weight_se:.1e} | {law.gap:.5e} | {gap:.3e} ± {gap_se:.1e} "
            f"| {mpmath.nstr(finer, 12)} ± {float(abs(finer - exact)):.0e} | {seconds:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
