"""Lyapunov exponents of the driven, noisy step: how fast two trajectories under the same noise part or meet."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng, of_shape, real_array
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stability._flow import Flow
from fpanalysis.stationary.closure import SMALL
from fpanalysis.system import System

Array = NDArray[np.float64]

TIME = 200  #: time constants that a chain is followed for, unless told
STEPS = (1000, 20_000)  #: its least and most steps
BLOCKS = 8  #: of every chain, an even number: each gives one estimate
BY_CHANCE = 1e-4  #: probability that independent chains, or the two halves of a run, are found to differ
GROWING = 100.0, 3.0  #: by which one chain, or half of them, grow over the blocks as they diverge; random walks, 1.8
ROUNDING = 1e-14  #: of a mean of logarithms, relative to 1 + its size
ALIGNING = 4.0  #: e-folds over a run by which chains, and halves of it, may differ while their tangents align


@dataclass(frozen=True, eq=False)
class Lyapunov:
    """Exponents per step, largest first; errors are 95 % half-widths from the means over blocks and chains."""

    exponents: Array  #: (k,), per step; -inf: a direction that the step destroys
    error: Array  #: (k,)
    per_time: Array  #: (k,), exponents / gamma: per time constant; NaN where gamma differs between neurons
    chains: Array  #: (chains, k), the exponents of each chain
    total: float  #: sum of the k exponents; with k = N, mean log |det J|
    total_error: float
    sigma: float | Array
    multiplicative: float
    status: Status
    provenance: Provenance

    @property
    def top(self) -> float:
        """The largest exponent: negative if nearby trajectories under the same noise meet."""
        return float(self.exponents[0])

    @property
    def top_error(self) -> float:
        return float(self.error[0])

    @property
    def noise(self) -> float:
        """The largest coefficient of the noise, additive or on the increment."""
        return max(float(np.max(self.sigma)), self.multiplicative)

    @property
    def ok(self) -> bool:
        return self.status.ok

    @property
    def kaplan_yorke(self) -> float:
        """Kaplan-Yorke dimension j + (l_1 + ... + l_j) / |l_{j+1}|, j the most exponents with a sum >= 0; NaN where
        those computed do not tell it."""
        sums = np.cumsum(self.exponents)
        if not np.isfinite(self.exponents[0]):
            return float("nan")
        j = int(np.sum(np.cumprod(sums >= 0)))
        if j == len(sums):
            return float(j) if len(sums) == self.provenance.settings["N"] else float("nan")
        return j + (float(sums[j - 1]) / -float(self.exponents[j]) if j else 0.0)


def lyapunov(
    net: System,
    inputs: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    k: int | None = None,
    steps: int | None = None,
    *,
    multiplicative: float | None = None,
    start: ArrayLike | None = None,
    chains: int = 8,
    transient: int | None = None,
    rng: int | np.random.Generator = 0,
) -> Lyapunov:
    """The k largest Lyapunov exponents of the noisy step, by the QR method on `chains` trajectories.

        lambda_i = lim 1/t log |R_ii(t)|,     J(h_t, xi_t) ... J(h_1, xi_1) V = Q R

    The Jacobian is that of the step *with* its noise: noise inside the activation changes it, and two trajectories see
    the same noise. With `multiplicative` = mu the increment F - h is times 1 + mu zeta, the noise coefficient sigma_2
    diag(f) of Lim et al. (NeurIPS 2021) with mu = sigma_2 eps / sqrt(delta).

    Parameters
    ----------
    inputs : one input (n_in,) that is held, or a sequence (T, n_in) that is repeated; None: zero input.
    sigma : noise level, one number or (N,); None: `net.sigma`; 0: the noise-free map.
    multiplicative : mu; None: that of the network, which only a `LipschitzRNN` has, or 0 if `sigma` is 0.
    k : how many exponents, from the top; None: all N, at O(N^3) a step. The top one alone costs O(N^2).
    steps : of every chain, after the `transient` (None: 200 time constants, and a quarter of that).
    start : one state (N,) or one per chain (chains, N); None: drawn from N(0, I).

    Returns
    -------
    Lyapunov
        Its status says if trajectories diverge (no exponents then), chains do not agree (several attractors: `chains`
        has the exponents of each, choose one by `start`), the run is too short, or a state rests on a kink.

    Raises
    ------
    InputError
        On inputs, noise levels, start, k, steps, chains or transient that do not fit.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network, or another system; found {type(net).__name__}")
    u = _sequence(net, inputs)
    noisy = _with_noise(net, sigma)
    k = net.N if k is None else _whole("k", k, 1, net.N)
    own = net.multiplicative if sigma is None or np.any(noisy.sigma) else 0.0
    mu = _level(own if multiplicative is None else multiplicative)
    chains = _whole("chains", chains, 2)
    gamma = np.unique(net.gamma)
    steps = _default_steps(float(gamma.min())) if steps is None else _whole("steps", steps, BLOCKS)
    transient = ceil(steps / 4) if transient is None else _whole("transient", transient, 0)
    block = ceil(ceil(steps / BLOCKS) / len(u)) * len(u)  # whole repetitions of the inputs
    generator = check_rng(rng)
    flow = Flow(noisy, u, _starts(net, start, chains, generator), k, net.check_noise(mu), generator)
    with threadpool_limits(1 if net.N <= SMALL else None, user_api="blas"):
        flow.grow(ceil(transient / len(u)) * len(u))
        grown = [(flow.grow(block) / block, np.abs(flow.h).max(axis=1)) for _ in range(BLOCKS)]
    sums, sizes = (np.array(part) for part in zip(*grown, strict=True))  # (BLOCKS, chains, k) and (BLOCKS, chains)
    status = Status.DIVERGED if flow.diverged else _status(sums, BLOCKS * block)
    if _on_kink(noisy, flow, u):
        status = Status.AT_KINK
    if flow.diverged or _growing(sizes):
        status, sums = Status.DIVERGED, np.full(sums.shape, np.nan)
    exponents, error = _mean(sums)
    order = np.argsort(-exponents, kind="stable")
    exponents, error = exponents[order], _with_pairs(exponents[order], error[order], BLOCKS * block)
    total, total_error = _mean(sums.sum(axis=2, keepdims=True))
    settings = {"N": net.N, "k": k, "steps": BLOCKS * block, "transient": transient, "chains": chains}
    return Lyapunov(
        exponents=exponents,
        error=error,
        per_time=exponents / (gamma[0] if len(gamma) == 1 else np.nan),
        chains=sums.mean(axis=0)[:, order],
        total=float(total[0]),
        total_error=float(total_error[0]),
        sigma=noisy.sigma,
        multiplicative=mu,
        status=status,
        provenance=Provenance("QR", net.hash, settings, rng if isinstance(rng, int) else None),
    )


@np.errstate(invalid="ignore")
def _mean(sums: Array) -> tuple[Array, Array]:
    """Mean of (BLOCKS, chains, k) over blocks and chains, and its 95 % half-width: the largest that all blocks, the
    means of the chains (correlation between blocks) and those of the blocks (phases that the chains share) give. The
    end of a transient shows in none of them but in the difference of the two halves, which is added in quadrature."""
    from scipy.stats import t as student

    mean = sums.mean(axis=(0, 1))
    samples = sums.reshape(-1, sums.shape[2]), sums.mean(axis=0), sums.mean(axis=1)
    half = [x.std(axis=0, ddof=1) / sqrt(len(x)) * student.ppf(0.975, len(x) - 1) for x in samples]
    error = np.hypot(np.max(half, axis=0), _drift(sums)[0]) + ROUNDING * (1 + np.abs(mean))
    return mean, np.where(np.isneginf(mean), 0.0, error)


def _with_pairs(exponents: Array, error: Array, steps: int) -> Array:
    """Neighbours closer than an e-fold over the run, such as a pair that rotates, share it in ways that neither the
    chains nor the blocks need show: an e-fold more in quadrature, less the further they are apart."""
    finite = exponents[np.isfinite(exponents)]
    shared = np.exp(np.diff(finite) * steps) / steps  # diff <= 0
    own = np.maximum(np.append(shared, 0.0), np.append(0.0, shared)) if len(finite) else shared
    wider = error.copy()
    wider[: len(finite)] = np.hypot(error[: len(finite)], own)
    return wider


def _drift(sums: Array) -> tuple[Array, Array]:
    """|difference| of the two halves of the run, (k,), and what it exceeds by chance with probability BY_CHANCE: a t
    test over the chains, so that a drift that all share is seen."""
    from scipy.stats import t as student

    blocks, chains, k = sums.shape
    apart = np.diff(sums.reshape(2, blocks // 2, chains, k).mean(axis=1), axis=0)[0]
    factor = student.isf(BY_CHANCE / max(k, 1) / 2, chains - 1)
    return np.abs(apart.mean(axis=0)), factor * apart.std(axis=0, ddof=1) / sqrt(chains)


def _status(sums: Array, steps: int) -> Status:
    """Whether the chains agree, by an analysis of variance, and the two halves of the run, by a t test."""
    from scipy.stats import f as fisher

    gone = np.isneginf(sums)
    if (gone.any(axis=(0, 1)) & ~gone.all(axis=(0, 1))).any():
        return Status.POORLY_MIXED  # a direction that some chains destroy and others do not
    sums = sums[..., ~gone.any(axis=(0, 1))]
    blocks, chains, k = sums.shape
    within = sums.var(axis=0, ddof=1).mean(axis=0)
    between = blocks * sums.mean(axis=0).var(axis=0, ddof=1)
    limit = fisher.isf(BY_CHANCE / max(k, 1), chains - 1, chains * (blocks - 1))
    if (between > np.maximum(limit * within, blocks * (ALIGNING / steps) ** 2)).any():
        return Status.POORLY_MIXED
    drift, chance = _drift(sums)
    return Status.UNDECIDED if (drift > np.maximum(chance, ALIGNING / steps)).any() else Status.OK


def _growing(sizes: Array) -> bool:
    """Whether max|h| (BLOCKS, chains) after each block grows all the time, in one chain far, or in half of them more
    than random walks would: they diverge, however slowly, and what their tangents do is no chaos."""
    all_the_time = (np.diff(sizes, axis=0) > 0).all(axis=0)
    some, many = (all_the_time & (sizes[-1] > ratio * sizes[0]) for ratio in GROWING)
    return bool(some.any() or many.mean() >= 0.5)


def _on_kink(net: System, flow: Flow, u: Array) -> bool:
    """Whether a noise-free chain ends on a kink at a held input: there the Jacobian has several sides."""
    if net.smooth or flow.noisy or flow.stretched or len(u) > 1:
        return False
    return bool(kinked(net, flow.h, u[0]).any())


def _sequence(net: System, inputs: ArrayLike | None) -> Array:
    u = net.check_input(inputs)
    u = u[None] if u.ndim == 1 else u
    if u.ndim != 2 or not len(u):
        raise InputError(f"inputs must be one input ({net.n_in},) or a sequence (T, {net.n_in}); found shape {u.shape}")
    return u


def _with_noise(net: System, sigma: ArrayLike | None) -> System:
    if sigma is None:
        return net
    if isinstance(net, Network):
        return net.with_sigma(sigma)
    import dataclasses

    return dataclasses.replace(net, sigma=net.check_noise(sigma))  # type: ignore[type-var]


def _starts(net: System, start: ArrayLike | None, chains: int, rng: np.random.Generator) -> Array:
    if start is None:
        return rng.standard_normal((chains, net.N))
    h = real_array("start", start)
    if h.shape not in ((net.N,), (chains, net.N)):
        raise InputError(f"start must be one state ({net.N},) or one per chain ({chains}, {net.N}); found {h.shape}")
    return np.broadcast_to(h, (chains, net.N))


def _default_steps(gamma: float) -> int:
    return int(np.clip(ceil(TIME / gamma), *STEPS))


def _level(multiplicative: float) -> float:
    mu = float(of_shape("multiplicative", multiplicative, ()))
    if mu < 0:
        raise InputError(f"multiplicative must be >= 0: it is a standard deviation; found {mu:g}")
    return mu


def _whole(name: str, value: int, least: int, most: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InputError(f"{name} must be a whole number >= {least}; found {value!r}")
    if most is not None and value > most:
        raise InputError(f"{name} must be at most {most}, the number of neurons; found {value}")
    return int(value)
