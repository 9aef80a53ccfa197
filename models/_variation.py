"""How far F and dF/dh of gated layers can move while the state moves by r, rounding included: for certificates.

The layers' own formulas are run on balls a +- d instead of numbers: a is what float64 computes, and d bounds the
distance of every value that the exact formula takes over the ball of states. Each operation adds its own
rounding error; sigmoid and tanh as torch computes them are taken to be right to 8 units in the last place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from ._layers import Layer, LSTMLayer

ULP = 2.0**-52
UP = 1 + 1e-9  #: for the rounding errors in the bounds themselves, sums of positive numbers


@dataclass(frozen=True)
class Ball:
    """a +- d, elementwise; torch functions of balls are those in `FUNCTIONS`."""

    a: Tensor
    d: Tensor

    FUNCTIONS: ClassVar[dict[Any, Callable[..., Ball]]] = {}

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Ball:
        return cls.FUNCTIONS[func](*args, **(kwargs or {}))

    @staticmethod
    def rounded(a: Tensor, d: Tensor) -> Ball:
        """The ball of an operation with the result `a`, off by `d` before it is rounded."""
        return Ball(a, d + ULP * a.abs())

    def __add__(self, other: Ball) -> Ball:
        return Ball.rounded(self.a + other.a, self.d + other.d)

    def __sub__(self, other: Ball) -> Ball:
        return Ball.rounded(self.a - other.a, self.d + other.d)

    def __rsub__(self, one: float) -> Ball:
        return Ball.rounded(one - self.a, self.d)

    def __mul__(self, other: Ball) -> Ball:
        return Ball.rounded(self.a * other.a, self.d * other.a.abs() + self.a.abs() * other.d + self.d * other.d)

    def square(self) -> Ball:
        return self * self

    def chunk(self, parts: int, dim: int) -> tuple[Ball, ...]:
        return tuple(Ball(a, d) for a, d in zip(self.a.chunk(parts, dim), self.d.chunk(parts, dim), strict=True))

    def __getitem__(self, key: Any) -> Ball:
        return Ball(self.a[key], self.d[key])


def _affine(b: Tensor, x: Ball, M: Tensor) -> Ball:
    """b + x M, each sum of n products right to n + 2 roundings (Higham, 2002, section 3.1)."""
    rounding = (len(M) + 2) * ULP
    return Ball(torch.addmm(b, x.a, M), torch.addmm(rounding * b.abs(), x.d + rounding * x.a.abs(), M.abs()))


def _rising(f: Callable[[Tensor], Tensor]) -> Callable[[Ball], Ball]:
    """A rising function, at most 1: its range over the ball."""

    def of(x: Ball) -> Ball:
        low, middle, high = f(x.a - x.d), f(x.a), f(x.a + x.d)
        width = torch.maximum(high - middle, middle - low)
        ulps = 8 + x.a.abs() + x.d  # of the function, and of the rounded ends x.a - x.d and x.a + x.d
        return Ball(middle, width + ulps * ULP * torch.maximum(low.abs(), high.abs()))

    return of


Ball.FUNCTIONS.update(
    {
        torch.addmm: _affine,
        torch.sigmoid: _rising(torch.sigmoid),
        torch.tanh: _rising(torch.tanh),
        torch.zeros_like: lambda x: Ball(torch.zeros_like(x.a), torch.zeros_like(x.d)),
        torch.cat: lambda parts, dim: Ball(torch.cat([p.a for p in parts], dim), torch.cat([p.d for p in parts], dim)),
    }
)


class Rows(NamedTuple):
    """Row sums of a Jacobian, each (K, n): of its absolute values, and of its deviations."""

    size: Tensor
    deviation: Tensor


@torch.no_grad()
def variation(
    layers: Sequence[Layer], places: Sequence[Tensor], u: Tensor, h: Tensor, r: Tensor
) -> tuple[Tensor, Tensor]:
    """Of smooth `layers` on top of each other, whose states lie at `places` of h (K, N): bounds e (K, N) on the
    rounding error of F(h, u), and v (K, N) on the row sums of |dF/dh(h') - J(h)| over all h' with
    max|h' - h| <= r, `r` (K,), J as computed."""
    r = torch.cat([torch.zeros_like(r), r])  # with r = 0 rounding errors alone are left
    new, deviation = _walk(layers, places, torch.cat([u, u]), torch.cat([h, h]), r)
    return UP * new[: len(h)], UP * deviation[len(h) :]


def _walk(layers: Sequence[Layer], places: Sequence[Tensor], u: Tensor, h: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
    """Radii of the new states and deviations of the rows of dF/dh, up through the layers: (K, N) each."""
    new, deviation = torch.empty_like(h), torch.empty_like(h)
    v, below = Ball(u, torch.zeros_like(u)), None
    for layer, place in zip(layers, places, strict=True):
        s = Ball(h[:, place], r[:, None].expand(-1, len(place)))
        rows = _rows(layer, v, s, below)
        advanced: Any = layer.advance(v, s)  # type: ignore[arg-type]
        new[:, place], deviation[:, place] = advanced.d, rows.deviation
        v, below = advanced[:, : layer.H], Rows(*(part[:, : layer.H] for part in rows))
    return new, deviation


def _rows(layer: Layer, v: Ball, s: Ball, below: Rows | None) -> Rows:
    """Row sums of ds'/dh, from those of dv/dh `below`."""
    blocks = []
    for recur, drive, own in _blocks(layer, v, s):
        terms = [(w, _sums(W), torch.zeros_like(_sums(W))) for w, W in zip(recur, layer.W, strict=False)]
        if below is not None:
            terms += [
                (w, below.size @ V.abs().T, below.deviation @ V.abs().T) for w, V in zip(drive, layer.V, strict=False)
            ]
        size = own.a.abs() + sum(w.a.abs() * x for w, x, _ in terms)
        moved = own.d + sum(w.d * (x + y) + w.a.abs() * y for w, x, y in terms)
        blocks.append(Rows(size, moved + (layer.V.shape[-1] + len(terms) + 4) * ULP * size))
    return Rows(*(torch.cat(parts, -1) for parts in zip(*blocks, strict=True)))


def _blocks(layer: Layer, v: Ball, s: Ball) -> list[tuple[Sequence[Ball], Sequence[Ball], Ball]]:
    """For each H rows of ds': the weights of the gates' rows of W, of V, and the derivative by the own state."""
    drive, recur, own = layer.slopes(v, s)  # type: ignore[arg-type]
    if not isinstance(layer, LSTMLayer):
        return [(recur, drive, own)]  # type: ignore[list-item]
    by_o, by_c = layer.outward(v, s)  # type: ignore[arg-type]
    outer = [*(by_c * gate for gate in recur), by_o]
    return [(outer, outer, by_c * own), (recur, drive, own)]  # type: ignore[list-item]


def _sums(W: Tensor) -> Tensor:
    return W.abs().sum(1)
