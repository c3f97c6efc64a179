"""Where results go: the real stdout, whatever else a command's libraries print there."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from medtransfer.files import text_of


class Results:
    """Writes a command's results; when the reader has gone (``| head``), the work goes on in silence.

    >>> from pathlib import Path
    >>> Results(sys.stdout).write("one line")
    one line
    >>> Results(sys.stdout).write_json({"dice": float("nan"), "path": Path("a")})
    {
      "dice": null,
      "path": "a"
    }
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write a text and a line end."""
        self._send(f"{text}\n")

    def write_json(self, document: object) -> None:
        """Write one JSON document; numbers that JSON lacks (NaN, infinity) become null."""
        self.write(_json(document))

    def write_either(self, document: object, text: str, as_json: bool) -> None:
        """Write what was found, for a program (``--json``) or for a person."""
        if as_json:
            self.write_json(document)
        else:
            self.write(text)

    def close(self) -> None:
        """Send what is buffered."""
        self._send("")

    def _send(self, text: str) -> None:
        if self._stream is None:  # stdout was closed before the start
            return
        try:
            self._stream.write(text)
            self._stream.flush()
        except BrokenPipeError:
            self._forget()
        except OSError:  # a full disk: an error, and nothing that is left may raise it again at exit
            self._forget()
            raise

    def _forget(self) -> None:
        """Point the descriptor to nowhere, so that the interpreter's own flush at exit is quiet too."""
        if self._stream is sys.__stdout__ and self._stream is not None:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        self._stream = None


def _json(document: object) -> str:
    return json.dumps(plain(document), indent=2, ensure_ascii=False, allow_nan=False)


def plain(value: Any) -> Any:
    """Reduce paths, tuples, numpy numbers and NaN to what strict JSON holds.

    >>> from pathlib import Path
    >>> plain({1: (Path("a"), float("inf"))})
    {'1': ['a', None]}
    """
    if isinstance(value, Mapping):
        return {text_of(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, int | bool):
        return value
    return plain(value.item()) if hasattr(value, "item") else text_of(str(value))
