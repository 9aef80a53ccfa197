"""Stationary laws of cells: small noise against Monte Carlo, and both against the same network as a `Network`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from problems import linear_covariance, random_network
from torch import nn

import fpanalysis as fpa
from fpanalysis.models import from_torch
from fpanalysis.stationary import locate, solve
from fpanalysis.stationary._state_noise import curvature


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def gru(seed=3, H=6, scale=2.0):
    torch.manual_seed(seed)
    module = nn.GRU(2, H)
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(scale)
    return module


def twins(activation="tanh", **settings):
    """A network with noise on the state, and the same as a callable."""
    net = random_network(6, gamma=1.0, activation=activation, placement="out", **settings)
    W, V, b = (torch.from_numpy(x.copy()) for x in (net.W, net.W_in, net.b))
    f = {"tanh": torch.tanh, "linear": lambda x: x}[activation]
    cell = from_torch(lambda u, h: f(h @ W.T + u @ V.T + b), n_in=2, N=6)
    return net, cell.with_sigma(net.sigma)


def test_small_noise_is_that_of_the_same_network():
    """Only second derivatives differ: by differences here, error 1e-8 of the shift."""
    net, cell = twins(sigma=0.1)
    a, b = (fpa.stationary(system, [0.3, -0.5], method="small-noise") for system in (net, cell))
    shift = np.abs(a.mean - a.start).max()
    assert shift > 1e-3
    assert np.abs(a.mean - b.mean).max() <= 1e-8 * shift + 1e-12
    assert np.abs(a.cov - b.cov).max() <= 1e-12
    assert (b.status, b.scope, b.method) == (a.status, "local", "small-noise")


@pytest.mark.parametrize("vector", [False, True])
def test_monte_carlo_is_that_of_the_same_network(vector):
    """The same noise drives both: the trajectories agree to rounding, which contraction keeps small."""
    net, cell = twins()
    sigma = np.linspace(0.1, 0.6, 6) if vector else 0.4
    settings = {"method": "monte-carlo", "chains": 32, "steps": 200, "precision": "double", "control": False}
    a, b = (fpa.stationary(system, [0.3, -0.5], sigma, **settings) for system in (net, cell))
    assert np.abs(a.mean - b.mean).max() <= 1e-12
    assert np.abs(a.cov - b.cov).max() <= 1e-12
    assert np.abs(a.error - b.error).max() <= 1e-12


def test_a_linear_cell_has_the_lyapunov_covariance_and_no_shift():
    net, cell = twins("linear")
    st = fpa.stationary(cell, [0.3, -0.5], 0.7)
    assert st.method == "small-noise"  # what "auto" means for a cell
    assert np.abs(st.mean - st.start).max() <= 1e-8
    assert np.abs(st.cov - linear_covariance(net, 0.7)).max() <= 1e-12
    assert st.error.max() <= 1e-7


def test_small_noise_of_a_gru_agrees_with_monte_carlo():
    """Within 4 standard errors and the stated error, which is O(sigma^4) and a fraction of the shift."""
    cell = from_torch(gru(), readout=nn.Linear(6, 2))
    errors = []
    for sigma in (0.05, 0.1):
        small = fpa.stationary(cell, [0.5, -1.0], sigma, "small-noise")
        long = fpa.stationary(cell, [0.5, -1.0], sigma, "monte-carlo", chains=512, steps=3000)
        assert small.status is long.status is fpa.Status.OK
        shift = np.abs(long.mean - small.start).max()
        assert long.error.max() < 0.02 * shift
        assert small.error.max() < 50 * sigma**2 * shift
        assert (np.abs(small.mean - long.mean) <= 4 * long.details["standard_error"] + small.error).all()
        assert (np.abs(small.output - long.output) <= 2 * long.output_error + small.output_error).all()
        assert np.abs(small.cov - long.cov).max() <= 0.05 * np.abs(long.cov).max()
        errors.append(small.error)
    assert np.log2(errors[1] / errors[0]) == pytest.approx(np.full(6, 4), abs=0.3)


def test_the_neglected_orders_matter_as_much_as_stated():
    """One tanh unit at strong noise: the difference to Monte Carlo is real and covered, within a factor of 30."""
    cell = from_torch(lambda u, h: torch.tanh(0.8 * h + 0.5), n_in=0, N=1)
    small = fpa.stationary(cell, None, 0.4, "small-noise")
    long = fpa.stationary(cell, None, 0.4, "monte-carlo")
    miss = np.abs(small.mean - long.mean)
    assert miss > 4 * long.details["standard_error"]
    assert miss <= small.error + long.error
    assert small.error <= 30 * miss


def test_curvature_by_differences_is_that_of_autograd():
    """Fourth order in the step 1e-3: 1e-8 of the second derivatives of order |W|^2 = 10."""
    module = gru()
    cell, rng = from_torch(module), np.random.default_rng(0)
    u, h, v = rng.normal(size=2), rng.uniform(-0.5, 0.5, 6), rng.normal(size=(3, 6))
    double, state = module.double(), torch.from_numpy(h)

    def step(x):
        return double(torch.from_numpy(u)[None, None], x[None, None])[0][0, 0]

    for i in range(6):
        hessian = torch.autograd.functional.hessian(lambda x, i=i: step(x)[i], state).numpy()
        expected = np.einsum("kj,jl,kl->k", v, hessian, v)
        assert np.abs(curvature(cell, h, u, v)[:, i] - expected).max() <= 1e-7


def test_problems_of_several_inputs_run_together_as_alone():
    cell = from_torch(gru())
    problems = [locate(cell, np.array(u), 0.2, np.zeros(6)) for u in ([0.5, -1.0], [-0.3, 0.2])]
    settings = {"chains": 16, "steps": 100, "burn_in": 50}
    together = solve(problems, "monte-carlo", **settings)
    for problem, law in zip(problems, together, strict=True):
        (alone,) = solve([problem], "monte-carlo", **settings)
        assert np.abs(alone.mean - law.mean).max() <= 1e-12


def test_where_methods_do_not_apply():
    cell = from_torch(gru())
    closure = fpa.stationary(cell, None, 0.1, "closure")
    assert closure.status is fpa.Status.NOT_APPLICABLE
    assert (
        closure.details["reason"]
        == "closure needs the weights of a Network; for other systems: monte-carlo, small-noise"
    )
    kinked = from_torch(nn.RNN(1, 3, 2, nonlinearity="relu"))
    assert fpa.stationary(kinked, None, 0.1, method="small-noise").status is fpa.Status.NOT_APPLICABLE
    assert fpa.stationary(kinked, None, 0.1).method == "monte-carlo"
    assert fpa.stationary(kinked, None, 0.1, "monte-carlo", chains=16, steps=100).status is fpa.Status.OK
    growing = from_torch(lambda u, h: 1.3 * h, n_in=0, N=1)
    assert fpa.stationary(growing, None, 0.1).status is fpa.Status.DIVERGED
    assert fpa.stationary(growing, None, 0.1, "monte-carlo").status is fpa.Status.DIVERGED
    still = fpa.stationary(cell, None, 0.0)
    assert still.details["point_mass"]
    assert (still.mean == still.start).all()
    with pytest.raises(fpa.InputError, match=r"precision must be 'double' .* found 'single'"):
        fpa.stationary(cell, None, 0.1, "monte-carlo", precision="single")
    with pytest.raises(fpa.InputError, match=r"net must be a fpanalysis.Network or Cell; found GRU"):
        fpa.stationary(gru())
