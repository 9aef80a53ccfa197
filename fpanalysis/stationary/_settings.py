"""What may be asked of a Monte Carlo run."""

from __future__ import annotations

from typing import Any

import numpy as np

from fpanalysis.results import InputError

BATCHES = 20  #: batch means kept per chain


def check_settings(**settings: Any) -> dict[str, Any]:
    """`settings` as they are, if they can be used; raises `InputError` otherwise."""
    for name in ("chains", "steps", "burn_in", "max_chains"):
        value = settings[name]
        if value is not None and not (isinstance(value, int | np.integer) and not isinstance(value, bool)):
            raise InputError(f"{name} must be a whole number; found {value!r}")
    chains, precision = settings["chains"], settings["precision"]
    if chains is not None and (chains < 8 or chains % 2):
        raise InputError(f"chains must be an even number >= 8, for antithetic pairs; found {chains}")
    if settings["steps"] is not None and settings["steps"] < BATCHES:
        raise InputError(f"steps must be at least {BATCHES}; found {settings['steps']}")
    if settings["burn_in"] is not None and settings["burn_in"] < 0:
        raise InputError(f"burn_in must be >= 0; found {settings['burn_in']}")
    if precision not in (None, "single", "double"):
        raise InputError(f"precision must be 'single' or 'double'; found {precision!r}")
    if not isinstance(settings["control"], bool):
        raise InputError(f"control must be True or False; found {settings['control']!r}")
    for name in ("standard_error", "relative_error"):
        value = settings[name]
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if value is not None and not (number and value > 0):
            raise InputError(f"{name} must be a positive number; found {value!r}")
    if settings["max_chains"] is None or settings["max_chains"] < 8:
        raise InputError(f"max_chains must be at least 8; found {settings['max_chains']}")
    names = settings["density"]
    if names is not None and not (isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)):
        raise InputError(f"density must be a list of names, such as ['neuron 0', 'output 1']; found {names!r}")
    if settings["starts"] not in ("one", "apart"):
        raise InputError(f"starts must be 'one' or 'apart'; found {settings['starts']!r}")
    _check_device(settings["device"])
    return settings


def _check_device(device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise InputError(f"device must be 'cpu' or 'cuda'; found {device!r}")
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise InputError("device 'cuda' was asked for, but torch finds no GPU here: use device='cpu'")
