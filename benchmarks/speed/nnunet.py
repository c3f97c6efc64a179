"""Prediction with an nnU-Net network that the adapter imports, beside nnU-Net's own predictor.

Such networks have instance norms, which take their statistics from the window: both sides run the same windows of the
patch of training, overlapping by a half. What is gained comes from what a window costs, not from fewer of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import util
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import medtransfer as mt
from medtransfer.inference.predictor import Predictor

from .agreement import Labels, by_class
from .measure import Row, alone, alternate, compare
from .options import Options
from .ways import random_scan, runner

NEEDED = ("nnunetv2", "dynamic_network_architectures")
CLASSES = 3
FEATURES = (32, 64, 128, 256, 320)
NETWORK = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def rows(options: Options) -> list[Row]:
    """Ours in the numbers that `auto` takes and in float32, both beside nnU-Net's; and how equal the labels are."""
    if missing():
        reason = f"not measured: {' and '.join(missing())} not installed (pip install nnunetv2)"
        return [alone("nnU-Net, plain encoder", None, "s", note=reason)]
    with tempfile.TemporaryDirectory() as folder:
        return _rows(options, Path(folder))


def missing() -> list[str]:
    """What of nnU-Net is not installed."""
    return [name for name in NEEDED if util.find_spec(name) is None]


def _rows(options: Options, folder: Path) -> list[Row]:
    shape, patch = ((64, 64, 64), 32) if options.quick else ((128, 96, 96), 64)
    image, labels = random_scan(shape), dict[str, Labels]()
    save_checkpoint(folder / "checkpoint_final.pth", patch)
    mt.convert(folder / "checkpoint_final.pth", folder / "net")
    calls: dict[str, Callable[[], Labels]] = {"nnU-Net": theirs(folder / "checkpoint_final.pth", image, options.device)}
    calls |= {precision: ours(folder / "net", image, options.device, precision) for precision in ("auto", "float32")}
    seconds = alternate({name: _kept(labels, name, call) for name, call in calls.items()}, 3, options.device)
    what = f"nnU-Net, {len(FEATURES)} stages, {'x'.join(map(str, shape))}, patch {patch}"
    beside = "nnUNetPredictor, steps of 0.5, Gaussian, no mirroring"
    return [
        compare(f"{what}, {name}", seconds[name], seconds["nnU-Net"], beside=beside) for name in ("auto", "float32")
    ] + [
        alone(f"labels of {name} beside nnU-Net's, worst class, random weights", _worst(labels, name), "Dice")
        for name in ("auto", "float32")
    ]


def _worst(labels: dict[str, Labels], name: str) -> float:
    return min(by_class(labels[name], labels["nnU-Net"], CLASSES))


def _kept(labels: dict[str, Labels], name: str, call: Callable[[], Labels]) -> Callable[[], object]:
    return lambda: labels.__setitem__(name, call())


def ours(folder: Path, image: Tensor, device: str, precision: str) -> Callable[[], Labels]:
    """Our predictor over the model folder that came of the checkpoint."""
    return runner(Predictor(folder, device, precision), image)


def theirs(checkpoint: Path, image: Tensor, device: str) -> Callable[[], Labels]:
    """Their predictor with the network, its plans and its weights; from a scaled scan to labels."""
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    saved = torch.load(checkpoint, weights_only=True)
    plans = PlansManager(saved["init_args"]["plans"])
    with redirect_stdout(StringIO()):
        predictor = nnUNetPredictor(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
    predictor.manual_initialization(
        _network(), plans, plans.get_configuration("3d_fullres"), [saved["network_weights"]],
        saved["init_args"]["dataset_json"], "nnUNetTrainer", None,
    )  # fmt: skip
    return lambda: predictor.predict_logits_from_preprocessed_data(image).argmax(0).byte().numpy()


def save_checkpoint(path: Path, patch: int) -> None:
    """What nnU-Net's trainer saves, with random weights."""
    torch.manual_seed(0)
    described = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, **{f"part {number}": number for number in range(1, CLASSES)}},
        "numTraining": 20,
        "file_ending": ".nii.gz",
    }
    given = {"plans": _plans(patch), "configuration": "3d_fullres", "fold": 0, "dataset_json": described}
    torch.save({"network_weights": _network().state_dict(), "init_args": given, "trainer_name": "nnUNetTrainer"}, path)


def _network() -> nn.Module:
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    return PlainConvUNet(1, num_classes=CLASSES, deep_supervision=False, **_arguments(by_name=False)).eval()


def _arguments(by_name: bool) -> dict[str, Any]:
    """As the planner writes them for images of equal spacing; types by name in plans, themselves for the network."""
    types = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    stages = len(FEATURES)
    return {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
        **{key: f"{kind.__module__}.{kind.__name__}" if by_name else kind for key, kind in types.items()},
    }


def _plans(patch: int) -> dict[str, Any]:
    architecture = {
        "network_class_name": NETWORK,
        "arch_kwargs": _arguments(by_name=True),
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [patch] * 3,
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
    }
    return {
        "dataset_name": "Dataset001_Speed",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "foreground_intensity_properties_per_channel": {},
    }
