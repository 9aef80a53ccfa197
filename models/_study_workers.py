"""The stacks of a study trained one after the other in this process, or dealt among several.

Each stack is one `train` call with a partial file of its own, so that the outcome does not depend on the processes,
nor on interruptions.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis import checkpoint
from fpanalysis.results import InputError
from fpanalysis.tasks import Task

from ._outcome import TrainingStatus, status_of
from ._study_folder import partial
from ._study_plan import StudyNetwork
from .trainer import Training, train

POINTS = 100  #: of a learning curve, at most
PULSE = 0.2  #: seconds between two reports of a worker

Tell = Callable[[int, int, NDArray[np.float32]], None]  #: stack, steps done, losses of its networks


@dataclass(frozen=True)
class Job:
    """One stack to train: its networks, of which the pending ones are written."""

    task: Task
    folder: Path
    members: tuple[StudyNetwork, ...]
    settings: Mapping[str, Any]  #: of `train`
    constant_loss: float  #: that of the best constant output

    @property
    def stack(self) -> int:
        return self.members[0].stack


@dataclass(frozen=True)
class Finished:
    """What became of a stack: its networks and their learning curves (M, P)."""

    members: tuple[StudyNetwork, ...]
    curves: NDArray[np.float32]

    @property
    def stack(self) -> int:
        return self.members[0].stack


def trained(jobs: Sequence[Job], processes: int, tell: Tell) -> Generator[Finished, None, None]:
    """The finished stacks, as they finish; a KeyboardInterrupt leaves each one's state in its partial file."""
    if processes > 1 and len(jobs) > 1:
        yield from _dealt(jobs, min(processes, len(jobs)), tell)
        return
    for job in jobs:
        yield train_stack(job, tell)


def train_stack(job: Job, tell: Tell) -> Finished:
    """Train one stack, from its partial file if there is one, and write its pending networks."""
    path = partial(job.folder, job.stack)
    first = job.members[0]
    each = ("seed", "sigma", "placement", *(("multiplicative",) if first.multiplicative is not None else ()))
    own: dict[str, Any] = {name: [getattr(m, name) for m in job.members] for name in each}
    own |= {"activation": first.activation, "size": first.size, "gamma": first.gamma, "partial": path}

    def progress(done: int, losses: NDArray[np.float32]) -> None:
        tell(job.stack, done, losses)

    training = train(job.task, progress=progress, resume=path.is_file(), **own, **job.settings)
    members = tuple(_outcome(job, training, m) for m in range(len(job.members)))
    return Finished(members, thinned(training.losses))


def _outcome(job: Job, training: Training, m: int) -> StudyNetwork:
    member = job.members[m]
    if member.status is not TrainingStatus.PENDING:
        return member
    status = status_of(training, m, job.constant_loss)
    if status is TrainingStatus.DIVERGED:
        return replace(member, status=status, step=training.diverged[m])
    net = training.network(m)
    checkpoint.save(net, job.folder / f"{member.name}.pt")
    return replace(member, status=status, final_loss=training.final_loss(m), hash=net.hash)


def bins(steps: int) -> NDArray[np.int64]:
    """Edges (P + 1,) of the stretches of training that a point of a learning curve averages over."""
    return np.unique(np.linspace(0, steps, min(steps, POINTS) + 1).astype(int))


def thinned(losses: NDArray[np.float32]) -> NDArray[np.float32]:
    """Training losses (steps, M) averaged over `bins`: (M, P); NaN where one is not finite."""
    edges = bins(len(losses))
    with np.errstate(invalid="ignore", over="ignore"):
        mean = np.add.reduceat(losses.astype(float), edges[:-1]) / np.diff(edges)[:, None]
        return np.where(np.abs(mean) <= np.finfo(np.float32).max, mean, np.nan).astype(np.float32).T


def _dealt(jobs: Sequence[Job], processes: int, tell: Tell) -> Generator[Finished, None, None]:
    context = multiprocessing.get_context("spawn")  # a forked torch may hang
    events, stop = context.Queue(), context.Event()
    pool = ProcessPoolExecutor(processes, context, _start_worker, (events, stop))
    try:
        with _interrupts_held():
            futures = [pool.submit(_work, job) for job in jobs]
        yield from _finished(futures, events, tell)
    except BrokenProcessPool:
        raise InputError(
            "a worker process ended abruptly: out of memory (resume with fewer processes), or a script that trains "
            "outside `if __name__ == '__main__':`"
        ) from None
    finally:
        stop.set()  # after an interrupt or a failure: the others save their state at the end of the step
        pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes started here never see a Ctrl-C, not even while they import; this one sees it afterwards."""
    if not hasattr(signal, "pthread_sigmask"):  # pragma: no cover  Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _finished(futures: Sequence[Future[Finished]], events: Any, tell: Tell) -> Generator[Finished, None, None]:
    unfinished = set(futures)
    while unfinished:
        with contextlib.suppress(queue.Empty):
            tell(*events.get(timeout=PULSE))
        done, unfinished = wait(unfinished, timeout=0)
        yield from (future.result() for future in done)


_worker: dict[str, Any] = {}  #: the queue, the stop sign and the state of this worker process


def _start_worker(events: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides, once for all
    events.cancel_join_thread()  # what nobody will read must not keep the process
    _worker.update(events=events, stop=stop, told=0.0, busy=False, orphan=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed saves its stack and ends, instead of waiting for the next one for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    _worker["orphan"] = True
    while _worker["busy"]:
        time.sleep(PULSE)
    os._exit(1)


def _work(job: Job) -> Finished:
    if _worker["stop"].is_set():
        raise KeyboardInterrupt
    _worker["busy"] = True
    try:
        return train_stack(job, _report)
    finally:
        _worker["busy"] = False


def _report(stack: int, done: int, losses: NDArray[np.float32]) -> None:
    if _worker["orphan"] or _worker["stop"].is_set():
        raise KeyboardInterrupt
    if time.monotonic() - _worker["told"] > PULSE:
        _worker["events"].put((stack, done, losses.copy()))
        _worker["told"] = time.monotonic()
