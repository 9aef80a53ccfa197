"""The commands `stability` and `regularizer` on a LipschitzRNN with noise of both kinds."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis.cli import main


@pytest.fixture
def net(monkeypatch):
    rng = np.random.default_rng(0)
    A, W = (fpa.LipschitzRNN.between(0.3 * rng.standard_normal((3, 3)), 0.7, shrink) for shrink in (2.0, 0.2))
    weights = {"W_in": rng.standard_normal((3, 1)), "W_out": rng.standard_normal((1, 3))}
    held = {"conditions": [[1.0], [-1.0]], "targets": [[0.5], [-0.5]]}
    net = fpa.LipschitzRNN(A=A, W=W, gamma=0.2, sigma=0.1, multiplicative=0.4, **weights, **held)
    monkeypatch.setattr("fpanalysis.checkpoint.load", lambda path: net)
    return net


def run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_stability_scales_both_kinds_of_noise(net, tmp_path):
    done = run("stability", "net.pt", "--noise", "0,0.2,0.4", "--json", tmp_path / "x.json")
    assert done.exit_code == 0, done.output
    text = " ".join(done.output.split())
    assert "With noise 0.4 nearby trajectories meet" in text
    assert "under the same input and additive noise meet" in text
    assert f"add up to {fpa.exponent_bounds(net).upper:.4g}, which must be below 0: it holds" in text
    (model,) = json.loads((tmp_path / "x.json").read_text())["models"]
    assert [level["sigma"] for level in model["levels"]] == pytest.approx([0, 0.2, 0.4])
    noises = ({"sigma": 0.0}, {"sigma": 0.05, "multiplicative": 0.2, "k": 1}, {})  # half of both; those of the network
    for level, noise in zip(model["levels"], noises, strict=True):
        assert level["exponents"] == pytest.approx(fpa.lyapunov(net, **noise).exponents.tolist())


def test_regularizer_takes_the_networks_noise(net, tmp_path):
    done = run("regularizer", "net.pt", "--steps", 20, "--json", tmp_path / "x.json")
    assert done.exit_code == 0, done.output
    (model,) = json.loads((tmp_path / "x.json").read_text())["models"]
    (expansion,) = model["expansions"]
    inputs = np.broadcast_to([[1.0], [-1.0]], (20, 2, 1))
    mask = np.arange(20)[:, None] >= 10 * np.ones((1, 2))
    found = fpa.regularizer(net, (inputs, inputs / 2, mask), pairs=2000)
    assert model["sigma"] == found.eps == 0.4
    assert (expansion["P"], expansion["Q"]) == pytest.approx((found.P, found.Q))
    assert abs(model["loss"] - found.sampled) <= model["loss_error"] + found.sampled_error
