"""How good the single-neuron formulas are: python tests/benchmarks/bench_regulator.py [neurons]

First the grid that the formula must serve, ReLU with noise in and out at a fixed stationary mean: largest distance from
the exact chain, in units of what is allowed (2 % of the shift, or 1e-4 sigma where the shift is smaller than that), for
the formula and for the Gaussian balance alone. Then random neurons, gamma up to 1, w up to 1 and down to the flip:
how often the stated errors of mean and variance cover the exact chain, and how much larger than needed they are.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from fpanalysis.regulator import Regulator

WEIGHTS = np.linspace(-3, 0.5, 15)
RATIOS = np.geomspace(0.2, 3, 10)
GAMMAS = (0.02, 0.05, 0.1, 0.2)
SEED = 11  #: of neurons other than those that the errors were calibrated on


def grid(placement: str) -> None:
    rows = []
    for gamma in GAMMAS:
        for w in WEIGHTS:
            for ratio in RATIOS:
                one = Regulator.at_target(1.0, w=w, gamma=gamma, sigma=ratio, placement=placement)
                law = one.exact()
                exact, exact_error = law.mean[0], law.error[0]
                allowed = max(0.02 * abs(exact - one.h0), 1e-4 * ratio)
                off = abs(one.mean() - exact)
                plain = abs(one.gaussian()[0] - exact)
                rows.append((off / allowed, plain / allowed, off <= one.error() + exact_error + 1e-14))
    worst, plain, covered = np.array(rows, float).T
    print(
        f"noise {placement}, grid of {len(rows)}: {worst.max():.3f} of what is allowed (balance alone: "
        f"{plain.max():.3f}), errors cover {covered.mean():.1%}"
    )


def random_neuron(rng: np.random.Generator, activation: str, placement: str) -> Regulator:
    gamma = 1.0 if rng.random() < 0.15 else float(np.exp(rng.uniform(np.log(0.01), 0)))
    near = 1 - float(np.exp(rng.uniform(np.log(0.002), 0)))
    w = float(rng.choice([rng.uniform(-3, 0.5), near, max(1 - 2 / gamma, -60) * near, rng.uniform(-3, 0.9)]))
    sigma = float(np.exp(rng.uniform(np.log(0.05), np.log(3))))
    b = float(rng.normal()) * (sigma + (activation != "relu")) * (3 if rng.random() < 0.3 else 1)
    return Regulator(w=w, b=b, gamma=gamma, sigma=sigma, activation=activation, placement=placement)


def coverage(activation: str, placement: str, count: int) -> None:
    rng = np.random.default_rng(SEED)
    rows, none, seconds = [], 0, 0.0
    for _ in range(count):
        one = random_neuron(rng, activation, placement)
        exact = one.exact()
        start = time.process_time()
        answered = one.status.ok
        seconds += time.process_time() - start
        if not exact.status.ok:
            continue
        if not answered:
            none += 1
            continue
        off, spread = abs(one.mean() - exact.mean[0]), abs(one.variance() - exact.cov[0, 0])
        rows.append(
            (
                off <= one.error() + exact.error[0],
                spread <= one.variance_error() + 1e-14,
                one.error() / (off + 1e-14),
                one.error() / exact.cov[0, 0] ** 0.5,
            )
        )
    mean, variance, ratio, size = np.array(rows, float).T
    print(
        f"{activation:9s}{placement:4s} n = {len(rows)} ({none} without an answer): errors cover {mean.mean():.1%} "
        f"(mean), {variance.mean():.1%} (variance); stated / true error {np.median(ratio):.1f} (median); stated error "
        f"in deviations {np.median(size):.1e} (median), {np.quantile(size, 0.95):.1e} (95 %); "
        f"{1e3 * seconds / count:.1f} ms"
    )


if __name__ == "__main__":
    for placement in ("in", "out"):
        grid(placement)
    for activation in ("relu", "softplus", "tanh"):
        for placement in ("in", "out"):
            coverage(activation, placement, int(sys.argv[1]) if len(sys.argv) > 1 else 300)
