"""How derivations read: numbers from every result, a text for the terminal, a document for LaTeX."""

import re

import pytest
import sympy as sp
from derivations import derived

from fpanalysis.regulator._derivation_latex import latex

KNOWN = set(
    re.findall(
        r"\w+",
        "documentclass usepackage allowdisplaybreaks setlength parindent begin end section subsection item texttt text "
        "operatorname left right bigl bigr quad frac dfrac sqrt int limits infty to le leq ge geq max exp log tanh "
        "cosh Phi phi gamma sigma xi delta lambda beta mu nu pi wedge partial",
    )
)


@pytest.fixture(
    params=[("relu", "in"), ("relu", "out"), ("smooth", "in"), ("smooth", "out"), ("softplus", "in"), ("tanh", "out")]
)
def d(request):
    return derived(*request.param)


def test_derivations_begin_with_the_model_and_end_in_numbers(d):
    assert d.steps[0].title == "Model"
    assert d.steps[0].equation.lhs == sp.Symbol("h'", real=True)
    assert [step.title for step in d.steps[1:2]] == ["Stationary mean"]
    assert all(isinstance(equation, sp.Eq) for step in d.steps for equation in step.equations)
    assert d.result == d.results["shift"]
    assert d.results.keys() == d.contents.keys()
    assert d.symbols.keys() == d.meaning.keys()
    for expression in d.results.values():
        own = {f.func.__name__ for f in expression.atoms(sp.Function)}
        assert own <= {"erfc", "exp", "log", "tanh", "Max", "Abs", "Piecewise"}
        assert not expression.has(sp.Integral, sp.Derivative)
    names = sorted(symbol.name for symbol in d.result.free_symbols)
    values = [{"b": 0.1, "gamma": 0.2, "sigma": 0.5, "w": -0.7}.get(name, 0.3) for name in names]
    compiled = sp.lambdify([d.symbols[name] for name in names], d.result)
    exact = sp.N(d.result.subs({d.symbols[name]: value for name, value in zip(names, values, strict=True)}))
    assert compiled(*values) == pytest.approx(float(exact), rel=1e-12)
    assert d.function("shift", " ".join(names))(*values) == pytest.approx(float(exact), rel=1e-12)


def test_text_fits_a_terminal(d):
    text = d.text()
    assert max(map(len, text.splitlines())) <= 80
    assert not re.search(r"\b(gamma|sigma|xi|delta)\b|`|h\*", text)
    for number, step in enumerate(d.steps, start=1):
        assert f"\n{number}. " in text
        assert step.explanation


def test_latex_is_a_document(d):
    """Balanced braces and environments, commands that LaTeX with amsmath knows, mathematics only in formulas."""
    document = d.latex()
    bare = document.replace(r"\{", "").replace(r"\}", "")
    assert bare.count("{") == bare.count("}")
    assert re.findall(r"\\begin\{(\w+\*?)\}", document)[0] == "document"
    open_ones = []
    for kind, name in re.findall(r"\\(begin|end)\{(\w+\*?)\}", document):
        if kind == "begin":
            open_ones.append(name)
        else:
            assert open_ones.pop() == name
    assert open_ones == []
    assert len(re.findall(r"\\left\W", document)) == len(re.findall(r"\\right\W", document))
    assert set(re.findall(r"\\([a-zA-Z]+)", document.replace(r"\\", " "))) <= KNOWN
    assert document.isascii()
    prose = re.sub(r"\$[^$]*\$|\\begin\{(equation|align)\*\}.*?\\end\{\1\*\}", "", document, flags=re.DOTALL)
    assert not re.search(r"[<>^|*=]", prose.split(r"\begin{document}")[1].replace("section*", ""))
    assert not re.search(r"(?<!\\)_", prose)


def test_matplotlib_reads_the_formulas():
    from matplotlib.mathtext import MathTextParser

    parser, read = MathTextParser("path"), 0
    for d in (derived(), derived("smooth", "out")):
        for step in d.steps:
            for equation in step.equations:
                formula = latex(equation)
                if r"\begin" not in formula:  # cases
                    parser.parse(f"${formula}$".replace(r"\limits", ""))
                    read += 1
    assert read > 50
