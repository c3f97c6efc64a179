"""Small stand-ins for the files that the how-tos of docs/how_to start from, in the layout of their sources.

python examples/stand_ins.py medicalnet|nnunet|add_class|freeze|slurm

Everything is written into the present folder, in seconds and without a network. Weights are random, or trained for a
few seconds on made-up scans, so no score that comes of them means anything. Names, keys and folders are those of the
real files: the pages' commands take these as well.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import medtransfer as mt

Array = NDArray[Any]
Parts = Mapping[int, tuple[float, float]]  #: label -> (brightness, radius in voxels)
TINY = {"base_channels": 4, "stem_channels": 4}
SIZE = (24, 24, 24)
SPACING = np.diag([1.0, 1.0, 1.5, 1.0])

# --- scans ----------------------------------------------------------------------------------------------------------


def made_up_case(rng: np.random.Generator, parts: Parts, contrasts: Sequence[float] = (1.0,)) -> tuple[Array, Array]:
    """A scan (C, I, J, K) of noise with one ball of each part, later ones over earlier ones, and its labels."""
    axes = np.indices(SIZE)
    labels, truth = np.zeros(SIZE, np.uint8), np.zeros(SIZE)
    for label, (brightness, radius) in parts.items():
        centre = rng.uniform(radius, np.array(SIZE) - radius)
        ball = np.square(axes - centre.reshape(3, 1, 1, 1)).sum(axis=0) <= radius**2
        labels[ball], truth[ball] = label, brightness
    noise = rng.normal(0, 0.1, (len(contrasts), *SIZE))
    return np.stack([contrast * truth for contrast in contrasts]) + noise, labels


def write_volume(path: Path, array: Array, dtype: type = np.float32) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array.astype(dtype), SPACING), path)


def write_json(path: Path, document: Any) -> None:
    path.write_text(json.dumps(document, indent=2))


def write_nnunet_raw(folder: Path, name: str, count: int, parts: Parts, names: Mapping[int, str]) -> None:
    """A raw dataset of nnU-Net with one channel; labels without a name are left out, as if nobody had drawn them."""
    numbers = {old: new for new, old in enumerate(names, 1)}
    for case in (f"{name}_{number:02d}" for number in range(1, count + 1)):
        scan, labels = made_up_case(np.random.default_rng([*map(ord, case)]), parts)
        kept = np.vectorize(lambda label: numbers.get(label, 0))(labels)
        write_volume(folder / "imagesTr" / f"{case}_0000.nii.gz", 1000 * scan[0])
        write_volume(folder / "labelsTr" / f"{case}.nii.gz", kept, np.uint8)
    stated = {name: number for number, name in enumerate(names.values(), 1)}
    described = {"channel_names": {"0": "CT"}, "labels": {"background": 0, **stated}}
    write_json(folder / "dataset.json", {**described, "numTraining": count, "file_ending": ".nii.gz"})


# --- MedicalNet: weights of one channel, and a Decathlon dataset of four --------------------------------------------


def write_medicalnet() -> None:
    """``pretrained/resnet_18.pth`` as MedicalNet saves it, and ``Task01_BrainTumour`` with its four channels."""
    torch.manual_seed(0)
    network = mt.create_model("resnet18", in_channels=1, num_classes=None, geometry="medicalnet", **TINY)
    Path("pretrained").mkdir()
    state = {f"module.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state}, "pretrained/resnet_18.pth")
    _write_brain_tumour(Path("Task01_BrainTumour"))


def _write_brain_tumour(folder: Path) -> None:
    rng = np.random.default_rng(0)
    numbers = {"Tr": range(1, 7), "Ts": range(485, 487)}
    cases = {part: [f"BRATS_{number:03d}.nii.gz" for number in those] for part, those in numbers.items()}
    for part, scans in cases.items():
        for file in scans:
            parts = {1: (1.0, 8.0), 2: (2.0, 5.0), 3: (3.0, 3.0)}
            scan, labels = made_up_case(rng, parts, contrasts=(1.0, -0.5, 0.8, 0.6))
            write_volume(folder / f"images{part}" / file, 100 * np.moveaxis(scan, 0, -1) + 200)
            if part == "Tr":
                write_volume(folder / "labelsTr" / file, labels, np.uint8)
    listed = [{"image": f"./imagesTr/{file}", "label": f"./labelsTr/{file}"} for file in cases["Tr"]]
    described = {
        "name": "BRATS",
        "tensorImageSize": "4D",
        "modality": dict(enumerate(("FLAIR", "T1w", "t1gd", "T2w"))),
        "labels": dict(enumerate(("background", "edema", "non-enhancing tumor", "enhancing tumour"))),
        "numTraining": len(listed),
        "numTest": len(cases["Ts"]),
        "training": listed,
        "test": [f"./imagesTs/{file}" for file in cases["Ts"]],
    }
    write_json(folder / "dataset.json", described)


# --- nnU-Net: a results folder, and a table of scans with one class each --------------------------------------------

NNUNET = Path("nnUNet_results/Dataset004_Hippocampus/nnUNetTrainer__nnUNetPlans__3d_fullres")
CHANNELS = (4, 8, 16)
CLASSES = {"background": 0, "Anterior": 1, "Posterior": 2}


def write_nnunet() -> None:
    """nnU-Net's results folder of the hippocampus (random weights, few channels), and ``scans`` with two tables."""
    torch.manual_seed(0)
    (NNUNET / "fold_0").mkdir(parents=True)
    dataset = {"channel_names": {"0": "MRI"}, "labels": CLASSES, "numTraining": 260, "file_ending": ".nii.gz"}
    write_json(NNUNET / "plans.json", plans := _plans())
    write_json(NNUNET / "dataset.json", dataset)
    checkpoint = {
        "network_weights": dict(_with_further_names(_first_names())),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 1e-5}]},
        "grad_scaler_state": None,
        "logging": {"ema_fg_dice": [np.float64(0.5), np.float64(0.75)]},
        "_best_ema": np.float64(0.75),
        "current_epoch": 1000,
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": dataset},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, NNUNET / "fold_0" / "checkpoint_final.pth")
    _write_table("train.csv", [*["train"] * 16, *["val"] * 12], first=0)
    _write_table("test.csv", ["test"] * 12, first=28)


def _plans() -> dict[str, Any]:
    arguments = {
        "n_stages": (stages := len(CHANNELS)),
        "features_per_stage": list(CHANNELS),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    architecture = {
        "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "arch_kwargs": arguments,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 9,
        "patch_size": [40, 56, 40],
        "spacing": [1.0, 1.0, 1.0],
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "architecture": architecture,
    }
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
    }


def _first_names() -> Iterator[tuple[str, Tensor]]:
    """nnU-Net's tensors, each under its first name."""
    before = 1
    for stage, width in enumerate(CHANNELS):
        for unit in range(2):
            yield from _unit(f"encoder.stages.{stage}.0.convs.{unit}", before, width)
            before = width
    for step, (below, skip) in enumerate(zip(CHANNELS[:0:-1], CHANNELS[-2::-1], strict=True)):
        yield f"decoder.transpconvs.{step}.weight", torch.nn.init.kaiming_normal_(torch.empty(below, skip, 2, 2, 2))
        yield f"decoder.transpconvs.{step}.bias", torch.zeros(skip)
        for unit in range(2):
            yield from _unit(f"decoder.stages.{step}.convs.{unit}", 2 * skip if unit == 0 else skip, skip)
        yield f"decoder.seg_layers.{step}.weight", torch.randn(len(CLASSES), skip, 1, 1, 1)
        yield f"decoder.seg_layers.{step}.bias", torch.zeros(len(CLASSES))


def _unit(name: str, before: int, after: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.conv.weight", torch.nn.init.kaiming_normal_(torch.empty(after, before, 3, 3, 3))
    yield f"{name}.conv.bias", torch.zeros(after)
    yield f"{name}.norm.weight", torch.ones(after)
    yield f"{name}.norm.bias", torch.zeros(after)


def _with_further_names(tensors: Iterator[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """Each tensor again under the names that nnU-Net's modules give it: lists of modules, and the decoder's encoder."""
    for name, tensor in tensors:
        listed = name.replace(".conv.", ".all_modules.0.").replace(".norm.", ".all_modules.1.")
        for own in dict.fromkeys((name, listed)):
            yield own, tensor
            if own.startswith("encoder."):
                yield f"decoder.{own}", tensor


def _write_table(name: str, split: Sequence[str], first: int) -> None:
    """Scans of two classes: one large ball, or in ``ill`` a small and bright one; one label in four is wrong."""
    rows = []
    for number, part in enumerate(split, first):
        ill = number % 2 == 1
        looks_ill = ill != (number % 8 in (2, 5))
        parts = {1: (4.0, 3.0)} if looks_ill else {1: (1.0, 9.0)}
        scan, _ = made_up_case(np.random.default_rng(number), parts)
        file = Path("scans", f"case_{number:02d}.nii.gz")
        write_volume(file, 100 * scan[0])
        rows.append((file, "ill" if ill else "healthy", f"patient_{number:02d}", part))
    with open(name, "w", newline="") as table:
        csv.writer(table).writerows([("image", "label", "patient", "split"), *rows])


# --- organs: a trained network, and scans in which only a new class is labelled -------------------------------------

ORGANS: Parts = {1: (1.0, 6.0), 2: (-1.0, 6.0)}
WITH_TUMOUR: Parts = {**ORGANS, 3: (2.5, 4.0)}


def write_add_class() -> None:
    """``old_model``, which knows two organs; ``new_scans``, only a tumour labelled; ``test_scans``, all three."""
    _train_organs(Path("old_model"))
    write_nnunet_raw(Path("new_scans"), "new", 8, WITH_TUMOUR, {3: "tumour"})
    write_nnunet_raw(Path("test_scans"), "test", 6, WITH_TUMOUR, {1: "liver", 2: "spleen", 3: "tumour"})


def _train_organs(folder: Path) -> None:
    """A model folder as ``medtransfer train`` leaves it in ``best/``, after some seconds of training."""
    from medtransfer.training.run import run

    data = folder.with_name("old_scans")
    write_nnunet_raw(data, "old", 8, ORGANS, {1: "liver", 2: "spleen"})
    options = {
        "data_root": str(data),
        "patch_size": list(SIZE),
        "log_level": "WARNING",
        "train_dataloader.sampler.samples_per_epoch": 60,
        "train_cfg.max_epochs": 1,
        "train_cfg.val_interval": 1,
        "optim_wrapper.optimizer.lr": 0.01,
        "param_scheduler.eta_max": 0.01,
        **{f"model.network.{name}": width for name, width in TINY.items()},
    }
    work = run("resunet18_cases", work_dir=folder.with_name("old_run"), cfg_options=options)
    (work / "best").rename(folder)


# --- the other two --------------------------------------------------------------------------------------------------


def write_freeze() -> None:
    """``pretrained``, the model folder of a classifier, and ``data``, a small dataset to segment."""
    torch.manual_seed(0)
    mt.save(mt.create_model("resnet10", in_channels=1, num_classes=4, **TINY), "pretrained")
    write_nnunet_raw(Path("data"), "case", 6, ORGANS, {1: "liver", 2: "spleen"})


def write_slurm() -> None:
    """``model``, a trained segmenter; ``scans``, a folder of CTs; ``labels`` of some of them; ``data`` to train on."""
    _train_organs(Path("model"))
    Path("old_scans").rename("data")
    for number in range(1, 8):
        scan, labels = made_up_case(np.random.default_rng(100 + number), ORGANS)
        write_volume(Path("scans", f"ct_{number:03d}.nii.gz"), 1000 * scan[0])
        if number <= 4:
            write_volume(Path("labels", f"ct_{number:03d}.nii.gz"), labels, np.uint8)
    write_json(Path("labels", "labels.json"), {"1": "liver", "2": "spleen"})


WRITERS: dict[str, Callable[[], None]] = {
    "medicalnet": write_medicalnet,
    "nnunet": write_nnunet,
    "add_class": write_add_class,
    "freeze": write_freeze,
    "slurm": write_slurm,
}


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in WRITERS:
        sys.exit(f"usage: python stand_ins.py {'|'.join(WRITERS)}")
    WRITERS[sys.argv[1]]()
    print("\n".join(sorted(f"{path}/" if path.is_dir() else str(path) for path in Path().iterdir())))


if __name__ == "__main__":
    main()
