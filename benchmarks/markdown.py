"""Tables as Markdown, and the places in pages where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table; the first line is the head.

    >>> print(markdown([["what", "s"], ["a step", "1.5"]]))
    | what | s |
    | --- | --- |
    | a step | 1.5 |
    """
    rows = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def put(page: Path, name: str, text: str) -> bool:
    """Write the text between the marks of a page, ``<!-- NAME: begin -->`` and ``end``; whether it has them.

    >>> import tempfile
    >>> page = Path(tempfile.mkdtemp()) / "a.md"
    >>> _ = page.write_text("before\\n<!-- speed: begin -->\\nold\\n<!-- speed: end -->\\nafter\\n")
    >>> put(page, "speed", "new"), page.read_text().split("\\n")[1:4]
    (True, ['<!-- speed: begin -->', 'new', '<!-- speed: end -->'])
    """
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, mark, rest = page.read_text("utf-8").partition(begin) if page.is_file() else ("", "", "")
    if not mark:
        return False
    page.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}", "utf-8")
    return True
