"""The search for fixed points, the proofs and the certificates: what they find and cost. Prints the tables of
docs/benchmarks.md.

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_fixed_points.py [PART ...] [--rival FOLDER]

Parts: recall, proofs, certificates (without any: these three) and rival, which needs FOLDER, a checkout of
FixedPointFinder (github.com/mattgolub/fixed-point-finder), whose search it runs on the same networks. The flip-flop
network of 256 neurons is trained (40 s) unless --large names a checkpoint; there it is kept. Times are CPU times of
one thread.
"""

from __future__ import annotations

import os

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")

import argparse
import contextlib
import cProfile
import importlib
import io
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
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
from fpanalysis.fixed_points.certificate import certify
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.fixed_points.proof import prove
from fpanalysis.fixed_points.search import Search, seeds
from fpanalysis.models import train
from fpanalysis.system import System
from fpanalysis.tasks import get_task

Array = NDArray[np.float64]

NETWORKS = Path(__file__).parents[2] / "examples" / "networks"
SEEDS = 20
SAME = 1e-6  #: two points closer than this, relative to 1 + max|h|, are one: the proofs' points are not polished
EFFORT = 100  #: of a proof that is asked for
LOOSE = 0.01  #: a point of the rival is genuine within this share of the largest |h*|
STARTS, NOISE = 1024, 0.5  #: of the rival: states on trajectories, displaced by this
REPEATS = 3
SLOW = 10  #: ratios of CPU times below this are looked into


@dataclass(frozen=True, eq=False)
class Case:
    """A network, its fixed points `truth` (K, N), and where they are known from; `module` is `net` in torch."""

    name: str
    net: System
    truth: Array
    source: str
    module: nn.Module | None = None


# ---------------------------------------------------------------------------------------------- networks


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
    """No proof reaches it: the points that plain Newton finds from states of the task are a lower bound."""
    states = task_states(net, 64_000 // net.N, np.random.default_rng(1))
    h, residual = newton(net, states, np.zeros(net.n_in))
    return Case(name, net, union(h[residual <= bound(h)]), "Newton, 27 expected", module)


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
    yield "flip-flop, tanh, N = 64", [flip_flop("flip-flop tanh 64", fpa.load(NETWORKS / "flip_flop_tanh.pt"))]
    yield "flip-flop, tanh, N = 256", [flip_flop("flip-flop tanh 256", large(file))]
    yield "flip-flop, GRU, N = 64", [flip_flop("flip-flop GRU 64", *gru())]


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


def seconds(action: Callable[[], object]) -> float:
    start = time.process_time()
    action()
    return time.process_time() - start


# ------------------------------------------------------------------------------------------------ recall


def recall(options: argparse.Namespace) -> None:
    """`SEEDS` searches of every network."""
    print(
        "| family | networks | points | source | worst recall | complete runs | spurious | residual | certified "
        "| stated | consistent, points missing | CPU s, median (max) |"
    )
    print("|" + "---|" * 12)
    for family, cases in families(options.large):
        outcomes = [outcome for case in cases for outcome in _runs(case)]
        missing = [case.share < 1 for case in outcomes]
        wrong = sum(o.stated == "consistent" and o.share < 1 for o in outcomes)
        counts = sorted({o.points for o in outcomes})
        stated = ", ".join(f"{word} {count}" for word, count in Counter(o.stated for o in outcomes).items())
        times = [o.seconds for o in outcomes]
        print(
            f"| {family} | {len(cases)} | {counts[0]}{f'-{counts[-1]}' if len(counts) > 1 else ''} | {cases[0].source} "
            f"| {100 * min(o.share for o in outcomes):.1f} % | {len(outcomes) - sum(missing)} of {len(outcomes)} "
            f"| {sum(o.spurious for o in outcomes)} | {max(o.residual for o in outcomes):.1e} "
            f"| {100 * np.mean([o.certified for o in outcomes]):.1f} % | {stated} | {wrong} "
            f"| {statistics.median(times):.2f} ({max(times):.2f}) |",
            flush=True,
        )


@dataclass(frozen=True)
class Outcome:
    """One search held against the truth."""

    points: int
    share: float
    spurious: int
    residual: float
    certified: float
    stated: str
    seconds: float


def _runs(case: Case) -> list[Outcome]:
    found, times = [], []
    for seed in range(SEEDS):
        start = time.process_time()
        found.append(fpa.find_fixed_points(case.net, rng=seed, prove=False))
        times.append(time.process_time() - start)
    truth = case.truth
    if case.source not in ("proof", "formula", "all supports"):  # certified points are genuine: the truth is at least
        truth = union(np.vstack([truth, *(fps.h[fps.certified] for fps in found)]))
    outcomes = []
    for seed, (fps, cpu) in enumerate(zip(found, times, strict=True)):
        got, spurious = match(fps.h, truth, SAME * (1 + np.abs(truth).max()))
        if got < len(truth) or spurious:
            print(f"FAILED: {case.name}, rng={seed}: {got} of {len(truth)}, {spurious} spurious, {fps}", flush=True)
        residual = float((fps.residual / (1 + np.abs(fps.h).max(axis=1))).max())
        certified = float(fps.certified.mean())
        outcomes.append(Outcome(len(truth), got / len(truth), spurious, residual, certified, fps.completeness, cpu))
    return outcomes


# ------------------------------------------------------------------------------------------------ proofs


def proofs(options: argparse.Namespace) -> None:
    """The exhaustive searches alone."""
    nets = {f"tanh, rank {r}, N = {N}, seed {s}": low_rank(N, r, s) for N, r in ((64, 3), (128, 4)) for s in range(3)}
    nets["tanh, rank 5, N = 64, seed 0"] = low_rank(64, 5, 0)
    nets["Hopfield, 4 patterns, N = 64"] = problems.hopfield_network(4)
    nets["tanh, dense, N = 8"] = _dense(8)
    for N in (32, 40):
        for seed in range(3):
            W, c = problems.digraph_network(N, seed)
            nets[f"ReLU, digraph, N = {N}, seed {seed}"] = fpa.Network(W=W, b=c)
        W, c = problems.gaussian_relu(N, 1.5, 1)
        nets[f"ReLU, Gaussian, N = {N}"] = fpa.Network(W=W, b=c)
    for sizes in ((8,) * 4, (5,) * 8, (16,) * 4):
        case = cliques(*sizes)
        nets[f"ReLU, {len(sizes)} cliques, N = {case.net.N}"] = case.net
    W, c = problems.digraph_network(64, 0)
    nets["ReLU, digraph, N = 64"] = fpa.Network(W=W, b=c)
    print("| network | points | boxes or nodes | complete | CPU s |")
    print("|---|---|---|---|---|")
    for name, net in nets.items():
        start = time.process_time()
        proof = prove(net, np.zeros(net.n_in), EFFORT)
        cpu = time.process_time() - start
        assert proof is not None
        said = "yes" if proof.complete else f"no, {100 * proof.covered:.4g} % covered: {proof.why}"
        print(f"| {name} | {len(proof.h)} | {proof.nodes} | {said} | {cpu:.2f} |", flush=True)


def _dense(N: int) -> fpa.Network:
    g = np.random.default_rng(N)
    W, b = 2 * g.standard_normal((N, N)) / np.sqrt(N), 0.1 * g.standard_normal(N)
    return fpa.Network(W=W, b=b, activation="tanh")


# ------------------------------------------------------------------------------------------ certificates


def certificates(options: argparse.Namespace) -> None:
    """Certificates of all points of a network at once, beside the inverses of as many matrices."""
    nets: dict[str, System] = {
        "flip-flop, tanh": fpa.load(NETWORKS / "flip_flop_tanh.pt"),
        "Hopfield, tanh": problems.hopfield_network(4),
        "cliques, ReLU": cliques(*(8,) * 8).net,
        "flip-flop, GRU": gru()[0],
        "flip-flop, tanh, large": large(options.large),
        "rank 4, tanh": low_rank(256, 4, 0),
        "4 cliques, ReLU": cliques(*(64,) * 4).net,
    }
    print("| network | N | points | certified | ms per point, median of 7 (range) | inverse alone, ms |")
    print("|---|---|---|---|---|---|")
    for name, net in nets.items():
        u = np.zeros(net.n_in)
        h = fpa.find_fixed_points(net, prove=False).h
        A = np.eye(net.N) - net.target_jacobian(h, u)
        times, bare = [], []
        for _ in range(7):
            times.append(1e3 * seconds(lambda net=net, h=h, u=u: certify(net, h, u)) / len(h))
            bare.append(1e3 * seconds(lambda A=A: np.linalg.inv(A)) / len(h))
        share = f"{certify(net, h, u).certified.sum()} of {len(h)}"
        print(
            f"| {name} | {net.N} | {len(h)} | {share} | {statistics.median(times):.2f} "
            f"({min(times):.2f}-{max(times):.2f}) | {statistics.median(bare):.2f} |",
            flush=True,
        )


# ------------------------------------------------------------------------------------------------- rival


def rival(options: argparse.Namespace) -> None:
    """FixedPointFinder on its defaults and this search, in turn, from `REPEATS` seeds."""
    sys.path.insert(0, str(options.rival))
    finder = importlib.import_module("FixedPointFinderTorch").FixedPointFinderTorch
    torch.set_num_threads(1)
    for step in (_theirs, _ours):  # what the first call of each costs, once
        step(finder, proven("warm-up", _dense(4)), 0)
    print("| network | points | found here | CPU s | theirs | genuine | spurious | CPU s | ratio |")
    print("|" + "---|" * 9)
    close = []
    for case in _contest(options.large):
        runs = [(_ours(finder, case, seed), _theirs(finder, case, seed)) for seed in range(REPEATS)]
        ours, theirs = ([run[i] for run in runs] for i in (0, 1))
        ratio = statistics.median(b[-1] / a[-1] for a, b in runs)
        columns = [_span([run[i] for run in side]) for side, i in ((ours, 0), (theirs, 0), (theirs, 1), (theirs, 2))]
        cpu = [f"{statistics.median(run[-1] for run in side):.2f}" for side in (ours, theirs)]
        print(
            f"| {case.name} | {len(case.truth)} | {columns[0]} | {cpu[0]} | {columns[1]} | {columns[2]} "
            f"| {columns[3]} | {cpu[1]} | {ratio:.1f} |",
            flush=True,
        )
        if ratio < SLOW:
            close.append((case, [run[1] for run in theirs], [run[-1] for run in theirs]))
    print("\n| network | their genuine points | as many here after, CPU s | ratio | where the time here goes |")
    print("|---|---|---|---|---|")
    for case, genuine, cpu in close:
        until = [_until(case, seed, count) for seed, count in enumerate(genuine)]
        ratio = statistics.median(b / max(a, 1e-3) for a, b in zip(until, cpu, strict=True))
        print(
            f"| {case.name} | {_span(genuine)} | {statistics.median(until):.3f} | {ratio:.0f} | {_profile(case)} |",
            flush=True,
        )


def _contest(file: Path) -> Iterator[Case]:
    """A few networks of every family."""
    yield from (cliques(*sizes) for sizes in ((8,) * 4, (16,) * 4, (10,) * 6, (8,) * 8))
    yield from (digraph(12, 1), digraph(14, 0))
    yield from (proven(f"Hopfield, {m} patterns", problems.hopfield_network(m)) for m in range(1, 5))
    yield from (proven(f"tanh, rank {r}, N = {N}", low_rank(N, r, 0)) for r in (3, 4) for N in (64, 128))
    yield proven("winner-take-all", problems.winner_take_all())
    *_, (_, tanh64), (_, tanh256), (_, cell) = families(file)
    yield from (*tanh64, *tanh256, *cell)


def _ours(finder: type, case: Case, seed: int) -> tuple[int, int, int, float]:
    """Points, genuine ones, spurious ones, CPU seconds."""
    start = time.process_time()
    h = fpa.find_fixed_points(case.net, rng=seed, prove=False).h
    cpu = time.process_time() - start
    return len(h), *match(h, case.truth, LOOSE * np.abs(case.truth).max()), cpu


def _theirs(finder: type, case: Case, seed: int) -> tuple[int, int, int, float]:
    net, rng = case.net, np.random.default_rng(seed)
    starts = (task_states if net.n_in else states)(net, STARTS, rng).astype(np.float32)
    module = case.module or _Module(net)
    module.batch_first = True
    search = finder(module, verbose=False, do_compute_jacobians=False, do_decompose_jacobians=False, random_seed=seed)
    inputs = np.zeros((1, max(1, net.n_in)), np.float32)
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        h = search.find_fixed_points(starts, inputs)[0].xstar
    cpu = time.process_time() - start
    return len(h), *match(h.astype(float), case.truth, LOOSE * np.abs(case.truth).max()), cpu


class _Module(nn.Module):
    """h' = f(W h + W_in u + b) in float32 with the calls of nn.RNN; without gamma, which would only slow it down."""

    def __init__(self, net: fpa.Network) -> None:
        super().__init__()
        W_in = np.zeros((net.N, 1)) if net.W_in is None else net.W_in
        self.W, self.W_in, self.b = (nn.Parameter(torch.tensor(a).float()) for a in (net.W, W_in, net.b))
        self.f = net.activation.torch

    def forward(self, u: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = self.f(h[0] @ self.W.T + u[:, 0] @ self.W_in.T + self.b)
        return h[:, None], h[None]


class _Clocked(Search):
    """A search that keeps the CPU time and the points it had after every round."""

    def __init__(self, net: System, seed: int) -> None:
        self.start, self.log = time.process_time(), []
        super().__init__(net, np.zeros(net.n_in), np.random.default_rng(seed))

    def include(self, h: Array) -> int:
        new = super().include(h)
        self.log.append((time.process_time() - self.start, len(self.points)))
        return new


def _until(case: Case, seed: int, count: int) -> float:
    """CPU seconds until the search has `count` points."""
    search = _Clocked(case.net, seed)
    search.run()
    return next(cpu for cpu, points in search.log if points >= count)


def _profile(case: Case) -> str:
    """The functions in which a search spends most of its CPU time."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(fpa.find_fixed_points, case.net, prove=False)
    profile.create_stats()
    own = Counter()
    for (_, _, name), (_, _, cpu, _, _) in profile.stats.items():
        own[name.replace("<built-in method ", "").strip("<>").removeprefix("numpy.")] += cpu
    total = sum(own.values())
    return ", ".join(f"{name} {100 * cpu / total:.0f} %" for name, cpu in own.most_common(5))


def _span(values: list[int]) -> str:
    return str(min(values)) if min(values) == max(values) else f"{min(values)}-{max(values)}"


if __name__ == "__main__":
    parts = {part.__name__: part for part in (recall, proofs, certificates, rival)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    parser.add_argument("--rival", type=Path, metavar="FOLDER", help="a checkout of FixedPointFinder")
    parser.add_argument("--large", type=Path, metavar="FILE", help="checkpoint of the flip-flop network of 256 neurons")
    options = parser.parse_args()
    chosen = options.parts or ["recall", "proofs", "certificates", *(["rival"] if options.rival else [])]
    if unknown := set(chosen) - set(parts):
        parser.error(f"no part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    if "rival" in chosen and options.rival is None:
        parser.error("the part rival needs --rival FOLDER")
    with tempfile.TemporaryDirectory() as folder:
        options.large = options.large or Path(folder) / "flip_flop_tanh_256.pt"
        for part in chosen:
            parts[part](options)
            print()
