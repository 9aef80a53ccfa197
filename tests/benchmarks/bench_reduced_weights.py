"""Basin weights of the reduced chain against weighted ensembles of the whole network, small weights too.

    python tests/benchmarks/bench_reduced_weights.py [--seconds 20] [--size 64]

All N neurons are simulated in single precision. Two populations: chains whose last visit was to the one core, or to
the other (beyond the 15 % quantiles of chains started at both fixed points). In each, every 10 steps, as many states
are kept in each of 16 bins between the cores, their weights adding up to what was there, so that hops are seen however
rare they are. A chain that reaches the other core leaves its population; what comes in has states that really came
from the other one. With k_AB, k_BA the rates of leaving, the populations weigh k_BA : k_AB; a basin's weight follows
from the share of each population in it. Standard errors: jackknife over blocks of 1,000 steps.
"""

import argparse
import time

import numpy as np
from bench_reduced import pattern_network

import fpanalysis as fpa

EVERY, WALKERS, BINS, HIST = 10, 40, 16, 30


def resampled(h, w, bins, g):
    """As many as WALKERS states per occupied bin, of equal weight in the bin (systematic resampling)."""
    picked, weights = [], []
    for b in np.unique(bins):
        here = np.flatnonzero(bins == b)
        total = w[here].sum()
        if total <= 0:
            continue
        at = np.searchsorted(np.cumsum(w[here]), (g.random() + np.arange(WALKERS)) / WALKERS * total)
        picked.append(here[at.clip(0, len(here) - 1)])
        weights.append(np.full(WALKERS, total / WALKERS))
    return h[:, np.concatenate(picked)], np.concatenate(weights)


class Sampler:
    def __init__(self, net, points, L, seed=0):
        left, s, right = net.svd
        k = int((s > 1e-10 * s[0]).sum())
        self.A = (left[:, :k] * s[:k]).astype(np.float32)
        self.R = right[:k].astype(np.float32)
        self.net, self.g = net, np.random.default_rng(seed)
        self.drive = net.drive().astype(np.float32)[:, None]
        y = points @ L
        self.L = (L / np.ptp(y)).astype(np.float32)
        self.ends = np.sort(y) / np.ptp(y)
        self.points = points[np.argsort(y)]
        self.tanh = net.activation.name == "tanh"
        h = self.steps(self.points.astype(np.float32).repeat(200, 0).T.copy(), 1500)
        self.ends = np.quantile(self.L @ h, [0.15, 0.85])  # cores: where chains started at the two fixed points are

    def steps(self, h, n):
        gamma, sigma = np.float32(self.net.gamma), np.float32(self.net.sigma)
        for _ in range(n):
            x = self.g.standard_normal(h.shape, dtype=np.float32)
            x *= sigma
            x += self.A @ (self.R @ h)
            x += self.drive
            if self.tanh:
                np.tanh(x, out=x)
            else:
                np.exp(x, out=x)
                x += 1
                np.log(x, out=x)
            x -= h
            x *= gamma
            h = h + x
        return h

    def labels(self, y, n=300):
        """Nearest fixed point after n steps without noise from y = R h (k, S)."""
        net = self.net
        R, A = self.R.astype(float), self.A.astype(float)
        out = np.empty(y.shape[1], int)
        for part in np.array_split(np.arange(y.shape[1]), max(1, y.shape[1] // 2000)):
            z = y[:, part].astype(float)
            for _ in range(n):
                z = (1 - net.gamma) * z + net.gamma * (R @ net.activation.f((A @ z).T + net.drive()).T)
            d = ((z[:, None] - (self.points @ R.T).T[:, :, None]) ** 2).sum(axis=0)
            out[part] = d.argmin(axis=0)
        return out


def run(sampler, seconds, block=100):
    """Per block: fluxes out of each colour (2,), histogram samples."""
    s = sampler
    lo, hi = s.ends
    edges = np.linspace(lo, hi, BINS + 1)[1:-1]
    pop = [(s.points[c].astype(np.float32)[:, None].repeat(WALKERS, 1), np.full(WALKERS, 1 / WALKERS)) for c in (0, 1)]
    entries = [[], []]  # states that came into core c from the other, with weights
    blocks, end = [], time.process_time() + seconds
    count = 0
    while time.process_time() < end:
        flux = np.zeros(2)
        kept = [[], []]
        for it in range(block):
            out = []
            for c in (0, 1):
                h, w = pop[c]
                h = s.steps(h, EVERY)
                v = s.L @ h
                gone = v >= hi if c == 0 else v <= lo
                flux[c] += w[gone].sum()
                if gone.any():
                    entries[1 - c] = (entries[1 - c] + [(h[:, j], w[j]) for j in np.flatnonzero(gone)])[-400:]
                out.append((h[:, ~gone], w[~gone], v[~gone], w[gone].sum()))
            for c in (0, 1):
                h, w, v, lost = out[c]
                if lost > 0 or not len(w):
                    if entries[c]:
                        ew = np.array([e[1] for e in entries[c]])
                        j = s.g.choice(len(ew), 8, p=ew / ew.sum())
                        new = np.stack([entries[c][i][0] for i in j], 1)
                    else:
                        new = s.points[c].astype(np.float32)[:, None].repeat(8, 1)
                    h = np.concatenate([h, new], 1)
                    w = np.concatenate([w, np.full(8, lost / 8)])
                    v = np.concatenate([v, s.L @ new])
                w = w / w.sum()
                if it % 2 == 1:
                    pick = s.g.choice(len(w), min(400, len(w)), p=w) if it % 10 == 1 else slice(0, 0)
                    kept[c].append((v, w, (s.R @ h[:, pick])))
                pop[c] = resampled(h, w, np.searchsorted(edges, v), s.g)
        count += 1
        if count > 3:  # the first three blocks: from the fixed points to the quasi-stationary laws
            blocks.append((flux / block, kept))
    return blocks


def analysed(s, blocks, edges):
    rows = []
    for flux, kept in blocks:
        inside, hist = [], []
        for c in (0, 1):
            y = np.concatenate([k[2] for k in kept[c]], axis=1)
            inside.append(s.labels(y).mean() if y.shape[1] else np.nan)  # share in basin 1
            H = np.zeros(len(edges) + 1)
            for v, w, _ in kept[c]:
                H += np.bincount(np.searchsorted(edges, v), w, minlength=len(edges) + 1)
            hist.append(H / H.sum())
        rows.append((flux, inside, hist))
    f = np.array([r[0] for r in rows])
    q = np.array([r[1] for r in rows])
    H = np.array([r[2] for r in rows])

    def total(keep):
        k = f[keep].mean(axis=0)
        share = k[::-1] / k.sum()
        return share @ q[keep].mean(axis=0), share @ H[keep].mean(axis=0)

    B = len(f)
    groups = np.array_split(np.arange(B), min(B, 10))
    jack = [total(np.setdiff1d(np.arange(B), g)) for g in groups]
    n = len(groups)
    w, law = total(np.arange(B))
    jw = np.array([j[0] for j in jack])
    jl = np.array([j[1] for j in jack])
    se = np.sqrt((n - 1) / n * ((jw - jw.mean()) ** 2).sum())
    sl = np.sqrt((n - 1) / n * ((jl - jl.mean(axis=0)) ** 2).sum(axis=0))
    return w, se, law, sl, f.mean(axis=0), B


def bin_edges(density, scale):
    ends = np.concatenate([[density.grids[0][0]], density.grids[0] + density.weights[0] / 2])
    fine = np.linspace(ends[0], ends[-1], 4001)
    shape = np.exp(np.interp(fine, density.grids[0], np.log(np.maximum(density.values, 1e-300))))
    cdf = np.cumsum(shape) / shape.sum()
    return np.interp(np.linspace(0, 1, HIST + 1)[1:-1], cdf, fine) / scale


def row(name, net, seconds):
    t = time.process_time()
    st = fpa.stationary(net, method="reduced")
    used = time.process_time() - t
    L = st.details["L"][:, 0]
    pts = np.array([b.fixed_point for b in st.basins])
    y = pts @ L
    scale = np.ptp(y)
    order = np.argsort(y)
    s = Sampler(net, pts, L)
    blocks = run(s, seconds)
    w, se, law, sl, _, _ = analysed(s, blocks, bin_edges(st.marginals["coordinate 0"], scale))
    mine = st.basins[order[1]].weight
    if mine > 0.5:
        mine, w = 1 - mine, 1 - w
    tv = np.abs(law - 1 / HIST).sum() / 2
    noise = np.sqrt(2 / np.pi) * sl.sum() / 2
    off = f"ratio {mine / w:.3f} +- {se / w:.3f}  tv {tv:.4f} (noise {noise:.4f})"
    print(f"{name:34} cpu {used:.1f} s  gap {st.gap:.1e}  weight {mine:.5f}  mc {w:.5f} +- {se:.5f}  {off}", flush=True)


#: kind, rank, gain and N times the bias: chosen so that the lighter basin weighs about 0.2, 0.05, 0.01 and 0.002
CASES = {
    64: [("tanh", 1, 1.68, b) for b in (0.07485, 0.16011, 0.25044, 0.34247)]
    + [("softplus", 1, 1.42, b) for b in (0.09604, 0.19614, 0.29068, 0.3775)]
    + [("tanh", 2, (1.85, 0.6), b) for b in (0.14385, 0.30406)]
    + [("softplus", 2, (1.6, -0.5), b) for b in (0.15, 0.4)],
    256: [("tanh", 1, 1.67, b) for b in (0.2711, 0.55705, 0.84105, 1.09793)]
    + [("softplus", 1, 1.42, b) for b in (0.22798, 0.4416, 0.62266, 0.79)]
    + [("tanh", 2, (1.73, 0.6), b) for b in (0.56131, 1.1)]
    + [("softplus", 2, (1.6, -0.5), 0.3)],
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="CPU time of each simulation")
    parser.add_argument("--size", type=int, choices=[64, 256], default=64)
    options = parser.parse_args()
    N = options.size
    for kind, rank, gain, bias in CASES[N]:
        drive = 0.0 if kind == "tanh" else (1.0 if rank == 1 else 1.7)
        net = pattern_network(N, rank, kind, gain, bias / N, 1.0, drive=drive)
        row(f"rank {rank} {kind} N={N} bias {bias}/N", net, options.seconds)


if __name__ == "__main__":
    main()
