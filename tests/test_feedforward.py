"""Feedforward networks: one pass as a `Network`, and moments layer by layer against closed forms and sampling."""

import dataclasses

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import nn

import fpanalysis as fpa
from fpanalysis.activations import get_activation
from fpanalysis.cli import main
from fpanalysis.cli._batch import batch_of
from fpanalysis.feedforward import layer_sizes
from fpanalysis.fixed_points.proof import only_point
from fpanalysis.models import from_torch
from fpanalysis.moments import held, layers, propagate

SIZES = (8, 5, 7)
U = np.array([[0.4], [-0.7]])


def parts(sizes=SIZES, n_in=1, n_out=2, seed=0):
    """Weights, biases, W_out, b_out."""
    rng = np.random.default_rng(seed)
    pairs = list(zip(sizes, (n_in, *sizes), strict=False))
    weights = [rng.standard_normal(shape) * np.sqrt(2 / shape[1]) for shape in pairs]
    biases = [0.3 * rng.standard_normal(n) for n in sizes]
    return weights, biases, rng.standard_normal((n_out, sizes[-1])) / np.sqrt(sizes[-1]), np.array([0.1, -0.2])[:n_out]


def network(sizes=SIZES, seed=0, **kwargs):
    return fpa.feedforward(*parts(sizes, seed=seed), **({"sigma": 0.5} | kwargs))


def forward(weights, biases, W_out, b_out, u, f=lambda x: np.maximum(x, 0)):
    h = u
    for W, b in zip(weights, biases, strict=True):
        h = f(h @ W.T + b)
    return h @ W_out.T + b_out


def sampled(net, u, runs, seed=0):
    """Outputs (runs, B, n_out)."""
    rng = np.random.default_rng(seed)
    h = np.zeros((runs, len(u), net.N))
    for _ in layer_sizes(net):
        h = net.step(h, u, rng.standard_normal(h.shape))
    return net.output(h)


def test_as_many_steps_as_layers_are_one_pass():
    net = network()
    h = np.random.default_rng(1).standard_normal((2, net.N))  # whatever the layers held before
    for _ in SIZES:
        h = net.step(h, U)
    np.testing.assert_allclose(net.output(h), forward(*parts(), U), atol=1e-13)
    np.testing.assert_allclose(net.step(h, U), h, atol=1e-14)
    assert layer_sizes(net) == SIZES
    weights, biases, *_ = parts()
    np.testing.assert_allclose(fpa.feedforward(weights, biases).output(h), h[:, -7:], atol=0)


def test_noise_by_network_layer_or_neuron():
    weights, *_ = parts()
    by_layer = fpa.feedforward(weights, sigma=[0.1, 0.2, 0.3])
    np.testing.assert_array_equal(by_layer.sigma, np.repeat([0.1, 0.2, 0.3], SIZES))
    np.testing.assert_array_equal(fpa.feedforward(weights, sigma=by_layer.sigma).sigma, by_layer.sigma)
    mixed = fpa.feedforward(weights, sigma=[0.1, np.arange(5) / 10, 0.3])
    np.testing.assert_array_equal(mixed.sigma[8:13], np.arange(5) / 10)
    assert fpa.feedforward(weights, sigma=0.4).sigma == 0.4


def test_the_sizes_are_remembered_and_checked_against_the_weights(tmp_path):
    net = network()
    fpa.save(net, tmp_path / "net.pt")
    assert layer_sizes(fpa.load(tmp_path / "net.pt")) == SIZES
    W, W_out = net.W.copy(), net.W_out.copy()
    W[0, 9], W_out[0, 0] = 1.0, 1.0
    for change in ({"W": W}, {"W_out": W_out}, {"gamma": 0.5}, {"info": {}}, {"info": {"layers": [8, 12]}}):
        assert layer_sizes(dataclasses.replace(net, **change)) is None


@pytest.mark.parametrize("activation", ["relu", "softplus", "leaky_relu"])
def test_the_one_fixed_point_is_the_pass_and_proven(activation):
    net = network(activation=activation)
    fps = fpa.find_fixed_points(net, U[0])
    assert len(fps) == 1
    assert fps.stable.all()
    assert fps.completeness == "proven"
    assert np.isinf(fps.box).all()
    assert fps.relaxation_time[0] == 0
    f = get_activation(activation).f
    np.testing.assert_allclose(net.output(fps.h), forward(*parts(), U[:1], f), atol=1e-13)


def test_a_pass_through_many_layers_is_regular():
    """Singular values of I - DW fall to 1e-20; its determinant is 1."""
    rng = np.random.default_rng(0)
    weights = [5 * rng.standard_normal((4, 1)), *(5 * rng.standard_normal((20, 4, 4)))]
    net = fpa.feedforward(weights, activation="linear")
    fps = fpa.find_fixed_points(net, [0.4], prove=True)
    assert (fps.index_sum, fps.completeness, fps.n_unstable.tolist()) == (1, "proven", [0])
    assert fps.stable.all()
    assert not fps.singular.any()


def test_a_pass_onto_kinks():
    fps = fpa.find_fixed_points(fpa.feedforward([np.ones((3, 1)), np.ones((2, 3))]), [0.0])
    assert not fps.h.any()
    assert fps.stable.all()  # on every side
    assert fps.singular.all()  # no derivative
    assert fps.completeness == "proven"


def test_the_command_says_why_there_is_one_point(tmp_path):
    fpa.save(network(activation="leaky_relu"), tmp_path / "net.pt")
    done = CliRunner().invoke(main, ["fixed-points", str(tmp_path / "net.pt"), "--input", "0.4"])
    assert done.exit_code == 0
    assert "Completeness proven: no neuron acts back on itself" in done.output


def test_what_has_a_loop_is_not_without_loops():
    net = network()
    order = np.random.default_rng(0).permutation(net.N)
    mixed = fpa.Network(W=net.W[np.ix_(order, order)], b=net.b[order], gamma=1.0)
    assert only_point(mixed, np.zeros(0)).complete  # in whatever order its neurons stand
    for i, j in [(0, 19), (3, 3)]:
        W = net.W.copy()
        W[i, j] = 1e-3
        assert only_point(dataclasses.replace(net, W=W), U[0]) is None


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_one_layer_in_closed_form(activation, placement):
    """E z = W_out M(a, sigma) and Var z = sum W_out^2 V(a, sigma), or f(a) and sigma^2, exactly."""
    weights, biases, W_out, b_out = parts((6,))
    law = layers(
        fpa.feedforward(weights, biases, W_out, b_out, activation=activation, placement=placement, sigma=0.5), U
    )
    f, a = get_activation(activation), U @ weights[0].T + biases[0]
    mean = f.M(a, 0.5) if placement == "in" else f.f(a)
    variance = f.V(a, 0.5) if placement == "in" else np.full(a.shape, 0.25)
    np.testing.assert_allclose(law.output, mean @ W_out.T + b_out, atol=1e-8)
    np.testing.assert_allclose(law.output_variance, variance @ (W_out**2).T, rtol=1e-7)
    np.testing.assert_allclose(law[0].mean, mean, atol=1e-8)
    np.testing.assert_allclose(law[0].variance, variance, rtol=1e-7)
    assert law.output_error.max() == 0
    assert (law.output_variance_error <= 1.1e-5 * law.output_variance).all()


def test_linear_layers_exactly():
    """C_l = W_l C_{l-1} W_l^T + sigma_l^2 I."""
    weights, biases, W_out, b_out = parts()
    sigma = [0.3, 0.7, 0.2]
    law = layers(fpa.feedforward(weights, biases, W_out, b_out, activation="linear", sigma=sigma), U)
    C = np.zeros((1, 1))
    for l, (W, s) in enumerate(zip(weights, sigma, strict=True)):
        C = W @ C @ W.T + s**2 * np.eye(len(W))
        np.testing.assert_allclose(law[l].cov, [C, C], atol=1e-12)
    np.testing.assert_allclose(law.output, forward(weights, biases, W_out, b_out, U, lambda x: x), atol=1e-12)
    np.testing.assert_allclose(law.output_variance, np.tile(np.diag(W_out @ C @ W_out.T), (2, 1)), rtol=1e-12)
    assert (law.output_variance_error <= 1.1e-5 * law.output_variance).all()


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
def test_the_same_numbers_as_the_block_network(activation, placement):
    net = network(activation=activation, placement=placement)
    law, block = layers(net, U), propagate(net, held(net, U, np.zeros((2, 2)))[0])
    np.testing.assert_allclose(law.output, block.output[-1], atol=1e-6)
    np.testing.assert_allclose(law.output_variance, block.output_variance[-1], rtol=1e-5)
    np.testing.assert_allclose(law.output_error, block.output_error[-1], rtol=1e-4)
    np.testing.assert_allclose(law.output_variance_error, block.output_variance_error[-1], rtol=1e-4)
    assert law.status == block.status
    np.testing.assert_allclose(law[0].cov, block.cov[:, :8, :8], atol=1e-6)
    np.testing.assert_allclose(block.cov[:, :8, 8:], 0, atol=1e-12)  # layers at one time belong to different passes


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
def test_the_second_layer_against_quadrature(activation, placement):
    """Two neurons in the first layer: E over their noise by a rule of many nodes, over that of the second exactly."""
    weights, biases, W_out, b_out = parts((2, 6), seed=3)
    net = fpa.feedforward(weights, biases, W_out, b_out, activation=activation, placement=placement, sigma=0.4)
    law, f = layers(net, U[:1]), get_activation(activation)
    xi = np.linspace(-8, 8, 401 if activation == "relu" else 61)  # the trapezoid rule, for a kink or without
    w = np.exp(-(xi**2) / 2)
    w = np.outer(w, w).ravel() / w.sum() ** 2
    noise = 0.4 * np.stack(np.meshgrid(xi, xi, indexing="ij"), axis=-1).reshape(-1, 2)
    x = U[0] @ weights[0].T + biases[0]
    h = f.f(x + noise) if placement == "in" else f.f(x) + noise
    a = h @ weights[1].T + biases[1]
    mean, V = (f.M(a, 0.4), f.V(a, 0.4)) if placement == "in" else (f.f(a), np.full(a.shape, 0.16))
    m = w @ mean
    C = (w[:, None] * (mean - m)).T @ (mean - m) + np.diag(w @ V)
    z, variance = m @ W_out.T + b_out, np.diag(W_out @ C @ W_out.T)
    assert (np.abs(law.output[0] - z) <= law.output_error[0] + 1e-5).all()
    cut = 3e-4 * variance.max()  # of Mehler's sum, between two neurons' inputs that are almost the same
    assert (np.abs(law.output_variance[0] - variance) <= law.output_variance_error[0] + cut).all()
    assert (np.abs(law[1].mean[0] - m) <= law[1].error[0] + 1e-5).all()
    rare = 1e-3 * np.diag(C).max()  # of neurons that only rare events move
    assert (np.abs(law[1].variance[0] - np.diag(C)) <= law[1].variance_error[0] + rare).all()


@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_three_layers_against_sampling(activation, placement):
    net, R = network((16, 12, 20), activation=activation, placement=placement), 20000
    law, z = layers(net, U), sampled(net, U, R)
    mean, variance = z.mean(axis=0), z.var(axis=0, ddof=1)
    fourth = ((z - mean) ** 4).mean(axis=0)
    assert all(status.ok for status in law.status)
    assert (np.abs(law.output - mean) < 4 * np.sqrt(variance / R) + law.output_error).all()
    bound = 4 * np.sqrt((fourth - variance**2) / R) + law.output_variance_error
    assert (np.abs(law.output_variance - variance) < bound).all()
    assert (law.output_variance_error < 0.05 * variance).all()


def test_without_noise_the_pass():
    law = layers(network(), U, sigma=0.0)
    np.testing.assert_allclose(law.output, forward(*parts(), U), atol=1e-13)
    assert law.output_variance.max() == law.output_error.max() == 0


@pytest.mark.parametrize("placement", ["in", "out"])
def test_every_analysis_sees_the_same_law(placement):
    """Closure, Monte Carlo and attribution of the block network, against its layers."""
    net = network(placement=placement, conditions=U)
    law = layers(net)
    closure = fpa.stationary(net, U[0], method="closure")
    assert (np.abs(closure.output - law.output[0]) <= closure.output_error + law.output_error[0]).all()
    sampled = fpa.stationary(net, U[0], method="monte-carlo")
    assert sampled.status.ok
    assert (np.abs(sampled.output - law.output[0]) <= 2 * sampled.output_error + law.output_error[0]).all()
    att = fpa.attribute_bias(net, U[0])
    assert att.residual < 1e-12
    np.testing.assert_allclose(att.total, closure.output - forward(*parts(), U)[0], atol=1e-12)
    sh = fpa.shift(net, sigma=(0, 0.5), methods=("closure",))
    np.testing.assert_allclose(sh.dataset.output.values[1, 0, 0, 0], closure.output, atol=1e-9)
    reduced = fpa.stationary(net, U[0], method="reduced")
    assert reduced.status is fpa.Status.NOT_REDUCED  # no slow coordinate


def test_the_loss_curve_through_layers():
    targets = np.sin(np.pi * U) * np.ones(2)
    net = network((16, 12, 20), conditions=U, targets=targets)
    batch = held(net)
    assert batch[0].shape == (3, 2, 1)
    curve = fpa.loss_curve(net, batch, [0.0, 0.25, 0.5])
    again = fpa.loss_curve(net, held(net, steps=8, counted=3), [0.0, 0.25, 0.5])
    np.testing.assert_allclose(again.loss, curve.loss, rtol=1e-12)
    law = layers(net)
    assert curve.bias2[2] == pytest.approx(np.mean((law.output - targets) ** 2))
    assert curve.variance[2] == pytest.approx(law.output_variance.mean())
    sampled = fpa.loss_curve(net, batch, [0.0, 0.25, 0.5], "monte-carlo", trials=4000)
    for part, error in (("bias2", "bias2_error"), ("variance", "variance_error"), ("loss", "error")):
        gap = np.abs(getattr(curve, part) - getattr(sampled, part))
        assert (gap <= getattr(curve, error) + 2 * getattr(sampled, error) + 1e-14).all()
    first = held(net, steps=5)  # a step that counts before the input has passed
    early = fpa.loss_curve(net, (*first[:2], np.ones((5, 2))), [0.5])
    assert early.loss[0] != pytest.approx(curve.loss[2], rel=1e-2)


def test_a_denoised_network_is_one_of_steps():
    """Its activation differs from neuron to neuron: the curve is that of the block network."""
    net = network(conditions=U, targets=np.zeros((2, 2)))
    clean = fpa.denoise(net)
    assert layer_sizes(clean) == SIZES
    with pytest.raises(fpa.InputError, match="parameters for each neuron"):
        layers(clean)
    before = layers(net)
    after = fpa.loss_curve(clean, held(clean), [0.0])
    assert after.bias2[0] == pytest.approx(np.mean(before.output**2), rel=0.05)
    assert after.variance[0] == 0


def test_held_inputs():
    recurrent = fpa.Network(W=[[0.5]], W_in=[[1.0]], conditions=[[1.0], [2.0]], targets=[[0.0], [1.0]])
    inputs, targets, mask = held(recurrent)
    assert inputs.shape == targets.shape == (200, 2, 1)
    assert (inputs == recurrent.conditions).all()
    assert (targets == recurrent.targets).all()
    assert mask.sum(axis=0).tolist() == [100, 100]
    assert mask[100:].all()
    assert held(recurrent, steps=10, counted=4)[2].sum() == 8
    net = network(conditions=U, targets=np.zeros((2, 2)), info={"task": "function-approximation"})
    assert len(batch_of(net).batch[0]) == 3  # a step per layer, whatever the task's trials
    for arguments, message in [
        ({"inputs": U}, "given together"),
        ({"inputs": U, "targets": np.zeros((3, 2))}, "targets must have shape"),
        ({"steps": 2}, r"needs 3 steps .* found steps = 2"),
        ({"steps": 4, "counted": 3}, r"at least counted \+ 2"),
        ({"steps": 0}, "steps must be a whole number"),
        ({"counted": True}, "counted must be a whole number"),
    ]:
        with pytest.raises(fpa.InputError, match=message):
            held(net, **arguments)
    with pytest.raises(fpa.InputError, match="counted must be at most steps"):
        held(recurrent, steps=3, counted=4)
    with pytest.raises(fpa.InputError, match="given together"):
        held(network())


MODULES = {"relu": nn.ReLU, "leaky_relu": nn.LeakyReLU, "softplus": nn.Softplus, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


@pytest.mark.usefixtures("one_torch_thread")
@pytest.mark.parametrize("name", MODULES)
def test_a_sequential_of_torch(name):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Linear(6, 5, bias=False), MODULES[name](), nn.Identity())
    module = nn.Sequential(nn.Linear(3, 6), MODULES[name](), nn.Dropout(0.5), inner, nn.Linear(5, 2)).double().eval()
    net = from_torch(module, sigma=[0.1, 0.2], placement="out")
    assert (layer_sizes(net), net.activation.name, net.placement) == ((6, 5), name, "out")
    np.testing.assert_array_equal(net.sigma, np.repeat([0.1, 0.2], [6, 5]))
    u = np.random.default_rng(0).standard_normal((4, 3))
    expected = module(torch.from_numpy(u)).detach().numpy()
    np.testing.assert_allclose(layers(net, u, sigma=0).output, expected, atol=1e-7)  # Softplus is cut off at 20
    h = only_point(net, u[0]).h
    np.testing.assert_allclose(net.output(h)[0], expected[0], atol=1e-7)
    bare = from_torch(module[:4])
    np.testing.assert_allclose(layers(bare, u).output, module[:4](torch.from_numpy(u)).detach().numpy(), atol=1e-7)


@pytest.mark.parametrize(
    ("module", "arguments", "message"),
    [
        (nn.Sequential(nn.Linear(1, 2)), {}, "no layer of Linear and activation"),
        (nn.Sequential(nn.ReLU(), nn.Linear(1, 2)), {}, "found ReLU at its start"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.ReLU()), {}, "found ReLU after an activation"),
        (nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 2), nn.ReLU()), {}, "two Linear in a row"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2), nn.Tanh()), {}, "one activation throughout"),
        (nn.Sequential(nn.Linear(1, 2), nn.Softplus(beta=2)), {}, "Softplus must have beta = 1; found 2"),
        (nn.Sequential(nn.Linear(1, 2), nn.GELU()), {}, "holds a GELU; known are"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Dropout(0.5)), {}, "dropout 0.5 in training mode"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), {"readout": nn.Linear(1, 1)}, "left out"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU()), {"readout": "mean"}, "readout must be"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU()), {"n_in": 2}, "n_in must be 1"),
        (nn.Sequential(nn.Linear(1, 2), nn.ReLU()), {"sigma": [0.1, 0.2, 0.3]}, "one number, one per layer"),
        (nn.GRU(1, 2), {"placement": "out"}, "placement must be left out for a Cell"),
    ],
)
def test_modules_that_are_no_such_network(module, arguments, message):
    with pytest.raises(fpa.InputError, match=message):
        from_torch(module, **arguments)


def test_noise_of_other_modules():
    net = from_torch(nn.RNN(2, 3), sigma=0.3, placement="out")
    assert (net.sigma, net.placement) == (0.3, "out")
    assert from_torch(nn.GRU(2, 3), sigma=0.3).sigma == 0.3


def test_bad_input_names_the_argument():
    weights, biases, W_out, _ = parts()
    for arguments, message in [
        (([],), "weights must be a list"),
        ((weights[0],), "weights must be a list"),
        (([weights[0], weights[2]],), r"weights\[1\] must have a column for each of the 8 neurons"),
        (([np.zeros((0, 2))],), r"weights\[0\] must have a row per neuron"),
        ((weights, biases[:2]), "biases must be one vector per layer, 3; found 2"),
        ((weights, 3), "biases must be one vector per layer, 3; found int"),
        ((weights, [biases[0], biases[2], biases[1]]), r"biases\[1\] must have shape"),
        ((weights, biases, W_out[:, :3]), "W_out must have shape"),
    ]:
        with pytest.raises(fpa.InputError, match=message):
            fpa.feedforward(*arguments)
    with pytest.raises(fpa.InputError, match="one number, one per layer"):
        fpa.feedforward(weights, sigma=[0.1, 0.2])
    with pytest.raises(fpa.InputError, match="sigma must be >= 0"):
        fpa.feedforward(weights, sigma=[0.1, -0.2, 0.3])
    with pytest.raises(fpa.InputError, match="must be a feedforward network"):
        layers(fpa.Network(W=[[0.5]]))
    with pytest.raises(fpa.InputError, match="u must be"):
        layers(network(), np.zeros((0, 1)))
    with pytest.raises(fpa.InputError, match="sigma must be >= 0"):
        layers(network(), U, sigma=-1)
