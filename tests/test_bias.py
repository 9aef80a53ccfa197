"""Asymmetric attenuation, operating points, and the secant identity."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import erfcx, ndtr

import fpanalysis as fpa
from fpanalysis.activations import get_activation
from fpanalysis.bias._laws import Law
from fpanalysis.bias.attribution import _attribution
from fpanalysis.stationary import Problem

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"


def random_network(**kwargs):
    rng = np.random.default_rng(5)
    N = 30
    arguments = {"W": 0.8 * rng.standard_normal((N, N)) / np.sqrt(N), "b": 0.4 * rng.standard_normal(N)}
    arguments |= {"W_out": rng.standard_normal((2, N)) / N, "b_out": [1.0, -1.0], "gamma": 0.2, "sigma": 0.7}
    return fpa.Network(**(arguments | kwargs))


def test_relu_bias_at_the_kink_and_its_symmetry():
    assert fpa.attenuation_bias("relu", 0.0, 0.5) == pytest.approx(0.5 / np.sqrt(2 * np.pi), rel=1e-15)
    a = np.linspace(0.01, 3, 20)
    np.testing.assert_allclose(fpa.attenuation_bias("relu", a, 0.5), fpa.attenuation_bias("relu", -a, 0.5), rtol=1e-14)
    assert fpa.attenuation_bias("softplus", np.zeros((3, 1)), [0.1, 1.0]).shape == (3, 2)


def test_bad_arguments():
    with pytest.raises(fpa.InputError, match="standard deviation"):
        fpa.attenuation_bias("relu", 0.0, -1.0)
    with pytest.raises(fpa.InputError, match="numbers that broadcast"):
        fpa.attenuation_bias("relu", "a", 1.0)
    with pytest.raises(fpa.InputError, match="numbers that broadcast"):
        fpa.attenuation_bias("relu", [1.0, 2.0], [1.0, 2.0, 3.0])
    with pytest.raises(fpa.InputError, match="unknown activation"):
        fpa.attenuation_bias("rellu", 0.0, 1.0)


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softplus", "tanh", "sigmoid", "erf", "linear"])
@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_secant_identity(activation, kwargs):
    """W_out (m - h*) = sum of the shares: an identity, so it holds to rounding."""
    net = random_network(activation=activation, **kwargs)
    att = fpa.attribute_bias(net)
    assert att.status.ok
    assert att.residual < 1e-12 * (1 + np.abs(att.total).max())
    np.testing.assert_allclose(att.contributions.sum(axis=1), att.total, rtol=0, atol=1e-12)
    st = att.stationary
    np.testing.assert_allclose(att.total, st.output - net.output(st.start), rtol=0, atol=1e-12)


def test_local_bias_is_that_of_the_noisy_operating_point():
    """Rate form: beta_i = M(a_i, s_i) - f(a_i), up to the closure's own correction."""
    att = fpa.attribute_bias(random_network(activation="softplus"))
    net, st = random_network(activation="softplus"), att.stationary
    s = np.sqrt(np.diag(net.W @ st.cov @ net.W.T) + net.sigma**2)
    # beta of the corrected law holds what skewness does to E f as well, which is part of the correction
    allowed = st.error.max() + 2 * np.abs(st.details["correction"]).max()
    np.testing.assert_allclose(att.beta, net.activation.beta(att.a, s), rtol=0, atol=allowed)


def test_without_readout_every_neuron_is_an_output():
    att = fpa.attribute_bias(random_network(W_out=None, b_out=None))
    assert att.contributions.shape == (30, 30)
    np.testing.assert_allclose(att.total, att.stationary.mean - att.stationary.start, atol=1e-15)


def test_no_noise_no_bias():
    att = fpa.attribute_bias(random_network(sigma=0.0))
    assert np.abs(att.beta).max() < 1e-14
    assert np.abs(att.contributions).max() < 1e-14


@pytest.mark.parametrize("form", ["rate", "current"])
def test_without_a_law_the_status_says_so(form):
    att = fpa.attribute_bias(fpa.Network(W=[[1.5]], b=[1.0], sigma=0.1, form=form))
    assert att.status is fpa.Status.DIVERGED
    assert np.isnan(att.contributions).all()


ACTIVATIONS = ["linear", "relu", {"name": "leaky_relu", "slope": -0.3}, "softplus", "tanh", "sigmoid", "erf"]
SMOOTH = ["softplus", "tanh", "sigmoid", "erf"]
S = [1e-3, 0.1, 1.0, 10.0, 100.0]


def operating(s):
    return np.array([0.0, 0.5, -0.5, 3.0, -3.0, 12.0, -12.0]) * s, np.array([2.0, -2.0, 20.0, -20.0])


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("s", S)
def test_the_halves_sum_to_the_bias(activation, s):
    a = np.concatenate(operating(s))
    at = fpa.attenuation(activation, a, s)
    size = np.abs(at.up) + np.abs(at.down)
    rounding = 4e-16 * np.abs(a) * (not at.activation.smooth)  # of f(a + d) - f(a)
    assert (np.abs(at.up + at.down - at.beta) <= 1e-10 * size + rounding + 1e-300).all()


def test_the_halves_of_relu():
    """Above the kink all that goes up passes; below it nothing that goes down can be clipped."""
    for s in S:
        r = np.array([0.0, 1e-6, 0.3, 2.0, 12.0, 30.0])
        above, below = fpa.attenuation("relu", r * s, s), fpa.attenuation("relu", -r * s, s)
        np.testing.assert_allclose(above.up, s / np.sqrt(2 * np.pi), rtol=1e-13)
        np.testing.assert_allclose(below.up, below.beta, rtol=1e-12)
        np.testing.assert_array_equal(below.down, 0)
        slope = fpa.attenuation({"name": "leaky_relu", "slope": -0.3}, r * s, s)
        np.testing.assert_allclose(slope.down, 0.3 * s / np.sqrt(2 * np.pi) + 1.3 * above.down, rtol=1e-12)


@pytest.mark.parametrize("activation", SMOOTH)
def test_the_halves_against_adaptive_quadrature(activation):
    f = get_activation(activation).f
    for s in (0.1, 1.0, 10.0):
        for a in (0.0, 0.7, -2.0, 4.0):
            at = fpa.attenuation(activation, a, s)
            for side, half in ((1, at.up), (-1, at.down)):
                points = sorted({x for x in (-side * a / s + k / s for k in (-3, 0, 3)) if 0 < x < 12} | {3.0})
                value = quad(
                    lambda t, side=side, a=a, s=s: (f(a + side * s * t) - f(a)) * np.exp(-(t**2) / 2),
                    *(0, 12),
                    points=points,
                    epsabs=1e-14,
                    limit=200,
                )[0]
                assert float(half) == pytest.approx(value / np.sqrt(2 * np.pi), rel=1e-9, abs=1e-13)


def test_the_halves_in_exponential_tails():
    """Far below 0, softplus is e^x and tanh is 2 e^2x - 1, to a relative e^-300 in the halves that stay there."""
    for activation, scale, rate in (("softplus", 1.0, 1.0), ("tanh", 2.0, 2.0)):
        for s in (0.1, 1.0, 100.0):
            down = -scale * np.exp(-300 * rate) * (1 - erfcx(rate * s / np.sqrt(2))) / 2
            assert float(fpa.attenuation(activation, -300.0, s).down) == pytest.approx(down, rel=1e-12)
        up = scale * np.exp(-300 * rate) * (np.exp(rate**2 / 2) * ndtr(rate) - 0.5)
        assert float(fpa.attenuation(activation, -300.0, 1.0).up) == pytest.approx(up, rel=1e-12)


@pytest.mark.parametrize("activation", ["tanh", "erf"])
def test_mirrored_neurons_have_mirrored_halves(activation):
    a = np.array([0.0, 0.3, 1.0, 5.0])
    right, left = fpa.attenuation(activation, a, 0.8), fpa.attenuation(activation, -a, 0.8)
    np.testing.assert_allclose(right.up, -left.down, rtol=1e-14)
    np.testing.assert_allclose(right.gain, left.gain, rtol=1e-14)


@pytest.mark.parametrize("activation", SMOOTH)
def test_noise_gain_tends_to_the_slope_squared(activation):
    """V / s^2 = f'^2 + O(s^2): the difference falls fourfold with each halving of s."""
    f, a = get_activation(activation), np.array([-0.8, 0.4])
    limit = fpa.attenuation(activation, a, 0.0)
    np.testing.assert_array_equal(limit.gain, f.df(a) ** 2)
    gaps = [fpa.attenuation(activation, a, s).gain - f.df(a) ** 2 for s in (0.04, 0.02, 0.01)]
    orders = np.log2([gaps[0] / gaps[1], gaps[1] / gaps[2]])
    np.testing.assert_allclose(orders, 2, atol=0.05)
    np.testing.assert_allclose(fpa.attenuation(activation, a, 1e-200).gain, limit.gain)


@pytest.mark.parametrize("activation", ["relu", "softplus", "erf"])
def test_nan_and_shapes(activation):
    at = fpa.attenuation(activation, [np.nan, 0.0, 0.0], [1.0, np.nan, np.inf])
    assert np.isfinite(fpa.attenuation(activation, 0.0, 1e30).beta)
    fpa.attenuation(activation, 1.0, 1e308)  # numbers or NaN, and no warning
    assert np.isnan([at.up, at.down, at.beta, at.V, at.gain]).all()
    assert fpa.attenuation("tanh", np.zeros((3, 1)), [0.0, 1.0]).up.shape == (3, 2)


@pytest.mark.parametrize(("kwargs", "own"), [({}, 0.7), ({"placement": "out"}, 0.0), ({"form": "current"}, None)])
def test_operating_points_are_those_of_the_closure(kwargs, own):
    net = random_network(activation="softplus", **kwargs)
    points, st = fpa.operating_points(net), fpa.stationary(net, method="closure")
    np.testing.assert_array_equal(points.a[0], net.preactivation(st.mean))
    s2 = np.diag(st.cov) if own is None else np.diag(net.W @ st.cov @ net.W.T) + own**2
    np.testing.assert_allclose(points.s[0], np.sqrt(s2), rtol=1e-12)
    at = fpa.attenuation("softplus", points.a, points.s)
    for name in ("beta", "up", "down", "V"):
        np.testing.assert_array_equal(getattr(points, name), getattr(at, name))
    if own is None:  # the variance that x' = (1 - gamma) x + gamma sigma xi keeps
        own = points.own[0]
        assert own**2 == pytest.approx(0.8**2 * own**2 + 0.2**2 * 0.7**2)
    np.testing.assert_array_equal(points.own, own)
    noise = own or 0.7  # with noise out: what sigma would do, were it inside
    weights = np.abs(net.W_out).sum(axis=0)
    gain = net.activation.V(points.a[0], noise) / noise**2
    assert points.mean_gain == pytest.approx(weights @ gain / weights.sum(), rel=1e-12)


@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_without_coupling_all_of_it_is_direct(kwargs):
    """Independent neurons: each has the bias of its own noise, exactly; noise out makes none."""
    net = random_network(W=np.zeros((30, 30)), activation="softplus", **kwargs)
    att = fpa.attribute_bias(net)
    own = fpa.operating_points(net).own
    np.testing.assert_allclose(att.contributions, net.W_out * net.activation.beta(net.b, own), rtol=0, atol=1e-13)
    np.testing.assert_allclose(att.recurrent, 0, atol=1e-13)


@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
def test_direct_and_recurrent_make_the_contributions(kwargs):
    net = random_network(activation="relu", **kwargs)
    att = fpa.attribute_bias(net)
    np.testing.assert_allclose(att.direct + att.recurrent, att.contributions, rtol=0, atol=1e-15)
    own = fpa.attenuation_bias("relu", att.a, fpa.operating_points(net).own)
    np.testing.assert_allclose(att.direct, att.leverage * own, rtol=0, atol=1e-15)
    assert np.abs(att.recurrent).max() > 1e-6
    if net.placement == "out":
        np.testing.assert_array_equal(att.direct, 0)


def test_leverage_is_the_derivative_by_the_bias_of_f():
    """Linear f: what a unit added to f of neuron i puts on the output, by finite differences of the fixed point."""
    net = random_network(activation="linear")
    leverage = fpa.attribute_bias(net).leverage
    h = fpa.stationary(net, sigma=0.0, method="closure").mean
    for i in (0, 17):
        moved = fpa.Network(W=net.W, b=net.b + np.eye(30)[i], W_out=net.W_out, activation="linear", gamma=0.2)
        change = net.W_out @ (fpa.stationary(moved, sigma=0.0, method="closure").mean - h)
        np.testing.assert_allclose(leverage[:, i], change, rtol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_exact_chain_agrees_with_the_closure(activation):
    net = fpa.Network(W=[[-1.5]], b=[0.3], gamma=0.2, sigma=0.5, activation=activation)
    exact, closure = fpa.attribute_bias(net, method="chain"), fpa.attribute_bias(net)
    assert exact.stationary.method == "chain"
    np.testing.assert_allclose(exact.contributions.sum(axis=1), exact.total, rtol=1e-12)
    assert abs(exact.total - closure.total)[0] <= (exact.error + closure.error)[0]
    assert exact.direct[0, 0] == pytest.approx(closure.direct[0, 0], rel=1e-3)


@pytest.fixture(scope="module")
def driven():
    u = np.linspace(-1, 1, 5)[:, None]
    return random_network(W_in=np.random.default_rng(2).standard_normal((30, 1)), conditions=u)


def test_shares_over_conditions(driven):
    bias = fpa.network_bias(driven)
    assert bias.status.ok
    parts = [fpa.attribute_bias(driven, u) for u in driven.conditions]
    weight = sum(part.total @ part.total for part in parts)
    np.testing.assert_allclose(bias.shares, sum(part.total @ part.contributions for part in parts) / weight, atol=1e-10)
    assert bias.shares.sum() == pytest.approx(1, abs=1e-9)
    np.testing.assert_allclose(bias.direct + bias.recurrent, bias.shares, rtol=0, atol=1e-15)
    np.testing.assert_allclose(bias.along.sum(axis=1), np.linalg.norm(bias.total, axis=1), rtol=1e-9)
    np.testing.assert_allclose(bias.mean_contributions.sum(axis=1), bias.total.mean(axis=0), rtol=1e-9)
    assert bias.rms == pytest.approx(np.sqrt((bias.total**2).mean()))


@pytest.mark.parametrize("kwargs", [{}, {"placement": "out"}, {"form": "current"}])
@pytest.mark.parametrize("activation", ["softplus", "tanh"])
def test_the_split_of_weak_noise_is_that_of_the_second_order(activation, kwargs):
    """Direct and recurrent part fall as sigma^2, at a relative sigma^2: to far below the rounding of the outputs."""
    net = random_network(activation=activation, **kwargs)
    parts = [fpa.attribute_bias(net, sigma=sigma) for sigma in (1e-3, 1e-6, 1e-7, 1e-12)]
    for sigma, part in zip((1e-6, 1e-7, 1e-12), parts[1:], strict=True):
        assert part.status.ok
        for name in ("direct", "recurrent"):
            found, expected = getattr(part, name) / sigma**2, getattr(parts[0], name) / 1e-6
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * np.abs(parts[0].contributions / 1e-6).max())


@pytest.mark.parametrize("sigma", [1e-12, 1e-6, 1e-4, 1e-2])
def test_weak_noise(sigma):
    """beta = s^2 f'' / 2 + O(s^4) far below the rounding of E f and f(a), and the shares still sum to 1."""
    net = random_network(activation="softplus")
    bias = fpa.network_bias(net, sigma=sigma)
    (part,), s = bias.attributions, bias.points.s[0]
    second = s**2 * net.activation.d2f(part.a) / 2
    assert np.abs(part.beta - second).max() < sigma**2 * second.max() + 1e-15
    assert bias.shares.sum() == pytest.approx(1, abs=1e-9)


def test_renumbering_the_neurons_renumbers_the_shares(driven):
    p = np.random.default_rng(0).permutation(30)
    net = fpa.Network(
        W=driven.W[np.ix_(p, p)],
        b=driven.b[p],
        W_in=driven.W_in[p],
        W_out=driven.W_out[:, p],
        gamma=0.2,
        sigma=0.7,
        conditions=driven.conditions,
    )
    np.testing.assert_allclose(fpa.network_bias(net).shares, fpa.network_bias(driven).shares[p], rtol=0, atol=1e-7)


def test_carriers_and_cancellation(driven):
    bias = dataclasses.replace(fpa.network_bias(driven), shares=np.array([0.1, 1.2, -0.4, 0.1]))
    assert bias.cancellation == pytest.approx(1.8)
    assert bias.order.tolist() == [1, 2, 0, 3]
    assert bias.carriers(0.6).tolist() == [1]
    assert bias.carriers(0.9).tolist() == [1, 2, 0]
    assert bias.carriers(1.0).tolist() == [1, 2, 0, 3]


def test_silent_neurons_have_no_nan():
    """Neuron 0 is silent with and without noise: a secant slope 0 / 0. Neuron 1 gets nothing from anyone."""
    for placement in ("in", "out"):
        net = fpa.Network(W=[[0.0, 0.0], [0.5, 0.0]], b=[-50.0, 0.2], sigma=[0.0, 0.5], placement=placement)
        att = fpa.attribute_bias(net)
        assert att.status.ok
        assert np.isfinite(att.contributions).all()
        assert att.contributions[:, 0].tolist() == [0, 0]


def test_without_noise_there_is_nothing_to_share(driven):
    bias = fpa.network_bias(driven, sigma=0.0)
    assert bias.status.ok
    assert not bias.shares.any()
    assert not bias.along.any()
    assert len(bias.carriers()) == 0
    assert bias.points.curve is None


def test_one_condition_without_a_law_leaves_the_others():
    net = fpa.Network(W=[[1.5]], b=[0.0], W_in=[[1.0]], sigma=0.01, conditions=[[-1.0], [1.0]])
    bias = fpa.network_bias(net)
    assert bias.statuses == (fpa.Status.OK, fpa.Status.DIVERGED)
    assert bias.status is fpa.Status.DIVERGED
    assert np.isfinite(bias.points.gain[:, 0]).tolist() == [True, False]
    assert np.isnan(bias.total[1]).all()
    assert bias.points.mean_gain == bias.points.weighted_gain[0]


def test_a_cycle_has_no_fixed_point_to_measure_from():
    net = fpa.Network(W=[[-30.0]], b=[0.1], activation="tanh", gamma=0.9, sigma=0.5)
    att = fpa.attribute_bias(net, method="chain")
    assert att.stationary.status.ok
    assert att.status is fpa.Status.NO_STABLE_FIXED_POINT
    assert np.isnan(att.total).all()


def test_a_neutral_secant_dynamics_is_a_status():
    """Between the two fixed points of a bistable neuron the secant slope is 1 / w: any share would do."""
    net = fpa.Network(W=[[2.0]], activation="tanh", sigma=0.1)
    top = fpa.stationary(net, start=[1.0], sigma=0.0, method="closure")
    law = Law(Problem(net, np.zeros(0), 0.1, -top.mean), top)
    att = _attribution(law)
    assert att.status is fpa.Status.NOT_CONVERGED
    assert "neutral" in att.reason
    assert np.isnan(att.contributions).all()


def test_start_picks_the_basin():
    net = fpa.Network(W=[[2.0]], b=[0.1], activation="tanh", sigma=0.1)
    up, down = (fpa.attribute_bias(net, start=[start]) for start in (1.0, -1.0))
    assert up.status.ok
    assert down.status.ok
    assert up.total < 0 < down.total  # tanh pulls towards 0


def test_what_attribution_refuses():
    with pytest.raises(fpa.InputError, match="unknown stationary method 'closed'"):
        fpa.network_bias(random_network(), method="closed")
    with pytest.raises(fpa.InputError, match="method must be 'closure' in the current form"):
        fpa.attribute_bias(random_network(form="current"), method="monte-carlo")
    with pytest.raises(fpa.InputError, match="one constant input"):
        fpa.attribute_bias(random_network(W_in=np.ones((30, 1))), [[0.0], [1.0]])


def test_noise_gain_tells_noise_in_from_noise_out():
    """Two networks trained on the same task: theory.md section 10 has 0.21 and 0.53 at sigma = 0.5."""
    gain = {
        placement: fpa.operating_points(
            fpa.load(NETWORKS / f"function-approximation-relu-{placement}-0.5.pt")
        ).mean_gain
        for placement in ("in", "out")
    }
    assert gain["in"] < 0.3
    assert gain["out"] > 0.5
