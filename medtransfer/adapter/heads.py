"""Heads: fully connected layers as convolutions and back, and copies of a layer with other rows.

All functions are pure: they give new layers with tensors of their own.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UsageError

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer = nn.Linear | Conv

_CONVS: tuple[type[Conv], ...] = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
#: what can be a head
LAYERS: tuple[type[Layer], ...] = (nn.Linear, *_CONVS)


def fc_to_conv(linear: nn.Linear, ndim: int = 3, kernel_size: int | Sequence[int] = 1) -> Conv:
    """A fully connected layer as a convolution that computes it at every position.

    With a kernel of 1 ``linear(x.mean(positions))`` equals ``conv(x).mean(positions)``, both being linear; with VGG's
    kernel of 7 ``linear(x.flatten(1))`` equals ``conv(x)`` for x of 7 voxels an axis.

    Args:
        linear: Weight (K, C * kernel voxels), features in the order (C, D, H, W) as ``flatten`` gives them.
        ndim: 1, 2 or 3.
        kernel_size: One number, or one an axis.

    Returns:
        A convolution with weight (K, C, kernel...) of the same bits, dtype, device and ``requires_grad``.

    Raises:
        UsageError: no fully connected layer, or its features do not fill the kernel.

    Source: Long et al., CVPR 2015, section 3.1 ("convolutionalized" classifiers).

    >>> fc_to_conv(nn.Linear(512, 7), ndim=2).weight.shape
    torch.Size([7, 512, 1, 1])
    """
    if not isinstance(linear, nn.Linear):
        raise UsageError(f"fc_to_conv needs an nn.Linear, got {type(linear).__name__}")
    if ndim not in (1, 2, 3):
        raise UsageError(f"ndim must be 1, 2 or 3, got {ndim!r}")
    kernel = (kernel_size,) * ndim if isinstance(kernel_size, int) else tuple(kernel_size)
    voxels = math.prod(kernel)
    if len(kernel) != ndim or min(kernel) < 1 or linear.in_features % voxels:
        raise UsageError(
            f"a kernel of {list(kernel)} in {ndim}-D does not divide the layer's {linear.in_features} features",
            hint="Pass the size of the feature maps that the layer was trained on as kernel_size",
        )
    weight = linear.weight.unflatten(1, (-1, *kernel))
    # on the meta device, since both tensors are replaced
    conv = _CONVS[ndim - 1](weight.shape[1], weight.shape[0], cast("Any", kernel), device="meta")
    return cast("Conv", _with_tensors(conv, linear, weight, linear.bias))


def conv_to_fc(conv: Conv) -> nn.Linear:
    """A convolution as a fully connected layer, the inverse of :func:`fc_to_conv`.

    Args:
        conv: Weight (K, C, kernel...), one group, stride 1, no padding, no dilation.

    Returns:
        A layer with weight (K, C * kernel voxels) of the same bits, dtype, device and ``requires_grad``.

    Raises:
        UsageError: a convolution of another kind, which no fully connected layer equals.

    >>> conv_to_fc(nn.Conv3d(8, 2, 1)).weight.shape
    torch.Size([2, 8])
    """
    if not isinstance(conv, _CONVS):
        raise UsageError(f"conv_to_fc needs an nn.Conv1d, Conv2d or Conv3d, got {type(conv).__name__}")
    if not _covers_once(conv):
        raise UsageError(
            "a fully connected layer equals a convolution of one group, stride 1, without padding and dilation, got "
            f"{conv}"
        )
    weight = conv.weight.flatten(1)
    linear = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
    return cast("nn.Linear", _with_tensors(linear, conv, weight, conv.bias))


def convert_head(tensor: Tensor, shape: Sequence[int]) -> Tensor | None:
    """A head's weight or bias in the shape of another kind of head: (K, C * kernel voxels) <-> (K, C, kernel...).

    Args:
        tensor: Weight of a fully connected layer or of a convolution, or a bias (K,).
        shape: The target's shape.

    Returns:
        The same values in that shape (a view where it can be); None where the one layer is not the other.

    >>> convert_head(torch.ones(2, 8), (2, 8, 1, 1, 1)).shape
    torch.Size([2, 8, 1, 1, 1])
    >>> convert_head(torch.ones(2, 8), (3, 8, 1, 1, 1)) is None
    True
    """
    old, new = tuple(tensor.shape), tuple(shape)
    if old == new:
        return tensor
    if len(old) < 2 or len(new) < 2 or old[0] != new[0] or tensor.numel() != math.prod(new):
        return None
    # two kernels of more than one voxel and other shapes look at other places
    flat = 2 in (len(old), len(new)) or max(*old[2:], *new[2:]) == 1
    return tensor.reshape(new) if flat else None


def head_tensors(layer: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a layer that can be a head.

    Raises:
        UsageError: neither a fully connected layer nor a convolution, or its weight is computed from other tensors.
    """
    if not isinstance(layer, LAYERS):
        raise UsageError(f"a head's layer is an nn.Linear, Conv1d, Conv2d or Conv3d, got {type(layer).__name__}")
    if "weight" not in dict(layer.named_parameters(recurse=False)):
        raise UsageError("the layer's weight is computed from other tensors, it has no rows of its own",
                         hint="Remove its weight norm or parametrization first")  # fmt: skip
    return layer.weight.detach(), None if layer.bias is None else layer.bias.detach()


def layer_like(layer: Layer, weight: Tensor, bias: Tensor | None, **sizes: int) -> Layer:
    """A copy of a layer (type, stride, hooks and all) with other tensors, and the attributes that name their sizes."""
    # the old tensors, which may be large, are not copied
    twin = copy.deepcopy(layer, {id(parameter): parameter for parameter in layer.parameters()})
    for name, size in sizes.items():
        setattr(twin, name, size)
    return _with_tensors(twin, layer, weight, bias)


def _with_tensors(new: Layer, old: Layer, weight: Tensor, bias: Tensor | None) -> Layer:
    tensors = {"weight": weight, "bias": bias}
    for name, tensor in tensors.items():
        trains = getattr(getattr(old, name), "requires_grad", False)
        copied = None if tensor is None else tensor.detach().clone(memory_format=torch.contiguous_format)
        new.register_parameter(name, None if copied is None else nn.Parameter(copied, requires_grad=trains))
    return new.train(old.training)


def _covers_once(conv: Conv) -> bool:
    one_voxel = max(conv.kernel_size) == 1
    unpadded = conv.padding == "valid" or (
        one_voxel if conv.padding == "same" else not any(cast("tuple[int, ...]", conv.padding))
    )
    return unpadded and conv.groups == 1 and max(conv.stride) == 1 and (one_voxel or max(conv.dilation) == 1)
