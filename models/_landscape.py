"""The loss of a network as a function of its weights theta: values, gradient, and products with its Hessian.

    l(theta) = mean_r l(theta, xi_r)

over R runs, each with noise xi_r that is drawn once and kept (common random numbers); without noise R = 1. theta holds
the weights that are varied, one after the other in the order of `groups`: those that enter the step, W, b, W_in, W_out,
b_out, and A of a Lipschitz RNN, whatever they were trained through. Changes of theta are measured in `unit`, so that
everything here is of the function l(theta + unit * x) of x (P,) at x = 0:

    "absolute"   unit_i = 1
    "group"      unit_i = root mean square of the group that weight i belongs to
    "weight"     unit_i = |theta_i|

With kinks in f, second derivatives are those of the smooth pieces. Their mean over the noise is not the Hessian of the
expected loss, from which it lacks what kinks add wherever neurons cross them; of a ReLU network this can be most of it.
Noise inside f is therefore split in two, sigma^2 = (sigma^2 - tau^2) + tau^2: the second part is averaged over within f
(f becomes f_tau, f_tau(x) = E f(x + tau xi)), which leaves no kinks. The mean of f is kept, of its variance a share of
order tau^2 / sigma^2 is lost.

Products with the Hessian differentiate twice and backward, in float64; the graph of the first derivative is kept, so
that each costs two to three gradients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fpanalysis._grouped import smoothed as smoothed_activation
from fpanalysis.checks import LARGEST, check_rng, of_shape
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments.loss import outputs_mask
from fpanalysis.network import Network
from fpanalysis.regularizer.losses import CrossEntropy
from fpanalysis.results import InputError
from fpanalysis.tasks import Feedback, remembered

from ._trainable import stacked

Array = NDArray[np.float64]
Parameters = Sequence[str] | Mapping[str, ArrayLike]

SHARE = 1 / 4  #: of the noise inside f, tau / sigma: what smooths the kinks
SCALES = ("absolute", "group", "weight")
LOSSES = ("squared error", "cross-entropy")
STATES = 1 << 21  #: numbers of a trajectory held at once when losses alone are asked for


class Landscape:
    """The loss on one batch around the weights of `net`.

    Arguments are those of :func:`fpanalysis.models.flatness`, which says what they are.
    """

    def __init__(
        self,
        net: Network | LipschitzRNN,
        batch: Sequence[ArrayLike],
        *,
        scale: str = "absolute",
        loss: str | None = None,
        sigma: float = 0.0,
        smoothed: float | None = None,
        runs: int = 8,
        parameters: Parameters | None = None,
        feedback: Feedback | None = None,
        h0: ArrayLike | None = None,
        rng: int | np.random.Generator = 0,
    ) -> None:
        task = _task(net)
        self.net: Any = net
        self.feedback = feedback or (task.feedback if task else None)
        self.loss = _loss(loss or (task.loss if task else LOSSES[0]))
        self._read(batch, h0)
        self.sigma = _level("sigma", sigma)
        self.smoothed = _share(net, self.sigma, smoothed)
        plain = dataclasses.replace(net, info={})
        self.net, drawn = _split(plain, self.sigma, self.smoothed)
        self.R = _runs(runs) if drawn else 1
        self.model = stacked([self.net] * self.R, torch.float64)
        self.noise = self._noise(check_rng(rng))
        chosen = parameters if parameters is not None else _trained(self.model, task)
        self.masks = _masks(self.model, chosen)
        sizes = {name: int(mask.sum()) for name, mask in self.masks.items()}
        ends = np.cumsum([0, *sizes.values()]).tolist()
        self.groups = {name: slice(a, b) for name, a, b in zip(sizes, ends[:-1], ends[1:], strict=True)}
        self.P = ends[-1]
        self.theta = self._flat([p[:1] for p in self._parts(self.model)])[0]
        self.unit = self._unit(scale)
        self.settings = self._settings(scale)
        self._graph: tuple[list[Tensor], list[Tensor]] | None = None

    def differentiate(self) -> tuple[Array, Array]:
        """Losses (R,) and gradients (R, P) of the runs; `product` needs this once."""
        parts = self._parts(self.model)
        losses = self._losses(self.model, self.noise)
        first = torch.autograd.grad(losses.sum(), parts, create_graph=True, materialize_grads=True)
        self._graph = (parts, list(first))
        return losses.detach().numpy(), self._flat(first) * self.unit

    def product(self, v: Array) -> Array:
        """H_r v of each run, (R, P), for one direction v (P,)."""
        if self._graph is None:
            self.differentiate()
        assert self._graph is not None
        parts, first = self._graph
        found = [(g, w) for g, w in zip(first, self._shaped(self.unit * v[None]), strict=True) if g.requires_grad]
        if not found:  # a loss that is linear in all weights
            return np.zeros((self.R, self.P))
        grads, seeds = zip(*((g, w.expand_as(g)) for g, w in found), strict=True)
        second = torch.autograd.grad(grads, parts, seeds, retain_graph=True, materialize_grads=True)
        return self._flat(second) * self.unit

    @torch.no_grad()
    def values(self, x: Array) -> Array:
        """l(theta + unit * x) of each run, (K, R), for x (K, P)."""
        T, B, _ = self.inputs.shape
        together = max(1, STATES // (T * B * self.net.N))
        return np.concatenate([self._values(x[k : k + together] * self.unit) for k in range(0, len(x), together)])

    def _values(self, shifts: Array) -> Array:
        model = stacked([self.net] * len(shifts), torch.float64)
        for part, mask, shift in zip(
            self._parts(model), self.masks.values(), self._split(torch.tensor(shifts)), strict=True
        ):
            part.flatten(1)[:, mask.flatten()] += shift
        noises = [None] if self.noise is None else self.noise.split(1, dim=-4)
        return torch.stack([self._losses(model, noise) for noise in noises], 1).numpy()

    def _unit(self, scale: str) -> Array:
        if scale not in SCALES:
            raise InputError(f"scale must be one of {', '.join(SCALES)}; found {scale!r}")
        if scale == "weight":
            return np.abs(self.theta)
        unit = np.ones(self.P)
        for part in self.groups.values() if scale == "group" else ():
            unit[part] = np.sqrt(np.mean(self.theta[part] ** 2))
        return unit

    def _settings(self, scale: str) -> dict[str, Any]:
        """What it is made of, beside the network and the numbers of the batch."""
        return {
            "scale": scale,
            "loss": self.loss,
            "sigma": self.sigma,
            "smoothed": self.smoothed,
            "runs": self.R,
            "parameters": {name: part.stop - part.start for name, part in self.groups.items()},
            "steps": int(self.inputs.shape[0]),
            "trials": int(self.inputs.shape[1]),
        }

    def _losses(self, model: Any, noise: Tensor | None) -> Tensor:
        """(M,)."""
        z = model(self.inputs, self.h0, noise) if self.feedback is None else self._steered(model, noise)
        if self.loss == "squared error":
            return (self.weight * (z - self.targets) ** 2).sum((1, 2, 3))
        return -(self.weight[..., :1] * self.targets * torch.log_softmax(z, -1)).sum((1, 2, 3)) * z.shape[-1]

    def _steered(self, model: Any, noise: Tensor | None) -> Tensor:
        """Positions p (M, T, B, n_out) in the closed loop of `fpanalysis.tasks.Feedback`."""
        loop = self.feedback
        assert loop is not None
        h = self.h0.expand(model.M, *self.h0.shape)
        p, path = torch.as_tensor(loop.start(self.inputs)).expand(model.M, -1, -1), []
        for t in range(len(self.inputs)):
            z = model.output(h)
            xi = None if noise is None else noise[..., t : t + 1, :, :]
            h = model.states(loop.gain * (p - loop.centre)[:, None], h, xi)[:, 0]
            p = p + loop.rate * z
            path.append(p)
        return torch.stack(path, 1)

    def _read(self, batch: Sequence[ArrayLike], h0: ArrayLike | None) -> None:
        if not isinstance(batch, tuple | list) or len(batch) != 3:
            raise InputError("batch must be (inputs, targets, mask), as Task.batch gives it")
        net = self.net
        inputs = of_shape("inputs", batch[0], (None, None, net.n_in))
        T, B, _ = inputs.shape
        if not T or not B:
            raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
        targets = of_shape("targets", batch[1], (T, B, net.n_out))
        mask = outputs_mask(batch[2], targets.shape)
        weight = mask / mask.sum()
        if self.loss == "cross-entropy":
            CrossEntropy().check_targets(targets, weight)
        start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
        parts = (inputs, targets, weight, start)
        self.inputs, self.targets, self.weight, self.h0 = (torch.tensor(np.array(part)) for part in parts)

    def _noise(self, rng: np.random.Generator) -> Tensor | None:
        """sigma xi of every run, (..., R, T, B, N)."""
        if self.R == 1:
            return None
        seeds = rng.integers(2**62, size=self.R).tolist()
        T, B, _ = self.inputs.shape
        return self.model.draw_noise(T, B, [torch.Generator().manual_seed(seed) for seed in seeds])

    def _parts(self, model: Any) -> list[Tensor]:
        present = _named(model)
        return [present[name] for name in self.masks]

    def _flat(self, parts: Sequence[Tensor]) -> Array:
        """The varied entries of tensors shaped as the parameters are, (M, P)."""
        masks = self.masks.values()
        chosen = [part.detach().flatten(1)[:, mask.flatten()] for part, mask in zip(parts, masks, strict=True)]
        return torch.cat(chosen, 1).numpy()

    def _split(self, V: Tensor) -> list[Tensor]:
        return [V[:, part] for part in self.groups.values()]

    def _shaped(self, V: Array) -> list[Tensor]:
        """Directions (K, P) as tensors (K, ...) shaped as the parameters are; zero where a weight is not varied."""
        found = []
        for v, mask in zip(self._split(torch.tensor(V)), self.masks.values(), strict=True):
            whole = v.new_zeros(len(V), mask.numel())
            whole[:, mask.flatten()] = v
            found.append(whole.view(len(V), *mask.shape))
        return found


def _named(model: Any) -> dict[str, Tensor]:
    return {name.removeprefix("M_"): parameter for name, parameter in model.named_parameters()}


def _task(net: object) -> Any:
    if not isinstance(net, Network | LipschitzRNN):
        raise InputError(f"net must be a fpanalysis.Network or LipschitzRNN; found {type(net).__name__}")
    if isinstance(net, Network) and net.moved:
        raise InputError(
            "net is a network in a closed loop, among whose weights are those of the loop: give the network itself, "
            "with feedback= if it remembers no task that closes the loop"
        )
    return remembered(net.info)


def _loss(name: object) -> str:
    if name not in LOSSES:
        raise InputError(f"loss must be {' or '.join(map(repr, LOSSES))}; found {name!r}")
    return str(name)


def _level(name: str, value: ArrayLike) -> float:
    level = float(of_shape(name, value, ()))
    if not 0 <= level <= LARGEST:
        raise InputError(f"{name} must lie in [0, {LARGEST:g}]; found {level:g}")
    return level


def _inside(net: Network | LipschitzRNN) -> bool:
    return isinstance(net, Network) and net.form == "rate" and net.placement == "in"


def _share(net: Network | LipschitzRNN, sigma: float, smoothed: float | None) -> float:
    """tau."""
    if smoothed is None:
        return SHARE * sigma if _inside(net) and not net.smooth else 0.0
    tau = _level("smoothed", smoothed)
    if _inside(net) and tau > sigma > 0:
        raise InputError(f"smoothed must be at most sigma, of which it is a share; found {tau:g} and {sigma:g}")
    return tau


def _split(net: Any, sigma: float, tau: float) -> tuple[Any, bool]:
    """The network with f smoothed by tau, at the noise that is left to draw, and whether any is left. Its `info` is
    dropped: a Lipschitz RNN then has A and W for parameters, not what they were made of."""
    profile = net.noise_profile
    if tau:
        net = dataclasses.replace(net, activation=smoothed_activation(net.activation, tau * profile))
    left = float(np.sqrt(sigma**2 - tau**2)) if sigma and _inside(net) else sigma
    own = max(float(np.max(net.sigma)), net.multiplicative)
    if left and net.multiplicative:
        share = left / own
        return dataclasses.replace(net, sigma=share * net.sigma, multiplicative=share * net.multiplicative), True
    return net.with_sigma(left * profile) if left else net, left > 0


def _runs(runs: object) -> int:
    if isinstance(runs, bool) or not isinstance(runs, int | np.integer) or runs < 2:
        raise InputError(f"runs must be a whole number >= 2, to tell their spread; found {runs!r}")
    return int(runs)


def _trained(model: Any, task: Any) -> Parameters:
    """What the task trains, without connections that do not exist; without a task all weights."""
    present = {name: np.ones(tuple(p.shape[1:])) for name, p in _named(model).items()}
    if task is None:
        return present
    names = {*task.trainable, *(("A",) if "W" in task.trainable else ())}
    exist = task.connections()
    return {name: exist.get(name, mask) for name, mask in present.items() if name in names}


def _masks(model: Any, parameters: Parameters) -> dict[str, Tensor]:
    """Which entries of each parameter are varied."""
    present = _named(model)
    if isinstance(parameters, str) or not len(parameters):
        raise InputError(f"parameters must be names of {', '.join(present)}, or masks by name; found {parameters!r}")
    masks = {}
    for name in parameters:
        if name not in present:
            raise InputError(f"parameters must be among {', '.join(present)}; found {name!r}")
        shape = tuple(present[name].shape[1:])
        given = parameters[name] if isinstance(parameters, Mapping) else np.ones(shape)
        mask = of_shape(f"parameters[{name!r}]", given, shape) != 0
        if mask.any():
            masks[name] = torch.tensor(mask)
    if not masks:
        raise InputError("parameters must leave at least one weight to vary; found masks that are zero throughout")
    return masks
