"""P and Q against unrolled Hessians, tensor quadrature, sampling, closed forms and limits."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.activations import Smoothed
from fpanalysis.cli._batch import batch_of
from fpanalysis.models import from_torch
from fpanalysis.regularizer import CrossEntropy, SquaredError
from fpanalysis.regularizer._differentiated import Differentiated
from fpanalysis.system import System

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
WAYS = {
    "in": {"activation": "softplus"},
    "out": {"activation": "tanh", "placement": "out"},
    "current": {"activation": "softplus", "form": "current"},
}


def random_net(N, seed, n_out=2, **settings):
    rng = np.random.default_rng(seed)
    weights = {"W": 1.3 * rng.standard_normal((N, N)) / np.sqrt(N), "b": rng.standard_normal(N)}
    weights |= {"W_in": rng.standard_normal((N, 2)), "W_out": rng.standard_normal((n_out, N)) / np.sqrt(N)}
    return fpa.Network(**weights, **({"gamma": 0.4, "sigma": 0.2} | settings))


def random_batch(T, B, n_out, seed, loss=None):
    rng = np.random.default_rng(seed)
    targets = rng.standard_normal((T, B, n_out))
    if loss == "cross-entropy":
        targets = np.eye(n_out)[rng.integers(n_out, size=(T, B))]
    return rng.standard_normal((T, B, 2)), targets, rng.integers(0, 2, (T, B)) + np.eye(T)[-1][:, None]


def unrolled(net, batch, xi, gamma, sigma, multiplicative, loss):
    """The loss of one trial as a function of all its noise xi (..., T, N), in torch, by the equations of the step."""
    W, b, W_in, W_out = (torch.tensor(part) for part in (net.W, net.b, net.W_in, net.W_out))
    inputs, targets, mask = (torch.tensor(np.asarray(part, float)) for part in batch)
    f = net.activation.torch
    h, total = torch.zeros_like(xi[..., 0, :]), 0.0
    for t in range(len(inputs)):
        g, s, noise = gamma[t], sigma[t], xi[..., t, :]
        drive = W_in @ inputs[t, 0] + b
        if net.form == "current":
            F = f(h) @ W.T + drive
            pulled = F + s * noise
        else:
            F = f(h @ W.T + drive)
            pulled = f(h @ W.T + drive + s * noise) if net.placement == "in" else F + s * noise
        pulled = pulled + multiplicative * (F - h) * noise
        h = (1 - g) * h + g * pulled
        z = (f(h) if net.form == "current" else h) @ W_out.T
        if loss == "cross-entropy":
            value = -(targets[t, 0] * torch.log_softmax(z, dim=-1)).sum(-1)
        else:
            value = ((z - targets[t, 0]) ** 2).mean(-1)
        total = total + mask[t, 0] / mask.sum() * value
    return total


@pytest.mark.parametrize("loss", ["squared error", "cross-entropy"])
@pytest.mark.parametrize("way", WAYS)
def test_the_trace_of_the_unrolled_hessian(way, loss):
    """P + Q is the Laplacian of the loss in all the noise that enters: by torch, over all steps and neurons at once."""
    net, batch = random_net(5, 1, **WAYS[way]), random_batch(6, 1, 2, 2, loss)
    rng = np.random.default_rng(3)
    gamma, sigma = rng.uniform(0.1, 0.9, 6), rng.uniform(0.2, 1.0, (6, 5))
    found = fpa.regularizer(net, batch, loss, sigma, multiplicative=0.3, gamma=gamma, pairs=0)

    def value(xi):
        return unrolled(net, batch, xi.reshape(6, 5), gamma, torch.tensor(sigma), 0.3, loss)

    H = torch.autograd.functional.hessian(value, torch.zeros(30, dtype=torch.float64))
    assert found.status.ok
    assert found.l == pytest.approx(float(value(torch.zeros(30, dtype=torch.float64))), rel=1e-13)
    np.testing.assert_allclose(found.P + found.Q, float(H.trace()) / sigma.max() ** 2, rtol=1e-12)
    assert found.residual < 1e-13 * (abs(found.P) + found.Q)
    assert min(abs(found.P), found.Q) > 1e-3  # neither is left out of the sum


@pytest.mark.parametrize("loss", ["squared error", "cross-entropy"])
@pytest.mark.parametrize(("N", "T", "nodes"), [(1, 5, 9), (2, 3, 7)])
@pytest.mark.parametrize("way", WAYS)
def test_the_remainder_is_of_fourth_order(way, N, T, nodes, loss):
    """E l by tensor quadrature over all N T noises: what is left of it falls by 2^4 with half the noise."""
    net, batch = random_net(N, 4, **WAYS[way]), random_batch(T, 1, 2, 5, loss)
    gamma = np.linspace(0.2, 0.7, T)
    x, w = np.polynomial.hermite_e.hermegauss(nodes)
    grid = torch.tensor(np.stack(np.meshgrid(*[x] * (N * T), indexing="ij"), axis=-1).reshape(-1, T, N))
    weight = np.prod(np.meshgrid(*[w / w.sum()] * (N * T), indexing="ij"), axis=0).ravel()
    found = fpa.regularizer(net, batch, loss, 1.0, multiplicative=0.5, gamma=gamma, pairs=0)
    eps = 0.3 / 2.0 ** np.arange(3)
    exact = [float(weight @ unrolled(net, batch, e * grid, gamma, [1.0] * T, 0.5, loss).numpy()) for e in eps]
    left = np.abs(np.array(exact) - found.predict(eps))
    slopes = np.diff(np.log(left)) / np.diff(np.log(eps))
    assert ((slopes > 3.5) & (slopes < 4.5)).all()


def test_the_remainder_at_sixteen_neurons():
    """By pairs of runs with the quadratic form of the unrolled Hessian as control variate, whose mean is its trace."""
    net, batch, T = random_net(16, 6, activation="tanh", sigma=1.0), random_batch(8, 1, 2, 7), 8
    value = partial(unrolled, net, batch, gamma=[0.4] * T, sigma=[1.0] * T, multiplicative=0.0, loss=None)
    zero = torch.zeros(T * 16, dtype=torch.float64)
    H = torch.autograd.functional.hessian(lambda xi: value(xi.reshape(T, 16)), zero)
    xi = torch.tensor(np.random.default_rng(0).standard_normal((4000, T * 16)))
    second = torch.einsum("ri,ij,rj->r", xi, H, xi) / 2
    found = fpa.regularizer(net, batch, pairs=0)
    eps = 0.4 / 2.0 ** np.arange(4)
    left, error = np.zeros((2, 4))
    for k, e in enumerate(eps):
        pair = sum(value(sign * e * xi.reshape(-1, T, 16)) for sign in (1, -1)) / 2
        rest = (pair - e**2 * second).numpy() + e**2 / 2 * float(H.trace())
        left[k], error[k] = abs(rest.mean() - found.predict(e)), rest.std() / np.sqrt(len(rest))
    assert (error < 0.15 * left).all()  # the variance reduction leaves something to measure
    slopes = np.diff(np.log(left)) / np.diff(np.log(eps))
    assert (slopes > 3).all()


@pytest.mark.parametrize(
    ("name", "sigma", "smoothed"),
    [("softplus-in-1.0", 0.1, None), ("tanh-in-0.5", 0.04, None), ("relu-in-0.5", 0.03, 0.5)],
)
def test_a_trained_network_at_small_noise(name, sigma, smoothed):
    """The change of the loss to 5 %, and the slope of the loss curve at zero."""
    net = fpa.load(NETWORKS / f"function-approximation-{name}.pt")
    if smoothed:
        assert fpa.regularizer(net, batch_of(net).batch).status is fpa.Status.NO_CURVATURE
        net = replace(net, activation=Smoothed(net.activation, smoothed))
    (inputs, targets, mask), _, _ = batch_of(net)
    batch = inputs[:, ::4], targets[:, ::4], mask[:, ::4]
    found = fpa.regularizer(net, batch, sigma=sigma, pairs=128)
    change = found.predicted - found.l
    assert found.sampled_error < 0.02 * abs(change)
    assert abs(found.predicted - found.sampled) < 0.05 * abs(change)
    assert abs(change) - found.error <= abs(found.sampled - found.l) <= abs(change) + found.error
    curve = fpa.loss_curve(net, batch, [0.0, 0.02 * sigma])
    assert (curve.loss[1] - curve.loss[0]) / (0.02 * sigma) ** 2 == pytest.approx((found.P + found.Q) / 2, rel=1e-3)
    assert curve.loss[0] == pytest.approx(found.l, rel=1e-12)
    assert fpa.loss_curve(net, batch, [0.0]).slope_zero == pytest.approx((found.P + found.Q) / 2, rel=0.1)


def test_smoothed_is_the_smoothed_network():
    net = fpa.load(NETWORKS / "function-approximation-relu-in-0.5.pt")
    (inputs, targets, mask), _, _ = batch_of(net, steps=20)
    other = replace(net, activation=Smoothed(net.activation, 0.4))
    batch = inputs[:, :3], targets[:, :3], mask[:, :3]
    one, two = fpa.regularizer(net, batch, smoothed=0.4, pairs=8), fpa.regularizer(other, batch, pairs=8)
    assert (one.l, one.P, one.Q, one.sampled) == (two.l, two.P, two.Q, two.sampled)
    assert one.status.ok


def test_twenty_networks_by_their_sensitivity():
    """In the order that sampling finds: Spearman's correlation."""
    predicted, sampled = [], []
    for k in range(20):
        way = {"activation": ("tanh", "softplus")[k % 2], "placement": ("in", "out")[k // 2 % 2]}
        net = random_net(16, k, sigma=0.05, gamma=0.3, **way)
        found = fpa.regularizer(replace(net, W=net.W * (0.3 + 0.04 * k)), random_batch(12, 4, 2, k), pairs=200, rng=k)
        predicted.append(found.predicted - found.l)
        sampled.append(found.sampled - found.l)
    ranks = np.argsort(np.argsort([predicted, sampled], axis=1), axis=1)
    assert np.corrcoef(ranks)[0, 1] >= 0.95


def test_a_linear_neuron():
    """h' = (1 - g) h + g (w h + b + sigma xi), and multiplicative noise in its increment: P = 0, Q in closed form."""
    net = fpa.Network(W=[[0.5]], b=[0.5], activation="linear", gamma=0.2, sigma=0.4)
    batch = np.zeros((300, 1, 0)), np.full((300, 1, 1), 0.7), np.r_[np.zeros(299), 1.0][:, None]
    J = 1 - 0.2 * 0.5
    for multiplicative in (0.0, 0.3):  # at rest the increment is zero, so that this noise is gone
        found = fpa.regularizer(net, batch, multiplicative=multiplicative)
        assert found.P == 0
        np.testing.assert_allclose(found.Q, 2 * 0.04 / (1 - J**2), rtol=1e-12)
        assert found.eps == 0.4
        assert abs(found.sampled - found.predicted) <= found.error
    T, t = 20, np.arange(20)
    batch = np.zeros((T, 1, 0)), np.full((T, 1, 1), 0.7), np.eye(T)[:, -1:]
    alone = fpa.regularizer(net, batch, sigma=0.0, multiplicative=0.3)
    increment = J**t / 2  # F - h, on the way from 0 to 1
    assert alone.eps == 0.3
    np.testing.assert_allclose(alone.Q, 2 * sum((0.2 * increment) ** 2 * J ** (2 * t[::-1])), rtol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_at_rest_it_is_the_shift_of_the_stationary_law(way):
    net = random_net(6, 8, **WAYS[way] | {"sigma": 0.01})
    T = 400
    batch = np.zeros((T, 1, 2)), np.zeros((T, 1, 2)), np.ones((T, 1))
    law = fpa.stationary(net, method="small-noise")
    found = fpa.regularizer(net, batch, pairs=0)
    np.testing.assert_allclose(1e-4 * found.mu[0], law.mean - law.start, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(1e-4 * found.C[0], law.cov, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("way", WAYS)
def test_whose_noise_it_is(way):
    """Q of noise in one neuron alone is that neuron's share; P of neurons without coupling is their own."""
    net, batch = random_net(4, 9, **WAYS[way]), random_batch(7, 3, 2, 10)
    found = fpa.regularizer(net, batch, pairs=0)
    alone = [fpa.regularizer(net, batch, sigma=row, pairs=0).Q for row in np.eye(4)]
    np.testing.assert_allclose(found.Q_by_neuron, alone, rtol=1e-12)
    assert found.Q_by_trial.sum() == pytest.approx(found.Q, rel=1e-12)
    single = [fpa.Network(W=[[w]], b=[b], sigma=0.1, **WAYS[way]) for w, b in ((0.5, 0.2), (-0.7, 0.4))]
    both = fpa.Network(W=np.diag([0.5, -0.7]), b=[0.2, 0.4], sigma=0.1, **WAYS[way])
    targets = np.full((5, 1, 2), 0.1)
    joint = fpa.regularizer(both, (np.zeros((5, 1, 0)), targets, np.ones((5, 1))), pairs=0)
    own = [fpa.regularizer(one, (np.zeros((5, 1, 0)), targets[..., :1], np.ones((5, 1))), pairs=0).P for one in single]
    np.testing.assert_allclose(joint.P_by_neuron, np.array(own) / 2, rtol=1e-12)  # the mean over two outputs


def test_units():
    """P and Q are of noise of unit size: the level changes neither; nor do steps of gamma spelled out."""
    net, batch = random_net(4, 11, activation="tanh"), random_batch(7, 2, 2, 12)
    one = fpa.regularizer(net, batch, pairs=0)
    others = [{"sigma": 0.7}, {"sigma": 0.0}, {"gamma": [0.4] * 7}, {"sigma": np.full((7, 1), 0.2)}]
    for other in others:
        again = fpa.regularizer(net, batch, pairs=0, **other)
        np.testing.assert_allclose([again.P, again.Q], [one.P, one.Q], rtol=1e-12)
        assert again.eps == np.max(other.get("sigma", 0.2))
    scaled = net.with_sigma([0.1, 0.2, 0.3, 0.4])
    profiled = fpa.regularizer(scaled, batch, pairs=0)
    assert profiled.eps == 0.4
    np.testing.assert_allclose(profiled.Q, one.Q_by_neuron @ np.array([0.25, 0.5, 0.75, 1]) ** 2, rtol=1e-12)


def test_weights_of_outputs_and_starts():
    net, (inputs, targets, mask) = random_net(4, 13, activation="softplus"), random_batch(5, 2, 2, 14)
    each = np.repeat(mask[..., None], 2, axis=-1)
    one, two = (fpa.regularizer(net, (inputs, targets, weight), pairs=0) for weight in (mask, each))
    np.testing.assert_allclose([one.l, one.P, one.Q], [two.l, two.P, two.Q], rtol=1e-12)
    each[..., 1] = 0
    single = replace(net, W_out=net.W_out[:1])
    h0 = np.random.default_rng(0).standard_normal((2, 4))
    left = fpa.regularizer(net, (inputs, targets, each), h0=h0, pairs=0)
    right = fpa.regularizer(single, (inputs, targets[..., :1], mask), h0=h0, pairs=0)
    np.testing.assert_allclose([left.l, left.P, left.Q], [right.l, right.P, right.Q], rtol=1e-12)


def test_a_cell_without_formulas_of_its_own():
    """A GRU: second differences give the curvature, and P + Q its sensitivity."""
    torch.manual_seed(0)
    cell = from_torch(torch.nn.GRU(2, 6, dtype=torch.float64)).with_sigma(0.02)
    inputs, targets, mask = random_batch(8, 4, 6, 15)
    found = fpa.regularizer(cell, (2 * inputs, targets, mask), pairs=400)
    assert found.status.ok
    assert abs(found.predicted - found.sampled) <= 1.5 * found.sampled_error < 0.1 * abs(found.predicted - found.l)
    net, rng = random_net(6, 16, activation="softplus"), np.random.default_rng(0)
    h, A = rng.standard_normal((3, 6)), rng.standard_normal((3, 6, 6))
    C, u = A @ A.swapaxes(-1, -2), np.zeros(2)
    np.testing.assert_allclose(System.target_curvature(net, h, u, C), net.target_curvature(h, u, C), rtol=1e-6)


def test_derivatives_of_losses():
    """By hand, by torch, and by differences."""
    rng = np.random.default_rng(0)
    z, w = rng.standard_normal((5, 3)), np.repeat(rng.random((5, 1)), 3, axis=1)
    target = rng.dirichlet(np.ones(3), 5)
    square = Differentiated(lambda z, target: (z - target) ** 2)
    entropy = Differentiated(lambda z, target: -(target * torch.log_softmax(z, dim=-1)).sum(dim=-1))
    for own, other in ((SquaredError(), square), (CrossEntropy(), entropy)):
        for name in ("value", "gradient", "hessian"):
            expected = getattr(other, name)(z, target, w)
            np.testing.assert_allclose(getattr(own, name)(z, target, w), expected, rtol=1e-12, atol=1e-14)
        up, down = (own.value(z + sign * 1e-5 * np.eye(3)[1], target, w) for sign in (1, -1))
        np.testing.assert_allclose((up - down) / 2e-5, own.gradient(z, target, w)[:, 1], rtol=1e-6, atol=1e-9)


def test_a_loss_of_ones_own():
    net, batch = random_net(5, 17, activation="tanh"), random_batch(6, 2, 2, 18)
    same = fpa.regularizer(net, batch, lambda z, target: (z - target) ** 2, pairs=16)
    plain = fpa.regularizer(net, batch, pairs=16)
    assert (same.l, same.P, same.Q, same.sampled) == pytest.approx((plain.l, plain.P, plain.Q, plain.sampled))


@pytest.mark.parametrize(
    "loss",
    [
        lambda z, target: (z - target).abs(),
        lambda z, target: (z.argmax(dim=-1) == target.argmax(dim=-1)).double(),
        lambda z, target: torch.nn.functional.huber_loss(z, target, reduction="none", delta=0.5),
    ],
    ids=["absolute", "accuracy", "huber"],
)
def test_losses_with_kinks_in_reach(loss):
    net, (inputs, targets, mask) = random_net(5, 19, activation="tanh", sigma=1.0), random_batch(20, 40, 2, 20)
    found = fpa.regularizer(net, (inputs, targets, mask), loss, pairs=0)
    assert found.status is fpa.Status.LOSS_NOT_SMOOTH


def test_statuses():
    relu, batch = random_net(5, 21, activation="relu"), random_batch(6, 2, 2, 22)
    found = fpa.regularizer(relu, batch)
    assert found.status is fpa.Status.NO_CURVATURE
    assert "smoothed=" in found.status.advice
    assert np.isnan([found.l, found.P, found.Q, found.error]).all()
    short = fpa.regularizer(random_net(5, 21), random_batch(1, 2, 2, 22), smoothed=0.3)
    assert short.status is fpa.Status.TOO_SHORT
    assert short.Q > 0
    grows = fpa.Network(W=[[40.0]], b=[1.0], gamma=1.0, activation="softplus", sigma=0.1)
    held = np.zeros((40, 2, 0)), np.zeros((40, 2, 1)), np.ones((40, 2))
    found = fpa.regularizer(grows, held, h0=[[1.0], [-100.0]])
    assert found.status is fpa.Status.DIVERGED
    assert np.isnan(found.P)
    assert np.isnan(found.Q_by_trial).tolist() == [True, True]
    chaotic = fpa.Network(W=[[30.0]], gamma=1.0, activation="tanh", placement="out", sigma=0.1)
    assert fpa.regularizer(chaotic, held).status is fpa.Status.UNSTABLE  # h = 0, where J = 30


def test_what_is_refused():
    net, (inputs, targets, mask) = random_net(4, 23, activation="tanh"), random_batch(5, 2, 2, 24)
    batch = inputs, targets, mask
    for message, call in {
        "net must be": lambda: fpa.regularizer(None, batch),
        "batch must be": lambda: fpa.regularizer(net, inputs),
        "loss must be 'squared error'": lambda: fpa.regularizer(net, batch, "hinge"),
        "loss must give one value": lambda: fpa.regularizer(net, batch, lambda z, target: z.sum()),
        "function of torch tensors": lambda: fpa.regularizer(net, batch, lambda z, target: z @ "x"),
        "must be probabilities": lambda: fpa.regularizer(net, batch, "cross-entropy"),
        "gamma must lie in": lambda: fpa.regularizer(net, batch, gamma=np.zeros(5)),
        "gamma must have shape": lambda: fpa.regularizer(net, batch, gamma=[0.1]),
        "sigma must be one number": lambda: fpa.regularizer(net, batch, sigma=np.ones((3, 4))),
        "sigma must lie in": lambda: fpa.regularizer(net, batch, sigma=-np.ones((5, 1))),
        "multiplicative must be": lambda: fpa.regularizer(net, batch, multiplicative=-1.0),
        "smoothed must be >= 0": lambda: fpa.regularizer(net, batch, smoothed=0.0),
        "pairs must be": lambda: fpa.regularizer(net, batch, pairs=1),
        "at least one step": lambda: fpa.regularizer(net, (inputs[:0], targets[:0], mask[:0])),
    }.items():
        with pytest.raises(fpa.InputError) as caught:
            call()
        assert message in str(caught.value)
    one_hot = np.eye(2)[np.zeros((5, 2), int)]
    with pytest.raises(fpa.InputError, match=r"mask must be \(T, B\)"):
        fpa.regularizer(net, (inputs, one_hot, np.stack([mask, 0 * mask], axis=-1)), "cross-entropy")


def test_the_stated_error_covers_the_loss():
    """At large noise, where the second order fails, and with few runs: by 4000 runs of the loss curve."""
    for sigma in (0.1, 0.5, 1.5):
        net, batch = random_net(8, 25, activation="tanh", sigma=sigma), random_batch(10, 4, 2, 26)
        found = fpa.regularizer(net, batch)
        curve = fpa.loss_curve(net, batch, [sigma], "monte-carlo", trials=4000, rng=1)
        assert abs(found.predicted - curve.loss[0]) <= found.error + 2 * curve.error[0]
    assert found.error > 0.3 * abs(found.predicted - found.l)


@pytest.mark.parametrize("way", WAYS)
def test_the_direct_part_of_the_shift(way):
    """What noise bends where it enters: only inside f, and what is left of P without recurrence."""
    net, batch = random_net(4, 27, **WAYS[way]), random_batch(6, 2, 2, 28)
    found = fpa.regularizer(net, batch, pairs=0)
    if way == "in":
        alone = fpa.regularizer(replace(net, W=np.zeros((4, 4))), batch, pairs=0)
        np.testing.assert_allclose(alone.P_direct, alone.P, rtol=1e-12)
        assert 0 < abs(found.P - found.P_direct) < abs(found.P_direct)
    else:
        assert found.P_direct == 0


def test_smoothing_holds_the_noise_it_absorbs():
    """About f smoothed by the training noise it gives the loss there to a tenth; about no noise it turns negative."""
    for name in ("softplus-in-1.0", "tanh-in-0.5"):
        net = fpa.load(NETWORKS / f"function-approximation-{name}.pt")
        (inputs, targets, mask), _, _ = batch_of(net)
        batch = inputs[:, ::2], targets[:, ::2], mask[:, ::2]
        loss = fpa.loss_curve(net, batch, [net.sigma]).loss[0]
        about = fpa.regularizer(net, batch, smoothed=net.sigma, pairs=0)
        assert about.predict(net.sigma, net.sigma) == pytest.approx(loss, rel=0.1)
        assert fpa.regularizer(net, batch, pairs=0).predicted < 0


def test_the_order_of_neurons_is_no_matter():
    net, batch = random_net(5, 29, activation="tanh"), random_batch(6, 2, 2, 30)
    order = np.random.default_rng(0).permutation(5)
    other = replace(net, W=net.W[np.ix_(order, order)], b=net.b[order], W_in=net.W_in[order], W_out=net.W_out[:, order])
    one, two = (fpa.regularizer(each, batch, multiplicative=0.2, pairs=0) for each in (net, other))
    np.testing.assert_allclose([two.l, two.P, two.Q], [one.l, one.P, one.Q], rtol=1e-12)
    np.testing.assert_allclose(two.P_by_neuron, one.P_by_neuron[order], rtol=1e-10)
    np.testing.assert_allclose(two.Q_by_neuron, one.Q_by_neuron[order], rtol=1e-10)
