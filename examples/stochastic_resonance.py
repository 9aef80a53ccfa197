# %% [markdown]
# # Preference or resonance?
#
# Two networks do better with noise than without. One was trained with that noise and absorbed it; the other was never
# trained at all: a bistable unit that noise lets follow a signal too weak for it. What tells them apart, in seconds.

# %%
from pathlib import Path

import numpy as np

import fpanalysis as fpa

try:
    here = Path(__file__).parent
except NameError:  # in a notebook
    here = Path("examples")


def show(name, found):
    e = found.evidence
    print(f"{name}: {found.verdict.value}; preferred noise {e.preferred:.2f}, trained at {e.training_sigma:g}")
    print(f"    loss: no noise {e.loss_removed:.4f}, with noise {e.loss_preferred:.4f}, smoothed {e.loss_denoised:.4f}")
    print(f"    gain: no noise {e.gain_removed:.4f}, with noise {e.gain_preferred:.4f}, smoothed {e.gain_denoised:.4f}")


# %% [markdown]
# A network trained with noise inside its activation. Its activations smoothed, it does without noise all that it does
# with it: training absorbed the mean effect of the noise, and nothing else of the noise is needed.

# %%
trained = fpa.load(here / "networks" / "function-approximation-relu-in-0.5.pt")
batch = fpa.moments.held(trained, steps=120, counted=80)
absorbed = fpa.preference(trained, batch, np.linspace(0, 0.75, 7), trials=16)
show("trained network", absorbed)

# %% [markdown]
# A unit with two wells, h = +-0.96, and a sine that alone never takes it from one to the other: that would need an
# amplitude of 0.53. Wanted is the square wave of the sine's sign, half of the trials start in either well.
#
# Without noise, and smoothed, it stays in its well and hardly answers. At the right noise it hops in step with the
# sine; with more noise it hops at random.

# %%
period, amplitude, steps, trials = 100, 0.2, 300, 16
unit = fpa.Network(W=[[2.0]], W_in=[[1.0]], gamma=0.4, activation="tanh", placement="out")
t = np.arange(steps)
sine = np.repeat((amplitude * np.sin(2 * np.pi * t / period))[:, None, None], trials, axis=1)
wanted = np.repeat(np.where((t - 10) % period < period / 2, 1.0, -1.0)[:, None, None], trials, axis=1)
counts = np.repeat((t >= period)[:, None], trials, axis=1)
wells = np.where(np.arange(trials) % 2, 0.96, -0.96)[:, None]
resonant = fpa.preference(unit, (sine, wanted, counts), np.linspace(0, 1.5, 7), h0=wells, trials=64)
show("bistable unit", resonant)
print(resonant.summary)
figure = fpa.figures.loss_figure(resonant.curve, None, resonant)

# %% [markdown]
# The resonance itself, from the exact periodic law of the chain: the signal-to-noise ratio is largest at a noise at
# which the barrier is twice the noise intensity D = gamma sigma^2 / 2 (Kramers), the amplification a little above.

# %%
noise = np.array([0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3])
response = fpa.periodic_response(unit, amplitude, period, noise)
for sigma, gain, snr in zip(noise, response.gain[:, 0], response.snr[:, 0], strict=True):
    print(f"noise {sigma:.2f}: gain {gain:.2f}, signal-to-noise ratio {snr:.4f}")
figure_periodic = fpa.figures.periodic_figure(response)

# %% [markdown]
# The same unit with its noise inside the activation: what noise does to the mean step is then to smooth tanh, which
# takes the wells away. A smoothed unit without noise does better still, so that this is no resonance by this measure.

# %%
import dataclasses

inside = dataclasses.replace(unit, placement="in")
show("noise inside", fpa.preference(inside, (sine, wanted, counts), np.linspace(0, 1.8, 7), h0=wells, trials=64))
