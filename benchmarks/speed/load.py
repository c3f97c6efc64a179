"""From a file to a network: loading and transfer beside torch's own way and MONAI's.

``benchmarks/loading.py`` measures the same call by call in fresh processes, on a file of 507 MB, with memory.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from monai.networks import utils as monai_networks
from torch import Tensor, nn

import medtransfer as mt
from benchmarks.loading import build

from .measure import Row, alternate, compare
from .options import Options
from .ways import build as build_random

ROUNDS = 9
CLASSES = 2  # as `benchmarks.loading.build` has


def rows(options: Options) -> list[Row]:
    """Every way to the weights of one network, the file in the page cache."""
    logging.getLogger(monai_networks.__name__).setLevel(logging.WARNING)  # a line a call otherwise
    name = "resunet18" if options.quick else "resunet50"
    with tempfile.TemporaryDirectory() as folder:
        file, model_folder, size = _write(name, Path(folder))
        seconds = alternate(_ways(name, file, model_folder), ROUNDS)
    title = f"{name}, {size / 1e6:.0f} MB"
    pairs = {
        "folder": ("build", "model folder to network, sha256 checked", "network built, torch.load, load_state_dict"),
        "assigned": (
            "build assign",
            "model folder to network, sha256 checked",
            "network on meta, torch.load(mmap), load_state_dict(assign=True)",
        ),
        "transfer": ("torch", "transfer of a .pth into a network", "torch.load(mmap), load_state_dict"),
        "again": ("MONAI", "transfer of a .pth into a network", "torch.load, MONAI's copy_model_state"),
    }
    ours = {"folder": "folder", "assigned": "folder", "transfer": "transfer", "again": "transfer"}
    return [
        compare(f"{title}: {what}", seconds[ours[key]], seconds[theirs], beside=beside)
        for key, (theirs, what, beside) in pairs.items()
    ]


def _write(name: str, folder: Path) -> tuple[Path, Path, int]:
    """A file of a state dict, the same network as a model folder, and the size of the file."""
    network, file = build_random(name, CLASSES), folder / "net.pth"
    torch.save(network.state_dict(), file)
    mt.save(network, folder / "net")
    return file, folder / "net", file.stat().st_size


def _ways(name: str, file: Path, model_folder: Path) -> dict[str, Callable[[], object]]:
    network = build(name)
    return {
        "folder": lambda: mt.load(model_folder),
        "build": lambda: _filled(mt.create_model(name, in_channels=1, num_classes=CLASSES), _read(file)),
        "build assign": lambda: _assigned(name, file),
        "transfer": lambda: mt.transfer(file, network, head="keep"),
        "torch": lambda: network.load_state_dict(_read(file, mmap=True)),
        "MONAI": lambda: monai_networks.copy_model_state(network, _read(file)),
    }


def _read(file: Path, mmap: bool = False) -> dict[str, Tensor]:
    read: dict[str, Tensor] = torch.load(file, weights_only=True, mmap=mmap)
    return read


def _filled(network: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    network.load_state_dict(weights)
    return network.eval()


def _assigned(name: str, file: Path) -> nn.Module:
    """The quickest way that torch has: no initial values, no copy."""
    with torch.device("meta"):
        network = mt.create_model(name, in_channels=1, num_classes=CLASSES)
    network.load_state_dict(_read(file, mmap=True), assign=True)
    return network.eval()
