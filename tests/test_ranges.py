"""Enclosures of f and f' over intervals against multiprecision values, for every activation."""

from __future__ import annotations

import mpmath as mp
import numpy as np
import pytest

from fpanalysis.activations import REGISTRY, Activation, LeakyReLU, Tanh, get_activation
from fpanalysis.fixed_points.proof._enclosure import band
from fpanalysis.results import InputError

PRECISE = {
    "linear": (lambda x: x, lambda x: mp.mpf(1)),
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), lambda x: mp.sech(x / 2) ** 2 / 4),
    "erf": (mp.erf, lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-x * x)),
    "softplus": (lambda x: mp.log1p(mp.exp(x)), lambda x: 1 / (1 + mp.exp(-x))),
}
SMOOTH = tuple(PRECISE)
SLOPES = (0.0, 0.01, -0.5, 1.0, 2.5)
ALL = [*(get_activation(name) for name in (*SMOOTH, "relu")), *(LeakyReLU(slope) for slope in SLOPES)]


class Soft(Activation):
    """x / sqrt(1 + x^2): nothing given but f, f' and the place where f' is largest."""

    slope_peak = 0.0

    def f(self, x):
        return x / np.sqrt(1 + np.square(x))

    def df(self, x):
        return (1 + np.square(x)) ** -1.5


def precise(activation):
    """f and the values that f' may take at x, in multiprecision."""
    if activation.name in PRECISE:
        f, df = PRECISE[activation.name]
        return f, lambda x: [df(x)]
    if isinstance(activation, Soft):
        return lambda x: x / mp.sqrt(1 + x * x), lambda x: [(1 + x * x) ** mp.mpf(-1.5)]
    slope = mp.mpf(getattr(activation, "slope", 0.0))
    return (
        lambda x: x if x > 0 else slope * x,
        lambda x: [slope, mp.mpf(1)] if x == 0 else [mp.mpf(1) if x > 0 else slope],
    )


def intervals(seed, count=150):
    """Intervals of all sizes: 1e-300 to 1e4 wide, around 0 and far from it, with ends at 0, and points."""
    rng = np.random.default_rng(seed)
    middle = rng.choice([-1, 1], count) * 10 ** rng.uniform(-12, 2.5, count) * rng.choice([0, 1, 1, 1], count)
    width = 10 ** rng.choice([rng.uniform(-300, -20, count), rng.uniform(-16, -3, count), rng.uniform(-3, 4, count)])
    lo, hi = middle - width * rng.random(count), middle + width * rng.random(count)
    ends = [
        (0.0, 1.0),
        (-1.0, 0.0),
        (0.0, 0.0),
        (-2.0, 2.0),
        (-700.0, 700.0),
        (-1e4, 30.0),
        (37.0, 38.0),
        (-745.0, -744),
    ]
    return np.append(lo, [end[0] for end in ends]), np.append(hi, [end[1] for end in ends])


def inside(lo, hi):
    """The ends, the middle, points next to the ends, and 0 if it lies between."""
    points = [mp.mpf(lo), mp.mpf(hi), (mp.mpf(lo) + mp.mpf(hi)) / 2]
    points += [points[0] + t * (points[1] - points[0]) for t in (mp.mpf("1e-9"), mp.mpf("0.3"), 1 - mp.mpf("1e-9"))]
    return [*points, mp.mpf(0)] if lo <= 0 <= hi else points


@pytest.mark.parametrize("activation", [*ALL, Soft()], ids=repr)
def test_ranges_enclose(activation):
    f, df = precise(activation)
    lo, hi = intervals(seed=1)
    with mp.workdps(60):
        for left, right, *ranges in zip(lo, hi, *activation.ranges(lo, hi), strict=True):
            f_lo, f_hi, df_lo, df_hi = ranges
            for x in inside(left, right):
                assert f_lo <= f(x) <= f_hi
                assert all(df_lo <= slope <= df_hi for slope in df(x))


@pytest.mark.parametrize("activation", [*ALL, Soft()], ids=repr)
def test_ranges_are_no_wider_than_f(activation):
    """Against the hull over a fine grid: what they add is rounding and what the grid misses, 1e-3 of the width."""
    lo, hi = (v.ravel() for v in np.meshgrid(np.linspace(-4, 3, 15), np.linspace(-3.1, 4, 15)))
    lo, hi = lo[lo <= hi], hi[lo <= hi]
    x = np.linspace(lo, hi, 2001)
    f_lo, f_hi, df_lo, df_hi = activation.ranges(lo, hi)
    for low, high, values in ((f_lo, f_hi, activation.f(x)), (df_lo, df_hi, activation.df(x))):
        missed = 4e-3 * (hi - lo) * np.ptp(activation.df(x), axis=0).max() + 1e-3 * np.ptp(values, axis=0) + 1e-12
        kink = 0 if activation.smooth else (1 - getattr(activation, "slope", 0.0)) * ((lo == 0) | (hi == 0))
        assert (low >= values.min(axis=0) - missed - np.abs(kink)).all()
        assert (high <= values.max(axis=0) + missed + np.abs(kink)).all()


def test_infinite_ends():
    for activation in ALL:
        f_lo, f_hi, df_lo, df_hi = activation.ranges(-np.inf, np.inf)
        x = np.array([-1e100, -800.0, 0.0, 800.0, 1e100])
        assert (f_lo <= activation.f(x)).all()
        assert (f_hi >= activation.f(x)).all()
        assert (df_lo <= activation.df(x)).all()
        assert (df_hi >= activation.df(x)).all()
        assert np.isfinite([f_lo, f_hi]).all() == activation.bounded


def test_at_a_kink_both_slopes_count():
    for activation, low in ((get_activation("relu"), 0.0), (LeakyReLU(-0.5), -0.5)):
        for lo, hi in ((0.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (-1.0, 1.0)):
            _, _, df_lo, df_hi = activation.ranges(lo, hi)
            np.testing.assert_allclose([df_lo, df_hi], [low, 1.0], rtol=0, atol=1e-14)


def test_every_built_in_activation_has_ranges():
    assert {activation.name for activation in ALL} >= {
        name for name, known in REGISTRY.items() if known.__module__ == "fpanalysis.activations"
    }


def test_without_a_peak_nothing_is_claimed():
    class Unknown(Activation):
        pass

    class Bump(Tanh):  # another f: its parent's peak is not its own
        def f(self, x):
            return np.exp(-np.square(x))

    for activation in (Unknown(), Bump()):
        with pytest.raises(InputError, match="slope_peak"):
            activation.ranges(0.0, 1.0)


@pytest.mark.parametrize("activation", [*ALL, Soft()], ids=repr)
def test_slope_inverse(activation):
    """f' at the points it names is the slope asked for; at a kink there is but one point."""
    lo, hi = activation.ranges(-3.0, 3.0)[2:]
    a = np.linspace(lo, hi, 7)[1:-1]
    if activation.smooth and hi - lo > 0.1:
        for x in activation.slope_inverse(a):
            np.testing.assert_allclose(activation.df(x[np.isfinite(x)]), a[np.isfinite(x)], atol=1e-4)


@pytest.mark.parametrize("activation", [*ALL, Soft()], ids=repr)
def test_bands_enclose(activation):
    f, _ = precise(activation)
    lo, hi = intervals(seed=2)
    lo, hi = np.nextafter(lo, -np.inf), np.nextafter(hi, np.inf)
    mid = (lo + hi) / 2
    with mp.workdps(60):
        for left, right, middle, *line in zip(lo, hi, mid, *band(activation, lo, hi, mid), strict=True):
            centre, a, e = (mp.mpf(float(v)) for v in line)
            for x in inside(left, right):
                assert abs(f(x) - centre - a * (x - mp.mpf(float(middle)))) <= e


@pytest.mark.parametrize("name", SMOOTH)
def test_bands_are_of_second_order(name):
    """To the side of the peak, e is Chebyshev's |f''| w^2 / 16 for f'' constant: here to within its variation."""
    activation = get_activation(name)
    for width in (1e-3, 1e-2, 1e-1):
        lo = np.linspace(0.1, 3, 30)
        e = band(activation, lo, lo + width, lo + width / 2).e
        most = np.abs(activation.d2f(np.linspace(lo, lo + width, 50))).max(axis=0)
        assert (e <= 1.001 * most * width**2 / 16 + 100 * activation.ulps * np.finfo(float).eps).all()
