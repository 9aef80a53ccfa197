"""All of it for one network: margins, input Jacobians, and accuracy or loss under each kind of perturbation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fpanalysis.results import InputError, Status
from fpanalysis.robustness.margins import STARTS, Margins, margins
from fpanalysis.robustness.perturbed import KINDS, Perturbed, Score, perturbed
from fpanalysis.system import System


@dataclass(frozen=True, eq=False)
class Robustness:
    """What `margins` and `perturbed` say of a network, the latter by kind."""

    margins: Margins
    perturbed: Mapping[str, Perturbed]

    @property
    def status(self) -> Status:
        """The first that is not ok; having no margins is no failure where there are no classes."""
        every = [self.margins.status, *(one.status for one in self.perturbed.values())]
        return next((status for status in every if status not in (Status.OK, Status.NO_MARGIN)), Status.OK)


def robustness(
    net: System,
    batch: Sequence[ArrayLike],
    levels: Mapping[str, ArrayLike | None] | None = None,
    *,
    h0: ArrayLike | None = None,
    draws: int = 8,
    sigma: ArrayLike | None = 0.0,
    score: Score | None = None,
    loss: str | None = None,
    sampled: bool = True,
    starts: int = STARTS,
    proven: bool = True,
    rng: int = 0,
) -> Robustness:
    """Margins of `net` on `batch`, and its accuracy and loss under perturbed inputs.

    Parameters
    ----------
    levels : the levels of each kind of perturbation to be tried, None for the usual ones; all kinds if left out.
    rng : a seed. Networks that are given the same one see the same perturbations.
    the rest : as of `margins` and `perturbed`.

    Raises
    ------
    InputError
        If an argument does not fit.
    """
    if not isinstance(rng, int | np.integer) or isinstance(rng, bool) or rng < 0:
        raise InputError(f"rng must be a seed >= 0, that every kind of perturbation starts from; found {rng!r}")
    asked = dict.fromkeys(KINDS) if levels is None else levels
    if not isinstance(asked, Mapping):
        raise InputError(
            f'levels must give those of each kind of perturbation, such as {{"white": (0, 0.3)}}; found {levels!r:.60}'
        )
    own = margins(net, batch, h0=h0, starts=starts, proven=proven, rng=rng)
    settings: dict[str, Any] = {"draws": draws, "sigma": sigma, "score": score, "loss": loss, "sampled": sampled}
    return Robustness(
        own, {kind: perturbed(net, batch, kind, at, h0=h0, rng=rng, **settings) for kind, at in asked.items()}
    )
