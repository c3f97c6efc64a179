"""Where the voxels of a file lie, without reading them where its header says so."""

from __future__ import annotations

from pathlib import Path

from ..errors import VolumeError
from .grid import Grid
from .header import HEADER_BYTES, parse_header
from .sources import read_source
from .stream import open_scan
from .validate import check_header


def read_grid(path: Path) -> Grid:
    """The grid of a scan or a mask, through the gate; of a NIfTI file from its header alone.

    Raises:
        VolumeError: there is no such file, or it was refused.

    >>> import tempfile, nibabel, numpy
    >>> file = Path(tempfile.mkdtemp()) / "scan.nii"
    >>> nibabel.save(nibabel.Nifti1Image(numpy.zeros((4, 5, 6), numpy.uint8), numpy.diag([1, 1, 3, 1])), file)
    >>> str(read_grid(file))
    '4x5x6 voxels of 1x1x3 mm, RAS'
    """
    try:
        with open_scan(path) as source:
            header = parse_header(source.read(HEADER_BYTES), path)
        check_header(header, path)
    except VolumeError:  # another format, or truly damaged
        return read_source(path).grid
    first, second, third = header.shape[:3]
    return Grid((first, second, third), header.affine_mm)
