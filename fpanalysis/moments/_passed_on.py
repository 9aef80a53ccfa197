"""What a Gaussian leaves out in a feedforward network: third and fourth cumulants, passed on from layer to layer.

The formulas of `fpanalysis.stationary._cumulants` for gamma = 1 and one block per layer. What layer k makes arrives in
layer l at the lag n = l - 1 - k, through J_{l-1} ... J_{k+1} with J_l = diag(G_l) W_l, so every sum over lags is one
over the layers before; and a source (f, R) at layer l changes its mean and covariance by

    dC_l = J_l dC_{l-1} J_l^T + R_l,      dm_l = J_l dm_{l-1} + f_l + M2_l diag(W_l dC_{l-1} W_l^T) / 2
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fpanalysis.activations import Activation
from fpanalysis.stationary._cumulants import Additions, Cumulants, first_additions, lag_term, second_additions
from fpanalysis.stationary._nonlinear import nonlinear_moments

Array = NDArray[np.float64]

SOURCES = 3  #: the first order, and two parts of the second


class Entering(NamedTuple):
    """What enters f in one layer at one input: weights from the layer before, mean a, deviation s, gain G (n,), the
    covariance C of the layer before, and the variance of the noise inside f (n,)."""

    W: Array
    a: Array
    s: Array
    G: Array
    C: Array
    inside: Array


class Change(NamedTuple):
    """Of the mean (SOURCES, n) and the covariance (SOURCES, n, n) of one layer, by source."""

    m: Array
    C: Array


class Made(NamedTuple):
    """What one layer adds to the cumulants: B = (J.. P, J.. U) carried to the layer at hand, with its coefficients."""

    B: Array
    third: Sequence[Array]
    fourth: Sequence[Array]


def changes(activation: Activation, layers: Sequence[Entering]) -> Iterator[Change]:
    """Layer by layer."""
    made: list[Made] = []
    change = Change(np.zeros((SOURCES, layers[0].W.shape[1])), np.zeros((SOURCES, *layers[0].C.shape)))
    for W, a, s, G, C, inside in layers:
        x, c = nonlinear_moments(activation, a, s), C @ W.T
        arriving = [W @ source.B for source in made]
        q = _cumulants(W, made, arriving)
        additions = (first_additions(x, q, c), *second_additions(x, q, c))
        change = _passed(W, G, x.M[2] / 2, change, additions)
        yield change
        P = G[:, None] * (W @ c) + np.diag(G * inside)
        made = [Made(G[:, None] * OB, *rest) for OB, (_, *rest) in zip(arriving, made, strict=True)]
        own = np.hstack([P, np.eye(len(W))])
        made.append(Made(own, (x.M[2], x.n12, x.n03), (x.M[3], x.n22, x.n13, x.n04)))


def _cumulants(W: Array, made: Sequence[Made], arriving: Sequence[Array]) -> Cumulants:
    """Of the layer before with the inputs o = W h of this one; `arriving` is W B of each source."""
    n, before = W.shape
    TK = np.zeros((before, 2 * n))
    for (B, third, fourth), OB in zip(made, arriving, strict=True):
        half = OB.shape[1] // 2
        TK += lag_term(B, OB[:, :half], OB[:, half:], third, fourth)
    T, K = TK[:, :n], TK[:, n:]
    t, k = ((W * part.T).sum(axis=1) for part in (T, K))
    return Cumulants(t, T, k, K, converged=True)


def _passed(W: Array, G: Array, curvature: Array, before: Change, additions: Sequence[Additions]) -> Change:
    """The change of this layer, from that of the layer before and what is added here."""
    m, C = np.empty((SOURCES, len(W))), np.empty((SOURCES, len(W), len(W)))
    for k, (f, X, V) in enumerate(additions):
        WC = W @ before.C[k]
        m[k] = G * (W @ before.m[k]) + f + curvature * np.einsum("ij,ij->i", WC, W)
        R = G[:, None] * (W @ X)
        R += R.T.copy()
        np.fill_diagonal(R, V)
        C[k] = G[:, None] * (WC @ W.T) * G + R
    return Change(m, C)
