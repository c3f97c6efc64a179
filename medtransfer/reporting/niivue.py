"""NiiVue, the slice viewer for browsers, from the wheel that ships it: never downloaded."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import unquote

from ..errors import MissingExtraError

_HINT = "Run pip install 'medtransfer[view]'"
_NEEDED = {"Niivue", "NVImage", "SLICE_TYPE", "SHOW_RENDER"}
_EXPORTS = re.compile(r"export\s*\{([^{}]*)\}\s*;?\s*$")


@dataclass(frozen=True)
class NiiVue:
    """The viewer as a text of JavaScript that binds the constant ``niivue``, and the licence that goes with it."""

    script: str
    licence: str
    version: str


def read_niivue() -> NiiVue:
    """The NiiVue that the wheel ipyniivue holds, for pages that it saves, as one URL-encoded text in its widget.

    Raises:
        MissingExtraError: the wheel is not installed, or holds no NiiVue that can be found.

    >>> read_niivue().licence.splitlines()[0]
    'BSD 2-Clause License'
    """
    try:
        wheel = distribution("ipyniivue")
    except PackageNotFoundError as error:
        raise MissingExtraError("the viewer needs the package ipyniivue, which is not installed", hint=_HINT) from error
    widget = Path(str(wheel.locate_file("ipyniivue/static/widget.js")))
    licence = next((file for file in wheel.files or () if file.name == "LICENSE"), None)
    if licence is None or not widget.is_file():
        raise MissingExtraError(f"ipyniivue {wheel.version} lacks its viewer or its licence", path=widget, hint=_HINT)
    script = bind_exports(find_module(widget.read_text(encoding="utf-8")))
    if not script:
        reason = f"ipyniivue {wheel.version} holds no NiiVue that can be found"
        raise MissingExtraError(reason, path=widget, hint=_HINT)
    return NiiVue(script, licence.read_text(encoding="utf-8"), _version(script))


def find_module(widget: str) -> str:
    """The URL-encoded ES module in the widget's text; empty if there is none.

    >>> find_module('var a="x",b="class%20A%7B%7D%3Bexport%7BA%7D%3B";')
    'class A{};export{A};'
    """
    inside = widget.rfind("export%7B")
    if inside < 0:
        return ""
    return unquote(widget[widget.rfind('"', 0, inside) + 1 : widget.find('"', inside)])


def bind_exports(module: str) -> str:
    """The module with its exports as the fields of a constant ``niivue``; empty if a needed one is missing.

    What would end a script element, or open a comment in one, is written so that it does not.

    >>> bind_exports("class A{};export{A as Niivue,A as NVImage,S as SLICE_TYPE,R as SHOW_RENDER};")
    'class A{};const niivue={Niivue:A,NVImage:A,SLICE_TYPE:S,SHOW_RENDER:R};'
    >>> bind_exports("export{A};")
    \'\'
    """
    exports = _EXPORTS.search(module)
    if not exports:
        return ""
    pairs = [name.split(" as ") for name in exports[1].split(",") if name.strip()]
    fields = {pair[-1].strip(): pair[0].strip() for pair in pairs}
    if not set(fields) >= _NEEDED:
        return ""
    bound = ",".join(f"{name}:{value}" for name, value in fields.items() if name in _NEEDED)
    script = f"{module[: exports.start()]}const niivue={{{bound}}};"
    return script.replace("</script", "<\\/script").replace("<!--", "<\\!--")


def _version(script: str) -> str:
    found = re.search(r'version:"(\d+\.\d+\.\d+)"', script)
    return found[1] if found else "unknown"
