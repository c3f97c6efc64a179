"""A page's text before it is parsed: marks are replaced by what the code says, links out of docs/ lead on.

``<!-- made: NAME -->`` stands for the Markdown that one of ``PARTS`` makes, ``<!-- file: PATH -->`` for a file of the
repository. As comments they leave no trace where a page is looked at as a plain file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from . import card, commands, configs, contents, errors, examples, names
from .links import rewrite

ROOT = Path(__file__).resolve().parents[2]
MARK = re.compile(r"^<!-- (made|file): (\S+) -->$", re.MULTILINE)
PARTS = {
    "card": card.tables,
    "commands": commands.page,
    "configs": configs.shipped,
    "config-keys": configs.keys,
    "config-types": configs.types,
    "contents": contents.toctrees,
    "errors": errors.table_of_kinds,
    "examples": examples.page,
    "exit-codes": errors.exit_codes,
    "names": names.overview,
}


def on_source_read(app: Any, docname: str, source: list[str]) -> None:
    """Sphinx's event: ``source`` holds one text, which is replaced."""
    # a notebook lies in examples/, which docs/notebooks is a link to
    home = Path("examples") if docname.startswith("notebooks/") else Path("docs", docname).parent
    source[0] = MARK.sub(_replacement, rewrite(source[0], home))


def on_outdated(app: Any, env: Any, added: Any, changed: Any, removed: Any) -> list[str]:
    """Sphinx's event: a page with a mark is read anew whenever the site is built, since the code may have changed."""
    return [name for name in env.found_docs if MARK.search(Path(env.doc2path(name)).read_text(encoding="utf-8"))]


def on_updated(app: Any, env: Any) -> set[str]:
    """Sphinx's event: every page is written whenever the site is built, since the sidebar of all lists all."""
    return set(env.found_docs)


def _replacement(mark: re.Match[str]) -> str:
    kind, name = mark.groups()
    if kind == "made":
        return PARTS[name]()
    return rewrite((ROOT / name).read_text(encoding="utf-8"), Path(name).parent)
