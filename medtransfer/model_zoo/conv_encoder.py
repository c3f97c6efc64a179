"""The encoders of nnU-Net and of U-Nets like it: stages of stacked convolutions, or of residual blocks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .blocks import ResLayer, block_with_expansion
from .conv_blocks import ConvStage
from .encoder import HEAD_TYPES, Encoder
from .layer_configs import Config
from .layers import Layers, Size, check_choice, check_length, cumulative, per_stage, records_arguments

#: nnU-Net's choices (Isensee et al., Nature Methods 2021), which its planner cuts to the stages that a patch allows
WIDTHS = (32, 64, 128, 256, 320, 320)
INSTANCE_NORM: Config = {"type": "IN", "affine": True}
LEAKY_RELU: Config = {"type": "LeakyReLU"}
RESIDUAL_BLOCKS = (1, 3, 4, 6)
MAX_STAGES = 32


class ConvEncoder(Encoder):
    """What :class:`PlainEncoder` and :class:`ResidualEncoder` share: modules ``stage0, stage1, ...``, and a head."""

    def stages(self) -> list[nn.Module]:
        """One module a stage, by reference; a stem goes with the first."""
        first, *rest = (getattr(self, name) for name in self.stage_names)
        return [nn.Sequential(self.stem, first) if hasattr(self, "stem") else first, *rest]

    def adopt(self, stages: Sequence[nn.Module]) -> None:
        """Take encoder modules by reference, the inverse of :meth:`stages`."""
        first, *rest = stages
        if hasattr(self, "stem"):
            self.stem, first = first.children()
        for name, stage in zip(self.stage_names, [first, *rest], strict=True):
            self.add_module(name, stage)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> logits (N, num_classes), of an FCN (N, num_classes, D, H, W); else the last map."""
        return self._logits(self._maps(x), x.shape[2:])

    @property
    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments of the UNet that fits this encoder: nnU-Net's, of stacked convolutions."""
        own = {
            "norm_cfg": self.arguments.get("norm_cfg", INSTANCE_NORM),
            "act_cfg": self.arguments.get("act_cfg", LEAKY_RELU),
            "decoder_block": "convs",
            "decoder_bias": self.arguments.get("conv_bias", True),
            "decoder_kernel_sizes": self.arguments.get("kernel_sizes", 3),
        }
        return {**super().decoder_arguments, **own}

    def _describe(
        self,
        layers: Layers,
        in_channels: int,
        channels: Sequence[int],
        strides: Sequence[Size] | None,
        head_type: str | None,
        num_classes: int,
        frozen_stages: int,
        norm_eval: bool,
    ) -> list[Size]:
        """Check the sizes, set the attributes of an encoder, and return the stride of each stage."""
        strides = [1, *[2] * (len(channels) - 1)] if strides is None else list(strides)
        _check_sizes(in_channels=[in_channels], channels=channels, num_classes=[num_classes])
        if len(channels) > MAX_STAGES:
            raise ModelError(f"an encoder has at most {MAX_STAGES} stages, got {len(channels)}")
        check_choice("head_type", head_type, HEAD_TYPES)
        check_length("strides", strides, len(channels))
        if frozen_stages not in range(-1, len(channels)):
            raise ModelError(f"frozen_stages must be from -1 to {len(channels) - 1}, got {frozen_stages!r}")
        self.in_channels, self.ndim = in_channels, layers.ndim
        self.num_classes, self.head_type = num_classes if head_type else None, head_type
        self.frozen_stages, self.norm_eval = frozen_stages, norm_eval
        self.stage_channels = tuple(channels)
        self.stage_strides = tuple(cumulative([stride], self.ndim) for stride in strides)
        self.output_stride = cumulative(self.stage_strides, self.ndim)
        self.stage_names = [f"stage{i}" for i in range(len(channels))]
        return strides

    def _mark(self, layers: Layers) -> None:
        """Write into the stages what they belong to."""
        origin = self._origin(layers, [2 if hasattr(self, "stem") else 1, *[1] * (len(self.stage_names) - 1)])
        for i, name in enumerate(self.stage_names):
            getattr(self, name).origin = {**origin, "stage": i}


class PlainEncoder(ConvEncoder):
    """Stages of stacked convolutions, by default those of nnU-Net's PlainConvUNet.

    Tensors are (N, C, D, H, W), or (N, C, H, W) with ``conv_cfg=dict(type="Conv2d")``. Sizes need not be divisible by
    the strides; only a last map of one voxel is too small, since instance norm would wipe it out.

    Args:
        in_channels: Channels of the input.
        channels: Channels of each stage.
        strides: Stride of each stage, a number or one number an axis; 1, then 2, when None.
        kernel_sizes: Of all convolutions, or of each stage's.
        num_convs: Convolutions of every stage, or of each.
        inner_channels: Channels of a stage's convolutions but the last, which Models Genesis has narrower.
        pool: ``"conv"`` strides a stage's first convolution, ``"max"`` pools before it.
        conv_bias: Whether convolutions have a bias (although norms follow).
        conv_cfg, norm_cfg, act_cfg: mmcv's config dicts; instance norm and LeakyReLU when None.
        norm_eval: Keep batch-norm statistics fixed in training.
        with_cp: Recompute stages in the backward pass to save memory.
        frozen_stages: -1 freezes nothing, n freezes ``stage0`` to ``stage{n}``.
        head_type: ``"classification"``, ``"fcn"`` (see :class:`ResNet`) or None.
        num_classes: Outputs of the head.
        fcn_stride: See :class:`ResNet`.

    Raises:
        ModelError: an argument does not describe a network.

    Source: Isensee et al., nnU-Net, Nature Methods 2021.

    >>> import torch
    >>> net = PlainEncoder(1, channels=(4, 8), head_type="classification", num_classes=3)
    >>> net(torch.rand(1, 1, 9, 10, 11)).shape
    torch.Size([1, 3])
    """

    catalog_name, segmenter_name = "plain_encoder", "plain_unet"

    @records_arguments
    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = WIDTHS,
        strides: Sequence[Size] | None = None,
        kernel_sizes: int | Sequence[Size] = 3,
        num_convs: int | Sequence[int] = 2,
        inner_channels: Sequence[int] | None = None,
        pool: str = "conv",
        conv_bias: bool = True,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: Config | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        head_type: str | None = None,
        num_classes: int = 1000,
        fcn_stride: int | None = None,
    ) -> None:
        super().__init__()
        layers = Layers(conv_cfg, norm_cfg or INSTANCE_NORM, act_cfg or LEAKY_RELU)
        steps = self._describe(layers, in_channels, channels, strides, head_type, num_classes, frozen_stages, norm_eval)
        check_choice("pool", pool, ("conv", "max"))
        kernels = per_stage("kernel_sizes", kernel_sizes, len(channels))
        counts = per_stage("num_convs", num_convs, len(channels))
        inner = channels if inner_channels is None else inner_channels
        check_length("inner_channels", inner, len(channels))
        _check_sizes(num_convs=counts, inner_channels=inner)
        before = in_channels
        for i, name in enumerate(self.stage_names):
            widths = [before, *[inner[i]] * (counts[i] - 1), channels[i]]
            self.add_module(name, ConvStage(layers, widths, kernels[i], steps[i], conv_bias, pool, with_cp))
            before = channels[i]
        self._mark(layers)
        self._finish(layers, num_classes, fcn_stride=fcn_stride)


class ResidualEncoder(ConvEncoder):
    """A stem and stages of residual blocks, by default those of nnU-Net's ResidualEncoderUNet.

    Blocks are ResNet-D's: an average-pooled shortcut, with a convolution only where the number of channels changes.
    nnU-Net's presets M, L and XL all have these widths and blocks; they differ in the patch size that the memory
    allows, and by it in the number of stages (6 for patches of 128 to 255 voxels an axis).

    Args:
        in_channels, channels, strides, kernel_sizes, conv_bias, conv_cfg, norm_cfg, act_cfg, norm_eval, with_cp,
            frozen_stages, head_type, num_classes, fcn_stride: See :class:`PlainEncoder`; the stem goes with ``stage0``.
        num_blocks: Blocks of every stage, or of each; 1, 3, 4, then 6, when None.
        block: ``"basic"`` or ``"bottleneck"``.
        expansion: Channels of a bottleneck over those of its middle; 4 when None.
        stem_channels: Channels after the stem; those of the first stage when None.
        zero_init_residual: Start every block as its shortcut.

    Raises:
        ModelError: an argument does not describe a network.

    Source: Isensee et al., nnU-Net Revisited, MICCAI 2024.

    >>> import torch
    >>> net = ResidualEncoder(1, channels=(4, 8), num_blocks=1)
    >>> [tuple(x.shape[1:]) for x in net.features(torch.rand(1, 1, 9, 10, 11))]
    [(4, 9, 10, 11), (8, 5, 5, 6)]
    """

    catalog_name, segmenter_name = "resenc_encoder", "resenc_unet"

    @records_arguments
    def __init__(
        self,
        in_channels: int = 1,
        channels: Sequence[int] = WIDTHS,
        strides: Sequence[Size] | None = None,
        kernel_sizes: int | Sequence[Size] = 3,
        num_blocks: int | Sequence[int] | None = None,
        block: str = "basic",
        expansion: int | None = None,
        stem_channels: int | None = None,
        conv_bias: bool = True,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: Config | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        frozen_stages: int = -1,
        head_type: str | None = None,
        num_classes: int = 1000,
        fcn_stride: int | None = None,
    ) -> None:
        super().__init__()
        layers = Layers(conv_cfg, norm_cfg or INSTANCE_NORM, act_cfg or LEAKY_RELU)
        steps = self._describe(layers, in_channels, channels, strides, head_type, num_classes, frozen_stages, norm_eval)
        kernels = per_stage("kernel_sizes", kernel_sizes, len(channels))
        counts = _block_counts(num_blocks, len(channels))
        kind = block_with_expansion(block, expansion)
        before = channels[0] if stem_channels is None else stem_channels
        _check_sizes(num_blocks=counts, stem_channels=[before])
        self.stem = ConvStage(layers, [in_channels, before], kernels[0], bias=conv_bias, with_cp=with_cp)
        for i, name in enumerate(self.stage_names):
            options: dict[str, Any] = {"kernel_size": kernels[i], "bias": conv_bias, "with_cp": with_cp}
            stage = ResLayer(layers, kind, counts[i], before, channels[i], steps[i], shortcut="D", **options)
            self.add_module(name, stage)
            before = channels[i]
        self._mark(layers)
        self._finish(layers, num_classes, zero_init_residual, fcn_stride)

    @property
    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments of the UNet that fits this encoder: one convolution a level, as in nnU-Net's planner."""
        return {**super().decoder_arguments, "decoder_convs": 1}


def _block_counts(num_blocks: int | Sequence[int] | None, count: int) -> list[int]:
    if num_blocks is None:
        return [*RESIDUAL_BLOCKS, *RESIDUAL_BLOCKS[-1:] * count][:count]
    return per_stage("num_blocks", num_blocks, count)


def _check_sizes(**given: Sequence[Any]) -> None:
    for name, values in given.items():
        if not values or not all(isinstance(value, int) and value > 0 for value in values):
            raise ModelError(f"{name} must be positive whole numbers, got {list(values)}")
