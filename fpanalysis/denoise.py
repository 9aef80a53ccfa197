"""De-noising: a network that needs no noise from one that was trained with it.

Training with noise inside f makes the network rely on the mean of f over that noise, M(a, s) = E f(a + s xi). With f
replaced by f_s(x) = M(x, s), and the noise removed, the means follow the same equations as under noise:

    h' = (1 - gamma) h + gamma f_s(W h + W_in u + b)          (rate form; the current form alike, in its output too)

up to what the Gaussian closure leaves out, and to s_i being one number per neuron where the noise fed back through W
varies with the input. Of the s_ic that the closure finds at the conditions c, that number is the one which keeps
the mean of f closest, min over s of sum_c (M(a_ic, s) - M(a_ic, s_ic))^2 to first order:

    s_i = sum_c w_ic s_ic / sum_c w_ic,     w_ic = (dM/ds at a_ic, s_ic)^2,     dM/ds = sqrt(2) c_2 / s

A condition at which a neuron is far from its nonlinearity says little about its s. Variants keep f and move the
biases instead, or smooth by the noise alone.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._grouped import smoothed
from fpanalysis.activations import Activation
from fpanalysis.fixed_points import FixedPoints, find_fixed_points, settle
from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.shift import conditions
from fpanalysis.stationary import Problem, Stationary, solve

Array = NDArray[np.float64]

VARIANTS = ("smoothed", "sigma", "recalibrated")
NOTE = "denoised"  #: where `info` keeps what was done
NEGLIGIBLE = 1e-6  #: least weight of a condition, relative to the largest: where none has any, all count alike
NOTABLE = 1e-6  #: error of a mean, relative to 1 + its size, below which it does not matter
STEPS, ENOUGH = 40, 1e-12  #: most steps of a fit of the biases, and the relative gap at which it ends
GOLDEN = (np.sqrt(5) - 1) / 2


class DenoiseWarning(UserWarning):
    """Why a de-noised network may not do what is hoped of it."""


@dataclass(frozen=True, eq=False)
class _Laws:
    """The closure at every condition and stable fixed point where it has a solution."""

    points: list[FixedPoints]  #: of the network without noise, one per condition
    found: list[Stationary]
    inputs: list[Array]  #: (n_in,), of each law
    unsettled: int  #: conditions without a law
    reasons: list[str]  #: why


def denoise(net: Network, sigma: ArrayLike | None = None, variant: str = "smoothed") -> Network:
    """A network that does without noise what `net` does on average with noise `sigma` (None: its training noise).

    Parameters
    ----------
    variant :
        "smoothed": each neuron's f is smoothed by its own s_i, from the closure at the network's conditions (zero input
        if it has none); see the module's docstring.
        "sigma": by the neuron's own noise alone, without what comes back through W: sigma (noise in), 0 (noise out),
        sigma sqrt(gamma / (2 - gamma)) (current form). Needs no stationary state.
        "recalibrated": f stays, b and b_out move so that the noise-free fixed point is the noisy mean: exactly at
        one condition, in its outputs (least squares) at several; nothing is promised elsewhere.

    Returns
    -------
    Network
        With sigma = 0; ``info["denoised"]`` remembers variant, noise levels, the hash of `net`, the number of
        conditions without a law, and the numbers of stable fixed points before and after at each condition.

    Warns
    -----
    DenoiseWarning
        Where it will not help, or not as hoped: another noise level than that of the training, a network that is
        de-noised already, noise out, several basins, conditions without a stationary law.

    Raises
    ------
    InputError
        If there is no noise, or `sigma` or `variant` cannot be used; for "recalibrated" also without any law.
    """
    inputs, _ = conditions(net, None)
    if variant not in VARIANTS:
        raise InputError(f"variant must be one of {', '.join(map(repr, VARIANTS))}; found {variant!r}")
    level = net.sigma if sigma is None else net.check_noise(sigma)
    if not np.any(level):
        where = "net has sigma = 0" if sigma is None else "sigma is 0"
        raise InputError(f"{where}: there is no noise to absorb; give the sigma that the network was trained with")
    laws = _laws(net, inputs, level, variant)
    if variant == "recalibrated":
        clean = _recalibrated(net, laws)
    else:
        s = _smoothing(net, laws, level) if variant == "smoothed" else own_noise(net, level)
        clean = dataclasses.replace(net, activation=smoothed(net.activation, s))
    after = [int(find_fixed_points(clean, u, rng=0, prove=False).stable.sum()) for u in inputs]
    before = [int(points.stable.sum()) for points in laws.points]
    for text in _doubts(net, level, laws, before, after):
        warnings.warn(text, DenoiseWarning, stacklevel=2)
    note = {
        "variant": variant,
        "sigma": np.asarray(level).tolist(),
        "training_sigma": np.asarray(net.sigma).tolist(),
        "model": net.hash,
        "unsettled": laws.unsettled,
        "stable_before": before,
        "stable_after": after,
    }
    clean = clean.with_sigma(0.0)
    return dataclasses.replace(clean, info={**clean.info, NOTE: note})


def own_noise(net: Network, sigma: ArrayLike) -> Array:
    """(N,), standard deviation of the noise that enters each neuron's f by itself, not through W."""
    sigma = np.broadcast_to(np.asarray(sigma, float), (net.N,))
    if net.form == "current":
        return sigma * np.sqrt(net.gamma / (2 - np.asarray(net.gamma)))
    return sigma if net.placement == "in" else np.zeros(net.N)


def _laws(net: Network, inputs: Array, sigma: float | Array, variant: str) -> _Laws:
    points = [find_fixed_points(net, u, rng=0, prove=False) for u in inputs]
    if variant == "sigma":
        return _Laws(points, [], [], 0, [])
    problems = [[Problem(net, u, sigma, h) for h in at.h[at.stable]] for u, at in zip(inputs, points, strict=True)]
    laws = iter(solve([problem for group in problems for problem in group], "closure"))
    groups = [[next(laws) for _ in group] for group in problems]
    found = [(law, u) for group, u in zip(groups, inputs, strict=True) for law in group if law.status.ok]
    empty = [group for group in groups if not any(law.status.ok for law in group)]
    reasons = [law.status.value for group in empty for law in group] + ["no stable fixed point" for g in empty if not g]
    return _Laws(points, [law for law, _ in found], [u for _, u in found], len(empty), list(dict.fromkeys(reasons)))


def _smoothing(net: Network, laws: _Laws, sigma: float | Array) -> Array:
    """s (N,); without any law the noise alone."""
    if not laws.found:
        return own_noise(net, sigma)
    a, s = (np.array([law.details[name] for law in laws.found]) for name in ("a", "s"))
    return common_deviation(net.activation, a, s)


def common_deviation(activation: Activation, a: Array, s: Array) -> Array:
    """The s (N,) that stands for all s (C, N) at operating points a (C, N); see the module's docstring."""
    weight = (activation.hermite(a, s, 2)[..., 2] / np.where(s > 0, s, 1.0)) ** 2
    weight = weight + np.maximum(NEGLIGIBLE * weight.max(axis=0), 1e-200)
    mean: Array = (weight * s).sum(axis=0) / weight.sum(axis=0)
    return mean


def _recalibrated(net: Network, laws: _Laws) -> Network:
    """`net` with b' and b_out'."""
    if not laws.found:
        raise InputError(
            f"variant 'recalibrated' needs a stationary law at one condition at least, and the closure has none "
            f"({', '.join(laws.reasons)}): use variant 'sigma'"
        )
    m, rates = (np.array(part) for part in zip(*((law.mean, law.details["rates"]) for law in laws.found), strict=True))
    u = np.array(laws.inputs)
    if net.form == "current":
        change = (m - net.target(m, u)).mean(axis=0)
    else:
        change = _bias_change(net.activation, net.preactivation(m, u), rates)
    z = np.array([law.output for law in laws.found])
    moved, gap = _fitted(dataclasses.replace(net, b=net.b + change), m, u, z)
    b_out = np.zeros(net.n_out) if net.b_out is None else net.b_out
    return dataclasses.replace(moved, b_out=b_out + gap.mean(axis=0))


def _fitted(net: Network, h: Array, u: Array, z: Array) -> tuple[Network, Array]:
    """`net` with b moved so that its outputs at rest, reached from h (C, N), come closest to z (C, n_out) but for a
    constant, which b_out takes; and what is missing there. By Levenberg-Marquardt steps of least norm."""
    h, rests = _rest(net, h, u)
    gap = z - net.output(h)
    damping = 0.01
    for _ in range(STEPS):
        wanted = (gap - gap.mean(axis=0)).ravel()
        if not rests or np.abs(wanted).max() <= ENOUGH * (1 + np.abs(z).max()):
            break
        try:
            response = np.array([_output_response(net, *at) for at in zip(h, u, strict=True)])
            J = (response - response.mean(axis=0)).reshape(-1, net.N)
            A = J @ J.T
            change = J.T @ np.linalg.solve(A + damping * np.trace(A) / len(A) * np.eye(len(A)), wanted)
        except np.linalg.LinAlgError:  # no bias moves any output, or a neutral direction
            break
        trial = dataclasses.replace(net, b=net.b + change)
        h_t, rests_t = _rest(trial, h, u)
        gap_t = z - trial.output(h_t)
        closer = rests_t and gap_t.var(axis=0).sum() < gap.var(axis=0).sum()
        damping = max(damping / 5, 1e-9) if closer else damping * 5
        if closer:
            net, h, gap = trial, h_t, gap_t
    return net, gap if rests else np.zeros_like(gap)


def _output_response(net: Network, h: Array, u: Array) -> Array:
    """dz/db (n_out, N) at the fixed point h."""
    slope = net.activation.df(net.preactivation(h, u))
    rate = net.form == "rate"
    out = net.readout_weights if rate else net.readout_weights * slope
    response = np.asarray(np.linalg.solve((np.eye(net.N) - net.target_jacobian(h, u)).T, out.T).T, float)
    return response * slope if rate else response


def _rest(net: Network, h: Array, u: Array) -> tuple[Array, bool]:
    """Where the noise-free dynamics comes to rest from h (C, N), and whether it does at every input."""
    found = [settle(net, start[None], v) for start, v in zip(h, u, strict=True)]
    return np.array([states[0] for states, _ in found]), all(bool(rests[0]) for _, rests in found)


def _bias_change(f: Activation, a: Array, rates: Array) -> Array:
    """d (N,) that minimises sum_c (f(a_c + d) - rates_c)^2, neuron by neuron: the best of a grid, then golden section.

    Where all d beyond some point do alike (a neuron silent at all conditions), the smallest change of the grid.
    """

    def loss(d: Array) -> Array:
        return ((f.f(a + d) - rates) ** 2).sum(axis=0)

    reach = 1.0 + np.abs(a).max(axis=0) + np.abs(rates).max(axis=0)
    grid = np.sinh(np.linspace(-6, 6, 241))[:, None] / np.sinh(6) * reach
    order = np.argsort(np.abs(grid[:, 0]), kind="stable")
    best = order[np.array([loss(d) for d in grid])[order].argmin(axis=0)]
    neuron = np.arange(a.shape[1])
    low, high = (grid[np.clip(best + k, 0, len(grid) - 1), neuron] for k in (-1, 1))
    for _ in range(90):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        down = loss(left) <= loss(right)
        low, high = np.where(down, low, left), np.where(down, right, high)
    d = (low + high) / 2
    flat = loss(grid[best, neuron]) <= loss(d)
    return np.where(flat, grid[best, neuron], d)


def _doubts(net: Network, sigma: float | Array, laws: _Laws, before: Sequence[int], after: Sequence[int]) -> list[str]:
    """Sentences: why this may not help."""
    texts = []
    if NOTE in net.info and not np.any(net.sigma):
        texts.append(
            f"net is de-noised already ({_earlier(net.info[NOTE])}): this absorbs further noise, beyond what it was "
            "trained with, so the output will be off; to absorb another amount, start from the original network"
        )
    elif not np.array_equal(np.broadcast_to(sigma, (net.N,)), np.broadcast_to(net.sigma, (net.N,))):
        texts.append(
            f"sigma = {_size(sigma)} is not the training noise, {_size(net.sigma)}: training absorbed the bias at its "
            "own noise only, so the output will be off"
        )
    if net.form == "rate" and net.placement == "out":
        texts.append(
            "the noise is outside the activation and never passed through it: only what comes back through W can be "
            "absorbed, and such a network usually does best with its noise simply removed (with_sigma(0))"
        )
    if max(before) > 1 or before != after:
        texts.append(
            f"several basins: {_counts(before)} stable fixed points at the conditions before, {_counts(after)} after; "
            "a smoothed activation stands for the noise within a basin, not for hops between basins or their weights"
        )
    vague = sum(map(_is_vague, laws.found))
    if vague:
        texts.append(
            f"{vague} of {len(laws.found)} stationary law(s) are known no better than to the size of the shift they "
            "give (slow dynamics or strong noise): the s or biases taken from them may be off; compare the losses"
        )
    if laws.unsettled:
        instead = "the others stand for them" if laws.found else "every neuron is smoothed by its own noise alone"
        why = ", ".join(laws.reasons)
        texts.append(f"{laws.unsettled} of {len(before)} condition(s) have no stationary law ({why}): {instead}")
    return texts


def _is_vague(law: Stationary) -> bool:
    """Whether the closure's own error is as large as half of what it says that noise does."""
    shift = float(np.abs(law.mean - law.start).max())
    return float(law.error.max()) > max(shift / 2, NOTABLE * (1 + float(np.abs(law.mean).max())))


def _earlier(note: object) -> str:
    """What `info` says of the first time, if it is as `denoise` wrote it."""
    if not isinstance(note, Mapping) or not {"variant", "sigma"} <= note.keys():
        return "see its info"
    return f"variant {note['variant']!r}, sigma = {_size(note['sigma'])}"


def _size(sigma: ArrayLike) -> str:
    low, high = float(np.min(sigma)), float(np.max(sigma))
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"


def _counts(counts: Sequence[int]) -> str:
    return f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
