"""What training with noise leaves, and what stacking saves. Prints two markdown tables:

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_training.py

Function approximation, ReLU, N = 64: over four seeds, R = loss with the noise removed / loss at the training
noise, and the test noise of least loss and of least bias^2 (all 12 networks trained in one stack); then CPU time
per network and training step of 8 networks stacked and one by one, interleaved in the same run on one thread.
About three minutes.
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
M, ROUNDS, STEPS = 8, 5, 10


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
        print(
            f"| {where} | {level} | {number} | {noisy:.2e} | {loss[0]:.2e} | {loss[0] / noisy:.2f} "
            f"| {test.preferred[m]:.2f} | {test.curves[m].preferred_bias2:.2f} |"
        )


def stacked_against_separate() -> None:
    """CPU time per network and step, M networks together against one by one."""
    spent: dict[str, list[float]] = {"stacked": [], "separate": []}
    train(TASK, steps=STEPS)
    for _ in range(ROUNDS):
        start = time.process_time()
        train(TASK, seed=range(M), steps=STEPS)
        middle = time.process_time()
        for seed in range(M):
            train(TASK, seed=seed, steps=STEPS)
        spent["stacked"].append(middle - start)
        spent["separate"].append(time.process_time() - middle)
    each = {how: np.array(times) / (M * STEPS) * 1e3 for how, times in spent.items()}
    ratio = each["stacked"] / each["separate"]
    print(f"\n| N = 64, batch 32, T = 80, M = {M} | CPU ms per network and step, median of {ROUNDS} (range) |")
    print("|---|---|")
    for how, times in each.items():
        print(f"| {how} | {np.median(times):.2f} ({times.min():.2f}-{times.max():.2f}) |")
    print(f"| ratio | {np.median(ratio):.2f} ({ratio.min():.2f}-{ratio.max():.2f}) |")


if __name__ == "__main__":
    noise_preference()
    stacked_against_separate()
