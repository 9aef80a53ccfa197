"""The digits task: what the images are, how they are shown, and what is refused in a folder of files like MNIST's."""

from __future__ import annotations

import gzip
import hashlib
import struct
import tomllib
from pathlib import Path

import numpy as np
import pytest

from fpanalysis.results import InputError
from fpanalysis.tasks import get_task, remembered
from fpanalysis.tasks.digits import OWN

ROOT = Path(__file__).parents[1]
FILES = [f"{part}-{kind}" for part in ("train", "t10k") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]


def idx(values, kind=8):
    """The bytes of an IDX file, written independently of the reader."""
    values = np.asarray(values, np.uint8)
    return struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Seven images of 4 x 6 to train on, five to test on; training labels gzipped."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, n in (("train", 7), ("t10k", 5)):
        parts[part] = rng.integers(256, size=(n, 4, 6)), rng.integers(10, size=n)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(parts[part][0]))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(parts[part][1]))
    labels = tmp_path / "train-labels-idx1-ubyte"
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels.read_bytes()))
    labels.unlink()
    return tmp_path, parts


def images_of(batch):
    """(B, rows, columns) of a batch shown by rows."""
    return np.asarray(batch[0]).transpose(1, 0, 2)


def test_all_1797_digits_are_there():
    """Counts and pixels of the data set as scikit-learn ships it, in any order."""
    task = get_task("digits")
    u, z, _ = task.test_batch(450, 0)
    rng = np.random.default_rng(0)
    train = task.batch(40_000, rng)  # each of 1347 is missed with probability (1 - 1/1347)^40000 = 1e-13
    seen = np.unique(images_of(train).reshape(40_000, 64), axis=0)
    assert len(seen) == 1347
    shown = np.concatenate([seen, u.transpose(1, 0, 2).reshape(450, 64)]) * 16
    assert len(np.unique(shown, axis=0)) == 1797, "no test image is a training image"
    rows = sorted(bytes(row) for row in shown.astype(np.uint8))
    assert hashlib.sha256(b"".join(rows)).hexdigest()[:16] == "d34fb8ecae8dd764"
    counts = z[-1].sum(0) + [(gzip.decompress((OWN / f"{FILES[1]}.gz").read_bytes())[8:]).count(k) for k in range(10)]
    np.testing.assert_array_equal(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])


def test_the_pixels_of_a_class_belong_to_it():
    """Nearest class mean, known to be right for 9 of 10 of these digits: labels and images go together."""
    task = get_task("digits")
    (u, z, _), (v, y, _) = task.batch(3000, 0), task.test_batch(450, 0)
    images, labels = images_of((u,)).reshape(3000, 64), z[-1].argmax(-1)
    means = np.stack([images[labels == k].mean(0) for k in range(10)])
    distance = ((images_of((v,)).reshape(450, 1, 64) - means) ** 2).sum(-1)
    assert (distance.argmin(1) == y[-1].argmax(-1)).mean() > 0.85


def test_the_files_are_package_data():
    """setuptools takes only what pyproject.toml names; an editable install reads them where they are."""
    content = tomllib.loads((ROOT / "pyproject.toml").read_text())
    named, project = content["tool"]["setuptools"]["package-data"], content["project"]
    matched = {path for pattern in named["fpanalysis.tasks"] for path in (ROOT / "tasks").glob(pattern)}
    assert set((ROOT / "tasks" / OWN.name).iterdir()) == matched
    assert {f"{name}.gz" for name in FILES} | {"README.md"} == {path.name for path in matched}
    assert project["license"] == "MIT AND CC-BY-4.0"
    assert "CC BY 4.0" in (ROOT / project["license-files"][1]).read_text()


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ({}, (8, 8)),
        ({"T": 11}, (11, 8)),
        ({"pool": 4}, (2, 2)),
        ({"order": "pixels"}, (64, 1)),
        ({"order": "pixels", "pool": 2}, (16, 1)),
    ],
)
def test_shapes(settings, shape):
    task = get_task("digits", **settings)
    inputs, targets, mask = task.batch(3, rng=0)
    T, n_in = shape
    assert (inputs.shape, targets.shape, mask.shape) == ((T, 3, n_in), (T, 3, 10), (T, 3))
    assert (task.T, task.n_in, task.n_out) == (T, n_in, 10)
    assert inputs.dtype == targets.dtype == mask.dtype == np.float32
    assert mask[-1].all()
    assert not mask[:-1].any()
    np.testing.assert_array_equal(targets.sum(-1), 1)
    np.testing.assert_array_equal(targets, np.broadcast_to(targets[0], targets.shape))
    assert not inputs[8 * 8 // task.pool**2 // n_in :].any(), "zero after the image"
    assert get_task(task.name, **task.settings()) == task
    conditions, wanted = task.conditions()
    assert conditions.shape == (1, n_in)
    assert wanted is None


def test_the_same_image_in_every_order():
    rows, pixels, permuted = (
        get_task("digits", order=order).batch(20, 3)[0] for order in ("rows", "pixels", "permuted")
    )
    np.testing.assert_array_equal(pixels[..., 0], images_of((rows,)).reshape(20, 64).T)
    moved = [np.flatnonzero((pixels[..., 0] == row).all(1)) for row in permuted[..., 0]]
    assert sorted(set(np.concatenate(moved).tolist())) == list(range(64)), "the same pixels"
    assert (permuted != pixels).any()
    np.testing.assert_array_equal(get_task("digits", order="permuted").batch(20, 3)[0], permuted)
    pooled = get_task("digits", pool=2).batch(20, 3)[0]
    np.testing.assert_allclose(images_of((pooled,)), images_of((rows,)).reshape(20, 4, 2, 4, 2).mean((2, 4)), rtol=1e-6)


def test_test_images_are_drawn_once_each():
    task = get_task("digits")
    every = task.test_batch(450, 0)
    np.testing.assert_array_equal(task.test_batch(10_000, 5)[0], every[0])
    assert task.test_batch(10_000, 5)[2].shape == (8, 450)
    some = images_of(task.test_batch(449, 1)).reshape(449, 64)
    assert len(np.unique(some, axis=0)) == 449
    np.testing.assert_array_equal(images_of(task.test_batch(449, 1)).reshape(449, 64), some)
    assert (images_of(task.test_batch(449, 2)).reshape(449, 64) != some).any()
    for draw in (task.batch, task.test_batch):
        for wrong in (-1, 2.5):
            with pytest.raises(InputError, match=f"batch_size must be a whole number >= 1; found {wrong}"):
                draw(wrong, 0)


def test_score_is_the_class_after_the_last_step():
    task = get_task("digits")
    batch = task.test_batch(4, 0)
    outputs = np.stack([batch[1], -batch[1]])  # right throughout, and wrong
    np.testing.assert_array_equal(task.score(outputs, batch), [[1] * 4, [0] * 4])
    outputs[0, :-1] = 0
    np.testing.assert_array_equal(task.score(outputs, batch)[0], 1)
    outputs[0, -1, 2, 9] = np.nan  # of a network that has diverged
    np.testing.assert_array_equal(task.score(outputs, batch)[0], [1, 1, 0, 1])


def test_a_folder_of_files_like_those_of_mnist(folder):
    path, parts = folder
    task = get_task("digits", folder=str(path))
    assert (task.T, task.n_in) == (4, 6)
    inputs, targets, _ = task.test_batch(99, 0)
    np.testing.assert_allclose(images_of((inputs,)), parts["t10k"][0] / parts["train"][0].max(), rtol=1e-6)
    np.testing.assert_array_equal(targets[-1].argmax(-1), parts["t10k"][1])
    drawn = {tuple(row) for row in images_of(task.batch(200, 1)).reshape(200, 24).round(4)}
    assert drawn == {tuple(row) for row in (parts["train"][0] / parts["train"][0].max()).reshape(7, 24)
                     .astype(np.float32).round(4)}  # fmt: skip


def test_other_names_of_the_files(folder):
    path, _ = folder
    wanted = get_task("digits", folder=str(path)).batch(9, 0)
    other = path / "other"
    other.mkdir()
    for file in path.glob("*ubyte*"):
        (other / file.name.replace("-idx", ".idx")).write_bytes(file.read_bytes())
    for one, same in zip(wanted, get_task("digits", folder=str(other)).batch(9, 0), strict=True):
        np.testing.assert_array_equal(one, same)


def test_a_network_is_analysed_without_the_folder_it_learned_from(folder):
    """The task is remembered wherever the file goes; only its images need the folder."""
    settings = get_task("digits", folder=str(folder[0])).settings() | {"folder": "/not/here"}
    task = remembered({"task": "digits", "task_settings": settings})
    assert task is not None
    assert task.T == 4
    with pytest.raises(InputError, match="no /not/here"):
        task.batch(1, 0)


IMAGES, LABELS = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, None, "no train-images-idx3-ubyte or train-images-idx3-ubyte.gz in"),
        (IMAGES, b"", r"not an IDX file of unsigned bytes with 3 dim.*00 00 08 03; found an empty file"),
        (IMAGES, b"\x89PNG....", "00 00 08 03; found 89 50 4e 47"),
        (IMAGES, idx(np.zeros((7, 24))), "00 00 08 03; found 00 00 08 02"),
        (IMAGES, idx(np.zeros((7, 4, 6)), kind=13), "found 00 00 0d 03"),
        (IMAGES, b"\0\0\x08\x03\0\0", "found 00 00 08 03"),
        (IMAGES, idx(np.ones((7, 4, 6)))[:-1], r"announces \(7, 4, 6\), 168 values, and holds 167"),
        (IMAGES, idx(np.ones((7, 4, 6))) + b"\0", "and holds 169"),
        (IMAGES, gzip.compress(idx(np.ones((7, 4, 6))), mtime=0)[:-9], "is damaged or cannot be read"),
        (
            IMAGES,
            gzip.compress(idx(np.ones((7, 4, 6))), mtime=0)[:12] + b"nonsense" * 4,
            "is damaged or cannot be read",
        ),
        (IMAGES, idx(np.ones((6, 4, 6))), "found 6 images and 7 labels"),
        (IMAGES, idx(np.zeros((7, 4, 6))), "no pixel is above 0"),
        (IMAGES, idx(np.ones((7, 6, 6))), r"one size; found \(6, 6\) and \(4, 6\)"),
        (LABELS, idx([0, 1, 2, 3, 10]), "labels must be 0 to 9; found 10"),
        (LABELS, idx(np.zeros(0)), "found 5 images and 0 labels"),
    ],
)
def test_files_that_cannot_be_used(folder, name, content, message):
    path, _ = folder
    (path / name).unlink()
    if content is not None:
        (path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        get_task("digits", folder=str(path))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"order": "columns"}, "order must be 'rows', 'pixels', 'permuted'; found 'columns'"),
        ({"pool": 3}, "pool must divide the size of the images, 8 x 8; found 3"),
        ({"pool": 0}, "pool must be a whole number of pixels >= 1; found 0"),
        ({"T": 7}, "T must be at least the 8 steps of an image, or 0 for these; found 7"),
        ({"T": -1}, "T must be >= 1"),
        ({"counted": 9}, "counted=9"),
        ({"folder": "/not/here"}, "no /not/here"),
        ({"folder": 3}, "folder must be a word; found 3"),
        ({"layers": [8, 8]}, "has inputs that change within a trial"),
    ],
)
def test_settings_that_cannot_be_used(settings, message):
    with pytest.raises(InputError, match=message):
        get_task("digits", **settings)
