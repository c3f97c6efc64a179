"""VGG in 2-D and 3-D (Simonyan and Zisserman, ICLR 2015), with and without batch norm."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError
from .conv_blocks import Stack
from .conv_encoder import ConvEncoder
from .encoder import SHARED_ARGUMENTS
from .fcn import Level, SlidingPad, centred
from .layer_configs import Config
from .layers import BATCH_NORM, Layers, Size, check_choice, cumulative, per_axis, records_arguments

#: depth -> convolutions of each stage
VGG_STAGES: dict[int, tuple[int, ...]] = {
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
#: channels of each stage over those of the first
VGG_WIDTHS = (1, 2, 4, 8, 8)
#: arguments of the original head, which a plain one has not
_HIDDEN_LAYERS = ("fc_channels", "head_pool", "head_dropout")


class VGG(ConvEncoder):
    """Five stages of 3x3x3 convolutions with max-pooling between them, and an optional head.

    Tensors are (N, C, D, H, W), or (N, C, H, W) with ``conv_cfg=dict(type="Conv2d")``. Any input size works; pooling
    leaves a last odd voxel away, as torchvision's does.

    Args:
        depth: 11, 13, 16 or 19.
        in_channels: Channels of the input.
        base_channels: Width of the first stage; the others have 2, 4, 8 and 8 times as many.
        batch_norm: Whether a norm follows each convolution; as ``norm_cfg`` is given or not when None.
        strides: Stride of the pooling before each stage, a number or one number an axis; 1, then 2, when None.
        conv_cfg, norm_cfg, act_cfg: mmcv's config dicts; they reach every layer.
        norm_eval: Keep batch-norm statistics fixed in training.
        with_cp: Recompute stages in the backward pass to save memory.
        frozen_stages: -1 freezes nothing, n freezes ``stage0`` to ``stage{n}``.
        head_type: ``"classification"``, ``"fcn"`` (the head at every place, see :class:`ResNet`) or None.
        num_classes: Outputs of the head.
        fc_channels: Width of the two hidden linear layers of the original head, 0 for one linear layer behind global
            pooling. When None, 4096 in a 2-D classifier and 0 in 3-D, where the first of them would have 719 million
            weights, and in an FCN.
        head_pool: Size to which the original head pools the last map. In an FCN the kernel of the first hidden layer,
            a convolution that slides over the pooled map, padded with zeros (fc6 of Long et al., CVPR 2015).
        head_dropout: Share of values that the original head drops after each hidden layer.
        fcn_stride: See :class:`ResNet`. Scores are read behind a stage's pooling, so that 16 takes that of pool4 and 8
            that of pool3 too, as in the paper.

    Attributes:
        stage0 ... stage4: modules ``pool`` (but for the first), ``0``, ``1`` ... of ``conv`` and norm; ``stage_names``
            lists them.
        head_hidden (pooling, ``fc1``, ``fc2``), head_fc: the head; of an FCN head_hidden, head_conv, head_skips.

    Raises:
        ModelError: an argument does not describe a network.

    >>> import torch
    >>> net = VGG(11, in_channels=1, base_channels=4, head_type="classification", num_classes=3)
    >>> net(torch.rand(2, 1, 32, 32, 32)).shape, [x.shape[1] for x in net.features(torch.rand(1, 1, 16, 17, 18))]
    (torch.Size([2, 3]), [4, 8, 16, 32, 32])
    """

    @records_arguments
    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        base_channels: int = 64,
        batch_norm: bool | None = None,
        strides: Sequence[Size] | None = None,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        act_cfg: Config | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        frozen_stages: int = -1,
        head_type: str | None = None,
        num_classes: int = 1000,
        fc_channels: int | None = None,
        head_pool: Size = 7,
        head_dropout: float = 0.5,
        fcn_stride: int | None = None,
    ) -> None:
        super().__init__()
        check_choice("depth", depth, VGG_STAGES)
        self.depth, self.catalog_name, self.segmenter_name = depth, f"vgg{depth}", f"vggunet{depth}"
        layers = Layers(conv_cfg, norm_cfg or BATCH_NORM, act_cfg)
        widths = [base_channels * factor for factor in VGG_WIDTHS]
        steps = self._describe(layers, in_channels, widths, strides, head_type, num_classes, frozen_stages, norm_eval)
        normed = _normed(batch_norm, norm_cfg)
        before = in_channels
        for name, count, width, step in zip(self.stage_names, VGG_STAGES[depth], widths, steps, strict=True):
            self.add_module(name, VGGStage(layers, [before, *[width] * count], step, normed, with_cp))
            before = width
        self._mark(layers)
        self._finish(layers, num_classes)
        hidden = _hidden_width(fc_channels, head_type, self.ndim)
        if hidden:
            self._add_hidden_layers(layers, hidden, head_pool, head_dropout, num_classes)
        self._add_skips(layers, num_classes, fcn_stride)

    @property
    def decoder_arguments(self) -> dict[str, Any]:
        """Arguments of the UNet that fits this encoder."""
        return {name: self.arguments[name] for name in SHARED_ARGUMENTS if name in self.arguments}

    def _origin(self, layers: Layers, parts: Sequence[int]) -> dict[str, Any]:
        """A classifier that is built around these stages later has the plain head."""
        record = super()._origin(layers, parts)
        own = {k: v for k, v in record["arguments"].items() if k not in _HIDDEN_LAYERS}
        return {**record, "arguments": {**own, "fc_channels": 0}}

    def _pooled(self, last: Tensor) -> Tensor:
        return self.head_hidden(last) if hasattr(self, "head_hidden") else super()._pooled(last)

    def _last_scores(self, last: Tensor) -> Tensor:
        if not hasattr(self, "head_hidden"):
            return super()._last_scores(last)
        return centred(self.head_conv(self.head_hidden(last)), self._head_size)

    def _levels(self) -> list[Level]:
        """What goes into each stage but the first, pooled: pool1 ... pool4 of the paper."""
        levels = super()._levels()
        return [Level(b.index, a.channels, b.stride) for a, b in pairwise(levels)]

    def _level_map(self, maps: Sequence[Tensor], index: int) -> Tensor:
        stage = getattr(self, self.stage_names[index])
        return stage.pool(maps[index - 1]) if hasattr(stage, "pool") else maps[index - 1]

    def _add_hidden_layers(self, layers: Layers, width: int, pool: Size, dropout: float, num_classes: int) -> None:
        """The original head: pooling and three linear layers, of which the last is ``head_fc``; of an FCN as conv."""
        size = per_axis(pool, self.ndim)
        if len(size) != self.ndim or not all(isinstance(s, int) and s > 0 for s in size):
            raise ModelError(f"head_pool must be a positive number, or {self.ndim} of them, got {pool!r}")
        hidden = _sliding_layers if self.head_type == "fcn" else _flat_layers
        self._head_size = size
        before, fc1, fc2 = hidden(self.stage_channels[-1], width, size)
        parts: list[tuple[str, nn.Module]] = [
            ("pool", FloorMaxPool(2, self.ndim)),
            *before.items(),
            *(("fc1", fc1), ("act1", layers.act()), ("drop1", nn.Dropout(dropout))),
            *(("fc2", fc2), ("act2", layers.act()), ("drop2", nn.Dropout(dropout))),
        ]
        self.head_hidden = nn.Sequential(OrderedDict(parts))
        if self.head_type == "fcn":
            self.head_conv = layers.conv(width, num_classes, 1, bias=True)
            self.output_stride = cumulative([self.output_stride, 2], self.ndim)
        else:
            del self.head_avgpool
            self.head_fc = nn.Linear(width, num_classes)
        # said in the record, since in another dimension the default is another
        self.arguments |= {"fc_channels": width, "head_pool": pool if isinstance(pool, int) else list(pool)}


class VGGStage(Stack):
    """Max-pooling ``pool``, where the stride is not 1, and convolutions ``0, 1, ...`` with norm and activation.

    Each axis is divided by the stride and rounded down, but not to 0.
    """

    def __init__(self, layers: Layers, channels: Sequence[int], stride: Size, normed: bool, with_cp: bool) -> None:
        super().__init__(channels[-1], with_cp)
        pool = FloorMaxPool(stride, layers.ndim)
        if max(pool.stride) > 1:
            self.add_module("pool", pool)
        for i, (before, after) in enumerate(pairwise(channels)):
            norm = [layers.norm(after)] if normed else []
            conv = ("conv", layers.conv(before, after, 3, bias=True))
            self.add_module(str(i), nn.Sequential(OrderedDict([conv, *norm, ("act", layers.act())])))


class FloorMaxPool(nn.Module):
    """Maxima over windows of ``stride`` voxels, without a last part of one; axes shorter than a window stay."""

    def __init__(self, stride: Size, ndim: int) -> None:
        super().__init__()
        self.stride = per_axis(stride, ndim)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...), each axis divided by its stride and rounded down, but not to 0."""
        window = tuple(min(step, size) for step, size in zip(self.stride, x.shape[2:], strict=True))
        pool: Any = getattr(F, f"max_pool{len(window)}d")  # as an attribute it could not be pickled
        return pool(x, window, self.stride)


def _normed(batch_norm: bool | None, norm_cfg: Config | None) -> bool:
    if batch_norm is False and norm_cfg is not None:
        raise ModelError(f"batch_norm=False leaves no layer for norm_cfg={norm_cfg}", hint="Leave one of them away")
    return norm_cfg is not None if batch_norm is None else batch_norm


def _hidden_width(fc_channels: int | None, head_type: str | None, ndim: int) -> int:
    if fc_channels is None:
        return 4096 if head_type == "classification" and ndim == 2 else 0
    if not isinstance(fc_channels, int) or fc_channels < 0:
        raise ModelError(f"fc_channels must be a whole number, got {fc_channels!r}")
    return fc_channels if head_type else 0


def _flat_layers(channels: int, width: int, size: Sequence[int]) -> tuple[dict[str, nn.Module], nn.Module, nn.Module]:
    """What pools a map to ``size``, and two layers over all of it."""
    resize: type[nn.Module] = getattr(nn, f"AdaptiveAvgPool{len(size)}d")
    fc1 = nn.Linear(channels * math.prod(size), width)
    return {"resize": resize(size), "flatten": nn.Flatten()}, fc1, nn.Linear(width, width)


def _sliding_layers(
    channels: int, width: int, size: Sequence[int]
) -> tuple[dict[str, nn.Module], nn.Module, nn.Module]:
    """The same layers at every place of a map: a convolution of the kernel ``size``, and one of 1x1x1."""
    conv: type[nn.Module] = getattr(nn, f"Conv{len(size)}d")
    return {"pad": SlidingPad(size)}, conv(channels, width, tuple(size)), conv(width, width, 1)
