"""One run of a study: the folder opened or gone on with, its pending stacks trained, what became of them recorded."""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

import fpanalysis
from fpanalysis.results import InputError

from . import _study_folder as files
from ._outcome import TrainingStatus
from ._run import unfinished
from ._study_plan import Plan, StudyNetwork, largest_stack, stacked
from ._study_workers import Finished, Job, bins, trained


class StudyProgress(NamedTuple):
    """How far a study is: network-steps done of all, and the latest loss of each network (NaN where none is known)."""

    done: int
    total: int
    losses: NDArray[np.float64]
    networks: tuple[StudyNetwork, ...]


class StudyRun:
    """The state of a study while it trains: the content of its manifest, and its learning curves (M, P)."""

    def __init__(self, plan: Plan, folder: Path, resume: bool) -> None:
        self.plan, self.folder, self.resume = plan, folder, resume
        self.steps: int = plan.settings["steps"]
        self.notes: list[str] = []
        self.manifest: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "task": plan.task.name,
                    "task_settings": plan.task.settings(),
                    "settings": plan.settings,
                    "constant_loss": plan.constant_loss,
                }
            )
        )  # as it will be read again, so that the two compare
        self.manifest |= {"runs": [], "networks": []}

    @property
    def networks(self) -> list[StudyNetwork]:
        return self.manifest["networks"]

    def open(self) -> None:
        """Take over what the folder has, add what is new, and check every file that is there."""
        if self.resume:
            found = files.read_manifest(self.folder)
            files.check_same(self.folder, found, self.manifest)
            self.manifest = found
        else:
            files.check_absent(self.folder)
        self._extend()
        self._check_files()
        names = [network.name for network in self.networks]
        self.curves = files.read_losses(self.folder, names, len(bins(self.steps)) - 1)
        there = [m for m, network in enumerate(self.networks) if network.hash is not None]
        unknown = int(np.isnan(self.curves[there]).all(1).sum())
        if unknown:
            self.notes.append(f"{files.LOSSES} no longer has the learning curves of {unknown} networks")
        self._write()

    def _extend(self) -> None:
        known = {network.key for network in self.networks}
        new = [network for network in self.plan.networks if network.key not in known]
        batch, form = (self.plan.settings[name] for name in ("batch", "form"))
        most = {n.size: largest_stack(self.plan.task, n.size, batch, form) for n in new}
        self.networks.extend(stacked(new, most, 1 + max((n.stack for n in self.networks), default=-1)))
        if known and new:
            self.notes.append(f"{len(new)} networks were added to the {len(known)} that the study had")

    def _check_files(self) -> None:
        checked = files.checked_files(self.folder, self.networks)
        lost = [new.name for new, old in zip(checked, self.networks, strict=True) if new.status is not old.status]
        self.notes += [f"{name}.pt was missing and was trained again" for name in lost]
        self.manifest["networks"] = checked
        pending = {network.stack for network in self.pending}
        files.remove_leftovers(self.folder, pending)
        for stack in sorted(pending):
            path = files.partial(self.folder, stack)
            try:
                unfinished(path) if path.is_file() else None
            except InputError:
                path.unlink()
                self.notes.append(
                    f"{path.name} was damaged, or of another version: its networks were trained from their beginning"
                )

    @property
    def pending(self) -> list[StudyNetwork]:
        return [network for network in self.networks if network.status is TrainingStatus.PENDING]

    def train(self, processes: int, threads: int, progress: Callable[[StudyProgress], None] | None) -> None:
        """Train every stack with a pending network, recording each as it finishes."""
        jobs = self._jobs(threads)
        if not jobs:
            self.notes.append("every network was trained already: nothing was done")
            return
        run: dict[str, Any] = {"started": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": 0.0}
        run |= {"cpu_seconds": 0.0, "processes": processes, "threads": threads, "versions": _versions()}
        self.manifest["runs"].append(run)
        start, spent = time.monotonic(), _cpu_seconds()
        watch = _Watch(self.networks, jobs, self.steps, progress)
        try:
            with closing(trained(jobs, processes, watch.tell)) as stacks:
                for finished in stacks:
                    self._record(finished)
                    watch.tell(finished.stack, self.steps, finished.curves[:, -1])  # also where all diverged early
        finally:
            run |= {"seconds": round(time.monotonic() - start, 1), "cpu_seconds": round(_cpu_seconds() - spent, 1)}
            self._write()

    def _jobs(self, threads: int) -> list[Job]:
        settings, constant = self.plan.settings | {"threads": threads}, self.manifest["constant_loss"]
        stacks: dict[int, list[StudyNetwork]] = {}
        for network in self.networks:
            stacks.setdefault(network.stack, []).append(network)
        wanted = {network.stack for network in self.pending}
        return [Job(self.plan.task, self.folder, tuple(stacks[k]), settings, constant) for k in sorted(wanted)]

    def _record(self, finished: Finished) -> None:
        rows = {network.name: m for m, network in enumerate(self.networks)}
        for member, curve in zip(finished.members, finished.curves, strict=True):
            self.networks[rows[member.name]] = member
            self.curves[rows[member.name]] = curve
        self._write()
        files.partial(self.folder, finished.stack).unlink(missing_ok=True)

    def _write(self) -> None:
        edges = bins(self.steps)
        names = [network.name for network in self.networks]
        files.write_losses(self.folder, names, (edges[:-1] + 1 + edges[1:]) / 2, self.curves)
        files.write_manifest(self.folder, self.manifest)


class _Watch:
    """What the workers tell, gathered for the caller's `progress`."""

    def __init__(
        self, networks: list[StudyNetwork], jobs: list[Job], steps: int, call: Callable[[StudyProgress], None] | None
    ) -> None:
        self.networks, self.steps, self.call = tuple(networks), steps, call
        row = {network.name: m for m, network in enumerate(networks)}
        self.rows = {job.stack: [row[member.name] for member in job.members] for job in jobs}
        trained_before = sum(network.stack not in self.rows for network in networks)
        self.done = {-1: trained_before * steps}
        self.losses = np.array([np.nan if n.final_loss is None else n.final_loss for n in networks])

    def tell(self, stack: int, done: int, losses: NDArray[np.float32]) -> None:
        rows = self.rows[stack]
        self.losses[rows] = losses
        self.done[stack] = done * len(rows)
        if self.call is not None:
            total = len(self.networks) * self.steps
            self.call(StudyProgress(sum(self.done.values()), total, self.losses.copy(), self.networks))


def _cpu_seconds() -> float:
    """Of this process and of the workers that ended."""
    return sum(os.times()[:4])


def _versions() -> dict[str, str]:
    modules = {"fpanalysis": fpanalysis, "torch": torch, "numpy": np}
    return {name: str(module.__version__) for name, module in modules.items()} | {"python": platform.python_version()}
