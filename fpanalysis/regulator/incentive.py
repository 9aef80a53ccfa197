"""Why training makes one neuron depend on its noise: what it costs to hold a target, and where noise is preferred.

One neuron h' = (1 - gamma) h + gamma f(w h + b + sigma xi) [noise in], or + gamma (f(w h + b) + sigma xi) [noise out],
must hold h at a target. Its expected loss is

    L(sigma) = E (h - target)^2 = (m - target)^2 + v      m, v: stationary mean and variance, from the scalar closure
    L(0)     = (h* - target)^2                            noise removed: h* = f(w h* + b)
    R        = L(0) / L(sigma)                            noise is preferred where R > 1

For ReLU everything depends on target / sigma, gamma and w alone. In the slow limit, with r = a / s,
g(r) = r Phi(r) + phi(r) and V1(r) the variance of max(r + xi, 0), a neuron with noise in that is on target has

    at a given w:    target = sigma g(r),    R = 2 (1 - w Phi(r)) g(-r)^2 / [gamma (1 - w)^2 V1(r)]           (b > 0)
    at the best w:   target = s g(r),        R = (1 + 1 / rho) g(-r)^2,    w = -2 rho Phi(r) / [gamma (1 + rho) V1(r)]
                     s^2 = (1 + rho) sigma^2,    1 / rho = 1 - g (log V1 / Phi)' / Phi,    rho = 1.4 about

The best w lies at the end of a flat valley of length 1 / gamma; there noise is preferred below target = 0.27 sigma,
whatever gamma is. A training of some hundred steps stops at a weight of order one, where R grows as 1 / gamma. With
noise out, L(0) is due only to the noise that comes back through w.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.activations import Activation, get_activation
from fpanalysis.checks import real_array
from fpanalysis.network import PLACEMENTS, Network
from fpanalysis.regulator import _incentive_search as search
from fpanalysis.regulator._incentive_law import Neuron, steepest
from fpanalysis.regulator._incentive_results import Landscape, Optimum, PhaseDiagram
from fpanalysis.results import InputError, Status
from fpanalysis.stationary import Problem, solve

Array = NDArray[np.float64]

LEVELS = np.linspace(0.05, 2.5, 50)  #: test noise in units of the training noise, among which the preferred is sought
CHECKS = 5  #: of a phase diagram's rows and columns are compared with the exact chain


def loss_landscape(
    target: float,
    sigma: float,
    gamma: float = 0.1,
    activation: str | dict[str, Any] | Activation = "relu",
    placement: str = "in",
    a: ArrayLike | None = None,
    w: float = 0.0,
) -> Landscape:
    """Expected loss against the operating point, at a fixed target and weight; `a` (n,) by default a range that shows
    the kink, and holds the points `best` and `held`.

    Raises
    ------
    InputError
        On values that make no neuron, or a target that f does not reach.
    """
    neuron, (c, sd, g, weight) = _neuron(activation, placement, target=target, sigma=sigma, gamma=gamma, w=w)
    if c.ndim:
        raise InputError(f"target, sigma, gamma and w must be one number each; found shape {c.shape}")
    held = float(search.held_point(neuron, c))
    best = float(search.best_point(neuron, weight, c, sd, g))
    if a is None:
        ends = min(0.0, held, best) - 1.5 * float(sd), max(0.0, held, best) + 1.5 * float(sd)
        a = np.union1d(np.linspace(*ends, 301), [held, best])
    points = np.atleast_1d(real_array("a", a))
    law = neuron.at(np.append(points, best), weight, sd, g)
    removed = neuron.loss_at_rest(weight, np.nan_to_num(law.b), g, c)
    bias2 = (law.m - c) ** 2
    loss = bias2 + law.v
    return Landscape(
        target=float(c), sigma=float(sd), gamma=float(g), w=float(weight), activation=neuron.f, placement=placement,
        a=points, b=law.b[:-1], bias2=bias2[:-1], variance=law.v[:-1], loss=loss[:-1], loss_removed=removed[:-1],
        best=best, held=held, ratio=float(removed[-1] / loss[-1]), status=_status(law.v),
    )  # fmt: skip


def optimum(
    target: ArrayLike,
    sigma: ArrayLike,
    gamma: ArrayLike = 0.1,
    activation: str | dict[str, Any] | Activation = "relu",
    placement: str = "in",
    w: ArrayLike | None = None,
) -> Optimum:
    """Weight and bias of least expected loss L(sigma); with `w` given, the bias alone. Arguments broadcast.

    The weight is sought between 1 - 2 / gamma, where the noise-free step begins to flip, and 1/2.

    Raises
    ------
    InputError
        On values that make no neuron, or a target that f does not reach.
    """
    given = {} if w is None else {"w": w}
    neuron, values = _neuron(activation, placement, target=target, sigma=sigma, gamma=gamma, **given)
    found = _best(neuron, *values)
    return _with_error(found)


def trained(
    target: ArrayLike,
    sigma: ArrayLike,
    gamma: ArrayLike = 0.1,
    activation: str | dict[str, Any] | Activation = "relu",
    placement: str = "in",
    w: ArrayLike = 0.0,
    steps: int = 400,
    lr: float = 0.01,
) -> Optimum:
    """Where a training of `steps` steps of Adam ends that starts from weight `w` and on target without noise: the
    project's own training (`fpanalysis.models.train("regulator")`) with the expected loss in place of a sampled one.

    Arguments but the last two broadcast.

    Raises
    ------
    InputError
        On values that make no neuron, a target that f does not reach, or steps and lr that are not positive.
    """
    neuron, values = _neuron(activation, placement, target=target, sigma=sigma, gamma=gamma, w=w)
    return _with_error(_train(neuron, steps, lr, *values))


def phase_diagram(
    ratios: ArrayLike | None = None,
    gammas: ArrayLike | None = None,
    activation: str | dict[str, Any] | Activation = "relu",
    placement: str = "in",
    after: str = "training",
    target: float = 0.2,
    w: float = 0.0,
    steps: int = 400,
    lr: float = 0.01,
) -> PhaseDiagram:
    """Where noise is preferred at test time: R over target / sigma and gamma.

    Parameters
    ----------
    ratios, gammas : target / sigma and gamma; by default 25 from 0.05 to 2, and 17 from 0.02 to 0.5.
    after : "training" (of `steps` steps at learning rate `lr`, from weight `w`), "bias" (the weight stays at `w`, the
        bias is best), or "optimum" (both are best).
    target : what is held; sigma is target / ratio. Its size matters to a training, whose steps have one, and to every
        f that has a scale of its own; not to the other two with ReLU.

    Raises
    ------
    InputError
        On values that make no neuron, or a target that f does not reach.
    """
    ratios = np.geomspace(0.05, 2.0, 25) if ratios is None else np.unique(real_array("ratios", ratios))
    gammas = np.geomspace(0.02, 0.5, 17) if gammas is None else np.unique(real_array("gammas", gammas))
    if not ratios.size or not gammas.size:
        raise InputError("ratios and gammas must hold at least one number each; found none")
    if ratios.min() <= 0:
        raise InputError(f"ratios must be > 0: sigma is target / ratio; found {ratios.min():g}")
    if after not in ("training", "bias", "optimum"):
        raise InputError(f"after must be 'training', 'bias' or 'optimum'; found {after!r}")
    given = {} if after == "optimum" else {"w": w}
    neuron, values = _neuron(
        activation,
        placement,
        target=target,
        sigma=real_array("target", target) / ratios,
        gamma=gammas[:, None],
        **given,
    )
    found = _train(neuron, steps, lr, *values) if after == "training" else _best(neuron, *values)
    error = _coarse_error(found)
    return PhaseDiagram(
        ratios=ratios, gammas=gammas, ratio=found.ratio, preferred=found.preferred / found.sigma, w=found.w,
        boundary=_boundary(ratios, found.ratio), error=error, neurons=found, status=found.status,
    )  # fmt: skip


def _neuron(
    activation: str | dict[str, Any] | Activation, placement: str, **values: ArrayLike
) -> tuple[Neuron, list[Array]]:
    """The neuron, and the values broadcast against each other."""
    f = get_activation(activation)
    if placement not in PLACEMENTS:
        raise InputError(f"placement must be 'in' or 'out'; found {placement!r}")
    arrays = {name: real_array(name, value) for name, value in values.items()}
    try:
        filled = dict(zip(arrays, np.broadcast_arrays(*arrays.values()), strict=True))
    except ValueError as error:
        raise InputError(f"{', '.join(arrays)} must broadcast together; found {error}") from None
    if filled["sigma"].min(initial=1) <= 0:
        raise InputError(
            f"sigma must be > 0: without noise there is nothing to prefer; found {filled['sigma'].min():g}"
        )
    gamma = filled["gamma"]
    if gamma.min(initial=1) <= 0 or gamma.max(initial=0) > 1:
        raise InputError(f"gamma must lie in (0, 1]; found {gamma.min():g} to {gamma.max():g}")
    slope = steepest(f)
    if "w" in filled and filled["w"].max(initial=0) * slope >= 1:
        raise InputError(f"w must be < {1 / slope:.3g}, or the neuron is not stable; found {filled['w'].max():g}")
    _check_target(f, filled["target"])
    return Neuron(f, placement), list(filled.values())


def _check_target(f: Activation, target: Array) -> None:
    if f.df(np.linspace(-5.0, 5.0, 11)).min() < 0:
        raise InputError(f"activation must not fall, so that a target has one operating point; found {f!r}")
    low, high = (float(x) for x in f.f(np.array([-1e9, 1e9])))
    low, high = (low if low > -1e3 else -np.inf), (high if high < 1e3 else np.inf)
    if target.size and not (low < target.min() and target.max() < high):
        raise InputError(
            f"target must lie between {low:g} and {high:g}, the values of {f.name}; found {target.min():g} to "
            f"{target.max():g}"
        )


def _best(neuron: Neuron, target: Array, sigma: Array, gamma: Array, w: Array | None = None) -> Optimum:
    kind, at_bound = "given weight", np.zeros(target.shape, bool)
    if w is None:
        kind = "best weight"
        w, at_bound = search.best_weight(neuron, target, sigma, gamma)
    a = search.best_point(neuron, w, target, sigma, gamma)
    return _judge(neuron, kind, target, sigma, gamma, w, a, at_bound)


def _train(neuron: Neuron, steps: int, lr: float, target: Array, sigma: Array, gamma: Array, w: Array) -> Optimum:
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 1 or not 0 < lr < np.inf:
        raise InputError(f"steps must be a whole number >= 1 and lr a number > 0; found {steps!r} and {lr!r}")
    w, a = search.train(neuron, target, sigma, gamma, w, int(steps), lr)
    return _judge(neuron, "training", target, sigma, gamma, w, a, np.zeros(target.shape, bool))


def _judge(
    neuron: Neuron,
    kind: str,
    target: Array,
    sigma: Array,
    gamma: Array,
    w: Array,
    a: Array,
    at_bound: NDArray[np.bool_],
) -> Optimum:
    """The losses of the neurons at (w, a)."""
    law = neuron.at(a, w, sigma, gamma)
    loss = (law.m - target) ** 2 + law.v
    removed = np.where(np.isfinite(loss), neuron.loss_at_rest(w, np.nan_to_num(law.b), gamma, target), np.nan)
    preferred = np.where(np.isfinite(loss), _preferred(neuron, target, sigma, gamma, w, law.b, removed, law.a), np.nan)
    return Optimum(
        target=target, sigma=sigma, gamma=gamma, activation=neuron.f, placement=neuron.placement, kind=kind, w=w,
        b=law.b, a=law.a, mean=law.m, variance=law.v, loss=loss, loss_removed=removed, ratio=removed / loss,
        preferred=preferred, error=np.full(target.shape, np.nan), at_bound=at_bound, status=_status(loss),
    )  # fmt: skip


def _preferred(
    neuron: Neuron, target: Array, sigma: Array, gamma: Array, w: Array, b: Array, removed: Array, a: Array
) -> Array:
    """The test noise of least loss with w and b fixed, 0 included."""

    def loss(level: Array) -> Array:
        return search.expected_loss(neuron.of(w, b, level, gamma, a), target)

    best = search.minimise(loss, LEVELS.reshape(-1, *([1] * sigma.ndim)) * sigma, 16)
    return np.where(loss(best) < removed, best, 0.0)


def _status(loss: Array) -> Status:
    return Status.OK if np.isfinite(loss).all() else Status.NOT_CONVERGED


def _exact_loss(found: Optimum, at: tuple[Any, ...]) -> Array:
    """Loss of the exact chain at the neurons `at`."""
    w, b, sigma, gamma, target = (x[at] for x in (found.w, found.b, found.sigma, found.gamma, found.target))
    exact = np.full(w.shape, np.nan)
    for k in np.ndindex(w.shape):
        if np.isfinite(b[k]):
            net = Network(
                W=[[w[k]]],
                b=[b[k]],
                gamma=float(gamma[k]),
                sigma=float(sigma[k]),
                activation=found.activation,
                placement=found.placement,
            )
            (st,) = solve([Problem(net, np.zeros(0), net.sigma, np.zeros(1))], "chain")
            exact[k] = (st.mean[0] - target[k]) ** 2 + st.cov[0, 0]
    return exact


def _with_error(found: Optimum) -> Optimum:
    return dataclasses.replace(found, error=np.abs(found.loss - _exact_loss(found, (...,))))


def _coarse_error(found: Optimum) -> Array:
    """Relative error of the loss on every few rows and columns, interpolated to all; NaN where the chain has no law."""
    rows, columns = (np.unique(np.linspace(0, n - 1, CHECKS).round().astype(int)) for n in found.loss.shape)
    at = np.ix_(rows, columns)
    with np.errstate(invalid="ignore"):
        error = np.abs(found.loss[at] / _exact_loss(found, at) - 1)
    along = np.array([np.interp(np.arange(found.loss.shape[1]), columns, row) for row in error])
    return np.array([np.interp(np.arange(found.loss.shape[0]), rows, column) for column in along.T]).T


def _boundary(ratios: Array, R: Array) -> Array:
    boundary = np.full(len(R), np.nan)
    for k, row in enumerate(np.log(np.maximum(R, 1e-300))):
        above = np.flatnonzero(row > 0)
        if len(above):
            j = above[-1]
            last = j == len(ratios) - 1
            boundary[k] = np.inf if last else ratios[j] + (ratios[j + 1] - ratios[j]) * row[j] / (row[j] - row[j + 1])
    return boundary
