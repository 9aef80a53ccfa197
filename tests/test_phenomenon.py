"""The generated page: its words, numbers and figures belong together, and one study is refreshed by itself."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import shlex
import sys
from pathlib import Path

import pytest

import fpanalysis as fpa
from fpanalysis.models import sweep

ROOT = Path(__file__).parents[1]
NETWORKS = ROOT / "examples" / "networks"


@pytest.fixture(scope="module")
def phenomenon():
    spec = importlib.util.spec_from_file_location("phenomenon", ROOT / "docs" / "phenomenon.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["phenomenon"] = module  # where its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def regulators():
    one = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    return {"a": one, "b": dataclasses.replace(one, b=one.b + 0.3)}


def test_the_page_is_what_the_script_makes_of_the_kept_numbers(phenomenon):
    """Edit the words in docs/phenomenon.py, then run it: never the page."""
    results = phenomenon.read()
    assert results
    assert (ROOT / "docs" / "phenomenon.md").read_text(encoding="utf-8") == phenomenon.page(results)
    for name in results:
        assert (ROOT / "docs" / "figures" / f"phenomenon-{name}.png").exists()


def test_names_are_told_apart_and_the_numbers_are_those_of_the_commands(phenomenon):
    studies = [study for family in phenomenon.FAMILIES for study in family.studies]
    assert len({study.name for study in studies}) == len(studies)
    assert set(phenomenon.read()) <= {study.name for study in studies}
    for study in studies:
        words = shlex.split(study.train)
        options = dict(zip(words[1::2], words[2::2], strict=True))
        result = phenomenon.read().get(study.name)
        if result is not None:
            assert {group["task"] for group in result["groups"]} == {words[0]}
            asked = {float(level) for level in options["--noise"].split(",")}
            assert {group["sigma"] for group in result["groups"]} == asked


def test_every_command_of_the_page_can_be_typed_and_was(phenomenon):
    from fpanalysis.cli.train import command
    from fpanalysis.tasks import get_task

    for study in (study for family in phenomenon.FAMILIES for study in family.studies):
        typed = command.make_context("train", [*shlex.split(study.train), "-o", study.name]).params
        get_task(typed["task"], **dict(typed["setting"]), layers=typed["layers"])
        measured = phenomenon.read()[study.name]
        assert sum(group["networks"] for group in measured["groups"]) == typed["seeds"] * len(measured["groups"])
        assert study.found


def test_a_study_is_added_and_refreshed_by_itself(phenomenon, regulators, tmp_path, capsys):
    home, studies = tmp_path / "docs", tmp_path / "studies"
    (studies / "regulator").mkdir(parents=True)
    home.mkdir()
    for name, net in regulators.items():
        fpa.save(net, studies / "regulator" / f"{name}.pt")
    (studies / "regulator" / "half.pt").write_text("half")
    runs = [{"seconds": 100.0, "cpu_seconds": 150.0}, {"seconds": 20.0, "cpu_seconds": 30.0}]
    (studies / "regulator" / "manifest.json").write_text(json.dumps({"networks": [], "runs": runs}))
    other = phenomenon.read()["regulator"]
    (home / "phenomenon.json").write_text(json.dumps({"maze": other}))
    phenomenon.main([str(studies)], home)
    assert "judged: regulator" in capsys.readouterr().out
    results = phenomenon.read(home)
    assert results["maze"] == other
    group = sweep(regulators).groups[0]
    assert results["regulator"]["groups"][0]["ratio"] == group.spread("ratio")._asdict()
    page = (home / "phenomenon.md").read_text(encoding="utf-8")
    assert f"| relu in | 0.5 | 2 | {phenomenon.cell(group.spread('ratio')._asdict())} |" in page
    assert "Training took 2 min (3 min of CPU time)" in page
    assert "Left out: half (" in page
    error = max(judged.ratio_error / judged.numbers["ratio"] for judged in group.networks)
    assert f"R of each network is known to {100 * error:.2g} % (95 %)" in page
    assert "## Maze navigation" in page
    assert (home / "figures" / "phenomenon-regulator.png").stat().st_size > 10_000


def test_what_is_not_there_is_said(phenomenon, tmp_path):
    with pytest.raises(SystemExit, match="unknown study 'nothing'; known: function-approximation-relu"):
        phenomenon.main([str(tmp_path), "nothing"], tmp_path)
    with pytest.raises(SystemExit, match="train it first"):
        phenomenon.main([str(tmp_path), "maze"], tmp_path)
    assert not (tmp_path / "phenomenon.md").exists()


def test_numbers_as_they_are_told(phenomenon):
    cell = phenomenon.cell
    assert cell({"median": 0.0123, "low": 0.0119, "high": 0.02}) == "0.012 (0.012 to 0.02)"
    assert cell({"median": 151.2, "low": 151.0, "high": 151.4}) == "151"
    assert cell({"median": None, "low": None, "high": None}) == "-"
