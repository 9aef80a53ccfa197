"""The reduced chain against Monte Carlo of the whole network: total variation of the law of y, and basin weights.

    python tests/benchmarks/bench_reduced.py [--seconds 60] [--only TEXT]

Networks of rank one and two with two basins, N = 64 and 256, noise in, gamma = 0.1; and full-rank networks near rank
one. The simulation is of all N neurons in single precision, its noise drawn per neuron and step; it knows nothing of
y. Weights: P(h in the basin) by following the noise-free chain from the simulated states. `tv` is the total variation
distance of the histogram of the first coordinate (30 bins, equal weights under the law), `noise` what Monte Carlo error
alone would make of it; the errors of the weights are standard errors over chains.
"""

import argparse
import time

import numpy as np

import fpanalysis as fpa
from fpanalysis.stationary._basins import basin_of

BINS = 30
CHAINS = 512


def pattern_network(N, rank, activation, gain, bias, sigma, *, drive=0.0, random=0.0, seed=0):
    """W = gain A V^T / N about patterns of +-1 (tanh), or excitation and inhibition by halves (softplus)."""
    g = np.random.default_rng(seed)
    A, V = 1 + 0.3 * g.standard_normal((2, N, rank))
    if activation == "tanh":
        P = g.choice([-1.0, 1.0], (N, rank))
    else:  # softplus: the two halves mirror each other, or one basin would hold all
        P = np.stack([np.repeat([1.0, -1.0], N // 2), np.ones(N)], axis=1)[:, :rank]
        A[N // 2 :], V[N // 2 :] = A[: N // 2], V[: N // 2]
    A, V = P * A, P * V
    gains = np.asarray(gain) * np.ones(rank)
    W = (A * gains) @ V.T / N + random * g.standard_normal((N, N)) / np.sqrt(N)
    return fpa.Network(W=W, b=drive + bias * P[:, 0], gamma=0.1, activation=activation, sigma=sigma)


def cases():
    for N, gain in ((64, 1.5), (256, 1.4)):
        yield f"rank 1 tanh N={N} s=1", pattern_network(N, 1, "tanh", gain, 0.3 / N, 1.0)
        yield f"rank 1 tanh N={N} s=.7", pattern_network(N, 1, "tanh", gain - 0.2, 0.3 / N, 0.7)
        yield f"rank 2 tanh N={N} s=1", pattern_network(N, 2, "tanh", (gain, gain - 0.3), 0.3 / N, 1.0)
        yield (
            f"rank 2 tanh N={N} 4 basins",
            pattern_network(N, 2, "tanh", (gain + 0.15, gain + 0.1), 0.2 / N, 1.0, seed=1),
        )
        yield f"rank 1 softplus N={N}", pattern_network(N, 1, "softplus", SOFTPLUS[N], 0.1 / N, 1.0, drive=1.0)
        yield f"rank 2 softplus N={N}", pattern_network(N, 2, "softplus", (SOFTPLUS[N], -0.5), 0.1 / N, 1.0, drive=1.7)
    for random in (0.1, 0.3):
        yield f"rank 1 + {random} tanh N=64", pattern_network(64, 1, "tanh", 1.5, 0.3 / 64, 1.0, random=random)


SOFTPLUS = {64: 1.38, 256: 1.37}  #: gain of the pattern


def simulate(net, start, L, seconds, seed=0):
    """y (T, chains) along L (N,) every 10 steps, basin labels of the states every 100, and the mean state."""
    g = np.random.default_rng(seed)
    W, drive = net.W.astype(np.float32), net.drive().astype(np.float32)[:, None]
    f = np.tanh if net.activation.name == "tanh" else lambda x: np.logaddexp(np.float32(0), x)
    gamma, sigma = np.float32(net.gamma), np.float32(net.sigma)
    h = np.ascontiguousarray(start[g.integers(len(start), size=CHAINS)].T, np.float32)
    y, kept, means = [], [], []
    end = time.process_time() + seconds
    t = 0
    while time.process_time() < end:
        x = W @ h + drive + sigma * g.standard_normal(h.shape, dtype=np.float32)
        h += gamma * (f(x) - h)
        t += 1
        if t % 10 == 0 and t > 1000:
            y.append(L.astype(np.float32) @ h)
            means.append(h.mean(axis=1))
        if t % 100 == 0 and t > 1000:
            kept.append(h.T.astype(float))
    return np.array(y), np.array(kept), np.mean(means, axis=0), t


def distance(density, y):
    """Total variation over bins of equal weight, and what sampling error alone makes of it."""
    ends = np.concatenate([[density.grids[0][0]], density.grids[0] + density.weights[0] / 2])
    fine = np.linspace(ends[0], ends[-1], 4001)
    shape = np.exp(np.interp(fine, density.grids[0], np.log(np.maximum(density.values, 1e-300))))
    cdf = np.cumsum(shape) / shape.sum()
    edges = np.interp(np.linspace(0, 1, BINS + 1)[1:-1], cdf, fine)
    counts = np.array(
        [
            np.bincount(np.searchsorted(edges, part.ravel()), minlength=BINS) / part.size
            for part in np.array_split(y, 16, axis=1)
        ]
    )
    error = counts.std(axis=0, ddof=1) / 4
    return np.abs(counts.mean(axis=0) - 1 / BINS).sum() / 2, np.sqrt(2 / np.pi) * error.sum() / 2


def weights(net, kept, points, seconds=30):
    """Weight of each basin and its standard error over chains."""
    labels, end = [], time.process_time() + seconds
    for states in kept[np.random.default_rng(0).permutation(len(kept))]:
        labels.append(basin_of(net, np.zeros(0), states, points))
        if time.process_time() > end:
            break
    per = (np.array(labels)[..., None] == np.arange(len(points))).mean(axis=0)
    return per.mean(axis=0), per.std(axis=0, ddof=1) / np.sqrt(CHAINS)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    for name, net in cases():
        if options.only not in name:
            continue
        began = time.process_time()
        st = fpa.stationary(net, method="reduced")
        used = time.process_time() - began
        if not st.status.ok:
            print(f"{name:26} {st.status.name}: {st.reason}", flush=True)
            continue
        basins = st.basins or ()
        points = np.array([basin.fixed_point for basin in basins]) if basins else st.mean[None]
        print(f"{name:26} cpu {used:.1f} s  gap {st.gap:.1e}  nodes {st.details['nodes']}", end="  ", flush=True)
        if options.seconds:
            y, kept, mean, steps = simulate(net, points, st.details["L"][:, 0], options.seconds)
            tv, noise = distance(st.marginals["coordinate 0"], y)
            off = np.abs(mean - st.mean).max()
            print(
                f"steps {steps}  tv {tv:.4f} (noise {noise:.4f})  mean off {off:.1e} stated {st.error.max():.1e}",
                end=" ",
            )
            w, se = weights(net, kept, points, options.seconds / 2) if basins else ([], [])
            for basin, a, b in zip(basins, w, se, strict=True):
                ratio = f"{basin.weight / a:.3f}" if a > 0 else "-"
                print(f" | {basin.weight:.5f} mc {a:.5f} +- {b:.5f} ratio {ratio} (+- {b / max(a, 1e-9):.3f})", end="")
        else:
            print([f"{basin.weight:.5f} +- {basin.weight_error:.1e}" for basin in basins], end="")
        print(flush=True)


if __name__ == "__main__":
    main()
