"""A MONAI bundle: a folder that MONAI's own tools run, with the card's preparation as their transforms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..checkpoint.readme import render_readme
from ..errors import ModelError
from ..files import atomic_folder, refuse_foreign, write_json
from . import torchscript
from .bundle_config import inference_config, metadata_config, refuse_code, window_of
from .contents import not_included
from .report import Check
from .subject import Subject
from .verify import compare, write_and_read

MARKER = Path("configs") / "metadata.json"
TASKS = ("segmentation", "classification")
_README = """
## As a MONAI bundle

```
python -m monai.bundle run --config_file configs/inference.json --bundle_root . --dataset_dir SCANS --output_dir OUT
```

It needs `pip install monai nibabel fire`. `configs/inference.json` prepares scans and puts masks back with MONAI's
transforms; `models/model.ts` is the network as TorchScript, `models/model.pt` its state dict. The network itself holds
no preparation:

"""


def write_bundle(
    subject: Subject, path: Path, overwrite: bool = False
) -> tuple[bytes, list[Check], dict[str, str], list[str]]:
    """Write the folder, whole or not at all; the network in it is compared first.

    Returns:
        The content of ``models/model.ts``, its comparisons, versions and notes.

    Raises:
        ModelError: a task, dimension or preparation that no bundle holds, or a network that differs.
        UsageError: a folder that is no bundle and would be deleted.
    """
    _refuse_unable(subject)
    # replacing deletes what stood there
    refuse_foreign(path, MARKER, f"is a folder without {MARKER.as_posix()}, so no bundle: it would be deleted")
    documents: dict[str, Any] = {
        "metadata.json": metadata_config(subject, path.name),
        "inference.json": inference_config(subject),
    }
    refuse_code([documents["metadata.json"], subject.card.classes])
    data = torchscript.encode(subject)
    with atomic_folder(path, overwrite) as part:
        for name in ("configs", "models", "docs"):
            (part / name).mkdir()
        network = torchscript.decode(write_and_read(data, part / "models" / "model.ts"))
        checks = compare(network, subject, path, subject.axes.thin())
        torch.save(subject.network.state_dict(), part / "models" / "model.pt")
        for name, document in documents.items():
            write_json(part / "configs" / name, document)
        (part / "docs" / "README.md").write_text(_readme(subject, path.name), encoding="utf-8")
    versions = {**torchscript.versions(data), "monai": documents["metadata.json"]["monai_version"]}
    return data, checks, versions, notes_of(subject)


def notes_of(subject: Subject) -> list[str]:
    """Where the bundle's masks may differ from those of ``medtransfer predict``."""
    card, notes = subject.card, []
    if card.spacing is not None:
        notes.append("spacing: no transform of MONAI samples at medtransfer's points; outlines differ by up to a voxel")
    window: Sequence[int] | None = window_of(subject)
    if window:
        notes.append(f"run in windows of {' x '.join(map(str, window))} voxels")
    return notes


def _refuse_unable(subject: Subject) -> None:
    card, ndim = subject.card, len(subject.axes.strides)
    if card.task not in TASKS:
        raise ModelError(f"a bundle holds a {' or a '.join(TASKS)}, not a {card.task}", hint="Export to .onnx or .pt2")
    if ndim != 3:
        raise ModelError(f"a bundle runs 3-D networks over volumes, this one is {ndim}-D", hint="Export to .onnx")
    if subject.axes.batch_size not in (None, 1):
        raise ModelError("a bundle runs one scan at a time", hint="Leave batch_size out")
    if card.task == "classification" and subject.axes.spatial_size is not None:
        raise ModelError("a classifier's bundle takes scans of any size", hint="Leave spatial_size out")


def _readme(subject: Subject, name: str) -> str:
    lines = [f"- {text}" for text in not_included(subject.card, subject.axes)]
    return render_readme(subject.card, name) + _README + "\n".join(lines) + "\n"
