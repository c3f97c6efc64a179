"""A convolution with what follows it, as one call of oneDNN on a CPU: its sum leaves the registers finished."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from ..model_zoo.bfloat16 import has_wrong_result
from ..model_zoo.few_channels import has_few_channels
from .layers import own_modules
from .unfolding import Unfolding

LAYOUT = torch.channels_last_3d
#: torch's own for compiled networks, with what follows a convolution within it
_CALLS = ("_convolution_pointwise", "_convolution_transpose_pointwise", "_reorder_convolution_weight")


@dataclass(frozen=True)
class Activation:
    """An activation by oneDNN's name.

    Args:
        name: ``relu``, ``leaky_relu`` or ``none``.
        numbers: What it takes beside its input.
    """

    name: str = "none"
    numbers: tuple[float, ...] = ()

    def __call__(self, x: Tensor) -> Tensor:
        """In place where torch has it so.

        >>> Activation("leaky_relu", (0.5,))(torch.tensor([-2.0, 2.0])).tolist()
        [-1.0, 2.0]
        """
        return x if self.name == "none" else getattr(F, f"{self.name}_")(x, *self.numbers)


class Convolution(nn.Module):
    """``activation(convolution(x) + other)``, of a layer of torch, with weights laid out once.

    Args:
        layer: ``Conv3d`` or ``ConvTranspose3d``; it is not changed.
        dtype: The numbers that are multiplied; the sums are float32.
        activation: What follows.
        exact: Give float32 that no rounding to ``dtype`` went through.

    >>> layer = nn.Conv3d(1, 2, 3, padding=1)
    >>> x = torch.randn(1, 1, 5, 6, 7)
    >>> torch.allclose(Convolution(layer, torch.float32, Activation("relu"))(x), layer(x).relu(), atol=1e-5)
    True
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        layer: nn.Conv3d | nn.ConvTranspose3d,
        dtype: torch.dtype,
        activation: Activation | None = None,
        exact: bool = False,
    ) -> None:
        super().__init__()
        self.activation, self.exact = activation or Activation(), exact and dtype != torch.float32
        self.transposed, self.groups = layer.transposed, layer.groups
        self.stride, self.dilation = list(layer.stride), list(layer.dilation)
        self.padding = _padding(layer)
        self.output_padding = list(layer.output_padding)
        self.unfolding: Unfolding | None = None
        weight, bias = layer.weight.detach(), None if layer.bias is None else layer.bias.detach()
        if _is_unfolded(layer, dtype):
            self.unfolding = Unfolding(layer.in_channels, layer.kernel_size, layer.stride, tuple(self.padding))
            weight, self.stride, self.padding = self.unfolding.weight(weight), list(self.unfolding.left_stride), [0] * 3
        self._hold(weight, bias, dtype)

    def _hold(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.register_buffer("weight", weight.to(dtype).contiguous(memory_format=LAYOUT), persistent=False)
        self.register_buffer("bias", None if bias is None else bias.to(dtype), persistent=False)
        self._exactly: tuple[Tensor, Tensor | None] = (weight, bias)
        self._packed: Tensor | None = None
        self._opposite: tuple[Tensor, Tensor | None] | None = None

    def settle(self) -> None:
        """Forget the weights as they were before they were rounded: no other is made of this one."""
        self._exactly = (self.weight, self.bias)

    def forward(self, x: Tensor, other: Tensor | None = None, in_place: bool = False) -> Tensor:
        """(N, C, D, H, W) and what is added -> (N, K, D', H', W'); with ``in_place`` the sum goes into ``other``."""
        if self.unfolding:
            x = self.unfolding(x.to(self.weight.dtype))
        x = x.to(self.weight.dtype, memory_format=LAYOUT)
        if other is not None:
            other = other.to(self.weight.dtype, memory_format=LAYOUT)
        if not self._is_one_call(x) or (other is not None and other.shape != self._shape(x)):
            return self._by_torch(x, other)
        if self.transposed:
            return self._upsampled(x)
        if self.exact:
            return self._unrounded(x, other)
        return self._by_onednn(x, other, in_place)

    @property
    def out_channels(self) -> int:
        """Channels of what it gives."""
        return self.weight.shape[1] * self.groups if self.transposed else self.weight.shape[0]

    @property
    def is_split(self) -> bool:
        """Whether it may be the sum of convolutions of parts of its channels."""
        return not (self.transposed or self.unfolding or self.exact) and self.groups == 1

    @property
    def is_linear(self) -> bool:
        """Whether it is a linear map of all its channels, with nothing behind it."""
        return self.groups == 1 and self.unfolding is None and self.activation.name == "none"

    @property
    def is_pointwise(self) -> bool:
        """Whether each voxel is computed from one voxel."""
        plain = self.unfolding is None and not any(self.padding)
        return plain and set(self.weight.shape[2:]) == set(self.stride) == {1}

    @property
    def is_voxelwise(self) -> bool:
        """Whether each voxel is computed from one voxel, of the same grid or of a coarser one."""
        own = any(self.padding) or any(self.output_padding) or set(self.dilation) != {1}
        return self.is_pointwise or (self.transposed and list(self.weight.shape[2:]) == self.stride and not own)

    def before(self, pointwise: Convolution) -> Convolution:
        """This transposed convolution and a 1x1x1 one of what it gives, as one."""
        (weight, bias), (matrix, added) = self._exactly, pointwise._exactly
        matrix = matrix.flatten(1)
        if bias is not None:
            added = matrix @ bias if added is None else matrix @ bias + added
        return self._with(torch.einsum("iudhw,ku->ikdhw", weight, matrix), added, Activation())

    def of_channels(self, channels: slice, is_last: bool) -> Convolution:
        """That of some of the input's channels; the last of several adds the bias and has the activation."""
        weight, bias = self._exactly
        last = (bias, self.activation) if is_last else (None, Activation())
        return self._with(weight[:, channels], *last)

    def _with(self, weight: Tensor, bias: Tensor | None, activation: Activation) -> Convolution:
        found = copy.copy(self)
        nn.Module.__init__(found)  # hooks of its own
        found._hold(weight, bias, self.weight.dtype)
        found.activation = activation
        return found.train(self.training)

    def _is_one_call(self, x: Tensor) -> bool:
        """Whether oneDNN has the call, and gives what is right."""
        other = self.transposed and (self.exact or self.groups > 1)
        return x.device.type == "cpu" and _has_onednn(x.dtype) and not other and not self._is_at_risk(x)

    def _shape(self, x: Tensor) -> torch.Size:
        """Of the result without a sum: of a map that is repeated along an axis oneDNN adds one voxel alone."""
        each = zip(x.shape[2:], self.weight.shape[2:], self.padding, self.stride, self.dilation, strict=True)
        sizes = [(size + 2 * pad - step * (taps - 1) - 1) // stride + 1 for size, taps, pad, stride, step in each]
        return torch.Size([len(x), self.out_channels, *sizes])

    def _is_at_risk(self, x: Tensor) -> bool:
        return x.dtype == torch.bfloat16 and has_wrong_result(x, self.weight, self.stride)

    def _by_torch(self, x: Tensor, other: Tensor | None) -> Tensor:
        risky = self._is_at_risk(x)
        bias = self.bias.float() if risky and self.bias is not None else self.bias
        numbers = (x.float(), self.weight.float(), bias) if risky else (x, self.weight, bias)
        # the numbers are what they should be; the guard against thin convolutions would cost a second's import
        with torch.autocast(x.device.type, enabled=False):
            found = self._convolved(*numbers)
        if other is not None:
            found = found.add_(other) if other.shape == found.shape else found + other
        return self.activation(found.float() if self.exact else found.to(x.dtype, memory_format=LAYOUT))

    def _convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.transposed:
            last = (self.output_padding, self.groups, self.dilation)
            return F.conv_transpose3d(x, weight, bias, self.stride, self.padding, *last)
        return F.conv3d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _by_onednn(self, x: Tensor, other: Tensor | None, in_place: bool) -> Tensor:
        kernel = (self._laid_out(x), self.bias, self.padding, self.stride, self.dilation, self.groups)
        if other is None:
            last = (self.activation.name, list(self.activation.numbers), "")
            return torch.ops.mkldnn._convolution_pointwise(x, *kernel, *last)
        if self.groups > 1:  # it has no sum of them
            return self.activation(torch.ops.mkldnn._convolution_pointwise(x, *kernel, "none", [], "").add_(other))
        # after a sum it knows one activation
        within = self.activation.name == "relu"
        total: tuple[Any, ...] = ("add", 1.0, *(("relu", [], "") if within else (None, [], None)))
        if in_place:
            found = torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *kernel, *total)
        else:
            found = torch.ops.mkldnn._convolution_pointwise.binary(x, other, *kernel, *total)
        return found if within else self.activation(found)

    def _unrounded(self, x: Tensor, other: Tensor | None) -> Tensor:
        """What the first call rounds away a second one computes: it subtracts the first's result before it rounds."""
        settings = (self.padding, self.stride, self.dilation, self.groups)
        rounded = torch.ops.mkldnn._convolution_pointwise(x, self._laid_out(x), self.bias, *settings, "none", [], "")
        if self._opposite is None:
            self._opposite = (-self.weight, None if self.bias is None else -self.bias)
        rest = torch.ops.mkldnn._convolution_pointwise.binary(
            x, rounded, *self._opposite, *settings, "add", 1.0, None, [], None
        )
        found = rounded.float().sub_(rest)
        return self.activation(found if other is None else found.add_(other))

    def _upsampled(self, x: Tensor) -> Tensor:
        sizes = (self.padding, self.output_padding, self.stride, self.dilation, self.groups)
        last = (self.activation.name, list(self.activation.numbers), "")
        return torch.ops.mkldnn._convolution_transpose_pointwise(x, self._laid_out(x), self.bias, *sizes, *last)

    def _laid_out(self, x: Tensor) -> Tensor:
        """The weights in the order in which oneDNN reads them, found when the first input is known."""
        if self._packed is None:
            kind, own = ("_transpose", [self.output_padding]) if self.transposed else ("", [])
            reorder = getattr(torch.ops.mkldnn, f"_reorder_convolution{kind}_weight")
            sizes = (self.padding, *own, self.stride, self.dilation, self.groups)
            self._packed = reorder(self.weight, *sizes, list(x.shape))
        packed: Tensor = self._packed
        return packed


def own_convolutions(graph: fx.GraphModule) -> dict[fx.Node, Convolution]:
    """The convolution of each step that is one, as :func:`~medtransfer.lowering.layers.own_modules`."""
    return {node: module for node, module in own_modules(graph).items() if isinstance(module, Convolution)}


@cache
def _has_onednn(dtype: torch.dtype) -> bool:
    """Whether torch's own operators for compiled networks are there, and this processor has the numbers."""
    if not (torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in _CALLS)):
        return False
    asked = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
    return dtype == torch.float32 or bool(getattr(torch.ops.mkldnn, asked[dtype])())


def _padding(layer: nn.Conv3d | nn.ConvTranspose3d) -> list[int]:
    """Of ``padding="same"`` too, whose two sides are equal: others are not lowered."""
    if isinstance(layer.padding, str):
        reach = [step * (size - 1) for step, size in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [length // 2 if layer.padding == "same" else 0 for length in reach]
    return list(layer.padding)


def _is_unfolded(layer: nn.Conv3d | nn.ConvTranspose3d, dtype: torch.dtype) -> bool:
    """Whether oneDNN would fill its blocks with zeros, which it does in shorter numbers only."""
    plain = not layer.transposed and layer.groups == 1 and set(layer.dilation) == {1}
    return plain and dtype == torch.bfloat16 and has_few_channels(layer.weight)
