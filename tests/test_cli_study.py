"""fpanalysis train with several networks: the folder, the table, what is refused, exit statuses, Ctrl-C and resume."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from fpanalysis.cli import main
from fpanalysis.cli._study import live_losses
from fpanalysis.models import StudyProgress, read_study

TASK = "function-approximation"
QUICK = ("--size", "6", "--steps", "120", "--batch", "4")
TINY = ("--size", "6", "--steps", "2", "--batch", "2")
LISTS = ("--noise", "0.1,0.2", "--placement", "in,out", "--seeds", "2")
#: the command in a process that says when a third, and when two thirds, of a study are done
TELLING = """
from fpanalysis.cli import _study, main

live_losses, told = _study.live_losses, set()

def telling(now):
    thirds = int(3 * now.done / now.total)
    if 0 < thirds < 3 and thirds not in told:
        told.add(print(thirds, flush=True) or thirds)
    return live_losses(now)

_study.live_losses = telling
if __name__ == "__main__":
    main(prog_name="fpanalysis")
"""


def run(*args):
    return CliRunner().invoke(main, ["train", *map(str, args)])


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "s"
    return folder, run(TASK, *LISTS, *QUICK, "-o", folder, "--figure", folder / "curves.png")


def test_lists_make_a_study_and_the_table_is_its_manifest(done):
    folder, result = done
    assert result.exit_code == 0, result.output
    study = read_study(folder)
    assert len(study.networks) == 8
    lines = result.stdout.splitlines()
    assert lines[0] == f"{folder}: {TASK}, 8 of 8 networks trained"
    assert lines[-1] == f"next: fpanalysis preference {folder}"
    rows = [line.split() for line in lines if line.strip().startswith("relu")]
    assert len(rows) == len(study.groups) == 4
    for row, group in zip(rows, study.groups, strict=True):
        assert row[1:3] == [group.first.placement, f"{group.first.sigma:g}"]
        assert " ".join(row[3:6]) == "2 of 2"
        assert [row[6], row[7], row[9]] == [f"{group.final_loss[k]:.3g}" for k in (1, 0, 2)]
    assert (folder / "curves.png").stat().st_size > 10_000


def test_seeds_alone_make_a_study(tmp_path):
    result = run(TASK, "--noise", 20, "--placement", "out", "--seed", 3, "--seeds", 2, *TINY, "-o", tmp_path / "s")
    assert [n.seed for n in read_study(tmp_path / "s").networks] == [3, 4]
    assert result.exit_code == 3, "so much noise in the output makes it worse than a constant"
    assert "2 not trained: its loss did not end clearly below that of a constant output" in result.stderr
    assert "relu-N6-out-20-seed3 (loss " in result.stderr


def test_a_finished_study_is_not_touched_and_said_so(done):
    folder, _ = done
    before = (folder / "manifest.json").read_bytes()
    again = run(TASK, *LISTS, *QUICK, "-o", folder, "--resume")
    assert again.exit_code == 0
    assert again.stderr == "note: every network was trained already: nothing was done\n"
    assert (folder / "manifest.json").read_bytes() == before


def test_networks_that_failed_are_named(tmp_path):
    result = run(TASK, "--noise", "0.1,1e30", *QUICK, "-o", tmp_path / "s")
    assert result.exit_code == 3
    assert "1 diverged: its loss stopped being finite" in result.stderr
    assert "relu-N6-in-1e+30-seed0 (step 1)" in result.stderr
    row = next(line for line in result.stdout.splitlines() if "1e+30" in line)
    assert row.split()[-5:] == ["0", "of", "1", "-", "-"]


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["--seeds", "2"], 2, "needs a folder: -o DIR; found model.pt"),
        (["--seeds", "0", "-o", "s"], 2, "0 is not in the range x>=1"),
        (["--noise", "0.1,much", "-o", "s"], 2, "'much' is not a valid float"),
        (["--noise", "0.1,-1", "-o", "s"], 1, "sigma must be >= 0"),
        (["--placement", "in,beside", "-o", "s"], 2, "'beside' is not one of 'in', 'out'"),
        (["--activation", "relu,swish", "-o", "s"], 1, "unknown activation 'swish'"),
        (["--seeds", "2", "-o", "no/such/s"], 1, "cannot make the folder no/such/s"),
        (["--seeds", "2", "-o", "s", "--resume"], 1, "s holds no study"),
        (["--seeds", "2", "-o", "s", "--figure", "x.txt"], 1, "--figure must end in .png, .pdf, .svg"),
        (["--seeds", "2", "-o", "s", "--device", "abacus"], 1, "device must be one that torch can use here"),
        (["--processes", "2", "-o", "s.pt"], 2, "--figure and --processes are for a study"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(args, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(TASK, *args)
    assert result.exit_code == status, result.output
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_without_a_terminal_a_long_study_says_now_and_then_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("fpanalysis.cli._study.SILENT", 0.0)
    result = run(TASK, "--placement", "in,out", *TINY, "-o", tmp_path / "s")
    first, second = result.stderr.splitlines()[:2]
    assert re.fullmatch(r"50% of 2 networks, loss in [\d.]+, out [\d.]+", first)
    assert second.startswith("100% of 2 networks")


def test_a_range_of_noise_is_a_list(tmp_path):
    run(TASK, "--noise", "0:0.4:3", *TINY, "-o", tmp_path / "s")
    assert [n.sigma for n in read_study(tmp_path / "s").networks] == [0, 0.2, 0.4]


def started(script, args, until):
    """A real process with two workers, when it has said `until`."""
    child = subprocess.Popen(
        [sys.executable, str(script), *args, "--processes", "2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    assert until in iter(child.stdout.readline, "")
    return child


def test_processes_ctrl_c_and_a_kill_make_no_difference(tmp_path):
    """Killed outright at a third: its workers save their stacks and end, or else its streams would stay open. A real
    signal at two thirds; the message is run as it stands, but in one process. Against the same study without all that.
    """
    folder, script = tmp_path / "s", tmp_path / "telling.py"
    script.write_text(TELLING)
    lists = ["--placement", "in,out", "--activation", "relu,tanh,softplus", "--seeds", "2"]
    short = ["--size", "6", "--steps", "300", "--batch", "4", "--setting", "T=20", "--setting", "counted=10"]
    words = ["train", TASK, *lists, *short, "-o"]
    child = started(script, [*words, str(folder)], "1\n")
    child.kill()
    child.communicate(timeout=120)
    partial = [torch.load(path, weights_only=True)["done"] for path in folder.glob("*.partial")]
    assert partial
    assert 0 < max(partial) <= 300
    child = started(script, [*words, str(folder), "--resume"], "2\n")
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=120)
    assert child.returncode == 1, stderr
    assert "Traceback" not in stderr
    again = shlex.split(stderr.partition("Go on with: ")[2])
    assert again[-1] == "--resume"
    again[again.index("--processes") + 1] = "1"
    assert CliRunner().invoke(main, again[1:]).exit_code == 0
    assert run(*words[1:], tmp_path / "whole").exit_code == 0
    interrupted, whole = read_study(folder), read_study(tmp_path / "whole")
    assert interrupted.networks == whole.networks
    np.testing.assert_array_equal(interrupted.loss, whole.loss)


def test_the_losses_shown_are_medians_by_placement(done):
    folder, _ = done
    networks = read_study(folder).networks
    losses = np.where([n.placement == "in" for n in networks], 0.5, [0.1, 0.2, 0.3, np.nan, 0.1, 0.2, 0.3, np.inf])
    shown = live_losses(StudyProgress(0, 1, losses, networks))
    inside, outside = shown.removeprefix("loss ").split(", ")
    assert inside == "in 0.5"
    known = [x for x, n in zip(losses, networks, strict=True) if n.placement == "out" and np.isfinite(x)]
    assert outside == f"out {np.median(known):.2g}"
    placed = [m for m, network in enumerate(networks) if network.placement == "in"]
    assert live_losses(StudyProgress(0, 1, losses[placed], tuple(networks[m] for m in placed))) == "loss 0.5"
