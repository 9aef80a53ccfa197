"""The trials that a network is tested on: those of the task it was trained on, or its conditions and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fpanalysis.results import InputError

if TYPE_CHECKING:
    from typing import Any

    from fpanalysis.network import Network

STEPS = 200  #: of a trial, where no task says; the last half counts
TRIALS = 32  #: inputs drawn from a task whose inputs change in time


class Batch(NamedTuple):
    """What `loss_curve` takes: (inputs, targets, mask), the states the trials start from, and where they come from."""

    batch: tuple[Any, Any, Any]
    h0: Any
    source: str


def batch_of(net: Network, steps: int | None = None, seed: int = 0) -> Batch:
    """Trials at every condition of `net`, as long as those of its task; without targets, drawn from the task.

    Raises
    ------
    InputError
        If the network remembers neither a task nor conditions with targets.
    """
    import numpy as np

    from fpanalysis.tasks import available, get_task

    name = net.info.get("task")
    task = get_task(str(name), **dict(net.info.get("task_settings", {}))) if name in available() else None
    if net.conditions is None or net.targets is None:
        if task is None:
            raise InputError(
                "the network remembers neither a task of this package nor conditions with targets: give it "
                "conditions= and targets=, or call fpanalysis.loss_curve with a batch of your own"
            )
        inputs, targets, mask = (np.asarray(part, float) for part in task.batch(TRIALS, seed))
        source = f"{TRIALS} trials of {task.name}"
    else:
        T = steps or (task.T if task else STEPS)
        counted = min(task.counted, T) if task else T // 2
        inputs, targets = (np.repeat(value[None], T, axis=0) for value in (net.conditions, net.targets))
        mask = np.zeros(inputs.shape[:2])
        mask[-counted:] = 1
        source = f"{len(net.conditions)} condition(s), {T} steps, the last {counted} count"
    h0 = None if task is None else np.asarray(task.initial_state(targets, net.N), float)
    return Batch((inputs, targets, mask), h0, source)
