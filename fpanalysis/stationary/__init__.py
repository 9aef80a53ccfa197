"""Stationary laws of noisy networks and cells: one file per method, found by its name.

A method is a file of this folder without a leading underscore; ``small_noise.py`` is "small-noise". It gives
``solve(problems, rng, **settings) -> list[Stationary]``, and gets several problems at once so that it can
share work between them (a sweep of noise levels, a set of inputs). It is for a Network, unless its file says
``ANY_SYSTEM = True``.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.random import Generator
from numpy.typing import ArrayLike

from fpanalysis.checks import check_rng, check_vector
from fpanalysis.fixed_points import settle
from fpanalysis.fixed_points.newton import bound
from fpanalysis.fixed_points.result import is_stable
from fpanalysis.lipschitz import LipschitzRNN
from fpanalysis.network import Network
from fpanalysis.results import InputError, Status
from fpanalysis.stationary import _auto
from fpanalysis.stationary._result import Basin, Density, Problem, Stationary, failed, point_mass
from fpanalysis.system import System

__all__ = ["Basin", "Density", "Problem", "Stationary", "methods", "solve", "stationary"]

AUTO = "auto"


def methods() -> list[str]:
    """Names of the stationary methods."""
    return [module.name.replace("_", "-") for module in pkgutil.iter_modules(__path__) if module.name[0] != "_"]


def stationary(
    net: System,
    u: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    method: str = AUTO,
    start: ArrayLike | None = None,
    rng: int | Generator = 0,
    **settings: Any,
) -> Stationary:
    """The stationary law of `net` at the constant input `u` (n_in,) and noise `sigma` (number or (N,)).

    Parameters
    ----------
    u, sigma : None means zero input, and the network's own sigma.
    method : one of :func:`methods`, or "auto", which picks and says why (`fpanalysis.stationary._auto`).
    start : (N,), optional
        The fixed point (or a state in its basin) about which local methods work; by default the end of the
        noise-free trajectory from 0. Given a start, "auto" gives the law about it; without one, of all basins.
    settings : passed to the method.

    Returns
    -------
    Stationary
        With a status: a method that does not apply or does not converge says so there.

    Raises
    ------
    InputError
        On an unknown method or setting, or values that do not fit the network.
    """
    if not isinstance(net, System):
        raise InputError(f"net must be a fpanalysis.Network or Cell; found {type(net).__name__}")
    u = net.check_condition(u)
    sigma = net.sigma if sigma is None else net.check_noise(sigma)
    h = np.zeros(net.N) if start is None else check_vector("start", start, net.N)
    problem = dataclasses.replace(locate(net, u, sigma, h), local=start is not None)
    return solve([problem], method, rng, **settings)[0]


def locate(net: System, u: np.ndarray, sigma: float | np.ndarray, h: np.ndarray) -> Problem:
    """The problem about the fixed point that the noise-free dynamics reaches from `h`."""
    residual = np.abs(net.target(h, u) - h).max()
    rests = bool(residual <= bound(h[None])[0])
    if not rests:
        states, rest = settle(net, h[None], u)
        h, rests = states[0], bool(rest[0])
    return Problem(net, u, sigma, h, rests and is_stable(net, h, u))


def solve(
    problems: Sequence[Problem], method: str = AUTO, rng: int | Generator = 0, **settings: Any
) -> list[Stationary]:
    """The stationary laws of several problems by one method, sharing work between them; sigma = 0 is a point mass."""
    if method not in [AUTO, *methods()]:
        raise InputError(f"unknown stationary method {method!r}; known: {', '.join([AUTO, *methods()])}")
    check_rng(rng)
    for problem in problems:
        if isinstance(problem.net, LipschitzRNN) and problem.net.multiplicative:
            raise InputError(
                "stationary laws are those of additive noise, and this network has multiplicative noise too, of "
                f"{problem.net.multiplicative:g}: leave it out with dataclasses.replace(net, multiplicative=0)"
            )
    try:
        if method == AUTO:
            return _auto.solve(problems, solve, rng, **settings)
        return _solve(problems, method, rng, settings)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise InputError(f"method {method!r}: {str(error).split('() ')[-1]}") from None


def _solve(
    problems: Sequence[Problem], method: str, rng: int | Generator, settings: dict[str, Any]
) -> list[Stationary]:
    module = _module(method)
    if not (_takes_any_system(module) or all(isinstance(problem.net, Network) for problem in problems)):
        general = ", ".join(known for known in methods() if _takes_any_system(_module(known)))
        reason = f"{method} needs the weights of a Network; for other systems: {general}"
        return [failed(problem, method, Status.NOT_APPLICABLE, reason=reason) for problem in problems]
    noisy = [k for k, problem in enumerate(problems) if np.any(problem.sigma)]
    results = [point_mass(problem, method) for problem in problems]
    found: list[Stationary] = module.solve([problems[k] for k in noisy], rng, **settings)
    for k, result in zip(noisy, found, strict=True):
        results[k] = result
    return results


def _module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name.replace('-', '_')}")


def _takes_any_system(module: ModuleType) -> bool:
    return getattr(module, "ANY_SYSTEM", False)
