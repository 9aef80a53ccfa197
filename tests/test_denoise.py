"""De-noising: the de-noised network against the stationary law it stands for, and what is said where it cannot help."""

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from problems import random_network

import fpanalysis as fpa
from fpanalysis.activations import Smoothed, get_activation
from fpanalysis.denoise import DenoiseWarning, common_deviation, own_noise
from fpanalysis.fixed_points import settle

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"


def network(**settings):
    return dataclasses.replace(random_network(10, gain=0.6, sigma=0.5, activation="softplus"), **settings)


def resting(net, u=None):
    """The state and output at which the noise-free network comes to rest."""
    states, rests = settle(net, np.zeros((1, net.N)), u)
    assert rests.all()
    return states[0], net.output(states[0])


def doubts(net, *arguments, **settings):
    """The de-noised network, and what was said about it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        clean = fpa.denoise(net, *arguments, **settings)
    assert all(warning.category is DenoiseWarning for warning in caught)
    return clean, " ".join(str(warning.message) for warning in caught)


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh", "erf"])
def test_one_condition(activation, form):
    """The output is the noisy mean, to what the Gaussian closure leaves out: a few percent of the shift, which is what
    the network with its noise removed is off by."""
    net = network(activation=activation, form=form, sigma=1.0)
    law = fpa.stationary(net, method="closure")
    _, z = resting(fpa.denoise(net))
    shift = np.abs(law.output - resting(net)[1]).max()
    assert np.abs(z - law.output).max() <= 0.1 * shift


def test_without_recurrence_it_is_exact():
    """W = 0: m = M(W_in u + b, sigma) and nothing is left out."""
    net = network(W=np.zeros((10, 10)), activation="relu")
    h, _ = resting(fpa.denoise(net))
    np.testing.assert_allclose(h, net.activation.M(net.b, 0.5), rtol=1e-14)
    np.testing.assert_array_equal(fpa.denoise(net).activation.s, 0.5)


def test_a_feedforward_network():
    """Two layers: the means pass through f smoothed by what reaches each layer. Without biases nothing drives it."""
    g = np.random.default_rng(1)
    net = fpa.feedforward([g.normal(size=(6, 2)), g.normal(size=(5, 6)) / 2], W_out=np.ones((1, 5)), sigma=0.4)
    clean = fpa.denoise(net)
    assert np.ptp(clean.activation.s) > 0.01
    assert (clean.activation.s[:6] == 0.4).all()
    law = fpa.stationary(net, method="closure")
    np.testing.assert_allclose(resting(clean)[1], law.output, rtol=0, atol=2 * law.output_error.max())


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
def test_recalibrated_is_exact_at_one_condition(activation, form):
    net = network(activation=activation, form=form)
    law = fpa.stationary(net, method="closure")
    clean = fpa.denoise(net, variant="recalibrated")
    h, z = resting(clean)
    np.testing.assert_allclose(h, law.mean, rtol=0, atol=1e-7)
    np.testing.assert_allclose(z, law.output, rtol=0, atol=1e-12)
    assert clean.activation is net.activation
    np.testing.assert_array_equal(clean.W, net.W)


@pytest.mark.parametrize("form", ["rate", "current"])
def test_recalibration_at_several_conditions(form):
    """Six outputs and ten biases: all outputs are those of the noisy network."""
    net = network(conditions=[[1.0, 0.0], [-1.0, 0.5], [0.0, -1.0]], form=form)
    clean = fpa.denoise(net, variant="recalibrated")
    for u in net.conditions:
        law = fpa.stationary(net, u, method="closure")
        np.testing.assert_allclose(resting(clean, u)[1], law.output, rtol=0, atol=1e-10)


def test_more_conditions_than_biases_can_serve():
    """Two neurons and eight inputs: least squares, hence no constant in the outputs' errors, nor along any bias."""
    net = dataclasses.replace(
        random_network(2, gain=0.5, sigma=0.8, activation="softplus", W_out=np.ones((1, 2))),
        conditions=np.random.default_rng(0).normal(size=(8, 2)),
    )
    clean = fpa.denoise(net, variant="recalibrated")
    z = np.array([fpa.stationary(net, u, method="closure").output for u in net.conditions])

    def gaps(b):
        moved = dataclasses.replace(clean, b=b)
        return z - np.array([resting(moved, u)[1] for u in net.conditions])

    assert abs(gaps(clean.b).mean()) < 1e-9
    least = np.square(gaps(clean.b)).sum()
    for k in range(2):
        for step in (-0.03, 0.03):
            assert np.square(gaps(clean.b + step * np.eye(2)[k])).sum() > least


def test_the_common_deviation():
    """Where all agree, that; else the least squares of the first order, by brute force over s."""
    f, a = get_activation("relu"), np.array([[0.0, -3.0, 0.4], [1.0, 0.1, 0.4], [-0.3, -9.0, 0.4]])
    np.testing.assert_allclose(common_deviation(f, a, np.full((3, 3), 0.7)), 0.7, rtol=1e-14)
    s = 0.5 + 1e-3 * np.array([[0.0, 2.0, 0.0], [1.0, 0.0, 1.0], [2.0, -1.0, 5.0]])
    grid = np.linspace(0.498, 0.506, 8001)
    gaps = [(f.M(a[:, i, None], grid) - f.M(a[:, i], s[:, i])[:, None]) ** 2 for i in range(3)]
    brute = [grid[gap.sum(axis=0).argmin()] for gap in gaps]
    np.testing.assert_allclose(common_deviation(f, a, s), brute, rtol=0, atol=2e-5)  # (5e-3)^2, the second order
    np.testing.assert_allclose(common_deviation(get_activation("linear"), a, s), s.mean(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(common_deviation(f, a, np.zeros((3, 3))), 0.0)


def test_several_conditions():
    """Closer to the noisy means than smoothing by the noise alone, and than the plain mean of the s."""
    net = network(activation="relu", conditions=np.random.default_rng(0).normal(scale=2, size=(5, 2)))
    laws = [fpa.stationary(net, u, method="closure") for u in net.conditions]

    def distance(clean):
        gaps = [clean.output(resting(clean, u)[0]) - law.output for u, law in zip(net.conditions, laws, strict=True)]
        return np.sqrt(np.mean(np.square(gaps)))

    mean = Smoothed(net.activation, np.mean([law.details["s"] for law in laws], axis=0))
    distances = [
        distance(clean)
        for clean in (
            fpa.denoise(net),
            dataclasses.replace(net, activation=mean),
            fpa.denoise(net, variant="sigma"),
            net,
        )
    ]
    assert distances == sorted(distances)


def test_own_noise():
    """Current form without weights: Var x = gamma sigma^2 / (2 - gamma), the variance of an AR(1)."""
    assert (own_noise(network(), 0.5) == 0.5).all()
    assert (own_noise(network(placement="out"), 0.5) == 0).all()
    net = network(form="current", W=np.zeros((10, 10)), gamma=np.linspace(0.1, 1, 10))
    law = fpa.stationary(net, method="closure")
    np.testing.assert_allclose(own_noise(net, net.sigma) ** 2, np.diag(law.cov), rtol=1e-8)


def test_what_is_remembered(tmp_path):
    net = network(info={"task": "none", "noise_given_as": "x"}, sigma=np.linspace(0.1, 0.5, 10))
    clean = fpa.denoise(net)
    assert clean.sigma == 0
    assert set(clean.info) == {"task", "denoised"}
    note = clean.info["denoised"]
    assert (note["variant"], note["model"], note["unsettled"]) == ("smoothed", net.hash, 0)
    assert (note["sigma"], note["stable_before"], note["stable_after"]) == (net.sigma.tolist(), [1], [1])
    fpa.save(clean, tmp_path / "clean.pt")
    again = fpa.load(tmp_path / "clean.pt")
    assert again.hash == clean.hash
    assert again.info == clean.info
    np.testing.assert_array_equal(resting(again)[0], resting(clean)[0])


# ---------------------------------------------------------------- where it will not help


def test_nothing_is_said_where_there_is_nothing_to_say():
    assert doubts(network())[1] == ""


def test_another_noise_than_that_of_the_training():
    _, text = doubts(network(), 0.2)
    assert "sigma = 0.2 is not the training noise, 0.5" in text
    assert doubts(network(), np.full(10, 0.5))[1] == ""


def test_a_network_that_is_de_noised_already():
    """Noise on top of noise: s adds in squares, and the warning is not that of a network trained without noise."""
    once = fpa.denoise(network(W=np.zeros((10, 10))))
    twice, text = doubts(once, 0.5)
    np.testing.assert_allclose(twice.activation.s, np.hypot(0.5, 0.5), rtol=1e-14)
    assert "de-noised already (variant 'smoothed', sigma = 0.5)" in text
    assert "training noise" not in text
    _, text = doubts(dataclasses.replace(once, info={"denoised": True}), 0.5)
    assert "de-noised already (see its info)" in text


def test_noise_out():
    clean, text = doubts(network(placement="out"))
    assert "outside the activation" in text
    assert 0 < np.max(clean.activation.s) < 0.5


def test_several_basins():
    """Two neurons that inhibit each other: noise of this size leaves one state of two, seen as one fixed point."""
    net = fpa.Network(W=[[2.0]], activation="tanh", sigma=0.3)
    clean, text = doubts(net)
    assert "several basins: 2 stable fixed points at the conditions before, 2 after" in text
    law = fpa.stationary(net, start=[1.0], method="closure")
    fps = fpa.find_fixed_points(clean)
    np.testing.assert_allclose(fps.h[fps.stable].max(), law.mean[0], atol=3 * np.abs(law.details["correction"]).max())
    _, text = doubts(dataclasses.replace(net, sigma=2.0), variant="sigma")
    assert "2 stable fixed points at the conditions before, 1 after" in text


def test_a_law_that_is_all_but_unknown():
    """w = 0.999 without a bias: the closure says 3.0 +- 49 where the exact chain has 3.14."""
    net = fpa.Network(W=[[0.999]], sigma=0.5)
    law = fpa.stationary(net, method="closure")
    assert law.error > law.mean / 2
    assert "1 of 1 stationary law(s) are known no better" in doubts(net)[1]
    assert doubts(dataclasses.replace(net, W=[[0.5]]))[1] == ""


def test_conditions_without_a_law():
    """A limit cycle at every condition: the noise alone, said so; and no recalibration."""
    net = fpa.Network(W=2.5 * np.array([[1, -1], [1, 1]]), activation="tanh", gamma=0.2, sigma=0.2)
    clean, text = doubts(net)
    assert "1 of 1 condition(s) have no stationary law (no stable fixed point): every neuron is smoothed" in text
    assert clean.activation.s == 0.2
    assert clean.info["denoised"]["unsettled"] == 1
    with pytest.raises(fpa.InputError, match="use variant 'sigma'"):
        fpa.denoise(net, variant="recalibrated")


@pytest.mark.parametrize(
    ("settings", "arguments", "message"),
    [
        ({"sigma": 0.0}, {}, "net has sigma = 0"),
        ({}, {"sigma": 0.0}, "sigma is 0"),
        ({}, {"sigma": -1.0}, "sigma must be >= 0"),
        ({}, {"variant": "smooth"}, "variant must be one of 'smoothed', 'sigma', 'recalibrated'; found 'smooth'"),
    ],
)
def test_bad_arguments(settings, arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        fpa.denoise(network(**settings), **arguments)
    with pytest.raises(fpa.InputError, match="net must be a"):
        fpa.denoise("model.pt")


# ---------------------------------------------------------------- trained networks


def losses(name, **settings):
    """Without noise, with it, and de-noised."""
    from fpanalysis.cli._batch import batch_of

    net = fpa.load(NETWORKS / f"{name}.pt")
    net = dataclasses.replace(net, conditions=net.conditions[2:9:6], targets=net.targets[2:9:6])
    batch, h0, _ = batch_of(net)
    noisy = fpa.loss_curve(net, batch, [0.0, float(net.sigma)], "monte-carlo", h0=h0, trials=64)
    clean = fpa.loss_curve(fpa.denoise(net, **settings), batch, [0.0], "monte-carlo", h0=h0, trials=4)
    return (*noisy.loss, clean.loss[0])


@pytest.mark.parametrize(
    ("name", "factor"), [("function-approximation-relu-in-0.5", 50), ("function-approximation-softplus-in-1.0", 5)]
)
def test_trained_networks_no_longer_need_their_noise(name, factor):
    removed, noisy, clean = losses(name)
    assert clean <= noisy
    assert factor * clean <= removed
