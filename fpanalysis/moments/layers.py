"""Mean and covariance layer by layer through a feedforward network, without sampling.

With noise in [in] or out [out] of every layer and the input u fixed, C_0 = 0,

    a_l = W_l m_{l-1} + b_l,    S_l = W_l C_{l-1} W_l^T + sigma_l^2 I [in],    s_l^2 = diag S_l
    m_l = M(a_l, s_l),          C_l = Q(a_l, S_l) + sigma_l^2 I [out]
    zbar = W_out m_L + b_out,   Var z = diag(W_out C_L W_out^T)

with Q_ij = sum_k c_k^i c_k^j rho_ij^k and Q_ii = V(a_i, s_i). The first layer is exact, and all are if f is linear.
What a Gaussian leaves out of the others is corrected to first order in the third cumulants, and the second order, with
a share of the first, is the stated error (`_passed_on`). Sums over k end where 1e-5 of the variance is left, or at
k = 12 (1e-4, where inputs of neurons are almost the same). The block network's `propagate` gives the same numbers at
the cost of matrices of all neurons.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.feedforward import layer_sizes
from fpanalysis.moments._passed_on import Change, Entering, changes
from fpanalysis.moments._step import CUT, Rates, rates
from fpanalysis.moments.propagate import CLOSED, SAFETY, SHARE
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layer:
    """Law of one layer's n neurons at B inputs.

    Attributes
    ----------
    a, s : (B, n), mean and standard deviation of what enters f, in the Gaussian approximation.
    mean, cov : (B, n) and (B, n, n), of the states h^l.
    error, variance_error : (B, n), of the mean and of the variances (95 %); for neurons that only rare events move,
        1e-3 of the layer's largest variance comes on top.
    """

    a: Array
    s: Array
    mean: Array
    cov: Array
    error: Array
    variance_error: Array

    @property
    def variance(self) -> Array:
        """(B, n)."""
        return np.einsum("bii->bi", self.cov)


@dataclass(frozen=True, eq=False)
class Layers:
    """Laws of L layers and of the output at B inputs; as a sequence, the layers.

    Attributes
    ----------
    layers : L laws.
    output, output_variance : (B, n_out), mean and variance of z.
    output_error, output_variance_error : (B, n_out), what they may be off by (95 %).
    status : one per input; "not Gaussian" where a layer's law is far from a Gaussian.
    """

    layers: tuple[Layer, ...]
    output: Array
    output_variance: Array
    output_error: Array
    output_variance_error: Array
    status: tuple[Status, ...]

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, l: int) -> Layer:
        return self.layers[l]

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)


def layers(net: Network, u: ArrayLike | None = None, sigma: ArrayLike | None = None) -> Layers:
    """The law of every layer of `net`, made by :func:`fpanalysis.feedforward`, at the inputs `u`.

    Parameters
    ----------
    u : (n_in,) or (B, n_in), optional
        None: the network's conditions if it has any, else zero input. One input gives B = 1.
    sigma : one number or one per neuron, optional
        None: ``net.sigma``.

    Raises
    ------
    InputError
        If `net` is not feedforward, its activation has parameters of its own for every neuron (:func:`propagate` takes
        such a network), or an argument does not fit.
    """
    sizes = _checked(net)
    if u is None and net.conditions is not None:
        u = net.conditions
    u = np.atleast_2d(net.check_input(u))
    if u.ndim != 2 or not len(u):
        raise InputError(f"u must be ({net.n_in},) or (B, {net.n_in}), B at least one; found shape {u.shape}")
    level = np.broadcast_to(np.asarray(net.check_noise(net.sigma if sigma is None else sigma), float), (net.N,))
    with np.errstate(over="ignore", invalid="ignore"):
        passed = list(_plain(net, sizes, net.drive(u), level**2))
        parts = [_changes(net, passed, b) for b in range(len(u))]
    by_layer = [Change(*map(np.stack, zip(*found, strict=True))) for found in zip(*parts, strict=True)]
    return _result(net, passed, by_layer)


def passes(net: Network, inputs: Array, counted: NDArray[np.bool_]) -> bool:
    """Whether the `counted` steps (T,) of trials with `inputs` (T, B, n_in) show nothing but the laws of `layers`."""
    sizes = layer_sizes(net)
    if sizes is None or not net.activation.alike:
        return False
    return int(counted.argmax()) >= len(sizes) - 1 and bool((inputs == inputs[0]).all())


def _checked(net: Network) -> tuple[int, ...]:
    if not isinstance(net, Network):
        raise InputError(f"net must be a fpanalysis.Network; found {type(net).__name__}")
    sizes = layer_sizes(net)
    if sizes is None:
        raise InputError(f"net must be a feedforward network, made by fpanalysis.feedforward; found {net!r}")
    if not net.activation.alike:
        raise InputError(
            f"activation {net.activation.name!r} has parameters for each neuron, which are not known by layer: use "
            "fpanalysis.moments.propagate"
        )
    return sizes


class Passed(NamedTuple):
    """The plain closure in one layer: its weights, the covariance before it (B, n', n'), the variance of the noise
    inside f (n,), mean and law of f, and the covariance of its states."""

    W: Array
    before: Array
    inside: Array
    a: Array
    f: Rates
    C: Array


def _plain(net: Network, sizes: tuple[int, ...], drive: Array, variance: Array) -> Iterator[Passed]:
    """The closure's recursion over the layers at the drive W_in u + b (B, N)."""
    start, m = 0, np.zeros((len(drive), 0))
    C, noise = np.zeros((len(drive), 0, 0)), variance if net.placement == "in" else np.zeros(net.N)
    for n in sizes:
        own = slice(start, start + n)
        W = net.W[own, start - m.shape[1] : start]
        a = m @ W.T + drive[:, own]
        f = rates(net.activation, a, W @ C @ W.T, noise[own])
        before, C, m, start = C, f.Q.copy(), f.M, start + n
        if net.placement == "out":
            C[:, np.arange(n), np.arange(n)] += variance[own]
        yield Passed(W, before, noise[own], a, f, C)


def _changes(net: Network, passed: list[Passed], b: int) -> list[Change]:
    """At input number b; not finite where the closure is not."""
    return list(
        changes(net.activation, [Entering(p.W, p.a[b], p.f.s[b], p.f.G[b], p.before[b], p.inside) for p in passed])
    )


def _result(net: Network, passed: list[Passed], found: list[Change]) -> Layers:
    """`found` (B, SOURCES, ...) by layer: the first source corrects where it is small, the others are the error."""
    W_out = net.readout_weights[:, -len(passed[-1].W) :]
    dz = found[-1].m @ W_out.T
    dv = np.einsum("oi,bkij,oj->bko", W_out, found[-1].C, W_out, optimize=True)
    z = passed[-1].f.M @ W_out.T + net.readout(np.zeros(net.N))
    spread = np.einsum("oi,bij,oj->bo", W_out, passed[-1].C, W_out, optimize=True)
    scale = np.maximum(spread, 1e-300)
    left, mean_left = np.abs(dv[:, 1:]).sum(axis=1), np.abs(dz[:, 1:]).sum(axis=1)
    small = (left <= CLOSED * scale) & (mean_left <= CLOSED * np.sqrt(scale)) & (np.abs(dv[:, 0]) < CLOSED * scale)
    use = small.all(axis=1)
    finite = np.isfinite(z).all(axis=1) & np.isfinite(spread).all(axis=1)
    codes = np.where(finite, np.where(use, 0, 1), 2).tolist()
    return Layers(
        layers=tuple(_layer(p, change, use) for p, change in zip(passed, found, strict=True)),
        output=z + np.where(use[:, None], dz[:, 0], 0.0),
        output_variance=spread + np.where(use[:, None], dv[:, 0], 0.0),
        output_error=_error(dz, use),
        output_variance_error=_error(dv, use) + CUT * spread,
        status=tuple((Status.OK, Status.NOT_GAUSSIAN, Status.DIVERGED)[code] for code in codes),
    )


def _layer(p: Passed, change: Change, use: NDArray[np.bool_]) -> Layer:
    dv = np.einsum("bkii->bki", change.C)
    return Layer(
        a=p.a,
        s=p.f.s,
        mean=p.f.M + np.where(use[:, None], change.m[:, 0], 0.0),
        cov=p.C + np.where(use[:, None, None], change.C[:, 0], 0.0),
        error=_error(change.m, use),
        variance_error=_error(dv, use) + CUT * np.einsum("bii->bi", p.C),
    )


def _error(parts: Array, use: NDArray[np.bool_]) -> Array:
    """From the changes (B, SOURCES, n): of the second order, and a share of the first, or all where it is not used."""
    first = np.abs(parts[:, 0])
    return SAFETY * np.abs(parts[:, 1:]).sum(axis=1) + np.where(use[:, None], SHARE, 1 + SHARE) * first
