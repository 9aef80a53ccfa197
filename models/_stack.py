"""Gated layers on top of each other as the dynamics of a cell.

The state of a stack is torch's (h_n, c_n) laid out flat: h of layer 1, ..., h of layer L, then c of layer 1,
..., c of layer L. Within one step a layer reads the new h of the layer below.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ._layers import Layer
from ._variation import variation
from .cell import Dynamics


class Stack(Dynamics):
    """Layers of one kind on top of each other."""

    def __init__(self, name: str, layers: Sequence[Layer]) -> None:
        self.name, self.layers = name, tuple(layers)
        first = self.layers[0]
        H, L = first.H, len(self.layers)
        self.N, self.n_in = first.parts * H * L, first.V.shape[-1]
        self.visible = slice((L - 1) * H, L * H)
        self.dissipative, self.smooth = first.bounded, first.smooth
        blocks = torch.arange(self.N).view(first.parts, L, H)
        self.places = [blocks[:, layer].flatten() for layer in range(L)]  #: where each layer's state lies

    def step(self, u: Tensor, h: Tensor) -> Tensor:
        return self._step(u, h, False)

    def still(self, u: Tensor, h: Tensor) -> Tensor:
        return self._step(u, h, True)

    def _step(self, u: Tensor, h: Tensor, still: bool) -> Tensor:
        if len(self.layers) == 1:
            return self.layers[0].advance(u, h, still)
        new = []
        for layer, place in zip(self.layers, self.places, strict=True):
            new.append(layer.advance(u, h[:, place], still))
            u = new[-1][:, : layer.H]
        return torch.cat(new, -1)[:, torch.cat(self.places).argsort()]

    def jacobian(self, u: Tensor, h: Tensor) -> Tensor:
        return self._jacobian(u, h, False)

    def still_jacobian(self, u: Tensor, h: Tensor) -> Tensor:
        return self._jacobian(u, h, True)

    @torch.no_grad()
    def _jacobian(self, u: Tensor, h: Tensor, still: bool) -> Tensor:
        """Block lower triangular in the layers: dh'_l/dh = ds'_l/ds_l + (ds'_l/dv) dv/dh, v = h'_{l-1}."""
        if len(self.layers) == 1:
            return self.layers[0].jacobian(u, h, still)
        J = h.new_zeros(len(h), self.N, self.N)
        below: Tensor | None = None
        for layer, place in zip(self.layers, self.places, strict=True):
            s = h[:, place]
            if below is not None:
                J[:, place] = layer.input_jacobian(u, s, still) @ below
            J[:, place[:, None], place] = layer.jacobian(u, s, still)
            u, below = layer.advance(u, s, still)[:, : layer.H], J[:, place[: layer.H]]
        return J

    def variation(self, u: Tensor, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor] | None:
        return variation(self.layers, self.places, u, h, r) if self.smooth else None

    def box(self, u: Tensor) -> Tensor | None:
        if not self.dissipative:
            return None
        size = u.new_zeros(self.N)
        for number, (layer, place) in enumerate(zip(self.layers, self.places, strict=True)):
            size[place] = layer.reach(u if number == 0 else u.new_zeros(layer.V.shape[-1]), 0.0 if number == 0 else 1.0)
        return torch.stack([-size, size])

    def fingerprint(self) -> bytes:
        parameters = [p for layer in self.layers for p in (layer.V, layer.W, layer.b_ih, layer.b_hh)]
        shapes = [tuple(p.shape) for p in parameters]
        return f"{self.name}{shapes}".encode() + b"".join(np.asarray(p, "<f8").tobytes() for p in parameters)
