"""The MNI152 template and its tissue maps, which are files of the nilearn wheel."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import util
from pathlib import Path

import nibabel as nib
import numpy as np

from ..errors import MissingExtraError

CLASSES = ("background", "CSF", "grey matter", "white matter")
_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


@dataclass(frozen=True)
class Template:
    """An averaged T1 scan of 152 brains, without the skull, and the likeliest tissue of each voxel.

    ``image`` and ``labels`` are (I, J, K) uint8 in RAS order, 1 mm; labels are indices of ``CLASSES``.
    """

    image: np.ndarray
    labels: np.ndarray
    affine: np.ndarray


def read_template() -> Template:
    """Read the files without importing nilearn, which would take seconds.

    Raises:
        MissingExtraError: nilearn is not installed, or without the template.
    """
    image, grey, white = (nib.Nifti1Image.from_filename(_file(kind)) for kind in ("t1", "gm", "wm"))
    scan = np.asanyarray(image.dataobj)
    maps = [np.asanyarray(part.dataobj).astype(np.int16) for part in (grey, white)]
    return Template(scan, label_tissue(scan, *maps), np.asarray(image.affine))


def label_tissue(image: np.ndarray, grey: np.ndarray, white: np.ndarray) -> np.ndarray:
    """The likeliest class of each voxel: inside the brain (image > 0), what is neither grey nor white is CSF.

    Args:
        image, grey, white: Arrays of one shape; the maps hold probabilities as 0 to 255.

    >>> image, grey, white = np.array([0, 9, 9, 9]), np.array([255, 10, 200, 20]), np.array([0, 10, 50, 230])
    >>> label_tissue(image, grey, white)
    array([0, 1, 2, 3], dtype=uint8)
    """
    fluid = np.clip(255 - grey - white, 0, None)
    return np.where(image > 0, 1 + np.argmax([fluid, grey, white], axis=0), 0).astype(np.uint8)


def _file(kind: str) -> Path:
    found = util.find_spec("nilearn")
    folder = None if found is None or found.origin is None else Path(found.origin).parent / "datasets" / "data"
    file = None if folder is None else folder / _FILE.format(kind)
    if file is None or not file.is_file():
        reason = "the demo needs the brain template of the package nilearn, which is not installed"
        raise MissingExtraError(reason, path=file, hint="Run pip install 'medtransfer[demo]'")
    return file
