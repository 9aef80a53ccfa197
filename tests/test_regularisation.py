"""The page docs/regularisation.md says what its numbers say."""

from __future__ import annotations

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = SimpleNamespace(**runpy.run_path(str(DOCS / "regularisation.py")))


def test_the_page_is_what_its_script_makes_of_the_numbers():
    results = PAGE.read()
    assert set(results) == {f"{group.name}-seed{seed}" for group in PAGE.GROUPS for seed in range(PAGE.SEEDS)}
    assert PAGE.page(results) == (DOCS / "regularisation.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "claimed", "verdict"),
    [(0.5, 1, "**yes**"), (-0.5, 1, "**opposite**"), (-0.5, -1, "**yes**"), (0, 1, "open")],
)
def test_verdicts_of_a_known_change(change, claimed, verdict):
    group = next(group for group in PAGE.GROUPS if group.clean)
    measure = PAGE.Measure("margin", "margin", claimed)
    wobble = 0.01 * np.random.default_rng(0).standard_normal(PAGE.SEEDS)
    wobble -= wobble.mean()
    results = {f"{group.clean}-seed{seed}": {"margin": 2.0} for seed in range(PAGE.SEEDS)}
    results |= {f"{group.name}-seed{seed}": {"margin": 2 * np.exp(change + wobble[seed])} for seed in range(PAGE.SEEDS)}
    mean, half = PAGE.compared(results, group, measure)
    assert mean == pytest.approx(change, abs=1e-12)
    assert half == pytest.approx(2.5706 * wobble.std(ddof=1) / np.sqrt(PAGE.SEEDS), rel=1e-3)  # t of 5 degrees
    assert PAGE.change((mean, half), measure).endswith(verdict)


def test_a_change_of_sign_has_no_ratio():
    group = next(group for group in PAGE.GROUPS if group.clean)
    results = {
        f"{name}-seed{seed}": {"trace": -1.0} for name in (group.name, group.clean) for seed in range(PAGE.SEEDS)
    }
    measure = PAGE.Measure("trace", "trace", -1)
    assert PAGE.compared(results, group, measure) is None
    assert PAGE.change(None, measure) == "-"
