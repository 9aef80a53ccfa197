"""Noise conventions: each source's step as the source writes it, against the network's own with the same normals."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.testing import assert_allclose
from scipy.integrate import quad

import fpanalysis as fpa
from fpanalysis import Noise
from fpanalysis.cli import main

N = 5
RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(N, N)) / np.sqrt(N), RNG.normal(size=N)
W_IN, U = RNG.normal(size=(N, 2)), np.array([0.4, -1.0])
ALPHA, REC, S, DT, TAU = 0.2, 0.15, 0.07, 0.02, 0.1


def f(x):
    return np.log1p(np.exp(x))


def drive(rate):
    return W @ rate + W_IN @ U + B


#: name: (the noise, its form, the step as the source writes it)
SOURCES = {
    "per step, in": (
        Noise.per_step(0.3),
        lambda h, n: (1 - ALPHA) * h + ALPHA * f(drive(h) + 0.3 * n),
    ),
    "per step, out": (
        Noise.per_step(0.3, "out"),
        lambda h, n: (1 - ALPHA) * h + ALPHA * (f(drive(h)) + 0.3 * n),
    ),
    "per step, current": (
        Noise.per_step(0.3, form="current"),
        lambda x, n: (1 - ALPHA) * x + ALPHA * (drive(f(x)) + 0.3 * n),
    ),
    "Yang": (
        Noise.yang(REC, ALPHA),
        lambda r, n: (1 - ALPHA) * r + ALPHA * f(drive(r) + np.sqrt(2 / ALPHA * REC**2) * n),
    ),
    "PsychRNN": (
        Noise.psychrnn(REC, ALPHA),
        lambda x, n: (1 - ALPHA) * x + ALPHA * drive(f(x)) + np.sqrt(2 * ALPHA * REC * REC) * n,
    ),
    "state": (
        Noise.state(S, ALPHA),
        lambda h, n: (1 - ALPHA) * h + ALPHA * f(drive(h)) + S * n,
    ),
    "state, current": (
        Noise.state(S, ALPHA, form="current"),
        lambda x, n: (1 - ALPHA) * x + ALPHA * drive(f(x)) + S * n,
    ),
    "Euler-Maruyama, tau = 1": (
        Noise.euler_maruyama(S, ALPHA),
        lambda h, n: h + (f(drive(h)) - h) * ALPHA + S * np.sqrt(ALPHA) * n,
    ),
    "Euler-Maruyama": (
        Noise.euler_maruyama(S, DT, TAU),
        lambda h, n: h + (f(drive(h)) - h) / TAU * DT + S * np.sqrt(DT) * n,
    ),
    "Euler-Maruyama, current": (
        Noise.euler_maruyama(S, DT, TAU, form="current"),
        lambda x, n: x + (drive(f(x)) - x) / TAU * DT + S * np.sqrt(DT) * n,
    ),
}


def network(form="rate", gamma=ALPHA, **settings):
    return fpa.Network(W=W, b=B, W_in=W_IN, gamma=gamma, activation="softplus", form=form, **settings)


@pytest.mark.parametrize(("noise", "step"), SOURCES.values(), ids=SOURCES)
def test_trajectories_are_those_of_the_source(noise, step):
    """The same normals give the same states, over 200 steps, to the rounding of a contraction."""
    net = network(noise.form).with_noise(noise)
    ours = theirs = RNG.normal(size=N)
    for n in np.random.default_rng(1).normal(size=(200, N)):
        ours, theirs = net.step(ours, U, n), step(theirs, n)
        assert_allclose(ours, theirs, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize(("noise", "step"), SOURCES.values(), ids=SOURCES)
def test_one_step_has_the_mean_and_variance_of_the_source(noise, step):
    """Integrated over the one normal that neuron 0 gets; the noise of the others does not reach it in one step."""
    net, h = network(noise.form).with_noise(noise), np.linspace(-0.5, 1, N)

    def moments(of):
        def expect(g):
            density = lambda n: g(of(n)) * np.exp(-n * n / 2) / np.sqrt(2 * np.pi)  # noqa: E731
            return quad(density, -10, 10, epsabs=1e-12, epsrel=1e-12)[0]

        mean = expect(lambda y: y)
        return mean, expect(lambda y: (y - mean) ** 2)

    ours = moments(lambda n: net.step(h, U, np.full(N, n))[0])
    theirs = moments(lambda n: step(h, np.full(N, n))[0])
    assert_allclose(ours, theirs, rtol=1e-11)
    assert ours[1] > 1e-5


def test_noise_per_neuron_and_time_constants_per_neuron():
    alpha, rec = np.linspace(0.1, 0.9, N), np.linspace(0, 0.3, N)
    net = network(gamma=alpha).with_noise(Noise.yang(rec, alpha))
    h, n = RNG.normal(size=(2, N))
    assert_allclose(
        net.step(h, U, n), (1 - alpha) * h + alpha * f(drive(h) + np.sqrt(2 / alpha * rec**2) * n), rtol=1e-14
    )


def test_conventions_agree_where_they_are_the_same_equation():
    """tau dx = (F - x) dt + sqrt(2 tau) rec dB is PsychRNN's SDE; at alpha = 1 noise on the state is noise out."""
    rec = Noise.psychrnn(REC, DT / TAU)
    assert Noise.euler_maruyama(REC * np.sqrt(2 / TAU), DT, TAU, form="current").sigma == pytest.approx(
        rec.sigma, rel=1e-15
    )
    assert Noise.state(S, 1.0).sigma == Noise.per_step(S, "out").sigma == S
    assert Noise.euler_maruyama(S, 0.25).sigma == S / np.sqrt(0.25)


def test_the_convention_travels_with_the_network(tmp_path):
    net = network(info={"task": "x"}).with_noise(Noise.yang(0.05, alpha=ALPHA))
    fpa.save(net, tmp_path / "m.pt")
    loaded = fpa.load(tmp_path / "m.pt")
    note = "Yang et al. 2019, sigma_rec = 0.05, alpha = 0.2; sigma = sigma_rec sqrt(2 / alpha)"
    assert loaded.info == {"task": "x", "noise_given_as": note}
    assert loaded.hash == network(sigma=0.05 * np.sqrt(2 / ALPHA)).hash
    said = CliRunner().invoke(main, ["inspect", str(tmp_path / "m.pt")]).output
    assert "sigma = 0.158114 per step, inside the activation" in said
    assert note in said
    assert "noise_given_as" not in loaded.with_sigma(0.1).info


def test_placement_follows_the_noise():
    net = network().with_noise(Noise.state(0.1, ALPHA))
    assert (net.placement, net.form) == ("out", "rate")
    assert repr(Noise.state(0.1, ALPHA)) == (
        "Noise(noise on the state per step, s = 0.1, gamma = 0.2; sigma = s / gamma: noise out, sigma=0.5)"
    )


def test_a_gamma_kept_in_single_precision_agrees():
    assert network().with_noise(Noise.yang(0.1, np.float32(ALPHA))).sigma == pytest.approx(0.1 * np.sqrt(10), rel=1e-7)


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (lambda: Noise.yang(0.1, 0.3), "converted for gamma = 0.3, the network has gamma = 0.2"),
        (lambda: Noise.psychrnn(0.1, ALPHA), "build the network with form='current'"),
        (lambda: Noise.per_step([0.1, 0.2]), "sigma must be one number or one per neuron"),
        (lambda: Noise.state(0.1, 5 * [0.1]), "converted for gamma = 0.1, the network"),
        (lambda: 0.3, "noise must be a fpanalysis.Noise"),
        (lambda: Noise.yang(-0.1, 0.2), "sigma_rec must be >= 0"),
        (lambda: Noise.yang(0.1, 0), "alpha must be > 0"),
        (lambda: Noise.yang(0.1, 1.5), r"alpha is the step dt / tau and must lie in \(0, 1\]; found 1.5"),
        (lambda: Noise.state("loud", 0.2), "s must be an array of real numbers"),
        (lambda: Noise.euler_maruyama(0.1, 0.2, 0.1), r"dt / tau is the step dt / tau and must lie in \(0, 1\]"),
        (lambda: Noise.euler_maruyama(0.1, 0.01, form="rates"), "form must be 'rate' or 'current'"),
        (lambda: Noise.per_step(0.1, "out", "current"), "has no meaning with form 'current'"),
        (lambda: Noise.per_step(0.1, "inside"), "placement must be 'in' or 'out'"),
        (lambda: Noise.noisy_rnn(0.1, [0.05, 0.1], 0.1), r"mult must be one number.*found \[0.05, 0.1\]"),
        (lambda: Noise.noisy_rnn(0.1, 0.05, [0.1, 0.2]), "step must be one number"),
        (lambda: Noise.lipschitz_sde(0.1, [1, 1], 1, 0.1), "sigma_1 must be one number"),
    ],
)
def test_bad_input(noise, message):
    with pytest.raises(fpa.InputError, match=message):
        network().with_noise(noise())
