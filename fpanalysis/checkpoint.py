"""Networks to files and back, safely.

A checkpoint is what ``torch.save`` writes and ``torch.load(weights_only=True)`` reads, of a `Network`

    {"format": "fpanalysis.network/1",
     "config": {"gamma", "sigma", "activation", "placement", "form", "conditions", "targets", "info"},
     "state_dict": {"W", "b", "W_in", "W_out", "b_out"}}

and of a `LipschitzRNN`

    {"format": "fpanalysis.lipschitz-rnn/1",
     "config": {"gamma", "sigma", "multiplicative", "noise", "activation", "conditions", "targets", "info"},
     "state_dict": {"A", "W", "b", "W_in", "W_out", "b_out"}}

with plain numbers, strings and lists in ``config`` and float64 tensors in ``state_dict`` (absent parts left
out). Nothing is ever unpickled unsafely: a file that needs it is refused.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fpanalysis.activations import get_activation
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, one_line, write_atomically

Trained = Network | LipschitzRNN


class Format(NamedTuple):
    """What a file of one kind of network holds."""

    kind: type[Trained]
    tensors: tuple[str, ...]
    settings: tuple[str, ...]
    required: tuple[str, ...]  #: tensors and settings for which no default may stand in: nobody chose it


FORMAT = "fpanalysis.network/1"
LIPSCHITZ = "fpanalysis.lipschitz-rnn/1"
FORMATS = {
    FORMAT: Format(
        Network,
        ("W", "b", "W_in", "W_out", "b_out"),
        ("gamma", "sigma", "activation", "placement", "form", "conditions", "targets", "info"),
        ("W", "gamma", "sigma", "activation", "placement"),
    ),
    LIPSCHITZ: Format(
        LipschitzRNN,
        ("A", "W", "b", "W_in", "W_out", "b_out"),
        ("gamma", "sigma", "multiplicative", "noise", "activation", "conditions", "targets", "info"),
        ("A", "W", "gamma", "sigma", "multiplicative", "noise", "activation"),
    ),
}
REMEDY = (
    "build fpanalysis.Network(W=..., b=..., ...) from the weights and write it with fpanalysis.save(network, path); a "
    "GRU, an LSTM or another torch module is analysed from Python: fpanalysis.models.from_torch(module)"
)


def save(net: Trained, path: str | os.PathLike[str]) -> None:
    """Write `net` to `path`; the file appears whole or not at all.

    Raises
    ------
    InputError
        If `path` cannot be written, or `info` holds anything but plain numbers, strings, lists and dictionaries.
    """
    import torch

    named = next((name for name, own in FORMATS.items() if isinstance(net, own.kind)), None)
    if named is None:
        raise InputError(f"net must be a fpanalysis.Network or a LipschitzRNN; found {type(net).__name__}")
    _check_path(path)
    own = FORMATS[named]
    values = {name: getattr(net, name) for name in own.settings} | {"activation": net.activation.config()}
    config = {name: _plain(name, value) for name, value in values.items()}
    tensors = {name: getattr(net, name) for name in own.tensors}
    state = {name: torch.tensor(value) for name, value in tensors.items() if value is not None}
    write({"format": named, "config": config, "state_dict": state}, path)


def write(content: Any, path: str | os.PathLike[str]) -> None:
    """``torch.save``, atomically; refusals as `InputError`."""
    import torch

    with write_atomically(path) as temporary:
        try:
            torch.save(content, temporary)
        except RuntimeError as error:  # torch's word for a full disk
            raise InputError(f"cannot write {path}: {one_line(str(error))} (is the disk full?)") from None


def load(path: str | os.PathLike[str]) -> Trained:
    """Read the network that :func:`save` or the training core wrote, of whichever kind it is.

    Raises
    ------
    InputError
        If the file is missing, is not a checkpoint, cannot be loaded safely, or holds values that make no
        network. The message says what was found and what to do.
    """
    return from_checkpoint(read(path), str(path))


def load_ctrnn(path: str | os.PathLike[str], what: str) -> Network:
    """The same for `what`, which is of a `Network` only; another kind is refused."""
    net = load(path)
    if not isinstance(net, Network):
        raise InputError(
            f"{path} holds a Lipschitz RNN, and {what} is of CTRNNs (fpanalysis.Network) only; for it there are "
            "'fpanalysis inspect', 'fixed-points', 'preference', 'stability', 'regularizer', 'flatness', 'robustness' "
            "and, where its noise is additive, 'stationary'"
        )
    return net


def _check_path(path: Any) -> None:
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"path must be a file name; found {path!r}")


def read(path: str | os.PathLike[str]) -> Any:
    """What ``torch.load(weights_only=True)`` finds at `path`; refusals as `InputError`."""
    import torch

    _check_path(path)
    file = Path(path)
    try:
        if not file.is_file():
            found = "it is a folder" if file.is_dir() else "it is no regular file" if file.exists() else "no such file"
            raise InputError(f"cannot read {file}: {found}; make one with 'fpanalysis train'")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's advice on files that are refused here anyway
            return torch.load(file, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except pickle.UnpicklingError as error:
        if "GLOBAL" in str(error):
            raise InputError(
                f"{file} holds Python objects beyond tensors and plain values (a whole module, numpy arrays, ...), "
                f"which only unsafe unpickling could load, so it is refused; {REMEDY}"
            ) from None
        raise InputError(f"{file} is not a checkpoint, or is damaged: torch.load cannot read it; {REMEDY}") from None
    except Exception:  # noqa: BLE001  torch.load raises whatever a damaged archive provokes
        raise InputError(f"{file} is not a checkpoint, or is damaged: torch.load cannot read it; {REMEDY}") from None


def from_checkpoint(content: Any, source: str) -> Trained:
    """The network in the content of a checkpoint; `source` names it in messages."""
    own = _format(content, source)
    config, state = content.get("config"), content.get("state_dict")
    if not isinstance(config, dict) or not isinstance(state, dict):
        raise InputError(f"{source}: a checkpoint needs 'config' and 'state_dict' dictionaries; {REMEDY}")
    unknown = sorted(map(str, (set(config) - set(own.settings)) | (set(state) - set(own.tensors))))
    if unknown:
        raise InputError(
            f"{source}: unknown entries {one_line(repr(unknown))}; "
            f"expected config of {own.settings} and state_dict of {own.tensors}"
        )
    for name in (name for name in own.required if name in own.tensors and name not in state):
        raise InputError(f"{source}: the state_dict has no {name!r} (recurrent weights); found {sorted(state)}")
    missing = [name for name in own.required if name in own.settings and config.get(name) is None]
    if missing:
        raise InputError(f"{source}: the config has no value for {', '.join(missing)}; {REMEDY}")
    try:
        arguments: dict[str, Any] = {name: _numpy(name, value) for name, value in state.items()}
        arguments |= {name: value for name, value in config.items() if value is not None}
        arguments["activation"] = get_activation(config["activation"])
        return own.kind(**arguments)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _format(content: Any, source: str) -> Format:
    """What a file with this content must hold."""
    found = content.get("format") if isinstance(content, dict) else None
    for known, own in FORMATS.items() if isinstance(found, str) else ():
        if found == known:
            return own
        if str(found).startswith(known.split("/")[0] + "/"):
            raise InputError(
                f"{source} has format {one_line(repr(found))}; this version reads {known!r}: upgrade fpanalysis"
            )
    kind = f"format {one_line(repr(found))}" if isinstance(found, str) else _describe(content)
    raise InputError(f"{source} is not a network checkpoint: found {kind}, expected {FORMAT!r}; {REMEDY}")


def _numpy(name: str, value: Any) -> np.ndarray:
    import torch

    if not isinstance(value, torch.Tensor):
        raise InputError(f"state_dict[{name!r}] must be a tensor; found {type(value).__name__}")
    kind = f"{value.layout} tensor of {value.dtype} on {value.device}".replace("torch.", "")
    if value.is_complex() or value.is_quantized or value.layout != torch.strided or value.device.type != "cpu":
        raise InputError(f"state_dict[{name!r}] must be a dense tensor of real numbers; found a {kind}")
    return value.detach().double().numpy()


def _plain(name: str, value: Any) -> Any:
    """`value` without numpy objects, arrays as nested lists: what any version of torch loads safely again."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(f"{name}[{str(key)!r}]", item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(name, item) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InputError(
        f"{name} holds a {type(value).__name__}: only plain numbers, strings, lists and dictionaries can be saved"
    )


def _describe(content: Any) -> str:
    if isinstance(content, dict):
        keys = one_line(", ".join(map(repr, list(content)[:6])))
        return f"a dictionary with keys {keys}{', ...' if len(content) > 6 else ''}"
    return f"an object of type {type(content).__name__}"
