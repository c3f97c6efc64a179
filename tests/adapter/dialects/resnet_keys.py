"""Keys and shapes of a ResNet as He et al. and torchvision write it, stated by rule: what golden files' weights fill.

It shares no code with the zoo, so that a wrong name or shape there cannot agree with itself here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.adapter.dialects.oracle_case import load_golden

#: depth -> (convolutions of a block, blocks of each stage), table 1 of He et al., and 3-D projects' ResNet-10
DEPTHS = {
    10: (2, (1, 1, 1, 1)),
    18: (2, (2, 2, 2, 2)),
    34: (2, (3, 4, 6, 3)),
    50: (3, (3, 4, 6, 3)),
}


def norm_shapes(name: str, channels: int) -> dict[str, Tensor]:
    """A batch norm's five tensors."""
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{part}": torch.empty(channels) for part in vectors} | {
        f"{name}.num_batches_tracked": torch.tensor(0)
    }


def conv_shape(name: str, rows: int, columns: int, kernel: tuple[int, ...]) -> dict[str, Tensor]:
    """A convolution without bias."""
    return {f"{name}.weight": torch.empty(rows, columns, *kernel)}


def stage_shapes(
    depth: int,
    base: int = 4,
    ndim: int = 3,
    stem: int = 4,
    shortcut: str = "B",
    middle: int = 1,
    pooled: tuple[int, ...] = (),
) -> dict[str, Tensor]:
    """``layer1`` ... ``layer4``: every width doubles, a bottleneck gives four times its stage's width.

    Args:
        depth: One of ``DEPTHS``.
        base: Width of the first stage.
        ndim: Axes of a kernel.
        stem: Channels from the stem.
        shortcut: ``B``, or ``A``, which has no tensors.
        middle: Factor of a bottleneck's inner width, 2 in a wide ResNet.
        pooled: Stages whose shortcut has a layer without tensors before its convolution.
    """
    convs, blocks = DEPTHS[depth]
    shapes: dict[str, Tensor] = {}
    width_in = stem
    for stage, count in enumerate(blocks, 1):
        inner = base * 2 ** (stage - 1) * middle
        width_out = base * 2 ** (stage - 1) * (4 if convs == 3 else 1)
        for block in range(count):
            name = f"layer{stage}.{block}"
            widths = [width_in, *[inner] * (convs - 1), width_out]
            for unit in range(1, convs + 1):
                kernel = 1 if convs == 3 and unit != 2 else 3
                shapes |= conv_shape(f"{name}.conv{unit}", widths[unit], widths[unit - 1], (kernel,) * ndim)
                shapes |= norm_shapes(f"{name}.bn{unit}", widths[unit])
            if block == 0 and shortcut == "B" and (stage > 1 or width_in != width_out):
                at = 1 if stage in pooled else 0
                shapes |= conv_shape(f"{name}.downsample.{at}", width_out, width_in, (1,) * ndim)
                shapes |= norm_shapes(f"{name}.downsample.{at + 1}", width_out)
            width_in = width_out
    return shapes


def stem_shapes(in_channels: int, kernel: tuple[int, ...], channels: int = 4) -> dict[str, Tensor]:
    """``conv1`` and ``bn1``."""
    return conv_shape("conv1", channels, in_channels, kernel) | norm_shapes("bn1", channels)


def linear_shapes(name: str, rows: int, columns: int) -> dict[str, Tensor]:
    """A classifier's weight and bias."""
    return {f"{name}.weight": torch.empty(rows, columns), f"{name}.bias": torch.empty(rows)}


def behind(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with a prefix before every key."""
    return {prefix + key: tensor for key, tensor in tensors.items()}


def golden_input(*shape: int) -> Tensor:
    """The input from which golden maps were made."""
    return torch.from_numpy(np.random.RandomState(1).standard_normal(shape).astype(np.float32))


def golden(name: str) -> list[dict[str, Any]]:
    """The golden maps of this name."""
    return load_golden(Path(__file__).parent / "golden" / f"{name}.npz")


def features_and_logits(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Feature maps, then what ``forward`` gives."""
    return [*network.features(x), network(x)]
