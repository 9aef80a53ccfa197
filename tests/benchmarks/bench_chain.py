"""Sweep of the chain: stated error in standard deviations and CPU time over gamma, sigma, w, activation and placement.

Run by hand: python tests/benchmarks/bench_chain.py
"""

from itertools import product
from time import process_time

import numpy as np

import fpanalysis as fpa
from fpanalysis.stationary import Problem, solve

GAMMA, SIGMA, WEIGHT = (0.02, 0.2, 1.0), (0.01, 0.3, 3.0), (-5.0, -1.2, 0.0, 0.5, 0.95)


def main() -> None:
    print("activation placement   cases  ok  median error/sd  worst  median ms  90 % ms")
    for activation, placement in product(("relu", "softplus", "tanh"), ("in", "out")):
        errors, times, cases = [], [], 0
        for gamma, sigma, w, b in product(GAMMA, SIGMA, WEIGHT, (0.5, -0.5)):
            net = fpa.Network(
                W=[[w]], b=[b], gamma=gamma, sigma=sigma, activation=activation, placement=placement
            )  # fmt: skip
            problem = Problem(net, np.zeros(0), sigma, np.zeros(1))
            begin = process_time()
            (st,) = solve([problem], "chain")
            times.append(1e3 * (process_time() - begin))
            cases += 1
            if st.status.ok and st.cov[0, 0] > 0:
                errors.append(st.error[0] / np.sqrt(st.cov[0, 0]))
        row = f"{np.median(errors):15.1e} {max(errors):7.1e} {np.median(times):9.1f} {np.percentile(times, 90):8.1f}"
        print(f"{activation:10s} {placement:9s} {cases:6d} {len(errors):4d} {row}")


if __name__ == "__main__":
    main()
