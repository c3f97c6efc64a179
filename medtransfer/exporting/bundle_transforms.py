"""The preparation of a card as MONAI's transforms, and the way back: tables from our words to theirs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..checkpoint.card import ModelCard
from ..intensity import Intensity, schemes_of
from .axes import Axes

Transform = dict[str, Any]
IMAGE, PREDICTION = "image", "pred"


def _zscore(key: str, scheme: Intensity) -> list[Transform]:
    return [{"_target_": "NormalizeIntensityd", "keys": key, "nonzero": scheme.nonzero, "channel_wise": True}]


def _clip(key: str, scheme: Intensity) -> list[Transform]:
    return [_range(key, scheme.low, scheme.high, 0.0, 1.0)]


def _ct(key: str, scheme: Intensity) -> list[Transform]:
    """Cut and scaled at once: the ends of the range are where the ends of the cut come to lie."""
    ends = [(float(end) - float(scheme.mean)) / float(scheme.std) for end in (scheme.low, scheme.high)]  # type: ignore[arg-type]
    return [_range(key, scheme.low, scheme.high, *ends)]


def _percentile(key: str, scheme: Intensity) -> list[Transform]:
    return [
        {
            "_target_": "ScaleIntensityRangePercentilesd",
            "keys": key,
            "lower": scheme.low_percentile,
            "upper": scheme.high_percentile,
            "b_min": 0.0,
            "b_max": 1.0,
            "clip": True,
            "channel_wise": True,
        }
    ]


def _range(key: str, low: float | None, high: float | None, first: float, last: float) -> Transform:
    span = {"a_min": low, "a_max": high, "b_min": first, "b_max": last}
    return {"_target_": "ScaleIntensityRanged", "keys": key, **span, "clip": True}


#: each scheme of a card -> the transforms that do the same
SCHEMES: dict[str, Callable[[str, Intensity], list[Transform]]] = {
    "none": lambda key, scheme: [],
    "zscore": _zscore,
    "clip": _clip,
    "ct": _ct,
    "percentile": _percentile,
}


def preprocessing(card: ModelCard, axes: Axes, window: Sequence[int] | None) -> list[Transform]:
    """From a file to what the network takes, in the order of :func:`medtransfer.volumes.prepare.prepare`.

    Args:
        card: What scans must be like.
        axes: What the network takes.
        window: Of a sliding window, which pads by itself; None pads here.
    """
    steps: list[Transform] = [
        {"_target_": "LoadImaged", "keys": IMAGE, "image_only": True, "dtype": "$np.float32"},
        {"_target_": "EnsureChannelFirstd", "keys": IMAGE},
        {"_target_": "Orientationd", "keys": IMAGE, "axcodes": card.orientation},
    ]
    if card.spacing is not None:
        steps.append({
            "_target_": "Spacingd", "keys": IMAGE, "pixdim": list(card.spacing), "mode": "bilinear",
            "padding_mode": "border", "align_corners": False,
        })  # fmt: skip
    return [*steps, *_intensities(card), *([] if window else _padding(axes))]


def postprocessing(card: ModelCard) -> list[Transform]:
    """From logits to a mask on the scan's own grid, written as ``NAME.nii.gz``; of a classifier to probabilities."""
    if card.task == "classification":
        softmax = f"$lambda logits: (logits / {card.temperature or 1.0}).softmax(0)"
        return [{"_target_": "Lambdad", "keys": PREDICTION, "func": softmax, "track_meta": False}]
    return [
        {"_target_": "Invertd", "keys": PREDICTION, "transform": "@preprocessing", "orig_keys": IMAGE,
         "nearest_interp": False, "to_tensor": True},
        {"_target_": "AsDiscreted", "keys": PREDICTION, "argmax": True},
        {"_target_": "SaveImaged", "keys": PREDICTION, "output_dir": "@output_dir", "output_postfix": "",
         "separate_folder": False, "resample": False, "output_dtype": "$np.uint8" if len(card.classes) <= 256
         else "$np.int32", "print_log": False},
    ]  # fmt: skip


def _intensities(card: ModelCard) -> list[Transform]:
    """One step for all channels; where their schemes differ they are taken apart and put together again."""
    schemes = schemes_of(card.intensity, len(card.input_channels))
    if all(scheme == schemes[0] for scheme in schemes):
        return SCHEMES[schemes[0].scheme](IMAGE, schemes[0])
    postfixes = [f"channel{at}" for at in range(len(schemes))]
    keys = [f"{IMAGE}_{postfix}" for postfix in postfixes]
    each = [step for key, scheme in zip(keys, schemes, strict=True) for step in SCHEMES[scheme.scheme](key, scheme)]
    apart = {"_target_": "SplitDimd", "keys": IMAGE, "dim": 0, "keepdim": True, "output_postfixes": postfixes}
    return [apart, *each, {"_target_": "ConcatItemsd", "keys": keys, "name": IMAGE, "dim": 0}]


def _padding(axes: Axes) -> list[Transform]:
    if axes.spatial_size is not None:
        return [{"_target_": "SpatialPadd", "keys": IMAGE, "spatial_size": list(axes.spatial_size)}]
    return [{"_target_": "DivisiblePadd", "keys": IMAGE, "k": list(axes.strides)}]
