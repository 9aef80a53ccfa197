"""What is kept of chains while they run: sums over their states, and histograms."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from fpanalysis.stationary._histogram import Axes, Histogram
from fpanalysis.stationary._linear_chain import LinearChain
from fpanalysis.stationary._result import Problem
from fpanalysis.stationary._sample import Plan, Sample

if TYPE_CHECKING:
    from fpanalysis.stationary._simulate import Ensemble

FLUSH = 16  #: samples of the residual summed in the chains' own precision
STATES = 4  #: of each chain and batch in a histogram, at most
MANY = 1 << 14  #: values of an axis sorted into a histogram at once


class Record:
    """Running sums over the samples of the problems still running; float64 wherever batches are added up."""

    def __init__(
        self,
        chains: Ensemble,
        plan: Plan,
        problems: Sequence[Problem],
        linear: Sequence[LinearChain] | None,
        axes: Axes,
    ) -> None:
        P, B, N = len(problems), chains.pairs, chains.net.N
        self.axes, self.states, self.readout = axes, chains._tensor(axes.states), chains._tensor(axes.rates)
        eps = torch.finfo(chains.dtype).eps
        self.histograms = [[Histogram(bool(sticks), eps) for sticks in axes.sticks] for _ in range(P)]
        self.values: list[torch.Tensor] = []
        self.spacing = plan.cov_thin * -(-plan.length // (STATES * plan.cov_thin))
        self.t, self.every = 0, 1 if linear and chains.inside else plan.thin
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
            self.buffer = like(*shape, dtype=chains.dtype)
            self.residual = {name: like(P, B, plan.batches, N, dtype=double) for name in "DX"}
            self.sums |= {name: like(1, *shape, dtype=chains.dtype) for name in "DX"}
            self.sums |= {name * 2: like(1, *shape, dtype=double) for name in "DX"}
        self.first = like(P, N, dtype=double)
        self.second = like(2, P, N, N, dtype=double)
        self.apart = like(P, N, dtype=double)

    def before(self, h: torch.Tensor, x: torch.Tensor | None = None) -> None:
        """Take in the states h (S, P, B, N), one in `thin`, and what enters f, x, of a Network."""
        if self.residual and x is not None:
            self._subtract_linear(x)
        if self.t % self.plan.thin:
            return
        self.sums["h"].add_(h[:2])
        if self.t % self.plan.cov_thin == 0:
            self._add_squares(h, x)
        if self.axes.names and self.t % self.spacing == 0:
            self.values.append(h[:2] @ self.states)

    def after(self, rates: torch.Tensor) -> None:
        """Take in the rates, of the pairs, of the same step."""
        if self.residual:
            self.sums["D"][0].add_(rates[0]).add_(rates[1])
        if self.rates is not None:
            self.sums["rates"].add_(rates)
            if self.axes.names and self.t % self.spacing == 0:
                self.values[-1] += rates @ self.readout
        self.t += self.every
        if self.residual and self.t % (FLUSH * self.every) == 0:
            self._flush()

    def _subtract_linear(self, x: torch.Tensor) -> None:
        a, f_, y, D, buffer = self.chains.a, self.chains.f_, x[2], self.sums["D"][0], self.buffer[: x.shape[1]]
        assert a is not None
        D.sub_(f_(torch.add(a, y, out=buffer)))
        D.sub_(f_(torch.sub(a, y, out=buffer)))
        self.sums["X"][0].add_(x[0]).add_(x[1]).sub_(a, alpha=2)

    def _add_squares(self, h: torch.Tensor, x: torch.Tensor | None) -> None:
        d = (h[:2] - self.about).transpose(0, 1).flatten(1, 2)
        self.first[self.live] += d.sum(1, dtype=torch.float64)
        self.sums["hh"][0].baddbmm_(d.transpose(1, 2), d)
        a = self.chains.a
        if x is not None and a is not None:
            self.sums["dd"][0].baddbmm_(h[2].transpose(1, 2), h[2], alpha=2)
            apart = (x[0] - a - x[2]).square_().add_((x[1] - a + x[2]).square_())
            self.apart[self.live] += apart.sum(1, dtype=torch.float64)

    def _flush(self) -> None:
        for name in self.residual:
            self.sums[2 * name] += self.sums[name]
            self.sums[name].zero_()

    def close(self, batch: int) -> None:
        """End a batch: keep its means, start new sums, let go of problems that diverged."""
        chains = self.chains
        count, self.t = -(-self.plan.length // self.plan.thin), 0
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
            kept[self.live, :, batch] = self.sums[2 * name][0] / (2 * -(-self.plan.length // self.every))
        stay = chains.drop_diverged()
        if stay is not None:
            self.live, self.about = chains.live, self.about[stay]
            self.sums = {name: total[:, stay] for name, total in self.sums.items()}
            self.values = [values[:, stay] for values in self.values]
        self._count(batch == self.plan.batches - 1)
        for total in self.sums.values():
            total.zero_()

    def _count(self, last: bool) -> None:
        """Sort the values into the histograms of the problems still running, when they are many or the `last`."""
        if self.values and (last or 2 * len(self.values) * self.chains.pairs >= MANY):
            values = torch.stack(self.values).cpu().numpy()  # (samples, 2, P, B, K)
            for row, problem in enumerate(self.live.tolist()):
                for k, histogram in enumerate(self.histograms[problem]):
                    histogram.add(values[:, :, row, :, k])
            self.values.clear()

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
                histograms=self.histograms[k],
            )
            for k in range(len(self.center))
        ]
