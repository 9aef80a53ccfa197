"""What an exhaustive search for fixed points established: the type that every proof of completeness returns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Proof:
    """What an exhaustive search established: which region it decided and what lies in it."""

    method: str  #: "activation patterns" | "intervals" | "no loops"
    h: Array  #: (K, N) fixed points found, approximate zeros (the caller polishes them)
    complete: bool  #: every fixed point within `box` is in `h`
    box: Array  #: (2, N) lower and upper corner of the region that was searched, in the state h
    covered: float  #: share of the region decided, 0..1 (1 if complete); for pattern trees the sum of 2^-depth
    nodes: int  #: boxes or LP nodes visited
    why: str  #: "" if complete, else one sentence: what stopped it
    singular: Array  #: (K', N) representative points that could not be decided (kinks, singular Jacobians)
