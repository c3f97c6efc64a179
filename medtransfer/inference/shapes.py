"""Three sizes, one an axis."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Shape = tuple[int, int, int]


def shape_of(sizes: Iterable[int]) -> Shape:
    """As a tuple of plain numbers.

    Raises:
        ValueError: they are not three.
    """
    first, second, third = sizes
    return int(first), int(second), int(third)


def to_front(three: Sequence[Item], axis: int) -> tuple[Item, Item, Item]:
    """The three with that of ``axis`` first, the other two in their order.

    >>> to_front("DHW", 2)
    ('W', 'D', 'H')
    """
    first, second = (item for index, item in enumerate(three) if index != axis)
    return three[axis], first, second


def round_up(size: int, step: int) -> int:
    """The least multiple of ``step`` that is not below ``size``.

    >>> round_up(35, 8), round_up(40, 8)
    (40, 40)
    """
    return -(-size // step) * step


def shape_text(shape: Iterable[int]) -> str:
    """For messages.

    >>> shape_text((160, 192, 160))
    '160x192x160'
    """
    return "x".join(map(str, shape))
