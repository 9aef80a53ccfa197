"""Independent oracles: the exact stationary law of the discrete chain of one to three neurons.

Where f is inside the noise, or smooth, the backward operator (K g)(h) = E g(h') maps smooth functions to smooth ones:
it is collocated at Chebyshev nodes, and its left null vector gives the stationary expectations of polynomials. In
several dimensions the noise of each neuron is its own, so the kernel is a row-wise Kronecker product. Where the kink of
f meets the state (noise out, current form), the density of one neuron is smooth but for a kink: it is solved on
Gauss-Legendre panels that end there (Nystrom). Both are repeated on a finer grid.
"""

import numpy as np

BOUNDS = {"relu": (0, np.inf), "softplus": (0, np.inf), "sigmoid": (0, 1), "tanh": (-1, 1), "erf": (-1, 1)}


def exact_moments(net, n=60):
    """Mean and variance of the one-neuron network `net`, and how much the mean changes from a grid to a finer one."""
    mean, cov, uncertain, _ = exact_law(net, n)
    return mean[0], cov[0, 0], uncertain


def exact_law(net, n=None):
    """Mean, covariance, and the largest change of each from one grid to a finer one, of one to three neurons."""
    n = n or {1: 60, 2: 28, 3: 10}[net.N]
    inside = net.form == "rate" and net.placement == "in"
    solve = _collocation if inside or net.N > 1 else _nystrom
    box = _range(net)
    (m, C), (mean, cov) = solve(net, box, n, 0), solve(net, box, n + n // 4, 1)
    return mean, cov, np.abs(mean - m).max(), np.abs(cov - C).max()


def _range(net):
    """Where a run of the chain goes, (2, N), and its standard deviations."""
    rng = np.random.default_rng(0)
    h, runs, steps = np.zeros((400, net.N)), [], int(6 / np.min(net.gamma)) + 50
    for t in range(2 * steps):
        h = net.step(h, xi=rng.standard_normal(h.shape))
        if t >= steps and t % max(1, steps // 100) == 0:
            runs.append(h)
    x = np.concatenate(runs)
    return np.array([x.min(axis=0), x.max(axis=0)]), x.std(axis=0)


def _collocation(net, box, n, wider):
    (low, high), sd = box
    sd = sd + net.gamma * net.sigma / 2  # neurons that the run has not seen fire
    margin = (2 if net.N > 1 else 5) * sd * (1 + 0.1 * wider)
    low, high = low - margin, high + margin
    inside = net.form == "rate" and net.placement == "in"
    if inside and net.activation.name in BOUNDS:
        low, high = np.maximum(low, BOUNDS[net.activation.name][0]), np.minimum(high, BOUNDS[net.activation.name][1])
    x = np.cos(np.pi * (np.arange(n) + 0.5) / n)
    mid, half = (low + high) / 2, (high - low) / 2
    axes = np.meshgrid(*(mid[:, None] + half[:, None] * x), indexing="ij")
    grid = np.stack(axes, axis=-1).reshape(-1, net.N)
    to_values = np.linalg.inv(np.polynomial.chebyshev.chebvander(x, n - 1))
    K = np.ones((len(grid), 1))
    for d in range(net.N):
        after, weight = _step(net, grid, d, inside)
        angle = np.arccos(np.clip((after - mid[d]) / half[d], -1, 1))
        rows = np.stack([(weight * np.cos(k * angle)).sum(axis=0) for k in range(n)], axis=1) @ to_values
        K = (K[:, :, None] * rows[:, None, :]).reshape(len(grid), -1)
    A = K.T - np.eye(len(grid))
    A += np.abs(A).mean() / np.sqrt(len(grid))  # rank one: p = A^-1 1 is then the null vector of K^T - I
    p = np.linalg.solve(A, np.ones(len(grid)))
    p /= p.sum()
    mean = p @ grid
    return mean, (p[:, None] * (grid - mean)).T @ (grid - mean)


def _step(net, grid, d, inside):
    """States of neuron d after one step from each row of `grid`, and their weights, (nodes, len(grid)) each."""
    t, w = np.polynomial.legendre.leggauss(24)
    gamma, sigma = (np.broadcast_to(value, (net.N,))[d] for value in (net.gamma, net.sigma))
    cuts = np.repeat(np.array([-8.5, -4.5, -1.5, 1.5, 4.5, 8.5])[:, None], len(grid), axis=1)
    pre = net.W[d] @ grid.T + net.b[d]
    if inside:
        cuts = np.sort(np.vstack([cuts, np.clip(-pre / sigma, -8.5, 8.5)]), axis=0)
    width = np.diff(cuts, axis=0)[:, None]
    xi = (cuts[:-1, None] + width * (t[:, None] + 1) / 2).reshape(-1, len(grid))
    weight = (width * w[:, None] / 2).reshape(-1, len(grid)) * np.exp(-(xi**2) / 2)
    if inside:
        after = (1 - gamma) * grid[:, d] + gamma * net.activation.f(pre + sigma * xi)
    else:
        after = net.step(grid, xi=np.zeros_like(grid))[:, d] + gamma * sigma * xi
    return after, weight / weight.sum(axis=0)


def _nystrom(net, box, n, wider):
    (low,), (high,), (sd,) = *box[0], box[1]
    low, high = low - 5.5 * sd * (1 + 0.1 * wider), high + 5.5 * sd * (1 + 0.1 * wider)
    s = net.gamma * net.sigma
    cuts = np.linspace(low, high, int(np.ceil((high - low) / (4 * s))) + 3)
    kink = 0.0 if net.form == "current" else -net.b[0] / net.W[0, 0] if net.W[0, 0] else np.inf
    if low < kink < high:
        cuts = np.unique(np.append(cuts, kink))
    t, w = np.polynomial.legendre.leggauss(n // 5)
    width = np.diff(cuts)[:, None]
    h, weight = (cuts[:-1, None] + width * (t + 1) / 2).ravel(), (width * w / 2).ravel()
    centre = net.step(h[:, None], xi=np.zeros((len(h), 1)))[:, 0]
    K = np.exp(-(((h[:, None] - centre) / s) ** 2) / 2) / (s * np.sqrt(2 * np.pi)) * weight
    bordered = np.block([[K - np.eye(len(h)), np.ones((len(h), 1))], [weight[None], np.zeros((1, 1))]])
    p = np.linalg.solve(bordered, np.append(np.zeros(len(h)), 1.0))[:-1] * weight
    mean = p @ h
    return np.array([mean]), np.array([[p @ (h - mean) ** 2]])
