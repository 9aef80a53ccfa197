"""The command `flatness`: what it prints against the result, its JSON, figure and exit statuses."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.cli import main
from fpanalysis.cli.flatness import EIGENVALUES, WITH_NOISE
from fpanalysis.models import flatness, noise_stability

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
ONE = NETWORKS / "regulator-relu-in-0.5.pt"
LAYERED = NETWORKS / "feedforward-relu-in-0.5.pt"
OPTIONS = ("--trials", "4", "--runs", "4")


def run(*arguments):
    return CliRunner().invoke(main, ["flatness", *map(str, arguments)])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two models in one call: printed, and as JSON."""
    path = tmp_path_factory.mktemp("two") / "found.json"
    done = run(ONE, LAYERED, *OPTIONS, "--json", path)
    return done, json.loads(path.read_text())


def test_the_table_is_the_result(two):
    done, document = two
    assert done.exit_code == 0
    net = fpa.load(LAYERED)
    task = fpa.tasks.remembered(net.info)
    batch = task.batch(4, 0)
    found = flatness(net, batch, scale="weight", sigma=0.5, runs=4, eigenvalues=EIGENVALUES, **WITH_NOISE)
    described = document["models"][1]
    assert document["schema"] == "fpanalysis.flatness/1"
    for name in ("loss", "trace", "trace_error", "lowest", "gain", "frobenius"):
        assert described[name] == pytest.approx(getattr(found, name), rel=1e-9)
    np.testing.assert_allclose(described["eigenvalues"], found.eigenvalues, rtol=1e-9)
    assert described["curve"] is None
    row = next(line.split() for line in done.output.splitlines() if line.split()[:2] == ["2", "0.5"])
    assert row[2:4] == [f"{found.loss:.3g}", f"{found.trace:.3g}"]
    assert "Kinks are smoothed by 0.125" in " ".join(done.output.split())


def test_kinks_are_said_and_the_curve_is_printed_beside(tmp_path):
    done = run(ONE, *OPTIONS, "--noise", "0", "--json", tmp_path / "found.json")
    assert done.exit_code == 3
    assert "smooth pieces only" in done.output
    assert "the loss bends by" in " ".join(done.output.split())
    assert "changed" in done.output
    described = json.loads((tmp_path / "found.json").read_text())["models"][0]
    assert described["settings"]["sigma"] == 0
    assert described["curve"]["levels"] == [0.05]
    smoothed = run(ONE, *OPTIONS, "--noise", "0", "--smoothed", "0.2")
    assert smoothed.exit_code == 0


def test_networks_with_and_without_kinks_compare_by_the_curvature_when_changed(tmp_path):
    """The trace of smooth pieces in brackets; the same measure for all."""
    net = fpa.load(ONE)
    smooth = fpa.Network(W=net.W, b=net.b, activation="softplus", gamma=net.gamma, info=net.info)
    fpa.save(smooth, tmp_path / "smooth.pt")
    done = run(ONE, tmp_path / "smooth.pt", *OPTIONS, "--noise", "0", "--json", tmp_path / "found.json")
    first, second = json.loads((tmp_path / "found.json").read_text())["models"]
    rows = {k: next(line.split() for line in done.output.splitlines() if line.split()[:2] == [k, "0"]) for k in "12"}
    assert rows["1"][3] == f"({first['trace']:.3g})"
    assert rows["2"][3] == f"{second['trace']:.3g}"
    for k, one in zip("12", (first, second), strict=True):
        assert rows[k][5] == f"{one['curve']['curvature'][0]:.3g}±{one['curve']['curvature_error'][0]:.1g}"


def test_classifiers_are_judged_on_more_trials_and_at_both_their_noises(tmp_path):
    """As many as 2048 steps allow; the default noise is the largest coefficient, here that on the increment."""
    task = fpa.tasks.get_task("digits")
    rng = np.random.default_rng(0)
    parts = {"A": -np.eye(3), "W": rng.normal(size=(3, 3)), "W_in": rng.normal(size=(3, task.n_in))}
    info = {"task": "digits", "task_settings": task.settings()}
    net = fpa.LipschitzRNN(**parts, W_out=rng.normal(size=(10, 3)), gamma=0.2, multiplicative=0.3, info=info)
    fpa.save(net, tmp_path / "net.pt")
    done = run(tmp_path / "net.pt", "--runs", 2, "--json", tmp_path / "found.json")
    assert done.exit_code == 0, done.output
    count = min(256, 2048 // task.T)
    assert f"{count} training trials of digits" in " ".join(done.output.split())
    settings = json.loads((tmp_path / "found.json").read_text())["models"][0]["settings"]
    assert (settings["trials"], settings["sigma"]) == (count, 0.3)


def test_a_network_without_a_task(tmp_path):
    """Its conditions are the trials."""
    net = fpa.Network(
        W=[[0.3]], b=[0.2], W_in=[[1.0]], activation="tanh", conditions=[[0.0], [1.0]], targets=[[0.0], [0.5]]
    )
    fpa.save(net, tmp_path / "own.pt")
    done = run(tmp_path / "own.pt", "--scale", "absolute")
    assert done.exit_code == 0
    assert "2 condition(s)" in done.output
    assert "weights as they are" in done.output


def test_figure(tmp_path):
    done = run(ONE, *OPTIONS, "--figure", tmp_path / "f.png")
    assert done.exit_code == 0
    assert (tmp_path / "f.png").stat().st_size > 10_000
    net = fpa.load(ONE)
    batch = fpa.tasks.remembered(net.info).batch(4, 0)
    curve = noise_stability(net, batch, pairs=4)
    ax = figures.plot_noise_stability(curve)
    np.testing.assert_allclose(ax.lines[0].get_xydata(), np.c_[curve.levels, curve.loss])
    np.testing.assert_allclose(ax.lines[1].get_ydata(), np.where(curve.predicted > 0, curve.predicted, np.nan))
    bars = figures.plot_hessian_spectrum(curve.flat)
    shown = np.where(curve.flat.eigenvalues > 0, curve.flat.eigenvalues, np.nan)
    np.testing.assert_allclose(bars.lines[0].get_ydata(), shown)
    plt.close("all")


def test_what_is_refused(tmp_path):
    assert "room for 6 models" in run(*[ONE] * 7, "--figure", tmp_path / "r.png").output
    assert run(ONE, "--figure", tmp_path / "r.txt").exit_code == 1
    assert run(ONE, "--scale", "log").exit_code == 2
    net = fpa.load(ONE)
    fpa.save(fpa.Network(W=net.W, b=net.b, activation="relu"), tmp_path / "bare.pt")
    done = run(tmp_path / "bare.pt")
    assert done.exit_code == 1
    assert "neither a task" in done.output
