"""The parts that networks of every kind have, checked: biases, input and output weights, step, noise, conditions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import get_activation
from fpanalysis.checks import brief, check_sigma, number_or_vector, of_shape, real_array
from fpanalysis.results import InputError

Array = NDArray[np.float64]


def checked_weights(value: Any) -> Array:
    """Recurrent weights, (N, N)."""
    W = real_array("W", value)
    if W.ndim != 2 or W.shape[0] != W.shape[1] or not W.size:
        raise InputError(f"W must be square, (N, N); found shape {W.shape}")
    return W


def checked_parts(net: Any, N: int) -> dict[str, Any]:
    """Of a network of N neurons all but its recurrent weights and its kind of noise, by name, as its fields hold them.

    Raises
    ------
    InputError
        For the first part that does not fit.
    """
    parts: dict[str, Any] = {"b": of_shape("b", net.b if net.b is not None else np.zeros(N), (N,))}
    W_in = None if net.W_in is None else of_shape("W_in", net.W_in, (N, None))
    W_out = None if net.W_out is None else of_shape("W_out", net.W_out, (None, N))
    n_in, n_out = (0 if W_in is None else W_in.shape[1]), (N if W_out is None else len(W_out))
    if not n_out:
        raise InputError("W_out must have at least one output; found none: leave it out to read every neuron")
    parts |= {"W_in": W_in, "W_out": W_out}
    parts["b_out"] = None if net.b_out is None else of_shape("b_out", net.b_out, (n_out,))
    parts["gamma"] = number_or_vector("gamma", net.gamma, N)
    parts["sigma"] = check_sigma(net.sigma, N)
    if np.any(np.asarray(parts["gamma"]) <= 0) or np.any(np.asarray(parts["gamma"]) > 1):
        raise InputError(f"gamma must lie in (0, 1]; found {brief(parts['gamma'])}")
    if net.conditions is not None:
        parts["conditions"] = of_shape("conditions", net.conditions, (None, n_in))
        if not len(parts["conditions"]):
            raise InputError("conditions must hold at least one input; found none: leave them out")
    if net.targets is not None:
        if net.conditions is None:
            raise InputError("targets were given without conditions: give the inputs they belong to")
        parts["targets"] = of_shape("targets", net.targets, (len(parts["conditions"]), n_out))
    parts["activation"] = get_activation(net.activation)
    parts["activation"].check_size(N)
    if not isinstance(net.info, Mapping):
        raise InputError(f"info must be a mapping of names to plain values; found {type(net.info).__name__}")
    return parts | {"info": dict(net.info)}
