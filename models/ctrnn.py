"""CTRNN: the trainable side of `Network`, M networks of one shape stepped together by batched products.

Per network the equations are those of `fpanalysis.network`, with xi ~ N(0, I) at each step:

    rate form      h' = (1 - gamma) h + gamma f(W h + W_in u + b + sigma xi)           placement "in"
                   h' = (1 - gamma) h + gamma (f(W h + W_in u + b) + sigma xi)         placement "out"
    current form   h' = (1 - gamma) h + gamma (W f(h) + W_in u + b + sigma xi)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpanalysis.network import Network
from fpanalysis.results import InputError, one_line

PARAMETERS = ("W", "b", "W_in", "W_out", "b_out")


class CTRNN(nn.Module):
    """M >= 1 stacked networks with parameters W (M, N, N), b (M, N), W_in (M, N, n_in), W_out (M, n_out, N)
    and b_out (M, n_out); a part that the networks do not have is None.

    The networks share shape, activation and form; gamma, sigma and placement are each network's own. What is
    not trained (gamma, sigma, placement, conditions, info, ...) stays in `networks`, from which `to_network`
    takes it back unrounded.

    Parameters
    ----------
    networks : sequence of Network
    dtype : torch.dtype
        float32 to train; float64 keeps the weights exactly.

    Raises
    ------
    InputError
        If there is no network, or two differ in a shape, the activation or the form.
    """

    W: Tensor
    b: Tensor
    W_in: Tensor | None
    W_out: Tensor | None
    b_out: Tensor | None
    inside: Tensor

    def __init__(self, networks: Sequence[Network], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.networks = tuple(networks)
        _check_alike(self.networks)
        first = self.networks[0]
        self.M, self.N, self.n_in, self.n_out = len(self.networks), first.N, first.n_in, first.n_out
        self.activation, self.form = first.activation, first.form
        for name in PARAMETERS:
            self.register_parameter(name, None)
            if getattr(first, name) is not None:
                stacked = np.stack([getattr(net, name) for net in self.networks])
                self.register_parameter(name, nn.Parameter(torch.tensor(stacked, dtype=dtype)))
        inside = torch.tensor([net.placement == "in" for net in self.networks])
        self.register_buffer("inside", inside[:, None, None, None], persistent=False)

    @classmethod
    def from_network(cls, net: Network, dtype: torch.dtype = torch.float32) -> CTRNN:
        """A stack of one."""
        return cls([net], dtype)

    def to_network(self, m: int = 0) -> Network:
        """Network number `m` with its present weights, in float64: exact."""
        present = dict(self.named_parameters(recurse=False))
        weights: dict[str, Any] = {name: value[m].detach().cpu().double().numpy() for name, value in present.items()}
        return dataclasses.replace(self.networks[m], **weights)

    def draw_noise(self, T: int, B: int, generators: Sequence[torch.Generator]) -> Tensor | None:
        """sigma xi for T steps of B trials, (M, T, B, N), network m's from generators[m]; None if sigma = 0."""
        sigma = self.per_network("sigma")
        if not sigma.any():
            return None
        noise = torch.empty(self.M, T, B, self.N, dtype=self.W.dtype)
        for xi, generator in zip(noise, generators, strict=True):
            xi.normal_(generator=generator)
        return noise.mul_(sigma)

    def forward(self, inputs: Tensor, h0: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Outputs (M, T, B, n_out), number t read from the state after step t; arguments as for `states`."""
        return self.output(self.states(inputs, h0, noise))

    def states(self, inputs: Tensor, h0: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """The states (M, T, B, N) after each step.

        Parameters
        ----------
        inputs : (M, T, B, n_in) or (T, B, n_in)
            u at each step; one for each network or the same for all.
        h0 : (M, B, N) or (B, N), optional
            Initial state; zero if left out.
        noise : (M, T, B, N) or (T, B, N), optional
            sigma xi, as `draw_noise` gives it; none if left out.
        """
        B = inputs.shape[-2]
        h = (self.W.new_zeros(()) if h0 is None else h0).expand(self.M, B, self.N)
        drive, outside = self._drive(inputs.expand(self.M, -1, -1, -1), noise)
        states = self._rate_states(h, drive, outside) if self.form == "rate" else self._current_states(h, drive)
        return torch.stack(states, 1)

    def output(self, states: Tensor) -> Tensor:
        """z = W_out h + b_out (rate form) or W_out f(h) + b_out (current form), for states (M, ..., N)."""
        z = states if self.form == "rate" else self.activation.torch(states)
        lead = z.shape[1:-1]
        if self.W_out is not None:
            z = torch.bmm(z.flatten(1, -2), self.W_out.mT).unflatten(1, lead)
        if self.b_out is not None:
            z = z + self.b_out.view(self.M, *(1 for _ in lead), -1)
        return z

    def _drive(self, inputs: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """All steps of W_in u + b plus the noise that enters there, and the noise that enters outside f.

        One product: [u 1] [W_in b]^T.
        """
        B = inputs.shape[2]
        one = self.W.new_ones(1).expand(*inputs.shape[:-1], 1)
        u = torch.cat([inputs, one], -1).flatten(1, 2)
        weights = self.b[..., None] if self.W_in is None else torch.cat([self.W_in, self.b[..., None]], -1)
        outside = None if noise is None or self.inside.all() else torch.where(self.inside, 0, noise)
        if noise is None or not self.inside.any():
            return torch.bmm(u, weights.mT).unflatten(1, (-1, B)), outside
        within = noise if outside is None else noise - outside
        within = within.expand(self.M, -1, -1, -1).flatten(1, 2)
        return torch.baddbmm(within, u, weights.mT).unflatten(1, (-1, B)), outside

    def _rate_states(self, h: Tensor, drive: Tensor, outside: Tensor | None) -> list[Tensor]:
        gamma, WT, f = self._gamma(), self.W.mT, self.activation.torch
        states = []
        if outside is None:
            for drive_t in drive.unbind(1):
                h = torch.lerp(h, f(torch.baddbmm(drive_t, h, WT)), gamma)
                states.append(h)
            return states
        for drive_t, noise_t in zip(drive.unbind(1), outside.unbind(1), strict=True):
            h = torch.lerp(h, f(torch.baddbmm(drive_t, h, WT)) + noise_t, gamma)
            states.append(h)
        return states

    def _current_states(self, h: Tensor, drive: Tensor) -> list[Tensor]:
        gamma, WT, f = self._gamma(), self.W.mT, self.activation.torch
        states = []
        for drive_t in drive.unbind(1):
            h = torch.lerp(h, torch.baddbmm(drive_t, f(h), WT), gamma)
            states.append(h)
        return states

    def _gamma(self) -> float | Tensor:
        """gamma as one number if it is the same everywhere (quicker), else (M, 1, N)."""
        gamma = self.per_network("gamma")[:, 0]
        first = float(np.ravel(self.networks[0].gamma)[0])
        return first if all(np.all(net.gamma == first) for net in self.networks) else gamma

    def per_network(self, name: str) -> Tensor:
        """gamma or sigma of every network and neuron, (M, 1, 1, N)."""
        values = [np.broadcast_to(getattr(net, name), (self.N,)) for net in self.networks]
        return self.W.new_tensor(np.stack(values))[:, None, None]


def _check_alike(networks: Sequence[Network]) -> None:
    if not networks:
        raise InputError("networks must hold at least one network; found none")

    def traits(net: Network) -> dict[str, object]:
        shapes: dict[str, object] = {name: np.shape(getattr(net, name)) for name in PARAMETERS}
        return {"activation": net.activation.key, "form": net.form} | shapes

    first = traits(networks[0])
    for m, net in enumerate(networks):
        for name, value in traits(net).items():
            if value != first[name]:
                raise InputError(
                    f"networks of one stack must share shapes, activation and form; found {name} "
                    f"{one_line(str(value))} in network {m} and {one_line(str(first[name]))} in network 0"
                )
