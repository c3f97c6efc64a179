"""Datasets of tiny scans, written in each layout, and the same files listed in all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (10, 9, 8)


def write_volume(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 2.0, 1.0])), path)
    return path


@pytest.fixture
def write_cases(tmp_path: Path) -> Callable[..., list[tuple[list[Path], Path]]]:
    """Write scans (of several channels) and labels 0, 1, 2 in a folder of no layout: one (images, label) per case."""

    def write(cases: int = 4, channels: int = 1) -> list[tuple[list[Path], Path]]:
        rng, files = np.random.default_rng(0), []
        for case in range(cases):
            label = np.zeros(SHAPE, np.uint8)
            label[2:5, 2:6, 2:6], label[6:9, 2:6, 2:6] = 1, 2
            images = [
                write_volume(tmp_path / "raw" / f"{case}_{c}.nii.gz", rng.normal(size=SHAPE).astype(np.float32))
                for c in range(channels)
            ]
            files.append((images, write_volume(tmp_path / "raw" / f"{case}_label.nii.gz", label)))
        return files

    return write


def link(target: Path, source: Path) -> str:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.symlink_to(source)
    return target.name


def as_nnunet(root: Path, files: list[tuple[list[Path], Path]], classes: list[str], **changes: Any) -> Path:
    for number, (images, label) in enumerate(files):
        for channel, image in enumerate(images):
            link(root / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz", image)
        link(root / "labelsTr" / f"case_{number}.nii.gz", label)
    listing = {
        "channel_names": {str(channel): f"c{channel}" for channel in range(len(files[0][0]))},
        "labels": {name: number for number, name in enumerate(classes)},
        "numTraining": len(files),
        "file_ending": ".nii.gz",
        **changes,
    }
    kept = {key: value for key, value in listing.items() if value is not None}
    (root / "dataset.json").write_text(json.dumps(kept))
    return root


def as_table(root: Path, files: list[tuple[list[Path], Path]], classes: list[str]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    columns = [f"image_c{channel}" for channel in range(len(files[0][0]))]
    rows = [",".join(["id", *columns, "label"])]
    for number, (images, label) in enumerate(files):
        names = [link(root / "scans" / f"{number}_{c}.nii.gz", image) for c, image in enumerate(images)]
        names.append(link(root / "scans" / f"{number}_label.nii.gz", label))
        rows.append(",".join([f"case_{number}", *(f"scans/{name}" for name in names)]))
    (root / "cases.csv").write_text("\n".join(rows))
    (root / "labels.json").write_text(json.dumps({str(number): name for number, name in enumerate(classes)}))
    return root


def as_bids(root: Path, files: list[tuple[list[Path], Path]], classes: list[str]) -> Path:
    for number, (images, label) in enumerate(files):
        for channel, image in enumerate(images):
            link(root / f"sub-{number}" / "anat" / f"sub-{number}_c{channel}.nii.gz", image)
        name = f"sub-{number}/anat/sub-{number}_desc-manual_dseg.nii.gz"
        link(root / "derivatives" / "manual" / name, label)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "test", "BIDSVersion": "1.10.0"}))
    rows = ["index\tname", *(f"{number}\t{name}" for number, name in enumerate(classes))]
    (root / "derivatives" / "manual" / "desc-manual_dseg.tsv").write_text("\n".join(rows))
    return root


def as_decathlon(root: Path, files: list[tuple[list[Path], Path]], classes: list[str]) -> Path:
    """As the first nnU-Net had it: one file per channel in place of the listed one."""
    entries = []
    for number, (images, label) in enumerate(files):
        for channel, image in enumerate(images):
            link(root / "imagesTr" / f"case_{number}_{channel:04d}.nii.gz", image)
        link(root / "labelsTr" / f"case_{number}.nii.gz", label)
        entries.append({"image": f"./imagesTr/case_{number}.nii.gz", "label": f"./labelsTr/case_{number}.nii.gz"})
    listing = {
        "modality": {str(channel): f"c{channel}" for channel in range(len(files[0][0]))},
        "labels": {str(number): name for number, name in enumerate(classes)},
        "numTraining": len(entries),
        "training": entries,
    }
    (root / "dataset.json").write_text(json.dumps(listing))
    return root


LAYOUTS = {"decathlon": as_decathlon, "nnunet": as_nnunet, "table": as_table, "bids": as_bids}
