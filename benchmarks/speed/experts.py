"""Dice against experts on the hippocampus cases, by every way: the speed must cost nothing.

The cases are those that the shipped config leaves out of training. Without ``--model`` a short training of that config
makes the network.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np
import torch

import medtransfer as mt
from medtransfer.data.cases import Case
from medtransfer.data.dataset import DecathlonDataset
from medtransfer.inference.predictor import Predictor
from medtransfer.training.run import run

from .agreement import Labels, by_class, foreground
from .measure import Row, alone
from .options import Options
from .predict import level
from .ways import Scene

SPLIT = {"val": 60, "seed": 0}
EPOCHS, QUICK_EPOCHS = 3, 1  # of 200 samples
CASES, QUICK_CASES = 60, 4


def rows(options: Options) -> list[Row]:
    """Mean Dice of all classes and cases; and the agreement with one float32 pass, the worst case of all."""
    if options.data is None:
        return [alone("hippocampus", None, "Dice", note="not measured: give --data PATH/Task04_Hippocampus")]
    with tempfile.TemporaryDirectory() as folder:
        model = options.model or _train(options, Path(folder))
        return _rows(model, options)


def _train(options: Options, folder: Path) -> Path:
    changes = {"data_root": str(options.data), "train_cfg.max_epochs": QUICK_EPOCHS if options.quick else EPOCHS}
    return run("resunet18_hippocampus", work_dir=folder / "run", cfg_options=changes) / "best"


def _rows(model: Path, options: Options) -> list[Row]:
    cases = DecathlonDataset(str(options.data), part="val", split=SPLIT, cache=False).cases
    chosen = cases[: QUICK_CASES if options.quick else CASES]
    predictors = {name: Predictor(model, options.device, name) for name in ("auto", "float32")}
    network = mt.load(model)
    patch = predictors["auto"].card.patch_size or (48, 64, 48)
    scores: dict[str, list[float]] = {}
    for case in chosen:
        _score(case, predictors, network, (patch[0], patch[1], patch[2]), options.device, scores)
    return _summary(scores, len(chosen))


def _score(
    case: Case,
    predictors: dict[str, Predictor],
    network: torch.nn.Module,
    window: tuple[int, int, int],
    device: str,
    scores: dict[str, list[float]],
) -> None:
    """Add what every way reached on one case; these scans are stored in the order of the working grid."""
    reference = np.asarray(nib.Nifti1Image.from_filename(str(case.label)).dataobj)
    job = predictors["auto"].read(case.images[0])
    scene = Scene(network, torch.from_numpy(job.prepared[0].array), device, window)
    labels = {"MONAI float32": scene.windows()(), "MONAI short": scene.windows(scene.short)()}
    labels |= {name: np.asarray(predictor.run(job, False).labels.dataobj) for name, predictor in predictors.items()}
    whole = _whole(scene)
    for name, found in {**labels, "whole": whole}.items():
        scores.setdefault(name, []).append(float(np.mean(by_class(found, reference, int(reference.max()) + 1))))
        scores.setdefault(f"{name} agreement", []).append(foreground(found, whole))


def _whole(scene: Scene) -> Labels:
    """One pass in float32, the scan padded as ours is: by the engine itself, so that only numbers and tiles differ."""
    return scene.ours("float32", tile="whole")()


def _summary(scores: dict[str, list[float]], cases: int) -> list[Row]:
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    found = [
        level(f"Dice with experts, {name}, {cases} hippocampus cases", (mean[name], mean[other]), beside, "± 0.002")
        for name, other, beside in (
            ("auto", "whole", "one float32 pass"),
            ("auto", "MONAI float32", "MONAI windows, float32"),
            ("auto", "MONAI short", "MONAI windows, bfloat16 autocast"),
        )
    ]
    agreed = (mean["auto agreement"], mean["MONAI short agreement"])
    return [
        *found,
        level("mask beside that of one float32 pass, mean of cases", agreed, "MONAI windows, bfloat16", "≥ 0.999"),
    ]
