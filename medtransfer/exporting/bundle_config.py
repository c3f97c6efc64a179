"""The two configs of a MONAI bundle, drawn from a card: what it says of itself, and how it is run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import torch

from ..checkpoint.card import ModelCard
from ..errors import ModelError
from ..version import __version__
from .bundle_transforms import postprocessing, preprocessing
from .subject import Subject

SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
OVERLAP = 0.5  # of windows, as medtransfer and nnU-Net have it


def window_of(subject: Subject) -> list[int] | None:
    """The size of a sliding window: the fixed size, or the card's patch in multiples of the strides; None: one pass."""
    axes, patch = subject.axes, subject.card.patch_size
    if subject.card.task == "classification":
        return None
    if axes.spatial_size is not None:
        return list(axes.spatial_size)
    return patch and [-(-size // stride) * stride for size, stride in zip(patch, axes.strides, strict=True)]


def inference_config(subject: Subject) -> dict[str, Any]:
    """``configs/inference.json``: scans of ``dataset_dir`` to masks, or to probabilities, in ``output_dir``."""
    card, window = subject.card, window_of(subject)
    return {
        "imports": ["$import glob", "$import json", "$import os"],
        "bundle_root": "$os.getcwd()",
        "dataset_dir": "$@bundle_root + '/input'",
        "output_dir": "$@bundle_root + '/eval'",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "classes": card.classes,
        "datalist": "$sorted(glob.glob(@dataset_dir + '/*.nii') + glob.glob(@dataset_dir + '/*.nii.gz'))",
        "network_def": "$torch.jit.load(@bundle_root + '/models/model.ts', map_location='cpu').eval()",
        "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": preprocessing(card, subject.axes, window)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {"_target_": "DataLoader", "dataset": "@dataset", "batch_size": 1, "shuffle": False},
        "inferer": _inferer(window),
        "postprocessing": {"_target_": "Compose", "transforms": postprocessing(card)},
        # of pytorch-ignite; `run` does the same without it
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "predict": "$torch.no_grad()(lambda scan: {**scan, 'pred': @inferer(@batch(scan), @network)[0]})",
        "batch": "$lambda scan: scan['image'][None].to(@device)",
        "predictions": "$[@postprocessing(@predict(scan)) for scan in @dataset]",
        **_run(card),
    }


def metadata_config(subject: Subject, name: str) -> dict[str, Any]:
    """``configs/metadata.json``: what MONAI's tools show of a bundle."""
    card = subject.card
    return {
        "schema": SCHEMA,
        "version": "0.1.0",
        "changelog": {"0.1.0": f"exported by medtransfer {__version__}"},
        "monai_version": metadata.version("monai"),
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": metadata.version("nibabel")},
        "name": name,
        "task": f"{card.task} of {', '.join(card.classes)}"[:200],
        "description": card.description or f"{card.architecture.name}, {card.task}",
        "authors": "not stated",
        "copyright": card.license or "not stated",
        "intended_use": "Research only: not a medical device, not for diagnosis or treatment",
        "eval_metrics": dict(card.metrics),
        "network_data_format": {"inputs": {"image": _input(subject)}, "outputs": {"pred": _output(subject)}},
        "medtransfer": dict(subject.texts),
    }


def refuse_code(document: Any) -> None:
    """Raise where a text of the card would be code to MONAI's parser, which a card must never become.

    Raises:
        ModelError: a text begins as an expression, a reference or a macro of such configs does.

    >>> refuse_code({"channel_def": {"0": "$__import__('os')"}})
    Traceback (most recent call last):
    medtransfer.errors.ModelError: the card says "$__import__('os')", which MONAI would run or replace. ...
    """
    if isinstance(document, Mapping):
        for key, value in document.items():
            refuse_code(f"${key}" if str(key).startswith("_") else key)
            refuse_code(value)
    elif isinstance(document, list):
        for value in document:
            refuse_code(value)
    elif isinstance(document, str) and document.startswith(("$", "@", "%")):
        reason = f"the card says {document[:80]!r}, which MONAI would run or replace"
        raise ModelError(reason, hint="Begin names and texts with a letter")


def _inferer(window: Sequence[int] | None) -> Mapping[str, Any]:
    if window is None:
        return {"_target_": "SimpleInferer"}
    return {
        "_target_": "SlidingWindowInferer",
        "roi_size": list(window),
        "sw_batch_size": 1,
        "overlap": OVERLAP,
        "mode": "gaussian",
    }


def _run(card: ModelCard) -> dict[str, Any]:
    """Masks are written by a transform; probabilities here."""
    if card.task != "classification":
        return {"run": ["$@predictions"]}
    return {
        "results": "${os.path.basename(path): dict(zip(@classes, scan['pred'].tolist()))"
        " for path, scan in zip(@datalist, @predictions)}",
        "run": [
            "$os.makedirs(@output_dir, exist_ok=True)",
            "$open(@output_dir + '/predictions.json', 'w').write(json.dumps(@results, indent=2))",
        ],
    }


def _input(subject: Subject) -> dict[str, Any]:
    card, axes = subject.card, subject.axes
    sizes: list[Any] = [*(axes.spatial_size or (f"{stride}*n" for stride in axes.strides))]
    return {
        "type": "image",
        "format": _modality(card),
        "modality": _modality(card),
        "num_channels": axes.channels,
        "spatial_shape": sizes,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": window_of(subject) is not None,
        "channel_def": _numbered(card.input_channels),
    }


def _output(subject: Subject) -> dict[str, Any]:
    card, (width, *spatial) = subject.card, next(iter(subject.outputs.values()))
    sizes: list[Any] = _input(subject)["spatial_shape"] if spatial else []
    return {
        "type": "image" if spatial else "probabilities",
        "format": "segmentation" if spatial else "classification",
        "num_channels": width,
        "spatial_shape": sizes,
        "dtype": "float32",
        "value_range": [],
        "is_patch_data": window_of(subject) is not None,
        "channel_def": _numbered(card.classes),
    }


def _modality(card: ModelCard) -> str:
    return "/".join(card.input_channels)


def _numbered(names: Sequence[str]) -> dict[str, str]:
    return {str(number): name for number, name in enumerate(names)}
