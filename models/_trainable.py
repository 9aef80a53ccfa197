"""Torch modules of networks: what is stepped in stacks, trained, and differentiated by its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fpanalysis.network import Network

from .ctrnn import CTRNN


def stacked(networks: Sequence[Network], dtype: torch.dtype = torch.float32) -> CTRNN:
    """The stack of `networks`, of whichever kind they are.

    Raises
    ------
    InputError
        If they differ in kind, shapes or activation.
    """
    return CTRNN(networks, dtype)
