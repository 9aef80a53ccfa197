"""fpanalysis train: the file it leaves, what it says, its exit statuses, and Ctrl-C."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys

import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis.cli import main

#: the command in a process that says when it has taken 5 steps, and whether torch's compiler was started for them
TELLING = """
import sys
from fpanalysis.cli import main
from fpanalysis.models._run import Run

step = Run.step

def telling(run):
    losses = step(run)
    if run.done == 5:
        print("step 5,", "torch._dynamo" in sys.modules, flush=True)
    return losses

Run.step = telling
main(prog_name="fpanalysis")
"""
QUICK = ("--size", "8", "--steps", "5", "--batch", "4")


def run(*args):
    return CliRunner().invoke(main, ["train", *map(str, args)])


def test_a_trained_network_is_written_and_described(tmp_path):
    out = tmp_path / "model.pt"
    result = run("function-approximation", "--noise", 0.3, "--placement", "out", "--activation", "tanh",
                 "--gamma", 0.5, "--seed", 3, *QUICK, "--steps", 200, "-o", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    net = fpa.load(out)
    assert (net.N, net.gamma, net.sigma, net.placement, net.activation.name) == (8, 0.5, 0.3, "out", "tanh")
    assert net.info["training"]["seed"] == 3
    assert list(tmp_path.iterdir()) == [out], "no partial is left"
    lines = result.stdout.splitlines()
    assert lines[0] == f"wrote {out}: tanh, N = 8, noise out, sigma = 0.3"
    assert lines[-1] == f"next: fpanalysis shift {out} --noise 0:0.3"
    figures = {line.split("  ")[0]: float(line.split("  ")[-1].split()[0]) for line in lines[1:-1]}
    ratio = figures["test loss, noise removed"] / figures["test loss at noise 0.3"]
    assert figures["R = removed / at noise"] == pytest.approx(ratio, rel=1e-2)  # printed with 3 digits


def test_without_noise_there_is_no_ratio(tmp_path):
    out = tmp_path / "model.pt"
    result = run("regulator", "--noise", 0, "--steps", 3, "--batch", 2, "-o", out)
    assert result.exit_code == 0, result.output
    assert "R =" not in result.stdout
    assert result.stdout.splitlines()[-1] == f"next: fpanalysis inspect {out}"


def test_a_setting_of_the_task_is_remembered(tmp_path):
    out = tmp_path / "model.pt"
    assert run("regulator", "--setting", "c=0.1", "--noise", 0.01, "--steps", 3, "--batch", 2, "-o", out).exit_code == 0
    net = fpa.load(out)
    assert net.info["task_settings"]["c"] == 0.1
    np.testing.assert_array_equal(net.targets, [[0.1]])


def test_a_setting_may_be_a_word_and_five_steps_are_no_training(tmp_path):
    out = tmp_path / "model.pt"
    result = run("path-integration", "--setting", "inputs=speed-heading", *QUICK, "-o", out)
    assert result.exit_code == 3
    assert "not trained (a constant output: loss 0." in result.stderr
    net = fpa.load(out)
    assert net.info["task_settings"]["inputs"] == "speed-heading"
    assert net.n_in == 3


@pytest.mark.parametrize(
    ("args", "status", "message"),
    [
        (["nosuch"], 1, "unknown task 'nosuch'; known: cognitive, digits, flip-flop"),
        (["regulator", "--activation", "swish"], 1, "unknown activation 'swish'; known:"),
        (["regulator", "-o", "no/such/model.pt"], 1, "the folder no/such does not exist"),
        (["regulator", "--lr", "-1"], 1, "lr must be a finite number > 0; found -1"),
        (["regulator", "--size", "2"], 1, "size must be 1"),
        (["regulator", "--setting", "d=1"], 1, "no setting 'd'; it has"),
        (["regulator", "--resume"], 1, "no unfinished training at model.pt.partial"),
        (["regulator", "--noise", "1e30", "--steps", "5"], 1, "not finite at step 1 of 5; use a smaller lr"),
        (["regulator", "--placement", "beside"], 2, "'beside' is not one of 'in', 'out'"),
        (["regulator", "--setting", "c"], 2, "is not NAME=VALUE"),
        (["regulator", "--setting", "c=big"], 1, "c must be a number; found 'big'"),
        (["path-integration", "--setting", "inputs=3"], 1, "inputs must be a word; found 3"),
        (["regulator", "--batch", "1000000000000"], 1, "not enough memory (Unable to allocate"),
        (["regulator", "--device", "meta"], 1, "device must be one that torch can use here; found 'meta'"),
        ([], 2, "Missing argument 'TASK'"),
    ],
)
def test_what_cannot_be_used_is_one_clear_line(args, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(*args)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "model.pt").exists()


def test_after_ctrl_c_the_command_it_names_goes_on_to_the_same_network(tmp_path):
    """A real process, a real signal; the message is run as it stands."""
    out, whole = tmp_path / "model.pt", tmp_path / "whole.pt"
    words = ["train", "regulator", "--steps", "100", "--batch", "16", "--setting", "c=0.1", "-o"]
    child = subprocess.Popen(
        [sys.executable, "-c", TELLING, *words, str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "step 5, False\n", "a second of every start"
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=60)
    assert child.returncode == 1, stderr
    assert not out.exists()
    assert (tmp_path / "model.pt.partial").exists()
    again = shlex.split(stderr.partition("Go on with: ")[2])
    assert again == ["fpanalysis", *words, str(out), "--resume"]
    assert CliRunner().invoke(main, again[1:]).exit_code == 0
    assert not (tmp_path / "model.pt.partial").exists()
    assert CliRunner().invoke(main, [*words, str(whole)]).exit_code == 0
    assert fpa.load(out).hash == fpa.load(whole).hash


def test_a_dropped_partial_is_announced(tmp_path):
    out = tmp_path / "model.pt"
    (tmp_path / "model.pt.partial").write_bytes(b"")
    result = run("regulator", "--steps", 3, "--batch", 2, "-o", out)
    assert result.exit_code == 0
    assert "starting anew" in result.stderr
    assert not (tmp_path / "model.pt.partial").exists()


def test_help_is_quick_because_it_imports_nothing_heavy():
    code = (
        "import sys; from fpanalysis.cli import main\n"
        "try: main(['train', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(', '.join({'torch', 'scipy', 'numpy', 'matplotlib'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "$ fpanalysis train function-approximation --noise 0.5" in done.stdout
