"""The command `regularizer`: what it prints against the result, its JSON, figure and exit statuses."""

import json
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from problems import random_network

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of
from fpanalysis.cli.regularizer import _carriers
from fpanalysis.regularizer import expected_loss
from fpanalysis.tasks._task import REGISTRY, Task

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


def test_what_failed_is_said_of_the_trials(tmp_path):
    """Not of stationary laws, which nobody asked for here."""
    held = {"W_in": [[1.0]], "conditions": [[1.0]], "targets": [[0.0]]}
    fpa.save(fpa.Network(W=[[2.0]], b=[1.0], activation="softplus", sigma=0.1, **held), tmp_path / "grows.pt")
    settings = {"gamma": 1.0, "activation": "tanh", "placement": "out", "sigma": 0.1}
    fpa.save(fpa.Network(W=[[30.0]], **(held | settings | {"W_in": [[0.0]]})), tmp_path / "chaos.pt")
    for name, text in (("grows", "the state grows without bound"), ("chaos", "small noise grows without bound")):
        done = run(tmp_path / f"{name}.pt", "--steps", 400)
        assert done.exit_code == 3
        assert text in " ".join(done.output.split())
        assert "stationary" not in done.output


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


class Sides(Task):
    """Which side a drifting input was on last, told as one of two classes."""

    n_in, n_out, loss = 1, 2, "cross-entropy"

    def batch(self, batch_size, rng):
        u = np.random.default_rng(rng).standard_normal((self.T, batch_size, 1)).cumsum(axis=0)
        return u, np.eye(2)[(u[..., 0] > 0).astype(int)], self._mask(batch_size)


def test_classes_are_judged_by_their_cross_entropy(tmp_path, monkeypatch):
    """Of changing inputs too: the loss is sampled, P and Q of that loss predict it at small noise."""
    monkeypatch.setattr(Sides, "name", "sides")
    monkeypatch.setitem(REGISTRY, "sides", Sides)
    settings = {"T": 12, "counted": 4}
    net = random_network(6, activation="tanh", sigma=0.1, W_in=np.ones((6, 1)), placement="out")
    info = {"task": "sides", "task_settings": settings}
    fpa.save(replace(net, info=info), tmp_path / "net.pt")
    done = run(tmp_path / "net.pt", "--json", tmp_path / "x.json", "--figure", tmp_path / "x.png")
    assert done.exit_code == 0, done.output
    assert "cross-entropy at noise 0.1 sampled, ±" in " ".join(done.output.split())
    (model,) = json.loads((tmp_path / "x.json").read_text())["models"]
    (expansion,) = model["expansions"]
    inputs, targets, mask = Sides(**settings).batch(32, 0)
    assert model["loss_name"] == "cross-entropy"
    z = rolled(net, inputs)[mask[:, 0] > 0]
    clean = (np.log(np.exp(z).sum(axis=-1)) - (z * targets[mask[:, 0] > 0]).sum(axis=-1)).mean()
    assert expansion["l"] == pytest.approx(clean, rel=1e-9)
    assert abs(expansion["predicted"] - model["loss"]) <= 1.5 * model["loss_error"] + 0.02 * abs(model["loss"] - clean)
    found, half = expected_loss(net, (inputs, targets, mask), "cross-entropy")
    assert (model["loss"], model["loss_error"]) == pytest.approx((found, half))


def rolled(net, inputs):
    h, outputs = np.zeros((inputs.shape[1], net.N)), []
    for u in inputs:
        h = net.step(h, u)
        outputs.append(net.output(h))
    return np.array(outputs)


def test_names_and_neurons_are_said_in_full(tmp_path):
    long = tmp_path / "a-name-of-more-than-thirty-letters-in-all.pt"
    net = fpa.load(RELU)
    fpa.save(net, long)
    done = run(long, long, "--steps", 20)
    assert done.exit_code == 0
    assert done.output.count("a-name-of-more-than-thirty-letters-in-all") == 4
    assert "neurons carry" not in done.output  # of one
    assert not any(line != line.rstrip() for line in done.output.splitlines())
    assert _carriers("P", np.zeros(3)) == "No neuron adds to P."
    assert _carriers("P", np.array([0.1, -9.0, 0.2])) == "Neuron 1 (from 0) alone carries 90 % of P."
    assert _carriers("Q", np.array([3.0, 0.1, 1.0])) == (
        "2 of 3 neurons carry 90 % of Q, the most neuron 0 (from 0), then 2."
    )
    done = run(RELU, "--noise", "nan")
    assert done.exit_code == 2
    assert "Invalid value for '--noise'" in done.output


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
