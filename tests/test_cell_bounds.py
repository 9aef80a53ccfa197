"""What is proven of gated cells: the box of their fixed points, rounding errors, and how far the Jacobian varies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import fpanalysis as fpa
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.models import from_torch

LAYERS = {
    "rnn": lambda: nn.RNN(3, 6, 3, bias=False),
    "gru": lambda: nn.GRU(3, 6),
    "gru-3": lambda: nn.GRU(3, 6, 3),
    "lstm": lambda: nn.LSTMCell(3, 6),
    "lstm-3": lambda: nn.LSTM(3, 6, 3),
}

pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.mark.parametrize("make", [lambda: nn.GRU(2, 4, 2), lambda: nn.LSTM(2, 4, 2), lambda: nn.RNN(2, 4, 2)])
def test_the_trapping_box_is_mapped_into_itself_and_holds_the_fixed_points(make):
    """Corners and random states of the box stay inside; zeros outside are those of saturated gates alone."""
    module = make()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
    cell, rng, u = from_torch(module), np.random.default_rng(0), np.array([1.0, -1.0])
    low, high = cell.trapping_box(u)
    inside = low + (high - low) * np.concatenate([rng.random((500, cell.N)), rng.integers(2, size=(500, cell.N))])
    image = cell.target(inside, u)
    assert ((low <= image) & (image <= high)).all()
    h, residual = newton(cell, 3 * rng.normal(size=(100, cell.N)), u)
    smallest = np.linalg.svd(np.eye(cell.N) - cell.target_jacobian(h, u), compute_uv=False)[:, -1]
    rows = (residual <= bound(h)) & (smallest > 1e-4)
    assert rows.sum() > 5
    assert ((low <= h) & (h <= high))[rows].all()


def test_the_box_of_an_lstm_unit_is_sharp():
    """One unit with h = c = 0 weights: c = i g / (1 - f), largest where i = g = 1."""
    module = nn.LSTM(1, 1)
    with torch.no_grad():
        for p in module.parameters():
            p.zero_()
        module.bias_ih_l0.copy_(torch.tensor([40.0, 2.0, 40.0, 0.0]))
    cell = from_torch(module)
    h, residual = newton(cell, np.array([[0.0, 8.0]]), np.zeros(1))
    assert residual[0] <= bound(h)[0]
    assert h[0, 1] == pytest.approx(1 + np.exp(2), rel=1e-12)
    assert cell.trapping_box()[1] == pytest.approx([1, 1 + np.exp(2)], rel=1e-12)
    assert from_torch(nn.RNN(1, 2, 2, nonlinearity="relu")).trapping_box() is None
    assert from_torch(lambda u, h: torch.tanh(h), n_in=0, N=1).trapping_box() is None


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("r", [0.0, 1e-3, 0.1])
def test_the_jacobian_varies_no_more_than_stated(kind, r):
    """At corners and random states of the ball; the bound is not idle: reached to a few per cent."""
    module = LAYERS[kind]()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
    cell, rng = from_torch(module), np.random.default_rng(0)
    u, h = rng.normal(size=3), rng.normal(size=(3, cell.N))
    _, v = cell.variation(h, u, np.full(3, r))
    moved = r * np.concatenate([rng.choice([-1, 1], size=(300, 1, cell.N)), rng.uniform(-1, 1, (100, 1, cell.N))])
    change = np.abs(cell.target_jacobian(h + moved, u) - cell.target_jacobian(h, u)).sum(-1).max(axis=0)
    assert (change <= v).all()
    if r:
        assert np.max(change / v) > 0.2


def long(module, u, h):
    """One step of a single GRU or LSTM layer in extended precision."""
    weights = {
        name.removesuffix("_l0"): p.detach().numpy().astype(np.longdouble) for name, p in module.named_parameters()
    }
    V, W, b_v, b_h = (weights[name] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
    N, logistic = W.shape[1], lambda x: 1 / (1 + np.exp(-x))
    drive = np.split(V @ u.astype(np.longdouble) + b_v, len(W) // N)
    state = h.astype(np.longdouble)
    recur = np.split(W @ state[:N] + b_h, len(W) // N)
    if isinstance(module, nn.GRU):
        r, z = (logistic(drive[k] + recur[k]) for k in (0, 1))
        n = np.tanh(drive[2] + r * recur[2])
        return (1 - z) * n + z * state
    i, f, g, o = (gate(a + b) for gate, a, b in zip((logistic, logistic, np.tanh, logistic), drive, recur, strict=True))
    c = f * state[N:] + i * g
    return np.concatenate([o * np.tanh(c), c])


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="needs extended precision")
@pytest.mark.parametrize("make", [nn.GRU, nn.LSTM])
def test_rounding_errors_are_no_larger_than_stated(make):
    module = make(3, 20)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(8)
    cell, rng = from_torch(module), np.random.default_rng(0)
    u, h = rng.normal(size=3), rng.normal(size=(200, cell.N))
    e, _ = cell.variation(h, u, np.zeros(200))
    off = np.abs(cell.target(h, u) - np.array([long(module, u, state) for state in h]))
    assert (off > 0).any()
    assert (off <= e).all()
    assert e.max() < 1e-12


def test_fixed_points_of_a_gru_are_certified():
    torch.manual_seed(5)
    module = nn.GRU(2, 8)
    cell = from_torch(module)
    points = fpa.find_fixed_points(cell, [0.5, -1.0])
    low, high = cell.trapping_box([0.5, -1.0])
    inside = ((low <= points.h) & (points.h <= high)).all(axis=1)
    assert inside.any()
    assert (points.certified == inside).all()
    assert (points.error[inside] < 1e-11).all()
    assert (points.radius[inside] > 1e-3).all()
    own = from_torch(lambda u, h: 0.5 * torch.cos(h), n_in=0, N=2)
    assert own.variation(np.zeros((1, 2)), np.zeros(0), np.ones(1)) is None
    assert not fpa.find_fixed_points(own).certified.any()


@pytest.mark.parametrize("kind", LAYERS)
def test_the_still_map_has_the_same_fixed_points_and_indices(kind):
    """Jacobian against central differences (error e^2 + 1e-16 / e, times the size of c); zeros and signs against F."""
    module = LAYERS[kind]()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(2)
    cell, rng = from_torch(module), np.random.default_rng(0)
    u, h, e = rng.normal(size=3), rng.normal(size=(3, cell.N)), 1e-6
    differences = [(cell.still(h + e * v, u) - cell.still(h - e * v, u)) / (2 * e) for v in np.eye(cell.N)]
    J = cell.still_jacobian(h, u)
    assert np.abs(J - np.stack(differences, -1)).max() <= 1e-8 * (1 + np.abs(J).max())
    points = fpa.find_fixed_points(cell, u)
    points = points.h[points.certified]
    assert len(points)
    assert np.abs(cell.still(points, u) - points).max() <= 1e-9
    signs = [np.linalg.slogdet(np.eye(cell.N) - f(points, u))[0] for f in (cell.target_jacobian, cell.still_jacobian)]
    assert (signs[0] == signs[1]).all()
