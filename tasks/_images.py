"""Labelled images from a folder of IDX files, the format of MNIST, as they are or compressed by gzip.

    train-images-idx3-ubyte   train-labels-idx1-ubyte   t10k-images-idx3-ubyte   t10k-labels-idx1-ubyte

(`train-images.idx3-ubyte`, as some copies are called, is found as well.) A file is 0, 0, 8 for unsigned bytes, the
number k of its dimensions, k sizes of four bytes, the largest first, and the values.
"""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import InputError

CLASSES = 10
NAMES = {"images": 3, "labels": 1}  #: number of dimensions of each kind of file
ZIPPED = b"\x1f\x8b"


class Images(NamedTuple):
    """n images of one size (n, rows, columns) and the class of each (n,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.uint8]


class Folder(NamedTuple):
    """Images to train and to test on, and the largest pixel of the former."""

    train: Images
    test: Images
    peak: int


def read_folder(folder: Path) -> Folder:
    """What the four files in `folder` hold.

    Raises
    ------
    InputError
        If a file is missing, damaged or of another kind, or the files do not belong together.
    """
    if not folder.is_dir():
        raise InputError(
            f"folder must be one that holds the files of MNIST (train-images-idx3-ubyte, ...); found no {folder}"
        )
    train, test = (_part(folder, part) for part in ("train", "t10k"))
    sizes = [part.images.shape[1:] for part in (train, test)]
    if sizes[0] != sizes[1]:
        raise InputError(
            f"images to train and to test on must have one size; found {sizes[0]} and {sizes[1]} in {folder}"
        )
    peak = int(train.images.max())
    if not peak:
        raise InputError(f"the training images in {folder} are empty: no pixel is above 0")
    return Folder(train, test, peak)


def _part(folder: Path, part: str) -> Images:
    images, labels = (read_idx(_find(folder, part, kind), k) for kind, k in NAMES.items())
    if len(images) != len(labels) or not images.size:
        raise InputError(
            f"each image needs a label; found {len(images)} images and {len(labels)} labels in {folder} ({part}-...)"
        )
    if labels.max() >= CLASSES:
        raise InputError(f"labels must be 0 to {CLASSES - 1}; found {labels.max()} in {folder} ({part}-labels-...)")
    return Images(images, labels)


def _find(folder: Path, part: str, kind: str) -> Path:
    names = [f"{part}-{kind}{dot}idx{NAMES[kind]}-ubyte{end}" for dot in "-." for end in ("", ".gz")]
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        raise InputError(f"no {names[0]} or {names[1]} in {folder}")
    return found[0]


def read_idx(path: Path, k: int) -> NDArray[np.uint8]:
    """The values of an IDX file of unsigned bytes with k dimensions."""
    try:
        content = path.read_bytes()
        if content[:2] == ZIPPED:
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} is damaged or cannot be read ({error})") from None
    magic, sizes = bytes((0, 0, 8, k)), np.frombuffer(content[4 : 4 + 4 * k], np.uint8)
    if content[:4] != magic or len(sizes) != 4 * k:
        raise InputError(
            f"{path} is not an IDX file of unsigned bytes with {k} dimension(s): it must begin with the bytes "
            f"{magic.hex(' ')}; found {content[:4].hex(' ') or 'an empty file'}"
        )
    shape = tuple(int(size) for size in sizes.view(">u4"))
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * k)
    if len(values) != prod(shape):
        raise InputError(f"{path} is damaged: it announces {shape}, {prod(shape)} values, and holds {len(values)}")
    return values.reshape(shape)
