"""Checkpoints: exact round trips, safe refusals, whole files or none."""

from __future__ import annotations

import copy
import errno
import os
import pickle
import re
import threading
import warnings

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis import checkpoint
from fpanalysis.activations import LeakyReLU
from fpanalysis.network import Network
from fpanalysis.results import InputError, check_writable, write_atomically


def network(**changes):
    rng = np.random.default_rng(0)
    parts = {"W": rng.normal(size=(3, 3)), "gamma": 0.1, "sigma": 0.5}
    return Network(**(parts | changes))


FULL = {
    "b": [0.1, 1e-300, -3.0],
    "W_in": [[1.0], [2.0], [3.0]],
    "W_out": [[1.0, 1 / 3, 0.0]],
    "b_out": [0.7],
    "gamma": [0.1, 0.2, 1.0],
    "sigma": [0.0, 0.5, 1 / 3],
    "activation": LeakyReLU(0.3),
    "placement": "out",
    "conditions": [[0.1], [0.2]],
    "targets": [[1.0], [-1.0]],
    "info": {"task": "integrator", "settings": {"steps": 3, "rates": [0.1, 0.2]}, "note": None, "done": True},
}


@pytest.fixture
def content(tmp_path):
    """What a valid file holds, to be spoilt."""
    fpa.save(network(), tmp_path / "valid.pt")
    return torch.load(tmp_path / "valid.pt", weights_only=True)


def refusal(path):
    """The message, of one line, without a warning on the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            fpa.load(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# ---------------------------------------------------------------- round trips


@pytest.mark.parametrize("changes", [{}, FULL, {"form": "current"}, {"W": [[2.0]], "sigma": 0}], ids=str)
def test_round_trip_is_exact(changes, tmp_path):
    net = network(**changes)
    fpa.save(net, tmp_path / "net.pt")
    again = fpa.load(tmp_path / "net.pt")
    for name in (*checkpoint.TENSORS, "gamma", "sigma", "conditions", "targets"):
        before, after = getattr(net, name), getattr(again, name)
        assert type(before) is type(after)
        np.testing.assert_array_equal(before, after)
    assert (again.form, again.placement, again.info) == (net.form, net.placement, net.info)
    assert again.activation.key == net.activation.key
    assert again.hash == net.hash


def test_file_is_what_the_documentation_says(tmp_path):
    fpa.save(network(**FULL), tmp_path / "net.pt")
    content = torch.load(tmp_path / "net.pt", weights_only=True)
    assert set(content) == {"format", "config", "state_dict"}
    assert content["format"] == "fpanalysis.network/1"
    assert set(content["config"]) == set(checkpoint.SETTINGS)
    assert content["config"]["activation"] == {"name": "leaky_relu", "slope": 0.3}
    assert content["config"]["gamma"] == [0.1, 0.2, 1.0]
    assert {tensor.dtype for tensor in content["state_dict"].values()} == {torch.float64}


def test_weights_of_other_types_are_read(content, tmp_path):
    """float32 and integer tensors, a parameter, an older torch file format."""
    content["state_dict"] |= {
        "W": torch.eye(3),
        "b": torch.tensor([1, 2, 3]),
        "W_out": torch.nn.Parameter(torch.eye(3)),
    }
    torch.save(content, tmp_path / "net.pt", _use_new_zipfile_serialization=False)
    net = fpa.load(str(tmp_path / "net.pt"))
    np.testing.assert_array_equal(net.W, np.eye(3))
    np.testing.assert_array_equal(net.b, [1, 2, 3])
    assert net.W_out.dtype == np.float64


def test_numpy_values_in_the_notes_become_plain(tmp_path):
    info = {"loss": np.float32(0.5), "curve": np.arange(3), "pair": (1, 2), "who": np.str_("me"), 7: "seven"}
    fpa.save(network(info=info), tmp_path / "net.pt")
    assert fpa.load(tmp_path / "net.pt").info == {
        "loss": 0.5,
        "curve": [0, 1, 2],
        "pair": [1, 2],
        "who": "me",
        "7": "seven",
    }


@pytest.mark.parametrize(
    "value", [torch.ones(2), {1, 2}, object(), 1j, [np.ones(2), print]], ids=lambda value: type(value).__name__
)
def test_notes_that_could_not_be_loaded_again_are_not_saved(value, tmp_path):
    with pytest.raises(InputError, match=r"info\['x'\] holds a"):
        fpa.save(network(info={"x": value}), tmp_path / "net.pt")
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- refusals


def test_missing_file_and_folder(tmp_path):
    assert "no such file; make one with 'fpanalysis train'" in refusal(tmp_path / "missing.pt")
    assert "it is a folder" in refusal(tmp_path)
    assert "no regular file" in refusal("/dev/null")
    assert "cannot read" in refusal(f"{tmp_path}/{'x' * 300}")
    (tmp_path / "link.pt").symlink_to(tmp_path / "missing.pt")
    assert "no such file" in refusal(tmp_path / "link.pt")


RAW = {
    "text": b"hello world\n",
    "csv": b"1,2,3\n4,5,6\n",
    "empty": b"",
    "zeros": bytes(1000),
    "pickle": pickle.dumps({"W": [1.0]}),
    "old pickle": pickle.dumps({"W": [1.0]}, 0),
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8'}",
    "zip": b"PK\x05\x06" + bytes(18),
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_files_of_other_kinds(raw, tmp_path):
    path = tmp_path / "file.pt"
    path.write_bytes(raw)
    message = refusal(path)
    assert "is not a checkpoint, or is damaged" in message
    assert "fpanalysis.save(network, path)" in message


class Bomb:
    """Unpickled unsafely it would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kind", ["module", "numpy", "bomb"])
def test_files_that_need_unsafe_unpickling(kind, zipped, tmp_path):
    path, trap = tmp_path / "file.pt", tmp_path / "trap"
    whole = {"module": torch.nn.RNN(2, 3), "numpy": {"W": np.eye(2)}, "bomb": {"W": Bomb(trap)}}[kind]
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    message = refusal(path)
    assert "only unsafe unpickling could load" in message
    assert "fpanalysis.save(network, path)" in message
    assert not trap.exists()


@pytest.mark.parametrize(
    ("found", "described"),
    [
        (torch.nn.RNN(2, 3).state_dict(), "a dictionary with keys 'weight_ih_l0', 'weight_hh_l0'"),
        ({}, "a dictionary with keys"),
        (torch.eye(300), "an object of type Tensor"),
        ([1, 2], "an object of type list"),
        ({"format": "other/1"}, "format 'other/1'"),
        ({"format": torch.zeros(99, 99)}, "a dictionary with keys 'format'"),
        ({"format": None}, "a dictionary with keys 'format'"),
        ({"a\nb" * 200: 1}, "a dictionary with keys"),
    ],
    ids=["rnn", "empty", "tensor", "list", "other format", "tensor as format", "no format", "odd key"],
)
def test_other_content(found, described, tmp_path):
    torch.save(found, tmp_path / "file.pt")
    message = refusal(tmp_path / "file.pt")
    assert described in message
    assert "expected 'fpanalysis.network/1'" in message
    assert "fpanalysis.save(network, path)" in message
    assert len(message) < 500 + len(str(tmp_path))


def test_files_of_a_later_version_ask_for_an_upgrade(content, tmp_path):
    content["format"] = "fpanalysis.network/2"
    torch.save(content, tmp_path / "file.pt")
    assert "upgrade fpanalysis" in refusal(tmp_path / "file.pt")


SPOILT = {
    ("config", "gamma"): ("0.1", "fast", [0.1], {"a": 1}, 0.0, 2, -1, float("nan"), 1j, torch.ones(2, 2), None),
    ("config", "sigma"): ("0.1", [0.1], -0.5, float("inf"), None),
    ("config", "activation"): (["relu"], None, 3, {}, {"name": "relu", "x": 1}, "swish", torch.eye(2)),
    ("config", "placement"): (3, None, ["in"], "IN", torch.eye(2)),
    ("config", "form"): (3, {}, "spiking"),
    ("config", "conditions"): ("x", [1.0], [[1.0, 2.0]], 3),
    ("config", "targets"): ([[1.0]],),
    ("config", "info"): (3, "note", [1]),
    ("state_dict", "W"): (
        None,
        [[1.0]],
        3.0,
        torch.eye(2),
        torch.ones(3),
        torch.ones(3, 2),
        torch.eye(3) * float("nan"),
        torch.eye(3) * 1j,
        torch.eye(3).to_sparse(),
        torch.eye(3, device="meta"),
    ),
    ("state_dict", "b"): (torch.ones(4), "x", torch.ones(3, 1)),
    ("state_dict", "W_in"): (torch.ones(2, 3),),
    ("state_dict", "W_out"): (torch.ones(3, 2),),
    ("state_dict", "b_out"): (torch.ones(2), torch.tensor(1.0)),
}


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [(*place, value) for place, values in SPOILT.items() for value in values],
    ids=lambda x: x if isinstance(x, str) else type(x).__name__,
)
def test_values_that_make_no_network(part, name, value, content, tmp_path):
    content[part][name] = value
    torch.save(content, tmp_path / "file.pt")
    message = refusal(tmp_path / "file.pt")
    # wrong weights show as another array that no longer fits
    assert name in message.replace(str(tmp_path), "") or (name == "W" and "b must have shape" in message)


@pytest.mark.parametrize("name", checkpoint.REQUIRED)
def test_no_default_stands_in_for_a_missing_setting(name, content, tmp_path):
    del content["config"][name]
    torch.save(content, tmp_path / "file.pt")
    assert f"the config has no value for {name}" in refusal(tmp_path / "file.pt")


@pytest.mark.parametrize("name", ["form", "conditions", "targets", "info"])
def test_optional_settings_may_be_missing(name, content, tmp_path):
    del content["config"][name]
    torch.save(content, tmp_path / "file.pt")
    assert fpa.load(tmp_path / "file.pt").hash == network().hash


def test_unknown_and_missing_entries(content, tmp_path):
    path = tmp_path / "file.pt"
    for spoil, reason in (
        (lambda c: c["config"].update(gama=0.1), "unknown entries ['gama']"),
        (lambda c: c["config"].update({3: 0.1}), "unknown entries ['3']"),
        (lambda c: c["state_dict"].update(U=torch.eye(3)), "unknown entries ['U']"),
        (lambda c: c["state_dict"].pop("W"), "no 'W'"),
        (lambda c: c.update(config=None), "needs 'config' and 'state_dict'"),
        (lambda c: c.update(state_dict=[]), "needs 'config' and 'state_dict'"),
        (lambda c: c.pop("state_dict"), "needs 'config' and 'state_dict'"),
    ):
        spoilt = copy.deepcopy(content)
        spoil(spoilt)
        torch.save(spoilt, path)
        assert reason in refusal(path)


def test_damaged_files_are_refused_or_hold_a_network(tmp_path):
    """60 files with flipped bytes and 40 truncated ones: a finite network or an InputError of one line."""
    rng = np.random.default_rng(0)
    fpa.save(network(**FULL), tmp_path / "valid.pt")
    whole, path = (tmp_path / "valid.pt").read_bytes(), tmp_path / "damaged.pt"
    messages = []
    for case in range(100):
        raw = bytearray(whole)
        if case < 60:
            for position in rng.integers(len(raw), size=rng.integers(1, 6)):
                raw[position] ^= 1 << rng.integers(8)
        else:
            del raw[rng.integers(len(raw)) :]
        path.write_bytes(raw)
        try:
            net = fpa.load(path)
        except InputError as error:
            messages.append(str(error))
        else:
            assert np.isfinite(net.W).all()
            assert case < 60
    assert len(messages) >= 40
    assert all(str(path) in message and "\n" not in message for message in messages)


# ---------------------------------------------------------------- writing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_existing_file_survives_a_failed_write(tmp_path):
    path = tmp_path / "net.pt"
    path.write_text("precious")

    def write():
        with write_atomically(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        write()
    assert path.read_text() == "precious"
    assert names(tmp_path) == ["net.pt"]


def test_a_write_that_the_system_refuses_is_an_input_error(tmp_path):
    def write():
        with write_atomically(tmp_path / "manifest.json"):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(InputError, match=r"cannot write .*manifest\.json: No space left on device"):
        write()
    assert names(tmp_path) == []


def test_full_disk_is_reported_and_leaves_nothing(tmp_path, monkeypatch):
    def fail(*_):
        raise RuntimeError("[enforce fail at inline_container.cc:664]\nunexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match=r"cannot write .*net\.pt: \[enforce fail") as caught:
        fpa.save(network(), tmp_path / "net.pt")
    assert "\n" not in str(caught.value)
    assert names(tmp_path) == []


def test_nothing_temporary_is_left_and_the_ending_is_kept(tmp_path):
    with write_atomically(tmp_path / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_text("x")
    fpa.save(network(), tmp_path / "net.pt")
    fpa.save(network(), tmp_path / "net.pt")
    assert names(tmp_path) == ["figure.png", "net.pt"]
    fpa.save(network(), tmp_path / ("n" * 252 + ".pt"))  # the longest name there can be


def test_permissions(tmp_path):
    path = tmp_path / "net.pt"
    mask = os.umask(0o027)
    try:
        fpa.save(network(), path)
    finally:
        os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o640
    path.chmod(0o604)
    fpa.save(network(), path)
    assert path.stat().st_mode & 0o777 == 0o604


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "net.pt", tmp_path / "link.pt"
    link.symlink_to(os.path.join("store", "net.pt"))
    for net in (network(), network(gamma=0.3)):  # dangling first, then to a file
        fpa.save(net, link)
        assert link.is_symlink()
        assert fpa.load(target).hash == fpa.load(link).hash == net.hash
    assert names(tmp_path) == ["link.pt", "store"]
    assert names(tmp_path / "store") == ["net.pt"]


def test_places_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "missing" / "net.pt", "does not exist; create it first"),
        (tmp_path / "file" / "net.pt", "does not exist; create it first"),
        (tmp_path, "it is a folder; give a file name"),
        ("/dev/null", "it is a device or pipe"),
        (tmp_path / "pipe", "it is a device or pipe"),
        (tmp_path / ("n" * 300), "name too long"),
        ("net\0.pt", "null"),
    ):
        for attempt in (lambda p=path: fpa.save(network(), p), lambda p=path: check_writable(p)):
            with pytest.raises(InputError, match=r"(?i)cannot write.*" + re.escape(reason)) as caught:
                attempt()
            assert "\n" not in str(caught.value)
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write everywhere
    with pytest.raises(InputError, match="no permission to write in the folder"):
        fpa.save(network(), tmp_path / "net.pt")
    assert names(tmp_path) == ["file", "pipe"]


def test_unreadable_file(tmp_path, monkeypatch):
    fpa.save(network(), tmp_path / "net.pt")

    def deny(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(torch, "load", deny)  # root may read everything
    assert "Permission denied" in refusal(tmp_path / "net.pt")


def test_writers_do_not_meet(tmp_path):
    """Eight threads write one file: whichever is last, it is whole."""
    nets = [network(gamma=0.1 * k) for k in range(1, 9)]
    threads = [threading.Thread(target=fpa.save, args=(net, tmp_path / "net.pt")) for net in nets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fpa.load(tmp_path / "net.pt").hash in {net.hash for net in nets}
    assert names(tmp_path) == ["net.pt"]


def test_arguments_of_other_types():
    with pytest.raises(fpa.InputError, match="file name"):
        fpa.load(None)
    with pytest.raises(fpa.InputError, match="file name"):
        fpa.save(network(), None)
    with pytest.raises(fpa.InputError, match="Network"):
        fpa.save("network", "x.pt")
