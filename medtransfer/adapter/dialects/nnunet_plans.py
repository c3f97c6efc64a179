"""What a file of nnU-Net says of its network and its data (``init_args``: the plans and the dataset's description)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ...intensity import Intensity
from .base import one_or_each

#: activations that the zoo has under the same name (the last part of ``torch.nn.LeakyReLU``)
ACTIVATIONS = ("LeakyReLU", "ReLU", "ELU", "GELU", "SiLU")
#: the reader that turns scans before training; all others take the axes as they are stored
REORIENTING_READER = "NibabelIOWithReorient"
#: a card's numbers of the scheme ``ct``, and what plans call them
_CT_NUMBERS = {"low": "percentile_00_5", "high": "percentile_99_5", "mean": "mean", "std": "std"}


@dataclass(frozen=True)
class Plans:
    """The parts of the plans that matter here; all empty for a file without them.

    Attributes:
        configuration: Such as that of ``3d_fullres``, what it inherits included.
        network: Class name of the network, without its module.
        architecture: Its arguments.
        whole: The plans themselves.
        dataset: ``dataset.json``.
    """

    configuration: Mapping[str, Any] = field(default_factory=dict)
    network: str = ""
    architecture: Mapping[str, Any] = field(default_factory=dict)
    whole: Mapping[str, Any] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)


def read_plans(metadata: Mapping[str, Any]) -> Plans:
    """The plans of a checkpoint, of the present style (``architecture``) or that of nnU-Net up to 2.4."""
    given = mapping(metadata.get("init_args"))
    whole = mapping(given.get("plans"))
    configuration = _inherited(mapping(whole.get("configurations")), given.get("configuration"))
    present = mapping(configuration.get("architecture"))
    network = str(present.get("network_class_name", configuration.get("UNet_class_name", "")))
    architecture = mapping(present.get("arch_kwargs")) if present else _older_architecture(configuration)
    dataset = mapping(given.get("dataset_json"))
    return Plans(configuration, network.rpartition(".")[2], architecture, whole, dataset)


def layer_arguments(architecture: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Arguments of the zoo's network that no tensor tells, and what of the source it does not have, in words."""
    found: dict[str, Any] = {}
    notes: list[str] = []
    activation = str(architecture.get("nonlin") or "").rpartition(".")[2]
    options = {k: v for k, v in mapping(architecture.get("nonlin_kwargs")).items() if k != "inplace"}
    if activation in ACTIVATIONS and (activation != "LeakyReLU" or options):
        found["act_cfg"] = {"type": activation, **options}
    elif activation and activation not in ACTIVATIONS:
        notes.append(f"its activation {activation} is taken for LeakyReLU")
    epsilon = mapping(architecture.get("norm_op_kwargs")).get("eps", 1e-5)
    if epsilon != 1e-5 and "InstanceNorm" in str(architecture.get("norm_op")):
        found["norm_cfg"] = {"type": "IN", "affine": True, "eps": epsilon}
    if architecture.get("dropout_op"):
        notes.append("it was trained with dropout, which is left away")
    return found, notes


def first_stride(architecture: Mapping[str, Any], ndim: int) -> int | list[int]:
    """The stride of the first stage, which no tensor tells: 1, but for plans made by hand."""
    strides = architecture.get("strides")
    first = strides[0] if isinstance(strides, list | tuple) and strides else 1
    if isinstance(first, list | tuple) and len(first) == ndim:
        return one_or_each([int(step) for step in first])
    return first if isinstance(first, int) else 1


def channel_names(dataset: Mapping[str, Any], count: int | None) -> list[str] | None:
    """Names of the input channels in order, if there are as many as the network takes (a cascade takes more)."""
    named = mapping(dataset.get("channel_names") or dataset.get("modality"))
    try:
        names = [str(named[key]) for key in sorted(named, key=int)]
    except ValueError:
        return None
    return names if _are_names(names, count) else None


def class_names(dataset: Mapping[str, Any], count: int | None) -> tuple[list[str] | None, str]:
    """Names of the classes in order of their output channel, or why they cannot be told."""
    labels = {str(k): v for k, v in mapping(dataset.get("labels")).items() if k != "ignore"}
    if any(isinstance(value, list | tuple) and len(value) > 1 for value in labels.values()):
        return None, "its classes are regions that overlap, one sigmoid each, which a card's classes are not"
    values = {name: value[0] if isinstance(value, list | tuple) else value for name, value in labels.items()}
    if not values or not all(isinstance(value, int) for value in values.values()):
        return None, ""
    names = sorted(values, key=lambda name: values[name])
    return (names, "") if _are_names(names, count) else (None, "")


def intensity(plans: Plans) -> tuple[dict[str, Any] | list[dict[str, Any]] | None, str]:
    """The scheme of a card, or those of its channels where they differ; or None and why it has none.

    Source: nnU-Net's ``preprocessing/normalization/default_normalization_schemes.py``.
    """
    names = [str(scheme) for scheme in sequence(plans.configuration.get("normalization_schemes"))]
    masks = [bool(mask) for mask in sequence(plans.configuration.get("use_mask_for_norm"))] or [False]
    masks += [masks[-1]] * (len(names) - len(masks))
    schemes = [_scheme(plans, name, masks[index], index) for index, name in enumerate(names)]
    unknown = [name for name, scheme in zip(names, schemes, strict=True) if scheme is None]
    if unknown:
        lacking = "its plans lack the foreground's percentiles of " if "CTNormalization" in unknown else ""
        return None, f"a card has no such intensities: {lacking}{', '.join(dict.fromkeys(unknown))}"
    known = [scheme for scheme in schemes if scheme is not None]
    return (known[0] if all(scheme == known[0] for scheme in known) else known) if known else None, ""


def geometry(plans: Plans) -> tuple[dict[str, Any], str]:
    """Fields ``patch_size``, ``spacing`` and ``orientation`` of a card, in the axis order of the network.

    nnU-Net reads a scan as an array (k, j, i) of NIfTI's axes (i, j, k), permutes it by ``transpose_forward``, and
    never turns it, unless by the one reader that does. Where the scans' orientation is not known, axes of different
    spacing cannot be told, and the words say what is known.
    """
    patch = [int(size) for size in numbers(plans.configuration.get("patch_size"), 1, 100_000)]
    spacing = numbers(plans.configuration.get("spacing"))
    fields: dict[str, Any] = {"patch_size": patch} if len(patch) in (2, 3) else {}
    order = [int(axis) for axis in numbers(plans.whole.get("transpose_forward", (0, 1, 2)), 0)]
    if len(spacing) != 3 or sorted(order) != [0, 1, 2]:
        return fields, "it segments slices, whose plane no card tells" if len(patch) == 2 else ""
    # of scans whose axes (i, j, k) run to the right, anterior, superior
    code = "".join("RAS"[2 - axis] for axis in order)
    if plans.whole.get("image_reader_writer") == REORIENTING_READER:
        return {**fields, "spacing": spacing, "orientation": code}, ""
    sizes = " x ".join(f"{step:g}" for step in spacing)
    note = (
        f"it takes scans as they are stored, their last axis first: for scans stored as RAS give the card "
        f"orientation={code!r} and spacing {sizes} mm"
    )
    return {**fields, **({"spacing": spacing} if len(set(spacing)) == 1 else {})}, note


def mirror_axes(metadata: Mapping[str, Any]) -> list[int] | None:
    """The axes of the network along which prediction may mirror a scan, as training did; None if the file does not say.

    >>> mirror_axes({"inference_allowed_mirroring_axes": (0, 1)}), mirror_axes({})
    ([0, 1], None)
    """
    given = metadata.get("inference_allowed_mirroring_axes")
    axes = [axis for axis in sequence(given) if isinstance(axis, int) and 0 <= axis <= 2]
    return axes if isinstance(given, list | tuple) and len(axes) == len(given) <= 3 else None


def _are_names(names: Sequence[str], count: int | None) -> bool:
    """Whether a card can hold them: as many as there are channels or classes, told apart, and nothing like a path."""
    plain = all(
        name.isprintable() and len(name) <= 200 and "\\" not in name and name[1:2] != ":"
        and not {part.strip() for part in name.split("/")} & {"", ".", ".."}
        for name in names
    )  # fmt: skip
    return plain and len(set(names)) == len(names) == count


def _scheme(plans: Plans, name: str, masked: bool, channel: int) -> dict[str, Any] | None:
    """A card's scheme for one of nnU-Net's; None for one that it does not have, or whose numbers are not there."""
    if name == "CTNormalization":
        return _ct(plans, channel)
    schemes: dict[str, dict[str, Any]] = {
        "NoNormalization": {"scheme": "none"},
        "ZScoreNormalization": {"scheme": "zscore", "nonzero": masked},
        "RescaleTo01Normalization": {"scheme": "percentile", "low_percentile": 0.0, "high_percentile": 100.0},
        "RGBTo01Normalization": {"scheme": "clip", "low": 0.0, "high": 255.0},
    }
    return schemes.get(name)


def _ct(plans: Plans, channel: int) -> dict[str, Any] | None:
    known = mapping(mapping(plans.whole.get("foreground_intensity_properties_per_channel")).get(str(channel)))
    try:
        numbers = {name: float(known[theirs]) for name, theirs in _CT_NUMBERS.items()}
        return dict(msgspec.to_builtins(msgspec.convert({"scheme": "ct", **numbers}, Intensity)))
    except (KeyError, TypeError, ValueError):
        return None


def _inherited(configurations: Mapping[str, Any], name: Any) -> dict[str, Any]:
    """A configuration with what it inherits (``inherits_from``)."""
    chain: list[Mapping[str, Any]] = []
    seen: set[str] = set()
    while isinstance(name, str) and name in configurations and name not in seen:
        seen.add(name)
        chain.append(mapping(configurations[name]))
        name = chain[-1].get("inherits_from")
    return {key: value for part in reversed(chain) for key, value in part.items()}


def _older_architecture(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """As nnU-Net itself reads plans without an architecture: instance norm and LeakyReLU."""
    if "UNet_class_name" not in configuration:
        return {}
    return {
        "strides": configuration.get("pool_op_kernel_sizes"),
        "kernel_sizes": configuration.get("conv_kernel_sizes"),
        "norm_op": "torch.nn.InstanceNorm",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
    }


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one: plans come from files."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> Sequence[Any]:
    """The value if it is a list or tuple, else an empty one."""
    return value if isinstance(value, list | tuple) else ()


def numbers(value: Any, least: float = 1e-3, most: float = 1000) -> list[float]:
    """The value as numbers that are sizes, none if one of them is not.

    >>> numbers([3, 0.5]), numbers([3, "x"]), numbers([3, float("nan")]), numbers(None)
    ([3.0, 0.5], [], [], [])
    """
    given = sequence(value)
    sizes = all(isinstance(item, int | float) and least <= item <= most for item in given)
    return [float(item) for item in given] if sizes else []
