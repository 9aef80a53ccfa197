"""Lyapunov exponents against closed forms, limits and an independent simulation of pairs of trajectories."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from problems import FORMS, bare_network, log_gain

import fpanalysis as fpa


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues():
    net = bare_network(6, activation="linear", b=np.zeros(6), gain=0.8, sigma=0.4)
    J = net.jacobian(np.zeros(6))
    found = fpa.lyapunov(net)
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(J))))[::-1]
    assert found.ok
    assert (np.abs(found.exponents - exact) <= found.error + 1e-9).all()
    assert found.error.max() < 0.01
    assert found.total == pytest.approx(np.log(abs(np.linalg.det(J))), abs=1e-10)
    np.testing.assert_allclose(found.per_time, found.exponents / 0.2)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_at_a_fixed_point_they_are_those_of_its_jacobian(form):
    """The two forms have similar Jacobians there: the same spectrum."""
    net = bare_network(5, gain=0.7, form=form)
    h = fpa.find_fixed_points(net).h[0]
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(net.jacobian(h)))))[::-1]
    found = fpa.lyapunov(net, sigma=0)
    assert (np.abs(found.exponents - exact) <= found.error + 1e-9).all()
    assert found.total == pytest.approx(exact.sum(), abs=1e-9)


def test_a_trained_network_at_its_fixed_point():
    """A ReLU network of 64 neurons whose top exponents are a pair, -0.0704; its noise makes it forget faster."""
    net = fpa.load(Path(__file__).parents[1] / "examples/networks/function-approximation-relu-in-0.5.pt")
    fps = fpa.find_fixed_points(net)
    (stable,) = fps.h[fps.stable]
    exact = np.log(np.abs(np.linalg.eigvals(net.jacobian(stable))).max())
    silent, noisy = fpa.lyapunov(net, sigma=0, k=2), fpa.lyapunov(net, k=2)
    assert abs(silent.exponents - exact).max() <= silent.top_error
    assert abs(silent.exponents.mean() - exact) < 2e-4  # the sum of a pair does not turn with its plane
    assert noisy.top + noisy.top_error < exact


@pytest.mark.parametrize(
    ("name", "condition"), [("relu-in-0.5", -1), ("softplus-in-1.0", None), ("softplus-in-1.0", 0), ("tanh-in-0.5", 0)]
)
def test_the_error_covers_the_end_of_transients_and_slow_pairs(name, condition):
    """Noise-free, at the fixed point that trajectories reach: chains share what is left of their alignment."""
    net = fpa.load(Path(__file__).parents[1] / f"examples/networks/function-approximation-{name}.pt")
    u = np.zeros(1) if condition is None else net.conditions[condition]
    h = np.random.default_rng(1).standard_normal(64)
    for _ in range(4000):
        h = net.step(h, u)
    assert np.abs(net.step(h, u) - h).max() < 1e-12
    exact = np.sort(np.log(np.abs(np.linalg.eigvals(net.jacobian(h, u)))))[::-1][:4]
    found = fpa.lyapunov(net, u, sigma=0, k=4)
    assert found.ok
    assert (np.abs(found.exponents - exact) <= found.error).all()
    assert found.error.max() < 0.004


@pytest.mark.parametrize("noisy", [False, True])
def test_the_error_covers_on_random_networks(noisy):
    """A stated error of 95 % against eigenvalues at the fixed point, or a run twice as long from another seed."""
    covered = []
    for seed in range(16):
        form, placement = FORMS[seed % 3]
        gamma = (0.1, 0.2, 0.5)[seed % 3]
        net = bare_network(1 + seed % 16, 0.3 + 0.1 * seed, seed, form=form, placement=placement, gamma=gamma)
        sigma = 0.5 if noisy else 0.0
        found = fpa.lyapunov(net, sigma=sigma, k=1, steps=500, rng=seed)
        h = np.random.default_rng(0).standard_normal(net.N)
        for _ in range(0 if noisy else 3000):
            h = net.step(h)
        if not found.ok or (not noisy and np.abs(net.step(h) - h).max() > 1e-10):
            continue
        longer = fpa.lyapunov(net, sigma=sigma, k=1, steps=1000, rng=100 + seed) if noisy else None
        exact = longer.top if longer else np.log(np.abs(np.linalg.eigvals(net.jacobian(h))).max())
        covered.append(abs(found.top - exact) <= np.hypot(found.top_error, longer.top_error if longer else 0.0))
    assert len(covered) >= 10
    assert np.mean(covered) > 0.85  # at 95 %, fewer than 14 of 16 with probability 0.04


def test_rates_that_leave_the_range_of_numbers_are_summed_as_logarithms():
    """Saturated, e^-45 per step, and growing, e^46: not -inf or NaN after a few steps without rescaling."""
    saturated = fpa.Network(W=[[25.0]], activation="tanh", gamma=1.0)
    found = fpa.lyapunov(saturated, start=[1.0])
    assert found.top == pytest.approx(np.log(25 / np.cosh(25) ** 2))  # h* = tanh(25 h*) = 1 to 1e-21
    assert found.ok
    grows = fpa.Network(W=[[1e20]], activation="linear", gamma=1.0)
    assert fpa.lyapunov(grows, start=[0.0]).top == pytest.approx(np.log(1e20))


@pytest.mark.parametrize("mu", [0.5, 8.0])
def test_multiplicative_noise_in_one_dimension(mu):
    """w = 1.5 grows without noise (a = gamma (w - 1) = 0.05); mu = 8 turns that into decay."""
    net = fpa.Network(W=[[1.5]], activation="linear", gamma=0.1)
    found = fpa.lyapunov(net, multiplicative=mu, start=[0.0], chains=200, steps=2000)
    assert abs(found.top - log_gain(0.05, mu)) < 2 * found.top_error
    assert found.top_error < 0.005
    assert (found.top < -0.03) == (mu == 8.0)
    assert fpa.lyapunov(net, start=[0.0]).top == pytest.approx(np.log(1.05))


def test_its_exponent_becomes_that_of_the_sde_in_first_order_of_gamma():
    """Per time: lambda - s^2 / 2, lambda = w - 1, with s = mu sqrt(gamma) |w - 1| held."""
    s, lam = 1.5, 0.5
    gammas = np.array([0.005, 0.0025, 0.00125])
    gaps = [abs(log_gain(g * lam, s / (lam * np.sqrt(g))) / g - (lam - s**2 / 2)) for g in gammas]
    assert lam - s**2 / 2 < -0.6
    assert np.diff(np.log(gaps)) / np.log(0.5) == pytest.approx([1, 1], abs=0.1)
    found = fpa.lyapunov(
        fpa.Network(W=[[1.5]], activation="linear", gamma=0.005),
        multiplicative=s / (lam * np.sqrt(0.005)), start=[0.0], chains=200, steps=4000,
    )  # fmt: skip
    assert abs(found.per_time[0] - (lam - s**2 / 2)) < gaps[0] + 2 * found.top_error / 0.005


@pytest.mark.parametrize(("form", "placement"), FORMS)
def test_two_nearby_trajectories_part_at_the_top_exponent(form, placement):
    """Independent of tangents: steps of the network itself under common noise, the difference renormalised."""
    net = bare_network(12, gain=2.5, sigma=0.7, form=form, placement=placement, seed=3)
    found = fpa.lyapunov(net, k=1, steps=2000)
    rng = np.random.default_rng(11)
    h = rng.standard_normal((40, 12))
    other = h + 1e-7 * rng.standard_normal(h.shape)
    growth = np.zeros(40)
    for t in range(1500):
        xi = rng.standard_normal(h.shape)
        h, other = net.step(h, xi=xi), net.step(other, xi=xi)
        size = np.linalg.norm(other - h, axis=1) / 1e-7
        other = h + (other - h) / size[:, None]
        growth += np.log(size) * (t >= 500)
    growth /= 1000
    error = 2 * growth.std(ddof=1) / np.sqrt(40)
    assert abs(growth.mean() - found.top) < 2 * (found.top_error + error) + 1e-6
    assert error < 0.01


@pytest.mark.parametrize(("form", "placement"), FORMS)
def test_the_tangent_step_is_the_derivative_of_the_noisy_step(form, placement):
    net = bare_network(4, form=form, placement=placement, sigma=0.8)
    rng = np.random.default_rng(2)
    h, xi, V = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2, 4))
    moved, turned = net.tangent_step(h, np.zeros(0), net.sigma * xi, V)
    np.testing.assert_allclose(moved, net.step(h, xi=xi), rtol=1e-14)
    for i in range(2):
        up, down = (net.step(h + sign * 1e-6 * V[:, i], xi=xi) for sign in (1, -1))
        np.testing.assert_allclose(turned[:, i], (up - down) / 2e-6, atol=1e-9)


def test_the_default_tangent_step_is_that_of_noise_on_the_state():
    net = bare_network(4, placement="out", sigma=0.8)
    rng = np.random.default_rng(2)
    h, noise, V = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2, 4))
    default = super(fpa.Network, net).tangent_step(h, np.zeros(0), noise, V)
    for a, b in zip(default, net.tangent_step(h, np.zeros(0), noise, V), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_the_sum_is_the_mean_log_determinant():
    net = bare_network(5, gain=3, sigma=0.3, placement="out", seed=1)
    found = fpa.lyapunov(net, steps=2000)
    rng = np.random.default_rng(5)
    h, logs = rng.standard_normal((64, 5)), []
    for t in range(900):
        if t >= 300:
            logs.append(np.linalg.slogdet(net.jacobian(h))[1])
        h = net.step(h, xi=rng.standard_normal(h.shape))
    means = np.mean(logs, axis=0)
    assert abs(found.total - means.mean()) < 2 * (found.total_error + 2 * means.std() / 8)
    assert found.total == pytest.approx(found.exponents.sum())


def test_neurons_can_change_places():
    net = bare_network(8, gain=2, sigma=0.5)
    order = np.random.default_rng(1).permutation(8)
    other = fpa.Network(W=net.W[np.ix_(order, order)], b=net.b[order], activation="tanh", gamma=0.2, sigma=0.5)
    a, b = fpa.lyapunov(net, k=3, steps=2000), fpa.lyapunov(other, k=3, steps=2000, rng=1)
    assert (np.abs(a.exponents - b.exponents) < 1.5 * np.hypot(a.error, b.error)).all()


def test_noise_inside_calms_a_chaotic_network():
    """Gain 4: positive top exponent; noise that saturates the units makes trajectories under it meet."""
    net = bare_network(64, gain=4, b=np.zeros(64))
    silent, noisy = fpa.lyapunov(net, k=1), fpa.lyapunov(net, sigma=3, k=1)
    assert silent.top - silent.top_error > 0.01
    assert noisy.top + noisy.top_error < -0.01
    assert silent.ok
    assert noisy.ok


def test_a_sequence_of_inputs_is_repeated():
    """One neuron, W = 0: the slope is 1 - gamma throughout; with gamma = 1 and w = 1 it is f'(x) along the cycle."""
    net = fpa.Network(W=[[1.0]], W_in=[[1.0]], activation="tanh", gamma=1.0)
    inputs = np.array([[0.5], [-1.0], [2.0]])
    h, logs = np.zeros(1), []
    for t in range(300):
        logs.append(np.log(net.jacobian(h, inputs[t % 3])[0, 0]))
        h = net.step(h, inputs[t % 3])
    found = fpa.lyapunov(net, inputs)
    assert found.top == pytest.approx(np.mean(logs[-30:]), abs=1e-10)


def test_directions_that_the_step_destroys_are_minus_infinity():
    net = fpa.feedforward([np.ones((3, 2)), np.ones((2, 3))], activation="tanh", sigma=0.2)
    found = fpa.lyapunov(net)
    assert np.isneginf(found.exponents).all()
    assert found.ok
    one = fpa.Network(W=np.diag([0.5, 0.0]), activation="linear", gamma=1.0)
    found = fpa.lyapunov(one, start=[0.0, 0.0])
    assert found.exponents[0] == pytest.approx(np.log(0.5))
    assert np.isneginf(found.exponents[1])


def test_the_top_alone_is_the_top_of_all():
    net = bare_network(10, gain=2.5, sigma=0.4)
    top, both = fpa.lyapunov(net, k=1), fpa.lyapunov(net)
    assert abs(top.top - both.top) < 1.5 * np.hypot(top.top_error, both.top_error)
    again = fpa.lyapunov(net, k=1)
    assert again.top == top.top  # the same seed


def test_the_dimension_of_kaplan_and_yorke():
    net = fpa.Network(W=np.diag([1.5, 0.8, 0.2]), activation="linear", gamma=0.5)  # factors 1.25, 0.9, 0.6
    found = fpa.lyapunov(net, start=np.zeros(3))
    assert found.kaplan_yorke == pytest.approx(2 + np.log(1.25 * 0.9) / -np.log(0.6), abs=1e-6)
    assert fpa.lyapunov(net, k=1, start=np.zeros(3)).kaplan_yorke != fpa.lyapunov(net, k=1).kaplan_yorke  # NaN


def test_what_did_not_work_is_said():
    grows = fpa.Network(W=[[2.0]], b=[1.0], activation="relu", gamma=0.5)
    diverged = fpa.lyapunov(grows)
    assert diverged.status is fpa.Status.DIVERGED
    assert np.isnan(diverged.top)
    for w in (1.2, 1.02, 2.0):  # by e^23, e^5 and e^228 over the run: no chaos either
        slowly = fpa.lyapunov(fpa.Network(W=[[w]], b=[1.0], activation="softplus", gamma=0.2, sigma=0.1))
        assert slowly.status is fpa.Status.DIVERGED
    walk = fpa.Network(W=[[1.0]], activation="linear", gamma=0.2, sigma=0.1)  # far, but no divergence
    assert all(fpa.lyapunov(walk, rng=seed, steps=100).status is fpa.Status.OK for seed in range(40))
    kink = fpa.Network(W=[[0.5]], b=[0.0], activation="relu", gamma=0.5)
    assert fpa.lyapunov(kink, start=[0.0]).status is fpa.Status.AT_KINK
    assert fpa.lyapunov(kink).status is fpa.Status.AT_KINK  # from both of its sides
    two = fpa.Network(W=[[2.0]], b=[0.2], activation="tanh", gamma=0.2)  # two stable points of different slopes
    mixed = fpa.lyapunov(two)
    assert mixed.status is fpa.Status.POORLY_MIXED
    assert np.ptp(mixed.chains) > 0.01
    slow = fpa.Network(W=[[1.0]], activation="tanh", gamma=0.5)  # h' = h - h^3 / 6: decays as 1 / sqrt(t)
    assert fpa.lyapunov(slow, start=[1.0], steps=4000, transient=0).status is fpa.Status.UNDECIDED


def test_a_cell_of_somebody_else():
    import torch

    torch.manual_seed(0)
    cell = fpa.models.from_torch(torch.nn.GRUCell(1, 3).double())
    h = fpa.find_fixed_points(cell).h[0]
    exact = np.log(np.abs(np.linalg.eigvals(cell.jacobian(h))).max())
    found = fpa.lyapunov(cell, k=1, sigma=0, steps=100, chains=2)
    assert abs(found.top - exact) <= found.top_error + 1e-6
    noisy = fpa.lyapunov(cell, k=1, sigma=0.05, steps=100, chains=2)
    assert abs(noisy.top - exact) < 0.1
    assert noisy.top != found.top
    assert fpa.contraction_certificates(cell).status is fpa.Status.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"k": 9}, "k must be at most 8"),
        ({"k": 0}, "k must be a whole number >= 1"),
        ({"steps": 3}, "steps must be a whole number >= 8"),
        ({"chains": 1}, "chains must be"),
        ({"start": np.zeros(3)}, r"start must be one state \(8,\)"),
        ({"inputs": np.zeros((2, 3))}, "u must have 0 input"),
        ({"inputs": np.zeros((2, 3, 0))}, "inputs must be one input"),
        ({"sigma": -1.0}, "sigma must be >= 0"),
        ({"multiplicative": -1.0}, "multiplicative must be >= 0"),
        ({"multiplicative": [1.0, 2.0]}, "multiplicative must have shape"),
        ({"rng": -1}, "rng must be a seed"),
    ],
)
def test_wrong_input_is_refused(arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.lyapunov(bare_network(), **arguments)
    with pytest.raises(fpa.InputError, match="net must be"):
        fpa.lyapunov("model.pt")
