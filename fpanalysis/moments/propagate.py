"""Mean and covariance of the state along an input sequence, without sampling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_sigma, of_shape
from fpanalysis.moments._neglected import Neglected, neglected
from fpanalysis.moments._step import CUT, Law, Step
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status

Array = NDArray[np.float64]

SAFETY, SHARE = 3.0, 0.1  #: stated error over the second order, and over the first
CLOSED = 0.3  #: largest second order, relative to the variance (and to the deviation), that counts as closed


@dataclass(frozen=True, eq=False)
class Moments:
    """Law of state and output after each of T steps of B trials, averaged over the noise.

    Attributes
    ----------
    mean, variance : (T, B, N), of the state.
    output, output_variance : (T, B, n_out), of z.
    output_error, output_variance_error : (B, n_out), what the closure may be off by (95 %).
    cov : (B, N, N), covariance of the state after the last step.
    status : one per trial.
    """

    mean: Array
    variance: Array
    output: Array
    output_variance: Array
    output_error: Array
    output_variance_error: Array
    cov: Array
    status: tuple[Status, ...]


def propagate(net: Network, inputs: ArrayLike, sigma: ArrayLike | None = None, h0: ArrayLike | None = None) -> Moments:
    """(m_t, C_t) of `net` driven by `inputs` (T, B, n_in) from the states `h0` (B, N), zero if left out.

    The closure equations of :mod:`fpanalysis.stationary.closure` as a recursion in time (`_step`), exact for linear f.
    Where an input is held over the second half of the trial, the output's moments are corrected by the response to
    the third cumulants at its end; the second order, with a share of the first, is the stated error. A trial whose
    law is far from a Gaussian (it passes near an unstable point, or basins exchange) has status "not Gaussian".

    Raises
    ------
    InputError
        If an argument does not fit the network.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    inputs, h0 = check_inputs(net, inputs), None if h0 is None else np.asarray(h0, float)
    level = np.broadcast_to(np.asarray(check_sigma(net.sigma if sigma is None else sigma, net.N), float), (net.N,))
    T, B, _ = inputs.shape
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    step, law = Step(net, level), Law(start, np.zeros((B, net.N, net.N)))
    mean, variance = np.empty((2, T, B, net.N))
    z, spread = np.empty((2, T, B, net.n_out))
    with np.errstate(over="ignore", invalid="ignore"):
        for t in range(T):
            drive = net.drive(inputs[t])
            x = step.inputs(law, drive)
            law = step.law(law, drive, x)
            mean[t], variance[t] = law.m, np.einsum("bii->bi", law.C)
            z[t], spread[t] = step.output(law)
    held = (inputs[T // 2 :] == inputs[-1]).all(axis=(0, 2))
    return _moments(net, law, held, neglected(net, law, x, level, T), (mean, variance, z, spread))


def check_inputs(net: Network, inputs: ArrayLike) -> Array:
    """`inputs` as (T, B, n_in), T and B at least one."""
    inputs = of_shape("inputs", inputs, (None, None, net.n_in))
    if not inputs.shape[0] or not inputs.shape[1]:
        raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
    return inputs


def _moments(net: Network, law: Law, held: Array, q: Neglected, path: tuple[Array, Array, Array, Array]) -> Moments:
    """The result, corrected where the input was held, with errors and status."""
    mean, variance, z, spread = path
    last = np.maximum(spread[-1], 1e-300)
    ratio = q.variance / last
    mean_error = SAFETY * q.mean_left + SHARE * np.abs(q.mean)
    error = SAFETY * q.variance_left + SHARE * np.abs(q.variance) + CUT * spread[-1]
    closed = (q.variance_left <= CLOSED * last) & (q.mean_left <= CLOSED * np.sqrt(last)) & (np.abs(ratio) < CLOSED)
    finite = np.isfinite(law.m).all(axis=1) & np.isfinite(law.C).all(axis=(1, 2))
    codes = np.where(finite, np.where(closed.all(axis=1), 0, 1), 2).tolist()
    status = tuple((Status.OK, Status.NOT_GAUSSIAN, Status.DIVERGED)[code] for code in codes)
    use = held[:, None] & closed
    z += np.where(use, q.mean, 0.0)
    spread *= 1 + np.where(use, ratio, 0.0)
    own = np.where(use, 0.0, 1.0)
    return Moments(
        mean,
        variance,
        z,
        spread,
        mean_error + own * np.abs(q.mean),
        error + own * np.abs(q.variance),
        law.C,
        status,
    )
