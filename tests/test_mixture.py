"""Moments in time from a Gaussian mixture: against the exact one-neuron chain, Monte Carlo, and its own limits."""

from pathlib import Path

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.moments import _mixture, _slow, propagate
from fpanalysis.moments._step import Law, Step

EXAMPLES = Path(__file__).parents[1] / "examples" / "networks"
T = 120


@pytest.fixture(scope="module")
def tanh_network():
    """The trained network whose condition 5 (input 0) is near a pitchfork, with its inputs and start."""
    net = fpa.load(EXAMPLES / "function-approximation-tanh-in-0.5.pt")
    return net, np.repeat(net.conditions[None], T, axis=0)


def one_neuron(w, sigma, activation="tanh"):
    return fpa.Network(W=[[w]], b=[0.05], gamma=0.1, activation=activation, sigma=sigma)


def exact_moments_in_time(w, sigma, nodes=1201):
    """Mean and variance of the one-neuron chain with f = tanh after each step from 0, by quadrature of its density.

    h' = (1 - gamma) h + gamma tanh(w h + b + sigma xi) is solved for xi; also the largest loss of probability.
    """
    gamma, b = 0.1, 0.05
    x, weight = np.polynomial.legendre.leggauss(nodes)

    def kernel(h):
        y = (x[:, None] - (1 - gamma) * h) / gamma
        inside = np.abs(y) < 1 - 1e-12
        y = np.where(inside, y, 0.0)
        xi = (np.arctanh(y) - w * h - b) / sigma
        return np.where(inside, np.exp(-(xi**2) / 2) / (np.sqrt(2 * np.pi) * sigma * gamma * (1 - y**2)), 0.0)

    step, p, moments, lost = kernel(x), kernel(np.zeros(1))[:, 0], [], 0.0
    for _ in range(T):
        mass = weight @ p
        lost = max(lost, abs(mass - 1))
        mean = weight @ (p * x) / mass
        moments.append((mean, weight @ (p * (x - mean) ** 2) / mass))
        p = step @ (weight * p)
    return *np.array(moments).T, lost


def monte_carlo(net, inputs, h0, trials, late=60):
    """Mean and variance of z, averaged over the last steps, with standard errors (jackknife over 20 groups)."""
    rng, h, z = np.random.default_rng(0), np.repeat(h0[None], trials, axis=0), []
    for u in inputs:
        h = net.step(h, u, rng.standard_normal(h.shape))
        z.append(net.output(h)[:, 0])
    z = np.array(z)[-late:]

    def moments(part):
        return np.array([part.mean(), part.var(axis=1, ddof=1).mean()])

    kept = [np.delete(z, np.s_[k::20], axis=1) for k in range(20)]
    left_out = np.array([moments(part) for part in kept])
    return moments(z), np.sqrt(19 / 20 * ((left_out - left_out.mean(axis=0)) ** 2).sum(axis=0))


def plain(net, inputs, h0):
    """Mean and variance of z (T, n_out) by the closure alone."""
    sigma = np.full(net.N, net.sigma)
    step = Step(net, sigma)
    slow = _slow.slow_direction(net, _mixture.closure_path(step, inputs, h0), sigma)
    return _mixture.run(step, inputs, h0, slow, np.full(len(inputs) + 1, np.inf))


def test_one_component_is_the_plain_closure(tanh_network):
    net, _ = tanh_network
    inputs = np.random.default_rng(0).normal(size=(20, 1))  # not held: propagate then corrects nothing
    mean, variance, mix = plain(net, inputs, np.zeros(net.N))
    closure = propagate(net, inputs[:, None])
    assert len(mix.p) == 1
    np.testing.assert_allclose(mean, closure.output[:, 0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(variance, closure.output_variance[:, 0], rtol=1e-12)


@pytest.mark.parametrize("v", [0.25, 0.3, 0.49, 0.5, 0.7, 1.0, 4.0])
def test_weights_keep_mean_and_variance(v):
    offset = np.linspace(-0.5, 0.5, 21)
    x = np.arange(-12, 13) - offset[:, None]
    w = _mixture.weights(x, np.full(21, v))
    assert w.min() >= 0
    for power, moment in ((0, 1.0), (1, 0.0), (2, v)):
        np.testing.assert_allclose((w * x**power).sum(axis=1), moment, atol=1e-8)


def test_rearranging_keeps_mean_and_covariance():
    rng = np.random.default_rng(1)
    K, N, d = 7, 5, 0.3
    A = rng.normal(size=(K, N, N)) / 2
    A[0] /= 30  # too narrow to split
    p, m, C, l = rng.dirichlet(np.ones(K)), rng.normal(size=(K, N)), A @ A.swapaxes(1, 2), rng.normal(size=N)
    q, after = _mixture.rearranged(_mixture.Components(p, Law(m, C)), l, d)

    def whole(p, m, C):
        apart = m - p @ m
        return p @ m, np.tensordot(p, C, 1) + (apart.T * p) @ apart

    for now, before in zip(whole(q, *after), whole(p, m, C), strict=True):
        np.testing.assert_allclose(now, before, atol=1e-4)  # what the dropped nodes held
    assert np.median(after.C @ l @ l) < 0.3 * d**2  # the split components have no width left along l


@pytest.mark.parametrize("form", ["rate", "current"])
def test_slow_direction_carries_the_variance_of_a_linear_network(form):
    rng = np.random.default_rng(2)
    N, sigma = 8, np.linspace(0.1, 0.4, 8)
    net = fpa.Network(W=0.3 * rng.normal(size=(N, N)), gamma=0.2, activation="linear", form=form, sigma=sigma)
    step, law = Step(net, sigma), Law(np.zeros((1, N)), np.zeros((1, N, N)))
    slow = _slow.slow_direction(net, _mixture.closure_path(step, np.zeros((30, 0)), np.zeros(N)), sigma)
    for t in range(30):
        law = step.law(law, np.zeros((1, N)), step.inputs(law, np.zeros((1, N))))
        np.testing.assert_allclose(slow.x[t + 1], law.C[0] @ slow.l[t + 1], rtol=1e-6, atol=1e-12)
    skew, kurt = _slow.departure(net, _mixture.closure_path(step, np.zeros((30, 0)), np.zeros(N)), slow)
    assert max(np.abs(skew).max(), np.abs(kurt).max()) < 1e-6


@pytest.mark.parametrize(
    ("w", "sigma", "closure_off"), [(1.05, 0.3, 0.1), (1.5, 0.3, 0.9), (1.5, 0.6, 0.5), (2.0, 0.3, 0.9)]
)
def test_one_neuron_agrees_with_the_exact_chain(w, sigma, closure_off):
    net = one_neuron(w, sigma)
    mean, variance, lost = exact_moments_in_time(w, sigma)
    assert lost < 1e-3
    found = _mixture.mixture(net, np.zeros((T, 0)), np.array([sigma]), np.zeros(1))
    slack = 2 * lost
    assert np.all(np.abs(found.mean[:, 0] - mean) <= found.mean_error[:, 0] + slack)
    assert np.all(np.abs(found.variance[:, 0] - variance) <= found.variance_error[:, 0] + slack * variance)
    assert found.variance_error[-1, 0] < 0.15 * variance[-1]
    _, alone, _ = plain(net, np.zeros((T, 0)), np.zeros(1))
    assert np.abs(alone[:, 0] / variance - 1).max() > closure_off


@pytest.mark.parametrize(("w", "sigma"), [(0.8, 0.1), (0.9, 0.2), (1.0, 0.2), (1.0, 0.3), (1.0, 0.45)])
def test_errors_of_one_gaussian_cover_the_exact_chain(w, sigma):
    """Averaged over the last steps; the correction, which is that of the end, does no harm at the first."""
    mean, variance, lost = exact_moments_in_time(w, sigma, 601)
    found = propagate(one_neuron(w, sigma), np.zeros((T, 1, 0)))
    assert found.components[0] == 1
    gap, error = found.output[:, 0, 0] - mean, found.output_error[:, 0, 0]
    assert abs(gap)[-60:].mean() <= error[-60:].mean() + lost
    assert (abs(gap)[:15] <= error[:15] + lost).all()
    gap, error = found.output_variance[:, 0, 0] - variance, found.output_variance_error[:, 0, 0]
    assert abs(gap)[-60:].mean() <= error[-60:].mean() + 2 * lost * variance[-1]


def test_second_order_in_the_spacing():
    """Halving the spacing divides the change of the variance by about four."""
    net, sigma, inputs = one_neuron(1.5, 0.6), np.array([0.6]), np.zeros((T, 0))
    step = Step(net, sigma)
    slow = _slow.slow_direction(net, _mixture.closure_path(step, inputs, np.zeros(1)), sigma)
    coarse, middle, fine = (
        _mixture.run(step, inputs, np.zeros(1), slow, _mixture.spacing(slow, nodes))[1][-60:].mean()
        for nodes in (2.5, 5.0, 10.0)
    )
    assert np.log2(abs(coarse - middle) / abs(middle - fine)) > 1.5


@pytest.mark.parametrize("sigma", [0.3, 0.7])
def test_network_near_a_pitchfork_agrees_with_monte_carlo(tanh_network, sigma):
    net, inputs = tanh_network
    net, inputs, h0 = net.with_sigma(sigma), inputs[:, 5], np.zeros(net.N)
    (mean, variance), (se, variance_se) = monte_carlo(net, inputs, h0, 1000)
    found = _mixture.mixture(net, inputs, np.full(net.N, sigma), h0)
    assert abs(found.mean[-60:].mean() - mean) <= found.mean_error[-60:].mean() + 4 * se
    assert abs(found.variance[-60:].mean() - variance) <= 0.1 * variance + 4 * variance_se
    assert found.variance_error[-60:].mean() < 0.5 * variance
    _, alone, _ = plain(net, inputs, h0)
    assert abs(alone[-60:].mean() - variance) > 0.3 * variance + 4 * variance_se


@pytest.mark.parametrize(("placement", "form"), [("in", "rate"), ("out", "rate"), ("in", "current")])
def test_bistable_rank_one_network_agrees_with_monte_carlo(placement, form):
    rng = np.random.default_rng(3)
    N = 32
    u = rng.standard_normal(N)
    W = 1.3 * np.outer(u, u) / N + 0.3 * rng.standard_normal((N, N)) / np.sqrt(N)
    settings = {"W": W, "b": 0.03 * u, "W_out": u[None] / N, "gamma": 0.1, "activation": "tanh", "sigma": 0.5}
    net = fpa.Network(**settings, placement=placement, form=form)
    inputs, h0 = np.zeros((T, 0)), np.zeros(N)
    (mean, variance), (se, variance_se) = monte_carlo(net, inputs, h0, 1500)
    found = _mixture.mixture(net, inputs, np.full(N, 0.5), h0)
    assert abs(found.mean[-60:].mean() - mean) <= found.mean_error[-60:].mean() + 4 * se
    assert abs(found.variance[-60:].mean() - variance) <= found.variance_error[-60:].mean() + 4 * variance_se
    _, alone, _ = plain(net, inputs, h0)
    assert abs(alone[-60:].mean() - variance) > 4 * variance_se + found.variance_error[-60:].mean()


@pytest.mark.parametrize("name", ["tanh-in-0.5", "relu-in-0.3", "relu-out-0.5", "softplus-in-1.0"])
def test_only_the_condition_near_the_pitchfork_needs_a_mixture(name):
    net = fpa.load(EXAMPLES / f"function-approximation-{name}.pt")
    needed = propagate(net, np.repeat(net.conditions[None], T, axis=0)).components > 1
    assert [c for c in range(11) if needed[c]] == ([5] if name.startswith("tanh") else [])


def test_divergence_is_an_infinite_error():
    net = fpa.Network(W=[[40.0]], b=[1.0], gamma=1.0, activation="relu", sigma=0.5)
    found = _mixture.mixture(net, np.zeros((400, 0)), np.array([0.5]), np.zeros(1))
    assert np.isinf(found.mean_error[-1, 0])
    assert np.isinf(found.variance_error[-1, 0])
