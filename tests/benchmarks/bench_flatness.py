"""What flatness costs, and how sure its trace is. Prints two markdown tables:

    OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 python tests/benchmarks/bench_flatness.py [SIZE,...]

Cost: CPU seconds on one thread of one gradient by automatic differentiation and of one product with the Hessian, for 32
trials of 64 steps of a random tanh network (gain 1, gamma 0.2), without noise; and of `flatness` as it is called by
default (96 products for the basis, 32 probes).

Error: a network of 26 neurons, 756 weights, trained here for a moment, so that a few directions dominate as they do in
trained networks; its exact Hessian against the trace at the same number of products by plain probes (Hutchinson) and by
the Krylov basis with probes outside it: root mean square error over 20 seeds, relative to |H|_F, and how often the
stated half-width holds the exact trace.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

import fpanalysis as fpa
from fpanalysis.models import flatness
from fpanalysis.models._krylov import basis, remaining, two_way
from fpanalysis.models._landscape import Landscape

TRIALS, STEPS = 32, 64


def network(N: int) -> fpa.Network:
    rng = np.random.default_rng(0)
    return fpa.Network(
        W=rng.standard_normal((N, N)) / np.sqrt(N),
        b=np.zeros(N),
        W_in=rng.standard_normal((N, 1)),
        W_out=rng.standard_normal((1, N)) / np.sqrt(N),
        b_out=np.zeros(1),
        activation="tanh",
        gamma=0.2,
    )


def batch() -> tuple[np.ndarray, ...]:
    """Constant inputs, whose sine is wanted at the last half of the steps."""
    u = np.random.default_rng(1).uniform(-1, 1, (1, TRIALS, 1))
    mask = np.zeros((STEPS, TRIALS))
    mask[STEPS // 2 :] = 1
    return np.repeat(u, STEPS, 0), np.repeat(np.sin(np.pi * u), STEPS, 0), mask


def seconds(call, times=3):
    found = []
    for _ in range(times):
        start = time.process_time()
        call()
        found.append(time.process_time() - start)
    return min(found)


def cost(sizes: list[int]) -> None:
    print("| N | weights | gradient: ms | product: ms | product / gradient | flatness: s |")
    print("|---|---|---|---|---|---|")
    for N in sizes:
        net, data = network(N), batch()
        land = Landscape(net, data)

        def gradient(land=land):
            losses = land._losses(land.model, None)
            torch.autograd.grad(losses.sum(), list(land.model.parameters()))

        one = seconds(gradient)
        land.differentiate()
        product = seconds(lambda land=land: land.product(np.ones(land.P)))
        whole = seconds(lambda net=net, data=data: flatness(net, data), 1)
        print(f"| {N} | {land.P} | {1e3 * one:.0f} | {1e3 * product:.0f} | {product / one:.1f} | {whole:.1f} |")


def trained() -> fpa.Network:
    """By 200 steps of Adam on all weights."""
    land = Landscape(network(26), batch())
    parameters = list(land.model.parameters())
    adam = torch.optim.Adam(parameters, 0.01)
    for _ in range(200):
        adam.zero_grad()
        land._losses(land.model, None).sum().backward()
        adam.step()
    return land.model.to_network(0)


def errors() -> None:
    land = Landscape(trained(), batch())
    H = np.stack([land.product(e)[0] for e in np.eye(land.P)])
    size, product = np.linalg.norm(H), lambda v: (H @ v)[None]
    eigenvalues = np.linalg.eigvalsh(H)
    print(f"\nloss {land.values(np.zeros((1, land.P)))[0, 0]:.4f}, trace {np.trace(H):.4g}, |H|_F {size:.4g}, largest")
    print(f"eigenvalues {', '.join(f'{x:.3g}' for x in eigenvalues[::-1][:5])}, lowest {eigenvalues[0]:.3g}\n")
    print("| products | basis | probes | error / norm(H) | plain probes | gain | stated half-width holds |")
    print("|---|---|---|---|---|---|---|")
    for m, probes in ((20, 12), (40, 12), (48, 16), (96, 32)):
        off, plain, held = [], [], 0
        for seed in range(20):
            rng = np.random.default_rng(seed)
            found = basis(product, land.P, 1, m, rng) if m < land.P else None
            assert found is not None
            rest, _ = remaining(product, found, np.ones((1, land.P)), probes, rng)
            value, error = two_way((found.known.sum(1))[None, :, None] + rest)
            off.append(value[0] - np.trace(H))
            held += abs(off[-1]) <= error[0]
            V = rng.choice([-1.0, 1.0], (land.P, m + probes))
            plain.append(np.mean(np.sum(V * (H @ V), axis=0)) - np.trace(H))
        ours, theirs = (np.sqrt(np.mean(np.square(part))) / size for part in (off, plain))
        print(f"| {m + probes} | {m} | {probes} | {ours:.2g} | {theirs:.2g} | {theirs / ours:.1f} | {held} of 20 |")


if __name__ == "__main__":
    cost([int(word) for word in sys.argv[1].split(",")] if len(sys.argv) > 1 else [16, 64, 128])
    errors()
