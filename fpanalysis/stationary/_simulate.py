"""Many chains of many problems of one system, stepped together: one matrix product per step for all of them.

The state is a tensor h (S, P, B, N): P problems, B antithetic pairs, N neurons; h[0] and h[1] are the two signs of
a pair and h[2], where there is one, the linear chain of `_linear_chain`, which flips its sign with the pair's.
At step t every problem sees the same standard normal xi_t (B, N), scaled by its own sigma and, in h[1], by -1.
xi_t depends on the seed, the block of pairs, N and t alone, so a problem's trajectory is the same, to rounding,
alone, in a sweep, or with another number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from fpanalysis.network import Network
from fpanalysis.stationary._linear_chain import LinearChain
from fpanalysis.stationary._result import Problem
from fpanalysis.system import System

Array = NDArray[np.float64]

BOUND = 1e5  #: a state this many times larger than everything that drives it has diverged
CHECK = 256  #: steps between two looks for divergence during burn-in, at most
FLUSH = 16  #: samples of the residual summed in the chains' own precision


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
class Sample:
    """What a run leaves of one problem, as deviations from `center` (N,).

    `h` (2, B, batches, N): batch means of the state of each chain; `ends`, the same shape, the states at their ends;
    `rates` (B, N), mean of f(h) over the run and each pair, current form only; `D` and `X` (B, batches, N), with a
    linear chain only: means over each pair of f(x) - f(a + y) and x - a; `moments`: sums of h, h h^T, d d^T and
    (x - a - y)^2 over `draws` states.
    """

    center: Array
    h: Array
    ends: Array
    rates: Array | None
    D: Array | None
    X: Array | None
    moments: tuple[Array, Array, Array, Array]
    draws: int
    diverged: bool

    @property
    def cov(self) -> Array:
        """Covariance of the state."""
        first, second, *_ = self.moments
        mean = first / self.draws
        cov: Array = second / self.draws - np.outer(mean, mean)
        return cov


def merge(parts: Sequence[Sample]) -> Sample:
    """The runs of several blocks of pairs of one problem as one."""

    def joined(name: str, axis: int) -> Array | None:
        arrays = [getattr(part, name) for part in parts]
        return None if arrays[0] is None else np.concatenate(arrays, axis)

    return Sample(
        center=parts[0].center,
        h=np.concatenate([part.h for part in parts], 1),
        ends=np.concatenate([part.ends for part in parts], 1),
        rates=joined("rates", 0),
        D=joined("D", 0),
        X=joined("X", 0),
        moments=tuple(sum(part.moments[k] for part in parts) for k in range(4)),  # type: ignore[arg-type]
        draws=sum(part.draws for part in parts),
        diverged=any(part.diverged for part in parts),
    )


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
    ) -> None:
        self.net, self.pairs, self.dtype, self.device = net, pairs, dtype, device
        self.noise = torch.Generator(device).manual_seed(seed)
        self.xi = torch.empty(pairs, net.N, device=device)
        self.gamma = self._tensor(net.gamma)
        self.f = _function(net)
        self.current = isinstance(net, Network) and net.form == "current"
        self.outside = isinstance(net, Network) and net.form == "rate" and net.placement == "out"
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
        self.drive = self._tensor(np.stack([drive, drive, zero][:copies]))[:, :, None]
        self.sigma = self._tensor(np.stack([sigma, -sigma, sigma][:copies]))[:, :, None]
        self.h = self._tensor(np.stack([start, start, zero][:copies]))[:, :, None].repeat(1, 1, pairs, 1)
        self.a = None if linear is None else self._tensor(np.array([chain.a for chain in linear]))[:, None]
        self.G = None if linear is None else self._tensor(np.array([chain.G for chain in linear]))[:, None]
        self.x = torch.empty_like(self.h)
        self.live = torch.arange(len(problems), device=device)
        self.diverged = np.zeros(len(problems), bool)

    def _tensor(self, array: object) -> torch.Tensor:
        return torch.tensor(np.asarray(array), dtype=self.dtype, device=self.device)

    def step(self, record: Record | None = None, t: int = 0) -> None:
        """One step of every chain, in place; `record` sees the states it starts from."""
        xi = self.xi.normal_(generator=self.noise).to(self.dtype)
        if not isinstance(self.net, Network):
            x = torch.from_numpy(self.net.target(self.h.numpy(), self.u)).addcmul_(self.sigma, xi)
            if record:
                record.add(t, self.h)
            self.h.lerp_(x, self.gamma)
        elif self.current:
            self._step_current(xi, record, t)
        else:
            self._step_rate(xi, record, t)

    def _step_rate(self, xi: torch.Tensor, record: Record | None, t: int) -> None:
        x, h = self._product(self.h), self.h
        if not self.outside:
            x.addcmul_(self.sigma, xi)
        rates = self.f(x[:2])
        if record:
            record.add(t, h, rates, x)
        self._pull(h[:2], rates, self.sigma[:2], xi)
        if self.G is not None:
            self._pull(h[2], x[2].mul_(self.G), self.sigma[2], xi)

    def _pull(self, h: torch.Tensor, rates: torch.Tensor, sigma: torch.Tensor, xi: torch.Tensor) -> None:
        if self.outside:
            rates.addcmul_(sigma, xi)
        h.lerp_(rates, self.gamma)

    def _step_current(self, xi: torch.Tensor, record: Record | None, t: int) -> None:
        rates = self.f(self.h[:2])
        if record:
            record.add(t, self.h, rates, self.h)
        source = rates if self.G is None else torch.cat([rates, (self.h[2] * self.G)[None]])
        self.h.lerp_(self._product(source).addcmul_(self.sigma, xi), self.gamma)

    def _product(self, source: torch.Tensor) -> torch.Tensor:
        """W h plus the drive."""
        N = self.net.N
        torch.mm(source.view(-1, N), self.WT, out=self.x.view(-1, N))
        self.x[:2].add_(self.drive[:2])
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
        for name in ("h", "x", "drive", "sigma"):
            setattr(self, name, getattr(self, name)[:, stay])
        if self.a is not None and self.G is not None:
            self.a, self.G = self.a[stay], self.G[stay]
        return stay


def _function(net: System) -> Callable[[torch.Tensor], torch.Tensor]:
    """f in torch. tanh as 2 / (1 + exp(-2 x)) - 1: four times faster than torch's own and right to the precision
    of numbers of size one, which is what a state of that size is rounded to anyway."""
    if not isinstance(net, Network):
        return torch.Tensor.clone
    if net.activation.name == "tanh":
        return lambda x: (2 * x).sigmoid_().mul_(2).sub_(1)
    return net.activation.torch


@torch.no_grad()
def simulate(
    net: System,
    problems: Sequence[Problem],
    linear: Sequence[LinearChain] | None,
    plan: Plan,
    pairs: int,
    seed: int,
    dtype: torch.dtype,
    device: str = "cpu",
) -> list[Sample]:
    """Run `plan` for all `problems`, which share `net`, each with its linear chain or none of them."""
    chains = Ensemble(net, problems, linear, pairs, seed, dtype, device)
    for done in range(0, plan.burn_in, CHECK):
        for _ in range(min(CHECK, plan.burn_in - done)):
            chains.step()
        chains.drop_diverged()
    record = Record(chains, plan, problems, linear)
    for batch in range(plan.batches):
        for t in range(plan.length):
            chains.step(record, t)
        record.close(batch)
    return record.samples()


class Record:
    """Running sums over the samples of the problems still running; float64 wherever batches are added up."""

    def __init__(
        self, chains: Ensemble, plan: Plan, problems: Sequence[Problem], linear: Sequence[LinearChain] | None
    ) -> None:
        P, B, N = len(problems), chains.pairs, chains.net.N
        self.plan, self.chains, self.live = plan, chains, chains.live
        like, double = partial(torch.zeros, device=chains.device), torch.float64
        about = [chain.mean for chain in linear] if linear else [problem.start for problem in problems]
        self.center = np.array(about)
        self.about = chains._tensor(self.center)[self.live, None]
        shape = (len(self.live), B, N)
        self.h, self.ends = (like(2, P, B, plan.batches, N, dtype=double) for _ in range(2))
        self.rates = like(P, B, N, dtype=double) if chains.current else None
        self.sums = {"h": like(2, *shape, dtype=chains.dtype)}
        if chains.current:
            self.sums["rates"] = like(2, *shape, dtype=chains.dtype)
        squares = (1, len(self.live), N, N)
        self.sums |= {name: like(*squares, dtype=chains.dtype) for name in ("hh", "dd")[: 2 if linear else 1]}
        self.residual: dict[str, torch.Tensor] = {}
        if linear:
            self.residual = {name: like(P, B, plan.batches, N, dtype=double) for name in "DX"}
            self.sums |= {name: like(1, *shape, dtype=chains.dtype) for name in "DX"}
            self.sums |= {name * 2: like(1, *shape, dtype=double) for name in "DX"}
        self.first = like(P, N, dtype=double)
        self.second = like(2, P, N, N, dtype=double)
        self.apart = like(P, N, dtype=double)

    def add(self, t: int, h: torch.Tensor, rates: torch.Tensor | None = None, x: torch.Tensor | None = None) -> None:
        """Take in step t of a batch: states h (S, P, B, N), what enters f, x, and the rates f(x) of the pairs."""
        if self.residual and rates is not None and x is not None:
            self._add_residual(t, rates, x)
        if t % self.plan.thin:
            return
        self.sums["h"].add_(h[:2])
        if self.rates is not None and rates is not None:
            self.sums["rates"].add_(rates)
        if t % self.plan.cov_thin == 0:
            d = (h[:2] - self.about).transpose(0, 1).flatten(1, 2)
            self.first[self.live] += d.sum(1, dtype=torch.float64)
            self.sums["hh"][0].baddbmm_(d.transpose(1, 2), d)
            if x is not None and self.chains.a is not None:
                self.sums["dd"][0].baddbmm_(h[2].transpose(1, 2), h[2], alpha=2)
                a, y = self.chains.a, x[2]
                apart = (x[0] - a - y).square_().add_((x[1] - a + y).square_())
                self.apart[self.live] += apart.sum(1, dtype=torch.float64)

    def _add_residual(self, t: int, rates: torch.Tensor, x: torch.Tensor) -> None:
        a, f, y, D = self.chains.a, self.chains.f, x[2], self.sums["D"][0]
        assert a is not None
        D.add_(rates[0]).sub_(f(a + y)).add_(rates[1]).sub_(f(a - y))
        self.sums["X"][0].add_((x[0] + x[1]).sub_(2 * a))
        if t % FLUSH == FLUSH - 1:
            self._flush()

    def _flush(self) -> None:
        for name in self.residual:
            self.sums[2 * name] += self.sums[name]
            self.sums[name].zero_()

    def close(self, batch: int) -> None:
        """End a batch: keep its means, start new sums, let go of problems that diverged."""
        chains = self.chains
        count = -(-self.plan.length // self.plan.thin)
        self.h[:, self.live, :, batch] = self.sums["h"].div_(count).sub_(self.about).double()
        self.ends[:, self.live, :, batch] = chains.h[:2].sub(self.about).double()
        if self.rates is not None:
            total = self.sums["rates"].mean(0, dtype=torch.float64)
            self.rates[self.live] += total / (count * self.plan.batches)
        for k, name in enumerate(("hh", "dd")):
            if name in self.sums:
                self.second[k, self.live] += self.sums[name][0]
        self._flush()
        for name, kept in self.residual.items():
            kept[self.live, :, batch] = self.sums[2 * name][0] / (2 * self.plan.length)
        stay = chains.drop_diverged()
        if stay is not None:
            self.live, self.about = chains.live, self.about[stay]
            self.sums = {name: total[:, stay] for name, total in self.sums.items()}
        for total in self.sums.values():
            total.zero_()

    def samples(self) -> list[Sample]:
        draws = self.plan.batches * -(-self.plan.length // self.plan.cov_thin) * 2 * self.chains.pairs
        return [
            Sample(
                center=self.center[k],
                h=self.h[:, k].cpu().numpy(),
                ends=self.ends[:, k].cpu().numpy(),
                rates=None if self.rates is None else self.rates[k].cpu().numpy(),
                D=self.residual["D"][k].cpu().numpy() if self.residual else None,
                X=self.residual["X"][k].cpu().numpy() if self.residual else None,
                moments=tuple(array.cpu().numpy() for array in (self.first[k], *self.second[:, k], self.apart[k])),
                draws=draws,
                diverged=bool(self.chains.diverged[k]),
            )
            for k in range(len(self.center))
        ]
