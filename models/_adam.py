"""Adam's state, stepped by torch's functional form: the bits of ``torch.optim.Adam(fused=True)``.

The optimiser class would import torch's compiler first, a second of every start (and of every worker of a study).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
STATE = ("step", "exp_avg", "exp_avg_sq")  #: of each parameter, as in the state_dict of torch.optim.Adam


class Adam:
    """First and second moments of the gradients of `parameters` (Kingma & Ba, ICLR 2015)."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.state = [
            {"step": p.new_zeros(()), "exp_avg": torch.zeros_like(p), "exp_avg_sq": torch.zeros_like(p)}
            for p in (parameter.detach() for parameter in self.parameters)
        ]

    @torch.no_grad()
    def step(self, lr: float) -> None:
        """Move every parameter by its ``grad``."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        steps, averages, squares = ([own[name] for own in self.state] for name in STATE)
        adam(
            self.parameters, gradients, averages, squares, [], steps, fused=True, amsgrad=False, beta1=BETA1,
            beta2=BETA2, lr=lr, weight_decay=0.0, eps=EPS, maximize=False,
        )  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        return {"state": dict(enumerate(self.state))}

    def load_state_dict(self, found: dict[str, Any]) -> None:
        for k, own in enumerate(self.state):
            for name, value in own.items():
                value.copy_(found["state"][k][name])
