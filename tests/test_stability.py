"""Lyapunov exponents against closed forms and an independent simulation; contraction certificates by brute force."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import minimize

import fpanalysis as fpa
from fpanalysis.stability._scaled import Family, infinity_norm

FORMS = [("rate", "in"), ("rate", "out"), ("current", "in")]


def random_network(N=8, gain=1.0, seed=0, **settings):
    rng = np.random.default_rng(seed)
    W, b = rng.standard_normal((N, N)) * gain / np.sqrt(N), 0.3 * rng.standard_normal(N)
    return fpa.Network(**{"W": W, "b": b, "activation": "tanh", "gamma": 0.2} | settings)


def log_gain(a, mu):
    """E log |1 + a (1 + mu xi)|, the exponent of h' = h + a (1 + mu xi) h."""
    zero = -(1 + 1 / a) / mu

    def integrand(xi):
        return np.exp(-(xi**2) / 2) / np.sqrt(2 * np.pi) * np.log(abs(1 + a * (1 + mu * xi)))

    parts = sorted({-12.0, float(np.clip(zero, -12, 12)), 12.0})
    return sum(quad(integrand, lo, hi, limit=200)[0] for lo, hi in itertools.pairwise(parts))


# --- exponents -----------------------------------------------------------------------------------------------------


def test_a_linear_network_has_the_logarithms_of_its_eigenvalues():
    net = random_network(6, activation="linear", b=np.zeros(6), gain=0.8, sigma=0.4)
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
    net = random_network(5, gain=0.7, form=form)
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
    assert abs(silent.exponents - exact).max() <= 1.5 * silent.top_error
    assert abs(silent.exponents.mean() - exact) < 2e-4  # the sum of a pair does not turn with its plane
    assert noisy.top + noisy.top_error < exact


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
    net = random_network(12, gain=2.5, sigma=0.7, form=form, placement=placement, seed=3)
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
    net = random_network(4, form=form, placement=placement, sigma=0.8)
    rng = np.random.default_rng(2)
    h, xi, V = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2, 4))
    moved, turned = net.tangent_step(h, np.zeros(0), net.sigma * xi, V)
    np.testing.assert_allclose(moved, net.step(h, xi=xi), rtol=1e-14)
    for i in range(2):
        up, down = (net.step(h + sign * 1e-6 * V[:, i], xi=xi) for sign in (1, -1))
        np.testing.assert_allclose(turned[:, i], (up - down) / 2e-6, atol=1e-9)


def test_the_default_tangent_step_is_that_of_noise_on_the_state():
    net = random_network(4, placement="out", sigma=0.8)
    rng = np.random.default_rng(2)
    h, noise, V = rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), rng.standard_normal((3, 2, 4))
    default = super(fpa.Network, net).tangent_step(h, np.zeros(0), noise, V)
    for a, b in zip(default, net.tangent_step(h, np.zeros(0), noise, V), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_the_sum_is_the_mean_log_determinant():
    net = random_network(5, gain=3, sigma=0.3, placement="out", seed=1)
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
    net = random_network(8, gain=2, sigma=0.5)
    order = np.random.default_rng(1).permutation(8)
    other = fpa.Network(W=net.W[np.ix_(order, order)], b=net.b[order], activation="tanh", gamma=0.2, sigma=0.5)
    a, b = fpa.lyapunov(net, k=3, steps=2000), fpa.lyapunov(other, k=3, steps=2000, rng=1)
    assert (np.abs(a.exponents - b.exponents) < 1.5 * np.hypot(a.error, b.error)).all()


def test_noise_inside_calms_a_chaotic_network():
    """Gain 4: positive top exponent; noise that saturates the units makes trajectories under it meet."""
    net = random_network(64, gain=4, b=np.zeros(64))
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
    net = random_network(10, gain=2.5, sigma=0.4)
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
    kink = fpa.Network(W=[[0.5]], b=[0.0], activation="relu", gamma=0.5)
    assert fpa.lyapunov(kink, start=[0.0]).status is fpa.Status.AT_KINK
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
        fpa.lyapunov(random_network(), **arguments)


# --- certificates --------------------------------------------------------------------------------------------------


def weighted_norm(J, T, norm):
    return np.linalg.norm(T[:, None] * J / T, {"infinity": np.inf, "1": 1, "2": 2}[norm])


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", ["tanh", "relu", {"name": "leaky_relu", "slope": 0.3}])
def test_the_rate_bounds_the_norm_at_every_slope(form, activation):
    """All 2^N corners of the slopes, where the norm, convex in them, is largest; the gains differ between neurons."""
    gamma = np.array([0.1, 0.3, 0.9, 1.0, 0.5])
    net = random_network(5, gain=1.2, activation=activation, form=form, gamma=gamma)
    found = fpa.contraction_certificates(net)
    worst = dict.fromkeys(("infinity", "1", "2"), 0.0)
    for d in itertools.product(*found.slopes.T):
        DW = np.diag(d) @ net.W if form == "rate" else net.W @ np.diag(d)
        J = np.diag(1 - gamma) + gamma[:, None] * DW
        for c in found.certificates:
            worst[c.norm] = max(worst[c.norm], weighted_norm(J, c.weights, c.norm))
    for c in found.certificates:
        assert worst[c.norm] <= c.rate
        slack = 1e-12 if c.norm != "2" else 0.1  # Young's inequality takes each neuron's worst at once
        assert worst[c.norm] >= c.rate * (1 - slack)
        assert 0 < c.rounding < 1e-11


@pytest.mark.parametrize("seed", range(4))
def test_the_weights_of_the_infinity_norm_are_the_best(seed):
    """Against the largest spectral radius over all choices of rows (Perron-Frobenius for the worst D)."""
    rng = np.random.default_rng(seed)
    X, c = rng.standard_normal((5, 5)) - 1.5 * np.diag([1, 0, 1, 1, 0]), rng.uniform(0, 0.9, 5)
    found = infinity_norm(Family(c, X, np.full(5, -0.9), np.ones(5)))  # self-inhibition: for some the worst d is lo
    corners = np.array(list(itertools.product((-0.9, 1.0), repeat=5)))
    radii = np.abs(np.linalg.eigvals(np.abs(np.diag(c) + corners[:, :, None] * X))).max(axis=1)
    assert found.rate == pytest.approx(radii.max(), rel=1e-8)
    assert found.rate >= radii.max() - 1e-14


def test_the_2_norm_is_at_the_optimum_of_another_search():
    """A derivative-free search from the result finds nothing better; a plain norm is far worse."""
    from fpanalysis.stability._scaled import _Square

    net = random_network(3, gain=1.2)
    best = next(c for c in fpa.contraction_certificates(net).certificates if c.norm == "2")
    square = _Square(Family(np.full(3, 0.8), 0.2 * net.W, np.zeros(3), np.ones(3)))
    start = np.concatenate([np.log(best.weights), np.full(3, -1.0)])
    options = {"maxiter": 8000, "maxfev": 8000, "xatol": 1e-9, "fatol": 1e-12}
    search = minimize(lambda z: np.linalg.eigvalsh(square._H(z))[-1], start, method="Nelder-Mead", options=options)
    assert best.rate <= np.sqrt(search.fun) * (1 + 1e-3)
    assert best.rate < 0.8 + 0.2 * np.linalg.norm(net.W, 2) - 0.02


def test_a_symmetric_network_is_certified_up_to_the_loss_of_stability():
    """W symmetric: W' = W / w_max has D W of eigenvalues < 1 iff w_max < 1; with T = I the bound is met."""
    rng = np.random.default_rng(0)
    A = rng.standard_normal((10, 10))
    S = A @ A.T
    S /= np.linalg.eigvalsh(S)[-1]
    for w, holds in ((0.99, True), (1.01, False)):
        found = fpa.contraction_certificates(fpa.Network(W=w * S, activation="tanh", gamma=0.2))
        assert found.holds is holds
        assert found.best.rate == pytest.approx(1 - 0.2 * (1 - w), abs=2e-3)


def test_wherever_a_certificate_holds_the_exponents_respect_it():
    """Over random networks, with and without noise; and contraction is of any two trajectories, by its norm."""
    held = 0
    for seed in range(24):
        form, placement = FORMS[seed % 3]
        activation = ("tanh", "relu", "softplus", "sigmoid")[seed % 4]
        net = random_network(
            6 + seed % 5, 0.3 + 0.05 * seed, seed, activation=activation, form=form, placement=placement
        )
        found = fpa.contraction_certificates(net)
        for sigma in (0.0, 0.8):
            top = fpa.lyapunov(net, sigma=sigma, k=1, steps=400, chains=4)
            if top.status is fpa.Status.DIVERGED:
                continue
            for c in found.certificates:
                assert top.top - top.top_error <= c.exponent
            held += found.holds
    assert held > 20


def test_two_trajectories_come_closer_at_the_rate():
    net = random_network(20, gain=0.6, sigma=1.0, seed=4)
    best = fpa.contraction_certificates(net).best
    assert best.holds
    assert best.norm == "2"
    rng = np.random.default_rng(0)
    h, other = 3 * rng.standard_normal((2, 50, 20))
    for _ in range(20):
        xi = rng.standard_normal(h.shape)
        before = np.linalg.norm(best.weights * (other - h), axis=1)
        h, other = net.step(h, xi=xi), net.step(other, xi=xi)
        assert (np.linalg.norm(best.weights * (other - h), axis=1) <= best.rate * before + 1e-15).all()


def test_within_the_box_the_slopes_are_gentler():
    """Saturated units: a strong bias keeps x away from 0 wherever the state is in [-1, 1]."""
    net = random_network(6, gain=1.1, b=np.full(6, 4.0), seed=1)
    everywhere, box = (fpa.contraction_certificates(net, region=region) for region in ("everywhere", "box"))
    assert box.best.rate < everywhere.best.rate - 0.02
    assert (box.box == [[-1] * 6, [1] * 6]).all() or np.abs(box.box).max() == pytest.approx(1)
    rng = np.random.default_rng(0)
    slopes = net.activation.df(net.preactivation(rng.uniform(-1, 1, (1000, 6))))
    assert (slopes >= box.slopes[0]).all()
    assert (slopes <= box.slopes[1]).all()
    assert fpa.lyapunov(net, sigma=0, k=1).top <= box.best.exponent + 1e-9
    unbounded = random_network(6, gain=3, activation="softplus")
    assert fpa.contraction_certificates(unbounded, region="box").status is fpa.Status.NOT_APPLICABLE
    with pytest.raises(fpa.InputError, match="region must be"):
        fpa.contraction_certificates(net, region="ball")


# --- bounds --------------------------------------------------------------------------------------------------------


def test_the_bounds_of_the_sde_in_closed_form():
    """One dimension: linear drift a with noise sigma a h dB, and common noise sigma h dB: a - s^2 / 2 exactly."""
    drift = fpa.sde_exponent_bounds([[0.5]], [[0.0]], kind="drift", sigma=3.0)
    assert drift.lower == drift.upper == pytest.approx(0.5 - (3 * 0.5) ** 2 / 2)
    common = fpa.sde_exponent_bounds([[0.5, 1.0], [-1.0, 0.5]], np.zeros((2, 2)), kind="common", sigma=1.5)
    assert common.lower == common.upper == pytest.approx(0.5 - 1.5**2 / 2)
    assert common.holds
    assert common.margin == pytest.approx(0.625)
    assert not fpa.sde_exponent_bounds([[0.5]], [[0.0]]).holds


def test_the_bounds_of_the_sde_enclose_what_it_does():
    """Linear SDE with sigma diag(h) dB by small steps, the paper's A and W: the growth rate of its norm."""
    rng = np.random.default_rng(3)
    A = rng.standard_normal((3, 3)) - 0.5 * np.eye(3)
    dt, sigma = 1e-3, 1.2
    h, growth = rng.standard_normal((400, 3)), np.zeros(400)
    for _ in range(4000):
        h = h + dt * h @ A.T + sigma * np.sqrt(dt) * h * rng.standard_normal(h.shape)
        size = np.linalg.norm(h, axis=1)
        growth, h = growth + np.log(size), h / size[:, None]
    found = growth.mean() / 4
    bounds = fpa.sde_exponent_bounds(A, np.zeros((3, 3)), kind="state", sigma=sigma)
    spread = 4 * growth.std() / 4 / 20
    assert bounds.lower - spread <= found <= bounds.upper + spread
    assert bounds.noise == pytest.approx((-(sigma**2) / 2, sigma**2 * (1 / 2 - 1 / 3)))


@pytest.mark.parametrize("mu", [0.0, 1.0])
def test_a_networks_exponents_keep_within_the_bounds(mu):
    for seed in range(8):
        form, placement = FORMS[seed % 3]
        net = random_network(6, 0.2 + 0.15 * seed, seed, form=form, placement=placement, sigma=0.5)
        bounds = fpa.exponent_bounds(net, multiplicative=mu)
        found = fpa.lyapunov(net, k=1, steps=400, chains=4, multiplicative=mu)
        assert bounds.step_lower - found.top_error <= found.top <= bounds.step_upper + found.top_error
        if not mu:
            assert bounds.step_upper <= 0.2 * bounds.upper + 1e-12
            assert bounds.upper == pytest.approx(np.linalg.norm(net.W, 2) - 1)


def test_bounds_refuse_what_they_do_not_fit():
    with pytest.raises(fpa.InputError, match="kind must be one of"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(2), kind="white")
    with pytest.raises(fpa.InputError, match="W must have shape"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(3))
    with pytest.raises(fpa.InputError, match="L and sigma must be >= 0"):
        fpa.sde_exponent_bounds(np.eye(2), np.eye(2), L=-1.0)
    with pytest.raises(fpa.InputError, match="multiplicative must be >= 0"):
        fpa.exponent_bounds(random_network(), multiplicative=-0.1)
