"""The site builds without a warning and without a network, and everything on it leads somewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

import medtransfer
from medtransfer.checkpoint.card import ModelCard
from medtransfer.cli.main import COMMANDS
from medtransfer.errors import MedTransferError
from medtransfer.model_zoo.hollow import hollow

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DRAWN = re.compile(r"<text[^>]*>(\d+(?:x\d+)+)</text>")
#: what holds no page of its own, and is not read as one
SEARCHED = {"genindex.html", "search.html", "py-modindex.html"}

pytest.importorskip("sphinx", reason="needs the extra docs")
pytest.importorskip("furo", reason="needs the extra docs")


class Page(NamedTuple):
    """What a built page points to, and the places that it has."""

    links: list[str]
    loaded: list[str]
    places: set[str]


class Reader(HTMLParser):
    """Collects links, what a browser loads by itself, and anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.page = Page([], [], set())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.page.places.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.page.links.append(given["href"])
        elif "src" in given:
            self.page.loaded.append(given["src"])
        elif tag == "link" and "href" in given:
            self.page.loaded.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; the command is that of ``make docs``, in another place."""
    pytest.importorskip("myst_nb", reason="needs the extra docs")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "--builder", "html", "--fail-on-warning", "--keep-going", "--quiet"]
    done = subprocess.run(
        [*command, "-d", str(out / "doctrees"), str(DOCS), str(out / "html")],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return out / "html"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: _read(path) for path in site.rglob("*.html")}


@pytest.fixture(scope="module")
def made() -> Iterator[ModuleType]:
    """The code that makes parts of pages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DOCS))
        import_module("_pages.read")
        yield import_module("_pages")


def _read(path: Path) -> Page:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader.page


def _faults(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    return [link for link in (*page.links, *page.loaded) if not _leads_somewhere(link, path, pages)]


def _leads_somewhere(link: str, path: Path, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return True
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target in pages and parts.fragment:
        return unquote(parts.fragment) in pages[target].places
    return target.exists()


def test_all_links_lead_to_a_file_and_a_place(pages: dict[Path, Page]) -> None:
    faults = {path.name: found for path, page in pages.items() if (found := _faults(path, page, pages))}
    assert faults == {}


def test_links_that_lead_nowhere_are_seen(tmp_path: Path) -> None:
    good = '<a href="b.html#x"> <a href="#here" id="here">'
    (tmp_path / "a.html").write_text(f'{good} <a href="b.html#y"> <a href="c.html"> <img src="p.png">')
    (tmp_path / "b.html").write_text('<p id="x">')
    pages = {path: _read(path) for path in tmp_path.glob("*.html")}
    assert _faults(tmp_path / "a.html", pages[tmp_path / "a.html"], pages) == ["b.html#y", "c.html", "p.png"]


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page]) -> None:
    loaded = {link for page in pages.values() for link in page.loaded}
    assert [link for link in loaded if urlsplit(link).scheme not in ("", "data") or urlsplit(link).netloc] == []


def test_every_page_is_reached_from_the_first(site: Path, pages: dict[Path, Page]) -> None:
    seen, new = set(), {site / "index.html"}
    while new:
        seen |= new
        found = {(path.parent / urlsplit(link).path).resolve() for path in new for link in pages[path].links}
        new = (found & set(pages)) - seen
    assert {path.name for path in set(pages) - seen} - SEARCHED == set()


def test_every_page_of_the_sources_is_there(site: Path, made: ModuleType) -> None:
    names = [name for names in import_module("_pages.contents").listed().values() for name in names]
    missing = [name for name in names if not (site / f"{name}.html").is_file()]
    assert missing == []
    assert "notebooks/tutorial" in names


def test_every_command_and_option_is_on_its_page(site: Path) -> None:
    places = _read(site / "reference/commands.html").places
    for name in COMMANDS:
        assert f"medtransfer-{name}" in places
    assert {"cmdoption-medtransfer-predict-tile", "cmdoption-medtransfer-transfer-to"} <= places


def test_every_public_name_is_on_one_page(made: ModuleType) -> None:
    names = import_module("_pages.names")
    shown = Counter(name for page in names.pages() for _, name in names.entries(page))
    assert {name: count for name, count in shown.items() if count > 1} == {}
    errors = {
        f"errors.{kind.__name__}" for kind in import_module("_pages.errors").kinds() if kind is not MedTransferError
    }
    zoo = {"model_zoo.ResNet", "model_zoo.UNet", "model_zoo.VGG"}
    assert set(shown) == {*medtransfer.__all__, *errors, *zoo}


def test_every_public_name_has_a_place(site: Path) -> None:
    places = set().union(*(_read(path).places for path in (site / "reference").glob("*.html")))
    assert {f"medtransfer.{name}" for name in medtransfer.__all__} <= places


def test_every_field_of_a_card_and_key_of_a_config_has_a_meaning(made: ModuleType) -> None:
    card, configs = import_module("_pages.card"), import_module("_pages.configs")
    fields = {field for schema in card.schemas().values() for field in schema["properties"]}
    assert fields == set(card.MEANINGS)
    assert set(ModelCard.__struct_fields__) <= fields
    assert set(configs.OWN_KEYS) == set(configs.MEANINGS)


def test_the_tables_hold_what_the_code_says(made: ModuleType) -> None:
    codes = import_module("_pages.errors").exit_codes()
    assert "| 4 | a checkpoint or model was refused | `CheckpointError`, `ModelError`, `TransferError` |" in codes
    types = import_module("_pages.configs").types()
    assert "- **`Segmenter`**: A network" in types
    assert "- **`KeepCheckpoints`**: " in types


def test_links_out_of_the_pages_become_links_of_the_site(made: ModuleType) -> None:
    rewrite = import_module("_pages.links").rewrite
    text = "[a](../README.md#limits) [b](https://example.org) [c](#here) ![d](../examples/demo.png)"
    assert rewrite(text, Path("docs")) == (
        "[a](/readme.md#limits) [b](https://example.org) [c](#here) ![d](/../examples/demo.png)"
    )
    assert rewrite("[the\ntutorial](../examples/tutorial.ipynb)", Path("docs")) == (
        "{doc}`the tutorial </notebooks/tutorial>`"
    )


def test_the_drawn_shapes_are_those_of_the_network() -> None:
    import torch

    scan = torch.zeros(1, 1, 64, 64, 64, device="meta")
    with hollow():
        maps = medtransfer.create_model("resnet18", in_channels=1, num_classes=2).features(scan)
    shapes = ["x".join(map(str, one.shape[1:])) for one in (scan, *maps)]
    assert DRAWN.findall((DOCS / "concepts" / "encoder.svg").read_text(encoding="utf-8")) == shapes


@pytest.mark.parametrize("module", sorted(path.stem for path in (DOCS / "_pages").glob("*.py")))
def test_the_doctests_of_the_pages_code_run(made: ModuleType, module: str) -> None:
    import doctest

    assert doctest.testmod(import_module(f"_pages.{module}")).failed == 0
