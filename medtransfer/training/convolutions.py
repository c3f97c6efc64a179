"""Convolutions as sums that a CPU is quick at, in bfloat16 training: same parameters, same results but for rounding.

Measured with AMX on one core, forward and backward pass in ms, for ResUNet-18 with batches of two patches of 64^3:

* one input channel (7x7x7, stride 2): 89 as it is, 16 with taps as channels;
* 512 channels at 2x2x2, where nearly all time goes into the order of the weights in memory: 55 as it is, 19 as a matrix
  product;
* a transposed convolution with a bias, 64 channels to 32x32x32: 27 as it is, most of it the bias's gradient; 9 with the
  bias added after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from ..devices import has_matrix_units
from ..model_zoo.few_channels import has_few_channels, unfolded_convolution

#: so many output channels a voxel of the output are needed for a product to be quicker
_CHANNELS_A_VOXEL = 8


def matrix_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int]
) -> Tensor:
    """``torch.conv3d`` as one product, for outputs of few voxels.

    Arguments and result are those of :func:`~medtransfer.model_zoo.few_channels.unfolded_convolution`.

    >>> x, weight = torch.randn(1, 3, 2, 2, 2), torch.randn(4, 3, 3, 3, 3)
    >>> found = matrix_convolution(x, weight, None, (1, 1, 1), (1, 1, 1))
    >>> torch.allclose(found, torch.conv3d(x, weight, None, 1, 1), atol=1e-5)
    True
    """
    around = [size for size in reversed(padding) for _ in range(2)]
    windows = functional.pad(x.permute(0, 2, 3, 4, 1), [0, 0, *around])
    for axis, (size, step) in enumerate(zip(weight.shape[2:], stride, strict=True), start=1):
        windows = windows.unfold(axis, size, step)
    # in the weights' own order, so that they are not copied
    if weight.is_contiguous(memory_format=torch.channels_last_3d):
        windows, weight = windows.permute(0, 1, 2, 3, 5, 6, 7, 4), weight.permute(0, 2, 3, 4, 1)
    return functional.linear(windows.flatten(4), weight.flatten(1), bias).permute(0, 4, 1, 2, 3)


class QuickConvolutions(TorchFunctionMode):
    """Hold this around forward and backward pass; gradient checkpointing runs the forward pass again in the latter.

    What runs outside autocast stays as it is.

    >>> layer = torch.nn.Conv3d(1, 4, 3, padding=1)
    >>> with torch.autocast("cpu", dtype=torch.bfloat16), QuickConvolutions():
    ...     found = layer(torch.ones(1, 1, 6, 6, 6))
    >>> found.shape, found.dtype
    (torch.Size([1, 4, 6, 6, 6]), torch.bfloat16)
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        form = _FORMS.get(func)
        if form is None or not torch.is_autocast_enabled("cpu"):
            return func(*args, **(kwargs or {}))
        return form(*args, **(kwargs or {}))


def _convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    plain = isinstance(stride, tuple) and isinstance(padding, tuple) and groups == 1 and set(dilation) == {1}
    form = _quicker(input, weight, stride, padding) if plain and input.ndim == 5 else None
    if form is None:
        return torch.conv3d(input, weight, bias, stride, padding, dilation, groups)
    # here and not by autocast, which would see the larger tensors that come of it
    short = torch.get_autocast_dtype("cpu")
    return form(input.to(short), weight.to(short), None if bias is None else bias.to(short), stride, padding)


def _quicker(x: Tensor, weight: Tensor, stride: Sequence[int], padding: Sequence[int]) -> Callable[..., Tensor] | None:
    if has_few_channels(weight):
        return unfolded_convolution
    sizes = zip(x.shape[2:], padding, weight.shape[2:], stride, strict=True)
    voxels = x.shape[0]
    for size, around, kernel, step in sizes:
        voxels *= (size + 2 * around - kernel) // step + 1
    few = 0 < voxels * _CHANNELS_A_VOXEL <= weight.shape[0]
    return matrix_convolution if few and weight[0, 0].numel() > 1 else None


def _transposed(input: Tensor, weight: Tensor, bias: Tensor | None = None, *settings: Any, **named: Any) -> Tensor:
    found = torch.conv_transpose3d(input, weight, None, *settings, **named)
    return found if bias is None else found + bias.to(found.dtype)[:, None, None, None]


_FORMS: Mapping[Any, Callable[..., Tensor]] = {torch.conv3d: _convolution, torch.conv_transpose3d: _transposed}


def quick_convolutions(device: torch.device, dtype: torch.dtype) -> QuickConvolutions | None:
    """The mode where it was measured to be quicker, for training in ``dtype`` on ``device``.

    It goes by what the processor is and not by a measurement: a resumed run must compute as the one before.
    """
    quick = device.type == "cpu" and dtype == torch.bfloat16 and has_matrix_units()
    return QuickConvolutions() if quick else None
