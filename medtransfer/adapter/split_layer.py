"""A layer inside a network as several that can be trained apart, and as one again."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .head_parts import merge_heads, split_head
from .heads import Layer


class SplitLayer(nn.Module):
    """Parts of one layer that compute together what it computed.

    Args:
        parts: Layers, as :func:`split_head` gives them.
        anchors: A; the rows are viewed as (A, rows of the part), and joined along those.

    Attributes:
        out_features, out_channels: Rows of all parts, under the name that the layer has them.

    >>> from medtransfer import split_head
    >>> layer = nn.Conv3d(8, 105, 3, padding=1)
    >>> joined = SplitLayer(split_head(layer, {"objectness": 1, "box": 4, "classes": 100}))
    >>> joined(torch.rand(2, 8, 4, 4, 4)).shape, joined.out_channels
    (torch.Size([2, 105, 4, 4, 4]), 105)
    """

    def __init__(self, parts: nn.ModuleDict, anchors: int = 1) -> None:
        super().__init__()
        self.parts, self.anchors = parts, anchors
        whole = merge_heads(parts, anchors)
        setattr(self, "out_features" if isinstance(whole, nn.Linear) else "out_channels", len(whole.weight))
        self._axes = whole.weight.ndim - 1

    def forward(self, x: Tensor) -> Tensor:
        """What the layer gave for ``x``."""
        # counted from the end: a convolution takes inputs with and without a batch
        rows = -self._axes
        outputs = [part(x).unflatten(rows, (self.anchors, -1)) for part in self.parts.values()]
        return torch.cat(outputs, dim=rows).flatten(rows - 1, rows)


def split_layer(model: nn.Module, name: str, sizes: Mapping[str, int], anchors: int = 1) -> SplitLayer:
    """Cut a layer of a network along its output rows; the network computes the same, and its parts train apart.

    ``freeze(model)`` and ``unfreeze(model, "NAME.parts.classes")`` then train one part alone. Weights are the layer's
    bit for bit, and so are a convolution's outputs; see :func:`split_head` for where they agree to rounding.

    Args:
        model: The network, which is changed.
        name: The layer's name in it, for example ``"roi_heads.box_predictor.cls_score"``.
        sizes: Name of each part -> its rows.
        anchors: A; the rows are read as (A, K) and cut along K, such as those of a RetinaNet's ``cls_logits``.

    Returns:
        What stands in the layer's place.

    Raises:
        UsageError: the network has no such layer, or it cannot be cut so.

    >>> net = nn.Sequential(nn.Conv3d(2, 6, 1))
    >>> split_layer(net, "0", {"box": 4, "classes": 2}).parts["classes"].weight.shape
    torch.Size([2, 2, 1, 1, 1])
    >>> type(merge_layer(net, "0")).__name__
    'Conv3d'
    """
    layer = _layer(model, name)
    split = SplitLayer(split_head(layer, sizes, anchors), anchors)  # type: ignore[arg-type]
    _replace(model, name, split)
    return split


def merge_layer(model: nn.Module, name: str) -> Layer:
    """Join a layer that :func:`split_layer` cut, bit for bit: a model folder holds whole layers alone.

    Args:
        model: The network, which is changed.
        name: The layer's name in it.

    Returns:
        The layer.

    Raises:
        UsageError: there is no such layer, or it is not split.

    >>> net = nn.Sequential(nn.Linear(2, 6))
    >>> weight = net[0].weight
    >>> _ = split_layer(net, "0", {"box": 4, "classes": 2})
    >>> torch.equal(merge_layer(net, "0").weight, weight)
    True
    """
    split = _layer(model, name)
    if not isinstance(split, SplitLayer):
        raise UsageError(f"{name!r} is not split, it is a {type(split).__name__}")
    whole = merge_heads(split.parts, split.anchors)
    _replace(model, name, whole)
    return whole


def _layer(model: nn.Module, name: str) -> nn.Module:
    try:
        return model.get_submodule(name)
    except AttributeError:
        raise UsageError(f"this {type(model).__name__} has no layer {name!r}",
                         hint="Give its full name, as named_modules() has it") from None  # fmt: skip


def _replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, layer)
