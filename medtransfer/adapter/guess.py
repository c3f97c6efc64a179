"""What network a set of weights belongs to, read off its tensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..model_zoo.resnet import STAGES

_UNIT = re.compile(r"layer(\d)\.(\d+)\.conv(\d)\.weight")


def guess_architecture(weights: Mapping[str, Tensor]) -> str | None:
    """``resnet18``, ``resunet50`` and so on from tensors under the zoo's names; None if they are of something else."""
    blocks, convs = _stage_blocks(weights)
    kind = "bottleneck" if convs == 3 else "basic"
    for depth, (block, stage_blocks) in STAGES.items():
        if block == kind and blocks and blocks == stage_blocks[: len(blocks)]:
            family = "resunet" if any(name.startswith("decoder_") for name in weights) else "resnet"
            return f"{family}{depth}"
    return None


def describe(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Architecture, stem, input channels and classes as far as the tensors tell."""
    stem = weights.get("stem.0.conv.weight", weights.get("conv1.weight"))
    head = weights.get("head_fc.weight", weights.get("final_layer.1.weight"))
    return {
        "architecture": guess_architecture(weights),
        "deep_stem": "stem.0.conv.weight" in weights,
        "pool": "conv" if "maxpool.conv.weight" in weights else "max",
        "ndim": None if stem is None else stem.ndim - 2,
        "in_channels": None if stem is None else stem.shape[1],
        "num_classes": None if head is None else head.shape[0],
    }


def same_blocks(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether the stages that both have are of one block type and number, as far as the tensors tell."""
    (blocks, convs), (other_blocks, other_convs) = _stage_blocks(one), _stage_blocks(other)
    if not blocks or not other_blocks:
        return True
    return convs == other_convs and all(a == b for a, b in zip(blocks, other_blocks, strict=False))


def _stage_blocks(weights: Mapping[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """Blocks of each stage, and convolutions of a block."""
    last: dict[int, int] = {}
    convs = 0
    for found in filter(None, map(_UNIT.fullmatch, weights)):
        stage, block, conv = map(int, found.groups())
        last[stage] = max(last.get(stage, 0), block + 1)
        convs = max(convs, conv)
    return tuple(last[stage] for stage in sorted(last)), convs
