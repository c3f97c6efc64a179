"""Single 2-D layers as 3-D ones: what each takes along the new axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..model_zoo.acs import ACSConv3d, acs_fault
from ..model_zoo.layers import AveragePool
from .inflate import inflate_conv

Sizes = tuple[int, ...]


@dataclass(frozen=True)
class Inflation:
    """How the layers of a network become 3-D.

    Attributes:
        mode: As in :func:`inflate_conv`, or ``acs-layers`` for true ACS convolutions.
        axis: Where the new axis stands in a tensor (N, C, D, H, W).
        depth: Kernel size of convolutions along the new axis; that of their larger side when None.
        stride: ``"same"`` as along the other axes, or 1.
    """

    mode: str = "mean"
    axis: int = 2
    depth: int | None = None
    stride: str | int = "same"

    def insert(self, values: Sequence[Any], new: Any) -> tuple[Any, ...]:
        """One value an axis of the image, with the new axis's between them."""
        return (*values[: self.axis - 2], new, *values[self.axis - 2 :])


def _conv(layer: nn.Conv2d, how: Inflation) -> nn.Module:
    if how.mode == "acs-layers":
        return _acs_layer(layer)
    ref = _leading_axis(layer.kernel_size)
    size, dilation = layer.kernel_size[ref], layer.dilation[ref]
    depth = _depth(size, how)
    if isinstance(layer.padding, str):
        padding: Any = layer.padding
    else:
        padding = how.insert(layer.padding, _padding(layer.padding[ref], dilation, size, depth))
    return _built(
        nn.Conv3d,
        layer,
        inflate_conv(layer.weight.detach(), depth, how.mode, how.axis),
        kernel_size=how.insert(layer.kernel_size, depth),
        stride=how.insert(layer.stride, layer.stride[ref] if how.stride == "same" else 1),
        padding=padding,
        dilation=how.insert(layer.dilation, dilation),
        padding_mode=layer.padding_mode,
    )


def _transposed(layer: nn.ConvTranspose2d, how: Inflation) -> nn.Module:
    ref = _leading_axis(layer.kernel_size)
    settings = {
        name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "output_padding", "dilation")
    }
    here = {name: value[ref] for name, value in settings.items()}
    if here["dilation"] > 1 and here["stride"] > 1:
        raise ModelError("a transposed convolution that is both strided and dilated is not inflated")
    if how.stride == 1:
        here = {"kernel_size": 1, "stride": 1, "padding": 0, "output_padding": 0, "dilation": 1}
    # each new voxel must get the same sum of weights, or volumes would show stripes
    mode = "mean" if how.mode.startswith("acs") else how.mode
    weight = inflate_conv(
        layer.weight.detach(), here["kernel_size"], mode, how.axis, stride=here["stride"], transposed=True
    )
    return _built(
        nn.ConvTranspose3d, layer, weight, **{name: how.insert(value, here[name]) for name, value in settings.items()}
    )


def _acs_layer(layer: nn.Conv2d) -> nn.Module:
    if fault := acs_fault(layer):
        raise ModelError(fault)
    return as_class(layer, ACSConv3d)


def _max_pool(layer: nn.MaxPool2d, how: Inflation) -> nn.Module:
    window = _window(layer, how, ("kernel_size", "stride", "padding", "dilation"))
    return nn.MaxPool3d(**window, return_indices=layer.return_indices, ceil_mode=layer.ceil_mode)


def _avg_pool(layer: nn.AvgPool2d, how: Inflation) -> nn.Module:
    window = _window(layer, how, ("kernel_size", "stride", "padding"))
    divisor = layer.divisor_override
    return nn.AvgPool3d(
        **window,
        ceil_mode=layer.ceil_mode,
        count_include_pad=layer.count_include_pad,
        divisor_override=None if divisor is None else divisor * window["kernel_size"][how.axis - 2],
    )


def _window(layer: Any, how: Inflation, names: Sequence[str]) -> dict[str, Any]:
    """Settings of a pooling layer; with stride 1 it leaves the new axis alone."""
    pairs = {name: _pair(getattr(layer, name)) for name in names}
    alone = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    ref = _leading_axis(pairs["kernel_size"])
    return {name: how.insert(pair, pair[ref] if how.stride == "same" else alone[name]) for name, pair in pairs.items()}


def _adaptive_pool(layer: Any, how: Inflation) -> nn.Module:
    # to one voxel along the new axis, so that a linear layer behind it finds as many numbers as before
    kinds = {"AdaptiveAvgPool2d": nn.AdaptiveAvgPool3d, "AdaptiveMaxPool2d": nn.AdaptiveMaxPool3d}
    kind = next(to for name, to in kinds.items() if isinstance(layer, getattr(nn, name)))
    more = {"return_indices": layer.return_indices} if kind is nn.AdaptiveMaxPool3d else {}
    return kind(how.insert(_pair(layer.output_size), 1), **more)


def _upsample(layer: nn.Upsample, how: Inflation) -> nn.Module:
    modes = {"bilinear": "trilinear", "nearest": "nearest", "nearest-exact": "nearest-exact"}
    if layer.mode not in modes:
        raise ModelError(f"there is no 3-D upsampling by {layer.mode!r}")
    sizes, factors = (None if value is None else _pair(value) for value in (layer.size, layer.scale_factor))
    if sizes is not None and (how.stride != "same" or len(set(sizes)) > 1):
        raise ModelError(f"an upsampling to the fixed size {sizes} does not say the size of the new axis")
    return nn.Upsample(
        size=None if sizes is None else how.insert(sizes, sizes[0]),
        scale_factor=None if factors is None else how.insert(factors, factors[0] if how.stride == "same" else 1.0),
        mode=modes[layer.mode],
        align_corners=layer.align_corners,
        recompute_scale_factor=layer.recompute_scale_factor,
    )


def _pad(layer: Any, how: Inflation) -> nn.Module:
    left, right, top, bottom = _four(layer.padding)
    if how.depth == 1 or not any((left, right, top, bottom)):
        front, back = 0, 0
    elif how.depth is None and how.stride == "same":
        front, back = top, bottom
    else:
        raise ModelError("a padding layer does not say what the new axis needs with this depth or stride")
    along = how.insert([(top, bottom), (left, right)], (front, back))
    padding = tuple(size for pair in reversed(along) for size in pair)
    kind = getattr(nn, next(base for base in type(layer).__mro__ if base in _PADS).__name__.replace("2d", "3d"))
    more = {"value": layer.value} if kind is nn.ConstantPad3d else {}
    return kind(padding, **more)


def _average(layer: AveragePool, how: Inflation) -> nn.Module:
    if len(layer.stride) != 2:
        raise ModelError(f"is {len(layer.stride)}-D, not 2-D")
    return AveragePool(how.insert(layer.stride, layer.stride[0] if how.stride == "same" else 1), 3)


def _relabelled(name: str) -> Callable[[Any, Inflation], nn.Module]:
    """The 3-D class of a layer holds the same state, and only expects one dimension more."""
    return lambda layer, how: as_class(layer, getattr(nn, name))


def as_class(layer: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """The layer under another class that holds the same attributes."""
    layer.__class__ = kind
    return layer


_PADS = (nn.ZeroPad2d, nn.ConstantPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d)

#: 2-D layer -> what makes a 3-D one of it; it may use up the layer that it is given
LAYERS: dict[type[nn.Module], Callable[[Any, Inflation], nn.Module]] = {
    nn.Conv2d: _conv,
    nn.ConvTranspose2d: _transposed,
    nn.BatchNorm2d: _relabelled("BatchNorm3d"),
    nn.InstanceNorm2d: _relabelled("InstanceNorm3d"),
    nn.Dropout2d: _relabelled("Dropout3d"),
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.AdaptiveMaxPool2d: _adaptive_pool,
    nn.Upsample: _upsample,
    nn.Softmax2d: lambda layer, how: nn.Softmax(dim=-4),
    AveragePool: _average,
    **dict.fromkeys(_PADS, _pad),
}


def _built(kind: type[nn.Module], layer: Any, weight: Tensor, **settings: Any) -> nn.Module:
    """A 3-D layer with the channels of a 2-D one, without drawing initial weights that nobody needs."""
    new: Any = kind(
        layer.in_channels,
        layer.out_channels,
        groups=layer.groups,
        bias=layer.bias is not None,
        device="meta",
        **settings,
    )
    new.weight = nn.Parameter(weight, requires_grad=layer.weight.requires_grad)
    new.bias = layer.bias
    return new


def _depth(size: int, how: Inflation) -> int:
    even_step = how.stride == 1 and size % 2 == 0
    return 1 if size == 1 or even_step else how.depth or size


def _padding(padding: int, dilation: int, size: int, depth: int) -> int:
    """Padding with which the new axis changes its size as the others do, or keeps it where the kernel is short."""
    rest = dilation * (depth - size)
    if rest % 2:
        raise ModelError(f"a kernel of {size} does not become {depth} deep without a shift by half a voxel")
    return max(0, padding + rest // 2)


def _leading_axis(kernel: Sizes) -> int:
    """The axis of the image whose settings the new one takes: that of the larger kernel."""
    return int(kernel[1] > kernel[0])


def _pair(value: Any) -> tuple[Any, Any]:
    return tuple(value) if isinstance(value, list | tuple) else (value, value)


def _four(value: Any) -> Sizes:
    return tuple(value) if isinstance(value, list | tuple) else (value,) * 4


def owns_kernels(layer: nn.Module) -> str | None:
    """The name of a parameter or buffer of the layer's own that has spatial axes, or None."""
    own = {**layer._parameters, **layer._buffers}
    return next((name for name, value in own.items() if isinstance(value, torch.Tensor) and value.ndim > 2), None)
