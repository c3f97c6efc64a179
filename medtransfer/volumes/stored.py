"""Voxels as they lie in a file, and the one way in which they are read from its bytes, whatever the format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from . import validate
from .grid import Grid
from .header import Header
from .stream import ByteSource

_TRAILING_BYTES = 1 << 20


@dataclass
class Stored:
    """One source of a scan, its header checked, its values not yet.

    Attributes:
        array: (I, J, K, ...) as stored, of any plain type.
        header: What was claimed of it.
        path: The file or folder; None for what is in memory.
        warnings: What the gate let pass so far.
        slope: With ``inter``, the scaling that is still to be applied.
        inter: See ``slope``.
        holds_channels: Whether a fourth axis is known to be channels, not time points.
    """

    array: npt.NDArray[Any]
    header: Header
    path: Path | None
    warnings: list[str]
    slope: float = 1.0
    inter: float = 0.0
    holds_channels: bool = False

    @property
    def grid(self) -> Grid:
        """Where the voxels lie, in millimetres."""
        first, second, third = self.header.shape[:3]
        return Grid((first, second, third), self.header.affine_mm)


def read_voxels(source: ByteSource, header: Header) -> tuple[npt.NDArray[Any], list[str]]:
    """The voxels behind a checked header, axes and type as stored, and warnings; read to the end of the stream.

    Raises:
        VolumeError: the file cannot hold them, ends early, is damaged, or goes on far behind them.
        ResourceError: they need more memory than there is.
    """
    validate.check_size(header, source.size, source.packed, source.path)
    source.skip(int(header.offset) - source.position)
    data = np.empty(header.data_bytes, dtype=np.uint8)
    got = source.read_into(data)
    if got < len(data):
        header_only = got == 0 and header.offset > 0
        raise validate.ends_early(source.position, int(header.offset) + len(data), header_only, source.path)
    extra = source.finish(limit=max(_TRAILING_BYTES, len(data)))
    notes = [f"{extra} bytes follow the voxels"] if extra else []
    return data.view(header.dtype or np.uint8).reshape(header.shape, order="F"), notes
