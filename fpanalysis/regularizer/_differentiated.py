"""A loss given as a function of torch tensors, differentiated automatically."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fpanalysis.regularizer.losses import Loss
from fpanalysis.results import InputError, one_line

Array = NDArray[np.float64]
Function = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class Differentiated(Loss):
    """`function` of z and z* (K, n_out), float64 tensors, gives one value per output, (K, n_out), or one for all, (K,).

    Where no gradient passes through it (accuracy, say) the derivatives are NaN.
    """

    name = "function"

    def __init__(self, function: Function) -> None:
        self.function = function

    def value(self, z: Array, target: Array, weight: Array) -> Array:
        with torch.no_grad():
            return self._weighted(*self._tensors(z, target, weight)).numpy().reshape(z.shape[:-1])

    def gradient(self, z: Array, target: Array, weight: Array) -> Array:
        outputs, *rest = self._tensors(z, target, weight)
        total = self._weighted(outputs.requires_grad_(), *rest).sum()
        if not total.requires_grad:
            return np.full(z.shape, np.nan)
        return torch.autograd.grad(total, outputs)[0].numpy().reshape(z.shape)

    def hessian(self, z: Array, target: Array, weight: Array) -> Array:
        outputs, *rest = self._tensors(z, target, weight)
        total = self._weighted(outputs.requires_grad_(), *rest).sum()
        H = np.full((*z.shape, z.shape[-1]), np.nan)
        if not total.requires_grad:
            return H
        first = torch.autograd.grad(total, outputs, create_graph=True)[0]
        for o in range(z.shape[-1] if first.requires_grad else 0):
            row = torch.autograd.grad(first[:, o].sum(), outputs, retain_graph=True, materialize_grads=True)[0]
            H[..., o, :] = row.numpy(force=True).reshape(z.shape)
        return H if first.requires_grad else np.zeros_like(H)

    def _tensors(self, *arrays: Array) -> list[torch.Tensor]:
        n_out = arrays[0].shape[-1]
        return [torch.tensor(np.broadcast_to(array, arrays[0].shape)).reshape(-1, n_out) for array in arrays]

    def _weighted(self, z: torch.Tensor, target: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """(K,)."""
        try:
            values = self.function(z, target)
        except (TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(
                "loss must be a function of torch tensors (z, target), such as (z - target) ** 2: "
                f"{one_line(str(error))}"
            ) from None
        if not isinstance(values, torch.Tensor) or values.shape not in (z.shape, z.shape[:1]):
            found = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
            raise InputError(f"loss must give one value per output, {tuple(z.shape)}, or one per step; found {found}")
        return (weight * values).sum(dim=1) if values.ndim == 2 else weight.sum(dim=1) * values
