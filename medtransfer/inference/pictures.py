"""The picture of a case: its mask, or its boxes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy.typing as npt

from .findings import Detection, Finding


def draw_case(part: Finding, mask: npt.NDArray[Any], path: Path, overwrite: bool) -> None:
    """Draw what was found over the scan; the title is the picture's name.

    Raises:
        OutputExistsError: the picture exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
    """
    scan, affine, title = part.volume.array[0], part.volume.grid.affine, path.name.removesuffix(path.suffix)
    # matplotlib takes a while to be read
    from ..reporting.box_picture import boxes_png
    from ..reporting.case_picture import case_png

    if isinstance(part, Detection):
        boxes_png(scan, affine, part.boxes, path, part.classes, title, overwrite=overwrite)
    else:
        case_png(scan, mask, affine, path, part.classes, title, overwrite=overwrite)
