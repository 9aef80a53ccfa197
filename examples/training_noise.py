# %% [markdown]
# # Does my network depend on its training noise?
#
# From a checkpoint to a verdict, to the neurons behind it, to a network that needs no noise.

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
# The verdict: the expected loss against test noise, predicted from mean and covariance along the trials. bias^2 has a
# sharp minimum at the training noise; without noise the loss is seventy times larger.

# %%
batch = fpa.moments.held(net, steps=120, counted=80)
curve = fpa.loss_curve(net, batch, np.linspace(0, 0.75, 7))
for sigma, loss, bias2, variance in zip(curve.sigma, curve.loss, curve.bias2, curve.variance, strict=True):
    print(f"noise {sigma:.3f}: loss {loss:.4f} = bias^2 {bias2:.4f} + variance {variance:.4f}")
print(f"R = {curve.ratio:.1f}; preferred noise {curve.preferred:.3f}, trained at {curve.training_sigma:g}")

# %% [markdown]
# The cause: neurons near the kink clip the downward half of their noise. Their shares of the output's bias are exact.

# %%
bias = fpa.network_bias(net)
print(f"{len(bias.carriers(0.9))} of {net.N} neurons carry 90 % of the bias; they pass {bias.points.mean_gain:.2f} of")
print(f"the variance of their noise. Directly, by its own noise, each makes {bias.direct.sum():.1%} of its share.")
figure = fpa.figures.attenuation_figure(bias)

# %% [markdown]
# The remedy: each activation replaced by its average over the noise at its input.

# %%
clean = fpa.denoise(net)
removed, noisy = curve.loss_removed, curve.loss_trained
after = fpa.loss_curve(clean, batch, [0.0], "monte-carlo", trials=4).loss[0]  # nothing varies without noise
print(f"loss: noise removed {removed:.4f}, with noise {noisy:.4f}, de-noised {after:.4f}")

# %% [markdown]
# Why training goes there, with one neuron that must hold a target of 0.4 sigma: with noise inside it settles where the
# noise itself holds the target.

# %%
for placement in ("in", "out"):
    print(placement, fpa.regulator.trained(0.2, 0.5, placement=placement))
