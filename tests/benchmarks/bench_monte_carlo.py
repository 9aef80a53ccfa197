"""Time and accuracy of a Monte Carlo sweep: 11 inputs x 11 noise levels, N = 64, gamma = 0.2.

Prints a markdown table of CPU times, all threads together. The bound is the time of the matrix products and the normals
alone, for the same steps and stacks, measured in the same run.

    python tests/benchmarks/bench_monte_carlo.py [activation ...]
"""

from __future__ import annotations

import sys
import time
from functools import partial

import numpy as np
import torch

from fpanalysis.fixed_points import settle
from fpanalysis.network import Network
from fpanalysis.stationary import _stacks, monte_carlo
from fpanalysis.stationary._result import Problem


def sweep(activation: str, N: int = 64) -> list[Problem]:
    g = np.random.default_rng(0)
    W, b = 0.9 * g.normal(size=(N, N)) / np.sqrt(N), 0.2 + 0.3 * g.normal(size=N)
    W_in, W_out = g.normal(size=(N, 1)), g.normal(size=(1, N)) / np.sqrt(N)
    net = Network(W=W, b=b, W_in=W_in, W_out=W_out, gamma=0.2, activation=activation)
    problems = []
    for u in np.linspace(-1, 1, 11)[:, None]:
        start = settle(net, np.zeros((1, N)), u)[0][0]
        problems += [Problem(net, u, float(sigma), start) for sigma in np.linspace(0, 0.5, 11)]
    return problems


@torch.no_grad()
def products_and_normals(stack, steps: int) -> None:
    """What no step can do without: the product for both signs and the linear chain, and the normals of a pair."""
    N, pairs = stack.jobs[0].problem.net.N, stack.pairs
    h, WT, xi = torch.rand(len(stack.jobs) * 3 * pairs, N), torch.rand(N, N), torch.empty(pairs, N)
    x = torch.empty_like(h)
    for _ in range(steps):
        xi.normal_()
        torch.mm(h, WT, out=x)


def bound(problems: list[Problem], **settings) -> float:
    settings = dict.fromkeys(("chains", "steps", "burn_in", "precision")) | {"control": True} | settings
    times = monte_carlo._relaxation_times(problems)
    jobs = [monte_carlo._job(problem, tau, settings) for problem, tau in zip(problems, times, strict=True)]
    tasks = []
    for stack in _stacks._stacks(jobs):
        plan = stack.jobs[0].plan
        tasks.append(partial(products_and_normals, stack, plan.burn_in + plan.steps))
    began = time.process_time()
    _stacks.in_parallel(tasks, work=0)
    return time.process_time() - began


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
    main(sys.argv[1:] or ["relu", "softplus", "tanh"])
