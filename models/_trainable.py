"""Torch modules of networks: what is stepped in stacks, trained, and differentiated by its weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

import torch

from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError

from .ctrnn import CTRNN
from .lipschitz import LipschitzStack


@overload
def stacked(networks: Sequence[Network], dtype: torch.dtype = ...) -> CTRNN: ...
@overload
def stacked(networks: Sequence[LipschitzRNN], dtype: torch.dtype = ...) -> LipschitzStack: ...
@overload
def stacked(networks: Sequence[Network | LipschitzRNN], dtype: torch.dtype = ...) -> CTRNN | LipschitzStack: ...
def stacked(networks: Sequence[Network | LipschitzRNN], dtype: torch.dtype = torch.float32) -> CTRNN | LipschitzStack:
    """The stack of `networks`, of whichever kind they are.

    Raises
    ------
    InputError
        If they differ in kind, shapes or activation, or one is no network that can be trained.
    """
    ctrnns = [net for net in networks if isinstance(net, Network)]
    lipschitz = [net for net in networks if isinstance(net, LipschitzRNN)]
    if len(ctrnns) == len(networks):
        return CTRNN(ctrnns, dtype)
    if len(lipschitz) == len(networks):
        return LipschitzStack(lipschitz, dtype)
    kinds = ", ".join(dict.fromkeys(type(net).__name__ for net in networks))
    raise InputError(f"networks of one stack must be all Network or all LipschitzRNN; found {kinds}")
