"""The page: self-contained, escaped, honest about missing pictures."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

import pytest

from medtransfer.errors import OutputExistsError, UsageError
from medtransfer.reporting.curves import curves_png
from medtransfer.reporting.page import Picture, Section, Table, write_page
from medtransfer.reporting.tables import text_table

VOID = {"meta", "img", "br", "hr", "link", "input"}


class Balance(HTMLParser):
    """Fails on a closing tag that does not match, and collects every address."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture
def picture(tmp_path):
    return curves_png({"a": [(0, 0), (1, 1)]}, tmp_path / "curve.png")


@pytest.fixture
def html(tmp_path, picture) -> str:
    sections = [
        Section("Result", "One.\n\nTwo.", [Table(["class", "Dice"], [["CSF", 0.5], ["<grey>", None]], "Held out")]),
        Section("Curves", pictures=[Picture(picture, 'a "rising" line', "Dice over steps")]),
        Section("Transfer", printed="key | how\nstem <- stem"),
        Section("Last", "<script>alert(1)</script>"),
    ]
    return write_page(tmp_path / "report.html", "Demo & more", sections, lead="It ran.").read_text(encoding="utf-8")


def test_every_address_is_inside_the_page(html):
    parser = Balance()
    parser.feed(html)
    assert not parser.open
    assert len(parser.addresses) == 5
    assert all(address.startswith(("data:image/png;base64,", "#part")) for address in parser.addresses)
    assert not re.search(r"https?:", html)
    assert "default-src 'none'" in html


def test_the_picture_inside_is_the_file(html, picture):
    encoded = re.search(r"data:image/png;base64,([^\"]+)", html)
    assert encoded is not None
    assert base64.b64decode(encoded.group(1)) == picture.read_bytes()


def test_text_is_escaped(html):
    assert "<script>" not in html
    assert "&lt;grey&gt;" in html
    assert "Demo &amp; more" in html
    assert "a &#34;rising&#34; line" in html


def test_numbers_stand_on_the_right_and_gaps_are_dashes(html):
    assert '<td class="number">0.500</td>' in html
    assert '<td class="number">-</td>' in html
    assert '<th scope="col">class</th>' in html


def test_a_phone_gets_its_own_width(html):
    assert 'name="viewport"' in html


@pytest.mark.parametrize("content, words", [(None, "cannot be read"), (b"GIF89a", "neither a PNG nor a JPEG")])
def test_a_bad_picture_stops_the_page(tmp_path, content, words):
    file = tmp_path / "a.gif"
    if content:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=words) as caught:
        write_page(tmp_path / "report.html", "t", [Section("s", pictures=[Picture(file, "x")])])
    assert caught.value.path == file
    assert not (tmp_path / "report.html").exists()


def test_an_older_page_stays_without_overwrite(tmp_path):
    page = write_page(tmp_path / "report.html", "first", [])
    with pytest.raises(OutputExistsError):
        write_page(page, "second", [])
    assert "first" in page.read_text(encoding="utf-8")
    assert "second" in write_page(page, "second", [], overwrite=True).read_text(encoding="utf-8")


def test_text_tables_keep_brackets_and_refuse_ragged_rows():
    assert "[bold]" in text_table(["name"], [["[bold]"]])
    with pytest.raises(ValueError, match="2 cells under a header of 1"):
        text_table(["a"], [[1, 2]])


def test_text_tables_are_not_cut_at_a_terminal_width():
    assert "x" * 300 in text_table(["name", "n"], [["x" * 300, 1]])
