"""Markdown tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

BAR = re.compile(r"(?<!\\)\|")
MARKUP = re.compile(r"([*<\[\]|])")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of Markdown, each row on a line.

    >>> print(table(["name", "does"], [["a", "b"]]))
    | name | does |
    | --- | --- |
    | a | b |
    """
    return "\n".join(map(_row, [header, ["---"] * len(header), *rows]))


def _row(cells: Sequence[str]) -> str:
    joined = " | ".join(BAR.sub(r"\\|", cell) for cell in cells)
    return f"| {joined} |"


def plain(text: str) -> str:
    """Text in which nothing is taken for markup.

    >>> plain("[MODEL ...] | *")
    '\\\\[MODEL ...\\\\] \\\\| \\\\*'
    """
    return MARKUP.sub(r"\\\1", text)


def from_docstring(text: str | None) -> str:
    """The first paragraph of a docstring as one line of Markdown.

    >>> from_docstring("What ``it`` is\\n    and does.\\n\\n    More.")
    'What `it` is and does.'
    """
    first = re.split(r"\n\s*\n", (text or "").strip())[0]
    code = re.sub(r"``(.+?)``", r"`\1`", " ".join(first.split()))
    return re.sub(r":\w+:`~?([\w.]+)`", r"`\1`", code)
