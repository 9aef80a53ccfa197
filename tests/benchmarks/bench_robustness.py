"""What margins and perturbations of a batch cost, and how close what is proven comes to what is found. Prints a table:

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_robustness.py [SIZE,...]

CPU seconds on one thread for 32 trials of a random classifier of ten classes (gain 0.9): 8 inputs at each of 8 steps
(gamma 0.5), and one at each of 64 (gamma 0.2); tanh and ReLU. `found` with four starts; `proven` is what it adds;
`noise` is white noise at five levels, eight draws. Ratios are medians over trials.
"""

from __future__ import annotations

import sys
import time

import numpy as np

import fpanalysis as fpa

TRIALS, CLASSES = 32, 10


def problem(N: int, T: int, activation: str) -> tuple[fpa.Network, tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(0)
    n_in = 64 // T
    net = fpa.Network(
        W=0.9 * rng.standard_normal((N, N)) / np.sqrt(N),
        b=0.1 * rng.standard_normal(N),
        W_in=rng.standard_normal((N, n_in)) / np.sqrt(n_in),
        W_out=rng.standard_normal((CLASSES, N)) / np.sqrt(N),
        activation=activation,
        gamma=0.5 if T == 8 else 0.2,
    )
    inputs = rng.random((T, TRIALS, n_in))
    h = np.zeros((TRIALS, N))
    for u in inputs:
        h = net.step(h, u)
    targets = np.repeat(np.eye(CLASSES)[net.output(h).argmax(axis=1)][None], T, axis=0)
    mask = np.repeat((np.arange(T) == T - 1)[:, None].astype(float), TRIALS, axis=1)
    return net, (inputs, targets, mask)


def row(N: int, T: int, activation: str) -> str:
    net, batch = problem(N, T, activation)
    times = [time.process_time()]
    fpa.margins(net, batch, proven=False)
    times.append(time.process_time())
    m = fpa.margins(net, batch)
    times.append(time.process_time())
    fpa.perturbed(net, batch, "white")
    times.append(time.process_time())
    found, both, noise = np.diff(times)
    ratios = f"{np.median(m.local / m.found):.3f} | {np.median(m.proven / m.found):.3f}"
    return f"| {N} | {T} | {activation} | {found:.2f} | {both - found:.2f} | {noise:.2f} | {ratios} |"


def main(sizes: list[int]) -> None:
    print("| N | steps | activation | found: s | proven: s | noise: s | local / found | proven / found |")
    print("|---|---|---|---|---|---|---|---|")
    row(8, 8, "tanh")  # imports
    for N in sizes:
        for T in (8, 64):
            for activation in ("tanh", "relu"):
                print(row(N, T, activation), flush=True)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1].split(",")] if len(sys.argv) > 1 else [32, 64])
