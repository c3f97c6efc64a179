"""What ResNet or ResUNet a set of weights belongs to, read off its tensors under the zoo's names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ...model_zoo.resnet import STAGES
from .base import Home, fcn_arguments, one_or_each

_UNIT = re.compile(r"layer(\d)\.(\d+)\.conv(\d)\.weight")
_DEFAULTS = {
    "stem_channels": 64, "base_channels": 64, "deep_stem": False, "pool": "max", "strides": [1, 2, 2, 2],
    "stem_kernel": 7,
}  # fmt: skip
#: a part of the encoder, and such a part under a name of the zoo: not attention, nor a bias before a norm
_PART = re.compile(r"(stem|conv1|bn1|in1|gn1|maxpool|layer\d)\.")
_CONV = r"((stem\.\d|maxpool)\.conv|conv1|layer\d\.\d+\.(conv\d|act)|(stem\.\d|maxpool)\.activate|act)\.weight"
_NORM = r"((stem\.\d|maxpool)\.(bn|in|gn)|(bn|in|gn)1|layer\d\.\d+\.((bn|in|gn)\d|downsample\.\d))"
_KNOWN = re.compile(rf"{_CONV}|{_NORM}\.(weight|bias|running_mean|running_var|num_batches_tracked)")


def stage_blocks(tensors: Mapping[str, Tensor]) -> tuple[tuple[int, ...], int]:
    """Blocks of each stage, and convolutions of a block: ((2, 2, 2, 2), 2) for a ResNet-18."""
    last: dict[int, int] = {}
    convs = 0
    for found in filter(None, map(_UNIT.fullmatch, tensors)):
        stage, block, conv = map(int, found.groups())
        last[stage] = max(last.get(stage, 0), block + 1)
        convs = max(convs, conv)
    return tuple(last[stage] for stage in sorted(last)), convs


def resnet_home(tensors: Mapping[str, Tensor], note: str = "", **more: Any) -> Home | None:
    """The network of the zoo with these tensors; None if it has no such depth, parts or widths.

    What tensors do not hold (dilations, the stride of a stem, the stride of a stage without a decoder) is the zoo's
    default, unless ``more`` says otherwise.
    """
    depth = _depth(tensors)
    stem = tensors.get("stem.0.conv.weight", tensors.get("conv1.weight"))
    if depth is None or stem is None or not _is_of_the_zoo(tensors, stem):
        return None
    ndim = stem.ndim - 2
    segments = any(name.startswith("decoder_") for name in tensors)
    volumes = fcn_arguments(tensors, stride=2 << len(stage_blocks(tensors)[0]))
    head = tensors.get("final_layer.1.weight" if segments else "head_conv.weight" if volumes else "head_fc.weight")
    found = {
        **_encoder(tensors, stem),
        **({} if ndim == 3 else {"conv_cfg": {"type": f"Conv{ndim}d"}}),
        **(_decoder(tensors) if segments else {}),
        **volumes,
        **more,
    }
    arguments = {name: value for name, value in found.items() if _DEFAULTS.get(name) != value}
    sizes = {"in_channels": stem.shape[1], "num_classes": None if head is None else head.shape[0]}
    return Home(f"{'resunet' if segments else 'resnet'}{depth}", {**sizes, **arguments}, note)


def _depth(tensors: Mapping[str, Tensor]) -> int | None:
    blocks, convs = stage_blocks(tensors)
    kind = "bottleneck" if convs == 3 else "basic"
    matching = (
        depth
        for depth, (block, stages) in STAGES.items()
        if block == kind and blocks and blocks == stages[: len(blocks)]
    )
    return next(matching, None)


def _is_of_the_zoo(tensors: Mapping[str, Tensor], stem: Tensor) -> bool:
    """Whether the encoder is a plain ResNet: no attention, no groups, usual kernels, widths that double."""
    if not all(_KNOWN.fullmatch(name) for name in tensors if _PART.match(name)):
        return False
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    return _is_stem(shapes, stem) and _are_blocks(shapes, stem.ndim - 2, *stage_blocks(tensors))


def _are_blocks(shapes: Mapping[str, tuple[int, ...]], ndim: int, blocks: tuple[int, ...], convs: int) -> bool:
    for name, shape in shapes.items():
        unit = _UNIT.fullmatch(name)
        # a bottleneck's first and last convolution only mix channels
        if unit and shape[2:] != (3 if convs == 2 or unit[3] == "2" else 1,) * ndim:
            return False
    firsts = [shapes.get(f"layer{i + 1}.0.conv1.weight", (0,))[0] for i in range(len(blocks))]
    seconds = [shapes.get(f"layer{i + 1}.0.conv2.weight", (0, 0))[1] for i in range(len(blocks))]
    return firsts[0] > 0 and firsts == seconds == [firsts[0] * 2**i for i in range(len(blocks))]


def _is_stem(shapes: Mapping[str, tuple[int, ...]], stem: Tensor) -> bool:
    if "stem.0.conv.weight" not in shapes:
        return all(size % 2 for size in stem.shape[2:])
    half = stem.shape[0]
    last = shapes.get("stem.2.conv.weight", (0, 0))
    return stem.shape[2:] == (3,) * (stem.ndim - 2) and (last[0] // 2, last[1]) == (half, half)


def _encoder(tensors: Mapping[str, Tensor], stem: Tensor) -> dict[str, Any]:
    deep = "stem.0.conv.weight" in tensors
    blocks, _ = stage_blocks(tensors)
    norm = next((kind for kind in ("bn", "in", "gn") if f"layer1.0.{kind}1.weight" in tensors), "bn")
    first_units = tensors["layer1.0.conv1.weight"]
    return {
        **_shortcuts(tensors, blocks, first_units),
        **({} if deep else {"stem_kernel": one_or_each(stem.shape[2:])}),
        "deep_stem": deep,
        "pool": "conv" if "maxpool.conv.weight" in tensors else "max",
        "stem_channels": tensors["stem.2.conv.weight"].shape[0] if deep else stem.shape[0],
        "base_channels": first_units.shape[0],
        **({} if len(blocks) == 4 else {"num_stages": len(blocks)}),
        **({} if norm == "bn" else {"norm_cfg": {"type": norm.upper()}}),
    }


def _shortcuts(tensors: Mapping[str, Tensor], blocks: tuple[int, ...], first: Tensor) -> dict[str, Any]:
    """The kind of the shortcuts (A has no tensors, ResNet-D's pool before the convolution), the blocks' expansion."""
    wide = tensors.get("layer1.0.conv3.weight")
    expansion = 4 if wide is None else wide.shape[0] // first.shape[0]
    pooled = tensors.get("layer2.0.downsample.1.weight")
    changes = len(blocks) > 1 or (wide is not None and first.shape[1] != wide.shape[0])
    has_none = not any(re.match(r"layer\d\.0\.downsample\.", name) for name in tensors)
    return {
        **({"expansion": expansion} if expansion != 4 else {}),
        **({"avg_down": True} if pooled is not None and pooled.ndim > 1 else {}),
        **({"shortcut": "A"} if changes and has_none else {}),
    }


def _decoder(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The decoder's kind; a transposed convolution's kernel is the stride of the encoder stage below it."""
    skip = tensors.get("input_skip.conv.weight")
    found: dict[str, Any] = {
        **({} if "decoder_0.up.weight" in tensors else {"upsample_type": "interp"}),
        **({} if "decoder_0.conv.conv3.weight" in tensors else {"decoder_block": "basic"}),
        **({"aux_train": True} if "aux_layers.0.1.weight" in tensors else {}),
        **({} if skip is None else {"full_resolution_skip": skip.shape[0]}),
    }
    kernels = [tensors[key].shape[2:] for i in range(4) if (key := f"decoder_{i}.up.weight") in tensors]
    if not kernels:
        return found
    if max(kernels[0]) == 1 and "maxpool.conv.weight" not in tensors:
        found["pool"] = "none"
    strides = [one_or_each(kernel) for kernel in kernels[1:]]
    return {**found, "strides": [1, *strides]}
