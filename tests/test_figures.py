"""Figures draw what the result holds: the lines' data are the dataset's."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis import figures


@pytest.fixture
def result():
    net = fpa.Network(
        W=[[0.2]],
        b=[0.1],
        W_in=[[1.0]],
        gamma=0.2,
        sigma=0.4,
        conditions=[[1.0], [-1.0], [0.0]],
        targets=[[1.0], [0], [0.2]],
    )
    return fpa.shift(net, sigma=(0, 0.2, 0.4), methods=("closure",))


def test_outputs_against_inputs(result):
    ax = figures.plot_outputs(result)
    target, fixed, noisy = ax.get_lines()[:3]
    np.testing.assert_array_equal(target.get_data(), [[-1, 0, 1], [0, 0.2, 1.0]])
    np.testing.assert_array_equal(fixed.get_ydata(), result.dataset.z_star.values[[1, 2, 0], 0, 0])
    np.testing.assert_array_equal(noisy.get_ydata(), result.dataset.output.values[2, [1, 2, 0], 0, 0, 0])
    plt.close(ax.figure)


def test_one_condition_is_drawn_against_the_noise():
    net = fpa.Network(W=[[0.2]], b=[0.1], gamma=0.2, sigma=0.4, conditions=np.empty((1, 0)), targets=[[0.3]])
    result = fpa.shift(net, sigma=(0, 0.2, 0.4), methods=("closure",))
    ax = figures.plot_outputs(result)
    target, fixed, noisy = ax.get_lines()[:3]
    assert set(target.get_ydata()) == {0.3}
    assert set(fixed.get_ydata()) == {result.dataset.z_star.item()}
    np.testing.assert_array_equal(noisy.get_data(), [[0, 0.2, 0.4], result.dataset.output.values[:, 0, 0, 0, 0]])
    plt.close(ax.figure)


def test_several_inputs_are_drawn_by_condition():
    net = fpa.Network(W=[[0.2]], W_in=[[1.0, 2.0]], gamma=0.2, sigma=0.4, conditions=[[1, 0], [0, 1], [0, 0]])
    ax = figures.plot_outputs(fpa.shift(net, sigma=(0.4,), methods=("closure",)))
    assert ax.get_xlabel() == "condition"
    assert len(ax.get_lines()[0].get_xdata()) == 3
    plt.close(ax.figure)


def test_shift_against_noise(result):
    ax = figures.plot_shift(result)
    neurons = ax.get_lines()[0]
    np.testing.assert_array_equal(neurons.get_xdata(), [0, 0.2, 0.4])
    np.testing.assert_allclose(neurons.get_ydata(), [level.shift for level in result.levels], rtol=1e-14)
    plt.close(ax.figure)


def test_given_axes_are_used(result):
    figure, (left, right) = plt.subplots(1, 2)
    assert figures.plot_outputs(result, left) is left
    assert figures.plot_shift(result, right) is right
    plt.close(figure)


def test_the_figure_has_both_and_can_be_saved(result, tmp_path):
    figure = figures.shift_figure(result)
    assert len(figure.axes) == 2
    figure.savefig(tmp_path / "x.png")
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_a_result_without_numbers_can_be_drawn():
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    figure = figures.shift_figure(fpa.shift(net, sigma=(0.0, 0.2), methods=("closure",)))
    assert len(figure.axes) == 2


@pytest.fixture
def branches():
    net = fpa.Network(W=[[0, -1], [-1, 0]], W_out=[[2.0, 0]], activation="tanh", gamma=0.5)
    return fpa.continue_fixed_points(net, "scale", 0.3, 4)


@pytest.mark.parametrize(
    ("coordinate", "value"),
    [("z[0]", lambda h: 2 * h[:, 0]), ("h[1]", lambda h: h[:, 1]), (lambda h: h.sum(axis=1), lambda h: h.sum(axis=1))],
)
def test_branches_are_drawn_whole(branches, coordinate, value):
    ax = figures.plot_bifurcations(branches, coordinate=coordinate)
    drawn = [line.get_xydata() for line in ax.get_lines() if line.get_marker() == "None"]
    expected = [np.column_stack([branch.p, value(branch.h)]) for branch in branches]
    np.testing.assert_array_equal(np.unique(np.vstack(drawn), axis=0), np.unique(np.vstack(expected), axis=0))
    plt.close(ax.figure)


def test_stability_and_special_points_are_told_apart(branches):
    ax = figures.plot_bifurcations(branches, coordinate="h[0]")
    trivial = [line for line in ax.get_lines() if len(line.get_xdata()) > 1 and max(abs(line.get_ydata())) < 1e-20]
    ends = {line.get_linestyle(): (line.get_xdata().min(), line.get_xdata().max()) for line in trivial}
    assert ends["-"] == pytest.approx((0.3, 1))  # up to the pitchfork
    assert ends["--"] == pytest.approx((1, 4))
    labels = ax.get_legend_handles_labels()[1]
    assert sorted(labels) == ["flip", "pitchfork", "stable", "unstable"]
    marks = [line.get_xdata()[0] for line in ax.get_lines() if line.get_marker() != "None"]
    assert marks == [point.p for point in branches.points]
    plt.close(ax.figure)


def test_every_kind_of_special_point_has_a_marker():
    from fpanalysis.fixed_points import bifurcations as b

    kinds = {b.FOLD, b.PITCHFORK, b.TRANSCRITICAL, b.BRANCH_POINT, b.FLIP, b.NEIMARK_SACKER, b.BORDER}
    assert set(figures.SPECIAL_POINTS) == kinds


@pytest.mark.parametrize("coordinate", ["z[1]", "h[2]", "x", "h[-1]", "z[0"])
def test_unknown_coordinates(branches, coordinate):
    with pytest.raises(fpa.InputError, match="coordinate must be"):
        figures.plot_bifurcations(branches, coordinate=coordinate)
    plt.close("all")
