"""Grouped: a network whose neurons differ in their activation, such as excitatory and inhibitory populations.

    f(x)_i = f_k(x_i),     k = index[i]

All of f, its derivatives, moments and ranges act on one neuron at a time, so each group answers for its own neurons.
What an analysis asks about f as a whole is what holds for all of them: `bounded` and `smooth` if all groups are, the
shortest `strip`, the largest rounding error; `slope_peak` and `excess` one per neuron, None if a group has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fpanalysis._activation import Activation, Expansion, Moments, Ranges, get_activation
from fpanalysis._piecewise_linear import Linear
from fpanalysis._smoothed import Smoothed
from fpanalysis.results import InputError

if TYPE_CHECKING:
    from sympy import Expr
    from torch import Tensor

Array = NDArray[np.float64]
Index = NDArray[np.intp]


class Grouped(Activation):
    """Activations `of` (names, configurations or instances), `index[i]` the number of that of neuron i, (N,).

    Two populations of 40 and 10: ``Grouped(["relu", "tanh"], np.repeat([0, 1], [40, 10]))``. Arguments have the
    neurons in their last axis, or one value for all. Groups that are made of groups, or alike, are put together.

    Raises
    ------
    InputError
        If `of` is no list of activations, `index` does not count in it, or a group's parameters do not fit its neurons.
    """

    name = "grouped"

    def __init__(self, of: Sequence[str | dict[str, Any] | Activation], index: ArrayLike) -> None:
        index = _checked(of, index)
        self.groups: list[tuple[Activation, Index]] = []  #: each activation with the neurons that have it
        for k, spec in enumerate(of):
            own = np.flatnonzero(index == k)
            f = get_activation(spec)
            if len(own):
                f.check_size(len(own))
                for part, members in f.groups if isinstance(f, Grouped) else [(f, np.arange(len(own)))]:
                    self._add(part, own[members])
        self.N = len(index)
        kinds = [f for f, _ in self.groups]
        order = np.concatenate([own for _, own in self.groups])
        self._back = None if (np.diff(order) > 0).all() else np.argsort(order)  #: from groups to the neurons' order
        self.alike = len(kinds) == 1 and kinds[0].alike  # type: ignore[misc]
        self.bounded = all(f.bounded for f in kinds)  # type: ignore[misc]
        self.smooth = all(f.smooth for f in kinds)  # type: ignore[misc]
        self.strip = min(f.strip for f in kinds)  # type: ignore[misc]
        self.ulps = max(f.ulps for f in kinds)  # type: ignore[misc]
        self.slope_peak = self._gathered([f.slope_peak for f in kinds])  # type: ignore[misc, assignment]
        self.excess = self._gathered([f.excess for f in kinds])  # type: ignore[misc]

    def _add(self, f: Activation, own: Index) -> None:
        for k, (other, members) in enumerate(self.groups):
            if f.alike and other.key == f.key:
                self.groups[k] = other, np.sort(np.concatenate([members, own]))
                return
        self.groups.append((f, own))

    def __repr__(self) -> str:
        return f"Grouped({', '.join(f'{len(own)} {f!r}' for f, own in self.groups)})"

    def parameters(self) -> dict[str, Any]:
        index = np.empty(self.N, int)
        for k, (_, own) in enumerate(self.groups):
            index[own] = k
        return {"of": [f.config() for f, _ in self.groups], "index": index.tolist()}

    def check_size(self, N: int) -> None:
        if self.N != N:
            raise InputError(f"grouped: index must have one entry per neuron, ({N},); found {self.N}")

    def f(self, x: ArrayLike) -> Array:
        return self._joined(lambda f, x: f.f(x), x)

    def df(self, x: ArrayLike) -> Array:
        return self._joined(lambda f, x: f.df(x), x)

    def d2f(self, x: ArrayLike) -> Array:
        return self._joined(lambda f, x: f.d2f(x), x)

    def difference(self, a: Array, d: Array) -> Array:
        return self._joined(lambda f, a, d: f.difference(a, d), a, d)

    def second_difference(self, a: Array, d: Array) -> Array:
        return self._joined(lambda f, a, d: f.second_difference(a, d), a, d)

    def ranges(self, lo: ArrayLike, hi: ArrayLike) -> Ranges:
        return Ranges(*self._joined_all(lambda f, lo, hi: f.ranges(lo, hi), lo, hi))

    def slope_inverse(self, a: Array) -> tuple[Array, Array]:
        before, beyond = self._joined_all(lambda f, a: f.slope_inverse(a), a)
        return before, beyond

    def sympy(self, x: Expr) -> Expr:
        """By cases of k, the number of the group."""
        return self._cases(f.sympy(x) for f, _ in self.groups)

    def smoothed_sympy(self, x: Expr, s: Expr) -> Expr:
        return self._cases(f.smoothed_sympy(x, s) for f, _ in self.groups)

    def torch(self, x: Tensor) -> Tensor:
        if self.alike:
            return self.groups[0][0].torch(x)
        return self._joined_torch(x, [f.torch(x[..., _span(own)]) for f, own in self.groups])

    def smoothed_torch(self, x: Tensor, s: Tensor) -> Tensor:
        if self.alike:
            return self.groups[0][0].smoothed_torch(x, s)
        s = s.expand(self.N)
        parts = [f.smoothed_torch(x[..., _span(own)], s[_span(own)]) for f, own in self.groups]
        return self._joined_torch(x, parts)

    def _M(self, a: Array, s: Array) -> Array:
        return self._joined(lambda f, a, s: f._M(a, s), a, s)

    def _G(self, a: Array, s: Array) -> Array:
        return self._joined(lambda f, a, s: f._G(a, s), a, s)

    def _moments(self, a: Array, s: Array) -> Moments:
        return Moments(*self._joined_all(lambda f, a, s: f._moments(a, s), a, s))

    def _hermite(self, a: Array, s: Array, K: int) -> Array:
        return self._joined(lambda f, a, s: f._hermite(a, s, K), a, s)

    def _expansion(self, a: Array, s: Array, K: int) -> Expansion:
        return Expansion(*self._joined_all(lambda f, a, s: f._expansion(a, s, K), a, s))

    def _joined(self, call: Callable[..., Array], *arguments: ArrayLike) -> Array:
        """One array (..., N) or (..., N, K) from what each group makes of its neurons."""
        (whole,) = self._joined_all(lambda *given: (call(*given),), *arguments)
        return whole

    def _joined_all(self, call: Callable[..., Sequence[Array]], *arguments: ArrayLike) -> list[Array]:
        if self.alike:
            return list(call(self.groups[0][0], *(np.asarray(x, float) for x in arguments)))
        arrays = np.broadcast_arrays(*(np.asarray(x, float) for x in arguments), np.empty(self.N))[:-1]
        parts = [call(f, *(x[..., _span(own)] for x in arrays)) for f, own in self.groups]
        axis = arrays[0].ndim - 1
        wholes = [np.concatenate(part, axis=axis) for part in zip(*parts, strict=True)]
        return wholes if self._back is None else [np.take(whole, self._back, axis=axis) for whole in wholes]

    def _joined_torch(self, x: Tensor, parts: list[Tensor]) -> Tensor:
        whole = x.new_empty((*x.shape[:-1], self.N))
        for part, (_, own) in zip(parts, self.groups, strict=True):
            whole[..., _span(own)] = part
        return whole

    def _gathered(self, values: Sequence[float | Array | None]) -> float | Array | None:
        """One per neuron, None if a group has none."""
        whole = np.empty(self.N)
        for value, (_, own) in zip(values, self.groups, strict=True):
            if value is None:
                return None
            whole[own] = value
        return values[0] if self.alike else whole

    @staticmethod
    def _cases(parts: Iterator[Expr]) -> Expr:
        import sympy

        k = sympy.Symbol("k", integer=True, nonnegative=True)
        return sympy.Piecewise(*((part, sympy.Eq(k, number)) for number, part in enumerate(parts)))


def groups(f: Activation, N: int) -> list[tuple[Activation, Index]]:
    """The activations of N neurons, each with the neurons that have it."""
    return f.groups if isinstance(f, Grouped) else [(f, np.arange(N))]


def smoothed(f: Activation, s: ArrayLike) -> Activation:
    """f_s(x) = E f(x + s xi), s one number or one per neuron: `Smoothed`, of each group by itself if there are several.

    What is linear stays as it is.
    """
    if not isinstance(f, Grouped):
        return Smoothed(f, s)
    s = np.asarray(s, float)
    if s.ndim and s.shape != (f.N,):
        raise InputError(f"smoothed: s must be one number or one per neuron, ({f.N},); found shape {s.shape}")
    s = np.broadcast_to(s, (f.N,))
    index = f.parameters()["index"]
    return Grouped([part if isinstance(part, Linear) else Smoothed(part, s[own]) for part, own in f.groups], index)


def deviations(f: Activation) -> Array | None:
    """By how much each neuron's activation is smoothed, (N,) or one for all; None if none is."""
    if isinstance(f, Smoothed):
        return np.asarray(f.s, float)
    if not isinstance(f, Grouped) or not any(isinstance(part, Smoothed) for part, _ in f.groups):
        return None
    s = np.zeros(f.N)
    for part, own in f.groups:
        s[own] = part.s if isinstance(part, Smoothed) else 0.0
    return s


def _span(own: Index) -> slice | Index:
    """A slice where the neurons are neighbours: no copy."""
    return slice(int(own[0]), int(own[-1]) + 1) if own[-1] - own[0] == len(own) - 1 else own


def _checked(of: Sequence[Any], index: ArrayLike) -> Index:
    if isinstance(of, str | dict | Activation) or not isinstance(of, list | tuple) or not of:
        raise InputError(f"grouped: of must be a list of activations; found {of!r}")
    raw = np.asarray(index)
    if raw.ndim != 1 or not raw.size or raw.dtype.kind not in "iu" or raw.min() < 0 or raw.max() >= len(of):
        raise InputError(
            f"grouped: index must be one whole number per neuron, 0..{len(of) - 1}: which of the {len(of)} "
            f"activation(s) it has; found {str(index)[:60]}"
        )
    return raw.astype(np.intp)
