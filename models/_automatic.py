"""Loss and gradient of stacked Lipschitz RNNs by automatic differentiation of their steps.

A backward pass by hand, as `Gradient` has for CTRNNs, would save little here, where the two products of a step take
most of the time: see docs/benchmarks.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fpanalysis.tasks import Feedback

from ._gradient import LOSSES, Memory, Trials
from .lipschitz import LipschitzStack


class AutomaticGradient(Memory):
    """Losses and their gradients for the networks of `model`; called as `Gradient` is."""

    def __init__(self, model: LipschitzStack, feedback: Feedback | None = None, loss: str = "squared error") -> None:
        super().__init__()
        self.model: LipschitzStack = model
        self.feedback, self.loss = feedback, LOSSES[loss]

    def __call__(self, trials: Trials) -> Tensor:
        """The losses (M,); leaves each parameter's derivative of its network's loss in ``parameter.grad``."""
        self.model.zero_grad()
        with torch.enable_grad():
            readings = self.readings(trials)
        targets, mask = trials.targets[trials.seed], trials.mask[trials.seed]
        losses, slopes = self.loss(readings.detach(), targets, mask)
        readings.backward(slopes)
        return losses

    def readings(self, trials: Trials) -> Tensor:
        """What is compared with the targets, (M, T, B, n_out): outputs, or positions in a closed loop."""
        inputs, h = trials.inputs[trials.seed], trials.h0[trials.seed]
        noise = self._noise(trials)
        loop = self.feedback
        if loop is None:
            return self.model(inputs, h, noise)
        p, path = loop.start(inputs.transpose(0, 1)), []
        for t in range(inputs.shape[1]):
            now = [None if part is None else part[:, t : t + 1] for part in noise]
            seen, p = loop.gain * (p - loop.centre), p + loop.rate * self.model.output(h)
            h = self.model.states(seen[:, None], h, now)[:, 0]
            path.append(p)
        return torch.stack(path, 1)

    def _noise(self, trials: Trials) -> list[Tensor | None]:
        """sigma xi_1 and multiplicative xi_2 of every network, (M, T, B, N) each."""
        drawn = {"sigma": trials.xi, "multiplicative": trials.factor}
        amounts = {name: self.model.per_network(name) for name in drawn}
        return [
            None if xi is None or not amounts[name].any() else xi[trials.seed] * amounts[name]
            for name, xi in drawn.items()
        ]
