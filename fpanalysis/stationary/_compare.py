"""How far a law of the diffusion approximation is from the exact chain, computed and put into words."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fpanalysis.results import Status
from fpanalysis.stationary import chain
from fpanalysis.stationary._result import Array, Basin, Problem, Stationary

FACTOR = 1.5  #: in the weight of the smaller basin, beyond which the approximation is said to mislead
PART = 0.1  #: of the shift, likewise
SEEN = 1e-3  #: standard deviations: a smaller shift is not one to be misled about
VARIANCE = 0.5  #: of a variance, likewise
SMALL = 1e-3  #: least weight that the means of chain and basins tell, where the chain has no basins


@dataclass(frozen=True)
class Comparison:
    """The exact law, and by how much that of the diffusion is off."""

    exact: Stationary
    off: Array  #: (N,), |mean - exact mean|
    part: float  #: that relative to the shift from `start`, of the neurons together; NaN without a shift
    weights: tuple[float, float] | None  #: of the smaller basin: by the diffusion, exact

    @property
    def factor(self) -> float:
        """By what the weight of the smaller basin is off, >= 1; NaN where not known."""
        if self.weights is None:
            return float("nan")
        ratio = self.weights[0] / self.weights[1]
        return max(ratio, 1 / ratio)


def compare(problem: Problem, law: Stationary) -> Comparison | Stationary:
    """`law` against the exact chain; the chain's own result where that failed."""
    exact = chain.solve([problem])[0]
    if not exact.status.ok:
        return exact
    off = np.abs(law.mean - exact.mean)
    known = law.details["numerical_error"] + exact.error
    shift = np.abs(exact.mean - problem.start).max()
    seen = problem.stable and shift > max(10 * known.max(), SEEN * np.sqrt(np.diag(exact.cov).max()))
    return Comparison(exact, off, float(off.max() / shift) if seen else float("nan"), _weights(law, exact))


def _weights(law: Stationary, exact: Stationary) -> tuple[float, float] | None:
    """The weight of the smaller basin by the diffusion and by the chain: from the chain's basins, else from its mean
    between the two basins' means."""
    if law.basins is None or len(law.basins) < 2:
        return None
    small = min(law.basins, key=lambda basin: basin.weight)
    if exact.basins is not None:
        there = min(exact.basins, key=lambda basin: float(np.abs(basin.fixed_point - small.fixed_point).max()))
        return (small.weight, there.weight) if min(small.weight, there.weight) > 0 else None
    if len(law.basins) > 2:
        return None
    weight = _between(exact.mean, small, max(law.basins, key=lambda basin: basin.weight))
    return (small.weight, weight) if min(small.weight, weight) > SMALL else None


def _between(mean: Array, small: Basin, large: Basin) -> float:
    """The weight w of `small` in mean = w m_small + (1 - w) m_large, by least squares."""
    d = small.mean - large.mean
    return float(d @ (mean - large.mean) / (d @ d))


def judged(law: Stationary, found: Comparison | Stationary) -> Stationary:
    """`law` with the comparison in its details, the error that covers the exact chain, and the status it deserves."""
    if isinstance(found, Stationary):
        details = {**law.details, "comparison": f"chain: {found.status.value}, {found.reason}"}
        if found.status is not Status.DIVERGED:
            return replace(law, details=details)
        details["reason"] = f"the exact chain has no stationary law: {found.reason}"
        return replace(law, status=Status.DIFFUSION, details=details)
    exact, net_error = found.exact, law.details["numerical_error"]
    variance, exact_variance = np.diag(law.cov), np.maximum(np.diag(exact.cov), 0.0)
    floor = 1e-12 * max(variance.max(), exact_variance.max(), 1e-300)  # a neuron that is all but silent
    variance_off = np.where(exact_variance > floor, variance / np.maximum(exact_variance, floor) - 1, 0.0)
    details = {
        **law.details,
        "comparison": "chain",
        "chain_mean": exact.mean,
        "chain_cov": exact.cov,
        "approximation_error": found.off,
        "shift_error": found.part,
        "variance_error": variance_off,
        "weight_factor": found.factor,
    }
    reasons = _reasons(found) or _of_variance(variance_off)
    if reasons:
        details["reason"] = "; ".join(reasons)
    output_off = np.abs(law.output - exact.output)
    return replace(
        law,
        error=net_error + found.off + exact.error,
        output_error=np.abs(output_off) + exact.output_error + 1e-15 * np.abs(law.output),
        status=Status.DIFFUSION if reasons else law.status,
        details=details,
    )


def _reasons(found: Comparison) -> list[str]:
    reasons = []
    if found.weights is not None and found.factor > FACTOR:
        mine, exact = found.weights
        size = "small" if mine < exact else "large"
        reasons.append(
            f"the weight of the smaller basin, {mine:.3g}, is {found.factor:.2g} times too {size}: the exact chain has "
            f"{exact:.3g}"
        )
    if found.part > PART:
        reasons.append(f"the shift from the fixed point is off by {found.part:.0%} of the exact chain's")
    return reasons


def _of_variance(off: Array) -> list[str]:
    """What is to be said of variances that are `off` (N,) by these parts of the exact ones."""
    i = int(np.abs(off).argmax())
    if not abs(off[i]) > VARIANCE:
        return []
    size = "small" if off[i] < 0 else "large"
    return [f"the variance of neuron {i} is too {size} by {abs(off[i]):.0%} of the exact chain's"]
