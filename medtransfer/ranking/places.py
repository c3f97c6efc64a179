"""Where features are looked at: labelled voxels of each case, drawn in the patient's own millimetres.

Every source may want another grid; drawn in world space, all of them are asked about the same places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt

from ..data.cases import Case, Layout
from ..data.preprocessing import Preprocessing
from ..errors import DatasetError
from ..volumes.grid import Grid
from ..volumes.read import Volume, read_labels, read_volume
from .spectrum import Floats, Indices

Labels = npt.NDArray[np.int32]

#: voxels drawn in all; the effective sample is the cases, and voxels of one case say much the same
TOTAL_VOXELS = 480
FEWEST_VOXELS = 6
#: voxels along an edge of the box that they are drawn from, on the finest grid of the sources
BOX = 96
#: background is drawn up to so many voxels from the labels: what is further off is easy to tell
MARGIN = 10

_AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@dataclass(frozen=True)
class Places:
    """Voxels of a case: positions (P, 3) in world millimetres (RAS+) and their classes (P,)."""

    positions: Floats
    labels: Indices


def draw_places(
    case: Case, layout: Layout, preprocessings: Sequence[Preprocessing], voxels: int, rng: np.random.Generator
) -> Places:
    """Draw about ``voxels`` voxels of a case, as many of each class that it has.

    Raises:
        VolumeError: a file was refused.
        DatasetError: the case has no label volume.
    """
    if not isinstance(case.label, Path):
        raise DatasetError(f"the case {case.id} has no label volume", path=layout.path)
    grid = read_case(case, layout).grid
    labels = read_labels(case.label, grid, num_classes=len(layout.classes)).array
    corner, box = _box(labels, _edges(grid, preprocessings), rng)
    chosen = _balanced(box, voxels, rng)
    index = np.stack(np.unravel_index(chosen, box.shape), axis=1)
    return Places(nib.affines.apply_affine(grid.affine, index + corner), box.ravel()[chosen].astype(np.int64))


def read_case(case: Case, layout: Layout) -> Volume:
    """The scan of a case, all its channels.

    Raises:
        VolumeError: a file was refused.
    """
    return read_volume(case.source, channels=layout.channels)


def _edges(grid: Grid, preprocessings: Sequence[Preprocessing]) -> list[int]:
    """Voxels along each axis of the scan that make at most ``BOX`` voxels on any source's grid."""
    edges = []
    for letter, own in zip(grid.orientation, grid.spacing, strict=True):
        finest = min([own, *(_spacing_along(letter, wanted) or own for wanted in preprocessings)])
        edges.append(max(1, int(BOX * finest / own)))
    return edges


def _spacing_along(letter: str, preprocessing: Preprocessing) -> float | None:
    if preprocessing.spacing is None:
        return None
    axes = [_AXES[other] for other in preprocessing.orientation]
    return preprocessing.spacing[axes.index(_AXES[letter])]


def _box(labels: Labels, edges: Sequence[int], rng: np.random.Generator) -> tuple[Indices, Labels]:
    """The labelled part with a margin, or a part of it, ``edges`` long, about a labelled voxel: corner and content."""
    found = np.argwhere(labels)
    if not len(found):
        found = np.argwhere(np.ones_like(labels, dtype=bool))
    low = np.maximum(found.min(axis=0) - MARGIN, 0)
    high = np.minimum(found.max(axis=0) + MARGIN + 1, labels.shape)
    about = found[rng.integers(len(found))]
    for axis, edge in enumerate(edges):
        if high[axis] - low[axis] > edge:
            low[axis] = np.clip(about[axis] - edge // 2, low[axis], high[axis] - edge)
            high[axis] = low[axis] + edge
    content = labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    return low.astype(np.int64), content


def _balanced(labels: Labels, voxels: int, rng: np.random.Generator) -> Indices:
    """Flat positions, as many of each class as there are, or as the rarest classes leave to be drawn."""
    flat = labels.ravel()
    classes = rng.permutation(np.unique(flat))
    share, more = divmod(voxels, len(classes))
    drawn = []
    for number, value in enumerate(classes):
        of_class = np.flatnonzero(flat == value)
        drawn.append(rng.choice(of_class, min(share + (number < more), len(of_class)), replace=False))
    return np.concatenate(drawn)
