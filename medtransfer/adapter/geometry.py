"""What a network computes beyond its tensors (strides, dilations, pooling ...), and where two networks differ in it."""

from __future__ import annotations

import inspect
import re
from typing import Any

from torch import nn

from ..model_zoo.conv_encoder import INSTANCE_NORM, LEAKY_RELU, WIDTHS
from ..model_zoo.names import DETECTORS, MODEL_NAMES
from ..model_zoo.resnet import GEOMETRIES, MEDICALNET_SHORTCUT_A, ResNet
from .dialects.base import Home

#: arguments of a ResNet, or of the encoder of a ResUNet, that change its maps and not (only) its tensors
UNSEEN_ARGUMENTS = (
    "deep_stem", "first_stride", "pool", "pool_stride", "strides", "dilations", "shortcut", "style", "avg_down",
    "norm_cfg", "act_cfg",
)  # fmt: skip
#: families of networks around an encoder
_AROUND = re.compile(rf"^({'|'.join(('multitask', *DETECTORS))})_")
_SET_BY_GEOMETRY = ("strides", "dilations", "shortcut")
_DEFAULTS = {name: value.default for name, value in inspect.signature(ResNet).parameters.items()} | {"first_stride": 2}


def geometry_notes(home: Home | None, target: nn.Module) -> list[str]:
    """What the tensors cannot tell, for the report: that the target computes something else, and how to build it.

    Args:
        home: The source's network, as far as it is known.
        target: The network that takes the weights.
    """
    if home is None:
        return []
    record = getattr(target, "architecture", None)
    if record is None:
        return [home.note] if home.note else []
    wanted = geometry_differences(home, Home(record["name"], record["arguments"]))
    if not wanted:
        return []
    why = f" ({home.note})" if home.note else ""
    return [
        "the target computes something else from these weights than their own network: that has "
        f"{', '.join(wanted)}{why}"
    ]


def geometry_differences(source: Home, target: Home) -> list[str]:
    """What must be given to build the target as the source was: ``name=value`` for what changes the maps, in words.

    Args:
        source: The source's network. Unless it is complete, the arguments that it does not name may be anything.
        target: The target's, as it was built: an argument that it does not name has the zoo's default.

    Returns:
        Nothing for networks of the same geometry, or of a family that has no such arguments.

    >>> medicalnet = Home("resnet18", {"in_channels": 1, "geometry": "medicalnet"})
    >>> geometry_differences(medicalnet, Home("resunet18", {"num_classes": 3}))
    ["geometry='medicalnet'"]
    >>> geometry_differences(medicalnet, Home("resunet18", {"geometry": "medicalnet"}))
    []
    """
    if _is_conv(source) and _is_conv(target):
        one, other = _conv_in_full(source), _conv_in_full(target)
        return [f"{name}={value!r}" for name, value in one.items() if not _alike(value, other[name])]
    if _is_vgg(source) and _is_vgg(target):
        one, other = _vgg_in_full(source), _vgg_in_full(target)
        known = [name for name in one if name != "strides" or source.complete or name in source.arguments]
        return [f"{name}={one[name]!r}" for name in known if not _alike(one[name], other[name])]
    if not (_is_resnet(source) and _is_resnet(target)):
        return []
    theirs, ours = _in_full(source), _in_full(target)
    preset = source.arguments.get("geometry")
    named = (
        UNSEEN_ARGUMENTS if source.complete else tuple(name for name in UNSEEN_ARGUMENTS if name in source.arguments)
    )
    differing = [
        name for name in (*named, *(_SET_BY_GEOMETRY if preset else ())) if not _alike(theirs[name], ours[name])
    ]
    words = [
        f"{name}={theirs[name]!r}" for name in dict.fromkeys(differing) if not (preset and name in _SET_BY_GEOMETRY)
    ]
    return words + ([f"geometry={preset!r}"] if preset and set(differing) & set(_SET_BY_GEOMETRY) else [])


def _family(home: Home) -> str:
    """The kind of the encoder, or of the UNet around it; nothing for a network that is none of the zoo."""
    return _AROUND.sub("", MODEL_NAMES[home.name][0]) if home.name in MODEL_NAMES else ""


def _is_resnet(home: Home) -> bool:
    return _family(home) in ("resnet", "resunet")


def _is_conv(home: Home) -> bool:
    return _family(home).startswith(("plain_", "resenc_"))


def _conv_in_full(home: Home) -> dict[str, Any]:
    """What no tensor of a stack of convolutions tells; a home names all that is not nnU-Net's choice."""
    full = MODEL_NAMES[home.name][1] | {name: value for name, value in home.arguments.items() if value is not None}
    count = len(full.get("channels", WIDTHS))
    return {
        "strides": full.get("strides", [1, *[2] * (count - 1)]),
        "pool": full.get("pool", "conv"),
        "norm_cfg": _layer(full.get("norm_cfg", INSTANCE_NORM), "IN"),
        "act_cfg": _layer(full.get("act_cfg", LEAKY_RELU), "LeakyReLU"),
    }


def _is_vgg(home: Home) -> bool:
    return _family(home) in ("vgg", "vggunet")


def _vgg_in_full(home: Home) -> dict[str, Any]:
    """What tells a VGG's maps apart; norms are seen in the tensors, and only missed where the target has none."""
    given = {name: value for name, value in home.arguments.items() if value is not None}
    return {
        "batch_norm": given.get("batch_norm", "norm_cfg" in given),
        "strides": given.get("strides", [1, 2, 2, 2, 2]),
        "act_cfg": _layer(given.get("act_cfg"), "ReLU"),
    }


def _in_full(home: Home) -> dict[str, Any]:
    """All arguments, the defaults and what a named geometry sets included."""
    full = _DEFAULTS | {name: value for name, value in home.arguments.items() if value is not None}
    if full["geometry"] is not None:
        depth = MODEL_NAMES[home.name][1]["depth"]
        full |= GEOMETRIES[full["geometry"]] | {"shortcut": "A" if depth in MEDICALNET_SHORTCUT_A else "B"}
    # what does nothing differs in nothing
    full |= {"pool_stride": 1} if full["pool"] == "none" else {}
    return full | {"norm_cfg": _layer(full["norm_cfg"], "BN"), "act_cfg": _layer(full["act_cfg"], "ReLU")}


def _layer(config: dict[str, Any] | None, usual: str) -> dict[str, Any]:
    """A layer's config without what changes no map: the dimension in its type, and how it trains."""
    config = config or {"type": usual}
    kept = {name: value for name, value in config.items() if name not in ("requires_grad", "momentum", "inplace")}
    return {**kept, "type": re.sub(r"[123]d$", "", str(config["type"])).replace("SyncBN", "BN")}


def _alike(one: Any, other: Any) -> bool:
    """Whether two sizes or lists of them are the same; one number stands for as many as there are axes."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(other, list | tuple):
        one, other = other, one
    return all(item == other for item in one) if isinstance(one, list | tuple) else bool(one == other)
