"""Probabilities of classes as one NIfTI file, written class by class so that few of them are in memory at once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..files import atomic_file
from .header import geometry_header
from .read import Labels, Volume
from .write import write_planes

LEVELS = 65_535  # of 16 bits: probabilities are stored as whole numbers of 1/65535


def write_shares(
    logits: npt.NDArray[np.floating], reference: Volume | Labels, path: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Write the softmax of ``logits`` (K, I, J, K) with the classes as the fourth axis, on the reference's own grid.

    Raises:
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    target = Path(path)
    header = geometry_header(reference.header, (*logits.shape[1:], len(logits)), np.dtype(np.uint16))
    header["scl_slope"], header["scl_inter"] = 1 / LEVELS, 0
    with atomic_file(target, overwrite) as part:
        write_planes(header, _planes(logits), part)
    return target


def _planes(logits: npt.NDArray[np.floating]) -> Iterator[npt.NDArray[np.uint16]]:
    """Planes (I, J) of 16-bit shares in the order of the file: classes slowest."""
    depth = logits.shape[3]
    total: npt.NDArray[np.float32] = np.empty(logits.shape[1:], np.float32, order="F")
    for index in range(depth):
        total[..., index] = np.logaddexp.reduce(logits[..., index].astype(np.float32), axis=0)
    for scores in logits:
        for index in range(depth):
            shares = np.exp(scores[..., index].astype(np.float32) - total[..., index])
            yield np.rint(shares * LEVELS).clip(0, LEVELS).astype(np.uint16)
