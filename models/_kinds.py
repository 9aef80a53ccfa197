"""Which networks are alike but for their seed, which can be run as one stack, and what tells kinds apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np

from fpanalysis.checkpoint import Trained
from fpanalysis.denoise import NOTE
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.tasks import Task

from .ctrnn import PARAMETERS

if TYPE_CHECKING:
    from .sweep import Group

OWN = ("seed", "final_loss")  #: of the training settings, what each seed has for itself


def where(net: Trained) -> str:
    """The placement of the noise; of other forms than the rate form the form, which says it."""
    return net.placement if isinstance(net, Network) and net.form == "rate" else net.form


def kind_of(task: Task, net: Trained) -> tuple[Any, ...]:
    """What seeds share, to be sorted by; last the placement."""
    words = task.name, sorted(task.settings().items()), net.activation.name, net.form
    numbers = net.N, float(np.max(net.gamma)), float(np.max(net.sigma))
    return (*map(str, words), *numbers, str(sorted(settings_of(net).items())), where(net))


def stack_of(net: Trained) -> tuple[Any, ...]:
    """What networks share that are run as one stack: more than seeds, whose smoothing may be their own, or less."""
    own = (net.noise, net.between_as) if isinstance(net, LipschitzRNN) else ()
    return net.activation.key, net.form, *own, *(np.shape(getattr(net, name)) for name in PARAMETERS)


def settings_of(net: Trained) -> dict[str, Any]:
    """How `net` was made, beyond activation, placement, size, gamma and sigma: by plain parameters of the activation,
    with a gamma or sigma per neuron, and how it was trained and de-noised, as far as `info` tells."""
    training, note = (net.info.get(name) for name in ("training", NOTE))
    of_seed = {"s"} if isinstance(note, Mapping) else set()  # by how much de-noising smooths
    given = net.activation.parameters().items()
    own = {name: value for name, value in given if isinstance(value, Real | str) and name not in of_seed}
    found: dict[str, Any] = {"parameters": " ".join(_told(*item) for item in own.items())} if own else {}
    found |= {f"{name} per neuron": True for name in ("gamma", "sigma") if np.ptp(getattr(net, name))}
    if isinstance(net, LipschitzRNN) and net.multiplicative:
        found |= {"multiplicative": net.multiplicative} | ({"joint noise": True} if net.noise == "joint" else {})
    if isinstance(training, Mapping):
        found |= {str(name): value for name, value in training.items() if name not in OWN}
    if isinstance(note, Mapping):
        found["de-noised"] = f"{note.get('variant')} {np.max(note.get('sigma', np.nan)):g}"
    return found


def apart(groups: Sequence[Group]) -> list[str]:
    """What tells each of `groups` from the others but for activation, placement and training noise."""
    made: list[dict[str, Any]] = [{"N": group.size, "γ": group.gamma, **group.settings} for group in groups]
    found = []
    for group, own in zip(groups, made, strict=True):
        alike = [other for sibling, other in zip(groups, made, strict=True) if sibling.activation == group.activation]
        among = {name: alike if name == "parameters" else made for name in own}
        several = [name for name in own if len({str(other.get(name)) for other in among[name]}) > 1]
        found.append("".join(f" {_told(name, own[name])}" for name in several))
    return found


def _told(name: str, value: Any) -> str:
    if name == "parameters" or value is True:
        return str(value) if name == "parameters" else name
    return f"{name}={value:g}" if isinstance(value, Real) else f"{name}={value}"
