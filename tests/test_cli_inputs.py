"""Inputs to analyse at: commands take and print the names that a task has for its conditions."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.cli._inputs import called, chosen, names
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """An untrained network of three tasks: 3 + 2 * 4 conditions of 20 numbers."""
    task = get_task("cognitive", rules="go,dms,rt-anti", ring=8)
    weights = {name: np.float64(part) for name, part in task.initialize(5, rng=0).items()}
    inputs, targets = task.conditions()
    info = {"task": "cognitive", "task_settings": task.settings()}
    net = fpa.Network(**weights, gamma=0.2, sigma=0.1, conditions=inputs, targets=targets, info=info)
    path = tmp_path_factory.mktemp("cognitive") / "net.pt"
    fpa.save(net, path)
    return path


def test_commands_know_conditions_by_name(file, tmp_path):
    def run(*arguments, code=0):
        words = [arguments[0], str(file), *map(str, arguments[1:])]
        done = CliRunner().invoke(main, words, env={"COLUMNS": "120"})  # wide enough for the names not to be wrapped
        assert done.exit_code == code, done.output
        return done.output

    net, task = fpa.load(file), get_task("cognitive", rules="go,dms,rt-anti", ring=8)
    assert "; dms waiting; " in run("inspect")
    assert json.loads(run("inspect", "--json", "-"))["condition_names"] == task.condition_names
    two = ["--input", "go responding to 90", "--input", "dms waiting"]
    for command, of in (("fixed-points", "input"), ("stationary", "input"), ("bias", "input"), ("shift", None)):
        document = json.loads(run(command, *two, "--json", "-"))
        if of:
            assert [part["input"] for part in document["conditions"]] == net.conditions[[2, 5]].tolist()
            assert "go responding" in run(command, *two)  # the rest may stand on the next line
    figure = tmp_path / "points.png"
    run("fixed-points", *two, "--figure", figure)
    assert figure.stat().st_size
    refused = run("shift", "--input", "go jumping", code=1)
    assert "--input 'go jumping': no condition is called so; known: go waiting, go responding to 0" in refused


@pytest.mark.parametrize("command", ["fixed-points", "shift", "stationary", "bias"])
def test_a_network_that_steers_a_point_is_said_to_be_held(command, tmp_path):
    task = get_task("maze")
    weights = {name: 0.3 * part for name, part in task.initialize(4, rng=0).items()}
    path = tmp_path / "maze.pt"
    for info, noted in (({"task": "maze", "task_settings": task.settings()}, True), ({}, False)):
        fpa.save(fpa.Network(**weights, gamma=0.2, sigma=0.1, info=info), path)
        done = CliRunner().invoke(main, [command, str(path), "--input", "0.4,-0.2", "--json", "-"])
        assert done.exit_code == 0
        assert json.loads(done.stdout)["schema"] == f"fpanalysis.{command}/1"
        assert ("Here its input is held, as it never is in the task" in done.stderr) == noted


def test_conditions_without_names_go_by_their_number(file):
    net = fpa.load(file)
    others = dataclasses.replace(net, conditions=2 * net.conditions, targets=None)
    assert names(others)[5] == "condition 5"
    assert called(others, others.conditions[5]) == "condition 5"
    assert chosen(others, ("condition 5",)) == [others.conditions[5].tolist()]
    assert called(others, net.conditions[5]) == "1,0,0,0,0,0,0,0,..."
    strange = dataclasses.replace(net, info={"task": "cognitive", "task_settings": {"ring": "many"}})
    assert names(strange)[0] == "condition 0"
    few = fpa.Network(W=[[0.5]], b=[0.1], W_in=[[1.0]], conditions=[[0.5]])
    assert (names(few), called(few, few.conditions[0])) == ([], "0.5")
    with pytest.raises(InputError, match="the conditions of this network have no names"):
        chosen(few, ("go waiting",))
    assert chosen(few, ((0.25,),)) == [[0.25]]
