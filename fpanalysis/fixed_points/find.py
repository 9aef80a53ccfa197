"""Find the fixed points: search, proof where one is affordable, and the list that comes of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points import proof as exhaustive
from fpanalysis.fixed_points.result import FixedPoints, is_stable
from fpanalysis.fixed_points.search import Search
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

THOROUGH = 100  #: times the effort of a proof that is asked for


def find_fixed_points(
    net: System, u: ArrayLike | None = None, rng: int | Generator = 0, prove: bool | None = None
) -> FixedPoints:
    """Fixed points of F(h) = h at the constant input `u` (n_in,); None means zero input.

    Newton's iteration starts, round after round, from noise-free and noisy trajectories, from random states along
    the directions that W amplifies, and from midpoints and mixtures of the points already found, until a whole
    cycle of such rounds finds nothing new and the indices of the points, where they must, sum to 1. Every point
    returned is a zero to rounding: nothing slow but moving is reported as fixed.

    Then an exhaustive search tries to prove the list complete: over the activation patterns of a ReLU network, or
    over boxes of a network of rank <= 5 or N <= 10 (:mod:`fpanalysis.fixed_points.proof`).

    Parameters
    ----------
    net : Network or Cell.
    prove : None, an exhaustive search that gives up after about a second; True, after about a hundred times as
        much; False, none.

    Raises
    ------
    InputError
        If `u` is not one constant input of the right length, or a proof is asked for of a system for which there
        is no method.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network or Cell; found {type(net).__name__}")
    if prove is not None and not isinstance(prove, bool):
        raise InputError(f"prove must be True, False or None; found {prove!r}")
    u = net.check_condition(u)
    seed = int(rng) if isinstance(rng, int | np.integer) else None
    generator = check_rng(rng)
    with threadpool_limits(1, user_api="blas"):  # on matrices of these sizes BLAS threads double the CPU time at best
        return _find(net, u, generator, seed, prove)


def _find(net: System, u: Array, rng: Generator, seed: int | None, prove: bool | None) -> FixedPoints:
    search = Search(net, u, rng)
    search.run()
    proof = None if prove is False else exhaustive.prove(net, u, THOROUGH if prove else 1)
    if prove and proof is None:
        raise InputError(
            "prove=True needs a ReLU network, or one of rank <= 5 or of at most 10 neurons whose activation has a "
            f"known slope range; found {net!r}"
        )
    if proof is not None:
        search.include(np.vstack([proof.h, proof.singular]))
        inside = ((search.points.h >= proof.box[0]) & (search.points.h <= proof.box[1])).all(axis=1)
        if proof.complete and inside.sum() != len(proof.h):  # never seen; a list is not proven by contradicting methods
            proof = replace(proof, complete=False, why=f"{len(proof.h)} points enclosed, but {inside.sum()} found")
    order = np.argsort(np.linalg.norm(search.points.h, axis=1), kind="stable")
    h = search.points.h[order]
    stable = any(is_stable(net, point, u) for point in search.points.h)
    settings = {"rounds": search.rounds, "starts": search.starts, "u": u.tolist(), "prove": prove}
    return FixedPoints(
        net=net,
        u=u,
        h=h,
        residual=np.abs(net.target(h, u) - h).max(axis=-1, initial=0.0),
        index=search.points.index[order],
        dry=search.dry,
        proof=proof,
        status=Status.OK if stable else Status.NO_STABLE_FIXED_POINT,
        provenance=Provenance("newton" if proof is None else f"newton, {proof.method}", net.hash, settings, seed),
    )
