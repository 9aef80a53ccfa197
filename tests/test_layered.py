"""Training in layers: the recurrent trainer does what an explicit feedforward network in torch does, and nothing else
comes into being between the layers."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import fpanalysis as fpa
from fpanalysis.cli import main
from fpanalysis.feedforward import layer_sizes
from fpanalysis.models import CTRNN, evaluate, train
from fpanalysis.models._gradient import Gradient, Trials
from fpanalysis.models._run import Run
from fpanalysis.results import InputError
from fpanalysis.tasks import Task, get_task, layered

TASK = "function-approximation"
LAYERS = (6, 5, 4)
BLOCKS = [slice(0, 6), slice(6, 11), slice(11, 15)]
QUICK = {"steps": 8, "batch": 4}


@pytest.fixture
def task():
    return get_task(TASK, layers=LAYERS)


class Explicit(nn.Module):
    """f(W_l h + b_l + sigma xi_l) or f(W_l h + b_l) + sigma xi_l, layer after layer."""

    def __init__(self, parts, sigma, placement):
        super().__init__()
        self.sigma, self.placement = sigma, placement
        first = [parts["W_in"][BLOCKS[0]]]
        weights = first + [parts["W"][b, a] for a, b in pairwise(BLOCKS)]
        self.W = nn.ParameterList([nn.Parameter(torch.tensor(W)) for W in weights])
        self.b = nn.ParameterList([nn.Parameter(torch.tensor(parts["b"][block])) for block in BLOCKS])
        self.W_out = nn.Parameter(torch.tensor(parts["W_out"][:, BLOCKS[-1]]))
        self.b_out = nn.Parameter(torch.tensor(parts["b_out"]))

    def forward(self, u, xi):
        """u (B, n_in), xi (L, B, N): layer l's noise is its share of that of step l."""
        h = u
        for l, (W, b) in enumerate(zip(self.W, self.b, strict=True)):
            noise = self.sigma * xi[l, :, BLOCKS[l]]
            x = h @ W.T + b
            h = torch.relu(x + noise) if self.placement == "in" else torch.relu(x) + noise
        return h @ self.W_out.T + self.b_out

    def joint(self, name):
        """The block matrix of that name, of the parameters or of their gradients."""
        of = (lambda p: p.detach()) if name == "value" else (lambda p: p.grad)
        W, W_in, W_out = torch.zeros(15, 15), torch.zeros(15, 1), torch.zeros(1, 15)
        W_in[BLOCKS[0]], W_out[:, BLOCKS[-1]] = of(self.W[0]), of(self.W_out)
        for l in (1, 2):
            W[BLOCKS[l], BLOCKS[l - 1]] = of(self.W[l])
        return {"W": W, "b": torch.cat([of(b) for b in self.b]), "W_in": W_in, "W_out": W_out, "b_out": of(self.b_out)}


@pytest.fixture
def double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("double")
def test_loss_and_gradient_are_those_of_the_explicit_network(task):
    start = task.initialize(15, rng=0)
    start["b"] = np.random.default_rng(1).standard_normal(15) / 3
    nets = [fpa.Network(**start, gamma=1, sigma=0.5, placement=placement) for placement in ("in", "out")]
    model = CTRNN(nets, torch.float64)
    inputs, targets, mask = (torch.tensor(part, dtype=torch.float64) for part in task.batch(7, rng=2))
    xi = torch.randn(1, 3, 7, 15, generator=torch.Generator().manual_seed(3))
    h0 = torch.randn(1, 7, 15, generator=torch.Generator().manual_seed(4))  # what a state held does not matter
    losses = Gradient(model)(Trials(inputs[None], targets[None], mask[None], h0, xi, torch.zeros(2, dtype=torch.long)))
    for m, net in enumerate(nets):
        explicit = Explicit(start, net.sigma, net.placement)
        loss = ((explicit(inputs[0], xi[0]) - targets[0]) ** 2).mean()
        loss.backward()
        assert losses[m].item() == pytest.approx(loss.item(), rel=1e-13)
        for name, grad in explicit.joint("grad").items():
            exist = torch.tensor(task.connections().get(name, 1))
            torch.testing.assert_close(model.get_parameter(name).grad[m] * exist, grad, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("placement", ["in", "out"])
def test_training_is_that_of_the_explicit_network(task, placement):
    """Adam, the gradient clipped over the connections that exist, the learning rate on a cosine."""
    seed, steps, lr, clip = 3, 8, 1e-2, 0.05
    training = train(TASK, layers=LAYERS, seed=seed, sigma=0.5, placement=placement, lr=lr, clip=clip, **QUICK)
    untrained = Run(task, training.settings).model.to_network()
    start = {name: getattr(untrained, name).astype(np.float32) for name in ("W", "b", "W_in", "W_out", "b_out")}
    explicit = Explicit(start, 0.5, placement)
    adam = torch.optim.Adam(explicit.parameters())
    streams = np.random.SeedSequence(seed).spawn(3)
    rng = np.random.default_rng(streams[1])
    noise = torch.Generator().manual_seed(int(streams[2].generate_state(1, np.uint64)[0] >> 1))
    losses = []
    for k in range(steps):
        adam.param_groups[0]["lr"] = lr * (1 + np.cos(np.pi * k / steps)) / 2
        inputs, targets, _ = map(torch.from_numpy, task.batch(4, rng))
        loss = ((explicit(inputs[0], torch.empty(3, 4, 15).normal_(generator=noise)) - targets[0]) ** 2).mean()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(explicit.parameters(), clip)
        adam.step()
        losses.append(loss.item())
    np.testing.assert_allclose(training.losses[:, 0], losses, rtol=1e-4)  # float32
    for name, value in explicit.joint("value").items():
        difference = np.abs(getattr(training.network(), name) - value.numpy())
        # Adam moves a weight whose gradient is only rounding by up to lr a step; most others agree to rounding
        assert np.quantile(difference, 0.8) < 1e-5, name
        assert difference.max() < 2 * steps * lr


@pytest.mark.parametrize("placement", ["in", "out"])
def test_nothing_comes_into_being_between_the_layers(placement, tmp_path):
    net = train(TASK, layers=LAYERS, sigma=0.5, placement=placement, **QUICK).network()
    fpa.save(net, tmp_path / "net.pt")
    net = fpa.load(tmp_path / "net.pt")
    assert layer_sizes(net) == LAYERS, "the engine knows the file for a feedforward network"
    exist = get_task(TASK, layers=LAYERS).connections()
    assert exist["W"].sum() == 6 * 5 + 5 * 4
    for name, part in exist.items():
        np.testing.assert_array_equal(getattr(net, name)[part == 0], 0)
        assert getattr(net, name)[part == 1].all()


def test_the_file_remembers_the_task_that_it_was_trained_on(task):
    net = train(task, sigma=0.5, **QUICK).network()
    again = get_task(net.info["task"], **net.info["task_settings"])
    assert again == task == pickle.loads(pickle.dumps(task))
    assert (again.T, again.counted, again.name, again.defaults.size) == (3, 1, TASK, 15)
    assert layered(again, (8, 8)) == get_task(TASK, layers=[8.0, 8])
    np.testing.assert_array_equal(net.conditions, get_task(TASK).conditions()[0])
    inputs, targets, mask = again.batch(64, np.random.default_rng(0))
    np.testing.assert_array_equal(mask[:, 0], [0, 0, 1])
    h = np.zeros(15)
    for u in inputs.astype(float):
        h = net.step(h, u)
    loss = ((net.output(h) - targets[0]) ** 2).mean()
    assert evaluate(net, again, [0.0]).loss[0, 0] == pytest.approx(loss, rel=1e-5)  # float32


def test_initial_weights_carry_the_mean_square_through_the_layers():
    """E |h_l|^2 / n_l is E |h_{l-1}|^2 / n_{l-1} for ReLU: 1 of an input u = 1, here after eight layers of 200."""
    task = get_task(TASK, layers=[200] * 8)
    squares = []
    for seed in range(8):
        parts = task.initialize(1600, rng=seed)
        h = np.maximum(parts["W_in"] @ [1.0], 0)
        for _ in range(7):
            h = np.maximum(parts["W"] @ h + parts["W_in"] @ [1.0], 0)
        squares.append((h[-200:] ** 2).mean())
    # each layer's mean square has a relative variance of 5 / n given the one before (E relu^4 / (E relu^2)^2 - 1 = 5)
    assert np.mean(squares) == pytest.approx(1, abs=4 * np.sqrt(8 * 5 / 200 / 8))


def test_a_feedforward_network_learns():
    """The best constant costs 0.5."""
    training = train(TASK, layers=(16, 16), sigma=0.1, steps=200)
    assert training.final_loss() < 0.1
    assert (training.settings.gamma, training.settings.batch, training.settings.size) == (1, 128, 32)


class Ramp(Task):
    """Held inputs, moving targets."""

    n_in = n_out = 1
    defaults = get_task(TASK).defaults

    def batch(self, batch_size, rng):
        t = np.repeat(np.arange(self.T, dtype=np.float32)[:, None, None], batch_size, 1)
        return np.ones_like(t), t, self._mask(batch_size)


@pytest.mark.parametrize(
    ("task", "layers", "message"),
    [
        ("flip-flop", (4, 4), "task 'flip-flop' has inputs that change within a trial, but layers turn one"),
        ("path-integration", (4, 4), "has inputs that change within a trial"),
        ("regulator", (4, 4), "task 'regulator' has no inputs, but layers"),
        (Ramp(), (4, 4), "has targets that change within a trial"),
        (TASK, (), r"layers must be whole numbers >= 1, such as \(64, 64, 64\); found \[\]"),
        (TASK, (4, 0), r"layers must be whole numbers >= 1.*found \[4, 0\]"),
        (TASK, (4, 2.5), r"found \[4, 2\.5\]"),
        (TASK, (4, float("inf")), r"found \[4, inf\]"),
        (TASK, 4, r"layers must be a list of sizes, such as \(64, 64, 64\); found 4"),
        (TASK, "4,4", "layers must be a list of sizes"),
    ],
)
def test_what_layers_cannot_do_is_one_clear_line(task, layers, message):
    with pytest.raises(InputError, match=message):
        train(task, layers=layers, **QUICK)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 14}, "size must be 15, the sum of the layers, or left out; found 14"),
        ({"gamma": 0.5}, r"gamma must be 1 and form 'rate' with layers.*found gamma=0\.5, form='rate'"),
        ({"form": "current"}, "found gamma=1, form='current'"),
    ],
)
def test_settings_that_contradict_the_layers_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        train(TASK, layers=LAYERS, **QUICK, **settings)


def test_a_training_goes_on_only_with_its_own_layers(tmp_path):
    out = tmp_path / "model.pt"

    def stop(done, losses):
        if done == 2:
            raise KeyboardInterrupt

    quick = {"layers": LAYERS, "steps": 5, "batch": 4}
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=f"{out}.partial", progress=stop, **quick)
    command = ["train", TASK, "--steps", "5", "--batch", "4", "--resume", "-o", str(out), "--layers"]
    other = CliRunner().invoke(main, [*command, "4,5,6"])
    assert other.exit_code == 1
    assert "other settings: it was started with task_settings" in other.stderr
    done = CliRunner().invoke(main, [*command, "6,5,4"])
    assert done.exit_code == 0, done.output
    assert fpa.load(out).hash == train(TASK, **quick).network().hash


def test_the_command_to_go_on_is_the_one_that_was_typed():
    from fpanalysis.cli.train import _typed, command

    words = [TASK, "--layers", "6,5,4", "--setting", "T=9"]
    assert _typed(command.make_context("train", list(words))) == f"fpanalysis train {' '.join(words)}"
