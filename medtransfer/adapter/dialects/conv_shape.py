"""What encoder or U-Net of stacked convolutions a set of weights belongs to, read off its tensors."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from ...model_zoo.conv_encoder import RESIDUAL_BLOCKS, WIDTHS
from .base import Home, fcn_arguments, one_or_each

_UNIT = re.compile(r"stage(\d+)\.(\d+)\.conv(\d?)\.weight")
_NORMS = {"bn": "BN", "in": "IN", "gn": "GN"}


def conv_home(tensors: Mapping[str, Tensor], note: str = "", **known: Any) -> Home | None:
    """The encoder or U-Net of the zoo with these tensors (under the zoo's names); None if there is none.

    What tensors do not hold (activation, the stride of the first stage, pooling, all strides of an encoder without a
    decoder) is nnU-Net's choice, unless ``known`` says otherwise. A decoder that does not stand on skip connections is
    left away.
    """
    stages = stage_convs(tensors)
    if not stages or any(not units for units in stages):
        return None
    channels = [units[-1][-1].shape[0] for units in stages]
    segments = _has_skips(tensors, channels)
    residual = "stage0.0.conv1.weight" in tensors
    first = tensors.get("stem.0.conv.weight", stages[0][0][0])
    volumes = {} if segments else fcn_arguments(tensors, stride=1 << len(channels) - 1)
    found = {
        "channels": channels,
        "kernel_sizes": _alike([one_or_each(max((c.shape[2:] for c in units[0]), key=sum)) for units in stages]),
        **({} if first.ndim == 5 else {"conv_cfg": {"type": f"Conv{first.ndim - 2}d"}}),
        **(_residual(stages, tensors) if residual else _stacked(stages)),
        **_layers(tensors, residual),
        **(_decoder(tensors, channels, residual) if segments else volumes),
        **known,
    }
    head = tensors.get("final_layer.1.weight" if segments else "head_conv.weight" if volumes else "head_fc.weight")
    sizes = {"in_channels": first.shape[1], "num_classes": None if head is None else head.shape[0]}
    name = f"{'resenc' if residual else 'plain'}_{'unet' if segments else 'encoder'}"
    usual = _usual(len(channels), residual)
    return Home(name, {**sizes, **{key: value for key, value in found.items() if usual.get(key) != value}}, note)


def stage_convs(tensors: Mapping[str, Tensor]) -> list[list[list[Tensor]]]:
    """Convolutions by stage and unit (of a residual block all, else one), in order; an empty stage where one lacks."""
    found: dict[int, dict[int, dict[int, Tensor]]] = {}
    for name, tensor in tensors.items():
        if match := _UNIT.fullmatch(name):
            stage, unit, number = (int(part or 0) for part in match.groups())
            found.setdefault(stage, {}).setdefault(unit, {})[number] = tensor
    stages = (found.get(stage, {}) for stage in range(max(found, default=-1) + 1))
    return [[[convs[n] for n in sorted(convs)] for _, convs in sorted(units.items())] for units in stages]


def _usual(count: int, residual: bool) -> dict[str, Any]:
    """The zoo's defaults for as many stages."""
    blocks = [*RESIDUAL_BLOCKS, *RESIDUAL_BLOCKS[-1:] * count][:count]
    usual = {"channels": list(WIDTHS), "kernel_sizes": 3, "strides": [1, *[2] * (count - 1)], "conv_bias": True}
    return {
        **usual,
        **({"num_blocks": blocks, "decoder_convs": 1} if residual else {"num_convs": 2, "decoder_convs": 2}),
    }


def _stacked(stages: Sequence[Sequence[Sequence[Tensor]]]) -> dict[str, Any]:
    inner = [units[0][0].shape[0] for units in stages]
    outer = [units[-1][0].shape[0] for units in stages]
    return {
        "num_convs": _alike([len(units) for units in stages]),
        **({} if inner == outer else {"inner_channels": inner}),
    }


def _residual(stages: Sequence[Sequence[Sequence[Tensor]]], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    found: dict[str, Any] = {"num_blocks": _alike([len(units) for units in stages])}
    first = stages[0][0]
    if len(first) == 3:
        expansion = first[-1].shape[0] // first[0].shape[0]
        found |= {"block": "bottleneck", **({} if expansion == 4 else {"expansion": expansion})}
    stem = tensors.get("stem.0.conv.weight")
    if stem is not None and stem.shape[0] != first[-1].shape[0]:
        found["stem_channels"] = stem.shape[0]
    return found


def _layers(tensors: Mapping[str, Tensor], residual: bool) -> dict[str, Any]:
    unit = "1" if residual else ""
    kind = next((kind for kind in _NORMS if f"stage0.0.{kind}{unit}.weight" in tensors), "in")
    norm: dict[str, Any] = {"type": _NORMS[kind]}
    if kind == "bn" and f"stage0.0.bn{unit}.running_mean" not in tensors:
        norm["track_running_stats"] = False
    usual = kind == "in"
    return {
        **({} if usual else {"norm_cfg": norm}),
        "conv_bias": f"stage0.0.conv{unit}.bias" in tensors,
    }


def _decoder(tensors: Mapping[str, Tensor], channels: Sequence[int], residual: bool) -> dict[str, Any]:
    """The decoder's kind; a transposed convolution's kernel is the stride of the encoder stage below it."""
    levels = range(len(channels) - 1)
    counts = Counter(
        int(m[1]) for m in (re.fullmatch(r"decoder_(\d+)\.conv\.\d+\.conv\.weight", n) for n in tensors) if m
    )
    ups = [tensors.get(f"decoder_{level}.up.weight") for level in levels]
    kernels = [one_or_each(up.shape[2:]) for up in ups if up is not None]
    below = all(up is not None and up.shape[1] == channels[i + 1] for i, up in enumerate(ups))
    skips = all(up is not None and up.shape[1] == channels[i] for i, up in enumerate(ups))
    skip = tensors.get("input_skip.conv.weight")
    return {
        **({"decoder_convs": _alike([counts[level] for level in levels])} if counts else _blocks(tensors)),
        **({"strides": [1, *kernels]} if len(kernels) == len(ups) else {"upsample_type": "interp"}),
        **({"up_channels": "below"} if below and not skips else {}),
        **({"aux_train": True} if "aux_layers.0.1.weight" in tensors else {}),
        **({} if skip is None else {"full_resolution_skip": skip.shape[0]}),
    }


def _blocks(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    return {"decoder_block": "bottleneck" if "decoder_0.conv.conv3.weight" in tensors else "basic"}


def _has_skips(tensors: Mapping[str, Tensor], channels: Sequence[int]) -> bool:
    """Whether there is a decoder, and all its levels join what comes from below with the encoder's maps."""
    for level, width in enumerate(channels[:-1]):
        up = tensors.get(f"decoder_{level}.up.weight", tensors.get(f"decoder_{level}.up.1.weight"))
        first = (f"decoder_{level}.conv.{unit}.weight" for unit in ("0.conv", "conv1"))
        joined = next((tensors[name] for name in first if name in tensors), None)
        if up is None or joined is None or joined.shape[1] <= width:
            return False
    return len(channels) > 1


def _alike(values: list[Any]) -> Any:
    """One value for a list of equal numbers."""
    return values[0] if isinstance(values[0], int) and all(value == values[0] for value in values) else values
