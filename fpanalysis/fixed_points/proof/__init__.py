"""Exhaustive searches that prove a list of fixed points complete, where that is affordable.

A ReLU network is linear for each of the 2^N patterns of active neurons: `threshold_linear` goes through the tree of
patterns and prunes it by linear programs. A network whose W has low rank, or that has few neurons, is searched box by
box: `intervals`. Both decide in floating point only what exceeds a bound on the rounding errors of the decision.
A network without loops needs no search: `without_loops`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fpanalysis.fixed_points.proof._result import Proof
from fpanalysis.fixed_points.proof.intervals import applicable, branch_and_prune
from fpanalysis.fixed_points.proof.threshold_linear import enumerate_patterns
from fpanalysis.fixed_points.proof.without_loops import NO_LOOPS, only_point
from fpanalysis.network import Network
from fpanalysis.system import System

__all__ = ["NO_LOOPS", "Proof", "available", "branch_and_prune", "enumerate_patterns", "only_point", "prove"]

Array = NDArray[np.float64]

PATTERNS, NODES = 3e10, 20_000  #: N^4 times the nodes of activation patterns visited, and nodes at most
LARGE = 128  #: neurons from which on even one node takes longer than that
BOXES, MOST = 4e6, 60_000  #: N times the boxes, and boxes at most


def available(net: System) -> bool:
    """Whether there is a method for `net`."""
    return isinstance(net, Network) and (net.activation.name == "relu" or applicable(net))


def prove(net: System, u: Array, effort: float = 1.0) -> Proof | None:
    """An exhaustive search at the input `u` (n_in,) by the method that suits `net`; None if there is none.

    With `effort` 1 it gives up after about a second, in proportion with more.
    """
    if not isinstance(net, Network):
        return None
    if net.activation.name == "relu" and (net.N <= LARGE or effort > 1):
        c = net.drive(u)
        # without a drive all is decided on kinks: only a network that contracts can be
        nodes = int(effort * min(NODES, PATTERNS / net.N**4)) if c.any() else 1
        proof = enumerate_patterns(net.W, c, max(1, nodes))
        proof = proof if net.form == "rate" else _as_currents(proof, net, u)
        if proof.complete or not applicable(net):
            return proof
    return branch_and_prune(net, u, int(effort * min(MOST, BOXES / net.N))) if applicable(net) else None


def _as_currents(proof: Proof, net: Network, u: Array) -> Proof:
    """x = W h + W_in u + b for rates h: the same fixed points in the current form, f(x) below the box's top."""
    currents = [h @ net.W.T + net.drive(u) for h in (proof.h, proof.singular)]
    return replace(proof, h=currents[0], singular=currents[1])
