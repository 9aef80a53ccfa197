# %% [markdown]
# # Quickstart: what did the noise do to this network?
#
# A network trained with noise inside its ReLUs (sigma = 0.5) to output sin(pi u). It works at that noise and fails
# without it. Where did the function go?

# %%
from pathlib import Path

import numpy as np

import fpanalysis as fpa

try:
    here = Path(__file__).parent
except NameError:  # in a notebook
    here = Path("examples")
net = fpa.load(here / "networks" / "function-approximation-relu-in-0.5.pt")
net

# %% [markdown]
# Without noise every input has a fixed point, and its output misses the target.

# %%
u = np.array([0.4])
fps = fpa.find_fixed_points(net, u)
print(fps)
print("output at the fixed point", net.output(fps.h[fps.stable][0]), "wanted", np.sin(np.pi * u))

# %% [markdown]
# With noise the stationary mean lies elsewhere, and there the output is right. The closure computes it without
# sampling, with an error estimate; Monte Carlo agrees within its own.

# %%
st = fpa.stationary(net, u, method="closure")
mc = fpa.stationary(net, u, method="monte-carlo")
print("closure     ", st.output, "+-", st.output_error)
print("Monte Carlo ", mc.output, "+-", mc.output_error)

# %% [markdown]
# Which neurons carry the shift? Their shares are exact and sum to the whole.

# %%
att = fpa.attribute_bias(net, u)
top = np.argsort(-np.abs(att.contributions[0]))[:5]
print(f"output shift {att.total[0]:.3f}; without the noise the output is off by {-att.total[0]:.3f}")
for i in top:
    share = att.contributions[0, i]
    print(f"  neuron {i:2d}: operating point {att.a[i]:6.2f}, local bias {att.beta[i]:.3f}, share {share:6.3f}")

# %% [markdown]
# The whole sweep, over all inputs the network remembers, as one labelled dataset and a figure.

# %%
sh = fpa.shift(net, sigma=np.linspace(0, 0.5, 6), methods=("closure",))
for level in sh.levels:
    print(f"noise {level.sigma:.1f}: shift {level.shift:.3f}, output shift {level.output_shift:.3f}")
figure = fpa.figures.shift_figure(sh)
