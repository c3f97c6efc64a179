"""nnU-Net v2 (Isensee et al., Nature Methods 2021): PlainConvUNet and ResidualEncoderUNet, whatever trained them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ...errors import TransferError
from .base import Dialect, Home, Written, rename_rules, renamed_by
from .conv_shape import conv_home
from .nnunet_plans import (
    Plans,
    channel_names,
    class_names,
    first_stride,
    geometry,
    intensity,
    layer_arguments,
    mirror_axes,
    read_plans,
)

_UNIT = r"(?:stages\.\d+\.(?:0\.convs\.\d+\.conv|blocks\.\d+\.conv1\.conv)|decoder\.transpconvs\.\d+)\.weight"
#: where the same tensors stand again: in the decoder's reference to the encoder, in a wrapper's to both
_AGAIN = re.compile(r"(?:architecture\.)?(?:decoder\.encoder\.|encoder\.)?")
_ALL_MODULES = re.compile(r"\.all_modules\.(\d+)\.")
_RULES = rename_rules(
    (r"stem\.convs\.(\d+)\.conv\.", r"stem.\1.conv."),
    (r"stem\.convs\.(\d+)\.norm\.", r"stem.\1.{norm}."),
    (r"stages\.(\d+)\.0\.convs\.(\d+)\.conv\.", r"stage\1.\2.conv."),
    (r"stages\.(\d+)\.0\.convs\.(\d+)\.norm\.", r"stage\1.\2.{norm}."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.conv(\d)\.conv\.", r"stage\1.\2.conv\3."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.conv(\d)\.norm\.", r"stage\1.\2.{norm}\3."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.skip\.(\d)\.conv\.", r"stage\1.\2.downsample.\3."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.skip\.0\.norm\.", r"stage\1.\2.downsample.1."),
    (r"stages\.(\d+)\.blocks\.(\d+)\.skip\.1\.norm\.", r"stage\1.\2.downsample.2."),
    (r"decoder\.transpconvs\.(\d+)\.", r"decoder_{level \1}.up."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.conv\.", r"decoder_{level \1}.conv.\2.conv."),
    (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.norm\.", r"decoder_{level \1}.conv.\2.{norm}."),
    (r"decoder\.seg_layers\.(\d+)\.", r"{head \1}"),
)


class NNUNetDialect(Dialect):
    """``{"network_weights": {"encoder.stages.0.0.convs.0.conv.weight": ...}, "init_args": {"plans": ...}, ...}``.

    Every tensor stands in the file under up to four names; all but the first are never read, and a file in which they
    differ is refused, since nobody can tell which was meant. Source: dynamic_network_architectures 0.4.4,
    ``architectures/unet.py``; github.com/MIC-DKFZ/nnUNet, ``plans_handler.py``.
    """

    name = "nnunet"
    title = "nnU-Net v2, plain or residual encoder"

    def recognises(self, written: Written) -> bool:
        """By the first convolution of a stage, under any of its names."""
        return written.has(_AGAIN.pattern + _UNIT)

    def rename(self, written: Written) -> Mapping[str, str | None]:
        """The zoo's names, None for second names.

        Raises:
            TransferError: a tensor under its second name is not the one under its first.
        """
        firsts = _first_names(written)
        levels = sum(bool(re.fullmatch(r"decoder\.transpconvs\.\d+\.weight", name)) for name in firsts)
        norm = "bn" if written.has(r".*\.norm\.running_mean$") else "in"
        names: dict[str, str | None] = {}
        for first, keys in firsts.items():
            _refuse_differing(written, keys)
            names |= dict.fromkeys(keys[1:]) | {keys[0]: _zoo_name(first, norm, levels)}
        return names

    def home(self, tensors: Mapping[str, Tensor], written: Written) -> Home | None:
        """The U-Net of the tensors' shapes, with what the plans say of layers that leave no tensors."""
        plans = self._plans(written)
        found = conv_home(tensors)
        if found is None or not _has_norms(tensors) or plans.architecture.get("nonlin_first"):
            return None
        ndim = next(tensor.ndim for name, tensor in tensors.items() if name.endswith("conv.weight")) - 2
        known, notes = layer_arguments(plans.architecture)
        first = first_stride(plans.architecture, ndim)
        strides = found.arguments.get("strides")
        if first != 1:
            known["strides"] = [first, *(strides or [1, *[2] * (_num_stages(tensors) - 1)])[1:]]
        if not plans.architecture:
            notes.append("there are no plans: LeakyReLU and a first stage of stride 1 are taken for granted")
        notes += self._data_notes(found, plans)
        return Home(found.name, {**found.arguments, **known}, "; ".join(filter(None, notes)))

    def card(self, written: Written) -> dict[str, Any]:
        """Channels, classes, patch, and spacing and intensities as far as a card can say them; a note says the rest."""
        plans = self._plans(written)
        in_channels, classes = _sizes(written)
        scheme, _ = intensity(plans)
        named, _ = class_names(plans.dataset, classes)
        stated = {
            "input_channels": channel_names(plans.dataset, in_channels),
            "classes": named,
            "intensity": scheme,
            "mirror_axes": mirror_axes(written.metadata),
            **geometry(plans)[0],
        }
        return {name: value for name, value in stated.items() if value is not None}

    def _plans(self, written: Written) -> Plans:
        return read_plans(written.metadata)

    def _data_notes(self, home: Home, plans: Plans) -> Iterator[str]:
        if not plans.configuration:
            return
        yield class_names(plans.dataset, home.arguments.get("num_classes"))[1]
        yield intensity(plans)[1]
        yield geometry(plans)[1]
        if "previous_stage" in plans.configuration:
            yield "it is the second of a cascade: further input channels are the classes that the first one found"


def _first_names(written: Written) -> dict[str, list[str]]:
    """First name -> the file's keys of this tensor, that of the first name before all others."""
    found: dict[str, list[str]] = {}
    for key in written.tensors:
        found.setdefault(_first_name(key), []).append(key)
    return {first: sorted(keys, key=lambda key: key != first) for first, keys in found.items()}


def _first_name(key: str) -> str:
    """Without the decoder's reference to the encoder; and of a unit's list of modules the convolution, or the norm."""
    key = _AGAIN.sub("", key, count=1)
    return _ALL_MODULES.sub(lambda found: ".conv." if found[1] == "0" else ".norm.", key)


def _refuse_differing(written: Written, keys: list[str]) -> None:
    first = written.tensors[keys[0]]
    for key in keys[1:]:
        other = written.tensors[key]
        shared = other.data_ptr() == first.data_ptr() and other.shape == first.shape
        if not shared and (other.shape != first.shape or not torch.equal(other, first)):
            own = written.own_keys.get
            raise TransferError(
                f"{own(key, key)!r} is another name of {own(keys[0], keys[0])!r} in nnU-Net, and holds other values: "
                "nobody can tell which were meant",
                hint="Change a tensor under all of its names, or leave the further names away",
            )


def _zoo_name(first: str, norm: str, levels: int) -> str:
    name = renamed_by(_RULES, first)
    name = re.sub(r"\{level (\d+)\}", lambda found: str(levels - 1 - int(found[1])), name)
    # the deepest comes first; that of the highest resolution is the network's output
    heads = {levels - 1: "final_layer.1."}
    name = re.sub(r"\{head (\d+)\}", lambda found: heads.get(int(found[1]), f"aux_layers.{found[1]}.1."), name)
    return name.replace("{norm}", norm)


def _has_norms(tensors: Mapping[str, Tensor]) -> bool:
    return any(re.match(r"(stem|stage0)\.0\.(in|bn)1?\.weight", name) for name in tensors)


def _num_stages(tensors: Mapping[str, Tensor]) -> int:
    return 1 + max(int(found[1]) for name in tensors if (found := re.match(r"stage(\d+)\.", name)))


def _sizes(written: Written) -> tuple[int | None, int | None]:
    """Input channels and classes, by the file's keys under their first names."""
    firsts = {_first_name(key): tensor for key, tensor in written.tensors.items()}
    convs = (firsts.get(name) for name in ("stem.convs.0.conv.weight", "stages.0.0.convs.0.conv.weight"))
    first = next((conv for conv in convs if conv is not None), None)
    heads = [tensor for name, tensor in firsts.items() if re.fullmatch(r"decoder\.seg_layers\.\d+\.weight", name)]
    return None if first is None else first.shape[1], heads[-1].shape[0] if heads else None
