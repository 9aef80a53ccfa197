"""Smoothed activations: against multiprecision integrals and identities, in torch and files, under every analysis."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest
import torch
from problems import random_network

import fpanalysis as fpa
from fpanalysis.activations import Activation, LeakyReLU, Smoothed, Tanh, get_activation
from fpanalysis.fixed_points import settle
from fpanalysis.models import CTRNN
from fpanalysis.results import InputError

PRECISE = {
    "relu": lambda x: max(x, mp.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mp.mpf(0.2) * x,
    "softplus": lambda x: mp.log1p(mp.exp(x)),
    "tanh": mp.tanh,
    "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
    "erf": mp.erf,
}
NAMES = tuple(PRECISE)
S = [0.3, 1.2, 0.0]  # one of three neurons is left as it is


def known(name):
    return LeakyReLU(0.2) if name == "leaky_relu" else get_activation(name)


def rule(nodes=1501, end=10.0):
    """Plain trapezoid rule on a fine grid: right to 1e-6 at a kink, to rounding elsewhere."""
    xi = np.linspace(-end, end, nodes)
    w = np.exp(-(xi**2) / 2)
    return xi, w / w.sum()


@pytest.mark.parametrize("name", NAMES)
def test_values_against_multiprecision(name):
    x, s = np.array([-6.0, 0.7]), 0.8
    with mp.workdps(30):
        for value, found in zip(x, Smoothed(known(name), s).f(x), strict=True):
            panels = sorted({*map(mp.mpf, range(-12, 13)), -mp.mpf(value) / mp.mpf(s)})
            exact = mp.quad(lambda z: PRECISE[name](mp.mpf(value) + mp.mpf(s) * z) * mp.npdf(z), panels, maxdegree=5)  # noqa: B023
            assert abs(found - float(exact)) <= 1e-13 * abs(float(exact)) + 1e-16


@pytest.mark.parametrize("name", NAMES)
def test_derivatives(name):
    """Five-point differences: h^4 / 30 f^(5) with |f^(5)| <= 3 / s^4, and rounding over h."""
    f, h = Smoothed(known(name), S[:2]), 1e-3
    x = np.linspace(-3, 3, 13)[:, None] * np.ones(2)
    for value, slope in ((f.f, f.df), (f.df, f.d2f)):
        v = [value(x + k * h) for k in (-2, -1, 1, 2)]
        np.testing.assert_allclose((v[0] - 8 * v[1] + 8 * v[2] - v[3]) / (12 * h), slope(x), rtol=0, atol=2e-10)


@pytest.mark.parametrize("name", NAMES)
def test_without_smoothing_it_is_the_base(name):
    base, x = known(name), np.array([-40.0, -1.0, 0.0, 0.3])
    mixed, none = Smoothed(base, S), Smoothed(base, 0.0)
    for method in ("f", "df", "d2f"):
        expected = getattr(base, method)(x)
        np.testing.assert_array_equal(getattr(none, method)(x), expected)
        np.testing.assert_array_equal(getattr(mixed, method)(x[:, None] * np.ones(3))[:, 2], expected)
    np.testing.assert_array_equal(none.f([-np.inf, np.inf]), base.f([-np.inf, np.inf]))
    t = torch.tensor(x)
    np.testing.assert_array_equal(none.torch(t), base.torch(t))
    np.testing.assert_array_equal(mixed.torch(t[:, None].expand(4, 3))[:, 2], base.torch(t))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("t", [0.05, 0.4, 2.0])
def test_the_laws_of_total_expectation_and_variance(name, t):
    """f_s averaged over N(a, t^2) is f averaged over N(a, s^2 + t^2), whose variance is that of f_s plus the mean of
    Var(f(x + s xi) | x)."""
    base, f, s = known(name), Smoothed(known(name), S), np.array(S)
    a = np.linspace(-2, 2, 7)[:, None] * np.ones(3)
    xi, w = rule()
    at = a + t * xi[:, None, None]
    smoothed = s > 0
    moments = M, G, V, beta = f.moments(a, t)
    np.testing.assert_allclose(M[:, smoothed], np.tensordot(w, f.f(at), 1)[:, smoothed], rtol=0, atol=1e-13)
    np.testing.assert_allclose(G[:, smoothed], np.tensordot(w, f.df(at), 1)[:, smoothed], rtol=0, atol=1e-13)
    np.testing.assert_allclose(beta, M - f.f(a), rtol=1e-12, atol=1e-14)
    total = base.V(a, np.hypot(s, t))
    within = np.tensordot(w, base.V(at, np.broadcast_to(s, at.shape)), 1)
    np.testing.assert_allclose(V, total - within, rtol=0, atol=1e-11 * (1 + total.max()))
    for found, expected in zip(moments, base.moments(a, t), strict=True):
        np.testing.assert_allclose(found[:, ~smoothed], expected[:, ~smoothed], rtol=1e-12, atol=1e-15)


def test_variance_where_the_kink_is_all_but_sharp():
    """Var f_s -> Var f + O(s^2): s = 1e-6 against noise of 1."""
    a = np.linspace(-3, 3, 7)
    np.testing.assert_allclose(Smoothed("relu", 1e-6).V(a, 1.0), get_activation("relu").V(a, 1.0), rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", NAMES)
def test_small_noise_on_a_smoothed_activation(name):
    """beta -> t^2 f_s'' / 2 and V -> t^2 f_s'^2, at relative corrections of t^2 / s^2."""
    f, t = Smoothed(known(name), 0.7), 1e-5
    a = np.array([-1.5, -0.2, 0.9])
    _, G, V, beta = f.moments(a, t)
    np.testing.assert_allclose(beta, t**2 / 2 * f.d2f(a), rtol=1e-8)
    np.testing.assert_allclose(V, t**2 * f.df(a) ** 2, rtol=1e-8)
    np.testing.assert_allclose(G, f.df(a), rtol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_hermite_coefficients(name):
    f, t = Smoothed(known(name), 0.5), 0.4
    a = np.array([-1.0, 0.2])
    xi, w = rule()
    basis = fpa.gaussian.hermite_basis(xi, 30)
    direct = np.tensordot(f.f(a + t * xi[:, None]), basis * w, axes=(0, 1))
    found = f.hermite(a, t, 30)
    np.testing.assert_allclose(found, direct, rtol=0, atol=1e-9)
    V = f.V(a, t)
    np.testing.assert_allclose((found[:, 1:] ** 2).sum(axis=1), V, rtol=1e-10)


def test_smoothing_twice():
    for one, two in ((0.3, 0.4), ([0.3, 0.0], 0.4), (0.3, [0.4, 1.0]), ([0.3, 0.1], [0.4, 0.2])):
        twice, once = Smoothed(Smoothed("tanh", one), two), Smoothed("tanh", np.hypot(one, two))
        assert twice.key == once.key
        assert type(twice.base) is Tanh
    with pytest.raises(InputError, match="does not fit a base"):
        Smoothed(Smoothed("tanh", [0.1, 0.2]), [0.1, 0.2, 0.3])


@pytest.mark.parametrize("name", NAMES)
def test_torch(name):
    """Double to rounding, single to a few of its own, and the gradient is f_s'."""
    f = Smoothed(known(name), S)
    x = np.random.default_rng(0).normal(scale=3, size=(2, 50, 3))
    double = torch.tensor(x, requires_grad=True)
    y = f.torch(double)
    np.testing.assert_allclose(y.detach(), f.f(x), rtol=0, atol=3e-14)
    (gradient,) = torch.autograd.grad(y.sum(), double)
    np.testing.assert_allclose(gradient, f.df(x), rtol=0, atol=1e-13)
    single = f.torch(double.detach().float())
    assert single.dtype is torch.float32
    np.testing.assert_allclose(single, f.f(x), rtol=0, atol=4e-6)


def test_gradient_at_the_kink_itself():
    x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Smoothed("relu", 0.5).torch(x).sum(), x)
    assert gradient.item() == 0.5


@pytest.mark.parametrize("name", ["relu", "softplus", "erf"])
def test_sympy(name):
    import sympy

    x, f = sympy.Symbol("x", real=True), Smoothed(name, 0.6)
    for value in (-1.0, 0.5):
        assert float(f.sympy(x).subs(x, value).evalf()) == pytest.approx(float(f.f(value)), rel=1e-9)
    assert Smoothed(name, S).sympy(x).free_symbols >= {sympy.Symbol("s", positive=True)}
    assert Smoothed(name, 0.0).sympy(x) == get_activation(name).sympy(x)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("s", [0.4, S])
def test_ranges_enclose(name, s):
    f, N = Smoothed(known(name), s), np.size(s)
    rng = np.random.default_rng(1)
    lo = rng.normal(scale=3, size=(40, N))
    hi = lo + rng.exponential(size=(40, N)) ** 3
    f_lo, f_hi, df_lo, df_hi = f.ranges(lo, hi)
    for x in np.linspace(lo, hi, 41):
        value, slope = f.f(x), f.df(x)
        assert ((f_lo <= value) & (value <= f_hi) & (df_lo <= slope) & (slope <= df_hi)).all()
    assert f.alike == (N == 1)


def test_ranges_without_end_of_what_falls_and_rises():
    f_lo, f_hi, df_lo, df_hi = Smoothed(LeakyReLU(-0.3), 0.4).ranges([-np.inf, -1.0, -np.inf], [np.inf, np.inf, 1.0])
    assert f_hi.tolist() == [np.inf, np.inf, np.inf]
    assert (f_lo <= 0.1).all()
    np.testing.assert_allclose([df_lo[0], df_hi[0]], [-0.3, 1.0], rtol=1e-9)


class Lopsided(Activation):
    """f' has one peak, and is not even: where noise moves the peak to is not known."""

    slope_peak = 0.0

    def f(self, x):
        return np.asarray(x) * 1.0


def test_what_is_known_of_the_base_is_kept_where_it_holds():
    assert Smoothed("relu", S).smooth is False
    assert Smoothed("relu", S[:2]).smooth is True
    assert Smoothed("relu", S[:2]).strip == 0.3
    assert Smoothed("tanh", S).strip == Tanh.strip
    assert Smoothed("tanh", S).bounded
    assert not Smoothed("softplus", S).bounded
    assert Smoothed(LeakyReLU(2.0), 0.1).slope_peak == -np.inf
    assert Smoothed(Lopsided(), 0.1).slope_peak is None


def test_files(tmp_path):
    net = random_network(3, activation=Smoothed(LeakyReLU(0.2), S), info={"note": 1})
    fpa.save(net, tmp_path / "x.pt")
    again = fpa.load(tmp_path / "x.pt")
    assert again.hash == net.hash
    assert again.activation.key == net.activation.key
    assert repr(again.activation) == "Smoothed(LeakyReLU(slope=0.2), s=0..1.2)"
    assert get_activation({"name": "smoothed", "base": "relu", "s": 0.5}).config() == {
        "name": "smoothed",
        "base": "relu",
        "s": 0.5,
    }
    assert Smoothed("relu", [0.5, 0.5]).key == Smoothed("relu", 0.5).key


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"base": "relu", "s": -0.1}, "s must be one number >= 0"),
        ({"base": "relu", "s": [[0.1]]}, "one per neuron; found shape"),
        ({"base": "relu", "s": []}, "one per neuron; found shape"),
        ({"base": "relu", "s": [np.nan]}, "s must be finite"),
        ({"base": "relu", "s": "wide"}, "s must be an array of real numbers"),
        ({"base": "rellu", "s": 0.1}, "unknown activation 'rellu'"),
        ({"s": 0.1}, "missing 1 required positional argument"),
    ],
    ids=repr,
)
def test_bad_parameters(spec, message):
    with pytest.raises(InputError, match=message):
        get_activation({"name": "smoothed"} | spec)


def test_another_number_of_neurons_is_refused():
    with pytest.raises(InputError, match=r"one per neuron, \(4,\); found 3 numbers"):
        random_network(4, activation=Smoothed("relu", S))


def test_kinks_without_a_closed_form_are_refused():
    class Kinked(Activation):
        smooth = False

    with pytest.raises(InputError, match="kinks"):
        Smoothed(Kinked(), 0.1)


# ---------------------------------------------------------------- under every analysis


@pytest.mark.parametrize("form", ["rate", "current"])
@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_a_stack_steps_like_the_network(name, form, one_torch_thread):
    nets = [random_network(3, seed=k, activation=Smoothed(name, S), form=form) for k in range(2)]
    u = np.random.default_rng(0).normal(size=(4, 5, 2))
    z = CTRNN(nets, torch.float64)(torch.tensor(u)).detach().numpy()
    for m, net in enumerate(nets):
        h = np.zeros((5, 3))
        for t in range(4):
            h = net.step(h, u[t])
            np.testing.assert_allclose(z[m, t], net.output(h), rtol=0, atol=1e-13)


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_fixed_points(name):
    """Certified, and among them where a trajectory comes to rest."""
    s = np.linspace(0.2, 0.6, 12)
    net = random_network(12, activation=Smoothed(name, s), gain=0.9)
    fps = fpa.find_fixed_points(net)
    assert fps.certified.all()
    states, rests = settle(net, np.zeros((1, 12)))
    assert rests.all()
    assert np.abs(fps.h - states).max(axis=1).min() < 1e-9


@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_fixed_points_without_any_drive(name):
    """Whether f is odd is asked then, of all neurons: of tanh it is, and the points come in pairs."""
    net = fpa.Network(W=2 * np.eye(3), activation=Smoothed(name, [0.1, 0.2, 0.3]))
    points = fpa.find_fixed_points(net)
    assert len(points) == {"relu": 0, "tanh": 27}[name]
    if name == "tanh":
        assert np.abs(points.h[:, None] + points.h[None]).max(axis=2).min(axis=1).max() < 1e-12


@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_closure_and_monte_carlo(name):
    net = random_network(6, activation=Smoothed(name, np.linspace(0.1, 0.9, 6)), sigma=0.5)
    close, mc = fpa.stationary(net, method="closure"), fpa.stationary(net, method="monte-carlo", chains=512, steps=400)
    assert mc.status.ok
    assert close.status.ok
    allowed = close.error + 2 * mc.error  # 4 standard errors
    assert (np.abs(mc.mean - close.mean) <= allowed).all()


@pytest.mark.parametrize(("s", "method"), [([0.2, 0.6], "chain"), ([0.3, 0.0], "chain"), ([0.2, 0.6], "fokker-planck")])
def test_exact_laws(s, method):
    """Two neurons, one of them with its kink in one case; Fokker-Planck to the precision of the diffusion, 2 %."""
    net = fpa.Network(W=[[-0.8, 0.4], [0.3, -0.5]], b=[0.3, 0.1], gamma=0.1, activation=Smoothed("relu", s), sigma=0.4)
    law, mc = fpa.stationary(net, method=method), fpa.stationary(net, method="monte-carlo", chains=512, steps=400)
    assert law.status.ok
    own = 0.02 * np.abs(law.mean - law.start) if method == "fokker-planck" else 1e-9
    assert (np.abs(law.mean - mc.mean) <= law.error + 2 * mc.error + own).all()
