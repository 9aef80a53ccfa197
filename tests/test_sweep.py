"""Folders of networks: groups and their spread against the networks one by one, and what is left out and said."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from test_evaluation import Follow, steering

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of
from fpanalysis.cli._preference_folder import findings, report, success_error, text
from fpanalysis.figures import plot_sweep, sweep_figure
from fpanalysis.figures.sweeps import styles_of
from fpanalysis.models import evaluate, sweep, train
from fpanalysis.models.sweep import Group
from fpanalysis.tasks import REGISTRY, get_task

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
QUICK = ("--trials", "16")


def regulators():
    """Three with noise in, of which one is out of tune; one with noise out; one at another noise; one without."""
    one = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    return {
        "in-a": one,
        "in-b": dataclasses.replace(one, b=one.b + 0.01),
        "in-c": dataclasses.replace(one, b=one.b + 0.3),
        "out": dataclasses.replace(one, placement="out", b=0.2 * (1 - one.W[0])),
        "strong": dataclasses.replace(one, sigma=1.0),
        "still": dataclasses.replace(one, sigma=0.0),
    }


@pytest.fixture
def folder(tmp_path):
    for name, net in regulators().items():
        fpa.save(net, tmp_path / f"{name}.pt")
    return tmp_path


@pytest.fixture
def scored(monkeypatch):
    """A task in a closed loop, known by name for one test."""

    class Named(Follow):
        name = "follow"

    yield Named()
    REGISTRY.pop("follow")


def run(*arguments):
    return CliRunner().invoke(main, ["preference", *map(str, arguments)])


def test_groups_are_the_networks_one_by_one():
    nets = regulators()
    found = sweep(nets, inputs=32, trials=32)
    kinds = [(group.placement, group.sigma, [n.name for n in group.networks]) for group in found.groups]
    assert kinds == [("in", 0.0, ["still"]), ("in", 0.5, ["in-a", "in-b", "in-c"]), ("out", 0.5, ["out"]),
                     ("in", 1.0, ["strong"])]  # fmt: skip
    assert [len(groups) for groups in found.tasks] == [4]
    alone = {name: evaluate(nets[name], get_task("regulator", **nets[name].info["task_settings"]),
                            np.linspace(0, 0.75, 13), inputs=32, trials=32).curves[0]
             for name in ("in-a", "in-b", "in-c")}  # fmt: skip
    group = found.groups[1]
    for judged in group.networks:
        np.testing.assert_allclose(judged.curve.loss, alone[judged.name].loss, rtol=1e-4)  # float32
        assert judged.curve.sigma[8] == pytest.approx(0.5)
        assert judged.numbers["bias2_trained"] == judged.curve.bias2[8]
    ratios = sorted(curve.ratio for curve in alone.values())
    np.testing.assert_allclose(group.spread("ratio"), [ratios[1], ratios[0], ratios[2], 3], rtol=1e-3)
    assert ratios[2] > 2 * ratios[0]
    losses = [curve.loss for curve in alone.values()]
    np.testing.assert_allclose(group.median("loss"), np.median(losses, axis=0), rtol=1e-3)
    assert np.isnan(found.groups[0].spread("ratio").median)
    np.testing.assert_allclose(found.groups[0].levels, np.linspace(0, 1.5, 13))  # by the largest noise of the task


def test_tasks_of_one_name_are_told_apart_by_their_settings():
    one = regulators()["in-a"]
    settings = dict(one.info["task_settings"])
    longer = dataclasses.replace(one, info={**one.info, "task_settings": settings | {"T": 100}})
    fit = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    found = sweep({"a": one, "b": longer, "c": fit}, [0.0, 0.5], inputs=1, trials=4)
    assert found.titles == ["function-approximation", "regulator, T = 100", f"regulator, T = {settings['T']}"]
    assert [[n.name for group in groups for n in group.networks] for groups in found.tasks] == [["c"], ["b"], ["a"]]
    rows = [panel.get_ylabel() for panel in sweep_figure(found).axes]
    assert rows[::3] == [f"{title}\nloss" for title in found.titles]


def test_test_images_are_counted_once(capsys):
    """There are 450, however many trials are asked for; of a task that draws its trials, as many as asked for."""
    digits = [train("digits", size=3, steps=1, batch=2, sigma=0.1, seed=seed).network() for seed in (0, 1)]
    nets = {"a": digits[0], "b": digits[1], "c": fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")}
    found = sweep(nets, [0.0, 0.1], inputs=600, trials=4)
    assert {group.task: group.inputs for group in found.groups} == {"digits": 450, "regulator": 600}
    report(found, {})
    told = capsys.readouterr().out
    assert "digits: 450 trials of the task" in told
    assert "regulator: 600 trials of the task" in told


def test_a_minimum_that_the_errors_leave_open_is_none():
    """Noise out, linear: the mean does not depend on the noise, so no level of least bias^2 is known."""
    net = fpa.Network(W=[[0.5]], b=[0.1], W_out=[[1.0]], activation="linear", gamma=0.1, sigma=0.5, placement="out",
                      info={"task": "regulator"})  # fmt: skip
    (group,) = sweep({"a": net}, inputs=1, trials=32).groups
    assert np.isfinite(group.networks[0].curve.preferred_bias2)
    assert np.isnan(group.spread("preferred_bias2").median)
    assert group.spread("preferred").median == 0


@pytest.mark.parametrize(("model", "inputs", "trials"), [("regulator", 1, 64), ("function-approximation", 32, 8)])
def test_the_sampling_error_of_R_is_told(model, inputs, trials):
    """Over seeds R scatters by its stated error: by the noise alone, and by the trials drawn, which matter more."""
    one = fpa.load(NETWORKS / f"{model}-relu-in-0.5.pt")
    short = dict(one.info["task_settings"]) | {"T": 20, "counted": 5}
    one = dataclasses.replace(one, info={**one.info, "task_settings": short})
    found = [
        sweep({"a": one}, [0.0, 0.5], inputs=inputs, trials=trials, seed=seed).groups[0].networks[0]
        for seed in range(40)
    ]
    R, error = np.array([(judged.numbers["ratio"], judged.ratio_error) for judged in found]).T
    # a 95 % half-width holds 2.13 standard errors by 16 blocks, 2.04 by 32 trials; that of a deviation over 40 draws is
    # 11 % of a Gaussian's
    assert R.std(ddof=1) == pytest.approx(np.median(error) / (2.13 if inputs == 1 else 2.04), rel=0.45)
    if inputs > 1:
        noise = np.median([j.curve.error[1] / j.curve.loss_trained * j.curve.ratio for j in found])
        assert np.median(error) > 2 * noise


def made(net, **training):
    return dataclasses.replace(net, info={**net.info, "training": {**net.info["training"], **training}})


def test_only_seeds_are_taken_for_seeds():
    """What else differs makes another group, and is told; networks of one group need not fit into one stack."""
    one = regulators()["in-a"]
    leaky = [dataclasses.replace(one, activation={"name": "leaky_relu", "slope": slope}) for slope in (0.1, 0.3)]
    nets = {
        "a": one,
        "b": made(one, seed=1, final_loss=0.1),
        "c": dataclasses.replace(one, W_out=None),
        "quick": made(one, steps=5),
        "leaky-1": leaky[0],
        "leaky-3": leaky[1],
    }
    found = sweep(nets, [0.0, 0.5], inputs=1, trials=4)
    kinds = {f"{g.activation}{g.apart}": [n.name for n in g.networks] for g in found.groups}
    assert kinds == {
        "leaky_relu slope=0.1 steps=400": ["leaky-1"], "leaky_relu slope=0.3 steps=400": ["leaky-3"],
        "relu steps=400": ["a", "b", "c"], "relu steps=5": ["quick"],
    }  # fmt: skip
    alike = next(group for group in found.groups if len(group.networks) == 3).networks
    np.testing.assert_allclose(alike[2].curve.loss, alike[0].curve.loss, rtol=1e-6)  # W_out = 1
    fit = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    nets = {
        "whole": fit,
        "profile": dataclasses.replace(fit, sigma=np.linspace(0, 0.5, fit.N)),
        "leaks": dataclasses.replace(fit, gamma=np.linspace(0.1, np.max(fit.gamma), fit.N)),
    }
    told = [group.apart for group in sweep(nets, [0.0, 0.5], inputs=1, trials=4).groups]
    assert sorted(told) == ["", " gamma per neuron", " sigma per neuron"]


def test_denoised_seeds_are_seeds():
    """Each is smoothed in its own way, so that they are two stacks; of another noise they are another kind."""
    one = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt").with_sigma(0)

    def clean(s, noise):
        activation = {"name": "smoothed", "base": "relu", "s": s}
        note = {"variant": "smoothed", "sigma": noise}
        return dataclasses.replace(one, activation=activation, info={**one.info, "denoised": note})

    nets = {"a": clean(0.5, 0.5), "b": clean(np.linspace(0.5, 0.6, one.N).tolist(), 0.5), "c": clean(0.9, 1.0)}
    groups = sweep(nets, [0.0], inputs=1, trials=4).groups
    kinds = {group.apart: [judged.name for judged in group.networks] for group in groups}
    assert kinds == {" de-noised=smoothed 0.5": ["a", "b"], " de-noised=smoothed 1": ["c"]}
    first, second = (judged.curve.loss_removed for judged in groups[0].networks)
    assert first != second


def test_numbers_that_some_seeds_do_not_have_are_counted():
    judged = [{"ratio": 2.0, "preferred": 0.4, "preferred_bias2": level} for level in (np.nan, 0.5, 0.1)]
    group = SimpleNamespace(placement="in", sigma=0.5, networks=[SimpleNamespace(numbers=own) for own in judged])
    assert findings([group]) == [
        "Noise in: 3 of 3 networks lose by the removal of their noise (R > 1.05); the least loss lies at half the "
        "training noise or beyond in 3, the least bias² in 1 (1 not known)."
    ]
    assert text(Group.spread(group, "preferred_bias2"), 2, 3) == "0.3±0.2 (2 of 3)"
    assert text(Group.spread(group, "ratio"), 2, 3) == "2"
    assert success_error(0.5, 0.01, 32) == pytest.approx(0.0196)
    # Wilson: the least p at which all of 32 succeed is 1.96 standard deviations away
    least = 1 - success_error(1.0, 0.0, 32)
    assert (1 - least) / np.sqrt(least * (1 - least) / 32) == pytest.approx(1.96)


def test_the_command_tells_what_the_sweep_found(folder):
    done = run(folder, *QUICK, "--json", folder / "all.json", "--seed", "3")
    assert done.exit_code == 0, done.output
    found = sweep(regulators(), trials=16, seed=3)
    document = json.loads((folder / "all.json").read_text())
    assert document["schema"] == "fpanalysis.preference-folder/1"
    assert [group["sigma"] for group in document["groups"]] == [0.0, 0.5, 0.5, 1.0]
    for told, group in zip(document["groups"], found.groups, strict=True):
        assert told["ratio"]["median"] == (group.spread("ratio").median if group.sigma else None)
        assert told["preferred"] == group.spread("preferred")._asdict()
        for entry, judged in zip(told["networks"], group.networks, strict=True):
            assert entry["curve"]["bias2"] == judged.curve.bias2.tolist()
    row = next(line.split() for line in done.output.splitlines() if line.split()[:4] == ["relu", "in", "0.5", "3"])
    spread = found.groups[1].spread("ratio")
    assert row[4].split("±")[0] == f"{spread.median:.3g}"
    text = " ".join(done.output.split())
    needed = sum(n.numbers["ratio"] > 1.05 for k in (1, 3) for n in found.groups[k].networks)
    assert f"Noise in: {needed} of 4 networks lose by the removal of their noise" in text
    assert "Noise out: 0 of 1 networks" in text


def test_levels_that_are_asked_for(folder):
    document = json.loads(run(folder, *QUICK, "--noise", "0.2,0.4", "--json", "-").stdout)
    assert [group["median"]["sigma"] for group in document["groups"]] == [
        [0.0, 0.2, 0.4], [0.0, 0.2, 0.4, 0.5], [0.0, 0.2, 0.4, 0.5], [0.0, 0.2, 0.4, 1.0]
    ]  # fmt: skip


def test_what_is_no_network_of_a_task_is_named_and_left_out(folder):
    whole = (folder / "in-a.pt").read_bytes()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "foreign.pt").write_text("not a checkpoint")
    fpa.save(fpa.Network(W=[[0.1]], sigma=0.1), folder / "bare.pt")
    fpa.save(dataclasses.replace(steering(), info={"task": "regulator"}), folder / "misfit.pt")
    fpa.save(
        dataclasses.replace(regulators()["in-a"], info={"task": "regulator", "task_settings": 5}), folder / "odd.pt"
    )
    (folder / "in-a2.pt").write_bytes(whole)
    (folder / "sub.pt").mkdir()
    entries = [{"name": "strong", "status": "not trained"}, {"name": "lost", "status": "diverged"},
               {"name": "gone", "status": "trained"},
               {"name": "in-a", "status": "trained"}]  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps({"networks": entries}))
    done = run(folder, *QUICK, "--json", folder / "all.json")
    assert done.exit_code == 3
    left_out = json.loads((folder / "all.json").read_text())["left_out"]
    assert set(left_out) == {"half", "foreign", "bare", "misfit", "strong", "lost", "odd", "in-a2", "gone", "sub"}
    assert all(f"left out {name}: {reason}" in done.stderr for name, reason in left_out.items())
    assert "remembers no task" in left_out["bare"]
    assert "has 2 input(s) and 2 output(s), its task regulator 0 and 1" in left_out["misfit"]
    assert left_out["strong"] == "manifest.json says 'not trained'"
    assert left_out["gone"] == "manifest.json says 'trained', but there is no file"
    assert left_out["in-a2"] == "it is the same network as in-a: a copy is no other seed"
    assert "task_settings must be a mapping" in left_out["odd"]
    assert "Traceback" not in done.output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "holds no network to judge: found 1 file(s) *.pt"),
        (("--trials", 0), "--trials must be at least 4 for a folder"),
        (("--steps", 9), "--steps is for a single CTRNN"),
        (("--figure", "a.xyz"), "--figure must end in"),
    ],
)
def test_folders_that_cannot_be_judged(tmp_path, options, message):
    (tmp_path / "foreign.pt").write_text("not a checkpoint")
    done = run(tmp_path, *options)
    assert done.exit_code == 1
    assert message in done.output


def test_without_any_training_noise_levels_are_asked_for(tmp_path):
    fpa.save(regulators()["still"], tmp_path / "still.pt")
    done = run(tmp_path, *QUICK)
    assert done.exit_code == 1
    assert "test noise must be given (sigma=, --noise): no network of regulator" in done.output
    assert run(tmp_path, *QUICK, "--noise", "0:0.5:3").exit_code == 0


def test_a_manifest_that_is_none_is_said(folder):
    (folder / "manifest.json").write_text("{")
    done = run(folder, *QUICK)
    assert done.exit_code == 3
    assert "left out manifest.json: it cannot be read as that of a study" in done.stderr


def test_success_in_a_closed_loop(tmp_path, scored):
    """A file, whose loss is predicted in the loop, and a folder with that file: success is that of the same runs."""
    net = dataclasses.replace(steering(), info={"task": "follow"})
    fpa.save(net, tmp_path / "a.pt")
    test = evaluate(net, scored, [0.0, 0.4], inputs=32, trials=64)
    options = ("--noise", "0,0.4", "--trials", "64")
    done = run(tmp_path / "a.pt", *options)
    assert done.exit_code == 0, done.output
    assert "in a closed loop" in done.output
    rows = [line.split() for line in done.output.splitlines() if line.rstrip().endswith("ok")]
    assert [row[7].split("±")[0] for row in rows] == [f"{share:.3g}" for share in test.success[0]]
    document = json.loads(run(tmp_path / "a.pt", *options, "--json", "-").stdout)
    assert document["model"] == net.hash
    assert document["findings_from"] == "closure"
    assert document["curve"]["success"] == test.success[0].tolist()
    np.testing.assert_allclose(document["curve"]["success_error"][1], 1.96 * test.success_error[0, 1])
    # on the same inputs: linear, so that the prediction is exact
    gap = np.abs(np.array(document["curve"]["loss"]) - test.loss[0])
    assert (gap <= 2 * test.error[0] + 1e-6).all()
    assert "success" not in json.loads(run(tmp_path / "a.pt", "--trials", 0, "--json", "-").stdout)["curve"]
    (group,) = json.loads(run(tmp_path, *options, "--json", "-").stdout)["groups"]
    more = evaluate(net, scored, [0.0, 0.4], inputs=128, trials=64)
    assert group["success_trained"]["median"] == more.success_trained[0]
    assert group["success_removed"]["median"] == more.success_removed[0]
    assert "Share of trials that succeed" in run(tmp_path, *options).output
    with pytest.raises(fpa.InputError, match="steers a point in a closed loop"):
        batch_of(net)


def test_the_figure_draws_the_curves(folder):
    found = sweep(regulators(), trials=16)
    ax = plot_sweep(found.groups[1:2], "bias2")
    *thin, median, foot, dotted = ax.get_lines()
    for line, judged in zip(thin, found.groups[1].networks, strict=True):
        drawn = judged.curve.fine.bias2
        np.testing.assert_array_equal(line.get_ydata(), np.where(drawn > 0, drawn, np.nan))
    sigma, values = found.groups[1].fine("bias2")
    np.testing.assert_array_equal(median.get_ydata(), np.where(values > 0, values, np.nan))
    assert foot.get_xdata()[0] == sigma[values.argmin()]
    assert dotted.get_xdata()[0] == 0.5
    plt.close(ax.figure)
    figure = sweep_figure(found)
    assert len([panel for panel in figure.axes if panel.axison]) == 9  # three noise levels, three parts
    ax = plot_sweep(found.groups[2:3], "bias2")  # noise out: bias^2 is the same at all noise
    assert found.groups[2].spread("preferred_bias2").known == 0
    assert not [line for line in ax.get_lines() if line.get_marker() == "^"]
    plt.close(ax.figure)
    styles = styles_of([dataclasses.replace(found.groups[0], apart=f" {k}") for k in range(12)])
    assert len({tuple(style.values()) for style in styles.values()}) == 12
    many = [dataclasses.replace(found.groups[1], apart=f" with a long name {k}") for k in range(9)]
    figure = sweep_figure(dataclasses.replace(found, groups=tuple(many)))
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert min(ax.get_window_extent().height for ax in figure.axes) > 100
    done = run(folder, *QUICK, "--figure", folder / "all.png")
    assert done.exit_code == 0
    assert (folder / "all.png").stat().st_size > 20_000
