# %% [markdown]
# # The example networks
#
# Trains the networks of `examples/networks/`. Networks with the same activation train in one stack: each is what
# it would be alone, up to rounding, in half the time. About two minutes on one core; `make networks` runs this file.

# %%
from itertools import accumulate
from pathlib import Path

import numpy as np

import fpanalysis as fpa
from fpanalysis.models import Training, evaluate, train
from fpanalysis.tasks import get_task

FOLDER = Path(__file__).parent / "networks"
TASK = get_task("function-approximation", T=120, counted=80)  # a longer hold than the default, so that they settle

stacks: list[Training] = [
    train(TASK, activation="relu", placement=["in", "in", "out"], sigma=[0.3, 0.5, 0.5]),
    train(TASK, activation="softplus", sigma=1.0),
    train(TASK, activation="tanh", sigma=0.5),
    train("regulator", activation="relu", sigma=0.5),
]

# %% [markdown]
# What the noise did: R = loss with the noise removed / loss at the training noise. Noise inside the activation is
# needed afterwards (R > 1); noise outside is not (R < 1). The last column says how well a network has settled when a
# trial ends: how far its noise-free output still moves in the time of nine more, at most over the conditions.


# %%
def drift(net: fpa.Network, T: int) -> float:
    """max |z(10 T) - z(T)|, noise-free, from the state that trials start from."""
    start = net.targets if net.info["task"] == "regulator" else np.zeros((len(net.conditions), net.N))
    h = list(accumulate(range(10 * T), lambda h, _: net.step(h, net.conditions), initial=start))
    return float(np.abs(net.output(h[10 * T]) - net.output(h[T])).max())


FOLDER.mkdir(exist_ok=True)
print(f"{'network':42s} {'loss':>9s} {'removed':>9s} {'R':>7s} {'drift':>9s}")
for training in stacks:
    for net in training.networks:
        task = get_task(net.info["task"], **net.info["task_settings"])
        name = f"{task.name}-{net.activation.name}-{net.placement}-{net.sigma:.1f}.pt"
        fpa.save(net, FOLDER / name)
        clean, noisy = evaluate(net, task, [0, net.sigma]).loss[0]
        print(f"{name:42s} {noisy:9.2e} {clean:9.2e} {clean / noisy:7.2f} {drift(net, task.T):9.1e}")
