"""Options that several commands share, and how their values are read."""

from __future__ import annotations

from math import isfinite
from typing import Any

import click

MOST = 10_000  #: noise levels in one range

WIDE = {"max_content_width": 100}  #: a help text that shows output is wider than click's 80


class Numbers(click.ParamType):
    """Comma-separated finite numbers: ``0.1,-2``."""

    name = "V,V,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"{value!r} is not a comma-separated list of numbers, such as 0.1,-2", param, ctx)
        if not all(map(isfinite, numbers)):
            self.fail(f"{value!r} holds a number that is not finite", param, ctx)
        return numbers


class NoiseRange(Numbers):
    """Noise levels: ``start:stop`` (11 levels), ``start:stop:count``, or ``a,b,c``."""

    name = "RANGE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if not isinstance(value, str) or ":" not in value:
            return self._checked(super().convert(value, param, ctx), value, param, ctx)
        parts = value.split(":")
        if len(parts) > 3:
            self.fail(f"{value!r} is not start:stop or start:stop:count", param, ctx)
        try:
            start, stop = map(float, parts[:2])
        except ValueError:
            self.fail(f"{value!r} is not start:stop or start:stop:count with numbers, such as 0:0.5:6", param, ctx)
        if not (isfinite(start) and isfinite(stop)):
            self.fail(f"{value!r} holds a number that is not finite", param, ctx)
        try:
            count = int(parts[2]) if len(parts) == 3 else 11
        except ValueError:
            self.fail(f"the count in {value!r} is not a whole number", param, ctx)
        if start > stop:
            self.fail(f"{value!r} is reversed: start must not exceed stop", param, ctx)
        if start == stop or count < 2:
            self.fail(f"{value!r} is a single level: give the number alone", param, ctx)
        if count > MOST:
            self.fail(f"the count in {value!r} is above {MOST}", param, ctx)
        levels = (*(start + (stop - start) * k / (count - 1) for k in range(count - 1)), stop)
        return self._checked(levels, value, param, ctx)

    def _checked(
        self, levels: tuple[float, ...], value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if any(level < 0 for level in levels):
            self.fail(f"{value!r} holds a negative noise level; sigma is a standard deviation, >= 0", param, ctx)
        return levels


class Positive(click.FloatRange):
    """One finite number > 0."""

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not isfinite(number):
            self.fail(f"{value!r} is not a finite number", param, ctx)
        return number


class Several(click.ParamType):
    """One value or a comma-separated list of them, each of one kind: a tuple."""

    def __init__(self, kind: click.ParamType, name: str = "") -> None:
        self.kind = kind
        self.name = name or kind.name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if not isinstance(value, str):
            return tuple(value)
        return tuple(self.kind.convert(part.strip(), param, ctx) for part in value.split(","))


class Levels(NoiseRange):
    """Noise levels to train at: one, or several as a range or a list."""

    name = "SIGMA"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        if isinstance(value, str) and ":" not in value:
            return Several(click.FLOAT).convert(value, param, ctx)
        return super().convert(value, param, ctx)
