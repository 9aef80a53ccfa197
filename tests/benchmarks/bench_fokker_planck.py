"""The Fokker-Planck method: accuracy against verified digits and finer grids, and what it costs. Prints tables.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_fokker_planck.py
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from problems import TWO_NEURONS
from test_fokker_planck import ONE_NEURON, neuron

import fpanalysis as fpa
from fpanalysis.stationary import locate, solve

METHOD = "fokker-planck"
CASES = 300


def timed(net: fpa.Network, **settings) -> tuple[fpa.Stationary, float]:
    """The law, and the CPU time in ms of a second call, without the search for the start."""
    problem = locate(net, np.zeros(0), net.sigma, np.zeros(net.N))
    solve([problem], METHOD, **settings)
    begin = time.process_time()
    st = solve([problem], METHOD, **settings)[0]
    return st, 1e3 * (time.process_time() - begin)


def one_neuron() -> None:
    print("| one neuron | mean, off by | variance, off by | ms | ms with the chain |")
    print("|---|---|---|---|---|")
    for activation, placement, w, b, sigma, gamma, mean, var in ONE_NEURON:
        net = neuron(activation, placement, w, b, sigma, gamma)
        st, ms = timed(net, compare=False)
        print(
            f"| {activation}, noise {placement} | {abs(st.mean[0] - mean):.0e} | {abs(st.cov[0, 0] - var):.0e} | "
            f"{ms:.1f} | {timed(net)[1]:.1f} |"
        )


def ranges(rng: np.random.Generator) -> None:
    """Random neurons, gamma 0.02 to 1, sigma 0.01 to 3, w from -5 to 0.95 (4 where f is bounded), b from -2 to 2."""
    numerical, times, failed = [], [], 0
    for _ in range(CASES):
        activation = str(rng.choice(["relu", "softplus", "tanh", "sigmoid", "erf", "leaky_relu"]))
        w = rng.uniform(-5, 4 if activation in ("tanh", "sigmoid", "erf") else 0.95)
        gamma, sigma = 10 ** rng.uniform(np.log10(0.02), 0), 10 ** rng.uniform(-2, np.log10(3))
        net = neuron(activation, str(rng.choice(["in", "out"])), w, rng.uniform(-2, 2), sigma, gamma)
        st, ms = timed(net, compare=False)
        times.append(ms)
        failed += not st.status.ok
        if st.status.ok:
            numerical.append(st.details["numerical_error"][0] / (1 + abs(st.mean[0])))
    low, high = np.percentile(times, [50, 95])
    print(
        f"\n{CASES} random neurons: {failed} without a value; stated numerical error of the mean, median "
        f"{np.median(numerical):.0e}, largest {np.max(numerical):.0e}; CPU ms median {low:.1f}, 95 % {high:.1f}, "
        f"largest {np.max(times):.0f}\n"
    )


def few_neurons() -> None:
    W = np.array([[0.5, -1.0, -0.8], [-0.9, 0.4, -1.0], [-0.8, -0.7, 0.3]])
    b = np.array([1.0, 0.9, 0.8])
    nets = {
        "2, softplus, verified digits": TWO_NEURONS,
        "2, tanh, bistable": fpa.Network(
            W=[[2, 0], [0, -1.2]], b=[0.05, 0.7], gamma=0.15, activation="tanh", sigma=0.8
        ),
        "2, relu, noise out": fpa.Network(
            W=[[0.4, -0.5], [0.5, 0.3]], b=[0.1, 0.2], gamma=0.2, placement="out", sigma=0.4
        ),
        "3, softplus": fpa.Network(W=W, b=b, gamma=0.5, activation="softplus", sigma=1.0),
        "3, relu, bistable": fpa.Network(W=W, b=b / 2, gamma=0.2, activation="relu", sigma=0.4),
    }
    print("| neurons | mean | stated numerical error | scheme, nodes | CPU s |")
    print("|---|---|---|---|---|")
    for name, net in nets.items():
        st, ms = timed(net, compare=False)
        mean = ", ".join(f"{m:.10f}" for m in st.mean)
        error = st.details["numerical_error"].max()
        print(
            f"| {name} | {mean} | {error:.0e} | {st.details['scheme']}, {st.details['resolution']} | {ms / 1e3:.2f} |"
        )


if __name__ == "__main__":
    one_neuron()
    ranges(np.random.default_rng(0))
    few_neurons()
