"""How equal two masks are."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt

Labels = npt.NDArray[Any]


def dice(a: Labels, b: Labels) -> float:
    """Of two masks of booleans; 1 if both are empty.

    >>> import numpy as np
    >>> dice(np.array([True, True, False]), np.array([True, False, False])) == 2 / 3
    True
    """
    total = int(a.sum()) + int(b.sum())
    return 1.0 if total == 0 else 2 * int((a & b).sum()) / total


def by_class(found: Labels, reference: Labels, num_classes: int) -> list[float]:
    """Dice of every class but the background.

    >>> import numpy as np
    >>> by_class(np.array([0, 1, 2, 2]), np.array([0, 1, 1, 2]), 3) == [2 / 3, 2 / 3]
    True
    """
    return [dice(found == label, reference == label) for label in range(1, num_classes)]


def foreground(found: Labels, reference: Labels) -> float:
    """Dice of all that is not background.

    >>> import numpy as np
    >>> foreground(np.array([0, 1, 2, 2]), np.array([0, 2, 1, 1]))
    1.0
    """
    return dice(found > 0, reference > 0)
