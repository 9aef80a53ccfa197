"""The folder of a study: manifest.json, losses.npz, a checkpoint per network, a partial file per unfinished stack.

Every file is written whole or not at all, a finished stack in this order: its checkpoints, losses.npz, the manifest;
only then its partial file goes. Whatever instant a run is killed at, the next one finds a state to go on from.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis import checkpoint
from fpanalysis.results import InputError, check_writable, one_line, write_atomically

from ._outcome import TrainingStatus
from ._study_plan import StudyNetwork

SCHEMA = "fpanalysis.study/1"
MANIFEST, LOSSES, LOCK = "manifest.json", "losses.npz", ".lock"
STATUS = {status.value: status for status in TrainingStatus}
COMPARED = ("task", "task_settings", "settings")  #: must be the same when a study is resumed


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest, its networks as `StudyNetwork`.

    Raises
    ------
    InputError
        If there is none, or it is damaged, or of another version.
    """
    path = folder / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{folder} holds no study: there is no {MANIFEST} in it") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(
            f"{path} is damaged ({one_line(str(error))}): restore it, or train the study in another folder"
        ) from None
    schema = content.get("schema") if isinstance(content, dict) else None
    if schema != SCHEMA:
        raise InputError(f"{path} has schema {one_line(repr(schema))}; this version reads {SCHEMA!r}: another folder")
    try:
        entries = [_network(entry) for entry in content["networks"]]
        return {name: content[name] for name in (*COMPARED, "constant_loss", "runs")} | {"networks": entries}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({type(error).__name__}: {one_line(str(error))}): restore it") from None


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    entries = [_entry(network) for network in manifest["networks"]]
    document = {"schema": SCHEMA} | dict(manifest) | {"networks": entries}
    with write_atomically(folder / MANIFEST) as temporary:
        temporary.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _entry(network: StudyNetwork) -> dict[str, Any]:
    fields = dataclasses.asdict(network) | {"status": network.status.value}
    return {"name": fields.pop("name"), "file": network.file} | fields


def _network(entry: Mapping[str, Any]) -> StudyNetwork:
    fields = {name: value for name, value in entry.items() if name != "file"}
    return StudyNetwork(**fields | {"status": STATUS[fields["status"]]})


def read_losses(folder: Path, names: Sequence[str], points: int) -> NDArray[np.float32]:
    """The learning curves (M, P) of these networks; NaN where there is none, also if the file is gone or damaged."""
    curves = np.full((len(names), points), np.nan, np.float32)
    try:
        with np.load(folder / LOSSES, allow_pickle=False) as file:
            rows = dict(zip(file["name"].tolist(), file["loss"], strict=True))
    except Exception:  # noqa: BLE001  numpy raises whatever a damaged archive provokes; curves are no result
        return curves
    for m, name in enumerate(names):
        if name in rows and rows[name].shape == (points,):
            curves[m] = rows[name]
    return curves


def write_losses(folder: Path, names: Sequence[str], steps: NDArray[Any], curves: NDArray[Any]) -> None:
    with write_atomically(folder / LOSSES) as temporary:
        np.savez_compressed(temporary, name=np.array(names), step=steps, loss=curves)


def partial(folder: Path, stack: int) -> Path:
    return folder / f"stack-{stack}.partial"


def make(folder: Path) -> None:
    """The folder of a study, made if it is not there.

    Raises
    ------
    InputError
        If it cannot be made, or nothing can be written in it.
    """
    try:
        folder.mkdir(exist_ok=True)
    except (OSError, ValueError) as error:
        reason = "it is a file" if folder.is_file() else getattr(error, "strerror", None) or error
        raise InputError(f"cannot make the folder {folder}: {reason}; give another") from None
    check_writable(folder / MANIFEST)


def check_absent(folder: Path) -> None:
    """Refuse to start a study in a folder that holds one, or other files."""
    if os.path.lexists(folder / MANIFEST):
        networks = read_manifest(folder)["networks"]
        done = sum(network.status is not TrainingStatus.PENDING for network in networks)
        raise InputError(
            f"{folder} holds a study already ({done} of {len(networks)} networks trained): go on with it (resume), or "
            "give another folder"
        )
    foreign = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if foreign:
        shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise InputError(f"{folder} holds other files ({shown}) and no {MANIFEST}: give a new or empty folder")


def check_same(folder: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse to go on with a study whose networks were trained otherwise, naming the difference."""
    if found["task"] != wanted["task"]:
        raise InputError(f"{folder} holds a study of {found['task']}, not of {wanted['task']}: give another folder")
    differing = [
        f"{name} {found[part].get(name)!r}, now {wanted[part].get(name)!r}"
        for part in ("task_settings", "settings")
        for name in {**found[part], **wanted[part]}
        if found[part].get(name) != wanted[part].get(name)
    ]
    if differing:
        raise InputError(
            f"cannot resume the study in {folder} with other settings: it was started with {'; '.join(differing)}; use "
            "the same settings, or another folder"
        )


def checked_files(folder: Path, networks: Sequence[StudyNetwork]) -> list[StudyNetwork]:
    """`networks` as the folder has them: one whose checkpoint is missing is pending again.

    Raises
    ------
    InputError
        If a checkpoint is not the one that was written, or a file stands where a pending one will: neither is
        overwritten.
    """
    there = []
    for network in networks:
        path = folder / f"{network.name}.pt"
        if network.hash is not None and not path.exists():
            network = dataclasses.replace(network, status=TrainingStatus.PENDING, final_loss=None, step=None, hash=None)
        elif network.hash is not None:
            _check_checkpoint(path, network.hash)
        elif path.exists() and not partial(folder, network.stack).exists():
            raise InputError(f"{path} is in the way of a network that the study has yet to train: move it elsewhere")
        there.append(network)
    return there


def _check_checkpoint(path: Path, expected: str) -> None:
    try:
        found = checkpoint.load(path).hash
    except InputError as error:
        raise InputError(f"a network of the study is damaged; delete it to have it trained again: {error}") from None
    if found != expected:
        raise InputError(
            f"{path} is not the network that {MANIFEST} describes (hash {found}, not {expected}): move it elsewhere, "
            "and the study trains its own again"
        )


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep a second run out of `folder`; the lock goes with this process, however it ends."""
    if not folder.is_dir():
        raise InputError(f"{folder} holds no study: there is no such folder; start it without resume")
    check_writable(folder / LOCK)
    try:
        import fcntl
    except ImportError:  # pragma: no cover  not on Windows
        yield
        return
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), (folder / LOCK).stat()):
                raise BlockingIOError  # the run that held it ended in between, and a third one has made its own
        except OSError:
            raise InputError(f"another run is training the study in {folder}: wait for it, or stop it") from None
        try:
            yield
        finally:
            (folder / LOCK).unlink(missing_ok=True)


def remove_leftovers(folder: Path, pending: set[int]) -> None:
    """Partial files of finished stacks, and the unfinished writes of a run that was killed."""
    for path in folder.glob("stack-*.partial"):
        number = path.stem.removeprefix("stack-")
        if path.is_file() and (not number.isdecimal() or int(number) not in pending):
            path.unlink(missing_ok=True)
    for pattern in (".manifest.*.json", ".losses.*.npz", ".stack-*.partial"):
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
