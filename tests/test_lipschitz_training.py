"""Lipschitz RNNs in the trainer, in studies, judged by sampling, and in the commands."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.figures import learning_curves_figure
from fpanalysis.models import evaluate, read_study, sweep, train, train_study
from fpanalysis.models._outcome import constant_loss
from fpanalysis.tasks import get_task

TASK = "function-approximation"
QUICK = {"form": "lipschitz", "size": 6, "steps": 8, "batch": 3}


def weights(net):
    return np.concatenate([np.ravel(getattr(net, name)) for name in ("A", "W", "b", "W_in", "W_out", "b_out")])


def interrupting(step):
    def progress(done, *_):
        if done == step:
            raise KeyboardInterrupt

    return progress


# ---------------------------------------------------------------- training


@pytest.mark.parametrize("noise", ["independent", "joint"])
def test_an_interrupted_training_ends_bit_for_bit_the_same(tmp_path, noise):
    partial = tmp_path / "partial"
    own = QUICK | {"seed": [1, 2, 1], "multiplicative": [0.1, 0.1, 0.0], "sigma": [0.5, 0.0, 0.2], "noise": noise}
    whole = train(TASK, **own)
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=partial, progress=interrupting(3), **own)
    resumed = train(TASK, partial=partial, resume=True, **own)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    for m, net in enumerate(whole.networks):
        np.testing.assert_array_equal(weights(resumed.network(m)), weights(net))
        assert (net.sigma, net.multiplicative, net.noise) == (own["sigma"][m], own["multiplicative"][m], noise)


def test_a_network_trains_the_same_alone_or_in_a_stack():
    """Although the others have multiplicative noise, or other seeds: its streams are its own."""
    own = {"seed": [5, 6, 5], "sigma": [0.3, 0.5, 0.5], "multiplicative": [0.0, 0.2, 0.3]}
    stack = train(TASK, **own, **QUICK)
    for m in range(3):
        alone = train(TASK, **{name: values[m] for name, values in own.items()}, **QUICK)
        np.testing.assert_allclose(stack.losses[:, m], alone.losses[:, 0], rtol=1e-4)  # float32


def test_each_noise_is_felt():
    def first_loss(**own):
        return float(train(TASK, seed=3, **QUICK, **own).losses[0, 0])

    clean = first_loss(sigma=0)
    found = {first_loss(sigma=0.5), first_loss(sigma=0, multiplicative=0.9), first_loss(sigma=0.5, multiplicative=0.9),
             first_loss(sigma=0.5, multiplicative=0.9, noise="joint"), clean}  # fmt: skip
    assert len(found) == 5


def test_the_network_tells_how_it_was_made(tmp_path):
    net = train(TASK, sigma=0.5, multiplicative=0.05, gamma=0.2, **QUICK).network()
    assert net.activation.name == "tanh"
    assert net.info["between"] == {"skew": 0.75, "shrink": 0.001}
    note = net.info["noise_given_as"]
    assert "sigma = 0.5: the state gets gamma sigma xi = 0.1 xi" in note
    assert "multiplicative = 0.05" in note
    fpa.save(net, tmp_path / "net.pt")
    assert fpa.load(tmp_path / "net.pt").hash == net.hash
    M = (net.A + net.A.T + 0.002 * np.eye(6)) / 2  # symmetric part: (1 - skew) (M + M^T)
    assert np.abs(M).max() > 0
    assert "noise_given_as" not in train(TASK, sigma=0, **QUICK).network().info


def test_it_learns_and_keeps_three_bits():
    training = train(
        "flip-flop", form="lipschitz", sigma=0.2, multiplicative=0.05, size=24, batch=16, steps=150, lr=0.02
    )
    assert training.final_loss() < 0.4 * constant_loss(get_task("flip-flop"))


def test_a_diverged_network_is_named_and_harms_no_other():
    training = train(TASK, sigma=[0.1, 1e20], **QUICK)
    assert [step is None for step in training.diverged] == [True, False]
    with pytest.raises(fpa.InputError, match="form 'lipschitz'"):
        training.network(1)
    assert np.isfinite(weights(training.network(0))).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"form": "rate", "multiplicative": 0.1}, "multiplicative and noise are of form 'lipschitz'"),
        ({"form": "rate", "noise": "joint"}, "multiplicative and noise are of form 'lipschitz'"),
        ({"noise": "both"}, "noise must be 'independent' or 'joint'"),
        ({"multiplicative": -0.1}, "multiplicative must be a number from 0"),
        ({"multiplicative": "much"}, "multiplicative must be numbers"),
        ({"multiplicative": [0.1, 0.2], "seed": [1, 2, 3]}, "and multiplicative must be one value or the same number"),
        ({"multiplicative": []}, "seed, sigma, placement, multiplicative must be one value or several; found none"),
        ({"form": "lipshitz"}, "form must be 'rate', 'current' or 'lipschitz'; found 'lipshitz'"),
        ({"placement": "out"}, "placement 'out' has no meaning with form 'lipschitz'"),
        ({"layers": (4, 4), "size": None, "gamma": 1}, "form 'rate' with layers"),
    ],
)
def test_settings_that_make_no_training_are_named(settings, message):
    with pytest.raises(fpa.InputError, match=message):
        train(TASK, **QUICK | settings)


# ---------------------------------------------------------------- studies


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "whole"
    return train_study(TASK, folder, sigma=(0.0, 0.5), seed=range(2), multiplicative=0.05, **QUICK)


def test_a_study_is_named_after_its_form(study):
    assert {n.name for n in study.networks} == {
        f"lipschitz-tanh-N6-{s}-mult0.05-seed{k}" for s in ("0", "0.5") for k in (0, 1)
    }
    settings = json.loads((study.folder / "manifest.json").read_text())["settings"]
    assert (settings["form"], settings["noise"]) == ("lipschitz", "independent")
    assert all(fpa.load(study.folder / n.file).hash == n.hash for n in study.networks)


def test_an_interrupted_study_ends_bit_for_bit_the_same(study, tmp_path):
    own = {"sigma": (0.0, 0.5), "seed": range(2), "multiplicative": 0.05} | QUICK
    calls = []

    def progress(now):
        calls.append(now)
        if len(calls) == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_study(TASK, tmp_path / "s", progress=progress, **own)
    again = train_study(TASK, tmp_path / "s", resume=True, **own)
    assert [n.hash for n in again.networks] == [n.hash for n in study.networks]
    with pytest.raises(fpa.InputError, match=r"noise 'independent', now 'joint'"):
        train_study(TASK, tmp_path / "s", resume=True, **own | {"noise": "joint"})


def test_a_study_of_ctrnns_has_no_settings_of_lipschitz_rnns(tmp_path):
    """So that studies made before there were any are gone on with."""
    train_study(TASK, tmp_path / "s", size=4, steps=2, batch=2)
    settings = json.loads((tmp_path / "s" / "manifest.json").read_text())["settings"]
    assert not {"multiplicative", "noise"} & set(settings)


def test_several_strengths_make_a_study(tmp_path):
    options = ["--form", "lipschitz", "--noise", "0.2", "--size", "4", "--steps", "5", "--batch", "2"]
    folder = tmp_path / "s"
    one = run("train", TASK, *options, "--multiplicative", "0", "--seeds", "1", "-o", folder)
    several = run("train", TASK, *options, "--multiplicative", "0,0.3", "-o", folder, "--resume")
    assert one.exit_code in (0, 3)
    assert "1 networks were added to the 1" in several.stderr
    assert "noise  multiplicative  trained" in several.stdout
    names = {0.0: "lipschitz-tanh-N4-0.2-seed0", 0.3: "lipschitz-tanh-N4-0.2-mult0.3-seed0"}
    study = read_study(folder)
    assert {network.multiplicative: network.name for network in study.networks} == names
    for strength, name in names.items():
        assert fpa.load(folder / f"{name}.pt").multiplicative == strength
    titles = [ax.get_title() for ax in learning_curves_figure(study).axes]
    assert titles == [f"tanh, Lipschitz RNN, multiplicative {strength:g}" for strength in names]


def test_multiplicative_noise_is_no_axis_of_ctrnns(tmp_path):
    with pytest.raises(fpa.InputError, match="multiplicative and noise are of form 'lipschitz'"):
        train_study(TASK, tmp_path / "s", sigma=0.2, multiplicative=(0.0, 0.1))


# ---------------------------------------------------------------- test noise


def neuron(**changes):
    """h' = h + gamma ((1 + multiplicative xi_2) (c - h) + sigma xi_1): its law is known."""
    settings = {"gamma": 0.5, "sigma": 0.4, "multiplicative": 0.9} | changes
    return fpa.LipschitzRNN(A=[[-1.0]], W=[[0.0]], b=[0.3], W_out=[[1.0]], activation="linear", **settings)


@pytest.mark.parametrize("kind", ["independent", "joint"])
def test_the_loss_of_a_network_whose_law_is_known(kind):
    """V = gamma^2 sigma^2 / (1 - (1 - gamma)^2 - gamma^2 m^2), also with one xi for both, since E f = 0."""
    R, c = 20_000, 0.2
    levels = np.array([0.0, 0.2, 0.4])
    test = evaluate(neuron(noise=kind), get_task("regulator", c=c, counted=1), levels, inputs=1, trials=R)
    m = 0.9 * levels / 0.4
    V = 0.25 * levels**2 / (0.75 - 0.25 * m**2)
    np.testing.assert_allclose(test.bias2[0], 0.01, atol=4 * 0.2 * np.sqrt(V.max() / R) + 1e-7)
    # the law has excess kurtosis < 6 here: standard error of V at most V sqrt(8 / R)
    np.testing.assert_array_less(np.abs(test.variance[0] - V), 4 * V * np.sqrt(8 / R) + 1e-12)
    assert (test.variance[0, 2] - 0.25 * 0.16 / 0.75) > 8 * V[2] * np.sqrt(8 / R), "without multiplicative noise"


def test_multiplicative_noise_alone_has_no_levels():
    with pytest.raises(fpa.InputError, match=r"multiplicative noise .here 0.9. is scaled along with sigma"):
        evaluate(neuron(sigma=0), "regulator", [0, 0.1], inputs=1)
    test = evaluate(neuron(sigma=0), get_task("regulator", c=0.2), 0, inputs=1)
    np.testing.assert_allclose(test.loss, [[0.01]], rtol=1e-5)  # without any noise


def test_a_folder_leaves_out_what_has_no_levels(tmp_path):
    nets = train("regulator", sigma=[0.2, 0.0], multiplicative=0.1, **QUICK | {"size": None}).networks
    for name, net in zip("ab", nets, strict=True):
        fpa.save(net, tmp_path / f"{name}.pt")
    judged = run("preference", tmp_path, "--noise", "0,0.2", "--trials", 4)
    assert judged.exit_code == 3
    assert "left out b: multiplicative noise" in judged.stderr


def test_networks_are_judged_by_their_form(study):
    nets = {n.name: fpa.load(study.folder / n.file) for n in study.networks if n.sigma}
    nets |= {f"ctrnn{k}": net for k, net in enumerate(train(TASK, seed=[0, 1], size=6, steps=8, batch=3).networks)}
    found = sweep(nets, inputs=4, trials=8)
    assert {(g.placement, len(g.networks)) for g in found.groups} == {("in", 2), ("lipschitz", 2)}
    lipschitz = next(g for g in found.groups if g.placement == "lipschitz")
    assert lipschitz.settings["multiplicative"] == 0.05


def test_stationary_laws_refuse_multiplicative_noise():
    with pytest.raises(fpa.InputError, match=r"multiplicative noise too, of 0.9"):
        fpa.stationary(neuron())
    assert "need a Network; this is a LipschitzRNN" in fpa.stationary(neuron(multiplicative=0.0)).details["reason"]
    law = fpa.stationary(neuron(multiplicative=0.0), method="small-noise")
    assert law.cov[0, 0] == pytest.approx(0.25 * 0.16 / 0.75, rel=1e-9)


# ---------------------------------------------------------------- commands


def run(*args):
    return CliRunner().invoke(main, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "net.pt"
    options = ("--form", "lipschitz", "--noise", 0.4, "--multiplicative", 0.1, "--joint", "--size", 4)
    result = run("train", TASK, *options, "--steps", 150, "--batch", 8, "--lr", 0.02, "-o", path)
    assert result.exit_code in (0, 3), result.output
    line = f"wrote {path}: tanh, N = 4, lipschitz form, sigma = 0.4, multiplicative = 0.1"
    assert result.stdout.splitlines()[0] == line
    return path


def test_the_command_trains_what_it_is_told(file):
    net = fpa.load(file)
    assert (net.N, net.sigma, net.multiplicative, net.noise) == (4, 0.4, 0.1, "joint")


def test_inspect_says_what_is_in_the_file(file):
    text = run("inspect", file).output
    assert "h' = h + gamma (f + (sigma + multiplicative f) xi), f = A h + a(W h + W_in u + b)" in text
    assert "sigma = 0.4 per step, on the state; multiplicative = 0.1, joint" in text
    facts = json.loads(run("inspect", file, "--json", "-").output)
    net = fpa.load(file)
    assert (facts["placement"], facts["noise"], facts["multiplicative"]) == (None, "joint", 0.1)
    assert facts["A_abscissa"] == pytest.approx(np.linalg.eigvals(net.A).real.max())


def test_fixed_points_are_found_from_the_file(file):
    result = run("fixed-points", file, "--input", "0.3", "--json", "-")
    assert result.exit_code in (0, 3), result.output
    assert json.loads(result.stdout)["schema"] == "fpanalysis.fixed-points/1"


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("shift", (), "holds a Lipschitz RNN, and the shift is of CTRNNs"),
        ("bias", (), "holds a Lipschitz RNN, and the bias is of CTRNNs"),
        ("denoise", ("-o", "clean.pt"), "holds a Lipschitz RNN, and de-noising is of CTRNNs"),
        ("stationary", (), "this network has multiplicative noise too"),
    ],
)
def test_commands_that_cannot_say_so_in_one_line(file, command, options, message):
    result = run(command, file, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_a_study_s_table_has_no_placement(tmp_path):
    options = ("--form", "lipschitz", "--seeds", 2, "--size", 4, "--steps", 5, "--batch", 2, "--joint")
    result = run("train", TASK, *options, "-o", tmp_path / "study")
    assert "activation  noise  trained" in result.stdout
    study = read_study(tmp_path / "study")
    assert learning_curves_figure(study).axes[0].get_title() == "tanh, Lipschitz RNN"


def test_a_folder_is_judged_by_form(file, tmp_path):
    shutil.copy(file, tmp_path)
    judged = run("preference", tmp_path, "--noise", "0,0.4", "--trials", 4, "--json", "-")
    groups = json.loads(judged.stdout)["groups"]
    assert [(g["placement"], g["sigma"]) for g in groups] == [("lipschitz", 0.4)]
    alone = run("preference", file, "--noise", "0,0.4", "--trials", 4, "--json", "-")
    assert json.loads(alone.stdout)["groups"] == groups
    assert "--steps is for a single CTRNN" in run("preference", file, "--steps", 9).stderr


@pytest.mark.parametrize("command", ["regularizer", "stability"])
def test_further_commands_take_the_file(file, command):
    options = ("--steps", 20) if command == "regularizer" else ()
    result = run(command, file, "--json", "-", *options)
    assert result.exit_code in (0, 3), result.output
    assert json.loads(result.stdout)["schema"] == f"fpanalysis.{command}/1"


def test_a_closed_loop_is_left_to_sampling(tmp_path):
    task = {"size": 4, "steps": 2, "batch": 2, "form": "lipschitz"}
    fpa.save(train("maze", **task).network(), tmp_path / "net.pt")
    refused = run("regularizer", tmp_path / "net.pt")
    assert refused.exit_code == 1
    assert "a Lipschitz RNN in the closed loop of its task" in refused.stderr
    judged = run("preference", tmp_path / "net.pt", "--noise", "0,0.1", "--trials", 4, "--json", "-")
    assert json.loads(judged.stdout)["groups"][0]["placement"] == "lipschitz"
