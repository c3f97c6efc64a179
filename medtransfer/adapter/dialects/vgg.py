"""VGG keys as this zoo writes them: ``stage{i}.{unit}.conv``, or ``encoder_{i}`` around the very modules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...model_zoo.vgg import VGG_STAGES, VGG_WIDTHS
from .base import Home, Written, fcn_arguments
from .conv_shape import conv_home, stage_convs
from .conv_unet import ConvUNetDialect

#: arguments of a stack of convolutions that the name of a VGG stands for
_IMPLIED = (
    *("channels", "kernel_sizes", "num_convs", "conv_bias", "norm_cfg", "decoder_convs"),
    *("head_type", "fcn_stride"),
)


class VGGDialect(ConvUNetDialect):
    """Five stages of as many 3x3x3 convolutions as a VGG has, with biases, without norms or with batch norms."""

    name = "vgg"
    title = "VGG or VGG-UNet of this zoo"

    def recognises(self, written: Written) -> bool:
        """By the widths and the number of the convolutions."""
        if not super().recognises(written):
            return False
        names = self.rename(written)
        return vgg_depth({names.get(key) or key: tensor for key, tensor in written.tensors.items()}) is not None

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The VGG of that depth, with its head, or the UNet around it."""
        return vgg_home(tensors)


def vgg_depth(tensors: Mapping[str, Tensor]) -> int | None:
    """11, 13, 16 or 19 by tensors under the zoo's names; None if they are not a VGG's."""
    stages = stage_convs(tensors)
    counts = tuple(len(units) for units in stages)
    depth = next((depth for depth, convs in VGG_STAGES.items() if convs == counts), None)
    if depth is None:
        return None
    kernels = [unit[0] for units in stages for unit in units]
    base = kernels[0].shape[0]
    widths = [base * factor for factor, count in zip(VGG_WIDTHS, counts, strict=True) for _ in range(count)]
    alike = [kernel.shape[0] for kernel in kernels] == widths and all(set(k.shape[2:]) == {3} for k in kernels)
    norms = {name.split(".")[2] for name in tensors if name.startswith("stage0.0.")} - {"conv"}
    plain = "stage0.0.conv.bias" in tensors and norms <= {"bn"} and len(tensors[_FIRST].shape) in (4, 5)
    batch = not norms or "stage0.0.bn.running_mean" in tensors
    return depth if alike and plain and batch else None


_FIRST = "stage0.0.conv.weight"


def vgg_home(tensors: Mapping[str, Tensor], note: str = "") -> Home | None:
    """The network of the zoo with these tensors (under the zoo's names); None if they are not a VGG's."""
    depth, stack = vgg_depth(tensors), conv_home(tensors)
    if depth is None or stack is None:
        return None
    base, ndim = tensors[_FIRST].shape[0], tensors[_FIRST].ndim - 2
    segments = stack.name == "plain_unet"
    found = {
        **{name: value for name, value in stack.arguments.items() if name not in _IMPLIED},
        **({} if base == 64 else {"base_channels": base}),
        **({"batch_norm": True} if "stage0.0.bn.weight" in tensors else {}),
        **(_decoder(tensors, stack.arguments) if segments else _head(tensors, base * VGG_WIDTHS[-1], ndim)),
    }
    return Home(f"{'vggunet' if segments else 'vgg'}{depth}", found, note)


def _decoder(tensors: Mapping[str, Tensor], stack: Mapping[str, Any]) -> dict[str, Any]:
    """A decoder of stacked convolutions is nnU-Net's default, and an option here."""
    if "decoder_0.conv.0.conv.weight" not in tensors:
        return {}
    return {"decoder_block": "convs", "decoder_convs": stack.get("decoder_convs", 2)}


def _head(tensors: Mapping[str, Tensor], channels: int, ndim: int) -> dict[str, Any]:
    hidden, last = tensors.get("head_hidden.fc1.weight"), tensors.get("head_fc.weight")
    volumes = fcn_arguments(tensors, stride=16 if hidden is None else 32)
    if last is None and not volumes:
        return {}  # without the last layer the network has no head at all
    flat = ndim == 2 and not volumes
    if hidden is None:
        return {"fc_channels": 0} if flat else volumes
    pool = list(hidden.shape[2:]) if volumes else _pooled_size(hidden[0].numel() // channels, ndim)
    sizes = {"fc_channels": hidden.shape[0], "head_pool": pool}
    usual = {"head_pool": [7] * ndim if volumes else 7, **({"fc_channels": 4096} if flat else {})}
    return {**volumes, **{name: size for name, size in sizes.items() if usual.get(name) != size}}


def _pooled_size(positions: int, ndim: int) -> int | list[int]:
    """Size to which the head pools: equal on all axes, or one voxel deep as in an inflated network."""
    side = round(positions ** (1 / ndim))
    return side if side**ndim == positions else [1, round(positions**0.5), round(positions**0.5)]
