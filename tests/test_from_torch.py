"""Adapters: torch's own modules and autodiff as referee for steps and derivatives; each wrong input by name."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fpanalysis as fpa
from fpanalysis.fixed_points.newton import bound, newton
from fpanalysis.models import Cell, from_torch

STACKS = {
    "rnn-relu-2": lambda: nn.RNN(3, 6, 2, nonlinearity="relu"),
    "rnn-tanh-3": lambda: nn.RNN(3, 6, 3, bias=False),
    "gru": lambda: nn.GRU(3, 6),
    "gru-cell": lambda: nn.GRUCell(3, 6),
    "gru-3": lambda: nn.GRU(3, 6, 3, batch_first=True),
    "gru-no-bias": lambda: nn.GRU(3, 6, 2, bias=False),
    "lstm": lambda: nn.LSTM(3, 6),
    "lstm-cell": lambda: nn.LSTMCell(3, 6, bias=False),
    "lstm-3": lambda: nn.LSTM(3, 6, 3),
}

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def stepped(module, u, h):
    """One step of torch's own module, by torch, from states (K, N) laid out as (h_n, c_n) flat."""
    parts = 2 if isinstance(module, nn.LSTM | nn.LSTMCell) else 1
    layers = getattr(module, "num_layers", 1)
    blocks = h.unflatten(1, (parts, layers, -1)).permute(1, 2, 0, 3).contiguous()
    if isinstance(module, nn.RNNCellBase):
        new = module(u, tuple(blocks[:, 0]) if parts == 2 else blocks[0, 0])
        return torch.cat(new, -1) if parts == 2 else new
    sequence = u[:, None] if module.batch_first else u[None]
    _, new = module(sequence, tuple(blocks) if parts == 2 else blocks[0])
    new = torch.stack(new) if parts == 2 else new[None]
    return new.permute(2, 0, 1, 3).flatten(1)


def states(system, K=5):
    rng = np.random.default_rng(1)
    return rng.normal(size=(K, system.n_in)), rng.normal(size=(K, system.N))


def autograd_jacobian(step, u, h):
    """By torch.autograd.functional, one state at a time."""
    rows = zip(torch.from_numpy(u), torch.from_numpy(h), strict=True)
    return np.array([torch.autograd.functional.jacobian(lambda x: step(v[None], x[None])[0], s) for v, s in rows])  # noqa: B023


class Gated(nn.Module):
    """A module of somebody's own: a part that stands in two places, a tied weight and a buffer."""

    def __init__(self, N=5, n_in=2):
        super().__init__()
        self.cell = nn.GRUCell(n_in, N)
        self.mix = nn.Linear(N, N)
        self.again = self.mix
        self.tied = nn.Linear(N, N)
        self.tied.weight = self.mix.weight
        self.norm = nn.BatchNorm1d(N)
        self.register_buffer("scale", torch.linspace(0.5, 1.5, N))

    def forward(self, u, h):
        return self.norm(self.scale * torch.tanh(self.mix(self.cell(u, h)))) + 0.1 * self.tied(self.again(h))


def by_rows(u, h):
    """Control flow that depends on the data, each row by itself."""
    return torch.stack([torch.tanh(x if x.sum() > 0 else -2 * x) for x in h])


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize("make", [nn.RNN, nn.RNNCell])
@pytest.mark.parametrize("bias", [True, False])
def test_an_rnn_is_a_network_exactly(make, nonlinearity, bias):
    module = make(3, 6, nonlinearity=nonlinearity, bias=bias)
    readout = nn.Linear(6, 2)
    net = from_torch(module, readout=readout)
    assert isinstance(net, fpa.Network)
    assert (net.gamma, net.sigma, net.placement, net.activation.name) == (1.0, 0.0, "in", nonlinearity)
    named = {name.removesuffix("_l0"): p.detach().double().numpy() for name, p in module.named_parameters()}
    assert (named["weight_hh"] == net.W).all()
    assert (named["weight_ih"] == net.W_in).all()
    assert (net.b == (named["bias_ih"] + named["bias_hh"] if bias else 0)).all()
    u, h = states(net)
    expected = stepped(module.double(), torch.from_numpy(u), torch.from_numpy(h)).detach()
    assert np.abs(net.step(h, u) - expected.numpy()).max() <= 8e-15
    assert np.abs(net.output(h) - readout.double()(torch.from_numpy(h)).detach().numpy()).max() <= 8e-15


@pytest.mark.parametrize("kind", STACKS)
def test_layers_step_as_torch_does_and_have_its_derivatives(kind):
    """The step to rounding (a few operations on numbers of order one), the Jacobian against autograd and central
    differences (error e^2 + 1e-16 / e)."""
    module = STACKS[kind]()
    cell = from_torch(module)
    assert isinstance(cell, Cell)
    double = copy.deepcopy(module).double()
    u, h = states(cell)
    expected = stepped(double, torch.from_numpy(u), torch.from_numpy(h)).detach().numpy()
    assert np.abs(cell.target(h, u) - expected).max() <= 2e-15
    J = cell.target_jacobian(h, u)
    assert np.abs(J - autograd_jacobian(lambda v, x: stepped(double, v, x), u, h)).max() <= 2e-15
    e = 1e-6
    differences = [(cell.target(h + e * v, u) - cell.target(h - e * v, u)) / (2 * e) for v in np.eye(cell.N)]
    assert np.abs(J - np.stack(differences, -1)).max() <= 2e-9
    assert cell.dissipative == (kind != "rnn-relu-2")


def test_a_readout_sees_what_torch_puts_out():
    module, readout = nn.LSTM(3, 6, 2), nn.Linear(6, 2)
    cell = from_torch(module, n_in=3, N=24, readout=readout)
    assert (cell.N, cell.n_in, cell.n_out) == (24, 3, 2)
    u, h = states(cell, 4)
    blocks = torch.from_numpy(h).unflatten(1, (2, 2, 6)).permute(1, 2, 0, 3).contiguous()
    top, _ = module.double()(torch.from_numpy(u)[None], tuple(blocks))
    z = readout.double()(top[0]).detach().numpy()
    assert np.abs(cell.output(cell.step(h, u)) - z).max() <= 4e-15
    assert (from_torch(module).output(h) == h).all()


@pytest.mark.parametrize(
    ("module", "n_in", "N"),
    [
        (Gated().eval(), 2, 5),
        (by_rows, 0, 4),
        (lambda u, h: torch.sin(h + u), np.int64(3), 3),
        (lambda u, h: 0 * h + 1, 1, 2),
        (lambda u, h: h.clone().mul_(0.5).tanh_(), 0, 3),
    ],
    ids=["module", "by-rows", "lambda", "constant", "in-place"],
)
def test_a_callable_steps_and_differentiates(module, n_in, N):
    cell = from_torch(module, n_in=n_in, N=N)
    u, h = states(cell)
    double = copy.deepcopy(module).double() if isinstance(module, nn.Module) else module
    expected = double(torch.from_numpy(u), torch.from_numpy(h)).detach().numpy()
    assert np.abs(cell.step(h, u) - expected).max() <= 4e-15
    assert np.abs(cell.jacobian(h, u) - autograd_jacobian(double, u, h)).max() <= 4e-15
    assert not cell.dissipative


def test_shapes_broadcast_as_those_of_a_network():
    cell, u = from_torch(nn.GRUCell(3, 6)), np.ones(3)
    h = np.random.default_rng(0).normal(size=(2, 4, 6))
    assert cell.target(h, u).shape == (2, 4, 6)
    assert cell.target_jacobian(h, u).shape == (2, 4, 6, 6)
    assert cell.target(h[0, 0], np.ones((7, 3))).shape == (7, 6)
    assert cell.target(np.zeros((0, 6)), u).shape == (0, 6)
    assert cell.target_jacobian(np.zeros((0, 6)), u).shape == (0, 6, 6)
    assert np.abs(cell.target(h, u)[1, 2] - cell.target(h[1, 2], u)).max() <= 4e-16
    noise = cell.with_sigma(0.5).step(h, u, np.ones_like(h)) - cell.step(h, u)
    assert np.abs(noise - 0.5).max() <= 4e-16
    assert np.isnan(cell.target(np.full(6, np.nan), u)).all()
    with pytest.raises(fpa.InputError, match="u must have 3"):
        cell.target(h, np.ones(2))
    with pytest.raises(fpa.InputError, match="h must have 6"):
        cell.target_jacobian(np.ones(5), u)


def test_arguments_may_be_changed_in_place():
    cell = from_torch(lambda u, h: h.mul_(0.5), n_in=0, N=2)
    assert (cell.step(np.ones(2)) == 0.5).all()
    assert (cell.jacobian(np.ones(2)) == 0.5 * np.eye(2)).all()


@pytest.mark.parametrize("make", [Gated, lambda: nn.GRU(2, 5)])
def test_inference_mode_makes_no_difference(make):
    module = make().eval()
    cell = from_torch(module, n_in=2, N=5)
    u, h = states(cell)
    with torch.inference_mode():
        again = from_torch(module, n_in=2, N=5)
        assert (again.target(h, u) == cell.target(h, u)).all()
        assert (again.target_jacobian(h, u) == cell.target_jacobian(h, u)).all()


def test_newton_finds_the_fixed_points_of_a_cell():
    """A callable tanh network has those of the same Network; a GRU those of its closed form n(h) = h."""
    rng = np.random.default_rng(0)
    W, b = torch.from_numpy(1.5 * rng.normal(size=(8, 8)) / np.sqrt(8)), torch.from_numpy(rng.normal(size=8))
    cell = from_torch(lambda u, h: torch.tanh(h @ W.T + b), n_in=0, N=8)
    net = fpa.Network(W=W.numpy(), b=b.numpy(), gamma=1.0, activation="tanh")
    starts = rng.normal(size=(40, 8))
    (mine, residual), (theirs, other) = (newton(system, starts, np.zeros(0)) for system in (cell, net))
    fine = (residual <= bound(mine)) & (other <= bound(theirs))
    assert fine.sum() >= 10
    assert np.abs(mine - theirs)[fine].max() <= 1e-9
    module = nn.GRU(2, 8, 2)
    gru = from_torch(module)
    h, residual = newton(gru, rng.normal(size=(20, 16)), np.array([0.5, -1.0]))
    assert (residual <= bound(h)).all()
    assert np.abs(h).max() < 1
    still = stepped(module.double(), torch.tensor([[0.5, -1.0]] * 20).double(), torch.from_numpy(h)).detach().numpy()
    assert np.abs(still - h).max() <= 2e-12


@pytest.mark.parametrize("make", [lambda: nn.RNN(3, 6), lambda: nn.GRU(3, 6, 2), Gated], ids=["rnn", "gru", "own"])
def test_the_module_comes_back_unchanged(make):
    module = make()
    if isinstance(module, Gated):
        module.norm.eval()
    parameters = list(module.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    before = copy.deepcopy(module.state_dict())
    modes = [part.training for part in module.modules()]
    random = torch.get_rng_state()
    sizes = {"n_in": 2, "N": 5} if isinstance(module, Gated) else {}
    cell = from_torch(module, **sizes)
    u, h = states(cell)
    cell.step(h, u)
    cell.jacobian(h, u)
    assert torch.equal(random, torch.get_rng_state())
    after = module.state_dict()
    assert all(torch.equal(after[k], v) and after[k].dtype == v.dtype for k, v in before.items())
    assert [part.training for part in module.modules()] == modes
    assert all(a is b for a, b in zip(module.parameters(), parameters, strict=True))
    assert [p.requires_grad for p in parameters] == [False] + [True] * (len(parameters) - 1)
    assert [p.grad is None for p in parameters] == [True, False] + [True] * (len(parameters) - 2)
    with torch.no_grad():
        reference = cell.target(h, u)
        parameters[0].add_(1)
    assert (cell.target(h, u) == reference).all()  # copies: later training does not reach the cell


def test_hash_and_repr():
    module = nn.GRU(3, 6)
    cell, again = from_torch(module), from_torch(copy.deepcopy(module).double())
    assert cell.hash == again.hash
    assert len({cell.hash, cell.with_sigma(0.1).hash, from_torch(nn.GRU(3, 6)).hash}) == 3
    assert cell.hash != from_torch(module, readout=nn.Linear(6, 1)).hash
    assert repr(cell.with_sigma(0.1)) == "Cell(GRU, N=6, n_in=3, n_out=6, sigma=0.1)"
    a, b, c = (from_torch(lambda u, h, k=k: torch.tanh(k * h), n_in=0, N=2) for k in (1.0, 1.0, 2.0))
    assert a.hash == b.hash != c.hash
    relu, tanh = (nn.RNN(3, 6, 2, nonlinearity=name) for name in ("relu", "tanh"))
    tanh.load_state_dict(relu.state_dict())
    assert from_torch(relu).hash != from_torch(tanh).hash


def with_nan(module):
    with torch.no_grad():
        next(module.parameters())[0, 0] = torch.nan
    return module


class Noisy(nn.Module):
    def forward(self, u, h):
        return torch.nn.functional.dropout(torch.tanh(h), 0.5, training=True)


class Constant(nn.Module):
    """A tensor that is neither parameter nor buffer stays float32."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(4))
        self.matrix = torch.eye(4)

    def forward(self, u, h):
        return torch.tanh(h @ self.matrix + self.bias)


FLOAT32 = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("model.pt", "found the path 'model.pt'; saved modules are not unpickled: build the module"),
        (Path("model.pt"), "saved modules are not unpickled"),
        (nn.GRU(1, 2).state_dict(), "found a OrderedDict; saved modules are not unpickled"),
        (nn.GRU, "found the class GRU"),
        (pickle.dumps(1), "saved modules are not unpickled"),
        (3, r"callable \(u, h\) -> h'; found int"),
        (nn.GRU(1, 2, bidirectional=True), "GRU is bidirectional"),
        (nn.LSTM(1, 4, proj_size=2), "proj_size = 2"),
        (nn.GRU(1, 2, 2, dropout=0.2), r"GRU has dropout 0.2 in training mode: call module.eval\(\)"),
        (nn.Sequential(nn.Linear(1, 2), nn.Dropout(0.3)), r"\(its part '1'\) has dropout 0.3 in training mode"),
        (nn.GRU(1, 2, device="meta"), "weight_ih_l0 holds no data yet"),
        (nn.LazyLinear(2), "weight holds no data yet"),
        (with_nan(nn.GRU(1, 2)), "weight_ih_l0 holds NaN"),
        (nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), "has a parametrization in training mode"),
    ],
)
def test_what_cannot_be_a_cell(module, message):
    with pytest.raises(fpa.InputError, match=message):
        from_torch(module, n_in=1, N=2)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Noisy(), "gives two results for one state: dropout, noise"),
        (lambda u, h: h + torch.randn_like(h), "gives two results for one state"),
        (nn.Sequential(nn.Linear(4, 4)), "no layer of Linear and activation"),
        (lambda u: u, "cannot be evaluated .*it must take"),
        (lambda u, h: h[:, :2], r"returned shape \(8, 2\) for 8 states of N = 4"),
        (lambda u, h: (h, h), "returned tuple, not one tensor"),
        (lambda u, h: FLOAT32(h), r"cannot be evaluated .* make all it uses float64 \(module.double\(\)\)"),
        (Constant(), "cannot be evaluated .* register its tensors as parameters or buffers"),
        (lambda u, h: FLOAT32(h.float()), "returned float32 for float64 states"),
        (lambda u, h: FLOAT32(h.float()).double(), "computes in float32 inside"),
        (lambda u, h: h.detach().tanh(), "has derivatives that differ by"),
        (lambda u, h: torch.from_numpy(np.tanh(h.numpy())), "cannot be differentiated"),
        (lambda u, h: h - h.mean(0), "gives a state another result in other company"),
        (lambda u, h: h / 0, "gives NaN or infinite values at a random state"),
        (lambda u, h: (h * 0).abs().sqrt(), "has a Jacobian with NaN or infinite values"),
    ],
)
def test_callables_that_cannot_be_used(module, message):
    with pytest.raises(fpa.InputError, match=message):
        from_torch(module, n_in=1, N=4)


def test_batch_norm_in_training_mode_is_noticed():
    module = Gated().train()
    with pytest.raises(fpa.InputError, match=r"other company: .* BatchNorm"):
        from_torch(module, n_in=2, N=5)
    assert int(module.norm.num_batches_tracked) == 0


@pytest.mark.parametrize(("n_in", "N"), [(None, 4), (1, None), (-1, 4), (1, 0), (1.0, 4), (True, 4)])
def test_sizes_of_callables_must_be_given(n_in, N):
    with pytest.raises(fpa.InputError, match=r"must be given as a whole number .* found"):
        from_torch(lambda u, h: h, n_in=n_in, N=N)


def test_sizes_and_readouts_that_do_not_fit():
    with pytest.raises(fpa.InputError, match="N must be 6, as the GRU has it, or be left out; found 5"):
        from_torch(nn.GRU(3, 6), N=5)
    with pytest.raises(fpa.InputError, match="take the 6 numbers that the module puts out; found in_features = 12"):
        from_torch(nn.LSTM(3, 6), readout=nn.Linear(12, 2))
    with pytest.raises(fpa.InputError, match=r"torch.nn.Linear or None; found Tanh"):
        from_torch(nn.LSTM(3, 6), readout=nn.Tanh())
    with pytest.raises(fpa.InputError, match="sigma must be >= 0"):
        from_torch(nn.LSTM(3, 6)).with_sigma(-1)


def test_frozen_normalisation_and_parametrizations_in_evaluation_mode_are_used():
    """A weight-normalised GRU steps with the weight it presents."""
    module = nn.utils.parametrizations.weight_norm(nn.GRU(3, 6), "weight_hh_l0").eval()
    with torch.no_grad():
        module.parametrizations.weight_hh_l0.original0.mul_(1.5)
    cell = from_torch(module)
    u, h = states(cell)
    expected = stepped(copy.deepcopy(module).double(), torch.from_numpy(u), torch.from_numpy(h)).detach().numpy()
    assert np.abs(cell.step(h, u) - expected).max() <= 1e-6  # torch normalises in float32 before the copy
