"""The command `stationary`: its table against the results it shows, its JSON, its figures, and its exit statuses."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from problems import random_network

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary import Basin, Density, Stationary

TRAINED = Path(__file__).parents[1] / "examples/networks/function-approximation-relu-in-0.5.pt"


def run(*arguments):
    return CliRunner().invoke(main, ["stationary", *map(str, arguments)])


def words(output):
    return [line.split() for line in output.splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.pt"
    fpa.save(random_network(8, activation="softplus", sigma=0.3, conditions=[[0.5, 0.0], [-0.5, 1.0]]), path)
    return path


def given(monkeypatch, **settings):
    """Every problem gets a law that holds what it is told."""

    def solve(problems, method="auto", rng=0):
        laws = []
        for problem in problems:
            net = problem.net
            fields = {"mean": problem.start + 0.1, "status": Status.OK} | settings
            law = Stationary(
                cov=0.04 * np.eye(net.N),
                error=np.full(net.N, 0.001),
                output=net.output(fields["mean"]),
                output_error=np.full(net.n_out, 0.002),
                method="chain",
                scope="global",
                start=problem.start,
                provenance=Provenance("chain", net.hash),
                **fields,
            )
            laws.append(law)
        return laws

    monkeypatch.setattr(sys.modules["fpanalysis.stationary"], "solve", solve)


def test_the_example_of_the_help_is_what_the_command_says():
    shown = words(run(TRAINED, "--input", "0.4", "--method", "closure").output)
    example = words(run("--help").output)
    first = next(k for k, line in enumerate(example) if line[:2] == ["input", "output"])
    assert example[first] in shown
    row, neurons = example[first + 1], [line for line in example if line[:1] in (["21"], ["60"])]
    assert len(neurons) == 2
    for line, error in ((row, 2), *((line, 3) for line in neurons)):  # without the error, an estimate that may improve
        assert line[:error] + line[error + 1 :] in [other[:error] + other[error + 1 :] for other in shown]


def test_the_table_shows_the_laws(model):
    result = run(model, "--method", "closure")
    assert result.exit_code == 0, result.output
    net = fpa.load(model)
    shown = words(result.output)
    for u, text in ((net.conditions[0], "0.5,0"), (net.conditions[1], "-0.5,1")):
        st = fpa.stationary(net, u, method="closure")
        z = net.output(st.start)
        cells = [
            [f"z[{k}]", f"{st.output[k]:.3g}", f"{st.output_error[k]:.1g}", f"{z[k]:.3g}", f"{st.output[k] - z[k]:.3g}"]
            for k in range(2)
        ]
        assert [text, *cells[0], "-", "ok"] in shown
        assert cells[1] in shown
    laws = [fpa.stationary(net, u, method="closure") for u in net.conditions]
    shift = np.abs([st.mean - st.start for st in laws])
    c, i = np.unravel_index(shift.argmax(), shift.shape)
    first = shown[next(k for k, line in enumerate(shown) if line[:2] == ["input", "neuron"]) + 1]
    assert first[1:] == [
        str(i),
        f"{laws[c].start[i]:.3g}",
        f"{laws[c].mean[i]:.3g}",
        f"{laws[c].error[i]:.1g}",
        f"{laws[c].mean[i] - laws[c].start[i]:.3g}",
        f"{np.sqrt(laws[c].cov[i, i]):.3g}",
    ]


def test_everything_is_in_the_json(model):
    result = run(model, "--method", "monte-carlo", "--noise", "0.2", "--input", "0.5,0", "--seed", "3", "--json", "-")
    document = json.loads(result.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert (document["schema"], document["noise"]) == ("fpanalysis.stationary/1", 0.2)
    (found,) = document["conditions"]
    net = fpa.load(model)
    st = fpa.stationary(net, [0.5, 0.0], sigma=0.2, method="monte-carlo", rng=3)
    for name in ("mean", "cov", "error", "output", "output_error"):
        np.testing.assert_array_equal(found[name], getattr(st, name), err_msg=name)
    assert (found["method"], found["status"], found["gap"], found["basins"]) == ("monte-carlo", "ok", None, None)
    np.testing.assert_array_equal(found["shift"], st.mean - st.start)
    np.testing.assert_array_equal(found["output_shift"], st.output - net.output(st.start))
    assert found["details"]["rhat"] == st.details["rhat"]
    np.testing.assert_array_equal(found["details"]["standard_error"], st.details["standard_error"])


def test_a_profile_of_sigma_is_kept(tmp_path):
    net = random_network(4, sigma=[0.1, 0.2, 0.3, 0.4], W_in=None)
    fpa.save(net, tmp_path / "x.pt")
    document = json.loads(run(tmp_path / "x.pt", "--noise", "0.8", "--method", "closure", "--json", "-").stdout)
    st = fpa.stationary(net, sigma=[0.2, 0.4, 0.6, 0.8], method="closure")
    np.testing.assert_array_equal(document["conditions"][0]["mean"], st.mean)


def test_start_picks_the_basin(tmp_path):
    fpa.save(fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", sigma=0.1), tmp_path / "x.pt")
    for start, sign in (("0.5", 1), ("-0.5", -1)):
        document = json.loads(run(tmp_path / "x.pt", "--start", start, "--method", "closure", "--json", "-").stdout)
        assert np.sign(document["conditions"][0]["mean"]) == sign


def test_sampling_says_what_it_is_worth(model):
    said = " ".join(run(model, "--input", "0.5,0", "--method", "monte-carlo").output.split())
    st = fpa.stationary(fpa.load(model), [0.5, 0.0], method="monte-carlo")
    assert f"effective sample size {st.details['effective_sample_size']:.3g}" in said
    assert f"R-hat {st.details['rhat']:.3g}" in said


@pytest.fixture
def wells(tmp_path):
    path = tmp_path / "wells.pt"
    fpa.save(fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", sigma=1.0, W_out=[[2.0]]), path)
    return path


def test_basins_and_relaxation_are_shown(wells, monkeypatch, tmp_path):
    points = fpa.find_fixed_points(fpa.load(wells)).h
    low = Basin(0.25, np.array([-0.5]), np.eye(1), points[0], weight_error=0.01)
    high = Basin(0.75, np.array([0.8]), np.eye(1), points[2], error=np.array([0.02]))
    details = {"variance_reduction": np.array([120.0, 90.0]), "hops": 7, "reason": "for the test"}
    given(monkeypatch, basins=(low, high), gap=0.01, details=details)
    result = run(wells, "--json", tmp_path / "x.json")
    assert result.exit_code == 0, result.output
    shown = words(result.output)
    assert f"{-1 / np.log(0.99):.3g}" in next(line for line in shown if line[:1] == ["(none)"])
    for basin, error in ((high, "-"), (low, "0.01")):
        distance = abs(basin.mean - basin.fixed_point)[0]
        row = [2 * basin.fixed_point[0], basin.weight, error, 2 * basin.mean[0], distance]
        assert [cell if isinstance(cell, str) else f"{cell:.3g}" for cell in row] in shown
    said = " ".join(result.output.split())
    assert "chain (global): for the test." in said
    assert "Sampling: variance reduction 90, 7 hops between basins." in said
    (found,) = json.loads((tmp_path / "x.json").read_text())["conditions"]
    assert [basin["weight"] for basin in found["basins"]] == [0.25, 0.75]
    assert found["basins"][1] == {
        "weight": 0.75,
        "weight_error": None,
        "mean": [0.8],
        "error": [0.02],
        "cov": [[1.0]],
        "fixed_point": points[2].tolist(),
    }
    assert found["relaxation_time"] == pytest.approx(-1 / np.log(0.99))
    assert found["details"]["variance_reduction"] == [120.0, 90.0]


def test_densities_are_drawn(wells, model, monkeypatch, tmp_path):
    x = np.linspace(-1, 1, 50)
    density = Density(("neuron 0",), (x,), np.full(50, 0.5), (np.full(50, 0.04),), atoms=((np.array([0.1]), 0.0),))
    given(monkeypatch, densities=(density, {}))
    for path, name in ((wells, "one.png"), (model, "two.svg")):
        result = run(path, "--figure", tmp_path / name, "--json", tmp_path / "x.json")
        assert result.exit_code == 0, result.output
        assert f"Figure: {tmp_path / name}" in result.output
        assert (tmp_path / name).stat().st_size > 1000
    (first, _) = json.loads((tmp_path / "x.json").read_text())["conditions"]
    assert first["density"]["grids"] == [x.tolist()]
    assert first["density"]["atoms"] == [{"at": [0.1], "probability": 0.0}]
    assert run(model, *13 * ["--input", "1,2"], "--figure", tmp_path / "x.png").exit_code == 1


def test_a_method_without_a_density_says_so(model, tmp_path):
    result = run(model, "--method", "closure", "--figure", tmp_path / "x.png")
    assert result.exit_code == 1
    assert "closure gave no density (ok)" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "Most shifted neurons" in result.output  # what was computed is not lost
    assert not (tmp_path / "x.png").exists()


def test_what_did_not_converge_is_status_3(tmp_path):
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    fpa.save(net, tmp_path / "cycle.pt")
    result = run(tmp_path / "cycle.pt", "--start", "0.1,0", "--method", "closure", "--json", tmp_path / "x.json")
    assert result.exit_code == 3
    assert "status at 1 input(s): no stable fixed point" in result.stderr
    (found,) = json.loads((tmp_path / "x.json").read_text())["conditions"]
    assert (found["mean"], found["fixed_point"], found["output_shift"]) == ([None, None], None, None)
    row = next(line for line in words(result.output) if line[:1] == ["(none)"])
    assert row[1:7] == 6 * ["-"]


def test_a_law_without_a_fixed_point_has_no_shift(tmp_path):
    """Around a limit cycle: Monte Carlo has a law, of a network that never rests."""
    fpa.save(
        fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.5), tmp_path / "x.pt"
    )
    result = run(tmp_path / "x.pt", "--start", "0.1,0", "--method", "monte-carlo", "--json", tmp_path / "x.json")
    (found,) = json.loads((tmp_path / "x.json").read_text())["conditions"]
    assert None not in found["mean"]
    assert (found["fixed_point"], found["shift"]) == (None, None)
    assert "Most shifted neurons" not in result.output


def test_an_unstable_fixed_point_is_no_reference(tmp_path):
    """From 0 the noise-free state does not move: a symmetric saddle."""
    fpa.save(fpa.Network(W=[[2.0]], activation="tanh", gamma=0.2, sigma=1.5), tmp_path / "x.pt")
    document = json.loads(run(tmp_path / "x.pt", "--method", "monte-carlo", "--json", "-").stdout)
    assert document["conditions"][0]["fixed_point"] is None
    assert document["conditions"][0]["output"] is not None


def test_without_noise_the_law_is_a_point(model):
    result = run(model, "--noise", "0", "--method", "closure")
    assert result.exit_code == 0
    assert "Most shifted neurons" not in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--noise", "-0.1"], 2, "noise"),
        (["--noise", "0:1"], 2, "not a valid float"),
        (["--noise", "inf"], 1, "sigma must be finite"),
        (["--input", "1"], 1, "2 input value"),
        (["--method", "closur"], 1, "unknown stationary method 'closur'; known: auto, "),
        (["--start", "1,2"], 1, "start must have shape (8,)"),
        (["--start", "x"], 2, "comma-separated"),
        (["--figure", "law.txt"], 1, ".png"),
        (["--figure", "missing/law.png"], 1, "does not exist"),
        (["--json", "missing/law.json"], 1, "does not exist"),
    ],
)
def test_wrong_usage(model, arguments, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run(model, *arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())
