"""What a transfer does with the tensors of a head: another kind of layer, or other classes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ..errors import UsageError
from .class_map import ClassMap, class_rows, remap_rows
from .heads import convert_head

HEAD_MODES = ("drop", "keep", "convert")
HeadChoice = str | ClassMap

#: hidden layers of a head have no rows of classes
HIDDEN = "head_hidden."

#: a fully connected head, and the 1x1x1 convolution that computes it at every position
_TWINS = {"head_fc": "head_conv", "head_conv": "head_fc"}


def head_twin(name: str) -> str:
    """The name of the same tensor in a head of the other kind; the name itself for any other tensor.

    >>> head_twin("head_fc.weight"), head_twin("final_layer.1.bias")
    ('head_conv.weight', 'final_layer.1.bias')
    """
    layer, dot, rest = name.partition(".")
    return f"{_TWINS.get(layer, layer)}{dot}{rest}"


def adapt_head(
    tensor: Tensor,
    shape: tuple[int, ...],
    choice: HeadChoice,
    old_classes: Sequence[str] | None,
    new_classes: Sequence[str] | None,
) -> tuple[Tensor, str] | None:
    """A head's tensor for the target's shape, and what was done; None where nothing had to be.

    Raises:
        UsageError: the map of classes does not describe the target's classes.
    """
    hows = []
    if not isinstance(choice, str):
        rows = class_rows(choice, tensor.shape[0], old_classes, new_classes)
        if len(rows) != shape[0]:
            raise UsageError(f"head maps {len(rows)} classes, the target has {shape[0]}")
        fresh = "new (the mean of the old rows)" if tensor.ndim > 1 else "new (log prior)"
        tensor = remap_rows(tensor, rows)
        hows.append("rows " + ", ".join(f"{new} <- {fresh if old is None else old}" for new, old in enumerate(rows)))
    if tensor.ndim != len(shape):
        converted = convert_head(tensor, shape)
        if converted is not None:
            kernel = "x".join(map(str, max(tensor.shape, shape, key=len)[2:]))
            tensor = converted
            hows.append(f"fully connected <-> {kernel} convolution")
    return (tensor, "; ".join(hows)) if hows else None
