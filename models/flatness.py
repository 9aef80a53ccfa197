"""How flat the loss of a trained network is in its weights: trace, ends of the spectrum and size of its Hessian.

    l(theta + unit x) = l + g . x + x^T H x / 2 + ...,        E l - l = s^2 / 2 tr H  for  x ~ N(0, s^2 I)

The Hessian of a network of P weights is known by its products with vectors (`_landscape`, where `unit` is defined);
trace, spectrum and norm come from a Krylov basis and random probes orthogonal to it (`_krylov`), each with its error.

How large H is depends on how weights are scaled, which is arbitrary: with ReLU, neuron i's incoming weights may be
multiplied by any factor and its outgoing ones divided by it. In the scale "weight", where every weight is measured by
its own size, x^T H x = sum_ij x_i theta_i (d^2 l / d theta_i d theta_j) theta_j x_j, nothing changes with such factors.

With kinks in the activation H is that of the smooth pieces and lacks what the loss gains where a change of weights
moves neurons across their kinks, unless noise inside the activation smooths them (`_landscape`); the status says so.
:func:`fpanalysis.models.noise_stability` shows the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.tasks import Feedback

from ._krylov import Basis, basis, half_width, remaining, two_way
from ._landscape import Landscape, Parameters
from .trainer import torch_threads

Array = NDArray[np.float64]

SETTLED = 1e-2  #: residual of an eigenvalue, as a share of the largest, up to which it is resolved


@dataclass(frozen=True, eq=False)
class Flatness:
    """Of the Hessian H (P, P) of the loss in the weights, in the units of `scale`; errors are half-widths at 95 %,
    over noise and probes, for the trials given.

    Attributes
    ----------
    loss, loss_error : l, and its error over the noise, zero without noise.
    gradient_norm : |g|.
    gain : share of the loss that the best step down the gradient saves, |g|^4 / (2 l g^T H g) to second order; at a
        minimum next to none. NaN where the loss bends down along g.
    trace, trace_error : tr H.
    relative_trace, relative_trace_error : sum_i theta_i^2 d^2 l / d theta_i^2, what tr H is in the scale "weight".
    by_group, by_group_error : of each group of weights the trace of its block; they sum to tr H.
    eigenvalues : (k,), the largest, descending.
    residual : (k,), |H v - lambda v|: within that distance of each lies an eigenvalue of H.
    eigenvalue_error : (k,), over the noise, to first order; zero without noise.
    lowest, lowest_residual : the smallest eigenvalue, and its residual; well below zero at a saddle.
    frobenius, frobenius_error : |H|_F, and its error over the probes.
    sizes, rms : of each group the number of weights and their root mean square.
    """

    loss: float
    loss_error: float
    gradient_norm: float
    gain: float
    trace: float
    trace_error: float
    relative_trace: float
    relative_trace_error: float
    by_group: Mapping[str, float]
    by_group_error: Mapping[str, float]
    eigenvalues: Array
    residual: Array
    eigenvalue_error: Array
    lowest: float
    lowest_residual: float
    frobenius: float
    frobenius_error: float
    sizes: Mapping[str, int]
    rms: Mapping[str, float]
    status: Status
    provenance: Provenance

    @property
    def scale(self) -> str:
        return str(self.provenance.settings["scale"])

    @property
    def P(self) -> int:
        """Number of weights."""
        return sum(self.sizes.values())

    @property
    def effective_rank(self) -> float:
        """(tr H)^2 / |H|_F^2: how many eigenvalues carry the trace, if they are of one size and the others zero."""
        return self.trace**2 / self.frobenius**2 if self.frobenius > 0 else float("nan")


def flatness(
    net: Network | LipschitzRNN,
    batch: Sequence[ArrayLike],
    *,
    scale: str = "absolute",
    loss: str | None = None,
    sigma: float = 0.0,
    smoothed: float | None = None,
    runs: int = 8,
    parameters: Parameters | None = None,
    feedback: Feedback | None = None,
    h0: ArrayLike | None = None,
    eigenvalues: int = 5,
    steps: int = 96,
    probes: int = 32,
    rng: int | np.random.Generator = 0,
) -> Flatness:
    """Curvature of the loss of `net` on `batch` in its weights.

    Parameters
    ----------
    batch : (inputs, targets, mask)
        As ``Task.batch`` gives it, mask (T, B) or (T, B, n_out); the loss is the mean over what the mask counts.
    scale : "absolute" | "group" | "weight"
        What a change of a weight is measured in: one, the root mean square of its group, or the weight itself.
    loss : "squared error" | "cross-entropy", optional
        None: that of the task that `net` remembers, else the squared error.
    sigma : float
        Noise at which the loss is expected, in the profile of the training noise; 0: the loss without noise. A network
        trained with noise is at a minimum of the first, at its training noise. Of a Lipschitz RNN with noise on the
        increment too, the largest coefficient of both, which keep their proportion.
    smoothed : float, optional
        tau, what f is smoothed by. None: where f has kinks and the noise enters it, a quarter of the noise is averaged
        over within f (its share of the variance, 6 %, is lost there); else 0. With noise elsewhere, or without noise,
        the result is that of the network with f_tau in place of f.
    runs : int
        Runs of the batch that the expectation is taken over, each with noise of its own, the same for all weights.
    parameters : names, or masks by name, optional
        The weights that are varied: W, b, W_in, W_out, b_out (A too of a Lipschitz RNN), whole or where a mask is not
        zero. None: what the remembered task trains, of existing connections; without a task all.
    feedback : Feedback, optional
        The closed loop in which positions are compared with the targets; None: that of the remembered task, if any.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.
    eigenvalues : int
        How many of the largest.
    steps, probes : int
        Products with H for the Krylov basis, and for the rest of the trace. Up to 512 weights all columns of H are
        taken instead, and only the noise leaves an error.

    Raises
    ------
    InputError
        If an argument does not fit the network.
    """
    check_counts(eigenvalues=eigenvalues, steps=steps, probes=probes)
    generator = check_rng(rng)
    given: dict[str, Any] = {"scale": scale, "loss": loss, "sigma": sigma, "smoothed": smoothed, "runs": runs}
    given |= {"parameters": parameters, "feedback": feedback, "h0": h0}
    land = Landscape(net, batch, rng=generator, **given)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    settings = land.settings | {"steps_of_lanczos": steps, "probes": probes}
    provenance = Provenance("Lanczos and probes", net.hash, settings, seed)
    with torch_threads(1), threadpool_limits(1, user_api="blas"):
        losses, gradients = land.differentiate()
        if not (np.isfinite(losses).all() and np.isfinite(gradients).all()):
            return _unknown(land, eigenvalues, provenance)
        found = basis(land.product, land.P, land.R, max(steps, eigenvalues + 1), generator)
        traces, errors, frobenius, frobenius_error = _traces(land, found, probes, generator)
        top, residual, noise, lowest, lowest_residual = _ends(land, found, min(eigenvalues, land.P))
        gain = _gain(land, float(losses.mean()), gradients.mean(axis=0))
    size = max(abs(lowest), float(np.abs(top).max()))
    resolved = max(lowest_residual, float(residual.max())) <= SETTLED * size
    return Flatness(
        loss=float(losses.mean()),
        loss_error=float(half_width(losses)),
        gradient_norm=float(np.linalg.norm(gradients.mean(axis=0))),
        gain=gain,
        trace=traces[0],
        trace_error=errors[0],
        relative_trace=traces[1],
        relative_trace_error=errors[1],
        by_group=dict(zip(land.groups, traces[2:], strict=True)),
        by_group_error=dict(zip(land.groups, errors[2:], strict=True)),
        eigenvalues=top,
        residual=residual,
        eigenvalue_error=noise,
        lowest=lowest,
        lowest_residual=lowest_residual,
        frobenius=frobenius,
        frobenius_error=frobenius_error,
        **_described(land),
        status=_status(land, resolved),
        provenance=provenance,
    )


def _traces(
    land: Landscape, found: Basis, probes: int, rng: np.random.Generator
) -> tuple[list[float], list[float], float, float]:
    """tr H, the relative trace and that of every group's block, their errors, |H|_F and its error."""
    D = np.zeros((2 + len(land.groups), land.P))
    D[0] = 1
    D[1] = (land.theta / np.where(land.unit > 0, land.unit, 1)) ** 2
    for row, part in zip(D[2:], land.groups.values(), strict=True):
        row[part] = 1
    rest, squares = remaining(land.product, found, D, probes, rng)
    known = (found.known @ D.T)[None]
    value, error = two_way(known + rest if len(rest) else known)
    square = found.square + (float(squares.mean()) if len(squares) else 0.0)
    norm = float(np.sqrt(max(square, 0.0)))
    spread = float(half_width(squares)) if len(squares) else 0.0
    return value.tolist(), error.tolist(), norm, spread / (2 * norm) if norm else 0.0


def _ends(land: Landscape, found: Basis, k: int) -> tuple[Array, Array, Array, float, float]:
    """The k largest Ritz values with residuals and errors over the noise, and the lowest with its residual."""
    values, vectors, residual = found.ritz()
    top = np.arange(len(values))[::-1][:k]
    noise = np.zeros(k)
    if land.R > 1:
        noise = np.array([half_width(land.product(vectors[:, i]) @ vectors[:, i]) for i in top])
    return values[top], residual[top], noise, float(values[0]), float(residual[0])


def _gain(land: Landscape, loss: float, g: Array) -> float:
    squared = float(g @ g)
    if not squared:
        return 0.0
    bend = float(g @ land.product(g).mean(axis=0))
    return squared**2 / (2 * loss * bend) if bend > 0 and loss > 0 else float("nan")


def _status(land: Landscape, resolved: bool) -> Status:
    if not land.net.smooth:
        return Status.PIECEWISE
    return Status.OK if resolved else Status.UNRESOLVED


def _described(land: Landscape) -> dict[str, Any]:
    return {
        "sizes": {name: part.stop - part.start for name, part in land.groups.items()},
        "rms": {name: float(np.sqrt(np.mean(land.theta[part] ** 2))) for name, part in land.groups.items()},
    }


def _unknown(land: Landscape, k: int, provenance: Provenance) -> Flatness:
    """Nothing but a status: trajectories, or their derivatives, overflow."""
    none, many = float("nan"), np.full(min(k, land.P), np.nan)
    groups = dict.fromkeys(land.groups, none)
    return Flatness(
        *(none, none, none, none, none, none, none, none, groups, groups),
        *(many, many, many, none, none, none, none),
        **_described(land),
        status=Status.DIVERGED,
        provenance=provenance,
    )


def check_counts(**counts: object) -> None:
    for name, value in counts.items():
        least = 2 if name in ("probes", "pairs") else 1
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InputError(f"{name} must be a whole number >= {least}; found {value!r}")
