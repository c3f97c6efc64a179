"""How many patches a second the loader of `medtransfer train` gives, beside how many a training step takes."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from torch.utils.data import DataLoader

from medtransfer.data.dataset import DecathlonDataset
from medtransfer.data.sampler import CaseSampler

from .measure import Row, compare

CASES, MARGIN, MANY = 2, 32, 10_000
TOLD = {"loader": "the loader", "device": "the loader, augment_on='device'"}


def loader_calls(edge: int, batch: int, device: str) -> dict[str, Callable[[], object]]:
    """For each way of augmenting a call that brings the next batch to the device, by what the row says of it."""
    ways = ("loader",) if device == "cpu" else ("loader", "device")
    return {TOLD[way]: _next_batch(edge, batch, device, way) for way in ways}


def loader_rows(edge: int, batch: int, seconds: Mapping[str, Sequence[float]], step: str) -> list[Row]:
    """Of the seconds of the calls and of a step, by their names; above 1 the loader alone keeps up with the step."""
    ways = [name for name in seconds if name in TOLD.values()]
    rates = {name: [batch / value for value in seconds[name]] for name in (step, *ways)}
    note = "light augmentation, scans in memory, no worker process"
    return [compare(f"{way}, patches of {edge}^3", rates[way], rates[step], "samples/s", "a step", note=note)
            for way in ways]  # fmt: skip


def _next_batch(edge: int, batch: int, device: str, way: str) -> Callable[[], object]:
    words: dict[str, Any] = {"split": {"train": CASES, "val": 0}, "patch_size": [edge] * 3, "augmentation": "light"}
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), edge + MARGIN)
        data = DecathlonDataset(folder, augment_on=way, **words)  # reads all scans
    if way == "device":
        data.use_device(device)
    pinned = way == "loader" and device != "cpu"
    batches = iter(DataLoader(data, batch, sampler=CaseSampler(data, 0, MANY), pin_memory=pinned))
    return lambda: {key: value.to(device) for key, value in next(batches).items() if key != "case"}


def _write(folder: Path, edge: int) -> None:
    rng, entries = np.random.default_rng(0), []
    for number in range(CASES):
        label = np.zeros((edge,) * 3, np.uint8)
        label[edge // 4 : edge // 2, edge // 4 : edge // 2] = 1
        scan = label + rng.normal(size=label.shape)
        entry = {"image": f"imagesTr/{number}.nii", "label": f"labelsTr/{number}.nii"}
        for name, array in zip(entry.values(), (scan.astype(np.float32), label), strict=True):
            (folder / name).parent.mkdir(exist_ok=True)
            nib.Nifti1Image(array, np.eye(4)).to_filename(folder / name)
        entries.append(entry)
    words = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "bright"}}
    listing = {**words, "numTraining": CASES, "training": entries}
    (folder / "dataset.json").write_text(json.dumps(listing))
