"""What P and Q of a batch cost. Prints a markdown table:

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_regularizer.py [SIZE,...]

CPU seconds on one thread for 32 trials of 64 steps, the loss at every step, of a random network (tanh and softplus,
gain 1, gamma 0.2, noise in): P, Q and the shares of the neurons (`pairs=0`), and with 64 pairs of runs for the error.
The fastest of three.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import fpanalysis as fpa

TRIALS, STEPS = 32, 64


def problem(N: int, activation: str) -> tuple[fpa.Network, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    net = fpa.Network(
        W=rng.standard_normal((N, N)) / np.sqrt(N),
        W_in=rng.standard_normal((N, 3)),
        W_out=rng.standard_normal((2, N)) / np.sqrt(N),
        activation=activation,
        gamma=0.2,
        sigma=0.1,
    )
    inputs = rng.standard_normal((STEPS, TRIALS, 3))
    return net, (inputs, np.zeros((STEPS, TRIALS, 2)), np.ones((STEPS, TRIALS)))


def seconds(N: int, activation: str, pairs: int) -> float:
    net, batch = problem(N, activation)
    times = []
    for _ in range(3):
        start = time.process_time()
        fpa.regularizer(net, batch, pairs=pairs)
        times.append(time.process_time() - start)
    return min(times)


def main(sizes: list[int]) -> None:
    print("| N | activation | P, Q, shares: s | with 64 pairs: s |")
    print("|---|---|---|---|")
    for N in sizes:
        for activation in ("tanh", "softplus"):
            print(f"| {N} | {activation} | {seconds(N, activation, 0):.2f} | {seconds(N, activation, 64):.2f} |")


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1].split(",")] if len(sys.argv) > 1 else [16, 64, 128])
