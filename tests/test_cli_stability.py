"""The command `stability`: its tables and sentences, the JSON document, the figure, and exit statuses."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from problems import random_network

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.figures import plot_top_exponent, stability_figure
from fpanalysis.tasks import get_task


def run(*arguments):
    return CliRunner().invoke(main, ["stability", *map(str, arguments)])


@pytest.fixture
def model(tmp_path):
    """Writes a network of four neurons with those settings, and says where."""

    def write(name="model", **settings):
        net = random_network(4, **({"gain": 0.4, "sigma": 0.4, "activation": "tanh"} | settings))
        fpa.save(net, tmp_path / f"{name}.pt")
        return tmp_path / f"{name}.pt"

    return write


def test_a_contracting_network(model, tmp_path):
    path = model()
    result = run(path, "--json", tmp_path / "x.json", "--figure", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Proven: any two trajectories" in text
    assert "it holds by" in text
    assert (tmp_path / "x.png").stat().st_size > 10_000
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["schema"] == "fpanalysis.stability/1"
    (one,) = document["models"]
    net = fpa.load(path)
    assert [level["sigma"] for level in one["levels"]] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    )  # with a figure; else zero and the training noise
    for level in one["levels"]:
        found = fpa.lyapunov(net, sigma=level["sigma"], k=len(level["exponents"]))
        assert level["exponents"] == pytest.approx(found.exponents.tolist())
    assert [len(level["exponents"]) for level in one["levels"]] == [4, 1, 1, 1, 4, 1, 1]
    best = fpa.contraction_certificates(net).best
    assert min(c["rate"] for c in one["certificates"] if c["region"] == "everywhere") == best.rate
    assert one["norm_condition"]["margin"] == pytest.approx(1 - np.linalg.norm(net.W, 2))


def test_a_network_that_is_not_proven_to_contract(model):
    result = run(model(gain=2.0, seed=3), "--noise", "0.2")
    text = " ".join(result.stdout.split())
    assert "Contraction is not proven" in text
    assert "it fails by" in text
    assert "With noise 0.2" in text


def test_several_are_compared_one_row_each(model, tmp_path):
    paths = [model("first"), model("second", activation="relu"), model("third", gain=0.1)]
    result = run(*paths, "--figure", tmp_path / "x.svg")
    assert result.exit_code == 0, result.output
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["1", "first"] in rows
    assert [row[0] for row in rows if row and row[-1] == "ok"] == ["1", "2", "3"]
    assert not any(line != line.rstrip() for line in result.stdout.splitlines())
    rates = [float(row[4]) for row in rows if row and row[-1] == "ok"]
    assert rates == pytest.approx([fpa.contraction_certificates(fpa.load(p)).best.rate for p in paths], abs=6e-4)


def test_json_to_stdout_has_no_numbers_that_do_not_exist(model, tmp_path):
    """A network that diverges: exit status 3, exponents null."""
    fpa.save(fpa.Network(W=[[2.0]], b=[1.0], activation="relu", sigma=0.1), tmp_path / "grows.pt")
    result = run(tmp_path / "grows.pt", "--json", "-")
    assert result.exit_code == 3
    level = json.loads(result.stdout)["models"][0]["levels"][0]
    assert level["exponents"] == [None]
    assert level["status"] == "diverged"
    assert "trajectories grow without bound" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--input", "1,2,3"], 1, "u must have 2 input"),
        (["--noise", "-1"], 2, "negative noise"),
        (["--exponents", "0"], 2, "--exponents"),
        (["--steps", "7"], 2, "--steps"),
        (["--start", "1,2"], 1, "start must be one state (4,)"),
        (["--figure", "x.txt"], 1, "--figure must end in"),
    ],
)
def test_wrong_usage(model, arguments, status, message):
    result = run(model(), *arguments)
    assert result.exit_code == status
    assert message in result.output


def test_a_model_is_needed_and_a_figure_has_its_room(model, tmp_path):
    assert run().exit_code == 2
    result = run(*[model()] * 7, "--figure", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "room for 6 models; found 7" in result.output


def test_the_figure_shows_the_numbers():
    net = random_network(4, gain=0.4, activation="tanh")
    levels = [fpa.lyapunov(net, sigma=sigma, k=2, steps=200) for sigma in (0.0, 0.5)]
    ax = plot_top_exponent(levels)
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), [[0.0, levels[0].top], [0.5, levels[1].top]])
    figure = stability_figure({"one": levels}, {"one": -0.01})
    left, right = figure.axes
    spectra = [container.lines[0].get_ydata() for container in left.containers]
    np.testing.assert_array_equal(spectra, [level.exponents for level in levels])
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "top exponent, 95 % band",
        "proven: no exponent is above",
    ]


def test_the_figure_of_several_explains_its_lines():
    """Dashed bounds once, and a network that has no exponent to draw."""
    weak = [fpa.lyapunov(random_network(4, gain=0.4, activation="tanh"), sigma=0, k=2, steps=200)]
    gone = [fpa.lyapunov(fpa.feedforward([np.ones((3, 2)), np.ones((2, 3))], activation="tanh"), sigma=0, steps=50)]
    figure = stability_figure({"one": weak, "two": weak, "layers": gone}, {"one": -0.01, "two": -0.02, "layers": -9.0})
    (legend,) = figure.legends
    shown = {text.get_text(): line.get_linestyle() for text, line in zip(legend.texts, legend.get_lines(), strict=True)}
    assert shown == {
        "one": "-", "two": "-", "proven: no exponent is above": "--", "layers: −∞, forgets in a few steps": "-",
    }  # fmt: skip
    alone = stability_figure({"layers": gone})
    assert [text.get_text() for text in alone.axes[0].texts] == ["no finite exponents"]


def test_trajectories_that_do_not_agree(model, tmp_path):
    """Two stable points of different slopes: both exponents are told, and --start and --steps settle it."""
    net = fpa.Network(W=[[2.0]], b=[0.2], activation="tanh", gamma=0.2)
    fpa.save(net, tmp_path / "two.pt")
    mixed = run(tmp_path / "two.pt", "--noise", 0, "--json", tmp_path / "x.json")
    assert mixed.exit_code == 3
    assert "theirs are" in " ".join(mixed.stdout.split())
    tops = json.loads((tmp_path / "x.json").read_text())["models"][0]["levels"][0]["top_by_trajectory"]
    for start, expected in ((-1, max(tops)), (1, min(tops))):
        done = run(tmp_path / "two.pt", "--noise", 0, "--start", start, "--steps", 80, "--json", "-")
        assert done.exit_code == 0
        (level,) = json.loads(done.stdout)["models"][0]["levels"]
        fps = fpa.find_fixed_points(net)
        (h,) = (h for h in fps.h[fps.stable] if h[0] * start > 0)
        exact = np.log(abs(net.jacobian(h)[0, 0]))
        assert abs(level["exponents"][0] - exact) <= level["error"][0]
        assert abs(expected - exact) < 0.01
        assert level["steps"] == 80


def test_an_input_by_its_name():
    cognitive = Path(__file__).parents[1] / "examples/networks/cognitive-relu-in-0.5.pt"
    net = fpa.load(cognitive)
    result = run(cognitive, "--input", "go responding to 90", "--exponents", 1, "--noise", 0, "--json", "-")
    assert result.exit_code == 0, result.output
    (level,) = json.loads(result.stdout)["models"][0]["levels"]
    names = get_task("cognitive", **net.info["task_settings"]).condition_names
    u = net.conditions[names.index("go responding to 90")]
    assert level["exponents"][0] == pytest.approx(fpa.lyapunov(net, u, sigma=0, k=1).top, abs=2 * level["error"][0])
    assert run(cognitive, "--input", "go jumping").exit_code == 1
