"""Large arrays for a while: in memory where there is room, else in a file without a name that vanishes with them."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..errors import ResourceError
from .memory import available_memory, size_text

SHARE = 0.25  # of the free memory that one such array may take


def fits_memory(size: int) -> bool:
    """Whether an array of ``size`` bytes leaves most of the free memory to others."""
    return size <= SHARE * available_memory()


def scratch_array(shape: Sequence[int], dtype: npt.DTypeLike) -> npt.NDArray[np.generic]:
    """An array to be filled: in memory if it fits, else mapped from a file in the folder for temporary files.

    Raises:
        ResourceError: the disk has no room for the file.

    >>> scratch_array((2, 3), np.float32).shape
    (2, 3)
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    if fits_memory(size):
        return np.empty(tuple(shape), dtype)
    folder = tempfile.gettempdir()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # all of it now: a disk that fills later would kill the process in the midst of a write
            os.posix_fallocate(file.fileno(), 0, max(size, 1))
            return np.memmap(file, dtype=dtype, mode="r+", shape=tuple(shape))
    except OSError as error:
        reason = f"no room for {size_text(size)} of results: {error.strerror}"
        raise ResourceError(reason, path=folder, hint="Set TMPDIR to a folder on a larger disk") from error
