"""The single-neuron regulator: one noisy neuron that holds its state, by closed formula and by the exact chain.

    h' = (1 - gamma) h + gamma f(w h + b + sigma xi)       noise in
    h' = (1 - gamma) h + gamma (f(w h + b) + sigma xi)     noise out

    regulator = Regulator(w=-1.5, b=1.0, gamma=0.1, sigma=0.5)
    regulator.mean(), regulator.variance(), regulator.shift(), regulator.error()
    regulator.exact().mean

The formulas are in `_single_law`; where none applies, `status` and `branch` say why and the numbers are NaN.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fpanalysis.activations import Activation, get_activation
from fpanalysis.checks import real_array
from fpanalysis.fixed_points import find_fixed_points
from fpanalysis.network import Network
from fpanalysis.regulator._single_balance import Cases
from fpanalysis.regulator._single_branch import Branch, branch
from fpanalysis.regulator._single_escape import Escape, escape
from fpanalysis.regulator._single_law import Formula, SlowLimit, formula, slow_limit
from fpanalysis.results import InputError, Status
from fpanalysis.stationary import Problem, Stationary, locate, solve
from fpanalysis.stationary._one_neuron import fixed_points as stable_and_unstable

if TYPE_CHECKING:
    from fpanalysis.fixed_points import FixedPoints

FAR = 1e8  #: |x| at which an activation shows its bounds
BISECTIONS = 200
HIT = 1e-10  #: distance of the mean from its target, relative to sigma + |target|


class Loss(NamedTuple):
    """E (z - z*)^2 and its two parts."""

    total: float
    bias2: float
    variance: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Regulator:
    """One noisy neuron with recurrent weight `w` and bias `b`.

    Parameters
    ----------
    gamma : dt / tau, in (0, 1].
    sigma : standard deviation of the noise per step, >= 0.
    activation : name of a known activation, or an instance.
    placement : "in" | "out", noise inside or outside the activation.

    Raises
    ------
    InputError
        On numbers that are not finite, gamma outside (0, 1], negative sigma, unknown activation or placement.
    """

    if TYPE_CHECKING:  # what the constructor takes is wider than what the fields hold

        def __init__(
            self,
            *,
            w: float,
            b: float,
            gamma: float = 0.1,
            sigma: float = 0.0,
            activation: str | dict[str, Any] | Activation = "relu",
            placement: str = "in",
        ) -> None: ...

    w: float
    b: float
    gamma: float = 0.1
    sigma: float = 0.0
    activation: Activation = "relu"  # type: ignore[assignment]
    placement: str = "in"

    def __post_init__(self) -> None:
        for name in ("w", "b", "gamma", "sigma"):
            object.__setattr__(self, name, _number(name, getattr(self, name)))
        object.__setattr__(self, "activation", get_activation(self.activation))
        self.network()

    @classmethod
    def at_target(
        cls,
        target: float,
        *,
        w: float,
        gamma: float = 0.1,
        sigma: float = 0.0,
        activation: str | dict[str, Any] | Activation = "relu",
        placement: str = "in",
    ) -> Regulator:
        """The regulator whose mean, by the formula at finite gamma, is `target`.

        Raises
        ------
        InputError
            Where the activation cannot reach the target, or w leaves no unique law to solve for.
        """
        target = _number("target", target)
        trial = cls(w=w, b=0.0, gamma=gamma, sigma=sigma, activation=activation, placement=placement)
        trial._check_target(target)
        if trial.sigma == 0:
            return replace(trial, b=trial._noise_free_bias(target))
        return trial._solved_for(target)

    def network(self) -> Network:
        """The regulator as a network of one neuron."""
        return Network(
            W=[[self.w]],
            b=[self.b],
            gamma=self.gamma,
            sigma=self.sigma,
            activation=self.activation,
            placement=self.placement,
        )

    def fixed_points(self) -> FixedPoints:
        """All fixed points without noise, with their stability."""
        return find_fixed_points(self.network())

    @cached_property
    def h0(self) -> float:
        """Where the state rests without noise; NaN where it does not. For ReLU b / (1 - w), or 0 where b <= 0."""
        if not self.branch.settles:
            return nan
        if self.activation.name == "relu" and self.w < 1:
            return max(self.b, 0.0) / (1 - self.w)
        return float(self._problem.start[0])

    @cached_property
    def branch(self) -> Branch:
        """Which kind of neuron this is; ``branch.meaning`` says what that means."""
        kind = branch(self._problem, 0.0)
        if kind is Branch.ABOVE and self.sigma > 0:
            found = formula(self._cases, float(self._problem.start[0]))
            kind = branch(self._problem, found.a if found else 0.0)
        return kind

    @property
    def status(self) -> Status:
        """Whether the formula holds within its error, and if not, why."""
        if not self.branch.has_law:
            return Status.DIVERGED
        if self.branch is Branch.FLIPS:
            return Status.NO_STABLE_FIXED_POINT
        return Status.OK if self._formula is not None else Status.NOT_CONVERGED

    @property
    def a(self) -> float:
        """The operating point w m + b: the mean of what enters f, noise aside."""
        return self._law.a

    @property
    def s(self) -> float:
        """The standard deviation of what enters f: sqrt(w^2 Var h + sigma^2 [in])."""
        return self._law.s

    def mean(self) -> float:
        """E h at finite gamma; NaN where `status` is not OK."""
        return self._law.mean

    def variance(self) -> float:
        """Var h at finite gamma."""
        return self._law.variance

    def error(self) -> float:
        """Absolute error of `mean` and `shift` that covers the exact chain at 95 %; infinite with several basins,
        between which the formula does not choose."""
        return float("inf") if self.branch is Branch.SEVERAL else self._law.error

    def variance_error(self) -> float:
        """The same for `variance`."""
        return float("inf") if self.branch is Branch.SEVERAL else self._law.variance_error

    def shift(self) -> float:
        """How far noise moves the mean from the noise-free fixed point, E h - h0."""
        return self._law.mean - self.h0

    def gaussian(self) -> tuple[float, float]:
        """Mean and variance by the closure's two equations alone, which take the law for normal."""
        return self._law.gaussian_mean, self._law.gaussian_variance

    def slow_limit(self) -> SlowLimit:
        """The closed form for gamma -> 0, with the first order in gamma; NaN where no stationary law exists."""
        if not self.branch.has_law or not self.branch.settles:
            return SlowLimit(*[nan] * 6)
        if self.sigma == 0:
            return SlowLimit(self.w * self.h0 + self.b, 0.0, self.h0, 0.0, 0.0, 0.0)
        return slow_limit(self._cases, self.h0)

    def loss(self, target: float, c: float = 1.0, d: float = 0.0) -> Loss:
        """E (z - target)^2 of the output z = c h + d: (c m + d - target)^2 + c^2 Var h."""
        target, c, d = _number("target", target), _number("c", c), _number("d", d)
        bias2, variance = (c * self.mean() + d - target) ** 2, c**2 * self.variance()
        return Loss(bias2 + variance, bias2, variance)

    def exact(self) -> Stationary:
        """The exact law of the chain (`fpanalysis.stationary`, method "chain")."""
        return solve([self._problem], "chain")[0]

    def escape(self) -> Escape | None:
        """The quasi-stationary law and how fast noise ends it, on the quasi-stationary branch; else None."""
        return escape(self._problem) if self.branch is Branch.QUASI else None

    @cached_property
    def _problem(self) -> Problem:
        """About the fixed point to which the noise-free flow leads from 0, where it leads to one."""
        net, u = self.network(), np.zeros(0)
        stable = stable_and_unstable(net, u)[0]
        up = net.target(np.zeros(1), u)[0] >= 0
        ahead = stable[stable >= 0] if up else stable[stable <= 0][::-1]
        return locate(net, u, self.sigma, ahead[:1] if len(ahead) else np.zeros(1))

    @property
    def _cases(self) -> Cases:
        numbers = (np.array([float(value)]) for value in (self.w, self.b, self.gamma, self.sigma))
        return Cases(self.activation, self.placement == "in", *numbers)

    @cached_property
    def _formula(self) -> Formula | None:
        if not self.branch.has_law or not self.branch.settles:
            return None
        if self.sigma == 0:
            return Formula(self.w * self.h0 + self.b, 0.0, self.h0, 0.0, 0.0, 0.0, self.h0, 0.0)
        return formula(self._cases, self.h0)

    @property
    def _law(self) -> Formula:
        return self._formula or Formula(*[nan] * 8)

    def _check_target(self, target: float) -> None:
        f, name = self.activation, self.activation.name
        low, high = sorted(float(f.f(np.array([x]))[0]) for x in (-FAR, FAR))
        low, high = (low if low > -FAR / 2 else -np.inf), (high if high < FAR / 2 else np.inf)
        if low < target < high or (target in (low, high) and self._rests_at(target)):
            return
        noise = "with noise " if self.sigma > 0 else ""
        raise InputError(
            f"target must lie between {low:g} and {high:g}, both excluded: {noise}the mean of a {name} neuron reaches "
            f"nothing else; found {target:g}"
        )

    def _rests_at(self, target: float) -> bool:
        """Whether a target at the end of f's range is taken, as 0 is by a ReLU, and noise does not move it."""
        kinked = not self.activation.smooth and self.activation.f(np.zeros(1))[0] == target
        return bool(kinked and (self.sigma == 0 or (self.placement == "out" and self.w == 0)))

    def _noise_free_bias(self, target: float) -> float:
        """b with f(w target + b) = target."""
        f = self.activation.f
        low, high = -1.0, 1.0
        far = FAR * (1 + abs(target))
        while float(f(np.array([high]))[0]) < target and high < far:
            high *= 2
        while float(f(np.array([low]))[0]) > target and low > -far:
            low *= 2
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            below = float(f(np.array([middle]))[0]) < target
            low, high = (middle, high) if below else (low, middle)
        return high - self.w * target

    def _solved_for(self, target: float) -> Regulator:
        """Bracket b about its noise-free value, then close in: the mean rises with b."""
        from scipy.optimize import brentq

        start = self._noise_free_bias(target)
        width = (1 + abs(self.w)) * (self.sigma + abs(target)) / 8
        far = FAR * (1 + width)

        def off(b: float) -> float:
            mean = replace(self, b=b).mean()
            if not isfinite(mean):
                raise InputError(
                    f"w = {self.w:g} with gamma = {self.gamma:g} and sigma = {self.sigma:g} has no law by formula on "
                    f"the way to the target {target:g} (at b = {b:g}): choose w nearer to 0"
                )
            return mean - target

        low = high = start
        at_low = at_high = off(start)
        while at_low > 0 and width < far:
            low, width = low - width, 2 * width
            at_low = off(low)
        while at_high < 0 and width < far:
            high, width = high + width, 2 * width
            at_high = off(high)
        if not at_low <= 0 <= at_high:
            raise InputError(f"target {target:g} is not reached by any b between {low:g} and {high:g}")
        b = start if at_low == 0 == at_high else float(brentq(off, low, high, xtol=1e-15, rtol=1e-14))
        found = replace(self, b=b)
        if abs(found.mean() - target) > HIT * (self.sigma + abs(target)):
            raise InputError(f"target {target:g} is not reached: the mean jumps there from {off(low) + target:g}")
        return found


def _number(name: str, value: Any) -> float:
    array = real_array(name, value)
    if array.ndim:
        raise InputError(f"{name} must be one number; found shape {array.shape}")
    return float(array)
