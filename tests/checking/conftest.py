"""A sound dataset of tiny scans, which each test breaks in its own way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medtransfer.checking.checkup import Checkup

SHAPE = (12, 11, 10)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])


def scan(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Noise about 100 with a bright box, which no other seed gives."""
    image = np.random.default_rng(seed).normal(100, 20, shape).astype(np.float32)
    image[3:8, 3:8, 3:8] += 100
    return image


def mask(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Two classes, in places that differ a little."""
    labels = np.zeros(shape, np.uint8)
    labels[3:6, 3:8, 3:8], labels[6:8, 3:8, 3:8] = 1, 2
    labels[2, 2 + seed % 8, 2 + seed // 8 % 8] = 1
    return labels


def save(path: Path, array: Any, affine: Any = AFFINE) -> Path:
    """Write an array as NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


class Dataset:
    """A Decathlon folder under construction: files are replaced, keys of the listing changed."""

    def __init__(self, root: Path, cases: int) -> None:
        self.root, self.names = root, [f"c{number:02}" for number in range(cases)]
        entries = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in self.names]
        self.listing: dict[str, Any] = {
            "modality": {"0": "MRI"},
            "labels": {"0": "background", "1": "head", "2": "tail"},
            "numTraining": cases,
            "training": entries,
        }
        for seed, name in enumerate(self.names):
            save(self.image(name), scan(seed))
            save(self.label(name), mask(seed))
        self.write()

    def image(self, name: str) -> Path:
        return self.root / "imagesTr" / f"{name}.nii.gz"

    def label(self, name: str) -> Path:
        return self.root / "labelsTr" / f"{name}.nii.gz"

    def write(self, **changes: Any) -> Path:
        """Write dataset.json with changes; returns the folder."""
        self.listing.update(changes)
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / "dataset.json").write_text(json.dumps(self.listing))
        return self.root

    def table(self, rows: list[str], header: str = "id,image,label,patient,split") -> Path:
        """A table of these scans instead; paths are written out."""
        text = "\n".join([header, *rows]).replace("@", "imagesTr/").replace("#", "labelsTr/")
        path = self.root / "table.csv"
        path.write_text(text + "\n")
        (self.root / "labels.json").write_text(json.dumps(self.listing["labels"]))
        return path


@pytest.fixture
def make_dataset(tmp_path: Path) -> Callable[..., Dataset]:
    """``make_dataset(cases=6)``: a sound dataset in ``tmp_path / "data"``."""
    return lambda cases=6: Dataset(tmp_path / "data", cases)


def rules(checkup: Checkup, severity: str | None = None) -> list[str]:
    """The words of the problems found, each once."""
    found = [problem.rule for problem in checkup.problems if severity in (None, problem.severity)]
    return list(dict.fromkeys(found))


def texts(checkup: Checkup, rule: str) -> list[str]:
    """What was said under a rule, with the case before it."""
    return [f"{one.severity} {one.case}: {one.text}" for one in checkup.problems if one.rule == rule]
