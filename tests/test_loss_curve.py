"""The loss against test noise: prediction against sampling, closed forms, and where its minimum lies."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import fpanalysis as fpa
from fpanalysis.cli._batch import batch_of

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"


def held(net, T=120, counted=80, every=1):
    inputs, targets = (np.repeat(value[None, ::every], T, axis=0) for value in (net.conditions, net.targets))
    mask = np.zeros(inputs.shape[:2])
    mask[-counted:] = 1
    return inputs, targets, mask


@pytest.mark.parametrize("name", ["relu-in-0.5", "relu-out-0.5", "softplus-in-1.0"])
def test_prediction_against_sampling(name):
    """bias^2 and total at every level within their errors; the preferred noise within its own."""
    net = fpa.load(NETWORKS / f"function-approximation-{name}.pt")
    levels, batch = np.linspace(0, 1.4, 6) * net.sigma, held(net, every=5)
    closure = fpa.loss_curve(net, batch, levels)
    sampled = fpa.loss_curve(net, batch, levels, "monte-carlo", trials=200)
    assert closure.ok
    for part in ("bias2", "loss"):
        gap = np.abs(getattr(closure, part) - getattr(sampled, part))
        errors = [getattr(curve, "error" if part == "loss" else "bias2_error") for curve in (closure, sampled)]
        assert (gap <= errors[0] + 2 * errors[1] + 1e-14).all()
    assert abs(closure.preferred - sampled.preferred) < closure.preferred_error + 2 * sampled.preferred_error + 0.01
    assert closure.ratio > 1 if net.placement == "in" else closure.ratio < 1


def test_linear_readout_of_one_neuron():
    """h' = (1 - g) h + g (w h + b + sigma xi): the loss is (b / (1 - w) - c)^2 + sigma^2 g^2 / (1 - J^2)."""
    net = fpa.Network(W=[[0.5]], b=[0.5], activation="linear", gamma=0.2, sigma=0.4)
    T = 300
    batch = np.zeros((T, 1, 0)), np.full((T, 1, 1), 0.7), np.r_[np.zeros(T - 1), 1.0][:, None]
    curve = fpa.loss_curve(net, batch, [0.0, 0.3, 0.6])
    J = 1 - 0.2 * 0.5
    variance = np.array([0.0, 0.3, 0.6]) ** 2 * 0.04 / (1 - J**2)
    np.testing.assert_allclose(curve.bias2, 0.09, rtol=1e-9)
    np.testing.assert_allclose(curve.variance, variance, rtol=1e-9)
    assert curve.slope_zero == pytest.approx(0.04 / (1 - J**2), rel=1e-6)
    assert curve.slope_training == pytest.approx(2 * 0.4 * 0.04 / (1 - J**2), rel=1e-3)
    assert curve.preferred == 0.0
    assert curve.ratio == pytest.approx(0.09 / (0.09 + 0.16 * 0.04 / (1 - J**2)), rel=1e-9)


def test_minimum_between_levels():
    """Coarse levels find the minimum that fine levels find."""
    net = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    batch = held(net, T=60, counted=20, every=5)
    coarse = fpa.loss_curve(net, batch, np.linspace(0, 0.8, 9))
    fine = fpa.loss_curve(net, batch, np.linspace(0.4, 0.6, 11))
    assert abs(coarse.preferred - fine.preferred) < 5e-3
    assert abs(coarse.preferred_bias2 - fine.preferred_bias2) < 5e-3
    assert abs(coarse.slope_training - fine.slope_training) < 0.1 * abs(np.diff(fine.loss[[0, -1]])[0]) / 0.2 + 0.02


@pytest.mark.parametrize("method", ["closure", "monte-carlo"])
def test_few_levels_say_what_they_leave_open(method):
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    batch, h0, _ = batch_of(net, steps=60)
    dense = fpa.loss_curve(net, batch, np.linspace(0, 0.75, 26), h0=h0)
    for levels in ([0, 0.5], [0.3, 0.6], [0, 0.5, 1], [0, 0.25, 0.5, 0.75], [0, 0.5, 1e3]):
        few = fpa.loss_curve(net, batch, levels, method, h0=h0)
        assert abs(few.preferred - dense.preferred) <= few.preferred_error + dense.preferred_error
        assert few.preferred_error > dense.preferred_error


def test_the_slope_at_zero_does_not_depend_on_the_levels():
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    batch, h0, _ = batch_of(net, steps=60)
    slopes = [fpa.loss_curve(net, batch, levels, h0=h0).slope_zero for levels in ([0.0, 0.5], [1e-9, 1e-3], [0.9])]
    assert slopes[0] < -0.1
    assert slopes[1] == pytest.approx(slopes[0], rel=1e-9)
    assert slopes[2] == pytest.approx(slopes[0], rel=1e-9)


def test_sampling_is_seeded_unbiased_and_says_its_error():
    """Over seeds the sampled curve scatters about the exact one (a linear network) by its stated error."""
    net = fpa.Network(W=[[0.5]], b=[0.5], activation="linear", gamma=0.2, sigma=0.4, placement="out")
    batch = np.zeros((20, 1, 0)), np.full((20, 1, 1), 0.4), np.r_[np.zeros(15), np.ones(5)][:, None]
    exact = fpa.loss_curve(net, batch, [0.4])
    z = []
    for seed in range(60):
        curve = fpa.loss_curve(net, batch, [0.4], "monte-carlo", trials=64, rng=seed)
        gaps = curve.bias2 - exact.bias2, curve.variance - exact.variance, curve.loss - exact.loss
        errors = curve.bias2_error, curve.variance_error, curve.error
        z.append([gap[0] / error[0] for gap, error in zip(gaps, errors, strict=True)])
    z = np.array(z)
    # 60 draws: coverage 95 % gives 57 +- 1.7, and the mean of z lies within 4 / sqrt(60) of zero if unbiased
    assert ((np.abs(z) < 1).sum(axis=0) >= 50).all()
    assert (np.abs(z.mean(axis=0)) < 4 * z.std(axis=0) / np.sqrt(60)).all()
    again = fpa.loss_curve(net, batch, [0.4], "monte-carlo", trials=64, rng=59)
    assert again.loss[0] == curve.loss[0]


def test_another_loss_by_sampling_only():
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    (inputs, targets, mask), h0, _ = batch_of(net)
    absolute = lambda z, target: np.abs(z - target)  # noqa: E731
    with pytest.raises(fpa.InputError, match="use method='monte-carlo'"):
        fpa.loss_curve(net, (inputs, targets, mask), [0.5], h0=h0, loss=absolute)
    curve = fpa.loss_curve(net, (inputs, targets, mask), [0.0, 0.5], "monte-carlo", h0=h0, loss=absolute)
    assert np.isnan(curve.bias2).all()
    square = fpa.loss_curve(net, (inputs, targets, mask), [0.0, 0.5], "monte-carlo", h0=h0)
    assert curve.loss[0] == pytest.approx(np.sqrt(square.loss[0]), rel=0.02)  # one output, at rest near its end
    quadratic = fpa.loss_curve(
        net, (inputs, targets, mask), [0.5], "monte-carlo", h0=h0, loss=lambda z, target: (z - target) ** 2
    )
    assert quadratic.loss[0] == pytest.approx(square.loss[1], rel=1e-12)


def test_a_profile_of_sigma_is_kept():
    net = fpa.Network(W=np.zeros((2, 2)), b=[0.0, 0.0], sigma=[0.2, 0.4], gamma=1.0, activation="linear")
    batch = np.zeros((3, 1, 0)), np.zeros((3, 1, 2)), np.ones((3, 1))
    curve = fpa.loss_curve(net, batch, [0.8])
    assert curve.variance[0] == pytest.approx((0.4**2 + 0.8**2) / 2)


def test_bad_input():
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    batch = batch_of(net).batch
    for change, message in [
        ({"batch": batch[:2]}, "batch must be"),
        ({"batch": (batch[0], batch[1][1:], batch[2])}, "targets must have shape"),
        ({"batch": (batch[0], batch[1], 0 * batch[2])}, "mask must be >= 0"),
        ({"sigma": [-0.1]}, "noise levels"),
        ({"method": "exact"}, "method must be one of closure, monte-carlo"),
        ({"method": "monte-carlo", "trials": 1}, "trials must be"),
        ({"method": "monte-carlo", "rng": -1}, "rng must be"),
        ({"h0": [0.0, 1.0]}, "h0 must have shape"),
    ]:
        arguments = {"batch": batch, "sigma": [0.5]} | change
        with pytest.raises(fpa.InputError, match=message):
            fpa.loss_curve(net, **arguments)
    with pytest.raises(fpa.InputError, match="trained without noise"):
        fpa.loss_curve(net.with_sigma(0.0), batch)


def test_levels_far_apart_and_extreme_ones():
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    batch, h0, _ = batch_of(net)
    curve = fpa.loss_curve(net, batch, [0, 1e11], h0=h0)
    assert curve.ok
    assert curve.variance[1] == pytest.approx(fpa.loss_curve(net, batch, [1e8], h0=h0).variance[0] * 1e6, rel=1e-6)
    assert curve.loss_trained == pytest.approx(fpa.loss_curve(net, batch, [0.5], h0=h0).loss[0])
    with pytest.raises(fpa.InputError, match="at most 1e\\+30"):
        fpa.loss_curve(net, batch, [0, 1e80], h0=h0)
    with pytest.raises(fpa.InputError, match="loss must be 'squared error', 'cross-entropy', a Loss, or a function"):
        fpa.loss_curve(net, batch, [0.5], "monte-carlo", loss="absolute")
    with pytest.raises(fpa.InputError, match="one value per output"):
        fpa.loss_curve(net, batch, [0.5], "monte-carlo", loss=lambda z, target: 1.0)


def test_units_do_not_matter():
    """State, noise, inputs and targets a million times larger: the same curve in the new unit."""
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    (inputs, targets, mask), h0, _ = batch_of(net)
    large = fpa.Network(W=net.W, b=1e6 * net.b, W_out=net.W_out, sigma=1e6 * net.sigma, gamma=net.gamma)
    curve = fpa.loss_curve(net, (inputs, targets, mask), [0, 0.5], h0=h0)
    other = fpa.loss_curve(large, (inputs, 1e6 * targets, mask), [0, 5e5], h0=1e6 * h0)
    assert other.ok
    np.testing.assert_allclose(other.loss, 1e12 * curve.loss, rtol=1e-6)


def test_powers_that_overflow_have_diverged():
    """A covariance of 4^260, whose square has no number."""
    net = fpa.Network(W=[[2.0]], b=[1.0], activation="softplus", gamma=1.0, sigma=0.1)
    batch = np.zeros((260, 1, 0)), np.zeros((260, 1, 1)), np.eye(260)[-1][:, None]
    assert fpa.loss_curve(net, batch, [0.1]).status == (fpa.Status.DIVERGED,)


def test_what_grows_without_bound_has_diverged():
    net = fpa.Network(W=[[3.0]], b=[1.0], sigma=0.3, gamma=0.5)
    batch = np.zeros((200, 1, 0)), np.ones((200, 1, 1)), np.ones((200, 1))
    for method in ("closure", "monte-carlo"):
        curve = fpa.loss_curve(net, batch, [0, 0.3], method, trials=8)
        assert {status.value for status in curve.status} == {"diverged"}
        assert np.isnan(curve.loss).all()
        assert np.isnan(curve.ratio)


def test_outputs_that_weigh_differently():
    """sum mask (z - z*)^2 / sum mask by runs of its own, against the prediction and the sampled curve."""
    rng = np.random.default_rng(0)
    net = fpa.Network(
        W=0.3 * rng.standard_normal((6, 6)), W_in=rng.standard_normal((6, 1)), W_out=rng.standard_normal((2, 6)),
        activation="softplus", gamma=0.3, sigma=0.5,
    )  # fmt: skip
    T, B, R = 15, 3, 8000
    inputs, targets = rng.standard_normal((T, B, 1)), rng.standard_normal((T, B, 2))
    mask = rng.choice([0.0, 0.3, 2.0], (T, B, 2))
    mask[:8] = 0
    targets[..., 0] += 3
    h, error = np.zeros((R, B, 6)), np.zeros(R)
    for t in range(T):
        h = net.step(h, np.broadcast_to(inputs[t], (R, B, 1)), rng.standard_normal(h.shape))
        error += (mask[t] * (net.output(h) - targets[t]) ** 2).sum(axis=(1, 2)) / mask.sum()
    loss, wide = error.mean(), 4 * error.std() / np.sqrt(R)
    closure = fpa.loss_curve(net, (inputs, targets, mask), [0.5])
    sampled = fpa.loss_curve(net, (inputs, targets, mask), [0.5], "monte-carlo", trials=400)
    assert abs(closure.loss[0] - loss) <= wide + closure.error[0]
    assert abs(sampled.loss[0] - loss) <= wide + 2 * sampled.error[0]
    assert wide < 0.02 * loss
    plain = fpa.loss_curve(net, (inputs, targets, mask.max(axis=2)), [0.5])
    assert abs(plain.loss[0] - loss) > 5 * wide  # the weights matter


@pytest.mark.parametrize("method", ["closure", "monte-carlo"])
def test_weights_of_outputs_against_weights_of_steps(method):
    """The same weight for every output is a weight of steps; no weight for one is a network without it."""
    net = fpa.Network(W=[[0.2, 0.1], [0.0, 0.3]], b=[0.5, 0.1], activation="tanh", gamma=0.5, sigma=0.3)
    inputs, targets = np.zeros((9, 2, 0)), np.full((9, 2, 2), 0.2)
    steps = np.r_[np.zeros(5), np.arange(1, 5)][:, None] * np.array([1.0, 3.0])
    settings = {"trials": 16} if method == "monte-carlo" else {}

    def curve(net, targets, mask):
        return fpa.loss_curve(net, (inputs, targets, mask), [0.0, 0.3], method, **settings)

    both = curve(net, targets, np.repeat(steps[..., None], 2, axis=2))
    np.testing.assert_allclose(both.loss, curve(net, targets, steps).loss, rtol=1e-12)
    first = curve(net, targets, steps[..., None] * np.array([1.0, 0.0]))
    alone = curve(dataclasses.replace(net, W_out=[[1.0, 0.0]]), targets[..., :1], steps)
    np.testing.assert_allclose(first.loss, alone.loss, rtol=1e-12)
    np.testing.assert_allclose(first.error, alone.error, rtol=1e-6, atol=1e-12)


def test_a_mask_of_another_shape_or_of_nothing():
    net = fpa.Network(W=[[0.5]], activation="linear", sigma=0.4)
    inputs, targets = np.zeros((4, 1, 0)), np.zeros((4, 1, 1))
    with pytest.raises(fpa.InputError, match=r"mask must have shape \(4, 1, 1\); found \(4, 1, 2\)"):
        fpa.loss_curve(net, (inputs, targets, np.ones((4, 1, 2))), [0.1])
    with pytest.raises(fpa.InputError, match="found none that counts"):
        fpa.loss_curve(net, (inputs, targets, np.zeros((4, 1, 1))), [0.1])
