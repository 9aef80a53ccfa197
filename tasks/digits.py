"""Handwritten digits, seen row by row or pixel by pixel: which of ten is it?

The images that come along are the 1797 of 8 x 8 pixels of the UCI data set "Optical Recognition of Handwritten Digits"
that scikit-learn ships, as well (licence and source: `digits-8x8/README.md`): E. Alpaydin & C. Kaynak, "Cascading
classifiers" (Kybernetika 34, 1998). MNIST, and what has its format, is read from a folder where a user has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import ClassVar

import numpy as np

from fpanalysis.results import InputError

from ._images import CLASSES, Folder, Images, read_folder
from ._task import Array, Batch, Defaults, Task

OWN = Path(__file__).parent / "digits-8x8"
ORDERS = ("rows", "pixels", "permuted")


@dataclass(frozen=True)
class Digits(Task):
    """u_t = row t of the image (or pixel t), z = a score for each class; the loss is the cross-entropy of softmax(z).

    Pixels are divided by the largest of all training images, so that they lie in [0, 1].

    Parameters
    ----------
    T : int
        Steps of a trial; 0: as many as the image takes. Beyond those the input is zero.
    counted : int
        Steps at its end that count in the loss; success is that of the last.
    order : "rows" | "pixels" | "permuted"
        8 steps of 8 pixels; 64 steps of one; the same in an order without meaning, one for all images.
    folder : str
        Where the four IDX files of MNIST lie, gzipped or not (`_images`); "": the digits that come along, 1347 to train
        and 450 to test on.
    pool : int
        Means over squares of so many pixels a side take the place of the pixels.
    """

    T: int = 0
    counted: int = 1
    order: str = "rows"
    folder: str = ""
    pool: int = 1

    name: ClassVar[str] = "digits"
    n_out: ClassVar[int] = CLASSES
    loss: ClassVar[str] = "cross-entropy"
    scored: ClassVar[bool] = True
    defaults: ClassVar[Defaults] = Defaults(size=64, gamma=0.5, steps=850, lr=5e-3, batch=64)

    def __post_init__(self) -> None:
        self._check_kinds()
        if self.order not in ORDERS:
            raise InputError(f"order must be {', '.join(map(repr, ORDERS))}; found {self.order!r}")
        if self.pool < 1:
            raise InputError(f"pool must be a whole number of pixels >= 1; found {self.pool}")
        if self.folder:
            object.__setattr__(self, "folder", str(Path(self.folder).expanduser().absolute()))
        if self.T == 0:
            object.__setattr__(self, "T", self._shape[0])
        super().__post_init__()
        if not self.folder:  # a network trained on a user's images is analysed without them
            self._check_length()

    @property
    def n_in(self) -> int:  # type: ignore[override]  # a setting decides it
        return self._shape[1]

    @property
    def _shape(self) -> tuple[int, int]:
        """Steps of an image, and inputs at each."""
        rows, columns = _read(self.folder).train.images.shape[1:]
        if rows % self.pool or columns % self.pool:
            raise InputError(f"pool must divide the size of the images, {rows} x {columns}; found {self.pool}")
        rows, columns = rows // self.pool, columns // self.pool
        return (rows, columns) if self.order == "rows" else (rows * columns, 1)

    def _check_length(self) -> None:
        steps, _ = self._shape
        if steps > self.T:
            raise InputError(f"T must be at least the {steps} steps of an image, or 0 for these; found {self.T}")

    def batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Training images, each drawn from all; shapes as for every task, targets one-hot at every step."""
        train = _read(self.folder).train
        mask = self._mask(batch_size)
        return *self._shown(train, np.random.default_rng(rng).integers(len(train.labels), size=batch_size)), mask

    def test_batch(self, batch_size: int, rng: int | np.random.Generator) -> Batch:
        """Test images, no one twice: as many as asked for, drawn at random; if these are all there are or more, all of
        them once, in their order."""
        test = _read(self.folder).test
        n = len(test.labels)
        mask = self._mask(min(batch_size, n))
        which = np.arange(n) if batch_size >= n else np.random.default_rng(rng).permutation(n)[:batch_size]
        return *self._shown(test, which), mask

    def _shown(self, images: Images, which: Array) -> tuple[Array, Array]:
        """Inputs (T, B, n_in) and targets (T, B, 10) of some of the images."""
        self._check_length()
        steps, n_in = self._shape
        k = self.pool
        shown = images.images[which].astype(np.float32) / _read(self.folder).peak
        B, rows, columns = shown.shape
        shown = shown.reshape(B, rows // k, k, columns // k, k).mean((2, 4)).reshape(B, steps, n_in)
        if self.order == "permuted":
            shown = shown[:, np.random.RandomState(0).permutation(steps)]  # the generator whose stream never changes
        inputs = np.zeros((self.T, B, n_in), np.float32)
        inputs[:steps] = shown.transpose(1, 0, 2)
        target = np.eye(CLASSES, dtype=np.float32)[images.labels[which]]
        return inputs, np.repeat(target[None], self.T, axis=0)

    def score(self, outputs: Array, batch: Batch) -> Array:
        """1 where the largest output after the last step is that of the class; shapes as for every task."""
        last = outputs[..., -1, :, :]
        return (last.argmax(-1) == batch[1][-1].argmax(-1)) & np.isfinite(last).all(-1)

    def initialize(self, size: int, rng: int | np.random.Generator) -> dict[str, Array]:
        """W_ij ~ N(0, 1/N), W_in ~ N(0, 1), W_out ~ N(0, 1/N), biases zero."""
        rng = np.random.default_rng(rng)
        return {
            "W": rng.standard_normal((size, size)) / sqrt(size),
            "b": np.zeros(size),
            "W_in": rng.standard_normal((size, self.n_in)),
            "W_out": rng.standard_normal((CLASSES, size)) / sqrt(size),
            "b_out": np.zeros(CLASSES),
        }

    def conditions(self) -> tuple[Array, None]:
        """Zero input alone, as after the image; what is wanted there depends on what was seen."""
        return np.zeros((1, self.n_in)), None


@lru_cache(maxsize=2)
def _read(folder: str) -> Folder:
    return read_folder(Path(folder) if folder else OWN)
