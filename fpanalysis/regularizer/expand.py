"""The explicit regulariser: what small noise adds to the expected loss, as a number of the noise-free network.

    E l(eps) = l + eps^2 / 2 (P + Q) + O(eps^4)
    P = 2 grad l . mu       the shift of the mean against the target: noise bends trajectories
    Q = tr(Hess l C)        flatness: what the variance costs that reaches the output

with mu and C of one recursion along the trajectory (`_recursion`), for any loss of two derivatives. Odd orders vanish,
noise being symmetric. Of the squared error, (P + Q) / 2 is the slope d l / d sigma^2 at zero noise.

Source: Lim, Erichson, Hodgkinson & Mahoney, "Noisy Recurrent Neural Networks", NeurIPS 2021, theorem 1 (steps delta_m,
noise eps sqrt(delta_m) (sigma_1 I + sigma_2 diag f) xi). Here the step is gamma and the noise gamma (sigma + sigma_2 f)
xi with f = F - h, the increment over gamma: theirs is sigma = sigma_1 / sqrt(gamma). Noise "in", which they have not,
passes through the activation and adds gamma / 2 f'' sigma^2 to mu at every step, the asymmetric attenuation itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis._grouped import smoothed as smoothed_activation
from fpanalysis.checks import LARGEST, check_rng, of_shape, real_array
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments.loss import outputs_mask
from fpanalysis.moments.propagate import FAR
from fpanalysis.network import Network
from fpanalysis.regularizer._recursion import Driven, Path, backward, forward
from fpanalysis.regularizer._result import Regularizer
from fpanalysis.regularizer._runs import mean_and_half, paired
from fpanalysis.regularizer.losses import CrossEntropy, Loss, SquaredError, is_smooth
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.stationary.closure import SMALL
from fpanalysis.system import System

Array = NDArray[np.float64]

NEAR = 1e-3  #: distance from the outputs, relative to 1 + their size, within which a loss must be smooth at any noise


def regularizer(
    net: System,
    batch: Sequence[ArrayLike],
    loss: str | Loss | Callable[..., object] | None = None,
    sigma: ArrayLike | None = None,
    *,
    multiplicative: float | None = None,
    gamma: ArrayLike | None = None,
    h0: ArrayLike | None = None,
    smoothed: ArrayLike | None = None,
    pairs: int = 64,
    rng: int | np.random.Generator = 0,
) -> Regularizer:
    """P and Q of `net` along the inputs of `batch`.

    Parameters
    ----------
    net : a Network, a Cell, or another `System`.
    batch : (inputs, targets, mask)
        (T, B, n_in), (T, B, n_out) and (T, B) or (T, B, n_out), as `loss_curve` takes it: the loss is the mean over
        what the mask counts.
    loss :
        "squared error" (None), "cross-entropy" (of softmax(z); targets are probabilities), a `Loss`, or a function of
        float64 torch tensors (z, z*) that gives one value per output or one per step; it is differentiated.
    sigma : number, (N,), (T, 1) or (T, N), optional
        Additive noise per step, where `net` has it; None means its training noise. P and Q are those of noise of this
        profile whose largest coefficient is one; `eps` is the largest coefficient given. Without any noise every neuron
        has the same, and `eps` is 0. An SDE simulated with steps gamma_m has s / sqrt(gamma_m) at each, (T, 1).
    multiplicative :
        sigma_2: the same xi, times the increment F - h, is added to F, whatever the placement; in a `LipschitzRNN` of
        "independent" noise, a xi of its own. None: that of the network, or 0 if `sigma` is 0.
    gamma : (T,) or (T, N), optional
        Non-uniform steps, in (0, 1]; None means those of `net`.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.
    smoothed : number or (N,), optional
        Take f_s, s = `smoothed`, in place of f: what a network with kinks needs, whose status else is "no curvature".
        The result is that of the smoothed network.
    pairs, rng :
        Pairs of runs with opposite noise at `eps` that the error is taken from (0: none, and no error), and their seed.

    Raises
    ------
    InputError
        If an argument does not fit the network, or the loss not the targets.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network, or another system; found {type(net).__name__}")
    if smoothed is not None:
        net = _smoothed(net, smoothed)
    chosen = _loss(loss)
    multiplicative = _strength(net, sigma, multiplicative)
    problem, eps = _problem(net, batch, sigma, multiplicative, gamma, h0)
    chosen.check_targets(problem.targets, problem.weight)
    pairs, generator = _pairs(pairs, 0), check_rng(rng)
    settings = {"loss": chosen.name, "eps": eps, "multiplicative": multiplicative, "pairs": pairs}
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    provenance = Provenance("second order", net.hash, settings, seed)
    if not net.smooth:
        return Regularizer.unknown(problem, eps, Status.NO_CURVATURE, provenance)
    with (
        threadpool_limits(1 if net.N <= SMALL else None, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        path = forward(problem, chosen)
        shares = backward(problem, path)
        runs = paired(problem, chosen, eps, pairs, generator) if pairs and eps else None
    return Regularizer.of(problem, path, shares, eps, runs, _status(problem, path, chosen, eps), provenance)


def expected_loss(
    net: System,
    batch: Sequence[ArrayLike],
    loss: str | Loss | Callable[..., object] | None = None,
    sigma: ArrayLike | None = None,
    *,
    multiplicative: float | None = None,
    h0: ArrayLike | None = None,
    pairs: int = 64,
    rng: int | np.random.Generator = 0,
) -> tuple[float, float]:
    """The mean loss under noise and its half-width (95 %), from `pairs` of runs with opposite noise: what
    `regularizer` is compared with, with kinks too. Arguments and errors as there; infinite where trajectories diverge.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network, or another system; found {type(net).__name__}")
    chosen = _loss(loss)
    problem, eps = _problem(net, batch, sigma, _strength(net, sigma, multiplicative), None, h0)
    chosen.check_targets(problem.targets, problem.weight)
    with (
        threadpool_limits(1 if net.N <= SMALL else None, user_api="blas"),
        np.errstate(over="ignore", invalid="ignore"),
    ):
        return mean_and_half(paired(problem, chosen, eps, _pairs(pairs, 2), check_rng(rng)))


def _strength(net: System, sigma: ArrayLike | None, multiplicative: float | None) -> float:
    """sigma_2; None: that of the network, or 0 where `sigma` is."""
    if multiplicative is None:
        return net.multiplicative if sigma is None or np.any(sigma) else 0.0
    return multiplicative


def _pairs(pairs: int, least: int) -> int:
    if isinstance(pairs, bool) or not isinstance(pairs, int | np.integer) or (pairs < 2 and pairs != least):
        no = "0, or " if least == 0 else ""
        raise InputError(f"pairs must be {no}a whole number >= 2, to tell their spread; found {pairs!r}")
    return int(pairs)


def _loss(loss: object) -> Loss:
    """None: the squared error; its name; a `Loss`; or a function of torch tensors (z, z*), differentiated."""
    if isinstance(loss, Loss):
        return loss
    known = {kind.name: kind for kind in (SquaredError, CrossEntropy)}
    if loss is None or loss in known:
        return SquaredError() if loss is None else known[str(loss)]()
    if not callable(loss):
        names = ", ".join(map(repr, known))
        raise InputError(f"loss must be {names}, a Loss, or a function of torch tensors (z, target); found {loss!r}")
    from fpanalysis.regularizer._differentiated import Differentiated

    return Differentiated(loss)


def _status(problem: Driven, path: Path, loss: Loss, eps: float) -> Status:
    if path.diverged.any() or path.unstable.any():
        return Status.DIVERGED if path.diverged.any() else Status.UNSTABLE
    if not np.isfinite(path.P + path.Q + path.l).all():
        return Status.LOSS_NOT_SMOOTH
    counted = problem.weight.any(axis=(1, 2))
    z, target, weight = (part[counted] for part in (path.z, problem.targets, problem.weight))
    reach = np.maximum(eps * np.sqrt(np.maximum(path.spread[counted], 0.0)), NEAR * (1 + np.abs(z)))
    if not is_smooth(loss, z, target, weight, reach):
        return Status.LOSS_NOT_SMOOTH
    return Status.TOO_SHORT if len(problem.inputs) < 2 else Status.OK


def _smoothed(net: System, s: ArrayLike) -> Network | LipschitzRNN:
    if not isinstance(net, Network | LipschitzRNN):
        raise InputError(f"smoothed is for a Network, whose activation can be smoothed; found {type(net).__name__}")
    s = of_shape("smoothed", s, () if np.ndim(s) == 0 else (net.N,))
    if (s < 0).any() or not s.any():
        raise InputError(f"smoothed must be >= 0, the noise that smooths f, and not all zero; found {s.min():g}")
    return dataclasses.replace(net, activation=smoothed_activation(net.activation, s))


def _problem(
    net: System,
    batch: Sequence[ArrayLike],
    sigma: ArrayLike | None,
    multiplicative: float,
    gamma: ArrayLike | None,
    h0: ArrayLike | None,
) -> tuple[Driven, float]:
    """The problem with noise of unit size, and the size asked for."""
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise InputError("batch must be (inputs, targets, mask), as Task.batch gives it")
    inputs = of_shape("inputs", batch[0], (None, None, net.n_in))
    T, B, _ = inputs.shape
    if not T or not B:
        raise InputError(f"inputs must hold at least one step and one trial; found shape {inputs.shape}")
    targets = of_shape("targets", batch[1], (T, B, net.n_out))
    mask = outputs_mask(batch[2], targets.shape)
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    strength = float(of_shape("multiplicative", multiplicative, ()))
    if not 0 <= strength <= LARGEST:
        raise InputError(f"multiplicative must be a number from 0 to {LARGEST:g}; found {strength:g}")
    level = _noise(net, sigma, T)
    eps = max(float(level.max()), strength)
    if not eps:
        level = np.array(np.broadcast_to(net.check_noise(1.0), (T, net.N)), np.float64)
    scale = 1 + float(max(np.abs(part).max(initial=0.0) for part in (inputs, start, targets)))
    scale = max(scale, float(np.abs(net.target(start, inputs[0])).max()))
    unit = eps or 1.0
    sigma_2 = np.asarray(net.check_noise(strength / unit), np.float64)
    steps, weight = _steps(net, gamma, T), mask / mask.sum()
    return Driven(net, inputs, targets, weight, start, steps, level / unit, sigma_2, FAR * scale), eps


def _noise(net: System, sigma: ArrayLike | None, T: int) -> Array:
    """(T, N); one number is the largest entry of the network's profile, as in `loss_curve`."""
    if sigma is None:
        return np.array(np.broadcast_to(net.sigma, (T, net.N)), np.float64)
    if np.ndim(sigma) < 2:
        level = np.asarray(net.check_noise(sigma), float)
        profile = 1.0 if np.ndim(sigma) else np.asarray(net.noise_profile, float)
        return np.array(np.broadcast_to(level * profile, (T, net.N)), np.float64)
    value = real_array("sigma", sigma)
    if value.shape not in ((T, 1), (T, net.N)):
        raise InputError(
            f"sigma must be one number, one per neuron ({net.N},), or one per step, ({T}, 1) or ({T}, {net.N}); found "
            f"shape {value.shape}"
        )
    if (value < 0).any() or (value > LARGEST).any():
        raise InputError(f"sigma must lie in [0, {LARGEST:g}]; found {value.min():g} to {value.max():g}")
    return np.array(value * np.broadcast_to(net.noise_profile, (net.N,)) if value.shape[1] == 1 else value)


def _steps(net: System, gamma: ArrayLike | None, T: int) -> Array:
    """(T, N)."""
    if gamma is None:
        return np.array(np.broadcast_to(net.gamma, (T, net.N)), np.float64)
    value = of_shape("gamma", gamma, (T,) if np.ndim(gamma) == 1 else (T, net.N))
    if (value <= 0).any() or (value > 1).any():
        raise InputError(f"gamma must lie in (0, 1]; found {value.min():g} to {value.max():g}")
    return np.array(np.broadcast_to(value if value.ndim == 2 else value[:, None], (T, net.N)))
