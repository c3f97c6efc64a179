"""The public names, by the page of the reference that shows each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import medtransfer

from .contents import listed, title
from .links import DOCS
from .table import from_docstring, table

ENTRY = re.compile(r"^\.\. auto(\w+):: medtransfer\.([\w.]+)$", re.MULTILINE)
ROLES = {"function": "py:func", "class": "py:class", "exception": "py:exc", "data": "py:data"}


def entries(page: Path) -> list[tuple[str, str]]:
    """(kind, name below medtransfer) of what a page of the reference shows."""
    return ENTRY.findall(page.read_text(encoding="utf-8"))


def pages() -> list[Path]:
    """The pages of the reference that show public names."""
    files = [DOCS / f"{name}.md" for name in listed()["Reference"]]
    return [page for page in files if entries(page)]


def overview() -> str:
    """All public names with the first sentence of what they say of themselves, a table for each page."""
    return "\n\n".join(map(_section, pages()))


def _section(page: Path) -> str:
    rows = [[f"{{{ROLES[kind]}}}`medtransfer.{name}`", _sentence(name)] for kind, name in entries(page)]
    return f"## [{title(f'reference/{page.stem}')}]({page.name})\n\n{table(['name', 'is'], rows)}"


def _sentence(name: str) -> str:
    value: Any = medtransfer
    for part in name.split("."):
        value = getattr(value, part)
    return "the version, as text" if isinstance(value, str) else from_docstring(value.__doc__)
