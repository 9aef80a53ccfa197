"""What no stationary method may depend on, and the laws that are known exactly: every method against each.

A method passes where its answers differ by no more than the errors that it states, which are held small.
"""

import numpy as np
import pytest
from problems import linear_covariance

import fpanalysis as fpa
from fpanalysis.activations import Tanh

EXACT = ("chain", "fokker-planck")
FEW = (*EXACT, "closure", "monte-carlo")
W2, B2 = np.array([[0.3, -0.7], [0.5, 0.2]]), np.array([0.4, 0.1])
TINY = 1e-9


class Raised(Tanh):
    """tanh(x) + 1/2: the same network with the origin of its states elsewhere."""

    name = ""

    def f(self, x):
        return super().f(x) + 0.5

    def torch(self, x):
        return super().torch(x) + 0.5


def law(method, **network):
    return fpa.stationary(fpa.Network(**({"gamma": 0.3, "sigma": 0.5} | network)), method=method)


def same(first, second, mean=None, cov=None, scale=1.0):
    """Whether two laws are one, within the errors of their computation; `mean`, `cov` undo what was done to the second.

    The diffusion approximation's distance from the exact chain is no excuse: it is the same for both."""
    for st in (first, second):
        assert st.status in (fpa.Status.OK, fpa.Status.DIFFUSION), st
    moved = second.mean if mean is None else mean(second.mean)
    errors = [np.max(st.details.get("numerical_error", st.error)) for st in (first, second)]
    allowed = errors[0] + errors[1] * scale + TINY
    assert (np.abs(first.mean - moved) <= allowed).all()
    spread = second.cov if cov is None else cov(second.cov)
    np.testing.assert_allclose(first.cov, spread, rtol=0, atol=loose(first) * np.abs(first.cov).max())
    return True


def loose(st):
    """How far covariances may lie apart, relatively: by their error, or by that of the mean in deviations."""
    if st.method == "monte-carlo":
        return 0.1
    size = np.diag(st.cov).max()
    if "cov_error" in st.details:
        return st.details["cov_error"].max() / size
    return 1e-6 + 2 * np.max(st.details.get("numerical_error", st.error)) / np.sqrt(size)


@pytest.mark.parametrize("method", FEW)
@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_order_of_the_neurons_does_not_matter(method, placement, activation):
    swap = [1, 0]
    kind = {"activation": activation, "placement": placement}
    first = law(method, W=W2, b=B2, **kind)
    second = law(method, W=W2[np.ix_(swap, swap)], b=B2[swap], **kind)
    assert same(first, second, lambda m: m[swap], lambda C: C[np.ix_(swap, swap)])


@pytest.mark.parametrize("method", FEW)
@pytest.mark.parametrize("N", [1, 2])
def test_the_origin_of_the_states_does_not_matter(method, N):
    W, b = W2[:N, :N], B2[:N]
    first = law(method, W=W, b=b, activation="tanh")
    second = law(method, W=W, b=b - W @ np.full(N, 0.5), activation=Raised())
    assert same(first, second, lambda m: m - 0.5)


@pytest.mark.parametrize("method", FEW)
@pytest.mark.parametrize("placement", ["in", "out"])
def test_the_unit_of_a_relu_network_does_not_matter(method, placement):
    """relu(c x) = c relu(x): bias and noise in another unit give the law in that unit."""
    c = 40.0
    first = law(method, W=W2, b=B2, placement=placement)
    second = law(method, W=W2, b=c * B2, sigma=c * 0.5, placement=placement)
    assert same(first, second, lambda m: m / c, lambda C: C / c**2, 1 / c)


@pytest.mark.parametrize("method", FEW)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_uncoupled_neurons_have_the_product_law(method, activation):
    w, b = [-1.5, 0.5], [0.5, -0.1]
    both = law(method, W=np.diag(w), b=b, activation=activation)
    assert both.status.ok
    for i in range(2):
        alone = law(method, W=[[w[i]]], b=[b[i]], activation=activation)
        assert abs(both.mean[i] - alone.mean[0]) <= both.error[i] + alone.error[0] + TINY
        assert both.cov[i, i] == pytest.approx(alone.cov[0, 0], rel=loose(both))
    limit = 0.02 if method == "monte-carlo" else 1e-7
    assert abs(both.cov[0, 1]) <= limit * np.sqrt(both.cov[0, 0] * both.cov[1, 1])


@pytest.mark.parametrize("method", [*EXACT, "closure", "monte-carlo", "auto"])
@pytest.mark.parametrize("placement", ["in", "out"])
@pytest.mark.parametrize("N", [1, 2, 3])
def test_relu_far_above_its_kink_is_exactly_gaussian(method, placement, N):
    """20 standard deviations above: the chain is linear there; its diffusion approximation has the same mean."""
    W = np.array([[0.3, -0.4, 0.1], [0.5, 0.2, -0.2], [-0.1, 0.3, 0.1]])[:N, :N]
    net = fpa.Network(W=W, b=np.full(N, 20.0), gamma=0.3, sigma=0.5, placement=placement)
    linear = fpa.Network(W=W, b=np.full(N, 20.0), gamma=0.3, sigma=0.5, activation="linear")
    st = fpa.stationary(net, method=method)
    assert st.status.ok, st
    assert (np.abs(st.mean - np.linalg.solve(np.eye(N) - W, np.full(N, 20.0))) <= st.error + TINY).all()
    if method == "fokker-planck":
        return  # its covariance is that of the continuous-time process: see test_fokker_planck
    C = linear_covariance(linear, 0.5)
    np.testing.assert_allclose(st.cov, C, rtol=0, atol=loose(st) * np.abs(C).max())


@pytest.mark.parametrize("activation", ["relu", "softplus", "tanh"])
def test_the_chain_tends_to_fokker_planck_at_first_order_in_gamma(activation):
    """The variance of the chain in units of gamma against the diffusion approximation: halving gamma halves the gap."""
    gaps = []
    for gamma in (0.08, 0.04, 0.02):
        exact, diffusion = (law(method, W=[[-1.5]], b=[0.6], gamma=gamma, activation=activation) for method in EXACT)
        gaps.append(abs(exact.cov[0, 0] / diffusion.cov[0, 0] - 1))
    orders = np.log2(np.array(gaps[:-1]) / gaps[1:])
    np.testing.assert_allclose(orders, 1.0, atol=0.1)


@pytest.mark.parametrize("method", EXACT)
def test_stated_errors_are_small(method):
    """Without this the tests above would say little; the diffusion approximation's error is that against the chain."""
    st = law(method, W=W2, b=B2, activation="tanh")
    assert st.error.max() <= (1e-7 if method == "chain" else 0.05)
