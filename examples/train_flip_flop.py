# %% [markdown]
# # Two networks that hold three bits
#
# Trains a tanh network and a GRU on the 3-bit flip-flop and writes them to `examples/networks/`: about half a minute
# on one core. Both are to hold 2^3 memories at zero input, hence 27 fixed points: 8 stable ones, 12 saddles on
# the edges and 6 on the faces of the cube that they span, and one point in its middle, unstable in 3 dimensions.

# %%
import time
from math import cos, pi
from pathlib import Path

import numpy as np
import torch
from torch import nn

import fpanalysis as fpa
from fpanalysis.models import CTRNN, train
from fpanalysis.models.trainer import torch_threads
from fpanalysis.tasks import get_task

FOLDER = Path(__file__).parent / "networks"
TASK = get_task("flip-flop")
SEED = 0
SETTINGS = TASK.defaults  # N = 64, 1000 steps of Adam from a learning rate of 0.005, batches of 64

# %% [markdown]
# The tanh network is one of this project's own, trained with a little noise inside the activation (sigma = 0.1), and
# saved as a checkpoint. On the command line: `fpanalysis train flip-flop -o flip_flop_tanh.pt`.


# %%
def tanh_network() -> fpa.Network:
    return train(TASK, seed=SEED).network()


# %% [markdown]
# The GRU is torch's own, trained without noise by the same recipe written out. Its file holds two state dictionaries:
# `rnn` for `nn.GRU(3, 64)` and `readout` for `nn.Linear(64, 3)`.


# %%
def gru() -> nn.ModuleDict:
    torch.manual_seed(SEED)
    rng = np.random.default_rng(SEED)
    modules = nn.ModuleDict({"rnn": nn.GRU(TASK.n_in, SETTINGS.size), "readout": nn.Linear(SETTINGS.size, TASK.n_out)})
    adam = torch.optim.Adam(modules.parameters())
    for k in range(SETTINGS.steps):
        adam.param_groups[0]["lr"] = SETTINGS.lr * (1 + cos(pi * k / SETTINGS.steps)) / 2
        inputs, targets, _ = map(torch.from_numpy, TASK.batch(SETTINGS.batch, rng))
        loss = (modules["readout"](modules["rnn"](inputs)[0]) - targets).square().mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(modules.parameters(), 1.0)
        adam.step()
    return modules


# %% [markdown]
# How well they do on 500 new trials without noise: the share of steps and channels whose output has the right sign,
# and the mean squared error.

# %%
inputs, targets, _ = map(torch.from_numpy, TASK.batch(500, rng=1))


def report(name: str, output: torch.Tensor, seconds: float) -> None:
    right = (output.sign() == targets).float().mean().item()
    error = (output - targets).square().mean().item()
    print(f"{name:5s} {100 * right:7.3f} % right   squared error {error:.1e}   trained in {seconds:.0f} s of CPU time")


FOLDER.mkdir(exist_ok=True)
with torch_threads(1):
    start = time.process_time()
    net = tanh_network()
    seconds = time.process_time() - start
    fpa.save(net, FOLDER / "flip_flop_tanh.pt")
    with torch.no_grad():
        report("tanh", CTRNN.from_network(net)(inputs)[0], seconds)

    start = time.process_time()
    modules = gru()
    seconds = time.process_time() - start
    torch.save({name: module.state_dict() for name, module in modules.items()}, FOLDER / "flip_flop_gru.pt")
    with torch.no_grad():
        report("GRU", modules["readout"](modules["rnn"](inputs)[0]), seconds)

# %% [markdown]
# The fixed points of the tanh network at zero input: 8 memories, 12 + 6 saddles between them, and the centre.

# %%
points = fpa.find_fixed_points(net)
print(f"{len(points)} fixed points; unstable in 0, 1, 2, 3 dimensions: {np.bincount(points.n_unstable, minlength=4)}")
