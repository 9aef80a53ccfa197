"""A network and the point that it moves as one network: against explicit simulation, under every analysis."""

from __future__ import annotations

import dataclasses
import json
import warnings
from dataclasses import dataclass
from typing import ClassVar

import matplotlib.pyplot as plt
import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.collections import PathCollection

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of, in_its_loop
from fpanalysis.figures import plot_attenuation
from fpanalysis.models import train
from fpanalysis.results import InputError, Status
from fpanalysis.tasks import Defaults, Feedback, Task

RATE, GAIN, CENTRE, GOAL = 0.1, 2.0, 0.5, 0.3
NOISES = [{"placement": "in"}, {"placement": "out"}, {"form": "current"}]
T95 = 1.96


@dataclass(frozen=True)
class ToTheGoal(Task):
    """A point in the plane goes to one place, wherever it starts."""

    T: int = 30
    counted: int = 20

    name: ClassVar[str] = "test-to-the-goal"
    n_in: ClassVar[int] = 2
    n_out: ClassVar[int] = 2
    defaults: ClassVar[Defaults] = Defaults(size=12, gamma=0.4, steps=120, lr=2e-2, batch=32, sigma=0.3)
    feedback: ClassVar[Feedback] = Feedback(RATE, GAIN, CENTRE)

    def batch(self, batch_size, rng):
        p0 = np.random.default_rng(rng).uniform(0.1, 0.9, (batch_size, 2))
        path = GOAL + (p0 - GOAL) * 0.85 ** np.arange(self.T + 1)[:, None, None]
        inputs = GAIN * (path[:-1] - CENTRE)
        return inputs.astype(np.float32), path[1:].astype(np.float32), self._mask(batch_size)

    def initialize(self, size, rng):
        g = np.random.default_rng(rng)
        W, W_in, W_out = g.normal(size=(size, size)) / size**0.5, g.normal(size=(size, 2)), g.normal(size=(2, size))
        parts = {"W": 0.5 * W, "W_in": W_in, "b": np.ones(size), "W_out": W_out / size, "b_out": np.zeros(2)}
        return {name: part.astype(np.float32) for name, part in parts.items()}

    def conditions(self):
        return np.full((1, 2), GAIN * (GOAL - CENTRE)), None


def random_net(seed=0, N=7, n=2, **settings):
    g = np.random.default_rng(seed)
    weights = {"W": 0.5 * g.normal(size=(N, N)) / N**0.5, "W_in": g.normal(size=(N, n)), "W_out": g.normal(size=(n, N))}
    return fpa.Network(**weights, b=g.normal(size=N), b_out=g.normal(size=n), **{"gamma": 0.3, "sigma": 0.4} | settings)


def homing(N=20, n=2, strength=1.0, seed=0, **settings):
    """A network whose output brings the point to the goal: W_out inverts dh/du there, and z = 0 at the goal."""
    net = random_net(seed, N, n, **settings)
    u = np.full(n, GAIN * (GOAL - CENTRE))
    h = fpa.find_fixed_points(net, u, prove=False).h[0]
    D = np.diag(net.activation.df(net.preactivation(h, u)))
    W_out = -strength * np.linalg.pinv(np.linalg.solve(np.eye(N) - D @ net.W, D @ net.W_in))
    rates = h if net.form == "rate" else net.activation.f(h)
    return dataclasses.replace(net, W_out=W_out, b_out=-W_out @ rates)


@pytest.fixture(scope="module")
def trained():
    return train("test-to-the-goal", seed=1).networks[0]


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("gamma", [0.3, np.linspace(0.2, 1, 7)])
def test_a_step_is_that_of_network_and_point(activation, noise, gamma):
    """To rounding, with noise; what the point is given as noise does not count."""
    net = random_net(activation=activation, gamma=gamma, **noise)
    gain, rate, centre = np.array([[3.0, 0.5], [0.0, -2.0]]), np.array([0.05, 0.1]), np.array([0.5, 0.2])
    joint = fpa.closed_loop(net, rate, gain, centre)
    g = np.random.default_rng(1)
    h, p = g.normal(size=(4, 7)), g.normal(size=(4, 2))
    both = np.hstack([h, p])
    for _ in range(5):
        xi = g.normal(size=(4, 9))
        both = joint.step(both, xi=xi)
        h, p = net.step(h, (p - centre) @ gain.T, xi[:, :7]), p + rate * net.output(h)
        np.testing.assert_allclose(both, np.hstack([h, p]), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(joint.output(both), both[:, 7:])
    assert joint.n_in == 0


def test_the_jacobian_is_that_of_the_step():
    joint = fpa.closed_loop(random_net(activation="tanh"), RATE, GAIN, CENTRE)
    h, d = np.random.default_rng(2).normal(size=9), 1e-6
    found = np.array([(joint.step(h + d * e) - joint.step(h - d * e)) / (2 * d) for e in np.eye(9)]).T
    np.testing.assert_allclose(joint.jacobian(h), found, rtol=0, atol=1e-8)


def test_what_is_remembered(tmp_path):
    net = random_net()
    joint = fpa.closed_loop(net, RATE, GAIN, CENTRE, targets=[[GOAL, GOAL]])
    fpa.save(joint, tmp_path / "loop.pt")
    loaded = fpa.load(tmp_path / "loop.pt")
    assert loaded.hash == joint.hash
    assert (loaded.moved, net.moved) == (2, 0)
    assert loaded.info["closed_loop"]["network"] == net.hash
    result = CliRunner().invoke(main, ["inspect", str(tmp_path / "loop.pt"), "--json", "-"])
    assert json.loads(result.stdout)["info"]["closed_loop"]["moved"] == 2


def test_noise_as_one_number_is_the_networks():
    """A point with noise of its own would be another system."""
    wanted = np.append(np.full(7, 0.6), [0, 0])
    for sigma in (0.4, 0.0):
        joint = fpa.closed_loop(random_net(sigma=sigma), RATE, GAIN, CENTRE)
        np.testing.assert_array_equal(joint.with_sigma(0.6).sigma, wanted)
        np.testing.assert_array_equal(joint.noise_profile, wanted / 0.6)
        np.testing.assert_array_equal(dataclasses.replace(joint, sigma=0.6).sigma, wanted)
    joint = fpa.closed_loop(homing(activation="softplus"), RATE, GAIN, CENTRE)
    still = joint.with_sigma(0.0)
    law = fpa.stationary(joint.with_sigma(0.6), method="closure")
    np.testing.assert_array_equal(fpa.stationary(still, sigma=0.6, method="closure").mean, law.mean)
    moved = fpa.shift(still, sigma=[0.6], methods=("closure",)).dataset["mean"].values.squeeze()
    np.testing.assert_allclose(moved, law.mean, rtol=0, atol=1e-12)
    batch = np.zeros((3, 1, 0)), np.zeros((3, 1, 2)), np.ones((3, 1))
    np.testing.assert_array_equal(fpa.loss_curve(still, batch, [0.6]).loss, fpa.loss_curve(joint, batch, [0.6]).loss)


def test_fixed_points_are_where_the_output_is_zero():
    """h*(u) with W_out h* + b_out = 0; and its stability is that of the loop."""
    net = homing(activation="tanh")
    points = fpa.find_fixed_points(fpa.closed_loop(net, RATE, GAIN, CENTRE))
    np.testing.assert_allclose(points.h[:, -2:], GOAL, rtol=0, atol=1e-12)
    np.testing.assert_allclose(net.output(points.h[:, :-2]), 0, rtol=0, atol=1e-12)
    assert points.stable.all()
    assert points.certified.all()
    assert points.completeness == "unknown"  # the point may go anywhere: no ball is known that holds all
    away = fpa.find_fixed_points(fpa.closed_loop(net, -RATE, GAIN, CENTRE))
    assert not away.stable.any()


def test_a_loop_of_one_linear_neuron_is_solved_by_hand():
    """h' = (1-g) h + g (w p + s xi), p' = p + r (h - z0): p* = z0 / w, the covariance from its Lyapunov equation."""
    g, w, r, s, z0 = 0.3, -1.5, 0.1, 0.4, 0.6
    net = fpa.Network(W=[[0.0]], W_in=[[1.0]], b_out=[-z0], gamma=g, sigma=s, activation="linear")
    joint = fpa.closed_loop(net, r, w)
    A, Q = np.array([[1 - g, g * w], [r, 1]]), np.diag([(g * s) ** 2, 0])
    C = np.linalg.solve(np.eye(4) - np.kron(A, A), Q.ravel()).reshape(2, 2)
    for method, digits in (("closure", 1e-9), ("chain", 1e-7), ("small-noise", 1e-9)):
        law = fpa.stationary(joint, method=method)
        np.testing.assert_allclose(law.mean, [z0, z0 / w], rtol=0, atol=digits)
        np.testing.assert_allclose(law.cov, C, rtol=0, atol=digits)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
@pytest.mark.parametrize("noise", NOISES)
def test_the_stationary_law_against_monte_carlo(activation, noise):
    joint = fpa.closed_loop(homing(activation=activation, **noise), RATE, GAIN, CENTRE)
    law, check = fpa.stationary(joint, method="closure"), fpa.stationary(joint, method="monte-carlo", rng=3)
    assert law.status.ok
    assert check.status.ok
    assert (np.abs(law.mean - check.mean) <= 4 / T95 * check.error + law.error).all()
    # 4 standard errors of a variance: sqrt(2 / n) relative, n the effective number of samples
    deviation = np.sqrt(np.diag(law.cov) / np.diag(check.cov))[-2:]
    np.testing.assert_allclose(deviation, 1, rtol=0, atol=0.05)
    # at rest the point stands still on average, so the network's output is zero whatever the noise does to it
    net_output = joint.W[-2:, :-2] * joint.gamma / RATE @ law.details["rates"][:-2] + joint.b[-2:] * joint.gamma / RATE
    np.testing.assert_allclose(net_output, 0, rtol=0, atol=1e-9 + 4 * law.error.max())


def test_the_exact_chain_of_a_neuron_and_its_point():
    net = fpa.Network(
        W=[[0.3]], b=[0.2], W_in=[[-1.0]], b_out=[-0.3], gamma=0.2, sigma=0.3, activation="tanh", placement="out"
    )
    joint = fpa.closed_loop(net, RATE, GAIN)
    law, check = fpa.stationary(joint, method="chain"), fpa.stationary(joint, method="monte-carlo", rng=4)
    assert (np.abs(law.mean - check.mean) <= 4 / T95 * check.error + law.error).all()
    assert law.relaxation_time > 1
    assert fpa.stationary(joint, method="fokker-planck").status is Status.NOT_APPLICABLE  # no noise on p


def test_no_gap_of_the_chain_that_a_coarser_grid_has_not():
    """The edge of the box adds eigenvalues along p, on these 14 x 14 nodes one beyond 1."""
    net = fpa.Network(W=[[0.3]], b=[0.2], W_in=[[-1.0]], b_out=[-0.3], gamma=0.2, sigma=0.3, activation="softplus")
    law = fpa.stationary(fpa.closed_loop(net, RATE, GAIN), method="chain")
    assert law.status.ok
    assert law.gap is None


def test_without_a_loop_that_contracts_there_is_no_law():
    """A coordinate that the network does not see drifts; one that it does not move stays anywhere."""
    net = homing(N=4, activation="tanh")
    unseen = fpa.closed_loop(net, RATE, [GAIN, 0.0], CENTRE)
    still = fpa.closed_loop(net, [RATE, 0.0], GAIN, CENTRE)
    for joint, sampled in ((unseen, Status.DIVERGED), (still, Status.POORLY_MIXED)):
        assert not fpa.find_fixed_points(joint, prove=False).stable.any()
        assert fpa.stationary(joint, method="closure").status is Status.NO_STABLE_FIXED_POINT
        assert fpa.stationary(joint, method="monte-carlo", chains=16, steps=2000, burn_in=500).status is sampled


def test_attribution_and_shift():
    """The shares of the neurons add up to how far noise moves the resting point."""
    joint = fpa.closed_loop(homing(activation="tanh"), RATE, GAIN, CENTRE)
    att, law = fpa.attribute_bias(joint), fpa.stationary(joint, method="closure")
    np.testing.assert_allclose(att.total, law.mean[-2:] - GOAL, rtol=0, atol=1e-9)
    np.testing.assert_allclose(att.contributions.sum(axis=1), att.total, rtol=0, atol=1e-12)
    assert np.abs(att.total).min() > 1e-3
    np.testing.assert_array_equal(att.beta[-2:], 0)
    found = fpa.shift(joint, sigma=[0, 0.4], methods=("closure",)).dataset.output_shift.values.squeeze()
    np.testing.assert_allclose(found, [[0, 0], att.total], rtol=0, atol=1e-9)


def test_operating_points_weigh_neurons_by_how_they_move_the_point():
    """The outputs are the point, which has no noise and no nonlinearity of its own to speak of."""
    net = homing(activation="relu")
    points = fpa.operating_points(fpa.closed_loop(net, RATE, GAIN, CENTRE))
    np.testing.assert_allclose(points.weights[:-2], RATE * np.abs(net.W_out).sum(axis=0), rtol=1e-12)
    np.testing.assert_array_equal(points.weights[-2:], 0)
    gain = net.activation.V(points.a[0, :-2], 0.4) / 0.4**2
    np.testing.assert_allclose(points.mean_gain, np.average(gain, weights=np.abs(net.W_out).sum(axis=0)), rtol=1e-12)
    assert points.curve.activation.name == "relu"


@pytest.mark.parametrize("variant", ["smoothed", "sigma", "recalibrated"])
def test_denoised_it_rests_where_it_did_with_noise(variant):
    """By noise alone ("sigma") what W and the loop add is left out: about 10 % of the shift."""
    joint = fpa.closed_loop(homing(activation="tanh"), RATE, GAIN, CENTRE)
    law = fpa.stationary(joint, method="closure")
    clean = fpa.denoise(joint, variant=variant)
    rest = fpa.find_fixed_points(clean, prove=False)
    shift = np.abs(law.mean[-2:] - GOAL).max()
    allowed = {"smoothed": 1e-3, "sigma": 0.2, "recalibrated": 1e-6}[variant]
    assert np.abs(rest.h[0, -2:] - law.mean[-2:]).max() <= allowed * shift
    assert clean.activation.f(np.full(22, 0.7))[-1] == 0.7  # the point is as linear as before
    assert not np.any(clean.sigma)


@pytest.mark.parametrize("noise", NOISES)
def test_the_loss_curve_of_trials_against_runs(noise):
    """Trials from several starts to the goal, in the time that they are under way; relu, with its kink."""
    joint = fpa.closed_loop(homing(activation="relu", **noise), RATE, GAIN, CENTRE)
    p0 = np.random.default_rng(5).uniform(0, 1, (5, 2))
    h0 = np.hstack([np.zeros((5, joint.N - 2)), p0])
    batch = np.zeros((25, 5, 0)), np.full((25, 5, 2), GOAL), np.ones((25, 5))
    curve = fpa.loss_curve(joint, batch, [0, 0.4, 0.8], h0=h0)
    runs = fpa.loss_curve(joint, batch, [0, 0.4, 0.8], "monte-carlo", h0=h0, trials=512)
    assert curve.ok
    for part in ("loss", "bias2", "variance"):
        error = getattr(runs, "error" if part == "loss" else f"{part}_error")
        own = getattr(curve, "error" if part == "loss" else f"{part}_error")
        gap = np.abs(getattr(curve, part) - getattr(runs, part))
        assert (gap <= own + 4 / T95 * error + 1e-12).all()


def test_a_network_trained_in_its_loop(trained):
    """It goes to the goal; the joint network's moments predict its loss."""
    joint = in_its_loop(trained)
    assert joint.moved == 2
    assert in_its_loop(joint) is joint
    (inputs, targets, mask), h0, source = batch_of(joint)
    assert inputs.shape == (30, 32, 0)
    assert source == "32 trials of test-to-the-goal in a closed loop"
    path = ToTheGoal().batch(32, 0)[1]
    np.testing.assert_allclose(h0[:, -2:], GOAL + (path[0] - GOAL) / 0.85, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(targets, path)
    h, p, at = np.zeros((32, 12)), h0[:, -2:], []
    for _ in range(30):
        h, p = trained.step(h, GAIN * (p - CENTRE)), p + RATE * trained.output(h)
        at.append(p)
    curve = fpa.loss_curve(joint, (inputs, targets, mask), [0.0, 0.3], h0=h0)
    np.testing.assert_allclose(curve.loss[0], ((np.array(at) - path)[-20:] ** 2).mean(), rtol=1e-9)
    assert curve.loss[1] < 0.25 * ((path[-20:] - h0[:, -2:]) ** 2).mean()


def test_preference_and_denoise_of_such_a_network(trained, tmp_path):
    model, clean = tmp_path / "model.pt", tmp_path / "clean.pt"
    fpa.save(trained, model)
    result = CliRunner().invoke(main, ["preference", str(model), "--noise", "0,0.3", "--json", "-"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["trials"].endswith("in a closed loop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = CliRunner().invoke(main, ["denoise", str(model), "-o", str(clean), "--json", "-"])
    losses = {row["name"]: row["loss"] for row in json.loads(result.stdout)["losses"]}
    np.testing.assert_allclose(losses["noise removed"], document["curve"]["loss"][0], rtol=1e-9)
    assert fpa.load(clean).N == 12  # the loop is the task's, not the file's


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"gain": [1.0, 2.0, 3.0]}, r"gain must have shape \(2,\)"),
        ({"gain": np.ones((3, 2))}, r"gain must have shape \(2, 2\)"),
        ({"rate": np.nan}, "rate must be finite"),
        ({"centre": [0.0] * 3}, "centre must be one number or one per neuron"),
        ({"targets": [[0.0]]}, r"targets must have shape \(1, 2\)"),
    ],
)
def test_a_loop_that_does_not_fit(arguments, match):
    with pytest.raises(InputError, match=match):
        fpa.closed_loop(random_net(), **{"rate": RATE} | arguments)


def test_a_network_that_does_not_fit_the_loop_of_its_task():
    net = random_net(n=3)
    with pytest.raises(InputError, match=r"has 3 input\(s\) and 3 output\(s\), but its task test-to-the-goal"):
        in_its_loop(dataclasses.replace(net, info={"task": "test-to-the-goal"}))


def test_the_point_is_not_drawn_among_the_neurons():
    """Its operating point is its position: no noise enters there."""
    bias = fpa.network_bias(fpa.closed_loop(homing(activation="relu"), RATE, GAIN, CENTRE))
    ax = plot_attenuation(bias)
    dots = [np.asarray(own.get_offsets()) for own in ax.collections if isinstance(own, PathCollection)]
    drawn = np.concatenate(dots)
    assert np.isfinite(drawn).all(axis=1).sum() == 20
    plt.close(ax.figure)


def test_networks_without_a_loop_to_close():
    with pytest.raises(InputError, match="has no inputs"):
        fpa.closed_loop(fpa.Network(W=[[0.5]]), RATE)
    with pytest.raises(InputError, match="is a closed loop already"):
        fpa.closed_loop(fpa.closed_loop(random_net(), RATE), RATE)
    with pytest.raises(InputError, match=r"gain must be a matrix \(2, 7\)"):
        fpa.closed_loop(dataclasses.replace(random_net(), W_out=None, b_out=None), RATE)
    with pytest.raises(InputError, match=r"must be a fpanalysis\.Network"):
        fpa.closed_loop("model.pt", RATE)
