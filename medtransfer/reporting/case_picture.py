"""One case as a picture: three planes of the scan with its mask, whatever the scan's orientation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from ..errors import UsageError
from .overlay import overlay_png
from .planes import Convention

_LEGEND_CLASSES = 66
_OBLIQUE_DEGREES = 5


def case_png(
    scan: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray,
    path: str | Path,
    classes: Sequence[str],
    title: str = "",
    *,
    convention: Convention = "radiological",
    overwrite: bool = False,
) -> Path:
    """Draw axial, coronal and sagittal planes through the mask's centre: the scan, and under it the scan with its mask.

    Args:
        scan: (I, J, K) intensities on the scan's own grid, any orientation; the first channel of several.
        labels: (I, J, K) integers on the same grid, 0 is background.
        affine: (4, 4), voxel index to world millimetres (RAS+); gives orientation and voxel sizes.
        path: The PNG to write.
        classes: Names by label; ``classes[0]`` is background.
        title: A line over the picture, such as the case's name.
        convention: "radiological" (the patient's right on the left) or "neurological".
        overwrite: Replace an existing picture.

    Raises:
        UsageError: shapes differ, the affine is not invertible, or a label has no name.
        OutputExistsError: ``path`` exists and ``overwrite`` is false.

    >>> import tempfile
    >>> labels = np.zeros((8, 9, 10), np.uint8)
    >>> labels[2:5, 2:5, 2:5] = 1
    >>> affine = np.array([[0, 0, -2.0, 0], [-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    >>> case_png(labels * 9.0, labels, affine, Path(tempfile.mkdtemp()) / "a.png", ["background", "cube"]).name
    'a.png'
    """
    affine = checked_affine(affine, path)
    turn = nib.orientations.io_orientation(affine)
    return overlay_png(
        to_ras(scan, turn),
        to_ras(labels, turn),
        path,
        ras_spacing(affine, turn),
        classes,
        title=title,
        convention=convention,
        most_classes=_LEGEND_CLASSES,
        note=oblique_note(affine),
        overwrite=overwrite,
    )


def checked_affine(affine: np.ndarray, path: str | Path) -> np.ndarray:
    """The affine in float64.

    Raises:
        UsageError: it is not invertible; ``path`` is the picture that cannot be drawn.
    """
    affine = np.asarray(affine, np.float64)
    if affine.shape != (4, 4) or not np.isfinite(affine).all() or not np.linalg.det(affine[:3, :3]):
        raise UsageError("a picture needs an invertible 4 x 4 affine", path=path)
    return affine


def to_ras(array: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """A view whose axes run to the right, to the front and to the head, as nearly as voxel axes can.

    Raises:
        UsageError: it is no (I, J, K) array.
    """
    if array.ndim != 3:
        raise UsageError(f"a picture needs an (I, J, K) array, got shape {array.shape}")
    return np.asarray(nib.orientations.apply_orientation(array, turn))


def ras_spacing(affine: np.ndarray, turn: np.ndarray) -> tuple[float, float, float]:
    """Millimetres along the axes of `to_ras`.

    >>> affine = np.array([[0, 0, -2.0, 0], [-1, 0, 0, 0], [0, 3, 0, 0], [0, 0, 0, 1]])
    >>> ras_spacing(affine, nib.orientations.io_orientation(affine))
    (2.0, 1.0, 3.0)
    """
    stored = np.linalg.norm(affine[:3, :3], axis=0)
    first, second, third = stored[np.argsort(turn[:, 0])]
    return float(first), float(second), float(third)


def oblique_note(affine: np.ndarray) -> str:
    """A sentence where the voxel axes lie askew in the patient.

    >>> oblique_note(np.diag([-1.0, 2, 3, 1]))
    ''
    """
    directions = np.abs(affine[:3, :3]) / np.linalg.norm(affine[:3, :3], axis=0)
    degrees = float(np.degrees(np.arccos(np.clip(directions.max(axis=0), 0, 1))).max())
    return f"Planes along the voxels, {degrees:.0f} degrees oblique. " if degrees > _OBLIQUE_DEGREES else ""
