"""Lines on stderr: one each, without control characters, and none where stderr is closed."""

from __future__ import annotations

import sys

PROGRAM = "medtransfer"


def write_error(message: str) -> None:
    """Write ``medtransfer: error: message`` as one line."""
    write_log(f"{PROGRAM}: error: {message}")


def write_log(line: str) -> None:
    """Write one line to stderr, if there is one."""
    if sys.stderr is not None:
        sys.stderr.write(one_line(line) + "\n")
        sys.stderr.flush()


def one_line(text: str) -> str:
    """The text on one line, with control characters (of a file name, say) written as escapes.

    >>> one_line("two\\n  lines"), one_line("a\\x1b[31mb")
    ('two lines', 'a\\\\x1b[31mb')
    """
    joined = " ".join(text.split())
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in joined)
