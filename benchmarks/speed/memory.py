"""Peak memory of every way, each in a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

import medtransfer as mt
from medtransfer.inference.predictor import Predictor

from .measure import MIB, Peak, Row, alone, compare, peak_memory
from .nnunet import missing, save_checkpoint
from .nnunet import ours as nnunet_ours
from .nnunet import theirs as nnunet_theirs
from .options import Options
from .ways import Scene, build, random_scan

HERE = __name__
LARGE = 512


def rows(options: Options) -> list[Row]:
    """What prediction adds to the process, beside MONAI's and nnU-Net's; the largest scan; several cases."""
    given: dict[str, Any] = {"shape": options.shape, "device": options.device}
    mine, long, short = (
        peak_memory(f"{HERE}:prediction", way=way, **given) for way in ("auto", "MONAI float32", "MONAI bfloat16")
    )
    what = f"ResUNet-18, {'x'.join(map(str, options.shape))}, beyond network and scan"
    found = [
        pair(what, mine, long, "MONAI windows, float32, batch 4", options),
        pair(what, mine, short, "MONAI windows, bfloat16 autocast, batch 4", options),
    ]
    return [*found, *_nnunet(options), *_from_files(options)]


def pair(what: str, mine: Peak, theirs: Peak, beside: str, options: Options) -> Row:
    """What one call of each took."""
    return compare(what, [mine.mib(options.device)], [theirs.mib(options.device)], "MiB", beside)


def _nnunet(options: Options) -> list[Row]:
    if missing():
        return []
    with tempfile.TemporaryDirectory() as folder:
        save_checkpoint(Path(folder) / "net.pth", 32)
        mt.convert(Path(folder) / "net.pth", Path(folder) / "net")
        given = {"folder": folder, "device": options.device}
        mine, other = (peak_memory(f"{HERE}:nnunet", way=way, **given) for way in ("auto", "nnU-Net"))
    return [pair("nnU-Net, 64x64x64, patch 32, beyond network and scan", mine, other, "nnUNetPredictor", options)]


def _from_files(options: Options) -> list[Row]:
    """The whole process, from a file of int16 to labels, as `medtransfer predict` runs it."""
    size = 192 if options.quick else LARGE
    with tempfile.TemporaryDirectory() as folder:
        mt.save(build("resunet18"), Path(folder) / "net")
        write_scan(Path(folder) / "large.nii", (size,) * 3)
        write_scan(Path(folder) / "small.nii", (96, 128, 96))
        call: dict[str, Any] = {"folder": folder, "device": options.device}
        large = peak_memory(f"{HERE}:files", names=["large.nii"], **call)
        one, four = (peak_memory(f"{HERE}:files", names=["small.nii"] * count, **call) for count in (1, 4))
    told = f"{large.seconds:.0f} s with reading and scaling"
    return [
        alone(f"ResUNet-18, {size}x{size}x{size}, 3 classes, the whole process", large.process / MIB, "MiB", "< 4096",
              told),
        compare("four scans one after the other", [four.process / MIB], [one.process / MIB], "MiB", "one scan",
                "≥ 0.9"),
    ]  # fmt: skip


def write_scan(path: Path, shape: tuple[int, int, int]) -> None:
    """Noise of int16, a plane at a time."""
    draw = np.random.default_rng(0)
    array = np.empty(shape, np.int16)
    for plane in array:
        plane[...] = draw.integers(-1000, 1000, plane.shape)
    nib.Nifti1Image(array, np.eye(4)).to_filename(path)


def prediction(shape: list[int], way: str, device: str) -> Callable[[], object]:
    """For `peak_memory`: one way over a scan that is read."""
    scene = Scene(build("resunet18"), random_scan(tuple(shape)), device)
    return scene.windows(way.removeprefix("MONAI "), 4) if way.startswith("MONAI") else scene.ours(way)


def files(folder: str, names: list[str], device: str) -> Callable[[], object]:
    """For `peak_memory`: scans from files, one after the other."""
    predictor = Predictor(Path(folder) / "net", device)

    def run() -> None:
        for name in names:
            np.asanyarray(predictor.predict(Path(folder) / name, probabilities=False).labels.dataobj)

    return run


def nnunet(folder: str, way: str, device: str) -> Callable[[], object]:
    """For `peak_memory`: an nnU-Net network."""
    image = random_scan((64, 64, 64))
    torch.manual_seed(0)
    if way == "nnU-Net":
        return nnunet_theirs(Path(folder) / "net.pth", image, device)
    return nnunet_ours(Path(folder) / "net", image, device, way)
