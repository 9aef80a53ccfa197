"""The closure against Monte Carlo, and what it costs. Prints the tables of docs/benchmarks.md.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_closure.py
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dataclasses
import statistics
import sys
import time
from itertools import product
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from chains import exact_moments

import fpanalysis as fpa
from fpanalysis.stationary import Problem, locate, solve

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
T_QUANTILE = 1.96


def accuracy() -> None:
    """At the training noise, every condition and stable fixed point: |closure - Monte Carlo|, the part of it that
    4 standard errors do not explain, and the same for the plain closure, without its third-cumulant correction."""
    print("| network | worst gap / shift | beyond 4 SE | plain closure, beyond 4 SE | covered by the stated errors |")
    print("|---|---|---|---|---|")
    nets = {path.stem: fpa.load(path) for path in sorted(NETWORKS.glob("*-*.pt"))}
    for activation in ("tanh", "relu"):
        nets[f"random, current form, {activation}, N = 48, sigma 1.5"] = random_network(
            48, activation, gain=0.9, form="current", sigma=1.5
        )
    for name, net in nets.items():
        print(f"| {name} | {' | '.join(_compare(net))} |", flush=True)


def _compare(net: fpa.Network) -> list[str]:
    inputs = net.conditions if net.conditions is not None else np.zeros((1, net.n_in))
    problems = []
    for u in inputs:
        points = fpa.find_fixed_points(net, u)
        problems += [Problem(net, u, net.sigma, h) for h in points.h[points.stable]]
    exact, close = (solve(problems, name, 1) for name in ("monte-carlo", "closure"))
    gap, beyond, plain, covered = [], [], [], []
    for mc, st in zip(exact, close, strict=True):
        assert mc.status.ok, (mc.status, mc.details)
        assert st.status.ok, st.status
        shift = np.abs(mc.mean - mc.start).max()
        se = mc.error / T_QUANTILE
        difference = np.abs(st.mean - mc.mean)
        gap.append(difference.max() / shift)
        beyond.append(np.maximum(difference - 4 * se, 0).max() / shift)
        plain.append(np.maximum(np.abs(st.mean - st.details["correction"] - mc.mean) - 4 * se, 0).max() / shift)
        covered.append(difference <= np.hypot(st.error, mc.error))
    share = 100 * np.mean(np.concatenate(covered))
    return [f"{100 * max(gap):.2f} %", f"{100 * max(beyond):.3f} %", f"{100 * max(plain):.3f} %", f"{share:.1f} %"]


def random_network(N: int, activation: str, gain: float = 1.0, seed: int = 1, **kwargs) -> fpa.Network:
    rng = np.random.default_rng(seed)
    W, b = gain * rng.standard_normal((N, N)) / np.sqrt(N), 0.5 * rng.standard_normal(N)
    return fpa.Network(**({"W": W, "b": b, "gamma": 0.1, "sigma": 1.0, "activation": activation} | kwargs))


def referee() -> None:
    """Random networks against Monte Carlo with its linear chain, run to a standard error of 0.006 % of the largest
    shift: gaps over all neurons, in % of that shift."""
    print("| N | activation | sigma | networks | gap, rms | gap, largest | SE, rms | SE, largest |")
    print("|---|---|---|---|---|---|---|---|")
    sigmas = (0.1, 0.3, 0.5, 1.0)
    for N, activation in product((64, 256), ("softplus", "relu")):
        rows = []
        for gain, seed in product((0.8, 1.0), (1, 2) if N == 64 else (1,)):
            net = random_network(N, activation, gain=gain, seed=seed)
            problem = locate(net, np.zeros(0), 1.0, np.zeros(N))
            levels = [dataclasses.replace(problem, sigma=sigma) for sigma in sigmas]
            exact = solve(levels, "monte-carlo", 1, relative_error=6e-5)
            rows.append([_gaps(mc, st) for mc, st in zip(exact, solve(levels, "closure"), strict=True)])
        for sigma, found in zip(sigmas, zip(*rows, strict=True), strict=True):
            gap, se = (np.concatenate(part) for part in zip(*found, strict=True))
            columns = (np.sqrt(np.mean(gap**2)), gap.max(), np.sqrt(np.mean(se**2)), se.max())
            values = " | ".join(f"{100 * value:.4f}" for value in columns)
            print(f"| {N} | {activation} | {sigma} | {len(found)} | {values} |", flush=True)


def _gaps(mc, st) -> tuple[np.ndarray, np.ndarray]:
    assert mc.status.ok, mc
    assert st.status.ok, st
    shift = np.abs(mc.mean - mc.start).max()
    return np.abs(st.mean - mc.mean) / shift, mc.details["standard_error"] / shift


def calibration() -> None:
    """Against exact one-neuron chains: what the correction gains and how well the stated error covers the rest."""
    print("| activation | chains | covered | error / miss, median | plain miss / miss, median |")
    print("|---|---|---|---|---|")
    total = []
    for activation in ("relu", "softplus", "tanh"):
        rows = [row for net in _one_neuron(activation) if (row := _judge(net)) is not None]
        total += rows
        _print_calibration(activation, rows)
    _print_calibration("all", total)


def _one_neuron(activation: str):
    for placement, w, gamma, sigma in product(("in", "out"), (-3.0, -1.0, 0.5, 0.8), (0.1, 0.5, 1.0), (0.3, 1.0)):
        yield fpa.Network(W=[[w]], b=[0.2], gamma=gamma, sigma=sigma, activation=activation, placement=placement)


def _judge(net: fpa.Network) -> tuple[bool, float, float] | None:
    st = fpa.stationary(net, method="closure")
    if not st.status.ok:
        return None
    exact, _, uncertain = exact_moments(net)
    miss = abs(exact - st.mean[0])
    if uncertain > 0.1 * miss:
        return None
    plain = abs(exact - st.mean[0] + st.details["correction"][0])
    return bool(miss <= st.error[0]), st.error[0] / miss, plain / miss


def _print_calibration(name: str, rows: list[tuple[bool, float, float]]) -> None:
    covered, over, gain = (np.array(column) for column in zip(*rows, strict=True))
    print(f"| {name} | {len(rows)} | {100 * covered.mean():.1f} % | {np.median(over):.0f} | {np.median(gain):.1f} |")


def cost() -> None:
    """One solve and an 11-level sweep from 0 to 1, on one thread: medians of interleaved repeats, sweep over single."""
    print("| N | activation | noise | one solve, s | 11 levels, s | 11 levels / one | one product W W, ms |")
    print("|---|---|---|---|---|---|---|")
    for N in (64, 256, 512):
        for activation in ("softplus", "relu", "tanh"):
            for kind in ("in", "out", "current"):
                where = {"form": "current"} if kind == "current" else {"placement": kind}
                net = random_network(N, activation, gain=0.8, **where)
                problem = locate(net, np.zeros(0), 1.0, np.zeros(N))
                sweep = [dataclasses.replace(problem, sigma=level) for level in np.linspace(0, 1, 11)]
                times: dict[str, list[float]] = {"one": [], "all": [], "product": []}
                for _ in range(5 if N < 512 else 3):
                    times["one"].append(_seconds(lambda p=problem: solve([p], "closure")))
                    times["all"].append(_seconds(lambda s=sweep: solve(s, "closure")))
                    times["product"].append(_seconds(lambda W=net.W: W @ W))
                one, many, product = (statistics.median(values) for values in times.values())
                ratio = statistics.median(b / a for a, b in zip(times["one"], times["all"], strict=True))
                print(f"| {N} | {activation} | {kind} | {one:.3f} | {many:.3f} | {ratio:.1f} | {1e3 * product:.2f} |")


def _seconds(action) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


if __name__ == "__main__":
    accuracy()
    print()
    referee()
    print()
    calibration()
    print()
    cost()
