"""Margins in the inputs: closed form (linear networks), brute force, order of convergence, and what is proven."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from problems import random_network

import fpanalysis as fpa
from fpanalysis.robustness import _runs
from fpanalysis.robustness._batch import checked
from fpanalysis.robustness._global import lipschitz
from fpanalysis.robustness._lure import lure_form

FORMS = {
    "rate": {"activation": "tanh"},
    "relu": {"activation": "relu"},
    "current": {"activation": "tanh", "form": "current"},
    "lipschitz": {},
}


def classifier(form: str = "rate", *, N: int = 6, n_in: int = 2, classes: int = 3, gain: float = 0.8, seed: int = 0):
    g = np.random.default_rng(seed)
    weights = {
        "W": gain * g.normal(size=(N, N)) / np.sqrt(N),
        "b": 0.2 * g.normal(size=N),
        "W_in": g.normal(size=(N, n_in)),
        "W_out": g.normal(size=(classes, N)) / np.sqrt(N),
        "b_out": 0.1 * g.normal(size=classes),
        "gamma": 0.4,
    }
    if form == "lipschitz":
        return fpa.LipschitzRNN(A=0.3 * g.normal(size=(N, N)) / np.sqrt(N) - np.eye(N), **weights)
    return fpa.Network(**weights, **FORMS.get(form, {"activation": form}))


def outputs(net, inputs):
    """z at the end, by steps of the network itself."""
    h = np.zeros((inputs.shape[1], net.N))
    for u in inputs:
        h = net.step(h, u)
    return net.output(h)


def labelled(net, T: int = 5, B: int = 12, wrong: int = 0, seed: int = 1):
    """Trials whose classes are those that the network tells, but for the first few, which are another."""
    inputs = np.random.default_rng(seed).normal(size=(T, B, net.n_in))
    label = outputs(net, inputs).argmax(axis=1)
    label[:wrong] = (label[:wrong] + 1) % net.n_out
    targets = np.zeros((T, B, net.n_out))
    targets[:, np.arange(B), label] = 1
    mask = np.zeros((T, B))
    mask[-1] = 1
    return inputs, targets, mask


def dense_jacobian(net, T: int) -> np.ndarray:
    """dz/du of a linear network, (n_out, T, n_in)."""
    units = np.eye(T * net.n_in).reshape(T, net.n_in, -1).transpose(0, 2, 1)
    zero = outputs(net, np.zeros((T, 1, net.n_in)))
    return (outputs(net, units) - zero).T.reshape(net.n_out, T, net.n_in)


@pytest.mark.parametrize("norm", ["2", "infinity"])
@pytest.mark.parametrize("form", ["rate", "current", "lipschitz"])
def test_of_a_linear_network_all_three_are_the_distance_to_the_nearest_hyperplane(form, norm):
    net = dataclasses.replace(classifier(form), activation="linear")
    batch = labelled(net, wrong=3)
    found = fpa.margins(net, batch, norm=norm)
    z, label = outputs(net, batch[0]), batch[1][-1].argmax(axis=1)
    G = dense_jacobian(net, 5)
    expected = []
    for one, y in zip(z, label, strict=True):
        others = [c for c in range(3) if c != y]
        size = [np.linalg.norm((G[y] - G[c]).ravel(), 2 if norm == "2" else 1) for c in others]
        expected.append(min((one[y] - one[c]) / s for c, s in zip(others, size, strict=True)))
    expected = np.array(expected)
    assert (expected[:3] < 0).all()
    assert (expected[3:] > 0).all()
    assert found.local == pytest.approx(expected, rel=1e-9)
    assert found.found == pytest.approx(np.maximum(expected, 0), rel=1e-7)
    assert found.proven == pytest.approx(np.maximum(expected, 0), rel=1e-7)
    assert (found.proven <= found.found).all()
    assert found.correct.tolist() == [False] * 3 + [True] * 9
    assert found.status.ok
    assert found.spectral == pytest.approx(np.full(12, np.linalg.norm(G.reshape(3, -1), 2)), rel=1e-9)
    assert found.frobenius == pytest.approx(np.full(12, np.linalg.norm(G)), rel=1e-9)


@pytest.mark.parametrize("norm", ["2", "infinity"])
@pytest.mark.parametrize("form", list(FORMS))
def test_what_is_found_changes_the_class_and_is_never_less_than_what_is_proven(form, norm):
    net = classifier(form, N=12, gain=1.2)
    inputs, targets, mask = labelled(net, B=10)
    m = fpa.margins(net, (inputs, targets, mask), norm=norm)
    z, label, rows = outputs(net, inputs + m.perturbation), targets[-1].argmax(axis=1), np.arange(10)
    own = z[rows, label].copy()
    z[rows, label] = -np.inf
    assert (z.max(axis=1) >= own - 1e-12).all()
    sizes = (
        np.abs(m.perturbation).max(axis=(0, 2)) if norm == "infinity" else np.linalg.norm(m.perturbation, axis=(0, 2))
    )
    assert m.found == pytest.approx(sizes)
    assert (m.proven > 0).all()
    assert (m.proven <= m.found).all()
    assert (m.proven <= m.local).all()
    lower, upper = m.accuracy([0.0, float(np.median(m.found)), 100.0])
    assert lower[0] == upper[0] == 1
    assert upper[1] == 0.5
    assert lower[2] == upper[2] == 0


@pytest.mark.parametrize("form", ["rate", "relu", "current"])
def test_against_brute_force_where_the_inputs_are_two_numbers(form):
    """Rays in 360 directions: the margin is at most 1 / cos(pi / 360) longer than along the nearest ray."""
    net = classifier(form, N=4, n_in=1, classes=2)
    batch = labelled(net, T=2, B=8)
    m = fpa.margins(net, batch, starts=4)
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    radius = np.linspace(0, 1.2 * m.found.max(), 600)[1:]
    way = np.stack([np.cos(angle), np.sin(angle)])
    for b in range(8):
        rays = batch[0][:, b, :, None] + way[:, :, None] * radius  # (T, directions, radii)
        z = outputs(net, rays.reshape(2, -1, 1))
        changed = (z.argmax(axis=1) != batch[1][-1, b].argmax()).reshape(360, -1).any(axis=0)
        least = radius[changed.argmax()]
        assert changed.any()
        assert m.proven[b] <= least
        assert m.found[b] == pytest.approx(least, rel=1e-2, abs=radius[1] - radius[0])


def test_starts_aimed_at_the_other_classes_find_what_is_nearest():
    """Two inputs and six classes, whose nearest boundary to first order often is not the nearest: rays again."""
    net = classifier(N=8, n_in=1, classes=6, gain=2.0, seed=18)
    batch = labelled(net, T=2, B=40)
    angle, radius = np.linspace(0, 2 * np.pi, 240, endpoint=False), np.linspace(0, 2, 301)[1:]
    way = np.stack([np.cos(angle), np.sin(angle)])[:, :, None] * radius
    least = np.full(40, np.inf)
    for b in range(40):
        z = outputs(net, (batch[0][:, b, :, None] + way).reshape(2, -1, 1))
        changed = (z.argmax(axis=1) != batch[1][-1, b].argmax()).reshape(240, -1).any(axis=0)
        least[b] = radius[changed.argmax()] if changed.any() else np.inf
    near = np.isfinite(least) & (least > 20 * radius[0])
    assert near.sum() > 20
    off = {k: fpa.margins(net, batch, starts=k, proven=False).found[near] / least[near] - 1 for k in (1, 4)}
    assert off[4].max() < 0.03
    assert off[1].max() > 0.1  # one start would not do
    assert off[4].min() > -0.06  # the rays' own error, a radius and half an angle


def test_where_the_starts_find_nothing_further_ones_do():
    """A trial among 40 whose outputs oscillate so much that no linear problem leads across a boundary."""
    net = classifier(N=12, n_in=1, classes=6, gain=3.0, seed=1)
    batch = labelled(net, T=2, B=40)
    m = fpa.margins(net, batch, starts=4, proven=False)
    assert m.status.ok
    moved = outputs(net, batch[0] + m.perturbation)
    assert np.isfinite(m.found).all()
    own = moved[np.arange(40), batch[1][-1].argmax(axis=1)]
    assert (moved.max(axis=1) >= own).all()


def test_the_smaller_the_margin_the_better_the_first_order():
    """found / local - 1 and proven / local - 1 fall in proportion to the margin."""
    net = classifier(N=8, classes=2)
    inputs, targets, mask = labelled(net, B=1)
    label = targets[-1, 0].argmax()
    gap = np.diff(outputs(net, inputs)[0])[0] * (1 if label else -1)
    off = {"found": [], "proven": []}
    for size in (2e-2, 1e-2, 5e-3):
        b_out = net.b_out.copy()
        b_out[label] -= gap - size
        m = fpa.margins(dataclasses.replace(net, b_out=b_out), (inputs, targets, mask))
        off["found"].append(abs(m.found[0] / m.local[0] - 1))
        off["proven"].append(abs(m.proven[0] / m.local[0] - 1))
    for name, values in off.items():
        order = np.log2(np.array(values[:-1]) / values[1:])
        assert order == pytest.approx(1, abs=0.25), name
        assert values[-1] < 0.1


def test_adjoints_are_the_derivatives_with_and_without_known_structure(monkeypatch):
    for form in FORMS:
        net = classifier(form)
        trials = checked(net, labelled(net), None).trials._replace(last=np.arange(12) % 5)
        z, g = _runs.gradients(trials)
        v = np.random.default_rng(0).normal(size=trials.inputs.shape)
        step = 1e-5
        ahead, behind = (_runs.outputs(trials.moved(trials.inputs + s * v)) for s in (step, -step))
        assert np.einsum("bcti,tbi->bc", g, v) == pytest.approx((ahead - behind) / (2 * step), abs=1e-8)
        assert z == pytest.approx(_runs.outputs(trials), abs=1e-14)
        with monkeypatch.context() as patch:
            patch.setattr(_runs, "lure_form", lambda net: None)
            assert _runs.gradients(trials)[1] == pytest.approx(g, abs=1e-14)


@pytest.mark.parametrize("norm", ["2", "infinity"])
@pytest.mark.parametrize("form", [*FORMS, "softplus"])
def test_the_global_constant_bounds_differences_between_any_inputs(form, norm):
    for gain, T in ((0.2, 30), (1.5, 4)):
        net = classifier(form, gain=gain)
        L = lipschitz(net, lure_form(net), T, norm)
        g = np.random.default_rng(0)
        first = g.normal(size=(T, 400, 2)) * 10.0 ** g.uniform(-2, 1, 400)[:, None]
        d = g.normal(size=first.shape) * 10.0 ** g.uniform(-3, 1, 400)[:, None]
        change = outputs(net, first + d) - outputs(net, first)
        size = np.abs(d).max(axis=(0, 2)) if norm == "infinity" else np.linalg.norm(d, axis=(0, 2))
        steepest = np.abs(change[:, :, None] - change[:, None]) / size[:, None, None]
        assert (steepest <= L * (1 + 1e-9)).all()
        assert steepest.max() > 0.002 * L.max()  # it is a bound that says something


def test_a_contracting_network_gains_from_the_constant_that_holds_everywhere():
    """With inputs far out the slopes there say nothing of those on the way to the boundary; the weighted norm does."""
    net = classifier("rate", gain=0.2)
    inputs, targets, mask = labelled(net, T=30, B=4)
    m = fpa.margins(net, (inputs, targets, mask))
    assert np.isfinite(m.lipschitz)
    z, label = outputs(net, inputs), targets[-1].argmax(axis=1)
    others = np.where(np.eye(3, dtype=bool)[label], -np.inf, z).max(axis=1)
    assert (m.proven >= (z[np.arange(4), label] - others) / m.lipschitz * (1 - 1e-9)).all()
    assert (m.proven <= m.found).all()


def test_without_classes_there_are_jacobians_and_no_margins():
    net = random_network(5, activation="tanh")
    inputs = np.random.default_rng(0).normal(size=(4, 3, 2))
    batch = (inputs, np.zeros((4, 3, 2)), np.ones((4, 3)))
    m = fpa.margins(net, batch)
    assert m.status is fpa.Status.NO_MARGIN
    assert np.isnan([m.local, m.found, m.proven]).all()
    assert not m.correct.any()
    assert np.isnan(m.accuracy(0.1)).all()
    for b in range(3):
        bent = inputs[:, b].ravel() + 1e-6 * np.concatenate([np.eye(8), -np.eye(8)])
        z = outputs(net, bent.reshape(16, 4, 2).swapaxes(0, 1))
        J = (z[:8] - z[8:]).T / 2e-6
        assert m.spectral[b] == pytest.approx(np.linalg.norm(J, 2), rel=1e-7)
        assert m.frobenius[b] == pytest.approx(np.linalg.norm(J), rel=1e-7)


def test_trials_are_decided_at_their_own_last_counted_step():
    net = classifier()
    inputs, targets, _ = labelled(net, B=4)
    ends = np.array([1, 4, 2, 3])
    mask = (np.arange(5)[:, None] == ends).astype(float)
    for b, end in enumerate(ends):
        targets[:, b] = np.eye(3)[outputs(net, inputs[: end + 1, b : b + 1]).argmax()]
    m = fpa.margins(net, (inputs, targets, mask))
    assert m.correct.all()
    for b, end in enumerate(ends):
        part = slice(0, end + 1), slice(b, b + 1)
        alone = fpa.margins(net, (inputs[part], targets[part], mask[part]))
        assert m.local[b] == pytest.approx(alone.local[0])
        assert m.proven[b] == pytest.approx(alone.proven[0], rel=0.02)  # the bisection's width
        assert not m.perturbation[end + 1 :, b].any()


def test_an_input_that_does_nothing_and_a_run_that_diverges():
    net = classifier()
    batch = labelled(net)
    deaf = dataclasses.replace(net, W_in=np.zeros_like(net.W_in))
    label = int(outputs(deaf, batch[0])[0].argmax())
    targets = np.broadcast_to(np.eye(3)[label], batch[1].shape)
    m = fpa.margins(deaf, (batch[0], targets, batch[2]))
    assert m.status is fpa.Status.NOT_FOUND
    assert np.isinf(m.found).all()
    assert (m.proven > 1e100).all()
    wild = dataclasses.replace(net, W=1e100 * net.W, activation="linear")
    m = fpa.margins(wild, batch)
    assert set(m.statuses) == {fpa.Status.DIVERGED}
    assert np.isnan(m.local).all()
    assert np.isnan(m.spectral).all()


def test_an_imported_cell_has_margins_of_which_nothing_is_proven():
    torch.manual_seed(0)
    cell = fpa.models.from_torch(torch.nn.GRU(2, 4).double())
    inputs, targets, mask = np.random.default_rng(0).normal(size=(3, 5, 2)), np.zeros((3, 5, 4)), np.ones((3, 5))
    h = np.zeros((5, 4))
    for u in inputs:
        h = cell.step(h, u)
    targets[:, np.arange(5), cell.output(h).argmax(axis=1)] = 1
    m = fpa.margins(cell, (inputs, targets, mask))
    assert m.status.ok
    assert (m.local > 0).all()
    assert m.found == pytest.approx(m.local, rel=0.5)
    assert not m.proven.any()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"norm": "1"}, "norm must be"),
        ({"starts": 0}, "starts must be"),
        ({"h0": np.zeros((2, 6))}, "h0 must have shape"),
        ({"rng": -1}, "rng must be"),
    ],
)
def test_what_cannot_be_used_is_refused(change, words):
    net = classifier()
    with pytest.raises(fpa.InputError, match=words):
        fpa.margins(net, labelled(net), **change)


def test_batches_that_cannot_be_used_are_refused():
    net = classifier()
    inputs, targets, mask = labelled(net)
    with pytest.raises(fpa.InputError, match="positive at some step of every trial"):
        fpa.margins(net, (inputs, targets, 0 * mask))
    with pytest.raises(fpa.InputError, match=r"batch must be \(inputs, targets, mask\)"):
        fpa.margins(net, inputs)
    alone = dataclasses.replace(net, W_in=None)
    with pytest.raises(fpa.InputError, match="net must have inputs"):
        fpa.margins(alone, (np.zeros((5, 12, 0)), targets, mask))
