"""Training: a network alone or in a stack, interrupted or not, is the same network; divergence is never silent."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

import fpanalysis as fpa
from fpanalysis.models import _run, evaluate, train
from fpanalysis.models._adam import Adam
from fpanalysis.results import InputError
from fpanalysis.tasks import get_task

TASK = "function-approximation"
QUICK = {"size": 12, "steps": 8, "batch": 4}
PARTS = ("W", "b", "W_in", "W_out", "b_out")


def weights(net):
    return np.concatenate([getattr(net, name).ravel() for name in PARTS])


def assert_same_up_to_rounding(net, other):
    """Adam divides a gradient by its own size, so that rounding moves a weight whose gradient is nearly zero by up
    to lr a step, at no effect on the loss: nine weights in ten must agree closely, and no other may go further."""
    difference = np.abs(weights(net) - weights(other))
    assert np.quantile(difference, 0.9) < 1e-5
    assert difference.max() < 2 * QUICK["steps"] * 2e-3


def interrupting(step):
    def progress(done, losses):
        if done == step:
            raise KeyboardInterrupt

    return progress


@pytest.fixture(scope="module")
def regulators():
    """Eight regulators, noise in and out; two seconds."""
    return train("regulator", seed=range(4), placement=["in", "in", "out", "out"], batch=64)


def test_a_network_trains_the_same_alone_or_in_a_stack():
    own = {"seed": [5, 6, 7], "sigma": [0.3, 0.5, 0.5], "placement": ["in", "in", "out"]}
    stack = train(TASK, **own, **QUICK)
    for m in range(3):
        training = train(TASK, **{name: values[m] for name, values in own.items()}, **QUICK)
        alone = training.network()
        np.testing.assert_allclose(stack.losses[:, m], training.losses[:, 0], rtol=1e-4)  # float32
        assert_same_up_to_rounding(stack.network(m), alone)
        assert (alone.placement, alone.sigma) == (own["placement"][m], own["sigma"][m])


def test_the_seed_decides_the_network():
    first, same, other = (weights(train(TASK, seed=seed, **QUICK).network()) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("step", [1, 3, 7, 8])
def test_an_interrupted_training_ends_bit_for_bit_the_same(tmp_path, step):
    partial = tmp_path / "net.pt.partial"
    own = {"seed": [1, 2], "placement": ["in", "out"]} | QUICK
    whole = train(TASK, **own)
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=partial, progress=interrupting(step), **own)
    seen = []
    resumed = train(TASK, partial=partial, resume=True, progress=lambda done, _: seen.append(done), **own)
    assert seen == list(range(step + 1, 9))
    for m in range(2):
        np.testing.assert_array_equal(weights(resumed.network(m)), weights(whole.network(m)))
    np.testing.assert_array_equal(resumed.losses, whole.losses)


def test_a_signal_takes_effect_at_the_end_of_the_step(tmp_path):
    partial = tmp_path / "net.pt.partial"

    def progress(done, losses):
        if done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=partial, progress=progress, **QUICK)
    assert signal.getsignal(signal.SIGINT) is before
    assert torch.load(partial, weights_only=True)["done"] == 2


def test_a_second_signal_does_not_wait_and_never_saves_half_a_step(tmp_path, monkeypatch):
    partial = tmp_path / "net.pt.partial"
    clip = _run._clip_each

    def impatient(*args):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        clip(*args)

    monkeypatch.setattr(_run, "_clip_each", impatient)
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=partial, **QUICK)
    assert not partial.exists()


def test_a_signal_that_this_process_ignores_stays_ignored(tmp_path):
    """As a shell starts what a script runs in the background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = train(TASK, partial=tmp_path / "p", progress=lambda *_: os.kill(os.getpid(), signal.SIGINT), **QUICK)
    finally:
        signal.signal(signal.SIGINT, before)
    assert np.isfinite(done.losses).all()


def test_a_killed_training_resumes_from_the_last_periodic_save(tmp_path):
    partial = tmp_path / "net.pt.partial"

    def die(done, losses):
        if done == 5:
            raise RuntimeError("as if killed")

    with pytest.raises(RuntimeError):
        train(TASK, partial=partial, save_every=0, progress=die, **QUICK)
    assert torch.load(partial, weights_only=True)["done"] == 4
    resumed = train(TASK, partial=partial, resume=True, **QUICK)
    np.testing.assert_array_equal(weights(resumed.network()), weights(train(TASK, **QUICK).network()))


def test_resuming_with_other_settings_names_the_difference(tmp_path):
    partial = tmp_path / "net.pt.partial"
    with pytest.raises(KeyboardInterrupt):
        train(TASK, partial=partial, progress=interrupting(2), **QUICK)
    with pytest.raises(InputError, match=r"started with lr 0\.002, now 0\.1; use the same settings"):
        train(TASK, partial=partial, resume=True, lr=0.1, **QUICK)


def test_what_is_no_unfinished_training_is_not_resumed(tmp_path):
    path = tmp_path / "net.pt"
    with pytest.raises(InputError, match="no unfinished training at"):
        train(TASK, partial=path, resume=True, **QUICK)
    fpa.save(train(TASK, **QUICK).network(), path)
    with pytest.raises(InputError, match="is not an unfinished training"):
        train(TASK, partial=path, resume=True, **QUICK)
    with pytest.raises(InputError, match="resume needs partial"):
        train(TASK, resume=True, **QUICK)


def test_a_diverged_network_is_named_and_harms_no_other():
    own = {"seed": [0, 0], "sigma": [0.5, 1e30]} | QUICK
    training = train(TASK, **own)
    assert training.diverged == (None, 1)
    with pytest.raises(InputError, match=r"loss of network 1 \(seed 0, sigma 1e\+30.*not finite at step 1 of 8"):
        training.networks  # noqa: B018
    assert_same_up_to_rounding(training.network(0), train(TASK, **QUICK).network())


def test_training_stops_when_every_network_diverged():
    done = []
    training = train(TASK, sigma=1e30, progress=lambda step, _: done.append(step), **QUICK)
    assert done == [1]
    with pytest.raises(InputError, match="use a smaller lr"):
        training.network()


def test_a_step_is_adam_with_clipped_gradient_and_cosine_learning_rate():
    """Against torch's own clipping and optimiser on one network, written out."""
    from fpanalysis.models import CTRNN

    task = get_task(TASK)
    streams = np.random.SeedSequence(3).spawn(3)
    start = task.initialize(12, np.random.default_rng(streams[0]))
    model = CTRNN.from_network(fpa.Network(**start, gamma=0.2))
    rng = np.random.default_rng(streams[1])
    adam = torch.optim.Adam(model.parameters())
    for k in range(8):
        adam.param_groups[0]["lr"] = 0.002 * (1 + np.cos(np.pi * k / 8)) / 2
        inputs, targets, mask = map(torch.from_numpy, task.batch(4, rng))
        loss = (mask[..., None] * (model(inputs)[0] - targets) ** 2).sum() / mask.sum()
        adam.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.05)
        adam.step()
    trained = train(task, seed=3, sigma=0, clip=0.05, **QUICK).network()
    assert_same_up_to_rounding(trained, model.to_network())


def test_adam_is_torchs_own_bit_for_bit_and_reads_its_state():
    def parameters():
        draw = torch.Generator().manual_seed(0)
        return [torch.nn.Parameter(torch.randn(shape, generator=draw)) for shape in ((3, 5, 5), (3, 5))]

    def step(optimiser, owned, seed, *lr):
        draw = torch.Generator().manual_seed(seed)
        for p in owned:
            p.grad = torch.randn(p.shape, generator=draw)
        optimiser.step(*lr)

    own, other = parameters(), parameters()
    ours, theirs = Adam(own), torch.optim.Adam(other, fused=True)
    for k in range(4):
        theirs.param_groups[0]["lr"] = lr = 1e-2 / (k + 1)
        step(ours, own, k, lr)
        step(theirs, other, k)
    assert all(torch.equal(p, q) for p, q in zip(own, other, strict=True))
    assert not torch.equal(own[0], parameters()[0])
    again = Adam(own)
    again.load_state_dict(theirs.state_dict())
    step(again, own, 9, lr)
    step(theirs, other, 9)
    assert all(torch.equal(p, q) for p, q in zip(own, other, strict=True))


def test_only_trainable_parameters_move(regulators):
    for net in regulators.networks:
        assert net.W_out.item() == 1
        assert net.b_out.item() == 0
        assert net.W_in is None


def test_the_network_tells_how_it_was_made(regulators, tmp_path):
    net = regulators.network(1)
    assert net.info["task"] == "regulator"
    assert net.info["task_settings"] == get_task("regulator").settings()
    assert net.info["training"]["seed"] == 1
    assert net.info["training"]["final_loss"] == regulators.final_loss(1)
    np.testing.assert_array_equal(net.targets, [[0.2]])
    fpa.save(net, tmp_path / "net.pt")
    assert dict(fpa.load(tmp_path / "net.pt").info) == dict(net.info)


def test_noise_inside_is_needed_afterwards_and_noise_outside_is_not(regulators):
    test = evaluate(regulators.networks, "regulator", [0, 0.5], inputs=1, trials=256)
    R = np.array([curve.ratio for curve in test.curves])
    assert (R[:2] > 2).all()
    assert (R[2:] < 1).all()


def test_threads_are_put_back():
    before = torch.get_num_threads()
    train(TASK, threads=before + 1, **QUICK)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": [1, 2], "sigma": [0.1, 0.2, 0.3]}, "one value or the same number; found 2, 3, 1"),
        ({"seed": -1}, "seed must be whole numbers >= 0"),
        ({"seed": 0.5}, "seed must be whole numbers"),
        ({"sigma": -1}, "sigma must be >= 0"),
        ({"placement": "beside"}, "placement must be 'in' or 'out'; found 'beside'"),
        ({"gamma": 2}, "gamma must lie in"),
        ({"activation": "swish"}, "unknown activation 'swish'"),
        ({"gamma": [0.1, 0.2]}, r"gamma must be a number; found \[0\.1, 0\.2\]"),
        ({"steps": 0}, "steps must be a whole number >= 1; found 0"),
        ({"size": float("inf")}, "size must be a whole number >= 1; found inf"),
        ({"batch": "many"}, "batch must be a number; found 'many'"),
        ({"device": "meta"}, "device must be one that torch can use here; found 'meta'"),
        ({"lr": float("nan")}, "lr must be a finite number > 0; found nan"),
        ({"threads": 0}, "threads must be a whole number >= 1"),
        ({"partial": "/no/such/folder/x.partial"}, "the folder /no/such/folder does not exist"),
    ],
)
def test_settings_that_make_no_training_are_named(settings, message):
    with pytest.raises(InputError, match=message):
        train(TASK, **QUICK | settings)
