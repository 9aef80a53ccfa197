"""The commands as a user types them: outputs, exit statuses, and one clear line for input that cannot be used."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from problems import clique_network, gaussian_relu, random_network

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.cli._report import table

COMMANDS = (
    *("train", "inspect", "fixed-points", "shift", "stationary"),
    *("bias", "preference", "denoise", "regularizer", "flatness", "stability", "robustness", "regulator"),
    "doctor",
)


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rng = np.random.default_rng(0)
    N = 8
    net = fpa.Network(
        W=0.6 * rng.standard_normal((N, N)) / np.sqrt(N),
        b=0.3 * rng.standard_normal(N),
        W_in=rng.standard_normal((N, 1)),
        W_out=rng.standard_normal((1, N)) / N,
        gamma=0.2,
        sigma=0.5,
        conditions=[[-1.0], [1.0]],
        targets=[[0.0], [0.5]],
        info={"task": "example"},
    )
    path = tmp_path_factory.mktemp("model") / "model.pt"
    fpa.save(net, path)
    return path


def test_help_lists_the_first_session_in_order():
    result = run("--help")
    assert result.exit_code == 0
    listed = result.output[result.output.index("Commands:") :]
    assert sorted(COMMANDS, key=lambda name: listed.index(f"\n  {name} ")) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(command):
    result = run(command, "--help")
    assert result.exit_code == 0
    assert f"$ fpanalysis {command}" in result.output


def test_version_and_citation():
    assert fpa.__version__ in run("--version").output
    cited = run("--cite").output
    assert "2601.04539" in cited
    assert "2102.04877" in cited


def test_inspect(model):
    result = run("inspect", model)
    assert result.exit_code == 0
    for text in ("8 neurons", "sigma = 0.5", "inside the activation", "2 constant inputs", "example"):
        assert text in result.output
    document = json.loads(run("inspect", model, "--json", "-").output)
    assert document["schema"] == "fpanalysis.inspect/1"
    assert document["hash"] == fpa.load(model).hash


def test_fixed_points(model):
    result = run("fixed-points", model)
    assert result.exit_code == 0
    document = json.loads(run("fixed-points", model, "--input", "0.5", "--json", "-").output)
    assert document["schema"] == "fpanalysis.fixed-points/1"
    np.testing.assert_array_equal(document["conditions"][0]["h"], fpa.find_fixed_points(fpa.load(model), [0.5]).h)


@pytest.fixture(scope="module")
def winners(tmp_path_factory):
    """(0, 1) and (1, 0) are stable, (1/3, 1/3) is a saddle."""
    path = tmp_path_factory.mktemp("winners") / "model.pt"
    fpa.save(fpa.Network(W=[[0, -2.0], [-2.0, 0]], b=[1.0, 1.0], W_out=[[1.0, -1.0]], gamma=0.1), path)
    return path


def test_the_table_of_fixed_points_is_that_of_the_help(winners):
    shown = [line.split() for line in run("fixed-points", winners).output.splitlines()]
    example = run("fixed-points", "--help").output
    example = example[example.index("$ fpanalysis fixed-points") :].splitlines()[1:6]
    assert len(example) == 5
    for line in example:
        assert line.split() in shown


def test_every_number_of_the_fixed_points_is_in_the_json(winners):
    fps = fpa.find_fixed_points(fpa.load(winners))
    (found,) = json.loads(run("fixed-points", winners, "--json", "-").output)["conditions"]
    for name in ("h", "residual", "error", "radius", "certified", "index", "singular", "stable", "n_unstable"):
        np.testing.assert_array_equal(found[name], getattr(fps, name), err_msg=name)
    assert found["completeness"] == "proven"
    assert found["box"] == [[None, None], [None, None]]  # the whole space
    assert found["proof"] == {
        "method": "activation patterns",
        "complete": True,
        "covered": 1.0,
        "nodes": fps.proof.nodes,
        "why": "",
    }
    assert found["relaxation_time"][0] is None  # infinite


def test_a_proof_can_be_left_out_and_asked_for(winners, model):
    result = run("fixed-points", winners, "--no-prove")
    assert "No proof was tried." in " ".join(result.output.split())
    assert "proven" not in result.output.replace("proven to lie", "")
    (found,) = json.loads(run("fixed-points", winners, "--no-prove", "--json", "-").output)["conditions"]
    assert (found["proof"], found["box"], found["completeness"]) == (None, None, "consistent")
    assert "Completeness proven at 2 of 2 inputs" in run("fixed-points", model, "--prove").output


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ([[-1.0, -1.0], [2.0, 2.0]], " with -1 <= h <= 2"),
        ([[-np.inf, -np.inf], [1234567.0, 1234567.0]], " with h <= 1.235e+06"),
        ([[0.0, -1e-300], [1.0, 3.0]], " in a box (see --json) within 0 <= h <= 3"),
        ([[-np.inf, -np.inf], [np.inf, np.inf]], ""),
    ],
)
def test_the_region_of_a_proof_is_said(box, said):
    from fpanalysis.cli.fixed_points import _region

    assert _region(np.array(box)) == said


def test_a_proof_of_what_has_none_is_refused(tmp_path):
    fpa.save(random_network(24, activation="tanh"), tmp_path / "x.pt")
    result = run("fixed-points", tmp_path / "x.pt", "--prove")
    assert result.exit_code == 1
    assert "prove=True needs a fpanalysis.Network with ReLU" in result.stderr
    said = " ".join(run("fixed-points", tmp_path / "x.pt").output.split())
    assert "Completeness consistent: the index sum is 1" in said
    assert "There is no method of proof for such a network." in said


def test_an_unfinished_proof_says_why(tmp_path):
    W, b = gaussian_relu(48, 1.2, seed=0)
    fpa.save(fpa.Network(W=W, b=b), tmp_path / "x.pt")
    proof = fpa.find_fixed_points(fpa.load(tmp_path / "x.pt")).proof
    assert not proof.complete
    said = " ".join(run("fixed-points", tmp_path / "x.pt").output.split())
    assert "Completeness unknown: this network is not bounded" in said
    assert f"% decided: {proof.why}. --prove tries a hundred times as long." in said


def test_singular_points_have_no_verdict_and_no_error(tmp_path):
    fpa.save(fpa.Network(W=[[0.5, 0.5], [0.5, 0.5]]), tmp_path / "line.pt")
    result = run("fixed-points", tmp_path / "line.pt")
    assert result.exit_code == 3
    rows = [line.split() for line in result.output.splitlines()]
    assert ["(none)", "0", "0", "0", "no,", "kink", "-", "-", "unknown"] in rows  # where the line ends
    assert sum(row[-3:] == ["singular", "-", "-"] for row in rows) == 29
    assert "70 more points, none of them stable, are not shown" in result.output
    listed = run("fixed-points", tmp_path / "line.pt", "--all").output
    assert sum(line.split()[-3:] == ["singular", "-", "-"] for line in listed.splitlines()) == 99
    assert "are not shown" not in listed
    found = json.loads(run("fixed-points", tmp_path / "line.pt", "--json", "-").stdout)["conditions"][0]
    assert set(found["error"]) == {None}
    assert found["box"] is None
    assert found["singular"] == 100 * [True]


def test_a_long_table_keeps_the_stable_points(tmp_path):
    W, b, _ = clique_network([2] * 6)  # 63 points, the 6 stable ones furthest from the origin
    fpa.save(fpa.Network(W=W, b=b), tmp_path / "x.pt")
    output = run("fixed-points", tmp_path / "x.pt").output
    rows = [line.split() for line in output.splitlines() if "yes" in line]
    assert [row[0] for row in rows] == [str(k) for k in range(57, 63)]
    assert "33 more points, none of them stable, are not shown" in output
    assert "63 fixed points: 6 stable, 57 not stable; 63 certified to exist." in output


def test_fixed_points_are_drawn(winners, model, tmp_path):
    for path, name in ((winners, "one.png"), (model, "two.svg")):
        result = run("fixed-points", path, "--figure", tmp_path / name)
        assert result.exit_code == 0
        assert f"Figure: {tmp_path / name}" in result.output
        assert (tmp_path / name).stat().st_size > 1000
    refused = run("fixed-points", model, *[f"--input={k}" for k in range(13)], "--figure", tmp_path / "x.png")
    assert refused.exit_code == 1
    assert "room for 12 inputs; found 13" in refused.stderr
    assert run("fixed-points", model, "--figure", tmp_path / "x.txt").exit_code == 1


def test_shift_writes_everything(model, tmp_path):
    paths = {name: tmp_path / f"shift.{name}" for name in ("json", "csv", "nc", "png")}
    result = run(
        *("shift", model, "--noise", "0:0.5:3", "--method", "closure"),
        *("--json", paths["json"], "--csv", paths["csv"], "--netcdf", paths["nc"], "--figure", paths["png"]),
    )
    assert result.exit_code == 0, result.output
    assert sorted(tmp_path.iterdir()) == sorted(paths.values())
    sh = fpa.Shift.load(paths["nc"])
    assert sh.dataset.sigma.values.tolist() == [0, 0.25, 0.5]
    assert json.loads(paths["json"].read_text()) == sh.document()
    assert paths["png"].read_bytes().startswith(b"\x89PNG")
    said = " ".join(result.output.split())
    assert "At the training noise sigma = 0.5 the stationary mean lies" in said
    assert "Remove that noise and the output is biased by" in said


def test_the_two_sentences_say_what_the_numbers_say(model):
    result = run("shift", model, "--noise", "0,0.5", "--method", "closure")
    sh = fpa.shift(fpa.load(model), sigma=(0, 0.5), methods=("closure",))
    silent, noisy = sh.levels
    said = " ".join(result.output.split())  # as one line
    assert f"lies {noisy.shift:.3g} from" in said
    assert f"biased by {noisy.output_shift:.3g} (rms)" in said
    assert f"from {noisy.output_error:.3g} to {silent.output_error:.3g}" in said


def test_json_to_stdout_is_one_document_and_nothing_else(model):
    done = subprocess.run(
        [sys.executable, "-m", "fpanalysis", "shift", model, "--noise", "0,0.5", "--method", "closure", "--json", "-"],
        capture_output=True,
        text=True,
        check=True,
    )
    document = json.loads(done.stdout, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert document["schema"] == "fpanalysis.shift/1"
    assert done.stderr == ""


def test_what_did_not_converge_is_status_3(tmp_path):
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    fpa.save(net, tmp_path / "cycle.pt")
    result = run(
        "shift", tmp_path / "cycle.pt", "--method", "closure", "--noise", "0.1,0.2", "--json", tmp_path / "x.json"
    )
    assert result.exit_code == 3
    assert "no stable fixed point" in result.stderr
    assert "monte-carlo" in result.stderr  # what can still be trusted
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["levels"][0]["shift"] is None
    assert run("fixed-points", tmp_path / "cycle.pt").exit_code == 3


def test_sentences_that_cannot_be_relied_on_say_so(tmp_path):
    """The weak well is gone at this noise: its row holds no number, and the sentences carry the status."""
    net = fpa.Network(W=[[2.0]], b=[0.25], activation="tanh", gamma=0.1, sigma=0.8)
    fpa.save(net, tmp_path / "wells.pt")
    result = run("shift", tmp_path / "wells.pt", "--method", "closure", "--noise", "0,0.8")
    assert result.exit_code == 3
    assert "Do not rely on these two numbers" in " ".join(result.stdout.split())


def test_no_noise_and_levels_beside_the_training_noise(model):
    said = " ".join(run("shift", model, "--noise", "0", "--method", "closure").output.split())
    assert "without noise the state rests at the fixed points" in said
    said = " ".join(run("shift", model, "--noise", "0.1,0.3", "--method", "closure").output.split())
    assert "sigma = 0.3 (the level nearest to the training noise, 0.5)" in said


def test_notes_that_are_not_numbers_are_null(tmp_path):
    fpa.save(fpa.Network(W=[[0.5]], info={"loss": float("nan")}), tmp_path / "x.pt")
    assert json.loads(run("inspect", tmp_path / "x.pt", "--json", "-").output)["info"] == {"loss": None}


def bad_models(folder):
    """File name, what to write there, and what the message must name."""
    good = {"W": torch.eye(2, dtype=torch.float64) * 0.5, "b": torch.zeros(2, dtype=torch.float64)}

    def content(state=None, **changed):
        config = {"gamma": 0.1, "sigma": 0.5, "activation": "relu", "placement": "in"} | changed
        return {"format": "fpanalysis.network/1", "config": config, "state_dict": good | (state or {})}

    yield "missing.pt", None, "no such file"
    yield "text.pt", "hello", "not a checkpoint"
    yield "module.pt", torch.nn.Linear(2, 2), "refused"
    yield "numpy.pt", {"W": np.eye(2)}, "refused"
    yield "other.pt", {"weights": torch.eye(2)}, "fpanalysis.network/1"
    yield "shape.pt", content({"W": torch.zeros(2, 3)}), "square"
    yield "inconsistent.pt", content({"b": torch.zeros(3)}), "b must have shape (2,)"
    yield "nan.pt", content({"W": torch.full((2, 2), float("nan"))}), "NaN or infinite"
    yield "inf.pt", content({"b": torch.full((2,), float("inf"))}), "NaN or infinite"
    yield "gamma0.pt", content(gamma=0.0), "gamma must lie in (0, 1]"
    yield "gamma2.pt", content(gamma=2.0), "gamma must lie in (0, 1]"
    yield "activation.pt", content(activation="rellu"), "unknown activation 'rellu'"


@pytest.mark.parametrize("command", ["inspect", "fixed-points", "shift", "stationary"])
def test_files_that_cannot_be_used(command, tmp_path):
    for name, what, message in bad_models(tmp_path):
        path = tmp_path / name
        if isinstance(what, str):
            path.write_text(what)
        elif what is not None:
            torch.save(what, path)
        result = run(command, path)
        assert result.exit_code == 1, name
        assert result.stderr.startswith("Error: "), name
        assert message in result.stderr, (name, result.stderr)
        assert len(result.stderr.splitlines()) == 1, name
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["--noise", "0.5:0"], 2, "reversed"),
        (["--noise", "-0.1:0.5"], 2, "negative"),
        (["--noise", "zero"], 2, "comma-separated"),
        (["--noise", "0:1:1"], 2, "a single level"),
        (["--input", "1,2"], 1, "1 input value"),
        (["--input", "x"], 2, "comma-separated"),
        (["--method", "closur"], 1, "unknown stationary method 'closur'"),
        (["--figure", "shift.txt"], 1, ".png"),
        (["--figure", "missing/shift.png"], 1, "does not exist"),
        (["--json", "missing/shift.json"], 1, "does not exist"),
        (["--netcdf", "shift.h5"], 1, ".nc"),
        (["--nois", "0:1"], 2, "No such option"),
    ],
)
def test_wrong_usage(model, arguments, status, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = run("shift", model, *arguments)
    assert result.exit_code == status
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command", [name for name in COMMANDS if name not in ("train", "denoise", "regulator", "doctor")]
)
def test_no_model_is_written_over(command, model, tmp_path):
    path = tmp_path / "model.pt"
    path.write_bytes(model.read_bytes())
    result = run(command, path, "--json", path)
    assert result.exit_code == 1
    assert "it is the model itself" in result.stderr
    assert path.read_bytes() == model.read_bytes()


def test_no_model_of_a_folder_is_written_over(model, tmp_path):
    path = tmp_path / "seed0.pt"
    path.write_bytes(model.read_bytes())
    result = run("preference", tmp_path, "--json", path)
    assert result.exit_code == 1
    assert "it is the model itself" in result.stderr
    assert path.read_bytes() == model.read_bytes()


def test_unknown_task_is_named(tmp_path):
    result = run("train", "function-aproximation", "-o", tmp_path / "x.pt")
    assert result.exit_code == 1
    assert "function-approximation" in result.stderr


def test_doctor_checks_a_known_answer():
    result = run("doctor")
    assert result.exit_code == 0
    assert "error" in result.output
    assert fpa.__version__ in result.output


def test_motion_that_never_rests_is_named(tmp_path):
    """h' = 0.9 h + 0.1 tanh(W h), W a rotation by 0.8 times 1.6: the origin is unstable, a limit cycle surrounds it."""
    c, s = 1.6 * np.cos(0.8), 1.6 * np.sin(0.8)
    fpa.save(fpa.Network(W=[[c, -s], [s, c]], activation="tanh", gamma=0.1), tmp_path / "cycle.pt")
    done = run("fixed-points", tmp_path / "cycle.pt", "--json", tmp_path / "cycle.json")
    assert done.exit_code == 3
    assert "end on a cycle of 64.22 steps" in " ".join(done.output.split())
    (condition,) = json.loads((tmp_path / "cycle.json").read_text())["conditions"]
    (cycle,) = condition["cycles"]["found"]
    assert cycle["regular"]
    assert cycle["period"] == pytest.approx(64.2234, abs=1e-3)


def test_a_table_keeps_its_columns_where_there_is_no_room(capsys):
    """Words stay whole: a column of numbers never vanishes beside a long name."""
    table(["network", "at σ", "loss"], [["relu in " + 3 * "slope=0.125 batch=32 ", "0.5", "1.25±0.0625"] for _ in "ab"])
    told = capsys.readouterr().out
    assert told.count("0.5 ") == told.count("1.25±0.0625") == 2
