"""What a derivation is: numbered steps with their equations, and the results they end in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Step:
    """One step: what is done and why, and what it gives.

    `equations` stand in the order in which they are read; `equation`, the last, is what the step arrives at. In
    `explanation` formulas stand between backquotes.
    """

    title: str
    explanation: str
    equations: tuple[sympy.Basic, ...] = ()

    @property
    def equation(self) -> sympy.Basic | None:
        return self.equations[-1] if self.equations else None


@dataclass(frozen=True, eq=False)
class Derivation:
    """The single-neuron regulator, derived.

    Attributes
    ----------
    steps : the derivation, from the model equation to the results.
    result : sympy expression of the shift m - h0 that noise puts on the stationary mean; made of elementary
        functions and erfc, so that ``sympy.lambdify`` takes it. Its free symbols are values of `symbols`.
    results : all closed forms by name, `result` among them as "shift".
    contents : name of a result -> what it is and where it holds.
    symbols : name -> the sympy symbol of that name, as it stands in the results.
    meaning : name -> what the symbol means.
    """

    activation: str
    placement: str
    steps: tuple[Step, ...]
    result: sympy.Expr
    results: Mapping[str, sympy.Expr]
    contents: Mapping[str, str]
    symbols: Mapping[str, sympy.Symbol]
    meaning: Mapping[str, str]

    @property
    def title(self) -> str:
        return f"The single-neuron regulator: {self.activation}, noise {self.placement}"

    def function(self, name: str, arguments: str) -> Any:
        """The result of that name as a numpy function of `arguments`, symbol names separated by spaces.

        It broadcasts, and is nan where the result does not exist.

        Raises
        ------
        InputError
            If there is no result of that name, or `arguments` lacks a symbol that it needs.
        """
        import numpy
        import sympy

        from fpanalysis.results import InputError

        if name not in self.results:
            raise InputError(f"name must be one of {', '.join(self.results)}; found {name!r}")
        expression = self.results[name]
        given, needed = arguments.split(), {symbol.name for symbol in expression.free_symbols}
        if not needed <= set(given) or not set(given) <= set(self.symbols):
            raise InputError(
                f"arguments must be symbols of this derivation, and {', '.join(sorted(needed)) or 'none'} among them "
                f"for {name!r}; found {arguments!r}"
            )
        compiled = sympy.lambdify([self.symbols[symbol] for symbol in given], expression)

        def evaluate(*values: Any) -> Any:
            # every branch of a Piecewise is evaluated, also where another one is chosen
            with numpy.errstate(all="ignore"):
                return compiled(*(numpy.asarray(value, float) for value in values))

        return evaluate

    def text(self) -> str:
        """The derivation for a terminal of 80 columns."""
        from fpanalysis.regulator._derivation_text import render

        return render(self)

    def latex(self) -> str:
        """The derivation as a complete LaTeX document, which needs amsmath and nothing else."""
        from fpanalysis.regulator._derivation_latex import render

        return render(self)
