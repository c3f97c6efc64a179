"""Models Genesis' file, and what its own network computes from it.

``golden/genesis.npz`` was made once by ``UNet3D`` of github.com/MrGiovanni/ModelsGenesis, ``pytorch/unet3d.py`` at
commit 12f7feb, in eval mode, with the weights ``fill`` gives its state dict; maps are the encoder's before pooling,
then the logits before the sigmoid.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.adapter.dialects.oracle_case import OracleCase, fill, load_golden

ORACLE = "Models Genesis' unet3d.py (golden values)"
GOLDEN = Path(__file__).parent / "golden" / "genesis.npz"
LEVELS = (64, 128, 256, 512)


def _unit(name: str, before: int, after: int) -> Iterator[Any]:
    yield f"{name}.conv1.weight", (after, before, 3, 3, 3)
    yield f"{name}.conv1.bias", (after,)
    yield from ((f"{name}.bn1.{part}", (after,)) for part in ("weight", "bias", "running_mean", "running_var"))
    yield f"{name}.bn1.num_batches_tracked", ()


def _keys() -> Iterator[Any]:
    before = 1
    for width in LEVELS:
        yield from _unit(f"down_tr{width}.ops.0", before, width // 2)
        yield from _unit(f"down_tr{width}.ops.1", width // 2, width)
        before = width
    for width in (256, 128, 64):
        # upsampling keeps the channels from below, twice those of the skip connection
        yield f"up_tr{width}.up_conv.weight", (2 * width, 2 * width, 2, 2, 2)
        yield f"up_tr{width}.up_conv.bias", (2 * width,)
        yield from _unit(f"up_tr{width}.ops.0", 3 * width, width)
        yield from _unit(f"up_tr{width}.ops.1", width, width)
    yield from (("out_tr.final_conv.weight", (1, 64, 1, 1, 1)), ("out_tr.final_conv.bias", (1,)))


def filled() -> dict[str, Tensor]:
    """Its state dict."""
    empty = {key: torch.zeros(shape, dtype=torch.float32 if shape else torch.int64) for key, shape in _keys()}
    return fill(empty)


def x() -> Tensor:
    """The input."""
    return torch.from_numpy(np.random.RandomState(1).standard_normal((1, 1, 8, 16, 16)).astype(np.float32))


def maps_here(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The encoder's maps and the logits."""
    return [*network.features(x), network(x)]


def cases(folder: Path) -> list[OracleCase]:
    """The file as it is released: the state dict of DataParallel, beside the optimizer's."""
    path = folder / "Genesis_Chest_CT.pt"
    state = {f"module.{key}": value for key, value in filled().items()}
    torch.save({"epoch": 300, "state_dict": state, "optimizer_state_dict": {"state": {}, "param_groups": []}}, path)
    return [OracleCase("genesis", path, x(), load_golden(GOLDEN), ORACLE, "DataParallel's keys", maps_here)]
