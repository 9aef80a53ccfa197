"""Losses before and after de-noising, all variants. Prints the table of docs/benchmarks.md.

OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bench_denoise.py [checkpoints ...]

Squared error at the networks' conditions, or on trials of their task where they have none: with the noise removed, with
the training noise (closure, or Monte Carlo where that is not sure of itself), and without noise after de-noising.
"distance": of the de-noised network's outputs, at its fixed points, from the noisy means: rms over conditions.
"""

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch

import fpanalysis as fpa
from fpanalysis.cli._batch import batch_of
from fpanalysis.denoise import VARIANTS, DenoiseWarning
from fpanalysis.fixed_points import settle

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"


def row(path: Path) -> str:
    net = fpa.load(path)
    batch, h0, _ = batch_of(net)
    sigma = float(np.max(net.sigma))
    with_noise = fpa.loss_curve(net, batch, [0.0, sigma], h0=h0)
    if not with_noise.ok:
        with_noise = fpa.loss_curve(net, batch, [0.0, sigma], "monte-carlo", h0=h0)
    cells = [f"{with_noise.loss[0]:.3g}", f"{with_noise.loss[1]:.3g} ({with_noise.bias2[1]:.3g})"]
    for variant in VARIANTS:
        start = time.process_time()
        clean = fpa.denoise(net, variant=variant)
        took = time.process_time() - start
        loss = fpa.loss_curve(clean, batch, [0.0], "monte-carlo", h0=h0, trials=4).loss[0]
        ratios = with_noise.loss / loss
        cells.append(f"{loss:.3g} / {ratios[0]:.3g} / {ratios[1]:.3g} / {distance(net, clean):.2g} / {took:.1f} s")
    return f"| {path.stem} | {' | '.join(cells)} |"


def distance(net: fpa.Network, clean: fpa.Network) -> float:
    gaps = []
    for u in net.conditions if net.conditions is not None else np.zeros((1, net.n_in)):
        law = fpa.stationary(net, u, method="closure")
        states, rests = settle(clean, law.mean[None], u)
        gaps.append(clean.output(states[0]) - law.output if rests[0] and law.status.ok else np.nan * law.output)
    return float(np.sqrt(np.nanmean(np.square(gaps))))


def main() -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", DenoiseWarning)
    print("variants: loss / loss removed over it / loss with noise over it / distance / CPU\n")
    print("| network | noise removed | with noise (bias^2) | " + " | ".join(VARIANTS) + " |")
    print("|---|---|---|" + "---|" * len(VARIANTS))
    for path in map(Path, sys.argv[1:]) if sys.argv[1:] else sorted(NETWORKS.glob("*-*.pt")):
        print(row(path), flush=True)


if __name__ == "__main__":
    main()
