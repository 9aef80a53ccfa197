"""Why a network prefers noise: trained networks, a bistable unit that resonates, and the rule on made-up numbers."""

import dataclasses
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import norm

import fpanalysis as fpa
from fpanalysis import Verdict, figures
from fpanalysis._grouped import deviations
from fpanalysis.cli._batch import batch_of, in_its_loop
from fpanalysis.preference._smoothing import smoothed_by_all
from fpanalysis.preference.transmission import measured
from fpanalysis.preference.verdict import Evidence, decide

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
ABSORBED = (
    "function-approximation-relu-in-0.5",
    "function-approximation-softplus-in-1.0",
    "function-approximation-tanh-in-0.5",
    "regulator-relu-in-0.5",
    "feedforward-relu-in-0.5",
    "path-integration-relu-in-1.0",
    "maze-relu-in-0.5",
)


def judged(name, trials=16):
    net = in_its_loop(fpa.load(NETWORKS / f"{name}.pt"))
    batch, h0, _ = batch_of(net)
    levels = np.linspace(0, 1.5 * float(np.max(net.sigma)), 7)
    return net, batch, h0, fpa.preference(net, batch, levels, h0=h0, trials=trials)


def driven(placement="out", B=8, T=300, P=100, A=0.2):
    """A bistable unit under a sine too weak to take it from well to well, and the square wave wanted of it."""
    net = fpa.Network(W=[[2.0]], W_in=[[1.0]], gamma=0.4, activation="tanh", placement=placement)
    t = np.arange(T)
    u = np.repeat((A * np.sin(2 * np.pi * t / P))[:, None, None], B, axis=1)
    wanted = np.repeat(np.where((t - 10) % P < P / 2, 1.0, -1.0)[:, None, None], B, axis=1)
    mask = np.zeros((T, B))
    mask[100:] = 1
    h0 = np.where(np.arange(B) % 2, 0.96, -0.96)[:, None]
    return net, (u, wanted, mask), h0


@pytest.mark.parametrize("name", ABSORBED)
def test_trained_with_noise_inside_it_is_absorbed(name):
    net, batch, h0, found = judged(name)
    e = found.evidence
    assert found.verdict is Verdict.ABSORBED
    assert e.restored - e.restored_error > 0.8
    assert 0.5 < e.follows < 1.5
    assert e.bias2_share >= 1
    clean = fpa.loss_curve(found.denoised, batch, [0.0], "monte-carlo", h0=h0, trials=4).loss[0]
    assert clean == pytest.approx(e.loss_denoised, rel=1e-12)
    removed = fpa.loss_curve(net, batch, [0.0], "monte-carlo", h0=h0, trials=4).loss[0]
    assert removed == pytest.approx(e.loss_removed, rel=1e-9)
    assert "training noise absorbed" in found.summary


@pytest.mark.parametrize("name", ["function-approximation-relu-out-0.5", "cognitive-relu-in-0.5"])
def test_neither(name):
    _, _, _, found = judged(name, trials=8)
    assert found.verdict is Verdict.NEITHER
    assert found.denoised is None
    assert found.evidence.loss_removed <= 1.05 * found.evidence.loss_preferred


def test_a_bistable_unit_with_noise_outside_resonates():
    """Its smoothed version stays in its well like the noise-free unit; noise makes it hop in step with the signal."""
    net, batch, h0 = driven()
    found = fpa.preference(net, batch, np.linspace(0, 1.5, 7), h0=h0, trials=64)
    e = found.evidence
    assert found.verdict is Verdict.RESONANCE
    assert e.gain_preferred - e.gain_preferred_error > 5 * max(e.gain_removed, e.gain_denoised)
    assert e.loss_preferred + e.loss_preferred_error < e.loss_removed
    gain = found.transmission.gain
    peak = int(gain.argmax())
    assert 0 < peak < len(gain) - 1
    assert gain[peak] - found.transmission.gain_error[peak] > gain[-1] + found.transmission.gain_error[-1]
    assert any("hops between basins" in note for note in found.notes)


def test_a_smoothing_that_is_made_of_hops_does_not_count():
    """At 0.9 the closure is one Gaussian over both wells, s = 1.85, and the unit smoothed by it has one."""
    net, batch, h0 = driven()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fpa.DenoiseWarning)
        note = fpa.denoise(net, 0.9).info["denoised"]
    assert (note["stable_before"], note["stable_after"]) == ([2], [1])
    curve = fpa.loss_curve(net, batch, np.linspace(0, 1.5, 7), "monte-carlo", h0=h0, trials=32)
    found = fpa.preference(net, batch, curve=dataclasses.replace(curve, preferred=0.9), h0=h0, trials=64)
    assert found.verdict is Verdict.RESONANCE
    assert found.evidence.denoised_by == "sigma"
    assert any("made of hops" in note for note in found.notes)


def test_noise_inside_a_bistable_unit_smooths_its_wells_away():
    """The mean step is that of f_s, s = sigma, which has one fixed point: run here by the trapezoid rule."""
    net, batch, h0 = driven("in")
    found = fpa.preference(net, batch, np.linspace(0, 1.8, 7), h0=h0, trials=64)
    assert found.verdict is Verdict.DITHER
    s, xi = found.evidence.preferred, np.linspace(-9, 9, 721)
    weight = np.exp(-(xi**2) / 2)
    weight /= weight.sum()
    h, off = h0[:, 0], []
    for u, wanted, counts in zip(*(part.squeeze() for part in batch), strict=True):
        h = 0.6 * h + 0.4 * np.tanh((2 * h + u)[:, None] + s * xi) @ weight
        off.append(counts * (h - wanted) ** 2)
    assert np.sum(off) / batch[2].sum() == pytest.approx(found.evidence.loss_denoised, rel=1e-10)


def test_a_threshold_below_which_nothing_passes_is_smoothed_by_noise():
    """A hundred ReLU at -1 under a weak signal u: silent without noise; with it M(u - 1, sigma) passes on average, and
    the smoothed units pass as much without noise."""
    N, A, steps = 100, 0.3, 40
    u = (A * np.sin(2 * np.pi * np.arange(steps) / steps))[:, None, None]
    at = 4 * ((0.0 - 1) * ndtr(-1 / 0.6) + 0.6 * norm.pdf(1 / 0.6))
    net = fpa.Network(
        W=np.zeros((N, N)), W_in=np.ones((N, 1)), b=-np.ones(N), W_out=np.full((1, N), 4 / N), b_out=[-at], gamma=1.0
    )
    found = fpa.preference(net, (u, u, np.ones((steps, 1))), [0, 0.2, 0.4, 0.6, 0.8, 1.2], trials=256)
    e, s = found.evidence, found.transmission.sigma[1:]
    assert found.verdict is Verdict.DITHER
    M = (u - 1) * ndtr((u - 1) / s) + s * norm.pdf((u - 1) / s)
    passed = 4 * (M * u).sum(axis=(0, 1)) / (u**2).sum()
    assert np.all(np.abs(found.transmission.gain[1:] - passed) <= 2 * found.transmission.gain_error[1:])
    assert abs(e.gain_removed) < 1e-12
    assert e.gain_denoised == pytest.approx(np.interp(e.preferred, s, passed), rel=1e-9)


def test_gain_and_correlation_in_closed_form():
    """Linear, gamma = 1: z = a u + c + sigma xi, wanted z*: regression on z*, with an error that covers it."""
    rng = np.random.default_rng(1)
    u = rng.standard_normal((1, 200, 1))
    wanted = 3 * u + 1
    net = fpa.Network(W=[[0.0]], W_in=[[1.5]], b=[0.7], gamma=1.0, activation="linear", placement="out")
    found = measured(net, (u, wanted, np.ones((1, 200))), np.array([0.0, 2.0]), None, 64, np.random.default_rng(0))
    spread = float(np.var(1.5 * u))
    exact = [1.0, np.sqrt(spread / (spread + 4))]
    assert found.gain[0] == pytest.approx(0.5, rel=1e-12)
    assert np.all(np.abs(found.gain - 0.5) <= 2 * found.gain_error + 1e-12)
    assert np.all(np.abs(found.correlation - exact) <= 2 * found.correlation_error + 1e-12)
    assert found.gain_error[1] == pytest.approx(1.96 * 2 / np.sqrt(64 * 200 * 9 * np.var(u)), rel=0.5)
    assert np.all(found.loss_error[1:] > 0)


MADE_UP = Evidence(
    training_sigma=0.5, preferred=0.45, preferred_error=0.02, preferred_bias2=0.5, covered=True,
    loss_removed=1.0, loss_preferred=0.2, loss_preferred_error=0.01, loss_trained=0.2, loss_denoised=0.1,
    gain_removed=0.1, gain_preferred=0.9, gain_preferred_error=0.02, gain_denoised=0.9,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "verdict", "says"),
    [
        ({}, Verdict.ABSORBED, "0.9 of that of training"),
        ({"preferred": 0.1}, Verdict.DITHER, "0.2 of that of training"),
        ({"training_sigma": 0.0}, Verdict.DITHER, "smoothed 0.1"),
        ({"gain_denoised": 0.1, "training_sigma": 0.0}, Verdict.RESONANCE, "0.9 ± 0.02 at that noise"),
        ({"gain_denoised": 0.1, "loss_denoised": 1.0, "preferred": 0.1}, Verdict.RESONANCE, "0.1 smoothed"),
        ({"gain_denoised": 0.1}, Verdict.UNDECIDED, "train at other noise levels"),
        ({"gain_denoised": 0.1, "gain_removed": 0.5, "loss_denoised": 1.0}, Verdict.UNDECIDED, "nor is it the"),
        ({"loss_denoised": 1.0, "gain_denoised": 0.8}, Verdict.UNDECIDED, "nor is it the transmission"),
        (
            {"loss_denoised": 1.0, "gain_preferred": np.nan, "gain_denoised": np.nan},
            Verdict.UNDECIDED,
            "no signal in the wanted output",
        ),
        ({"loss_denoised": 0.5}, Verdict.UNDECIDED, "62% ± 1% of what noise does"),
        ({"loss_denoised": np.nan}, Verdict.UNDECIDED, "is not known"),
        ({"loss_removed": 0.21}, Verdict.UNDECIDED, "raise --trials"),
        ({"loss_removed": 0.19, "preferred_bias2": 0.0}, Verdict.NEITHER, "without noise the loss is 0.19"),
        ({"loss_removed": 0.19}, Verdict.NEITHER, "absorb the shift of the mean"),
        ({"loss_removed": 0.2, "loss_preferred_error": 0.0}, Verdict.NEITHER, "makes no difference"),
        (
            {"loss_removed": 0.2, "loss_preferred_error": 0.0, "training_sigma": 0.0},
            Verdict.NEITHER,
            "without noise the loss is 0.2, and noise does not lower it",
        ),
        ({"loss_removed": 0.205, "loss_preferred_error": 0.001}, Verdict.NEITHER, "loss is 0.205, its least 0.2"),
        ({"covered": False}, Verdict.UNDECIDED, "depends on its training noise, but"),
        ({"loss_preferred": np.nan}, Verdict.UNDECIDED, "not known at every level"),
    ],
)
def test_the_rule(changed, verdict, says):
    found, reason = decide(dataclasses.replace(MADE_UP, **changed))
    assert found is verdict
    assert says in reason


def test_without_samples_it_tells_absorption_but_no_resonance():
    net = fpa.load(NETWORKS / "regulator-relu-in-0.5.pt")
    batch, h0, _ = batch_of(net)
    curve = fpa.loss_curve(net, batch, np.linspace(0, 0.75, 6), h0=h0)
    found = fpa.preference(net, batch, curve=curve, h0=h0, trials=0)
    assert found.verdict is Verdict.ABSORBED
    assert found.transmission is None
    assert np.isnan(found.evidence.gain_preferred)
    sampled = fpa.preference(net, batch, curve=curve, h0=h0, trials=256)
    assert sampled.evidence.loss_preferred == pytest.approx(
        found.evidence.loss_preferred, abs=2.5 * sampled.evidence.loss_preferred_error
    )


def test_bad_input():
    net, batch, h0 = driven(B=2)
    with pytest.raises(fpa.InputError, match="trials must be a whole number >= 4"):
        fpa.preference(net, batch, [0, 1], h0=h0, trials=2)
    with pytest.raises(fpa.InputError, match="trials must be given where there is no curve"):
        fpa.preference(net, batch, [0, 1], h0=h0, trials=0)
    with pytest.raises(fpa.InputError, match="sigma must be given"):
        fpa.preference(net, batch, h0=h0)


def test_the_figure_shows_the_smoothed_network_and_the_gain():
    net, batch, h0, found = judged("regulator-relu-in-0.5")
    assert len(figures.loss_figure(found.curve, None, found).axes) == 1  # one constant target: nothing to pass on
    net, batch, h0 = driven(B=4)
    found = fpa.preference(net, batch, [0, 0.5, 1.0, 1.5], h0=h0, trials=8)
    figure = figures.loss_figure(found.curve, None, found)
    top, below = figure.axes
    assert top.get_title("left") == f"verdict: {found.verdict.value}"
    np.testing.assert_array_equal(below.get_lines()[0].get_ydata(), found.transmission.gain)
    ax = figures.plot_signal_gain(found)
    plt.close(ax.figure)


def classes(W_out, rng, N=6, T=4, B=5, C=3, **settings):
    """A small network and one-hot targets at the last step."""
    net = fpa.Network(
        W=0.5 * rng.standard_normal((N, N)), W_in=rng.standard_normal((N, 2)),
        W_out=W_out * rng.standard_normal((C, N)), gamma=0.5, activation="tanh", sigma=0.4, **settings,
    )  # fmt: skip
    targets = np.repeat(np.eye(C)[rng.integers(C, size=B)][None], T, axis=0)
    mask = np.zeros((T, B))
    mask[-1] = 1
    return net, (rng.standard_normal((T, B, 2)), targets, mask)


def test_the_loss_of_classes_and_its_gain_by_brute_force():
    """Runs of each trial step by step: the cross-entropy, that of the mean output, and the gain of softmax(zbar)."""
    net, (u, wanted, mask) = classes(2.0, np.random.default_rng(11))
    found = measured(
        net, (u, wanted, mask), np.array([0.0, 0.6]), None, 4000, np.random.default_rng(2), "cross-entropy"
    )
    R, rng = 40000, np.random.default_rng(3)
    h = np.zeros((R, 5, 6))
    for v in u:
        h = 0.5 * h + 0.5 * np.tanh(h @ net.W.T + v @ net.W_in.T + 0.6 * rng.standard_normal(h.shape))
    z = h @ net.W_out.T

    def log_p(z):
        return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))

    losses = -(wanted[-1] * log_p(z)).sum(axis=-1).mean(axis=1)
    assert abs(found.loss[1] - losses.mean()) <= 2 * np.hypot(found.loss_error[1], 2 * losses.std() / np.sqrt(R))
    of_mean = -(wanted[-1] * log_p(z.mean(axis=0))).sum(axis=-1).mean()
    assert abs(found.bias2[1] - of_mean) <= 3 * found.bias2_error[1]
    assert found.bias2[1] < found.loss[1] - found.loss_error[1]  # Jensen
    signal = wanted[-1] - wanted[-1].mean(axis=0)
    gain = (np.exp(log_p(z.mean(axis=0))) * signal).sum() / (signal**2).sum()
    assert abs(found.gain[1] - gain) <= 3 * found.gain_error[1]
    assert found.bias2[0] == pytest.approx(found.loss[0], rel=1e-12)
    assert np.isnan(found.correlation).all()


def test_a_classifier_is_judged_by_its_own_loss():
    """Scores that the noise-free network has right, if small: noise costs, whatever the squared error says."""
    net, batch = classes(2.0, np.random.default_rng(11))
    curve = fpa.loss_curve(net, batch, [0, 0.3, 0.6], "monte-carlo", loss="cross-entropy", trials=64)
    found = fpa.preference(net, batch, curve=curve, loss="cross-entropy", trials=64)
    e = found.evidence
    assert (curve.of, e.loss) == ("cross-entropy", "cross-entropy")
    assert e.loss_removed == pytest.approx(curve.loss_removed, rel=1e-12)
    z = np.zeros((5, 6))
    for v in batch[0]:
        z = 0.5 * z + 0.5 * np.tanh(z @ net.W.T + v @ net.W_in.T)
    z = z @ net.W_out.T
    own = (np.log(np.exp(z).sum(axis=1)) - (batch[1][-1] * z).sum(axis=1)).mean()
    assert e.loss_removed == pytest.approx(own, rel=1e-12)
    with pytest.raises(fpa.InputError, match="curve must be of the same loss"):
        fpa.preference(net, batch, curve=curve, trials=64)
    with pytest.raises(fpa.InputError, match="known by sampling only"):
        fpa.preference(net, batch, curve=curve, loss="cross-entropy", trials=0)
    with pytest.raises(fpa.InputError, match="probabilities"):
        fpa.preference(net, (batch[0], 2 * batch[1], batch[2]), [0, 0.5], loss="cross-entropy")


def test_a_lipschitz_rnn_is_judged_as_the_network_that_it_is():
    """A = -1 makes f = -h + tanh(W h + u): the bistable unit with its noise outside."""
    net, batch, h0 = driven(B=4)
    same = fpa.LipschitzRNN(A=[[-1.0]], W=net.W, W_in=net.W_in, gamma=net.gamma)
    levels = [0, 0.4, 0.8, 1.2, 1.6]
    one, other = (fpa.preference(each, batch, levels, h0=h0, trials=32) for each in (net, same))
    assert other.verdict is one.verdict is Verdict.RESONANCE
    for name in ("preferred", "loss_preferred", "loss_denoised", "gain_preferred", "gain_denoised"):
        assert getattr(other.evidence, name) == pytest.approx(getattr(one.evidence, name), rel=1e-9)
    assert any("made of hops" in note for note in other.notes)


def test_a_lipschitz_rnn_is_smoothed_by_what_reaches_it_through_W():
    """gamma = 1: the first neuron is sigma xi after the first of 30 steps, and 4 sigma xi = N(0, 4) reaches the second;
    s from 12 x 29 x 32 samples is known to 1 / sqrt(2 x 11136), at four standard errors 0.027."""
    net = fpa.LipschitzRNN(
        A=-np.eye(2), W=[[0.0, 0.0], [4.0, 0.0]], W_in=[[0.0], [1.0]], W_out=[[0.0, 1.0]], gamma=1.0, sigma=[0.5, 0.0]
    )
    batch = (np.zeros((30, 12, 1)), np.zeros((30, 12, 1)), np.ones((30, 12)))
    clean, merges, notes = smoothed_by_all(net, batch, None, net.sigma)
    s = deviations(clean.activation)
    assert not merges
    assert s[0] == 0
    assert s[1] == pytest.approx(2 * np.sqrt(29 / 30), rel=0.027)
    assert not np.any(clean.sigma)
    assert "Lipschitz" in notes[0]


def test_noise_that_a_lipschitz_rnn_smooths_itself_with_is_absorbed():
    """50 neurons sigma xi, each into one of 50 that are tanh(u + 4 sigma xi), of which the mean is read: wanted is
    what is left of tanh, E tanh(u + 2 xi), and smoothed by s = 2 they give it without noise."""
    M, s, T = 50, 2.0, 20
    W = np.zeros((2 * M, 2 * M))
    W[M:, :M] = 4 * np.eye(M)
    net = fpa.LipschitzRNN(
        A=-np.eye(2 * M), W=W, W_in=np.repeat([[0.0], [1.0]], M, axis=0), gamma=1.0,
        W_out=np.repeat([[0.0, 1 / M]], M, axis=0).T.reshape(1, -1), sigma=np.repeat([0.5, 0.0], M),
    )  # fmt: skip
    u = np.linspace(-3, 3, 7)
    xi = np.linspace(-9, 9, 721)
    weight = np.exp(-(xi**2) / 2)
    wanted = np.tanh(u[:, None] + s * xi) @ (weight / weight.sum())
    mask = np.ones((T, 7))
    mask[0] = 0  # no noise has come through yet
    inputs, targets = (np.tile(part[:, None], (T, 1, 1)) for part in (u, wanted))
    found = fpa.preference(net, (inputs, targets, mask), np.linspace(0, 0.8, 5), trials=16, rng=9)
    e = found.evidence
    assert found.verdict is Verdict.ABSORBED
    assert e.denoised_by == "smoothed"
    assert e.loss_removed == pytest.approx(np.mean((np.tanh(u) - wanted) ** 2), rel=1e-12)
    assert e.loss_denoised < 0.01 * e.loss_removed
    assert "'fpanalysis denoise' is for CTRNNs" in found.summary


def test_a_classifier_with_two_wells_resonates():
    """Two classes read from the bistable unit: by the cross-entropy, and the gain of the probabilities."""
    net, (u, square, mask), h0 = driven(B=4)
    classes = dataclasses.replace(net, W_out=[[2.0], [-2.0]])
    one_hot = np.concatenate([square > 0, square < 0], axis=2).astype(float)
    levels = np.linspace(0, 1.6, 5)
    found = fpa.preference(classes, (u, one_hot, mask), levels, h0=h0, trials=32, loss="cross-entropy", rng=4)
    assert found.verdict is Verdict.RESONANCE
    assert "probabilities that the mean output stands for follow the classes" in found.reason
    assert found.evidence.bias2_share >= 1
    figure = figures.loss_figure(found.curve, None, found)
    assert figure.axes[0].get_ylabel() == "expected cross-entropy"
    assert "probabilities" in figure.axes[1].get_ylabel()
    labels = [line.get_label() for line in figure.axes[0].get_lines()]
    assert "loss of the mean output" in labels
