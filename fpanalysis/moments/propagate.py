"""Mean and covariance of the state along an input sequence, without sampling."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import of_shape
from fpanalysis.moments._mixture import Mixture, mixture
from fpanalysis.moments._neglected import Neglected, neglected
from fpanalysis.moments._slow import KURT, SKEW, Path, Slow, departure, slow_direction
from fpanalysis.moments._step import CUT, Law, Step
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status
from fpanalysis.stationary.closure import SMALL
from fpanalysis.system import System

Array = NDArray[np.float64]

SAFETY, SHARE = 3.0, 0.1  #: stated error over the second order, and over the first
LEAN, BENT = 0.02, 0.15  #: errors by the departure from a Gaussian, of the mean over the deviation, of the variance
CLOSED = 0.3  #: largest second order, relative to the variance (and to the deviation), that counts as closed


FAR = 1e6  #: times the drive, the start and the noise, beyond which a state has diverged


@dataclass(frozen=True, eq=False)
class Moments:
    """Law of state and output after each of T steps of B trials, averaged over the noise.

    Attributes
    ----------
    mean, variance : (T, B, N), of the state.
    output, output_variance : (T, B, n_out), of z.
    output_error, output_variance_error : (T, B, n_out), what these may be off by (95 %, over the steps of a trial).
    components : (B,), Gaussians that describe the trial at its end: one, or a mixture.
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
    components: NDArray[np.intp]
    status: tuple[Status, ...]

    @property
    def outputs(self) -> tuple[Array, Array, Array, Array]:
        """Mean and variance of the output, and their errors."""
        return self.output, self.output_variance, self.output_error, self.output_variance_error


def propagate(net: Network, inputs: ArrayLike, sigma: ArrayLike | None = None, h0: ArrayLike | None = None) -> Moments:
    """(m_t, C_t) of `net` driven by `inputs` (T, B, n_in) from the states `h0` (B, N), zero if left out.

    The closure equations of :mod:`fpanalysis.stationary.closure` as a recursion in time (`_step`), exact for linear f.
    Where an input is held over the second half of the trial, the output's moments are corrected by the response to
    the third cumulants at its end. The stated error is made of the second order, a share of the first, and a share of
    how far from a Gaussian the trial was on its way. Of a trial whose law is far from a Gaussian (it passes near an
    unstable point, or basins exchange) the output's moments are those of a mixture split along its slow direction
    (`_mixture`); where that fails too, the status is "not Gaussian".

    Raises
    ------
    InputError
        If an argument does not fit the network.
    """
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    inputs = check_inputs(net, inputs)
    level = np.broadcast_to(np.asarray(net.check_noise(net.sigma if sigma is None else sigma), float), (net.N,))
    B = inputs.shape[1]
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    with (
        threadpool_limits(1 if net.N <= SMALL else None, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        found, slow, skew, kurt = _by_closure(net, inputs, level, start)
        _widen(found, skew, kurt)
        for b in ((skew > SKEW) | (kurt > KURT)).nonzero()[0].tolist():
            if found.status[b] is Status.DIVERGED:
                continue
            found = _replaced(found, b, mixture(net, inputs[:, b], level, start[b], slow.of_trial(b)))
    return found


def _by_closure(net: Network, inputs: Array, level: Array, start: Array) -> tuple[Moments, Slow, Array, Array]:
    """The moments of one Gaussian for each trial, its slow direction, and the largest skewness and excess kurtosis
    along that, (B,) each."""
    T, B, _ = inputs.shape
    step = Step(net, level)
    law = step.start(start)
    mean, variance = np.empty((2, T, B, net.N))
    z, spread = np.empty((2, T, B, net.n_out))
    entered = np.empty((5, T, B, net.N))
    for t in range(T):
        drive = net.drive(inputs[t])
        x = step.inputs(law, drive)
        law = step.law(law, drive, x)
        entered[:, t] = x.s, x.G, x.V, x.c[..., 2], x.c[..., 3]
        mean[t], variance[t] = law.m, np.einsum("bii->bi", law.C)
        z[t], spread[t] = step.output(law)
    held = (inputs[T // 2 :] == inputs[-1]).all(axis=(0, 2))
    far = FAR * (1 + float(np.abs(net.drive(inputs)).max()) + float(np.abs(start).max()) + float(level.max()))
    found = _moments(law, held, neglected(net, law, x, level, T), (mean, variance, z, spread), far)
    path = Path(*entered)
    slow = slow_direction(net, path, level)
    skew, kurt = (np.abs(size).max(axis=0) for size in departure(net, path, slow))
    return found, slow, skew, kurt


def _widen(found: Moments, skew: Array, kurt: Array) -> None:
    """Add to the errors what a trial's largest skewness and excess kurtosis along its slow direction (B,) let expect:
    what is left out was largest then, which need not be at its end."""
    spread = found.output_variance
    found.output_error[:] += LEAN * skew[:, None] * np.sqrt(np.maximum(spread, 0.0))
    found.output_variance_error[:] += BENT * (skew**2 + kurt)[:, None] * spread
    for error in (found.output_error, found.output_variance_error):
        error[np.isnan(error)] = np.inf


def _replaced(found: Moments, b: int, mix: Mixture) -> Moments:
    """`found` with the output of trial b from the mixture, where that did not break down."""
    status = list(found.status)
    status[b] = Status.OK if np.isfinite(mix.variance_error).all() else Status.NOT_GAUSSIAN
    if status[b].ok:
        pairs = zip(found.outputs, (mix.mean, mix.variance, mix.mean_error, mix.variance_error), strict=True)
        for values, own in pairs:
            values[:, b] = own
        found.components[b] = mix.components
    return dataclasses.replace(found, status=tuple(status))


def check_inputs(net: System, inputs: ArrayLike) -> Array:
    """`inputs` as (T, B, n_in), T and B at least one."""
    inputs = of_shape("inputs", inputs, (None, None, net.n_in))
    if not inputs.shape[0] or not inputs.shape[1]:
        raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
    return inputs


def _moments(law: Law, held: Array, q: Neglected, path: tuple[Array, Array, Array, Array], far: float) -> Moments:
    """The result of the plain closure, corrected where the input was held, with errors and status."""
    mean, variance, z, spread = path
    last = np.maximum(spread[-1], 1e-300)
    ratio = q.variance / last
    closed = (q.variance_left <= CLOSED * last) & (q.mean_left <= CLOSED * np.sqrt(last)) & (np.abs(ratio) < CLOSED)
    finite = (np.abs(law.m) < far).all(axis=1) & (np.abs(law.C) < far**2).all(axis=(1, 2))
    codes = np.where(finite, np.where(closed.all(axis=1), 0, 1), 2).tolist()
    use = held[:, None] & closed
    built_up = np.minimum(spread / last, 1.0) ** 2  # cumulants arise after the variance that they come from
    z += np.where(use, q.mean * built_up, 0.0)
    spread *= 1 + np.where(use, ratio * built_up, 0.0)
    share = np.where(use, SHARE, SHARE + 1)  # what was not corrected is all in the error
    errors = SAFETY * q.mean_left + share * np.abs(q.mean), SAFETY * q.variance_left + share * np.abs(q.variance)
    return Moments(
        mean,
        variance,
        z,
        spread,
        np.broadcast_to(errors[0], z.shape).copy(),
        errors[1] + CUT * spread,
        law.C,
        np.ones(len(held), np.intp),
        tuple((Status.OK, Status.NOT_GAUSSIAN, Status.DIVERGED)[code] for code in codes),
    )
