"""Other people's torch modules as systems: their weights in float64, their step unchanged.

What is copied is the step at constant input. The noise of a `Cell` is on the state, h' = F(h, u) + sigma xi; an
nn.RNN and an nn.Sequential of layers become a `Network`, with its noise inside f or outside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from fpanalysis.network import Network
from fpanalysis.results import InputError

from ._callable import Automatic
from ._layers import GRULayer, Layer, LSTMLayer, ReluLayer, TanhLayer
from ._sequential import feedforward_of
from ._stack import Stack
from .cell import Cell, Dynamics, readout_of

LAYERS: dict[str, type[Layer]] = {"tanh": TanhLayer, "relu": ReluLayer, "GRU": GRULayer, "LSTM": LSTMLayer}
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
KNOWN = (nn.RNN, nn.RNNCell, nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell)


def from_torch(
    module: nn.Module | Callable[[Tensor, Tensor], Tensor],
    n_in: int | None = None,
    N: int | None = None,
    *,
    readout: nn.Linear | None = None,
    sigma: ArrayLike | Sequence[ArrayLike] = 0.0,
    placement: str | None = None,
) -> Network | Cell:
    """A torch module as a system to analyse, by its recurrent step or its layers; the module stays as it is.

    Parameters
    ----------
    module :
        - nn.RNN of one layer, nn.RNNCell -> Network with gamma = 1, W = weight_hh, W_in = weight_ih and
          b = b_ih + b_hh, exactly;
        - nn.Sequential of Linear and activation (ReLU, LeakyReLU, Softplus, Tanh or Sigmoid, the same throughout) in
          turn -> Network by :func:`fpanalysis.feedforward`; a last Linear without an activation is its readout;
        - nn.GRU, nn.GRUCell, nn.LSTM, nn.LSTMCell, and stacked layers of RNN, GRU or LSTM -> Cell, closed
          form. The state is torch's (h_n, c_n) laid out flat: h of layers 1..L, then c of layers 1..L;
        - any other callable or nn.Module (u, h) -> h' -> Cell. It steps a batch, as torch's cells do: u (K, n_in)
          and h (K, N) give h' (K, N), and no row may influence another.
    n_in, N : sizes of input and state; needed for other callables, checked for torch's own modules.
    readout : linear readout of what the module puts out (the last layer's h); None for the state itself.
    sigma : noise per step, one number or one per neuron; of an nn.Sequential also one per layer.
    placement : of a Network's noise, "in" (None) or "out"; the noise of a Cell is on its state.

    Returns
    -------
    Network or Cell
        With float64 copies of the parameters, on the CPU.

    Raises
    ------
    InputError
        If the module has two directions, a projection, active dropout or noise, parameters that are not finite
        or hold no data, or does not step a state of float64 as described; if a Sequential holds anything else than
        layers as described; if `placement` is given for a Cell; on anything that is not callable. Files are not
        unpickled: build the module, load its state_dict, and pass the module.
    """
    _refuse_what_is_no_module(module)
    if isinstance(module, nn.Module):
        _check_parameters(module)
        if isinstance(module, KNOWN) and type(module).forward in [known.forward for known in KNOWN]:
            return _known(module, n_in, N, readout, sigma, placement)
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            return feedforward_of(module, n_in, N, readout, sigma, placement or "in")
    dynamics = Automatic(module, _size("n_in", n_in, 0), _size("N", N, 1))
    return _cell(dynamics, readout, sigma, placement)


def _cell(dynamics: Dynamics, readout: nn.Linear | None, sigma: Any, placement: str | None) -> Cell:
    if placement is not None:
        raise InputError(f"placement must be left out for a Cell, whose noise is on its state; found {placement!r}")
    W_out, b_out = readout_of(readout, dynamics)
    return Cell(dynamics, sigma, W_out, b_out)


def _size(name: str, value: int | None, least: int) -> int:
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < least:
        raise InputError(
            f"{name} must be given as a whole number >= {least} for a callable (u, h) -> h', whose sizes cannot "
            f"be known; found {value!r}"
        )
    return int(value)


def _refuse_what_is_no_module(module: Any) -> None:
    unpickled = "saved modules are not unpickled: build the module, load its state_dict, and pass the module"
    if isinstance(module, str | bytes | os.PathLike):
        raise InputError(f"module must be a torch module or callable; found the path {module!r}; {unpickled}")
    if isinstance(module, Mapping):
        raise InputError(f"module must be a torch module or callable; found a {type(module).__name__}; {unpickled}")
    if isinstance(module, type):
        raise InputError(
            f"module must be a torch module or callable; found the class {module.__name__}: pass one of it"
        )
    if not callable(module):
        raise InputError(f"module must be a torch module or callable (u, h) -> h'; found {type(module).__name__}")


def _check_parameters(module: nn.Module) -> None:
    kind = type(module).__name__
    for name, part in module.named_modules():
        found = _active(part)
        if found:
            where = f" (its part {name!r})" if name else ""
            raise InputError(f"module {kind}{where} has {found} in training mode: call module.eval()")
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if is_lazy(tensor) or tensor.is_meta:
            raise InputError(f"module {kind}: {name} holds no data yet: load the module's state_dict first")
        if not tensor.isfinite().all():
            raise InputError(f"module {kind}: {name} holds NaN or infinite values; find out where training went wrong")


def _active(part: nn.Module) -> str | None:
    """What makes the step of a module in training mode random, or change its weights."""
    if not part.training:
        return None
    if isinstance(part, DROPOUTS) and part.p > 0:
        return f"dropout {part.p:g}"
    if isinstance(part, nn.RNNBase) and part.dropout > 0 and part.num_layers > 1:
        return f"dropout {part.dropout:g}"
    return "a parametrization" if is_parametrized(part) else None


def _known(
    module: Any, n_in: int | None, N: int | None, readout: nn.Linear | None, sigma: Any, placement: str | None
) -> Network | Cell:
    """torch's own recurrent modules, whose weights are named weight_ih, ... with _l0, _l1, ... for layers."""
    kind = type(module).__name__
    if getattr(module, "bidirectional", False):
        raise InputError(
            f"module {kind} is bidirectional: its backward half has no step forward in time; use one direction"
        )
    if getattr(module, "proj_size", 0):
        raise InputError(
            f"module {kind} has proj_size = {module.proj_size}, which is not supported: pass its step as a callable "
            "(u, h) -> h'"
        )
    name = next(
        name for name in ("RNN", "GRU", "LSTM") if isinstance(module, getattr(nn, name) | getattr(nn, f"{name}Cell"))
    )
    activation = module.nonlinearity if name == "RNN" else name
    suffixes = [f"_l{k}" for k in range(module.num_layers)] if isinstance(module, nn.RNNBase) else [""]
    layers = [_layer(LAYERS[activation], module, suffix) for suffix in suffixes]
    dynamics = Stack(name if name == activation else f"{activation} {name}", layers)
    for argument, given, own in (("n_in", n_in, dynamics.n_in), ("N", N, dynamics.N)):
        if given is not None and given != own:
            raise InputError(f"{argument} must be {own}, as the {kind} has it, or be left out; found {given!r}")
    if name != "RNN" or len(layers) > 1:
        return _cell(dynamics, readout, sigma, placement)
    W_out, b_out = readout_of(readout, dynamics)
    W, W_in, b = (x.numpy() for x in (layers[0].W[0], layers[0].V[0], layers[0].b_ih + layers[0].b_hh))
    return Network(
        W=W,
        b=b,
        W_in=W_in if dynamics.n_in else None,
        W_out=W_out,
        b_out=b_out,
        gamma=1.0,
        activation=activation,
        placement=placement or "in",
        sigma=sigma,
    )


def _layer(kind: type[Layer], module: nn.Module, suffix: str) -> Layer:
    """Float64 copies of one layer's weights, split by gates; biases of zero where it has none."""

    def copy(name: str) -> Tensor:
        weight: Tensor = getattr(module, name + suffix)
        return weight.detach().cpu().double().clone()

    V, W = (copy(name).unflatten(0, (kind.gates, -1)) for name in ("weight_ih", "weight_hh"))
    if module.bias:
        return kind(V, W, copy("bias_ih"), copy("bias_hh"))
    zero = W.new_zeros(W.shape[0] * W.shape[1])
    return kind(V, W, zero, zero)
