"""Figures draw what the result holds: the lines' data are the dataset's."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from problems import low_rank_network, random_network, ring_network

import fpanalysis as fpa
from fpanalysis import figures
from fpanalysis.figures import densities, points
from fpanalysis.results import Provenance, Status
from fpanalysis.stationary import Basin, Density, Stationary


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
    from fpanalysis.fixed_points.continuation import bifurcations as b

    kinds = {b.FOLD, b.PITCHFORK, b.TRANSCRITICAL, b.BRANCH_POINT, b.FLIP, b.NEIMARK_SACKER, b.BORDER}
    assert set(figures.SPECIAL_POINTS) == kinds


@pytest.mark.parametrize("coordinate", ["z[1]", "h[2]", "x", "h[-1]", "z[0"])
def test_unknown_coordinates(branches, coordinate):
    with pytest.raises(fpa.InputError, match="coordinate must be"):
        figures.plot_bifurcations(branches, coordinate=coordinate)
    plt.close("all")


@pytest.fixture(scope="module")
def winners():
    """Two units that inhibit each other: (0, 1) and (1, 0) are stable, (1/3, 1/3) is a saddle along (1, -1)."""
    return fpa.find_fixed_points(fpa.Network(W=[[0, -2.0], [-2.0, 0]], b=[1.0, 1.0], gamma=0.1))


@pytest.fixture(scope="module")
def many():
    return fpa.find_fixed_points(low_rank_network(16, 3, gain=2.0, gamma=0.2))


def drawn(ax, label):
    return next(line for line in ax.get_lines() if line.get_label() == label)


def test_fixed_points_by_stability(winners):
    ax = figures.plot_fixed_points(winners)
    stable = drawn(ax, "stable").get_xydata()
    np.testing.assert_allclose(stable[np.argsort(stable[:, 0])], [[0, 1], [1, 0]], atol=1e-14)
    np.testing.assert_allclose(drawn(ax, "unstable in 1 dimension").get_xydata(), [[1 / 3, 1 / 3]], atol=1e-14)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["2 stable", "1 unstable in 1 dimension", "unstable direction"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("state h[0]", "state h[1]")
    plt.close(ax.figure)


def test_the_unstable_direction_is_a_line_through_the_saddle(winners):
    ax = figures.plot_fixed_points(winners)
    (segment,) = [line.get_xydata() for line in ax.get_lines() if line.get_marker() == "None"]
    np.testing.assert_allclose(segment.mean(axis=0), [1 / 3, 1 / 3], atol=1e-14)
    along = np.diff(segment, axis=0)[0]
    assert along[0] == pytest.approx(-along[1])
    assert np.linalg.norm(along) == pytest.approx(points.SEGMENT)  # of the points' extent, 1
    plt.close(ax.figure)


def test_trajectories_are_drawn_as_they_are(winners):
    paths = winners.trajectories(count=10, steps=20)
    ax = figures.plot_fixed_points(winners, trajectories=paths)
    lines = [line.get_xydata() for line in ax.get_lines() if len(line.get_xdata()) == 21]
    np.testing.assert_array_equal(np.stack(lines, axis=1), paths)
    assert "trajectory, from the dot" in [text.get_text() for text in ax.get_legend().get_texts()]
    plt.close(ax.figure)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_axes_are_principal_components(many, dimensions):
    """Their variances are the leading eigenvalues of the points' covariance, and uncorrelated."""
    figure = plt.figure()
    ax = figure.add_subplot(projection="3d" if dimensions == 3 else None)
    figures.plot_fixed_points(many, ax, many.trajectories(steps=3))
    marks = [line for line in ax.get_lines() if line.get_label() in figures.POINT_STYLES]
    data = np.hstack([np.array(line.get_data_3d() if dimensions == 3 else line.get_data()) for line in marks])
    assert data.shape == (dimensions, len(many))
    variances = np.linalg.eigvalsh(np.cov(many.h.T))[::-1]
    np.testing.assert_allclose(np.cov(data), np.diag(variances[:dimensions]), atol=1e-12 * variances[0])
    assert ax.get_ylabel().startswith(f"PC 2 ({100 * variances[1] / variances.sum():.0f} %")
    plt.close(figure)


def test_one_point_is_drawn_in_the_components_of_its_trajectories():
    fps = fpa.find_fixed_points(low_rank_network(8, 2, gain=0.5))
    paths = fps.trajectories(steps=9)
    ax = figures.plot_fixed_points(fps, trajectories=paths)
    data = np.vstack([fps.h, paths.reshape(-1, 8)])
    variances = np.linalg.eigvalsh(np.cov(data.T))[::-1]
    assert ax.get_xlabel() == f"PC 1 ({100 * variances[0] / variances.sum():.0f} % of the variance)"
    assert len(drawn(ax, "stable").get_xdata()) == len(fps) == 1
    plt.close(ax.figure)
    figures.plot_fixed_points(fps)  # without them its axes mean nothing, but it is drawn
    plt.close("all")


def test_one_neuron_is_drawn_against_time():
    fps = fpa.find_fixed_points(fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", gamma=0.1))
    paths = fps.trajectories(count=6, steps=30)
    ax = figures.plot_fixed_points(fps, trajectories=paths)
    lines = [line.get_ydata() for line in ax.get_lines() if len(line.get_xdata()) == 31]
    np.testing.assert_array_equal(np.stack(lines, axis=1), paths[:, :, 0])
    marks = [line.get_ydata()[0] for line in ax.get_lines() if line.get_marker() in ("o", "^")]
    np.testing.assert_array_equal(marks, fps.h[:, 0])
    assert ax.get_xlabel() == "step"
    plt.close(ax.figure)


def test_points_that_the_jacobian_does_not_decide_are_marked():
    line = fpa.find_fixed_points(fpa.Network(W=[[0.5, 0.5], [0.5, 0.5]]))
    ax = figures.plot_fixed_points(line)
    np.testing.assert_array_equal(drawn(ax, "singular").get_xydata(), line.h[1:])
    np.testing.assert_array_equal(line.h[0], 0)  # where the line ends, on the kinks
    kink = fpa.find_fixed_points(fpa.Network(W=[[2.0]]))  # h = f(2 h): 0, which repels on the right
    assert points._kinds(kink) == ["not stable: on a kink"]
    plt.close(ax.figure)
    ring = fpa.find_fixed_points(ring_network(), prove=False)  # its eigenvalues lie on both sides of 1, by rounding
    assert sorted(set(points._kinds(ring))) == ["singular", "unstable in 2 dimensions"]


def test_a_panel_for_each_input(winners):
    paths = winners.trajectories(count=5, steps=5)
    figure = figures.fixed_points_figure([winners] * 4, [paths, None, None, None])
    assert len(figure.axes) == 4
    assert [text.get_text() for text in figure.legends[0].get_texts()][:2] == ["stable", "unstable in 1 dimension"]
    assert figure.axes[0].get_title() == "3 fixed points"
    with pytest.raises(fpa.InputError, match="1 to 12 panels"):
        figures.fixed_points_figure([winners] * 13, [None] * 13)


def test_trajectories_of_another_network(winners, many):
    with pytest.raises(fpa.InputError, match=r"trajectories must be \(T, M, 2\)"):
        figures.plot_fixed_points(winners, trajectories=many.trajectories(steps=2))
    plt.close("all")


@pytest.mark.parametrize("N", [1, 2, 3])
def test_a_network_without_fixed_points_is_drawn(N):
    fps = fpa.find_fixed_points(fpa.Network(W=2 * np.eye(N), b=np.ones(N)))  # h = f(2 h + 1) has no solution
    paths = fps.trajectories(count=10)
    ax = figures.plot_fixed_points(fps, trajectories=paths)
    assert sum(len(line.get_xdata()) == len(paths) for line in ax.get_lines()) == paths.shape[1] == 2
    assert len(figures.plot_fixed_points(fps).get_lines()) == 0
    plt.close("all")


WELLS = fpa.Network(W=[[2.0]], b=[0.05], gamma=0.1, activation="tanh", sigma=1.0)


def law(method="chain", density=None, net=WELLS, marginals=None, **settings):
    """A law that holds what it is told."""
    settings = {"mean": np.full(net.N, 0.3), "status": Status.OK, "details": {}} | settings
    return Stationary(
        cov=np.eye(net.N),
        error=np.zeros(net.N),
        output=net.output(settings["mean"]),
        output_error=np.zeros(net.n_out),
        method=method,
        scope="global",
        start=np.zeros(net.N),
        provenance=Provenance(method, net.hash),
        densities=(density, marginals or {}),
        **settings,
    )


def gaussian(name="neuron 0", mean=0.0, mass=1.0, n=201, **settings):
    x = np.linspace(mean - 5, mean + 5, n)
    values = mass * np.exp(-((x - mean) ** 2) / 2) / np.sqrt(2 * np.pi)
    return Density((name,), (x,), values, (np.full(n, x[1] - x[0]),), **settings)


@pytest.fixture
def joint():
    """Independent Gaussians of deviation 1 and 0.5 on unlike grids, and a point mass."""
    x, y = np.linspace(-5, 5, 101), np.linspace(-3, 3, 161)
    p = np.multiply.outer(np.exp(-(x**2) / 2), np.exp(-2 * y**2)) * 0.9 / np.pi
    w = tuple(np.full(len(g), g[1] - g[0]) for g in (x, y))
    return Density(("neuron 0", "neuron 1"), (x, y), p, w, atoms=((np.array([0.5, -0.5]), 0.1),))


def test_marginals_of_a_density(joint):
    assert joint.mass == pytest.approx(1, abs=1e-6)
    one = joint.marginal("neuron 1")
    (y,) = one.grids
    np.testing.assert_allclose(one.values, 0.9 * np.exp(-2 * y**2) * np.sqrt(2 / np.pi), atol=1e-6)
    assert [(at.tolist(), p) for at, p in one.atoms] == [([-0.5], 0.1)]
    assert one.mass == pytest.approx(joint.mass, rel=1e-14)
    turned = joint.marginal("neuron 1", "neuron 0")
    np.testing.assert_array_equal(turned.values, joint.values.T)
    np.testing.assert_array_equal(turned.atoms[0][0], [-0.5, 0.5])
    with pytest.raises(fpa.InputError, match="neuron 0, neuron 1; found neuron 2"):
        joint.marginal("neuron 2")


def test_densities_of_one_neuron(many_wells):
    """Curves, histogram and stem are what the laws hold; means and basins stand above, fixed points on the axis."""
    x, w = np.linspace(-0.9, 0.9, 10), np.full(10, 0.2)
    estimate = Density(("neuron 0",), (x,), np.linspace(0.2, 0.8, 10), (w,), error=np.full(10, 0.05))
    basins = [Basin(p, np.array([m]), np.eye(1), np.array([h])) for p, m, h in ((0.25, -0.7, -0.9), (0.75, 0.6, 1.0))]
    exact = gaussian(mass=0.8, atoms=((np.array([0.5]), 0.2),))
    laws = [
        law("chain", exact, basins=tuple(basins)),
        law("fokker-planck", gaussian(mean=0.1), status=Status.DIFFUSION),
        law("monte-carlo", marginals={"neuron 0": estimate}),
        law("closure", mean=np.array([0.4])),
    ]
    ax = figures.plot_density(laws, points=many_wells)
    chain, stem, top, diffusion = ax.get_lines()[:4]
    np.testing.assert_array_equal(chain.get_data(), [exact.grids[0], exact.values])
    assert (stem.get_xydata().tolist(), top.get_ydata().tolist()) == ([[0.5, 0], [0.5, 0.2]], [0.2])
    assert diffusion.get_linestyle() == "--"
    (steps,) = [patch for patch in ax.patches if hasattr(patch, "get_data")]
    np.testing.assert_array_equal(steps.get_data().values, estimate.values)
    np.testing.assert_allclose(steps.get_data().edges, np.linspace(-1, 1, 11), atol=1e-15)
    marks = [line for line in ax.get_lines() if len(line.get_ydata()) == 1 and line.get_ydata()[0] >= densities.ABOVE]
    above = [line.get_xdata()[0] for line in marks]
    assert above == [0.3, -0.7, 0.6, 0.3, 0.3, 0.4]
    assert len({line.get_ydata()[0] for line in marks}) > 1  # a row for each law
    marks = drawn(ax, "stable fixed point").get_xdata(), drawn(ax, "fixed point, not stable").get_xdata()
    np.testing.assert_array_equal(marks[0], many_wells.h[many_wells.stable, 0])
    np.testing.assert_array_equal(marks[1], many_wells.h[~many_wells.stable, 0])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        "chain",
        "point mass (its height: its probability)",
        "fokker-planck (diffusion approximation)",
        "monte-carlo",
        "closure: its mean only",
        "mean",
        "basin mean, with its weight",
        "stable fixed point",
        "fixed point, not stable",
    ]
    assert {text.get_text() for text in ax.texts} == {"0.2", "0.25", "0.75"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("state h[0]", "probability density (per unit of h[0])")
    plt.close(ax.figure)


@pytest.fixture(scope="module")
def many_wells():
    return fpa.find_fixed_points(WELLS)


def test_laws_by_one_method_are_told_apart():
    ax = figures.plot_density([law(density=gaussian()), law(density=gaussian(mean=1.0))], labels=["0.1", "0.2"])
    first, second = ax.get_lines()[:2]
    assert first.get_color() != second.get_color()
    assert (first.get_label(), second.get_label()) == ("0.1", "0.2")
    plt.close(ax.figure)


def test_a_spike_leaves_the_axes_and_nothing_else_does():
    x = np.linspace(0, 1, 1001)
    spike = Density(("neuron 0",), (x,), np.where(x < 0.0015, 300.0, 0.4), (np.full(1001, 1e-3),))  # 0.6 in two cells
    thin = Density(("neuron 0",), (x,), np.where(x < 0.0005, 50.0, 0.95), (np.full(1001, 1e-3),))  # 0.05 in one
    heights = [figures.plot_density(law(density=d)).get_ylim()[1] for d in (gaussian(), spike, thin)]
    assert heights == pytest.approx([1.12 / np.sqrt(2 * np.pi), 1.12 * 300, 1.12 * 0.95])
    plt.close("all")


def test_joint_density_of_two_neurons(joint):
    net = fpa.Network(W=[[0, -2.0], [-2.0, 0]], b=[1.0, 1.0])
    fps = fpa.find_fixed_points(net)
    basin = Basin(0.4, np.array([0.2, 0.7]), np.eye(2), np.array([0.0, 1.0]))
    st = law(density=joint, net=net, basins=(basin,), mean=np.array([0.1, 0.2]))
    ax = figures.plot_density_2d(st, points=fps)
    np.testing.assert_array_equal(drawn(ax, "stable fixed point").get_xydata(), fps.h[fps.stable])
    np.testing.assert_array_equal(drawn(ax, "fixed point, not stable").get_xydata(), fps.h[~fps.stable])
    np.testing.assert_array_equal(drawn(ax, "mean").get_xydata(), [[0.1, 0.2]])
    np.testing.assert_array_equal(drawn(ax, "basin mean, with its weight").get_xydata(), [[0.2, 0.7]])
    assert {text.get_text() for text in ax.texts} == {"0.1", "0.4"}
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("state h[0]", "state h[1]")
    plt.close(ax.figure)


def test_regions_hold_what_the_legend_says(joint):
    """The highest density regions of a Gaussian are ellipses with -2 log(1 - content) = r^2."""
    ax = figures.plot_density_2d(law(density=joint, net=fpa.Network(W=np.zeros((2, 2)))))
    lines = ax.collections[1]
    p0 = 0.9 / np.pi
    np.testing.assert_allclose(lines.levels, p0 * (1 - np.array(densities.CONTENTS)), rtol=0.05)
    texts = [text.get_text() for text in ax.get_legend().get_texts()]
    assert texts == ["50 % within", "90 % within", "99 % within", "99.9 % within", "point mass", "mean"]
    plt.close(ax.figure)


def test_coordinates_are_those_of_the_law():
    """y = L^T h for means and fixed points, where the law says what L is."""
    net = low_rank_network(6, 1, gain=2.0)
    fps = fpa.find_fixed_points(net)
    L = np.ones((6, 1)) / 6
    st = law("reduced", gaussian("coordinate 0"), net=net, details={"L": L})
    ax = figures.plot_density(st, points=fps)
    np.testing.assert_allclose(drawn(ax, "stable fixed point").get_xdata(), fps.h[fps.stable].mean(axis=1))
    assert [line.get_xdata()[0] for line in ax.get_lines() if line.get_ydata().tolist() == [densities.ABOVE]] == [
        pytest.approx(0.3)
    ]
    bare = figures.plot_density(law("reduced", gaussian("coordinate 0"), net=net), points=fps)
    assert [text.get_text() for text in bare.get_legend().get_texts()] == ["reduced"]
    plt.close("all")


def test_outputs_of_a_large_network():
    net = random_network(20)
    names = ("output 0", "output 1")
    st = law("monte-carlo", net=net, marginals={name: gaussian(name, error=np.full(201, 0.01)) for name in names})
    fps = fpa.find_fixed_points(net, [0.0, 0.0])
    figure = figures.density_figure(st, fps)
    assert [ax.get_xlabel() for ax in figure.axes] == ["output z[0]", "output z[1]"]
    np.testing.assert_array_equal(drawn(figure.axes[1], "stable fixed point").get_xdata(), net.output(fps.h)[:, 1])


def test_the_figure_of_two_neurons_has_both_margins(joint, tmp_path):
    figure = figures.density_figure(law(density=joint, net=fpa.Network(W=np.zeros((2, 2)))))
    assert [ax.get_xlabel() for ax in figure.axes] == ["state h[0]", "state h[0]", "state h[1]"]
    figure.savefig(tmp_path / "x.png")


def test_a_panel_for_each_law_and_one_legend(joint, many_wells):
    """Also for a law without a density, and for basins whose weight or mean is not known."""
    net = fpa.Network(W=np.zeros((2, 2)))
    lost = Basin(float("nan"), np.full(2, np.nan), np.eye(2), np.zeros(2))
    unknown = Basin(float("nan"), np.array([0.2, 0.7]), np.eye(2), np.array([0.0, 1.0]))
    laws = [law(density=gaussian()), law(density=joint, net=net, basins=(lost, unknown)), law("closure")]
    figure = figures.densities_figure(laws, [many_wells, None, None], ["a", "b", "c"])
    assert [ax.get_title() for ax in figure.axes] == ["a", "b", "c"]
    assert all(ax.get_legend() is None for ax in figure.axes)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert len(texts) == len(set(texts))
    assert {"chain", "stable fixed point", "50 % within"} <= set(texts)
    assert [text.get_text() for text in figure.axes[1].texts] == ["0.1", "weight unknown"]
    assert [text.get_text() for text in figure.axes[2].texts] == ["closure: no density (ok)"]
    with pytest.raises(fpa.InputError, match="one panel per law, 12 at most"):
        figures.densities_figure(laws, [None], ["a"])


def test_what_has_no_density_is_refused(joint, many_wells):
    with pytest.raises(fpa.InputError, match="laws must hold a density; found none"):
        figures.plot_density(law("closure"))
    with pytest.raises(fpa.InputError, match="laws must hold a density"):
        figures.density_figure(law("closure"))
    with pytest.raises(fpa.InputError, match="a density on: neuron 0; found 'neuron 1'"):
        figures.plot_density(law(density=gaussian()), axis="neuron 1")
    with pytest.raises(fpa.InputError, match="axes must be two"):
        figures.plot_density_2d(law(density=gaussian()))
    with pytest.raises(fpa.InputError, match="laws must be results of stationary"):
        figures.plot_density(gaussian())
    with pytest.raises(fpa.InputError, match="laws must be results of stationary"):
        figures.plot_density([])
    with pytest.raises(fpa.InputError, match="labels must name the 1 laws; found 2"):
        figures.plot_density(law(density=gaussian()), labels=["a", "b"])
    with pytest.raises(fpa.InputError, match="points must be what find_fixed_points"):
        figures.plot_density(law(density=gaussian()), points=many_wells.h)
    plt.close("all")
