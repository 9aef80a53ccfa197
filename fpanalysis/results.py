"""What every result carries: a status that says what to do next, and where the numbers came from."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import fpanalysis


class InputError(ValueError):
    """Input that cannot be used. The message names the argument, what was found and what is expected."""


def one_line(text: str) -> str:
    """`text` short and on one line, for a message."""
    text = " ".join(text.split())
    return text if len(text) <= 120 else f"{text[:117]}..."


class Status(Enum):
    """Outcome of a computation. ``status.value`` is a short code, ``status.advice`` says what to do next."""

    OK = ("ok", "converged: the result holds within its stated error")
    NOT_CONVERGED = (
        "not converged",
        "the iteration did not reach its tolerance, so no value is given: use a smaller sigma, or method 'monte-carlo'",
    )
    LEFT_BASIN = (
        "left basin",
        "the solution no longer belongs to the fixed point it started from, so no value is given: at this noise "
        "level that basin is not resolved; use method 'monte-carlo' or a smaller sigma",
    )
    UNSTABLE = (
        "unstable",
        "the linearised noisy dynamics grows, so this method has no stationary law to offer here: use a smaller "
        "sigma or method 'monte-carlo', which shows whether trajectories stay bounded",
    )
    DIVERGED = (
        "diverged",
        "trajectories grow without bound: the network has no stationary law at this noise level; only the "
        "noise-free fixed points can be trusted",
    )
    NO_STABLE_FIXED_POINT = (
        "no stable fixed point",
        "no stable fixed point was found (a limit cycle, chaos, or a kink that repels): small-noise and closure do "
        "not apply; the fixed points listed and method 'monte-carlo' can still be trusted",
    )
    NOT_APPLICABLE = (
        "not applicable",
        "this method's assumptions do not hold for this system: use 'monte-carlo', or for a Network 'closure'",
    )
    TOO_LARGE = (
        "too large",
        "the grid or matrix that this problem needs does not fit: use 'closure' or 'monte-carlo', or a smaller sigma",
    )
    DIFFUSION = (
        "diffusion approximation",
        "solved, but the diffusion approximation itself is far from the exact discrete law here, by more than its "
        "stated precision or in the weights of the basins: use method 'chain'",
    )
    METASTABLE = (
        "metastable",
        "the basins exchange too rarely for this method to weigh them: the mean over all of them is not given; what "
        "holds within each basin is in `basins`",
    )
    NOT_REDUCED = (
        "not reduced",
        "one or two coordinates do not capture the slow dynamics (the spectral ratio says by how much), so the reduced "
        "law is tentative: use method 'monte-carlo', or give coordinates of your own",
    )
    NOT_GAUSSIAN = (
        "not Gaussian",
        "the law is far from a Gaussian (it passes near an unstable point, or basins exchange), so the prediction is "
        "tentative: use method 'monte-carlo'",
    )
    POORLY_MIXED = (
        "poorly mixed",
        "the chains do not agree with each other (R-hat above its bound) or hop between basins: the stated "
        "error is too small; run longer, or analyse each basin by itself",
    )
    DISAGREE = (
        "methods disagree",
        "two methods differ by more than their errors: trust neither before the reason is known; a longer "
        "Monte Carlo run decides",
    )

    CUT_SHORT = (
        "cut short",
        "a branch ends inside the interval (its budget of steps is spent, or it could not be followed through a "
        "singular point), or not every branch was followed: what is shown holds; raise `steps`, or continue in a "
        "narrower interval",
    )
    NOTHING_FOUND = (
        "nothing found",
        "no fixed point was found anywhere in the interval: the network may have none (activity grows without bound)",
    )
    ON_KINKS = (
        "on kinks",
        "a branch runs along kinks of the activation, where the Jacobian has several sides: it is stable where all of "
        "them are, but the parameter at which that changes is not located, nor are rays of points that start there",
    )
    HAS_KINKS = (
        "has kinks",
        "slow points are sought where F has derivatives, and a network with kinks comes closest to rest on them: "
        "replace ReLU by softplus, or follow trajectories (`settle`, `find_limit_cycles`)",
    )
    NO_CURVATURE = (
        "no curvature",
        "the activation has kinks, where the second derivatives that P and Q are made of do not exist: ask for the "
        "smoothed one (smoothed=s, --smoothed s: the noise that smooths it), or take the network that denoise gives",
    )
    TOO_SHORT = (
        "too short",
        "one step shows what its own noise does and nothing of how the network passes it on: give two steps or more",
    )
    LOSS_NOT_SMOOTH = (
        "loss not smooth",
        "the loss has no second derivative where the outputs are, or a kink within reach of the noise, so the value is "
        "tentative: use a smooth loss, or Monte Carlo (fpanalysis.loss_curve)",
    )
    UNDECIDED = (
        "undecided",
        "some trajectories had neither come to rest nor onto a steady motion when their steps were spent (slow decay "
        "near a bifurcation, or a long transient): raise `steps`",
    )
    NO_MARGIN = (
        "no margin",
        "the targets are not one-hot, so there are no classes and no margins: the norms of the input Jacobian and the "
        "loss under perturbations can be trusted",
    )
    NOT_FOUND = (
        "not found",
        "no perturbation was found that changes the class, so the margin has no upper bound: what is proven holds",
    )
    AT_KINK = (
        "at a kink",
        "the trajectory rests on a kink of the activation, where the step has several Jacobians: the exponents are "
        "those of one of them; change the input or the bias a little, or add noise",
    )
    PIECEWISE = (
        "smooth pieces only",
        "the activation has kinks: the curvature is that of the smooth pieces, without what is added where a change of "
        "weights moves neurons across kinks, which can be more than all the rest: smooth it (smoothed=s, "
        "--smoothed s), or take the curvature of noise_stability, which holds both",
    )
    UNRESOLVED = (
        "unresolved",
        "Lanczos spent its steps before the eigenvalues asked for had settled: each lies within its residual of a true "
        "one, which need not be the one of that rank; raise `steps`, or ask for fewer",
    )

    advice: str

    def __new__(cls, code: str, advice: str) -> Status:
        member = object.__new__(cls)
        member._value_ = code
        member.advice = advice
        return member

    @property
    def ok(self) -> bool:
        return self is Status.OK

    def __str__(self) -> str:
        return self.value if self.ok else f"{self.value}: {self.advice}"


@dataclass(frozen=True)
class Provenance:
    """Where a result came from: enough to compute it again."""

    method: str
    model: str  #: hash of the network's parameters, ``Network.hash``
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    version: str = fpanalysis.__version__


@contextlib.contextmanager
def write_atomically(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` on success, remove it on failure.

    Nothing is ever half-written, and an existing file survives a failed write. A symbolic link stays one: what
    it points at is written.

    Raises
    ------
    InputError
        If the folder does not exist or cannot be written to, `path` is something other than a file, or the disk is
        full.
    """
    check_writable(path)
    target = _target(path)
    try:
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        descriptor, name = tempfile.mkstemp(prefix=f".{target.stem[:50]}.", suffix=target.suffix, dir=target.parent)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(mode)
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror or error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raise `InputError` unless a file can be written at `path`: asked before a long computation starts."""
    try:
        target = _target(path)
        if target.is_dir():
            raise InputError(f"cannot write {path}: it is a folder; give a file name")
        if target.exists() and not target.is_file():
            raise InputError(f"cannot write {path}: it is a device or pipe, not a file; give a file name")
        if not target.parent.is_dir():
            raise InputError(f"cannot write {path}: the folder {target.parent} does not exist; create it first")
        if not os.access(target.parent, os.W_OK):
            raise InputError(f"cannot write {path}: no permission to write in the folder {target.parent}")
    except InputError:
        raise
    except (OSError, ValueError) as error:  # a name too long, a loop of links, a null character
        raise InputError(f"cannot write {str(path)!r}: {getattr(error, 'strerror', None) or error}") from None


def _target(path: str | os.PathLike[str]) -> Path:
    """The file that writing to `path` changes: what a symbolic link points at."""
    if "\0" in os.fspath(path):
        raise ValueError("embedded null character")
    return Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
