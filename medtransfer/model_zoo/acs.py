"""ACS convolutions: a volume seen by 2-D kernels on its three planes (Yang et al., IEEE JBHI 2021)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import ModelError


class ACSConv3d(nn.Conv2d):
    """A convolution of volumes with the parameters of a 2-D one.

    The output channels stand in three parts (:func:`acs_parts`), whose kernels lie on the axial, coronal and sagittal
    plane: across the last two axes, across the first and the last, across the first two. Arguments and keys are those
    of ``nn.Conv2d``, so that the weights of a 2-D network load as they are; the kernel must be square and odd, and
    stride, padding and dilation one number, which holds for all three axes.

    As a layer of the zoo: ``create_model("resnet18", conv_cfg=dict(type="ACSConv3d"))``.

    It computes what ACSConv 0.1.1 computes, but for dilated kernels that neither keep nor halve the size of the
    volume, where that version's planes are shifted against each other.

    Raises:
        ModelError: the kernel is not square and odd, or a setting differs between the axes.

    >>> ACSConv3d(2, 7, 3, padding=1)(torch.rand(1, 2, 5, 6, 7)).shape
    torch.Size([1, 7, 5, 6, 7])
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if fault := acs_fault(self):
            raise ModelError(fault)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, D, H, W) -> (N, out_channels, D', H', W')."""
        padding = same_padding(self)
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, (padding,) * 6, mode=self.padding_mode), 0
        if self.groups not in (1, self.out_channels):
            # groups that the parts cut through
            dense = dense_acs_kernel(self.weight)
            return F.conv3d(x, dense, self.bias, self.stride[0], padding, self.dilation[0], self.groups)
        planes, start = [], 0
        for axis, rows in enumerate(acs_parts(self.out_channels)):
            if rows:
                planes.append(self._plane(x, axis, start, rows, padding))
            start += rows
        out = torch.cat(planes, dim=-4)
        return out if self.bias is None else out + self.bias.view(-1, 1, 1, 1)

    def _plane(self, x: Tensor, axis: int, start: int, rows: int, padding: int) -> Tensor:
        """The channels whose kernels are one voxel thick along this axis of the volume."""
        kernel = self.weight[start : start + rows].unsqueeze(2 + axis)
        if self.groups > 1:
            width = self.weight.shape[1]
            x = x.narrow(-4, start * width, rows * width)
        # along the thin axis the kernel's centre alone counts
        thin = padding - self.dilation[0] * (self.kernel_size[0] // 2)
        if thin < 0:
            x = x.narrow(axis - 3, -thin, x.shape[axis - 3] + 2 * thin)
        margins = [max(thin, 0) if i == axis else padding for i in range(3)]
        groups = rows if self.groups > 1 else 1
        return F.conv3d(x, kernel, None, self.stride[0], margins, self.dilation[0], groups)


def acs_parts(channels: int) -> tuple[int, int, int]:
    """How the output channels are divided among the three planes: as evenly as can be, the first planes first.

    >>> acs_parts(64), acs_parts(8), acs_parts(1)
    ((22, 21, 21), (3, 3, 2), (1, 0, 0))
    """
    third, rest = divmod(channels, 3)
    return third + (rest > 0), third + (rest > 1), third


def dense_acs_kernel(weight: Tensor) -> Tensor:
    """The (out, in, k, k, k) kernel with which ``nn.Conv3d`` computes the same as ACS with (out, in, k, k)."""
    size = weight.shape[-1]
    parts = weight.split(acs_parts(weight.shape[0]))
    dense = weight.new_zeros(*weight.shape[:2], size, size, size)
    start = 0
    for axis, part in enumerate(parts):
        dense[start : start + len(part)].select(2 + axis, size // 2).copy_(part)
        start += len(part)
    return dense


def acs_fault(conv: nn.Conv2d) -> str | None:
    """Why a 2-D convolution has no ACS form, or None if it has one."""
    height, width = conv.kernel_size
    if height != width or height % 2 == 0:
        return f"an ACS convolution needs an odd square kernel, got {height}x{width}"
    for name in ("stride", "padding", "dilation"):
        value = getattr(conv, name)
        if not isinstance(value, str) and len(set(value)) > 1:
            return f"an ACS convolution has one {name} for all axes, got {tuple(value)}"
    return None


def same_padding(conv: nn.Conv2d) -> int:
    """The padding of an odd square kernel as a number, where it may be a word."""
    if not isinstance(conv.padding, str):
        return int(conv.padding[0])
    return conv.dilation[0] * (conv.kernel_size[0] // 2) if conv.padding == "same" else 0
