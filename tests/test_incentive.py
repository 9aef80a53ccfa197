"""Where noise is preferred: losses and optima of one neuron against closed forms, the exact chain and training."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.optimize import brentq, minimize, minimize_scalar
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis import figures, regulator
from fpanalysis.regulator._incentive_law import Neuron
from fpanalysis.regulator._incentive_search import best_point


def g(r):
    """E max(r + xi, 0)."""
    return r * norm.cdf(r) + norm.pdf(r)


def V1(r):
    """Var max(r + xi, 0)."""
    return (1 + r**2) * norm.cdf(r) + r * norm.pdf(r) - g(r) ** 2


def chain_law(w, b, sigma, gamma, activation="relu", placement="in"):
    net = fpa.Network(W=[[w]], b=[b], sigma=sigma, gamma=gamma, activation=activation, placement=placement)
    st = fpa.stationary(net, method="chain")
    assert st.status.ok
    return st.mean[0], st.cov[0, 0]


def chain_loss(w, b, target, sigma, gamma, **kind):
    mean, variance = chain_law(w, b, sigma, gamma, **kind)
    return (mean - target) ** 2 + variance


def test_without_recurrence_the_losses_are_closed_forms():
    """w = 0, noise in: the next f does not depend on h, so that the closure is exact."""
    a = np.linspace(-1, 1.5, 11)
    land = regulator.loss_landscape(0.2, 0.5, 0.1, a=a)
    np.testing.assert_allclose(land.bias2, (0.5 * g(a / 0.5) - 0.2) ** 2, rtol=1e-10, atol=1e-16)
    np.testing.assert_allclose(land.variance, 0.25 * V1(a / 0.5) * 0.1 / 1.9, rtol=1e-10)
    np.testing.assert_allclose(land.loss_removed, (np.maximum(a, 0) - 0.2) ** 2, atol=1e-14)

    def loss(a):
        return (0.5 * g(a / 0.5) - 0.2) ** 2 + 0.25 * V1(a / 0.5) * 0.1 / 1.9

    least = minimize_scalar(loss, bounds=(-2, 1), method="bounded", options={"xatol": 1e-10})
    found = regulator.optimum(0.2, 0.5, 0.1, w=0.0)
    assert found.loss == pytest.approx(least.fun, rel=1e-9)
    assert found.a == pytest.approx(least.x, abs=1e-5)  # a minimum: its place is the root of its accuracy
    assert land.best == pytest.approx(float(found.a), abs=1e-12)
    assert land.held == pytest.approx(0.2, abs=1e-14)
    assert found.ratio == pytest.approx(land.ratio) == pytest.approx(0.04 / least.fun)
    assert found.error < 1e-9 * found.loss


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize(("activation", "target"), [("relu", 0.2), ("softplus", 0.7), ("tanh", 0.4), ("sigmoid", 0.6)])
def test_losses_against_the_exact_chain(activation, target, placement):
    """At the weights that a training reaches the closure's loss holds to 2 %, and the stated error says by how much."""
    found = regulator.optimum(target, 0.5, 0.1, activation, placement, w=-1.0)
    mean, variance = chain_law(-1.0, float(found.b), 0.5, 0.1, activation, placement)
    exact = (mean - target) ** 2 + variance
    assert found.status.ok
    assert found.error == pytest.approx(abs(found.loss - exact), rel=1e-6, abs=1e-9 * exact)
    assert found.error < 0.02 * exact
    assert abs(found.mean - mean) < 0.02 * np.sqrt(exact)


@pytest.mark.parametrize("placement", ["in", "out"])
def test_the_law_is_the_same_from_either_side(placement):
    """(a, w) -> b and (w, b) -> a are inverse to each other."""
    for f in ("relu", "softplus", "tanh"):
        neuron = Neuron(fpa.activations.get_activation(f), placement)
        a, w = np.linspace(-0.5, 1, 7)[:, None], np.array([-12.0, -3.0, 0.0, 0.4])
        law = neuron.at(a, w, 0.5, 0.1)
        again = neuron.of(w, law.b, 0.5, 0.1)
        np.testing.assert_allclose(again.a, law.a, rtol=0, atol=1e-9)
        np.testing.assert_allclose(again.v, law.v, rtol=1e-8)


@pytest.mark.parametrize(("ratio", "gamma", "placement"), [(0.5, 0.2, "in"), (0.7, 0.3, "in"), (0.7, 0.1, "out")])
def test_the_optimum_against_brute_force(ratio, gamma, placement):
    """On a fine grid of (w, a): nothing lies lower. And the exact chain's own minimum over (w, b) is hardly below its
    loss at the closure's (w, b): the valley is flat."""
    found = regulator.optimum(ratio, 1.0, gamma, placement=placement)
    neuron = Neuron(found.activation, placement)
    w = 1 - np.geomspace(0.5, 2 / gamma, 120)[:, None]
    law = neuron.at(np.linspace(-4, 2, 400), w, 1.0, gamma)
    grid = (law.m - ratio) ** 2 + law.v
    assert found.loss <= np.nanmin(grid) * (1 + 1e-7)
    assert np.nanmin(grid) < 1.02 * found.loss

    def exact(x):
        return chain_loss(1 - np.exp(x[0]), x[1], ratio, 1.0, gamma, placement=placement)

    start = [np.log(1 - found.w), found.b]
    least = minimize(exact, start, method="Nelder-Mead", options={"maxfev": 30}).fun
    assert exact(start) == pytest.approx(found.loss, abs=1.001 * found.error)
    assert exact(start) < 1.08 * least


def test_a_linear_neuron_is_best_at_deadbeat():
    """Far above the kink: w = -(1 - gamma) / gamma forgets the state in one step, and leaves gamma^2 sigma^2."""
    for placement in ("in", "out"):
        found = regulator.optimum(20.0, 1.0, 0.25, placement=placement)
        assert found.w == pytest.approx(-3, rel=1e-3)
        assert found.loss == pytest.approx(0.0625, rel=1e-6)
        assert found.ratio < 1e-6
        assert found.preferred == 0


def slow_optimum(r):
    """target / sigma, R and gamma w at the best weight for gamma -> 0, the operating point being r = a / s."""
    G = norm.cdf(r)
    q = 2 * g(r) * (1 - G) / V1(r) - norm.pdf(r) / G  # the derivative of log(V1 / G)
    rho = 1 / (1 - q * g(r) / G)
    return np.sqrt(1 + rho) * g(r), (1 + 1 / rho) * g(-r) ** 2, -2 * G * rho / (V1(r) * (1 + rho))


def test_the_slow_limit_of_the_optimum():
    """gamma -> 0: the best weight and R there, with errors of order gamma."""
    r = brentq(lambda r: slow_optimum(r)[0] - 0.7, -1, 2)
    _, R, w = slow_optimum(r)
    gammas = np.array([0.02, 0.01, 0.005])
    found = regulator.optimum(0.7, 1.0, gammas)
    off, off_w = found.ratio / R - 1, found.w * gammas / w - 1
    np.testing.assert_allclose(off[:-1] / off[1:], 2, rtol=0.2)
    np.testing.assert_allclose(off_w[:-1] / off_w[1:], 2, rtol=0.2)
    assert abs(off[-1]) < 0.005
    assert abs(off_w[-1]) < 0.01


def test_at_the_bound_of_the_weight_the_preference_does_not_depend_on_gamma():
    """gamma -> 0 at w = 1 - 2 / gamma: target = sigma g(r) / sqrt(1 - V1 / Phi) and R = g(-r)^2 Phi / V1, which is 1 at
    a target of 0.268 sigma; errors of order gamma."""
    r = brentq(lambda r: norm.cdf(r) / V1(r) * g(-r) ** 2 - 1, -2, 0.5)
    ratio = g(r) / np.sqrt(1 - V1(r) / norm.cdf(r))
    assert ratio == pytest.approx(0.268, abs=5e-4)
    found = regulator.optimum(ratio, 1.0, [0.02, 0.01, 0.005])
    assert found.at_bound.all()
    off = found.ratio - 1
    np.testing.assert_allclose(off[:-1] / off[1:], 2, rtol=0.2)
    assert abs(off[-1]) < 0.02


def test_at_a_given_weight_the_preference_grows_as_one_over_gamma():
    """gamma -> 0 at w = -1: gamma R -> 2 (1 - w Phi(r)) g(-r)^2 / ((1 - w)^2 V1(r)) with target = sigma g(r)."""
    ratio, w = 0.4, -1.0
    r = brentq(lambda r: g(r) - ratio, -5, 5)
    limit = 2 * (1 - w * norm.cdf(r)) * g(-r) ** 2 / ((1 - w) ** 2 * V1(r))
    gammas = np.array([0.004, 0.002, 0.001])
    off = regulator.optimum(ratio, 1.0, gammas, w=w).ratio * gammas / limit - 1
    assert abs(off[-1]) < 0.01
    np.testing.assert_allclose(off[:-1] / off[1:], 2, rtol=0.1)


def test_only_target_over_sigma_matters_with_relu():
    small, large = (regulator.optimum(0.3 * s, s, 0.1, w=-2.0) for s in (0.1, 10.0))
    assert large.ratio == pytest.approx(float(small.ratio), rel=1e-7)
    assert large.preferred / 10 == pytest.approx(small.preferred / 0.1, rel=1e-3)
    assert large.b / 10 == pytest.approx(small.b / 0.1, rel=1e-4)


def test_preferred_noise_is_where_the_loss_is_least():
    """Against the exact chain: the loss at the preferred noise, and at levels around it."""
    found = regulator.optimum(0.2, 0.5, 0.1, w=-0.5)
    losses = [chain_loss(-0.5, float(found.b), 0.2, s, 0.1) for s in found.preferred + np.array([-0.06, 0, 0.06])]
    assert 0.4 < found.preferred < 0.55
    assert losses[1] == min(losses)
    assert losses[1] < found.loss_removed


def test_noise_free_neurons_that_flip():
    """Beyond w = 1 - 2 / gamma the noise-free step has a 2-cycle, whose loss it is; below, that of the fixed point."""
    neuron = Neuron(fpa.activations.get_activation("relu"), "in")
    w, b, gamma, target = -9.5, 2.0, 0.2, 0.3
    h = target
    for _ in range(4001):
        h = (1 - gamma) * h + gamma * max(w * h + b, 0)
    other = (1 - gamma) * h + gamma * max(w * h + b, 0)
    assert abs(h - other) > 0.01
    expected = ((h - target) ** 2 + (other - target) ** 2) / 2
    assert neuron.loss_at_rest(w, b, gamma, target) == pytest.approx(expected, rel=1e-9)
    assert neuron.loss_at_rest(-3.0, b, gamma, target) == pytest.approx((0.5 - target) ** 2)


def test_a_trained_neuron_is_the_predicted_one(one_torch_thread):
    """Two neurons of the project's own training, noise in and out. Measured over 600 trials: R has a standard error of
    3 % with noise in; sampled gradients move w by some 0.1."""
    from fpanalysis.models import evaluate, train
    from fpanalysis.tasks import get_task

    task = get_task("regulator", T=50, counted=25)
    run = train(task, sigma=0.5, placement=["in", "out"], seed=3, gamma=0.2, batch=128, steps=250)
    w0 = task.initialize(1, np.random.default_rng(np.random.SeedSequence(3).spawn(3)[0]))["W"].item()
    loss = evaluate(run.networks, task, [0.0, 0.5], inputs=1, trials=600).loss
    inside, outside = (regulator.trained(0.2, 0.5, 0.2, placement=p, w=w0, steps=250) for p in ("in", "out"))
    assert run.network(0).W.item() == pytest.approx(float(inside.w), abs=0.1)
    assert run.network(1).W.item() == pytest.approx(float(outside.w), abs=0.15)
    assert loss[0, 0] / loss[0, 1] == pytest.approx(float(inside.ratio), rel=0.12)
    assert inside.ratio > 2
    assert max(loss[1, 0] / loss[1, 1], outside.ratio) < 0.01


def test_training_without_end_reaches_the_best_bias():
    """A large gamma has a short valley: Adam on the expected loss arrives at the optimum."""
    end = regulator.trained(0.8, 1.0, 0.5, steps=1500, lr=0.04)
    best = regulator.optimum(0.8, 1.0, 0.5)
    assert end.loss == pytest.approx(float(best.loss), rel=1e-5)
    assert end.w == pytest.approx(float(best.w), abs=0.02)


def test_phase_diagrams():
    ratios, gammas = [0.2, 0.4, 0.8, 1.6], [0.05, 0.2]
    inside = regulator.phase_diagram(ratios, gammas)
    outside = regulator.phase_diagram(ratios, gammas, placement="out")
    alone = regulator.trained(0.2, 0.2 / 0.4, 0.2)
    assert inside.ratio[1, 1] == pytest.approx(float(alone.ratio), rel=1e-9)
    assert (inside.ratio[0] > inside.ratio[1]).all()
    assert (inside.boundary > 0.4).all()
    assert (inside.boundary < 1).all()
    assert np.isnan(outside.boundary).all()
    assert (outside.ratio < 0.01).all()
    assert np.nanmax(inside.error) < 0.02
    assert "noise in" in repr(inside) or "relu in" in repr(inside)
    held = regulator.phase_diagram([0.2, 0.3], gammas, after="bias")
    assert (held.w == 0).all()
    assert np.isinf(held.boundary).all()


def test_where_no_law_exists_the_status_says_so():
    """Strong inhibition at large gamma: the closure's variance has no finite value."""
    land = regulator.loss_landscape(1.0, 1.0, 0.5, a=[1.0], w=-8.0)
    assert not land.status.ok
    assert np.isnan(land.loss).all()


def test_bad_input():
    with pytest.raises(fpa.InputError, match="target must lie between 0 and inf"):
        regulator.optimum(-0.2, 0.5)
    with pytest.raises(fpa.InputError, match="target must lie between -1 and 1"):
        regulator.optimum(1.2, 0.5, activation="tanh")
    with pytest.raises(fpa.InputError, match="sigma must be > 0"):
        regulator.optimum(0.2, 0.0)
    with pytest.raises(fpa.InputError, match="gamma must lie in"):
        regulator.optimum(0.2, 0.5, 1.5)
    with pytest.raises(fpa.InputError, match="w must be < 1"):
        regulator.optimum(0.2, 0.5, w=1.0)
    with pytest.raises(fpa.InputError, match="placement"):
        regulator.optimum(0.2, 0.5, placement="inside")
    with pytest.raises(fpa.InputError, match="broadcast"):
        regulator.optimum([0.2, 0.3], [0.5, 0.6, 0.7])
    with pytest.raises(fpa.InputError, match="must not fall"):
        regulator.optimum(0.2, 0.5, activation={"name": "leaky_relu", "slope": -0.5})
    with pytest.raises(fpa.InputError, match="after"):
        regulator.phase_diagram(after="lunch")
    with pytest.raises(fpa.InputError, match="ratios must be > 0"):
        regulator.phase_diagram([0.0, 0.5])
    with pytest.raises(fpa.InputError, match="steps"):
        regulator.trained(0.2, 0.5, steps=0)
    with pytest.raises(fpa.InputError, match="one number each"):
        regulator.loss_landscape([0.2, 0.3], 0.5)


def test_figures_draw_what_the_results_hold():
    inside, outside = (regulator.loss_landscape(0.2, 0.5, placement=p) for p in ("in", "out"))
    figure = figures.incentive_figure(inside, outside)
    for ax, land in zip(figure.axes, (inside, outside), strict=True):
        np.testing.assert_array_equal(ax.get_lines()[0].get_data(), [land.a / 0.5, land.loss])
        np.testing.assert_array_equal(ax.get_lines()[3].get_ydata(), land.loss_removed)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert f"R = {inside.ratio:.2g}" in texts
    diagram = regulator.phase_diagram([0.2, 0.5, 1.0], [0.1, 0.3], after="bias")
    ax = figures.plot_phase_diagram(diagram, points=[[0.4, 0.1, 8.0]])
    np.testing.assert_allclose(ax.collections[0].get_array(), np.log10(diagram.ratio))
    assert "8" in [text.get_text() for text in ax.texts]
    plt.close(ax.figure)
    outside = regulator.phase_diagram([0.2, 0.5, 1.0], [0.1, 0.3], placement="out", after="bias", w=-1.0)
    figure = figures.phase_figure([diagram, outside])
    everywhere = [text.get_text() for text in figure.axes[1].texts]
    assert everywhere == [f"better without everywhere:\nR from {outside.ratio.min():.1g} to {outside.ratio.max():.1g}"]
    ax = figures.plot_valley(regulator.optimum(0.2, 0.5, w=[0.0, -1.0]), best=None, trained=regulator.trained(0.2, 0.5))
    np.testing.assert_array_equal(ax.get_lines()[0].get_xdata(), [1.0, 2.0])
    plt.close(ax.figure)


def test_best_point_finds_the_deeper_of_two_basins():
    """Noise out near silence: the loss has two minima, silent and on target; a fine scan finds no lower."""
    neuron = Neuron(fpa.activations.get_activation("relu"), "out")
    target = np.array([0.05, 0.1, 0.2, 0.4])
    one, gamma = np.ones(4), np.full(4, 0.3)
    a = best_point(neuron, -0.5 * one, target, one, gamma)
    scan = neuron.at(np.linspace(-4, 1, 4001)[:, None], -0.5, 1.0, 0.3)
    least = ((scan.m - target) ** 2 + scan.v).min(axis=0)
    law = neuron.at(a, -0.5, 1.0, 0.3)
    assert ((law.m - target) ** 2 + law.v <= least * (1 + 1e-9)).all()
