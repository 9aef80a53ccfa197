"""Find the fixed points: search, proof where one is affordable, and the list that comes of both."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from fpanalysis.checks import check_rng
from fpanalysis.fixed_points import proof as exhaustive
from fpanalysis.fixed_points.kinks import kinked
from fpanalysis.fixed_points.proof import NO_LOOPS, Proof
from fpanalysis.fixed_points.result import FixedPoints, is_stable
from fpanalysis.fixed_points.search import Search
from fpanalysis.network import Network
from fpanalysis.results import InputError, Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

THOROUGH = 100  #: times the effort of a proof that is asked for


def find_fixed_points(
    net: System, u: ArrayLike | None = None, rng: int | Generator = 0, prove: bool | None = None
) -> FixedPoints:
    """Fixed points of F(h) = h at the constant input `u` (n_in,); None means zero input.

    First an exhaustive search tries to decide where all fixed points are: over the activation patterns of a ReLU
    network, or over boxes of a network of rank <= 5 or N <= 10 (:mod:`fpanalysis.fixed_points.proof`). Where it does
    not decide everything, Newton's iteration starts, round after round, from noise-free and noisy trajectories, from
    random states along the directions that W amplifies, and from midpoints and mixtures of the points already found,
    until rounds find nothing new but all that is known again, and the indices of the points, where they must, sum
    to 1. A network without loops has one point, which needs no search. Every point returned is a zero to rounding:
    nothing slow but moving is reported as fixed.

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
    if prove and not exhaustive.available(net) and exhaustive.only_point(net, u) is None:
        raise InputError(
            "prove=True needs a fpanalysis.Network with ReLU, or one of rank <= 5 or of at most 10 neurons that share "
            f"an activation with a known slope range; found {net!r}"
        )
    generator = check_rng(rng)
    unit = _unit(net, u)
    with threadpool_limits(1, user_api="blas"):  # on matrices of these sizes BLAS threads double the CPU time at best
        if unit == 1:
            search, proof = _find(net, u, generator, prove)
        else:
            assert isinstance(net, Network)
            driven = replace(net, b=net.drive(u) / unit, W_in=None, conditions=None, targets=None)
            search, proof = _find(driven, np.zeros(0), generator, prove)
            proof = proof and replace(proof, h=unit * proof.h, box=unit * proof.box, singular=unit * proof.singular)
        return _result(net, u, search, unit * search.points.h, proof, seed, prove)


def _unit(net: System, u: Array) -> float:
    """What a positively homogeneous f (ReLU) lets the drive be measured in, so that no tolerance depends on its size:
    h solves h = f(W h + c) iff h / unit does with c / unit. A power of two, by which division is exact."""
    if not isinstance(net, Network):
        return 1.0
    x, drive = np.linspace(-3, 3, 31)[:, None], net.drive(u)
    if not drive.any() or not np.array_equal(net.activation.f(4 * x), 4 * net.activation.f(x)):
        return 1.0
    return float(2.0 ** np.frexp(np.abs(drive).max())[1])


def _find(net: System, u: Array, rng: Generator, prove: bool | None) -> tuple[Search, Proof | None]:
    """The search, with the points of the proof among its own, and the proof if there is one."""
    search = Search(net, u, rng)
    proof = exhaustive.only_point(net, u)
    if proof is None and prove is not False:
        proof = exhaustive.prove(net, u, THOROUGH if prove else 1)
    if proof is None or not proof.complete or not np.isinf(proof.box).all():
        search.run()
    if proof is None:
        return search, None
    if proof.method == NO_LOOPS:  # det(I - dF/dh) is 1, small as singular values may become over many layers
        assert isinstance(net, Network)
        search.points.add(proof.h, np.where(kinked(net, proof.h, u).any(axis=1), 0, 1))
        return search, proof
    search.include(np.vstack([proof.h, proof.singular]))
    inside = ((search.points.h >= proof.box[0]) & (search.points.h <= proof.box[1])).all(axis=1)
    if proof.complete and not inside.all():
        proof = replace(proof, complete=False, why="points were found outside the box that was searched")
    elif proof.complete and len(inside) != len(proof.h):  # methods that contradict each other prove nothing
        proof = replace(proof, complete=False, why=f"it encloses {len(proof.h)} points, and {len(inside)} were found")
        search.dry = False
    return search, proof


def _result(
    net: System, u: Array, search: Search, h: Array, proof: Proof | None, seed: int | None, prove: bool | None
) -> FixedPoints:
    stable = any(is_stable(net, point, u) for point in h)
    order = np.argsort(np.linalg.norm(h, axis=1), kind="stable")
    settings = {"rounds": search.rounds, "starts": search.starts, "u": u.tolist(), "prove": prove}
    return FixedPoints(
        net=net,
        u=u,
        h=h[order],
        residual=np.abs(net.target(h[order], u) - h[order]).max(axis=-1, initial=0.0),
        index=search.points.index[order],
        dry=search.dry,
        proof=proof,
        status=Status.OK if stable else Status.NO_STABLE_FIXED_POINT,
        provenance=Provenance("newton" if proof is None else f"newton, {proof.method}", net.hash, settings, seed),
    )
