"""What the analyses need of a recurrent system in discrete time, be it a `Network` or somebody else's cell:

    h' = (1 - gamma) h + gamma F(h, u)        without noise

The fixed points at a constant input u are the zeros of F(h, u) - h, whatever gamma.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_sigma, real_array
from fpanalysis.results import InputError

Array = NDArray[np.float64]

BEND = 0.01  #: step of a second difference


class System(ABC):
    """A recurrent system of N state variables and n_in inputs; `gamma` and `sigma`: one number or (N,).

    Subclasses give `N`, `n_in`, `hash`, `target`, `target_jacobian` and the attributes below, and override what
    else they know better. All take float64 arrays and are batched over the leading axes of `h`.
    """

    gamma: float | Array
    sigma: float | Array
    multiplicative: float = 0.0  #: training noise on the increment F - h, relative to it
    W_out: Array | None  #: (n_out, N); None: every state variable is an output
    b_out: Array | None  #: (n_out,)

    @property
    @abstractmethod
    def N(self) -> int: ...

    @property
    @abstractmethod
    def n_in(self) -> int: ...

    @property
    def n_out(self) -> int:
        return self.N if self.W_out is None else len(self.W_out)

    @property
    @abstractmethod
    def hash(self) -> str:
        """Hash of everything that enters a computation."""

    @property
    def dissipative(self) -> bool:
        """Whether all fixed points provably lie in a ball that F maps into itself, so that their indices sum to 1."""
        return False

    def trapping_box(self, u: ArrayLike | None = None) -> Array | None:
        """Lower and upper corner (2, N) of a box that provably holds all fixed points at the input `u` (n_in,) and
        that F maps into itself; None where none is known."""
        return None

    @property
    def smooth(self) -> bool:
        """False where F is known to have kinks."""
        return True

    @abstractmethod
    def target(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """F(h, u), where the noise-free step pulls the state: (..., N)."""

    def still(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """A map with the same fixed points as F, and the same signs of det(I - dF/dh) there, (..., N).

        F itself, unless a gate that keeps the old state holds nearly still what is far from a fixed point."""
        return self.target(h, u)

    def still_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Its Jacobian, (..., N, N)."""
        return self.target_jacobian(h, u)

    @abstractmethod
    def target_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/dh, (..., N, N)."""

    def output(self, h: ArrayLike) -> Array:
        """The output at state `h`, (..., n_out)."""
        return self.readout(self.check_state(h))

    @property
    def readout_weights(self) -> Array:
        """W_out, (n_out, N); the identity where every state variable is an output."""
        return np.eye(self.N) if self.W_out is None else self.W_out

    def readout(self, rates: ArrayLike) -> Array:
        """W_out r + b_out for rates r (..., N)."""
        rates = self.check_state(rates, "rates")
        z = rates if self.W_out is None else rates @ self.W_out.T
        return z if self.b_out is None else z + self.b_out

    def check_input(self, u: ArrayLike | None) -> Array:
        """`u` as a float64 array (..., n_in); None means zero input."""
        if u is None:
            return np.zeros(self.n_in)
        u = real_array("u", u)
        if u.ndim == 0 or u.shape[-1] != self.n_in:
            raise InputError(f"u must have {self.n_in} input value(s) in its last axis; found shape {u.shape}")
        return u

    def check_condition(self, u: ArrayLike | None) -> Array:
        """`u` as one constant input (n_in,)."""
        u = self.check_input(u)
        if u.ndim != 1:
            raise InputError(
                f"u must be one constant input ({self.n_in},); found shape {u.shape}: call once per condition"
            )
        return u

    def check_state(self, h: ArrayLike, name: str = "h") -> Array:
        """`h` as a float64 array (..., N); NaN passes, since a diverged state is no wrong input."""
        h = np.asarray(h, float)
        if h.ndim == 0 or h.shape[-1] != self.N:
            raise InputError(f"{name} must have {self.N} value(s), one per neuron, in its last axis; found {h.shape}")
        return h

    def check_noise(self, sigma: ArrayLike) -> float | Array:
        """A noise level for this system: one number, which is that of all that has noise, or one per neuron (N,)."""
        return check_sigma(sigma, self.N)

    @property
    def noise_profile(self) -> float | Array:
        """Each neuron's noise as a share of the largest, (N,), or 1: what a level that is one number is times."""
        top = float(np.max(self.sigma))
        return self.sigma / top if np.ndim(self.sigma) and top > 0 else self.check_noise(1.0)

    def step(self, h: ArrayLike, u: ArrayLike | None = None, xi: ArrayLike | None = None) -> Array:
        """One step, h' = (1 - gamma) h + gamma (F(h, u) + sigma xi); `xi` (..., N) is the noise, None for none."""
        h = self.check_state(h)
        noise = 0.0 if xi is None else self.sigma * self.check_state(xi, "xi")
        return (1 - self.gamma) * h + self.gamma * (self.target(h, u) + noise)

    def jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Jacobian of the noise-free step, (..., N, N): (1 - gamma) I + gamma dF/dh."""
        gamma = np.broadcast_to(self.gamma, (self.N,))
        return np.diag(1 - gamma) + gamma[:, None] * self.target_jacobian(h, u)

    def input_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/du, (..., N, n_in); unless a subclass knows better by central differences, to about 1e-9, relative."""
        h, u = self.check_state(h), self.check_input(u)
        lead = np.broadcast_shapes(h.shape[:-1], u.shape[:-1])
        slopes = np.zeros((*lead, self.N, self.n_in))
        for k, unit in enumerate(np.eye(self.n_in)):
            wide, narrow = (
                (self.target(h, u + step * unit) - self.target(h, u - step * unit)) / (2 * step)
                for step in (BEND, BEND / 2)
            )
            slopes[..., k] = (4 * narrow - wide) / 3
        return slopes

    def disturbed(self, h: Array, u: Array, sigma: Array, multiplicative: Array, xi: Array) -> Array:
        """What takes the place of F(h, u) under the noise `xi` (..., N): F + (sigma + multiplicative (F - h)) xi."""
        F = self.target(h, u)
        return F + (sigma + multiplicative * (F - h)) * xi

    def disturbance(self, h: Array, u: Array, sigma: Array, multiplicative: Array) -> tuple[Array, Array]:
        """The same for small noise: by how much its mean is off F(h, u), and its variance, to second order in (sigma,
        multiplicative), (..., N) each; its components are independent."""
        return np.zeros_like(h), (sigma + multiplicative * (self.target(h, u) - h)) ** 2

    def target_curvature(self, h: Array, u: Array, C: Array) -> Array:
        """tr(F_p'' C) of each component p of F for covariances C (..., N, N) at `h` (..., N): (..., N).

        Unless a subclass knows better, from second differences of F along the eigenvectors of C, of which those at
        half the step take off the leading error: to about 1e-8, relative.
        """
        variances, axes = np.linalg.eigh(C)
        F, total = self.target(h, u), np.zeros_like(h)
        for k in range(self.N):
            v, bend = axes[..., k], []
            for step in (BEND, BEND / 2):
                both = self.target(h + step * v, u) + self.target(h - step * v, u)
                bend.append((both - 2 * F) / step**2)
            total += variances[..., k, None] * (4 * bend[1] - bend[0]) / 3
        return total

    def rate_derivatives(self, h: Array) -> tuple[Array, Array]:
        """r' and r'' of the rates that are read out, z = W_out r(h) + b_out, one of each state variable: (..., N)."""
        return np.ones_like(h), np.zeros_like(h)

    def tangent_step(
        self, h: Array, u: Array, noise: float | Array, V: Array, factor: float | Array = 1.0
    ) -> tuple[Array, Array]:
        """One step with sigma xi = `noise` and the increment F - h times `factor`, (..., N) both, and what its Jacobian
        there makes of the tangent vectors that are the rows of `V` (..., k, N): (..., N) and (..., k, N).

        Override where the noise enters F, as noise "in" does: there `factor` multiplies what it has made of F."""
        g, turned = self.gamma * np.asarray(factor), V @ np.swapaxes(self.target_jacobian(h, u), -1, -2)
        moved, g = (1 - g) * h + g * self.target(h, u) + self.gamma * noise, g[..., None, :] if g.ndim > 1 else g
        return moved, (1 - g) * V + g * turned

    def variation(self, h: Array, u: Array, r: Array) -> tuple[Array, Array] | None:
        """How far F and its Jacobian can be from what is computed at `h` (K, N): None where that is not known.

        Returns e (K, N), a bound on the rounding error of F(h), and v (K, N), bounds on the row sums of
        |dF/dh(h') - target_jacobian(h)| over all h' with max|h' - h| <= r, `r` (K,).
        """
        return None
