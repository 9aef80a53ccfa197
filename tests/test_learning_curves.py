"""The picture of learning curves holds the numbers of the study, and nothing that is not in it."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fpanalysis.figures import learning_curves_figure, plot_learning_curves
from fpanalysis.models import train_study

TASK = "function-approximation"


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    axes = {"sigma": (0.1, 0.5, 1e30), "placement": ("in", "out"), "seed": (0, 1, 2)}
    return train_study(TASK, tmp_path_factory.mktemp("study") / "s", size=6, steps=30, batch=4, **axes)


def test_a_panel_per_placement_with_the_median_of_each_level(study):
    figure = learning_curves_figure(study)
    titles = [ax.get_title() for ax in figure.axes]
    assert titles == ["relu, noise in", "relu, noise out"]
    for ax, placement in zip(figure.axes, ("in", "out"), strict=True):
        lines = {line.get_label(): line for line in ax.get_lines()}
        assert {"0.1", "0.5", "1e+30", "constant output", "diverged"} <= set(lines)
        for group in study.groups:
            if group.first.placement == placement and group.first.sigma < 1:
                drawn = lines[f"{group.first.sigma:g}"]
                np.testing.assert_array_equal(drawn.get_ydata(), group.curve[1])
                np.testing.assert_array_equal(drawn.get_xdata(), study.step)
        np.testing.assert_array_equal(lines["diverged"].get_xdata(), [1, 1, 1])
    assert {text.get_text() for text in figure.legends[0].get_texts()} == set(lines)


def test_one_group_on_axes_of_ones_own(study):
    _, ax = plt.subplots()
    assert plot_learning_curves(study, ax, study.groups[:1]) is ax
    assert [line.get_label() for line in ax.get_lines()] == ["0.1", "constant output"]
    plt.close("all")


def test_placements_that_share_axes_are_told_apart(study):
    ax = plot_learning_curves(study, groups=study.groups[:2] + study.groups[3:5])
    styles = {line.get_label(): line.get_linestyle() for line in ax.get_lines()}
    assert styles["0.1 (relu, noise in)"] != styles["0.1 (relu, noise out)"]
    plt.close("all")
