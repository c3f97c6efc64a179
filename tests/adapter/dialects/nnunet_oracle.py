"""nnU-Net's files, and what dynamic_network_architectures computes from them.

The golden files ``golden/nnunet_*.npz`` were made once by dynamic_network_architectures 0.4.4 (``PlainConvUNet`` and
``ResidualEncoderUNet`` with the arguments of :func:`arguments_of`), which cannot be a dependency of the tests, since it
pins an old timm. Its state dict had exactly the keys and shapes of :func:`first_keys` and :func:`further_keys`; weights
were ``fill(first_keys(...))``; maps are the encoder's, then the logits of every level from high to low resolution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tests.adapter.dialects.oracle_case import OracleCase, fill, load_golden

ORACLE = "dynamic_network_architectures 0.4.4 (golden values)"
GOLDEN = Path(__file__).parent / "golden"


@dataclass(frozen=True)
class Spec:
    """A network of nnU-Net: one entry a stage, kernels and strides one number an axis."""

    channels: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    units: tuple[int, ...]
    decoder: tuple[int, ...]
    residual: bool = False
    bottleneck: tuple[int, ...] = ()
    stem: int | None = None
    in_channels: int = 1
    num_classes: int = 3
    batch_norm: bool = False
    epsilon: float = 1e-5
    bias: bool = True
    nonlin: str = "LeakyReLU"
    size: tuple[int, ...] = (16, 16, 16)


K3, S1, S2 = (3, 3, 3), (1, 1, 1), (2, 2, 2)
SPECS = {
    "plain": Spec((4, 8, 16), (K3,) * 3, (S1, S2, S2), (2, 2, 2), (2, 2)),
    "anisotropic": Spec(
        (4, 8, 8, 12), ((1, 3, 3), (1, 3, 3), K3, K3), (S1, (1, 2, 2), S2, S2), (2, 2, 1, 3), (1, 2, 2),
        in_channels=2, num_classes=5, size=(8, 16, 24),
    ),
    "flat": Spec((4, 8, 8), ((3, 3),) * 3, ((1, 1), (2, 2), (2, 2)), (2, 2, 2), (2, 2), in_channels=3, batch_norm=True,
                 bias=False, nonlin="ReLU", size=(16, 24)),
    "residual": Spec((4, 8, 16), (K3,) * 3, (S1, S2, S2), (1, 2, 2), (1, 1), residual=True),
    "wide": Spec((4, 8, 8, 8), ((1, 3, 3), K3, K3, K3), (S1, (1, 2, 2), S2, S2), (1, 3, 2, 1), (1, 1, 1), residual=True,
                 in_channels=2, epsilon=1e-3, size=(8, 16, 16)),
    "bottleneck": Spec((8, 16, 16), (K3,) * 3, (S1, S2, S2), (1, 2, 1), (1, 1), residual=True, bottleneck=(4, 8, 8),
                       stem=6),
}  # fmt: skip


def _unit(name: str, before: int, after: int, kernel: tuple[int, ...], spec: Spec, bias: bool) -> Iterator[Any]:
    yield f"{name}.conv.weight", (after, before, *kernel)
    if bias:
        yield f"{name}.conv.bias", (after,)
    yield from ((f"{name}.norm.{part}", (after,)) for part in ("weight", "bias"))
    if spec.batch_norm:
        yield from ((f"{name}.norm.{part}", (after,)) for part in ("running_mean", "running_var"))
        yield f"{name}.norm.num_batches_tracked", ()


def _block(name: str, before: int, stage: int, first: bool, spec: Spec) -> Iterator[Any]:
    after, kernel, one = spec.channels[stage], spec.kernels[stage], (1,) * len(spec.size)
    middle = spec.bottleneck[stage] if spec.bottleneck else after
    convs = [(before, middle, one), (middle, middle, kernel), (middle, after, one)]
    for i, sizes in enumerate(convs if spec.bottleneck else [(before, after, kernel), (after, after, kernel)]):
        yield from _unit(f"{name}.conv{i + 1}", *sizes, spec, spec.bias)
    if before != after:
        pooled = first and max(spec.strides[stage]) > 1
        yield from _unit(f"{name}.skip.{int(pooled)}", before, after, one, spec, bias=False)


def first_keys(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Every tensor of the network under its first name -> shape."""
    return dict(_keys(spec))


def _keys(spec: Spec) -> Iterator[Any]:
    before = spec.in_channels
    if spec.residual:
        stem = spec.stem or spec.channels[0]
        yield from _unit("encoder.stem.convs.0", before, stem, spec.kernels[0], spec, spec.bias)
        before = stem
    for stage, units in enumerate(spec.units):
        for unit in range(units):
            if spec.residual:
                yield from _block(f"encoder.stages.{stage}.blocks.{unit}", before, stage, unit == 0, spec)
            else:
                name, after = f"encoder.stages.{stage}.0.convs.{unit}", spec.channels[stage]
                yield from _unit(name, before, after, spec.kernels[stage], spec, spec.bias)
            before = spec.channels[stage]
    for s in range(len(spec.channels) - 1):
        below, skip, level = spec.channels[-1 - s], spec.channels[-2 - s], len(spec.channels) - 2 - s
        yield f"decoder.transpconvs.{s}.weight", (below, skip, *spec.strides[level + 1])
        if spec.bias:
            yield f"decoder.transpconvs.{s}.bias", (skip,)
        for unit in range(spec.decoder[s]):
            widths = (2 * skip if unit == 0 else skip, skip)
            yield from _unit(f"decoder.stages.{s}.convs.{unit}", *widths, spec.kernels[level], spec, spec.bias)
        yield f"decoder.seg_layers.{s}.weight", (spec.num_classes, skip, *[1] * len(spec.size))
        yield f"decoder.seg_layers.{s}.bias", (spec.num_classes,)


def further_keys(key: str) -> list[str]:
    """The other names of a tensor: in a unit's list of modules, and in the decoder's reference to the encoder."""
    listed = re.sub(r"\.norm\.(\w+)$", r".all_modules.1.\1", re.sub(r"\.conv\.(\w+)$", r".all_modules.0.\1", key))
    names = [key] if listed == key else [key, listed]
    again = [f"decoder.{name}" for name in names if name.startswith("encoder.")]
    return [*names[1:], *again]


def filled(spec: Spec) -> dict[str, Tensor]:
    """The state dict, all names included."""
    whole = {key: torch.zeros(shape, dtype=torch.int64 if "num_batches" in key else torch.float32)
             for key, shape in first_keys(spec).items()}  # fmt: skip
    first = fill(whole)
    return {name: value for key, value in first.items() for name in (key, *further_keys(key))}


def arguments_of(spec: Spec) -> dict[str, Any]:
    """``arch_kwargs`` of the plans."""
    ndim = len(spec.size)
    units = {"n_blocks_per_stage" if spec.residual else "n_conv_per_stage": list(spec.units)}
    norm = f"BatchNorm{ndim}d" if spec.batch_norm else f"InstanceNorm{ndim}d"
    return {
        "n_stages": len(spec.channels),
        "features_per_stage": list(spec.channels),
        "conv_op": f"torch.nn.modules.conv.Conv{ndim}d",
        "kernel_sizes": [list(kernel) for kernel in spec.kernels],
        "strides": [list(stride) for stride in spec.strides],
        **units,
        "n_conv_per_stage_decoder": list(spec.decoder),
        "conv_bias": spec.bias,
        "norm_op": f"torch.nn.modules.{'batchnorm' if spec.batch_norm else 'instancenorm'}.{norm}",
        "norm_op_kwargs": {"eps": spec.epsilon, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": f"torch.nn.{spec.nonlin}",
        "nonlin_kwargs": {"inplace": True},
    }


def plans_of(spec: Spec, older: bool = False, **more: Any) -> dict[str, Any]:
    """Plans with one configuration, as nnU-Net writes them now, or wrote them up to 2.4."""
    network = "ResidualEncoderUNet" if spec.residual else "PlainConvUNet"
    present = {
        "architecture": {
            "network_class_name": f"dynamic_network_architectures.architectures.unet.{network}",
            "arch_kwargs": arguments_of(spec),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }
    past = {
        "UNet_class_name": network,
        "UNet_base_num_features": spec.channels[0],
        "unet_max_num_features": max(spec.channels),
        "n_conv_per_stage_encoder": list(spec.units),
        "n_conv_per_stage_decoder": list(spec.decoder),
        "num_pool_per_axis": [2] * len(spec.size),
        "pool_op_kernel_sizes": [list(stride) for stride in spec.strides],
        "conv_kernel_sizes": [list(kernel) for kernel in spec.kernels],
    }
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "batch_size": 2,
        "patch_size": [32, 64, 64][-len(spec.size) :],
        "spacing": [3.0, 0.7, 0.7][-len(spec.size) :],
        "normalization_schemes": ["ZScoreNormalization"] * spec.in_channels,
        "use_mask_for_norm": [False] * spec.in_channels,
        **(past if older else present),
        **more.pop("configuration", {}),
    }
    return {
        "dataset_name": "Dataset004_Hippocampus",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"base": configuration, "3d_fullres": {"inherits_from": "base"}},
        "foreground_intensity_properties_per_channel": {
            "0": {"mean": 99.5, "std": 38.25, "percentile_00_5": -17.0, "percentile_99_5": 201.0}
        },
        **more,
    }


def checkpoint(spec: Spec, plans: dict[str, Any], **dataset: Any) -> dict[str, Any]:
    """A checkpoint with all that nnU-Net's trainer saves, the numpy scalars included."""
    described = {
        "channel_names": {str(i): f"MR{i}" for i in range(spec.in_channels)},
        "labels": {"background": 0, **{f"part {i}": i for i in range(1, spec.num_classes)}},
        "numTraining": 20,
        "file_ending": ".nii.gz",
        **dataset,
    }
    return {
        "network_weights": filled(spec),
        "optimizer_state": {"state": {0: {"momentum_buffer": torch.ones(4)}}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": {"scale": 65536.0, "_growth_tracker": 12},
        "logging": {"mean_fg_dice": [np.float64(0.5), np.float64(0.75)], "ema_fg_dice": [np.float32(0.5)]},
        "_best_ema": np.float64(0.7525),
        "current_epoch": 1000,
        "init_args": {"plans": plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": described},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }


def maps_here(network: nn.Module, x: Tensor) -> list[Tensor]:
    """The encoder's maps, and the logits of every level from high to low resolution."""
    features = network.features(x)
    decoded = network._decode(features)
    heads = [*network.aux_layers, network.final_layer]
    logits = [head(level) for head, level in zip(heads, decoded, strict=True)]
    assert torch.equal(network(x), logits[-1])
    return [*features, *reversed(logits)]


def x_of(spec: Spec) -> Tensor:
    """The input."""
    shape = (1, spec.in_channels, *spec.size)
    return torch.from_numpy(np.random.RandomState(1).standard_normal(shape).astype(np.float32))


#: spec -> (what stands in the file, how it is written)
LAYOUTS = {
    "plain": ("plain encoder, with plans", lambda spec: checkpoint(spec, plans_of(spec))),
    "anisotropic": (
        "plain encoder, kernels (1, 3, 3), plans of 2.4",
        lambda spec: checkpoint(spec, plans_of(spec, True)),
    ),
    "flat": ("plain encoder in 2-D, batch norm, ReLU", lambda spec: checkpoint(spec, plans_of(spec))),
    "residual": ("residual encoder, weights alone", lambda spec: {"network_weights": filled(spec)}),
    "wide": ("residual encoder, kernels (1, 3, 3), with plans", lambda spec: checkpoint(spec, plans_of(spec))),
    "bottleneck": ("residual encoder of bottlenecks", lambda spec: checkpoint(spec, plans_of(spec))),
}


def cases(folder: Path) -> list[OracleCase]:
    """One file a network."""
    found = []
    for name, (layout, written) in LAYOUTS.items():
        spec, path = SPECS[name], folder / f"{name}.pth"
        torch.save(written(spec), path)
        maps = load_golden(GOLDEN / f"nnunet_{name}.npz")
        found.append(OracleCase("nnunet", path, x_of(spec), maps, ORACLE, layout, maps_here))
    return found
