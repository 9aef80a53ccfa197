"""Reference moments of the activations in multiprecision arithmetic: writes moments.json beside itself.

    python tests/reference/make_moments.py          (minutes: mpmath is slow)

ReLU and leaky ReLU from their closed forms in erfc; the others from their definitions as expectations, summed by
the trapezoid rule at two offsets half a step apart. The two sums have errors of opposite sign, so their agreement
to AGREE digits bounds the error of their mean. The working precision grows with |a|, so that plain differences of
f keep their digits in the tails; erf is taken through erfc, which mpmath gives to full relative precision.
"""

from __future__ import annotations

import json
from math import pi
from pathlib import Path

import mpmath as mp

AGREE = mp.mpf(10) ** -20
SCALES = (0.001, 0.03, 0.3, 1.0, 3.0, 10.0)
RATIOS = (-30, -12, -5, -2, -0.7, 0, 0.1, 1, 1.99, 2.01, 5, 12, 30)
POINTS = (-30, -8, -2.5, -0.4, 0.9, 2.5, 8, 30)
SLOPE = 0.2
HERMITE_ORDERS = (1, 2, 3, 6, 13, 20)
HERMITE_POINTS = ((0.3, 0.5), (-1.5, 0.8), (2.0, 3.0), (-7.0, 1.0))

#: f (up to a constant), its derivative, the rate of its exponential tails, the distance of its poles from the axis
SMOOTH = {
    "softplus": (lambda x: mp.log1p(mp.exp(x)), lambda x: 1 / (1 + mp.exp(-x)), 1, pi),
    "tanh": (mp.tanh, lambda x: mp.sech(x) ** 2, 2, pi / 2),
    "sigmoid": (lambda x: 1 / (1 + mp.exp(-x)), lambda x: 1 / (4 * mp.cosh(x / 2) ** 2), 1, pi),
    "erf": (lambda x: -mp.erfc(x), lambda x: 2 / mp.sqrt(mp.pi) * mp.exp(-(x**2)), None, 1.5),
}


def relu(a, s, k):
    """Closed forms for x if x > 0 else k x."""
    r = a / s
    phi, upper, lower = mp.npdf(r), mp.erfc(-r / mp.sqrt(2)) / 2, mp.erfc(abs(r) / mp.sqrt(2)) / 2
    beta = s * (phi - abs(r) * lower)
    M = max(a, 0) + beta
    V = (a**2 + s**2) * upper + a * s * phi - M**2
    variance = (k * s) ** 2 + 2 * k * (1 - k) * s**2 * upper + (1 - k) ** 2 * V
    return (a if a > 0 else k * a) + (1 - k) * beta, k + (1 - k) * upper, variance, (1 - k) * beta


def nodes(a, s, name, offset, order):
    _, _, rate, strip = SMOOTH[name]
    step = mp.mpf(min(0.2, 0.1 * strip / s)) / (2 if order else 1)
    peak = abs(a) / s if rate is None else min(abs(a) / s, 2 * rate * s)
    reach = 15 + min(peak, 45) + order / 5
    count = int(reach / step)
    return step, [(k + offset) * step for k in range(-count, count + 1)]


def sums(name, a, s, orders=()):
    """G, V, beta and E[(f(x) - f(a)) He_k(xi)], each as the mean of two sums that agree."""
    f, df, _, _ = SMOOTH[name]
    fa = f(a)
    results = []
    for offset in (mp.mpf(1) / 4, mp.mpf(3) / 4):
        step, xi = nodes(a, s, name, offset, max(orders, default=0))
        weight = [step * mp.npdf(x) for x in xi]
        delta = [f(a + s * x) - fa for x in xi]
        # the same sum with x -> -x averaged in: half the second difference, whose first order cancels exactly
        mirrored = [f(a - s * x) - fa for x in xi]
        beta = mp.fdot(weight, [(p + q) / 2 for p, q in zip(delta, mirrored, strict=True)])
        V = mp.fdot(weight, [(d - beta) ** 2 for d in delta])
        G = mp.fdot(weight, [df(a + s * x) for x in xi])
        tilt = [mp.fdot(weight, [d * he(k, x) for d, x in zip(delta, xi, strict=True)]) for k in orders]
        results.append((G, V, beta, *tilt))
    for one, two in zip(*results, strict=True):
        assert abs(one - two) <= AGREE * max(abs(one), mp.mpf(10) ** -330), (name, a, s, one, two)
    return [(one + two) / 2 for one, two in zip(*results, strict=True)]


def he(k, x):
    low, high = mp.mpf(1), x
    for n in range(1, k):
        low, high = high, x * high - n * low
    return high if k else low


def precision(name, a):
    rate = SMOOTH[name][2]
    return 45 + (0 if rate is None else int(rate * abs(a) / 2.3))


def smooth(name, a, s):
    mp.mp.dps = precision(name, a)
    a, s = mp.mpf(a), mp.mpf(s)
    if name == "erf" and a < 0:
        M, G, V, beta = smooth(name, -a, s)
        return -M, G, V, -beta
    G, V, beta = sums(name, a, s)
    if a == 0 and name != "softplus":
        beta = mp.mpf(0)  # f - f(0) is odd
    M = (mp.erf(a) if name == "erf" else SMOOTH[name][0](a)) + beta
    return M, G, V, beta


def grid(points):
    return sorted({(float(a), s) for s in SCALES for a in [*(r * s for r in RATIOS), *points]})


def text(value):
    return float(mp.nstr(value, 20, strip_zeros=False))


def main():
    out = {"slope": SLOPE, "moments": {}, "hermite": {}}
    for name in ("relu", "leaky_relu"):
        mp.mp.dps = 60
        k = mp.mpf(SLOPE) if name == "leaky_relu" else mp.mpf(0)
        rows = [(a, s, *relu(mp.mpf(a), mp.mpf(s), k)) for a, s in grid(())]
        out["moments"][name] = [[text(value) for value in row] for row in rows]
    for name in SMOOTH:
        rows = [(a, s, *smooth(name, a, s)) for a, s in grid(POINTS) if name == "softplus" or a >= 0]
        out["moments"][name] = [[text(value) for value in row] for row in rows]
        mp.mp.dps = 60
        rows = []
        for a, s in HERMITE_POINTS:
            # odd and even orders alike from the definition; sign flips keep erfc in its accurate half
            flip = name == "erf" and a < 0
            tilt = sums(name, mp.mpf(-a if flip else a), mp.mpf(s), HERMITE_ORDERS)[3:]
            signs = [(-1) ** (k + 1) if flip else 1 for k in HERMITE_ORDERS]
            c = [x * g / mp.sqrt(mp.factorial(k)) for x, g, k in zip(tilt, signs, HERMITE_ORDERS, strict=True)]
            rows.append([a, s, *map(text, c)])
        out["hermite"][name] = {"orders": HERMITE_ORDERS, "rows": rows}
        print(name, flush=True)
    path = Path(__file__).with_name("moments.json")
    lines = json.dumps(out).replace("[[", "[\n  [").replace("], [", "],\n  [").replace('}, "', '},\n "')
    path.write_text(lines + "\n")


if __name__ == "__main__":
    main()
