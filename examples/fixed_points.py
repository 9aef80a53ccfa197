# %% [markdown]
# # Fixed points: all of them, and how you know
#
# A tanh network and a GRU were trained to remember three bits (train_flip_flop.py). What they compute with are their
# fixed points at zero input: a memory for each of the 8 states, and saddles between them.

# %%
from pathlib import Path

import numpy as np
import torch

import fpanalysis as fpa

try:
    here = Path(__file__).parent
except NameError:  # in a notebook
    here = Path("examples")
net = fpa.load(here / "networks" / "flip_flop_tanh.pt")
points = fpa.find_fixed_points(net)
print(points)
print("unstable in 0, 1, 2, 3 dimensions:", np.bincount(points.n_unstable))

# %% [markdown]
# Each is certified: exactly one fixed point lies within `radius` of it, no farther away than `error`.

# %%
print(f"smallest radius {points.radius.min():.4f}, largest error {points.error.max():.0e}")

# %% [markdown]
# Any torch cell will do. A GRU's own |F(h) - h| vanishes wherever its gates close, so it is solved without them.

# %%
saved = torch.load(here / "networks" / "flip_flop_gru.pt", weights_only=True)
gru = torch.nn.GRU(3, 64)
gru.load_state_dict(saved["rnn"])
cell = fpa.models.from_torch(gru)
print(fpa.find_fixed_points(cell))

# %% [markdown]
# "consistent" is what a search can say. For ReLU networks, at low rank and for few neurons the list can be *proven*
# complete.

# %%
rng = np.random.default_rng(0)
V = rng.standard_normal((128, 4))
low_rank = fpa.Network(W=3 / 128 * V @ V.T, b=0.1 * rng.standard_normal(128), activation="tanh")
proven = fpa.find_fixed_points(low_rank)
print(f"{len(proven)} points, {proven.completeness} after {proven.proof.nodes} boxes")

cliques = np.repeat(np.arange(5), 6)
W = np.where(cliques[:, None] == cliques, -0.75, -1.5) * (1 - np.eye(30))
competing = fpa.find_fixed_points(fpa.Network(W=W, b=np.ones(30)))
print(f"five competing cliques: {len(competing)} = 2^5 - 1 points, {competing.completeness}")

# %% [markdown]
# How the memories come and go as the recurrent weights grow.

# %%
two = fpa.Network(W=[[1.0, -0.5], [-0.5, 1.0]], b=[0.05, 0.0], activation="tanh")
branches = fpa.continue_fixed_points(two, "scale", 0.3, 3.0)
for point in branches.points:
    print(f"{point.kind} at a scale of {point.p:.8f} (error {point.error:.0e})")
