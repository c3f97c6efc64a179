"""A source of weights from other data: which organ lies at the centre of a patch of a CT?

    python benchmarks/transfer/organ_classifier.py --data PATH/ct_abdomen --work-dir FOLDER

Cuts patches around random voxels of a labelled CT (image.nii.gz, labels.nii.gz, labels.json), each voxel once, into a
CSV table as a user would have it, and trains a ResNet-18 on it by the shipped config for tables. FOLDER/run/best is the
model folder. A tenth of the patches validates; they are of the same patient, so that the accuracy says nothing about
other people: the weights are what is wanted.
"""

from __future__ import annotations

import argparse
import csv
import json
from itertools import islice, zip_longest
from pathlib import Path

import nibabel as nib
import numpy as np

from medtransfer.training.run import run

PATCH, FEWEST_VOXELS, SEED = 24, 400, 0
NETWORK = {"base_channels": 32, "stem_channels": 32, "pool": "none"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the folder ct_abdomen")
    parser.add_argument("--work-dir", type=Path, required=True)
    parser.add_argument("--patches", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--base-channels", type=int, default=NETWORK["base_channels"])
    options = parser.parse_args()
    table = write_patches(options.data, options.work_dir / "patches", options.patches)
    network = {**NETWORK, "base_channels": options.base_channels, "stem_channels": options.base_channels}
    changes = {
        "data_root": str(table),
        "patch_size": None,
        "train_dataloader.batch_size": 16,
        "train_dataloader.sampler.samples_per_epoch": 1600,
        "train_dataloader.dataset.augmentation": {"flips": [0, 1, 2], "intensity": 1.0, "gain": 0.2, "noise": 0.1},
        "val_dataloader.batch_size": 50,
        "train_cfg.max_epochs": options.epochs,
        "train_cfg.val_interval": 2,
        "best_metric": "scores/accuracy",
        **{f"model.network.{key}": value for key, value in network.items()},
    }
    print(run("resnet18_table", work_dir=options.work_dir / "run", cfg_options=changes) / "best")


def write_patches(data: Path, folder: Path, count: int) -> Path:
    """Cubes around random voxels of each organ that has enough of them; the table names the organ at the centre.

    No voxel is drawn twice: the same patch on both sides of the split would be refused.
    """
    image, labels = (nib.load(data / f"{name}.nii.gz") for name in ("image", "labels"))
    scan, organs = np.asarray(image.dataobj, dtype=np.float32), np.asarray(labels.dataobj)
    names = {int(number): entry["name"] for number, entry in json.loads((data / "labels.json").read_text()).items()}
    rng = np.random.default_rng(SEED)
    centres = {name: inner(np.argwhere(organs == number), scan.shape) for number, name in names.items() if number}
    orders = {name: rng.permutation(found) for name, found in centres.items() if len(found) >= FEWEST_VOXELS}
    in_turn = ((name, at) for turn in zip_longest(*orders.values()) for name, at in zip(orders, turn, strict=True))
    drawn = list(islice(((name, at) for name, at in in_turn if at is not None), count))
    folder.mkdir(parents=True)
    rows = []
    for number, (name, centre) in enumerate(drawn):
        box = tuple(slice(start, start + PATCH) for start in centre - PATCH // 2)
        path = folder / f"patch_{number:05d}.nii.gz"
        nib.save(nib.Nifti1Image(np.ascontiguousarray(scan[box]), image.affine), path)
        rows.append({"image": path.name, "label": name, "split": "val" if number >= 0.9 * len(drawn) else "train"})
    table = folder / "patches.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


def inner(voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Those voxels around which a whole patch fits."""
    reach = PATCH // 2
    return voxels[((voxels >= reach) & (voxels <= np.array(shape) - reach)).all(axis=1)]


if __name__ == "__main__":
    main()
