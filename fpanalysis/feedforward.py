"""A feedforward network as a `Network`: its layers are groups of neurons that only see the group before.

With noise in [in] or out [out] of every layer, xi^l ~ N(0, I) independent,

    h^0 = u,    h^l = f(W_l h^{l-1} + b_l + sigma_l xi^l)  [in]   or   f(W_l h^{l-1} + b_l) + sigma_l xi^l  [out]
    z = W_out h^L + b_out

The states side by side, h = (h^1, ..., h^L), step by gamma = 1 with W_2, ..., W_L on the first block below the diagonal
of W and W_1 in W_in. Under a constant input u, step l carries the wave that u started through layer l: after L steps
every layer has its law, for good. So there is one fixed point, the noise-free pass, and the stationary law is that
of a noisy pass, layer by layer. Layers of one pass covary; in the stationary law, at one time, they belong to
passes that started at different times and are independent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.activations import Activation
from fpanalysis.checks import number_or_vector, of_shape
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]

NOTE = "layers"  #: where `info` keeps the sizes of the layers


def feedforward(
    weights: Sequence[ArrayLike],
    biases: Sequence[ArrayLike] | None = None,
    W_out: ArrayLike | None = None,
    b_out: ArrayLike | None = None,
    *,
    activation: str | dict[str, Any] | Activation = "relu",
    placement: str = "in",
    sigma: ArrayLike | Sequence[ArrayLike] = 0.0,
    conditions: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    info: Mapping[str, Any] | None = None,
) -> Network:
    """The feedforward network with these layers (equations: the module's docstring) as a `Network` of all its neurons.

    Parameters
    ----------
    weights : L matrices (n_1, n_in), (n_2, n_1), ..., (n_L, n_{L-1})
        As ``nn.Linear`` keeps them: rows are outputs.
    biases : L vectors (n_l,), optional
        Zero if left out.
    W_out, b_out : (n_out, n_L) and (n_out,), optional
        Readout, without noise. Without `W_out` the last layer is the output.
    placement : "in" | "out"
        Noise inside or outside every layer's activation.
    sigma : one number, one per layer (a number or (n_l,) each), or one per neuron (N,)
    activation, conditions, targets, info
        As of `Network`. ``info["layers"]`` will hold the sizes of the layers.

    Raises
    ------
    InputError
        If a layer does not fit the one before, or an argument does not fit the network.
    """
    W = _matrices(weights)
    sizes = [len(layer) for layer in W]
    N, at = sum(sizes), np.cumsum([0, *sizes])
    W_all, W_in = np.zeros((N, N)), np.zeros((N, W[0].shape[1]))
    W_in[: sizes[0]] = W[0]
    for l in range(1, len(W)):
        W_all[at[l] : at[l + 1], at[l - 1] : at[l]] = W[l]
    last = np.eye(sizes[-1]) if W_out is None else of_shape("W_out", W_out, (None, sizes[-1]))
    return Network(
        W=W_all,
        b=_biases(biases, sizes),
        W_in=W_in,
        W_out=np.hstack([np.zeros((len(last), at[-2])), last]),
        b_out=b_out,
        gamma=1.0,
        activation=activation,
        placement=placement,
        sigma=_noise(sigma, sizes),
        conditions=conditions,
        targets=targets,
        info={**_notes(info), NOTE: sizes},
    )


def layer_sizes(net: Network | LipschitzRNN) -> tuple[int, ...] | None:
    """(n_1, ..., n_L) of a network that :func:`feedforward` made, checked against its weights; None for any other."""
    sizes = net.info.get(NOTE)
    if not isinstance(sizes, list | tuple) or not all(type(n) is int and n > 0 for n in sizes):
        return None
    if sum(sizes) != net.N or net.form != "rate" or np.any(np.asarray(net.gamma) != 1) or net.W_out is None:
        return None
    layer = np.repeat(np.arange(len(sizes)), sizes)
    beyond = layer[:, None] != layer + 1
    first, last = layer == 0, layer == len(sizes) - 1
    driven = net.W_in is not None and net.W_in[~first].any()
    if (net.W * beyond).any() or driven or net.W_out[:, ~last].any():
        return None
    return tuple(sizes)


def _matrices(weights: Sequence[ArrayLike]) -> list[Array]:
    if not isinstance(weights, list | tuple) or not len(weights):
        raise InputError(f"weights must be a list of one matrix per layer; found {type(weights).__name__}")
    W = [of_shape(f"weights[{l}]", layer, (None, None)) for l, layer in enumerate(weights)]
    for l, layer in enumerate(W):
        if not len(layer):
            raise InputError(f"weights[{l}] must have a row per neuron; found none")
        if l and layer.shape[1] != len(W[l - 1]):
            raise InputError(
                f"weights[{l}] must have a column for each of the {len(W[l - 1])} neurons of the layer before; "
                f"found shape {layer.shape}"
            )
    return W


def _biases(biases: Sequence[ArrayLike] | None, sizes: Sequence[int]) -> Array:
    if biases is None:
        return np.zeros(sum(sizes))
    found = len(biases) if np.iterable(biases) else type(biases).__name__
    if found != len(sizes):
        raise InputError(f"biases must be one vector per layer, {len(sizes)}; found {found}")
    pairs = zip(biases, sizes, strict=True)
    return np.concatenate([of_shape(f"biases[{l}]", b, (n,)) for l, (b, n) in enumerate(pairs)])


def _noise(sigma: Any, sizes: Sequence[int]) -> float | Array:
    """One number, or (N,)."""
    if not isinstance(sigma, list | tuple) and np.ndim(sigma) == 0:
        return number_or_vector("sigma", sigma, sum(sizes))
    if len(sigma) == len(sizes):
        pairs = zip(sigma, sizes, strict=True)
        levels = [np.broadcast_to(number_or_vector(f"sigma[{l}]", s, n), (n,)) for l, (s, n) in enumerate(pairs)]
        return np.concatenate(levels)
    if len(sigma) != sum(sizes):
        raise InputError(
            f"sigma must be one number, one per layer ({len(sizes)}), or one per neuron ({sum(sizes)}); "
            f"found {len(sigma)} values"
        )
    return number_or_vector("sigma", sigma, sum(sizes))


def _notes(info: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if info is not None and not isinstance(info, Mapping):
        raise InputError(f"info must be a mapping of names to plain values; found {type(info).__name__}")
    return info or {}
