"""What a task is: batches to train on, how a network for it starts, and the inputs to analyse it at.

Arrays are float32 and time-major: inputs (T, B, n_in), targets (T, B, n_out), mask (T, B), where mask is 1 at
the steps that count in the loss; a task whose outputs weigh differently gives (T, B, n_out). The output compared
with targets[t] is read from the state after step t. The loss of a batch is the weighted mean of

    squared error    sum mask (z - z*)^2 / sum mask                              over steps, trials and outputs
    cross-entropy    -sum mask sum_o z*_o log softmax(z)_o / sum mask            over steps and trials, mask (T, B)

the second for tasks whose outputs are classes and whose targets are one-hot.

A task is a frozen dataclass: its fields are its settings, numbers and words, what a checkpoint remembers of it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import InputError

Array = NDArray[Any]
Batch = tuple[Array, Array, Array]

REGISTRY: dict[str, type[Task]] = {}
MOST = 100_000  #: of a setting that is a whole number: steps, sizes
LARGEST = 1e6  #: size of any other number: far from where squares overflow in float32


@dataclass(frozen=True)
class Defaults:
    """The network and the training that suit a task where nothing else is asked for."""

    size: int  #: neurons, N
    gamma: float
    steps: int  #: of training
    lr: float  #: Adam's first learning rate
    batch: int
    activation: str = "relu"
    sigma: float = 0.5


@dataclass(frozen=True)
class Feedback:
    """A closed loop: the network moves a point p and sees where it is. With z_t the output and h_t the state at step t,

        u_t = gain (p_t - centre)      h_{t+1} = step(h_t, u_t)      p_{t+1} = p_t + rate z_t

    Targets are wanted positions, targets[t] that of p_{t+1}; they and the mask are compared with p instead of z. A
    batch's inputs are what a network on the wanted path would see: inputs[0] tells the start p_0.
    """

    rate: float
    gain: float
    centre: float

    def start(self, inputs: Array) -> Array:
        """p_0 (B, n_out) of a batch with these inputs (T, B, n_in)."""
        return inputs[0] / self.gain + self.centre


@dataclass(frozen=True)
class Task:
    """A task with constant inputs within a trial. Subclasses give the class attributes, `trials` and
    `initialize`, and override the rest where it differs.

    Parameters
    ----------
    T : int
        Steps of a trial.
    counted : int
        Steps at its end that count in the loss.
    """

    T: int = 80
    counted: int = 40

    name: ClassVar[str] = ""
    n_in: ClassVar[int]
    n_out: ClassVar[int]
    defaults: ClassVar[Defaults]
    trainable: ClassVar[tuple[str, ...]] = ("W", "b", "W_in", "W_out", "b_out")
    feedback: ClassVar[Feedback | None] = None  #: of a task in a closed loop (n_in = n_out)
    scored: ClassVar[bool] = False  #: whether it has a `score`
    loss: ClassVar[str] = "squared error"  #: or "cross-entropy"

    def __init_subclass__(cls) -> None:
        if cls.name:
            REGISTRY[cls.name] = cls

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.T < 1 or not 1 <= self.counted <= self.T:
            raise InputError(f"T must be >= 1 and counted in 1..T; found T={self.T}, counted={self.counted}")

    def _check_kinds(self) -> None:
        """Every setting is of its default's kind from here on: 64.0 and numpy's numbers become plain ones."""
        for field in dataclasses.fields(self):
            if isinstance(field.default, str | int | float):
                value = _of_kind(field.name, field.default, getattr(self, field.name))
                object.__setattr__(self, field.name, value)

    @classmethod
    def setting_names(cls) -> list[str]:
        return [field.name for field in dataclasses.fields(cls)]

    def settings(self) -> dict[str, Any]:
        """Keyword arguments that make this task again: plain numbers and strings."""
        return dataclasses.asdict(self)

    @property
    def held(self) -> bool:
        """Whether a trial is one constant input, as `trials` draws it: then the conditions stand for the trials."""
        return type(self).batch is Task.batch and self.feedback is None

    def trials(self, batch_size: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """Constant inputs (B, n_in) and wanted outputs (B, n_out) of a random batch."""
        raise NotImplementedError(f"task {self.name!r} has no trials")

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Inputs (T, B, n_in), targets (T, B, n_out) and mask (T, B); the same `rng` gives the same batch."""
        mask = self._mask(batch_size)
        u, z = self.trials(batch_size, np.random.default_rng(rng))
        inputs, targets = (np.repeat(value[None].astype(np.float32), self.T, axis=0) for value in (u, z))
        return inputs, targets, mask

    def test_batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Such a batch of trials that training does not see: others of the same kind, unless data are finite."""
        return self.batch(batch_size, rng)

    def _mask(self, batch_size: int) -> Array:
        """1 at the last `counted` steps, (T, B)."""
        check_batch_size(batch_size)
        mask = np.zeros((self.T, batch_size), np.float32)
        mask[-self.counted :] = 1
        return mask

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """The untrained W (N, N), b (N,), W_in (N, n_in), W_out (n_out, N) and b_out (n_out,), N = size."""
        raise NotImplementedError(f"task {self.name!r} has no initial weights")

    def connections(self) -> dict[str, Array]:
        """Which weights exist, 1 or 0, for each of W, W_in and W_out that is not full; the others stay zero."""
        return {}

    def initial_state(self, targets: Array, size: int) -> Array:
        """The state (B, N) that trials with these targets (T, B, n_out) start from: zero."""
        return np.zeros((targets.shape[1], size), np.float32)

    def score(self, outputs: Array, batch: Batch) -> Array:
        """Whether each trial of `batch` succeeded, (..., B) of 0 and 1, by the outputs (..., T, B, n_out): positions,
        in a closed loop."""
        raise NotImplementedError(f"task {self.name!r} has no score")

    @property
    def condition_names(self) -> list[str]:
        """What to call each of `conditions`, in words of two or more; none where their numbers say it."""
        return []

    def conditions(self) -> tuple[Array, Array | None]:
        """Constant inputs (n_cond, n_in) to analyse a trained network at, and the outputs (n_cond, n_out) wanted
        there; None where the input alone does not decide them."""
        raise NotImplementedError(f"task {self.name!r} has no conditions")


def _of_kind(name: str, default: str | int | float, value: Any) -> str | int | float:
    """`value` as a word, a whole number or a number, as the default is."""
    if isinstance(default, str):
        if not isinstance(value, str):
            raise InputError(f"{name} must be a word; found {value!r}")
        return value
    known = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not known or value != value:
        raise InputError(f"{name} must be a number; found {value!r}")
    if isinstance(default, int):
        if not abs(value) <= MOST or value != int(value):
            raise InputError(f"{name} must be a whole number, at most {MOST}; found {value!r}")
        return int(value)
    if not abs(value) <= LARGEST:
        raise InputError(f"{name} must be a number of size at most {LARGEST:g}; found {value!r}")
    return float(value)


def check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int | np.integer) or batch_size < 1:
        raise InputError(f"batch_size must be a whole number >= 1; found {batch_size!r}")
