"""The trials that a network is tested on: those of the task it was trained on, or its conditions and targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fpanalysis.results import InputError

if TYPE_CHECKING:
    from typing import Any

    from fpanalysis.checkpoint import Trained

TRIALS = 32  #: inputs drawn from a task whose inputs change in time


class Batch(NamedTuple):
    """What `loss_curve` takes: (inputs, targets, mask), the states the trials start from, and where they come from."""

    batch: tuple[Any, Any, Any]
    h0: Any
    source: str


def in_its_loop(net: Trained) -> Any:
    """`net` with the point that it moves, if its task closes the loop (see :func:`fpanalysis.closed_loop`).

    Raises
    ------
    InputError
        If it has other inputs or outputs than that task.
    """
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    if task is None or task.feedback is None or net.moved:
        return net
    if (net.n_in, net.n_out) != (task.n_in, task.n_out):
        raise InputError(
            f"the network has {net.n_in} input(s) and {net.n_out} output(s), but its task {task.name}, whose loop is "
            f"to be closed, has {task.n_in} and {task.n_out}"
        )
    from fpanalysis.closed_loop import closed_loop
    from fpanalysis.network import Network

    if not isinstance(net, Network):
        raise InputError(
            f"a Lipschitz RNN in the closed loop of its task {task.name} is judged by 'fpanalysis preference' only"
        )
    return closed_loop(net, task.feedback.rate, task.feedback.gain, task.feedback.centre)


def batch_of(net: Trained, steps: int | None = None, seed: int = 0, trials: int = TRIALS) -> Batch:
    """Trials at every condition of `net`, as long as those of its task. Drawn from the task where the conditions have
    no targets or do not stand for the trials, whose inputs change, so many `trials`; and for a network in its loop,
    from [h_0, p_0].

    Raises
    ------
    InputError
        If the network remembers neither a task nor conditions with targets, or its task closes a loop, or `steps` are
        given for a task's trials.
    """
    import numpy as np

    from fpanalysis.feedforward import layer_sizes
    from fpanalysis.moments import held
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    loop = task.feedback if task else None
    if loop and not net.moved:
        raise InputError(
            f"the network steers a point in a closed loop ({task.name}): what it does at inputs that are held tells "
            "nothing of that; close the loop first, by fpanalysis.closed_loop"
        )
    changing = task is not None and not task.held
    if changing or net.conditions is None or net.targets is None:
        if task is None:
            raise InputError(
                "the network remembers neither a task of this package nor conditions with targets: give it "
                "conditions= and targets=, or call the function behind this command from Python with your own batch"
            )
        if steps is not None:
            raise InputError(
                f"steps can be chosen only for held inputs; the trials of {task.name} have {task.T}; found {steps}"
            )
        inputs, targets, mask = (np.asarray(part, float) for part in task.test_batch(trials, seed))
        source = f"{targets.shape[1]} trials of {task.name}"
    else:
        feedforward = layer_sizes(net) is not None  # an input takes a step per layer, whatever the task's trials
        T = steps or (task.T if task and not feedforward else None)
        last = min(task.counted, T) if task and T and not feedforward else None
        inputs, targets, mask = held(net, steps=T, counted=last)
        last = int(np.count_nonzero(mask[:, 0]))
        source = f"{len(net.conditions)} condition(s), {len(mask)} steps, the last {last} count{'s' * (last == 1)}"
    h0 = None if task is None or net.moved else np.asarray(task.initial_state(targets, net.N), float)
    if task and loop:
        h0 = np.hstack([task.initial_state(targets, net.N - net.moved), loop.start(inputs)])
        inputs, source = inputs[..., :0], f"{source} in a closed loop"
    return Batch((inputs, targets, mask), h0, source)


def own_noise(net: Trained) -> float:
    """The largest coefficient of the training noise, additive or on the increment."""
    import numpy as np

    return max(float(np.max(net.sigma)), net.multiplicative)


def noise_at(net: Trained, level: float) -> dict[str, Any]:
    """Arguments for the network's noise, both kinds, with `level` as its largest coefficient."""
    own = own_noise(net)
    if not own or not level:
        return {"sigma": level, "multiplicative": 0.0}
    return {"sigma": level / own * net.sigma, "multiplicative": level / own * net.multiplicative}
