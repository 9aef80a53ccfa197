"""fpanalysis regulator: the table, its JSON and figure, exit statuses, the derivation, and options that do not go
together."""

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from fpanalysis.cli import main
from fpanalysis.regulator import Regulator, compare


def run(*arguments):
    return CliRunner().invoke(main, ["regulator", *map(str, arguments)])


def words(text):
    return " ".join(text.split())


@pytest.fixture(scope="module")
def document():
    result = run("--w", -1.5, "--b", 1, "--noise", "0,0.5", "--json", "-")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_json(document):
    assert document["schema"] == "fpanalysis.regulator/1"
    assert document["neuron"] == {"w": -1.5, "b": 1.0, "gamma": 0.1, "placement": "in", "activation": "relu"}
    assert document["h0"] == pytest.approx(0.4)
    rest, noisy = document["levels"]
    assert all(method["shift"] == 0 for method in rest["methods"].values())
    one = Regulator(w=-1.5, b=1.0, gamma=0.1, sigma=0.5)
    formula, chain = noisy["methods"]["finite gamma"], noisy["methods"]["chain"]
    assert formula["shift"] == one.shift()
    assert chain["mean"] == one.exact().mean[0]
    assert abs(formula["shift"] - chain["shift"]) <= formula["error"] <= 1e-3 * chain["shift"]
    assert noisy["methods"]["slow limit"]["error"] is None
    assert noisy["operating_point"] == one.a
    assert noisy["escape"] is None


def test_the_table_and_the_example_of_the_help(tmp_path):
    result = run("--w", -1.5, "--b", 1, "--noise", "0,0.25,0.5", "--figure", tmp_path / "f.png")
    assert result.exit_code == 0
    assert (tmp_path / "f.png").stat().st_size > 10_000
    example = run("--help").output
    example = example[example.index("$ fpanalysis regulator") :].splitlines()[1:]
    example = example[: next(k for k, line in enumerate(example) if not line.strip())]
    lines = [words(line) for line in result.stdout.splitlines()]
    shown = [words(line) for line in example if line.strip() != "..." and "noise  slow" not in line]  # on two lines
    assert len(shown) >= 10
    assert [line for line in shown if line not in lines] == []


def test_a_target_sets_the_bias():
    result = run("--w", -1, "--target", 0.2, "--noise", "0,0.5")
    assert result.exit_code == 0
    b = Regulator.at_target(0.2, w=-1, gamma=0.1, sigma=0.5).b
    assert f"b = {b:.6g}" in result.stdout
    assert "b holds the mean at 0.2 at noise 0.5." in result.stdout
    assert "below the kink" in result.stdout


@pytest.mark.parametrize(("placement", "verdict"), [("in", "noise is preferred"), ("out", "it does better without")])
def test_what_removing_the_noise_does_to_a_target(placement, verdict):
    """R against the exact chain's loss."""
    arguments = ("--w", -1, "--target", 0.2, "--noise", "0.5", "--placement", placement)
    found = json.loads(run(*arguments, "--json", "-").stdout)["preference"]
    one = Regulator.at_target(0.2, w=-1, sigma=0.5, placement=placement)
    exact = one.exact()
    removed = (max(one.b, 0) / 2 - 0.2) ** 2
    assert found["loss_removed"] == pytest.approx(removed, rel=1e-9)
    assert found["loss"] == pytest.approx((exact.mean[0] - 0.2) ** 2 + exact.cov[0, 0], rel=2e-3)
    assert found["ratio"] == pytest.approx(removed / found["loss"])
    assert f"= {found['ratio']:.3g}, {verdict}" in words(run(*arguments).stdout)


def test_phases(tmp_path, monkeypatch):
    import fpanalysis.regulator as regulator

    full, asked = regulator.phase_diagram, []

    def coarse(placement):
        asked.append(full(np.geomspace(0.1, 1, 20), [0.1, 0.2], placement=placement, steps=100))
        return asked[-1]

    monkeypatch.setattr(regulator, "phase_diagram", coarse)
    result = run("--phases", "--figure", tmp_path / "p.png", "--json", tmp_path / "p.json")
    assert result.exit_code == 0
    inside, outside = asked
    document = json.loads((tmp_path / "p.json").read_text())
    assert document["in"]["ratio"] == inside.ratio.tolist()
    assert document["out"]["boundary"] == [None, None]
    row = next(line.split() for line in result.stdout.splitlines() if line.split()[:1] == ["0.1"])
    shown = [inside.ratio[0, 4], inside.ratio[0, 12], inside.ratio[0, 19], inside.boundary[0], outside.ratio[0].max()]
    assert [float(cell) for cell in row[1:]] == pytest.approx(shown, rel=0.05)
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_a_neuron_without_a_law_says_why():
    result = run("--w", 1.5, "--b", 1, "--noise", "0.3")
    assert result.exit_code == 3
    assert "activity grows without bound, so there is no stationary law" in words(result.stdout)
    assert "diverged" in result.stderr
    assert "nan" not in result.output.lower()


def test_a_quasi_stationary_neuron_is_told_how_fast_it_escapes():
    result = run("--w", 1.2, "--b", -0.2, "--noise", "0.5", "--json", "-")
    assert result.exit_code == 3
    (level,) = json.loads(result.stdout)["levels"]
    assert level["branch"] == "quasi-stationary"
    assert level["escape"]["rate"] == pytest.approx(Regulator(w=1.2, b=-0.2, sigma=0.5).escape().rate)
    assert level["methods"]["finite gamma"]["mean"] is None
    text = words(run("--w", 1.2, "--b", -0.2, "--noise", "0.5").stdout)
    assert "it escapes at a rate of 0.000293 per step" in text


def test_a_neuron_that_flips_has_its_mean_shown():
    result = run("--w", -25, "--b", 1, "--noise", "0.3")
    assert result.exit_code == 3
    assert "Mean, E h:" in result.stdout
    assert "0.05409" in result.stdout
    assert "w < 1 - 2/gamma" in words(result.stdout)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--b", 1), 2, "give --w"),
        (("--w", 1), 2, "give exactly one of --b and --target"),
        (("--w", 1, "--b", 1, "--target", 1), 2, "give exactly one of --b and --target"),
        (("--w", -1, "--b", 1, "--gamma", 2), 1, "gamma must lie in (0, 1]; found 2"),
        (("--w", "nan", "--b", 1), 1, "w must be finite"),
        (("--w", -1, "--b", 1, "--activation", "step"), 1, "unknown activation 'step'"),
        (("--w", -1, "--target", -1), 1, "target must lie between 0 and inf"),
        (("--w", -1, "--b", 1, "--noise", "-1"), 2, "negative noise level"),
        (("--w", -1, "--b", 1, "--figure", "f.txt"), 1, "--figure must end in"),
        (("--symbolic", "--noise", "0:1"), 2, "leave out --noise"),
        (("--latex", "--w", 1, "--json", "-"), 2, "leave out --w, --json"),
        (("--symbolic", "--latex"), 2, "leave out --latex"),
        (("--phases", "--gamma", 0.1, "--placement", "in"), 2, "--phases takes only --json and --figure; leave out"),
        (("--phases", "--symbolic"), 2, "leave out --phases"),
    ],
)
def test_what_cannot_be_used_is_refused(arguments, code, message):
    result = run(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("option", "text"), [("--symbolic", "in words"), ("--latex", "in LaTeX")])
def test_the_derivation(monkeypatch, option, text):
    module = ModuleType("derivation")
    asked = []

    def derive(activation, placement):
        asked.append((activation, placement))
        return SimpleNamespace(text=lambda: "in words", latex=lambda: "in LaTeX")

    module.derive = derive
    monkeypatch.setitem(sys.modules, "fpanalysis.regulator.derivation", module)
    result = run(option, "--activation", "softplus", "--placement", "out")
    assert (result.exit_code, result.output) == (0, f"{text}\n")
    assert asked == [("softplus", "out")]


def test_the_figure_draws_every_method():
    from fpanalysis.figures import plot_regulator, regulator_figure

    result = compare(Regulator(w=-1.5, b=1.0), (0, 0.3))
    figure = regulator_figure(result)
    left, right = figure.axes
    labels = left.get_legend_handles_labels()[1]
    assert len(labels) == len(result.methods)
    drawn = {line.get_label(): line.get_ydata() for line in left.lines}
    np.testing.assert_array_equal(drawn["formula at this γ"], result.shift[1])
    np.testing.assert_array_equal(drawn["exact chain"], result.shift[3])
    np.testing.assert_array_equal(
        {line.get_label(): line.get_ydata() for line in right.lines}["exact chain"], result.deviation[3]
    )
    assert plot_regulator(result, right, "mean").get_ylabel() == "mean, E h"
