"""Studies: the networks of a folder do not depend on interruptions or processes, and no failure is silent."""

from __future__ import annotations

import json
import shutil
from itertools import product

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import TrainingStatus, _study_plan, read_study, train, train_study
from fpanalysis.models._outcome import constant_loss
from fpanalysis.models._study_plan import combinations, stacked
from fpanalysis.models._study_workers import bins, thinned
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task

TASK = "function-approximation"
QUICK = {"size": 6, "steps": 12, "batch": 3}
AXES = {"placement": ("in", "out"), "activation": ("relu", "tanh"), "sigma": (0.5,), "seed": (0, 1)}
STUDY = AXES | QUICK  # 8 networks in two stacks


def outcome(study):
    return {n.name: (n.hash, n.final_loss, n.status, n.step) for n in study.networks}


def interrupting(*calls):
    """A `progress` that interrupts at its calls of these numbers, counted over the runs it is given to."""
    seen = []

    def progress(now):
        seen.append(now)
        if len(seen) in calls:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return train_study(TASK, tmp_path_factory.mktemp("study") / "whole", **STUDY)


@pytest.fixture
def copy(whole, tmp_path):
    """The finished study in a folder of its own."""
    return shutil.copytree(whole.folder, tmp_path / "copy")


def test_every_combination_is_a_checkpoint_that_tells_how_it_was_made(whole):
    wanted = {
        f"{f}-N6-{p}-{s}-seed{k}"
        for p, f, s, k in product(AXES["placement"], AXES["activation"], AXES["sigma"], AXES["seed"])
    }
    assert {n.name for n in whole.networks} == wanted
    assert {p.name for p in whole.folder.iterdir()} == {f"{w}.pt" for w in wanted} | {"manifest.json", "losses.npz"}
    for n in whole.networks:
        net = fpa.load(whole.folder / n.file)
        assert (net.hash, net.N, net.activation.name, net.placement, net.sigma) == (
            n.hash, 6, n.activation, n.placement, n.sigma,
        )  # fmt: skip
        assert net.info["training"]["seed"] == n.seed
        assert net.info["training"]["final_loss"] == n.final_loss


def test_a_stack_is_one_call_of_train(whole):
    """The same networks, in the same order, trained directly: bit for bit."""
    first = [n for n in whole.networks if n.stack == 0]
    assert len({n.activation for n in first}) == 1
    own = {name: [getattr(n, name) for n in first] for name in ("seed", "sigma", "placement")}
    direct = train(TASK, activation=first[0].activation, **own, **QUICK)
    assert [n.hash for n in first] == [net.hash for net in direct.networks]
    rows = [whole.networks.index(n) for n in first]
    np.testing.assert_array_equal(whole.loss[rows], direct.losses.T)  # 12 steps: not thinned


def test_the_manifest_says_what_was_done(whole):
    document = json.loads((whole.folder / "manifest.json").read_text())
    assert document["schema"] == "fpanalysis.study/1"
    assert document["task"] == TASK
    assert document["task_settings"] == get_task(TASK).settings()
    shared = {"steps": 12, "batch": 3, "lr": 2e-3, "clip": 1.0, "form": "rate", "device": "cpu"}
    assert document["settings"].items() >= shared.items()
    assert [set(run["versions"]) for run in document["runs"]] == [{"fpanalysis", "torch", "numpy", "python"}]
    entry = document["networks"][0]
    assert entry["file"] == f"{entry['name']}.pt"
    assert entry.keys() > {"activation", "size", "gamma", "placement", "sigma", "seed", "status", "final_loss", "hash"}


@pytest.mark.parametrize("calls", [(1,), (5, 9), (12, 13)])
def test_an_interrupted_study_ends_bit_for_bit_the_same(whole, tmp_path, calls):
    """In the first step, in the middle, after the last step of a stack, when it is recorded, and several times."""
    progress = interrupting(*calls)
    resume = False
    for _ in calls:
        with pytest.raises(KeyboardInterrupt):
            train_study(TASK, tmp_path / "s", resume=resume, progress=progress, **STUDY)
        resume = True
    again = train_study(TASK, tmp_path / "s", resume=True, **STUDY)
    assert outcome(again) == outcome(whole)
    np.testing.assert_array_equal(again.loss, whole.loss)
    assert {p.name for p in again.folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


def test_a_run_that_died_goes_on(whole, tmp_path):
    """Killed between the checkpoints of a stack and the manifest: the checkpoints stand beside a partial file."""
    folder = tmp_path / "s"
    with pytest.raises(KeyboardInterrupt):
        train_study(TASK, folder, progress=interrupting(12), **STUDY)
    for n in whole.networks[:3]:
        shutil.copy(whole.folder / n.file, folder)
    (folder / ".manifest.x.json").write_text("half-writ")
    (folder / "stack-7.partial").write_text("of no stack that is pending")
    assert outcome(train_study(TASK, folder, resume=True, **STUDY)) == outcome(whole)
    assert {p.name for p in folder.iterdir()} == {p.name for p in whole.folder.iterdir()}


def test_a_finished_study_is_left_as_it_is(copy, whole):
    before = (copy / "manifest.json").read_bytes()
    again = train_study(TASK, copy, resume=True, progress=interrupting(1), **STUDY)
    assert again.notes == ("every network was trained already: nothing was done",)
    assert outcome(again) == outcome(whole)
    assert (copy / "manifest.json").read_bytes() == before


def test_a_study_is_extended(copy, whole):
    """By a seed and a level; what was there stays, also what is not named again."""
    more = train_study(TASK, copy, resume=True, **STUDY | {"seed": (1, 2), "sigma": (0.5, 1)})
    assert len(more.networks) == 8 + 4 + 4 * 2  # level 1 at seed 1, and both levels at seed 2
    assert more.notes == ("12 networks were added to the 8 that the study had",)
    assert outcome(whole).items() < outcome(more).items()
    assert more.count(TrainingStatus.PENDING) == 0
    assert len(more.runs) == 2


def test_a_missing_network_is_trained_again(copy, whole):
    (copy / whole.networks[3].file).unlink()
    kept = (copy / whole.networks[2].file).stat().st_mtime_ns
    again = train_study(TASK, copy, resume=True, **STUDY)
    assert again.notes == (f"{whole.networks[3].name}.pt was missing and was trained again",)
    assert outcome(again) == outcome(whole)
    assert (copy / whole.networks[2].file).stat().st_mtime_ns == kept


@pytest.mark.parametrize("kind", ["damaged", "former"])
def test_a_partial_file_that_cannot_be_used_costs_its_stack_only(whole, tmp_path, kind):
    with pytest.raises(KeyboardInterrupt):
        train_study(TASK, tmp_path / "s", progress=interrupting(5), **STUDY)
    partial = tmp_path / "s" / "stack-0.partial"
    if kind == "damaged":
        partial.write_bytes(b"half")
    else:
        torch.save(torch.load(partial, weights_only=True) | {"format": "fpanalysis.training/1"}, partial)
    again = train_study(TASK, tmp_path / "s", resume=True, **STUDY)
    (note,) = again.notes
    assert note.startswith("stack-0.partial was damaged, or of another version: its networks were trained from")
    assert outcome(again) == outcome(whole)


def test_lost_learning_curves_are_no_obstacle(copy, whole):
    (copy / "losses.npz").write_bytes(b"half")
    again = train_study(TASK, copy, resume=True, **STUDY)
    assert np.isnan(again.loss).all()
    assert "losses.npz no longer has the learning curves of 8 networks" in again.notes
    assert outcome(again) == outcome(whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.1}, r"started with lr 0\.002, now 0\.1; use the same settings"),
        ({"steps": 13}, "steps 12, now 13"),
        ({"form": "current", "placement": "in"}, "form 'rate', now 'current'"),
    ],
)
def test_resuming_with_other_settings_names_the_difference(copy, change, message):
    with pytest.raises(InputError, match=message):
        train_study(TASK, copy, resume=True, **STUDY | change)


def test_resuming_another_task_is_refused(copy):
    with pytest.raises(InputError, match="holds a study of function-approximation, not of flip-flop"):
        train_study("flip-flop", copy, resume=True, **STUDY)
    with pytest.raises(InputError, match="counted 40, now 30"):
        train_study(get_task(TASK, counted=30), copy, resume=True, **STUDY)


def damage(copy, whole, kind):
    manifest, network = copy / "manifest.json", copy / whole.networks[0].file
    if kind == "half a manifest":
        manifest.write_bytes(manifest.read_bytes()[:700])
    elif kind == "manifest without networks":
        manifest.write_text('{"schema": "fpanalysis.study/1"}')
    elif kind == "other version":
        manifest.write_text(manifest.read_text().replace("study/1", "study/9"))
    elif kind == "half a network":
        network.write_bytes(network.read_bytes()[:700])
    elif kind == "another network":
        shutil.copy(copy / whole.networks[1].file, network)
    elif kind == "no manifest":
        manifest.unlink()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("half a manifest", "manifest.json is damaged"),
        ("manifest without networks", "manifest.json is damaged"),
        ("other version", "has schema 'fpanalysis.study/9'; this version reads 'fpanalysis.study/1'"),
        ("half a network", "damaged; delete it to have it trained again"),
        ("another network", "is not the network that manifest.json describes"),
        ("no manifest", "holds no study: there is no manifest.json in it"),
    ],
)
def test_what_is_damaged_is_named_and_left_alone(copy, whole, kind, message):
    damage(copy, whole, kind)
    before = {path: path.read_bytes() for path in copy.iterdir()}
    with pytest.raises(InputError, match=message):
        train_study(TASK, copy, resume=True, **STUDY)
    assert {path: path.read_bytes() for path in copy.iterdir()} == before


def test_a_folder_with_anything_in_it_is_refused(copy, tmp_path, whole):
    with pytest.raises(InputError, match=r"holds a study already \(8 of 8 networks trained\)"):
        train_study(TASK, copy, **STUDY)
    (copy / "manifest.json").unlink()
    with pytest.raises(InputError, match=r"holds other files \(losses.npz, relu-.*, \.\.\.\) and no manifest"):
        train_study(TASK, copy, **STUDY)
    (tmp_path / "file").touch()
    for folder, reason in (("file", "it is a file"), ("no/folder", "No such file")):
        with pytest.raises(InputError, match=reason):
            train_study(TASK, tmp_path / folder, **STUDY)
    with pytest.raises(InputError, match="no such folder"):
        train_study(TASK, tmp_path / "none", resume=True, **STUDY)
    with pytest.raises(InputError, match="holds no study"):
        read_study(tmp_path / "none")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    """As root every folder can be written to: the question is answered here in the system's place."""
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(InputError, match="no permission to write in the folder"):
        train_study(TASK, tmp_path / "s", **STUDY)


def test_a_file_in_the_way_of_a_pending_network_is_not_overwritten(copy, whole):
    (copy / "relu-N6-in-0.5-seed2.pt").write_text("mine")
    with pytest.raises(InputError, match=r"seed2\.pt is in the way of a network"):
        train_study(TASK, copy, resume=True, **STUDY | {"seed": (0, 1, 2)})
    assert (copy / "relu-N6-in-0.5-seed2.pt").read_text() == "mine"
    assert len(read_study(copy).networks) == 8


def test_a_second_run_in_the_same_folder_is_refused(copy):
    from fpanalysis.models import _study_folder

    with _study_folder.held(copy), pytest.raises(InputError, match="another run is training the study"):
        train_study(TASK, copy, resume=True, **STUDY)


def test_a_study_is_checked_one_network_at_a_time(tmp_path, monkeypatch):
    """Else a study of many levels needs the memory of all of them before it starts."""
    made = []
    monkeypatch.setattr(_study_plan, "Run", lambda task, settings: made.append((settings.M, settings.size)))
    lists = {"activation": "relu", "gamma": 0.2, "placement": ("in", "out"), "sigma": (0.1, 0.2), "seed": (0, 1)}
    _study_plan.planned(get_task(TASK), lists | {"size": (9, 6), "multiplicative": None}, {})
    assert made == [(1, 6)] * 4 + [(1, 9)]


def test_a_training_that_fails_has_a_status_and_no_file(tmp_path):
    seen = []
    study = train_study(TASK, tmp_path / "s", sigma=(0.5, 1e30), seed=(0, 1), progress=seen.append, **QUICK)
    assert seen[-1].done == seen[-1].total
    diverged = [n for n in study.networks if n.sigma == 1e30]
    assert [(n.status, n.step, n.file, n.final_loss) for n in diverged] == [
        (TrainingStatus.DIVERGED, 1, None, None)
    ] * 2
    assert set(diverged) <= set(study.failed)
    assert len(list(study.folder.glob("*.pt"))) == 2
    entry = json.loads((study.folder / "manifest.json").read_text())["networks"][1]
    assert (entry["status"], entry["step"], entry["file"], entry["hash"]) == ("diverged", 1, None, None)
    group = study.groups[1]
    assert group.count(TrainingStatus.DIVERGED) == 2
    assert np.isnan(group.final_loss).all()
    again = train_study(TASK, study.folder, resume=True, sigma=(0.5, 1e30), seed=(0, 1), **QUICK)
    assert again.notes == ("every network was trained already: nothing was done",)


def test_a_network_that_learned_nothing_is_not_called_trained(tmp_path):
    """An output of sin(pi u) + noise of standard deviation 20 / sqrt(9) about: worse than any constant."""
    study = train_study(TASK, tmp_path / "s", sigma=20, placement="out", **QUICK)
    (network,) = study.networks
    assert network.final_loss > study.constant_loss
    assert network.status is TrainingStatus.NOT_TRAINED
    assert fpa.load(study.folder / network.file).hash == network.hash


def test_the_best_constant_output_of_a_sine_is_zero():
    loss = constant_loss(get_task(TASK), 4096)
    # mean of sin^2 over a period: 1/2; standard deviation of sin^2: 1 / sqrt(8)
    assert abs(loss - 0.5) < 4 / np.sqrt(8 * 4096)
    assert constant_loss(get_task("regulator")) == pytest.approx(0.2**2)  # a constant target: an output of zero


def test_a_constant_target_is_no_reason_for_distrust(tmp_path):
    study = train_study("regulator", tmp_path / "s", steps=5, batch=8)
    assert [n.status for n in study.networks] == [TrainingStatus.TRAINED]


def test_stacks_keep_seeds_together_and_are_bounded():
    axes = {"activation": ["relu"], "size": [6, 8], "gamma": [0.2], "placement": ["in", "out"]}
    members = combinations(
        get_task(TASK), axes | {"sigma": [0.1, 0.2, 0.3], "multiplicative": [None], "seed": list(range(7))}
    )
    placed = stacked(members, {6: 16, 8: 4}, first=3)
    stacks = {k: [n for n in placed if n.stack == k] for k in {n.stack for n in placed}}
    assert min(stacks) == 3
    assert sorted(n.name for n in placed) == sorted(n.name for n in members)
    for stack in stacks.values():
        assert len({n.size for n in stack}) == 1
    large = [stack for stack in stacks.values() if stack[0].size == 6]
    assert {len(stack) for stack in large} <= {6, 12}
    assert len(large) == 4  # 7 seeds of 6 networks, at most 16: two seeds together
    assert all(len(stack) <= 4 for stack in stacks.values() if stack[0].size == 8)


def test_large_networks_train_in_small_stacks():
    task = get_task(TASK)
    assert _study_plan.largest_stack(task, 64, 32) == _study_plan.TOGETHER
    assert _study_plan.largest_stack(task, 2048, 32) < 4
    assert _study_plan.largest_stack(task, 20000, 32) == 1


def test_learning_curves_are_averages():
    losses = np.arange(1000, dtype=np.float32)[:, None] * [1, 2]
    losses[500:, 1] = np.inf
    curve = thinned(losses.astype(np.float32))
    edges = bins(1000)
    assert curve.shape == (2, len(edges) - 1) == (2, 100)
    np.testing.assert_allclose(curve[0], (edges[:-1] + edges[1:] - 1) / 2)
    assert np.isnan(curve[1]).sum() == 50


def test_groups_are_the_seeds(whole):
    assert len(whole.groups) == 4
    for group in whole.groups:
        assert [n.seed for n in group.networks] == [0, 1]
        losses = [n.final_loss for n in group.networks]
        assert group.final_loss.tolist() == [min(losses), pytest.approx(np.mean(losses)), max(losses)]
        assert group.curve.shape == (3, 12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"placement": "beside"}, "placement must be 'in' or 'out'; found 'beside'"),
        ({"form": "current"}, "leave it 'in'"),
        ({"activation": ("relu", "swish")}, "unknown activation 'swish'"),
        ({"sigma": (0.1, -1)}, "sigma must be >= 0"),
        ({"sigma": ()}, "sigma must be one value or several; found none"),
        ({"sigma": "much"}, "sigma must be a number; found 'much'"),
        ({"seed": 0.5}, "seed must be a whole number; found 0.5"),
        ({"seed": (0, -1)}, "seed must be whole numbers >= 0"),
        ({"size": 0}, "size must be a whole number >= 1"),
        ({"gamma": (0.2, 2)}, "gamma must lie in"),
        ({"processes": 0}, "processes must be a whole number >= 1"),
        ({"device": "abacus"}, "device must be one that torch can use here"),
        (
            {"activation": [{"name": "leaky_relu", "slope": 0.1}, {"name": "leaky_relu", "slope": 0.2}]},
            "two networks of the study would be called leaky_relu-N6-in-0.5-seed0",
        ),
    ],
)
def test_settings_that_make_no_network_are_named_before_anything_is_made(tmp_path, change, message):
    with pytest.raises(InputError, match=message):
        train_study(TASK, tmp_path / "s", **STUDY | change)
    assert not (tmp_path / "s").exists()
