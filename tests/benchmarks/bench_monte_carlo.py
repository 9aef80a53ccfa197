"""Time and accuracy of a Monte Carlo sweep: 11 inputs x 11 noise levels, N = 64, gamma = 0.2; and of the steps alone of
one problem, N = 256, 1024 chains, gamma = 0.1, float32.

Prints markdown tables of CPU times, all threads together. The bound is the time of the matrix products and the normals
alone, for the same steps and stacks, measured in the same run; the product of the linear chain is part of it where that
chain runs.

    python tests/benchmarks/bench_monte_carlo.py [activation ...]
    python tests/benchmarks/bench_monte_carlo.py steps [activation ...]
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np
import torch

from fpanalysis.fixed_points import settle
from fpanalysis.network import Network
from fpanalysis.stationary import _simulate, _stacks, monte_carlo
from fpanalysis.stationary._histogram import axes
from fpanalysis.stationary._linear_chain import linear_chain
from fpanalysis.stationary._result import Problem
from fpanalysis.stationary._sample import Plan


def network(activation: str, N: int, gamma: float) -> Network:
    g = np.random.default_rng(0)
    W, b = 0.9 * g.normal(size=(N, N)) / np.sqrt(N), 0.2 + 0.3 * g.normal(size=N)
    W_in, W_out = g.normal(size=(N, 1)), g.normal(size=(1, N)) / np.sqrt(N)
    return Network(W=W, b=b, W_in=W_in, W_out=W_out, gamma=gamma, activation=activation)


def sweep(activation: str, N: int = 64) -> list[Problem]:
    net, problems = network(activation, N, gamma=0.2), []
    for u in np.linspace(-1, 1, 11)[:, None]:
        start = settle(net, np.zeros((1, N)), u)[0][0]
        problems += [Problem(net, u, float(sigma), start) for sigma in np.linspace(0, 0.5, 11)]
    return problems


@torch.no_grad()
def products_and_normals(copies: int, pairs: int, N: int, steps: int) -> None:
    """What no step can do without: the product for both signs and the linear chain, and the normals of a pair."""
    h, WT, xi = torch.rand(copies * pairs, N), torch.rand(N, N), torch.empty(pairs, N)
    x = torch.empty_like(h)
    for _ in range(steps):
        xi.normal_()
        torch.mm(h, WT, out=x)


def bound(problems: list[Problem], **settings) -> float:
    settings = (
        dict.fromkeys(("chains", "steps", "burn_in", "precision")) | {"control": True, "starts": "one"} | settings
    )
    times = monte_carlo._relaxation_times(problems)
    kept = axes(problems[0].net, None)
    jobs = [monte_carlo._job(problem, tau, settings, kept) for problem, tau in zip(problems, times, strict=True)]
    tasks, N = [], problems[0].net.N
    for stack in _stacks._stacks(jobs):
        plan = stack.jobs[0].plan
        copies = 2 if stack.jobs[0].linear is None else 3
        tasks.append(partial(products_and_normals, len(stack.jobs) * copies, stack.pairs, N, plan.burn_in + plan.steps))
    began = time.process_time()
    _stacks.in_parallel(tasks, work=0)
    return time.process_time() - began


def cpu(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@torch.no_grad()
def activation_alone(f_, pairs: int, N: int, steps: int) -> None:
    x = torch.randn(2 * pairs, N)
    for _ in range(steps):
        f_(x)


def steps_alone(activations: list[str], N: int = 256, repeats: int = 6) -> None:
    """One block of pairs at a time, as `_stacks` deals them out; the best of alternating repeats of step and bound."""
    pairs = _stacks.BLOCK // N
    print("| activation | linear chain | step, us | bound, us | bound / step | f alone, us | (bound + f) / step |")
    print("|---|---|---|---|---|---|---|")
    for activation in activations:
        net = network(activation, N, gamma=0.1)
        u = np.zeros(1)
        problem = Problem(net, u, 0.5, settle(net, np.zeros((1, N)), u)[0][0])
        plan = Plan(burn_in=0, batches=5, length=100, thin=5, cov_thin=50)
        total = plan.burn_in + plan.steps
        for linear in (None, [linear_chain(problem)]):
            copies = 2 + (linear is not None)
            work = (
                partial(_simulate.simulate, net, [problem], linear, axes(net, None), plan, pairs, 1, torch.float32),
                partial(products_and_normals, copies, pairs, N, total),
                partial(activation_alone, _simulate._in_place(net), pairs, N, total),
            )
            taken = [[cpu(part) for part in work] for _ in range(repeats)]
            step, least, f = np.min(taken, axis=0) / total * 1e6
            row = f"| {activation} | {'yes' if linear else 'no'} | {step:.0f} | {least:.0f} | {least / step:.2f} "
            print(row + f"| {f:.0f} | {(least + f) / step:.2f} |", flush=True)


def main(activations: list[str]) -> None:
    import arviz_stats.base  # noqa: F401  its import is not part of the sweep

    print(f"{torch.get_num_threads()} threads\n")
    print(
        "| activation | CPU seconds | bound | bound / seconds | not ok | in double | SE / shift | variance reduction |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for activation in activations:
        problems = sweep(activation)
        began = time.process_time()
        results = monte_carlo.solve(problems, 0)
        seconds = time.process_time() - began
        least = bound([problem for problem in problems if problem.sigma])
        noisy = [r for p, r in zip(problems, results, strict=True) if p.sigma]
        relative = [np.linalg.norm(r.details["standard_error"]) / np.linalg.norm(r.mean - r.start) for r in noisy]
        gain = np.median(np.reshape([r.details["variance_reduction"] for r in noisy], (11, 10)), axis=0)
        relative = np.median(np.reshape(relative, (11, 10)), axis=0)
        bad = sum(not r.status.ok for r in results)
        double = sum(r.details["precision"] == "double" for r in noisy)
        print(
            f"| {activation} | {seconds:.1f} | {least:.1f} | {least / seconds:.2f} | {bad} | {double} "
            f"| {relative.min():.1e} to {relative.max():.1e} | {gain[0]:.0e} to {gain[-1]:.0e} |"
        )


if __name__ == "__main__":
    alone = sys.argv[1:2] == ["steps"]
    (steps_alone if alone else main)(sys.argv[1 + alone :] or ["relu", "softplus", "tanh"])
