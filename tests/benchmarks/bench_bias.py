"""What the noise gain says of trained networks, who carries their bias, and the accuracy of the halves. Prints the
tables of docs/benchmarks.md.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_bias.py [CHECKPOINT ...]
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
from pathlib import Path

import mpmath as mp
import numpy as np

import fpanalysis as fpa

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
F = {
    "relu": lambda x: max(x, mp.mpf(0)),
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "tanh": mp.tanh,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "erf": mp.erf,
}


def networks(paths: list[Path]) -> None:
    """Noise gain (of at most), bias, its direct share, carriers of 90 %, how far the shares are from their sum."""
    print("| network | noise gain | at most | bias (rms) | direct | carriers | sum of shares - 1 | status | CPU s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for path in paths:
        net = fpa.load(path)
        start = time.process_time()
        bias = fpa.network_bias(net)
        took = time.process_time() - start
        points = bias.points
        print(
            f"| {path.stem} | {points.mean_gain:.3f} | {points.most_gain:.2f} | {bias.rms:.3g} "
            f"| {100 * bias.direct.sum():.1f} % | {len(bias.carriers())} of {net.N} | {bias.shares.sum() - 1:.0e} "
            f"| {bias.status.value} | {took:.2f} |",
            flush=True,
        )


def halves() -> None:
    """Largest relative error of up and down against mpmath with 80 digits, 1e-3 <= s <= 100, |a| up to 20."""
    mp.mp.dps = 80
    print("\n| activation | worst relative error | at (a, s, side) |\n|---|---|---|")
    for name in F:
        worst = (0.0, ())
        for s in (1e-3, 0.1, 1.0, 100.0):
            for a in (0.5 * s, -3 * s, -2.0, 20.0):
                at = fpa.attenuation(name, a, s)
                for side, value in ((1, float(at.up)), (-1, float(at.down))):
                    exact = _half(name, a, s, side)
                    if abs(exact) > 1e-60:  # below that mpmath stops early
                        worst = max(worst, (float(abs(value / exact - 1)), (a, s, side)))
        print(f"| {name} | {worst[0]:.0e} | {worst[1]} |", flush=True)


def _half(name: str, a: float, s: float, side: int) -> mp.mpf:
    f, a, s = F[name], mp.mpf(a), mp.mpf(s)
    kink = -side * a / s
    reach = min(max(kink, mp.mpf(0)), 30) + 12
    steps = [mp.mpf(k) / u for k in (0, 0.1, 0.3, 1, 3, 10, 30) for u in (s, max(kink, 1))]
    cuts = {at for step in steps for at in (kink - step, kink + step, step) if 0 < at < reach}
    cuts |= {mp.mpf(k) for k in range(int(reach) + 1)} | {reach}
    integral = mp.quad(
        lambda t: (f(a + side * s * t) - f(a)) * mp.exp(-t * t / 2), sorted(cuts), method="gauss-legendre", maxdegree=5
    )
    return integral / mp.sqrt(2 * mp.pi)


if __name__ == "__main__":
    networks([Path(name) for name in sys.argv[1:]] or sorted(NETWORKS.glob("*-*.pt")))
    start = time.process_time()
    rng = np.random.default_rng(0)
    fpa.attenuation("softplus", rng.standard_normal((11, 64)), rng.uniform(0.1, 1, (11, 64)))
    print(f"\nThe halves of 704 operating points: {time.process_time() - start:.2f} s of CPU")
    if not sys.argv[1:]:
        halves()
