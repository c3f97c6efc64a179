"""A headless browser that opens a page without a network; tests skip where there is none."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from medtransfer.reporting.page import script_hash

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_WEBGL = ("--use-angle=swiftshader", "--enable-unsafe-swiftshader")
_QUIET = ("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update")
_WATCH = """
document.addEventListener("securitypolicyviolation", (event) => document.body.dataset.refused = event.blockedURI);
"""
_TELL = """
document.body.dataset.loaded = performance.getEntriesByType("resource").map((entry) => entry.name).join(" ");
"""


def run_browser(page: Path, *arguments: str, folder: Path) -> str:
    """What the browser prints; ``--dump-dom`` prints the page after its scripts, ``--screenshot=FILE`` draws it."""
    browser = next((found for found in map(shutil.which, _NAMES) if found), None)
    if browser is None:
        pytest.skip("needs chromium")
    profile = tempfile.mkdtemp(dir=folder)
    own = (f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND", "--virtual-time-budget=20000")
    command = [browser, "--headless", "--no-sandbox", *_WEBGL, *_QUIET, *own, *arguments, page.as_uri()]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=240).stdout


def watch_page(page: Path, copy: Path, more: str = "") -> Path:
    """A copy whose script also runs ``more``, and tells what the page loaded and what its policy refused."""
    html = page.read_text(encoding="utf-8")
    _, script = re.split(r'^<script(?: type="module")?>', html, maxsplit=1, flags=re.MULTILINE)
    script = script[: script.index("</script>")]
    watched = f"{_WATCH}{script}{more}{_TELL}"
    assert script_hash(script) in html
    copy.write_text(html.replace(script, watched).replace(script_hash(script), script_hash(watched)), encoding="utf-8")
    return copy
