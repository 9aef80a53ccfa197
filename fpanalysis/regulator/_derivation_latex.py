"""A derivation as a complete LaTeX document, for which amsmath is enough."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import sympy as sp
from sympy.printing.latex import LatexPrinter

from fpanalysis.regulator._derivation_symbols import ordered_terms
from fpanalysis.regulator._derivation_text import width_of

if TYPE_CHECKING:
    from fpanalysis.regulator._derivation_steps import Derivation, Step

LINE = 84  #: columns of the terminal form that fit a line of the page

HEAD = r"""\documentclass{article}
\usepackage{amsmath}
\allowdisplaybreaks
\setlength{\parindent}{0pt}
\begin{document}
"""
TAIL = r"""\end{document}
"""
GREEK = "gamma|sigma|delta|lambda|phi|Phi|beta|xi|nu|mu"


class _Printer(LatexPrinter):
    """sympy's, with sums in `ordered_terms`."""

    def _as_ordered_terms(self, expr: Any, order: Any = None) -> list[Any]:
        return ordered_terms(expr)

    def _print_E(self, expr: Any, exp: str | None = None) -> str:
        return rf"\operatorname{{E}}\left({self._print(expr.args[0])}\right)" + (f"^{{{exp}}}" if exp else "")

    def _print_Piecewise(self, expr: Any) -> str:
        cases = str(super()._print_Piecewise(expr))
        return cases if "e^{" in cases else cases.replace(r"\frac", r"\dfrac").replace(r" \\", r" \\[1ex] ")


def render(derivation: Derivation) -> str:
    """Title, steps with their formulas, and what the symbols and results are."""
    parts = [HEAD, rf"\section*{{{prose(derivation.title)}}}", ""]
    for number, step in enumerate(derivation.steps, start=1):
        parts += [_step(number, step)]
    meaning = {f"${latex(derivation.symbols[name])}$": text for name, text in derivation.meaning.items()}
    contents = {rf"\texttt{{{name}}}".replace("_", r"\_"): derivation.contents[name] for name in derivation.results}
    for title, rows in (("Symbols", meaning), ("Results", contents)):
        items = [rf"\item[{key}] {prose(text)}" for key, text in rows.items()]
        parts += [rf"\subsection*{{{title}}}", r"\begin{description}", *items, r"\end{description}", ""]
    return "\n".join([*parts, TAIL])


def latex(expression: Any) -> str:
    return str(_Printer().doprint(expression))


def prose(text: str) -> str:
    """Prose with what stands between backquotes as formulas; Greek names and single letters, but "a", as symbols."""
    parts = text.split("`")
    symbol = rf"(?<![\w'])({GREEK}|[b-zB-Z])(?![\w'])"
    plain = [re.sub(symbol, lambda found: f"${_formula(found[1]).strip()}$", part) for part in parts[::2]]
    formulas = [f"${_formula(part)}$" for part in parts[1::2]]
    return "".join(a + b for a, b in zip(plain, [*formulas, ""], strict=True)).replace("%", r"\%")


def _formula(text: str) -> str:
    text = re.sub(rf"(?<![a-zA-Z])({GREEK})(?![a-z])", r"\\\1 ", text)
    for ascii_form, sign in (("->", r"\to "), ("<=", r"\le "), (">=", r"\ge "), ("exp(", r"\exp(")):
        text = text.replace(ascii_form, sign)
    return re.sub(r"\b([hx])0\b", r"\1_{0}", re.sub(r"\bE ?(?=[\w(])", r"\\operatorname{E} ", text))


def _step(number: int, step: Step) -> str:
    equations = "\n".join(_display(equation) for equation in step.equations)
    return f"\\subsection*{{{number}. {prose(step.title)}}}\n{prose(step.explanation)}\n{equations}\n"


def _display(equation: Any) -> str:
    """A displayed equation; one too long for the line goes on below, term by term."""
    if width_of(equation) <= LINE:
        return f"\\begin{{equation*}}\n{latex(equation)}\n\\end{{equation*}}"
    first, *more = _broken(equation.rhs, LINE - width_of(equation.lhs) - 3)
    lines = [f"{latex(equation.lhs)} ={{}}& {first}", *(rf"& {line}" for line in more)]
    return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"


def _broken(expression: Any, width: int) -> list[str]:
    if width_of(expression) <= width:
        return [latex(expression)]
    if isinstance(expression, sp.Piecewise):
        return [line for value, where in expression.args for line in _branch(value, where, width)]
    if expression.is_Add:
        return _packed(expression, width)
    sums = [factor for factor in sp.Mul.make_args(sp.fraction(expression)[0]) if factor.is_Add]
    if not sums:
        return [latex(expression)]
    longest = max(sums, key=lambda factor: len(factor.args))
    outer = expression / longest
    first, *more = _packed(longest, width - width_of(outer) - 3)
    lines = [rf"{latex(outer)} \bigl( {first}", *(rf"\quad {line}" for line in more)]
    return [*lines[:-1], rf"{lines[-1]} \bigr)"]


def _branch(value: Any, where: Any, width: int) -> list[str]:
    condition = r"\quad \text{otherwise}" if where is sp.true else rf"\quad \text{{for }} {latex(where)}"
    lines = _broken(value, width)
    return [*lines[:-1], lines[-1] + condition]


def _packed(total: Any, width: int) -> list[str]:
    """As many terms on a line as fit."""
    lines, used = [""], 0
    for term in ordered_terms(total):
        size = width_of(term) + 3
        text = latex(term)
        sign = "" if text.startswith("-") or lines == [""] else "+ "
        if used and used + size > width:
            lines.append("")
            used = 0
        lines[-1] += f" {sign}{text}"
        used += size
    return [line.strip() for line in lines]
