"""The trials whose inputs are perturbed: those that the task of a network keeps for tests, or its conditions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fpanalysis.results import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fpanalysis.network import Network
    from fpanalysis.system import System
    from fpanalysis.tasks import Task


class Asked(NamedTuple):
    """What `fpanalysis.robustness` takes, and where the trials come from."""

    net: System
    batch: tuple[Any, Any, Any]
    h0: Any
    score: Callable[[Any, Any], Any] | None
    loss: str | None
    sampled: bool  #: False where the trials are all conditions that there are
    source: str
    additive_only: bool = False  #: of a closed loop, whose inputs are what is added to what it sees


def asked_of(net: Any, trials: int, seed: int) -> Asked:
    """`trials` test trials of the task of `net`, fewer where it has no more; its conditions where inputs are held.

    Raises
    ------
    InputError
        If the network has no inputs, or remembers neither a task nor conditions with targets.
    """
    from fpanalysis.cli._batch import batch_of
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    if not net.n_in:
        raise InputError("the network has no inputs that could be perturbed")
    if task is None or (task.held and task.feedback is None and net.targets is not None):
        chosen = batch_of(net, seed=seed)
        return Asked(net, chosen.batch, chosen.h0, None, None, False, chosen.source)
    if task.feedback is not None:
        return _in_its_loop(net, task, trials, seed)
    import numpy as np

    inputs, targets, mask = (np.asarray(part, float) for part in task.test_batch(trials, seed))
    B = inputs.shape[1]
    h0 = np.asarray(task.initial_state(targets, net.N), float)
    score = _score(task, (inputs, targets, mask)) if task.scored and task.loss != "cross-entropy" else None
    return Asked(net, (inputs, targets, mask), h0, score, task.loss, True, f"{B} test trials of {task.name}")


def _score(task: Task, batch: tuple[Any, Any, Any]) -> Callable[[Any, Any], Any]:
    return lambda outputs, _: task.score(outputs, batch)


def _in_its_loop(net: Network, task: Task, trials: int, seed: int) -> Asked:
    """The joint network of `in_its_loop`, with inputs that are added to what it sees, here zero."""
    import dataclasses

    import numpy as np

    from fpanalysis.cli._batch import in_its_loop

    joint, loop = in_its_loop(net), task.feedback
    assert loop is not None
    W_in = np.vstack([np.asarray(net.W_in), np.zeros((joint.moved, net.n_in))])
    joint = dataclasses.replace(joint, W_in=W_in, conditions=None, targets=None)
    inputs, targets, mask = (np.asarray(part, float) for part in task.test_batch(trials, seed))
    h0 = np.hstack([task.initial_state(targets, net.N), loop.start(inputs)])
    score = _score(task, (inputs, targets, mask)) if task.scored else None
    source = f"{inputs.shape[1]} test trials of {task.name} in its loop; white noise is added to what it sees"
    return Asked(joint, (0 * inputs, targets, mask), h0, score, None, True, source, additive_only=True)
