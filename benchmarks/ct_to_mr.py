"""From one CT to half an MR scan: parts of vertebrae, learnt on the CT, moved to the MR, and once from scratch.

    python -m benchmarks.ct_to_mr SPINE_FOLDER WORK_FOLDER

SPINE_FOLDER holds the CT and the T2w crops of the TPTBox package (Apache-2.0) with their ``subreg`` labels, 41 to 49 in
both. The CT trains a segmenter; the lower half of the MR trains it on, and another one from scratch; the upper half is
the test. One scan each and one seed: a demonstration, no estimate.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medtransfer.training.config import find_config
from medtransfer.training.run import run

CLASSES = (
    *("background", "arch", "spinous", "costal_left", "costal_right"),
    *("sup_left", "sup_right", "inf_left", "inf_right", "corpus"),
)
FIRST_LABEL = 41
SCANS = {
    "ct": ("sub-ct_label-22_ct.nii.gz", "sub-ct_seg-subreg_label-22_msk.nii.gz"),
    "mr": ("sub-mri_label-6_T2w.nii.gz", "sub-mri_seg-subreg_label-6_msk.nii.gz"),
}
COMMON: dict[str, Any] = {
    "patch_size": [40, 40, 40],
    "model.network.base_channels": 32,
    "model.network.stem_channels": 32,
    "train_dataloader.batch_size": 2,
    "train_cfg.max_epochs": 5,
    "train_cfg.val_interval": 5,
    "randomness.seed": 0,
}


def write_table(folder: Path, parts: dict[str, tuple[Path, Path, slice, str]]) -> Path:
    """A CSV dataset of parts of scans, cut along the second stored axis (inferior in these files)."""
    folder.mkdir(parents=True)
    (folder / "labels.json").write_text(json.dumps(CLASSES))
    with (folder / "cases.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("image", "label", "patient", "split"))
        for name, (image, label, span, split) in parts.items():
            scan, mask = (nib.load(path).slicer[:, span] for path in (image, label))
            nib.save(scan, folder / f"{name}.nii.gz")
            numbers = np.asanyarray(mask.dataobj).astype(int) - FIRST_LABEL + 1
            numbers[(numbers < 1) | (numbers >= len(CLASSES))] = 0
            nib.save(nib.Nifti1Image(numbers.astype(np.uint8), mask.affine), folder / f"{name}_label.nii.gz")
            rows.writerow((f"{name}.nii.gz", f"{name}_label.nii.gz", name, split))
    return folder / "cases.csv"


def train(work: Path, name: str, data: Path, samples: int, intensity: str, transfer: dict[str, Any] | None) -> float:
    """Mean Dice on the validation part after five epochs."""
    preprocessing = {"preprocessing.spacing": [1.5, 1.5, 1.5], "preprocessing.intensity": {"scheme": intensity}}
    sampler = {"train_dataloader.sampler.samples_per_epoch": samples}
    chosen = {**COMMON, **preprocessing, **sampler, "data_root": str(data)}
    config = work / f"{name}.py"
    config.write_text(f"_base_ = {str(find_config('resunet18_cases'))!r}\ntransfer = {transfer!r}\n")
    run(config, work / name, cfg_options=chosen)
    return float(json.loads((work / name / "report.json").read_text())["best"]["score"])


def main(spine: Path, work: Path) -> None:
    """Train the three and print what came out."""
    files = {name: tuple(spine / file for file in pair) for name, pair in SCANS.items()}
    half = nib.load(files["mr"][0]).shape[1] // 2
    ct = write_table(
        work / "ct", {"ct": (*files["ct"], slice(None), "train"), "again": (*files["ct"], slice(20), "val")}
    )
    mr = write_table(
        work / "mr",
        {"lower": (*files["mr"], slice(half, None), "train"), "upper": (*files["mr"], slice(half), "val")},
    )
    train(work, "run_ct", ct, 360, "ct", None)
    source = {"source": str(work / "run_ct" / "best"), "head": "keep"}
    print(json.dumps({
        "from the CT": train(work, "run_moved", mr, 120, "zscore", source),
        "from scratch": train(work, "run_scratch", mr, 120, "zscore", None),
    }))  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
