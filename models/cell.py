"""Cell: somebody else's recurrent cell as a `System`, h' = F(h, u) + sigma xi with xi ~ N(0, I) at each step.

gamma is 1: the cell's own step is F, its fixed points are F(h, u) = h and its flow is F(h, u) - h. What F is,
and its derivatives, comes from a `Dynamics`: torch on the inside, float64 throughout.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from fpanalysis.checks import check_sigma, of_shape
from fpanalysis.results import InputError
from fpanalysis.system import System

Array = NDArray[np.float64]


class Dynamics(ABC):
    """F and its derivatives for K states at once: inputs u (K, n_in) and states h (K, N), float64 on the CPU."""

    name: str
    N: int
    n_in: int
    visible: slice  #: what the torch module puts out, and a readout reads, of the N state variables
    dissipative = False  #: whether there is a `box` for every input
    smooth = True  #: False where F is known to have kinks

    @abstractmethod
    def step(self, u: Tensor, h: Tensor) -> Tensor:
        """F(h, u), (K, N), with gradients."""

    @abstractmethod
    def jacobian(self, u: Tensor, h: Tensor) -> Tensor:
        """dF/dh, (K, N, N), without gradients."""

    def still(self, u: Tensor, h: Tensor) -> Tensor:
        """A map with the fixed points of F and no gates that keep the old state, (K, N); F where there is none."""
        return self.step(u, h)

    def still_jacobian(self, u: Tensor, h: Tensor) -> Tensor:
        """Its Jacobian, (K, N, N), without gradients."""
        return self.jacobian(u, h)

    def variation(self, u: Tensor, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor] | None:
        """See `System.variation`."""
        return None

    def box(self, u: Tensor) -> Tensor | None:
        """Corners (2, N) of a box that F maps into itself at input u (n_in,) and that holds all its fixed points;
        None where no such box is known."""
        return None

    @abstractmethod
    def fingerprint(self) -> bytes:
        """What tells these dynamics from others, the same on every machine."""


@dataclass(frozen=True, eq=False)
class Cell(System):
    """A recurrent cell, h' = F(h, u) + sigma xi; :func:`from_torch` makes one.

    Parameters
    ----------
    dynamics : Dynamics
        F and its derivatives.
    sigma : float or (N,)
        Standard deviation per step of the noise on the state, >= 0.
    W_out, b_out : (n_out, N) and (n_out,), optional
        Readout z = W_out h + b_out; without it the output is the state itself.

    Raises
    ------
    InputError
        On negative or non-finite sigma, or a readout that does not fit.
    """

    dynamics: Dynamics
    sigma: float | Array = 0.0
    W_out: Array | None = None
    b_out: Array | None = None
    gamma: float | Array = field(default=1.0, init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sigma", check_sigma(self.sigma, self.N))
        if self.W_out is not None:
            object.__setattr__(self, "W_out", of_shape("W_out", self.W_out, (None, self.N)))
        if self.b_out is not None:
            object.__setattr__(self, "b_out", of_shape("b_out", self.b_out, (self.n_out,)))

    def __repr__(self) -> str:
        low, high = np.min(self.sigma), np.max(self.sigma)
        sigma = f"{low:g}" if low == high else f"{low:g}..{high:g}"
        return f"Cell({self.dynamics.name}, N={self.N}, n_in={self.n_in}, n_out={self.n_out}, sigma={sigma})"

    @property
    def N(self) -> int:
        return self.dynamics.N

    @property
    def n_in(self) -> int:
        return self.dynamics.n_in

    @cached_property
    def hash(self) -> str:
        """Hash of the dynamics (parameters; of a callable, its values at fixed states), sigma and readout."""
        digest = hashlib.sha256(self.dynamics.fingerprint())
        for name in ("sigma", "W_out", "b_out"):
            value = getattr(self, name)
            digest.update(f"{name}{np.shape(value)}".encode())
            digest.update(b"" if value is None else np.ascontiguousarray(value, "<f8").tobytes())
        return digest.hexdigest()[:16]

    @property
    def dissipative(self) -> bool:
        """Whether there is a `trapping_box`, so that the indices of the fixed points sum to 1 (Brouwer's degree of a
        continuous map of a convex compact set into itself). Not for ReLU layers and other people's callables."""
        return self.dynamics.dissipative

    def trapping_box(self, u: ArrayLike | None = None) -> Array | None:
        """Corners (2, N) of a box that F maps into itself at the input `u` (n_in,) and that holds all fixed points.

        - GRU: h' = (1 - z) n + z h with |n| < 1 and 0 < z < 1 maps [-1, 1]^N into itself, and h' = h means h = n;
        - LSTM: |h'| = |o tanh c'| < 1; with |h| <= 1 the forget gate is bounded by some phi(u) < 1, so that
          |c'| <= phi |c| + 1 maps |c| <= 1 / (1 - phi) into itself, and no fixed point has a larger c;
        - tanh layers: |h'| < 1;

        and stacks of these, whose upper layers' inputs are bounded too. Where gates saturate to 1 in float64, states
        outside the box look like fixed points, and are none.
        """
        box = self.dynamics.box(torch.tensor(self.check_condition(u)))
        return None if box is None else box.numpy()

    @property
    def smooth(self) -> bool:
        """False for ReLU layers; a callable is taken to be smooth."""
        return self.dynamics.smooth

    def with_sigma(self, sigma: ArrayLike) -> Cell:
        """The same cell with another noise level."""
        return dataclasses.replace(self, sigma=check_sigma(sigma, self.N))

    def target(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """F(h, u), the noise-free step: (..., N)."""
        return self._evaluate(self.dynamics.step, h, u, (self.N,)).copy()  # a callable may keep it

    def target_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """dF/dh, (..., N, N); not finite where the cell's derivatives are not."""
        return self._evaluate(self.dynamics.jacobian, h, u, (self.N, self.N))

    def still(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """See `System.still`: n for the GRU, c = i * g / (1 - f) and h = o * tanh(c) for the LSTM, (..., N)."""
        return self._evaluate(self.dynamics.still, h, u, (self.N,)).copy()

    def still_jacobian(self, h: ArrayLike, u: ArrayLike | None = None) -> Array:
        """Its Jacobian, (..., N, N)."""
        return self._evaluate(self.dynamics.still_jacobian, h, u, (self.N, self.N))

    def variation(self, h: Array, u: Array, r: Array) -> tuple[Array, Array] | None:
        """See `System.variation`: known for smooth gated layers."""
        rows, inputs, _ = self._rows(h, u)
        bounds = self.dynamics.variation(inputs, rows, torch.tensor(r))
        return None if bounds is None else (bounds[0].numpy(), bounds[1].numpy())

    @torch.no_grad()
    def _evaluate(
        self, f: Callable[[Tensor, Tensor], Tensor], h: ArrayLike, u: ArrayLike | None, shape: tuple[int, ...]
    ) -> Array:
        """`f` at the states, each value of `shape`, as an array."""
        rows, inputs, lead = self._rows(h, u)
        if not len(rows):
            return np.zeros((*lead, *shape))
        return f(inputs, rows).numpy().reshape(*lead, *shape)

    def _rows(self, h: ArrayLike, u: ArrayLike | None) -> tuple[Tensor, Tensor, tuple[int, ...]]:
        """States and inputs as tensors of their own, (K, N) and (K, n_in), and the leading axes they had."""
        h, u = self.check_state(h), self.check_input(u)
        lead = np.broadcast_shapes(h.shape[:-1], u.shape[:-1])
        rows = np.array(np.broadcast_to(h, (*lead, self.N))).reshape(-1, self.N)
        inputs = np.array(np.broadcast_to(u, (*lead, self.n_in))).reshape(len(rows), self.n_in)
        return torch.from_numpy(rows), torch.from_numpy(inputs), lead


def readout_of(module: torch.nn.Linear | None, dynamics: Dynamics) -> tuple[Array | None, Array | None]:
    """W_out (n_out, N) and b_out of a linear readout of what the module puts out; None and None without one."""
    if module is None:
        return None, None
    if not isinstance(module, torch.nn.Linear):
        raise InputError(f"readout must be a torch.nn.Linear or None; found {type(module).__name__}")
    columns = np.arange(dynamics.N)[dynamics.visible]
    if module.in_features != len(columns):
        raise InputError(
            f"readout must take the {len(columns)} numbers that the module puts out; found in_features = "
            f"{module.in_features}"
        )
    W_out = np.zeros((module.out_features, dynamics.N))
    W_out[:, columns] = module.weight.detach().cpu().double().numpy()
    return W_out, None if module.bias is None else module.bias.detach().cpu().double().numpy()
