"""The command `regularizer`: what it prints against the result, its JSON, figure and exit statuses."""

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
TANH = NETWORKS / "function-approximation-tanh-in-0.5.pt"
RELU = NETWORKS / "regulator-relu-in-0.5.pt"


def run(*arguments):
    return CliRunner().invoke(main, ["regularizer", *map(str, arguments)])


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """Two models in one call: printed, and as JSON."""
    path = tmp_path_factory.mktemp("two") / "found.json"
    done = run(TANH, RELU, "--steps", "60", "--json", path)
    return done, json.loads(path.read_text())


def test_the_table_is_the_result(two):
    done, _ = two
    assert done.exit_code == 0
    net = fpa.load(TANH)
    batch, h0, _ = batch_of(net, steps=60)
    plain = fpa.regularizer(net, batch, h0=h0, pairs=0)
    smooth = fpa.regularizer(net, batch, h0=h0, smoothed=0.5, pairs=0)
    loss = fpa.loss_curve(net, batch, [0.0, 0.5], h0=h0).loss_trained
    rows = [line.split() for line in done.output.splitlines() if line.rstrip().endswith("ok")]
    assert [row[-8] for row in rows] == ["f", "f~", "f~"]
    for row, r, absorbed in zip(rows, (plain, smooth), (0.0, 0.5), strict=False):
        assert row[-7:-2] == [f"{value:.3g}" for value in (r.l, r.P, r.Q, r.P + r.Q, loss)]
        assert row[-2] == f"{100 * r.predict(0.5, absorbed) / loss:.0f}%"
    text = " ".join(done.output.split())
    assert "second order about no noise fails" in text
    assert "The activation has kinks" in text


def test_json(two):
    _, document = two
    assert document["schema"] == "fpanalysis.regularizer/1"
    tanh, relu = document["models"]
    assert [e["smoothed"] for e in tanh["expansions"]] == [None, 0.5]
    assert [e["smoothed"] for e in relu["expansions"]] == [0.5]
    for model in (tanh, relu):
        for e in model["expansions"]:
            np.testing.assert_allclose(sum(e["P_by_neuron"]), e["P"], rtol=1e-9)
            np.testing.assert_allclose(e["share"], e["predicted"] / model["loss"])


def test_the_smoothed_expansion_holds_at_the_training_noise(two):
    """The closure's loss to a fifth, where the expansion about no noise is further off."""
    _, document = two
    tanh = document["models"][0]
    plain, smooth = (abs(e["share"] - 1) for e in tanh["expansions"])
    assert smooth < 0.2 < plain


def test_kinks_with_noise_outside_are_said(tmp_path):
    done = run(NETWORKS / "function-approximation-relu-out-0.5.pt", "--steps", "20", "--json", tmp_path / "found.json")
    assert done.exit_code == 3
    assert "no curvature" in done.output
    assert json.loads((tmp_path / "found.json").read_text())["models"][0]["expansions"][0]["Q"] is None
    done = run(NETWORKS / "function-approximation-relu-out-0.5.pt", "--steps", "20", "--smoothed", "0.2")
    assert done.exit_code == 0
    assert "f~" in done.output


def test_figure(tmp_path):
    done = run(RELU, "--steps", "40", "--figure", tmp_path / "r.png")
    assert done.exit_code == 0
    assert (tmp_path / "r.png").stat().st_size > 10_000
    net = fpa.load(RELU)
    batch, h0, _ = batch_of(net, steps=40)
    curve = fpa.loss_curve(net, batch, [0.0, 0.5], h0=h0)
    found = fpa.regularizer(net, batch, h0=h0, smoothed=0.5, pairs=0)
    ax = figures.plot_regularizer(curve, 0.5, [(0.5, 0.5, found)])
    line = next(line for line in ax.lines if "smoothed" in str(line.get_label()))
    np.testing.assert_allclose(line.get_ydata(), found.predict(curve.fine.sigma, 0.5))
    bars = figures.plot_regularizer_neurons(found)
    assert sum(bar.get_height() for bar in bars.patches) == pytest.approx(found.P + found.Q)
    plt.close("all")


def test_what_is_refused(tmp_path):
    clean = tmp_path / "clean.pt"
    fpa.save(fpa.load(TANH).with_sigma(0.0), clean)
    done = run(clean)
    assert done.exit_code == 1
    assert "--noise must be given" in done.output
    done = run(*[TANH] * 7, "--figure", tmp_path / "r.png")
    assert done.exit_code == 1
    assert "room for 6 models" in done.output
    assert run(TANH, "--figure", tmp_path / "r.txt").exit_code == 1
