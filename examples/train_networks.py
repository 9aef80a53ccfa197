# %% [markdown]
# # The example networks
#
# Trains the networks of `examples/networks/`, one or more of each family of tasks. Networks with the same activation
# train in one stack: each is what it would be alone, up to rounding, in less time. About eight minutes on one core;
# `make networks` runs this file, and `python examples/train_networks.py maze` those of one task.

# %%
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import numpy as np

import fpanalysis as fpa
from fpanalysis.models import Training, evaluate, train
from fpanalysis.tasks import get_task

FOLDER = Path(__file__).parent / "networks"
TASK = get_task("function-approximation", T=120, counted=80)  # a longer hold than the default, so that they settle

STACKS: list[tuple[str, Callable[[], Training]]] = [
    (
        "function-approximation",
        lambda: train(TASK, activation="relu", placement=["in", "in", "out"], sigma=[0.3, 0.5, 0.5]),
    ),
    ("function-approximation", lambda: train(TASK, activation="softplus", sigma=1.0)),
    ("function-approximation", lambda: train(TASK, activation="tanh", sigma=0.5)),
    ("regulator", lambda: train("regulator", sigma=0.5)),
    ("feedforward", lambda: train("function-approximation", layers=(64, 64, 64), sigma=0.5)),
    ("maze", lambda: train("maze", seed=1, sigma=0.5)),
    ("path-integration", lambda: train("path-integration", sigma=1.0)),
    ("cognitive", lambda: train("cognitive", sigma=0.5, steps=8000)),
    ("digits", lambda: train("digits", sigma=[0.0, 0.5])),
    ("digits", lambda: train("digits", form="lipschitz", gamma=0.1, steps=3400, sigma=0.3, multiplicative=0.05)),
]

# %% [markdown]
# What the noise did: R = loss with the noise removed / loss at the training noise. Noise inside the activation is
# needed afterwards (R > 1); noise outside is not (R < 1). In the cognitive tasks variance and wrong choices hide that
# in the whole loss, not in bias^2, given as the ratio of the same two levels; classifiers of digits, with a little
# noise, lose nothing by its removal. The last column says how well a network
# whose input is held has settled when a trial ends: how far its noise-free output still moves in the time of nine more,
# at most over the conditions.


# %%
def drift(net: fpa.Network, T: int) -> float:
    """max |z(10 T) - z(T)|, noise-free, from the state that trials start from."""
    start = net.targets if net.info["task"] == "regulator" else np.zeros((len(net.conditions), net.N))
    h = list(accumulate(range(10 * T), lambda h, _: net.step(h, net.conditions), initial=start))
    return float(np.abs(net.output(h[10 * T]) - net.output(h[T])).max())


FOLDER.mkdir(exist_ok=True)
wanted = sys.argv[1:] or [family for family, _ in STACKS]
print(f"{'network':42s} {'loss':>9s} {'removed':>9s} {'R':>7s} {'bias^2':>7s} {'drift':>9s}")
for family, trained in STACKS:
    for net in trained().networks if family in wanted else ():
        task = get_task(net.info["task"], **net.info["task_settings"])
        where = net.form if net.form == "lipschitz" else net.placement
        name = f"{family}-{net.activation.name}-{where}-{net.sigma:.1f}.pt"
        fpa.save(net, FOLDER / name)
        test = evaluate(net, task, sorted({0.0, net.sigma}))
        (clean, noisy), (bias2_clean, bias2_noisy) = test.loss[0, [0, -1]], test.bias2[0, [0, -1]]
        settled = f"{drift(net, task.T):9.1e}" if family in ("function-approximation", "regulator") else ""
        print(f"{name:42s} {noisy:9.2e} {clean:9.2e} {clean / noisy:7.2f} {bias2_clean / bias2_noisy:7.1f} {settled}")
