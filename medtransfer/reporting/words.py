"""Numbers and names as a sentence has them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(2, "case"), counted(0, "box")
    ('1 case', '2 cases', '0 boxes')
    """
    many = "es" if noun.endswith(("s", "x")) else "s"
    return f"{number} {noun}{'' if number == 1 else many}"


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names with commas; of many the first ones, and how many more there are.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
    ('a, b', 'a, b and 1 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
