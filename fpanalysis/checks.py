"""What the arguments of public functions must be: one clear `InputError` names the argument and what was found."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis.results import InputError, one_line

Array = NDArray[np.float64]

LARGEST = 1e30  #: noise level


def check_sigma(sigma: ArrayLike, N: int) -> float | Array:
    """A noise level as float64: one number, or (N,); finite and >= 0."""
    value = number_or_vector("sigma", sigma, N)
    if np.any(np.asarray(value) < 0):
        raise InputError(f"sigma must be >= 0: it is a standard deviation; found {np.min(value):g}")
    if np.any(np.asarray(value) > LARGEST):
        raise InputError(f"sigma must be at most {LARGEST:g}, beyond which squares overflow; found {np.max(value):g}")
    return value


def check_vector(name: str, value: ArrayLike, N: int) -> Array:
    """`value` as one finite float64 state (N,)."""
    return of_shape(name, value, (N,))


def check_levels(value: ArrayLike) -> Array:
    """Noise levels: finite numbers >= 0, (n_levels,), ascending and each once."""
    levels = np.atleast_1d(real_array("sigma", value))
    if levels.ndim != 1 or not len(levels) or (levels < 0).any():
        raise InputError(f"sigma must be noise levels, numbers >= 0; found {levels.tolist()}")
    if (levels > LARGEST).any():
        raise InputError(f"sigma must be at most {LARGEST:g}, beyond which squares overflow; found {levels.max():g}")
    return np.unique(levels)


def check_rng(rng: int | np.random.Generator) -> np.random.Generator:
    """The Generator that `rng`, a seed >= 0 or a Generator, stands for."""
    whole = isinstance(rng, int | np.integer) and not isinstance(rng, bool) and rng >= 0
    if not (whole or isinstance(rng, np.random.Generator)):
        raise InputError(f"rng must be a seed >= 0 or a numpy Generator; found {rng!r}")
    return np.random.default_rng(rng)


def real_array(name: str, value: ArrayLike) -> Array:
    """`value` as a finite read-only float64 array."""
    try:
        if np.ma.is_masked(value):
            raise TypeError("masked values")
        raw = np.asarray(value)
        if raw.dtype.kind not in "biufO" or (raw.dtype.kind == "O" and any(isinstance(x, str) for x in raw.flat)):
            raise TypeError(f"elements of type {raw.dtype}")
        array = np.array(raw, dtype=np.float64)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # RuntimeError: a tensor with a gradient
        raise InputError(f"{name} must be an array of real numbers; found {one_line(str(error))}") from None
    if not np.isfinite(array).all():
        bad = np.argwhere(~np.isfinite(array))
        where = "" if array.ndim == 0 else f", first at index {tuple(int(i) for i in bad[0])}"
        raise InputError(f"{name} must be finite; found {len(bad)} NaN or infinite value(s){where}")
    array.flags.writeable = False
    return array


def of_shape(name: str, value: ArrayLike, shape: tuple[int | None, ...]) -> Array:
    """`value` as such an array of `shape`, in which None stands for any length."""
    array = real_array(name, value)
    fits = array.ndim == len(shape) and all(n is None or n == k for n, k in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = ", ".join("any" if n is None else str(n) for n in shape) + "," * (len(shape) == 1)
        raise InputError(f"{name} must have shape ({wanted}); found {array.shape}")
    return array


def number_or_vector(name: str, value: ArrayLike, N: int) -> float | Array:
    """`value` as one finite number, or one per neuron (N,)."""
    array = real_array(name, value)
    if array.ndim == 0:
        return float(array)
    if array.shape != (N,):
        raise InputError(f"{name} must be one number or one per neuron, ({N},); found shape {array.shape}")
    return array


def brief(value: ArrayLike) -> str:
    """A number, or the range of several, as messages have it."""
    low, high = np.min(value), np.max(value)
    return f"{low:g}" if low == high else f"{low:g}..{high:g}"
