"""The noisy laws that operating points and attribution are read from: all conditions in one solve."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.checks import check_vector
from fpanalysis.network import Network
from fpanalysis.results import InputError
from fpanalysis.shift import conditions
from fpanalysis.stationary import AUTO, Stationary, locate, methods, solve
from fpanalysis.stationary._auto import about_start
from fpanalysis.stationary._result import Problem, input_variance

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Law:
    """The law at one input, as seen by the neurons: what enters f has mean `a` and standard deviation `s`.

    `rates` is E f(x) and `rates_star` that without noise, at the fixed point, where f gets `a_star`; (N,) each.
    """

    problem: Problem
    stationary: Stationary

    @cached_property
    def a(self) -> Array:
        return self.problem.network.preactivation(self.stationary.mean, self.problem.u)

    @cached_property
    def a_star(self) -> Array:
        return self.problem.network.preactivation(self.problem.start, self.problem.u)

    @cached_property
    def gap(self) -> Array:
        """a - a_star, of the states' difference, which rounds less."""
        change = self.stationary.mean - self.problem.start
        return self.problem.network.W @ change if self.problem.network.form == "rate" else change

    @cached_property
    def s(self) -> Array:
        return np.sqrt(input_variance(self.problem, self.stationary.cov))

    @cached_property
    def rates(self) -> Array:
        if self.problem.network.form == "rate":
            return self.stationary.mean
        return np.asarray(self.stationary.details.get("rates", np.full_like(self.stationary.mean, np.nan)))

    @cached_property
    def rates_star(self) -> Array:
        net, start = self.problem.network, self.problem.start
        return start if net.form == "rate" else net.activation.f(start)


def solve_laws(
    net: Network, u: ArrayLike | None, sigma: ArrayLike | None, method: str, start: ArrayLike | None
) -> list[Law]:
    """The law about the fixed point reached from `start` (None: 0) at each of the inputs."""
    inputs, _ = conditions(net, u)
    level = net.sigma if sigma is None else net.check_noise(sigma)
    if method not in [AUTO, *methods()]:
        raise InputError(f"unknown stationary method {method!r}; known: {', '.join([AUTO, *methods()])}")
    if net.form == "current" and method != "closure":
        raise InputError(f"method must be 'closure' in the current form, which needs E f(h); found {method!r}")
    h = np.zeros(net.N) if start is None else check_vector("start", start, net.N)
    problems = [replace(locate(net, v, level, h), local=True) for v in inputs]
    found = solve(problems, method)
    return [Law(problem, about_start(problem, st)) for problem, st in zip(problems, found, strict=True)]


def own_noise(net: Network, sigma: float | Array) -> Array:
    """Standard deviation of a neuron's own noise where it enters f, (N,).

    Noise in: sigma. Noise out: 0. Current form: the leak's part of it, of variance gamma sigma^2 / (2 - gamma), which
    is that of x' = (1 - gamma) x + gamma sigma xi.
    """
    level = np.broadcast_to(np.asarray(sigma, float), (net.N,))
    if net.form == "current":
        return np.asarray(level * np.sqrt(net.gamma / (2 - np.asarray(net.gamma))))
    return level if net.placement == "in" else np.zeros(net.N)
