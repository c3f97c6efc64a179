"""Words from a file, made fit for a message: one line, printable, not too long."""

from __future__ import annotations

#: what to do about a file that is cut short or was changed on its way
COPY_AGAIN = "Download or copy it again"


def shown(text: object, limit: int = 80) -> str:
    r"""Text that came out of a file, for an error or a note; what is not printable is written as its escape.

    >>> shown("layer1.conv\n\x1b[2J")
    'layer1.conv\\n\\x1b[2J'
    >>> shown("x" * 100, limit=5)
    'xxxxx...'
    """
    words = str(text)
    cut = words[:limit] + ("..." if len(words) > limit else "")
    return cut if cut.isprintable() else repr(cut)[1:-1]
