"""Layers by mmcv's config dicts, in 1-D, 2-D or 3-D: one builder that every network hands down to every part."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _NormBase
from torch.overrides import handle_torch_function, has_torch_function_unary

from ..errors import ModelError
from .layer_configs import Config, checked_config, dimension_of, explained, opened, with_dimension
from .layer_types import NORM_NAMES

Size = int | Sequence[int]

CONV3D: Config = {"type": "Conv3d"}
BATCH_NORM: Config = {"type": "BN", "requires_grad": True}
RELU: Config = {"type": "ReLU"}

#: convolutions or blocks of a stage, or voxels of a kernel: far above any network
MAX_PER_STAGE = 1000
INTERPOLATION = {1: "linear", 2: "bilinear", 3: "trilinear"}


class Layers:
    """Builds conv, norm, activation and pooling layers of one dimension from mmcv's config dicts.

    Args:
        conv_cfg: ``dict(type="Conv3d")`` or another registered type whose name ends in ``1d``, ``2d`` or ``3d``.
        norm_cfg: ``dict(type="BN" | "IN" | "GN" | "SyncBN" | "BN3d" ..., ...)``; a type without a dimension takes
            that of the convolution.
        act_cfg: ``dict(type="ReLU")`` or another registered activation.

    Raises:
        ModelError: a type is unknown, or the norm's dimension differs from the convolution's.

    >>> name, norm = Layers(dict(type="Conv2d"), dict(type="IN")).norm(8, postfix=1)
    >>> name, type(norm).__name__
    ('in1', 'InstanceNorm2d')
    """

    def __init__(
        self, conv_cfg: Config | None = None, norm_cfg: Config | None = None, act_cfg: Config | None = None
    ) -> None:
        self.conv_cfg = checked_config(conv_cfg, CONV3D, "conv_cfg")
        self.ndim = dimension_of(self.conv_cfg["type"])
        self.norm_cfg = with_dimension(checked_config(norm_cfg, BATCH_NORM, "norm_cfg"), self.ndim)
        self.act_cfg = checked_config(act_cfg, RELU, "act_cfg")
        self.interpolation = INTERPOLATION[self.ndim]

    def conv(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        dilation: int = 1,
        bias: bool = False,
    ) -> nn.Module:
        """A convolution that keeps the size at stride 1."""
        kind, given = opened(self.conv_cfg)
        with explained(conv_cfg=self.conv_cfg):
            layer: nn.Module = kind(
                in_channels,
                out_channels,
                kernel_size=_size(kernel_size),
                stride=_size(stride),
                padding=_same_padding(kernel_size, dilation),
                dilation=dilation,
                bias=bias,
                **given,
            )
            return layer

    def norm(self, channels: int, postfix: int | str = "") -> tuple[str, nn.Module]:
        """A norm layer and its name by mmcv's rule: ``bn1``, ``in1``, ``gn1``."""
        kind, given = opened(self.norm_cfg)
        trains = given.pop("requires_grad")
        with explained(norm_cfg=self.norm_cfg):
            layer = kind(**{"num_channels" if kind is nn.GroupNorm else "num_features": channels}, **given)
        return f"{NORM_NAMES[self.norm_cfg['type'].rstrip('123d')]}{postfix}", layer.requires_grad_(trains)

    def act(self) -> nn.Module:
        """An activation, in place where its type can."""
        kind, given = opened(self.act_cfg)
        inplace = {"inplace": True} if "inplace" in inspect.signature(kind.__init__).parameters else {}
        with explained(act_cfg=self.act_cfg):
            layer: nn.Module = kind(**{**inplace, **given})
            return layer

    def upsampling_conv(self, in_channels: int, out_channels: int, stride: Size, bias: bool = True) -> nn.Module:
        """A transposed convolution whose kernel equals its stride."""
        transposed: type[nn.Module] = getattr(nn, f"ConvTranspose{self.ndim}d")
        return transposed(in_channels, out_channels, kernel_size=_size(stride), stride=_size(stride), bias=bias)

    def max_pool(self, stride: Size) -> nn.Module:
        """Max-pooling over 3 voxels an axis."""
        pool: type[nn.Module] = getattr(nn, f"MaxPool{self.ndim}d")
        return pool(kernel_size=3, stride=_size(stride), padding=1)

    def avg_pool(self, stride: Size) -> nn.Module:
        """Average pooling over ``stride`` voxels, partial windows at the end included."""
        return AveragePool(stride, self.ndim)

    def global_pool(self) -> nn.Module:
        """Mean over all positions, kept as size 1."""
        pool: type[nn.Module] = getattr(nn, f"AdaptiveAvgPool{self.ndim}d")
        return pool(1)

    def dropout(self, rate: float) -> nn.Module:
        """Dropout of whole channels."""
        drop: type[nn.Module] = getattr(nn, f"Dropout{self.ndim}d")
        return drop(rate)


class AveragePool(nn.Module):
    """Mean over windows of ``stride`` voxels, of as many as there are at the end and on axes shorter than a window.

    torch's own pooling refuses maps smaller than its kernel, which thin volumes have in the last stages.
    """

    def __init__(self, stride: Size, ndim: int) -> None:
        super().__init__()
        self.stride = per_axis(stride, ndim)
        self._pool = getattr(F, f"avg_pool{ndim}d")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, ...) -> (N, C, ...), each axis divided by its stride and rounded up."""
        window = tuple(min(step, size) for step, size in zip(self.stride, x.shape[2:], strict=True))
        return self._pool(x, window, self.stride, ceil_mode=True, count_include_pad=False)


def to_size(x: Tensor, size: Sequence[int], mode: str) -> Tensor:
    """(N, C, ...) interpolated to ``size``; as it is if it has that size."""
    # of a traced network it is one step, whatever the sizes will be
    if has_torch_function_unary(x):
        return handle_torch_function(to_size, (x,), x, size, mode)
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=mode, align_corners=False)


def initialise(module: nn.Module) -> None:
    """He initialisation of convolutions, ones and zeros in norms: torchvision's choice for residual networks."""
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, _NormBase | nn.GroupNorm) and part.weight is not None:
            nn.init.ones_(part.weight)
            nn.init.zeros_(part.bias)


def hold_still(modules: Sequence[nn.Module]) -> None:
    """Freeze the modules: no gradients, and norm statistics that do not move. Call again after ``train()``."""
    for module in modules:
        module.eval()
        for parameter in module.parameters():
            parameter.requires_grad = False


def hold_statistics(network: nn.Module) -> None:
    """Put every norm with running statistics into eval mode."""
    for module in network.modules():
        if isinstance(module, _NormBase) and module.track_running_stats:
            module.eval()


@contextmanager
def statistics_unmoved(network: nn.Module) -> Iterator[None]:
    """Inside, norms in training mode use the batch's statistics as always, and leave their running ones alone."""
    norms = [m for m in network.modules() if isinstance(m, _NormBase) and m.training and m.track_running_stats]
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum, norm.num_batches_tracked = momentum, batches


Init = TypeVar("Init", bound=Callable[..., None])


def records_arguments(init: Init) -> Init:
    """Decorate ``__init__`` so that ``self.arguments`` holds, as plain data, what was given beyond the defaults."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recording(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs).arguments
        # before the call: the parts that are built there keep a record of it
        self.arguments = {  # type: ignore[assignment]
            name: as_plain(value)
            for name, value in given.items()
            if name != "self" and value != signature.parameters[name].default
        }
        init(self, *args, **kwargs)

    return recording  # type: ignore[return-value]


def as_plain(value: Any) -> Any:
    """The value as JSON holds it: lists for tuples, names for classes, plain dicts for config dicts."""
    if isinstance(value, dict):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    return value.__name__ if isinstance(value, type) else value


def cumulative(strides: Sequence[Size], ndim: int) -> tuple[int, ...]:
    """The product of strides, one number an axis.

    >>> cumulative([2, (1, 2, 2)], ndim=3)
    (2, 4, 4)
    """
    steps = [per_axis(stride, ndim) for stride in strides]
    for axes in steps:
        if len(axes) != ndim or not all(isinstance(step, int) and step > 0 for step in axes):
            raise ModelError(f"a stride is a positive number, or {ndim} of them in {ndim}-D, got {list(axes)}")
    return tuple(functools.reduce(lambda a, b: a * b, axis, 1) for axis in zip(*steps, strict=True))


def per_stage(name: str, value: Any, count: int) -> list[Any]:
    """One entry a stage: of a single number as many copies, of a list its entries.

    Raises:
        ModelError: a list of another length, or a number that no network has.

    >>> per_stage("kernel_sizes", 3, 2), per_stage("kernel_sizes", [(1, 3, 3), 3], 2)
    ([3, 3], [(1, 3, 3), 3])
    """
    entries = [value] * count if isinstance(value, int) else list(value)
    check_length(name, entries, count)
    # a hostile card or plan must not keep a constructor busy
    if any(isinstance(entry, int) and not 1 <= entry <= MAX_PER_STAGE for entry in entries):
        raise ModelError(f"{name} must be positive whole numbers up to {MAX_PER_STAGE}, got {entries}")
    return entries


def per_axis(size: Size, ndim: int) -> tuple[int, ...]:
    """One number an axis: of a single number as many copies, of a list its entries, however many.

    >>> per_axis(2, 3), per_axis([1, 2, 2], 3)
    ((2, 2, 2), (1, 2, 2))
    """
    return (size,) * ndim if isinstance(size, int) else tuple(size)


def check_choice(name: str, value: Any, choices: Iterable[Any]) -> None:
    """Refuse a word or number that is none of the choices.

    Raises:
        ModelError: it is none.
    """
    if value not in (known := tuple(choices)):
        raise ModelError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")


def check_length(name: str, values: Sequence[Any], count: int) -> None:
    """Refuse a list that has not one entry a stage.

    Raises:
        ModelError: it has another length.
    """
    if len(values) != count:
        raise ModelError(f"{name} needs {count} entries, one a stage, got {list(values)}")


def _same_padding(kernel_size: Size, dilation: int) -> int | tuple[int, ...]:
    if isinstance(kernel_size, int):
        return dilation * (kernel_size - 1) // 2
    return tuple(dilation * (k - 1) // 2 for k in kernel_size)


def _size(value: Size) -> int | tuple[int, ...]:
    return value if isinstance(value, int) else tuple(value)
