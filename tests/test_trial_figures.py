"""Pictures of trials show the arrays that they were given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from fpanalysis import figures
from fpanalysis.results import InputError


@pytest.fixture
def trial():
    rng = np.random.default_rng(0)
    return rng.random((30, 13)), 0.05 + rng.random((30, 6)), rng.random((30, 6))


def test_strips_hold_the_arrays(trial):
    inputs, targets, outputs = trial
    ax = figures.plot_trial(*trial, go=20, dt=0.02, title="Go")
    parts = [inputs[:, :1], inputs[:, 1:6], inputs[:, 6:11], *(z[:, s] for z in (targets, outputs) for s in
             (slice(1), slice(1, 6)))]  # fmt: skip
    assert len(ax.images) == 7
    for image, part in zip(ax.images, parts, strict=True):
        np.testing.assert_array_equal(image.get_array(), part.T)
        assert image.get_extent()[:2] == [0, pytest.approx(0.6)]
    heights = np.array([image.get_extent()[2:] for image in ax.images])
    assert (heights[1:, 1] < heights[:-1, 0]).all(), "strips do not overlap"
    assert ax.get_lines()[-1].get_xdata() == pytest.approx([0.4, 0.4])
    assert [text.get_text() for text in ax.get_yticklabels()].count("output") == 1
    plt.close(ax.figure)


def test_a_panel_for_each_trial_on_one_scale_of_time(trial, tmp_path):
    short = [part[:10] for part in trial]
    figure = figures.trials_figure(["a", "b", "c", "d", "e"], *zip(trial, *[short] * 4, strict=True), go=[20] + [5] * 4)
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == list("abcde")
    np.testing.assert_allclose([ax.get_xlim() for ax in shown], [(0, 0.6)] * 5)
    figure.savefig(tmp_path / "trials.png")
    assert (tmp_path / "trials.png").stat().st_size > 1000


def test_arrays_that_do_not_fit_are_refused(trial):
    with pytest.raises(InputError, match=r"targets and outputs \(T, 1 \+ n\); found shapes \(30, 13\), \(30, 6\)"):
        figures.plot_trial(trial[0], trial[1], trial[2][:, :4], go=20)
    with pytest.raises(InputError, match="must be as many, at least one; found 2, 1, 1, 1, 1"):
        figures.trials_figure(["a", "b"], *([part] for part in trial), go=[3])
