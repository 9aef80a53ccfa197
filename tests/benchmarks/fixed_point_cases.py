"""Networks for the benchmarks of fixed points, each with all its points as known from elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import problems

import fpanalysis as fpa
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.proof import prove
from fpanalysis.fixed_points.search import seeds
from fpanalysis.models import train
from fpanalysis.system import System
from fpanalysis.tasks import get_task

Array = NDArray[np.float64]

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
OTHER_SEEDS = range(1000, 1005)  #: of searches that are not among those judged
SAME = 1e-6  #: two points closer than this, relative to 1 + max|h|, are one: the proofs' points are not polished
EFFORT = 100  #: of a proof that is asked for
NOISE = 0.5  #: displacement of starts from trajectories, as in FixedPointFinder's example


@dataclass(frozen=True, eq=False)
class Case:
    """A network, its fixed points `truth` (K, N), and where they are known from; `module` is `net` in torch."""

    name: str
    net: System
    truth: Array
    source: str
    module: nn.Module | None = None


def cliques(*sizes: int) -> Case:
    W, c, points = problems.clique_network(sizes)
    return Case(f"cliques of {'+'.join(map(str, sizes))}", fpa.Network(W=W, b=c), points, "formula")


def digraph(N: int, seed: int) -> Case:
    W, c = problems.digraph_network(N, seed)
    return Case(f"digraph N = {N}, {seed}", fpa.Network(W=W, b=c), problems.relu_fixed_points(W, c), "all supports")


def low_rank(N: int, rank: int, seed: int) -> fpa.Network:
    return problems.low_rank_network(N, rank, gain=4.0, overlap=0.9, seed=seed)


def proven(name: str, net: fpa.Network) -> Case:
    """Its points by exhaustive search alone."""
    proof = prove(net, np.zeros(net.n_in), EFFORT)
    assert proof is not None, name
    assert proof.complete, name
    return Case(name, net, proof.h, "proof")


def flip_flop(name: str, net: System, module: nn.Module | None = None) -> Case:
    """No proof reaches it: a lower bound by plain Newton from states of the task and by searches from other seeds."""
    starts = task_states(net, 64_000 // net.N, np.random.default_rng(1))
    h, residual = newton(net, starts, np.zeros(net.n_in))
    searches = [fpa.find_fixed_points(net, rng=seed) for seed in OTHER_SEEDS]
    truth = union(np.vstack([h[residual <= bound(h)], *(fps.h[fps.certified] for fps in searches)]))
    return Case(name, net, truth, "other searches, 27 expected", module)


@cache
def gru() -> tuple[System, nn.GRU]:
    module = nn.GRU(3, 64)
    module.load_state_dict(torch.load(NETWORKS / "flip_flop_gru.pt", weights_only=True)["rnn"])
    return fpa.models.from_torch(module), module


@cache
def large(file: Path) -> fpa.Network:
    if not file.exists():
        fpa.save(train(get_task("flip-flop"), seed=0, size=256).network(), file)
    return fpa.load(file)


def families(file: Path) -> Iterator[tuple[str, list[Case]]]:
    small = [(4, 4), (2, 3, 4), (3, 5, 7, 9), (8,) * 5, (4,) * 8, (8,) * 8, (16,) * 4, (32,) * 2, (10,) * 6]
    yield "clique unions, ReLU, N <= 64", [cliques(*sizes) for sizes in small]
    yield "random digraphs, ReLU, N <= 14", [digraph(N, seed) for N in (8, 10, 12, 14) for seed in range(5)]
    yield "Hopfield, 1-4 patterns, N = 64", [proven(f"Hopfield {m}", problems.hopfield_network(m)) for m in range(1, 5)]
    for rank in (3, 4):
        nets = {(N, seed): low_rank(N, rank, seed) for N in (64, 128) for seed in range(4)}
        yield f"tanh, rank {rank}, N = 64, 128", [proven(f"rank {rank}, {key}", net) for key, net in nets.items()]
    weights = ((0.9, 0.5), (0.5, 1.5), (1.5, 1.0), (4.0, 2.0))
    yield (
        "winner-take-all, softplus, N = 6",
        [proven(f"winner-take-all {e}, {i}", problems.winner_take_all(excitation=e, inhibition=i)) for e, i in weights],
    )
    for case in flip_flops(file):
        yield case.name, [case]


def flip_flops(file: Path) -> Iterator[Case]:
    yield flip_flop("flip-flop, tanh, N = 64", fpa.load(NETWORKS / "flip_flop_tanh.pt"))
    yield flip_flop("flip-flop, tanh, N = 256", large(file))
    yield flip_flop("flip-flop, GRU, N = 64", *gru())


def task_states(net: System, count: int, rng: np.random.Generator) -> Array:
    """States on noise-free trajectories of the flip-flop task, displaced at random by `NOISE`."""
    inputs = get_task("flip-flop").batch(64, rng)[0].astype(float)
    return displaced(trajectories(net, np.zeros((64, net.N)), inputs), count, rng)


def states(net: System, count: int, rng: np.random.Generator) -> Array:
    """The same for a network without a task: trajectories from random states."""
    start = seeds.random_states(net, np.zeros(net.n_in), rng, 64)
    return displaced(trajectories(net, start, np.zeros((60, net.n_in))), count, rng)


def trajectories(net: System, h: Array, inputs: Array) -> Array:
    """All states that the `inputs`, one a step, lead to from `h`."""
    visited = []
    for u in inputs:
        h = net.step(h, u)
        visited.append(h)
    return np.concatenate(visited)


def displaced(h: Array, count: int, rng: np.random.Generator) -> Array:
    return h[rng.integers(len(h), size=count)] + NOISE * rng.standard_normal((count, h.shape[1]))


def union(h: Array) -> Array:
    """The rows of `h`, each once."""
    kept: list[Array] = []
    for row in h:
        if all(np.abs(row - other).max() > SAME * (1 + np.abs(row).max()) for other in kept):
            kept.append(row)
    return np.array(kept).reshape(-1, h.shape[1])


def match(h: Array, truth: Array, tolerance: float) -> tuple[int, int]:
    """How many rows of `truth` have a row of `h` within the tolerance; how many rows of `h` have no row of `truth`."""
    if not len(h) or not len(truth):
        return 0, len(h)
    apart = np.array([np.abs(truth - row).max(axis=1) for row in h])
    return int((apart.min(axis=0) <= tolerance).sum()), int((apart.min(axis=1) > tolerance).sum())
