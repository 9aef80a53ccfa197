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
import re
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))

import problems
from fixed_point_cases import (
    EFFORT,
    NETWORKS,
    SAME,
    Case,
    cliques,
    digraph,
    families,
    flip_flops,
    gru,
    large,
    low_rank,
    match,
    proven,
    states,
    task_states,
)

import fpanalysis as fpa
from fpanalysis.fixed_points.certificate import certify
from fpanalysis.fixed_points.proof import prove
from fpanalysis.fixed_points.search import Search
from fpanalysis.system import System

Array = NDArray[np.float64]

SEEDS = 20
LOOSE = 0.01  #: a point of the rival is genuine within this share of the largest |h*|
STARTS = 1024  #: of the rival
REPEATS = 3
SLOW = 10  #: ratios of CPU times below this are looked into


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
        missing = [o.share < 1 for o in outcomes]
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
    truth, outcomes = case.truth, []
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
        "flip-flop, tanh, trained at N = 256": large(options.large),
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
    yield from flip_flops(file)


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
        own[re.sub(r"<(?:built-in )?method '?([\w.]+).*", r"\1", name)] += cpu
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
