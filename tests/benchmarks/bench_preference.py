"""The predicted loss curve against Monte Carlo, and what trained networks prefer.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_preference.py [FOLDER]

First the example networks: bias^2 and loss at every level, closure against Monte Carlo, as gaps beyond 4 standard
errors in per cent (asked: at most 2), and the two preferred noise levels (asked: within 0.03); then the time of a curve
of 16 levels over 11 conditions, N = 64, T = 80, and of sampling it on trials of the task by stacks in float32 and by
single networks in float64. With FOLDER also the networks in it.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

import fpanalysis as fpa
from fpanalysis.cli._batch import batch_of

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
LEVELS, TRIALS, STANDARD = 11, 1000, 2.13  # a 95 % half-width of 16 blocks holds 2.13 standard errors


def main(folders: list[Path]) -> None:
    print(f"{'network':40s} {'R':>6s} {'MC':>6s} {'pref.':>6s} {'MC':>6s} {'bias2':>6s} {'MC':>6s}", end=" ")
    print(f"{'gap of bias2 / loss, %':>24s} {'raw':>12s} {'status':>10s} {'s':>5s}")
    for path in sorted(path for folder in folders for path in folder.glob("*.pt")):
        try:
            net = fpa.load(path)
        except fpa.InputError:
            continue  # another module than a Network
        compare(path.stem, net)
    timing()
    sampling()


def compare(name: str, net: fpa.Network) -> None:
    batch, h0, _ = batch_of(net)
    levels = np.linspace(0, 1.5 * np.max(net.sigma), LEVELS)
    start = time.process_time()
    curve = fpa.loss_curve(net, batch, levels, h0=h0)
    spent = time.process_time() - start
    sampled = fpa.loss_curve(net, batch, levels, "monte-carlo", h0=h0, trials=TRIALS)
    beyond, raw = [], []
    for part, error in (("bias2", "bias2_error"), ("loss", "error")):
        truth = getattr(sampled, part)[1:]
        gap = np.abs(getattr(curve, part)[1:] - truth)
        se = getattr(sampled, error)[1:] / STANDARD
        beyond.append(float((np.maximum(gap - 4 * se, 0) / truth).max()))
        raw.append(float((gap / truth).max()))
    status = "ok" if curve.ok else "/".join(sorted({s.value for s in curve.status if not s.ok}))
    print(
        f"{name:40s} {curve.ratio:6.2f} {sampled.ratio:6.2f} {curve.preferred:6.3f} {sampled.preferred:6.3f} "
        f"{curve.preferred_bias2:6.3f} {sampled.preferred_bias2:6.3f} {100 * beyond[0]:11.2f} / {100 * beyond[1]:.2f} "
        f"{100 * raw[0]:9.1f} / {100 * raw[1]:.1f} {status:>10s} {spent:5.1f}",
        flush=True,
    )


def timing() -> None:
    print("\n16 levels x 11 conditions, N = 64, T = 80, CPU seconds (best of 3):")
    for name in ("relu-in-0.5", "relu-out-0.5", "softplus-in-1.0", "tanh-in-0.5"):
        net = fpa.load(NETWORKS / f"function-approximation-{name}.pt")
        (inputs, targets, mask), h0, _ = batch_of(net, steps=80)
        best = np.inf
        for _ in range(3):
            start = time.process_time()
            fpa.loss_curve(net, (inputs, targets, mask), h0=h0)
            best = min(best, time.process_time() - start)
        print(f"  {name:20s} {best:.2f}", flush=True)


def sampling() -> None:
    """13 levels (and one for the slope) x 32 inputs x 64 runs, N = 64, T = 80."""
    from fpanalysis.models import evaluate
    from fpanalysis.tasks import get_task

    net, task = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt"), get_task("function-approximation")
    levels, batch = np.linspace(0, 0.75, 13), task.batch(32, 0)
    ways = {
        "float64, one network": (1, lambda: fpa.loss_curve(net, batch, levels, "monte-carlo", trials=64)),
        "float32, one network": (1, lambda: evaluate(net, task, levels, inputs=32, trials=64)),
        "float32, stack of 8": (8, lambda: evaluate([net] * 8, task, levels, inputs=32, trials=64)),
    }
    print("\nsampling, CPU seconds per network (best of 3, interleaved):")
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(3):
        for name, (M, way) in ways.items():
            start = time.process_time()
            way()
            spent[name].append((time.process_time() - start) / M)
    for name, times in spent.items():
        print(f"  {name:22s} {min(times):.2f}", flush=True)


if __name__ == "__main__":
    main([NETWORKS, *map(Path, sys.argv[1:])])
