"""The example scripts and the shipped configs, shown whole, each at a place that links can lead to."""

from __future__ import annotations

import ast
from pathlib import Path

from .links import label
from .table import from_docstring

ROOT = Path(__file__).resolve().parents[2]


def page() -> str:
    """Every script of examples/: what it says of itself, and its text."""
    return sections(sorted((ROOT / "examples").glob("*.py")))


def sections(files: list[Path], level: int = 2) -> str:
    """A section for each Python file.

    Args:
        files: Files of the repository.
        level: Of the headings.
    """
    return "\n\n".join(_section(file, level) for file in files)


def _section(file: Path, level: int) -> str:
    path, text = file.relative_to(ROOT).as_posix(), file.read_text(encoding="utf-8")
    says = from_docstring(ast.get_docstring(ast.parse(text)))
    return f"({label(path)})=\n{'#' * level} `{path}`\n\n{says}\n\n````python\n{text.strip()}\n````"
