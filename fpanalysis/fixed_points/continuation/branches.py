"""The branches of fixed points of a family of systems, with their stability and special points."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpanalysis.results import Provenance, Status
from fpanalysis.system import System

Array = NDArray[np.float64]

SCHEMA = "fpanalysis.branches/1"


@dataclass(frozen=True, eq=False)
class SpecialPoint:
    """A bifurcation, or a kink at which stability or direction changes.

    Attributes
    ----------
    kind : "fold" | "pitchfork" | "transcritical" | "branch point" (an eigenvalue +1 at which the curves that meet
        could not be told apart) | "flip" | "Neimark-Sacker" | "border collision".
    p : the parameter there.
    h : (N,), the fixed point there.
    eigenvalue : of the step's Jacobian, the critical one (of a pair, that with positive imaginary part; at a
        border collision, the largest in modulus on the side where it is larger).
    branch : number of the branch on which it was found (where two cross, of the first of them).
    error : bound on the error of p.
    """

    kind: str
    p: float
    h: Array
    eigenvalue: complex
    branch: int
    error: float


@dataclass(frozen=True, eq=False)
class Branch:
    """One curve of fixed points, in the order in which it runs, from its end at smaller p.

    Attributes
    ----------
    p, h : (n,) and (n, N).
    n_unstable : (n,), eigenvalues of the step's Jacobian outside the unit circle; at a special point that of the
        less stable side, on a kink at least one where any side repels.
    ends : why it ends on either side: "start" or "stop" of the interval, "closed" (it returns to where it began),
        "branch point" (where more than two curves meet), "infinity", "steps" (the budget is spent) or "stuck" (it
        could not be followed any further).
    status : OK; CUT_SHORT for ends "steps" and "stuck"; ON_KINKS where a stretch of it runs along kinks of f.
    error : bound on the distance of the points from the curve (infinite on a line of fixed points).
    """

    p: Array
    h: Array
    n_unstable: NDArray[np.int_]
    ends: tuple[str, str]
    status: Status
    error: float

    def __len__(self) -> int:
        return len(self.p)

    @property
    def stable(self) -> NDArray[np.bool_]:
        """(n,), of the map."""
        return self.n_unstable == 0

    @property
    def closed(self) -> bool:
        return self.ends[0] == "closed"


@dataclass(frozen=True, eq=False)
class Branches:
    """What `continue_fixed_points` found: a sequence of `Branch`, and their special points in the order of p.

    Attributes
    ----------
    parameter : "gamma", "scale", "input" or "custom".
    start, stop : the interval of the parameter p.
    system : that at p = start, with its own parameter for "gamma"; its readout gives outputs (`output`).
    status : OK; CUT_SHORT if a branch ends inside the interval; NOTHING_FOUND without any branch.
    error : the largest error of the branches' points.
    """

    parameter: str
    start: float
    stop: float
    system: System
    branches: tuple[Branch, ...]
    points: tuple[SpecialPoint, ...]
    status: Status
    provenance: Provenance

    def __len__(self) -> int:
        return len(self.branches)

    def __iter__(self) -> Iterator[Branch]:
        return iter(self.branches)

    def __getitem__(self, k: int) -> Branch:
        return self.branches[k]

    @property
    def error(self) -> float:
        return max((branch.error for branch in self.branches), default=0.0)

    def __repr__(self) -> str:
        kinds = [point.kind for point in self.points]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds)) or "no special points"
        return (
            f"Branches({len(self)} in {self.parameter} from {self.start:g} to {self.stop:g}: {counts}; "
            f"error {self.error:.1g}; {self.status})"
        )

    def document(self) -> dict[str, Any]:
        """Everything as plain lists and numbers for JSON; an error that is not known is None."""
        return {
            "schema": SCHEMA,
            "version": self.provenance.version,
            "model": self.provenance.model,
            "method": self.provenance.method,
            "settings": dict(self.provenance.settings),
            "seed": self.provenance.seed,
            "parameter": self.parameter,
            "start": self.start,
            "stop": self.stop,
            "status": self.status.value,
            "error": _finite(self.error),
            "branches": [
                {
                    "p": branch.p.tolist(),
                    "h": branch.h.tolist(),
                    "n_unstable": branch.n_unstable.tolist(),
                    "ends": list(branch.ends),
                    "status": branch.status.value,
                    "error": _finite(branch.error),
                }
                for branch in self
            ],
            "points": [
                {
                    "kind": point.kind,
                    "p": point.p,
                    "h": point.h.tolist(),
                    "eigenvalue": [point.eigenvalue.real, point.eigenvalue.imag],
                    "branch": point.branch,
                    "error": _finite(point.error),
                }
                for point in self.points
            ],
        }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
