"""The demo's two datasets, written as a user would have them: a table of patches, and a Decathlon folder."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from .template import CLASSES, Template

#: axial slices (1 mm, counted from the neck up): below the first of these for training, these for choosing the best
#: weights, and what is above them for scoring only
VALIDATED = slice(90, 106)
HELD_OUT_FROM = VALIDATED.stop
#: the slices that have labels when the segmenter is trained: few, so that pretrained weights have something to add
LABELLED = slice(66, 82)
PATCH_VOXELS = 17
PATCHES = 1600
_SEED = 20240501


@dataclass(frozen=True)
class DemoData:
    """Where the data lie: a CSV, a Decathlon folder, and the whole scan with its labels."""

    patches: Path
    tissue: Path
    scan: Path
    labels: Path


def write_data(template: Template, folder: Path, patches: int = PATCHES) -> DemoData:
    """Write everything that is trained on and scored against.

    The patches and the labelled slices lie wholly below the validation slices, and these below the held-out part.
    """
    scan, labels = folder / "template_t1.nii.gz", folder / "template_tissue.nii.gz"
    folder.mkdir(parents=True, exist_ok=True)
    _write(template.image, template.affine, scan)
    _write(template.labels, template.affine, labels)
    return DemoData(
        _write_patches(template, folder / "patches", patches), _write_tissue(template, folder / "tissue"), scan, labels
    )


def _write_patches(template: Template, folder: Path, count: int) -> Path:
    """Small volumes around random voxels of each class, named in ``patches.csv`` by what lies at their centre."""
    folder.mkdir()
    rng = np.random.default_rng(_SEED)
    rows = []
    for number in range(count):
        label = number % len(CLASSES)
        corner = _draw_corner(template, label, rng)
        box = tuple(slice(start, start + PATCH_VOXELS) for start in corner)
        name = f"patch_{number:04d}.nii.gz"
        _write(template.image[box], _moved(template.affine, corner), folder / name)
        part = "val" if number >= 0.85 * count else "train"
        rows.append({"image": name, "label": CLASSES[label], "split": part})
    table = folder / "patches.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def _draw_corner(template: Template, label: int, rng: np.random.Generator) -> np.ndarray:
    """The lowest corner of a patch with a voxel of ``label`` at its centre, wholly in the training part."""
    reach = PATCH_VOXELS // 2
    low = np.array([reach, reach, reach])
    high = np.array([*template.labels.shape[:2], VALIDATED.start]) - reach
    while True:
        centre = rng.integers(low, high)
        if template.labels[tuple(centre)] == label and _near_brain(template, centre):
            return centre - reach


def _near_brain(template: Template, centre: np.ndarray) -> bool:
    """A background voxel far from the brain teaches nothing."""
    i, j, k = centre
    return bool(template.labels[i - 4 : i + 5, j - 4 : j + 5, k - 4 : k + 5].any())


def _write_tissue(template: Template, folder: Path) -> Path:
    """A Decathlon folder of two cases: the labelled slices, and the validation slices."""
    parts = {"labelled_slices": LABELLED, "validation_slices": VALIDATED}
    for kind, array in (("imagesTr", template.image), ("labelsTr", template.labels)):
        (folder / kind).mkdir(parents=True)
        for name, slices in parts.items():
            corner = np.array([0, 0, slices.start])
            _write(array[:, :, slices], _moved(template.affine, corner), folder / kind / f"{name}.nii.gz")
    listing = {
        "name": "MNI152 tissue",
        "description": "ICBM 2009a symmetric template, from nilearn",
        "modality": {"0": "T1"},
        "labels": {str(label): name for label, name in enumerate(CLASSES)},
        "numTraining": len(parts),
        "training": [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in parts],
    }
    (folder / "dataset.json").write_text(json.dumps(listing, indent=2), encoding="utf-8")
    return folder


def _moved(affine: np.ndarray, corner: np.ndarray) -> np.ndarray:
    """The affine of a crop that starts at voxel ``corner``, so that the crop keeps its place in space."""
    moved = affine.copy()
    moved[:3, 3] += affine[:3, :3] @ corner
    return moved


def _write(array: np.ndarray, affine: np.ndarray, path: Path) -> None:
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array), affine), path)
