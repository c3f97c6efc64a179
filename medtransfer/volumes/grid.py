"""Where the voxels of a volume lie in the patient: shape and affine, in millimetres."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import nibabel as nib
import numpy as np
import numpy.typing as npt

#: the one world's axes as the other's: DICOM and ITK count to the left and posterior, NIfTI to the right and anterior
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels in world space.

    Attributes:
        shape: Voxels along the axes (I, J, K).
        affine: 4 x 4, float64; takes a voxel index (of the voxel's centre) to world millimetres, RAS+ as in NIfTI.

    >>> grid = Grid((10, 20, 30), np.diag([-2.0, 1.0, 0.5, 1.0]))
    >>> grid.spacing, grid.orientation, grid.voxel_ml
    ((2.0, 1.0, 0.5), 'LAS', 0.001)
    """

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Millimetres between neighbouring voxels along each axis."""
        first, second, third = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(first), float(second), float(third)

    @property
    def orientation(self) -> str:
        """Three letters: the direction in which each axis runs (``RAS`` = to the right, anterior, superior)."""
        return "".join(nib.orientations.aff2axcodes(self.affine))

    @property
    def voxel_ml(self) -> float:
        """Volume of one voxel in millilitres."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def corners(self) -> npt.NDArray[np.float64]:
        """World position (8, 3) in mm of the outer corners of the box."""
        ends = [(-0.5, size - 0.5) for size in self.shape]
        return nib.affines.apply_affine(self.affine, np.array(list(itertools.product(*ends))))

    def __str__(self) -> str:
        sizes = "x".join(str(size) for size in self.shape)
        spacing = "x".join(f"{value:.4g}" for value in self.spacing)
        return f"{sizes} voxels of {spacing} mm, {self.orientation}"


def corner_displacement(a: Grid, b: Grid) -> float:
    """How far the corners of ``b`` lie from those of ``a``, at most, in voxels of ``a``.

    >>> a, b = np.eye(4), np.eye(4)
    >>> b[0, 3] = 0.25
    >>> corner_displacement(Grid((4, 4, 4), a), Grid((4, 4, 4), b))
    0.25
    """
    moved = nib.affines.apply_affine(np.linalg.inv(a.affine), b.corners() - a.corners() + a.affine[:3, 3])
    return float(np.linalg.norm(moved, axis=1).max())


def same_grid(a: Grid, b: Grid, tolerance: float = 0.05) -> bool:
    """True if both have the same shape and no corner lies further apart than ``tolerance`` voxels."""
    return a.shape == b.shape and corner_displacement(a, b) <= tolerance
