"""Any torch callable (u, h) -> h' as dynamics: evaluated in float64, differentiated automatically, checked first.

The callable steps a batch: u (K, n_in) and h (K, N) give h' (K, N), and no row may influence another. That is
what lets one backward pass per state variable give a row of the Jacobian for all K states: N passes, whatever
the callable does inside (its control flow may depend on the data). Measured on GRU and LSTM cells, N = 64 to
256 and K = 64, this is as quick as the better of vmap of jacrev and jacfwd, or up to twice as quick.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fpanalysis.results import InputError, one_line

from .cell import Dynamics

FAILURES = (RuntimeError, TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
PROBES = 8  #: states at which a callable is tried
REMEDY = (
    "let it compute with differentiable torch functions in float64 (no detach, numpy or float() between state and "
    "next state)"
)
CONVENTION = "it must take (u, h), float64 tensors (K, n_in) and (K, N), and return the K next states as one (K, N)"


class Automatic(Dynamics):
    """A callable or module; of a module it keeps a float64 copy, so that the module stays as it is.

    Raises
    ------
    InputError
        If it cannot be evaluated and differentiated in float64, is random, or lets rows influence each other.
    """

    def __init__(self, module: Callable[[Tensor, Tensor], Tensor], n_in: int, N: int) -> None:
        self.N, self.n_in, self.visible = N, n_in, slice(0, N)
        self.name = str(getattr(module, "__name__", type(module).__name__))
        self.weights: dict[str, Tensor] = {}
        self._function = module
        random = np.random.default_rng(0)
        # the caller's random numbers stay the caller's; inference mode could not be differentiated
        with torch.random.fork_rng(devices=[]), torch.inference_mode(False):
            if isinstance(module, nn.Module):
                self._function = _double(module)
                self.weights = self._function.state_dict()
            self.probe = tuple(torch.from_numpy(random.normal(size=(PROBES, size))) for size in (n_in, N))
            self.probed = _check(self)

    def step(self, u: Tensor, h: Tensor) -> Tensor:
        return self._function(u.clone(), h.clone())  # which it may change in place

    def jacobian(self, u: Tensor, h: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            J = torch.zeros(len(h), self.N, self.N, dtype=torch.float64)
            h = h.clone().requires_grad_()
            new = self.step(u, h).sum(0)
            for i in range(self.N if new.requires_grad else 0):
                (row,) = torch.autograd.grad(new[i], h, retain_graph=i < self.N - 1, allow_unused=True)
                if row is not None:
                    J[:, i] = row
        return J

    def fingerprint(self) -> bytes:
        """Parameters, and F at the probes, rounded so that machines agree: code cannot be hashed."""
        weights = [f"{name}{tuple(w.shape)}".encode() + w.numpy().tobytes() for name, w in self.weights.items()]
        return f"{self.name} {self.n_in} {self.N}".encode() + b"".join(weights) + self.probed.float().numpy().tobytes()


def _double(module: nn.Module) -> nn.Module:
    """A copy in float64 on the CPU."""
    try:
        return copy.deepcopy(module).cpu().double().requires_grad_(False)
    except FAILURES as error:
        raise InputError(
            f"module {type(module).__name__} cannot be copied ({one_line(f'{type(error).__name__}: {error}')}): pass a "
            "float64 function (u, h) -> h' that calls it"
        ) from None


def _check(dynamics: Automatic) -> Tensor:
    """F at the probes, if everything about it is as it must be."""
    u, h = dynamics.probe
    with torch.no_grad(), _explained(dynamics):
        new = dynamics.step(u, h)
        _check_tensor(dynamics, new)
        new = new.clone()
        if not _same(dynamics.step(u, h), new, 1e-12):
            raise InputError(
                f"module {dynamics.name} gives two results for one state: dropout, noise or a memory of its own is "
                "active; call module.eval(), or pass its noise-free step"
            )
    with _explained(dynamics, "differentiated"):
        J = dynamics.jacobian(u, h)
    if not J.isfinite().all():
        raise InputError(f"module {dynamics.name} has a Jacobian with NaN or infinite values at a random state")
    if J.any() and (new.float().double() == new).all():
        raise InputError(f"module {dynamics.name} computes in float32 inside: {REMEDY}")
    with torch.no_grad(), _explained(dynamics):
        for few in (2, 1):
            if not _same(dynamics.step(u[:few], h[:few]), new[:few], 1e-10):
                raise InputError(
                    f"module {dynamics.name} gives a state another result in other company: rows of a batch must not "
                    "influence each other; put BatchNorm and the like in evaluation mode (module.eval())"
                )
    _check_jacobian(dynamics, J)
    return new


def _same(a: Any, b: Tensor, tolerance: float) -> bool:
    return a.shape == b.shape and bool(((a - b).abs() <= tolerance * (1 + b.abs())).all())


def _check_tensor(dynamics: Automatic, new: Any) -> None:
    if not isinstance(new, Tensor):
        raise InputError(f"module {dynamics.name} returned {type(new).__name__}, not one tensor: {CONVENTION}")
    if new.shape != (PROBES, dynamics.N):
        raise InputError(
            f"module {dynamics.name} returned shape {tuple(new.shape)} for {PROBES} states of N = {dynamics.N}: "
            f"{CONVENTION}"
        )
    if new.dtype != torch.float64:
        raise InputError(
            f"module {dynamics.name} returned {str(new.dtype).removeprefix('torch.')} for float64 states: residuals "
            "of 1e-12 need double precision; make all it uses float64 (module.double()), or pass the nn.Module itself"
        )
    if new.device.type != "cpu":
        raise InputError(f"module {dynamics.name} returned a tensor on {new.device}: make it compute on the CPU")
    if not new.isfinite().all():
        raise InputError(f"module {dynamics.name} gives NaN or infinite values at a random state: check its weights")


def _check_jacobian(dynamics: Automatic, J: Tensor) -> None:
    """It agrees with differences of F, as it would not with a `detach` or a wrong derivative inside."""
    u, h = dynamics.probe
    v = h.flip(0)
    with torch.no_grad():
        slope = (dynamics.step(u, h + 1e-6 * v) - dynamics.step(u, h - 1e-6 * v)) / 2e-6
    miss = (slope - (J @ v[..., None])[..., 0]).abs().amax(1) / (1 + slope.abs().amax(1))
    if miss.median() > 1e-4:  # the median: a state or two may lie at a kink
        raise InputError(
            f"module {dynamics.name} has derivatives that differ by {float(miss.median()):.1g} from its "
            f"differences: {REMEDY}"
        )


@contextmanager
def _explained(dynamics: Automatic, what: str = "evaluated") -> Iterator[None]:
    """What a callable raises, as one clear error."""
    try:
        yield
    except InputError:
        raise
    except FAILURES as error:
        remedy = CONVENTION
        if "dtype" in str(error) or "Float" in str(error):
            remedy = "make all it uses float64 (module.double()), or pass the nn.Module itself, which is copied so"
            if dynamics.weights:
                remedy = "register its tensors as parameters or buffers, which are copied in float64"
        raise InputError(
            f"module {dynamics.name} cannot be {what} ({one_line(f'{type(error).__name__}: {error}')}): {remedy}"
        ) from None
