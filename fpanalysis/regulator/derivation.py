"""Symbolic derivation of the single-neuron regulator, from the model equation to closed forms."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fpanalysis.regulator._derivation_steps import Derivation, Step
from fpanalysis.results import InputError, one_line

if TYPE_CHECKING:
    from fpanalysis.activations import Activation

__all__ = ["Derivation", "Step", "derive"]


def derive(activation: str | dict[str, Any] | Activation = "relu", placement: str = "in") -> Derivation:
    """Derive what noise does to one neuron h' = (1 - gamma) h + gamma f(w h + b + sigma xi), or with noise out.

    Every step is computed by sympy from those before it; the integrals and linear equations are solved here.

    Parameters
    ----------
    activation : "relu"; "smooth" for a general f, in terms of its derivatives f_1 ... f_4 at the noise-free
        operating point; or a smooth activation ("softplus", "tanh", ...), in terms of that operating point x.
    placement : "in" or "out".

    Returns
    -------
    Derivation
        ReLU, noise in: the shift in the limit gamma -> 0 as a function of the operating point a, w and sigma (the
        bias that belongs to a is ``results["b"]``), with its exact expansion to second order in gamma, the
        Gaussian closure at finite gamma, and where training ends. ReLU, noise out: the shift as a function of w, b,
        gamma and sigma, with a relative error of order gamma^2. Smooth f: the shift to fourth order in sigma, at any
        gamma.

    Raises
    ------
    InputError
        On a placement other than "in" or "out", an unknown activation, or one that has kinks and is not ReLU.
    """
    if placement not in ("in", "out"):
        raise InputError(f"placement must be 'in' or 'out'; found {one_line(repr(placement))}")
    name, found = _solve(activation, placement)
    steps, results, contents = found
    from fpanalysis.regulator._derivation_symbols import MEANING, numeric

    results = {name: numeric(expression) for name, expression in results.items()}
    symbols = {symbol.name: symbol for expression in results.values() for symbol in expression.free_symbols}
    symbols = dict(sorted(symbols.items()))
    return Derivation(
        activation=name,
        placement=placement,
        steps=steps,
        result=results["shift"],
        results=MappingProxyType(results),
        contents=MappingProxyType(contents),
        symbols=MappingProxyType(symbols),
        meaning=MappingProxyType({symbol: MEANING[symbol] for symbol in symbols}),
    )


def _solve(activation: str | dict[str, Any] | Activation, placement: str) -> tuple[str, Any]:
    """The activation's name, and its derivation."""
    if activation == "smooth":
        from fpanalysis.regulator._derive_smooth import derive_smooth

        return "smooth f", derive_smooth(placement)
    from fpanalysis.activations import get_activation

    f = get_activation(activation)
    if f.name == "relu":
        from fpanalysis.regulator._derive_relu_in import derive_relu_in
        from fpanalysis.regulator._derive_relu_out import derive_relu_out

        return f.name, derive_relu_in() if placement == "in" else derive_relu_out()
    if not f.smooth:
        raise InputError(
            f"activation must be 'relu', 'smooth' or a smooth activation; found {f.name!r}, which has kinks: use "
            "stationary(net, method='chain') for its exact law"
        )
    from fpanalysis.regulator._derive_smooth import derive_smooth

    try:
        return f.name, derive_smooth(placement, f)
    except NotImplementedError as error:
        raise InputError(f"{error}: give its class a method `sympy(x)`, or derive for 'smooth'") from None
