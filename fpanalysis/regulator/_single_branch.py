"""On which branch a single neuron is: what its noise-free dynamics does, and where noise holds it against the kink."""

from __future__ import annotations

from enum import Enum

from fpanalysis.stationary._box import grows
from fpanalysis.stationary._one_neuron import fixed_points
from fpanalysis.stationary._result import Problem
from fpanalysis.stationary._transition import Step


class Branch(Enum):
    """``branch.value`` is a short name, ``branch.meaning`` one sentence."""

    ABOVE = (
        "above the kink",
        "The operating point lies above the kink: noise is passed on but for its rare large downward part, and the "
        "mean lies above the noise-free one by what that clipping adds.",
    )
    BELOW = (
        "below the kink",
        "The neuron is active without noise, but with it the operating point lies under the kink: only the upward half "
        "of the noise gets through, and it makes the mean.",
    )
    SILENT = (
        "silent without noise",
        "Without noise the neuron is silent, h = 0: all of its mean is made by noise, and is gone when noise is "
        "removed.",
    )
    SMOOTH = (
        "no kink",
        "The activation is smooth: its curvature, averaged over the noise, moves the mean.",
    )
    SEVERAL = (
        "several basins",
        "The noise-free dynamics has several stable fixed points: formulas describe the law about one of them, the "
        "exact chain all of them together.",
    )
    FLIPS = (
        "flips",
        "The step overshoots: without noise the state does not rest but flips from side to side of the fixed point "
        "(for ReLU where w < 1 - 2/gamma). A stationary law exists, but formulas about a fixed point do not apply.",
    )
    QUASI = (
        "quasi-stationary",
        "The noise-free state is stable, but beyond the unstable fixed point activity grows without bound, and noise "
        "carries the neuron there in the end: there is no stationary law, only a quasi-stationary one until then.",
    )
    DIVERGES = (
        "diverges",
        "Nothing holds the state, since self-excitation outgrows the leak (w >= 1) or, in a linear neuron, each step "
        "overshoots by more than the last (w < 1 - 2/gamma): activity grows without bound, so there is no stationary "
        "law.",
    )

    meaning: str

    def __new__(cls, name: str, meaning: str) -> Branch:
        member = object.__new__(cls)
        member._value_ = name
        member.meaning = meaning
        return member

    @property
    def has_law(self) -> bool:
        """Whether a stationary law exists."""
        return self not in (Branch.QUASI, Branch.DIVERGES)

    @property
    def settles(self) -> bool:
        """Whether there is a stable fixed point that a formula can start from."""
        return self not in (Branch.FLIPS, Branch.DIVERGES)


def branch(problem: Problem, a: float) -> Branch:
    """The branch of a one-neuron `problem`, whose mean preactivation with noise is `a` (NaN: not known)."""
    net = problem.network
    f, w, b = net.activation, float(net.W[0, 0]), float(net.b[0])
    if grows(Step(problem)):
        return Branch.QUASI if problem.stable else Branch.DIVERGES
    if not problem.stable:
        return Branch.FLIPS
    if w > 0 and len(fixed_points(net, problem.u)[0]) > 1:
        return Branch.SEVERAL
    if f.smooth:
        return Branch.SMOOTH
    if f.df([w * float(problem.start[0]) + b])[0] == 0:
        return Branch.SILENT
    return Branch.BELOW if a < 0 else Branch.ABOVE
