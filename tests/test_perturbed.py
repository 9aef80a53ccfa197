"""Accuracy and loss under perturbed inputs: closed forms, common random numbers, and what the intervals cover."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from problems import random_network
from scipy.special import ndtr

import fpanalysis as fpa
from fpanalysis.robustness._intervals import change_interval, mean_interval, share_interval

MIRROR = fpa.Network(
    W=np.zeros((3, 3)), W_in=np.eye(3), gamma=1.0, activation="linear"
)  #: whose outputs are its inputs


def trials(B: int = 40, T: int = 2, seed: int = 0):
    """Targets are the inputs of MIRROR."""
    u = np.random.default_rng(seed).uniform(-1, 2, size=(T, B, 3))
    return u, u, np.ones((T, B))


def linear_classifier():
    g = np.random.default_rng(3)
    settings = {"gamma": 0.4, "activation": "linear", "W_in": g.normal(size=(4, 2)), "W_out": g.normal(size=(2, 4))}
    return random_network(4, **settings)


def classified(net, B: int, T: int = 4, seed: int = 0):
    inputs = np.random.default_rng(seed).normal(size=(T, B, net.n_in))
    h = np.zeros((B, net.N))
    for u in inputs:
        h = net.step(h, u)
    targets = np.zeros((T, B, net.n_out))
    targets[:, np.arange(B), net.output(h).argmax(axis=1)] = 1
    return inputs, targets, np.repeat((np.arange(T) == T - 1)[:, None].astype(float), B, axis=1)


@pytest.mark.parametrize("kind", ["white", "multiplicative", "salt-and-pepper"])
def test_each_kind_is_what_it_says(kind):
    """The squared error of MIRROR is s^2, s^2 u^2, and s/2 [(u - low)^2 + (high - u)^2] on average."""
    u = trials()[0]
    found = fpa.perturbed(MIRROR, trials(), kind, (0, 0.1, 0.3), draws=200, sampled=False)
    s = found.levels
    expected = {
        "white": s**2,
        "multiplicative": s**2 * (u**2).mean(),
        "salt-and-pepper": s / 2 * ((u - u.min()) ** 2 + (u.max() - u) ** 2).mean(),
    }[kind]
    error = (found.loss_interval[:, 1] - found.loss_interval[:, 0]) / 2 / 1.96
    assert found.loss[0] == error[0] == 0
    assert (error[1:] < 0.02 * found.loss[1:]).all()
    assert (np.abs(found.loss - expected) <= 4 * error).all()
    assert found.accuracy is None
    assert found.loss == pytest.approx(found.losses.mean(axis=(1, 2)))
    assert found.status.ok


def test_accuracy_of_a_linear_classifier_under_white_noise():
    """Right with probability Phi(margin / s)."""
    net = linear_classifier()
    batch = classified(net, 30)
    margin = fpa.margins(net, batch, proven=False).local
    found = fpa.perturbed(net, batch, "white", (0, 0.5, 1.0), draws=400)
    for share, s in zip(found.hits.mean(axis=2)[1:], (0.5, 1.0), strict=True):
        p = ndtr(margin / s)
        error = np.sqrt((p * (1 - p)).sum() / 400) / 30
        assert share.mean() == pytest.approx(p.mean(), abs=4 * error)
    assert found.accuracy == pytest.approx(found.hits.mean(axis=(1, 2)))
    assert found.accuracy[0] == 1
    low, high = found.accuracy_interval.T
    assert (low <= found.accuracy).all()
    assert (found.accuracy <= high).all()


def test_all_levels_and_networks_see_the_same_numbers():
    seen = []

    def keep(outputs, batch):
        seen.append(outputs - batch[0])
        return np.zeros(outputs.shape[1])

    for seed in (0, 0, 1):
        fpa.perturbed(MIRROR, trials(), "white", (0.1, 0.2), draws=2, score=keep, rng=seed)
    first, again, other = seen[:4], seen[4:8], seen[8:]
    assert first[1] == pytest.approx(2 * first[0])
    assert not np.allclose(first[0], first[2])  # another draw
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.allclose(first[0], other[0])


def test_the_score_decides_what_success_is():
    found = fpa.perturbed(
        MIRROR,
        trials(),
        "white",
        (0, 1.0),
        draws=50,
        score=lambda z, batch: (np.abs(z - batch[1]) < 1).all(axis=(0, 2)),
    )
    p = (2 * ndtr(1) - 1) ** 6
    assert found.accuracy[0] == 1
    assert found.accuracy[1] == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 2000))


def test_the_networks_own_noise():
    """With clean inputs the loss is that of the loss curve, by another Monte Carlo; zero noise is no noise."""
    net = random_network(5, activation="tanh", sigma=0.4)
    g = np.random.default_rng(0)
    batch = g.normal(size=(6, 3, 2)), g.normal(size=(6, 3, 2)), np.ones((6, 3))
    curve = fpa.loss_curve(net, batch, (0.0, 0.2, 0.4), method="monte-carlo", trials=4000)
    none, some, own = (
        fpa.perturbed(net, batch, "white", [0.0], sigma=sigma, draws=400, sampled=False) for sigma in (0.0, 0.2, None)
    )
    assert none.loss == pytest.approx(curve.loss[:1], rel=1e-12)
    for found, k in ((some, 1), (own, 2)):
        error = np.ptp(found.loss_interval[0]) / 4
        assert 0 < error < 0.05 * found.loss[0]
        assert found.loss[0] == pytest.approx(curve.loss[k], abs=5 * error)


def test_cross_entropy_and_divergence():
    net = linear_classifier()
    batch = classified(net, 6)
    found = fpa.perturbed(net, batch, "white", (0, 1), loss="cross-entropy")
    h = np.zeros((6, 4))
    for u in batch[0]:
        h = net.step(h, u)
    z = net.output(h)
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    assert found.loss[0] == pytest.approx(-np.log(p.max(axis=1)).mean())
    wild = dataclasses.replace(net, W=1e120 * net.W)
    found = fpa.perturbed(wild, batch, "white", (0, 1))
    assert found.status is fpa.Status.DIVERGED


@pytest.mark.parametrize("a", [0.3, 3.0])
@pytest.mark.parametrize("p", [0.5, 0.9, 0.97])
def test_intervals_of_shares_cover(p, a):
    """40 trials of 8 draws whose own shares follow a beta distribution: 95 % of 2000 intervals hold the mean."""
    g = np.random.default_rng(7)
    own = g.beta(a * p, a * (1 - p), size=(2000, 40, 1))
    hits = (g.random((2000, 40, 8)) < own).astype(float)
    _, ends = share_interval(hits)
    covered = ((ends[:, 0] <= p) & (p <= ends[:, 1])).mean()
    assert covered >= 0.95 - 4 * np.sqrt(0.95 * 0.05 / 2000)
    _, plain = share_interval(hits.reshape(2000, 320, 1))
    naive = ((plain[:, 0] <= p) & (p <= plain[:, 1])).mean()
    assert naive < 0.9  # as if the draws of one trial were as good as other trials


def test_intervals_where_only_the_draws_are_left_to_chance():
    g = np.random.default_rng(8)
    own = g.random(12)
    hits = (g.random((2000, 12, 8)) < own[:, None]).astype(float)
    _, ends = share_interval(hits, sampled=False)
    assert ((ends[:, 0] <= own.mean()) & (own.mean() <= ends[:, 1])).mean() >= 0.95
    values = own[:, None] + g.standard_normal((2000, 12, 8)) * (0.2 + own[:, None])
    _, ends = mean_interval(values, sampled=False)
    covered = ((ends[:, 0] <= own.mean()) & (own.mean() <= ends[:, 1])).mean()
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 2000))


def test_intervals_of_means_cover():
    g = np.random.default_rng(9)
    values = g.standard_normal((2000, 12, 1)) + 0.3 * g.standard_normal((2000, 12, 5))
    _, ends = mean_interval(values)
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean()
    assert covered == pytest.approx(0.95, abs=4 * np.sqrt(0.95 * 0.05 / 2000))


def test_a_single_trial_tells_nothing_of_others():
    share, ends = share_interval(np.ones((1, 8)))
    assert (share, *ends) == (1, 0, 1)
    _, ends = mean_interval(np.ones((1, 8)))
    assert np.isinf(ends).all()


def test_clean_accuracy_has_wilsons_interval():
    """17 of 20: with the quantile of t at 19 degrees of freedom instead of 1.96."""
    hits = np.repeat((np.arange(20) < 17).astype(float)[:, None], 4, axis=1)
    _, ends = share_interval(hits)
    q, n, p = 2.0930240544, 20, 0.85
    roots = np.roots([1 + q**2 / n, -(2 * p + q**2 / n), p**2])
    assert ends == pytest.approx(np.sort(roots), abs=1e-9)


@pytest.mark.parametrize(("B", "better", "worse"), [(20, 0.02, 0.0), (20, 0.1, 0.05), (128, 0.03, 0.01)])
def test_differences_of_shares_are_covered_where_few_trials_differ(B, better, worse):
    """The t-interval alone covers 34 %, 92 % and 95 % of the true differences."""
    g = np.random.default_rng(7)
    v = g.random((2000, B, 1))
    change = np.where(v < better, 1.0, np.where(v < better + worse, -1.0, 0.0))
    _, ends = change_interval(change)
    covered = ((ends[:, 0] <= better - worse) & (better - worse <= ends[:, 1])).mean()
    assert covered > 0.95 - 4 * np.sqrt(0.95 * 0.05 / 2000)
    if (B, worse) == (20, 0.0):
        _, plain = mean_interval(change)
        assert ((plain[:, 0] <= better) & (better <= plain[:, 1])).mean() < 0.5


def test_the_difference_of_two_networks_is_taken_trial_by_trial():
    """The same network with another readout: its accuracy differs by what the covariance of both says."""
    net = linear_classifier()
    batch = classified(net, 60)
    other = dataclasses.replace(net, W_out=net.W_out + 0.1 * np.random.default_rng(1).normal(size=net.W_out.shape))
    first, second = (fpa.perturbed(one, batch, "white", (0.5,), draws=20) for one in (net, other))
    change, ends = first.difference(second)
    assert change == pytest.approx(first.accuracy - second.accuracy)
    own = (first.hits - second.hits).mean(axis=2)[0]
    own = np.concatenate([np.repeat(own, 2), [1, -1]])  # in halves: one trial more, half of it 1 and half -1
    assert np.ptp(ends) == pytest.approx(2 * 2.000995378 * np.sqrt(own.var() / 60))
    assert np.ptp(ends) < np.ptp(first.accuracy_interval)
    assert first.difference(first)[1][0] == pytest.approx([-2.000995378 / 60.5, 2.000995378 / 60.5], rel=0.02)
    later = fpa.perturbed(net, batch, "white", (0.5,), draws=20, rng=1)
    with pytest.raises(fpa.InputError, match="same perturbations"):
        first.difference(later)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "pink"}, "kind must be one of"),
        ({"levels": (-0.1,)}, "sigma must be noise levels"),
        ({"kind": "salt-and-pepper", "levels": (0.1, 1.5)}, "at most 1; found 1.5"),
        ({"draws": 1}, "draws must be"),
        ({"loss": "absolute"}, "loss must be one of"),
        ({"loss": "cross-entropy"}, "must be probabilities"),
        ({"score": lambda z, batch: 1.0}, "one value per trial"),
        ({"sigma": -1}, "sigma must be >= 0"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    with pytest.raises(fpa.InputError, match=words):
        fpa.perturbed(MIRROR, trials(), **change)


def test_all_of_it_at_once():
    net = linear_classifier()
    batch = classified(net, 10)
    whole = fpa.robustness(net, batch, {"white": (0, 0.5), "salt-and-pepper": None}, loss="cross-entropy", rng=2)
    assert list(whole.perturbed) == ["white", "salt-and-pepper"]
    alone = fpa.perturbed(net, batch, "white", (0, 0.5), loss="cross-entropy", rng=2)
    assert np.array_equal(whole.perturbed["white"].hits, alone.hits)
    assert np.array_equal(whole.margins.found, fpa.margins(net, batch, rng=2).found)
    assert whole.status.ok
    assert fpa.robustness(MIRROR, trials(), {}).status.ok  # no classes, no failure
    with pytest.raises(fpa.InputError, match="levels must give those of each kind"):
        fpa.robustness(MIRROR, trials(), (0, 0.3))
    with pytest.raises(fpa.InputError, match="rng must be a seed"):
        fpa.robustness(net, batch, rng=np.random.default_rng(0))
