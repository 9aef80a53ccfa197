"""Studies that are interrupted at bad moments, and two that want one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import pytest

from fpanalysis.models import _study_folder, _study_workers, train_study
from fpanalysis.models._run import Run
from fpanalysis.results import InputError

TASK = "function-approximation"
STUDY = {"activation": ("relu", "tanh"), "size": 6, "steps": 3, "batch": 3}  # two stacks


def test_a_ctrl_c_in_the_last_instants_of_a_stack_is_heeded(tmp_path, monkeypatch):
    save, heard = Run.save, []

    def interrupted(run, path):
        save(run, path)
        if run.done == run.settings.steps and not heard:
            heard.append(os.kill(os.getpid(), signal.SIGINT))

    monkeypatch.setattr(Run, "save", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_study(TASK, tmp_path / "s", **STUDY)
    assert [path.name for path in (tmp_path / "s").glob("*.partial")] == ["stack-0.partial"]
    monkeypatch.undo()
    again = train_study(TASK, tmp_path / "s", resume=True, **STUDY)
    assert again.networks == train_study(TASK, tmp_path / "whole", **STUDY).networks


def test_a_process_that_is_started_never_sees_a_ctrl_c():
    """A worker that is still importing would answer with a traceback."""
    code = "import signal, sys; sys.exit(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    started = []

    def start():
        with _study_workers._interrupts_held():
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            started.append(subprocess.run([sys.executable, "-c", code], check=False))

    with pytest.raises(KeyboardInterrupt):
        start()
    assert started[0].returncode == 1
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_lock_that_was_taken_away_meanwhile_is_none(tmp_path, monkeypatch):
    """Opened before another run ended and took its file away, locked after: a third run may hold a lock of its own."""
    import fcntl

    flock = fcntl.flock

    def late(file, operation):
        (tmp_path / ".lock").unlink()
        (tmp_path / ".lock").touch()
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with pytest.raises(InputError, match="another run"), _study_folder.held(tmp_path):
        pass
