"""Many chains of many problems of one system, stepped together: one matrix product per step for all of them.

The state is a tensor h (S, P, B, N): P problems, B antithetic pairs, N neurons; h[0] and h[1] are the two signs of
a pair and h[2], where there is one, the linear chain of `_linear_chain`, which flips its sign with the pair's.
At step t every problem sees the same standard normal xi_t (B, N), scaled by its own sigma and, in h[1], by -1.
xi_t depends on the seed, the block of pairs, N and t alone, so a problem's trajectory is the same, to rounding,
alone, in a sweep, or with another number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._histogram import Axes
from fpanalysis.stationary._linear_chain import LinearChain
from fpanalysis.stationary._record import Record
from fpanalysis.stationary._result import Problem
from fpanalysis.stationary._sample import Plan, Sample
from fpanalysis.system import System

Array = NDArray[np.float64]

BOUND = 1e5  #: a state this many times larger than everything that drives it has diverged
CHECK = 256  #: steps between two looks for divergence during burn-in, at most


class Ensemble:
    """The chains of some problems of one system, all at the same step of the same noise."""

    def __init__(
        self,
        net: System,
        problems: Sequence[Problem],
        linear: Sequence[LinearChain] | None,
        pairs: int,
        seed: int,
        dtype: torch.dtype,
        device: str,
        starts: Array | None,
    ) -> None:
        self.net, self.pairs, self.dtype, self.device = net, pairs, dtype, device
        self.noise = torch.Generator(device).manual_seed(seed)
        self.xi = torch.empty(pairs, net.N, device=device)
        self.gamma = self._tensor(net.gamma)
        self.f_ = _in_place(net)
        self.current = isinstance(net, Network) and net.form == "current"
        self.outside = isinstance(net, Network) and net.form == "rate" and net.placement == "out"
        self.inside = isinstance(net, Network) and net.form == "rate" and net.placement == "in"
        if isinstance(net, Network):
            self.WT = self._tensor(net.W.T)
        start = np.array([problem.start for problem in problems])
        self.u = np.array([problem.u for problem in problems])[:, None]
        drive = (net.drive if isinstance(net, Network) else partial(net.target, start))(self.u[:, 0])
        sigma = np.array([np.broadcast_to(problem.sigma, (net.N,)) for problem in problems])
        self.bound = BOUND * (1 + np.abs(start).max(1) + np.abs(drive).max(1) + sigma.max(1))
        if all(np.ndim(problem.sigma) == 0 for problem in problems):
            sigma = sigma[:, :1]
        zero = np.zeros_like(drive)
        copies = 2 if linear is None else 3
        self.drive = self._tensor(drive)[:, None]
        self.sigma = self._tensor(np.stack([sigma, -sigma, sigma][:copies]))[:, :, None]
        self.h = self._tensor(np.stack([start, start, zero][:copies]))[:, :, None].repeat(1, 1, pairs, 1)
        if starts is not None:
            self.h[:2] = self._tensor(starts)
        self.a = None if linear is None else self._tensor(np.array([chain.a for chain in linear]))[:, None]
        self.G = None if linear is None else self._tensor(np.array([chain.G for chain in linear]))[:, None]
        self.x = torch.empty_like(self.h)
        self.source = torch.empty_like(self.h if self.current else self.h[:0])
        self.live = torch.arange(len(problems), device=device)
        self.diverged = np.zeros(len(problems), bool)

    def _tensor(self, array: object) -> torch.Tensor:
        return torch.tensor(np.asarray(array), dtype=self.dtype, device=self.device)

    def step(self, record: Record | None = None) -> None:
        """One step of every chain, in place; `record` takes in the states it starts from."""
        xi = self.xi.normal_(generator=self.noise)
        xi = xi if self.dtype is torch.float32 else xi.to(self.dtype)
        if not isinstance(self.net, Network):
            if record:
                record.before(self.h)
                record.after(self.h[:2])
            x = torch.from_numpy(self.net.target(self.h.numpy(), self.u)).addcmul_(self.sigma, xi)
        elif self.current:
            x = self._step_current(xi, record)
        else:
            x = self._step_rate(xi, record)
        self.h.lerp_(x, self.gamma)

    def _step_rate(self, xi: torch.Tensor, record: Record | None) -> torch.Tensor:
        x = self._product(self.h)
        if not self.outside:
            x.addcmul_(self.sigma, xi)
        if record:
            record.before(self.h, x)
        self._rates(x, record)
        return x.addcmul_(self.sigma, xi) if self.outside else x

    def _step_current(self, xi: torch.Tensor, record: Record | None) -> torch.Tensor:
        if record:
            record.before(self.h, self.h)
        return self._product(self._rates(self.source.copy_(self.h), record)).addcmul_(self.sigma, xi)

    def _rates(self, x: torch.Tensor, record: Record | None) -> torch.Tensor:
        """x (S, P, B, N) becomes f(x), and G x for the linear chain."""
        rates = self.f_(x[:2])
        if record:
            record.after(rates)
        if self.G is not None:
            x[2].mul_(self.G)
        return x

    def _product(self, source: torch.Tensor) -> torch.Tensor:
        """W h plus the drive."""
        N = self.net.N
        torch.mm(source.view(-1, N), self.WT, out=self.x.view(-1, N))
        self.x[:2].add_(self.drive)
        return self.x

    def drop_diverged(self) -> torch.Tensor | None:
        """Stop the chains of problems that left their bound; None if none did, else the rows that stay."""
        size = self.h[:2].abs().amax((0, 2, 3)).double().cpu().numpy()
        live = self.live.cpu().numpy()
        fine = size < self.bound[live]  # NaN compares as False
        if fine.all():
            return None
        self.diverged[live[~fine]] = True
        stay = torch.from_numpy(np.flatnonzero(fine)).to(self.device)
        self.live, self.u = self.live[stay], self.u[np.flatnonzero(fine)]
        for name in ("h", "x", "source", "sigma"):
            setattr(self, name, getattr(self, name)[:, stay])
        self.drive = self.drive[stay]
        if self.a is not None and self.G is not None:
            self.a, self.G = self.a[stay], self.G[stay]
        return stay


def _in_place(net: System) -> Callable[[torch.Tensor], torch.Tensor]:
    """f that overwrites its argument: memory taken anew in each step costs more than the arithmetic.

    tanh as 2 / (1 + exp(-2 x)) - 1: four times faster than torch's own and right to the precision of numbers of size
    one, which is what a state of that size is rounded to anyway."""
    if not isinstance(net, Network):
        return lambda x: x
    if net.activation.name == "tanh":
        return lambda x: x.mul_(2).sigmoid_().mul_(2).sub_(1)
    if net.activation.name == "relu":
        return torch.relu_
    if net.activation.name == "softplus":  # beyond 40 the difference to x is below 1e-17
        return lambda x: torch.ops.aten.softplus.out(x, 1, 40, out=x)
    f = net.activation.torch
    return lambda x: x.copy_(f(x))


@torch.no_grad()
def simulate(
    net: System,
    problems: Sequence[Problem],
    linear: Sequence[LinearChain] | None,
    axes: Axes,
    plan: Plan,
    pairs: int,
    seed: int,
    dtype: torch.dtype,
    device: str = "cpu",
    starts: Array | None = None,
) -> list[Sample]:
    """Run `plan` for all `problems`, which share `net`, each with its linear chain or none of them; `axes` are those of
    the histograms; `starts` (P, pairs, N) is where the pairs start, if not at the problem's `start`."""
    chains = Ensemble(net, problems, linear, pairs, seed, dtype, device, starts)
    for done in range(0, plan.burn_in, CHECK):
        for _ in range(min(CHECK, plan.burn_in - done)):
            chains.step()
        chains.drop_diverged()
    record = Record(chains, plan, problems, linear, axes)
    for batch in range(plan.batches):
        for t in range(plan.length):
            chains.step(None if t % record.every else record)
        record.close(batch)
    return record.samples()
