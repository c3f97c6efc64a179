"""The order of the site's pages. What a pattern does not find is left out, so that pages may come and go."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from .links import DOCS, shown_files

ROOT = DOCS.parent
HEADING = re.compile(r"^# (.+)$", re.MULTILINE)
#: Pages directly in docs/ that are no guides.
OUTSIDE = {"index", "readme", "examples", "security", "changelog", "contributing", "comparison", "results"}
SECTIONS = {
    "Start": ("readme", "notebooks/tutorial", "notebooks/*", "examples"),
    "How to": ("how_to/*",),
    "Coming from": ("migration/*", "comparison"),
    "Concepts": ("concepts/encoder", "concepts/report", "concepts/geometry", "concepts/model_folder", "concepts/*"),
    "Guides": (
        *("transfer", "zoo", "datasets", "preprocessing", "volumes", "fine_tuning", "classification", "detection"),
        *("multitask", "batches", "outputs", "evaluation", "export", "sharing", "trackers", "speed", "distributed"),
        *("robustness", "*"),
    ),
    "Reference": (
        *("reference/index", "reference/networks", "reference/transfer", "reference/tasks", "reference/fine_tuning"),
        *("reference/data", "reference/prediction", "reference/evaluation", "reference/model_folders"),
        *("reference/export_and_sharing", "reference/errors", "reference/commands", "reference/configs", "reference/*"),
    ),
    "Measured": ("results", "benchmarks/*"),
    "Project": ("security", "contributing", "changelog"),
}
#: Names in the sidebar that are not the page's title up to its colon.
TITLES = {"readme": "The README"}


def toctrees() -> str:
    """A hidden toctree for each section: the sidebar."""
    return "\n\n".join(_toctree(caption, names) for caption, names in listed().items() if names)


def _toctree(caption: str, names: list[str]) -> str:
    entries = [f"{_short_title(name)} <{name}>" for name in names]
    return "\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"])


def listed() -> dict[str, list[str]]:
    """Caption -> names of pages, each page in one section."""
    taken: set[str] = set()
    sections: dict[str, list[str]] = {}
    for caption, patterns in SECTIONS.items():
        found = [name for pattern in patterns for name in _found(pattern)]
        sections[caption] = [name for name in dict.fromkeys(found) if name not in taken]
        taken.update(found)
    return sections


def _found(pattern: str) -> Iterator[str]:
    for path in sorted(DOCS.glob(f"{pattern}.*")):
        name = path.relative_to(DOCS).with_suffix("").as_posix()
        if path.suffix in (".md", ".ipynb") and not (pattern == "*" and name in OUTSIDE):
            yield name


def title(name: str) -> str:
    """The heading of a page, or of the file or notebook that it shows."""
    return HEADING.findall(_text(name))[0]


def _short_title(name: str) -> str:
    return TITLES.get(name) or title(name).partition(":")[0].replace("`", "")


def _text(name: str) -> str:
    notebook = DOCS / f"{name}.ipynb"
    if notebook.is_file():
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
    shown = {page: file for file, page in shown_files().items()}
    path = ROOT / shown[f"{name}.md"] if f"{name}.md" in shown else DOCS / f"{name}.md"
    return path.read_text(encoding="utf-8")
