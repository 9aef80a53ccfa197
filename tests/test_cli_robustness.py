"""The command `robustness`: tables and sentences, the JSON document, the figure, and exit statuses."""

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from click.testing import CliRunner
from problems import random_network

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.figures import plot_jacobian_norms, plot_margins, plot_perturbed, robustness_figure
from fpanalysis.tasks import Task, get_task
from fpanalysis.tasks._task import REGISTRY

EXAMPLES = Path(__file__).parents[1] / "examples" / "networks"


@dataclasses.dataclass(frozen=True)
class Signs(Task):
    """Which of two inputs was larger on average?"""

    T: int = 6
    counted: int = 1
    name: ClassVar[str] = "signs"
    n_in: ClassVar[int] = 2
    n_out: ClassVar[int] = 2
    loss: ClassVar[str] = "cross-entropy"

    def batch(self, batch_size, rng):
        u = np.random.default_rng(rng).normal(size=(self.T, batch_size, 2)).astype(np.float32)
        target = np.eye(2, dtype=np.float32)[u.mean(axis=0).argmax(axis=1)]
        return u, np.repeat(target[None], self.T, axis=0), self._mask(batch_size)


@pytest.fixture
def signs():
    """The task, known for the time of a test."""
    REGISTRY["signs"] = Signs
    yield Signs()
    REGISTRY.pop("signs")


REGISTRY.pop("signs")  # elsewhere only tasks of the package are known


def run(*arguments):
    return CliRunner().invoke(main, ["robustness", *map(str, arguments)])


@pytest.fixture
def model(tmp_path, signs):
    """Writes a network that adds up its inputs, nearly, and says where."""

    def write(name="model", **settings):
        weights = {"W": np.eye(2) * 0.9, "W_in": np.eye(2), "W_out": np.eye(2), "activation": "tanh", "gamma": 0.2}
        net = fpa.Network(**(weights | {"info": {"task": "signs"}} | settings))
        fpa.save(net, tmp_path / f"{name}.pt")
        return tmp_path / f"{name}.pt"

    return write


def test_a_classifier(model, signs, tmp_path):
    path = model()
    result = run(path, "--trials", 20, "--json", tmp_path / "x.json", "--figure", tmp_path / "x.png")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    assert "20 test trials of signs" in text
    assert "Margins in the inputs" in text
    assert (tmp_path / "x.png").stat().st_size > 10_000
    document = json.loads((tmp_path / "x.json").read_text())
    assert document["schema"] == "fpanalysis.robustness/1"
    (one,) = document["models"]
    batch = signs.test_batch(20, 0)
    found = fpa.robustness(fpa.load(path), batch, loss="cross-entropy")
    assert one["margins"]["proven"] == pytest.approx(found.margins.proven.tolist())
    assert one["correct"] == found.margins.correct.tolist()
    assert f"{(~found.margins.correct).sum()} of 20 trials are misclassified" in text
    assert [part["kind"] for part in one["perturbed"]] == ["white", "multiplicative", "salt-and-pepper"]
    for part in one["perturbed"]:
        assert part["share"] == pytest.approx(found.perturbed[part["kind"]].accuracy.tolist())
        assert part["loss"] == pytest.approx(found.perturbed[part["kind"]].loss.tolist())


def test_several_see_the_same_and_are_compared(model, tmp_path):
    first, second = model("first"), model("second", W_in=np.array([[1.0, 0.3], [0, 1]]))
    result = run(first, second, "--kind", "white", "--noise", "0,0.5,1", "--trials", 30, "--figure", tmp_path / "x.pdf")
    assert result.exit_code == 0, result.output
    assert "1 first: 30 test trials of signs" in " ".join(result.stdout.split())
    assert "white 0.5" in result.stdout
    assert "Differences from model 1, trial by trial" in result.stdout
    line = result.stdout.split("Differences")[1].splitlines()[3].split()
    a, b = (fpa.robustness(fpa.load(p), Signs().test_batch(30, 0), {"white": (0, 0.5, 1)}) for p in (first, second))
    change, _ = b.perturbed["white"].difference(a.perturbed["white"])
    assert float(line[2].split("±")[0]) == pytest.approx(change[1], rel=5e-3, abs=1e-12)
    margins = (b.margins.found - a.margins.found).mean()
    assert float(line[3].split("±")[0]) == pytest.approx(margins, rel=5e-3)


def test_only_json_on_stdout_and_nothing_proven_unless_asked(model):
    result = run(model(), "--trials", 10, "--not-proven", "--kind", "white", "--json", "-")
    document = json.loads(result.stdout)
    assert document["models"][0]["margins"]["proven"] == [None] * 10


def test_the_networks_own_noise_is_off_unless_asked_for(model):
    path = model(sigma=2.0)
    losses = []
    for extra in ((), ("--own-noise",)):
        result = run(path, "--trials", 20, "--kind", "white", "--noise", "0", "--json", "-", *extra)
        losses.append(json.loads(result.stdout)["models"][0]["perturbed"][0]["loss"][0])
    assert losses[1] != losses[0]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("function-approximation-relu-in-0.5", "the network lacks its training noise"),
        ("path-integration-relu-in-1.0", "success"),
        ("maze-relu-in-0.5", "white noise is added to what it sees"),
        ("feedforward-relu-in-0.5", "11 condition(s), 3 steps"),
        ("flip_flop_tanh", "test trials of flip-flop"),
    ],
)
def test_networks_of_other_tasks_have_a_loss_or_success_and_no_margins(name, words, tmp_path):
    drawn = ("--figure", tmp_path / "x.png") if name.startswith("maze") else ()
    result = run(EXAMPLES / f"{name}.pt", "--trials", 8, "--draws", 2, *drawn)
    assert result.exit_code == 0, result.output
    assert words in " ".join(result.stdout.split())
    assert "Jacobian of the outputs" in result.stdout
    assert "Margins" not in result.stdout


def test_a_network_without_inputs_and_levels_that_do_not_fit(model):
    result = run(EXAMPLES / "regulator-relu-in-0.5.pt")
    assert result.exit_code == 1
    assert "no inputs that could be perturbed" in result.stderr
    result = run(model(), "--noise", "0,2")
    assert result.exit_code == 1
    assert "at most 1; found 2" in result.stderr
    result = run(EXAMPLES / "maze-relu-in-0.5.pt", "--kind", "multiplicative")
    assert result.exit_code == 1
    assert "--kind can only be white" in result.stderr
    assert run(model(), "--kind", "pink").exit_code == 2
    result = run(*[model()] * 7, "--figure", "x.png")
    assert result.exit_code == 1
    assert "room for 6 models" in result.stderr


def test_divergence_is_told_and_gives_exit_status_3(model):
    path = model(W=1e100 * np.eye(2), activation="linear")
    result = run(path, "--trials", 4, "--json", "-")
    assert result.exit_code == 3
    assert "diverged" in result.stderr
    one = json.loads(result.stdout)["models"][0]
    assert one["margin_statuses"] == ["diverged"]
    assert one["margins"]["local"] == [None] * 4
    assert one["perturbed"][0]["loss"][0] is None


def test_figures_show_what_was_found():
    net = random_network(4, activation="tanh")
    inputs = np.random.default_rng(0).normal(size=(3, 20, 2))
    targets = np.repeat(np.eye(2)[np.arange(20) % 2][None], 3, axis=0)
    whole = fpa.robustness(net, (inputs, targets, np.ones((3, 20))), {"white": (0, 0.5, 1)})
    ax = plot_perturbed(whole.perturbed["white"])
    assert np.array_equal(ax.lines[0].get_ydata(), whole.perturbed["white"].accuracy)
    ax = plot_margins(whole.margins)
    assert ax.lines[0].get_ydata()[0] == (whole.margins.found > 0).mean()
    assert ax.lines[1].get_ydata()[0] == (whole.margins.proven > 0).mean()
    ax = plot_jacobian_norms(whole.margins)
    assert ax.lines[0].get_xdata()[-1] == whole.margins.spectral.max()
    figure = robustness_figure({"one": whole, "two": whole})
    assert len(figure.axes) == 2
    assert get_task("function-approximation").held  # the registry is whole again
