"""The chain of one neuron against a finer solve: coverage and error of the mean, CPU time, over a grid of laws.

Run by hand: python tests/benchmarks/bench_chain.py

The finer solve has 1.5 times the nodes and 60 more on a box a seventh wider; errors are in deviations of the law (in
1e-6 of one step's noise where the deviation is below that), and "covered" allows it its own rounding.
"""

from __future__ import annotations

from itertools import product
from time import process_time

import numpy as np

import fpanalysis as fpa
from fpanalysis.stationary import Problem, Stationary, solve
from fpanalysis.stationary._chain_one import LEAST, Solved, collocate
from fpanalysis.stationary._one_step import REACH, Line
from fpanalysis.stationary._transition import Step

GAMMA, SIGMA, WEIGHT = (0.02, 0.2, 1.0), (0.01, 0.3, 3.0), (-5.0, -1.2, 0.0, 0.5, 0.95)
ACTIVATIONS = ("relu", "softplus", "tanh", "sigmoid", "leaky_relu", "erf")


def finer(problem: Problem, st: Stationary) -> Solved:
    line = Line(Step(problem))
    low, high = st.details["box"][:, 0] + REACH * line.tau * np.array([1.0, -1.0])
    ends = st.mean[0] + 1.15 * (np.array([low, high]) - st.mean[0])
    low, high = (limit if end == limit else far for end, far, limit in zip((low, high), ends, line.limits, strict=True))
    with np.errstate(all="ignore"):
        n = min(int(1.5 * st.details["nodes"][0]) + 60, 420)
        return collocate(line, max(low, line.limits[0]), min(high, line.limits[1]), n)


def laws(activation: str, form: str):
    kind = {"form": "current"} if form == "current" else {"placement": form}
    for gamma, sigma, w, b in product(GAMMA, SIGMA, WEIGHT, (0.5, -0.5)):
        slope = 0.25 if activation == "sigmoid" else 1.0
        if slope * w > 1 - 2 / gamma:  # beyond it the noise-free step flips
            yield fpa.Network(W=[[w]], b=[b], gamma=gamma, sigma=sigma, activation=activation, **kind)


def main() -> None:
    print("activation  form     cases  value  covered  median error  90 %    worst   median ms  90 % ms  <= 10 ms")
    for activation, form in product(ACTIVATIONS, ("in", "out", "current")):
        errors, covered, times = [], [], []
        for net in laws(activation, form):
            problem = Problem(net, np.zeros(0), net.sigma, np.zeros(1))
            begin = process_time()
            (st,) = solve([problem], "chain")
            times.append(1e3 * (process_time() - begin))
            if not st.status.ok or st.details["null_vector"] != "collocation":
                continue
            fine, unit = finer(problem, st), LEAST * np.max(net.gamma * net.sigma)
            error, unit = abs(fine.mean - st.mean[0]), max(np.sqrt(st.cov[0, 0]), unit)
            errors.append(error / unit)
            covered.append(error <= st.error[0] + fine.rounding[0])
        print(
            f"{activation:11s} {form:8s} {len(times):5d} {len(errors):6d} {100 * np.mean(covered):7.0f}% "
            f"{np.median(errors):13.1e} {np.percentile(errors, 90):8.1e} {max(errors):7.1e} "
            f"{np.median(times):10.1f} {np.percentile(times, 90):8.1f} {100 * np.mean(np.array(times) <= 10):8.0f}%"
        )


if __name__ == "__main__":
    main()
