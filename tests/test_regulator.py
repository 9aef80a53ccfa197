"""The single-neuron regulator: formulas against the exact chain, limits with their order, branches, bad input."""

import numpy as np
import pytest
from chains import exact_moments
from derivations import derived, falls
from scipy.integrate import quad

import fpanalysis as fpa
from fpanalysis.regulator import Branch, Regulator, compare
from fpanalysis.regulator._single_halves import halves

PHI = lambda z: np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)  # noqa: E731


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("gamma", [0.02, 0.1, 0.2])
@pytest.mark.parametrize("w", [-3.0, -1.5, -0.5, 0.2, 0.5])
def test_the_shift_is_within_two_percent_of_the_chain(w, gamma, placement):
    """Or within 1e-4 sigma where the shift is smaller than that; and by an error that says so."""
    for ratio in (0.2, 0.5, 1.0, 3.0):
        one = Regulator.at_target(1.0, w=w, gamma=gamma, sigma=ratio, placement=placement)
        exact = one.exact()
        shift = exact.mean[0] - one.h0
        assert abs(one.shift() - shift) <= max(0.02 * abs(shift), 1e-4 * ratio)
        assert abs(one.mean() - exact.mean[0]) <= one.error() + exact.error[0]


@pytest.mark.parametrize(("w", "b"), [(-3.0, 0.4), (-1.0, 0.0), (0.7, -0.2), (0.5, 1.0), (-2.0, 12.0), (-2.0, -6.0)])
def test_two_halves_of_normal_laws_are_those_derived(w, b):
    """Noise out: against the symbolic result, also far from the kink."""
    found = halves(w, b, 0.1, 0.8)
    derivation = derived("relu", "out")
    for name in ("mean", "variance"):
        symbolic = float(derivation.function(name, "w b gamma sigma")(w, b, 0.1, 0.8))
        assert getattr(found, name) == pytest.approx(symbolic, rel=1e-9)
    one = Regulator(w=w, b=b, gamma=0.1, sigma=0.8, placement="out")
    assert abs(found.mean - one.mean()) <= one.error()


@pytest.mark.parametrize(("w", "b"), [(-2.0, 1.0), (0.5, 0.4), (-1.0, -0.3)])
def test_the_halves_err_by_gamma_squared(w, b):
    """Relative to the shift, at a fixed distance from the kink in units of the width sqrt(gamma); the Gaussian balance
    errs by as much at every gamma. What the error says covers."""
    off, stated = [], []
    for gamma in (0.08, 0.04, 0.02):
        one = Regulator(w=w, b=b * gamma**0.5, gamma=gamma, sigma=1.0, placement="out")
        exact = one.exact().mean[0]
        found = halves(w, one.b, gamma, 1.0)
        off.append((found.mean - exact) / (exact - one.h0))
        stated.append(found.error / (exact - one.h0))
    assert falls(off, 2)
    assert (np.abs(off) <= stated).all()
    assert (np.abs(stated) <= 30 * np.abs(off)).all()


def test_the_chain_covers_where_it_does_not_resolve_the_noise():
    """w near 1 and small gamma: the law is many times wider than the noise of one step, and no degree resolves that;
    the halves are right there to 1e-6."""
    for w, gamma, b in ((0.9919, 0.0109, 0.0068), (0.988, 0.018, 0.01), (0.946, 0.013, 0.01), (0.982, 0.0101, 0.004)):
        net = Regulator(w=w, b=b, gamma=gamma, sigma=1.0, placement="out").network()
        exact, found = fpa.stationary(net, method="chain"), halves(w, b, gamma, 1.0)
        assert abs(exact.mean[0] - found.mean) <= exact.error[0] + found.error
        assert found.error < 1e-4 * found.mean


def test_the_better_of_two_laws_with_noise_out():
    """Small gamma, two deviations above the kink: the Gaussian formula misses a tenth of the shift."""
    one = Regulator(w=-3.0, b=1.6, gamma=0.02, sigma=1.0, placement="out")
    shift = one.exact().mean[0] - one.h0
    assert one.shift() == pytest.approx(shift, rel=0.005)
    assert one.error() < 0.01 * shift
    assert abs(one.gaussian()[0] - one.h0 - shift) > 0.05 * shift


@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
@pytest.mark.parametrize("placement", ["in", "out"])
def test_errors_cover_random_neurons(activation, placement):
    """gamma up to 1, w up to 1 and down to the flip: at least 87 % of 24, where 95 % are promised."""
    rng = np.random.default_rng(7)
    covered, spread = [], []
    for _ in range(24):
        gamma = float(np.exp(rng.uniform(np.log(0.02), 0)))
        near = 1 - float(np.exp(rng.uniform(np.log(0.01), 0)))
        w = float(rng.choice([near, max(-(2 / gamma - 1), -20) * near, rng.uniform(-3, 0.5)]))
        sigma = float(np.exp(rng.uniform(np.log(0.1), np.log(2))))
        b = float(rng.normal()) * (sigma + 0.5)
        one = Regulator(w=w, b=b, gamma=gamma, sigma=sigma, activation=activation, placement=placement)
        exact = one.exact()
        if one.status.ok and exact.status.ok:
            covered.append(abs(one.mean() - exact.mean[0]) <= one.error() + exact.error[0])
            spread.append(abs(one.variance() - exact.cov[0, 0]) <= one.variance_error() + 1e-12)
    assert len(covered) >= 22
    assert np.mean(covered) >= 0.87
    assert np.mean(spread) >= 0.87


@pytest.mark.parametrize("placement", ["in", "out"])
def test_against_an_independent_chain(placement):
    one = Regulator(w=-1.2, b=0.7, gamma=0.15, sigma=0.4, placement=placement)
    mean, variance, uncertain = exact_moments(one.network())
    assert abs(one.mean() - mean) <= one.error() + uncertain
    assert abs(one.variance() - variance) <= one.variance_error()


@pytest.mark.parametrize(
    ("activation", "placement", "w", "b"),
    [
        ("relu", "in", -1.5, 1.0),
        ("relu", "in", 0.5, 0.05),
        ("relu", "in", -1.0, -0.3),
        ("softplus", "in", -2.0, 0.5),
        ("softplus", "out", -2.0, 0.5),
        ("tanh", "in", 0.5, 0.6),
    ],
)
def test_the_slope_in_gamma_is_that_of_the_chain(activation, placement, w, b):
    """(m_chain - m_slow) / gamma tends to the slope, and the distance to it halves with gamma."""
    off = []
    for gamma in (0.02, 0.01):
        one = Regulator(w=w, b=b, gamma=gamma, sigma=0.5, activation=activation, placement=placement)
        slow = one.slow_limit()
        exact = one.exact()
        off.append((exact.mean[0] - slow.mean) / gamma - slow.slope)
        assert exact.cov[0, 0] / gamma == pytest.approx(slow.variance_slope, rel=5 * gamma * (1 + abs(w)))
    assert abs(off[1]) <= 0.05 * abs(slow.slope)
    assert off[0] / off[1] == pytest.approx(2, rel=0.15)


@pytest.mark.parametrize(("w", "b", "sigma"), [(-1.5, 1.0, 0.5), (0.5, 0.05, 1.0), (-1.0, -0.3, 0.5), (0.9, 0.2, 0.1)])
def test_the_slow_limit_is_the_closed_form(w, b, sigma):
    """m = sigma g(a / sigma) by direct integration, a = w m + b, shift = M(-a) / (1 - w) for b > 0."""
    one = Regulator(w=w, b=b, sigma=sigma)
    slow = one.slow_limit()
    M = lambda a: quad(lambda z: max(a + sigma * z, 0.0) * PHI(z), -a / sigma, 12)[0]  # noqa: E731
    assert slow.mean == pytest.approx(M(slow.a), rel=1e-8)
    assert slow.a == pytest.approx(w * slow.mean + b, abs=1e-12)
    assert slow.shift == pytest.approx(M(-slow.a) / (1 - w) if b > 0 else slow.mean, rel=1e-8)


def test_the_third_cumulant_improves_the_closure():
    """By an order of magnitude at least, on a neuron for which the Gaussian balance errs by 1e-3 of the shift."""
    one = Regulator.at_target(1.0, w=-3.0, gamma=0.2, sigma=1.0)
    exact = one.exact().mean[0]
    assert abs(one.mean() - exact) < 0.2 * abs(one.gaussian()[0] - exact)


def test_the_balance_without_cumulants_is_the_closure_of_one_neuron():
    one = Regulator(w=-1.5, b=1.0, gamma=0.2, sigma=0.8)
    closure = fpa.stationary(one.network(), method="closure")
    assert one.mean() == pytest.approx(closure.mean[0], abs=1e-3 * closure.error[0])
    assert one.gaussian()[0] == pytest.approx(closure.mean[0] - closure.details["correction"][0], abs=1e-9)
    assert one.variance() == pytest.approx(closure.cov[0, 0], rel=1e-4)


@pytest.mark.parametrize("placement", ["in", "out"])
def test_other_parts_of_the_package_say_the_same(placement):
    """The attribution of a readout's shift, and the loss curve of a network that settles for 12 time constants."""
    one = Regulator(w=-1.5, b=0.3, gamma=0.15, sigma=0.5, placement=placement)
    net = fpa.Network(
        W=[[-1.5]], b=[0.3], W_in=[[0.0]], W_out=[[2.0]], b_out=[0.1], gamma=0.15, sigma=0.5, placement=placement
    )
    bias = fpa.attribute_bias(net, method="chain")
    assert bias.total[0] == pytest.approx(2 * one.shift(), abs=2 * one.error())
    inputs, targets, mask = np.zeros((80, 1, 1)), np.full((80, 1, 1), 0.7), np.zeros((80, 1))
    mask[-1] = 1
    curve = fpa.loss_curve(net, (inputs, targets, mask), [0.0, 0.5])
    removed = Regulator(w=-1.5, b=0.3, gamma=0.15)
    assert curve.loss[0] == pytest.approx(removed.loss(0.7, 2.0, 0.1).total, rel=1e-6)
    assert curve.loss[1] == pytest.approx(one.loss(0.7, 2.0, 0.1).total, rel=3e-3)


@pytest.mark.parametrize("placement", ["in", "out"])
def test_a_linear_neuron_is_exact(placement):
    """m = b / (1 - w), Var = gamma^2 sigma^2 / (1 - J^2)."""
    one = Regulator(w=0.4, b=1.0, gamma=0.3, sigma=0.7, activation="linear", placement=placement)
    J = 1 - 0.3 + 0.3 * 0.4
    assert one.mean() == pytest.approx(1 / 0.6, rel=1e-13)
    assert one.variance() == pytest.approx(0.3**2 * 0.7**2 / (1 - J**2), rel=1e-12)
    assert one.error() < 1e-13


def test_far_above_the_kink_a_relu_neuron_is_linear():
    relu = Regulator(w=-1.0, b=20.0, gamma=0.2, sigma=0.5)
    linear = Regulator(w=-1.0, b=20.0, gamma=0.2, sigma=0.5, activation="linear")
    assert relu.shift() == pytest.approx(0.0, abs=1e-14)
    assert relu.variance() == pytest.approx(linear.variance(), rel=1e-12)


def test_scaling_state_bias_and_noise_together_changes_nothing():
    one, ten = (Regulator(w=-1.0, b=0.2 * k, gamma=0.2, sigma=0.5 * k) for k in (1, 10))
    assert ten.mean() == pytest.approx(10 * one.mean(), rel=1e-12)
    assert ten.error() == pytest.approx(10 * one.error(), rel=1e-2)


@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh", "sigmoid", "erf"])
@pytest.mark.parametrize("placement", ["in", "out"])
def test_at_target(activation, placement):
    for target in (0.05, 0.5):
        one = Regulator.at_target(target, w=-1.5, gamma=0.2, sigma=0.6, activation=activation, placement=placement)
        assert one.mean() == pytest.approx(target, rel=1e-9)


def test_the_target_fixes_the_operating_point():
    """The smaller the target relative to the noise, the further under the kink; g^-1 in the slow limit."""
    points = []
    for target in (1.0, 0.3, 0.1, 0.01):
        one = Regulator.at_target(target, w=-1.0, gamma=1e-4, sigma=0.5)
        r = one.a / 0.5
        g = quad(lambda z, r=r: (r + z) * PHI(z), -r, 12)[0]
        assert 0.5 * g == pytest.approx(target, rel=1e-3)
        points.append(r)
    assert points == sorted(points, reverse=True)
    assert points[-1] < -1


def test_without_noise_nothing_moves():
    one = Regulator(w=-1.0, b=1.0)
    assert (one.mean(), one.variance(), one.shift(), one.error()) == (0.5, 0.0, 0.0, 0.0)
    assert one.slow_limit().shift == 0.0
    assert one.exact().mean[0] == pytest.approx(0.5, abs=1e-15)
    assert Regulator.at_target(0.5, w=-1.0).b == pytest.approx(1.0, abs=1e-12)


def test_the_loss_is_bias_and_variance():
    one = Regulator.at_target(0.4, w=-1.0, gamma=0.1, sigma=0.5)
    held = one.loss(0.4)
    assert held.bias2 == pytest.approx(0, abs=1e-18)
    assert held.total == pytest.approx(one.variance(), rel=1e-12)
    read = one.loss(1.0, c=2.0, d=0.1)
    assert read == pytest.approx((0.01 + 4 * one.variance(), 0.01, 4 * one.variance()), rel=1e-6)
    removed = Regulator(w=-1.0, b=one.b, gamma=0.1)
    assert removed.loss(0.4).bias2 == pytest.approx(one.shift() ** 2, rel=1e-6)


@pytest.mark.parametrize(
    ("settings", "expected", "status"),
    [
        ({"w": -1.5, "b": 1.0, "sigma": 0.5}, Branch.ABOVE, "ok"),
        ({"w": -1.0, "b": 0.2, "sigma": 0.5}, Branch.BELOW, "ok"),
        ({"w": -1.0, "b": -0.2, "sigma": 0.5}, Branch.SILENT, "ok"),
        ({"w": 1.0, "b": -0.5, "sigma": 0.3}, Branch.SILENT, "ok"),
        ({"w": -1.0, "b": 0.2, "sigma": 0.5, "activation": "softplus"}, Branch.SMOOTH, "ok"),
        ({"w": 1.0, "b": 0.5, "sigma": 0.3}, Branch.DIVERGES, "diverged"),
        ({"w": 1.5, "b": 1.0, "sigma": 0.3}, Branch.DIVERGES, "diverged"),
        ({"w": 1.2, "b": -0.2, "sigma": 0.3}, Branch.QUASI, "diverged"),
        ({"w": -25.0, "b": 1.0, "sigma": 0.3}, Branch.FLIPS, "no stable fixed point"),
        ({"w": -60.0, "b": 1.0, "sigma": 0.3}, Branch.FLIPS, "no stable fixed point"),
        ({"w": -60.0, "b": 1.0, "sigma": 0.3, "placement": "out"}, Branch.FLIPS, "no stable fixed point"),
        ({"w": -25.0, "b": 1.0, "sigma": 0.3, "activation": "linear"}, Branch.DIVERGES, "diverged"),
        ({"w": 2.0, "b": 0.1, "sigma": 0.3, "activation": "tanh"}, Branch.SEVERAL, "ok"),
    ],
)
def test_branches(settings, expected, status):
    one = Regulator(**settings)
    assert (one.branch, one.status.value) == (expected, status)
    assert np.isfinite(one.mean()) == one.status.ok
    if not expected.has_law:
        assert one.exact().status is fpa.Status.DIVERGED
    elif expected is Branch.SEVERAL:
        assert one.error() == np.inf
    else:
        assert one.exact().status.ok
    assert (one.escape() is not None) == (expected is Branch.QUASI)


def test_a_neuron_on_either_side_of_the_flip():
    edge = 1 - 2 / 0.5
    assert Regulator(w=edge + 0.01, b=1.0, gamma=0.5, sigma=0.3).branch is Branch.ABOVE
    assert Regulator(w=edge - 0.01, b=1.0, gamma=0.5, sigma=0.3).branch is Branch.FLIPS


def test_a_leap_across_the_kink_is_no_divergence():
    """w = -60: one step from h < 0 leads six times as far to h > 0, where it decays. Against 4000 sampled neurons
    over 2000 steps after 1000; the error of their mean from 20 blocks, which hold about ten cycles each."""
    exact = Regulator(w=-60.0, b=1.0, sigma=0.3).exact()
    net, rng = Regulator(w=-60.0, b=1.0, sigma=0.3).network(), np.random.default_rng(1)
    h, means = np.full((4000, 1), exact.mean[0]), []
    for _ in range(3000):
        h = net.step(h, xi=rng.standard_normal(h.shape))
        means.append(h.mean())
    blocks = np.reshape(means[1000:], (20, 100)).mean(axis=1)
    assert abs(blocks.mean() - exact.mean[0]) <= 4 * blocks.std(ddof=1) / np.sqrt(20) + exact.error[0]


def test_without_recurrence_noise_out_is_an_autoregression():
    """w = 0: every method has m = f(b) and Var = gamma sigma^2 / (2 - gamma), the diffusion's gamma sigma^2 / 2."""
    result = compare(Regulator(w=0.0, b=0.5, gamma=0.2, placement="out"), [0.3])
    assert result.mean[:4, 0] == pytest.approx(0.5, abs=1e-12)
    diffused, exact = 0.2 * 0.09 / 2, 0.2 * 0.09 / 1.8
    assert result.deviation[:4, 0] ** 2 == pytest.approx([diffused, exact, diffused, exact], rel=1e-9)


def test_the_rate_of_escape_is_that_of_sampled_runs():
    """2000 neurons for 4000 steps after 500: the count of escapes is Poisson, its bound 4 standard deviations; the
    mean of those that remain has the quasi-stationary mean within 4 standard errors."""
    one = Regulator(w=1.2, b=-0.2, sigma=0.5)
    gone = one.escape()
    assert gone.status.ok
    assert gone.threshold == pytest.approx(1.0)
    net, rng = one.network(), np.random.default_rng(3)
    assert gone.edge > 1.0
    h, escaped, exposed = np.full((2000, 1), gone.mean), 0, 0
    for t in range(4500):
        h = net.step(h, xi=rng.standard_normal(h.shape))
        out = h[:, 0] > gone.edge
        if t >= 500:
            escaped, exposed = escaped + out.sum(), exposed + len(h)
        h[out] = rng.choice(h[~out], out.sum()) if out.any() else h[out]  # the law of those that remain
    expected = gone.rate * exposed
    assert abs(escaped - expected) <= 4 * np.sqrt(expected)
    assert abs(h.mean() - gone.mean) <= 4 * np.sqrt(gone.variance / 2000)


def test_a_rare_escape_follows_its_exponential_law():
    """log rate against 1 / sigma^2 is a line (Kramers) for a small noise out, which the state sees as it is."""
    rates = [Regulator(w=1.2, b=-0.2, sigma=sigma, placement="out").escape().rate for sigma in (0.3, 0.35, 0.4, 0.45)]
    slopes = np.diff(np.log(rates)) / np.diff(1 / np.array([0.3, 0.35, 0.4, 0.45]) ** 2)
    assert (slopes < 0).all()
    assert np.ptp(slopes) < 0.15 * abs(slopes.mean())
    assert Regulator(w=1.2, b=-1.0, sigma=0.1).escape().rate == 0.0


def test_methods_side_by_side():
    result = compare(Regulator(w=-1.5, b=1.0, gamma=0.1), (0, 0.5))
    assert result.methods == ("slow limit", "finite gamma", "fokker-planck", "chain", "monte-carlo")
    assert (result.shift[:, 0] == 0).all()
    chain = result.mean[3, 1]
    assert (np.abs(result.mean[1:, 1] - chain) <= result.error[1:, 1]).all()
    assert abs(result.mean[0, 1] - chain) > 10 * abs(result.mean[1, 1] - chain)
    np.testing.assert_allclose(result.deviation[:, 1], result.deviation[3, 1], rtol=0.1)


def test_a_network_and_its_fixed_points():
    one = Regulator(w=-1.0, b=1.0, gamma=0.2, sigma=0.3, activation="softplus", placement="out")
    net = one.network()
    assert (net.N, net.gamma, net.sigma, net.placement, net.activation.name) == (1, 0.2, 0.3, "out", "softplus")
    assert one.fixed_points().h[0, 0] == pytest.approx(one.h0, abs=1e-10)
    assert fpa.regulator.Regulator is Regulator


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gamma": 0.0}, "gamma must lie in"),
        ({"gamma": 1.5}, "gamma must lie in"),
        ({"sigma": -0.1}, "sigma must be >= 0"),
        ({"w": np.nan}, "w must be finite"),
        ({"b": "1"}, "b must be an array of real numbers"),
        ({"w": [1.0, 2.0]}, "w must be one number"),
        ({"activation": "step"}, "unknown activation 'step'"),
        ({"placement": "on"}, "placement must be 'in' or 'out'"),
    ],
)
def test_bad_input(change, message):
    with pytest.raises(fpa.InputError, match=message):
        Regulator(**({"w": -1.0, "b": 1.0, "sigma": 0.3} | change))


@pytest.mark.parametrize(
    ("target", "settings"),
    [
        (-0.2, {}),
        (0.0, {}),
        (-0.2, {"sigma": 0.0}),
        (0.0, {"placement": "out"}),
        (0.0, {"activation": "softplus"}),
        (1.0, {"activation": "tanh"}),
        (-0.1, {"activation": "sigmoid"}),
    ],
)
def test_targets_out_of_reach(target, settings):
    with pytest.raises(fpa.InputError, match="target must lie between"):
        Regulator.at_target(target, **({"w": -1.0, "sigma": 0.5} | settings))


@pytest.mark.parametrize(("target", "sigma"), [(1e9, 0.5), (1e-9, 0.5), (1.0, 1e9), (1e-6, 1e-9)])
@pytest.mark.parametrize("placement", ["in", "out"])
def test_targets_of_any_size_are_reached(target, sigma, placement):
    one = Regulator.at_target(target, w=-1.0, sigma=sigma, placement=placement)
    assert one.mean() == pytest.approx(target, abs=1e-10 * (target + sigma))


def test_a_target_at_the_kink_is_reached_where_noise_does_not_lift_it():
    assert Regulator.at_target(0.0, w=-1.0).mean() == 0.0
    assert Regulator.at_target(0.0, w=0.0, sigma=0.5, placement="out").mean() == 0.0


def test_no_target_where_nothing_holds_the_state():
    with pytest.raises(fpa.InputError, match="has no law by formula"):
        Regulator.at_target(0.5, w=1.5, sigma=0.5)
