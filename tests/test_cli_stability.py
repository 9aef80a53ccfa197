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


@pytest.fixture
def flips(tmp_path):
    """Writes a network that adds up the pulses of the flip-flop task without bound, and says where."""

    def write(name="flips", W=1.02, **settings):
        weights = {"W": W * np.eye(3), "W_in": np.eye(3), "W_out": np.eye(3), "activation": "linear", "sigma": 0.1}
        net = fpa.Network(**(weights | {"gamma": 0.5, "info": {"task": "flip-flop"}} | settings))
        fpa.save(net, tmp_path / f"{name}.pt")
        return tmp_path / f"{name}.pt"

    return write


def test_where_inputs_change_exponents_are_those_along_the_trials(flips, tmp_path):
    """At zero input the network diverges, which no trial shows: its exponents are log(1 + 0.5 * 0.02), and exit 0."""
    result = run(flips(), "--json", tmp_path / "x.json", "--figure", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "Along 128 test trials of flip-flop" in text
    assert "At zero input, without noise, trajectories diverge." in text
    task = get_task("flip-flop")
    assert f"multiplied by at most {1.01**task.T:.3g} over all {task.T} steps" in text
    assert not result.stderr
    (one,) = json.loads((tmp_path / "x.json").read_text())["models"]
    assert [level["status"] for level in one["levels"]] == ["diverged"] * 7
    assert one["trials"]["steps"] == task.T
    assert [level["sigma"] for level in one["trials"]["levels"]] == [level["sigma"] for level in one["levels"]]
    for level in one["trials"]["levels"]:
        assert level["exponents"] == pytest.approx([np.log(1.01)] * 128)
        assert level["mean"] == pytest.approx(np.log(1.01))
        assert level["status"] == "ok"


def test_trials_are_the_tests_of_the_task_from_its_own_states_at_the_noise_asked(flips):
    path = flips(activation="tanh", W=1.5)
    result = run(path, "--noise", 0.3, "--seed", 4, "--steps", 200, "--json", "-")
    (one,) = json.loads(result.stdout)["models"]
    net, task = fpa.load(path), get_task("flip-flop")
    inputs, targets, _ = task.test_batch(128, 4)
    found = fpa.trial_exponents(net, inputs, 0.3, h0=task.initial_state(targets, 3), rng=4)
    assert one["trials"]["levels"][0]["exponents"] == pytest.approx(found.exponents.tolist())
    assert np.ptp(found.exponents) > 0.01
    held = run(path, "--noise", 0.3, "--steps", 200, "--input", "0,0,0", "--json", "-")
    assert json.loads(held.stdout)["models"][0]["trials"] is None


def test_several_of_which_one_has_trials(flips, model):
    result = run(flips(), model(), flips("explodes", W=1e30))
    assert result.exit_code == 3
    rows = [line.split() for line in result.stdout.splitlines()]
    first, second, third = (row for row in rows if row and row[0] in "123" and len(row) > 5)
    assert first[2].startswith("0.00995")
    assert first[4:6] == ["-", "-"]
    assert second[2:4] == ["-", "-"]
    assert third[-1] == "diverged"
    assert "explodes along its trials at noise 0, 0.1: diverged" in result.stderr


def test_the_figure_draws_the_exponents_along_trials():
    net = random_network(4, gain=0.4, activation="tanh")
    inputs = np.random.default_rng(0).normal(size=(6, 9, 2))
    levels = [fpa.lyapunov(net, sigma=sigma, k=2, steps=200) for sigma in (0.0, 0.5)]
    trials = [fpa.trial_exponents(net, inputs, sigma) for sigma in (0.0, 0.5)]
    _, right = stability_figure({"one": levels}, trials={"one": trials}).axes
    np.testing.assert_array_equal(right.lines[0].get_xydata(), [[0, trials[0].top], [0.5, trials[1].top]])
    grows = fpa.Network(W=[[1.5]], b=[1.0], gamma=1.0, activation="relu")
    gone = [fpa.lyapunov(grows, sigma=0)]
    short = [fpa.trial_exponents(grows, np.zeros((5, 3, 0)))]
    left, right = stability_figure({"one": gone}, trials={"one": short}).axes
    np.testing.assert_allclose(left.lines[0].get_xdata(), np.log(1.5))
    np.testing.assert_allclose(left.lines[0].get_ydata(), np.arange(1, 4) / 3)
    assert [text.get_text() for text in right.get_legend().get_texts()] == [
        "along the trials of its task",
        "diverges at zero input",
    ]
