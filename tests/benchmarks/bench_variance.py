"""Variance of the Monte Carlo mean with antithetic pairs and the linear chain against plain sampling of as many states,
both from the scatter of repeated runs with different seeds.

OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_variance.py
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import time

import numpy as np

import fpanalysis as fpa

SEEDS = 12


def network(activation: str, sigma: float, N: int = 64) -> fpa.Network:
    g = np.random.default_rng(0)
    W, b = 0.9 * g.normal(size=(N, N)) / np.sqrt(N), 0.3 * g.normal(size=N)
    return fpa.Network(W=W, b=b, sigma=sigma, gamma=0.1, activation=activation)


def plain(net: fpa.Network, start: np.ndarray, chains: int, burn_in: int, steps: int, seed: int) -> np.ndarray:
    """The mean of `chains` independent chains over `steps` steps, by the definition of the step."""
    g = np.random.default_rng(seed)
    h, total = np.tile(start, (chains, 1)), np.zeros(net.N)
    for t in range(burn_in + steps):
        h = net.step(h, xi=g.standard_normal(h.shape))
        if t >= burn_in:
            total += h.mean(axis=0)
    return total / steps


def main() -> None:
    print("| activation | sigma | variance, plain / controlled | stated by the runs | CPU, controlled / plain |")
    print("|---|---|---|---|---|")
    for activation in ("relu", "softplus", "tanh"):
        for sigma in (0.1, 0.3, 0.5, 1.0):
            net = network(activation, sigma)
            began = time.process_time()
            runs = [fpa.stationary(net, method="monte-carlo", rng=seed, density=()) for seed in range(SEEDS)]
            spent = time.process_time() - began
            d = runs[0].details
            began = time.process_time()
            size = d["chains"], d["burn_in"], d["steps"]
            crude = [plain(net, runs[0].start, *size, seed=1000 + seed) for seed in range(SEEDS)]
            ratio = spent / (time.process_time() - began)
            controlled = np.var([st.mean for st in runs], axis=0, ddof=1)
            gain = np.mean(np.var(crude, axis=0, ddof=1)) / np.mean(controlled)
            stated = np.median([st.details["variance_reduction"] for st in runs])
            print(f"| {activation} | {sigma:g} | {gain:.2g} | {stated:.2g} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
