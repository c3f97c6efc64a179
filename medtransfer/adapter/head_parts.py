"""A head's layer as several and several as one: parts that can be trained, kept or replaced alone.

All functions are pure: they give new layers with tensors of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError
from .heads import LAYERS, Conv, Layer, head_tensors, layer_like


class ChannelSlice(nn.Module):
    """The channels from ``start`` to ``stop``: what one part of a grouped convolution sees of the input."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start, self.stop = start, stop

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, stop - start, ...)."""
        return x[:, self.start : self.stop]

    def extra_repr(self) -> str:
        """The slice, for ``print``."""
        return f"{self.start}, {self.stop}"


def split_head(layer: Layer, sizes: Mapping[str, int], anchors: int = 1) -> nn.ModuleDict:
    """One layer as several, cut along its output rows, so that parts of it can be trained, kept or replaced alone.

    Weights and biases are the original's bit for bit. Outputs, concatenated along the channels (with anchors: viewed as
    (A, rows of the part) and concatenated along those), are the original's bit for bit where the backend sums a row in
    the same order whatever the number of rows: so do oneDNN's float32 convolutions on a CPU. Fully connected layers
    and float64 convolutions go through BLAS, which has another kernel for one row: there they agree to rounding.

    Args:
        layer: A fully connected layer or a convolution with K rows for each anchor.
        sizes: Name of each part -> its rows, in order, K in all.
        anchors: A; the layer's A * K rows are read as (A, K), anchor after anchor, and cut along K.

    Returns:
        Layers like the original. A part that sees a part of the groups of a grouped convolution is a ``Sequential`` of
        :class:`ChannelSlice` and the convolution: all parts take the whole input.

    Raises:
        UsageError: rows are left over or lacking, a name cannot be an attribute, or a cut goes through the groups.

    >>> heads = split_head(nn.Conv2d(32, 105, 3, padding=1), {"objectness": 1, "box": 4, "classes": 100})
    >>> heads["box"].weight.shape
    torch.Size([4, 32, 3, 3])
    """
    if not isinstance(sizes, Mapping) or not all(type(rows) is int for rows in sizes.values()):
        raise UsageError(f"the parts must be a dict of names and whole numbers of rows, got {sizes!r}")
    weight, bias = head_tensors(layer)
    rows_of = _row_numbers(weight.shape[0], sizes, anchors)
    parts = nn.ModuleDict()
    for name, rows in zip(sizes, rows_of, strict=True):
        _refuse_name(name, parts)
        index = rows.to(weight.device)
        parts[name] = _part(layer, name, rows, weight[index], None if bias is None else bias[index])
    return parts


def merge_heads(heads: nn.ModuleDict | Mapping[str, nn.Module], anchors: int = 1) -> Layer:
    """Several layers as one that computes them all, the inverse of :func:`split_head`, bit for bit.

    Args:
        heads: Layers in the order of their rows, as :func:`split_head` gives them; names do not matter.
        anchors: A; the rows come out as (A, K), K over all parts.

    Raises:
        UsageError: the layers differ in more than their rows, or their groups do not follow one another.

    >>> layer = nn.Linear(8, 6)
    >>> torch.equal(merge_heads(split_head(layer, {"box": 4, "classes": 2})).weight, layer.weight)
    True
    """
    if not isinstance(heads, nn.ModuleDict | Mapping):
        raise UsageError(f"merge_heads needs a dict of names and layers, got {type(heads).__name__}")
    if not len(heads):
        raise UsageError("merge_heads needs at least one layer, got none")
    slices, layers = zip(*(_sliced(name, head) for name, head in heads.items()), strict=True)
    _refuse_unlike(list(heads), layers)
    tensors = [head_tensors(layer) for layer in layers]
    weight = _interleave([weight for weight, _ in tensors], anchors)
    bias = None if tensors[0][1] is None else _interleave([cast("Tensor", bias) for _, bias in tensors], anchors)
    trains = any(parameter.requires_grad for layer in layers for parameter in layer.parameters())
    if isinstance(layers[0], nn.Linear):
        return layer_like(layers[0], weight, bias, out_features=weight.shape[0]).requires_grad_(trains)
    width = max(part.stop for part in slices)
    groups = width // weight.shape[1]
    owners = [_owners(part, layer) for part, layer in zip(slices, layers, strict=True)]
    _refuse_disorder(_interleave(owners, anchors), groups)
    sizes = {"in_channels": width, "out_channels": weight.shape[0], "groups": groups}
    return layer_like(layers[0], weight, bias, **sizes).requires_grad_(trains)


def _row_numbers(count: int, sizes: Mapping[str, int], anchors: int) -> list[Tensor]:
    """For each part the numbers of its rows, in order."""
    total = sum(sizes.values())
    if not sizes or min(sizes.values()) < 1 or anchors < 1 or anchors * total != count:
        each = f"{anchors} anchors x " if anchors != 1 else ""
        parts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise UsageError(f"the parts must have {each}as many rows as the layer's {count}, each at least one; got "
                         f"{each}{total} ({parts})")  # fmt: skip
    table = torch.arange(count, device="cpu").view(anchors, total)
    stops = accumulate(sizes.values())
    return [table[:, stop - size : stop].flatten() for size, stop in zip(sizes.values(), stops, strict=True)]


def _part(layer: Layer, name: str, rows: Tensor, weight: Tensor, bias: Tensor | None) -> nn.Module:
    if isinstance(layer, nn.Linear):
        return layer_like(layer, weight, bias, out_features=len(rows))
    owners, counts = torch.unique(rows // (layer.out_channels // layer.groups), return_counts=True)
    first, groups = int(owners[0]), len(owners)
    if int(owners[-1]) - first + 1 != groups or len(set(counts.tolist())) > 1:
        raise UsageError(
            f"part {name!r} cuts through the {layer.groups} groups of {layer.out_channels // layer.groups} rows each",
            hint="Cut at the groups' borders, so that a part has as many rows of each of its groups",
        )
    width = weight.shape[1]
    sizes = {"in_channels": groups * width, "out_channels": len(rows), "groups": groups}
    conv = layer_like(layer, weight, bias, **sizes)
    if groups == layer.groups:
        return conv
    return nn.Sequential(ChannelSlice(first * width, (first + groups) * width), conv)


def _refuse_name(name: str, parts: nn.ModuleDict) -> None:
    if not isinstance(name, str) or not name or "." in name or hasattr(parts, name):
        raise UsageError(f"a part's name becomes a key of the state dict and cannot be {name!r}",
                         hint="Choose another name, without dots")  # fmt: skip


def _sliced(name: str, head: nn.Module) -> tuple[slice, Layer]:
    """The channels that a part sees, and its layer."""
    if isinstance(head, nn.Sequential) and len(head) == 2 and isinstance(head[0], ChannelSlice):
        return slice(head[0].start, head[0].stop), cast("Layer", head[1])
    if not isinstance(head, LAYERS):
        raise UsageError(f"part {name!r} must be an nn.Linear, Conv1d, Conv2d or Conv3d, got {type(head).__name__}")
    return slice(0, head.in_features if isinstance(head, nn.Linear) else head.in_channels), head


def _refuse_unlike(names: Sequence[str], layers: Sequence[Layer]) -> None:
    kinds = [_kind(layer) for layer in layers]
    for name, kind in zip(names, kinds, strict=True):
        unlike = [key for key in kind if kind[key] != kinds[0].get(key)]
        if unlike:
            key = unlike[0]
            raise UsageError(f"parts must differ in their rows alone, but {key} is {kinds[0].get(key)} in "
                             f"{names[0]!r} and {kind[key]} in {name!r}")  # fmt: skip


def _kind(layer: Layer) -> dict[str, Any]:
    """All that parts of one layer have in common."""
    settings = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
    own = {name: getattr(layer, name) for name in settings if not isinstance(layer, nn.Linear)}
    weight, bias = head_tensors(layer)
    return {
        "type": type(layer).__name__,
        **own,
        "the weight of one row": list(weight.shape[1:]),
        "a bias": bias is not None,
        "dtype": weight.dtype,
        "device": weight.device,
    }


def _interleave(parts: Sequence[Tensor], anchors: int) -> Tensor:
    """(A * K1, ...), (A * K2, ...) ... -> (A * (K1 + K2 ...), ...), anchor after anchor."""
    odd = [len(part) for part in parts if anchors < 1 or len(part) % anchors]
    if odd:
        raise UsageError(f"each part's rows must be a multiple of the {anchors} anchors, got {odd[0]}")
    return torch.cat([part.unflatten(0, (anchors, -1)) for part in parts], dim=1).flatten(0, 1)


def _owners(channels: slice, conv: Conv) -> Tensor:
    """For each row of a part the number of the group that it reads, in the whole layer."""
    first = channels.start // (conv.in_channels // conv.groups)
    return first + torch.arange(conv.out_channels, device="cpu") // (conv.out_channels // conv.groups)


def _refuse_disorder(owners: Tensor, groups: int) -> None:
    if len(owners) % groups or not torch.equal(
        owners, torch.arange(len(owners), device="cpu") // (len(owners) // groups)
    ):
        raise UsageError(
            f"rows of one grouped convolution follow its {groups} groups, these read the groups {owners.tolist()}",
            hint="Give all parts of the layer, in its order and with its anchors",
        )
