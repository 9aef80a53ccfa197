"""What training with noise leaves. Prints a markdown table:

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_trained_noise.py

Function approximation, ReLU, N = 64: over four seeds, R = loss with the noise removed / loss at the training
noise, and the test noise of least loss and of least bias^2 (all 12 networks trained in one stack). About two minutes.
"""

from __future__ import annotations

import time
from itertools import product

import numpy as np

from fpanalysis.models import evaluate, train

TASK = "function-approximation"
SEEDS = range(4)
GROUPS = (("in", 0.3), ("in", 0.5), ("out", 0.5))
SIGMA = np.arange(0, 1.0001, 0.05)


def noise_preference() -> None:
    """Loss against test noise for every group and seed."""
    members = [(*group, seed) for group, seed in product(GROUPS, SEEDS)]
    placement, sigma, seed = zip(*members, strict=True)
    start = time.process_time()
    networks = train(TASK, placement=placement, sigma=sigma, seed=seed).networks
    spent = time.process_time() - start
    test = evaluate(networks, TASK, SIGMA, inputs=128, trials=32)
    print(f"{len(members)} networks in one stack: {spent:.0f} s of CPU time\n")
    print("| noise | training sigma | seed | loss | noise removed | R | least loss at | least bias^2 at |")
    print("|---|---|---|---|---|---|---|---|")
    for m, (where, level, number) in enumerate(members):
        loss = test.loss[m]
        noisy = loss[np.argmin(np.abs(SIGMA - level))]
        least = SIGMA[test.bias2[m].argmin()]
        print(
            f"| {where} | {level} | {number} | {noisy:.2e} | {loss[0]:.2e} | {loss[0] / noisy:.2f} "
            f"| {test.preferred[m]:.2f} | {least:.2f} |"
        )


if __name__ == "__main__":
    noise_preference()
