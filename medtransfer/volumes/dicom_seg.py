"""Masks as DICOM segmentation objects, which refer to the very slices they were drawn on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import UsageError, VolumeError
from ..files import atomic_file
from ..version import __version__
from . import validate
from .dicom import find_series, split_series
from .dicom_slices import Slice
from .extras import require_extra
from .grid import Grid
from .segments import Segment, find_segments
from .write import Reference

MAKER = "medtransfer"
SERIES_NUMBER = 9000  # out of the way of a scanner's own


def write_dicom_seg(
    labels: npt.NDArray[Any],
    reference: Reference,
    series: str | os.PathLike[str],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    colours: Sequence[Sequence[int]] | None = None,
    algorithm: str = MAKER,
    overwrite: bool = False,
) -> Path:
    """Write labels (I, J, K) as a DICOM segmentation with one binary segment a class; atomic.

    The patient and study are those of the source series, as a DICOM archive demands; no other output holds them. What a
    segment is, is said by its name only: its coded category and type are the general "Anatomical Structure".

    Args:
        labels: Class numbers, 0 for background, on the grid of the series.
        reference: What they lie on.
        series: The folder of the source series, or ``FOLDER#UID``.
        classes: Names of all classes, the background first.
        path: Ends in ``.dcm``.
        colours: Red, green and blue, 0 to 255, for every class, the background first.
        algorithm: Name of what drew the segments.
        overwrite: Whether an output that exists is replaced.

    Raises:
        UsageError: another ending, or names or colours that do not fit the labels.
        VolumeError: the labels do not lie on the grid of the series, or it was refused.
        OutputExistsError: the output exists and ``overwrite`` is false.
        ResourceError: the disk is full or the folder cannot be written.
        MissingExtraError: highdicom is not installed.
    """
    target = Path(path)
    if target.suffix.lower() != ".dcm":
        raise UsageError("the name must end in .dcm", path=target)
    require_extra("highdicom", "dicom", "writing DICOM", target)
    found = split_series(series)
    if found is None:
        raise VolumeError("is no folder with a DICOM series", path=Path(series), hint="Name the folder of the scan")
    slices, affine, _ = find_series(Path(series), *found)
    grid = reference if isinstance(reference, Grid) else reference.grid
    own = Grid((*slices[0].size, len(slices)), affine)
    validate.check_grids(own, grid, ("the series", "the mask"), Path(series))
    segments = find_segments(labels, grid, classes, colours)
    if not segments:
        raise UsageError("there is no class but the background", path=target, hint="Name the classes")
    with atomic_file(target, overwrite) as part:
        _segmentation(labels, slices, segments, algorithm).save_as(part)
    return target


def _segmentation(
    labels: npt.NDArray[Any], slices: Sequence[Slice], segments: Sequence[Segment], algorithm: str
) -> Any:
    import highdicom as hd
    from pydicom import dcmread

    frames = np.ascontiguousarray(labels.T, dtype=np.uint8 if len(segments) < 256 else np.uint16)
    return hd.seg.Segmentation(
        source_images=[dcmread(one.path, stop_before_pixels=True) for one in slices],
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(segment, algorithm) for segment in segments],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=MAKER,
        software_versions=__version__,
        device_serial_number="0",
        omit_empty_frames=bool(frames.any()),
    )


def _description(segment: Segment, algorithm: str) -> Any:
    import highdicom as hd
    from pydicom.sr.codedict import codes

    colour = None if segment.colour is None else hd.color.CIELabColor.from_rgb(*segment.colour)
    return hd.seg.SegmentDescription(
        segment_number=segment.number,
        segment_label=segment.name[:64] or f"class {segment.number}",  # a long string of DICOM has 64 characters
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.AnatomicalStructure,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name=algorithm[:64] or MAKER, version=__version__, family=codes.DCM.ArtificialIntelligence
        ),
        display_color=colour,
    )
