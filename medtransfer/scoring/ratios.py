"""Ratios that say where they are not defined."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """``part`` over ``whole``, two arrays of one shape; NaN where the whole is not above 0.

    >>> ratio(np.array([1, 0]), np.array([4, 0])).tolist()
    [0.25, nan]
    """
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)
