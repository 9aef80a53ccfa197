"""How far the diffusion approximation is from the exact chain, estimated to leading order in gamma.

With K = Gamma (I - F'), F' = diag(G) W (rate form) or W diag(G) (current form), both at the law's own mean and
covariance C, the diffusion has K C + C K^T = Q and the chain K C + C K^T - K C K^T = Q for the same noise Q, so that
the chain's covariance is larger by

    D = J D J^T + K C K^T,     J = I - K,

and its mean is moved through the curvature of M by D, and through M''' by the third cumulant of the step's noise,
which the diffusion has not:

    |delta m| <= |(I - F')^-1| (1/2 |M''| diag(W D W^T) + 1/6 |M'''| |W|^3 gamma^3 |kappa_3| / (1 - J_ii^3))

with the change of M itself instead of 1/2 M'' diag(..) where that is larger, as in the tail of a kink.
"""

from __future__ import annotations

import numpy as np

from fpanalysis.stationary._diffusion import Diffusion
from fpanalysis.stationary._lyapunov import Unstable, stationary_covariance
from fpanalysis.stationary._result import Array, Basin, input_variance

MISWEIGHED = 0.22  #: the chain's weight of a small basin is below w^0.22, w the diffusion's, noise in
MISWEIGHED_OUT = 0.15  #: and within w^(1 + 0.15 gamma), noise out or on the current


def law_error(diffusion: Diffusion, mean: Array, C: Array, basins: tuple[Basin, ...] | None) -> tuple[Array, Array]:
    """`approximation_error`; of a law with several basins, that within each by its weight, and what wrong weights of
    the smaller ones move.

    The exponent of a weight is off by a part: a calibration, over some 100 laws of one bistable neuron (tanh and
    sigmoid, gamma 0.05 to 1), whose exponents by the chain were 0.24 to 1.17 times those by the diffusion with noise
    in, and 1.00 to 1.00 + 0.08 gamma times with noise out.
    """
    if not np.isfinite(mean).all():
        return mean, C
    whole, more = approximation_error(diffusion, mean, C)
    if basins is None:
        return whole, more
    heavy = [basin for basin in basins if basin.weight > 0]
    main = max(heavy, key=lambda basin: basin.weight)
    missed = np.zeros(len(mean))
    for basin in heavy:
        w = basin.weight
        inside = approximation_error(diffusion, basin.mean, basin.cov)[0]
        missed += w * np.where(np.isfinite(inside), inside, whole)
        wrong = MISWEIGHED_OUT * float(diffusion.gamma.max()) * -np.log(w) * w
        if diffusion.noise_in:
            wrong = max(min(w**MISWEIGHED, 0.5) - w, 0.2 * w)
        missed += wrong / 2 * np.abs(basin.mean - main.mean)  # halved: the safety factor is in the exponents
    return missed, more


def approximation_error(diffusion: Diffusion, mean: Array, C: Array) -> tuple[Array, Array]:
    """Estimated |chain - diffusion| of the mean (N,) and what the chain's covariance has more (N, N); infinite
    where the chain, linearised about the law, is unstable."""
    problem, net = diffusion.problem, diffusion.problem.network
    a, s = net.preactivation(mean, problem.u), np.sqrt(np.maximum(input_variance(problem, C), 1e-90))
    c = net.activation.hermite(a, s, 3)
    G, curvature, third = c[:, 1] / s, np.sqrt(2) * c[:, 2] / s**2, np.sqrt(6) * c[:, 3] / s**3
    F = G[:, None] * net.W if net.form == "rate" else net.W * G
    K = diffusion.gamma[:, None] * (np.eye(net.N) - F)
    J = np.eye(net.N) - K
    try:
        D = stationary_covariance(J, K @ C @ K.T)
    except Unstable:
        return np.full(net.N, np.inf), np.full(C.shape, np.inf)
    skew = np.zeros(net.N)
    if diffusion.noise_in:
        n = net.activation.hermite(a, diffusion.sigma, 2)
        kappa = 3 * np.sqrt(2) * n[:, 1] ** 2 * n[:, 2] + 2 * np.sqrt(2) * n[:, 2] ** 3
        skew = diffusion.gamma**3 * np.abs(kappa) / np.maximum(1 - np.diag(J) ** 3, 1e-12)
    W = net.W if net.form == "rate" else np.eye(net.N)
    widening = np.maximum(np.einsum("ij,ij->i", W @ D, W), 0.0)
    wider = np.abs(net.activation.beta(a, np.sqrt(s**2 + widening)) - net.activation.beta(a, s))
    gap = np.maximum(wider, np.abs(curvature) * widening / 2) + np.abs(third) * (np.abs(W) ** 3 @ skew) / 6
    return np.abs(np.linalg.inv(np.eye(net.N) - F)) @ (gap if net.form == "rate" else np.abs(net.W) @ gap), D
