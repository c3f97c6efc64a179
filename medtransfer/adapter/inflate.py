"""2-D kernels as 3-D ones, and kernels of other sizes: pure functions of one tensor."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvTransposeNd

from ..errors import UsageError
from ..model_zoo.acs import dense_acs_kernel

#: the new axis of a 5-D weight: depth, height or width of the volume
AXES = (2, 3, 4)
KERNEL_MODES = ("strict", "adapt")


def inflate_conv(
    weight2d: Tensor, depth: int, mode: str = "mean", axis: int = 2, *, stride: int = 1, transposed: bool = False
) -> Tensor:
    """A 2-D convolution's weight for a 3-D convolution.

    ==========  ======================================================================================================
    ``mean``    the kernel ``depth`` times along the axis, divided by ``depth`` (I3D: Carreira and Zisserman, CVPR 2017)
    ``center``  the kernel in the middle, zeros elsewhere: the 2-D network slice by slice
    ``acs``     the output channels in three parts, each the kernel on another plane of the volume (Yang et al., ACS
                convolutions, 2021): across depth, across height, across width; needs an odd square kernel and the
                depth of its size
    ==========  ======================================================================================================

    On a volume that is constant along ``axis``, ``mean`` and ``center`` compute what the 2-D convolution computes;
    ``center`` on every volume and up to its borders, ``mean`` where the kernel does not reach into the padding.

    Args:
        weight2d: (out, in / groups, height, width), or (in, out / groups, height, width) of a transposed convolution.
        depth: Kernel size along the new axis.
        mode: One of the table.
        axis: Where the new axis stands in the 5-D weight: 2, 3 or 4; ``acs`` takes all three, and 2 only here.
        stride: Stride of a transposed convolution along the new axis. Each output voxel sees every ``stride``-th
            slice of its kernel, and the weights are shared out among those.
        transposed: Whether it is a transposed convolution.

    Returns:
        A new tensor of the same dtype; ``weight2d`` is not changed.

    Raises:
        UsageError: the mode is unknown, or the kernel does not allow it.

    >>> inflate_conv(torch.tensor([[[[3.0]]]]), 3).flatten()
    tensor([1., 1., 1.])
    >>> inflate_conv(torch.tensor([[[[3.0]]]]), 3, "center", axis=4).shape
    torch.Size([1, 1, 1, 1, 3])
    """
    _check(weight2d, depth, mode, axis)
    if mode == "acs":
        return _acs(weight2d, depth, axis, transposed)
    step = stride if transposed else 1
    if depth < step:
        raise UsageError(f"a transposed convolution of stride {step} needs a depth of at least {step}, got {depth}")
    return _TAPS[mode](weight2d.unsqueeze(axis), depth, axis, step).contiguous()


def resize_kernel(weight: Tensor, kernel_size: int | Sequence[int]) -> Tensor:
    """A convolution's weight with another kernel size: the centre cropped, or zeros around it.

    Growth keeps what a convolution with "same" padding computes; a crop keeps the centre only.

    Args:
        weight: (out, in, k...) of any number of spatial axes.
        kernel_size: The new size, one number for all axes or one an axis.

    Returns:
        A new tensor of the same dtype.

    Raises:
        UsageError: an even size would become odd or the other way round, which shifts the centre by half a voxel.

    >>> resize_kernel(torch.tensor([[[1.0, 2.0, 3.0]]]), 5)
    tensor([[[0., 1., 2., 3., 0.]]])
    >>> resize_kernel(torch.tensor([[[1.0, 2.0, 3.0]]]), 1)
    tensor([[[2.]]])
    """
    old = tuple(weight.shape[2:])
    new = (kernel_size,) * len(old) if isinstance(kernel_size, int) else tuple(kernel_size)
    if not old or len(new) != len(old) or min(new) < 1:
        raise UsageError(f"kernel_size must be {len(old)} positive numbers for a kernel {list(old)}, got {list(new)}")
    if not _same_parity(old, new):
        raise UsageError(
            f"a kernel {list(old)} has no centre in common with {list(new)}",
            hint="Change odd sizes to odd and even to even ones",
        )
    margins = [(b - a) // 2 for a, b in zip(old, new, strict=True)]
    # a negative margin crops
    return F.pad(weight, [margin for margin in reversed(margins) for _ in range(2)]).clone()


def fit_kernel(
    weight: Tensor,
    target_shape: Sequence[int],
    mode: str = "mean",
    axis: int = 2,
    kernels: str = "strict",
    layer: nn.Module | None = None,
) -> tuple[Tensor, str] | None:
    """A weight with the kernel that a target has; channels are left as they are.

    By the number of dimensions alone, never by names: a 4-D weight for a 5-D target is inflated along ``axis``, and
    with ``kernels="adapt"`` kernels of another size are cropped or grown (:func:`resize_kernel`).

    Args:
        weight: (out, in, k...); anything of fewer dimensions has no kernel and comes back as it is.
        target_shape: Shape of the target's tensor; its first two numbers may differ from the weight's.
        mode: As in :func:`inflate_conv`.
        axis: As in :func:`inflate_conv`.
        kernels: ``"strict"`` or ``"adapt"``.
        layer: The target's layer that owns the tensor; tells a transposed convolution, whose weights are shared out
            by its stride.

    Returns:
        The weight and what was done to it ("" if nothing), or None if its kernel does not become the target's: the
        target has fewer dimensions, another size under ``"strict"``, or one that ``mode`` cannot make.

    Raises:
        UsageError: an option is unknown.

    >>> kernel, how = fit_kernel(torch.ones(8, 3, 1, 1), (8, 3, 1, 1, 1))
    >>> kernel.shape, how
    (torch.Size([8, 3, 1, 1, 1]), "2-D kernel 1x1 to 1x1x1 by 'mean' along axis 2")
    """
    _check_options(mode, axis, kernels)
    old, new = tuple(weight.shape[2:]), tuple(target_shape[2:])
    if old == new or weight.ndim < 3:
        return (weight, "") if weight.ndim == len(target_shape) else None
    if len(old) == len(new):
        fits = kernels == "adapt" and _same_parity(old, new)
        return (resize_kernel(weight, new), f"kernel {_text(old)} to {_text(new)}") if fits else None
    if (len(old), len(new)) != (2, 3):
        return None
    return _inflated(weight, new, mode, axis, kernels, layer)


def _inflated(
    weight: Tensor, new: tuple[int, ...], mode: str, axis: int, kernels: str, layer: nn.Module | None
) -> tuple[Tensor, str] | None:
    old, depth = tuple(weight.shape[2:]), new[axis - 2]
    plane = tuple(size for i, size in enumerate(new) if i != axis - 2)
    transposed = isinstance(layer, _ConvTransposeNd)
    stride = int(layer.stride[axis - 2]) if isinstance(layer, _ConvTransposeNd) else 1
    # a transposed kernel has no ACS form
    mode = "mean" if mode == "acs" and transposed else mode
    possible = (old == plane or kernels == "adapt") and _same_parity(old, plane) and depth >= stride
    if not possible or (mode == "acs" and (len(set(new)) > 1 or depth % 2 == 0)):
        return None
    kernel = inflate_conv(resize_kernel(weight, plane), depth, mode, axis, stride=stride, transposed=transposed)
    along = "" if mode == "acs" else f" along axis {axis}"
    return kernel, f"2-D kernel {_text(old)} to {_text(new)} by {mode!r}{along}"


def _acs(weight: Tensor, depth: int, axis: int, transposed: bool) -> Tensor:
    height, width = weight.shape[2:]
    if transposed:
        raise UsageError("a transposed convolution has no ACS form", hint="Use mode='mean' or 'center'")
    if axis != 2:
        raise UsageError(f"mode='acs' takes all three axes, got axis={axis}", hint="Leave axis away")
    if not height == width == depth or depth % 2 == 0:
        raise UsageError(
            f"mode='acs' needs an odd square kernel and a depth of its size, got {height}x{width} and depth {depth}",
            hint="Use mode='mean' or 'center'",
        )
    return dense_acs_kernel(weight.detach())


def _mean(kernel: Tensor, depth: int, axis: int, stride: int) -> Tensor:
    phases = torch.arange(depth) % stride
    counts = phases.bincount(minlength=stride)[phases]
    return kernel / _along(counts, axis, kernel)


def _center(kernel: Tensor, depth: int, axis: int, stride: int) -> Tensor:
    taps = torch.zeros(depth, dtype=torch.bool)
    first = (depth - stride + 1) // 2
    taps[first : first + stride] = True
    # not by a product: infinite weights stay out of the zeros
    return torch.where(_along(taps, axis, kernel), kernel, torch.zeros((), dtype=kernel.dtype, device=kernel.device))


def _along(values: Tensor, axis: int, like: Tensor) -> Tensor:
    return values.to(like.device).view([-1 if i == axis else 1 for i in range(5)])


_TAPS: dict[str, Callable[[Tensor, int, int, int], Tensor]] = {"mean": _mean, "center": _center}
INFLATION_MODES = (*_TAPS, "acs")


def _check(weight: Tensor, depth: int, mode: str, axis: int) -> None:
    _check_options(mode, axis, "strict")
    if weight.ndim != 4 or not weight.is_floating_point():
        raise UsageError(
            f"a 2-D convolution's weight has 4 dimensions of floating-point numbers, got shape {tuple(weight.shape)} "
            f"of {weight.dtype}"
        )
    if not isinstance(depth, int) or depth < 1:
        raise UsageError(f"depth must be a positive whole number, got {depth!r}")


def _check_options(mode: str, axis: int, kernels: str) -> None:
    if mode not in INFLATION_MODES:
        raise UsageError(f"the mode of inflation must be one of {', '.join(INFLATION_MODES)}, got {mode!r}")
    if axis not in AXES:
        raise UsageError(f"the axis of inflation must be 2, 3 or 4 (of a 5-D weight), got {axis!r}")
    if kernels not in KERNEL_MODES:
        raise UsageError(f"kernels must be one of {', '.join(KERNEL_MODES)}, got {kernels!r}")


def _same_parity(old: Sequence[int], new: Sequence[int]) -> bool:
    return all((a - b) % 2 == 0 for a, b in zip(old, new, strict=True))


def _text(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
