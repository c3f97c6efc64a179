"""Links as they work on plain files, made to work on the site."""

from __future__ import annotations

import posixpath
import re
from functools import cache
from pathlib import Path

DOCS = Path(__file__).resolve().parents[1]
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|[#/])([^)\s#]+)(#[^)\s]+)?(?=[)\s])")
NOTEBOOK = re.compile(r"\[([^\[\]]+)\]\(/notebooks/(\w+)\.ipynb\)")
SHOWN_FILE = re.compile(r"^<!-- file: (\S+) -->$", re.MULTILINE)
#: folders of the repository -> the page that shows what is in them; of others there is no page but the first
FOLDERS = {"configs": "reference/configs.md", "configs/_base_": "reference/configs.md", "examples": "examples.md"}


def rewrite(text: str, home: Path) -> str:
    """The text with every relative link as one that counts from docs/, as Sphinx reads a leading slash.

    Args:
        text: Markdown, or a notebook's JSON.
        home: The folder that its links count from, relative to the repository.
    """
    text = LINK.sub(lambda link: _target(posixpath.normpath(f"{home.as_posix()}/{link[1]}"), link[2] or ""), text)
    # docs/notebooks is a link to examples/, so that only Sphinx's own role finds a page by its place below docs/
    return NOTEBOOK.sub(lambda link: f"{{doc}}`{_one_line(link[1])} </notebooks/{link[2]}>`", text)


def _one_line(text: str) -> str:
    return " ".join(text.replace("`", "").split())


def _target(path: str, anchor: str) -> str:
    """The site's place of a path of the repository.

    >>> _target("docs/volumes.md", "#the-file"), _target("examples/demo.png", ""), _target("README.md", "")
    ('/volumes.md#the-file', '/../examples/demo.png', '/readme.md')
    >>> _target("examples/tutorial.ipynb", ""), _target("examples/fine_tune.py", ""), _target("configs/_base_", "")
    ('/notebooks/tutorial.ipynb', '#examples-fine-tune-py', '/reference/configs.md')
    """
    if path.startswith("docs/"):
        return f"/{path[5:]}{anchor}"
    if path in shown_files():
        return f"/{shown_files()[path]}{anchor}"
    if (DOCS.parent / path).is_dir():
        return f"/{FOLDERS.get(path, 'index.md')}"
    if path.startswith("examples/") and path.endswith(".ipynb"):
        return f"/notebooks/{path[9:]}"
    if path.startswith(("examples/", "configs/")) and path.endswith(".py"):
        return f"#{label(path)}"
    return f"/../{path}{anchor}"


def label(path: str) -> str:
    """The name of the place where the site shows a file of the repository."""
    return re.sub(r"[^a-z0-9]+", "-", path.lower()).strip("-")


@cache
def shown_files() -> dict[str, str]:
    """Files of the repository that a page of the site shows whole -> that page."""
    pages = {page: page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md") if "_build" not in page.parts}
    return {
        name: page.relative_to(DOCS).as_posix() for page, text in pages.items() for name in SHOWN_FILE.findall(text)
    }
