"""Exponents along the trials of a network's task, where its inputs change in time: finite, as the trials are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fpanalysis.cli._report import number

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fpanalysis.stability import TrialExponents

TRIALS = 128


class Along(NamedTuple):
    """The trials, their length, and the exponents along them at each noise level, ascending."""

    source: str
    steps: int
    levels: list[TrialExponents]

    def at(self, noise: float) -> TrialExponents | None:
        return next((level for level in self.levels if level.noise == noise), None)

    @property
    def document(self) -> dict[str, Any]:
        levels = [
            {
                "sigma": level.noise,
                "mean": level.top,
                "error": level.error,
                "exponents": level.exponents.tolist(),
                "status": level.status.value,
            }
            for level in self.levels
        ]
        return {"source": self.source, "steps": self.steps, "levels": levels}


def along_trials(net: Any, noise: Iterable[float], seed: int) -> Along | None:
    """None where inputs are held in the task of `net`, or it closes a loop, or none is remembered that fits."""
    import numpy as np

    from fpanalysis.cli._batch import noise_at
    from fpanalysis.stability import trial_exponents
    from fpanalysis.tasks import remembered

    task = remembered(net.info)
    if task is None or task.held or task.feedback is not None or (net.n_in, net.n_out) != (task.n_in, task.n_out):
        return None
    inputs, targets, _ = (np.asarray(part, float) for part in task.test_batch(TRIALS, seed))
    T, B, _ = inputs.shape
    h0 = np.asarray(task.initial_state(targets, net.N), float)
    levels = [trial_exponents(net, inputs, **noise_at(net, level), h0=h0, rng=seed) for level in sorted(set(noise))]
    return Along(f"{B} test trials of {task.name}", T, levels)


def rows(along: Along) -> list[list[str]]:
    """Of a table: noise, mean, its error, the trials' range, status."""
    found = []
    for level in along.levels:
        ends = [number(float(end)) for end in (level.exponents.min(), level.exponents.max())]
        row = [number(level.noise, 4), number(level.top, 4), number(level.error, 1), *ends]
        found.append([*row, level.status.value])
    return found


def finding(along: Along, level: TrialExponents) -> str:
    """What the exponents at a noise level say of a trial."""
    import numpy as np

    where = f"with noise {level.noise:.4g}" if level.noise else "without noise"
    if not level.ok:
        return f"Along its trials, {where}, trajectories diverge."
    with np.errstate(over="ignore"):
        factor = float(np.exp(level.top * along.steps))
    return (
        f"Along its trials, {where}, a small difference of states is multiplied by at most {factor:.3g} over all "
        f"{along.steps} steps (geometric mean over trials)."
    )
