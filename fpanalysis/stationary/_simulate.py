"""Many chains of many problems of one system, stepped together: one matrix product per step for all of them.

The state is a tensor h (P, 2, B, N): P problems, the two signs of an antithetic pair, B pairs, N neurons.
At step t every problem sees the same standard normal xi_t (B, N), scaled by its own sigma and, in the
second half of each pair, by -1. xi_t depends on the seed, B, N and t alone, so a problem's trajectory is the
same, to rounding, alone, in a sweep, or with another number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._result import Problem
from fpanalysis.system import System

Array = NDArray[np.float64]
Sampler = Callable[[torch.Tensor, torch.Tensor | None], None]

BOUND = 1e5  #: a state this many times larger than everything that drives it has diverged
CHECK = 256  #: steps between two looks for divergence during burn-in, at most


@dataclass(frozen=True)
class Plan:
    """How long to run: `burn_in` steps dropped, then `batches` of `length` steps, one state in `thin` kept
    for the mean and one in `cov_thin` for the covariance."""

    burn_in: int
    batches: int
    length: int
    thin: int
    cov_thin: int

    @property
    def steps(self) -> int:
        return self.batches * self.length


@dataclass(frozen=True)
class Samples:
    """What a run leaves of P problems, as deviations from `center` (P, N), the mean state after burn-in.

    `h` (P, 2, B, batches, N): batch means of the state of each chain; `rates` (P, B, N) the mean of f(h) over
    the run and each pair, current form only; `cov` (P, N, N) about the mean; `diverged` (P,).
    """

    center: Array
    h: torch.Tensor
    rates: Array | None
    cov: Array
    diverged: NDArray[np.bool_]


class Ensemble:
    """The chains of some problems of one system, all at the same step of the same noise."""

    def __init__(self, net: System, problems: Sequence[Problem], pairs: int, seed: int, dtype: torch.dtype) -> None:
        self.net, self.pairs, self.dtype = net, pairs, dtype
        self.noise = torch.Generator().manual_seed(seed)
        self.xi = torch.empty(pairs, net.N)
        self.gamma = self._tensor(net.gamma)
        start = np.array([problem.start for problem in problems])
        self.u = np.array([problem.u for problem in problems])[:, None, None]
        self.current = isinstance(net, Network) and net.form == "current"
        if isinstance(net, Network):
            self.WT = self._tensor(net.W.T)
        drive = (net.drive if isinstance(net, Network) else partial(net.target, start))(self.u[:, 0, 0])
        sigma = np.array([np.broadcast_to(problem.sigma, (net.N,)) for problem in problems])
        self.bound = BOUND * (1 + np.abs(start).max(1) + np.abs(drive).max(1) + sigma.max(1))
        if all(np.ndim(problem.sigma) == 0 for problem in problems):
            sigma = sigma[:, :1]
        self.drive = self._tensor(drive)[:, None, None]
        self.sigma = self._tensor(np.stack([sigma, -sigma], axis=1))[:, :, None]
        self.h = self._tensor(start)[:, None, None].repeat(1, 2, pairs, 1)
        self.x = torch.empty_like(self.h)
        self.live = torch.arange(len(problems))
        self.diverged = np.zeros(len(problems), bool)

    def _tensor(self, array: object) -> torch.Tensor:
        return torch.tensor(np.asarray(array), dtype=self.dtype)

    def step(self, sample: Sampler | None = None) -> None:
        """One step of every chain, in place; `sample(h, f(h) or None)` sees the states it starts from."""
        xi = self.xi.normal_(generator=self.noise).to(self.dtype)
        rates = self.net.activation.torch(self.h) if isinstance(self.net, Network) and self.current else None
        if sample:
            sample(self.h, rates)
        if isinstance(self.net, Network):
            x = self._pulled(self.net, self.h if rates is None else rates, xi)
        else:
            x = torch.from_numpy(self.net.target(self.h.numpy(), self.u)).addcmul_(self.sigma, xi)
        self.h.lerp_(x, self.gamma)

    def _pulled(self, net: Network, source: torch.Tensor, xi: torch.Tensor) -> torch.Tensor:
        """F of a network and the noise, from the state or, in the current form, the rates."""
        f, x = net.activation.torch, self.x
        torch.mm(source.view(-1, net.N), self.WT, out=x.view(-1, net.N))
        x.add_(self.drive)
        if net.form == "rate" and net.placement == "in":
            return f(x.addcmul_(self.sigma, xi))
        return (f(x) if net.form == "rate" else x).addcmul_(self.sigma, xi)

    def drop_diverged(self) -> torch.Tensor | None:
        """Stop the chains of problems that left their bound; None if none did, else the rows that stay."""
        size = self.h.abs().amax((1, 2, 3)).double().numpy()
        fine = size < self.bound[self.live.numpy()]  # NaN compares as False
        if fine.all():
            return None
        self.diverged[self.live.numpy()[~fine]] = True
        stay = torch.from_numpy(np.flatnonzero(fine))
        self.live, self.h, self.x = self.live[stay], self.h[stay], self.x[stay]
        self.drive, self.sigma, self.u = self.drive[stay], self.sigma[stay], self.u[stay.numpy()]
        return stay


@torch.no_grad()
def simulate(
    net: System, problems: Sequence[Problem], plan: Plan, pairs: int, seed: int, dtype: torch.dtype
) -> Samples:
    """Run `plan` for all `problems`, which share `net`."""
    chains = Ensemble(net, problems, pairs, seed, dtype)
    for done in range(0, plan.burn_in, CHECK):
        for _ in range(min(CHECK, plan.burn_in - done)):
            chains.step()
        chains.drop_diverged()
    record = _Record(chains, plan)
    for batch in range(plan.batches):
        for t in range(plan.length):
            sampled = t % plan.thin == 0
            chains.step(record.add_with_cov if t % plan.cov_thin == 0 else record.add if sampled else None)
        record.close(batch, chains)
    return record.samples(chains)


class _Record:
    """Running sums over the samples of the problems still running; float64 wherever batches are added up."""

    def __init__(self, chains: Ensemble, plan: Plan) -> None:
        P, B, N = len(chains.diverged), chains.pairs, chains.net.N
        self.plan, self.size = plan, (P, N)
        self.center = chains.h.mean((1, 2), keepdim=True, dtype=torch.float64).to(chains.dtype)
        self.h = torch.zeros(P, 2, B, plan.batches, N, dtype=chains.dtype)
        self.rates = torch.zeros(P, B, N, dtype=torch.float64) if chains.current else None
        self.live = chains.live
        self.sum_h = torch.zeros_like(chains.h)
        self.sum_rates = None if self.rates is None else torch.zeros_like(chains.h)
        self.sum_hh = torch.zeros(len(self.live), N, N, dtype=chains.dtype)
        self.second = torch.zeros(len(self.live), N, N, dtype=torch.float64)
        self.first = torch.zeros(len(self.live), N, dtype=torch.float64)

    def add(self, h: torch.Tensor, rates: torch.Tensor | None) -> None:
        self.sum_h.add_(h)
        if self.sum_rates is not None and rates is not None:
            self.sum_rates.add_(rates)

    def add_with_cov(self, h: torch.Tensor, rates: torch.Tensor | None) -> None:
        self.add(h, rates)
        d = (h - self.center).flatten(1, 2)
        self.first.add_(d.sum(1, dtype=torch.float64))
        self.sum_hh.baddbmm_(d.transpose(1, 2), d)

    def close(self, batch: int, chains: Ensemble) -> None:
        """End a batch: keep its means, start new sums, let go of problems that diverged."""
        count = -(-self.plan.length // self.plan.thin)
        self.h[self.live, :, :, batch] = self.sum_h.div_(count).sub_(self.center)
        self.sum_h.zero_()
        if self.rates is not None and self.sum_rates is not None:
            self.rates[self.live] += self.sum_rates.mean(1, dtype=torch.float64) / (count * self.plan.batches)
            self.sum_rates.zero_()
        self.second.add_(self.sum_hh)
        self.sum_hh.zero_()
        stay = chains.drop_diverged()
        if stay is not None:
            self.live = chains.live
            for name in ("center", "sum_h", "sum_hh", "second", "first"):
                setattr(self, name, getattr(self, name)[stay])
            self.sum_rates = None if self.sum_rates is None else self.sum_rates[stay]

    def samples(self, chains: Ensemble) -> Samples:
        P, N = self.size
        count = self.plan.batches * -(-self.plan.length // self.plan.cov_thin) * 2 * chains.pairs
        mean = self.first / count
        center, cov = np.full((P, N), np.nan), np.full((P, N, N), np.nan)
        center[self.live] = self.center[:, 0, 0].numpy()
        cov[self.live] = (self.second / count - mean[:, :, None] * mean[:, None, :]).numpy()
        rates = None if self.rates is None else self.rates.numpy()
        return Samples(center, self.h, rates, cov, chains.diverged)
