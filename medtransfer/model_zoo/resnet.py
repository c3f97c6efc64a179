"""ResNet in 2-D and 3-D (He et al., CVPR 2016), with the signature, attributes and keys of the ptimz tutorial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ..errors import ModelError
from .blocks import ResLayer, block_with_expansion
from .conv_blocks import ConvModule
from .encoder import HEAD_TYPES, Encoder
from .layer_configs import Config
from .layers import Layers, Size, check_choice, cumulative, records_arguments

#: depth -> (block, blocks of each stage)
STAGES: dict[int, tuple[str, tuple[int, ...]]] = {
    10: ("basic", (1, 1, 1, 1)),
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
    200: ("bottleneck", (3, 24, 36, 3)),
}

#: geometry -> what it sets; MedicalNet (Chen et al., 2019) keeps an output stride of 8 by dilation
GEOMETRIES: dict[str, Config] = {"medicalnet": {"strides": (1, 2, 1, 1), "dilations": (1, 1, 2, 4)}}
MEDICALNET_SHORTCUT_A = (18, 34)


class ResNet(Encoder):
    """A residual encoder with an optional classification head.

    Tensors are (N, C, D, H, W), or (N, C, H, W) with ``conv_cfg=dict(type="Conv2d")``. Any input size works.

    Args:
        depth: 10, 18, 34, 50, 101, 152 or 200.
        in_channels: Channels of the input.
        stem_channels: Channels after the stem.
        base_channels: Width of the first stage before the block's expansion.
        expansion: Output channels over middle channels of a block; the block's own when None.
        num_stages: 1 to 4.
        strides: Stride of each stage, a number or one number an axis.
        dilations: Dilation of each stage.
        out_indices: Stages that ``forward`` returns when there is no head.
        style: ``"pytorch"`` strides a bottleneck's 3x3x3 convolution, ``"caffe"`` its first 1x1x1.
        deep_stem: Three 3x3x3 convolutions (keys ``stem.{0,1,2}``) for one 7x7x7 (keys ``conv1``, ``bn1``).
        first_stride: Stride of the stem, 2 when None.
        avg_down: Average pooling in the shortcuts.
        frozen_stages: -1 freezes nothing, 0 the stem, n the stem and the first n stages (pooling included).
        conv_cfg, norm_cfg, act_cfg: mmcv's config dicts; they reach every layer.
        norm_eval: Keep batch-norm statistics fixed in training.
        with_cp: Recompute blocks in the backward pass to save memory.
        zero_init_residual: Start every block as its shortcut.
        head_type: ``"classification"``, ``head_fc`` after the mean over positions; ``"fcn"``, the same as a 1x1x1
            convolution ``head_conv``: a segmenter by class activation volumes (Long et al., CVPR 2015); or None.
        num_classes: Outputs of the head.
        pool: ``"max"``; ``"conv"``, a strided ConvModule as in ptimz; or ``"none"``.
        pool_stride: Stride of the pooling.
        shortcut: ``"B"`` (convolution) or ``"A"`` (no parameters).
        geometry: ``"medicalnet"`` sets that project's strides, dilations and shortcut type for the depth.
        stem_kernel: Kernel of the plain stem, an odd number or one an axis; networks for video have (3, 7, 7).
        fcn_stride: Of an FCN, the stride (the largest of the axes) of the finest map that it reads scores from: of the
            last map alone when None, and of those before it down to 16 (FCN-16s), 8 (FCN-8s) ... The scores are
            interpolated and added; those of the finer maps start at zero.

    Attributes:
        stem, maxpool, layer1 ... layer4, head_fc or head_conv: the parts; ``res_layers`` lists the stages' names.

    Raises:
        ModelError: an argument does not describe a network.

    >>> import torch
    >>> net = ResNet(10, in_channels=2, base_channels=4, stem_channels=4, head_type="classification", num_classes=3)
    >>> net.eval()(torch.rand(1, 2, 9, 10, 11)).shape
    torch.Size([1, 3])
    """

    @records_arguments
    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int = 64,
        base_channels: int = 64,
        expansion: int | None = None,
        num_stages: int = 4,
        strides: Sequence[Size] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (3,),
        style: str = "pytorch",
        deep_stem: bool = False,
        first_stride: Size | None = None,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: Config | None = None,
        norm_cfg: Config | None = None,
        norm_eval: bool = False,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        head_type: str | None = None,
        num_classes: int = 1000,
        act_cfg: Config | None = None,
        pool: str = "max",
        pool_stride: Size = 2,
        shortcut: str = "B",
        geometry: str | None = None,
        stem_kernel: Size = 7,
        fcn_stride: int | None = None,
    ) -> None:
        super().__init__()
        strides, dilations, shortcut = _geometry(geometry, depth, strides, dilations, shortcut)
        _check(depth=depth, num_stages=num_stages, style=style, head_type=head_type, pool=pool, shortcut=shortcut)
        _check_sizes(in_channels=in_channels, stem_channels=stem_channels, base_channels=base_channels,
                     num_classes=num_classes)  # fmt: skip
        _check_indices(num_stages, frozen_stages, out_indices)
        _check_lengths(num_stages, strides, dilations)
        strides, dilations = strides[:num_stages], dilations[:num_stages]
        layers = Layers(conv_cfg, norm_cfg, act_cfg)
        _check_stem_kernel(stem_kernel, deep_stem, layers.ndim)
        block_name, num_blocks = STAGES[depth]
        block = block_with_expansion(block_name, expansion)

        self.catalog_name, self.segmenter_name = f"resnet{depth}", f"resunet{depth}"
        self.depth, self.in_channels, self.ndim = depth, in_channels, layers.ndim
        self.num_classes = num_classes if head_type else None
        self.head_type, self.frozen_stages, self.norm_eval = head_type, frozen_stages, norm_eval
        self.out_indices = tuple(i for i in out_indices if i < num_stages) or (num_stages - 1,)
        first_stride = 2 if first_stride is None else first_stride
        pool_stride = 1 if pool == "none" else pool_stride

        self.stage_strides = _stage_strides(first_stride, pool_stride, strides, self.ndim)
        self.output_stride = cumulative(self.stage_strides, self.ndim)

        if deep_stem:
            self._modules["stem"] = _deep_stem(layers, in_channels, stem_channels, first_stride)
        else:
            self.conv1 = layers.conv(in_channels, stem_channels, stem_kernel, stride=first_stride)
            self._stem_norm, norm = layers.norm(stem_channels, postfix=1)
            self.add_module(self._stem_norm, norm)
            self.act = layers.act()
        self.maxpool = _pool(layers, pool, stem_channels, pool_stride)

        self.res_layers = [f"layer{i + 1}" for i in range(num_stages)]
        channels = [stem_channels, *(base_channels * block.expansion * 2**i for i in range(num_stages))]
        for i, name in enumerate(self.res_layers):
            stage = ResLayer(
                layers,
                block,
                num_blocks[i],
                channels[i],
                channels[i + 1],
                stride=strides[i],
                shortcut=shortcut,
                avg_down=avg_down,
                dilation=dilations[i],
                style=style,
                with_cp=with_cp,
            )
            stage.origin = {**self._origin(layers, parts=(0, 2, *[1] * (num_stages - 1))), "stage": i}
            self.add_module(name, stage)

        self.stage_channels = tuple(channels)
        self._finish(layers, num_classes, zero_init_residual, fcn_stride)

    @property
    def stem(self) -> nn.Sequential:
        """The stem as one module: the deep stem itself, or the plain one's convolution, norm and activation."""
        if "stem" in self._modules:
            return self._modules["stem"]  # type: ignore[return-value]
        return nn.Sequential(self.conv1, getattr(self, self._stem_norm), self.act)

    def stages(self) -> list[nn.Module]:
        """The encoder modules that UNet takes, by reference: stem, (pooling, layer1), layer2, layer3, layer4."""
        first, *rest = (getattr(self, name) for name in self.res_layers)
        return [self.stem, nn.Sequential(self.maxpool, first), *rest]

    def adopt(self, stages: Sequence[nn.Module]) -> None:
        """Take encoder modules by reference, the inverse of :meth:`stages`."""
        stem, pooled, *rest = stages
        parts = list(stem.children())
        if "stem" in self._modules:
            self._modules["stem"] = stem
        else:
            self.conv1, self.act = parts[0], parts[2]
            self.add_module(self._stem_norm, parts[1])
        self.maxpool, first = pooled.children()
        for name, stage in zip(self.res_layers, [first, *rest], strict=True):
            self.add_module(name, stage)

    def _maps(self, x: Tensor) -> list[Tensor]:
        """After the stem and after each stage."""
        maps = [self.stem(x)]
        x = self.maxpool(maps[0])
        for name in self.res_layers:
            x = getattr(self, name)(x)
            maps.append(x)
        return maps

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        """(N, C, D, H, W) -> logits (N, num_classes), of an FCN (N, num_classes, D, H, W); else ``out_indices``."""
        maps = self._maps(x)
        if self.head_type:
            return self._logits(maps, x.shape[2:])
        outputs = tuple(maps[1 + i] for i in self.out_indices)
        return outputs[0] if len(outputs) == 1 else outputs


def _deep_stem(layers: Layers, in_channels: int, stem_channels: int, stride: Size) -> nn.Sequential:
    half = stem_channels // 2
    if half < 1:
        raise ModelError(f"deep_stem=True needs stem_channels of at least 2, got {stem_channels}")
    return nn.Sequential(
        ConvModule(layers, in_channels, half, stride=stride),
        ConvModule(layers, half, half),
        ConvModule(layers, half, stem_channels),
    )


def _pool(layers: Layers, kind: str, channels: int, stride: Size) -> nn.Module:
    if kind == "conv":
        return ConvModule(layers, channels, channels, stride=stride)
    return layers.max_pool(stride) if kind == "max" else nn.Identity()


def _stage_strides(first: Size, pool: Size, strides: Sequence[Size], ndim: int) -> tuple[tuple[int, ...], ...]:
    """Stride of each encoder stage against the one before, one number an axis."""
    steps: list[list[Size]] = [[first], [pool, strides[0]], *([s] for s in strides[1:])]
    return tuple(cumulative(step, ndim) for step in steps)


def _geometry(
    name: str | None, depth: int, strides: Sequence[Size], dilations: Sequence[int], shortcut: str
) -> tuple[Sequence[Size], Sequence[int], str]:
    if name is None:
        return strides, dilations, shortcut
    if name not in GEOMETRIES:
        raise ModelError(f"geometry must be one of {sorted(GEOMETRIES)} or None, got {name!r}")
    if (tuple(strides), tuple(dilations), shortcut) != ((1, 2, 2, 2), (1, 1, 1, 1), "B"):
        raise ModelError(f"geometry={name!r} sets strides, dilations and shortcut, which were given too",
                         hint="Leave one of them away")  # fmt: skip
    preset = GEOMETRIES[name]
    return preset["strides"], preset["dilations"], "A" if depth in MEDICALNET_SHORTCUT_A else "B"


_CHOICES: dict[str, Sequence[Any]] = {
    "depth": tuple(STAGES),
    "num_stages": (1, 2, 3, 4),
    "style": ("pytorch", "caffe"),
    "head_type": HEAD_TYPES,
    "pool": ("max", "conv", "none"),
    "shortcut": ("A", "B"),
}


def _check(**given: Any) -> None:
    for name, value in given.items():
        check_choice(name, value, _CHOICES[name])


def _check_sizes(**given: Any) -> None:
    for name, value in given.items():
        if not isinstance(value, int) or value < 1:
            raise ModelError(f"{name} must be a positive whole number, got {value!r}")


def _check_stem_kernel(kernel: Size, deep_stem: bool, ndim: int) -> None:
    if deep_stem and kernel != 7:
        raise ModelError(f"deep_stem=True has kernels of 3, stem_kernel was given too: {kernel!r}",
                         hint="Leave one of them away")  # fmt: skip
    sizes = tuple(kernel) if isinstance(kernel, list | tuple) else (kernel,) * ndim
    if len(sizes) != ndim or not all(isinstance(size, int) and size > 0 and size % 2 for size in sizes):
        raise ModelError(f"stem_kernel must be an odd number, or {ndim} of them in {ndim}-D, got {kernel!r}")


def _check_indices(num_stages: int, frozen_stages: int, out_indices: Sequence[int]) -> None:
    if frozen_stages not in range(-1, num_stages + 1):
        raise ModelError(f"frozen_stages must be from -1 to {num_stages}, got {frozen_stages!r}")
    if any(index < 0 for index in out_indices):
        raise ModelError(f"out_indices must be stages from 0 to {num_stages - 1}, got {list(out_indices)}")


def _check_lengths(num_stages: int, strides: Sequence[Size], dilations: Sequence[int]) -> None:
    for name, values in (("strides", strides), ("dilations", dilations)):
        if len(values) < num_stages:
            raise ModelError(f"{name} needs {num_stages} numbers, one a stage, got {list(values)}")
