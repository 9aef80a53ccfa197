"""Flatness against exact Hessians: closed forms, brute force, finite differences, known spectra and invariances."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import flatness
from fpanalysis.models._krylov import basis, half_width, remaining, two_way
from fpanalysis.models._landscape import Landscape
from fpanalysis.tasks import Feedback

NETWORKS = Path(__file__).parents[1] / "examples" / "networks"
N, T, B, D = 4, 6, 5, 2
NAMES = ("W", "b", "W_in", "W_out", "b_out")


def network(activation="tanh", form="rate", seed=0, size=N, **settings):
    rng = np.random.default_rng(seed)
    return fpa.Network(
        W=rng.standard_normal((size, size)) / size**0.5,
        b=rng.standard_normal(size) / 2,
        W_in=rng.standard_normal((size, 1)),
        W_out=rng.standard_normal((D, size)),
        b_out=rng.standard_normal(D),
        **{"activation": activation, "form": form, "gamma": 0.3} | settings,
    )


def batch(per_output=True, classes=False, seed=1, trials=B):
    rng = np.random.default_rng(seed)
    mask = rng.random((T, trials, D)) if per_output else (rng.random((T, trials)) > 0.4).astype(float)
    targets = np.eye(D)[rng.integers(D, size=(T, trials))] if classes else rng.standard_normal((T, trials, D))
    return rng.standard_normal((T, trials, 1)), targets, mask


def weights(net):
    return np.concatenate([getattr(net, name).ravel() for name in NAMES])


def with_weights(net, theta):
    parts, start = {}, 0
    for name in NAMES:
        old = getattr(net, name)
        parts[name] = theta[start : start + old.size].reshape(old.shape)
        start += old.size
    return parts


def loss_by_hand(net, data, theta, kind="squared error"):
    """The loss from the equations of `fpanalysis.network`, in torch, of weights `theta`."""
    p = with_weights(net, theta)
    u, y, w = (torch.tensor(np.asarray(part)) for part in data)
    f, g = net.activation.torch, float(net.gamma)
    h, outputs = torch.zeros(u.shape[1], net.N, dtype=torch.float64), []
    for u_t in u:
        r = h if net.form == "rate" else f(h)
        x = r @ p["W"].T + u_t @ p["W_in"].T + p["b"]
        h = (1 - g) * h + g * (f(x) if net.form == "rate" else x)
        outputs.append((h if net.form == "rate" else f(h)) @ p["W_out"].T + p["b_out"])
    z = torch.stack(outputs)
    if kind == "cross-entropy":
        return -(w * (y * z.log_softmax(-1)).sum(-1)).sum() / w.sum()
    w = w if w.ndim == 3 else w[..., None].expand_as(z)
    return (w * (z - y) ** 2).sum() / w.sum()


def hessian(net, data, kind="squared error"):
    theta = torch.tensor(weights(net))
    return torch.autograd.functional.hessian(lambda t: loss_by_hand(net, data, t, kind), theta).numpy()


@pytest.mark.parametrize(
    ("activation", "form", "kind"),
    [
        ("tanh", "rate", "squared error"),
        ("softplus", "current", "squared error"),
        ("relu", "rate", "squared error"),
        ("tanh", "current", "cross-entropy"),
    ],
)
def test_brute_force(activation, form, kind):
    net, data = network(activation, form), batch(kind == "squared error", kind != "squared error")
    H = hessian(net, data, kind)
    found = flatness(net, data, loss=kind)
    eigenvalues = np.linalg.eigvalsh(H)
    np.testing.assert_allclose(found.loss, loss_by_hand(net, data, torch.tensor(weights(net)), kind), rtol=1e-12)
    np.testing.assert_allclose(found.trace, np.trace(H), rtol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, eigenvalues[::-1][:5], rtol=1e-9)
    np.testing.assert_allclose(found.lowest, eigenvalues[0], rtol=1e-9)
    np.testing.assert_allclose(found.frobenius, np.linalg.norm(H), rtol=1e-9)
    np.testing.assert_allclose(found.relative_trace, weights(net) ** 2 @ np.diag(H), rtol=1e-8)
    ends = np.cumsum([0, *(getattr(net, name).size for name in NAMES)])
    blocks = [np.trace(H[a:b, a:b]) for a, b in pairwise(ends)]
    np.testing.assert_allclose(list(found.by_group.values()), blocks, rtol=1e-8, atol=1e-12)
    assert found.trace_error == found.frobenius_error == 0
    assert found.status is (fpa.Status.PIECEWISE if activation == "relu" else fpa.Status.OK)


@pytest.mark.parametrize("scale", ["group", "weight"])
def test_units(scale):
    """H in the units of the scale is unit H unit."""
    net, data = network(), batch()
    unit = np.abs(weights(net))
    if scale == "group":
        unit = np.concatenate(
            [np.full(part.size, np.sqrt(np.mean(part**2))) for part in map(net.__getattribute__, NAMES)]
        )
    H = unit[:, None] * hessian(net, data) * unit
    found = flatness(net, data, scale=scale)
    np.testing.assert_allclose(found.trace, np.trace(H), rtol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(H)[::-1][:5], rtol=1e-9)
    np.testing.assert_allclose(found.relative_trace, weights(net) ** 2 @ np.diag(hessian(net, data)), rtol=1e-8)


def test_readout_in_closed_form():
    """In W_out and b_out the loss is quadratic, H = 2 sum_t,b w s s^T for each output, s = (h, 1)."""
    net, data = network("relu"), batch(per_output=False)
    h, s = np.zeros((B, N)), []
    for u in data[0]:
        h = net.step(h, u)
        s.append(np.concatenate([h, np.ones((B, 1))], 1))
    w = data[2] / data[2].sum() / D
    H = 2 * np.einsum("tb,tbi,tbj->ij", w, np.array(s), np.array(s))
    found = flatness(net, data, parameters=("W_out", "b_out"), eigenvalues=2 * (N + 1))
    np.testing.assert_allclose(found.eigenvalues, np.repeat(np.linalg.eigvalsh(H)[::-1], 2), rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(found.trace, 2 * np.trace(H), rtol=1e-12)


def test_at_the_minimum_of_a_readout():
    """Of weights that solve the linear problem the gradient vanishes, and one step down it saves nothing."""
    net, data = network(), batch(per_output=False)
    h, s = np.zeros((B, N)), []
    for u in data[0]:
        h = net.step(h, u)
        s.append(np.concatenate([h, np.ones((B, 1))], 1))
    s, counted = np.array(s), data[2] > 0
    best = np.linalg.lstsq(s[counted], data[1][counted], rcond=None)[0].T
    at = fpa.Network(
        W=net.W, b=net.b, W_in=net.W_in, W_out=best[:, :-1], b_out=best[:, -1], activation="tanh", gamma=0.3
    )
    off, on = (flatness(n, data, parameters=("W_out", "b_out")) for n in (net, at))
    assert on.gradient_norm < 1e-13
    assert on.gain < 1e-20 < 0.05 < off.gain
    assert off.loss * (1 - off.gain) >= on.loss


def known(P, R=1, spread=0.0, seed=0):
    """Symmetric H_r with a few large eigenvalues above a decaying rest."""
    rng = np.random.default_rng(seed)
    Q = np.linalg.qr(rng.standard_normal((P, P)))[0]
    spectrum = np.concatenate([[40.0, 20, 5, -4], 3 / np.arange(1, P - 3) * rng.choice([-1, 1], P - 4)])
    H = (Q * spectrum) @ Q.T
    off = rng.standard_normal((R, P, P)) * spread
    return H, H + (off + off.transpose(0, 2, 1)) / 2, np.sort(spectrum)[::-1]


def test_spectrum_and_invariance_under_rotations():
    P = 600
    for seed in (0, 1):
        H, each, spectrum = known(P, seed=seed)
        found = basis(lambda v, each=each: each @ v, P, 1, 60, np.random.default_rng(0))
        values, vectors, residual = found.ritz()
        np.testing.assert_allclose(found.Q.T @ found.Q, np.eye(60), atol=1e-12)
        np.testing.assert_allclose(values[::-1][:3], spectrum[:3], rtol=1e-9)
        np.testing.assert_allclose(values[0], -4, rtol=1e-9)
        nearest = np.abs(values[:, None] - spectrum).min(axis=1)
        assert (nearest <= residual + 1e-12).all()
        np.testing.assert_allclose(residual, np.linalg.norm(H @ vectors - vectors * values, axis=0), atol=1e-12)


@pytest.mark.parametrize("R", [1, 8])
def test_stated_errors_cover(R):
    """Of trace, of the trace of a block, and of |H|_F, over 60 seeds: at 95 %, 51 or fewer have probability 1e-3."""
    P, held = 520, np.zeros(3)
    D = np.stack([np.ones(P), np.arange(P) < 100])
    H, _, _ = known(P)
    for seed in range(60):
        rng = np.random.default_rng(seed)
        off = rng.standard_normal((R, P)) * (0.3 if R > 1 else 0)
        product = lambda v, off=off: H @ v + off * v  # noqa: E731
        found = basis(product, P, R, 20, rng)
        traces, squares = remaining(product, found, D, 12, rng)
        value, error = two_way((found.known @ D.T)[None] + traces)
        held[:2] += np.abs(value - D @ np.diag(H)) <= error
        square = found.square + squares.mean()
        held[2] += abs(square - np.sum(H**2)) <= half_width(squares) if R == 1 else 1
    assert (held >= 51).all(), held


def test_krylov_beats_plain_probes():
    """At the same number of products the error is a fraction of Hutchinson's."""
    P = 600
    H, each, _ = known(P)
    rng = np.random.default_rng(3)
    found = basis(lambda v: each @ v, P, 1, 40, rng)
    traces, _ = remaining(lambda v: each @ v, found, np.ones((1, P)), 40, rng)
    plain = np.sqrt(2 * (np.sum(H**2) - np.sum(np.diag(H) ** 2)) / 80)
    assert half_width(traces.mean(axis=1)[:, 0]) / 2 < plain / 8


def test_large_networks_by_lanczos_and_probes():
    """P > 512: every number within its error of the exact matrix of products."""
    net, data = network(size=22), batch()
    land = Landscape(net, data)
    H = np.stack([land.product(e)[0] for e in np.eye(land.P)])
    np.testing.assert_allclose(H, H.T, atol=1e-12)
    found = flatness(net, data, steps=30, probes=12)
    assert land.P > 512
    assert 0 < abs(found.trace - np.trace(H)) < 1.5 * found.trace_error
    assert abs(found.frobenius - np.linalg.norm(H)) < 1.5 * found.frobenius_error
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(H)[::-1][:5], rtol=1e-6)
    assert sum(found.by_group.values()) == pytest.approx(found.trace)
    again = flatness(net, data, steps=30, probes=12)
    assert again.trace == found.trace


def test_a_basis_too_small_is_said():
    found = flatness(network(size=22), batch(), steps=6, eigenvalues=5)
    assert found.status is fpa.Status.UNRESOLVED
    assert found.residual.max() > 0.01 * found.eigenvalues[0]


def test_rescaling_neurons_changes_nothing_relative_to_the_weights():
    net, data = network("relu", seed=2), batch()
    a = np.array([0.2, 1.5, 3.0, 0.7])
    other = fpa.Network(
        W=a[:, None] * net.W / a,
        b=a * net.b,
        W_in=a[:, None] * net.W_in,
        W_out=net.W_out / a,
        b_out=net.b_out,
        activation="relu",
        gamma=0.3,
    )
    one, two = (flatness(n, data, scale="weight") for n in (net, other))
    assert two.loss == pytest.approx(one.loss, rel=1e-12)
    assert two.trace == pytest.approx(one.trace, rel=1e-9)
    np.testing.assert_allclose(two.eigenvalues, one.eigenvalues, rtol=1e-8)
    assert flatness(other, data).trace != pytest.approx(flatness(net, data).trace, rel=0.05)
    assert flatness(other, data).relative_trace == pytest.approx(one.trace, rel=1e-9)


def test_closed_loop_by_second_differences():
    """Of the loss of the same loop as one network (`fpanalysis.closed_loop`), stepped in numpy."""
    loop = Feedback(rate=0.3, gain=2.0, centre=0.4)
    base = network(seed=4)
    net = fpa.Network(
        W=base.W, b=base.b, W_in=np.ones((N, D)) / 2, W_out=base.W_out, b_out=base.b_out, activation="tanh"
    )
    rng = np.random.default_rng(5)
    data = rng.standard_normal((T, B, D)), rng.standard_normal((T, B, D)), np.ones((T, B))

    def loss(W):
        p0 = data[0][0] / loop.gain + loop.centre
        whole = fpa.closed_loop(
            fpa.Network(W=W, b=net.b, W_in=net.W_in, W_out=net.W_out, b_out=net.b_out, activation="tanh"),
            loop.rate, loop.gain, loop.centre,
        )  # fmt: skip
        h, total = np.hstack([np.zeros((B, N)), p0]), 0.0
        for y in data[1]:
            h = whole.step(h)
            total += np.mean((h[:, N:] - y) ** 2) / T
        return total

    v = rng.standard_normal((N, N))
    land = Landscape(net, data, feedback=loop, parameters=["W"])
    e = 1e-3
    second = (loss(net.W + e * v) - 2 * loss(net.W) + loss(net.W - e * v)) / e**2
    assert land.values(np.zeros((1, N * N)))[0, 0] == pytest.approx(loss(net.W), rel=1e-12)
    assert v.ravel() @ land.product(v.ravel())[0] == pytest.approx(second, rel=1e-4)


def test_only_weights_that_exist_and_are_trained_are_varied():
    net = fpa.load(NETWORKS / "feedforward-relu-in-0.5.pt")
    task = fpa.tasks.remembered(net.info)
    data = task.batch(4, 0)
    sizes = Landscape(net, data).settings["parameters"]
    assert sizes["W"] == np.count_nonzero(task.connections()["W"]) < net.W.size
    masked = Landscape(network(), batch(), parameters={"W": np.eye(N), "b_out": np.ones(D)})
    assert masked.settings["parameters"] == {"W": N, "b_out": D}
    np.testing.assert_array_equal(masked.theta, [*np.diag(network().W), *network().b_out])


def test_noise_by_a_large_sample():
    """A few runs against many: within the stated errors, which fall with the root of their number."""
    net = network("linear", sigma=0.4)
    few, many = (flatness(net, batch(), sigma=0.4, runs=runs, rng=runs) for runs in (6, 400))
    for name in ("loss", "trace", "relative_trace"):
        error = np.hypot(getattr(few, f"{name}_error"), getattr(many, f"{name}_error"))
        assert 0 < abs(getattr(few, name) - getattr(many, name)) < 1.5 * error
        assert getattr(many, f"{name}_error") < getattr(few, f"{name}_error") / 4
    gap = abs(few.eigenvalues[0] - many.eigenvalues[0])
    assert gap < 1.5 * np.hypot(few.eigenvalue_error[0], many.eigenvalue_error[0])
    bare = flatness(net, batch())
    assert many.loss > bare.loss + 5 * many.loss_error


def test_errors_over_the_noise_cover():
    """60 seeds against a long run; 51 or fewer have probability 1e-3."""
    net, data = network("tanh", sigma=0.5), batch(trials=2)
    only = {"parameters": ["b", "W_out"], "sigma": 0.5}
    truth = flatness(net, data, runs=1500, rng=99, **only)
    found = [flatness(net, data, runs=8, rng=seed, **only) for seed in range(60)]
    for name in ("loss", "trace"):
        held = [abs(getattr(f, name) - getattr(truth, name)) <= getattr(f, f"{name}_error") for f in found]
        assert sum(held) >= 51, (name, sum(held))


def test_divergence_is_a_status():
    net = fpa.Network(W=np.full((2, 2), 1e80), W_in=[[1.0], [1.0]], activation="linear", gamma=1.0)
    found = flatness(net, (np.ones((6, 1, 1)), np.zeros((6, 1, 2)), np.ones((6, 1))))
    assert found.status is fpa.Status.DIVERGED
    assert np.isnan([found.trace, found.loss, *found.eigenvalues, *found.by_group.values()]).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": "log"}, "scale must be one of"),
        ({"loss": "hinge"}, "loss must be 'squared error'"),
        ({"loss": "cross-entropy"}, "targets of the cross-entropy"),
        ({"sigma": -1.0}, "sigma must lie in"),
        ({"sigma": 0.1, "smoothed": 0.2}, "smoothed must be at most sigma"),
        ({"sigma": 0.1, "runs": 1}, "runs must be a whole number >= 2"),
        ({"probes": 1}, "probes must be a whole number >= 2"),
        ({"eigenvalues": 0}, "eigenvalues must be a whole number >= 1"),
        ({"parameters": ["A"]}, "parameters must be among W, b"),
        ({"parameters": "W"}, "parameters must be names"),
        ({"parameters": {"W": np.zeros((N, N))}}, "at least one weight"),
        ({"h0": np.zeros(N)}, "h0 must have shape"),
    ],
)
def test_what_is_refused(change, message):
    with pytest.raises(fpa.InputError, match=message):
        flatness(network(), batch(), **change)


def test_wrong_networks_are_refused():
    with pytest.raises(fpa.InputError, match="net must be"):
        flatness(torch.nn.RNN(1, 2), batch())
    steered = fpa.closed_loop(fpa.Network(W=np.eye(2) / 2, W_in=np.ones((2, 1)), W_out=np.ones((1, 2))), 0.1)
    with pytest.raises(fpa.InputError, match="in a closed loop"):
        flatness(steered, batch())


def test_lipschitz_network_in_its_matrices_as_they_enter_the_step():
    """A and W, not what they were trained through, by brute force."""
    pytest.importorskip("fpanalysis.models.lipschitz", reason="the stack of Lipschitz RNNs")
    rng = np.random.default_rng(6)
    parts = {name: rng.standard_normal((N, N)) / 2 for name in ("A", "W")}
    parts |= {"b": rng.standard_normal(N), "W_in": rng.standard_normal((N, 1)), "W_out": rng.standard_normal((D, N))}
    info = {fpa.LipschitzRNN.BETWEEN: {"skew": 0.75, "shrink": 0.01}}
    net, data = fpa.LipschitzRNN(**parts, gamma=0.2, info=info), batch()
    u, y, w = (torch.tensor(part) for part in data)

    def loss(A, W, b, W_in, W_out):
        h, total = torch.zeros(B, N, dtype=torch.float64), 0.0
        for t in range(T):
            h = h + 0.2 * (h @ A.T + torch.tanh(h @ W.T + u[t] @ W_in.T + b))
            total = total + (w[t] * (h @ W_out.T - y[t]) ** 2).sum()
        return total / w.sum()

    start = tuple(torch.tensor(part) for part in parts.values())
    rows = torch.autograd.functional.hessian(loss, start)
    H = torch.cat([torch.cat([x.reshape(p.numel(), -1) for x in row], 1) for p, row in zip(start, rows, strict=True)])
    found = flatness(net, data)
    assert dict(found.sizes) == {name: part.size for name, part in parts.items()}
    np.testing.assert_allclose(found.trace, np.trace(H), rtol=1e-9)
    np.testing.assert_allclose(found.eigenvalues, np.linalg.eigvalsh(H)[::-1][:5], rtol=1e-9)
    noisy = flatness(net, data, sigma=0.2, runs=3)
    assert noisy.loss_error > 0
    assert noisy.status.ok


@pytest.mark.parametrize(("own", "level"), [((0.0, 0.6), 0.6), ((0.2, 0.1), 0.4), ((0.1, 0.2), 0.1)])
def test_both_noises_of_a_lipschitz_network_keep_their_proportion(own, level):
    """One step of one neuron from h0, read out as it is, gamma = 0.5 and f = tanh(c) - h0: E (h - y)^2 and its second
    derivative in c by hand."""
    sigma, mu = (level / max(own) * part for part in own)
    h0, c, y = 0.8, 0.3, 0.1
    net = fpa.LipschitzRNN(A=[[-1.0]], W=[[0.0]], b=[c], gamma=0.5, sigma=own[0], multiplicative=own[1])
    data = (np.zeros((1, 1, 0)), np.full((1, 1, 1), y), np.ones((1, 1)))
    found = flatness(net, data, sigma=level, runs=4000, parameters=["b"], h0=[[h0]])
    f = np.tanh(c) - h0
    loss = (h0 + f / 2 - y) ** 2 + (sigma**2 + mu**2 * f**2) / 4
    assert abs(found.loss - loss) < 2 * found.loss_error
    f1 = 1 - np.tanh(c) ** 2
    f2 = -2 * np.tanh(c) * f1
    bend = 2 * ((f1 / 2) ** 2 + (h0 + f / 2 - y) * f2 / 2) + mu**2 / 2 * (f1**2 + f * f2)
    assert abs(found.trace - bend) < 2 * found.trace_error
    assert found.trace_error < 0.1
