"""Expected loss against test noise, split into bias^2 and variance, and the noise level that a network prefers.

For the quadratic loss of a readout, with zbar and Var z the mean and variance of the output over the noise and z* the
target, averaged over outputs, trials and counted steps by their weights (sum mask ... / sum mask),

    E loss(sigma) = mean (zbar - z*)^2 + mean Var z = bias^2 + variance

so the whole curve follows from the moments of the output (`propagate`; `layers` where inputs are held until they have
passed a feedforward network), without sampling; Monte Carlo checks it. Of another convex loss l, such as the
cross-entropy, l(E z) and Jensen's gap E l(z) - l(E z) take the places of bias^2 and variance, by Monte Carlo.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_rng, of_shape
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.moments._curve import LossCurve, curve_of, levels_asked, levels_needed
from fpanalysis.moments._outputs import Problem
from fpanalysis.moments._predicted import predicted
from fpanalysis.moments._sampled import Each, sampled
from fpanalysis.moments.propagate import check_inputs
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance

if TYPE_CHECKING:
    from fpanalysis.regularizer.losses import Loss

Array = NDArray[np.float64]

METHODS = ("closure", "monte-carlo")
SQUARED = "squared error"  #: the loss where no other is named


def loss_curve(
    net: Network | LipschitzRNN,
    batch: Sequence[ArrayLike],
    sigma: ArrayLike | None = None,
    method: str = "closure",
    *,
    h0: ArrayLike | None = None,
    loss: str | Loss | Each | None = None,
    trials: int = 256,
    rng: int | np.random.Generator = 0,
) -> LossCurve:
    """Expected loss of `net` on `batch` at each noise level `sigma`.

    Parameters
    ----------
    batch : (inputs, targets, mask)
        (T, B, n_in), (T, B, n_out) and (T, B), or (T, B, n_out) where outputs weigh differently: what ``Task.batch``
        gives. targets[t] is compared with the output after step t.
    sigma : levels, optional
        None means 16 levels from 0 to 1.5 times the training noise. A network trained with a sigma per neuron keeps
        that profile: a level is then its largest entry.
    method : "closure" | "monte-carlo"
        The closure is least reliable for strongly recurrent networks whose trials spread over several basins: check it
        there by Monte Carlo. Of a `LipschitzRNN` Monte Carlo only; the noise on its increment keeps its ratio to sigma.
    h0 : (B, N), optional
        States that the trials start from; zero if left out.
    loss : "squared error" | "cross-entropy" | `fpanalysis.regularizer.Loss` | callable (z, z*) -> values, optional
        Another loss than the squared error (None): by Monte Carlo only, since it does not follow from two moments. A
        callable gives a value for each output.
    trials, rng
        Of Monte Carlo: runs of each input, and the seed.

    Raises
    ------
    InputError
        If an argument does not fit the network, or `loss` is given with the closure.
    """
    inputs, targets, mask, start = checked_batch(net, batch, h0)
    if method not in METHODS:
        raise InputError(f"method must be one of {', '.join(METHODS)}; found {method!r}")
    chosen = chosen_loss(loss, targets, mask)
    if chosen is not None and method != "monte-carlo":
        raise InputError(
            "a loss that is not quadratic does not follow from mean and variance: use method='monte-carlo'"
        )
    trained = float(np.max(net.sigma))
    asked = levels_asked(sigma, trained)
    levels = levels_needed(asked, trained)
    profile = np.broadcast_to(net.noise_profile, (net.N,))
    problem = Problem(net, inputs, targets, mask / mask.sum(), start, levels[:, None] * profile)
    within = (float(asked[0]), float(asked[-1]))
    if method == "closure":
        if not isinstance(net, Network):
            raise InputError("the moments of a LipschitzRNN are not predicted: use method='monte-carlo'")
        found, provenance = predicted(net, problem, within, trained), Provenance(method, net.hash)
    else:
        if isinstance(trials, bool) or not isinstance(trials, int | np.integer) or trials < 4:
            raise InputError(f"trials must be a whole number >= 4, to tell bias from variance; found {trials!r}")
        found = sampled(problem, within, trained, int(trials), check_rng(rng), chosen)
        seed = int(rng) if isinstance(rng, int | np.integer) else None
        named = {} if chosen is None else {"loss": loss_name(chosen)}
        provenance = Provenance(method, net.hash, {"trials": int(trials)} | named, seed)
    scale = 1 + float(np.abs(net.drive(inputs)).max()) + float(np.abs(targets).max()) + float(np.abs(start).max())
    return curve_of(found, levels, asked, trained, scale, provenance)


def chosen_loss(loss: object, targets: Array, mask: Array) -> Loss | Each | None:
    """None for the squared error; the `Loss` of that name, or what was given, which the targets suit."""
    from fpanalysis.regularizer.losses import CrossEntropy, Loss, SquaredError  # its package builds on this module

    if loss is None or loss == SquaredError.name or isinstance(loss, SquaredError):
        return None
    if loss == CrossEntropy.name:
        loss = CrossEntropy()
    if isinstance(loss, Loss):
        loss.check_targets(targets, mask)
        return loss
    if callable(loss):
        return loss
    names = f"{SquaredError.name!r}, {CrossEntropy.name!r}"
    raise InputError(f"loss must be {names}, a Loss, or a function of (z, target); found {loss!r}")


def loss_name(loss: str | Loss | Each) -> str:
    """What a curve calls it."""
    return loss if isinstance(loss, str) else str(getattr(loss, "name", "a function"))


def checked_batch(
    net: Network | LipschitzRNN, batch: Sequence[ArrayLike], h0: ArrayLike | None
) -> tuple[Array, Array, Array, Array]:
    """Inputs, targets and the weights of outputs, (T, B, ...), and the states (B, N) that trials start from."""
    if not isinstance(net, Network | LipschitzRNN):
        raise InputError(f"net must be a fpanalysis.Network or LipschitzRNN; found {type(net).__name__}")
    if isinstance(net, LipschitzRNN) and net.multiplicative and not np.any(net.sigma):
        raise InputError(
            f"multiplicative noise (here {net.multiplicative:g}) is scaled along with sigma, but sigma is 0: give the "
            "network a sigma (with_sigma) that the levels refer to"
        )
    if not isinstance(batch, tuple | list) or len(batch) != 3:
        raise InputError("batch must be (inputs, targets, mask), as Task.batch gives it")
    inputs = check_inputs(net, batch[0])
    T, B, _ = inputs.shape
    targets = of_shape("targets", batch[1], (T, B, net.n_out))
    mask = outputs_mask(batch[2], targets.shape)
    start = np.zeros((B, net.N)) if h0 is None else of_shape("h0", h0, (B, net.N))
    return inputs, targets, mask, start


def outputs_mask(mask: ArrayLike, shape: tuple[int, ...]) -> Array:
    """`mask`, (T, B) or (T, B, n_out), as the weight of every output, of `shape` (T, B, n_out)."""
    each = np.ndim(mask) == 3
    checked = of_shape("mask", mask, shape if each else shape[:2])
    if (checked < 0).any() or not checked.any():
        raise InputError("mask must be >= 0, and positive at the steps that count; found none that counts")
    return checked if each else np.broadcast_to(checked[..., None], shape)
