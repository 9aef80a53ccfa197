"""Exponents over finite trials: how much a small difference can have grown at the end of each.

    lambda_T = 1/T log |J(h_{T-1}, xi_{T-1}) ... J(h_0, xi_0)|_2

along the trajectory of a trial of T steps, with the Jacobian of the noisy step: the largest growth of any difference of
starts under the same inputs and noise. For stationary inputs lambda_T tends to the top Lyapunov exponent as T grows;
where trials are short, or the network has no stationary law (an integrator, a classifier that is read once), lambda_T
is what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_rng, of_shape
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

AT_ONCE = 1 << 22  #: numbers of the tangent vectors that are held at once
FAR = 1e100  #: a state beyond it has diverged


@dataclass(frozen=True, eq=False)
class TrialExponents:
    """`exponents` (B,) of each trial, per step; -inf where its last steps destroy every difference, NaN where the state
    diverged. `top` is their mean and `error` its 95 % half-width over trials, `end` the states (B, N) at the end."""

    exponents: Array
    top: float
    error: float
    end: Array
    status: Status
    provenance: Provenance

    @property
    def noise(self) -> float:
        """The largest coefficient of the noise, additive or on the increment."""
        return max(float(self.provenance.settings[name]) for name in ("sigma", "multiplicative"))

    @property
    def ok(self) -> bool:
        return self.status.ok


def trial_exponents(
    net: System,
    inputs: ArrayLike,
    sigma: ArrayLike | None = None,
    *,
    multiplicative: float | None = None,
    h0: ArrayLike | None = None,
    rng: int | np.random.Generator = 0,
) -> TrialExponents:
    """The growth of small differences over each of B trials.

    Parameters
    ----------
    inputs : (T, B, n_in), as ``Task.batch`` gives them.
    sigma : noise level, one number or (N,); None: `net.sigma`; 0: without noise.
    multiplicative : noise on the increment, as of `lyapunov`. None: that of the network, none where `sigma` is 0.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.

    Raises
    ------
    InputError
        If an argument does not fit the network.
    """
    inputs = of_shape("inputs", inputs, (None, None, net.n_in))
    T, B, _ = inputs.shape
    if not T or not B:
        raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    level = np.asarray(net.sigma if sigma is None else net.check_noise(sigma), float)
    own = net.multiplicative if sigma is None or level.any() else 0.0
    mu = own if multiplicative is None else float(of_shape("multiplicative", multiplicative, ()))
    if mu < 0:
        raise InputError(f"multiplicative must be >= 0; found {mu:g}")
    generator = check_rng(rng)
    together = max(1, AT_ONCE // net.N**2)
    parts = [
        _grown(net, inputs[:, k : k + together], level, mu, start[k : k + together], generator)
        for k in range(0, B, together)
    ]
    logs, end = (np.concatenate(part) for part in zip(*parts, strict=True))
    exponents = logs / T
    top = float(exponents.mean())
    spread = float(exponents.std(ddof=1)) if B > 1 and np.isfinite(top) else float("nan")
    settings = {"T": T, "B": B, "sigma": float(level.max()), "multiplicative": mu}
    return TrialExponents(
        exponents=exponents,
        top=top,
        error=_quantile(B) * spread / np.sqrt(B),
        end=end,
        status=Status.DIVERGED if np.isnan(exponents).any() else Status.OK,
        provenance=Provenance("finite time", net.hash, settings, rng if isinstance(rng, int) else None),
    )


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _grown(
    net: System, inputs: Array, sigma: Array, mu: float, h: Array, rng: np.random.Generator
) -> tuple[Array, Array]:
    """log of the largest singular value of the product, (b,), and the states at the end, (b, N)."""
    V = np.broadcast_to(np.eye(net.N), (len(h), net.N, net.N)).copy()
    logs = np.zeros(len(h))
    joint = isinstance(net, LipschitzRNN) and net.noise == "joint"
    for u in inputs:
        xi = rng.standard_normal(h.shape) if sigma.any() or (mu and joint) else np.zeros_like(h)
        factor: float | Array = 1.0
        if mu:
            factor = 1 + mu * (xi if joint else rng.standard_normal(h.shape))
        h, V = net.tangent_step(h, u, sigma * xi, V, factor)
        size = np.abs(V).max(axis=(1, 2))
        scale = np.where(size > 0, size, 1.0)
        V /= scale[:, None, None]  # out of the way of overflow
        logs += np.where(size > 0, np.log(scale), -np.inf)
    lost = ~((np.abs(h) < FAR).all(axis=1) & np.isfinite(V).all(axis=(1, 2)) & ~np.isnan(logs))
    V[lost] = 0
    logs += np.log(np.linalg.norm(V, 2, axis=(1, 2)))
    return np.where(lost, np.nan, logs), h


def _quantile(B: int) -> float:
    from scipy.stats import t

    return float(t.ppf(0.975, B - 1)) if B > 1 else float("nan")
