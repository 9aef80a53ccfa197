"""The arrows between the parts: what may import what, read from the source and seen in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import fpanalysis

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "scipy", "matplotlib", "xarray", "sympy", "pandas")
ON_TOP = ("fpanalysis.models", "fpanalysis.tasks", "fpanalysis.cli", "fpanalysis.figures", "fpanalysis.__main__")
SOLVERS = (
    *("fixed_points", "stationary", "shift", "bias", "regulator", "moments", "denoise", "checkpoint"),
    "preference",
    "regularizer",
    "robustness",
    "stability",
)
WITH_TORCH = (
    "fpanalysis.checkpoint",
    "fpanalysis.stationary.monte_carlo",
    "fpanalysis.stationary._simulate",
    "fpanalysis.stationary._record",
    "fpanalysis.stationary._stacks",
    "fpanalysis.stationary._average",
    "fpanalysis.stationary._settings",
    "fpanalysis.regularizer._differentiated",
)


class Import(NamedTuple):
    target: str  #: absolute module name; for `from package import name` both `package` and `package.name`
    line: int
    function: str | None  #: the innermost function it stands in
    typing: bool  #: under `if TYPE_CHECKING`


def sources():
    """Module name -> path of every file of the package, with models/ and tasks/ where they are installed."""
    folders = {"fpanalysis": "fpanalysis", "models": "fpanalysis.models", "tasks": "fpanalysis.tasks"}
    found = {}
    for folder, package in folders.items():
        for path in (ROOT / folder).rglob("*.py"):
            inner = path.relative_to(ROOT / folder).with_suffix("").parts
            parts = [package, *(inner[:-1] if inner[-1] == "__init__" else inner)]
            found[".".join(parts)] = path
    return found


def imports(module, path):
    """Every import statement of a file."""
    found = []

    def visit(node, function, typing):
        if isinstance(node, ast.Import):
            found.extend(Import(alias.name, node.lineno, function, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            target = ".".join(part for part in (base, node.module) if part)
            names = (target, *(f"{target}.{alias.name}" for alias in node.names))
            found.extend(Import(name, node.lineno, function, typing) for name in names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, function, True)
            for child in node.orelse:
                visit(child, function, typing)
            return
        name = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        for child in ast.iter_child_nodes(node):
            visit(child, name, typing)

    visit(ast.parse(path.read_text()), None, False)
    return found


MODULES = sources()
IMPORTS = {module: imports(module, path) for module, path in MODULES.items()}


def within(name, *packages):
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def statements(modules, forbidden, but=lambda module, statement: False):
    """The offending imports, readable in the failure."""
    return [
        f"{MODULES[module].relative_to(ROOT)}:{statement.line} imports {statement.target}"
        for module in modules
        for statement in IMPORTS[module]
        if within(statement.target, *forbidden) and not statement.typing and not but(module, statement)
    ]


def engine():
    return [module for module in MODULES if not within(module, *ON_TOP)]


def test_the_parser_sees_imports():
    """So that the tests below do not pass for want of anything to look at."""
    seen = {(s.target, s.function, s.typing) for s in IMPORTS["fpanalysis.activations"]}
    assert ("fpanalysis.gaussian", None, False) in seen
    assert ("torch", "torch", False) in seen
    assert ("torch", None, True) in seen
    assert len(MODULES) > 10


def test_the_engine_knows_nothing_of_what_stands_on_it():
    assert statements(engine(), ON_TOP) == []


def test_torch_is_imported_only_where_it_is_needed():
    allowed = ("fpanalysis.models", *WITH_TORCH)
    inside = lambda _, statement: statement.function == "torch"  # noqa: E731  the activations' torch functions
    assert statements([m for m in MODULES if not within(m, *allowed)], ["torch"], inside) == []


def test_models_and_tasks_go_by_their_installed_names():
    """A user's own models.py or tasks.py must not be found in their place."""
    assert statements(MODULES, ["models", "tasks"]) == []


def test_figures_compute_nothing():
    figures = [module for module in MODULES if within(module, "fpanalysis.figures")]
    assert statements(figures, [f"fpanalysis.{name}" for name in SOLVERS]) == []


def test_tasks_need_no_models():
    tasks = [module for module in MODULES if within(module, "fpanalysis.tasks")]
    assert statements(tasks, ["fpanalysis.models", "fpanalysis.cli", "fpanalysis.figures"]) == []


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("network", ("_parts", "activations", "checks", "noise", "results", "system")),
        ("_parts", ("activations", "checks", "results")),
        ("noise", ("checks", "results")),
        ("system", ("checks", "results")),
        ("checks", ("results",)),
        ("activations", ("_activation", "_grouped", "_piecewise_linear", "_smoothed", "gaussian")),
        ("_grouped", ("_activation", "_piecewise_linear", "_smoothed", "results")),
        ("_piecewise_linear", ("_activation", "gaussian", "results")),
        ("_smoothed", ("_activation", "checks", "gaussian", "results")),
        ("_activation", ("gaussian", "results")),
        ("gaussian", ()),
        ("checkpoint", ("activations", "lipschitz", "network", "results")),
        ("lipschitz", ("_parts", "activations", "checks", "noise", "results", "system")),
        ("results", ()),
    ],
)
def test_the_foundations_rest_on_each_other_only_downwards(module, allowed):
    own = [f"fpanalysis.{name}" for name in allowed]
    found = statements([f"fpanalysis.{module}"], ["fpanalysis"], lambda _, s: within(s.target, *own))
    assert [line for line in found if not line.endswith("imports fpanalysis")] == []


def test_no_import_circles():
    """Every module can be understood after those that it imports."""
    graph = {
        module: {s.target for s in statements if s.target in MODULES and s.target != module and not s.typing}
        - {"fpanalysis", module.rpartition(".")[0]}
        for module, statements in IMPORTS.items()
    }
    list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_heavy_packages_are_not_imported_by_command_files():
    """Each --help answers quickly: commands import what they need when they run."""
    commands = [module for module in MODULES if within(module, "fpanalysis.cli")]
    found = statements(commands, [*HEAVY, "numpy"], lambda _, s: s.function is not None)
    assert found == []


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packages = {module for module, path in MODULES.items() if path.name == "__init__.py"}
    assert set(project["packages"]) == packages
    assert project["package-dir"] == {"fpanalysis.models": "models", "fpanalysis.tasks": "tasks"}
    folders = {path.parent for path in MODULES.values()}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").exists()] == []


def test_files_are_one_idea_long():
    lengths = {module: len(path.read_text().splitlines()) for module, path in MODULES.items()}
    assert {module: length for module, length in lengths.items() if length > 400} == {}


def test_every_file_says_what_it_is():
    assert [module for module, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))] == []


def fresh(code):
    """Which heavy packages are loaded in a new interpreter after `code`."""
    report = f"import json, sys; print(json.dumps([m for m in {HEAVY!r} if m in sys.modules]), file=sys.stderr)"
    script = f"import atexit\ndef report():\n    {report}\natexit.register(report)\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, cwd=os.path.sep
    )
    return json.loads(done.stderr.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import fpanalysis; dir(fpanalysis)",
        "from fpanalysis import Network, InputError, Status, load, save; Network(W=[[0.5]], b=[1.0]).step([1.0])",
        "from fpanalysis.cli import main; main(['--help'])",
        "from fpanalysis.cli import main; main(['--version'])",
        "from fpanalysis.cli import main; main(['--cite'])",
    ],
)
def test_a_light_start(code):
    assert fresh(code) == []


def test_heavy_packages_would_be_seen():
    assert fresh("import scipy") == ["scipy"]


def test_public_names_resolve():
    """Every exported name whose file exists; and dir() offers what __all__ says."""
    assert dir(fpanalysis) == sorted(fpanalysis.__all__)
    for name, module in fpanalysis._EXPORTS.items():
        if module in MODULES:
            assert getattr(fpanalysis, name) is getattr(import_module(module), name)
    for name in fpanalysis._MODULES:
        if f"fpanalysis.{name}" in MODULES:
            assert getattr(fpanalysis, name) is import_module(f"fpanalysis.{name}")
    assert fpanalysis.__version__.count(".") == 2


def test_unknown_names_raise_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        fpanalysis.nothing  # noqa: B018
