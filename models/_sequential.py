"""torch's feedforward modules: nn.Sequential of Linear and activation in turn, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from fpanalysis.feedforward import feedforward
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]

IDLE = (nn.Identity, nn.Dropout, nn.AlphaDropout)  #: do nothing to a vector outside training mode


def feedforward_of(
    module: nn.Sequential, n_in: int | None, N: int | None, readout: nn.Linear | None, sigma: Any, placement: str
) -> Network:
    """`module` as a feedforward `Network`; its last Linear, if no activation follows, is the readout."""
    layers, activation = _layers(module)
    linear = [layer for layer, _ in layers]
    if layers[-1][1] is None:
        if readout is not None:
            raise InputError("readout must be left out: the module ends in a Linear, which is its readout")
        readout = linear.pop()
    elif not isinstance(readout, nn.Linear | None):
        raise InputError(f"readout must be a torch.nn.Linear or None; found {type(readout).__name__}")
    net = feedforward(
        [_copy(layer.weight) for layer in linear],
        [_bias(layer) for layer in linear],
        None if readout is None else _copy(readout.weight),
        None if readout is None else _bias(readout),
        activation=activation,
        placement=placement,
        sigma=sigma,
    )
    for argument, given, own in (("n_in", n_in, net.n_in), ("N", N, net.N)):
        if given is not None and given != own:
            raise InputError(f"{argument} must be {own}, as the Sequential has it, or be left out; found {given!r}")
    return net


def _layers(module: nn.Sequential) -> tuple[list[tuple[nn.Linear, Any]], Any]:
    """Each Linear with its activation, None for a last one without, and the activation of all of them."""
    layers: list[tuple[nn.Linear, Any]] = []
    for part in _flat(module):
        if isinstance(part, nn.Linear) and type(part).forward is nn.Linear.forward:
            if layers and layers[-1][1] is None:
                raise InputError("module Sequential has two Linear in a row: multiply their weights into one")
            layers.append((part, None))
        elif not layers or layers[-1][1] is not None:
            raise InputError(
                f"module Sequential must be Linear and activation in turn; found {type(part).__name__} "
                f"{'at its start' if not layers else 'after an activation'}"
            )
        else:
            layers[-1] = layers[-1][0], _activation(part)
    kinds = [activation for _, activation in layers if activation is not None]
    if not kinds:
        raise InputError("module Sequential has no layer of Linear and activation, so nothing to analyse")
    if any(kind != kinds[0] for kind in kinds):
        raise InputError(f"module Sequential must have one activation throughout; found {kinds}")
    return layers, kinds[0]


def _flat(module: nn.Sequential) -> Iterator[nn.Module]:
    """Its parts, those of nested nn.Sequential among them, without those that do nothing."""
    for part in module:
        if isinstance(part, nn.Sequential):
            yield from _flat(part)
        elif not isinstance(part, IDLE):
            yield part


def _activation(part: nn.Module) -> Any:
    """The activation that `Network` takes."""
    if isinstance(part, nn.Softplus) and part.beta != 1:
        raise InputError(f"Softplus must have beta = 1; found {part.beta:g}: scale the weights around it instead")
    if isinstance(part, nn.LeakyReLU):
        return {"name": "leaky_relu", "slope": float(part.negative_slope)}
    for kind, name in ((nn.ReLU, "relu"), (nn.Softplus, "softplus"), (nn.Tanh, "tanh"), (nn.Sigmoid, "sigmoid")):
        if isinstance(part, kind):
            return name
    raise InputError(
        f"module Sequential holds a {type(part).__name__}; known are Linear, ReLU, LeakyReLU, Softplus, Tanh, Sigmoid: "
        "for other activations use fpanalysis.feedforward"
    )


def _copy(tensor: Any) -> Array:
    return np.asarray(tensor.detach().cpu().double().numpy(), np.float64)


def _bias(layer: nn.Linear) -> Array:
    return np.zeros(layer.out_features) if layer.bias is None else _copy(layer.bias)
