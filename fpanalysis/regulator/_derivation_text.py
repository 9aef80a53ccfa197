"""A derivation in a terminal: prose and two-dimensional formulas, 80 columns wide."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.printing.pretty.pretty import PrettyPrinter
from sympy.printing.pretty.pretty_symbology import pretty_symbol
from sympy.printing.pretty.stringpict import prettyForm

from fpanalysis.regulator._derivation_symbols import ordered_terms

if TYPE_CHECKING:
    from fpanalysis.regulator._derivation_steps import Derivation, Step

WIDTH, INDENT = 79, 4
GREEK = "gamma|sigma|delta|lambda|phi|Phi|beta|xi|nu"


class _Printer(PrettyPrinter):
    """sympy's, with sums in `ordered_terms` and max as a function."""

    def _as_ordered_terms(self, expr: Any, order: Any = None) -> list[Any]:
        return ordered_terms(expr)

    def _print_Max(self, expr: Any) -> prettyForm:
        return self._helper_print_function(expr.func, sorted(expr.args, key=str, reverse=True), func_name="max")


def render(derivation: Derivation) -> str:
    """Title, steps with their formulas, and what the symbols and results are."""
    parts = [derivation.title, "=" * len(derivation.title), ""]
    for number, step in enumerate(derivation.steps, start=1):
        parts += [_step(number, step), ""]
    parts += ["Symbols", "-------", *_table({pretty_symbol(s): plain(t) for s, t in derivation.meaning.items()}), ""]
    parts += ["Results", "-------"]
    parts += _table({name: plain(derivation.contents[name]) for name in derivation.results})
    return "\n".join(parts) + "\n"


def plain(text: str) -> str:
    """Prose with its formulas in Unicode."""
    text = re.sub(rf"\b({GREEK})(?![a-z])", lambda found: pretty_symbol(found[1]), text)
    for ascii_form, sign in (
        ("->", "→"),
        ("<=", "≤"),
        (">=", "≥"),
        ("^2", "²"),
        ("^k", "ᵏ"),
        ("^n", "ⁿ"),
        ("mu_{nk}", "μₙₖ"),
        ("`", ""),
    ):
        text = text.replace(ascii_form, sign)
    return re.sub(r"h\*|\bh0\b", "h₀", text)


def _table(rows: dict[str, str]) -> list[str]:
    wide = max(map(len, rows))
    filled = (
        textwrap.fill(f"{key:<{wide}}  {value}", WIDTH, subsequent_indent=" " * (wide + 2))
        for key, value in rows.items()
    )
    return list(filled)


def _step(number: int, step: Step) -> str:
    head = f"{number}. {plain(step.title)}"
    lines = [head, "-" * len(head), textwrap.fill(plain(step.explanation), WIDTH)]
    for equation in step.equations:
        lines += ["", textwrap.indent(pretty(equation, WIDTH - INDENT), " " * INDENT)]
    return "\n".join(lines)


def pretty(equation: Any, width: int) -> str:
    """`equation` in two dimensions; one too wide goes on below, term by term, then factor by factor."""
    whole = _form(equation)
    if whole.width() <= width or not isinstance(equation, sp.Eq):
        return _lines(whole)
    first = prettyForm(*_form(equation.lhs).right(" = "))
    blocks = _wrapped(equation.rhs, width - 4)
    return "\n".join([_lines(first), *(textwrap.indent(block, "    ") for block in blocks)])


def _wrapped(expression: Any, width: int) -> list[str]:
    if isinstance(expression, sp.Piecewise):
        blocks = []
        for value, condition in expression.args:
            where = "otherwise" if condition is sp.true else f"where {_lines(_form(condition))}"
            blocks += [f"{where}:", *(textwrap.indent(block, "  ") for block in _wrapped(value, width - 2))]
        return blocks
    if _form(expression).width() <= width:
        return [_lines(_form(expression))]
    if expression.is_Add:
        return _packed(_terms(expression), width)
    sums = [factor for factor in sp.Mul.make_args(sp.fraction(expression)[0]) if factor.is_Add]
    if not sums:
        return [_lines(_form(expression))]
    longest = max(sums, key=lambda factor: len(factor.args))
    outer = expression / longest
    return [_lines(prettyForm(*_form(outer).right(" ⋅ ("))), *_packed(_terms(longest), width), ")"]


def _terms(total: Any) -> list[prettyForm]:
    """The terms of a sum, each with its sign."""
    forms: list[prettyForm] = []
    for term in ordered_terms(total):
        negative = term.could_extract_minus_sign()
        sign = "- " if negative else "+ " if forms else ""
        forms.append(prettyForm(*_form(-term if negative else term).left(sign)))
    return forms


def _packed(forms: list[prettyForm], width: int) -> list[str]:
    """As many terms on a line as fit."""
    lines = [forms[0]]
    for form in forms[1:]:
        joined = prettyForm(*lines[-1].right(" ", form))
        if joined.width() <= width:
            lines[-1] = joined
        else:
            lines.append(form)
    return [_lines(line) for line in lines]


def _form(expression: Any) -> prettyForm:
    form = _Printer({"use_unicode": True, "wrap_line": False})._print(expression)
    return form if isinstance(form, prettyForm) else prettyForm(form)


def _lines(form: prettyForm) -> str:
    return "\n".join(line.rstrip() for line in form.render(wrap_line=False).splitlines())


def width_of(expression: Any) -> int:
    """Columns that `expression` takes on one line."""
    return int(_form(expression).width())
