# %% [markdown]
# # The example networks
#
# Trains the networks of `examples/networks/`. Networks with the same activation train in one stack: each is what
# it would be alone, up to rounding, in half the time. About two minutes on one core; `make networks` runs this file.

# %%
from pathlib import Path

import numpy as np

import fpanalysis as fpa
from fpanalysis.models import Training, evaluate, train

FOLDER = Path(__file__).parent / "networks"
TASK = "function-approximation"

stacks: list[Training] = [
    train(TASK, activation="relu", placement=["in", "in", "out"], sigma=[0.3, 0.5, 0.5]),
    train(TASK, activation="softplus", sigma=1.0),
    train(TASK, activation="tanh", sigma=0.5),
    train("regulator", activation="relu", sigma=0.5),
]

# %% [markdown]
# What the noise did: R = loss with the noise removed / loss at the training noise. Noise inside a ReLU is needed
# afterwards (R > 1); noise outside is not (R < 1). The last column says how far from a fixed point a noise-free
# trial ends, max |F(h) - h| over the conditions: these networks settle within a trial.


# %%
def unsettled(net: fpa.Network, T: int) -> float:
    """max |F(h) - h| after T noise-free steps from the state that trials start from."""
    h = net.targets if net.info["task"] == "regulator" else np.zeros((len(net.conditions), net.N))
    for _ in range(T):
        h = net.step(h, net.conditions)
    return float(np.abs(net.target(h, net.conditions) - h).max())


FOLDER.mkdir(exist_ok=True)
print(f"{'network':42s} {'loss':>9s} {'removed':>9s} {'R':>7s} {'unsettled':>9s}")
for training in stacks:
    task = training.settings.task
    for net in training.networks:
        name = f"{task}-{net.activation.name}-{net.placement}-{net.sigma:.1f}.pt"
        fpa.save(net, FOLDER / name)
        noisy, clean = evaluate(net, task, [net.sigma, 0]).loss[0]
        print(f"{name:42s} {noisy:9.2e} {clean:9.2e} {clean / noisy:7.2f} {unsettled(net, 80):9.1e}")
