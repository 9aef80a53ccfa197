"""What is known of neurons that hold a target: along the operating point, at the end of training, as phases."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.results import Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Landscape:
    """Expected loss of neurons with one weight, tuned by their bias to each operating point `a`; arrays (n,).

    Attributes
    ----------
    bias2, variance, loss : (m - target)^2, v and their sum, with the noise on.
    loss_removed : (h* - target)^2 of the same neurons once the noise is removed.
    best : the operating point of least loss.
    held : the one at which the noise-free neuron holds the target, f(a) = target: where training starts.
    ratio : R = loss_removed / loss at `best`.
    """

    target: float
    sigma: float
    gamma: float
    w: float
    activation: Activation
    placement: str
    a: Array
    b: Array
    bias2: Array
    variance: Array
    loss: Array
    loss_removed: Array
    best: float
    held: float
    ratio: float
    status: Status


@dataclass(frozen=True, eq=False)
class Optimum:
    """Neurons at the end of their training: arrays of the common shape of target, sigma, gamma (and w).

    Attributes
    ----------
    kind : "best weight", "given weight" or "training".
    w, b, a : weight, bias, mean a = w m + b of what enters f.
    mean, variance : of h, stationary, with the noise on.
    loss, loss_removed, ratio : L(sigma), L(0) and R.
    preferred : the test noise of least loss, with w and b as they are.
    error : |loss - loss of the exact chain| at the same w and b; NaN where the chain has no law.
    at_bound : whether w stopped at 1 - 2 / gamma, beyond which the noise-free step flips.
    """

    target: Array
    sigma: Array
    gamma: Array
    activation: Activation
    placement: str
    kind: str
    w: Array
    b: Array
    a: Array
    mean: Array
    variance: Array
    loss: Array
    loss_removed: Array
    ratio: Array
    preferred: Array
    error: Array
    at_bound: NDArray[np.bool_]
    status: Status

    def __repr__(self) -> str:
        if self.w.ndim:
            return (
                f"Optimum({self.kind}, {self.w.size} neurons, {self.activation.name} {self.placement}; {self.status})"
            )
        return (
            f"Optimum({self.kind}: w={self.w:.4g}, b={self.b:.4g}; loss {self.loss:.3g} +- {self.error:.1g}, noise "
            f"removed {self.loss_removed:.3g}, R={self.ratio:.3g}, preferred noise {self.preferred:.3g}; {self.status})"
        )


@dataclass(frozen=True, eq=False)
class PhaseDiagram:
    """R over target / sigma (columns) and gamma (rows).

    Attributes
    ----------
    ratios (C,), gammas (G,) : the axes, ascending.
    ratio, preferred, w (G, C) : R, the preferred test noise in units of sigma, and the weight.
    boundary (G,) : the largest target / sigma at which R = 1 (linear in log R between columns); NaN where R < 1
        throughout, infinite where R > 1 up to the last column.
    error (G, C) : relative error of R, from the exact chain on a coarser grid, interpolated.
    neurons : the `Optimum` of shape (G, C).
    """

    ratios: Array
    gammas: Array
    ratio: Array
    preferred: Array
    w: Array
    boundary: Array
    error: Array
    neurons: Optimum
    status: Status

    def __repr__(self) -> str:
        n = self.neurons
        return (
            f"PhaseDiagram({n.kind}, {n.activation.name} {n.placement}: R from {np.nanmin(self.ratio):.2g} to "
            f"{np.nanmax(self.ratio):.2g}, preferred noise in {np.mean(self.ratio > 1):.0%}; {self.status})"
        )
