"""What network a set of weights belongs to, read off its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .dialects.base import Home
from .dialects.conv_shape import stage_convs
from .dialects.detector import classes_of
from .dialects.resnet_shape import stage_blocks

#: heads of the zoo, in the order in which they are looked for
_HEADS = ("head_fc.weight", "head_conv.weight", "final_layer.1.weight")


def same_blocks(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether the stages that both have are of one block type and number, as far as the tensors tell.

    Networks without stages of one kind (a ResNet's, a stack of convolutions') are not compared.
    """
    return all(_agree(kind(one), kind(other)) for kind in (stage_blocks, _stage_units))


def _agree(one: tuple[tuple[int, ...], int], other: tuple[tuple[int, ...], int]) -> bool:
    if not one[0] or not other[0]:
        return True
    return one[1] == other[1] and all(a == b for a, b in zip(one[0], other[0], strict=False))


def _stage_units(tensors: Mapping[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """Units of each stage of a stack of convolutions, and convolutions of a unit."""
    stages = stage_convs(tensors)
    return tuple(map(len, stages)), max((len(unit) for units in stages for unit in units), default=0)


def num_classes(tensors: Mapping[str, Tensor], home: Home | None) -> int | None:
    """Rows of the head, by the zoo's names."""
    found = next((tensors[name].shape[0] for name in _HEADS if name in tensors), classes_of(tensors))
    return found if home is None else home.arguments.get("num_classes") or found
