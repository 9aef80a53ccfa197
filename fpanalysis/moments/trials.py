"""Trials under constant inputs: what a settled output is judged by."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import of_shape
from fpanalysis.feedforward import layer_sizes
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError

Array = NDArray[np.float64]

STEPS = 200  #: of a trial of a recurrent network


def held(
    net: Network | LipschitzRNN,
    inputs: ArrayLike | None = None,
    targets: ArrayLike | None = None,
    steps: int | None = None,
    counted: int | None = None,
) -> tuple[Array, Array, Array]:
    """A batch for :func:`fpanalysis.loss_curve`: every input held for T steps, of which the last count.

    Parameters
    ----------
    inputs, targets : (B, n_in) and (B, n_out), optional
        None: the conditions and targets that the network remembers.
    steps : T, optional
        None: one per layer of a feedforward network, which is how long an input takes to pass; else 200.
    counted : how many of the last steps count, optional
        None: one of a feedforward network, whose output no longer changes; else half of them.

    Returns
    -------
    inputs, targets, mask : (T, B, n_in), (T, B, n_out) and (T, B)

    Raises
    ------
    InputError
        If inputs or targets are missing or do not fit, or a feedforward network is given too few steps.
    """
    if not isinstance(net, Network | LipschitzRNN):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    if inputs is None and targets is None:
        inputs, targets = net.conditions, net.targets
    if inputs is None or targets is None:
        raise InputError(
            "inputs and targets must be given together, or left out for a network that remembers conditions and targets"
        )
    u = of_shape("inputs", inputs, (None, net.n_in))
    z = of_shape("targets", targets, (len(u), net.n_out))
    depth = len((layer_sizes(net) if isinstance(net, Network) else None) or ())
    T = _whole("steps", steps, depth or STEPS)
    last = _whole("counted", counted, 1 if depth else max(1, T // 2))
    if depth and T - last < depth - 1:
        raise InputError(
            f"an input needs {depth} steps to pass through this network: steps must be at least counted + {depth - 1}; "
            f"found steps = {T}, counted = {last}"
        )
    if last > T:
        raise InputError(f"counted must be at most steps; found counted = {last}, steps = {T}")
    mask = np.zeros((T, len(u)))
    mask[-last:] = 1
    return np.repeat(u[None], T, axis=0), np.repeat(z[None], T, axis=0), mask


def _whole(name: str, value: int | None, default: int) -> int:
    if value is None:
        return default
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise InputError(f"{name} must be a whole number >= 1; found {value!r}")
    return int(value)
