"""LipschitzStack: the trainable side of `LipschitzRNN`, M networks of one shape stepped together by batched products.

Per network, with f = A h + a(W h + W_in u + b) and xi_1, xi_2 ~ N(0, I) at each step (xi_2 = xi_1 for noise "joint"),

    h' = h + gamma ((1 + multiplicative xi_2) f + sigma xi_1)
    A = (1 - skew) (M_A + M_A^T) + skew (M_A - M_A^T) - shrink I,    W the same of M_W
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.noise import NOISE_NOTE
from fpanalysis.results import InputError, one_line

Array = NDArray[np.float64]
Noise = Tensor | Sequence[Tensor | None]

SKEW, SHRINK = 0.75, 0.001  #: of networks to be trained; the source's choice
SPREAD = 0.1  #: of what A and W start from, times N: the source's choice
MATRICES = ("A", "W")
OTHERS = ("b", "W_in", "W_out", "b_out")


class LipschitzStack(nn.Module):
    """M >= 1 stacked networks with parameters M_A, M_W (M, N, N), b (M, N), W_in (M, N, n_in), W_out (M, n_out, N)
    and b_out (M, n_out); a part that the networks do not have is None.

    The networks share shape, activation, kind of noise, skew and shrink (`LipschitzRNN.between_as`: of a network that
    was not trained here A and W are their own parameters); gamma, sigma and multiplicative are each network's own. What
    is not trained stays in `networks`, from which `to_network` takes it back unrounded.

    Parameters
    ----------
    networks : sequence of LipschitzRNN
    dtype : torch.dtype
        float32 to train; float64 keeps the weights to rounding.

    Raises
    ------
    InputError
        If there is no network, or two differ in what they must share.
    """

    M_A: Tensor
    M_W: Tensor
    b: Tensor
    W_in: Tensor | None
    W_out: Tensor | None
    b_out: Tensor | None
    form = "lipschitz"

    def __init__(self, networks: Sequence[LipschitzRNN], dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.networks = tuple(networks)
        _check_alike(self.networks)
        first = self.networks[0]
        self.M, self.N, self.n_in, self.n_out = len(self.networks), first.N, first.n_in, first.n_out
        self.activation, self.joint = first.activation, first.noise == "joint"
        self.skew, self.shrink = first.between_as
        for name in MATRICES:
            parts = [_origin(getattr(net, name), self.skew, self.shrink) for net in self.networks]
            self.register_parameter(f"M_{name}", nn.Parameter(torch.tensor(np.stack(parts), dtype=dtype)))
        for name in OTHERS:
            self.register_parameter(name, None)
            if getattr(first, name) is not None:
                stacked = np.stack([getattr(net, name) for net in self.networks])
                self.register_parameter(name, nn.Parameter(torch.tensor(stacked, dtype=dtype)))

    @classmethod
    def from_network(cls, net: LipschitzRNN, dtype: torch.dtype = torch.float32) -> LipschitzStack:
        """A stack of one."""
        return cls([net], dtype)

    @property
    def A(self) -> Tensor:
        """(M, N, N)."""
        return self._between(self.M_A)

    @property
    def W(self) -> Tensor:
        """(M, N, N)."""
        return self._between(self.M_W)

    def _between(self, M: Tensor) -> Tensor:
        part = M if self.skew == 0.5 else M + (1 - 2 * self.skew) * M.mT
        return part - self.shrink * torch.eye(self.N, dtype=M.dtype, device=M.device) if self.shrink else part

    def to_network(self, m: int = 0) -> LipschitzRNN:
        """Network number `m` with its present weights, A and W computed from them in float64."""
        present = {name: value[m].detach().cpu().double().numpy() for name, value in self.named_parameters()}
        weights: dict[str, Any] = {name: value for name, value in present.items() if name in OTHERS}
        for name in MATRICES:
            weights[name] = LipschitzRNN.between(present[f"M_{name}"], self.skew, self.shrink)
        return dataclasses.replace(self.networks[m], **weights)

    def draw_noise(self, T: int, B: int, generators: Sequence[torch.Generator]) -> Tensor | None:
        """sigma xi_1 and multiplicative xi_2 for T steps of B trials, (2, M, T, B, N), network m's from generators[m];
        None if there is neither."""
        amounts = torch.stack([self.per_network(name) for name in ("sigma", "multiplicative")])
        if not amounts.any():
            return None
        noise = torch.empty(2, self.M, T, B, self.N, dtype=self.M_W.dtype)
        for m, generator in enumerate(generators):
            noise[:, m].normal_(generator=generator)
        if self.joint:
            noise[1] = noise[0]
        return noise.mul_(amounts)

    def forward(self, inputs: Tensor, h0: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """Outputs (M, T, B, n_out), number t read from the state after step t; arguments as for `states`."""
        return self.output(self.states(inputs, h0, noise))

    def states(self, inputs: Tensor, h0: Tensor | None = None, noise: Noise | None = None) -> Tensor:
        """The states (M, T, B, N) after each step.

        Parameters
        ----------
        inputs : (M, T, B, n_in) or (T, B, n_in)
            u at each step; one for each network or the same for all.
        h0 : (M, B, N) or (B, N), optional
            Initial state; zero if left out.
        noise : two of (M, T, B, N) or None, optional
            sigma xi_1 and multiplicative xi_2, as `draw_noise` gives them; none if left out.
        """
        B = inputs.shape[-2]
        h = (self.b.new_zeros(()) if h0 is None else h0).expand(self.M, B, self.N)
        additive, factor = (None, None) if noise is None else noise
        gamma, matrices, states = self.step, self.matrices(), []
        for t, drive in enumerate(self.drive(inputs.expand(self.M, -1, -1, -1)).unbind(1)):
            f = self.increment(h, drive, matrices)
            if factor is not None:
                f = f * (1 + factor[:, t])
            if additive is not None:
                f = f + additive[:, t]
            h = torch.add(h, f, alpha=gamma) if isinstance(gamma, float) else torch.addcmul(h, f, gamma)
            states.append(h)
        return torch.stack(states, 1)

    def matrices(self) -> Tensor:
        """A^T beside W^T, (M, N, 2 N)."""
        return torch.cat([self.A, self.W], 1).mT

    def increment(self, h: Tensor, drive: Tensor, matrices: Tensor) -> Tensor:
        """f for states (M, B, N) and W_in u + b (M, B, N)."""
        a, x = torch.bmm(h, matrices).split(self.N, -1)
        return a + self.activation.torch(x + drive)

    def move(self, h: Tensor, u: Tensor, sigma: Tensor, xi: Tensor) -> None:
        """h (M, S, R, B, N) after a step with inputs u (M, ..., B, n_in) and the noise `xi`, of strength `sigma` (M, S,
        ..., N), in place. The multiplicative noise has the same share of its training strength as sigma has."""
        trained = torch.tensor([float(np.max(net.sigma)) for net in self.networks], dtype=h.dtype)[:, None, None]
        share = sigma[:, :, 0, 0].amax(-1, keepdim=True) / torch.where(trained > 0, trained, 1)
        multiplicative = (share * self.per_network("multiplicative")[:, 0])[:, :, None, None, :]
        drive = self.drive(u.flatten(1, 2)).unflatten(1, u.shape[1:3])
        a, x = (h.flatten(1, 3) @ self.matrices()).unflatten(1, h.shape[1:4]).split(self.N, -1)
        f = self.activation.torch(x.add_(drive)).add_(a)
        strength = sigma + multiplicative * f if self.joint else torch.hypot(sigma.expand_as(f), multiplicative * f)
        f.addcmul_(strength, xi)
        gamma = self.step
        h.add_(f, alpha=gamma) if isinstance(gamma, float) else h.addcmul_(f, gamma[:, None, None])

    def output(self, states: Tensor) -> Tensor:
        """z = W_out h + b_out, for states (M, ..., N)."""
        z, lead = states, states.shape[1:-1]
        if self.W_out is not None:
            z = torch.bmm(z.flatten(1, -2), self.W_out.mT).unflatten(1, lead)
        return z if self.b_out is None else z + self.b_out.view(self.M, *(1 for _ in lead), -1)

    def drive(self, inputs: Tensor) -> Tensor:
        """W_in u + b, (M, T, B, N), of inputs (M, T, B, n_in)."""
        b = self.b[:, None, None]
        if self.W_in is None:
            return b.expand(-1, *inputs.shape[1:-1], -1)
        return torch.bmm(inputs.flatten(1, 2), self.W_in.mT).unflatten(1, inputs.shape[1:3]) + b

    @property
    def step(self) -> float | Tensor:
        """gamma as one number if it is the same everywhere (quicker), else (M, 1, N)."""
        first = float(np.ravel(self.networks[0].gamma)[0])
        alike = all(np.all(net.gamma == first) for net in self.networks)
        return first if alike else self.per_network("gamma")[:, 0]

    def per_network(self, name: str) -> Tensor:
        """gamma, sigma or multiplicative of every network and neuron, (M, 1, 1, N)."""
        values = [np.broadcast_to(getattr(net, name), (self.N,)) for net in self.networks]
        return self.M_W.new_tensor(np.stack(values))[:, None, None]


def untrained(weights: Mapping[str, Array], rng: np.random.Generator, **settings: Any) -> LipschitzRNN:
    """A network to be trained: b, W_in, W_out and b_out of `weights`, a task's start of a CTRNN, whose W gives N; M_A
    and M_W ~ N(0, (0.1 / N)^2), as the source's code has it."""
    N = len(weights["W"])
    parts = {name: rng.standard_normal((N, N)) * SPREAD / N for name in MATRICES}
    matrices: dict[str, Any] = {name: LipschitzRNN.between(part, SKEW, SHRINK) for name, part in parts.items()}
    others: dict[str, Any] = {name: weights[name] for name in OTHERS if weights[name].size}
    info = {LipschitzRNN.BETWEEN: {"skew": SKEW, "shrink": SHRINK}}
    return LipschitzRNN(**matrices, **others, **settings, info=info)


def notes(net: Network | LipschitzRNN) -> dict[str, Any]:
    """What a trained `LipschitzRNN` remembers besides what every network does: skew and shrink, and what its noise is
    on the state, which other code calls `add`."""
    if not isinstance(net, LipschitzRNN):
        return {}
    found: dict[str, Any] = {LipschitzRNN.BETWEEN: dict(net.info[LipschitzRNN.BETWEEN])}
    sigma, gamma = float(np.max(net.sigma)), float(np.max(net.gamma))
    parts = [f"per step, sigma = {sigma:g}: the state gets gamma sigma xi = {gamma * sigma:g} xi"] if sigma else []
    if net.multiplicative:
        kind = "the same xi" if net.noise == "joint" else "another xi"
        parts.append(f"multiplicative = {net.multiplicative:g}: and gamma {net.multiplicative:g} f xi, with {kind}")
    return found | ({NOISE_NOTE: "; ".join(parts)} if parts else {})


def _origin(matrix: Array, skew: float, shrink: float) -> Array:
    """M with `matrix` = between(M, skew, shrink)."""
    B = matrix + shrink * np.eye(len(matrix))
    if skew == 0.5:
        return B
    symmetric, rest = (B + B.T) / 4, (B - B.T) / 4
    return (symmetric / (1 - skew) if skew < 1 else 0) + (rest / skew if skew > 0 else np.zeros_like(B))


def _check_alike(networks: Sequence[LipschitzRNN]) -> None:
    if not networks:
        raise InputError("networks must hold at least one network; found none")

    def traits(net: LipschitzRNN) -> dict[str, object]:
        shapes: dict[str, object] = {name: np.shape(getattr(net, name)) for name in (*MATRICES, *OTHERS)}
        own = {"activation": net.activation.key, "noise": net.noise, "skew and shrink": net.between_as}
        return own | shapes

    first = traits(networks[0])
    for m, net in enumerate(networks):
        for name, value in traits(net).items():
            if value != first[name]:
                raise InputError(
                    f"networks of one stack must share shapes, activation and kind of noise; found {name} "
                    f"{one_line(str(value))} in network {m} and {one_line(str(first[name]))} in network 0"
                )
