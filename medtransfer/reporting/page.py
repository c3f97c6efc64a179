"""One self-contained HTML page: sections of text, tables and pictures, all inlined, nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..errors import UsageError
from ..files import atomic_file
from .tables import cell_text, is_numeric

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_SORT = Path(__file__).with_name("sort.js")
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_MEDIA = {PNG_MAGIC: "image/png", b"\xff\xd8\xff": "image/jpeg"}


@dataclass(frozen=True)
class Table:
    """Rows under a header; columns of numbers are aligned to the right, floats get three digits.

    A ``sortable`` table is sorted by a column when its name is clicked; without scripts it stays as it is.

    >>> Table(["class", "Dice"], [["CSF", 0.71]]).numeric
    [False, True]
    """

    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    sortable: bool = False

    @property
    def numeric(self) -> list[bool]:
        """By column, whether it holds numbers."""
        return [is_numeric(self.rows, column) for column in range(len(self.header))]


@dataclass(frozen=True)
class Picture:
    """A PNG or JPEG file; ``text`` says in words what it shows, for those who cannot see it."""

    path: str | Path
    text: str
    caption: str = ""

    @property
    def source(self) -> str:
        """The file as a ``data:`` address.

        Raises:
            UsageError: the file is missing, or neither PNG nor JPEG.
        """
        try:
            content = Path(self.path).read_bytes()
        except OSError as error:
            raise UsageError(f"the picture cannot be read: {error.strerror}", path=self.path) from error
        media = next((kind for magic, kind in _MEDIA.items() if content.startswith(magic)), None)
        if media is None:
            raise UsageError("is neither a PNG nor a JPEG picture", path=self.path)
        return f"data:{media};base64,{base64.b64encode(content).decode('ascii')}"


@dataclass(frozen=True)
class Section:
    """A heading with paragraphs (split at blank lines), tables, pictures and a preformatted text, in this order."""

    title: str
    text: str = ""
    tables: Sequence[Table] = field(default_factory=tuple)
    pictures: Sequence[Picture] = field(default_factory=tuple)
    printed: str = ""

    @property
    def paragraphs(self) -> list[str]:
        """The text's paragraphs.

        >>> Section("a", "one\\nline\\n\\ntwo").paragraphs
        ['one\\nline', 'two']
        """
        return [part.strip() for part in self.text.split("\n\n") if part.strip()]


def write_page(
    path: str | Path, title: str, sections: Sequence[Section], *, lead: str = "", overwrite: bool = False
) -> Path:
    """Write the page: everything is escaped, pictures are inlined, and a policy in it forbids loading anything.

    Args:
        path: The HTML file to write.
        title: The page's title and first heading.
        sections: Its parts, top to bottom.
        lead: The sentence or two under the title that say what came out.
        overwrite: Replace an existing page.

    Raises:
        UsageError: a picture is missing or no picture.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> page = write_page(Path(tempfile.mkdtemp()) / "report.html", "Run", [Section("Dice", "CSF < grey matter")])
    >>> "CSF &lt; grey matter" in page.read_text(encoding="utf-8")
    True
    """
    sortable = any(table.sortable for part in sections for table in part.tables)
    script = _SORT.read_text(encoding="utf-8") if sortable else ""
    return write_html(path, _TEMPLATE, overwrite, title=title, lead=lead, sections=sections, script=script)


def write_html(path: str | Path, template: Path, overwrite: bool, *, script: str, **words: Any) -> Path:
    """Fill a template of this folder and write it; every word is escaped, and one that is missing is an error.

    Args:
        path: The HTML file to write.
        template: A file for Jinja.
        overwrite: Replace an existing page.
        script: The only one that the page may run; the template gets it with its :func:`script_hash`.
        **words: What else the template names.

    Raises:
        OutputExistsError: ``path`` exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["cell"] = cell_text
    filled = environment.from_string(template.read_text(encoding="utf-8"))
    html = filled.render(script=script, script_hash=script_hash(script), **words)
    with atomic_file(path, overwrite) as part:
        part.write_text(html, encoding="utf-8", errors="backslashreplace")
    return Path(path)


def script_hash(script: str) -> str:
    """The name by which a page's policy lets this one script run, and no other.

    >>> script_hash("")
    "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='"
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
