"""The command `bias`: its tables against the results it shows, its JSON, its figure, and its exit statuses."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.figure import Figure
from problems import random_network

import fpanalysis as fpa
from fpanalysis.activations import Smoothed
from fpanalysis.cli import main
from fpanalysis.figures import attenuation_figure, plot_attenuation

TRAINED = Path(__file__).parents[1] / "examples/networks/function-approximation-relu-in-0.5.pt"
CONDITIONS = [[0.5, 0.0], [-0.5, 1.0]]


def run(*arguments):
    return CliRunner().invoke(main, ["bias", *map(str, arguments)])


def words(output):
    return [line.split() for line in output.splitlines()]


def network(**settings):
    return random_network(8, **({"sigma": 0.3, "conditions": CONDITIONS} | settings))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for placement in ("in", "out"):
        fpa.save(network(placement=placement), folder / f"{placement}.pt")
    fpa.save(fpa.Network(W=[[1.5]], W_in=[[1.0]], sigma=0.01, conditions=[[-1.0], [1.0]]), folder / "lost.pt")
    return folder


def test_the_example_of_the_help_is_what_the_command_says():
    result = run(TRAINED, "--input", "0.4", "--top", "2")
    shown, example = words(result.output), words(run("--help").output)
    first = next(k for k, line in enumerate(example) if line[:2] == ["input", "output"])
    for line in example[first : first + 2] + example[first + 4 : first + 7]:
        assert line in shown
    text = " ".join(result.output.split())
    for line in example[first + 2 : first + 4]:
        assert " ".join(line).removesuffix(" ...") in text


def test_the_tables_show_the_attribution(models):
    result = run(models / "in.pt", "--top", "3")
    assert result.exit_code == 0, result.output
    bias, shown = fpa.network_bias(network()), words(result.output)
    for part, text in zip(bias.attributions, ("0.5,0", "-0.5,1"), strict=True):
        for k in range(2):
            total, direct, recurrent = part.total[k], part.direct[k].sum(), part.recurrent[k].sum()
            values = [f"{x:.3g}" for x in (part.stationary.output[k], -total)]
            cells = [f"z[{k}]", *values, f"{part.error[k]:.1g}", f"{-direct:.3g}", f"{-recurrent:.3g}"]
            assert ([text, *cells, "ok"] if k == 0 else cells) in shown
    rows = [line for line in shown if "%" in line and line[0].isdigit()]
    assert [int(row[0]) for row in rows] == bias.order[:3].tolist()
    i = bias.order[0]
    assert rows[0][1:7:2] == [f"{100 * part[i]:.1f}" for part in (bias.shares, bias.direct, bias.recurrent)]
    low, high = (bias.points.a / bias.points.s)[:, i].min(), (bias.points.a / bias.points.s)[:, i].max()
    assert rows[0][7:10] == [f"{low:.2g}", "..", f"{high:.2g}"]
    assert f"{len(bias.carriers())} of 8 neuron(s) carry 90 %" in " ".join(result.output.split())


def test_one_output_is_shown_with_and_without_the_noise(tmp_path):
    net = random_network(8, sigma=0.3, W_out=np.ones((1, 8)))
    fpa.save(net, tmp_path / "x.pt")
    att = fpa.attribute_bias(net)
    z = att.stationary.output[0]
    values = [f"{x:.3g}" for x in (z, z - att.total[0], -att.total[0])]
    assert any(line[1:4] == values for line in words(run(tmp_path / "x.pt").output))


def test_noise_out_has_no_direct_part(models):
    text = " ".join(run(models / "out.pt").output.split())
    assert "0.0 % is direct" in text
    assert "were the noise inside" in text


def test_a_bias_within_its_error_is_said(tmp_path):
    fpa.save(network(activation="softplus"), tmp_path / "x.pt")
    for noise, said in (("1e-8", True), ("0.1", False)):
        text = " ".join(run(tmp_path / "x.pt", "--noise", noise).output.split())
        assert ("within its own error" in text) is said


def test_everything_is_in_the_json(models):
    result = run(models / "in.pt", "--noise", "0.2", "--input", "0.5,0", "--json", "-")
    document = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    bias = fpa.network_bias(network(), [0.5, 0.0], 0.2)
    assert (document["schema"], document["status"], document["noise"]) == ("fpanalysis.bias/1", "ok", [0.2] * 8)
    for name in ("shares", "direct", "recurrent", "mean_contributions"):
        np.testing.assert_array_equal(document[name], getattr(bias, name), err_msg=name)
    assert document["mean_noise_gain"] == bias.points.mean_gain
    (found,), (part,) = document["conditions"], bias.attributions
    for name in ("contributions", "direct", "recurrent", "leverage", "beta", "total", "error"):
        np.testing.assert_array_equal(found[name], getattr(part, name), err_msg=name)
    for name in ("a", "s", "up", "down", "V", "gain"):
        np.testing.assert_array_equal(found[name], getattr(bias.points, name)[0], err_msg=name)
    np.testing.assert_array_equal(found["bias"], -part.total)


def test_a_profile_of_sigma_is_kept(tmp_path):
    fpa.save(random_network(4, sigma=[0.1, 0.2, 0.3, 0.4]), tmp_path / "x.pt")
    document = json.loads(run(tmp_path / "x.pt", "--noise", "0.8", "--json", "-").stdout)
    np.testing.assert_allclose(document["noise"], [0.2, 0.4, 0.6, 0.8], rtol=1e-15)


def test_a_condition_without_a_law_is_said(models):
    result = run(models / "lost.pt", "--json", models / "x.json")
    assert result.exit_code == 3
    assert "status at 1 input(s): diverged" in result.stderr
    found = json.loads((models / "x.json").read_text())["conditions"]
    assert [condition["status"] for condition in found] == ["ok", "diverged"]
    assert found[1]["total"] == [None]


def test_the_figure_holds_every_neuron(models, tmp_path):
    """At every input once in each panel: those beyond the edge as triangles there."""
    result = run(models / "in.pt", "--figure", tmp_path / "x.png", "--compare", models / "out.pt")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "x.png").stat().st_size > 10_000
    assert "without its noise" in result.output
    biases = [fpa.network_bias(network(placement=placement)) for placement in ("in", "out")]
    for pair in (biases, biases[::-1], biases[:1], biases[1:]):
        figure = attenuation_figure(*pair)
        for column, placement in enumerate(("in", "out")):
            shown = next((bias for bias in pair if bias.points.net.placement == placement), pair[0])
            x = shown.points.a / (shown.points.sigma if shown.points.outside else shown.points.s)
            x = np.clip(x, -4, 4)  # the range of ReLU's curve
            for ax in figure.axes[column : column + 3 : 2]:
                drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in ax.collections[-3:]])
                drawn = drawn[-x.size :]  # behind them, the area between the halves
                np.testing.assert_allclose(np.sort(drawn[:, 0]), np.sort(x.ravel()), atol=1e-12)


def test_neurons_lie_on_the_curve():
    """ReLU: one curve serves every neuron, in units of its noise."""
    bias = fpa.network_bias(network())
    ax = plot_attenuation(bias, Figure().subplots())
    drawn = np.concatenate([np.asarray(dots.get_offsets()) for dots in ax.collections[-3:]])
    inner = drawn[np.abs(drawn[:, 0]) < 4]
    assert len(inner) > 8
    np.testing.assert_allclose(inner[:, 1], fpa.attenuation_bias("relu", inner[:, 0], 1.0), rtol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["out.pt", "--compare", "in.pt"], "--compare adds a network to the figure"),
        (["in.pt", "--compare", "in.pt", "--figure", "x.png"], "other noise placement than the model's, 'in'"),
        (["in.pt", "--noise", "0", "--figure", "x.png"], "--figure: there is no noise"),
        (["in.pt", "--method", "closed"], "unknown stationary method 'closed'"),
        (["in.pt", "--method", "chain"], None),
        (["in.pt", "--figure", "x.gif"], "--figure must end in"),
        (["in.pt", "--start", "1,2"], "start must have shape"),
    ],
)
def test_what_the_command_refuses(models, monkeypatch, arguments, message):
    monkeypatch.chdir(models)
    result = run(*arguments)
    if message is None:  # chain is for up to three neurons
        assert result.exit_code == 3
        assert "not applicable" in result.stderr
        return
    assert result.exit_code == 1
    assert message in result.stderr
    assert not re.search("Traceback", result.output)


def test_a_silent_network_has_no_signs_of_nothing(tmp_path):
    fpa.save(dataclasses.replace(network(), b=np.full(8, -50.0)), tmp_path / "silent.pt")
    result = run(tmp_path / "silent.pt", "--figure", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    assert "Noise does not move the output" in result.output
    assert not re.search(r"-0(?![.\d])|-0\.0 %", result.output)
    figure = attenuation_figure(fpa.network_bias(fpa.load(tmp_path / "silent.pt")))
    assert figure.axes[0].get_title() == "noise in: it does not move the output"


def test_neurons_that_differ_have_no_largest_gain_in_common(tmp_path):
    fpa.save(network(activation=Smoothed("relu", np.linspace(0.1, 0.5, 8))), tmp_path / "clean.pt")
    result = run(tmp_path / "clean.pt")
    assert result.exit_code == 0, result.output
    assert re.search(r"of its own noise 0\.\d+ of its variance, weighted", " ".join(result.output.split()))
