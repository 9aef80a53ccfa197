"""Time and sharpness of exponents and certificates: python tests/benchmarks/bench_stability.py

CPU seconds on one thread; random tanh networks, gamma = 0.1. The last table counts, over 20 networks of each gain, how
many contract by each norm, and how many violate a certificate (there must be none).
"""

import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

import fpanalysis as fpa


def network(N, gain, seed=0, **settings):
    W = np.random.default_rng(seed).standard_normal((N, N)) * gain / np.sqrt(N)
    return fpa.Network(**{"W": W, "activation": "tanh", "gamma": 0.1} | settings)


def timed(call):
    start = time.process_time()
    return call(), time.process_time() - start


def cost():
    print("  N  top exponent          s   all exponents: sum      s   best rate   certificates s")
    for N in (16, 64, 256):
        net = network(N, 2.0)
        top, top_s = timed(lambda net=net: fpa.lyapunov(net, k=1))
        every, every_s = timed(lambda net=net: fpa.lyapunov(net)) if N < 256 else (None, float("nan"))
        proof, proof_s = timed(lambda net=net: fpa.contraction_certificates(net))
        text = f"{every.total:.3f} ± {every.total_error:.3f}" if every else "-"
        head = f"{N:3}  {top.top:.4f} ± {top.top_error:.4f}  {top_s:5.2f}   {text:>18}  {every_s:5.2f}"
        print(f"{head}   {proof.best.rate:.4f}      {proof_s:.2f}")


def coverage(runs=60):
    """Share of runs whose 95 % interval holds the exponent of a run 40 times as long."""
    for gain, sigma in ((1.5, 0.5), (3.0, 0.0)):
        net = network(16, gain, 5, gamma=0.3, sigma=sigma)
        long = fpa.lyapunov(net, k=1, steps=40_000, rng=999)
        found = [fpa.lyapunov(net, k=1, steps=1000, rng=seed) for seed in range(runs)]
        held = np.mean([abs(f.top - long.top) <= np.hypot(f.top_error, long.top_error) for f in found])
        top = f"{long.top:.5f} ± {long.top_error:.5f}"
        print(f"coverage, gain {gain}, sigma {sigma}: {held:.3f} of {runs} runs; top exponent {top}")


def sharpness(networks=20, N=32):
    print("gain  holds: infinity  1  2  |W| < 1   top exponent < 0   violations   mean rate 2-norm")
    for gain in (0.2, 0.4, 0.6, 0.7, 0.8, 1.0):
        held, negative, wrong, rates = np.zeros(4, int), 0, 0, []
        for seed in range(networks):
            net = network(N, gain, seed, sigma=0.5)
            proof = fpa.contraction_certificates(net)
            held += [*(c.holds for c in proof.certificates), fpa.exponent_bounds(net).holds]
            top = fpa.lyapunov(net, k=1, steps=400, chains=4)
            negative += top.top < 0
            wrong += any(top.top - top.top_error > c.exponent for c in proof.certificates)
            rates.append(proof.certificates[2].rate)
        row = "  ".join(f"{count:2}" for count in held)
        print(f"{gain:4}          {row}            {negative:2}                {wrong}         {np.mean(rates):.4f}")


if __name__ == "__main__":
    cost()
    coverage()
    sharpness()
