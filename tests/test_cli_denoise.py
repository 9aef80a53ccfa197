"""The command `denoise`: the file it writes, its table against the losses, its JSON, notes, and exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from problems import random_network

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of
from fpanalysis.cli.denoise import Row, verdict

REGULATOR = Path(__file__).parents[1] / "examples/networks/regulator-relu-in-0.5.pt"


def run(*arguments):
    return CliRunner().invoke(main, ["denoise", *map(str, arguments)])


def words(output):
    return [line.split() for line in output.splitlines()]


@pytest.fixture
def model(tmp_path):
    """Writes a network of four neurons with those settings, and says where."""

    def write(**settings):
        net = random_network(4, **({"gain": 0.5, "sigma": 0.4, "activation": "relu"} | settings))
        fpa.save(net, tmp_path / "model.pt")
        return tmp_path / "model.pt"

    return write


def test_a_trained_network(tmp_path):
    result = run(REGULATOR, "-o", tmp_path / "clean.pt", "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    clean, net = fpa.load(tmp_path / "clean.pt"), fpa.load(REGULATOR)
    assert clean.hash == fpa.denoise(net).hash
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["schema"] == "fpanalysis.denoise/1"
    assert (document["model"], document["clean"], document["sigma"]) == (net.hash, clean.hash, 0.5)
    assert document["smoothing"] == clean.activation.s
    removed, noisy, still = document["losses"]
    assert [row["noise"] for row in (removed, noisy, still)] == [0.0, 0.5, 0.0]
    h = batch_of(net).h0
    squares = []
    for _ in range(80):
        h = clean.step(h)
        squares.append((clean.output(h) - net.targets) ** 2)
    assert still["loss"] == pytest.approx(np.mean(squares[-40:]), rel=1e-4)  # single precision
    assert still["loss"] < noisy["loss"] < removed["loss"]
    shown = words(result.output)
    for name, row in zip(("noise removed", "with noise", "de-noised"), (removed, noisy, still), strict=True):
        assert [
            *name.split(),
            f"{row['noise']:g}",
            *(f"{row[part]:.3g}" for part in ("loss", "bias2", "variance")),
        ] in shown
    assert f"{removed['loss'] / still['loss']:.3g} times below" in " ".join(result.output.split())


def test_without_targets_the_file_is_written_and_the_losses_left_out(model, tmp_path):
    result = run(model(), "-o", tmp_path / "clean.pt", "--json", "-")
    assert result.exit_code == 0, result.output
    assert "no losses to compare: the network remembers neither a task" in " ".join(result.stderr.split())
    document = json.loads(result.stdout)
    assert (document["losses"], document["verdict"]) == ([], "")
    assert fpa.load(tmp_path / "clean.pt").info["denoised"]["variant"] == "smoothed"


def test_another_level_is_done_and_noted(model, tmp_path):
    """Both levels are shown; a profile of sigma is kept."""
    path = model(sigma=[0.1, 0.2, 0.3, 0.4], conditions=[[0.5, 0.0]], targets=[[0.1, 0.1]])
    result = run(path, "-o", tmp_path / "clean.pt", "--noise", "0.8", "--variant", "sigma")
    assert result.exit_code == 0, result.output
    np.testing.assert_allclose(fpa.load(tmp_path / "clean.pt").activation.s, [0.2, 0.4, 0.6, 0.8])
    assert "is not the training noise" in " ".join(result.stderr.split())
    assert [line[2] for line in words(result.output) if line[:2] == ["with", "noise"]] == ["0.4", "0.8"]


def test_what_has_no_law_is_status_3(tmp_path):
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    fpa.save(net, tmp_path / "cycle.pt")
    result = run(tmp_path / "cycle.pt", "-o", tmp_path / "clean.pt")
    assert result.exit_code == 3
    assert "have no stationary law" in " ".join(result.stderr.split())
    assert (tmp_path / "clean.pt").exists()


def test_the_verdict():
    noisy = Row("with noise", 0.5, 2e-3, 1e-3, 1e-3, "ok")
    clean = Row("de-noised", 0.0, 1e-3, 1e-3, 0.0, "ok")
    said = verdict([Row("noise removed", 0.0, 0.1, 0.1, 0.0, "ok"), noisy, clean])
    assert said == (
        "De-noised, without noise: loss 0.001, 100 times below that of the network with its noise removed, "
        "2 times below that with noise 0.5."
    )
    assert "it does not help" in verdict([Row("noise removed", 0.0, 1e-3, 1e-3, 0.0, "ok"), noisy, clean])
    assert "2 times above that with noise" in verdict([noisy, noisy._replace(loss=5e-4), clean])


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-o", "clean.pt", "--noise", "0"], 2, "noise"),
        (["-o", "clean.pt", "--variant", "smooth"], 2, "smooth"),
        ([], 2, "Missing option '-o'"),
        (["-o", "missing/clean.pt"], 1, "does not exist"),
        (["-o", "clean.pt", "--json", "missing/x.json"], 1, "does not exist"),
        (["-o", "clean.pt", "--noise", "inf"], 1, "sigma must be finite"),
    ],
)
def test_wrong_usage(model, arguments, status, message, tmp_path, monkeypatch):
    path = model()
    monkeypatch.chdir(tmp_path)
    result = run(path, *arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "clean.pt").exists()


def test_nothing_is_written_over_the_model_or_twice(model, tmp_path):
    path = model()
    before = path.read_bytes()
    for arguments, message in (
        (["-o", path], "the model itself"),
        (["-o", tmp_path / "a", "--json", tmp_path / "a"], "another"),
    ):
        result = run(path, *arguments)
        assert result.exit_code == 1
        assert message in result.stderr
    assert path.read_bytes() == before
    assert not (tmp_path / "a").exists()


def test_a_network_without_noise(model, tmp_path):
    result = run(model(sigma=0.0), "-o", tmp_path / "clean.pt")
    assert result.exit_code == 1
    assert "there is no noise to absorb" in result.stderr
