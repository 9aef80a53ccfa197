"""What stacking and the hand-written backward pass save. Prints a markdown table:

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_training.py [SIZE,...] [BATCH,...]

CPU time per network and training step (function approximation, ReLU, noise in, T = 80, one thread), set-up left out, of

    plain      one network by the loop that a torch user writes: Linear layers, autograd, Adam
    separate   one network by `train`
    stacked    8 networks of 8 seeds by `train`
    study      16 networks of 4 seeds (two placements, two noise levels) by `train`: seeds share batches and noise

interleaved in each of several rounds, and how many times quicker the stacks are: the median of the rounds' ratios, and
their range. About two minutes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from itertools import product
from math import pi

import numpy as np
import torch
from torch import nn

from fpanalysis.models import train

TASK, SIGMA, GAMMA, T, COUNTED = "function-approximation", 0.5, 0.2, 80, 40
ROUNDS = 7
STUDY = list(product(range(4), ("in", "out"), (0.1, 0.5)))


class Plain(nn.Module):
    """h' = (1 - gamma) h + gamma relu(W h + W_in u + b + sigma xi), what enters from outside in one product."""

    def __init__(self, N: int) -> None:
        super().__init__()
        self.input, self.recurrent, self.readout = nn.Linear(1, N), nn.Linear(N, N, bias=False), nn.Linear(N, 1)

    def forward(self, u: torch.Tensor) -> torch.Tensor:
        """Outputs (COUNTED, B, 1) at the steps that count, for inputs (B, 1)."""
        drive = self.input(u) + SIGMA * torch.randn(T, len(u), self.recurrent.in_features)
        h = torch.zeros_like(drive[0])
        states = []
        for drive_t in drive.unbind():
            h = torch.lerp(h, torch.relu(self.recurrent(h) + drive_t), GAMMA)
            states.append(h)
        return self.readout(torch.stack(states[-COUNTED:]))


def plain(N: int, B: int, steps: int) -> float:
    """CPU seconds of so many steps, after one to warm up."""
    model = Plain(N)
    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    start = 0.0
    for k in range(steps + 1):
        start = time.process_time() if k == 1 else start
        u = 2 * torch.rand(B, 1) - 1
        loss = (model(u) - torch.sin(pi * u)).square().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        adam.step()
    return time.process_time() - start


def trained(N: int, B: int, steps: int, **own: object) -> float:
    """CPU seconds of so many steps of `train`, after one to warm up."""
    clock: list[float] = []
    train(TASK, size=N, batch=B, steps=steps + 1, progress=lambda *_: clock.append(time.process_time()), **own)
    return clock[-1] - clock[0]


def ways(N: int, B: int, steps: int) -> dict[str, Callable[[], float]]:
    """CPU seconds per network and step, each way."""
    seed, placement, sigma = zip(*STUDY, strict=True)
    return {
        "plain": lambda: plain(N, B, steps) / steps,
        "separate": lambda: trained(N, B, steps) / steps,
        "stacked": lambda: trained(N, B, steps, seed=range(8)) / steps / 8,
        "study": lambda: trained(N, B, steps, seed=seed, placement=placement, sigma=sigma) / steps / len(STUDY),
    }


def main(sizes: list[int], batches: list[int]) -> None:
    torch.set_num_threads(1)
    names = ("plain", "separate", "stacked", "study")
    pairs = list(product(("stacked", "study"), ("plain", "separate")))
    print("| N | batch | " + " | ".join(f"{name}, ms" for name in names), end=" | ")
    print(" | ".join(f"{slow} / {fast}" for fast, slow in pairs) + " |")
    print("|---" * (2 + len(names) + len(pairs)) + "|")
    for N, B in product(sizes, batches):
        steps = max(2, round(8 * (64 / N) ** 1.5 * (32 / B) ** 0.5))
        rounds = [{name: way() for name, way in ways(N, B, steps).items()} for _ in range(ROUNDS)]
        cells = [f"{1e3 * np.median([each[name] for each in rounds]):.2f}" for name in names]
        for fast, slow in pairs:
            gain = np.array([each[slow] / each[fast] for each in rounds])
            cells.append(f"{np.median(gain):.1f} ({gain.min():.1f}-{gain.max():.1f})")
        print(f"| {N} | {B} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    lists = [[int(word) for word in text.split(",")] for text in sys.argv[1:]]
    main(*(lists + [[64, 128, 256], [32, 128]][len(lists) :]))
