"""Tables and lines on the terminal, and the files a command writes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fpanalysis.results import InputError, check_writable, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FIGURE_TYPES = (".png", ".pdf", ".svg")


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table, numbers to the right; names and entries of several words on two lines where the terminal is
    narrow, but no word on two."""
    from rich.console import Console
    from rich.table import Table

    console, needed = Console(highlight=False), 0
    grid = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold", collapse_padding=False)
    for k, name in enumerate(columns):
        left, texts = name in ("status", "completeness"), [name, *(row[k] for row in rows)]
        least = max((len(word) for text in texts for word in text.split()), default=0)
        whole = not left and not any(" " in text for text in texts)
        grid.add_column(name, justify="left" if left else "right", no_wrap=whole, min_width=least)
        needed += 2 + (max(map(len, texts)) if whole else least)
    for row in rows:
        grid.add_row(*row)
    with console.capture() as printed:
        console.print(grid, width=max(console.width, needed), crop=False)
    lines = printed.get().splitlines()
    click.echo("\n".join(["", *(line.rstrip() for line in lines), ""]))


def number(value: float | None, digits: int = 3) -> str:
    """`value` to so many significant digits; a dash where there is none."""
    return "-" if value is None or value != value else f"{value:.{digits}g}"


def check_panels(count: int) -> None:
    """Refuse a figure of more inputs than have room in it."""
    from fpanalysis.figures import PANELS

    if count > PANELS:
        raise InputError(f"--figure has room for {PANELS} inputs; found {count}: choose some with --input")


def check_outputs(json_path: str | None, *paths: str | None, models: Sequence[str] = ()) -> None:
    """Refuse output paths that cannot be written, or would overwrite each other or a model that is read (a file, or one
    of a folder), before anything is computed."""
    taken: dict[Path, str] = {}
    for model in map(Path, models):
        files = model.glob("*.pt") if model.is_dir() else [model]
        taken |= {file.resolve(): "the model itself" for file in files}
    for path in (None if json_path == "-" else json_path, *paths):
        if path is not None:
            check_writable(path)
            if Path(path).resolve() in taken:
                raise InputError(f"cannot write {path}: it is {taken[Path(path).resolve()]}; choose another file")
            taken[Path(path).resolve()] = "another output as well"


def check_suffix(option: str, path: str | None, suffixes: Sequence[str]) -> None:
    if path is not None and Path(path).suffix.lower() not in suffixes:
        raise InputError(f"{option} must end in {', '.join(suffixes)}; found {path}")


def write_json(path: str, document: Mapping[str, Any]) -> None:
    """The document to a file, or to stdout for "-"."""
    text = json.dumps(without_nan(document), allow_nan=False)
    if path == "-":
        click.echo(text)
        return
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def without_nan(value: Any) -> Any:
    """Numbers that do not exist as null."""
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    return [without_nan(item) for item in value] if isinstance(value, list | tuple) else value


def save_figure(path: str, figure: Figure) -> None:
    with write_atomically(path) as temporary:
        figure.savefig(temporary, dpi=160)
