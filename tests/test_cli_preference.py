"""The command `preference`: what it prints against the curve it shows, its JSON, figure and exit statuses."""

import dataclasses
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.cli import main, preference
from fpanalysis.cli._batch import batch_of
from fpanalysis.cli._preference_folder import following
from fpanalysis.cli.preference import _best, _refereed
from fpanalysis.tasks import Task
from fpanalysis.tasks._task import REGISTRY

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
REGULATOR = NETWORKS / "regulator-relu-in-0.5.pt"


def run(*arguments):
    return CliRunner().invoke(main, ["preference", *map(str, arguments)])


def regulator_curve(sigma, **settings):
    net = fpa.load(REGULATOR)
    batch, h0, _ = batch_of(net)
    return net, fpa.loss_curve(net, batch, sigma, h0=h0, **settings)


def test_the_table_is_the_curve():
    done = run(REGULATOR, "--noise", "0:1:3", "--trials", "64", "--seed", "3")
    assert done.exit_code == 0
    _, curve = regulator_curve([0, 0.5, 1.0])
    _, sampled = regulator_curve([0, 0.5, 1.0], method="monte-carlo", trials=64, rng=3)
    rows = [line.split() for line in done.output.splitlines() if line.rstrip().endswith("ok")]
    for k, row in enumerate(rows):
        numbers = [curve.loss[k], curve.bias2[k], curve.variance[k], sampled.loss[k]]
        assert [row[1], row[3], row[4], row[5]] == [f"{value:.3g}" for value in numbers]
    text = " ".join(done.output.split())
    assert f"Preferred noise {curve.preferred:.3g}" in text
    assert f"= {curve.ratio:.3g} ({curve.loss_removed:.3g} / {curve.loss_trained:.3g})" in text
    assert "Verdict: training noise absorbed. The network depends on its training noise" in text


def test_json_is_one_document_and_nothing_else(tmp_path):
    done = run(REGULATOR, "--noise", "0:1:5", "--trials", "0", "--json", "-")
    document = json.loads(done.stdout)
    assert document["schema"] == "fpanalysis.preference/1"
    assert document["monte_carlo"] is None
    _, curve = regulator_curve(np.linspace(0, 1, 5))
    assert document["curve"]["loss"] == curve.loss.tolist()
    assert document["ratio"] == curve.ratio
    assert (document["verdict_kind"], document["transmission"]) == ("absorbed", None)
    assert document["verdict"].startswith("Verdict: training noise absorbed.")
    assert document["evidence"]["loss_removed"] == curve.loss_removed
    assert document["evidence"]["gain_preferred"] is None


def test_noise_outside_needs_no_noise():
    net = fpa.load(NETWORKS / "function-approximation-relu-out-0.5.pt")
    batch, h0, source = batch_of(net)
    assert "11 condition(s), 120 steps, the last 80 count" in source
    batch = fpa.moments.held(net, steps=40, counted=10)
    curve = fpa.loss_curve(net, batch, [0, 0.5, 0.6], h0=h0)
    assert curve.ratio < 1
    found = fpa.preference(net, batch, curve=curve, h0=h0, trials=0)
    assert found.verdict is fpa.Verdict.NEITHER
    assert "does not depend" in found.summary


@pytest.mark.parametrize(
    ("noise", "edge"), [("0", "the only level"), ("0:0.2:3", "the end of the range"), ("0.8,1", "the end of the range")]
)
def test_levels_away_from_the_training_noise(noise, edge):
    told = " ".join(run(REGULATOR, "--noise", noise, "--trials", "0").stdout.split())
    assert edge in told
    assert "Verdict: undecided. The network depends on its training noise, but" in told


def test_a_trial_that_starts_at_an_unstable_point():
    """One bistable neuron: the prediction holds as a mixture, where one Gaussian would not."""
    net = fpa.Network(
        W=[[2.0]], gamma=0.5, activation="tanh", sigma=0.3, conditions=np.zeros((1, 0)), targets=np.zeros((1, 1))
    )
    (inputs, targets, mask), h0, source = batch_of(net, steps=30)
    assert h0 is None
    assert "30 steps, the last 15 count" in source
    curve = fpa.loss_curve(net, (inputs, targets, mask), [0.3])
    sampled = fpa.loss_curve(net, (inputs, targets, mask), [0.3], "monte-carlo")
    assert curve.ok
    assert abs(curve.loss[0] - sampled.loss[0]) <= curve.error[0] + 2 * sampled.error[0]
    assert curve.error[0] < 0.2 * curve.loss[0]


def test_findings_rest_on_the_samples_where_the_prediction_does_not_hold():
    _, curve = regulator_curve([0, 0.5])
    _, sampled = regulator_curve([0, 0.5], method="monte-carlo", trials=16)
    doubtful = dataclasses.replace(curve, status=(fpa.Status.OK, fpa.Status.NOT_GAUSSIAN))
    assert _best(curve, sampled) is curve
    assert _best(doubtful, sampled) is sampled
    assert _best(doubtful, None) is doubtful


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["missing.pt"], 1, "no such file"),
        ([REGULATOR, "--noise", "1:0"], 2, "reversed"),
        ([REGULATOR, "--trials", "2"], 2, "at least 4"),
        ([REGULATOR, "--figure", "curve.xyz"], 1, "curve.xyz"),
        ([REGULATOR, "--steps", "0"], 2, "--steps"),
        ([NETWORKS / "flip_flop_tanh.pt", "--steps", "9"], 1, "the trials of flip-flop have 60"),
    ],
)
def test_bad_input(arguments, code, message):
    done = run(*arguments)
    assert done.exit_code == code
    assert message in done.output
    assert "Traceback" not in done.output


def test_without_task_or_targets_it_says_what_is_missing(tmp_path):
    fpa.save(fpa.Network(W=[[0.1]], sigma=0.1), tmp_path / "bare.pt")
    done = run(tmp_path / "bare.pt")
    assert done.exit_code == 1
    assert "conditions with targets" in done.output


def test_the_figure_draws_the_curve_and_the_points(tmp_path):
    _, curve = regulator_curve(np.linspace(0, 1, 5))
    _, sampled = regulator_curve(np.linspace(0, 1, 5), method="monte-carlo", trials=32)
    ax = figures.plot_loss_curve(curve, sampled)
    loss, bias2 = ax.get_lines()[:2]
    np.testing.assert_array_equal(loss.get_data(), [curve.fine.sigma, curve.fine.loss])
    np.testing.assert_array_equal(bias2.get_ydata(), curve.fine.bias2)
    assert len(ax.containers) == 3
    plt.close(ax.figure)
    done = run(REGULATOR, "--noise", "0:1:3", "--trials", "8", "--figure", tmp_path / "loss.png")
    assert done.exit_code == 0
    assert (tmp_path / "loss.png").stat().st_size > 5000


def test_a_prediction_that_sampling_refutes_is_said_to_disagree():
    """Off by a tenth on purpose: the status of those levels, and only theirs."""
    _, curve = regulator_curve([0, 0.5, 1.0])
    _, sampled = regulator_curve([0, 0.5, 1.0], method="monte-carlo", trials=2000)
    assert _refereed(curve, sampled).ok
    wrong = dataclasses.replace(curve, loss=curve.loss * np.array([1.0, 1.0, 1.2]))
    found = _refereed(wrong, sampled).status
    assert [status.value for status in found] == ["ok", "ok", "methods disagree"]


def test_samples_stand_alone_where_a_prediction_takes_minutes(monkeypatch):
    monkeypatch.setattr(preference, "WORK", 80 * 2 - 1)  # 80 steps, one trial, two levels, one neuron
    document = json.loads(run(REGULATOR, "--noise", "0,0.5", "--trials", "64", "--json", "-").output)
    _, sampled = regulator_curve([0, 0.5], method="monte-carlo", trials=64, rng=0)
    assert document["curve"]["loss"] == sampled.loss.tolist()
    assert (document["findings_from"], document["monte_carlo"]) == ("monte-carlo", None)
    assert "by Monte Carlo (to predict takes minutes: --trials 0)" in document["trials"]
    assert "Monte Carlo's" not in run(REGULATOR, "--noise", "0,0.5", "--trials", "64").output
    predicted = json.loads(run(REGULATOR, "--noise", "0,0.5", "--trials", "0", "--json", "-").output)
    assert predicted["findings_from"] == "closure"
    assert json.loads(run(REGULATOR, "--noise", "0.5", "--json", "-").output)["findings_from"] == "closure"


def test_growth_without_bound_gives_no_verdict(tmp_path):
    net = fpa.Network(W=[[3.0]], b=[1.0], sigma=0.3, gamma=0.5, conditions=np.zeros((1, 0)), targets=[[1.0]])
    fpa.save(net, tmp_path / "grows.pt")
    done = run(tmp_path / "grows.pt", "--noise", "0,0.3", "--trials", "8")
    assert done.exit_code == 3
    assert "Verdict: undecided. The loss is not known at every level" in " ".join(done.output.split())
    assert "diverged" in done.output


def test_a_range_that_leaves_out_the_ends_gives_no_more_than_it_can():
    net = fpa.load(NETWORKS / "function-approximation-relu-out-0.5.pt")
    batch, h0, _ = batch_of(net)
    batch = fpa.moments.held(net, steps=20, counted=10)
    curve = fpa.loss_curve(net, batch, [0.3], h0=h0)
    found = fpa.preference(net, batch, curve=curve, h0=h0, trials=0)
    assert "from zero to beyond the training noise" in found.summary
    assert np.isnan(curve.preferred_error)


@dataclasses.dataclass(frozen=True)
class WeakSine(Task):
    """A sine too weak to take a bistable unit from well to well; half of the trials start in either one."""

    T: int = 300
    counted: int = 200
    n_in, n_out = 1, 1

    def batch(self, batch_size, rng):
        t = np.arange(self.T)
        u, z = 0.2 * np.sin(2 * np.pi * t / 100), np.where((t - 10) % 100 < 50, 1.0, -1.0)
        inputs, targets = (np.repeat(part[:, None, None], batch_size, axis=1) for part in (u, z))
        return inputs, targets, self._mask(batch_size)

    def initial_state(self, targets, size):
        return np.where(np.arange(targets.shape[1]) % 2, 0.96, -0.96)[:, None] * np.ones(size)


def test_a_bistable_unit_resonates(tmp_path, monkeypatch):
    monkeypatch.setitem(REGISTRY, "weak-sine", WeakSine)
    monkeypatch.setattr(WeakSine, "name", "weak-sine")
    net = fpa.Network(
        W=[[2.0]], W_in=[[1.0]], gamma=0.4, activation="tanh", placement="out", info={"task": "weak-sine"}
    )
    fpa.save(net, tmp_path / "unit.pt")
    done = run(tmp_path / "unit.pt", "--noise", "0:1.6:5", "--trials", "16", "--json", tmp_path / "unit.json")
    text = " ".join(done.stdout.split())
    assert "by Monte Carlo (to predict takes minutes: --trials 0)" in text
    assert "the network was trained without noise" in text
    assert "Verdict: stochastic resonance. Noise carries a signal" in text
    assert "R =" not in text
    document = json.loads((tmp_path / "unit.json").read_text())
    assert document["verdict_kind"] == "resonance"
    assert document["evidence"]["gain_preferred"] > 3 * document["evidence"]["gain_denoised"]
    assert document["transmission"]["gain"][0] == document["evidence"]["gain_removed"]
    assert any("hops" in note for note in document["notes"])


def test_what_noise_does_to_a_unit_that_was_never_trained(tmp_path):
    """Two wells, a constant wanted output of zero: noise averages over the wells, and there is no signal to pass on."""
    net = fpa.Network(
        W=[[2.0]], gamma=0.4, activation="tanh", placement="out", conditions=np.zeros((1, 0)), targets=np.zeros((1, 1)),
        b=[0.1],
    )  # fmt: skip
    fpa.save(net, tmp_path / "wells.pt")
    done = run(tmp_path / "wells.pt")
    assert done.exit_code == 1
    assert "--noise must be given" in done.output
    options = ("--noise", "0:2:5", "--steps", "30", "--trials", "32", "--json", "-")
    document = json.loads(run(tmp_path / "wells.pt", *options).stdout)
    assert document["evidence"]["training_sigma"] == 0
    assert document["evidence"]["follows"] is None
    assert document["evidence"]["gain_preferred"] is None
    assert document["verdict_kind"] in ("neither", "undecided")
    assert document["verdict_kind"] == fpa.Verdict[document["verdict_kind"].upper()].name.lower()


def test_a_folder_says_whether_the_preferred_noise_follows(tmp_path):
    """h -> c h, b -> c b, sigma -> c sigma, W_out -> W_out / c is the same ReLU unit at another noise."""
    net = fpa.load(REGULATOR)
    for c in (0.5, 1.0, 1.5):
        scaled = dataclasses.replace(net, b=c * net.b, sigma=c * net.sigma, W_out=net.readout_weights / c)
        fpa.save(scaled, tmp_path / f"{c}.pt")
    done = run(tmp_path, "--trials", "32", "--json", tmp_path / "all.json")
    assert "(it follows)" in " ".join(done.output.split())
    document = json.loads((tmp_path / "all.json").read_text())
    entries = [entry for group in document["groups"] for entry in group["networks"]]
    assert [entry["verdict_kind"] for entry in entries] == ["absorbed"] * 3
    follows = [entry["evidence"]["follows"] for entry in entries]
    assert follows == pytest.approx([follows[0]] * 3, abs=0.05)
    assert any("Verdicts, relu in: 3 training noise absorbed" in sentence for sentence in document["findings"])


@pytest.mark.parametrize(("slope", "levels"), [(1.0, 3), (0.0, 3)])
def test_the_slope_of_the_preferred_noise(slope, levels):
    """Exact slope and the textbook error of a line fit, on made-up networks."""
    from types import SimpleNamespace

    rng = np.random.default_rng(3)
    x = np.repeat([0.3, 0.5, 1.0], 4)
    y = slope * x + 0.01 * rng.standard_normal(12)
    groups = [
        SimpleNamespace(sigma=s, networks=[SimpleNamespace(curve=SimpleNamespace(preferred=v)) for v in y[x == s]])
        for s in (0.3, 0.5, 1.0)
    ]
    found, error, seen = following(groups)
    from scipy.stats import linregress, t

    fit = linregress(x, y)
    assert seen == levels
    assert found == pytest.approx(fit.slope, rel=1e-12)
    assert error == pytest.approx(t.ppf(0.975, 10) * fit.stderr, rel=1e-9)
    assert abs(found - slope) < 2 * error
    assert np.isnan(following(groups[:1])[0])


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """Barely trained: what counts is which loss is told, not how small it is."""
    from fpanalysis.models import train

    net = train("digits", size=8, steps=20, batch=32).network()
    file = tmp_path_factory.mktemp("digits") / "net.pt"
    fpa.save(net, file)
    return net, file


def test_a_classifier_is_judged_by_the_loss_of_its_task(classifier, tmp_path):
    from fpanalysis.models import evaluate

    net, file = classifier
    document = json.loads(run(file, "--noise", "0,0.5", "--trials", "8", "--json", "-").stdout)
    own = evaluate(net, "digits", [0, 0.5], inputs=128, trials=8)
    assert (document["loss"], document["evidence"]["loss"]) == ("cross-entropy", "cross-entropy")
    assert document["curve"]["loss"][0] == pytest.approx(own.loss[0, 0], rel=1e-5)
    assert abs(document["curve"]["loss"][1] - own.loss[0, 1]) <= 2 * np.hypot(
        document["curve"]["error"][1], own.error[0, 1]
    )
    assert document["evidence"]["loss_removed"] == pytest.approx(own.loss[0, 0], rel=1e-5)
    assert document["curve"]["success"][0] == pytest.approx(own.success[0, 0])
    assert document["trials"] == "128 trials of digits"
    done = run(file, "--noise", "0,0.5,0.8", "--trials", "8", "--figure", tmp_path / "loss.png")
    text = " ".join(done.stdout.split())
    assert "cross-entropy, averaged over trials and counted steps" in text
    assert "Jensen's" in text
    assert "bias²" not in text
    assert "known by sampling only" in run(file, "--trials", "0").stderr


def test_a_folder_and_denoise_tell_the_same_loss_of_it(classifier, tmp_path):
    _, file = classifier
    judged = run(file.parent, "--noise", "0,0.5,0.8", "--trials", "8", "--json", tmp_path / "all.json")
    assert "bias²" not in judged.stdout
    assert "relu in: Verdict:" in judged.stdout
    (entry,) = json.loads((tmp_path / "all.json").read_text())["groups"][0]["networks"]
    assert entry["evidence"]["loss_removed"] == pytest.approx(entry["loss_removed"], rel=1e-5)  # the same trials
    done = CliRunner().invoke(main, ["denoise", str(file), "-o", str(tmp_path / "clean.pt"), "--json", "-"])
    document = json.loads(done.stdout)
    assert "Mean cross-entropy over 128 trials of digits; monte-carlo" in document["trials"]
    assert document["losses"][0]["loss"] == pytest.approx(entry["loss_removed"], rel=1e-5)
    assert document["losses"][0]["variance"] == 0
